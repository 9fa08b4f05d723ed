//! What the parts of a running member share.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use api::etcdserverpb::ResponseHeader;
use api::{ClusterId, MemberId};
use backend::Backend;
use lease::Lessor;

use crate::apply::{Alarms, AppliedMeta, Members, Quota};
use crate::clock::Clock;
use crate::compactor::Compactions;
use crate::counters::Counters;
use crate::divergence::Divergence;
use crate::hashes::Hashes;
use crate::proposal::Proposals;
use crate::users::Users;
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
    pub(crate) users: Users,
    pub(crate) quota: Quota,
    pub(crate) proposals: Arc<Proposals>,
    pub(crate) watches: Watches,
    pub(crate) compactions: Compactions,
    pub(crate) applied: AppliedPosition,
    pub(crate) divergence: Divergence,
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
    /// Guards the hashes. Held only to look or change.
    history: Mutex<History>,
}

/// Rolling hashes of the applied entries: at the last of them, and where members are compared.
#[derive(Debug, Default)]
struct History {
    /// Nothing as long as there is no entry: an entry at index 0 is one.
    last: Option<(u64, u64)>,
    passed: Hashes,
}

/// How many hashes go with an answer to a heartbeat.
const BEACON: usize = 16;

impl AppliedPosition {
    pub(crate) fn new(meta: &AppliedMeta) -> Self {
        let position = Self::default();
        position.restart(meta);
        position
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, meta: &AppliedMeta, passed: Vec<(u64, u64)>) {
        self.term.store(meta.term(), Ordering::Release);
        self.index.store(meta.index(), Ordering::Release);
        let mut history = self.history();
        history.passed.extend(passed);
        history.last = meta.applied().last.map(|last| (last.index, meta.hash()));
    }

    /// Starts over from another state, which has its own past.
    fn restart(&self, meta: &AppliedMeta) {
        self.history().passed = Hashes::default();
        self.set(meta, meta.compared().into_iter().collect());
    }

    /// All hashes that are known: those passed lately, and that of the state as it is.
    pub(crate) fn hashes(&self) -> Hashes {
        let history = self.history();
        let mut hashes = history.passed.clone();
        hashes.extend(history.last);
        hashes
    }

    /// The newest of them, for a leader to look at.
    pub(crate) fn beacon(&self) -> Hashes {
        let history = self.history();
        let mut hashes = history.passed.newest(BEACON);
        hashes.extend(history.last);
        hashes
    }

    /// Whether another member has applied something else, as far as both are known.
    pub(crate) fn differs(&self, others: &Hashes) -> bool {
        let history = self.history();
        let own = |index| {
            let last = history.last.filter(|(last, _)| *last == index).map(|(_, hash)| hash);
            history.passed.at(index).or(last)
        };
        let mut known = others.iter().rev().filter_map(|(index, hash)| Some((hash, own(index)?)));
        known.next().is_some_and(|(hash, own)| hash != own)
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
        self.history().last.map_or(0, |(_, hash)| hash)
    }
}

impl Shared {
    /// Tells readers how far the state has come; called by the Applier after each batch.
    pub(crate) fn applied(&self, meta: &mut AppliedMeta) {
        let passed = meta.take_passed();
        self.applied.set(meta, passed);
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

#[cfg(test)]
mod tests {
    use raftlog::Entry;

    use super::*;

    /// A member that had just started said that its hash at entry 0 was 0, and the entry at index 0 has another.
    #[test]
    fn a_member_that_has_applied_nothing_differs_from_nobody() {
        let nothing = AppliedPosition::new(&AppliedMeta::default());
        assert_eq!((nothing.hashes(), nothing.beacon()), (Hashes::default(), Hashes::default()));
        let mut meta = AppliedMeta::default();
        meta.advance(&Entry { term: 1, index: 0, data: "founders".into(), membership: None });
        let first = AppliedPosition::new(&meta);
        assert!(first.hashes().at(0).is_some());
        assert!(!first.differs(&nothing.beacon()) && !nothing.differs(&first.beacon()));
    }
}
