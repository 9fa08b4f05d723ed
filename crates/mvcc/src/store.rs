//! Opening a keyspace, and handing out who reads and who writes it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use api::LeaseId;
use arc_swap::ArcSwap;
use backend::Backend;

use crate::compaction::{Compaction, Progress};
use crate::hash::CompactionHashes;
use crate::meta::{Saved, State};
use crate::pins::Pins;
use crate::tree::Tree;
use crate::view::{Shared, View, lock};
use crate::{Reader, Result, WriteTxn, restore};

/// A keyspace, and the right to change it: there is one per backend.
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    /// Where the readers find `shared`.
    current: Arc<ArcSwap<Shared>>,
    pub(crate) tree: Tree,
    pub(crate) state: State,
}

impl Store {
    /// Opens the keyspace in a backend, which may be empty. The index is built from the newest entry of each key; history is
    /// not read.
    ///
    /// # Errors
    /// The backend failed, or what it holds makes no sense.
    pub fn open(backend: Arc<dyn Backend>) -> Result<Self> {
        let (shared, tree, state) = load(backend)?;
        let current = Arc::new(ArcSwap::new(Arc::clone(&shared)));
        Ok(Self { shared, current, tree, state })
    }

    /// Goes over to the keyspace in another backend, as when another member's state has been installed. Readers see it from their next
    /// call on. What they have handed out before (a [`ReadTxn`](crate::ReadTxn), a stream) goes on with the old keyspace, whose backend is
    /// dropped with the last of them; a [`Compaction`] of it does nothing more.
    ///
    /// # Errors
    /// As [`open`](Self::open); then nothing has changed.
    pub fn replace(&mut self, backend: Arc<dyn Backend>) -> Result<()> {
        let (shared, tree, state) = load(backend)?;
        self.current.store(Arc::clone(&shared));
        let old = std::mem::replace(&mut self.shared, shared);
        old.replaced.store(true, Ordering::Release);
        (self.tree, self.state) = (tree, state);
        Ok(())
    }

    /// Somebody who reads what is committed.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { current: Arc::clone(&self.current) }
    }

    /// Begins a transaction.
    pub fn write(&mut self) -> WriteTxn<'_> {
        WriteTxn::new(self)
    }

    /// The compaction that was scheduled before the store was opened and has not deleted everything yet. Somebody should
    /// run it.
    #[must_use]
    pub fn interrupted_compaction(&self) -> Option<Compaction> {
        let revision = self.state.scheduled;
        let interrupted = lock(&self.shared.progress).saved.finished < revision;
        interrupted.then(|| Compaction { shared: Arc::clone(&self.shared), revision })
    }

    /// Visits every live key that goes with a lease, in ascending order.
    pub fn for_each_leased(&self, mut visit: impl FnMut(&[u8], LeaseId)) {
        for item in self.tree.iter(0) {
            let lease = item.meta().lease;
            if !lease.is_none() {
                visit(&item.key(), lease);
            }
        }
    }
}

fn load(backend: Arc<dyn Backend>) -> Result<(Arc<Shared>, Tree, State)> {
    let saved = Saved::load(&*backend)?;
    let state = restore::state(&*backend)?;
    let tree = restore::tree(&*backend, state.revision)?;
    let shared = Shared {
        backend,
        view: ArcSwap::from_pointee(View { tree: tree.clone(), revision: state.revision }),
        compact_revision: AtomicI64::new(state.scheduled),
        written: AtomicU64::new(state.written),
        deleted: AtomicU64::new(saved.deleted),
        failed: AtomicBool::new(false),
        replaced: AtomicBool::new(false),
        pins: Mutex::new(Pins::default()),
        progress: Mutex::new(Progress::resume(saved, state.scheduled)),
        hashes: Mutex::new(CompactionHashes::default()),
    };
    Ok((Arc::new(shared), tree, state))
}
