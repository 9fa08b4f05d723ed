//! KV: Range, Put, DeleteRange, Txn, Compact.

use std::sync::Arc;

use api::etcdserverpb::RequestOp;
use api::etcdserverpb::request_op::Request as Op;
use api::etcdserverpb::{
    AlarmType, CompactionRequest, CompactionResponse, DeleteRangeRequest, PutRequest, RangeRequest,
    TxnRequest,
};
use api::internal::QuotaAlarm;
use api::status::{self, Status};
use bytes::Bytes;
use mvcc::RangeOptions;

use super::budget::{self, Share};
use super::caller::{Caller, Seen};
use super::{Failure, Framed, Rpc, blocking, check, decode, encode, frame};
use crate::apply::{self, Output};
use crate::member::Shared;
use crate::proposal::Command;
use crate::read::options;

/// Above this many keys or bytes an answer is made on a thread of its own, so that nobody waits behind it.
const LARGE_KEYS: i64 = 1000;
const LARGE_BYTES: usize = 1024 * 1024;

/// So many compactions may overtake one read before it gives up.
const OVERTAKEN_MAX: usize = 8;

pub(super) async fn range(rpc: &Arc<Rpc>, caller: &Caller, raw: Bytes) -> Framed {
    let request: RangeRequest = decode(&raw)?;
    if !request.serializable && rpc.shared.members.is_learner() {
        return Err(status::NOT_SUPPORTED_FOR_LEARNER.into());
    }
    check::range(&request)?;
    if !request.serializable {
        rpc.barrier().await?;
    }
    let seen = rpc.may_read(caller, |permit| permit.range(&request)).await?;
    rpc.shared.counters.ranges.add(1);
    let options = options(&request);
    if options.count_only {
        return read(&rpc.shared, &options, &seen);
    }
    let many = has_many_keys(&rpc.shared.reader, &options);
    let past = options.revision > 0;
    let bytes = if past && is_unlimited(&options) {
        // Only what is read now can be weighed.
        rpc.budget.guess()
    } else if many {
        let (reader, options) = (rpc.shared.reader.clone(), options.clone());
        blocking(move || weigh(&reader, &options)).await?
    } else {
        weigh(&rpc.shared.reader, &options)
    };
    if !many && !past && bytes < budget::SMALL_BYTES {
        return read(&rpc.shared, &options, &seen);
    }
    let mut share = rpc.budget.reserve(bytes).await;
    loop {
        let frame = if many || bytes > LARGE_BYTES {
            let (shared, options, seen) = (Arc::clone(&rpc.shared), options.clone(), seen.clone());
            blocking(move || read(&shared, &options, &seen)).await??
        } else {
            read(&rpc.shared, &options, &seen)?
        };
        if frame.len() <= share.bytes() || share.is_whole(&rpc.budget) {
            return Ok(share.hold(frame));
        }
        // It has grown since it was weighed, or could not be. To wait for more while holding some would be a deadlock.
        let bytes = 2 * frame.len();
        drop((frame, share));
        share = rpc.budget.reserve(bytes).await;
    }
}

fn read(shared: &Shared, options: &RangeOptions, seen: &Seen) -> Framed {
    let result = shared.reader.range(options)?;
    seen.still(&shared.users.rules())?;
    encode::frame(&encode::Range::new(shared.header(result.revision), &result))
}

/// Whether there may be many keys in the range, by what is asked for.
fn is_unlimited(options: &RangeOptions) -> bool {
    !options.range_end.is_empty() && (options.limit <= 0 || options.limit > LARGE_KEYS)
}

fn has_many_keys(reader: &mvcc::Reader, options: &RangeOptions) -> bool {
    is_unlimited(options) && reader.count(&options.key, &options.range_end) > LARGE_KEYS
}

/// What an answer takes up while it is made: what was read, and then the answer itself beside it.
fn weigh(reader: &mvcc::Reader, options: &RangeOptions) -> usize {
    usize::try_from(2 * reader.weigh(options)).unwrap_or(usize::MAX)
}

