use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;

use super::disk::{Change, RocksDisk};
use super::*;
use crate::application::{Application, ApplicationError, Applied, Entry};
use crate::config::Config;
use crate::error::ProposeError;
use crate::metrics::ApplyMetrics;
use crate::node::Node;
use crate::state_machine::worker::{FlushPolicy, Worker};
use crate::state_machine::{ApplyQueue, StateMachine, Transfers};
use crate::types::{CommittedLeaderId, Data, Payload};

const CACHE: usize = 1 << 20;

fn open_on(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<Opened> {
    let failure = Failure::new();
    let sole_voter = Arc::new(SoleVoter::new(1));
    let (log, writer) = LogStore::open(disk, cache_bytes, failure.clone(), sole_voter)?;
    Ok(Opened { log, writer: Some(writer), failure })
}

fn open(dir: &Path) -> Result<Opened> {
    open_on(Arc::new(RocksDisk::open(dir)?), CACHE)
}

/// An open log; closed when dropped.
struct Opened {
    log: LogStore,
    writer: Option<WriterThread>,
    failure: Failure,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.log.close();
        self.writer.take().unwrap().join().unwrap();
    }
}

impl Opened {
    /// Queues entries and returns what will tell that they are durable.
    async fn append(
        &mut self,
        entries: impl IntoIterator<Item = LogEntry>,
    ) -> oneshot::Receiver<io::Result<()>> {
        let (sender, durable) = TypeConfig::oneshot();
        let entries: Vec<_> = entries.into_iter().collect();
        self.log.append(entries, IOFlushed::signal(sender)).await.unwrap();
        durable
    }

    async fn write(&mut self, entries: impl IntoIterator<Item = LogEntry>) {
        self.append(entries).await.await.unwrap().unwrap();
    }

    async fn all(&mut self) -> Vec<LogEntry> {
        self.log.get_log_reader().await.try_get_log_entries(..).await.unwrap()
    }

    async fn indexes(&mut self) -> Vec<u64> {
        self.all().await.iter().map(|entry| entry.index).collect()
    }
}

fn entry(term: u64, index: u64) -> LogEntry {
    entry_of(term, index, 100)
}

fn entry_of(term: u64, index: u64, size: usize) -> LogEntry {
    let data = format!("{term}.{index} ").into_bytes().into_iter().cycle().take(size);
    LogEntry {
        leader: CommittedLeaderId::new(term),
        index,
        payload: Payload { data: Data(data.collect()), membership: None },
    }
}

fn entries(term: u64, indexes: impl IntoIterator<Item = u64>) -> impl Iterator<Item = LogEntry> {
    indexes.into_iter().map(move |index| entry(term, index))
}

fn log_id(term: u64, index: u64) -> RaftLogId {
    RaftLogId::new_term_index(term, index)
}

/// The files of the log that end so, oldest first.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .filter(|path| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().is_ok())
        .collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// A disk with faults.
struct FaultyDisk {
    inner: RocksDisk,
    dir: PathBuf,
    /// Writes fail from now on.
    fails: AtomicBool,
    /// The writer takes this before it writes, so a test that holds it keeps the queue filling.
    gate: tokio::sync::Mutex<()>,
    /// What a process that is killed at each step of the writer leaves behind.
    copies: Option<PathBuf>,
    steps: Mutex<u64>,
}

impl FaultyDisk {
    fn new(dir: &Path, copies: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            inner: RocksDisk::open(dir).unwrap(),
            dir: dir.to_owned(),
            fails: AtomicBool::new(false),
            gate: tokio::sync::Mutex::new(()),
            copies,
            steps: Mutex::new(0),
        })
    }

    fn step(&self) {
        if let Some(copies) = &self.copies {
            let mut steps = self.steps.lock().unwrap();
            copy(&self.dir, &copies.join(steps.to_string()));
            *steps += 1;
        }
    }
}

