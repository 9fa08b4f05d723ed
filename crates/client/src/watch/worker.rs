//! The task behind all watches of a client.
//!
//! It owns the one stream and what each watch needs to be created again: its request, with `start_revision` moved along as
//! responses are handed on. A session is one life of the stream:
//!
//! ```text
//! no watches ──create──▶ session: create all again ──▶ hand on responses ──last cancel──▶ no watches
//!                            ▲                               │
//!                            └────── pause ◀── stream breaks ┘
//! ```
//!
//! Servers confirm creations in the order they were asked for, so the watch a `created` response belongs to is the oldest
//! one not confirmed yet; after that its number on the stream names it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use api::etcdserverpb::watch_request::RequestUnion;
use api::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use api::mvccpb::Event;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};

use crate::core::Core;
use crate::error::{effective_code, never_sent};
use crate::retry::{Backoff, asks_for_login};
use crate::{Error, Result};

/// Names a watch within this process, whatever number the server gives it on each stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatchKey(pub(crate) u64);

/// What handles ask of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Create {
        key: WatchKey,
        request: WatchCreateRequest,
        events: mpsc::UnboundedSender<Result<WatchResponse>>,
    },
    Cancel {
        key: WatchKey,
    },
    Progress,
}

/// Starts the task. It ends when every sender is gone.
pub(crate) fn spawn(core: Arc<Core>) -> mpsc::UnboundedSender<Command> {
    let (sender, commands) = mpsc::unbounded_channel();
    tokio::spawn(Worker { core, commands, watches: BTreeMap::new(), logged_in: false }.run());
    sender
}

struct Worker {
    core: Arc<Core>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Those that shall live, in order of creation.
    watches: BTreeMap<WatchKey, Watched>,
    /// A new token was fetched and has not been judged yet: if it is refused too, another will not help.
    logged_in: bool,
}

struct Watched {
    /// What to ask for if the stream has to be opened again now.
    request: WatchCreateRequest,
    events: mpsc::UnboundedSender<Result<WatchResponse>>,
    /// The handle has been told of the creation.
    confirmed: bool,
    /// Events of a response whose last piece has not come yet.
    pieces: Vec<Event>,
}

/// One life of the stream.
struct Session {
    requests: mpsc::UnboundedSender<WatchRequest>,
    /// Asked for and not confirmed, oldest first. Watches cancelled meanwhile are still in here.
    unconfirmed: VecDeque<WatchKey>,
    /// The stream's numbers of the watches.
    numbers: HashMap<i64, WatchKey>,
}

/// How a session ended.
enum Ending {
    /// No watch is left.
    Idle,
    /// No handle is left.
    Abandoned,
    /// The stream broke, after having worked or not.
    Broken(Status),
}

