//! What applying a request gives back.

use api::etcdserverpb::AlarmMember;
use api::status::Status;
use bytes::Bytes;
use mvcc::{Compaction, RangeResult};

/// The outcome of a request, as decided by the apply: an output or etcd's error.
pub(crate) type Answer = Result<Output, Status>;

/// What a request that was applied answers, without what only the answering member knows.
#[derive(Debug)]
pub(crate) enum Output {
    /// A request whose answer is its revision alone.
    Revision(i64),
    /// Every member that has applied the entry at this index knows the token.
    TokenAssigned {
        index: u64,
    },
    Put {
        revision: i64,
        prev: Option<Bytes>,
    },
    DeleteRange {
        revision: i64,
        deleted: i64,
        prevs: Vec<Bytes>,
    },
    Txn(TxnOutput),
    /// The compaction still runs; the caller may wait for its end.
    Compaction {
        revision: i64,
        running: Compaction,
    },
    LeaseGrant {
        revision: i64,
        id: i64,
        ttl: i64,
    },
    Alarms {
        revision: i64,
        alarms: Vec<AlarmMember>,
    },
}

/// A transaction's outcome: which branch was taken, and what each of its operations gave.
#[derive(Debug)]
pub(crate) struct TxnOutput {
    pub(crate) revision: i64,
    pub(crate) succeeded: bool,
    pub(crate) ops: Vec<OpOutput>,
}

/// What one operation of a transaction gave. Key-value pairs are encoded as on the wire.
#[derive(Debug)]
pub(crate) enum OpOutput {
    Range(RangeResult),
    Put { revision: i64, prev: Option<Bytes> },
    DeleteRange { revision: i64, deleted: i64, prevs: Vec<Bytes> },
    Txn(TxnOutput),
}
