//! The default format: for people, and for scripts that cut lines.

use api::authpb::Permission;
use api::authpb::permission::Type;
use api::etcdserverpb::response_op::Response;
use api::etcdserverpb::{
    AlarmMember, AuthRoleGetResponse, HashKvResponse, LeaseLeasesResponse, LeaseTimeToLiveResponse, Member,
    ResponseHeader, StatusResponse, TxnResponse, WatchResponse,
};
use api::mvccpb::KeyValue;
use api::mvccpb::event::EventType;
use api::{LeaseId, MemberId};

use super::{Answer, Health, ShowKeys, SnapshotStatus, alarm_name, header, size};

#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) hex: bool,
    pub(super) values_only: bool,
}

pub(super) fn print(out: &mut Vec<u8>, answer: &Answer<'_>, style: Style) {
    match answer {
        Answer::Get(response) => pairs(out, &response.kvs, style),
        Answer::Put(response) => {
            line(out, "OK");
            if let Some(kv) = &response.prev_kv {
                pair(out, kv, style);
            }
        }
        Answer::Delete(response) => {
            line(out, response.deleted.to_string());
            pairs(out, &response.prev_kvs, style);
        }
        Answer::Txn(response) => txn(out, response, style),
        Answer::Watch(response) => watch(out, response, style),
        Answer::WatchRefused => {}
        Answer::LeaseGrant(response) => {
            line(out, format!("lease {} granted with TTL({}s)", LeaseId::new(response.id), response.ttl));
        }
        Answer::LeaseRevoke(_, id) => line(out, format!("lease {} revoked", LeaseId::new(*id))),
        Answer::LeaseTimeToLive(response, keys) => time_to_live(out, response, *keys),
        Answer::LeaseKeepAlive(response) => {
            line(out, format!("lease {} keepalived with TTL({})", LeaseId::new(response.id), response.ttl));
        }
        Answer::LeaseList(response) => leases(out, response),
        Answer::Members(response) => rows(out, response.members.iter().map(member_row)),
        Answer::MemberAdd(response) => {
            let member = response.member.clone().unwrap_or_default();
            let added = if member.is_learner { "added as learner to" } else { "added to" };
            changed(out, MemberId::new(member.id), added, response.header.as_ref());
        }
        Answer::MemberRemove(response, id) => changed(out, *id, "removed from", response.header.as_ref()),
        Answer::MemberUpdate(response, id) => changed(out, *id, "updated in", response.header.as_ref()),
        Answer::MemberPromote(response, id) => changed(out, *id, "promoted in", response.header.as_ref()),
        Answer::MoveLeader { from, to, .. } => {
            line(out, format!("Leadership transferred from {from} to {to}"));
        }
        Answer::Health(endpoints) => endpoints.iter().for_each(|health| line(out, health_line(health))),
        Answer::Status(endpoints) => rows(out, endpoints.iter().map(status_row)),
        Answer::HashKv(endpoints) => rows(out, endpoints.iter().map(hash_kv_row)),
        Answer::SnapshotStatus(status) => rows(out, std::iter::once(snapshot_row(status))),
        Answer::Alarms(response) => response.alarms.iter().for_each(|alarm| line(out, alarm_line(alarm))),
        Answer::AuthStatus(response) => {
            line(out, format!("Authentication Status: {}", response.enabled));
            line(out, format!("AuthRevision: {}", response.auth_revision));
        }
        Answer::AccessChanged(_, text) => line(out, text),
        Answer::User(response, name) => {
            line(out, format!("User: {name}"));
            let roles: String = response.roles.iter().map(|role| format!(" {role}")).collect();
            line(out, format!("Roles:{roles}"));
        }
        Answer::Users(response) => response.users.iter().for_each(|user| line(out, user)),
        Answer::Role(response, name) => role(out, name, response),
        Answer::Roles(response) => response.roles.iter().for_each(|role| line(out, role)),
        Answer::Downgrade(action, response) => {
            line(out, format!("Downgrade {action} success, cluster version {}", response.version));
        }
    }
}

/// What a role permits, once under each kind of access.
fn role(out: &mut Vec<u8>, name: &str, response: &AuthRoleGetResponse) {
    line(out, format!("Role {name}"));
    for (heading, access) in [("KV Read:", Type::Read), ("KV Write:", Type::Write)] {
        line(out, heading);
        let permits = |permission: &&Permission| [access, Type::Readwrite].contains(&permission.perm_type());
        response.perm.iter().filter(permits).for_each(|permission| line(out, range(permission)));
    }
}

fn range(permission: &Permission) -> Vec<u8> {
    let (key, end) = (&permission.key, &permission.range_end);
    let mut text = b"\t".to_vec();
    if end.is_empty() {
        text.extend_from_slice(key);
        return text;
    }
    text.extend_from_slice(&interval(key, end));
    if !key.is_empty() && *end == prefix_end(key) {
        text.extend_from_slice(&[b" (prefix ", &key[..], b")"].concat());
    }
    text
}

/// The end of the range of all keys that begin with `prefix`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// A range as it is written for people; one without an end has no closing parenthesis either.
pub(crate) fn interval(key: &[u8], end: &[u8]) -> Vec<u8> {
    match end {
        b"\0" => [b"[", key, b", <open ended>"].concat(),
        end => [b"[", key, b", ", end, b")"].concat(),
    }
}

