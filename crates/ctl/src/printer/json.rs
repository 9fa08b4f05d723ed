//! JSON by the rules of Go's `encoding/json`: keys in the order of the structs, what is zero left out, bytes as base64,
//! 64-bit numbers as bare numbers, `<`, `>` and `&` escaped.
//!
//! The order of keys, what is left out and the escapes are all the work there is, so the writer is this file: a general
//! serializer would have to be taught each of them.

use std::fmt::Write as _;

use api::authpb::Permission;
use api::etcdserverpb::response_op::Response;
use api::etcdserverpb::{
    AlarmMember, AlarmResponse, DeleteRangeResponse, HashKvResponse, LeaseGrantResponse,
    LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseTimeToLiveResponse, Member, PutResponse, RangeResponse,
    ResponseHeader, ResponseOp, StatusResponse, TxnResponse, WatchResponse,
};
use api::mvccpb::{Event, KeyValue};

use super::{Answer, Health, SnapshotStatus};

/// One line, with its newline. `hex` matters to members alone.
pub(super) fn print(answer: &Answer<'_>, hex: bool) -> Vec<u8> {
    let mut text = match answer {
        Answer::Get(response) => range(response),
        Answer::Put(response) => put(response),
        Answer::Delete(response) => delete(response),
        Answer::Txn(response) => txn(response),
        Answer::Watch(response) => watch(response),
        Answer::WatchRefused => watch_refused(),
        Answer::LeaseGrant(response) => lease_grant(response),
        Answer::LeaseKeepAlive(response) => lease_keep_alive(response),
        Answer::LeaseRevoke(response, _) => Object::new().header(response.header.as_ref()).end(),
        Answer::LeaseTimeToLive(response, _) => lease_time_to_live(response),
        Answer::LeaseList(response) => lease_list(response),
        Answer::Members(response) => members(response.header.as_ref(), None, &response.members, hex),
        Answer::MemberAdd(response) => {
            members(response.header.as_ref(), response.member.as_ref(), &response.members, hex)
        }
        Answer::MemberRemove(response, _) => members(response.header.as_ref(), None, &response.members, hex),
        Answer::MemberUpdate(response, _) => members(response.header.as_ref(), None, &response.members, hex),
        Answer::MemberPromote(response, _) => members(response.header.as_ref(), None, &response.members, hex),
        Answer::MoveLeader { response, .. } => Object::new().header(response.header.as_ref()).end(),
        Answer::Health(endpoints) => list_or_null(endpoints, health),
        Answer::Status(endpoints) => list_or_null(endpoints, status),
        Answer::HashKv(endpoints) => list_or_null(endpoints, hash_kv),
        Answer::Alarms(response) => alarms(response),
        Answer::AuthStatus(response) => Object::new()
            .header(response.header.as_ref())
            .flag("enabled", response.enabled)
            .number("authRevision", response.auth_revision)
            .end(),
        Answer::AccessChanged(header, _) => Object::new().header(*header).end(),
        Answer::User(response, _) => {
            strings(Object::new().header(response.header.as_ref()), "roles", &response.roles).end()
        }
        Answer::Users(response) => {
            strings(Object::new().header(response.header.as_ref()), "users", &response.users).end()
        }
        Answer::Role(response, _) => {
            Object::new().header(response.header.as_ref()).list("perm", &response.perm, permission).end()
        }
        Answer::Roles(response) => {
            strings(Object::new().header(response.header.as_ref()), "roles", &response.roles).end()
        }
        Answer::Downgrade(_, response) => {
            Object::new().header(response.header.as_ref()).text("version", &response.version).end()
        }
        Answer::SnapshotStatus(status) => snapshot_status(status),
    };
    text.push('\n');
    text.into_bytes()
}

