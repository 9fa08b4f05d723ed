//! The log: what openraft appends, truncates and purges, in memory at once and on disk in the same order.
//!
//! ```text
//! openraft ──append──> Log (memory) ──clone──> Queue ──drain──> Writer ──one synced batch──> Disk
//!     │                    ▲                                      │
//!     └──read──────────────┴── (older entries: Disk)              └──> callbacks, Durable
//! ```
//!
//! openraft calls all of this from its one loop, so nothing here waits for the disk but
//! [`save_vote`](RaftLogStorage::save_vote), which must.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_util::stream::{self, Stream};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use prost::Message;
use tokio::sync::oneshot;

use self::disk::{Disk, Meta};
use self::durable::Durable;
use self::log::Log;
use self::queue::{Queue, Riders, Step};
use self::writer::Writer;
use crate::application::LogId;
use crate::error::{Error, Result};
use crate::failure::Failure;
use crate::metrics::LogMetrics;
use crate::record::{self, Identity};
use crate::sole_voter::SoleVoter;
use crate::types::{self, LogEntry, RaftLogId, TypeConfig, Vote};

pub(crate) mod disk;
pub(crate) mod durable;
mod log;
mod queue;
pub(crate) mod recovery;
#[cfg(test)]
mod tests;
mod writer;

/// The most entries one read returns to replication or apply, by size, as etcd limits its messages.
const READ_BYTES: usize = 1 << 20;

/// The log of one member. Cloning gives another handle.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    /// Taken before the queue's lock, never the other way round.
    log: Mutex<Log>,
    queue: Queue,
    disk: Arc<dyn Disk>,
    durable: Arc<Durable>,
    failure: Failure,
    metrics: Arc<LogMetrics>,
    sole_voter: Arc<SoleVoter>,
    cache_bytes: usize,
    /// When the write under way began.
    writing: Mutex<Option<Instant>>,
}

/// The thread that writes; joined when the log is closed.
pub(crate) type WriterThread = JoinHandle<()>;

impl LogStore {
    /// Reads what the disk knows of the log, and starts the writer.
    ///
    /// # Errors
    ///
    /// Fails when the disk does, or when entries are missing in the middle of the log.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        cache_bytes: usize,
        failure: Failure,
        sole_voter: Arc<SoleVoter>,
    ) -> Result<(Self, WriterThread)> {
        let log = load(&*disk, cache_bytes)?;
        let riders = Riders { committed: log.committed, purged: log.purged };
        let shared = Arc::new(Shared {
            durable: Arc::new(Durable::new(log.end())),
            log: Mutex::new(log),
            queue: Queue::default(),
            disk,
            failure,
            metrics: Arc::default(),
            sole_voter,
            cache_bytes,
            writing: Mutex::default(),
        });
        shared.queue.ride(|queued| *queued = riders);
        let writer = Writer::new(Arc::clone(&shared), riders);
        let thread = thread::Builder::new().name("raftlog-writer".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|error| Error::Core(format!("no thread for the writer: {error}")))?;
        Ok((Self { shared }, thread))
    }

    /// Lets the writer finish what is queued and close the disk.
    pub(crate) fn close(&self) {
        self.shared.queue.close();
    }

    pub(crate) fn durable(&self) -> Arc<Durable> {
        Arc::clone(&self.shared.durable)
    }

    pub(crate) fn metrics(&self) -> Arc<LogMetrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// The first and the last position, and what is known to be committed.
    pub(crate) fn positions(&self) -> Positions {
        let log = self.shared.log();
        Positions { purged: log.purged, last: log.last, committed: log.committed }
    }

    /// Bytes of entries in memory, and bytes that wait to be written.
    pub(crate) fn memory(&self) -> (usize, usize) {
        (self.shared.log().recent_bytes(), self.shared.queue.bytes())
    }

    /// The snapshot the state last jumped to, or was about to.
    pub(crate) fn installed(&self) -> Result<Option<LogId>> {
        position(&*self.shared.disk, Meta::Installed)
    }

    /// Remembers, durably, that the state is about to jump to a snapshot, which may lie ahead of the log.
    pub(crate) async fn save_installed(&self, log_id: LogId) -> Result<()> {
        self.shared.save(Meta::Installed, record::encode_log_id(log_id)).await
    }

    /// Checks whose log it is; a log that belongs to nobody yet belongs to `identity` from now on.
    pub(crate) async fn identify(&self, identity: Identity) -> Result<()> {
        let Some(bytes) = self.shared.disk.meta(Meta::Identity)? else {
            return self.shared.save(Meta::Identity, identity.encode_to_vec()).await;
        };
        let found = Identity::decode(&*bytes)
            .map_err(|error| damaged(&*self.shared.disk, format!("its identity is unreadable: {error}")))?;
        if found == identity {
            return Ok(());
        }
        Err(Error::Identity {
            path: self.shared.disk.path().to_owned(),
            found_id: found.member,
            found_cluster: found.cluster,
            id: identity.member,
            cluster: identity.cluster,
        })
    }

    /// How long the write under way has taken so far.
    pub(crate) fn writing_for(&self) -> Option<Duration> {
        self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner).map(|begun| begun.elapsed())
    }

    /// Waits until everything that was asked for so far is durable, what only rides along included.
    pub(crate) async fn synced(&self) -> Result<()> {
        let identity = self.shared.disk.meta(Meta::Identity)?.unwrap_or_default();
        self.shared.save(Meta::Identity, identity).await
    }

    pub(crate) fn path(&self) -> &Path {
        self.shared.disk.path()
    }

    /// Reads entries `from..to`, as many as are cheap, but at least the first if the log has it.
    pub(crate) async fn read(&self, from: u64, to: u64) -> Result<Vec<LogEntry>> {
        self.shared.read(from, to, READ_BYTES).await
    }
}

