//! Hashes, alarms, quota, status, members, health, and coming back after a stop.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::os::unix::process::ExitStatusExt;

use api::etcdserverpb as pb;
use api::etcdserverpb::{AlarmType, alarm_request::AlarmAction};
use e2e::{IntoOp, Member, Settings, Target, delete, each_target, put, range, refused, revision};
use tonic::Code;

use etcd_rs_e2e as e2e;

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const CORRUPT: &str = "etcdserver: corrupt cluster";

async fn alarm(
    member: &Member,
    action: AlarmAction,
    member_id: u64,
    alarm: AlarmType,
) -> Vec<pb::AlarmMember> {
    let request = pb::AlarmRequest { action: action.into(), member_id, alarm: alarm.into() };
    member.maintenance().alarm(request).await.unwrap().into_inner().alarms
}

async fn status(member: &Member) -> pb::StatusResponse {
    member.maintenance().status(pb::StatusRequest {}).await.unwrap().into_inner()
}

async fn hash_kv(member: &Member, revision: i64) -> (u32, i64) {
    let answer = member.maintenance().hash_kv(pb::HashKvRequest { revision }).await.unwrap().into_inner();
    (answer.hash, answer.compact_revision)
}

/// A history of ten revisions, 2 to 11, whose hashes are known.
async fn write_known_history(member: &Member) {
    for value in ["1", "2"] {
        member.put("a", value).await;
    }
    member.put("b", "1").await;
    member.put("c", "1").await;
    member.delete("b").await;
    member.put("b", "2").await;
    member.put("d", "9").await;
    member.delete_with(delete("a", "c")).await;
    member.put("a", "3").await;
    member.put("c", "2").await;
    assert_eq!(member.revision().await, 11);
}

