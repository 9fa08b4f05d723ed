//! Leases: granting, keeping alive, revoking, expiring, and the keys they hold.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::{Duration, Instant};

use api::etcdserverpb as pb;
use e2e::{Member, Sorted, Watcher, each_target, eventually, put, refused, revision};
use tonic::Code;

use etcd_rs_e2e as e2e;

const NOT_FOUND: &str = "etcdserver: requested lease not found";

fn leased(key: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest { lease, ..put(key, "v") }
}

async fn time_to_live(member: &Member, id: i64) -> pb::LeaseTimeToLiveResponse {
    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
    member.lease().lease_time_to_live(request).await.unwrap().into_inner()
}

async fn revoke(member: &Member, id: i64) -> Result<tonic::Response<pb::LeaseRevokeResponse>, tonic::Status> {
    member.lease().lease_revoke(pb::LeaseRevokeRequest { id }).await
}

/// The answers to keep-alives of these leases, sent on one stream.
async fn keep_alive(member: &Member, ids: Vec<i64>) -> Vec<pb::LeaseKeepAliveResponse> {
    let requests: Vec<_> = ids.into_iter().map(|id| pb::LeaseKeepAliveRequest { id }).collect();
    let stream = member.lease().lease_keep_alive(tokio_stream::iter(requests)).await;
    let mut stream = stream.unwrap().into_inner();
    let mut answers = Vec::new();
    while let Some(answer) = stream.message().await.unwrap() {
        answers.push(answer);
    }
    answers
}

async fn keys_of(member: &Member, id: i64) -> Vec<String> {
    let keys = time_to_live(member, id).await.keys;
    keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect::<Vec<_>>().sorted()
}

