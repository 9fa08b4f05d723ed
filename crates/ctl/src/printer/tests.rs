//! Golden outputs: `tests/golden/<answer>.txt` holds what every format makes of one answer, with and without `--hex`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p etcd-rs-ctl` writes the files anew; what changed in them is then for a person to judge, by
//! what etcdctl 3.7 prints.

use std::fmt::Write as _;
use std::path::PathBuf;

use api::authpb::Permission;
use api::authpb::permission::Type;
use api::etcdserverpb::response_op::Response;
use api::etcdserverpb::{AlarmMember, DowngradeInfo, LeaseStatus, Member, ResponseOp};
use api::mvccpb::{Event, KeyValue};
use bytes::Bytes;

use super::*;

const FORMATS: [(&str, Format); 5] = [
    ("simple", Format::Simple),
    ("json", Format::Json),
    ("fields", Format::Fields),
    ("table", Format::Table),
    ("protobuf", Format::Protobuf),
];

/// The text as it is, except that what is not printable ASCII or a newline shows as `{hex}`.
fn visible(bytes: &[u8]) -> String {
    let show = |&byte: &u8| match byte {
        b'\n' | b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("{{{byte:02x}}}"),
    };
    bytes.iter().map(show).collect()
}

/// Compares what is printed with the file of this name.
fn check(name: &str, answer: &Answer<'_>) {
    let mut found = String::new();
    for (format_name, format) in FORMATS {
        for hex in [false, true] {
            let printed = Printer { format, hex, values_only: false }.print(answer);
            let text = match (printed, format) {
                (Err(failure), _) => format!("exit {}: {}\n", failure.code, failure.message.unwrap()),
                (Ok(bytes), Format::Protobuf) => {
                    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")) + "\n"
                }
                (Ok(bytes), _) => visible(&bytes),
            };
            writeln!(found, "--- {format_name}{}", if hex { " --hex" } else { "" }).unwrap();
            found.push_str(&text);
        }
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found, expected, "{}", path.display());
}

fn head(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 0xcdf8_1819_4e3a_8c32,
        member_id: 0x8e9e_05c5_2164_694d,
        revision,
        raft_term: 2,
    })
}

