//! The watch hub's thread, and the streams that talk to it.
//!
//! The hub does one thing at a time, on a thread of its own: it is told of commits and of what clients ask, and writes answers
//! into the streams' outboxes. The Applier only leaves a commit at the door, so watchers, however many, cost a writer nothing.
//!
//! An outbox is one buffer of framed answers. The hub appends; the connection takes all of it at once, so that many answers
//! travel in one piece. When it is full the hub stops and keeps a position instead of events: a client that does not read
//! costs the size of its outbox and no more.
//!
//! What waits at the door is bounded likewise: when the hub cannot keep up with the commits they are dropped, and all its
//! watchers catch up from history, many of them with one look.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use api::etcdserverpb::WatchCreateRequest;
use bytes::{Bytes, BytesMut};
use mvcc::{Commit, Reader};
use watch::{Hub, Outbox, StreamId};

use crate::clock::Clock;
use crate::rpc::{SEND_BYTES, push_frame};

/// An outbox takes events until it holds this many bytes.
const OUTBOX_BYTES: usize = 1024 * 1024;
/// Without any stream the hub is told of commits when so many have gathered, instead of being woken for each.
const IDLE_COMMITS: usize = 64;
/// When a commit concerns so many streams, the next has to wait a little, for others to join it: waking and writing to a stream
/// costs more than the events. The first after a quiet moment goes at once.
const WAVE_STREAMS: usize = 32;
/// How long, for each stream of the last wave, and at most.
const WAVE_PER_STREAM: Duration = Duration::from_micros(100);
const WAVE_MAX: Duration = Duration::from_millis(20);
/// Commits of so many bytes may wait for the hub.
const INBOX_BYTES: usize = 32 * 1024 * 1024;
/// What a waiting event takes beside its encoded pair.
const EVENT_BYTES: usize = 160;
/// Stretches of history read between two looks at what has come in.
const SYNC_STRETCHES: usize = 4;

/// What the hub is told.
enum Message {
    Commit(Commit, u64),
    Open(u64, Arc<StreamOutbox>),
    Create(u64, WatchCreateRequest),
    /// A creation without the right to it, and what is answered.
    Deny(u64, WatchCreateRequest, String),
    Cancel(u64, i64),
    Progress(u64),
    Close(u64),
    /// A full outbox has been emptied.
    Room,
}

/// The door of the hub's thread.
#[derive(Clone, Debug)]
pub(crate) struct Watches {
    door: Arc<Door>,
}

#[derive(Debug)]
struct Door {
    /// Guards what waits for the hub; held to put something there or to take all of it.
    inbox: Mutex<Inbox>,
    wake: Condvar,
    streams: AtomicUsize,
    next_stream: AtomicU64,
    /// Streams that were sent something since this was last looked at.
    reached: AtomicUsize,
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<Message>,
    /// Bytes of the commits among them.
    commit_bytes: usize,
    /// Commits were dropped; the hub has to find them in history.
    behind: bool,
    stopped: bool,
}

impl Inbox {
    fn commit(&mut self, commit: Commit, raft_term: u64) {
        self.commit_bytes += weight(&commit);
        if self.commit_bytes <= INBOX_BYTES {
            self.messages.push_back(Message::Commit(commit, raft_term));
        } else {
            self.skip_commits();
        }
    }

    /// Commits are missing, and what waits is older than they are: the hub finds all of it in history.
    fn skip_commits(&mut self) {
        self.messages.retain(|message| !matches!(message, Message::Commit(..)));
        self.commit_bytes = 0;
        self.behind = true;
    }

    /// Whether the hub may sleep on.
    fn is_idle(&self, streams: usize) -> bool {
        if streams == 0 {
            self.messages.len() < IDLE_COMMITS
        } else {
            self.messages.is_empty() && !self.behind
        }
    }

    /// Hands over everything.
    fn take(&mut self) -> (VecDeque<Message>, bool) {
        self.commit_bytes = 0;
        (std::mem::take(&mut self.messages), std::mem::take(&mut self.behind))
    }
}

/// Bytes that a commit keeps while it waits.
fn weight(commit: &Commit) -> usize {
    commit
        .changes
        .iter()
        .flat_map(|changes| &changes.changes)
        .map(|change| EVENT_BYTES + change.kv.len())
        .sum()
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("messages", &self.messages.len()).finish_non_exhaustive()
    }
}

impl Door {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: Message) {
        self.inbox().messages.push_back(message);
        self.wake.notify_one();
    }
}

