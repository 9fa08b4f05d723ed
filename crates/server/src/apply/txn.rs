//! Transactions: compare, choose a branch, check it, execute it.
//!
//! All comparisons, also those of nested transactions, see the state before the transaction; the paths are chosen first. Then
//! everything that could refuse an operation is checked, so that nothing can fail once the first one has written.
//!
//! Facts: etcd `server/etcdserver/txn/txn.go`.

use std::cmp::Ordering;

use api::LeaseId;
use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use api::mvccpb::KeyValue;
use api::status::{self, Status};
use mvcc::{RangeOptions, RangeResult, ReadTxn, WriteTxn};
use prost::Message as _;

use super::kv::{self, Put};
use super::{Answer, OpOutput, Output, TxnOutput};
use crate::member::Shared;
use crate::read::options;

/// What comparisons and ranges look at: a reader's view, or the writer's own.
pub(crate) trait View {
    fn range(&self, options: &RangeOptions) -> mvcc::Result<RangeResult>;
    fn revision(&self) -> i64;
    fn compact_revision(&self) -> i64;
}

impl View for ReadTxn {
    fn range(&self, options: &RangeOptions) -> mvcc::Result<RangeResult> {
        self.range(options)
    }
    fn revision(&self) -> i64 {
        self.revision()
    }
    fn compact_revision(&self) -> i64 {
        self.compact_revision()
    }
}

impl View for WriteTxn<'_> {
    fn range(&self, options: &RangeOptions) -> mvcc::Result<RangeResult> {
        self.range(options)
    }
    fn revision(&self) -> i64 {
        self.revision()
    }
    fn compact_revision(&self) -> i64 {
        self.compact_revision()
    }
}

/// The branch that was chosen, with those of the nested transactions in it.
struct Path<'a> {
    succeeded: bool,
    ops: &'a [RequestOp],
    /// One for each nested transaction among `ops`, in order.
    nested: Vec<Self>,
}

impl<'a> Path<'a> {
    fn choose(view: &impl View, txn: &'a TxnRequest) -> mvcc::Result<Self> {
        let mut succeeded = true;
        for compare in &txn.compare {
            if !holds(view, compare)? {
                succeeded = false;
                break;
            }
        }
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let mut nested = Vec::new();
        for op in ops {
            if let Some(Request::RequestTxn(txn)) = &op.request {
                nested.push(Path::choose(view, txn)?);
            }
        }
        Ok(Self { succeeded, ops, nested })
    }
}