fn line(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    out.extend_from_slice(text.as_ref());
    out.push(b'\n');
}

fn pairs(out: &mut Vec<u8>, kvs: &[KeyValue], style: Style) {
    kvs.iter().for_each(|kv| pair(out, kv, style));
}

fn pair(out: &mut Vec<u8>, kv: &KeyValue, style: Style) {
    if !style.values_only {
        line(out, shown(&kv.key, style));
    }
    line(out, shown(&kv.value, style));
}

fn shown(bytes: &[u8], style: Style) -> Vec<u8> {
    if !style.hex {
        return bytes.to_vec();
    }
    bytes.iter().flat_map(|byte| format!("\\x{byte:02x}").into_bytes()).collect()
}

fn txn(out: &mut Vec<u8>, response: &TxnResponse, style: Style) {
    line(out, if response.succeeded { "SUCCESS" } else { "FAILURE" });
    for op in &response.responses {
        line(out, "");
        match &op.response {
            Some(Response::ResponseRange(range)) => print(out, &Answer::Get(range), style),
            Some(Response::ResponsePut(put)) => print(out, &Answer::Put(put), style),
            Some(Response::ResponseDeleteRange(delete)) => print(out, &Answer::Delete(delete), style),
            Some(Response::ResponseTxn(nested)) => txn(out, nested, style),
            None => {}
        }
    }
}

fn watch(out: &mut Vec<u8>, response: &WatchResponse, style: Style) {
    for event in &response.events {
        line(out, if event.r#type() == EventType::Put { "PUT" } else { "DELETE" });
        if let Some(kv) = &event.prev_kv {
            pair(out, kv, style);
        }
        if let Some(kv) = &event.kv {
            pair(out, kv, style);
        }
    }
}

fn time_to_live(out: &mut Vec<u8>, response: &LeaseTimeToLiveResponse, keys: ShowKeys) {
    let id = LeaseId::new(response.id);
    if response.granted_ttl == 0 && response.ttl == -1 {
        return line(out, format!("lease {id} already expired"));
    }
    let mut text =
        format!("lease {id} granted with TTL({}s), remaining({}s)", response.granted_ttl, response.ttl)
            .into_bytes();
    if keys == ShowKeys::Yes {
        text.extend_from_slice(b", attached keys([");
        text.extend_from_slice(&response.keys.join(&b' '));
        text.extend_from_slice(b"])");
    }
    line(out, text);
}

fn leases(out: &mut Vec<u8>, response: &LeaseLeasesResponse) {
    line(out, format!("found {} leases", response.leases.len()));
    for lease in &response.leases {
        line(out, LeaseId::new(lease.id).to_string());
    }
}

pub(super) fn rows(out: &mut Vec<u8>, rows: impl Iterator<Item = Vec<String>>) {
    rows.for_each(|row| line(out, row.join(", ")));
}

fn changed(out: &mut Vec<u8>, member: MemberId, what: &str, given: Option<&ResponseHeader>) {
    let cluster = header(given).cluster_id;
    line(out, format!("Member {:>16x} {what} cluster {cluster:>16x}", member.get()));
}

pub(super) fn member_row(member: &Member) -> Vec<String> {
    let status = if member.name.is_empty() { "unstarted" } else { "started" };
    vec![
        MemberId::new(member.id).to_string(),
        status.to_owned(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

pub(super) fn status_row((endpoint, status): &(String, StatusResponse)) -> Vec<String> {
    let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
    let (size, in_use) = (bytes(status.db_size), bytes(status.db_size_in_use));
    // A server that reports no size would have etcdctl divide by zero.
    let free = 100_i128 - (i128::from(in_use) * 100).checked_div(i128::from(size)).unwrap_or(100);
    let downgrade = status.downgrade_info.clone().unwrap_or_default();
    let id = header(status.header.as_ref()).member_id;
    vec![
        endpoint.clone(),
        MemberId::new(id).to_string(),
        status.version.clone(),
        status.storage_version.clone(),
        size::si(size),
        size::si(in_use),
        format!("{free}%"),
        size::si(bytes(status.db_size_quota)),
        (status.leader == id).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

pub(super) fn snapshot_row(status: &SnapshotStatus) -> Vec<String> {
    vec![
        format!("{:x}", status.hash),
        status.revision.to_string(),
        status.total_keys.to_string(),
        size::si(status.total_size),
        status.version.clone(),
    ]
}

pub(super) fn hash_kv_row((endpoint, hash): &(String, HashKvResponse)) -> Vec<String> {
    vec![endpoint.clone(), hash.hash.to_string(), hash.hash_revision.to_string()]
}

fn health_line(health: &Health) -> String {
    let endpoint = &health.endpoint;
    match &health.error {
        None => format!("{endpoint} is healthy: successfully committed proposal: took = {}", health.took()),
        Some(error) => format!("{endpoint} is unhealthy: failed to commit proposal: {error}"),
    }
}

/// The alarm as protobuf's text format has it: what is zero is left out.
fn alarm_line(alarm: &AlarmMember) -> String {
    let member = Some(alarm.member_id).filter(|&id| id != 0).map(|id| format!("memberID:{id}"));
    let kind = Some(alarm.alarm).filter(|&kind| kind != 0).map(|kind| format!("alarm:{}", alarm_name(kind)));
    [member, kind].into_iter().flatten().collect::<Vec<_>>().join(" ")
}
