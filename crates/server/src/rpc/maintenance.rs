//! Maintenance: Status, Alarm, Defragment, Hash, HashKV, MoveLeader, Downgrade.

use std::sync::Arc;

use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, DefragmentResponse, DowngradeInfo, DowngradeRequest,
    HashKvRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse, StatusResponse,
};
use api::status;
use backend::{Backend, Table};
use bytes::Bytes;

use super::caller::Caller;
use super::{Failure, Framed, Rpc, blocking, decode, frame, health, kv};
use crate::apply::Output;
use crate::calls;
use crate::downgrade;
use crate::flags::ETCD_VERSION;
use crate::member::Shared;
use crate::proposal::Command;

pub(super) fn status(rpc: &Rpc) -> Framed {
    let shared = &rpc.shared;
    let raft = rpc.node.status();
    let size = rpc.shared.files.get().size().map_err(|error| Failure::unknown(error.to_string()))?;
    let live = shared.reader.live_bytes();
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut errors = Vec::new();
    if raft.leader.is_none() {
        errors.push(status::NO_LEADER.text().to_owned());
    }
    for alarm in shared.alarms.list(AlarmType::None) {
        errors.push(format!("memberID:{} alarm:{}", alarm.member_id, alarm.alarm().as_str_name()));
    }
    Ok(frame::message(&StatusResponse {
        header: Some(shared.header_now()),
        version: ETCD_VERSION.to_owned(),
        // Clients divide by the size; an empty store has one, too.
        db_size: signed(size.total_bytes.max(live).max(1)),
        leader: raft.leader.unwrap_or(0),
        raft_index: raft.committed.map_or(0, |committed| committed.index),
        raft_term: shared.applied.term(),
        raft_applied_index: shared.applied.index(),
        errors,
        db_size_in_use: signed(live.max(1)),
        is_learner: shared.members.is_learner(),
        storage_version: shared.members.version().unwrap_or_default(),
        db_size_quota: shared.quota.limit().map_or(-1, signed),
        downgrade_info: Some(downgrade_info(shared)),
    }))
}

fn downgrade_info(shared: &Shared) -> DowngradeInfo {
    match shared.members.downgrade() {
        Some(target_version) => DowngradeInfo { enabled: true, target_version },
        None => DowngradeInfo::default(),
    }
}

pub(super) async fn downgrade(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let request: DowngradeRequest = decode(raw)?;
    rpc.root(caller).await?;
    let timeout = rpc.limits.request_timeout;
    let response = downgrade::answer(&rpc.shared, &rpc.node, timeout, &request).await?;
    Ok(frame::message(&response))
}

pub(super) async fn alarm(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let request: AlarmRequest = decode(raw)?;
    if request.action() != AlarmAction::Get {
        rpc.root(caller).await?;
    }
    match rpc.shared.proposals.propose(Command::alarm(&request)).await? {
        Output::Alarms { revision, alarms } => {
            let header = Some(rpc.shared.header(revision));
            Ok(frame::message(&AlarmResponse { header, alarms }))
        }
        other => Err(kv::mismatched(&other)),
    }
}

/// Rewrites the tables without what is dead. Requests go on meanwhile; nothing stands still as it does in etcd.
pub(super) async fn defragment(rpc: &Arc<Rpc>) -> Framed {
    let backend = rpc.shared.files.get();
    let work = blocking(move || Table::ALL.iter().try_for_each(|table| backend.compact(*table)));
    let done =
        if rpc.stop_on_defrag { health::while_not_serving(&rpc.health, work).await } else { work.await };
    done?.map_err(|error| Failure::unknown(error.to_string()))?;
    tracing::info!("finished defragmenting");
    Ok(frame::message(&DefragmentResponse { header: None }))
}

/// CRC-32C over every record of every table but the position in the log.
pub(super) async fn hash(rpc: &Arc<Rpc>) -> Framed {
    let backend = rpc.shared.files.get();
    let hash = blocking(move || hash_tables(&*backend)).await?;
    let hash = hash.map_err(|error| Failure::unknown(error.to_string()))?;
    Ok(frame::message(&HashResponse { header: Some(rpc.shared.header_now()), hash }))
}

fn hash_tables(backend: &dyn Backend) -> backend::Result<u32> {
    let view = backend.read()?;
    let mut hash = 0;
    for table in Table::ALL.iter().filter(|table| **table != Table::Meta) {
        hash = crc32c::crc32c_append(hash, table.name().as_bytes());
        let mut records = view.scan(*table, &[], None)?;
        while let Some((key, value)) = records.next()? {
            hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, key), value);
        }
    }
    Ok(hash)
}

pub(super) async fn hash_kv(rpc: &Arc<Rpc>, raw: &Bytes) -> Framed {
    let request: HashKvRequest = decode(raw)?;
    Ok(frame::message(&calls::hash_kv(&rpc.shared, &request).await?))
}

pub(super) async fn move_leader(rpc: &Arc<Rpc>, raw: &Bytes) -> Framed {
    let request: MoveLeaderRequest = decode(raw)?;
    rpc.membership.move_leader(request.target_id).await?;
    Ok(frame::message(&MoveLeaderResponse { header: None }))
}
