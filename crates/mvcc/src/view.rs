//! What readers, the writer and compaction share.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use backend::Backend;

use crate::compaction::Progress;
use crate::hash::CompactionHashes;
use crate::pins::Pins;
use crate::tree::Tree;
use crate::{Error, Result};

/// The keyspace as of one commit.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) tree: Tree,
    pub(crate) revision: i64,
}

/// Everything about a keyspace that more than one thread touches.
///
/// No two of the locks are held together.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) backend: Arc<dyn Backend>,
    /// The last commit. The writer stores, readers load.
    pub(crate) view: ArcSwap<View>,
    /// The last scheduled compaction that is committed, −1 for none. It is stored after the view of its commit, and nothing is
    /// deleted for it before; so whoever misses a record and then reads this knows why.
    pub(crate) compact_revision: AtomicI64,
    /// Bytes of all records ever written, by the writer's count.
    pub(crate) written: AtomicU64,
    /// Bytes of all records ever deleted, by compaction's count.
    pub(crate) deleted: AtomicU64,
    /// A write has failed.
    pub(crate) failed: AtomicBool,
    /// Another keyspace has taken this one's place; only readers from before still see it.
    pub(crate) replaced: AtomicBool,
    /// Roots that pagination may come back to.
    pub(crate) pins: Mutex<Pins>,
    /// How far compaction is. Whoever holds it compacts.
    pub(crate) progress: Mutex<Progress>,
    /// Hashes taken by the last compactions.
    pub(crate) hashes: Mutex<CompactionHashes>,
}

/// A panic under one of our locks leaves nothing half done that matters: each is replaced as a whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn compact_revision(&self) -> i64 {
        self.compact_revision.load(Ordering::Acquire)
    }

    /// # Errors
    /// The revision has been compacted.
    pub(crate) fn check_compacted(&self, revision: i64) -> Result<()> {
        if revision < self.compact_revision() { Err(Error::Compacted) } else { Ok(()) }
    }

    pub(crate) fn check_failed(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) { Err(Error::Failed) } else { Ok(()) }
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        // Deleted first: a record is written before it is deleted, so the difference is never negative.
        let deleted = self.deleted.load(Ordering::Acquire);
        self.written.load(Ordering::Acquire).saturating_sub(deleted)
    }
}
