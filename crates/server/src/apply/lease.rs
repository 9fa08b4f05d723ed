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