/// Every key is there, whatever its value.
fn snapshot_status(status: &SnapshotStatus) -> String {
    Object::new()
        .raw("hash", &status.hash.to_string())
        .raw("revision", &status.revision.to_string())
        .raw("totalKey", &status.total_keys.to_string())
        .raw("totalSize", &status.total_size.to_string())
        .raw("version", &string(&status.version))
        .end()
}

/// An object in the making; each method adds a key.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self("{".to_owned())
    }

    /// Adds what is JSON already.
    fn raw(mut self, key: &str, value: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&string(key));
        self.0.push(':');
        self.0.push_str(value);
        self
    }

    fn raw_if(self, present: bool, key: &str, value: impl FnOnce() -> String) -> Self {
        if present { self.raw(key, &value()) } else { self }
    }

    /// Adds a number unless it is zero; likewise below.
    fn number(self, key: &str, value: impl Into<i128>) -> Self {
        let value = value.into();
        self.raw_if(value != 0, key, || value.to_string())
    }

    fn flag(self, key: &str, value: bool) -> Self {
        self.raw_if(value, key, || "true".to_owned())
    }

    fn text(self, key: &str, value: &str) -> Self {
        self.raw_if(!value.is_empty(), key, || string(value))
    }

    fn bytes(self, key: &str, value: &[u8]) -> Self {
        self.raw_if(!value.is_empty(), key, || base64(value))
    }

    fn list<T>(self, key: &str, values: &[T], write: impl Fn(&T) -> String) -> Self {
        self.raw_if(!values.is_empty(), key, || list(values, write))
    }

    fn header(self, header: Option<&ResponseHeader>) -> Self {
        match header {
            Some(header) => self.raw("header", &Self::new().header_fields(Some(header)).end()),
            None => self,
        }
    }

    /// Adds the header's fields to the object itself, as Go does with a struct in a struct.
    fn header_fields(self, header: Option<&ResponseHeader>) -> Self {
        let Some(header) = header else { return self };
        self.number("cluster_id", header.cluster_id)
            .number("member_id", header.member_id)
            .number("revision", header.revision)
            .number("raft_term", header.raft_term)
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn list<T>(values: &[T], write: impl Fn(&T) -> String) -> String {
    let items: Vec<String> = values.iter().map(write).collect();
    format!("[{}]", items.join(","))
}

fn list_or_null<T>(values: &[T], write: impl Fn(&T) -> String) -> String {
    if values.is_empty() { "null".to_owned() } else { list(values, write) }
}

fn strings(object: Object, key: &str, values: &[String]) -> Object {
    object.list(key, values, |value| string(value))
}

/// A string literal.
pub(crate) fn string(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for c in text.chars() {
        match c {
            '"' => literal.push_str("\\\""),
            '\\' => literal.push_str("\\\\"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            '\x08' => literal.push_str("\\b"),
            '\x0c' => literal.push_str("\\f"),
            '<' | '>' | '&' | '\0'..'\x20' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string cannot fail.
                write!(literal, "\\u{:04x}", u32::from(c)).unwrap_or(());
            }
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}

/// Bytes as a literal of standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut literal = String::with_capacity(bytes.len().div_ceil(3) * 4 + 2);
    literal.push('"');
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 0x3f) as usize];
            literal.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    literal.push('"');
    literal
}

fn kv(kv: &KeyValue) -> String {
    Object::new()
        .bytes("key", &kv.key)
        .number("create_revision", kv.create_revision)
        .number("mod_revision", kv.mod_revision)
        .number("version", kv.version)
        .bytes("value", &kv.value)
        .number("lease", kv.lease)
        .end()
}

fn range(response: &RangeResponse) -> String {
    Object::new()
        .header(response.header.as_ref())
        .list("kvs", &response.kvs, kv)
        .flag("more", response.more)
        .number("count", response.count)
        .end()
}

fn put(response: &PutResponse) -> String {
    let object = Object::new().header(response.header.as_ref());
    match &response.prev_kv {
        Some(previous) => object.raw("prev_kv", &kv(previous)).end(),
        None => object.end(),
    }
}