impl Watches {
    pub(crate) fn new() -> Self {
        let (inbox, wake) = (Mutex::default(), Condvar::new());
        Self {
            door: Arc::new(Door {
                inbox,
                wake,
                streams: AtomicUsize::new(0),
                next_stream: AtomicU64::new(1),
                reached: AtomicUsize::new(0),
            }),
        }
    }

    /// Tells of a commit that has just been published to readers.
    pub(crate) fn publish(&self, commit: Commit, raft_term: u64) {
        let mut inbox = self.door.inbox();
        inbox.commit(commit, raft_term);
        let waiting = inbox.messages.len();
        drop(inbox);
        if self.streams() > 0 || waiting >= IDLE_COMMITS {
            self.door.wake.notify_one();
        }
    }

    /// Tells that readers see a later state now, from elsewhere, and that the commits between are never published.
    pub(crate) fn installed(&self) {
        self.door.inbox().skip_commits();
        self.door.wake.notify_one();
    }

    /// Opens a stream; dropping it closes it.
    pub(crate) fn open(&self) -> Stream {
        let id = self.door.next_stream.fetch_add(1, Ordering::Relaxed);
        let outbox = Arc::new(StreamOutbox::new(Arc::clone(&self.door)));
        self.door.streams.fetch_add(1, Ordering::Relaxed);
        self.door.send(Message::Open(id, Arc::clone(&outbox)));
        Stream { id, outbox }
    }

    /// How many streams are open.
    pub(crate) fn streams(&self) -> usize {
        self.door.streams.load(Ordering::Relaxed)
    }

    /// Ends the thread, and with it every stream.
    pub(crate) fn stop(&self) {
        self.door.inbox().stopped = true;
        self.door.wake.notify_all();
    }

    /// Runs the hub until [`stop`](Self::stop).
    ///
    /// # Errors
    /// History could not be read; the member must not go on, because watchers would miss events.
    pub(crate) fn run(
        &self,
        hub: Hub,
        reader: Reader,
        clock: Clock,
        progress_interval: Duration,
    ) -> watch::Result<()> {
        let mut thread = Thread::new(hub, reader, clock, progress_interval);
        let outcome = thread.serve(&self.door);
        for open in thread.streams.into_values() {
            open.outbox.end();
        }
        outcome
    }
}

/// What the thread keeps.
struct Thread {
    hub: Hub,
    reader: Reader,
    streams: HashMap<u64, Open>,
    clock: Clock,
    progress_interval: Duration,
    /// Not to be served before, so that further commits join the wave.
    next_wave: Duration,
}

struct Open {
    id: StreamId,
    outbox: Arc<StreamOutbox>,
    /// Set once a watcher asked to hear how far it is.
    next_progress: Option<Duration>,
    /// The interval of this stream: the configured one and up to a tenth more, so that streams do not all speak at once.
    progress_interval: Duration,
}

impl Thread {
    fn new(hub: Hub, reader: Reader, clock: Clock, progress_interval: Duration) -> Self {
        let next_wave = Duration::ZERO;
        Self { hub, reader, streams: HashMap::new(), clock, progress_interval, next_wave }
    }

    fn serve(&mut self, door: &Door) -> watch::Result<()> {
        let mut more = false;
        loop {
            let Some((messages, behind)) = self.wait(door, more) else { return Ok(()) };
            more = self.turn(messages, behind)?;
            let reached = door.reached.swap(0, Ordering::Relaxed);
            if let Ok(streams) = u32::try_from(reached)
                && reached >= WAVE_STREAMS
            {
                self.next_wave = self.clock.now() + (WAVE_PER_STREAM * streams).min(WAVE_MAX);
            }
        }
    }

    /// Takes in what has come, and lets those catch up who are behind; returns whether they need another turn.
    fn turn(&mut self, messages: VecDeque<Message>, behind: bool) -> watch::Result<bool> {
        if behind {
            // What the reader shows now includes all that was dropped; what has come since is known then, or follows it.
            self.hub.reset(self.reader.clone());
        }
        for message in messages {
            self.take(message)?;
        }
        self.tick();
        self.hub.sync(SYNC_STRETCHES)
    }

