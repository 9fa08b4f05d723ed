//! What the parts of a running member share.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use api::etcdserverpb::ResponseHeader;
use api::{ClusterId, MemberId};
use backend::Backend;
use lease::Lessor;

use crate::apply::{Alarms, AppliedMeta, Members, Quota};
use crate::clock::Clock;
use crate::compactor::Compactions;
use crate::counters::Counters;
use crate::proposal::Proposals;
use crate::watches::Watches;

/// State that the Applier writes and everybody else reads, and the ways to ask for more.
pub(crate) struct Shared {
    pub(crate) member_id: MemberId,
    pub(crate) cluster_id: ClusterId,
    pub(crate) clock: Clock,
    pub(crate) reader: mvcc::Reader,
    pub(crate) files: Files,
    pub(crate) lessor: Lessor,
    pub(crate) alarms: Alarms,
    pub(crate) members: Members,
    pub(crate) quota: Quota,
    pub(crate) proposals: Arc<Proposals>,
    pub(crate) watches: Watches,
    pub(crate) compactions: Compactions,
    pub(crate) applied: AppliedPosition,
    pub(crate) counters: Counters,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("member_id", &self.member_id).finish_non_exhaustive()
    }
}

/// What holds the state now: another member's may take its place.
#[derive(Debug)]
pub(crate) struct Files(RwLock<Arc<dyn Backend>>);

impl Files {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self(RwLock::new(backend))
    }

    /// The backend as of now; not to be kept for long.
    pub(crate) fn get(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes over to another backend; called by the Applier only.
    pub(crate) fn replace(&self, backend: Arc<dyn Backend>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = backend;
    }
}

/// Where the state stands in the log.
#[derive(Debug, Default)]
pub(crate) struct AppliedPosition {
    term: AtomicU64,
    index: AtomicU64,
    hash: AtomicU64,
    /// Guards positions that were passed lately, with the hash at each, ascending. Held only to look or add.
    passed: Mutex<VecDeque<(u64, u64)>>,
}

/// How many passed positions are remembered, for members that are behind to be compared at.
const PASSED_MAX: usize = 512;

impl AppliedPosition {
    pub(crate) fn new(meta: &AppliedMeta) -> Self {
        let position = Self::default();
        position.set(meta);
        position
    }

    fn set(&self, meta: &AppliedMeta) {
        self.term.store(meta.term(), Ordering::Release);
        self.index.store(meta.index(), Ordering::Release);
        self.hash.store(meta.hash(), Ordering::Release);
    }

    fn pass(&self, positions: Vec<(u64, u64)>) {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.extend(positions);
        let surplus = passed.len().saturating_sub(PASSED_MAX);
        passed.drain(..surplus);
    }

    /// Starts over from another state, which has its own past.
    fn restart(&self, meta: &AppliedMeta) {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.set(meta);
    }

    /// Positions that were passed lately, with the hash at each, ascending.
    pub(crate) fn hashes(&self) -> Vec<(u64, u64)> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Term of the last applied entry.
    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// Index of the last applied entry.
    pub(crate) fn index(&self) -> u64 {
        self.index.load(Ordering::Acquire)
    }

    /// Rolling hash of all applied entries.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.load(Ordering::Acquire)
    }
}

impl Shared {
    /// Tells readers how far the state has come; called by the Applier after each batch.
    pub(crate) fn applied(&self, meta: &mut AppliedMeta) {
        let passed = meta.take_passed();
        if !passed.is_empty() {
            self.applied.pass(passed);
        }
        self.applied.set(meta);
    }

    /// As [`applied`](Self::applied), when the state was replaced.
    pub(crate) fn installed(&self, meta: &AppliedMeta) {
        self.applied.restart(meta);
    }

    /// The header of an answer at `revision`.
    pub(crate) fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id.get(),
            member_id: self.member_id.get(),
            revision,
            raft_term: self.applied.term(),
        }
    }

    /// The header of an answer at the store's current revision.
    pub(crate) fn header_now(&self) -> ResponseHeader {
        self.header(self.reader.revision())
    }
}
