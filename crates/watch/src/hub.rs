//! The hub: streams, their watchers, and the requests they make.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::etcdserverpb::WatchCreateRequest;
use bytes::Bytes;
use mvcc::Reader;

use crate::group::{Groups, Member};
use crate::outbox::Outbox;
use crate::stream::{Stream, StreamId};
use crate::watcher::{Span, State, Variant, Watcher};
use crate::wire::{self, Control, Identity, WatchIdField};

/// The id in answers that concern no watcher: failed creations, and progress of a whole stream.
pub const NO_WATCH_ID: i64 = -1;

const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// What the server decides about its watches.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who answers.
    pub identity: Identity,
    /// Responses of this size or more are cut for watchers that asked for fragments.
    pub fragment_bytes: usize,
    /// How many revisions of history one response covers at most.
    pub history_revisions: usize,
    /// How many bytes of history are read at once, beyond which only a single revision may go.
    pub history_bytes: usize,
}

impl Options {
    /// etcd's limits. Its responses from history are bounded by revisions alone; ours also by bytes, so that what a slow
    /// stream is sent at once stays small.
    #[must_use]
    pub const fn new(identity: Identity) -> Self {
        Self { identity, fragment_bytes: 2 << 20, history_revisions: 1000, history_bytes: 512 << 10 }
    }
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Open streams.
    pub streams: usize,
    /// Watchers, whatever their state.
    pub watchers: usize,
    /// Watchers that are yet to be sent history.
    pub unsynced: usize,
    /// Those of them whose stream has no room.
    pub slow: usize,
    /// Events delivered since the hub was made.
    pub events_total: u64,
}

/// All watch streams of a member.
///
/// Commits come in through [`publish`](Self::publish), requests through [`create`](Self::create), [`cancel`](Self::cancel)
/// and [`progress`](Self::progress); encoded responses go out to each stream's [`Outbox`]. [`sync`](Self::sync) is to be
/// called whenever there may be somebody to catch up: after a creation, and when an outbox has room again.
#[derive(Debug)]
pub struct Hub {
    pub(crate) reader: Reader,
    pub(crate) options: Options,
    /// The last revision that was published; what a synced watcher has been sent.
    pub(crate) revision: i64,
    pub(crate) raft_term: u64,
    pub(crate) streams: Vec<Option<Stream>>,
    free_streams: Vec<usize>,
    watchers: Vec<Option<Watcher>>,
    free_watchers: Vec<usize>,
    /// The watchers in state `Synced`.
    pub(crate) groups: Groups,
    /// The watchers in state `Ready`, by their next revision.
    pub(crate) ready: BTreeSet<(i64, usize)>,
    /// Where the sweep over the ready watchers goes on.
    pub(crate) sweep: (i64, usize),
    /// Streams with watchers in state `Waiting`.
    pub(crate) waiting_streams: BTreeSet<usize>,
    /// Streams with progress requests that wait for a revision to be published.
    pub(crate) delayed_progress: BTreeSet<usize>,
    /// Streams to be flushed.
    pub(crate) touched: Vec<usize>,
    /// Reused by `publish`: groups and events that meet.
    pub(crate) matches: Vec<(usize, usize)>,
    pub(crate) delivered: u64,
}

impl Hub {
    /// A hub that continues where the reader is now. Commits from then on must be [published](Self::publish).
    #[must_use]
    pub fn new(reader: Reader, options: Options) -> Self {
        Self {
            revision: reader.revision(),
            reader,
            options,
            raft_term: 0,
            streams: Vec::new(),
            free_streams: Vec::new(),
            watchers: Vec::new(),
            free_watchers: Vec::new(),
            groups: Groups::default(),
            ready: BTreeSet::new(),
            sweep: (0, 0),
            waiting_streams: BTreeSet::new(),
            delayed_progress: BTreeSet::new(),
            touched: Vec::new(),
            matches: Vec::new(),
            delivered: 0,
        }
    }

    /// Starts over on another history, as after installing a snapshot: every watcher gets from there what it has not been
    /// sent yet, or is told that it was compacted.
    pub fn reset(&mut self, reader: Reader) {
        for watcher in self.groups.watchers() {
            let member = self.leave_group(watcher);
            self.be_ready(watcher, member.from.max(self.revision + 1));
        }
        self.revision = self.revision.max(reader.revision());
        self.reader = reader;
        self.join_those_of_the_future();
    }