fn delete(response: &DeleteRangeResponse) -> String {
    Object::new()
        .header(response.header.as_ref())
        .number("deleted", response.deleted)
        .list("prev_kvs", &response.prev_kvs, kv)
        .end()
}

fn txn(response: &TxnResponse) -> String {
    Object::new()
        .header(response.header.as_ref())
        .flag("succeeded", response.succeeded)
        .list("responses", &response.responses, op)
        .end()
}

fn op(op: &ResponseOp) -> String {
    let (key, value) = match &op.response {
        Some(Response::ResponseRange(response)) => ("response_range", range(response)),
        Some(Response::ResponsePut(response)) => ("response_put", put(response)),
        Some(Response::ResponseDeleteRange(response)) => ("response_delete_range", delete(response)),
        Some(Response::ResponseTxn(response)) => ("response_txn", txn(response)),
        None => return Object::new().raw("Response", "null").end(),
    };
    Object::new().raw("Response", &Object::new().raw(key, &value).end()).end()
}

fn watch(response: &WatchResponse) -> String {
    Object::new()
        .raw("Header", &Object::new().header_fields(response.header.as_ref()).end())
        .raw("Events", &list(&response.events, event))
        .raw("CompactRevision", &response.compact_revision.to_string())
        .raw("Canceled", &response.canceled.to_string())
        .raw("Created", &response.created.to_string())
        .raw("CancelReason", &string(&response.cancel_reason))
        .end()
}

/// What etcdctl makes up when there is no response to show: here alone the list of events is no list.
fn watch_refused() -> String {
    let nothing = WatchResponse { canceled: true, ..Default::default() };
    watch(&nothing).replace("\"Events\":[]", "\"Events\":null")
}

