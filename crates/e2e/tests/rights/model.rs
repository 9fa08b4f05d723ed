//! The plainest model of what a user may do: a list of permissions, and every key looked at by itself.

use api::authpb::{Permission, permission::Type};
use api::etcdserverpb as pb;
use api::etcdserverpb::request_op::Request;
use bytes::Bytes;
use e2e::random::Source;

use etcd_rs_e2e as e2e;

use crate::attempts::Attempt;

/// Few enough keys that ranges meet, touch and miss each other.
pub(crate) const KEYS: [&str; 10] = ["a", "a1", "a2", "b", "b1", "c", "c1", "d", "e", "e1"];

/// Where ranges end, some between keys and one behind all; `"\0"` is no end at all.
const ENDS: [&str; 9] = ["a2", "b", "b1", "c", "c1", "d", "e", "f", "\0"];

/// What one user may do.
#[derive(Debug, Default)]
pub(crate) struct Rights {
    pub(crate) permissions: Vec<Permission>,
}

/// A key, and the end of a range behind it.
pub(crate) fn any_range(source: &mut Source) -> (Bytes, Bytes) {
    let key = one_of(source, &KEYS);
    let end = match source.below(3) {
        0 => "",
        _ => *ENDS
            .iter()
            .cycle()
            .skip(chosen(source, ENDS.len()))
            .find(|end| **end > key || **end == "\0")
            .unwrap(),
    };
    (key.into(), end.into())
}

pub(crate) fn one_of<T: Copy>(source: &mut Source, list: &[T]) -> T {
    list[chosen(source, list.len())]
}

fn chosen(source: &mut Source, count: usize) -> usize {
    usize::try_from(source.below(count.try_into().unwrap())).unwrap()
}

/// Whether the range holds the key.
pub(crate) fn contains(key: &[u8], range_end: &[u8], one: &[u8]) -> bool {
    match range_end {
        [] => one == key,
        [0] => one >= key,
        end => one >= key && one < end,
    }
}

impl Rights {
    /// Some permissions, often overlapping.
    pub(crate) fn any(source: &mut Source) -> Self {
        let permission = |source: &mut Source| {
            let (key, range_end) = any_range(source);
            let kind = one_of(source, &[Type::Read, Type::Write, Type::Readwrite]);
            Permission { perm_type: kind.into(), key, range_end }
        };
        let count = source.below(5);
        let mut permissions: Vec<Permission> = (0..count).map(|_| permission(source)).collect();
        // The same range again would change the first one's type.
        let mut seen = Vec::new();
        permissions.retain(|one| {
            let range = (one.key.clone(), one.range_end.clone());
            let new = !seen.contains(&range);
            seen.push(range);
            new
        });
        Self { permissions }
    }

    pub(crate) fn reads(&self, one: &[u8]) -> bool {
        self.any_of(Type::Read, |permission| contains(&permission.key, &permission.range_end, one))
    }

    pub(crate) fn writes(&self, one: &[u8]) -> bool {
        self.any_of(Type::Write, |permission| contains(&permission.key, &permission.range_end, one))
    }

    fn any_of(&self, kind: Type, matches: impl Fn(&Permission) -> bool) -> bool {
        let kinds = [kind, Type::Readwrite].map(i32::from);
        self.permissions.iter().any(|one| kinds.contains(&one.perm_type) && matches(one))
    }

    /// Whether the user may do this with every key of the range: those where any range begins or ends stand for all.
    fn covers(&self, kind: Type, key: &[u8], range_end: &[u8]) -> bool {
        let edges = KEYS
            .iter()
            .chain(&ENDS)
            .flat_map(|edge| [edge.as_bytes().to_vec(), [edge.as_bytes(), b"\0"].concat()]);
        let mut inside = edges.filter(|one| contains(key, range_end, one));
        let each = inside.all(|one| if kind == Type::Read { self.reads(&one) } else { self.writes(&one) });
        let endless = self.any_of(kind, |permission| permission.range_end[..] == [0]);
        each && (endless || range_end != [0])
    }

    /// Whether the user may do this, where these are the keys that each lease has now.
    pub(crate) fn permit(&self, attempt: &Attempt, leased: impl Fn(i64) -> Vec<Bytes> + Copy) -> bool {
        match attempt {
            Attempt::Range(range) => self.permits_range(range),
            Attempt::Put(put) => self.permits_put(put, leased),
            Attempt::Delete(delete) => self.permits_delete(delete),
            Attempt::Txn(txn) => self.permits_txn(txn, leased),
            Attempt::Revoke(id) | Attempt::KeepAlive(id) => leased(*id).iter().all(|key| self.writes(key)),
            Attempt::TimeToLive { id, keys } => !keys || leased(*id).iter().all(|key| self.reads(key)),
            Attempt::Leases => {
                crate::world::LEASES.iter().all(|id| leased(*id).iter().all(|key| self.reads(key)))
            }
            Attempt::Watch(create) => self.covers(Type::Read, &create.key, &create.range_end),
        }
    }

    fn permits_range(&self, range: &pb::RangeRequest) -> bool {
        self.covers(Type::Read, &range.key, &range.range_end)
    }

    fn permits_put(&self, put: &pb::PutRequest, leased: impl Fn(i64) -> Vec<Bytes>) -> bool {
        self.writes(&put.key)
            && (!put.prev_kv || self.reads(&put.key))
            && (put.lease == 0 || leased(put.lease).iter().all(|key| self.writes(key)))
    }

    fn permits_delete(&self, delete: &pb::DeleteRangeRequest) -> bool {
        self.covers(Type::Write, &delete.key, &delete.range_end)
            && (!delete.prev_kv || self.covers(Type::Read, &delete.key, &delete.range_end))
    }

    /// Every comparison and both branches, whichever is taken.
    fn permits_txn(&self, txn: &pb::TxnRequest, leased: impl Fn(i64) -> Vec<Bytes> + Copy) -> bool {
        txn.compare.iter().all(|one| self.covers(Type::Read, &one.key, &one.range_end))
            && txn.success.iter().chain(&txn.failure).all(|op| match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => self.permits_range(range),
                Request::RequestPut(put) => self.permits_put(put, leased),
                Request::RequestDeleteRange(delete) => self.permits_delete(delete),
                Request::RequestTxn(txn) => self.permits_txn(txn, leased),
            })
    }
}