    /// Opens a stream.
    pub fn open(&mut self, outbox: Arc<dyn Outbox>) -> StreamId {
        StreamId(place(&mut self.streams, &mut self.free_streams, Stream::new(outbox)))
    }

    /// Ends a stream and all its watchers; nothing is sent any more.
    pub fn close(&mut self, stream: StreamId) {
        let Some(open) = self.streams.get(stream.0).and_then(Option::as_ref) else { return };
        for watcher in open.watchers.values().copied().collect::<Vec<_>>() {
            self.forget(watcher);
        }
        self.delayed_progress.remove(&stream.0);
        self.touched.retain(|touched| *touched != stream.0);
        self.streams[stream.0] = None;
        self.free_streams.push(stream.0);
    }

    /// Creates a watcher, or answers why not. Its permission must have been checked; see [`deny`](Self::deny).
    pub fn create(&mut self, stream: StreamId, request: &WatchCreateRequest) {
        self.create_or_deny(stream, request, None);
        self.flush();
    }

    /// Answers a creation that its client has no permission for, with the given reason.
    pub fn deny(&mut self, stream: StreamId, request: &WatchCreateRequest, reason: &str) {
        self.create_or_deny(stream, request, Some(reason));
        self.flush();
    }

    fn create_or_deny(&mut self, stream: StreamId, request: &WatchCreateRequest, denied: Option<&str>) {
        if self.stream(stream).is_none() {
            return;
        }
        if request.start_revision < 0 {
            return self.refuse(stream, api::status::COMPACTED.text());
        }
        if let Some(reason) = denied {
            return self.refuse(stream, reason);
        }
        let Some(span) = Span::of(request) else { return self.refuse(stream, EMPTY_RANGE) };
        let Some(id) = Stream::at(&mut self.streams, stream.0).choose_id(request.watch_id) else {
            return self.refuse(stream, DUPLICATE_ID);
        };
        let current = self.current_revision();
        let next = if request.start_revision == 0 { current + 1 } else { request.start_revision };
        let watcher = Watcher {
            stream: stream.0,
            id,
            id_field: WatchIdField::new(id),
            span,
            start_revision: request.start_revision,
            variant: Variant::of(request),
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            active: false,
            state: State::Ready { next },
        };
        let at = place(&mut self.watchers, &mut self.free_watchers, watcher);
        Stream::at(&mut self.streams, stream.0).watchers.insert(id, at);
        let created = Control { created: true, ..Control::default() };
        self.push_control(stream, id, current, created);
        if next > self.revision {
            self.join_group(at, next);
        } else {
            self.be_ready(at, next);
        }
    }

    fn refuse(&mut self, stream: StreamId, cancel_reason: &str) {
        let refused = Control { created: true, canceled: true, cancel_reason, ..Control::default() };
        self.push_control(stream, NO_WATCH_ID, self.current_revision(), refused);
    }

    /// Cancels a watcher: it is sent nothing more but the answer to this. An unknown id is not answered.
    pub fn cancel(&mut self, stream: StreamId, watch_id: i64) {
        let Some(watcher) = self.stream(stream).and_then(|s| s.watchers.get(&watch_id).copied()) else {
            return;
        };
        self.forget(watcher);
        let canceled = Control { canceled: true, ..Control::default() };
        self.push_control(stream, watch_id, self.current_revision(), canceled);
        self.flush();
    }

    /// Tells the hub the term of the last applied entry when it moved without a commit.
    pub const fn set_raft_term(&mut self, raft_term: u64) {
        self.raft_term = raft_term;
    }

