//! The quota: how many live bytes there may be.
//!
//! A request over the quota is refused where it is received, and answered so when it finds no room as it is applied; either way
//! the member that answers raises the alarm first. The apply itself raises nothing: it also replays what is long past.
//!
//! It counts what is live, not what the files hold, so space freed by a compaction counts at once and nobody has to defragment.
//!
//! What frees space is never refused, however full it is: deletes, though each writes a tombstone, compactions, and the end of
//! leases cost nothing here. So the limit may be passed a little, and there is always a way back below it.

use api::etcdserverpb::TxnRequest;
use api::etcdserverpb::request_op::Request;
use tokio::sync::Mutex;

/// What a grant costs, in bytes; etcd `server/storage/quota.go`.
pub(crate) const LEASE_COST: u64 = 64;
/// What a put costs beside its key and value.
const PUT_OVERHEAD: u64 = 256;

/// The limit on live bytes.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: Option<u64>,
    reader: mvcc::Reader,
    /// Held while the alarm is being raised, so that it is raised once however many requests are refused.
    pub(crate) raising: Mutex<()>,
}

impl Quota {
    pub(crate) fn new(limit: Option<u64>, reader: mvcc::Reader) -> Self {
        Self { limit, reader, raising: Mutex::new(()) }
    }

    /// The limit, `None` if there is none.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Whether there is room for a request of this cost. What costs nothing always has room.
    pub(crate) fn has_room(&self, cost: u64) -> bool {
        cost == 0 || self.limit.is_none_or(|limit| self.reader.live_bytes() + cost < limit)
    }

    /// Whether so much is free that an alarm would not be raised again at once: a tenth of the limit.
    pub(crate) fn has_ample_room(&self) -> bool {
        self.limit.is_none_or(|limit| self.reader.live_bytes() <= limit - limit / 10)
    }

    /// Whether the limit has been passed.
    pub(super) fn exceeded(&self) -> bool {
        self.limit.is_some_and(|limit| self.reader.live_bytes() >= limit)
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
