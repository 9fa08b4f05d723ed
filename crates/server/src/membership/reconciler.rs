//! What the log's own membership still lacks of what the members' records say, and the next step there.
//!
//! A new voter is recorded at once, but in the log it begins as a learner, so that a member that never comes costs nobody
//! anything; it votes when it has caught up. A voter that is removed is a learner of the log for a moment, so that it hears of
//! its removal; then it is dropped.
//!
//! ```text
//! MemberAdd ──► record: voter, log: learner ──(caught up)──► log: voter
//! MemberRemove ──► record: gone, log: learner ──(has heard, or 5 s)──► log: gone
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use api::etcdserverpb::Member;
use raftlog::{Change, Membership, Progress};

/// A new voter may vote when it lacks this many entries at most.
const CAUGHT_UP: u64 = 1000;
/// So long a member that is removed may take to hear of it.
const HEARING: Duration = Duration::from_secs(5);
/// So long after a removed member has got the entry, it has also heard that it is committed: a few heartbeats.
const HEARD: Duration = Duration::from_millis(500);

/// Remembers since when members are on their way out.
#[derive(Debug, Default)]
pub(super) struct Reconciler {
    leaving: BTreeMap<u64, Leaving>,
}

#[derive(Clone, Copy, Debug)]
struct Leaving {
    since: Duration,
    /// The entry of its removal is not behind this one.
    index: u64,
    /// When it was first seen to have that entry.
    informed: Option<Duration>,
}

/// What a leader sees of its cluster at one moment.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) now: Duration,
    pub(super) leader: u64,
    pub(super) records: &'a BTreeMap<u64, Member>,
    pub(super) membership: &'a Membership,
    pub(super) progress: &'a BTreeMap<u64, Progress>,
    /// Where the leader's log ends.
    pub(super) last: u64,
    /// Who answered longer ago than this does not work.
    pub(super) silence: Duration,
}

impl Seen<'_> {
    fn matched(&self, id: u64) -> Option<u64> {
        Some(self.progress.get(&id)?.matched?.index)
    }

    fn is_heard(&self, id: u64) -> bool {
        self.progress.get(&id).and_then(|p| p.acknowledged).is_some_and(|age| age < self.silence)
    }
}

impl Reconciler {
    /// The next change that the log's membership needs, if it needs any.
    pub(super) fn next(&mut self, seen: &Seen<'_>) -> Option<Change> {
        let Membership { voters, members } = seen.membership;
        self.leaving.retain(|id, _| members.contains_key(id) && !seen.records.contains_key(id));
        for (&id, member) in members {
            let change = match seen.records.get(&id) {
                Some(record) if !record.is_learner && !voters.contains(&id) => {
                    let caught_up = seen.matched(id).is_some_and(|index| index + CAUGHT_UP >= seen.last);
                    (caught_up && seen.is_heard(id)).then_some(Change::Promote { id })
                }
                Some(record) if record.peer_ur_ls != member.peer_urls => {
                    let peer_urls = record.peer_ur_ls.clone();
                    Some(Change::Update { id, member: raftlog::Member { peer_urls } })
                }
                Some(_) => None,
                None if id == seen.leader => Some(Change::Remove { id }),
                None if voters.contains(&id) => Some(Change::Demote { id }),
                None => self.has_heard(id, seen).then_some(Change::Remove { id }),
            };
            if change.is_some() {
                return change;
            }
        }
        None
    }

    fn has_heard(&mut self, id: u64, seen: &Seen<'_>) -> bool {
        let leaving =
            self.leaving.entry(id).or_insert(Leaving { since: seen.now, index: seen.last, informed: None });
        if leaving.informed.is_none() && seen.matched(id).is_some_and(|index| index >= leaving.index) {
            leaving.informed = Some(seen.now);
        }
        let waited = |since: Duration, patience: Duration| seen.now.saturating_sub(since) >= patience;
        leaving.informed.is_some_and(|informed| waited(informed, HEARD)) || waited(leaving.since, HEARING)
    }
}

#[cfg(test)]
mod tests {
    use raftlog::LogId;

    use super::*;

    /// A cluster of which member 1 leads, with its log at 5000.
    #[derive(Default)]
    struct World {
        records: BTreeMap<u64, Member>,
        membership: Membership,
        progress: BTreeMap<u64, Progress>,
        reconciler: Reconciler,
    }

    impl World {
        fn new() -> Self {
            let mut world = Self::default();
            (1..=3).for_each(|id| world.add(id, true, 5000));
            world
        }

        fn add(&mut self, id: u64, votes: bool, matched: u64) {
            let peer_urls = vec![format!("http://m{id}:1")];
            self.records.insert(id, Member { id, peer_ur_ls: peer_urls.clone(), ..Member::default() });
            self.membership.members.insert(id, raftlog::Member { peer_urls });
            if votes {
                self.membership.voters.insert(id);
            }
            self.hears(id, matched, Duration::ZERO);
        }

        fn hears(&mut self, id: u64, index: u64, ago: Duration) {
            let matched = Some(LogId { term: 1, index });
            self.progress.insert(id, Progress { matched, acknowledged: Some(ago) });
        }

        fn next(&mut self, millis: u64) -> Option<Change> {
            let seen = Seen {
                now: Duration::from_millis(millis),
                leader: 1,
                records: &self.records,
                membership: &self.membership,
                progress: &self.progress,
                last: 5000,
                silence: Duration::from_secs(1),
            };
            self.reconciler.next(&seen)
        }
    }

    #[test]
    fn a_cluster_that_is_as_recorded_needs_nothing() {
        assert_eq!(World::new().next(0), None);
    }

    #[test]
    fn a_new_voter_votes_when_it_has_caught_up_and_answers() {
        let mut world = World::new();
        world.add(4, false, 100);
        assert_eq!(world.next(0), None);
        world.hears(4, 4000, Duration::from_secs(2));
        assert_eq!(world.next(0), None, "it is silent");
        world.hears(4, 4000, Duration::ZERO);
        assert_eq!(world.next(0), Some(Change::Promote { id: 4 }));
        world.records.get_mut(&4).unwrap().is_learner = true;
        assert_eq!(world.next(0), None, "a learner stays one");
    }

    #[test]
    fn a_removed_member_goes_when_it_has_heard_of_it_or_does_not_answer() {
        for (index, gone_at) in [(5000, 500), (4999, 5000)] {
            let mut world = World::new();
            world.records.remove(&3);
            assert_eq!(world.next(0), Some(Change::Demote { id: 3 }));
            world.membership.voters.remove(&3);
            world.hears(3, index, Duration::ZERO);
            assert_eq!(world.next(0), None);
            assert_eq!(world.next(gone_at - 1), None);
            assert_eq!(world.next(gone_at), Some(Change::Remove { id: 3 }));
        }
    }

    #[test]
    fn a_removed_leader_goes_at_once() {
        let mut world = World::new();
        world.records.remove(&1);
        assert_eq!(world.next(0), Some(Change::Remove { id: 1 }));
    }

    #[test]
    fn recorded_urls_reach_the_log() {
        let mut world = World::new();
        world.records.get_mut(&2).unwrap().peer_ur_ls = vec!["http://new:1".to_owned()];
        let member = raftlog::Member { peer_urls: vec!["http://new:1".to_owned()] };
        assert_eq!(world.next(0), Some(Change::Update { id: 2, member }));
    }
}