impl Disk for FaultyDisk {
    fn write(&self, changes: &[Change<'_>]) -> Result<u64> {
        let _gate = self.gate.blocking_lock();
        self.step();
        if self.fails.load(Ordering::SeqCst) {
            let message = "no space left on device".to_owned();
            return Err(Error::Io { operation: "writing", path: self.dir.clone(), message });
        }
        let written = self.inner.write(changes);
        self.step();
        written
    }

    fn read(&self, from: u64, to: u64, take: &mut dyn FnMut(LogEntry) -> bool) -> Result<()> {
        self.inner.read(from, to, take)
    }

    fn meta(&self, meta: Meta) -> Result<Option<Vec<u8>>> {
        self.inner.meta(meta)
    }

    fn reclaim(&self, before: u64) -> Result<()> {
        self.inner.reclaim(before)
    }

    fn close(&self) {
        self.inner.close();
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}

/// An application without any state but its position.
#[derive(Default)]
struct Positions(Applied);

impl Application for Positions {
    fn applied(&self) -> Applied {
        self.0.clone()
    }

    fn apply(&mut self, batch: &[Entry]) -> Result<(), ApplicationError> {
        for entry in batch {
            self.0.last = Some(entry.log_id());
            self.0.membership = entry.membership.clone().or(self.0.membership.take());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<Applied, ApplicationError> {
        Ok(self.0.clone())
    }

    fn snapshot(&mut self, dir: &Path) -> Result<(), ApplicationError> {
        let last = self.0.last.ok_or("nothing was applied")?;
        fs::write(dir.join("last"), record::encode_log_id(last))?;
        fs::write(dir.join("membership"), self.0.membership.clone().unwrap_or_default())?;
        Ok(())
    }

    fn install(&mut self, dir: &Path) -> Result<Applied, ApplicationError> {
        self.0.last = Some(record::decode_log_id(&fs::read(dir.join("last"))?)?);
        self.0.membership = Some(fs::read(dir.join("membership"))?.into());
        Ok(self.0.clone())
    }
}

/// Builds what openraft's suite tests. The suite applies entries it never appended, so the state machine gets
/// a log of its own that claims to be durable everywhere.
struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let (log, failure) = {
            let failure = Failure::new();
            let disk = Arc::new(RocksDisk::open(dir.path()).unwrap());
            let (log, _) = LogStore::open(disk, CACHE, failure.clone(), Arc::new(SoleVoter::new(0))).unwrap();
            (log, failure)
        };
        let queue = Arc::new(ApplyQueue::default());
        let worker = Worker {
            application: Positions::default(),
            queue: Arc::clone(&queue),
            durable: Arc::new(Durable::new(u64::MAX)),
            failure: failure.clone(),
            applied: Applied::default(),
            published: tokio::sync::watch::Sender::new(None),
            metrics: Arc::new(ApplyMetrics::default()),
            flush_policy: FlushPolicy::new(u64::MAX).0,
        };
        worker.spawn().unwrap();
        let state_machine =
            StateMachine::new(queue, log.clone(), failure, dir.path().join("snapshot"), Transfers::default());
        Ok((dir, log, state_machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openrafts_storage_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}

#[tokio::test]
async fn a_closed_log_opens_again_with_everything() {
    let dir = TempDir::new().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.log.save_vote(&Vote::new_committed(3, 1)).await.unwrap();
    let durable = opened.append(entries(3, 0..10)).await;
    opened.log.save_committed(Some(log_id(3, 8))).await.unwrap();
    drop(opened);
    durable.await.unwrap().unwrap();

    let mut opened = open(dir.path()).unwrap();
    assert_eq!(opened.all().await, entries(3, 0..10).collect::<Vec<_>>());
    let mut reader = opened.log.get_log_reader().await;
    assert_eq!(reader.read_vote().await.unwrap(), Some(Vote::new_committed(3, 1)));
    assert_eq!(opened.log.read_committed().await.unwrap(), Some(log_id(3, 8)));
}

#[tokio::test]
async fn a_log_that_is_open_is_refused_and_one_that_was_closed_is_not() {
    let dir = TempDir::new().unwrap();
    let opened = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(Error::Locked { path }) if path == dir.path()));
    drop(opened);
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()).unwrap());
    fs::write(dir.path().join("log.lock"), "2\n").unwrap();
    let refused = open(dir.path()).err().unwrap();
    assert!(matches!(refused, Error::Format { found: 2, supported: 1, .. }), "{refused}");
}

#[tokio::test]
async fn a_log_belongs_to_one_member_of_one_cluster() {
    let dir = TempDir::new().unwrap();
    let opened = open(dir.path()).unwrap();
    opened.log.identify(Identity { cluster: 1, member: 2 }).await.unwrap();
    opened.log.identify(Identity { cluster: 1, member: 2 }).await.unwrap();
    let refused = opened.log.identify(Identity { cluster: 1, member: 3 }).await.unwrap_err();
    assert!(matches!(refused, Error::Identity { found_id: 2, id: 3, .. }), "{refused}");
}

#[tokio::test]
async fn entries_that_left_the_cache_come_from_the_disk() {
    let dir = TempDir::new().unwrap();
    let mut opened = open_on(Arc::new(RocksDisk::open(dir.path()).unwrap()), 2000).unwrap();
    for index in 0..50 {
        opened.write([entry(1, index)]).await;
    }
    assert!(opened.log.memory().0 <= 2000 + entry(1, 0).size());
    assert_eq!(opened.all().await, entries(1, 0..50).collect::<Vec<_>>());
    let mut reader = opened.log.get_log_reader().await;
    let some = reader.try_get_log_entries(3..=40).await.unwrap();
    assert_eq!(some, entries(1, 3..41).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_limited_read_is_bounded_by_bytes_and_never_empty() {
    let dir = TempDir::new().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.write((0..8).map(|index| entry_of(1, index, READ_BYTES / 3))).await;
    opened.write([entry_of(1, 8, 2 * READ_BYTES), entry(1, 9)]).await;
    let mut reader = opened.log.get_log_reader().await;
    assert_eq!(reader.limited_get_log_entries(0, 10).await.unwrap().len(), 2);
    assert_eq!(reader.limited_get_log_entries(8, 10).await.unwrap(), [entry_of(1, 8, 2 * READ_BYTES)]);
}

#[tokio::test]
async fn a_hole_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.write(entries(1, 0..3)).await;
    assert!(opened.log.append([entry(1, 4)], IOFlushed::noop()).await.is_err());
    drop(opened);
    let disk = RocksDisk::open(dir.path()).unwrap();
    disk.write(&[Change::Entry(&entry(1, 5))]).unwrap();
    drop(disk);
    let refused = open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("entry 3 is missing; entry 5 follows"), "{refused}");
}

#[tokio::test]
async fn what_was_truncated_does_not_come_back() {
    let dir = TempDir::new().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.write(entries(1, 0..10)).await;
    opened.log.truncate_after(Some(log_id(1, 3))).await.unwrap();
    opened.write(entries(2, 4..6)).await;
    let expected: Vec<_> = entries(1, 0..4).chain(entries(2, 4..6)).collect();
    assert_eq!(opened.all().await, expected);
    drop(opened);
    assert_eq!(open(dir.path()).unwrap().all().await, expected);
}

#[tokio::test]
async fn what_was_purged_does_not_come_back() {
    let dir = TempDir::new().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.write(entries(1, 0..10)).await;
    opened.log.purge(log_id(1, 5)).await.unwrap();
    assert_eq!(opened.indexes().await, [6, 7, 8, 9]);
    drop(opened);
    let mut opened = open(dir.path()).unwrap();
    assert_eq!(opened.indexes().await, [6, 7, 8, 9]);
    assert_eq!(opened.log.positions().purged, Some(LogId { term: 1, index: 5 }));
}

#[tokio::test]
async fn a_log_purged_beyond_its_end_goes_on_from_there() {
    let dir = TempDir::new().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.write(entries(1, 0..10)).await;
    opened.log.purge(log_id(2, 20)).await.unwrap();
    assert_eq!(opened.log.positions().last, Some(LogId { term: 2, index: 20 }));
    opened.write(entries(2, 21..23)).await;
    drop(opened);
    assert_eq!(open(dir.path()).unwrap().indexes().await, [21, 22]);
}

#[tokio::test]
async fn everything_that_waits_becomes_one_synced_batch() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new(dir.path(), None);
    let mut opened = open_on(Arc::clone(&disk) as Arc<dyn Disk>, CACHE).unwrap();
    let gate = disk.gate.lock().await;
    let mut durable = Vec::new();
    for index in 0..20 {
        durable.push(opened.append([entry(1, index)]).await);
    }
    drop(gate);
    for durable in durable {
        durable.await.unwrap().unwrap();
    }
    // The writer may have taken some before the gate closed behind it, and the others together.
    assert!(opened.log.metrics().fsync().count() <= 2);
    assert_eq!(opened.log.durable().next(), 20);
}