each_target! {
    everywhere;

    /// The hash of a history is etcd's, at every revision of it.
    async fn hashes_of_a_history_are_etcds(member) {
        write_known_history(&member).await;
        for (at, hash) in [
            (1, 1_084_519_789), (2, 2_587_454_935), (3, 535_221_974), (4, 1_662_700_350), (5, 303_662_770),
            (6, 2_242_937_166), (7, 999_755_042), (8, 1_329_825_914), (9, 483_172_329), (10, 3_553_821_528),
            (11, 3_894_908_886), (0, 3_894_908_886),
        ] {
            assert_eq!(hash_kv(&member, at).await, (hash, -1), "at {at}");
        }
    }

    /// The hash of the future is refused, and so is that of what was compacted.
    async fn hashes_of_what_is_not_there_are_refused(member) {
        write_known_history(&member).await;
        let hash = async |revision| member.maintenance().hash_kv(pb::HashKvRequest { revision }).await;
        let future = "etcdserver: mvcc: required revision is a future revision";
        refused(hash(12).await, Code::OutOfRange, future);
        member.compact(6).await;
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        refused(hash(5).await, Code::OutOfRange, compacted);
    }

    /// Status tells who leads, how far the log is, and how large the store.
    async fn status_tells_how_the_member_is(member) {
        let before = status(&member).await;
        let header = before.header.unwrap();
        assert_eq!((before.leader, header.revision), (header.member_id, 1));
        assert_eq!(before.raft_term, header.raft_term);
        assert!(before.db_size > 0 && before.db_size_in_use > 0 && before.db_size_in_use <= before.db_size);
        assert!(!before.is_learner && before.errors.is_empty());
        assert_eq!(before.version.split('.').count(), 3, "{}", before.version);
        member.put("a", "1").await;
        let after = status(&member).await;
        assert!(after.raft_index > before.raft_index && after.raft_applied_index > before.raft_applied_index);
        assert!(after.raft_applied_index <= after.raft_index);
    }

    /// The member lists itself, started, with its URLs; this header has no revision.
    async fn the_member_lists_itself(member) {
        member.put("a", "1").await;
        let answer = member.cluster().member_list(pb::MemberListRequest::default()).await.unwrap().into_inner();
        let header = answer.header.unwrap();
        assert_eq!((header.revision, answer.members.len()), (0, 1));
        let listed = &answer.members[0];
        assert_eq!((listed.id, &*listed.name, listed.is_learner), (header.member_id, "default", false));
        assert_eq!(listed.client_ur_ls, [member.client_url()]);
        assert_eq!(listed.peer_ur_ls.len(), 1);
    }

    /// The whole member is healthy by gRPC's own measure; anything else is unknown.
    async fn grpc_health_is_served(member) {
        use api::health::{HealthCheckRequest, health_check_response::ServingStatus};
        let check = async |service: &str| member.health().check(HealthCheckRequest { service: service.into() }).await;
        assert_eq!(check("").await.unwrap().into_inner().status(), ServingStatus::Serving);
        refused(check("nothing").await, Code::NotFound, "unknown service");
    }

    /// Alarms are raised and lowered by hand, each for a member and of a kind.
    async fn alarms_are_raised_and_lowered(member) {
        let none = async || alarm(&member, AlarmAction::Get, 0, AlarmType::None).await;
        assert_eq!(none().await, []);
        let raised = pb::AlarmMember { member_id: 42, alarm: AlarmType::Nospace.into() };
        assert_eq!(alarm(&member, AlarmAction::Activate, 42, AlarmType::Nospace).await, [raised]);
        assert_eq!(alarm(&member, AlarmAction::Activate, 42, AlarmType::Nospace).await, [raised]);
        assert_eq!(none().await, [raised]);
        assert_eq!(alarm(&member, AlarmAction::Get, 0, AlarmType::Corrupt).await, []);
        assert_eq!(alarm(&member, AlarmAction::Deactivate, 41, AlarmType::Nospace).await, []);
        assert_eq!(alarm(&member, AlarmAction::Deactivate, 42, AlarmType::Nospace).await, [raised]);
        assert_eq!(none().await, []);
    }

    /// Without space nothing can be added, but everything can be read and removed.
    async fn without_space_nothing_is_added(member) {
        member.grant(1, 100).await;
        member.put("a", "1").await;
        member.put("b", "1").await;
        alarm(&member, AlarmAction::Activate, 1, AlarmType::Nospace).await;
        refused(member.kv().put(put("c", "1")).await, Code::ResourceExhausted, NO_SPACE);
        let txn = |op| pb::TxnRequest { success: vec![], failure: vec![op], compare: vec![] };
        refused(member.kv().txn(txn(put("c", "1").op())).await, Code::ResourceExhausted, NO_SPACE);
        let grant = pb::LeaseGrantRequest { id: 2, ttl: 100 };
        refused(member.lease().lease_grant(grant).await, Code::ResourceExhausted, NO_SPACE);
        member.kv().txn(txn(delete("b", "").op())).await.unwrap();
        assert_eq!(member.delete("a").await, 1);
        member.compact(4).await;
        member.lease().lease_revoke(pb::LeaseRevokeRequest { id: 1 }).await.unwrap();
        assert_eq!(status(&member).await.errors.len(), 1);
        alarm(&member, AlarmAction::Deactivate, 1, AlarmType::Nospace).await;
        member.put("c", "1").await;
    }

    /// When corruption is suspected, nothing is written any more; reading goes on.
    async fn with_corruption_nothing_is_written(member) {
        member.grant(1, 100).await;
        member.put("a", "1").await;
        alarm(&member, AlarmAction::Activate, 1, AlarmType::Corrupt).await;
        refused(member.kv().put(put("a", "2")).await, Code::DataLoss, CORRUPT);
        refused(member.kv().delete_range(delete("a", "")).await, Code::DataLoss, CORRUPT);
        let write = pb::TxnRequest { success: vec![put("a", "2").op()], ..Default::default() };
        refused(member.kv().txn(write).await, Code::DataLoss, CORRUPT);
        refused(member.kv().compact(pb::CompactionRequest { revision: 2, physical: false }).await, Code::DataLoss, CORRUPT);
        refused(member.lease().lease_revoke(pb::LeaseRevokeRequest { id: 1 }).await, Code::DataLoss, CORRUPT);
        assert_eq!(&member.get("a").await.unwrap().value[..], b"1");
        alarm(&member, AlarmAction::Deactivate, 1, AlarmType::Corrupt).await;
        member.put("a", "2").await;
    }

    /// An alarm survives a restart.
    async fn alarms_survive_a_restart(member) {
        let mut member = member;
        alarm(&member, AlarmAction::Activate, 9, AlarmType::Nospace).await;
        member.stop("TERM").await;
        member.launch().await;
        refused(member.kv().put(put("c", "1")).await, Code::ResourceExhausted, NO_SPACE);
        assert_eq!(alarm(&member, AlarmAction::Get, 0, AlarmType::None).await.len(), 1);
    }

    /// Defragmenting answers with nothing at all and loses nothing.
    async fn defragmenting_loses_nothing(member) {
        write_known_history(&member).await;
        member.compact(9).await;
        let before = hash_kv(&member, 11).await;
        let answer = member.maintenance().defragment(pb::DefragmentRequest {}).await.unwrap().into_inner();
        assert_eq!(answer.header, None);
        assert_eq!(hash_kv(&member, 11).await, before);
    }

    /// The hash of the whole store does not change by itself.
    async fn the_whole_hash_is_stable(member) {
        member.put("a", "1").await;
        let hash = async || {
            let answer = member.maintenance().hash(pb::HashRequest {}).await.unwrap().into_inner();
            (answer.hash, revision(answer.header.as_ref()))
        };
        let first = hash().await;
        assert_eq!((hash().await, first.1), (first, 2));
        member.put("a", "2").await;
        assert_ne!(hash().await.0, first.0);
    }

    /// A stopped member ends by the signal it got, and finds everything again: keys, history, revisions.
    async fn everything_survives_a_restart(member) {
        let mut member = member;
        write_known_history(&member).await;
        member.compact(4).await;
        let before = (hash_kv(&member, 9).await, hash_kv(&member, 11).await);
        let ids = |answer: &pb::RangeResponse| answer.header.map(|header| (header.cluster_id, header.member_id));
        let first = member.range(range("a", "z")).await;
        for signal in ["TERM", "INT"] {
            let ended = member.stop(signal).await;
            if let Some(ended) = ended {
                let number = if signal == "TERM" { 15 } else { 2 };
                assert_eq!(ended.signal(), Some(number), "{ended:?}");
            }
            member.launch().await;
            let again = member.range(range("a", "z")).await;
            assert_eq!((&again.kvs, ids(&again)), (&first.kvs, ids(&first)));
            assert_eq!((hash_kv(&member, 9).await, hash_kv(&member, 11).await), before);
        }
        assert_eq!(revision(member.put("a", "4").await.header.as_ref()), 12);
        assert_eq!(member.get("a").await.unwrap().create_revision, 10);
    }
}

