//! Forgetting history.
//!
//! A compaction at revision `c` leaves of every key the newest change up to `c`, unless that is a tombstone from before `c`. Each
//! record names the change it supersedes, so what has to go is found by one scan over the requests after the last compaction:
//!
//! ```text
//! last compaction: 4        put a   put b   put a   del b   put a   put c
//!                             2       3       5       6       7       9
//!                                             └─ supersedes 2
//! compaction at 8: scan 4..=8                         └─ supersedes 3, and goes itself
//!                                                             └─ supersedes 5
//! left:                                                       7       9
//! ```
//!
//! A tombstone exactly at `c` stays, because a watch may start at `c` and must see the delete. The next compaction, which begins its
//! scan with request `c`, takes it away.
//!
//! # Beside the writer
//!
//! The compaction's revision is committed and shown to readers first; from then on nobody is allowed to read what is about to
//! go. Then chunks of deletes are committed from any thread, while the writer commits its own batches. That is safe because the two
//! never touch the same record: compaction deletes records and entries of revisions up to `c`, all of which the writer wrote before, and
//! the writer only adds later ones; and each has its own record in the `meta` table. Readers of current state look up what is live, which
//! compaction leaves alone; readers of an older view see in [`Shared::compact_revision`] why something is missing.
//!
//! How far it has come is part of each chunk's batch, so after a crash it goes on where the disk says it was, and counts no byte
//! twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use backend::{Table, WriteTx};

use crate::hash::{CompactionHash, Superseded};
use crate::history::corrupt_record;
use crate::key_value::KeyValue;
use crate::meta::Saved;
use crate::record::{self, Record};
use crate::view::{Shared, lock};
use crate::{Error, Result, Revision, index_entry};

/// How many times more records a chunk may look at than it may delete.
const SCANNED_PER_DELETED: usize = 16;

/// A compaction that has been scheduled and must be carried out, at leisure, on any thread.
///
/// Dropping it, or never running it, loses nothing but space: the store [hands it out again](crate::Store::interrupted_compaction) when it is opened.
#[derive(Clone, Debug)]
pub struct Compaction {
    pub(crate) shared: Arc<Shared>,
    pub(crate) revision: i64,
}

impl Compaction {
    /// The revision compacted at.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether everything has been deleted that had to be.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        lock(&self.shared.progress).saved.finished >= self.revision
    }

    /// Deletes about `limit` changes at most and returns whether there is more to do. Until the transaction that scheduled the
    /// compaction has been committed, it does nothing. Pauses between chunks are the caller's business. There is nothing to do in a
    /// keyspace that has been [replaced](crate::Store::replace).
    ///
    /// # Errors
    /// The backend failed or is corrupt, or the store had failed before.
    pub fn run_chunk(&self, limit: usize) -> Result<bool> {
        if self.shared.replaced.load(Ordering::Acquire) {
            return Ok(false);
        }
        self.shared.check_failed()?;
        if self.shared.compact_revision() < self.revision {
            return Ok(true);
        }
        let mut progress = lock(&self.shared.progress);
        if progress.saved.finished < self.revision {
            progress.advance(&self.shared, self.revision, limit.max(1))?;
        }
        Ok(progress.saved.finished < self.revision)
    }
}

/// How far compaction is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) saved: Saved,
    /// Compactions up to here may have begun before the store was opened: what they would hash is partly gone.
    interrupted: i64,
    stage: Option<Stage>,
}

#[derive(Debug)]
enum Stage {
    /// Finding out which changes are superseded, for the hash.
    Collect { from: Revision, superseded: Superseded },
    /// Hashing what there is before anything is deleted.
    Hash { from: Revision, hash: CompactionHash },
    /// Deleting; `saved` knows where.
    Delete { hash: Option<CompactionHash> },
}

impl Progress {
    /// Goes on where the disk says it was; `scheduled` is the last compaction that was asked for.
    pub(crate) fn resume(saved: Saved, scheduled: i64) -> Self {
        let interrupted = if saved.finished < scheduled { scheduled } else { -1 };
        Self { saved, interrupted, stage: None }
    }