impl Worker {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            while self.watches.is_empty() {
                match self.commands.recv().await {
                    Some(command) => self.obey(command, None),
                    None => return,
                }
            }
            match self.session(&mut backoff).await {
                Ending::Idle => {}
                Ending::Abandoned => return,
                Ending::Broken(status) => self.recover(status, &mut backoff).await,
            }
        }
    }

    async fn session(&mut self, backoff: &mut Backoff) -> Ending {
        let core = self.core.clone();
        let connection = core.pool.pick();
        let (requests, outgoing) = mpsc::unbounded_channel();
        let mut session = Session { requests, unconfirmed: VecDeque::new(), numbers: HashMap::new() };
        for (key, watched) in &mut self.watches {
            watched.pieces.clear();
            session.create(*key, watched.request.clone());
        }

        let mut stub = connection.stub().watch();
        let opening = stub.watch(core.sign_stream(UnboundedReceiverStream::new(outgoing)));
        tokio::pin!(opening);
        let mut responses = loop {
            tokio::select! {
                opened = &mut opening => match opened {
                    Ok(response) => break response.into_inner(),
                    Err(status) => {
                        if never_sent(&status) {
                            connection.mark_down();
                        }
                        return Ending::Broken(status);
                    }
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command, Some(&mut session)),
                    None => return Ending::Abandoned,
                },
            }
        };
        connection.mark_up();

        while !self.watches.is_empty() {
            tokio::select! {
                response = responses.message() => match response {
                    // The answer is to all that the stream will ask: its token is of its opening.
                    Ok(Some(response)) if self.refuses_token(&response) => {
                        return Ending::Broken(Status::unauthenticated(response.cancel_reason));
                    }
                    Ok(Some(response)) => {
                        *backoff = Backoff::new();
                        self.hand_on(response, &mut session);
                    }
                    Ok(None) => return Ending::Broken(Status::unavailable("the server closed the watch stream")),
                    Err(status) => return Ending::Broken(status),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command, Some(&mut session)),
                    None => return Ending::Abandoned,
                },
            }
        }
        Ending::Idle
    }

    /// Waits a little before the next session, or gives all watches up if another would fail alike.
    async fn recover(&mut self, status: Status, backoff: &mut Backoff) {
        if asks_for_login(status.message()) && self.may_log_in() {
            match self.core.log_in().await {
                Ok(()) => self.logged_in = true,
                Err(error) => self.give_up(&error),
            }
            backoff.pause().await;
        } else if never_sent(&status) {
            if self.core.pool.all_down() {
                backoff.pause().await;
            }
        } else if matches!(effective_code(&status), Code::Unavailable | Code::Internal) {
            backoff.pause().await;
        } else {
            self.give_up(&status.into());
        }
    }

    fn may_log_in(&self) -> bool {
        self.core.options.credentials.is_some() && !self.logged_in
    }

    fn give_up(&mut self, error: &Error) {
        for watched in std::mem::take(&mut self.watches).into_values() {
            watched.tell(Err(error.clone()));
        }
    }

    fn obey(&mut self, command: Command, session: Option<&mut Session>) {
        match command {
            Command::Create { key, request, events } => {
                if let Some(session) = session {
                    session.create(key, request.clone());
                }
                self.watches.insert(key, Watched { request, events, confirmed: false, pieces: Vec::new() });
            }
            Command::Cancel { key } => {
                self.watches.remove(&key);
                if let Some(session) = session {
                    session.cancel_key(key);
                }
            }
            Command::Progress => {
                if let Some(session) = session {
                    session.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
                }
            }
        }
    }

    /// Whether this refuses to create a watch for a reason that a new token may lift.
    fn refuses_token(&self, response: &WatchResponse) -> bool {
        response.created && response.canceled && asks_for_login(&response.cancel_reason) && self.may_log_in()
    }

    fn hand_on(&mut self, response: WatchResponse, session: &mut Session) {
        if response.created {
            self.created(response, session);
        } else if let Some(&key) = session.numbers.get(&response.watch_id) {
            if response.canceled {
                self.canceled(key, response, session);
            } else if let Some(watched) = self.watches.get_mut(&key) {
                watched.events(response);
            }
        } else if response.watch_id == -1 && !response.canceled {
            for watched in self.watches.values_mut().filter(|watched| watched.confirmed) {
                watched.events(response.clone());
            }
        }
    }

    fn created(&mut self, response: WatchResponse, session: &mut Session) {
        let Some(key) = session.unconfirmed.pop_front() else { return };
        let number = response.watch_id;
        self.logged_in = false;
        if response.canceled {
            if let Some(watched) = self.watches.remove(&key) {
                watched.tell(Err(Error::WatchCanceled(Box::new(response))));
            }
            return;
        }
        match self.watches.get_mut(&key) {
            Some(watched) => {
                session.numbers.insert(number, key);
                watched.created(response);
            }
            None => session.cancel(number),
        }
    }

    fn canceled(&mut self, key: WatchKey, response: WatchResponse, session: &mut Session) {
        let number = response.watch_id;
        session.numbers.remove(&number);
        if response.compact_revision != 0 {
            // The server keeps a watch that met a compaction until it is told to let go.
            session.cancel(number);
        }
        if let Some(watched) = self.watches.remove(&key) {
            watched.tell(Err(Error::WatchCanceled(Box::new(response))));
        }
    }
}

impl Watched {
    fn created(&mut self, response: WatchResponse) {
        if self.request.start_revision == 0 {
            self.request.start_revision = next_revision(&response);
        }
        if !self.confirmed {
            self.confirmed = true;
            self.tell(Ok(response));
        }
    }

    fn events(&mut self, mut response: WatchResponse) {
        if response.fragment || !self.pieces.is_empty() {
            self.pieces.append(&mut response.events);
            if response.fragment {
                return;
            }
            response.events = std::mem::take(&mut self.pieces);
        }
        let next = match response.events.last() {
            Some(event) => event.kv.as_ref().map_or(0, |kv| kv.mod_revision) + 1,
            None => next_revision(&response),
        };
        self.request.start_revision = self.request.start_revision.max(next);
        self.tell(Ok(response));
    }

    fn tell(&self, item: Result<WatchResponse>) {
        // A handle that is gone has sent a Cancel, which will be obeyed next.
        self.events.send(item).unwrap_or(());
    }
}

/// The first revision the watcher has not been told everything about.
fn next_revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision) + 1
}

impl Session {
    fn create(&mut self, key: WatchKey, request: WatchCreateRequest) {
        self.unconfirmed.push_back(key);
        self.send(RequestUnion::CreateRequest(request));
    }

    fn cancel_key(&mut self, key: WatchKey) {
        let number = self.numbers.iter().find(|(_, other)| **other == key).map(|(number, _)| *number);
        if let Some(number) = number {
            self.numbers.remove(&number);
            self.cancel(number);
        }
    }

    fn cancel(&self, number: i64) {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: number }));
    }

    fn send(&self, union: RequestUnion) {
        // If the stream has broken, its end is about to be read and the next session sends all anew.
        self.requests.send(WatchRequest { request_union: Some(union) }).unwrap_or(());
    }
}

#[cfg(test)]
mod tests;