/// Beyond the quota a put is answered with an error, and an alarm stops all further ones.
async fn the_quota_raises_the_alarm(target: Target) {
    let settings = Settings { quota_backend_bytes: Some(1_000_000), ..Default::default() };
    let member = Member::start_with(target, settings).await;
    // The last that fits leaves less than a tenth free, or the alarm would end by itself.
    let value = "x".repeat(95_000);
    let mut number = 0;
    // etcd learns how large its file is when it commits, every tenth of a second.
    let refusal = e2e::eventually("a put beyond the quota", async || {
        number += 1;
        member.kv().put(put(&format!("k{number}"), &value)).await.err()
    });
    let refusal = refusal.await;
    assert_eq!((refusal.code(), refusal.message()), (Code::ResourceExhausted, NO_SPACE));
    let member_id = status(&member).await.header.unwrap().member_id;
    let raised = pb::AlarmMember { member_id, alarm: AlarmType::Nospace.into() };
    let alarms = e2e::eventually("the alarm", async || {
        let alarms = alarm(&member, AlarmAction::Get, 0, AlarmType::None).await;
        (!alarms.is_empty()).then_some(alarms)
    });
    assert_eq!(alarms.await, [raised]);
    refused(member.kv().put(put("small", "x")).await, Code::ResourceExhausted, NO_SPACE);
}