/// Where the log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Positions {
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
    pub(crate) committed: Option<LogId>,
}

fn damaged(disk: &dyn Disk, reason: String) -> Error {
    Error::Damaged { path: disk.path().to_owned(), reason }
}

fn position(disk: &dyn Disk, meta: Meta) -> Result<Option<LogId>> {
    let bytes = disk.meta(meta)?;
    let decoded = bytes.map(|bytes| record::decode_log_id(&bytes)).transpose();
    decoded.map_err(|error| damaged(disk, format!("{meta:?} is unreadable: {error}")))
}

/// Reads the whole log once, which finds damage and gaps, and keeps its newest entries.
fn load(disk: &dyn Disk, cache_bytes: usize) -> Result<Log> {
    let mut log = Log::default();
    if let Some(purged) = position(disk, Meta::Purged)? {
        log.purge(purged);
    }
    if let Some(vote) = disk.meta(Meta::Vote)? {
        let vote = record::decode_vote(&vote);
        log.vote = Some(vote.map_err(|error| damaged(disk, format!("the vote is unreadable: {error}")))?);
    }
    let mut gap = None;
    disk.read(log.start, u64::MAX, &mut |entry| {
        let index = entry.index;
        gap = log.push(entry).err().map(|expected| (expected, index));
        log.evict(cache_bytes, u64::MAX);
        gap.is_none()
    })?;
    if let Some((expected, found)) = gap {
        return Err(damaged(disk, format!("entry {expected} is missing; entry {found} follows")));
    }
    // What is committed rides ahead of the entries, so a crash may have kept it without them.
    log.committed = position(disk, Meta::Committed)?.min(log.last);
    Ok(log)
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a value and waits until it is durable.
    async fn save(&self, meta: Meta, value: Vec<u8>) -> Result<()> {
        let (done, saved) = oneshot::channel();
        self.queue.push(Step::Meta { meta, value, done });
        saved.await.unwrap_or_else(|_| Err(Error::Core("the writer is gone".to_owned())))
    }

    async fn read(self: &Arc<Self>, from: u64, to: u64, limit: usize) -> Result<Vec<LogEntry>> {
        let (from, older) = {
            let log = self.log();
            let (from, to) = (from.max(log.start), to.min(log.end()));
            if from >= to {
                return Ok(Vec::new());
            }
            if from >= log.recent_start() {
                return Ok(log.recent(from, to, limit));
            }
            (from, to.min(log.recent_start()))
        };
        let shared = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || shared.read_disk(from, older, limit));
        read.await.map_err(|error| Error::Core(format!("reading the log: {error}")))?
    }

    fn read_disk(&self, from: u64, to: u64, limit: usize) -> Result<Vec<LogEntry>> {
        let mut entries: Vec<LogEntry> = Vec::new();
        let mut bytes = 0;
        let mut gap = None;
        self.disk.read(from, to, &mut |entry| {
            let expected = from + entries.len() as u64;
            if entry.index != expected {
                gap = Some((expected, entry.index));
                return false;
            }
            bytes += entry.size();
            let fits = entries.is_empty() || bytes <= limit;
            if fits {
                entries.push(entry);
            }
            fits
        })?;
        match gap {
            Some((expected, found)) => {
                Err(damaged(&*self.disk, format!("entry {expected} is missing; entry {found} follows")))
            }
            None if entries.is_empty() => Err(damaged(&*self.disk, format!("entry {from} is missing"))),
            None => Ok(entries),
        }
    }
}