fn event(event: &Event) -> String {
    let mut object = Object::new().number("type", event.r#type);
    if let Some(current) = &event.kv {
        object = object.raw("kv", &kv(current));
    }
    if let Some(previous) = &event.prev_kv {
        object = object.raw("prev_kv", &kv(previous));
    }
    object.end()
}

fn lease_grant(response: &LeaseGrantResponse) -> String {
    Object::new()
        .header_fields(response.header.as_ref())
        .raw("ID", &response.id.to_string())
        .raw("TTL", &response.ttl.to_string())
        .raw("Error", &string(&response.error))
        .end()
}

fn lease_keep_alive(response: &LeaseKeepAliveResponse) -> String {
    Object::new()
        .header_fields(response.header.as_ref())
        .raw("ID", &response.id.to_string())
        .raw("TTL", &response.ttl.to_string())
        .end()
}

fn lease_time_to_live(response: &LeaseTimeToLiveResponse) -> String {
    Object::new()
        .header_fields(response.header.as_ref())
        .raw("id", &response.id.to_string())
        .raw("ttl", &response.ttl.to_string())
        .raw("granted-ttl", &response.granted_ttl.to_string())
        .raw("keys", &list_or_null(&response.keys, |key| base64(key)))
        .end()
}

fn lease_list(response: &LeaseLeasesResponse) -> String {
    let lease = |id: i64| Object::new().raw("id", &id.to_string()).end();
    Object::new()
        .header_fields(response.header.as_ref())
        .raw("leases", &list(&response.leases, |status| lease(status.id)))
        .end()
}

fn member_fields(object: Object, member: &Member) -> String {
    let object = strings(object.text("name", &member.name), "peerURLs", &member.peer_ur_ls);
    strings(object, "clientURLs", &member.client_ur_ls).flag("isLearner", member.is_learner).end()
}

/// The answer to a question about members, or to a change of them; `member` is one that was added.
fn members(
    header: Option<&ResponseHeader>,
    member: Option<&Member>,
    members: &[Member],
    hex: bool,
) -> String {
    if hex {
        return members_in_hex(header, member, members);
    }
    let write = |member: &Member| member_fields(Object::new().number("ID", member.id), member);
    let object = Object::new().header(header);
    match member {
        Some(member) => object.raw("member", &write(member)),
        None => object,
    }
    .list("members", members, write)
    .end()
}

/// Ids as strings of hexadecimal digits, always there.
fn members_in_hex(header: Option<&ResponseHeader>, member: Option<&Member>, members: &[Member]) -> String {
    let hex = |id: u64| string(&format!("{id:x}"));
    let header = super::header(header);
    let header = Object::new()
        .raw("cluster_id", &hex(header.cluster_id))
        .raw("member_id", &hex(header.member_id))
        .number("revision", header.revision)
        .number("raft_term", header.raft_term)
        .end();
    let write = |member: &Member| member_fields(Object::new().raw("ID", &hex(member.id)), member);
    let object = Object::new().raw("header", &header);
    match member {
        Some(member) => object.raw("member", &write(member)),
        None => object,
    }
    .raw("members", &list(members, write))
    .end()
}

fn health(health: &Health) -> String {
    Object::new()
        .raw("endpoint", &string(&health.endpoint))
        .raw("health", &health.error.is_none().to_string())
        .raw("took", &string(&health.took()))
        .text("error", health.error.as_deref().unwrap_or(""))
        .end()
}

fn status((endpoint, status): &(String, StatusResponse)) -> String {
    let mut object = Object::new()
        .header(status.header.as_ref())
        .text("version", &status.version)
        .number("dbSize", status.db_size)
        .number("leader", status.leader)
        .number("raftIndex", status.raft_index)
        .number("raftTerm", status.raft_term)
        .number("raftAppliedIndex", status.raft_applied_index);
    object = strings(object, "errors", &status.errors)
        .number("dbSizeInUse", status.db_size_in_use)
        .flag("isLearner", status.is_learner)
        .text("storageVersion", &status.storage_version)
        .number("dbSizeQuota", status.db_size_quota);
    if let Some(downgrade) = &status.downgrade_info {
        let downgrade = Object::new()
            .flag("enabled", downgrade.enabled)
            .text("targetVersion", &downgrade.target_version)
            .end();
        object = object.raw("downgradeInfo", &downgrade);
    }
    Object::new().raw("Endpoint", &string(endpoint)).raw("Status", &object.end()).end()
}

fn hash_kv((endpoint, hash): &(String, HashKvResponse)) -> String {
    let answer = Object::new()
        .header(hash.header.as_ref())
        .number("hash", hash.hash)
        .number("compact_revision", hash.compact_revision)
        .number("hash_revision", hash.hash_revision)
        .end();
    Object::new().raw("Endpoint", &string(endpoint)).raw("HashKV", &answer).end()
}

fn alarms(response: &AlarmResponse) -> String {
    let alarm = |alarm: &AlarmMember| {
        Object::new().number("memberID", alarm.member_id).number("alarm", alarm.alarm).end()
    };
    Object::new().header(response.header.as_ref()).list("alarms", &response.alarms, alarm).end()
}

fn permission(permission: &Permission) -> String {
    Object::new()
        .number("permType", permission.perm_type)
        .bytes("key", &permission.key)
        .bytes("range_end", &permission.range_end)
        .end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        let text = "a\"b\\c\n\r\t\u{8}\u{c}\u{1}<>&/\u{2028}\u{7f}\u{e9}";
        assert_eq!(
            string(text),
            "\"a\\\"b\\\\c\\n\\r\\t\\b\\f\\u0001\\u003c\\u003e\\u0026/\\u2028\u{7f}\u{e9}\""
        );
    }

    #[test]
    fn bytes_are_padded_base64() {
        let cases: [(&[u8], &str); 5] =
            [(b"", ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe\xfd\xfc", "//79/A==")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes), format!("\"{text}\""));
        }
    }
}