    /// What has come in and whether commits were dropped, after waiting for it or for the next tick; `None` to stop.
    fn wait(&self, door: &Door, busy: bool) -> Option<(VecDeque<Message>, bool)> {
        let mut inbox = door.inbox();
        let due = self.streams.values().filter_map(|open| open.next_progress).min();
        while !busy && !inbox.stopped && inbox.is_idle(door.streams.load(Ordering::Relaxed)) {
            match due {
                None => inbox = door.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let now = self.clock.now();
                    if due <= now {
                        break;
                    }
                    inbox =
                        door.wake.wait_timeout(inbox, due - now).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        drop(inbox);
        let early = self.next_wave.saturating_sub(self.clock.now());
        if !busy && !early.is_zero() {
            std::thread::sleep(early);
        }
        let mut inbox = door.inbox();
        (!inbox.stopped).then(|| inbox.take())
    }

    fn take(&mut self, message: Message) -> watch::Result<()> {
        match message {
            Message::Commit(commit, raft_term) => return self.hub.publish(&commit, raft_term),
            Message::Open(id, outbox) => {
                let tenths = 1000 + u32::try_from(id * 37 % 100).expect("below a hundred");
                let open = Open {
                    id: self.hub.open(Arc::clone(&outbox) as Arc<dyn Outbox>),
                    outbox,
                    next_progress: None,
                    progress_interval: self.progress_interval * tenths / 1000,
                };
                self.streams.insert(id, open);
            }
            Message::Create(id, request) => {
                let Some(open) = self.streams.get_mut(&id) else { return Ok(()) };
                if request.progress_notify && open.next_progress.is_none() {
                    open.next_progress = Some(self.clock.now() + open.progress_interval);
                }
                self.hub.create(open.id, &request);
            }
            Message::Deny(id, request, reason) => {
                if let Some(open) = self.streams.get(&id) {
                    self.hub.deny(open.id, &request, &reason);
                }
            }
            Message::Cancel(id, watch_id) => {
                if let Some(open) = self.streams.get(&id) {
                    self.hub.cancel(open.id, watch_id);
                }
            }
            Message::Progress(id) => {
                if let Some(open) = self.streams.get(&id) {
                    self.hub.progress(open.id);
                }
            }
            Message::Close(id) => {
                if let Some(open) = self.streams.remove(&id) {
                    self.hub.close(open.id);
                }
            }
            Message::Room => {}
        }
        Ok(())
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        let mut due: Vec<&mut Open> =
            self.streams.values_mut().filter(|open| open.next_progress.is_some_and(|at| at <= now)).collect();
        due.sort_by_key(|open| open.id);
        for open in due {
            open.next_progress = Some(now + open.progress_interval);
            self.hub.tick_progress(open.id);
        }
    }
}

/// Answers on their way to one client.
#[derive(Debug)]
struct StreamOutbox {
    door: Arc<Door>,
    /// Guards the bytes and who waits for them; held to append or to take.
    buffer: Mutex<Buffer>,
    /// The hub was refused since the buffer was last taken.
    starved: AtomicBool,
}

#[derive(Debug, Default)]
struct Buffer {
    frames: BytesMut,
    waker: Option<Waker>,
    ended: bool,
    /// The bytes of a response that is larger than any may be; nothing can follow it.
    too_large: Option<usize>,
}

impl StreamOutbox {
    fn new(door: Arc<Door>) -> Self {
        Self { door, buffer: Mutex::default(), starved: AtomicBool::new(false) }
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        let mut buffer = self.buffer();
        buffer.ended = true;
        if let Some(waker) = buffer.waker.take() {
            waker.wake();
        }
    }
}

impl Outbox for StreamOutbox {
    fn push(&self, response: &[&[u8]]) {
        let mut buffer = self.buffer();
        let bytes = response.iter().map(|part| part.len()).sum();
        if bytes > SEND_BYTES {
            buffer.too_large = Some(bytes);
        }
        if buffer.too_large.is_none() {
            push_frame(&mut buffer.frames, response);
        }
    }

    fn has_room(&self) -> bool {
        if self.buffer().frames.len() < OUTBOX_BYTES {
            return true;
        }
        self.starved.store(true, Ordering::Release);
        // The buffer may have been taken just before the note was left.
        self.buffer().frames.len() < OUTBOX_BYTES
    }

    fn flush(&self) {
        self.door.reached.fetch_add(1, Ordering::Relaxed);
        let waker = self.buffer().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// One client's stream, as its connection sees it.
#[derive(Debug)]
pub(crate) struct Stream {
    id: u64,
    outbox: Arc<StreamOutbox>,
}

impl Stream {
    pub(crate) fn create(&self, request: WatchCreateRequest) {
        self.outbox.door.send(Message::Create(self.id, request));
    }

    /// Answers a creation whose maker lacks the right to it.
    pub(crate) fn deny(&self, request: WatchCreateRequest, reason: String) {
        self.outbox.door.send(Message::Deny(self.id, request, reason));
    }

    pub(crate) fn cancel(&self, watch_id: i64) {
        self.outbox.door.send(Message::Cancel(self.id, watch_id));
    }

    pub(crate) fn progress(&self) {
        self.outbox.door.send(Message::Progress(self.id));
    }

    /// Whether further requests are welcome: their replies must fit.
    pub(crate) fn has_room(&self) -> bool {
        self.outbox.buffer().frames.len() < OUTBOX_BYTES
    }

    /// The bytes of a response that could not be sent, if that is why there are no more.
    pub(crate) fn too_large(&self) -> Option<usize> {
        self.outbox.buffer().too_large
    }

    /// Everything that waits to be sent; `None` when the hub has ended, or has a response that is too large.
    pub(crate) fn poll_take(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut buffer = self.outbox.buffer();
        if buffer.frames.is_empty() {
            if buffer.ended || buffer.too_large.is_some() {
                return Poll::Ready(None);
            }
            buffer.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let frames = buffer.frames.split().freeze();
        drop(buffer);
        if self.outbox.starved.swap(false, Ordering::AcqRel) {
            self.outbox.door.send(Message::Room);
        }
        Poll::Ready(Some(frames))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.outbox.door.send(Message::Close(self.id));
        self.outbox.door.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::LeaseId;
    use api::etcdserverpb::WatchResponse;
    use api::{ClusterId, MemberId};
    use prost::Message as _;

    fn put(store: &mut mvcc::Store, value: Bytes) -> Commit {
        let mut txn = store.write();
        txn.put("k".into(), value, LeaseId::NONE).unwrap();
        txn.end_request();
        txn.commit().unwrap()
    }

    #[test]
    fn a_response_that_is_too_large_ends_its_stream_behind_what_came_before() {
        let watches = Watches::new();
        let stream = watches.open();
        stream.outbox.push(&[b"small"]);
        let part = vec![0; 1024 * 1024];
        let parts = vec![&part[..]; 4096];
        stream.outbox.push(&parts);
        stream.outbox.push(&[b"late"]);
        let cx = Context::from_waker(Waker::noop());
        assert!(matches!(stream.poll_take(&cx), Poll::Ready(Some(frames)) if frames.ends_with(b"small")));
        assert!(matches!(stream.poll_take(&cx), Poll::Ready(None)));
        assert_eq!(stream.too_large(), Some(4 << 30));
    }

    fn responses(stream: &Stream) -> Vec<WatchResponse> {
        let cx = Context::from_waker(Waker::noop());
        let mut responses = Vec::new();
        while let Poll::Ready(Some(mut frames)) = stream.poll_take(&cx) {
            while !frames.is_empty() {
                let length = u32::from_be_bytes(frames[1..5].try_into().unwrap()) as usize;
                responses.push(WatchResponse::decode(frames.split_to(5 + length).slice(5..)).unwrap());
            }
        }
        responses
    }

    #[test]
    fn a_hub_that_cannot_keep_up_costs_bounded_memory_and_no_event() {
        let mut store = mvcc::Store::open(Arc::new(backend::MemBackend::new())).unwrap();
        let reader = store.reader();
        let identity = watch::Identity { cluster_id: ClusterId::new(1), member_id: MemberId::new(2) };
        let hub = Hub::new(reader.clone(), watch::Options::new(identity));
        let mut thread = Thread::new(hub, reader, Clock::start(), Duration::from_secs(600));
        let watches = Watches::new();
        let stream = watches.open();
        stream.create(WatchCreateRequest { key: "k".into(), ..Default::default() });
        let turn = |thread: &mut Thread| {
            let (messages, behind) = watches.door.inbox().take();
            let mut more = thread.turn(messages, behind).unwrap();
            while more {
                more = thread.turn(VecDeque::new(), false).unwrap();
            }
            behind
        };
        assert!(!turn(&mut thread));
        let value = Bytes::from(vec![0; 1024 * 1024]);
        let mut dropped = false;
        let mut seen = Vec::new();
        for n in 0..50 {
            watches.publish(put(&mut store, value.clone()), 1);
            assert!(watches.door.inbox().commit_bytes <= INBOX_BYTES);
            assert!(!watches.door.inbox().is_idle(1));
            // The hub gets its turn seldom, and then more comes before the next.
            if n % 40 == 39 {
                dropped |= turn(&mut thread);
            }
        }
        dropped |= turn(&mut thread);
        assert!(dropped);
        while seen.len() < 50 {
            let events = responses(&stream).into_iter().flat_map(|response| response.events);
            let before = seen.len();
            seen.extend(events.map(|event| event.kv.unwrap().mod_revision));
            thread.turn(VecDeque::new(), false).unwrap();
            assert!(seen.len() > before || before == 0, "{before} events, and then nothing");
        }
        assert_eq!(seen, (2..52).collect::<Vec<_>>());
    }
}
