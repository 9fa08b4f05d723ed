//! Leases in the replicated state: granted, revoked with their keys, checkpointed.

use api::LeaseId;
use api::etcdserverpb::{DeleteRangeRequest, LeaseCheckpointRequest, LeaseGrantRequest};
use api::status;
use bytes::Bytes;
use mvcc::WriteTxn;

use super::{Answer, Output};
use crate::member::Shared;

pub(super) fn grant(shared: &Shared, txn: &mut WriteTxn<'_>, request: &LeaseGrantRequest) -> Answer {
    let id = LeaseId::new(request.id);
    match shared.lessor.grant(txn.tx(), id, request.ttl, shared.clock.now()) {
        Ok(ttl) => {
            shared.counters.leases_granted.add(1);
            Ok(Output::LeaseGrant { revision: txn.revision(), id: request.id, ttl })
        }
        Err(lease::Error::Exists(_)) => Err(status::LEASE_EXIST),
        Err(lease::Error::TtlTooLarge(_)) => Err(status::LEASE_TTL_TOO_LARGE),
        Err(_) => Err(status::LEASE_NOT_FOUND),
    }
}

pub(super) fn revoke(shared: &Shared, txn: &mut WriteTxn<'_>, id: i64) -> mvcc::Result<Answer> {
    let Ok(keys) = shared.lessor.revoke(txn.tx(), LeaseId::new(id)) else {
        return Ok(Err(status::LEASE_NOT_FOUND));
    };
    shared.counters.leases_revoked.add(1);
    delete_keys(txn, keys)?;
    Ok(Ok(Output::Revision(txn.end_request())))
}

/// Revokes each of the leases in a revision of its own, as if each had been revoked by a client.
pub(super) fn expire(shared: &Shared, txn: &mut WriteTxn<'_>, ids: &[i64]) -> mvcc::Result<Answer> {
    for id in ids {
        // One that was revoked meanwhile needs nothing more.
        if let Ok(keys) = shared.lessor.revoke(txn.tx(), LeaseId::new(*id)) {
            shared.counters.leases_expired.add(1);
            delete_keys(txn, keys)?;
            txn.end_request();
        }
    }
    Ok(Ok(Output::Revision(txn.revision())))
}

fn delete_keys(txn: &mut WriteTxn<'_>, keys: Vec<Bytes>) -> mvcc::Result<()> {
    for key in keys {
        let request = DeleteRangeRequest { key, ..Default::default() };
        txn.delete_range(&request.key, &request.range_end)?;
    }
    Ok(())
}

pub(super) fn checkpoint(
    shared: &Shared,
    txn: &mut WriteTxn<'_>,
    request: &LeaseCheckpointRequest,
) -> Answer {
    for checkpoint in &request.checkpoints {
        // A lease that is gone has nothing to remember.
        let checkpoint =
            lease::Checkpoint { id: LeaseId::new(checkpoint.id), remaining_ttl: checkpoint.remaining_ttl };
        shared.lessor.checkpoint(txn.tx(), checkpoint, shared.clock.now());
    }
    Ok(Output::Revision(txn.revision()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use api::etcdserverpb::LeaseCheckpoint;
    use api::{ClusterId, MemberId};
    use backend::{Backend, MemBackend};
    use raftlog::{Application as _, Entry};

    use super::*;
    use crate::apply::Applier;
    use crate::bootstrap::Identity;
    use crate::config::Config;
    use crate::parts::Parts;
    use crate::proposal::Command;

    fn member(id: u64, backend: &Arc<MemBackend>) -> (Arc<Shared>, Applier) {
        let identity = Identity { member_id: MemberId::new(id), cluster_id: ClusterId::new(2) };
        let backend = Arc::clone(backend) as Arc<dyn Backend>;
        let parts = Parts::open(&Config::default(), backend, identity).unwrap();
        let shared = Arc::clone(&parts.shared);
        (shared, Applier::new(parts.store, parts.meta, parts.shared))
    }

    fn entry(index: u64, command: &Command) -> Entry {
        Entry { term: 1, index, data: command.entry(), membership: None }
    }

    /// etcd #9395: a lease began anew whenever the leader changed, and so could outlive its time for ever.
    #[test]
    fn a_leader_change_does_not_extend_a_lease() {
        let at = Duration::from_secs;
        let lease = LeaseId::new(7);
        let left =
            |shared: &Shared, now| shared.lessor.time_to_live(lease, now, false).unwrap().remaining_ttl;
        let disks = [Arc::new(MemBackend::new()), Arc::new(MemBackend::new())];
        let (leader, mut leaders) = member(1, &disks[0]);
        let (follower, mut followers) = member(2, &disks[1]);
        leader.lessor.promote(at(0), at(1));
        let mut apply = |entry: Entry| {
            leaders.apply(std::slice::from_ref(&entry)).unwrap();
            followers.apply(&[entry]).unwrap();
        };
        apply(entry(0, &Command::lease_grant(&LeaseGrantRequest { ttl: 1000, id: lease.get() })));
        // What the leader's loop proposes every five minutes, by default.
        let due = leader.lessor.checkpoints_due(at(400), 10);
        let checkpoints: Vec<_> = due
            .iter()
            .map(|due| LeaseCheckpoint { id: due.id.get(), remaining_ttl: due.remaining_ttl })
            .collect();
        assert_eq!(checkpoints.len(), 1);
        apply(entry(1, &Command::lease_checkpoint(&LeaseCheckpointRequest { checkpoints })));
        assert!((600..=601).contains(&left(&leader, at(400))));

        leader.lessor.demote();
        follower.lessor.promote(at(410), at(1));
        assert!((600..=602).contains(&left(&follower, at(410))), "{}", left(&follower, at(410)));
        // A member that was restarted knows it, too.
        let (restarted, _) = member(2, &disks[1]);
        restarted.lessor.promote(at(5), at(1));
        assert!((600..=602).contains(&left(&restarted, at(5))));
        // Renewed, it has all of its time, and the next leader must know that.
        assert!(matches!(follower.lessor.renew(lease, at(420)), Err(lease::Error::Checkpointed(_))));
        let checkpoints = vec![LeaseCheckpoint { id: lease.get(), remaining_ttl: 0 }];
        apply(entry(2, &Command::lease_checkpoint(&LeaseCheckpointRequest { checkpoints })));
        assert_eq!(follower.lessor.renew(lease, at(420)).unwrap(), 1000);
        leader.lessor.promote(at(430), at(1));
        assert!(left(&leader, at(430)) >= 1000);
    }
}