/// Whether every key of the range satisfies the comparison. A missing key compares as zeros, and has no value at all.
fn holds(view: &impl View, compare: &Compare) -> mvcc::Result<bool> {
    let found = view.range(&RangeOptions::new(compare.key.clone(), compare.range_end.clone()))?;
    if found.kvs.is_empty() {
        let missing = KeyValue::default();
        return Ok(compare.target() != CompareTarget::Value && satisfies(compare, &missing));
    }
    for kv in found.kvs {
        let kv = KeyValue::decode(kv).map_err(|error| mvcc::Error::undecodable(&error))?;
        if !satisfies(compare, &kv) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn satisfies(compare: &Compare, kv: &KeyValue) -> bool {
    let number = |wanted: Option<i64>, actual: i64| actual.cmp(&wanted.unwrap_or_default());
    let ordering = match (CompareTarget::try_from(compare.target), &compare.target_union) {
        (Ok(CompareTarget::Version), union) => {
            number(if let Some(TargetUnion::Version(n)) = union { Some(*n) } else { None }, kv.version)
        }
        (Ok(CompareTarget::Create), union) => number(
            if let Some(TargetUnion::CreateRevision(n)) = union { Some(*n) } else { None },
            kv.create_revision,
        ),
        (Ok(CompareTarget::Mod), union) => number(
            if let Some(TargetUnion::ModRevision(n)) = union { Some(*n) } else { None },
            kv.mod_revision,
        ),
        (Ok(CompareTarget::Lease), union) => {
            number(if let Some(TargetUnion::Lease(n)) = union { Some(*n) } else { None }, kv.lease)
        }
        (Ok(CompareTarget::Value), Some(TargetUnion::Value(wanted))) => kv.value.cmp(wanted),
        (Ok(CompareTarget::Value), _) => kv.value.as_ref().cmp(&[]),
        // etcd compares an unknown target as equal, and takes an unknown result for true.
        (Err(_), _) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

/// Evaluates a transaction that only reads.
pub(crate) fn evaluate(view: &ReadTxn, txn: &TxnRequest) -> mvcc::Result<Result<TxnOutput, Status>> {
    let path = Path::choose(view, txn)?;
    if let Err(status) = check(view, &path, &|_| Ok(())) {
        return Ok(Err(status));
    }
    let mut ops = Vec::with_capacity(path.ops.len());
    for op in path.ops {
        if let Some(Request::RequestRange(request)) = &op.request {
            ops.push(OpOutput::Range(view.range(&options(request))?));
        }
    }
    Ok(Ok(TxnOutput { revision: view.revision(), succeeded: path.succeeded, ops }))
}

/// Checks the operations of the chosen path in their order, the puts as told.
fn check(
    view: &impl View,
    path: &Path<'_>,
    put: &impl Fn(&PutRequest) -> Result<(), Status>,
) -> Result<(), Status> {
    let mut nested = path.nested.iter();
    for op in path.ops {
        match &op.request {
            Some(Request::RequestRange(request)) => check_range(view, request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestTxn(_)) => {
                if let Some(path) = nested.next() {
                    check(view, path, put)?;
                }
            }
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// Unlike in a plain range, a negative revision is not "now": it lies below whatever has been compacted.
fn check_range(view: &impl View, request: &RangeRequest) -> Result<(), Status> {
    match request.revision {
        0 => Ok(()),
        revision if revision > view.revision() => Err(status::FUTURE_REV),
        revision if revision < view.compact_revision() => Err(status::COMPACTED),
        _ => Ok(()),
    }
}

/// What a put needs: its key where it refers to what is there, and its lease.
fn check_put(shared: &Shared, txn: &WriteTxn<'_>, request: &PutRequest) -> Result<(), Status> {
    if (request.ignore_value || request.ignore_lease) && txn.lookup(&request.key).is_none() {
        return Err(status::KEY_NOT_FOUND);
    }
    let lease = LeaseId::new(request.lease);
    if !lease.is_none() && !shared.lessor.contains(lease) {
        return Err(status::LEASE_NOT_FOUND);
    }
    Ok(())
}

/// A put that refers to its key fails if an earlier operation of the transaction takes the key away. etcd crashes there; the
/// only way in is a delete "from a key on", which its check for keys written twice does not see.
fn check_taken_away(path: &Path<'_>) -> Result<(), Status> {
    let mut from_keys: Vec<&[u8]> = Vec::new();
    fn walk<'a>(path: &'a Path<'_>, from_keys: &mut Vec<&'a [u8]>) -> Result<(), Status> {
        let mut nested = path.nested.iter();
        for op in path.ops {
            match &op.request {
                Some(Request::RequestDeleteRange(request)) if request.range_end.as_ref() == [0] => {
                    from_keys.push(&request.key);
                }
                Some(Request::RequestPut(PutRequest { key, ignore_value, ignore_lease, .. }))
                    if (*ignore_value || *ignore_lease) && from_keys.iter().any(|from| &key[..] >= *from) =>
                {
                    return Err(status::KEY_NOT_FOUND);
                }
                Some(Request::RequestTxn(_)) => {
                    if let Some(path) = nested.next() {
                        walk(path, from_keys)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
    walk(path, &mut from_keys)
}

pub(super) fn apply(shared: &Shared, txn: &mut WriteTxn<'_>, request: &TxnRequest) -> mvcc::Result<Answer> {
    shared.counters.txns.add(1);
    let path = Path::choose(txn, request)?;
    let checked = check(txn, &path, &|request| check_put(shared, txn, request));
    if let Err(status) = checked.and_then(|()| check_taken_away(&path)) {
        return Ok(Err(status));
    }
    let mut output = execute(shared, txn, &path)?;
    output.revision = txn.end_request();
    if puts(&path) && shared.quota.exceeded() {
        return Ok(Err(status::NO_SPACE));
    }
    Ok(Ok(Output::Txn(output)))
}

fn puts(path: &Path<'_>) -> bool {
    path.ops.iter().any(|op| matches!(op.request, Some(Request::RequestPut(_))))
        || path.nested.iter().any(puts)
}

fn execute(shared: &Shared, txn: &mut WriteTxn<'_>, path: &Path<'_>) -> mvcc::Result<TxnOutput> {
    let mut nested = path.nested.iter();
    let mut ops = Vec::with_capacity(path.ops.len());
    for op in path.ops {
        match &op.request {
            Some(Request::RequestRange(request)) => ops.push(OpOutput::Range(txn.range(&options(request))?)),
            Some(Request::RequestPut(request)) => ops.push(put(shared, txn, request)?),
            Some(Request::RequestDeleteRange(request)) => {
                let (deleted, prevs) = kv::delete(shared, txn, request)?;
                ops.push(OpOutput::DeleteRange { revision: txn.open_revision(), deleted, prevs });
            }
            Some(Request::RequestTxn(_)) => {
                let path = nested.next().expect("every nested transaction has a path");
                ops.push(OpOutput::Txn(execute(shared, txn, path)?));
            }
            // Refused before it was proposed.
            None => {}
        }
    }
    Ok(TxnOutput { revision: txn.open_revision(), succeeded: path.succeeded, ops })
}

fn put(shared: &Shared, txn: &mut WriteTxn<'_>, request: &PutRequest) -> mvcc::Result<OpOutput> {
    let put = Put::resolve(shared, txn, request)?
        .map_err(|status| mvcc::Error::invariant(format!("a checked put failed: {status}")))?;
    let prev = put.write(shared, txn, request)?;
    Ok(OpOutput::Put { revision: txn.open_revision(), prev })
}
