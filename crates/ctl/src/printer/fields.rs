//! `"Name" : value` lines.

use std::fmt::Display;
use std::io::Write as _;

use api::etcdserverpb::response_op::Response;
use api::etcdserverpb::{
    AlarmResponse, AuthRoleGetResponse, AuthRoleListResponse, HashKvResponse, LeaseTimeToLiveResponse,
    MemberListResponse, ResponseHeader, StatusResponse, TxnResponse, WatchResponse,
};
use api::mvccpb::KeyValue;
use api::mvccpb::event::EventType;
use api::{LeaseId, MemberId};

use super::{Answer, Health, alarm_name, header};
use crate::go::quote;

/// Returns whether there are fields for this answer.
pub(super) fn print(out: &mut Vec<u8>, answer: &Answer<'_>, hex: bool) -> bool {
    match answer {
        Answer::MemberAdd(_)
        | Answer::MemberRemove(..)
        | Answer::MemberUpdate(..)
        | Answer::MemberPromote(..)
        | Answer::MoveLeader { .. }
        | Answer::AuthStatus(_)
        | Answer::User(..)
        | Answer::Users(_)
        | Answer::Downgrade(..) => return false,
        answer => Fields { out, hex }.answer(answer),
    }
    true
}

struct Fields<'a> {
    out: &'a mut Vec<u8>,
    hex: bool,
}

