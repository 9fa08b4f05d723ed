//! Whether a change of the members may be: etcd's checks, in its order and with its errors.
//!
//! The leader makes them before it proposes anything (etcd makes some of them when it applies), from what it knows at one moment.
//! etcd `server/etcdserver/server.go` (`mayAddMember` and its like), `api/membership/cluster.go`.

use std::collections::{BTreeMap, BTreeSet};

use api::etcdserverpb::Member;
use api::status::{self, Status};

/// A cluster, as its leader judges it.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) removed: BTreeSet<u64>,
    /// The leader, who judges.
    pub(super) leader: u64,
    /// Members that have lately answered the leader, and the leader itself.
    pub(super) connected: BTreeSet<u64>,
    /// Refuse what would leave too few members that work.
    pub(super) strict: bool,
    pub(super) learners_max: usize,
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

impl Cluster {
    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| !member.is_learner)
    }

    /// Voters that have been there once: those with a name.
    fn started(&self) -> usize {
        self.voters().filter(|member| !member.name.is_empty()).count()
    }

    fn connected_voters(&self) -> usize {
        self.voters().filter(|member| self.connected.contains(&member.id)).count()
    }

    fn uses(&self, url: &str, except: u64) -> bool {
        self.members.values().any(|member| member.id != except && member.peer_ur_ls.iter().any(|u| u == url))
    }

    pub(super) fn may_add(&self, new: &Member) -> Result<(), Status> {
        let voters = self.voters().count();
        if self.strict {
            let (after, started) = (voters + 1, self.started());
            // The second member of a cluster may always come, though none of two is a quorum.
            let is_second = after == 2 && started == 1;
            if !new.is_learner && !is_second && started < quorum(after) {
                tracing::warn!(
                    requested_member_add = ?new.peer_ur_ls,
                    "rejecting member add request; not enough healthy members"
                );
                return Err(status::MEMBER_NOT_ENOUGH_STARTED);
            }
            if voters > 1 && self.connected_voters() < quorum(after) {
                tracing::warn!(
                    requested_member_add = ?new.peer_ur_ls,
                    "rejecting member add request; local member has not been connected to all peers, reconfigure breaks active quorum"
                );
                return Err(status::UNHEALTHY);
            }
        }
        if self.removed.contains(&new.id) {
            return Err(status::MEMBER_NOT_FOUND);
        }
        if self.members.contains_key(&new.id) {
            return Err(status::MEMBER_EXIST);
        }
        if new.peer_ur_ls.iter().any(|url| self.uses(url, new.id)) {
            return Err(status::PEER_URL_EXIST);
        }
        let learners = self.members.len() - voters;
        if new.is_learner && learners + 1 > self.learners_max {
            return Err(status::TOO_MANY_LEARNERS);
        }
        Ok(())
    }

    pub(super) fn may_remove(&self, id: u64) -> Result<(), Status> {
        let is_learner = self.members.get(&id).is_some_and(|member| member.is_learner);
        if self.strict && !is_learner {
            self.may_lose_voter(id)?;
        }
        if self.members.contains_key(&id) { Ok(()) } else { Err(status::MEMBER_NOT_FOUND) }
    }

    fn may_lose_voter(&self, id: u64) -> Result<(), Status> {
        let voters = self.voters().count();
        let rest = self.voters().filter(|member| member.id != id);
        let (left, started) = rest.fold((0, 0), |(left, started), member| {
            (left + 1, started + usize::from(!member.name.is_empty()))
        });
        if started < quorum(left) {
            tracing::warn!(
                requested_member_remove_id = id,
                "rejecting member remove request; not enough healthy members"
            );
            return Err(status::MEMBER_NOT_ENOUGH_STARTED);
        }
        // One that is down is no part of the quorum that works.
        if id != self.leader && !self.connected.contains(&id) {
            return Ok(());
        }
        let connected = self.connected_voters();
        if connected.saturating_sub(1) < 1 + voters.saturating_sub(1) / 2 {
            tracing::warn!(
                requested_member_remove = id,
                active_peers = connected,
                "rejecting member remove request; local member has not been connected to all peers, reconfigure breaks active quorum"
            );
            return Err(status::UNHEALTHY);
        }
        Ok(())
    }

    pub(super) fn may_update(&self, id: u64, peer_urls: &[String]) -> Result<(), Status> {
        if !self.members.contains_key(&id) {
            return Err(status::MEMBER_NOT_FOUND);
        }
        if peer_urls.iter().any(|url| self.uses(url, id)) {
            return Err(status::PEER_URL_EXIST);
        }
        Ok(())
    }

    /// `matched` is how far the log of the member is, if the leader sends it any, and `last` where the leader's own log ends.
    pub(super) fn may_promote(&self, id: u64, matched: Option<u64>, last: u64) -> Result<(), Status> {
        let matched = matched.ok_or(status::MEMBER_NOT_FOUND)?;
        // As in etcd, nine tenths are enough.
        if matched.saturating_mul(10) < last.saturating_mul(9) {
            return Err(status::LEARNER_NOT_READY);
        }
        if self.strict && self.started() + 1 < quorum(self.voters().count() + 1) {
            return Err(status::MEMBER_NOT_ENOUGH_STARTED);
        }
        match self.members.get(&id) {
            None => Err(status::MEMBER_NOT_FOUND),
            Some(member) if !member.is_learner => Err(status::MEMBER_NOT_LEARNER),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members 1, 2, ..: `V` a voter that works, `v` one that is down, `n` one that was never started, `L` a learner. The first
    /// one leads.
    fn cluster(members: &str) -> Cluster {
        let mut cluster = Cluster { leader: 1, strict: true, learners_max: 1, ..Cluster::default() };
        for (id, kind) in (1..).zip(members.chars()) {
            let name = if kind == 'n' { String::new() } else { format!("m{id}") };
            let peer_ur_ls = vec![format!("http://m{id}:1")];
            let member = Member { id, name, peer_ur_ls, is_learner: kind == 'L', ..Member::default() };
            cluster.members.insert(id, member);
            if matches!(kind, 'V' | 'L') {
                cluster.connected.insert(id);
            }
        }
        cluster
    }

    fn new(id: u64, url: &str, is_learner: bool) -> Member {
        Member { id, peer_ur_ls: vec![url.to_owned()], is_learner, ..Member::default() }
    }

    #[test]
    fn a_voter_is_added_only_where_a_quorum_has_started_and_is_connected() {
        let add = |members: &str| cluster(members).may_add(&new(9, "http://new:1", false));
        for (members, expected) in [
            ("V", Ok(())),
            ("Vn", Err(status::MEMBER_NOT_ENOUGH_STARTED)),
            ("VV", Ok(())),
            ("Vv", Err(status::UNHEALTHY)),
            ("VVV", Ok(())),
            ("VVn", Err(status::MEMBER_NOT_ENOUGH_STARTED)),
            ("VVv", Err(status::UNHEALTHY)),
            // etcd #21640: one that is down is no reason to refuse where a quorum works.
            ("VVVVv", Ok(())),
            ("VVVvv", Err(status::UNHEALTHY)),
            ("VVVL", Ok(())),
        ] {
            assert_eq!(add(members), expected, "{members}");
            let loose = Cluster { strict: false, ..cluster(members) };
            assert_eq!(loose.may_add(&new(9, "http://new:1", false)), Ok(()), "{members}");
        }
    }

    #[test]
    fn a_learner_needs_connections_and_room_but_no_quorum_of_started() {
        let add = |members: &str| cluster(members).may_add(&new(9, "http://new:1", true));
        for (members, expected) in [
            ("V", Ok(())),
            ("VVn", Err(status::UNHEALTHY)),
            ("VVV", Ok(())),
            ("VVVL", Err(status::TOO_MANY_LEARNERS)),
        ] {
            assert_eq!(add(members), expected, "{members}");
        }
    }

    #[test]
    fn an_added_member_has_an_id_and_urls_of_its_own() {
        let mut cluster = cluster("VVV");
        cluster.removed.insert(8);
        assert_eq!(cluster.may_add(&new(8, "http://new:1", false)), Err(status::MEMBER_NOT_FOUND));
        assert_eq!(cluster.may_add(&new(2, "http://new:1", false)), Err(status::MEMBER_EXIST));
        assert_eq!(cluster.may_add(&new(9, "http://m2:1", false)), Err(status::PEER_URL_EXIST));
    }

    #[test]
    fn a_voter_is_removed_only_if_a_quorum_is_left() {
        for (members, id, expected) in [
            ("V", 1, Err(status::MEMBER_NOT_ENOUGH_STARTED)),
            ("VV", 1, Ok(())),
            ("VV", 2, Ok(())),
            ("VVV", 1, Ok(())),
            ("VVv", 3, Ok(())),
            ("VVv", 2, Err(status::UNHEALTHY)),
            ("VVn", 3, Ok(())),
            ("Vvv", 2, Ok(())),
            ("VVnn", 2, Err(status::MEMBER_NOT_ENOUGH_STARTED)),
            ("VVVL", 4, Ok(())),
            ("VVV", 9, Err(status::MEMBER_NOT_FOUND)),
        ] {
            assert_eq!(cluster(members).may_remove(id), expected, "{id} of {members}");
        }
        let loose = Cluster { strict: false, ..cluster("VVv") };
        assert_eq!(loose.may_remove(2), Ok(()));
        assert_eq!(loose.may_remove(9), Err(status::MEMBER_NOT_FOUND));
    }

    #[test]
    fn an_update_needs_a_member_and_urls_that_no_other_has() {
        let urls = |url: &str| vec![url.to_owned()];
        let cluster = cluster("VVV");
        assert_eq!(cluster.may_update(2, &urls("garbage")), Ok(()));
        assert_eq!(cluster.may_update(2, &urls("http://m2:1")), Ok(()));
        assert_eq!(cluster.may_update(2, &urls("http://m3:1")), Err(status::PEER_URL_EXIST));
        assert_eq!(cluster.may_update(9, &urls("http://m9:1")), Err(status::MEMBER_NOT_FOUND));
    }

    #[test]
    fn a_learner_is_promoted_when_it_has_nine_tenths_of_the_log() {
        let (few, cluster) = (cluster("VnnnL"), cluster("VVL"));
        for (id, matched, expected) in [
            (3, Some(90), Ok(())),
            (3, Some(89), Err(status::LEARNER_NOT_READY)),
            (3, None, Err(status::MEMBER_NOT_FOUND)),
            (2, Some(100), Err(status::MEMBER_NOT_LEARNER)),
            (9, Some(100), Err(status::MEMBER_NOT_FOUND)),
        ] {
            assert_eq!(cluster.may_promote(id, matched, 100), expected, "{id} at {matched:?}");
        }
        assert_eq!(few.may_promote(5, Some(100), 100), Err(status::MEMBER_NOT_ENOUGH_STARTED));
    }
}
