//! KV: Range, Put, DeleteRange, Txn, Compact.

use std::sync::Arc;

use api::etcdserverpb::{
    AlarmType, CompactionRequest, CompactionResponse, DeleteRangeRequest, PutRequest, RangeRequest,
    TxnRequest,
};
use api::internal::QuotaAlarm;
use api::status::{self, Status};
use bytes::Bytes;

use super::caller::Caller;
use super::{Failure, Framed, Rpc, blocking, check, decode, encode, frame};
use crate::apply::{self, Output};
use crate::proposal::Command;
use crate::read::options;

/// Above this many keys an answer is made on a thread of its own, so that nobody waits behind it.
const LARGE_KEYS: i64 = 1000;

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
    let large = !request.range_end.is_empty()
        && !request.count_only
        && (request.limit <= 0 || request.limit > LARGE_KEYS)
        && rpc.shared.reader.count(&request.key, &request.range_end) > LARGE_KEYS;
    let shared = Arc::clone(&rpc.shared);
    let answer = move || -> Framed {
        let result = shared.reader.range(&options)?;
        seen.still(&shared.users.rules())?;
        encode::frame(&encode::Range::new(shared.header(result.revision), &result))
    };
    if large { blocking(answer).await? } else { answer() }
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
    match rpc.shared.proposals.propose(Command::delete_range(raw).by(identity)).await? {
        Output::DeleteRange { revision, deleted, prevs } => {
            let header = rpc.shared.header(revision);
            encode::frame(&encode::DeleteRange { header, deleted, prevs: &prevs })
        }
        other => Err(mismatched(&other)),
    }
}

pub(super) async fn txn(rpc: &Arc<Rpc>, caller: &Caller, raw: Bytes) -> Framed {
    let request: TxnRequest = decode(&raw)?;
    admit(rpc, apply::txn_cost(&request)).await?;
    check::txn(&request, rpc.limits.txn_ops)?;
    let output = if check::read_only(&request) {
        read_txn(rpc, caller, request).await?
    } else {
        let identity = rpc.permitted(caller, |permit| permit.txn(&request)).await?;
        match propose(rpc, Command::txn(raw).by(identity)).await? {
            Output::Txn(output) => output,
            other => return Err(mismatched(&other)),
        }
    };
    encode::frame(&encode::Txn { header: rpc.shared.header(output.revision), output: &output })
}

/// A transaction that only reads goes past the log; one without a single linearizable range also past the barrier.
async fn read_txn(rpc: &Arc<Rpc>, caller: &Caller, request: TxnRequest) -> Result<apply::TxnOutput, Failure> {
    if !check::serializable(&request) {
        rpc.barrier().await?;
    }
    let seen = rpc.may_read(caller, |permit| permit.txn(&request)).await?;
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
    Ok(evaluated)
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