/// Reserves what a transaction may read, or a delete in it give back: the more of either branch.
async fn reserve(rpc: &Rpc, request: &TxnRequest) -> Result<Share, Failure> {
    let (reader, guess) = (rpc.shared.reader.clone(), rpc.budget.guess());
    let bytes = if walks_far(&reader, request) {
        let request = request.clone();
        blocking(move || weigh_txn(&reader, &request, guess)).await?
    } else {
        weigh_txn(&reader, request, guess)
    };
    Ok(rpc.budget.reserve(bytes).await)
}

/// Whether many keys must be looked at to weigh a transaction.
fn walks_far(reader: &mvcc::Reader, request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(Op::RequestRange(range)) => has_many_keys(reader, &options(range)),
        Some(Op::RequestDeleteRange(delete)) => delete.prev_kv && has_many_keys(reader, &deleted(delete)),
        Some(Op::RequestTxn(nested)) => walks_far(reader, nested),
        Some(Op::RequestPut(_)) | None => false,
    })
}

/// The range that a delete gives back.
fn deleted(request: &DeleteRangeRequest) -> RangeOptions {
    RangeOptions::new(request.key.clone(), request.range_end.clone())
}

fn weigh_txn(reader: &mvcc::Reader, request: &TxnRequest, guess: usize) -> usize {
    let branch = |ops: &[RequestOp]| -> usize {
        let weights = ops.iter().map(|op| match &op.request {
            Some(Op::RequestRange(range)) if range.count_only => 0,
            Some(Op::RequestRange(range)) => match options(range) {
                options if options.revision > 0 && is_unlimited(&options) => guess,
                options => weigh(reader, &options),
            },
            Some(Op::RequestDeleteRange(delete)) if delete.prev_kv => weigh(reader, &deleted(delete)),
            Some(Op::RequestTxn(nested)) => weigh_txn(reader, nested, guess),
            _ => 0,
        });
        weights.fold(0, usize::saturating_add)
    };
    branch(&request.success).max(branch(&request.failure))
}

pub(super) async fn put(rpc: &Arc<Rpc>, caller: &Caller, raw: Bytes) -> Framed {
    let request: PutRequest = decode(&raw)?;
    admit(rpc, apply::put_cost(&request.key, &request.value)).await?;
    check::put(&request)?;
    let identity = rpc.permitted(caller, |permit| permit.put(&request)).await?;
    match propose(rpc, Command::put(raw).by(identity)).await? {
        Output::Put { revision, prev } => {
            encode::frame(&encode::Put { header: rpc.shared.header(revision), prev: prev.as_ref() })
        }
        other => Err(mismatched(&other)),
    }
}

pub(super) async fn delete_range(rpc: &Arc<Rpc>, caller: &Caller, raw: Bytes) -> Framed {
    let request: DeleteRangeRequest = decode(&raw)?;
    check::delete_range(&request)?;
    let identity = rpc.permitted(caller, |permit| permit.delete_range(&request)).await?;
    let mut share = Share::default();
    if request.prev_kv {
        let (reader, deleted) = (rpc.shared.reader.clone(), deleted(&request));
        let bytes = if has_many_keys(&reader, &deleted) {
            blocking(move || weigh(&reader, &deleted)).await?
        } else {
            weigh(&reader, &deleted)
        };
        share = rpc.budget.reserve(bytes).await;
    }
    match rpc.shared.proposals.propose(Command::delete_range(raw).by(identity)).await? {
        Output::DeleteRange { revision, deleted, prevs } => {
            let header = rpc.shared.header(revision);
            Ok(share.hold(encode::frame(&encode::DeleteRange { header, deleted, prevs: &prevs })?))
        }
        other => Err(mismatched(&other)),
    }
}