/// Reads the log for replication and apply.
#[derive(Clone)]
pub(crate) struct LogReader {
    shared: Arc<Shared>,
}

/// The bounds of a range as `from..to`.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(&from) => from,
        Bound::Excluded(&before) => before + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&to) => to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<LogEntry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (mut from, to) = bounds(&range);
        let mut entries = Vec::new();
        loop {
            let mut more = self.shared.read(from, to, usize::MAX).await.map_err(io::Error::other)?;
            match more.last() {
                Some(last) => from = last.index + 1,
                None => return Ok(entries),
            }
            entries.append(&mut more);
        }
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        self.shared.read(start, end, READ_BYTES).await.map_err(io::Error::other)
    }

    /// In pieces, so that a member that catches up holds a bounded part of the log in memory.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<LogEntry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = bounds(&range);
        let rest = (Arc::clone(&self.shared), from, Vec::new().into_iter());
        stream::try_unfold(rest, move |(shared, mut from, mut piece)| async move {
            loop {
                if let Some(entry) = piece.next() {
                    return Ok(Some((entry, (shared, from, piece))));
                }
                let more = shared.read(from, to, READ_BYTES).await.map_err(io::Error::other)?;
                match more.last() {
                    Some(last) => from = last.index + 1,
                    None => return Ok(None),
                }
                piece = more.into_iter();
            }
        })
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.log().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let Positions { purged, last, .. } = self.positions();
        Ok(LogState { last_purged_log_id: purged.map(types::to_raft), last_log_id: last.map(types::to_raft) })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { shared: Arc::clone(&self.shared) }
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let shared = &self.shared;
        shared.failure.check()?;
        shared.sole_voter.vote_changes(vote);
        shared.save(Meta::Vote, record::encode_vote(vote)).await.map_err(io::Error::other)?;
        shared.log().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        let committed = committed.as_ref().map(types::from_raft);
        self.shared.log().committed = committed;
        self.shared.queue.ride(|riders| riders.committed = committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        Ok(self.shared.log().committed.map(types::to_raft))
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + Send,
        I::IntoIter: Send,
    {
        let shared = &self.shared;
        shared.failure.check()?;
        let entries: Vec<LogEntry> = entries.into_iter().collect();
        let bytes = entries.iter().map(LogEntry::size).sum();
        let epoch = shared.durable.epoch();
        {
            let mut log = shared.log();
            for entry in &entries {
                if let Some(membership) = &entry.payload.membership {
                    shared.sole_voter.membership_appended(entry.index, membership);
                }
                log.push(entry.clone()).map_err(|expected| {
                    io::Error::other(format!("entry {expected} must follow, not entry {}", entry.index))
                })?;
            }
            log.evict(shared.cache_bytes, shared.durable.next());
        }
        shared.queue.push(Step::Append { entries, bytes, flushed, epoch });
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        let shared = &self.shared;
        shared.failure.check()?;
        let last = last.as_ref().map(types::from_raft);
        let from = last.map_or(0, |last| last.index + 1);
        shared.log().truncate_after(last);
        shared.durable.truncate(from);
        shared.queue.push(Step::Truncate { from });
        Ok(())
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        let shared = &self.shared;
        shared.failure.check()?;
        let upto = types::from_raft(&upto);
        let mut log = shared.log();
        log.purge(upto);
        let (purged, end, last) = (log.purged, log.end(), log.last);
        drop(log);
        if last == purged {
            // The log is empty, be it that a snapshot replaced it: what comes next is appended behind the snapshot.
            shared.durable.advance(shared.durable.epoch(), end);
        }
        shared.queue.ride(|riders| riders.purged = purged);
        Ok(())
    }
}