mod the_quota_raises_the_alarm {
    //! Settings of its own keep it out of the macro.

    use super::Target;
    use etcd_rs_e2e::run_alone;

    #[test]
    fn in_process() {
        run_alone(super::the_quota_raises_the_alarm(Target::InProcess));
    }

    #[test]
    fn binary() {
        run_alone(super::the_quota_raises_the_alarm(Target::Binary));
    }

    #[test]
    fn real_etcd() {
        run_alone(super::the_quota_raises_the_alarm(Target::Real));
    }
}

mod newer {
    //! What newer versions do otherwise than the one compared with.

    use super::{hash_kv, status, write_known_history};
    use api::etcdserverpb as pb;
    use e2e::{each_target, refused};
    use etcd_rs_e2e as e2e;
    use tonic::Code;

    each_target! {
        ours;

        /// Hashes over a compacted history are those of etcd 3.6 and later; one just compacted at is kept as it was.
        async fn hashes_of_a_compacted_history_are_etcds(member) {
            let mut member = member;
            write_known_history(&member).await;
            for (at, kept, before, others) in [
                (6, 2_242_937_166, -1, &[(7, 2_056_626_873), (8, 1_922_625_940), (9, 578_974_470), (10, 3_844_311_172), (0, 2_722_079_843)][..]),
                (8, 1_922_625_940, 6, &[(9, 3_095_334_691), (10, 673_754_719), (0, 2_666_140_945)]),
                (9, 3_095_334_691, 8, &[(10, 2_905_625_499), (0, 3_820_535_310)]),
                (11, 3_820_535_310, 9, &[(0, 3_820_535_310)]),
            ] {
                member.compact(at).await;
                let cached = e2e::eventually("the finished compaction", async || {
                    let found = hash_kv(&member, at).await;
                    (found.1 == before).then_some(found)
                });
                assert_eq!(cached.await, (kept, before), "kept at {at}");
                for (other, hash) in others {
                    let found = hash_kv(&member, *other).await;
                    // The last row's revision 0 is 11, whose hash is kept with the revision compacted before.
                    assert_eq!(found.0, *hash, "at {other}, compacted at {at}");
                }
            }
            member.stop("TERM").await;
            member.launch().await;
            assert_eq!(hash_kv(&member, 11).await, (3_820_535_310, 11));
        }

        /// After a restart nothing is kept, and the compacted revision is hashed from what is left.
        async fn hashes_at_the_compacted_revision_after_a_restart(member) {
            let mut member = member;
            write_known_history(&member).await;
            for (at, hash) in [(6, 1_795_996_822), (8, 1_922_625_940), (9, 2_068_938_802)] {
                member.compact(at).await;
                member.stop("TERM").await;
                member.launch().await;
                assert_eq!(hash_kv(&member, at).await, (hash, at), "compacted at {at}");
            }
        }

        /// Status has grown: quota, storage version, downgrade.
        async fn status_tells_the_quota_and_the_storages_version(member) {
            let status = status(&member).await;
            assert_eq!(status.db_size_quota, 2_147_483_648);
            assert!(!status.storage_version.is_empty());
            assert!(!status.downgrade_info.unwrap().enabled);
        }

        /// An alarm action that is not in the list does no harm. (The reference crashes.)
        async fn an_unknown_alarm_action_does_no_harm(member) {
            let request = pb::AlarmRequest { action: 9, ..Default::default() };
            match member.maintenance().alarm(request).await {
                Ok(answer) => assert_eq!(answer.into_inner().alarms, []),
                Err(status) => assert_eq!(status.code(), Code::InvalidArgument),
            }
            member.put("a", "1").await;
        }

        /// The newest health service lists what it watches over.
        async fn health_is_listed(member) {
            let listed = member.health().list(api::health::HealthListRequest {}).await.unwrap().into_inner();
            assert_eq!(listed.statuses[""].status, 1);
            let result = member.health().check(api::health::HealthCheckRequest { service: "x".into() }).await;
            refused(result, Code::NotFound, "unknown service");
        }
    }
}
