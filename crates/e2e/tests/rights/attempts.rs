//! Everything a user can try.

use api::etcdserverpb as pb;
use api::etcdserverpb::compare::{CompareResult, TargetUnion};
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use e2e::random::Source;
use e2e::{IntoOp, compare};

use etcd_rs_e2e as e2e;

use crate::model::{KEYS, any_range, one_of};
use crate::world::LEASES;

/// One request.
#[derive(Debug, Clone)]
pub(crate) enum Attempt {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Revoke(i64),
    KeepAlive(i64),
    TimeToLive { id: i64, keys: bool },
    Leases,
    Watch(pb::WatchCreateRequest),
}

impl Attempt {
    /// Any of them.
    pub(crate) fn any(source: &mut Source) -> Self {
        match source.below(20) {
            0..=4 => Self::Range(range(source)),
            5..=7 => Self::Put(put(source)),
            8..=9 => Self::Delete(delete(source)),
            10..=14 => Self::Txn(txn(source, 3)),
            15 => Self::Revoke(one_of(source, &LEASES)),
            16 => Self::KeepAlive(one_of(source, &LEASES)),
            17 => Self::TimeToLive { id: one_of(source, &LEASES), keys: source.below(2) == 0 },
            18 => Self::Leases,
            _ => Self::Watch(watch(source)),
        }
    }
}

fn range(source: &mut Source) -> pb::RangeRequest {
    let (key, range_end) = any_range(source);
    pb::RangeRequest {
        key,
        range_end,
        limit: one_of(source, &[0, 0, 1, 2]),
        sort_order: one_of(source, &[SortOrder::None, SortOrder::Ascend, SortOrder::Descend]).into(),
        sort_target: one_of(source, &[SortTarget::Key, SortTarget::Mod, SortTarget::Value]).into(),
        serializable: source.below(2) == 0,
        count_only: source.below(4) == 0,
        keys_only: source.below(4) == 0,
        ..Default::default()
    }
}

fn put(source: &mut Source) -> pb::PutRequest {
    let ignore_value = source.below(8) == 0;
    let ignore_lease = source.below(8) == 0;
    pb::PutRequest {
        key: one_of(source, &KEYS).into(),
        value: if ignore_value { "" } else { "ann's" }.into(),
        lease: if ignore_lease { 0 } else { one_of(source, &[0, 0, LEASES[0], LEASES[1]]) },
        prev_kv: source.below(3) == 0,
        ignore_value,
        ignore_lease,
    }
}

fn delete(source: &mut Source) -> pb::DeleteRangeRequest {
    let (key, range_end) = any_range(source);
    pb::DeleteRangeRequest { key, range_end, prev_kv: source.below(3) == 0 }
}

/// At most one write in a branch, as two of one key would be refused for that.
fn txn(source: &mut Source, depth: u64) -> pb::TxnRequest {
    let compares = source.below(3);
    let branch = |source: &mut Source| {
        let mut ops = Vec::new();
        if source.below(2) == 0 {
            ops.push(range(source).op());
        }
        match source.below(4) {
            0 => ops.push(put(source).op()),
            1 => ops.push(delete(source).op()),
            2 if depth > 0 => ops.push(txn(source, depth - 1).op()),
            _ => {}
        }
        ops
    };
    pb::TxnRequest {
        compare: (0..compares).map(|_| any_compare(source)).collect(),
        success: branch(source),
        failure: branch(source),
    }
}

fn any_compare(source: &mut Source) -> pb::Compare {
    let with = match source.below(4) {
        0 => TargetUnion::Version(0),
        1 => TargetUnion::Value("ann's".into()),
        2 => TargetUnion::CreateRevision(5),
        _ => TargetUnion::Lease(LEASES[0]),
    };
    let result = one_of(source, &[CompareResult::Equal, CompareResult::Greater, CompareResult::NotEqual]);
    let (_, range_end) = any_range(source);
    let one = compare(one_of(source, &KEYS), result, with);
    if source.below(3) == 0 && (range_end[..] == [0] || range_end > one.key) {
        pb::Compare { range_end, ..one }
    } else {
        one
    }
}

fn watch(source: &mut Source) -> pb::WatchCreateRequest {
    let (key, range_end) = any_range(source);
    let start_revision = one_of(source, &[0, 2]);
    pb::WatchCreateRequest {
        key,
        range_end,
        start_revision,
        prev_kv: source.below(2) == 0,
        ..Default::default()
    }
}