impl Fields<'_> {
    fn answer(&mut self, answer: &Answer<'_>) {
        match answer {
            Answer::Get(response) => {
                self.header(response.header.as_ref());
                response.kvs.iter().for_each(|kv| self.kv("", kv));
                self.field("More", response.more);
                self.field("Count", response.count);
            }
            Answer::Put(response) => {
                self.header(response.header.as_ref());
                response.prev_kv.iter().for_each(|kv| self.kv("Prev", kv));
            }
            Answer::Delete(response) => {
                self.header(response.header.as_ref());
                self.field("Deleted", response.deleted);
                response.prev_kvs.iter().for_each(|kv| self.kv("Prev", kv));
            }
            Answer::Txn(response) => self.txn(response),
            Answer::Watch(response) => self.watch(response),
            Answer::WatchRefused => self.header(None),
            Answer::LeaseGrant(response) => self.lease(response.header.as_ref(), response.id, response.ttl),
            Answer::LeaseKeepAlive(response) => {
                self.lease(response.header.as_ref(), response.id, response.ttl);
            }
            Answer::LeaseRevoke(response, _) => self.header(response.header.as_ref()),
            Answer::LeaseTimeToLive(response, _) => self.time_to_live(response),
            Answer::LeaseList(response) => {
                self.header(response.header.as_ref());
                response.leases.iter().for_each(|lease| self.lease_id("ID", lease.id));
            }
            Answer::Members(response) => self.members(response),
            Answer::Health(endpoints) => endpoints.iter().for_each(|health| self.health(health)),
            Answer::Status(endpoints) => {
                endpoints.iter().for_each(|(endpoint, status)| self.status(endpoint, status));
            }
            Answer::HashKv(endpoints) => {
                endpoints.iter().for_each(|(endpoint, hash)| self.hash_kv(endpoint, hash));
            }
            Answer::Alarms(response) => self.alarms(response),
            Answer::AccessChanged(header, _) => self.header(*header),
            Answer::Role(response, _) => self.role(response),
            Answer::Roles(response) => self.roles(response),
            Answer::SnapshotStatus(status) => {
                self.field("Hash", status.hash);
                self.field("Revision", status.revision);
                self.field("Keys", status.total_keys);
                self.field("Size", status.total_size);
                self.field("Version", &status.version);
            }
            // Refused before it comes here.
            Answer::MemberAdd(_)
            | Answer::MemberRemove(..)
            | Answer::MemberUpdate(..)
            | Answer::MemberPromote(..)
            | Answer::MoveLeader { .. }
            | Answer::AuthStatus(_)
            | Answer::User(..)
            | Answer::Users(_)
            | Answer::Downgrade(..) => {}
        }
    }

    fn field(&mut self, name: &str, value: impl Display) {
        // Writing to a buffer cannot fail.
        writeln!(self.out, "\"{name}\" : {value}").unwrap_or(());
    }

    fn quoted(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.field(name, quote(value.as_ref()));
    }

    fn blank(&mut self) {
        self.out.push(b'\n');
    }

    fn id(&mut self, name: &str, id: u64) {
        if self.hex {
            self.field(name, MemberId::new(id));
        } else {
            self.field(name, id);
        }
    }

    fn lease_id(&mut self, name: &str, id: i64) {
        if self.hex {
            self.field(name, LeaseId::new(id));
        } else {
            self.field(name, id);
        }
    }

    fn header(&mut self, given: Option<&ResponseHeader>) {
        let header = header(given);
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        if header.revision > 0 {
            self.field("Revision", header.revision);
        }
        self.field("RaftTerm", header.raft_term);
    }

    fn kv(&mut self, prefix: &str, kv: &KeyValue) {
        self.quoted(&format!("{prefix}Key"), &kv.key);
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.quoted(&format!("{prefix}Value"), &kv.value);
        self.lease_id(&format!("{prefix}Lease"), kv.lease);
    }

    fn txn(&mut self, response: &TxnResponse) {
        self.header(response.header.as_ref());
        self.field("Succeeded", response.succeeded);
        for op in &response.responses {
            match &op.response {
                Some(Response::ResponseRange(range)) => self.answer(&Answer::Get(range)),
                Some(Response::ResponsePut(put)) => self.answer(&Answer::Put(put)),
                Some(Response::ResponseDeleteRange(delete)) => self.answer(&Answer::Delete(delete)),
                Some(Response::ResponseTxn(nested)) => self.txn(nested),
                None => {}
            }
        }
    }

    fn watch(&mut self, response: &WatchResponse) {
        self.header(response.header.as_ref());
        for event in &response.events {
            self.field("Type", if event.r#type() == EventType::Put { "PUT" } else { "DELETE" });
            event.prev_kv.iter().for_each(|kv| self.kv("Prev", kv));
            event.kv.iter().for_each(|kv| self.kv("", kv));
        }
    }

    fn lease(&mut self, header: Option<&ResponseHeader>, id: i64, ttl: i64) {
        self.header(header);
        self.lease_id("ID", id);
        self.field("TTL", ttl);
    }

    fn time_to_live(&mut self, response: &LeaseTimeToLiveResponse) {
        self.lease(response.header.as_ref(), response.id, response.ttl);
        self.field("GrantedTTL", response.granted_ttl);
        response.keys.iter().for_each(|key| self.quoted("Key", key));
    }

    fn members(&mut self, response: &MemberListResponse) {
        self.header(response.header.as_ref());
        for member in &response.members {
            self.id("ID", member.id);
            self.quoted("Name", &member.name);
            member.peer_ur_ls.iter().for_each(|url| self.quoted("PeerURL", url));
            member.client_ur_ls.iter().for_each(|url| self.quoted("ClientURL", url));
            self.field("IsLearner", member.is_learner);
            self.blank();
        }
    }

    fn health(&mut self, health: &Health) {
        self.quoted("Endpoint", &health.endpoint);
        self.field("Health", health.error.is_none());
        self.field("Took", health.took());
        self.field("Error", health.error.as_deref().unwrap_or(""));
        self.blank();
    }

    fn status(&mut self, endpoint: &str, status: &StatusResponse) {
        let downgrade = status.downgrade_info.clone().unwrap_or_default();
        self.header(status.header.as_ref());
        self.quoted("Version", &status.version);
        self.quoted("StorageVersion", &status.storage_version);
        self.field("DBSize", status.db_size);
        self.field("DBSizeInUse", status.db_size_in_use);
        self.field("DBSizeQuota", status.db_size_quota);
        self.field("Leader", status.leader);
        self.field("IsLearner", status.is_learner);
        self.field("RaftIndex", status.raft_index);
        self.field("RaftTerm", status.raft_term);
        self.field("RaftAppliedIndex", status.raft_applied_index);
        self.field("Errors", format!("[{}]", status.errors.join(" ")));
        self.quoted("Endpoint", endpoint);
        self.quoted("DowngradeTargetVersion", &downgrade.target_version);
        self.field("DowngradeEnabled", downgrade.enabled);
        self.blank();
    }

    fn hash_kv(&mut self, endpoint: &str, hash: &HashKvResponse) {
        self.header(hash.header.as_ref());
        self.quoted("Endpoint", endpoint);
        self.field("Hash", hash.hash);
        self.field("HashRevision", hash.hash_revision);
        self.blank();
    }

    fn alarms(&mut self, response: &AlarmResponse) {
        self.header(response.header.as_ref());
        for alarm in &response.alarms {
            self.id("MemberID", alarm.member_id);
            self.field("AlarmType", alarm_name(alarm.alarm));
            self.blank();
        }
    }

    fn role(&mut self, response: &AuthRoleGetResponse) {
        self.header(response.header.as_ref());
        for permission in &response.perm {
            // The second space is etcdctl's.
            self.field("PermType", format!(" {}", permission.perm_type().as_str_name()));
            self.quoted("Key", &permission.key);
            self.quoted("RangeEnd", &permission.range_end);
        }
    }

    fn roles(&mut self, response: &AuthRoleListResponse) {
        self.header(response.header.as_ref());
        let roles: Vec<String> = response.roles.iter().map(|role| quote(role.as_bytes())).collect();
        self.field("Roles", roles.join(" "));
    }
}
