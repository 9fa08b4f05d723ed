//! The quota: how many live bytes there may be.
//!
//! It counts what is live, not what the files hold, so space freed by a compaction counts at once and nobody has to defragment.

use std::sync::atomic::{AtomicBool, Ordering};

use api::etcdserverpb::TxnRequest;
use api::etcdserverpb::request_op::Request;
use tokio::sync::Notify;

/// What a grant costs, in bytes; etcd `server/storage/quota.go`.
pub(crate) const LEASE_COST: u64 = 64;
/// What a put costs beside its key and value.
const PUT_OVERHEAD: u64 = 256;

/// The limit on live bytes, and the call for an alarm when it is reached.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: Option<u64>,
    reader: mvcc::Reader,
    /// Set from the moment the alarm is called for until it has been proposed.
    called: AtomicBool,
    call: Notify,
}

impl Quota {
    pub(crate) fn new(limit: Option<u64>, reader: mvcc::Reader) -> Self {
        Self { limit, reader, called: AtomicBool::new(false), call: Notify::new() }
    }

    /// The limit, `None` if there is none.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Whether there is room for a request of this cost. What costs nothing always has room.
    pub(crate) fn has_room(&self, cost: u64) -> bool {
        cost == 0 || self.limit.is_none_or(|limit| self.reader.live_bytes() + cost < limit)
    }

    /// Whether the limit has been passed.
    pub(super) fn exceeded(&self) -> bool {
        self.limit.is_some_and(|limit| self.reader.live_bytes() >= limit)
    }

    /// Calls for the alarm NOSPACE.
    pub(crate) fn raise(&self) {
        if !self.called.swap(true, Ordering::Relaxed) {
            self.call.notify_one();
        }
    }

    /// Resolves when the alarm has been called for.
    pub(crate) async fn called(&self) {
        self.call.notified().await;
    }

    /// The alarm has been proposed; the next call counts again.
    pub(crate) fn answered(&self) {
        self.called.store(false, Ordering::Relaxed);
    }
}

/// Bytes a put is reckoned to take.
pub(crate) fn put_cost(key: &[u8], value: &[u8]) -> u64 {
    PUT_OVERHEAD + (key.len() + value.len()) as u64
}

/// Bytes a transaction is reckoned to take: those of its more expensive branch.
pub(crate) fn txn_cost(txn: &TxnRequest) -> u64 {
    let branch = |ops: &[api::etcdserverpb::RequestOp]| -> u64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(Request::RequestPut(put)) => put_cost(&put.key, &put.value),
                Some(Request::RequestTxn(nested)) => txn_cost(nested),
                _ => 0,
            })
            .sum()
    };
    branch(&txn.success).max(branch(&txn.failure))
}