/// The story: RocksDB keeps running after a failed sync, and a retried sync succeeds although the pages it should
/// have written are gone.
#[tokio::test]
async fn after_a_failed_write_nothing_succeeds_any_more() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new(dir.path(), None);
    let mut opened = open_on(Arc::clone(&disk) as Arc<dyn Disk>, CACHE).unwrap();
    opened.write(entries(1, 0..3)).await;
    disk.fails.store(true, Ordering::SeqCst);
    let failed = opened.append(entries(1, 3..5)).await.await.unwrap().unwrap_err();
    assert!(failed.to_string().contains("no space left on device"), "{failed}");
    disk.fails.store(false, Ordering::SeqCst);
    assert!(opened.log.append(entries(1, 5..6), IOFlushed::noop()).await.is_err());
    assert!(opened.log.save_vote(&Vote::new(2, 1)).await.is_err());
    assert_eq!(opened.log.durable().next(), 3);
    assert_eq!(opened.log.durable().wait(3), None);
    assert!(matches!(opened.failure.get(), Some(Error::Io { operation: "writing", .. })));
    drop(opened);
    drop(disk);
    assert_eq!(open(dir.path()).unwrap().indexes().await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_stops_the_node_and_loses_nothing_that_was_acknowledged() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new(dir.path(), None);
    let config = Config::single(1, 1, dir.path());
    let node = Node::open_on(Arc::clone(&disk) as Arc<dyn Disk>, config, Positions::default()).await.unwrap();
    node.leadership().wait_for(|leadership| leadership.is_leader).await.unwrap();
    let acknowledged = node.propose("a".into()).await.unwrap();
    disk.fails.store(true, Ordering::SeqCst);
    assert_eq!(node.propose("b".into()).await, Err(ProposeError::Stopped));
    let failed = node.failed().await.to_string();
    assert!(failed.starts_with("writing in ") && failed.ends_with("no space left on device"), "{failed}");
    assert_eq!(node.shutdown().await.unwrap_err().to_string(), failed);
    drop(disk);
    assert_eq!(open(dir.path()).unwrap().indexes().await.last(), Some(&acknowledged.index));
}