    /// The last revision that was published.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// Figures for metrics. Costs a look at every stream.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let slow = self.streams.iter().flatten().map(|stream| stream.waiting.len()).sum();
        Stats {
            streams: self.streams.len() - self.free_streams.len(),
            watchers: self.watchers.len() - self.free_watchers.len(),
            unsynced: self.ready.len() + slow,
            slow,
            events_total: self.delivered,
        }
    }

    /// The revision to answer requests with: that of the store, which may be ahead of what was published.
    pub(crate) fn current_revision(&self) -> i64 {
        self.reader.revision().max(self.revision)
    }

    pub(crate) fn stream(&self, stream: StreamId) -> Option<&Stream> {
        self.streams.get(stream.0).and_then(Option::as_ref)
    }

    pub(crate) fn watcher(&self, at: usize) -> &Watcher {
        self.watchers[at].as_ref().expect("watchers are forgotten everywhere at once")
    }

    pub(crate) fn watcher_mut(&mut self, at: usize) -> &mut Watcher {
        self.watchers[at].as_mut().expect("watchers are forgotten everywhere at once")
    }

    pub(crate) fn push_control(
        &mut self,
        stream: StreamId,
        watch_id: i64,
        revision: i64,
        about: Control<'_>,
    ) {
        let mut response = Vec::with_capacity(64);
        wire::header(&mut response, self.options.identity, revision, self.raft_term);
        response.extend_from_slice(WatchIdField::new(watch_id).as_slice());
        wire::control(&mut response, about);
        let open = Stream::at(&mut self.streams, stream.0);
        open.outbox.push(&[&response]);
        open.touch(stream.0, &mut self.touched);
    }

    pub(crate) fn flush(&mut self) {
        for stream in self.touched.drain(..) {
            Stream::at(&mut self.streams, stream).flush();
        }
    }

    /// Makes a watcher live that has been sent everything up to the published revision.
    pub(crate) fn join_group(&mut self, at: usize, from: i64) {
        assert!(from > self.revision, "a live watcher lacks no history: {from}, published {}", self.revision);
        let watcher = self.watchers[at].as_mut().expect("only a known watcher joins");
        let member = Member {
            from,
            watcher: at,
            id_field: watcher.id_field,
            variant: watcher.variant,
            fragment: watcher.fragment,
            active: watcher.active,
        };
        let (group, at) = self.groups.join(&watcher.span, watcher.stream, member);
        watcher.state = State::Synced { group, at };
    }

    /// Takes a watcher out of the live ones; the caller gives it another state.
    pub(crate) fn leave_group(&mut self, watcher: usize) -> Member {
        let State::Synced { group, at } = self.watcher(watcher).state else {
            unreachable!("only a synced watcher is in a group: {:?}", self.watcher(watcher));
        };
        let (member, moved) = self.groups.leave(group, self.watcher(watcher).stream, at);
        assert_eq!(member.watcher, watcher, "a watcher knows its place");
        if let Some(moved) = moved {
            self.watcher_mut(moved).state = State::Synced { group, at };
        }
        self.watcher_mut(watcher).active = member.active;
        member
    }

    /// Puts a watcher among those that are to be sent history.
    pub(crate) fn be_ready(&mut self, watcher: usize, next: i64) {
        self.watcher_mut(watcher).state = State::Ready { next };
        self.ready.insert((next, watcher));
    }

    /// Removes a watcher from wherever it is.
    fn forget(&mut self, at: usize) {
        match self.watcher(at).state {
            State::Synced { .. } => {
                self.leave_group(at);
            }
            State::Ready { next } => {
                self.ready.remove(&(next, at));
            }
            State::Waiting { next } => self.stop_waiting(at, next),
            State::Compacted => {}
        }
        let watcher = self.watchers[at].take().expect("it was there a moment ago");
        self.free_watchers.push(at);
        Stream::at(&mut self.streams, watcher.stream).watchers.remove(&watcher.id);
    }
}

/// The key and range end a creation asks for, as permissions are to be checked against them: an empty key stands for the
/// first possible one.
#[must_use]
pub fn requested_range(request: &WatchCreateRequest) -> (Bytes, Bytes) {
    let key = if request.key.is_empty() { Bytes::from_static(&[0]) } else { request.key.clone() };
    (key, request.range_end.clone())
}

fn place<T>(places: &mut Vec<Option<T>>, free: &mut Vec<usize>, new: T) -> usize {
    let at = free.pop().unwrap_or_else(|| {
        places.push(None);
        places.len() - 1
    });
    places[at] = Some(new);
    at
}