    fn advance(&mut self, shared: &Shared, revision: i64, limit: usize) -> Result<()> {
        let scanned = limit.saturating_mul(SCANNED_PER_DELETED);
        self.stage = Some(match self.stage.take().unwrap_or_else(|| self.begin(revision)) {
            Stage::Collect { from, mut superseded } => {
                match scan(shared, from, self.saved.target, scanned, |revision, record, _| {
                    superseded.add(revision, record);
                    Ok(true)
                })? {
                    Some(from) => Stage::Collect { from, superseded },
                    None => {
                        let hash = CompactionHash::new(self.saved.finished, self.saved.target, superseded);
                        Stage::Hash { from: Revision::default(), hash }
                    }
                }
            }
            Stage::Hash { from, mut hash } => {
                match scan(shared, from, self.saved.target, scanned, |revision, record, _| {
                    hash.add(revision, record);
                    Ok(true)
                })? {
                    Some(from) => Stage::Hash { from, hash },
                    None => Stage::Delete { hash: Some(hash) },
                }
            }
            Stage::Delete { hash } => match self.delete(shared, limit, scanned)? {
                true => Stage::Delete { hash },
                false => {
                    if let Some(hash) = hash {
                        lock(&shared.hashes).add(hash.finish());
                    }
                    return Ok(());
                }
            },
        });
        Ok(())
    }

    fn begin(&mut self, revision: i64) -> Stage {
        if self.saved.target > self.saved.finished {
            return Stage::Delete { hash: None };
        }
        let from = Revision::new(self.saved.finished.max(0), 0);
        self.saved.target = revision;
        self.saved.position = from;
        if revision <= self.interrupted {
            return Stage::Delete { hash: None };
        }
        Stage::Collect { from, superseded: Superseded::default() }
    }

    /// Deletes a chunk, and returns whether there is more.
    fn delete(&mut self, shared: &Shared, limit: usize, scanned: usize) -> Result<bool> {
        let mut tx = shared.backend.begin();
        let (mut deleted, mut bytes) = (0, 0);
        let Saved { finished, target, position, .. } = self.saved;
        let mut entry = Vec::new();
        let next = scan(shared, position, target, scanned, |revision, record, place| {
            let key = KeyValue::decode(record.kv).ok_or_else(|| corrupt_record(place))?.key;
            let mut remove = |revision: Revision, len: u64| {
                remove(&mut tx, key, revision, &mut entry);
                deleted += 1;
                bytes += len;
            };
            // The compaction before has been over this request; only its tombstones were left.
            if let Some(predecessor) = record.predecessor.filter(|_| revision.main() > finished) {
                remove(predecessor.revision, predecessor.len + Revision::LEN as u64);
            }
            if record.tombstone && revision.main() < target {
                remove(revision, record::accounted(record.kv.len()));
            }
            Ok(deleted < limit)
        })?;
        let mut saved = Saved { deleted: self.saved.deleted.saturating_add(bytes), ..self.saved };
        match next {
            Some(next) => saved.position = next,
            None => saved.finished = target,
        }
        saved.store(&mut tx);
        shared.backend.commit(tx).inspect_err(|_| shared.failed.store(true, Ordering::Release))?;
        shared.deleted.store(saved.deleted, Ordering::Release);
        self.saved = saved;
        Ok(next.is_some())
    }
}

fn remove(tx: &mut WriteTx, key: &[u8], revision: Revision, entry: &mut Vec<u8>) {
    tx.delete(Table::Rev, &revision.to_bytes());
    entry.clear();
    index_entry::encode_entry(key, revision, entry);
    tx.delete(Table::Index, entry);
}

/// Looks at some records from `from` up to request `target`, until `visit` has had enough. Returns where to go on, or `None` at the end.
fn scan(
    shared: &Shared,
    from: Revision,
    target: i64,
    limit: usize,
    mut visit: impl FnMut(Revision, &Record<'_>, &[u8]) -> Result<bool>,
) -> Result<Option<Revision>> {
    let to = Revision::new(target.saturating_add(1), 0).to_bytes();
    let mut records = shared.backend.scan(Table::Rev, &from.to_bytes(), Some(&to))?;
    for _ in 0..limit {
        let Some((key, value)) = records.next()? else { return Ok(None) };
        let revision = Revision::from_bytes(key).ok_or_else(|| corrupt_record(key))?;
        let record = Record::decode(value).ok_or_else(|| corrupt_record(key))?;
        if !visit(revision, &record, key)? {
            return Ok(Some(Revision::new(revision.main(), revision.sub() + 1)));
        }
    }
    match records.next()? {
        None => Ok(None),
        Some((key, _)) => Revision::from_bytes(key).map(Some).ok_or_else(|| corrupt_record(key)),
    }
}

/// Checks a revision against what a compaction may ask for.
///
/// # Errors
/// It is compacted already, or has not happened yet.
pub(crate) fn check(revision: i64, scheduled: i64, now: i64) -> Result<()> {
    if revision <= scheduled {
        return Err(Error::Compacted);
    }
    if revision > now { Err(Error::FutureRevision) } else { Ok(()) }
}
