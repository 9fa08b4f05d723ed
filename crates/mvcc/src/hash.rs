//! etcd's HashKV: a CRC-32C over the history, which two members, or a member of etcd and one of ours, can compare.
//!
//! Hashed are the stored changes up to a revision, each as etcd's own storage key and message. What compaction has deleted cannot be
//! hashed, and what it is about to delete must not be; so of the changes up to the compacted revision only those count that are in
//! the keep set, the newest change of every key that lives at the hashed revision. etcd forgets that rule if no key lives at all,
//! and so do we.
//!
//! The keep set is not built (it is as large as the keyspace). Each record names the change it supersedes, so what is *not* in the
//! set is what the records after the last finished compaction supersede; that is as large as the history.

use std::collections::VecDeque;

use backend::Table;

use crate::history::corrupt_record;
use crate::record::Record;
use crate::view::{Shared, lock};
use crate::{Error, Result, Revision};

/// How many hashes of compactions are remembered.
const COMPACTION_HASHES_MAX: usize = 10;
/// What every hash begins with: the name of etcd's bucket.
const SEED: &[u8] = b"key";

/// A hash of history, and of which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// The hash.
    pub hash: u32,
    /// The compacted revision it was taken with, −1 if there was none.
    pub compact_revision: i64,
    /// The last revision in it.
    pub hash_revision: i64,
}

/// The changes that are superseded by others up to some revision.
#[derive(Debug, Default)]
pub(crate) struct Superseded(Vec<Revision>);

impl Superseded {
    pub(crate) fn add(&mut self, _: Revision, record: &Record<'_>) {
        self.0.extend(record.predecessor.map(|predecessor| predecessor.revision));
    }
}

/// The hash of a history that comes in order.
#[derive(Debug)]
pub(crate) struct HistoryHash {
    compact_revision: i64,
    revision: i64,
    /// Of tombstones, only those of this request are in the keep set.
    kept_tombstones: Option<i64>,
    superseded: std::iter::Peekable<std::vec::IntoIter<Revision>>,
    /// If some change is in the keep set.
    kept: u32,
    /// If none is; `None` once one is known to be.
    all: Option<u32>,
}

/// The hash that a compaction takes before it deletes.
pub(crate) type CompactionHash = HistoryHash;

impl HistoryHash {
    /// The hash of a compaction: here tombstones at the compacted revision are kept.
    pub(crate) fn new(compact_revision: i64, revision: i64, superseded: Superseded) -> Self {
        Self::with(compact_revision, revision, superseded, Some(revision))
    }

    fn with(
        compact_revision: i64,
        revision: i64,
        superseded: Superseded,
        kept_tombstones: Option<i64>,
    ) -> Self {
        let mut superseded = superseded.0;
        superseded.sort_unstable();
        let seed = crc32c::crc32c(SEED);
        let superseded = superseded.into_iter().peekable();
        Self { compact_revision, revision, kept_tombstones, superseded, kept: seed, all: Some(seed) }
    }

    pub(crate) fn add(&mut self, revision: Revision, record: &Record<'_>) {
        if revision.main() > self.revision {
            return;
        }
        let keep = !self.is_superseded(revision)
            && (!record.tombstone || self.kept_tombstones == Some(revision.main()));
        if keep {
            self.all = None;
        }
        if revision.main() == self.compact_revision && record.tombstone {
            return;
        }
        if let Some(all) = &mut self.all {
            *all = append(*all, revision, record);
        }
        if keep || revision.main() > self.compact_revision {
            self.kept = append(self.kept, revision, record);
        }
    }

    fn is_superseded(&mut self, revision: Revision) -> bool {
        while self.superseded.next_if(|superseded| *superseded < revision).is_some() {}
        self.superseded.next_if_eq(&revision).is_some()
    }

    pub(crate) fn finish(self) -> KvHash {
        KvHash {
            hash: self.all.unwrap_or(self.kept),
            compact_revision: self.compact_revision,
            hash_revision: self.revision,
        }
    }
}

fn append(hash: u32, revision: Revision, record: &Record<'_>) -> u32 {
    let hash = if record.tombstone {
        crc32c::crc32c_append(hash, &revision.etcd_tombstone_key())
    } else {
        crc32c::crc32c_append(hash, &revision.etcd_key())
    };
    crc32c::crc32c_append(hash, record.kv)
}

/// The hashes of the last compactions, which are answered even when their revision is compacted. etcd answers the hash of a
/// compaction at revision 0 to whoever asks for the current one; we do not.
#[derive(Debug, Default)]
pub(crate) struct CompactionHashes(VecDeque<KvHash>);

impl CompactionHashes {
    pub(crate) fn add(&mut self, hash: KvHash) {
        if self.0.len() == COMPACTION_HASHES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(hash);
    }

    pub(crate) fn all(&self) -> Vec<KvHash> {
        self.0.iter().copied().collect()
    }

    fn find(&self, revision: i64) -> Option<KvHash> {
        self.0.iter().find(|hash| revision > 0 && hash.hash_revision == revision).copied()
    }
}

pub(crate) fn hash_kv(shared: &Shared, asked: i64) -> Result<KvHash> {
    if let Some(hash) = lock(&shared.hashes).find(asked) {
        return Ok(hash);
    }
    let finished = lock(&shared.progress).saved.finished;
    // In this order: the snapshot has everything up to the revision, and nothing is missing from it but what the compacted
    // revision, which is read last, accounts for.
    let (revision, snapshot, compact_revision) = loop {
        let now = shared.view.load().revision;
        let revision = if asked == 0 { now } else { asked };
        let snapshot = shared.backend.read()?;
        let compact_revision = shared.compact_revision();
        if revision > now {
            return Err(Error::FutureRevision);
        }
        if revision < 0 || revision >= compact_revision {
            break (revision, snapshot, compact_revision);
        }
        if asked > 0 {
            return Err(Error::Compacted);
        }
    };
    let end = Revision::new(revision.saturating_add(1).max(0), 0);
    let each = |from: Revision, visit: &mut dyn FnMut(Revision, &Record<'_>)| -> Result<()> {
        let mut records = snapshot.scan(Table::Rev, &from.to_bytes(), Some(&end.to_bytes()))?;
        while let Some((key, value)) = records.next()? {
            let revision = Revision::from_bytes(key).ok_or_else(|| corrupt_record(key))?;
            visit(revision, &Record::decode(value).ok_or_else(|| corrupt_record(key))?);
        }
        Ok(())
    };
    let mut superseded = Superseded::default();
    each(Revision::new(finished.max(0), 0), &mut |revision, record| superseded.add(revision, record))?;
    let mut hash = HistoryHash::with(compact_revision, revision, superseded, None);
    each(Revision::default(), &mut |revision, record| hash.add(revision, record))?;
    Ok(hash.finish())
}
