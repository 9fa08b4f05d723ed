//! What a leader keeps an eye on: the members' versions, and whether all have applied the same.
//!
//! Every few seconds it asks each member how it is. The least version becomes the cluster's. The hashes of what has been applied are
//! compared at an index that all have passed: a member whose hash differs from that of the majority has diverged, and the
//! CORRUPT alarm is raised for it, which stops the cluster from changing keys until somebody has looked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::{AlarmRequest, AlarmType};
use api::internal::peer_request::Request;
use api::internal::peer_response::Response;
use api::internal::{MemberStatus, MemberStatusRequest};
use raftlog::Node;

use crate::calls::Calls;
use crate::member::Shared;
use crate::proposal::Command;
use crate::versions;

/// How often members are asked; etcd `server/etcdserver/server.go` (`monitorVersionInterval`).
const INTERVAL: Duration = Duration::from_secs(4);

/// Asks members how they are whenever this one leads.
pub(crate) async fn run(shared: Arc<Shared>, node: Node, calls: Calls) {
    let mut leadership = node.leadership();
    loop {
        if leadership.borrow_and_update().is_leader {
            look(&shared, &calls).await;
        }
        // A new leader looks at once.
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

async fn look(shared: &Arc<Shared>, calls: &Calls) {
    let members = shared.members.list();
    let asked = members.iter().map(|member| async {
        match calls.ask(member.id, Request::MemberStatus(MemberStatusRequest {})).await {
            Ok(Response::MemberStatus(status)) => (member.id, Some(status)),
            _ => (member.id, None),
        }
    });
    let statuses: BTreeMap<u64, Option<MemberStatus>> =
        futures_util::future::join_all(asked).await.into_iter().collect();
    let versions: Vec<Option<String>> =
        statuses.values().map(|status| status.as_ref().map(|status| status.version.clone())).collect();
    versions::agree(shared, &versions).await;
    let hashes = statuses.iter().filter_map(|(id, status)| {
        let hashes = status.as_ref()?.hashes.iter().map(|at| (at.index, at.hash));
        Some((*id, hashes.collect()))
    });
    for corrupt in diverged(&hashes.collect(), members.len()) {
        tracing::error!(
            member_id = format!("{corrupt:x}"),
            "a member has applied other entries than the rest"
        );
        raise_corrupt(shared, corrupt).await;
    }
}

/// Raises the alarm that a member's data is corrupt, unless it is raised.
pub(crate) async fn raise_corrupt(shared: &Arc<Shared>, member_id: u64) {
    let raised = shared.alarms.list(AlarmType::Corrupt);
    if raised.iter().any(|alarm| alarm.member_id == member_id) {
        return;
    }
    let alarm = i32::from(AlarmType::Corrupt);
    let request = AlarmRequest { action: AlarmAction::Activate.into(), member_id, alarm };
    // It is found again soon if this fails.
    drop(shared.proposals.propose(Command::alarm(&request)).await);
}

/// Members that differ from the majority at the newest index that most of those who answered have passed; 0, for nobody in
/// particular, where no majority of all members agrees.
fn diverged(hashes: &BTreeMap<u64, BTreeMap<u64, u64>>, members: usize) -> BTreeSet<u64> {
    let mut passed_by: BTreeMap<u64, usize> = BTreeMap::new();
    for index in hashes.values().flat_map(BTreeMap::keys) {
        *passed_by.entry(*index).or_default() += 1;
    }
    let newest = passed_by.into_iter().max_by_key(|(index, members)| (*members, *index));
    let Some((index, _)) = newest else { return BTreeSet::new() };
    let at: BTreeMap<u64, u64> =
        hashes.iter().filter_map(|(id, hashes)| Some((*id, *hashes.get(&index)?))).collect();
    minority(&at, members)
}

/// Those whose value is not that of a majority of all `members`; 0 alone if there is no such value but more than one; nobody if
/// all agree.
pub(crate) fn minority<T: Ord>(values: &BTreeMap<u64, T>, members: usize) -> BTreeSet<u64> {
    let mut counts: BTreeMap<&T, usize> = BTreeMap::new();
    values.values().for_each(|value| *counts.entry(value).or_default() += 1);
    if counts.len() < 2 {
        return BTreeSet::new();
    }
    let majority = counts.into_iter().find(|(_, count)| *count > members / 2);
    let Some((majority, _)) = majority else { return BTreeSet::from([0]) };
    values.iter().filter(|(_, value)| *value != majority).map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(members: usize, hashes: &[&[(u64, u64)]], expected: &[u64]) {
        let hashes = (1..).zip(hashes).map(|(id, hashes)| (id, hashes.iter().copied().collect())).collect();
        let found: Vec<u64> = diverged(&hashes, members).into_iter().collect();
        assert_eq!(found, expected, "{hashes:?}");
    }

    #[test]
    fn whoever_differs_from_the_majority_at_a_common_index_has_diverged() {
        check(3, &[], &[]);
        check(3, &[&[(64, 1)], &[(64, 1)], &[(64, 1)]], &[]);
        check(3, &[&[(64, 1), (128, 2)], &[(64, 1)], &[(64, 1), (128, 2)]], &[]);
        check(3, &[&[(64, 1)], &[(64, 9)], &[(64, 1)]], &[2]);
        check(3, &[&[(64, 1), (128, 2)], &[(128, 9)], &[(64, 1), (128, 2)]], &[2]);
        // Who is behind and has not diverged yet is none of them.
        check(3, &[&[(128, 2)], &[(128, 9)], &[(64, 1)]], &[0]);
        check(2, &[&[(64, 1)], &[(64, 2)]], &[0]);
        check(3, &[&[(64, 1)], &[(64, 2)], &[(64, 3)]], &[0]);
        check(5, &[&[(64, 1)], &[(64, 1)], &[(64, 2)]], &[0]);
        check(5, &[&[(64, 1)], &[(64, 1)], &[(64, 1)], &[(64, 2)]], &[4]);
    }
}