each_target! {
    everywhere;

    /// A lease gets the number and the time asked for, and a grant makes no revision.
    async fn a_lease_is_granted_as_asked(member) {
        let granted = member.grant(77, 100).await;
        assert_eq!((granted.id, granted.ttl, &*granted.error), (77, 100, ""));
        assert_eq!(revision(granted.header.as_ref()), 1);
        let found = time_to_live(&member, 77).await;
        assert_eq!((found.id, found.granted_ttl), (77, 100));
        assert!((98..=100).contains(&found.ttl), "{found:?}");
    }

    /// Without a number the server picks one, a positive one, and never the same twice.
    async fn the_server_picks_numbers(member) {
        let (first, second) = (member.grant(0, 100).await.id, member.grant(0, 100).await.id);
        assert!(first > 0 && second > 0 && first != second, "{first:x} {second:x}");
    }

    /// Two seconds are the shortest life, whatever was asked for; numbers may be negative.
    async fn a_lease_lives_two_seconds_at_least(member) {
        for (id, ttl) in [(1, 1), (2, 0), (-3, -5)] {
            let granted = member.grant(id, ttl).await;
            assert_eq!((granted.id, granted.ttl), (id, 2));
        }
        assert_eq!(member.grant(4, 3).await.ttl, 3);
    }

    /// A number in use and a time beyond all reason are refused.
    async fn impossible_grants_are_refused(member) {
        let grant = async |id, ttl| member.lease().lease_grant(pb::LeaseGrantRequest { id, ttl }).await;
        grant(1, 100).await.unwrap();
        refused(grant(1, 100).await, Code::FailedPrecondition, "etcdserver: lease already exists");
        refused(grant(2, 9_000_000_001).await, Code::OutOfRange, "etcdserver: too large lease TTL");
        assert_eq!(grant(3, 9_000_000_000).await.unwrap().into_inner().ttl, 9_000_000_000);
    }

    /// Revoking deletes the lease's keys, all in one revision.
    async fn revoking_deletes_the_keys_at_once(member) {
        member.grant(5, 100).await;
        for key in ["c", "a", "b"] {
            member.put_with(leased(key, 5)).await;
        }
        member.put("d", "stays").await;
        assert_eq!(keys_of(&member, 5).await, ["a", "b", "c"]);
        let answer = revoke(&member, 5).await.unwrap().into_inner();
        assert_eq!(revision(answer.header.as_ref()), 6);
        assert_eq!(e2e::keys(&member.range(e2e::range("a", "z")).await.kvs), ["d"]);
        assert_eq!(member.revision().await, 6);
    }

    /// Revoking a lease without keys makes no revision, and revoking none is an error.
    async fn revoking_nothing_makes_no_revision(member) {
        member.grant(5, 100).await;
        let answer = revoke(&member, 5).await.unwrap().into_inner();
        assert_eq!(revision(answer.header.as_ref()), 1);
        refused(revoke(&member, 5).await, Code::NotFound, NOT_FOUND);
    }

    /// A key belongs to the lease of its last put, if that named one.
    async fn a_key_belongs_to_the_lease_of_its_last_put(member) {
        member.grant(1, 100).await;
        member.grant(2, 100).await;
        member.put_with(leased("a", 1)).await;
        assert_eq!(member.get("a").await.unwrap().lease, 1);
        member.put_with(leased("a", 2)).await;
        assert_eq!((keys_of(&member, 1).await, keys_of(&member, 2).await), (vec![], vec!["a".to_owned()]));
        revoke(&member, 1).await.unwrap();
        assert!(member.get("a").await.is_some());
        member.put("a", "free").await;
        revoke(&member, 2).await.unwrap();
        assert_eq!(&member.get("a").await.unwrap().value[..], b"free");
    }

    /// A deleted key leaves its lease, and does not come back to it.
    async fn a_deleted_key_leaves_its_lease(member) {
        member.grant(1, 100).await;
        member.put_with(leased("a", 1)).await;
        member.delete("a").await;
        assert_eq!(keys_of(&member, 1).await, [""; 0]);
        member.put("a", "again").await;
        revoke(&member, 1).await.unwrap();
        assert!(member.get("a").await.is_some());
    }

    /// A lease nobody knows lives for -1 seconds, and is kept alive for 0; neither is an error.
    async fn an_unknown_lease_has_no_time(member) {
        let found = time_to_live(&member, 99).await;
        assert_eq!((found.id, found.ttl, found.granted_ttl, found.keys.len()), (99, -1, 0, 0));
        member.grant(1, 50).await;
        let answers = keep_alive(&member, vec![99, 1, 98]).await;
        let told: Vec<_> = answers.iter().map(|answer| (answer.id, answer.ttl)).collect();
        assert_eq!(told, [(99, 0), (1, 50), (98, 0)]);
    }

    /// Each keep-alive is answered, in order, many at a time.
    async fn keep_alives_are_answered_in_order(member) {
        for id in 1..=20 {
            member.grant(id, 60).await;
        }
        let ids: Vec<i64> = (0..2000).map(|number| number % 20 + 1).collect();
        let answered: Vec<i64> = keep_alive(&member, ids.clone()).await.iter().map(|answer| answer.id).collect();
        assert_eq!(answered, ids);
        assert_eq!(member.revision().await, 1);
    }

    /// All leases are listed.
    async fn leases_are_listed(member) {
        assert_eq!(list(&member).await, [0; 0]);
        for id in [3, 1, 2] {
            member.grant(id, 100 * id).await;
        }
        assert_eq!(list(&member).await, [1, 2, 3], "by the time they have left");
        revoke(&member, 2).await.unwrap();
        assert_eq!(list(&member).await, [1, 3]);
    }

    /// A lease that is not kept alive ends and takes its keys with it, not before its time and not long after.
    async fn a_lease_ends_when_its_time_is_over(member) {
        member.put_with(pb::PutRequest { lease: member.grant(1, 2).await.id, ..put("a", "v") }).await;
        let renewed = Instant::now();
        keep_alive(&member, vec![1]).await;
        let (mut watcher, _) =
            Watcher::open(&member, pb::WatchCreateRequest { key: "a".into(), ..Default::default() }).await;
        let event = watcher.events(1).await.remove(0);
        assert_eq!(event.r#type, 1);
        assert!(renewed.elapsed() >= Duration::from_secs(2), "after {:?}", renewed.elapsed());
        assert!(renewed.elapsed() < Duration::from_secs(6), "after {:?}", renewed.elapsed());
        assert_eq!(member.get("a").await, None);
        eventually("the lease to be gone", async || (list(&member).await.is_empty()).then_some(())).await;
        refused(revoke(&member, 1).await, Code::NotFound, NOT_FOUND);
    }

    /// A lease that is kept alive outlives its time.
    async fn a_lease_kept_alive_lives_on(member) {
        member.grant(1, 2).await;
        member.grant(2, 2).await;
        member.put_with(leased("kept", 1)).await;
        member.put_with(leased("left", 2)).await;
        eventually("the other lease to end", async || {
            assert_eq!(keep_alive(&member, vec![1]).await[0].ttl, 2);
            member.get("left").await.is_none().then_some(())
        })
        .await;
        assert!(member.get("kept").await.is_some());
    }

    /// A keep-alive of a lease that was revoked never succeeds (etcd #20615).
    async fn a_revoked_lease_cannot_be_kept_alive(member) {
        for id in 1..=50 {
            member.grant(id, 100).await;
            revoke(&member, id).await.unwrap();
            assert_eq!(keep_alive(&member, vec![id]).await[0].ttl, 0);
        }
    }

    /// Leases and what they hold survive a restart.
    async fn leases_survive_a_restart(member) {
        let mut member = member;
        member.grant(1, 1000).await;
        member.put_with(leased("a", 1)).await;
        member.stop("TERM").await;
        member.launch().await;
        assert_eq!(keys_of(&member, 1).await, ["a"]);
        assert_eq!(time_to_live(&member, 1).await.granted_ttl, 1000);
        revoke(&member, 1).await.unwrap();
        assert_eq!(member.get("a").await, None);
    }
}

async fn list(member: &Member) -> Vec<i64> {
    let leases = member.lease().lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
    leases.iter().map(|lease| lease.id).collect()
}
