//! What is refused before anything is proposed or read: the argument checks of each call, in etcd's order.
//!
//! Facts: etcd `server/etcdserver/api/v3rpc/key.go`.

use std::collections::BTreeSet;

use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use api::status::{self, Status};
use bytes::Bytes;

type Result<T> = std::result::Result<T, Status>;

pub(crate) fn range(request: &RangeRequest) -> Result<()> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY);
    }
    let known =
        SortOrder::try_from(request.sort_order).is_ok() && SortTarget::try_from(request.sort_target).is_ok();
    if known { Ok(()) } else { Err(status::INVALID_SORT_OPTION) }
}

/// What a stream of a range cannot do.
pub(crate) fn range_stream(request: &RangeRequest) -> Result<()> {
    range(request)?;
    let key_order = request.sort_order() == SortOrder::None
        || (request.sort_order() == SortOrder::Ascend && request.sort_target() == SortTarget::Key);
    if !key_order {
        return Err(status::RANGE_STREAM_SORT);
    }
    let filtered = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filtered.iter().any(|bound| *bound != 0) {
        return Err(status::RANGE_STREAM_FILTER);
    }
    Ok(())
}

pub(crate) fn put(request: &PutRequest) -> Result<()> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(status::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(status::LEASE_PROVIDED);
    }
    Ok(())
}

pub(crate) fn delete_range(request: &DeleteRangeRequest) -> Result<()> {
    if request.key.is_empty() { Err(status::EMPTY_KEY) } else { Ok(()) }
}

/// Sizes, keys and operations of a transaction and those nested in it, then keys written twice.
pub(crate) fn txn(request: &TxnRequest, ops_max: usize) -> Result<()> {
    txn_ops(request, ops_max)?;
    keys_once(&request.success)?;
    keys_once(&request.failure)?;
    Ok(())
}

fn txn_ops(request: &TxnRequest, budget: usize) -> Result<()> {
    let widest = request.compare.len().max(request.success.len()).max(request.failure.len());
    if widest > budget {
        return Err(status::TOO_MANY_OPS);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(status::EMPTY_KEY);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => txn_ops(request, budget - widest)?,
            None => return Err(status::KEY_NOT_FOUND),
        }
    }
    Ok(())
}

/// The keys a list of operations puts, and the ranges it deletes.
#[derive(Default)]
struct Written {
    puts: BTreeSet<Bytes>,
    deletes: Vec<(Bytes, Bytes)>,
}

impl Written {
    /// Whether a delete covers the key. One from a key on (end `\0`) covers nothing, as in etcd.
    fn deletes(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(
            |(from, to)| {
                if to.is_empty() { from == key } else { key >= &from[..] && key < &to[..] }
            },
        )
    }
}

/// A key may be written once by a list of operations, whichever branches its nested transactions take.
///
/// The rules are etcd's `checkIntervals`, holes included: a nested transaction may put a key in both of its branches, and may
/// put a key that a later sibling deletes, but not one that an earlier one deleted.
fn keys_once(ops: &[RequestOp]) -> Result<Written> {
    let mut written = Written::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(request)) = &op.request {
            written.deletes.push((request.key.clone(), request.range_end.clone()));
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(request)) = &op.request else { continue };
        let taken = keys_once(&request.success)?;
        let untaken = keys_once(&request.failure)?;
        let collides = |key: &Bytes| written.puts.contains(key) || written.deletes(key);
        if taken.puts.iter().any(collides) {
            return Err(status::DUPLICATE_KEY);
        }
        let collides_otherwise =
            |key: &Bytes| (written.puts.contains(key) && !taken.puts.contains(key)) || written.deletes(key);
        if untaken.puts.iter().any(collides_otherwise) {
            return Err(status::DUPLICATE_KEY);
        }
        written.puts.extend(taken.puts);
        written.puts.extend(untaken.puts);
        written.deletes.extend(taken.deletes);
        written.deletes.extend(untaken.deletes);
    }
    for op in ops {
        let Some(Request::RequestPut(request)) = &op.request else { continue };
        if written.deletes(&request.key) || !written.puts.insert(request.key.clone()) {
            return Err(status::DUPLICATE_KEY);
        }
    }
    Ok(written)
}

