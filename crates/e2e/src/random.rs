//! Random operations from a seed, over few enough keys and leases that they meet often.

use api::etcdserverpb as pb;
use api::etcdserverpb::compare::TargetUnion;
use bytes::Bytes;

use crate::{IntoOp, compare, prefix_end};

/// One request.
#[derive(Debug, Clone)]
pub enum Operation {
    /// A put.
    Put(pb::PutRequest),
    /// A read.
    Range(pb::RangeRequest),
    /// A delete.
    Delete(pb::DeleteRangeRequest),
    /// A transaction.
    Txn(pb::TxnRequest),
    /// A compaction so many revisions before the current one.
    Compact {
        /// How many.
        behind: i64,
    },
    /// A lease is granted.
    Grant(pb::LeaseGrantRequest),
    /// A lease is revoked.
    Revoke(pb::LeaseRevokeRequest),
    /// A look at a lease and its keys.
    TimeToLive(pb::LeaseTimeToLiveRequest),
    /// The hash of the keys and their history.
    HashKv,
}

/// Where operations come from; equal seeds give equal operations.
#[derive(Debug, Clone)]
pub struct Source {
    state: u64,
}

impl Source {
    /// A source with a seed of its own.
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        // xorshift64*: small, and good enough to choose among a handful.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    fn signed(&mut self, end: u64) -> i64 {
        self.below(end).try_into().expect("far below the largest number")
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let index = self.below(from.len().try_into().expect("a short list"));
        from[usize::try_from(index).expect("an index into it")].clone()
    }

    /// The next operation, on a store whose revision is `revision`.
    pub fn operation(&mut self, revision: i64) -> Operation {
        match self.below(100) {
            0..30 => Operation::Put(self.put()),
            30..55 => Operation::Range(self.range(revision)),
            55..65 => Operation::Delete(self.delete()),
            65..85 => Operation::Txn(self.txn(2)),
            85..87 => Operation::Compact { behind: self.signed(20) },
            87..91 => Operation::Grant(pb::LeaseGrantRequest { id: self.lease(), ttl: 10_000 }),
            91..93 => Operation::Revoke(pb::LeaseRevokeRequest { id: self.lease() }),
            93..95 => {
                let (id, keys) = (self.lease(), true);
                Operation::TimeToLive(pb::LeaseTimeToLiveRequest { id, keys })
            }
            _ => Operation::HashKv,
        }
    }

    fn key(&mut self) -> String {
        let directory = self.pick(&["", "a/", "a/b/", "b/"]);
        format!("{directory}k{}", self.below(5))
    }

    /// A key and the end of a range from it: mostly none, else of any form.
    fn interval(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        match self.below(8) {
            0 => (key.into(), Bytes::from_static(b"\0")),
            1 => {
                let prefix = self.pick(&["a/", "b/", "a/b/", "k"]);
                (prefix.into(), prefix_end(prefix))
            }
            2 => {
                let end = self.key();
                (key.into(), end.into())
            }
            3 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            _ => (key.into(), Bytes::new()),
        }
    }

    fn lease(&mut self) -> i64 {
        self.signed(4) + 1
    }

    fn put(&mut self) -> pb::PutRequest {
        let mut put = pb::PutRequest {
            key: self.key().into(),
            value: format!("v{}", self.below(20)).into(),
            prev_kv: self.one_in(3),
            ..Default::default()
        };
        match self.below(10) {
            0 | 1 => put.lease = self.lease(),
            2 => {
                put.ignore_value = true;
                put.value = Bytes::new();
            }
            3 => put.ignore_lease = true,
            _ => {}
        }
        put
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let (key, range_end) = self.interval();
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.one_in(2) }
    }

    fn range(&mut self, revision: i64) -> pb::RangeRequest {
        let (key, range_end) = self.interval();
        let mut range =
            pb::RangeRequest { key, range_end, serializable: self.one_in(4), ..Default::default() };
        if self.one_in(3) {
            range.limit = self.signed(6);
        }
        if self.one_in(3) {
            range.revision = (revision - self.signed(15)).max(0) + self.signed(2);
        }
        if self.one_in(3) {
            range.sort_order = self.pick(&[0, 1, 2]);
            range.sort_target = self.pick(&[0, 1, 2, 3, 4]);
        }
        range.keys_only = self.one_in(8);
        range.count_only = self.one_in(8);
        if self.one_in(6) {
            range.min_mod_revision = self.signed(30);
            range.max_create_revision = revision - self.signed(5);
        }
        range
    }

    fn txn(&mut self, depth: u64) -> pb::TxnRequest {
        pb::TxnRequest {
            compare: (0..self.below(3)).map(|_| self.compare()).collect(),
            success: (0..self.below(4)).map(|_| self.op(depth)).collect(),
            failure: (0..self.below(3)).map(|_| self.op(depth)).collect(),
        }
    }

    fn op(&mut self, depth: u64) -> pb::RequestOp {
        match self.below(10) {
            0..4 => self.put().op(),
            4..7 => {
                // Sorting, limits and the past have their own place; here the open writes matter.
                let (key, range_end) = self.interval();
                pb::RangeRequest { key, range_end, ..Default::default() }.op()
            }
            7 | 8 => self.delete().op(),
            _ if depth > 0 => self.txn(depth - 1).op(),
            _ => self.put().op(),
        }
    }

    fn compare(&mut self) -> pb::Compare {
        use pb::compare::CompareResult::{Equal, Greater, Less, NotEqual};
        let (key, result) = (self.key(), self.pick(&[Equal, Greater, Less, NotEqual]));
        let with = match self.below(5) {
            0 => TargetUnion::Version(self.signed(4)),
            1 => TargetUnion::CreateRevision(self.signed(50)),
            2 => TargetUnion::ModRevision(self.signed(50)),
            3 => TargetUnion::Lease(self.signed(3)),
            _ => TargetUnion::Value(format!("v{}", self.below(20)).into()),
        };
        let mut compare = compare(&key, result, with);
        if self.one_in(4) {
            (compare.key, compare.range_end) = self.interval();
        }
        compare
    }
}