#[tokio::test]
async fn a_process_killed_at_any_step_of_the_writer_keeps_what_it_acknowledged() {
    let (dir, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let disk = FaultyDisk::new(dir.path(), Some(copies.path().to_owned()));
    let mut opened = open_on(Arc::clone(&disk) as Arc<dyn Disk>, CACHE).unwrap();
    let steps = || *disk.steps.lock().unwrap();
    // The log as acknowledged so far, by the number of steps the writer had taken then.
    let mut acknowledged = BTreeMap::from([(0, (Vec::new(), None))]);
    let mut expected: Vec<LogEntry> = Vec::new();
    for round in 0..6u64 {
        let term = round + 1;
        opened.log.save_vote(&Vote::new_committed(term, 1)).await.unwrap();
        acknowledged.insert(steps(), (expected.clone(), Some(term)));
        if round % 2 == 1 {
            expected.pop();
            let last = expected.last().map(|entry| types::to_raft(entry.position()));
            opened.log.truncate_after(last).await.unwrap();
        }
        let start = expected.last().map_or(0, |entry| entry.index + 1);
        expected.extend(entries(term, start..start + 4));
        opened.write(entries(term, start..start + 4)).await;
        opened
            .log
            .save_committed(expected.last().map(|entry| types::to_raft(entry.position())))
            .await
            .unwrap();
        acknowledged.insert(steps(), (expected.clone(), Some(term)));
    }
    drop(opened);
    for step in 0..steps() {
        let copied = copies.path().join(step.to_string());
        let mut found = open(&copied).unwrap();
        let entries = found.all().await;
        let (before, term) = acknowledged.range(..=step).next_back().unwrap().1;
        let next = acknowledged.range(step + 1..).next().map(|(_, (after, _))| after);
        let is_before = entries == *before;
        let is_after = next.is_some_and(|after| entries == *after);
        // A truncation and the entries that replace what it removed may be written one after the other.
        let is_between = next.is_some_and(|after| {
            let common = before.iter().zip(after).take_while(|(before, after)| before == after).count();
            entries == before[..common]
        });
        assert!(is_before || is_after || is_between, "killed at step {step}, the log has {entries:?}");
        let vote = found.log.get_log_reader().await.read_vote().await.unwrap();
        assert!(vote.map(|vote| vote.leader_id.term) >= *term, "killed at step {step}, the vote is {vote:?}");
        let positions = found.log.positions();
        assert!(positions.committed <= positions.last);
    }
}

/// A log with three batches, and where in its newest file each begins and the last ends.
async fn three_batches(dir: &Path) -> (PathBuf, Vec<usize>) {
    let mut opened = open(dir).unwrap();
    let mut bounds = Vec::new();
    let file = files(dir, "log").pop().unwrap();
    for batch in 0..3 {
        bounds.push(intact_length(&file));
        opened.write((0..20).map(|n| entry_of(1, batch * 20 + n, 5000))).await;
    }
    bounds.push(intact_length(&file));
    // Closing would be an orderly end; a crash is a copy of the open files.
    let crashed = dir.join("crashed");
    copy(&dir.join("log"), &crashed.join("log"));
    (crashed.join("log").join(file.file_name().unwrap()), bounds)
}

/// RocksDB reserves space behind what it wrote, so the length of the file says nothing.
fn intact_length(file: &Path) -> usize {
    let bytes = fs::read(file).unwrap();
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

#[tokio::test]
async fn a_torn_tail_is_cut_off() {
    let dir = TempDir::new().unwrap();
    let (file, bounds) = three_batches(dir.path()).await;
    let bytes = fs::read(&file).unwrap();
    let crashed = dir.path().join("crashed");
    let cuts = (bounds[2]..bounds[3]).step_by(9973).chain([bounds[2] + 1, bounds[3] - 1]);
    for (n, cut) in cuts.enumerate() {
        for zeros in [false, true] {
            let torn = dir.path().join(format!("torn{n}{zeros}"));
            copy(&crashed, &torn);
            let mut bytes = bytes.clone();
            bytes.truncate(cut);
            if zeros {
                bytes.resize(bounds[3] + 4096, 0);
            }
            fs::write(torn.join("log").join(file.file_name().unwrap()), bytes).unwrap();
            let mut opened = open(&torn).unwrap();
            assert_eq!(opened.indexes().await, (0..40).collect::<Vec<_>>(), "cut at {cut}");
            opened.write([entry(2, 40)]).await;
            drop(opened);
            assert_eq!(open(&torn).unwrap().indexes().await.len(), 41);
        }
    }
}

#[tokio::test]
async fn a_last_batch_written_out_of_order_is_cut_off() {
    let dir = TempDir::new().unwrap();
    let (file, bounds) = three_batches(dir.path()).await;
    let mut bytes = fs::read(&file).unwrap();
    // The batch spans several blocks; its first page did not reach the disk, later ones did.
    bytes[bounds[2]..bounds[2] + 4096].fill(0);
    fs::write(&file, bytes).unwrap();
    let mut opened = open(&dir.path().join("crashed")).unwrap();
    assert_eq!(opened.indexes().await, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn damage_before_the_last_batch_is_refused_with_file_and_offset() {
    let dir = TempDir::new().unwrap();
    let (file, bounds) = three_batches(dir.path()).await;
    let intact = fs::read(&file).unwrap();
    for at in (bounds[1]..bounds[2]).step_by(7919) {
        let mut bytes = intact.clone();
        bytes[at] ^= 0x40;
        fs::write(&file, bytes).unwrap();
        match open(&dir.path().join("crashed")).err() {
            Some(Error::Corrupt { path, offset, .. }) => {
                assert_eq!((path, offset), (file.clone(), bounds[1] as u64), "damaged at {at}");
            }
            other => panic!("damaged at {at}, opening gives {other:?}"),
        }
    }
    fs::write(&file, intact).unwrap();
    assert_eq!(open(&dir.path().join("crashed")).unwrap().indexes().await.len(), 60);
}

/// The story: files that wait to be used again are not complete, nor in order. Looking at them alone, a log that was
/// written for long seemed damaged after every crash.
#[tokio::test]
async fn files_that_are_not_needed_any_more_need_not_be_intact() {
    let dir = TempDir::new().unwrap();
    let (file, bounds) = three_batches(dir.path()).await;
    let mut bytes = fs::read(&file).unwrap();
    bytes[bounds[1] + 100] ^= 1;
    let crashed = dir.path().join("crashed");
    // Opening moves the entries to a sorted file and begins a new write-ahead log.
    open(&crashed).unwrap().write([entry(1, 60)]).await;
    assert!(!file.exists());
    fs::write(&file, bytes).unwrap();
    assert!(recovery::survey(&crashed.join("log")).unwrap().suspicion.is_some());
    assert_eq!(open(&crashed).unwrap().indexes().await.len(), 61);
}

#[tokio::test]
async fn a_damaged_batch_at_the_end_of_a_file_is_damage_if_another_file_follows() {
    let dir = TempDir::new().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.write((0..20).map(|index| entry_of(1, index, 1 << 20))).await;
    let first = files(dir.path(), "log").pop().unwrap();
    opened.write((20..40).map(|index| entry_of(1, index, 1 << 20))).await;
    opened.write([entry(1, 40)]).await;
    assert!(files(dir.path(), "log").len() > 1);
    // The first file is still needed when its entries have not reached a sorted file.
    let crashed = dir.path().join("crashed");
    copy(&dir.path().join("log"), &crashed.join("log"));
    let first = crashed.join("log").join(first.file_name().unwrap());
    let end = intact_length(&first);
    let mut bytes = fs::read(&first).unwrap();
    bytes[end - 100] ^= 1;
    fs::write(&first, bytes).unwrap();
    match open(&crashed) {
        Err(Error::Corrupt { path, .. }) => assert_eq!(path, first),
        Err(other) => panic!("{other}"),
        // RocksDB was quick, and the damaged file not needed any more.
        Ok(mut opened) => assert_eq!(opened.indexes().await, (0..=40).collect::<Vec<_>>()),
    }
}

#[tokio::test]
async fn damage_in_a_sorted_file_is_refused_with_its_name() {
    let dir = TempDir::new().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.write((0..100).map(|index| entry_of(1, index, 1000))).await;
    drop(opened);
    // Opening moves what the write-ahead log holds into a sorted file.
    drop(open(dir.path()).unwrap());
    let largest =
        files(dir.path(), "sst").into_iter().max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    let refused = open(dir.path()).err().unwrap();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
    let name = largest.file_name().unwrap().to_str().unwrap();
    assert!(refused.to_string().contains(name), "{refused} does not name {name}");
    assert!(refused.to_string().contains("offset"), "{refused} names no offset");
}

#[tokio::test]
async fn purged_entries_give_back_their_space() {
    let dir = TempDir::new().unwrap();
    // Each opening moves the entries of the last run into a sorted file of their own.
    for run in 0..6 {
        let mut opened = open(dir.path()).unwrap();
        opened.write((run * 100..run * 100 + 100).map(|index| entry_of(1, index, 1000))).await;
    }
    let mut opened = open(dir.path()).unwrap();
    opened.log.purge(log_id(1, 499)).await.unwrap();
    opened.write([entry(1, 600)]).await;
    let size = || files(dir.path(), "sst").iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
    // Files can be dropped once they have moved to the last level, which happens in the background.
    while size() > 250_000 {
        opened.log.shared.disk.reclaim(500).unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(opened.indexes().await, (500..=600).collect::<Vec<_>>());
}