/// Whether nothing can change: every operation of both branches is a range.
pub(crate) fn read_only(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether no range of a read-only transaction asks for more than this member's own state.
pub(crate) fn serializable(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(Request::RequestRange(range)) => range.serializable,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }
    fn put_of(key: &str) -> RequestOp {
        op(Request::RequestPut(PutRequest { key: key.to_owned().into(), ..Default::default() }))
    }
    fn delete_of(key: &str, end: &str) -> RequestOp {
        op(Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            ..Default::default()
        }))
    }
    fn range_of(key: &str) -> RequestOp {
        op(Request::RequestRange(RangeRequest { key: key.to_owned().into(), ..Default::default() }))
    }
    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(Request::RequestTxn(TxnRequest { compare: Vec::new(), success, failure }))
    }
    fn check(success: Vec<RequestOp>) -> Result<()> {
        txn(&TxnRequest { compare: Vec::new(), success, failure: Vec::new() }, 128)
    }

    #[test]
    fn a_key_is_written_once() {
        let refused = [
            vec![put_of("a"), put_of("a")],
            vec![put_of("a"), delete_of("a", "")],
            vec![delete_of("a", "c"), put_of("b")],
            vec![nested(vec![delete_of("a", "")], vec![]), put_of("a")],
            vec![nested(vec![delete_of("a", "")], vec![]), nested(vec![put_of("a")], vec![])],
            vec![nested(vec![put_of("a")], vec![]), nested(vec![], vec![put_of("a")])],
        ];
        for ops in refused {
            assert_eq!(check(ops.clone()), Err(status::DUPLICATE_KEY), "{ops:?}");
        }
        let allowed = [
            vec![put_of("a"), put_of("b"), delete_of("c", "d")],
            vec![nested(vec![put_of("a")], vec![put_of("a")])],
            vec![delete_of("a", "c"), delete_of("b", "d")],
            vec![nested(vec![put_of("a")], vec![]), nested(vec![delete_of("a", "")], vec![])],
            vec![delete_of("a", "\0"), put_of("b")],
        ];
        for ops in allowed {
            assert_eq!(check(ops.clone()), Ok(()), "{ops:?}");
        }
    }

    #[test]
    fn nesting_shares_the_budget_of_operations() {
        let ranges = |n: usize| (0..n).map(|_| range_of("k")).collect::<Vec<_>>();
        let with_nested = |n: usize| {
            let mut ops = ranges(n);
            ops.push(nested(ranges(1), vec![]));
            ops
        };
        assert_eq!(check(with_nested(127)), Err(status::TOO_MANY_OPS));
        assert_eq!(check(with_nested(126)), Ok(()));
        assert_eq!(check(ranges(129)), Err(status::TOO_MANY_OPS));
    }

    #[test]
    fn an_operation_without_content_is_a_missing_key() {
        assert_eq!(check(vec![RequestOp { request: None }]), Err(status::KEY_NOT_FOUND));
        assert_eq!(check(vec![put_of("")]), Err(status::EMPTY_KEY));
    }

    #[test]
    fn put_arguments_are_checked_in_order() {
        let request = |value: &str, lease, ignore_value, ignore_lease| PutRequest {
            key: "k".into(),
            value: value.to_owned().into(),
            lease,
            prev_kv: false,
            ignore_value,
            ignore_lease,
        };
        assert_eq!(put(&request("v", 1, true, true)), Err(status::VALUE_PROVIDED));
        assert_eq!(put(&request("", 1, true, true)), Err(status::LEASE_PROVIDED));
        assert_eq!(put(&request("", 0, true, true)), Ok(()));
        assert_eq!(put(&PutRequest::default()), Err(status::EMPTY_KEY));
    }

    #[test]
    fn streams_refuse_sorts_and_filters() {
        let base = RangeRequest { key: "k".into(), ..Default::default() };
        let sorted = RangeRequest { sort_order: SortOrder::Descend.into(), ..base.clone() };
        let filtered = RangeRequest { max_mod_revision: 1, ..base.clone() };
        let ascending = RangeRequest { sort_order: SortOrder::Ascend.into(), ..base.clone() };
        let unsorted = RangeRequest { sort_target: SortTarget::Mod.into(), ..base.clone() };
        assert_eq!(range_stream(&sorted), Err(status::RANGE_STREAM_SORT));
        assert_eq!(range_stream(&filtered), Err(status::RANGE_STREAM_FILTER));
        assert_eq!(range_stream(&ascending), Ok(()));
        assert_eq!(range_stream(&unsorted), Ok(()));
        assert_eq!(range(&RangeRequest { sort_target: 9, ..base }), Err(status::INVALID_SORT_OPTION));
    }
}
