//! Whether this member is its cluster's only one, and leads it: then nobody else can have acknowledged anything,
//! and a read needs to ask nobody.
//!
//! This must never be believed for too long. So it does not come from openraft's metrics, which lag, but ends in
//! the very calls with which openraft ends it: appending a membership, saving a vote. The metrics only begin it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::types::{Membership, Vote};

#[derive(Debug)]
pub(crate) struct SoleVoter {
    id: u64,
    leads: AtomicBool,
    newest: Mutex<Newest>,
}

/// What openraft wrote last, or is just writing.
#[derive(Debug, Default)]
struct Newest {
    vote: Option<Vote>,
    /// The index of the newest entry with a membership, if one was written since the start.
    membership: Option<u64>,
}

impl SoleVoter {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, leads: AtomicBool::new(false), newest: Mutex::default() }
    }

    /// A membership is about to be appended; it counts from now on.
    pub(crate) fn membership_appended(&self, index: u64, membership: &Membership) {
        let mut newest = self.newest();
        newest.membership = Some(index);
        if !self.is_alone(membership) {
            self.leads.store(false, Ordering::SeqCst);
        }
    }

    /// A vote is about to be saved.
    pub(crate) fn vote_changes(&self, vote: &Vote) {
        let mut newest = self.newest();
        newest.vote = Some(*vote);
        if vote.leader_id.voted_for != self.id {
            self.leads.store(false, Ordering::SeqCst);
        }
    }

    /// openraft's metrics say that this member leads the given term with the given membership, and everything
    /// up to the first entry of that term has been applied.
    pub(crate) fn begin(&self, term: u64, index: Option<u64>, membership: &Membership) {
        let newest = self.newest();
        let vote_is_newest = newest
            .vote
            .is_some_and(|vote| vote.leader_id.term == term && vote.leader_id.voted_for == self.id);
        let membership_is_newest = newest.membership.is_none_or(|newest| Some(newest) == index);
        if vote_is_newest && membership_is_newest && self.is_alone(membership) {
            self.leads.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn leads(&self) -> bool {
        self.leads.load(Ordering::SeqCst)
    }

    fn is_alone(&self, membership: &Membership) -> bool {
        membership.nodes().all(|(&id, _)| id == self.id) && membership.voter_ids().eq([self.id])
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::config::Member;

    fn membership(voters: &[u64], members: &[u64]) -> Membership {
        let members: BTreeMap<u64, Member> = members.iter().map(|&id| (id, Member::default())).collect();
        Membership::new(vec![voters.iter().copied().collect::<BTreeSet<_>>()], members).unwrap()
    }

    fn leading() -> SoleVoter {
        let sole = SoleVoter::new(1);
        sole.vote_changes(&Vote::new_committed(3, 1));
        sole.membership_appended(0, &membership(&[1], &[1]));
        sole.begin(3, Some(0), &membership(&[1], &[1]));
        assert!(sole.leads());
        sole
    }

    #[test]
    fn it_ends_when_another_member_is_appended_and_stale_metrics_do_not_bring_it_back() {
        for (voters, members) in [(&[1, 2][..], &[1, 2]), (&[1], &[1, 2])] {
            let sole = leading();
            sole.membership_appended(8, &membership(voters, members));
            assert!(!sole.leads());
            sole.begin(3, Some(0), &membership(&[1], &[1]));
            assert!(!sole.leads());
            sole.membership_appended(9, &membership(&[1], &[1]));
            sole.begin(3, Some(9), &membership(&[1], &[1]));
            assert!(sole.leads());
        }
    }

    #[test]
    fn it_ends_when_somebody_else_gets_the_vote() {
        let sole = leading();
        sole.vote_changes(&Vote::new(4, 2));
        assert!(!sole.leads());
        sole.begin(3, Some(0), &membership(&[1], &[1]));
        assert!(!sole.leads());
    }
}