/// The header of an operation in a transaction.
fn inner(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

fn foo() -> KeyValue {
    KeyValue {
        key: Bytes::from_static(b"foo"),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        value: Bytes::from_static(b"bar"),
        lease: 0,
    }
}

fn binary() -> KeyValue {
    KeyValue {
        key: Bytes::from_static(b"bin\xff\n"),
        value: Bytes::from_static(b"\x00\"q\" <&>"),
        lease: 0x3269_5410_dcc0_ca06,
        ..foo()
    }
}

fn range() -> RangeResponse {
    RangeResponse { header: head(3), kvs: vec![foo(), binary()], more: true, count: 5 }
}

#[test]
fn get_prints_pairs() {
    check("get", &Answer::Get(&range()));
}

#[test]
fn get_of_nothing_prints_nothing_but_the_header() {
    check("get_nothing", &Answer::Get(&RangeResponse { header: head(3), ..Default::default() }));
}

#[test]
fn values_only_leaves_the_keys_out() {
    let printer = Printer { format: Format::Simple, hex: false, values_only: true };
    let response = RangeResponse { kvs: vec![foo()], ..Default::default() };
    assert_eq!(printer.print(&Answer::Get(&response)), Ok(b"bar\n".to_vec()));
}

#[test]
fn put_prints_ok_and_the_previous_pair() {
    check("put", &Answer::Put(&PutResponse { header: head(4), prev_kv: Some(foo()) }));
}

#[test]
fn del_prints_how_many_and_the_previous_pairs() {
    let response = DeleteRangeResponse { header: head(4), deleted: 2, prev_kvs: vec![foo(), binary()] };
    check("del", &Answer::Delete(&response));
}

#[test]
fn txn_prints_each_operation() {
    let ops = [
        Response::ResponsePut(PutResponse { header: inner(5), prev_kv: Some(foo()) }),
        Response::ResponseRange(RangeResponse { header: inner(5), kvs: vec![foo()], more: false, count: 1 }),
        Response::ResponseDeleteRange(DeleteRangeResponse { header: inner(5), deleted: 1, prev_kvs: vec![] }),
    ];
    let responses = ops.map(|response| ResponseOp { response: Some(response) }).to_vec();
    check("txn", &Answer::Txn(&TxnResponse { header: head(5), succeeded: true, responses }));
}

#[test]
fn txn_of_nothing_that_failed() {
    check("txn_failed", &Answer::Txn(&TxnResponse { header: head(5), ..Default::default() }));
}

#[test]
fn watch_prints_events() {
    let deleted = KeyValue { key: "foo".into(), mod_revision: 4, ..Default::default() };
    let events = vec![
        Event { r#type: 0, kv: Some(foo()), prev_kv: None },
        Event { r#type: 1, kv: Some(deleted), prev_kv: Some(foo()) },
    ];
    let response = WatchResponse { header: head(4), watch_id: 7, events, ..Default::default() };
    check("watch", &Answer::Watch(&response));
}

#[test]
fn watch_that_met_a_compaction() {
    let response =
        WatchResponse { header: head(0), canceled: true, compact_revision: 12, ..Default::default() };
    check("watch_compacted", &Answer::Watch(&response));
}

#[test]
fn watch_that_was_refused_has_no_header_and_no_list() {
    check("watch_refused", &Answer::WatchRefused);
}

const LEASE: i64 = 0x0069_5410_dcc0_ca06;

#[test]
fn lease_grant() {
    let response = LeaseGrantResponse { header: head(3), id: LEASE, ttl: 10, error: String::new() };
    check("lease_grant", &Answer::LeaseGrant(&response));
}

#[test]
fn lease_revoke() {
    check("lease_revoke", &Answer::LeaseRevoke(&LeaseRevokeResponse { header: head(3) }, LEASE));
}

#[test]
fn lease_time_to_live() {
    let keys = vec!["k1".into(), Bytes::from_static(b"k\xff")];
    let response = LeaseTimeToLiveResponse { header: head(3), id: LEASE, ttl: 99, granted_ttl: 100, keys };
    check("lease_timetolive", &Answer::LeaseTimeToLive(&response, ShowKeys::Yes));
}

#[test]
fn lease_that_is_no_more() {
    let response = LeaseTimeToLiveResponse { header: head(3), id: LEASE, ttl: -1, ..Default::default() };
    check("lease_timetolive_expired", &Answer::LeaseTimeToLive(&response, ShowKeys::No));
}

#[test]
fn lease_keep_alive() {
    check(
        "lease_keep_alive",
        &Answer::LeaseKeepAlive(&LeaseKeepAliveResponse { header: head(3), id: LEASE, ttl: 10 }),
    );
}

#[test]
fn lease_list() {
    let leases = vec![LeaseStatus { id: LEASE }, LeaseStatus { id: -1 }];
    check("lease_list", &Answer::LeaseList(&LeaseLeasesResponse { header: head(3), leases }));
}

#[test]
fn lease_list_of_none() {
    check("lease_list_none", &Answer::LeaseList(&LeaseLeasesResponse { header: head(3), leases: vec![] }));
}

#[test]
fn member_list() {
    let started = Member {
        id: 0x8e9e_05c5_2164_694d,
        name: "default".into(),
        peer_ur_ls: vec!["http://localhost:2380".into(), "http://other:2380".into()],
        client_ur_ls: vec!["http://localhost:2379".into()],
        is_learner: false,
    };
    let unstarted = Member {
        id: 0x1f,
        peer_ur_ls: vec!["http://new:2380".into()],
        is_learner: true,
        ..Default::default()
    };
    let response = MemberListResponse { header: head(0), members: vec![unstarted, started] };
    check("member_list", &Answer::Members(&response));
}

fn two_members() -> Vec<Member> {
    let started = Member {
        id: 0x8e9e_05c5_2164_694d,
        name: "default".into(),
        peer_ur_ls: vec!["http://localhost:2380".into()],
        client_ur_ls: vec!["http://localhost:2379".into()],
        is_learner: false,
    };
    vec![added(), started]
}

fn added() -> Member {
    Member { id: 0x1f, peer_ur_ls: vec!["http://new:2380".into()], is_learner: true, ..Default::default() }
}

#[test]
fn member_add() {
    let response = MemberAddResponse { header: head(0), member: Some(added()), members: two_members() };
    check("member_add", &Answer::MemberAdd(&response));
}

#[test]
fn member_changes() {
    let id = MemberId::new(0x1f);
    let response = MemberRemoveResponse { header: head(0), members: two_members() };
    check("member_remove", &Answer::MemberRemove(&response, id));
    let response = MemberUpdateResponse { header: head(0), members: two_members() };
    check("member_update", &Answer::MemberUpdate(&response, id));
    let response = MemberPromoteResponse { header: head(0), members: two_members() };
    check("member_promote", &Answer::MemberPromote(&response, id));
}

#[test]
fn move_leader() {
    let (from, to) = (MemberId::new(0x1f), MemberId::new(0x8e9e_05c5_2164_694d));
    let response = MoveLeaderResponse::default();
    check("move_leader", &Answer::MoveLeader { response: &response, from, to });
}

#[test]
fn endpoint_health() {
    let found = [
        Health { endpoint: "127.0.0.1:2379".into(), took: Duration::from_nanos(2_679_164), error: None },
        Health {
            endpoint: "127.0.0.1:22379".into(),
            took: Duration::from_millis(5_000),
            error: Some("context deadline exceeded".into()),
        },
    ];
    check("endpoint_health", &Answer::Health(&found));
}

#[test]
fn endpoint_health_of_none() {
    check("endpoint_health_none", &Answer::Health(&[]));
}

#[test]
fn endpoint_status() {
    let sound = StatusResponse {
        header: head(3),
        version: "3.7.1".into(),
        db_size: 24_576,
        leader: 0x8e9e_05c5_2164_694d,
        raft_index: 87,
        raft_term: 2,
        raft_applied_index: 87,
        db_size_in_use: 20_480,
        storage_version: "3.7.0".into(),
        db_size_quota: 2_147_483_648,
        downgrade_info: Some(DowngradeInfo::default()),
        ..Default::default()
    };
    let alarmed = StatusResponse {
        errors: vec!["memberID:10276657743932975437 alarm:NOSPACE".into(), "etcdserver: no leader".into()],
        leader: 0,
        is_learner: true,
        db_size: 0,
        downgrade_info: Some(DowngradeInfo { enabled: true, target_version: "3.6.0".into() }),
        ..sound.clone()
    };
    let found = [("127.0.0.1:2379".to_owned(), sound), ("127.0.0.1:22379".to_owned(), alarmed)];
    check("endpoint_status", &Answer::Status(&found));
}

#[test]
fn endpoint_hashkv() {
    let hash =
        HashKvResponse { header: head(3), hash: 2_554_145_617, compact_revision: -1, hash_revision: 3 };
    check("endpoint_hashkv", &Answer::HashKv(&[("127.0.0.1:2379".to_owned(), hash)]));
}

#[test]
fn alarms() {
    let alarms = vec![
        AlarmMember { member_id: 1_518_530_654_159_652_862, alarm: 1 },
        AlarmMember { member_id: 0, alarm: 2 },
    ];
    check("alarms", &Answer::Alarms(&AlarmResponse { header: head(3), alarms }));
}

#[test]
fn what_is_in_a_snapshot() {
    let status = SnapshotStatus {
        hash: 0xe77b_60d9,
        revision: 194,
        total_keys: 8,
        total_size: 45_056,
        version: "3.7.0".to_owned(),
    };
    check("snapshot_status", &Answer::SnapshotStatus(&status));
}

#[test]
fn alarms_disarmed_have_no_header() {
    check("alarms_disarmed_none", &Answer::Alarms(&AlarmResponse::default()));
}

#[test]
fn auth_status() {
    let response = AuthStatusResponse { header: head(0), enabled: true, auth_revision: 67 };
    check("auth_status", &Answer::AuthStatus(&response));
}

#[test]
fn changes_of_users_and_roles() {
    check("access_changed", &Answer::AccessChanged(head(3).as_ref(), "User alice created"));
}

#[test]
fn user_get() {
    let response = AuthUserGetResponse { header: head(3), roles: vec!["r1".into(), "r2".into()] };
    check("user_get", &Answer::User(&response, "alice"));
}

#[test]
fn user_without_roles() {
    let response = AuthUserGetResponse { header: head(3), ..Default::default() };
    check("user_get_none", &Answer::User(&response, "alice"));
}

#[test]
fn user_list() {
    let response = AuthUserListResponse { header: head(3), users: vec!["alice".into(), "root".into()] };
    check("user_list", &Answer::Users(&response));
}

fn permission(perm_type: Type, key: &[u8], range_end: &[u8]) -> Permission {
    Permission {
        perm_type: perm_type.into(),
        key: Bytes::copy_from_slice(key),
        range_end: Bytes::copy_from_slice(range_end),
    }
}

#[test]
fn role_get() {
    let perm = vec![
        permission(Type::Read, b"foo", b""),
        permission(Type::Write, b"foo1", b"foo3"),
        permission(Type::Readwrite, b"pp", b"pq"),
        permission(Type::Read, b"z\xff", b"\0"),
    ];
    check("role_get", &Answer::Role(&AuthRoleGetResponse { header: head(3), perm }, "r"));
}

#[test]
fn the_role_root_permits_everything() {
    let perm = vec![permission(Type::Readwrite, b"", b"\0")];
    check("role_get_root", &Answer::Role(&AuthRoleGetResponse { header: head(3), perm }, "root"));
}

#[test]
fn role_list() {
    let response = AuthRoleListResponse { header: head(3), roles: vec!["r1".into(), "r2".into()] };
    check("role_list", &Answer::Roles(&response));
}

#[test]
fn downgrade() {
    let response = DowngradeResponse { header: head(0), version: "3.7".into() };
    check("downgrade", &Answer::Downgrade("validate", &response));
}