pub(super) async fn txn(rpc: &Arc<Rpc>, caller: &Caller, raw: Bytes) -> Framed {
    let request: TxnRequest = decode(&raw)?;
    admit(rpc, apply::txn_cost(&request)).await?;
    check::txn(&request, rpc.limits.txn_ops)?;
    let (output, share) = if check::read_only(&request) {
        read_txn(rpc, caller, request).await?
    } else {
        let identity = rpc.permitted(caller, |permit| permit.txn(&request)).await?;
        let share = reserve(rpc, &request).await?;
        match propose(rpc, Command::txn(raw).by(identity)).await? {
            Output::Txn(output) => (output, share),
            other => return Err(mismatched(&other)),
        }
    };
    let header = rpc.shared.header(output.revision);
    Ok(share.hold(encode::frame(&encode::Txn { header, output: &output })?))
}

/// A transaction that only reads goes past the log; one without a single linearizable range also past the barrier.
async fn read_txn(
    rpc: &Arc<Rpc>,
    caller: &Caller,
    request: TxnRequest,
) -> Result<(apply::TxnOutput, Share), Failure> {
    if !check::serializable(&request) {
        rpc.barrier().await?;
    }
    let seen = rpc.may_read(caller, |permit| permit.txn(&request)).await?;
    let share = reserve(rpc, &request).await?;
    rpc.shared.counters.txns.add(1);
    let reader = rpc.shared.reader.clone();
    // Any of its ranges may be large, and it is rare enough not to tell.
    let evaluated = blocking(move || {
        // A compaction that overtakes the view takes it away; what is asked for is still there in the next.
        (0..OVERTAKEN_MAX)
            .map(|_| apply::evaluate(&reader.read(), &request))
            .find(|evaluated| !matches!(evaluated, Err(mvcc::Error::Compacted)))
            .unwrap_or(Err(mvcc::Error::Compacted))
    });
    let evaluated = evaluated.await???;
    seen.still(&rpc.shared.users.rules())?;
    Ok((evaluated, share))
}

pub(super) async fn compact(rpc: &Arc<Rpc>, raw: Bytes) -> Framed {
    let request: CompactionRequest = decode(&raw)?;
    match rpc.shared.proposals.propose(Command::compaction(&request)).await {
        Ok(Output::Compaction { revision, running }) => {
            if request.physical {
                rpc.shared.compactions.finished(running.revision()).await;
            }
            let header = Some(rpc.shared.header(revision));
            Ok(frame::message(&CompactionResponse { header }))
        }
        Ok(other) => Err(mismatched(&other)),
        Err(refusal) => {
            if request.physical && refusal == status::COMPACTED {
                rpc.shared.compactions.idle().await;
            }
            Err(refusal.into())
        }
    }
}

/// Refuses what does not fit into the quota.
pub(super) async fn admit(rpc: &Rpc, cost: u64) -> Result<(), Status> {
    if rpc.shared.quota.has_room(cost) {
        return Ok(());
    }
    Box::pin(raise_no_space(rpc)).await;
    Err(status::NO_SPACE)
}

/// Proposes what takes space, which may find that there is none when it is applied.
pub(super) async fn propose(rpc: &Rpc, command: Command) -> apply::Answer {
    let answer = rpc.shared.proposals.propose(command).await;
    if answer.as_ref().is_err_and(|refusal| *refusal == status::NO_SPACE) {
        // Rare, and not to make every call larger.
        Box::pin(raise_no_space(rpc)).await;
    }
    answer
}

/// Raises the alarm before the refusal is answered, as etcd does: who is told of the one finds the other.
async fn raise_no_space(rpc: &Rpc) {
    let shared = &rpc.shared;
    let raise = async {
        let _raising = shared.quota.raising.lock().await;
        if shared.alarms.is_raised(AlarmType::Nospace) {
            return;
        }
        tracing::warn!("message exceeded backend quota; raising alarm");
        let request = QuotaAlarm { member_id: shared.member_id.get(), raised: true };
        // If this fails, the next request over the quota tries again.
        drop(shared.proposals.propose(Command::quota_alarm(&request)).await);
    };
    drop(tokio::time::timeout(rpc.limits.request_timeout, raise).await);
}

/// The apply answers each command in kind; anything else is our bug.
pub(super) fn mismatched(output: &Output) -> Failure {
    Failure::internal(format!("the apply answered another command: {output:?}"))
}
