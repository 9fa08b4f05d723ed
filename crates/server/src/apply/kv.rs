//! Put, delete and compact on the keyspace, and what they mean for leases.

use api::LeaseId;
use api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use api::status::{self, Status};
use bytes::Bytes;
use mvcc::WriteTxn;

use super::{Answer, Output};
use crate::member::Shared;

pub(super) fn put(shared: &Shared, txn: &mut WriteTxn<'_>, request: &PutRequest) -> mvcc::Result<Answer> {
    let put = match Put::resolve(shared, txn, request)? {
        Ok(put) => put,
        Err(status) => return Ok(Err(status)),
    };
    let prev = put.write(shared, txn, request)?;
    let revision = txn.end_request();
    // The write stands, but its caller learns that there is no more room: etcd decides so, too.
    if shared.quota.exceeded() {
        return Ok(Err(status::NO_SPACE));
    }
    Ok(Ok(Output::Put { revision, prev }))
}

/// A put with nothing left open: what `ignore_value` and `ignore_lease` stand for has been looked up.
pub(super) struct Put {
    value: Bytes,
    lease: LeaseId,
}

impl Put {
    /// Checks that the lease exists, and the key where the put refers to it.
    pub(super) fn resolve(
        shared: &Shared,
        txn: &WriteTxn<'_>,
        request: &PutRequest,
    ) -> mvcc::Result<Result<Self, Status>> {
        let mut lease = LeaseId::new(request.lease);
        if !lease.is_none() && !shared.lessor.contains(lease) {
            return Ok(Err(status::LEASE_NOT_FOUND));
        }
        let mut value = request.value.clone();
        if request.ignore_value || request.ignore_lease {
            let Some(meta) = txn.lookup(&request.key) else { return Ok(Err(status::KEY_NOT_FOUND)) };
            if request.ignore_lease {
                lease = meta.lease;
            }
            if request.ignore_value {
                value = match txn.previous(&request.key)? {
                    Some(kv) => kv.value,
                    None => return Ok(Err(status::KEY_NOT_FOUND)),
                };
            }
        }
        Ok(Ok(Self { value, lease }))
    }

    /// Writes, moves the key from lease to lease, and returns the pre-image if the request wants it.
    pub(super) fn write(
        self,
        shared: &Shared,
        txn: &mut WriteTxn<'_>,
        request: &PutRequest,
    ) -> mvcc::Result<Option<Bytes>> {
        let prev = if request.prev_kv { txn.previous_kv(&request.key)? } else { None };
        let old = txn
            .put(request.key.clone(), self.value, self.lease)?
            .map_or(LeaseId::NONE, |previous| previous.lease);
        if old != self.lease {
            if !old.is_none() {
                shared.lessor.detach(old, &request.key);
            }
            if !self.lease.is_none() {
                shared
                    .lessor
                    .attach(self.lease, &request.key)
                    .map_err(|error| mvcc::Error::invariant(format!("a checked lease is gone: {error}")))?;
            }
        }
        Ok(prev)
    }
}

pub(super) fn delete_range(
    shared: &Shared,
    txn: &mut WriteTxn<'_>,
    request: &DeleteRangeRequest,
) -> mvcc::Result<Answer> {
    let (deleted, prevs) = delete(shared, txn, request)?;
    Ok(Ok(Output::DeleteRange { revision: txn.end_request(), deleted, prevs }))
}

/// Deletes, detaches the keys from their leases, and returns how many there were and, if wanted, what they were.
pub(super) fn delete(
    shared: &Shared,
    txn: &mut WriteTxn<'_>,
    request: &DeleteRangeRequest,
) -> mvcc::Result<(i64, Vec<Bytes>)> {
    let prevs = if request.prev_kv {
        txn.range(&mvcc::RangeOptions::new(request.key.clone(), request.range_end.clone()))?.kvs
    } else {
        Vec::new()
    };
    let deleted = txn.delete_range(&request.key, &request.range_end)?;
    for gone in &deleted {
        if !gone.previous.lease.is_none() {
            shared.lessor.detach(gone.previous.lease, &gone.key);
        }
    }
    Ok((i64::try_from(deleted.len()).expect("keys fit in memory"), prevs))
}

pub(super) fn compact(txn: &mut WriteTxn<'_>, request: &CompactionRequest) -> mvcc::Result<Answer> {
    match txn.compact(request.revision) {
        Ok(running) => Ok(Ok(Output::Compaction { revision: txn.revision(), running })),
        Err(mvcc::Error::Compacted) => Ok(Err(status::COMPACTED)),
        Err(mvcc::Error::FutureRevision) => Ok(Err(status::FUTURE_REV)),
        Err(error) => Err(error),
    }
}
