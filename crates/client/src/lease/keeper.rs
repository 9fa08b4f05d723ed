//! The task behind all keepers of a client.
//!
//! Each kept lease has one time at which something is due: to ask for its renewal, or, once it has been asked for, to give
//! the lease up if no answer has come until its own time has run out, whatever the server may think of it. An answer moves
//! it to a third of the lease's time ahead. A request is not repeated on one stream, which loses nothing; a new stream
//! begins by asking for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::LeaseId;
use api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};

use crate::core::Core;
use crate::error::{effective_code, never_sent};
use crate::retry::{Backoff, asks_for_login};
use crate::{Error, Result};

/// Names a keeper within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeeperKey(pub(crate) u64);

type Answers = mpsc::Sender<Result<LeaseKeepAliveResponse>>;

/// What handles ask of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Keep { key: KeeperKey, id: LeaseId, answers: Answers },
    Release { key: KeeperKey },
}

/// Starts the task. It ends when every sender is gone.
pub(crate) fn spawn(core: Arc<Core>) -> mpsc::UnboundedSender<Command> {
    let (sender, commands) = mpsc::unbounded_channel();
    let first_wait = core.options.connect_timeout + Duration::from_secs(1);
    tokio::spawn(Worker { core, commands, kept: Kept::new(first_wait) }.run());
    sender
}

struct Worker {
    core: Arc<Core>,
    commands: mpsc::UnboundedReceiver<Command>,
    kept: Kept,
}

/// How a session, one life of the stream, ended.
enum Ending {
    /// No lease is left to keep.
    Idle,
    /// No handle is left.
    Abandoned,
    Broken(Status),
}

impl Worker {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            while self.kept.is_empty() {
                match self.commands.recv().await {
                    Some(command) => self.kept.obey(command, Instant::now()),
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
        // The answer to the opening comes with the answer to the first request, so that one must be on its way.
        self.kept.all_due(Instant::now());
        let mut stub = connection.stub().lease();
        let opening = stub.lease_keep_alive(core.sign_stream(UnboundedReceiverStream::new(outgoing)));
        tokio::pin!(opening);
        let mut answers = None;
        while let Some(due) = self.kept.ask_due(Instant::now(), &requests) {
            tokio::select! {
                opened = &mut opening, if answers.is_none() => match opened {
                    Ok(response) => {
                        connection.mark_up();
                        answers = Some(response.into_inner());
                    }
                    Err(status) => {
                        if never_sent(&status) {
                            connection.mark_down();
                        }
                        return Ending::Broken(status);
                    }
                },
                answer = next(&mut answers) => match answer {
                    Ok(Some(answer)) => {
                        *backoff = Backoff::new();
                        self.kept.answered(answer, Instant::now());
                    }
                    Ok(None) => {
                        return Ending::Broken(Status::unavailable("the server closed the keep-alive stream"));
                    }
                    Err(status) => return Ending::Broken(status),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.kept.obey(command, Instant::now()),
                    None => return Ending::Abandoned,
                },
                () = tokio::time::sleep_until(due) => {}
            }
        }
        Ending::Idle
    }

    /// Waits a little before the next session, or gives all leases up if another would fail alike.
    async fn recover(&mut self, status: Status, backoff: &mut Backoff) {
        self.kept.expire(Instant::now());
        if asks_for_login(status.message()) && self.core.options.credentials.is_some() {
            if let Err(error) = self.core.log_in().await {
                self.kept.give_up(&error);
            }
            backoff.pause().await;
        } else if never_sent(&status) {
            if self.core.pool.all_down() {
                backoff.pause().await;
            }
        } else if matches!(effective_code(&status), Code::Unavailable | Code::Internal | Code::Unknown) {
            backoff.pause().await;
        } else {
            self.kept.give_up(&status.into());
        }
    }
}

/// The next answer of a stream that may not be open yet.
async fn next(
    answers: &mut Option<tonic::Streaming<LeaseKeepAliveResponse>>,
) -> std::result::Result<Option<LeaseKeepAliveResponse>, Status> {
    match answers {
        Some(answers) => answers.message().await,
        None => std::future::pending().await,
    }
}

/// The leases being kept and when each wants something; no sockets in here.
struct Kept {
    leases: BTreeMap<LeaseId, Lease>,
    /// `(lease.due, id)` of every lease.
    due: BTreeSet<(Instant, LeaseId)>,
    /// How long the first answer for a lease may take.
    first_wait: Duration,
}

struct Lease {
    keepers: Vec<(KeeperKey, Answers)>,
    due: Instant,
    /// When the lease counts as gone unless an answer has come.
    deadline: Instant,
}

impl Kept {
    fn new(first_wait: Duration) -> Self {
        Self { leases: BTreeMap::new(), due: BTreeSet::new(), first_wait }
    }

    fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Keep { key, id, answers } => {
                let deadline = now + self.first_wait;
                let lease = self.leases.entry(id).or_insert_with(|| Lease {
                    keepers: Vec::new(),
                    due: now,
                    deadline,
                });
                lease.keepers.push((key, answers));
                self.due.insert((lease.due, id));
            }
            Command::Release { key } => self.release(key),
        }
    }

    fn release(&mut self, key: KeeperKey) {
        let found =
            self.leases.iter_mut().find(|(_, lease)| lease.keepers.iter().any(|(other, _)| *other == key));
        let Some((&id, lease)) = found else { return };
        lease.keepers.retain(|(other, _)| *other != key);
        if lease.keepers.is_empty() {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.due.remove(&(lease.due, id));
        Some(lease)
    }

    fn schedule(&mut self, id: LeaseId, due: Instant) {
        if let Some(lease) = self.leases.get_mut(&id) {
            self.due.remove(&(lease.due, id));
            lease.due = due;
            self.due.insert((due, id));
        }
    }

    /// Makes every lease due: a new stream knows nothing of what was asked on the old one.
    fn all_due(&mut self, now: Instant) {
        self.due.clear();
        for (&id, lease) in &mut self.leases {
            lease.due = now;
            self.due.insert((now, id));
        }
    }

    /// Asks for what is due and tells when to come back; `None` when no lease is left.
    fn ask_due(
        &mut self,
        now: Instant,
        requests: &mpsc::UnboundedSender<LeaseKeepAliveRequest>,
    ) -> Option<Instant> {
        loop {
            let &(due, id) = self.due.first()?;
            if due > now {
                return Some(due);
            }
            let deadline = self.leases[&id].deadline;
            if deadline <= now {
                self.lose(id);
                continue;
            }
            // If the stream has broken, its end is about to be read and the next one asks anew.
            requests.send(LeaseKeepAliveRequest { id: id.get() }).unwrap_or(());
            self.schedule(id, deadline);
        }
    }

    fn answered(&mut self, answer: LeaseKeepAliveResponse, now: Instant) {
        let id = LeaseId::new(answer.id);
        let seconds = u64::try_from(answer.ttl).unwrap_or(0);
        if seconds == 0 {
            return self.lose(id);
        }
        let ttl = Duration::from_secs(seconds);
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.deadline = now + ttl;
            lease.tell(&Ok(answer));
        }
        self.schedule(id, now + ttl / 3);
    }

    /// Gives up the leases that have not been renewed in time.
    fn expire(&mut self, now: Instant) {
        let late: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.lose(id);
        }
    }

    fn lose(&mut self, id: LeaseId) {
        if let Some(lease) = self.remove(id) {
            lease.tell(&Err(Error::LeaseExpired { id }));
        }
    }

    fn give_up(&mut self, error: &Error) {
        self.due.clear();
        for lease in std::mem::take(&mut self.leases).into_values() {
            lease.tell(&Err(error.clone()));
        }
    }
}

impl Lease {
    fn tell(&self, item: &Result<LeaseKeepAliveResponse>) {
        for (_, keeper) in &self.keepers {
            // A handle that is gone has sent a Release, which will be obeyed next; one that does not read has enough.
            keeper.try_send(item.clone()).unwrap_or(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Bench {
        kept: Kept,
        requests: mpsc::UnboundedSender<LeaseKeepAliveRequest>,
        sent: mpsc::UnboundedReceiver<LeaseKeepAliveRequest>,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let (requests, sent) = mpsc::unbounded_channel();
            Self { kept: Kept::new(3 * SECOND), requests, sent, start: Instant::now() }
        }

        fn keep(&mut self, key: u64, id: i64) -> mpsc::Receiver<Result<LeaseKeepAliveResponse>> {
            let (answers, handle) = mpsc::channel(4);
            let command = Command::Keep { key: KeeperKey(key), id: LeaseId::new(id), answers };
            self.kept.obey(command, self.start);
            handle
        }

        /// Lets time come to `at` after the start; returns the leases asked for and the next time something is due.
        fn at(&mut self, at: Duration) -> (Vec<i64>, Option<Duration>) {
            let start = self.start;
            let due = self.kept.ask_due(start + at, &self.requests).map(|due| due - start);
            (std::iter::from_fn(|| self.sent.try_recv().ok()).map(|request| request.id).collect(), due)
        }

        fn answer(&mut self, at: Duration, id: i64, ttl: i64) {
            self.kept.answered(LeaseKeepAliveResponse { id, ttl, ..Default::default() }, self.start + at);
        }
    }

    #[tokio::test]
    async fn a_lease_is_renewed_at_once_and_then_after_each_third_of_its_time() {
        let mut bench = Bench::new();
        let mut handle = bench.keep(1, 7);
        assert_eq!(bench.at(Duration::ZERO), (vec![7], Some(3 * SECOND)));
        bench.answer(Duration::ZERO, 7, 30);
        assert_eq!(bench.at(SECOND), (vec![], Some(10 * SECOND)));
        assert_eq!(bench.at(10 * SECOND), (vec![7], Some(30 * SECOND)));
        assert_eq!(handle.try_recv().unwrap().unwrap().ttl, 30);
    }

    #[tokio::test]
    async fn a_lease_not_renewed_in_its_time_counts_as_gone() {
        let mut bench = Bench::new();
        let mut handle = bench.keep(1, 7);
        bench.answer(Duration::ZERO, 7, 6);
        assert_eq!(bench.at(5 * SECOND).0, [7]);
        assert_eq!(bench.at(6 * SECOND), (vec![], None));
        handle.try_recv().unwrap().unwrap();
        assert!(matches!(handle.try_recv().unwrap(), Err(Error::LeaseExpired { .. })));
    }

    #[tokio::test]
    async fn a_lease_the_server_does_not_know_ends_its_keepers() {
        let mut bench = Bench::new();
        let mut first = bench.keep(1, 7);
        let mut second = bench.keep(2, 7);
        bench.answer(Duration::ZERO, 7, 0);
        assert!(first.try_recv().unwrap().is_err());
        assert!(second.try_recv().unwrap().is_err());
        assert!(bench.kept.is_empty());
    }

    #[tokio::test]
    async fn a_lease_is_kept_until_its_last_keeper_is_released() {
        let mut bench = Bench::new();
        let _first = bench.keep(1, 7);
        let _second = bench.keep(2, 7);
        bench.kept.obey(Command::Release { key: KeeperKey(1) }, bench.start);
        assert_eq!(bench.at(Duration::ZERO).0, [7]);
        bench.kept.obey(Command::Release { key: KeeperKey(2) }, bench.start);
        assert_eq!(bench.at(SECOND), (vec![], None));
    }
}
