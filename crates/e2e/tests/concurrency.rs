//! Elections and locks: who gets what, in which order, and what is left of those who give up.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use api::authpb::{Permission, permission};
use api::etcdserverpb as pb;
use api::etcdserverpb::auth_client::AuthClient;
use api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ResignRequest,
};
use api::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use e2e::{Member, PATIENCE, each_target, eventually, keys, range, refused, revision};
use tokio::task::JoinHandle;
use tonic::{Code, Request, Response, Status, Streaming};

use etcd_rs_e2e as e2e;

type Answer<T> = Result<Response<T>, Status>;

const NO_LEASE: &str = "etcdserver: requested lease not found";

async fn lock(member: &Member, name: &'static str, lease: i64) -> Answer<LockResponse> {
    member.locks().lock(LockRequest { name: name.into(), lease }).await
}

async fn locked(member: &Member, name: &'static str, lease: i64) -> LockResponse {
    lock(member, name, lease).await.unwrap().into_inner()
}

async fn unlock(member: &Member, key: &str) -> Answer<api::v3lockpb::UnlockResponse> {
    member.locks().unlock(UnlockRequest { key: key.to_owned().into() }).await
}

/// Asks for a lock that is held, and returns when the waiter's key is there. The lease must be granted.
async fn in_line(member: &Member, name: &'static str, lease: i64) -> JoinHandle<Answer<LockResponse>> {
    let mut locks = member.locks();
    let waiter = tokio::spawn(async move { locks.lock(LockRequest { name: name.into(), lease }).await });
    stands(member, &format!("{name}/{lease:x}")).await;
    waiter
}

async fn campaign(
    member: &Member,
    name: &'static str,
    lease: i64,
    value: &'static str,
) -> Answer<CampaignResponse> {
    member.election().campaign(CampaignRequest { name: name.into(), lease, value: value.into() }).await
}

async fn elected(member: &Member, name: &'static str, lease: i64, value: &'static str) -> LeaderKey {
    campaign(member, name, lease, value).await.unwrap().into_inner().leader.unwrap()
}

async fn campaigning(
    member: &Member,
    name: &'static str,
    lease: i64,
    value: &'static str,
) -> JoinHandle<Answer<CampaignResponse>> {
    let mut election = member.election();
    let request = CampaignRequest { name: name.into(), lease, value: value.into() };
    let candidate = tokio::spawn(async move { election.campaign(request).await });
    stands(member, &format!("{name}/{lease:x}")).await;
    candidate
}

async fn proclaim(
    member: &Member,
    leader: &LeaderKey,
    value: &'static str,
) -> Answer<api::v3electionpb::ProclaimResponse> {
    let request = ProclaimRequest { leader: Some(leader.clone()), value: value.into() };
    member.election().proclaim(request).await
}

async fn resign(member: &Member, leader: &LeaderKey) -> pb::ResponseHeader {
    let request = ResignRequest { leader: Some(leader.clone()) };
    member.election().resign(request).await.unwrap().into_inner().header.unwrap()
}

async fn leader(member: &Member, name: &'static str) -> Answer<LeaderResponse> {
    member.election().leader(LeaderRequest { name: name.into() }).await
}

async fn observe(member: &Member, name: &'static str) -> Streaming<LeaderResponse> {
    member.election().observe(LeaderRequest { name: name.into() }).await.unwrap().into_inner()
}

/// What an observer is told next, as `key=value`.
async fn told(observer: &mut Streaming<LeaderResponse>) -> String {
    let next = tokio::time::timeout(PATIENCE, observer.message()).await.expect("in time");
    let response = next.unwrap().expect("the stream goes on");
    assert!(response.header.unwrap().revision > 0);
    e2e::pairs(&[response.kv.unwrap()]).remove(0)
}

/// Returns when a key is there.
async fn stands(member: &Member, key: &str) {
    eventually("a key in line", async || member.get(key).await).await;
}

/// Returns when a key is gone.
async fn gone(member: &Member, key: &str) {
    let absent = async || member.get(key).await.is_none().then_some(());
    eventually("the end of a key", absent).await;
}

async fn revoke(member: &Member, id: i64) {
    member.lease().lease_revoke(pb::LeaseRevokeRequest { id }).await.unwrap();
}

async fn in_time<T>(call: JoinHandle<Answer<T>>) -> Answer<T> {
    tokio::time::timeout(PATIENCE, call).await.expect("in time").unwrap()
}

each_target! {
    everywhere;

    /// A lock that nobody holds is had at once: its key is named for the lease, and the header is that of its making.
    async fn a_free_lock_is_had_at_once(member) {
        member.grant(0x1234_abcd, 100).await;
        let answer = locked(&member, "l", 0x1234_abcd).await;
        assert_eq!(answer.key, "l/1234abcd");
        let key = member.get("l/1234abcd").await.unwrap();
        assert_eq!((key.lease, &key.value[..]), (0x1234_abcd, &b""[..]));
        assert_eq!(revision(answer.header.as_ref()), key.create_revision);
        unlock(&member, "l/1234abcd").await.unwrap();
        assert!(member.get("l/1234abcd").await.is_none());
    }

    /// Asked for again under the same lease, a lock is had again and nothing changes.
    async fn a_lock_is_had_again_by_its_lease(member) {
        member.grant(1, 100).await;
        let first = locked(&member, "l", 1).await;
        member.put("elsewhere", "1").await;
        let again = locked(&member, "l", 1).await;
        assert_eq!(again.key, first.key);
        assert_eq!(revision(again.header.as_ref()), 3);
        assert_eq!(member.get("l/1").await.unwrap().version, 1);
    }

    /// Those who wait get the lock in the order in which they came.
    async fn a_lock_is_had_in_the_order_of_asking(member) {
        for lease in 1..=5 {
            member.grant(lease, 100).await;
        }
        locked(&member, "l", 3).await;
        let mut waiters = Vec::new();
        for lease in [5, 1, 4, 2] {
            waiters.push((lease, in_line(&member, "l", lease).await));
        }
        let mut holder = 3;
        for (lease, waiter) in waiters {
            assert!(!waiter.is_finished());
            unlock(&member, &format!("l/{holder}")).await.unwrap();
            let answer = in_time(waiter).await.unwrap().into_inner();
            assert_eq!(answer.key, format!("l/{lease}"));
            holder = lease;
        }
        assert_eq!(keys(&member.range(range("l/", "l0")).await.kvs), ["l/2"]);
    }

    /// A holder whose lease ends makes room for the next.
    async fn a_lock_ends_with_its_lease(member) {
        member.grant(1, 2).await;
        member.grant(2, 100).await;
        locked(&member, "l", 1).await;
        let waiter = in_line(&member, "l", 2).await;
        assert_eq!(in_time(waiter).await.unwrap().into_inner().key, "l/2");
        assert!(member.get("l/1").await.is_none());
    }

    /// A client that goes away while it waits takes its key with it, so that nobody waits for it.
    async fn a_waiter_that_vanishes_leaves_the_line(member) {
        for lease in 1..=3 {
            member.grant(lease, 100).await;
        }
        locked(&member, "l", 1).await;
        let vanishing = in_line(&member, "l", 2).await;
        let waiter = in_line(&member, "l", 3).await;
        vanishing.abort();
        gone(&member, "l/2").await;
        assert!(!waiter.is_finished());
        unlock(&member, "l/1").await.unwrap();
        assert_eq!(in_time(waiter).await.unwrap().into_inner().key, "l/3");
    }

    /// Without a lease one of a minute is granted.
    async fn a_lock_without_a_lease_gets_one(member) {
        let key = String::from_utf8(locked(&member, "l", 0).await.key.to_vec()).unwrap();
        let id = i64::from_str_radix(key.strip_prefix("l/").unwrap(), 16).unwrap();
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let lease = member.lease().lease_time_to_live(request).await.unwrap().into_inner();
        assert_eq!(lease.granted_ttl, 60);
        assert_eq!(lease.keys, [key]);
    }

    /// Every key below a name is in its line, also one of a lock whose name begins with it.
    async fn a_lock_waits_for_locks_below_its_name(member) {
        member.grant(1, 100).await;
        member.grant(2, 100).await;
        locked(&member, "l/m", 1).await;
        locked(&member, "lm", 1).await;
        let waiter = in_line(&member, "l", 2).await;
        unlock(&member, "l/m/1").await.unwrap();
        in_time(waiter).await.unwrap();
    }

    /// What cannot be is refused, always with the code Unknown; unlocking what is not locked is not refused.
    async fn impossible_locks_are_refused(member) {
        refused(lock(&member, "l", 7).await, Code::Unknown, NO_LEASE);
        refused(unlock(&member, "").await, Code::Unknown, "etcdserver: key is not provided");
        let header = unlock(&member, "l/7").await.unwrap().into_inner().header;
        assert_eq!(revision(header.as_ref()), 1);
    }

    /// The first to campaign leads at once, with what it says as the value of its key.
    async fn the_first_candidate_leads(member) {
        member.grant(0xab, 100).await;
        let answer = campaign(&member, "e", 0xab, "me").await.unwrap().into_inner();
        let expected = LeaderKey { name: "e".into(), key: "e/ab".into(), rev: 2, lease: 0xab };
        assert_eq!(answer.leader, Some(expected));
        assert_eq!(revision(answer.header.as_ref()), 2);
        member.put("elsewhere", "1").await;
        let found = leader(&member, "e").await.unwrap().into_inner();
        assert_eq!(revision(found.header.as_ref()), 3);
        let kv = found.kv.unwrap();
        assert_eq!((&kv.key[..], &kv.value[..], kv.lease), (&b"e/ab"[..], &b"me"[..], 0xab));
    }

    /// Campaigning again under the same lease is leading still, with what is said now.
    async fn a_leader_that_campaigns_again_proclaims(member) {
        member.grant(1, 100).await;
        let first = elected(&member, "e", 1, "a").await;
        assert_eq!(elected(&member, "e", 1, "a").await, first);
        assert_eq!(member.get("e/1").await.unwrap().version, 1);
        assert_eq!(elected(&member, "e", 1, "b").await, first);
        let kv = member.get("e/1").await.unwrap();
        assert_eq!((kv.version, &kv.value[..]), (2, &b"b"[..]));
    }

    /// A leader proclaims until it resigns; after that it is none, and resigning again changes nothing.
    async fn a_leader_proclaims_and_resigns(member) {
        member.grant(1, 100).await;
        let key = elected(&member, "e", 1, "a").await;
        let header = proclaim(&member, &key, "b").await.unwrap().into_inner().header;
        assert_eq!(revision(header.as_ref()), 3);
        assert_eq!(resign(&member, &key).await.revision, 4);
        assert!(member.get("e/1").await.is_none());
        assert_eq!(resign(&member, &key).await.revision, 4);
        refused(proclaim(&member, &key, "c").await, Code::Unknown, "election: not leader");
        refused(leader(&member, "e").await, Code::Unknown, "election: no leader");
    }

    /// A key of the same name that was made later is another leadership.
    async fn a_former_leadership_is_not_the_present_one(member) {
        member.grant(1, 100).await;
        let before = elected(&member, "e", 1, "a").await;
        resign(&member, &before).await;
        let now = elected(&member, "e", 1, "b").await;
        refused(proclaim(&member, &before, "c").await, Code::Unknown, "election: not leader");
        resign(&member, &before).await;
        proclaim(&member, &now, "d").await.unwrap();
    }

    /// Candidates lead in the order in which they stood.
    async fn candidates_lead_in_the_order_of_standing(member) {
        for lease in 1..=3 {
            member.grant(lease, 100).await;
        }
        let first = elected(&member, "e", 2, "two").await;
        let second = campaigning(&member, "e", 1, "one").await;
        let third = campaigning(&member, "e", 3, "three").await;
        resign(&member, &first).await;
        let second = in_time(second).await.unwrap().into_inner().leader.unwrap();
        assert_eq!(second.key, "e/1");
        assert!(!third.is_finished());
        revoke(&member, 1).await;
        assert_eq!(in_time(third).await.unwrap().into_inner().leader.unwrap().key, "e/3");
    }

    /// A candidate whose client goes away stands no more.
    async fn a_candidate_that_vanishes_stands_no_more(member) {
        for lease in 1..=3 {
            member.grant(lease, 100).await;
        }
        let first = elected(&member, "e", 1, "one").await;
        let vanishing = campaigning(&member, "e", 2, "two").await;
        let waiting = campaigning(&member, "e", 3, "three").await;
        vanishing.abort();
        gone(&member, "e/2").await;
        resign(&member, &first).await;
        assert_eq!(in_time(waiting).await.unwrap().into_inner().leader.unwrap().key, "e/3");
    }

    /// What an election asks for must be there: the leader's key, and the lease.
    async fn impossible_elections_are_refused(member) {
        let missing = "\"leader\" field must be provided";
        let request = ProclaimRequest { leader: None, value: "v".into() };
        refused(member.election().proclaim(request).await, Code::Unknown, missing);
        refused(member.election().resign(ResignRequest { leader: None }).await, Code::Unknown, missing);
        refused(campaign(&member, "e", 7, "v").await, Code::Unknown, NO_LEASE);
    }

    /// Without a lease one of a minute is granted.
    async fn a_candidate_without_a_lease_gets_one(member) {
        let key = elected(&member, "e", 0, "v").await;
        assert_eq!(key.key, format!("e/{:x}", key.lease));
        let request = pb::LeaseTimeToLiveRequest { id: key.lease, keys: false };
        let lease = member.lease().lease_time_to_live(request).await.unwrap().into_inner();
        assert_eq!(lease.granted_ttl, 60);
    }

    /// An observer is told of the leader there is, of all it says, and of the next.
    async fn an_observer_follows_the_leaders(member) {
        member.grant(1, 100).await;
        member.grant(2, 100).await;
        let first = elected(&member, "e", 1, "a").await;
        let mut observer = observe(&member, "e").await;
        assert_eq!(told(&mut observer).await, "e/1=a");
        proclaim(&member, &first, "b").await.unwrap();
        assert_eq!(told(&mut observer).await, "e/1=b");
        let second = campaigning(&member, "e", 2, "c").await;
        proclaim(&member, &first, "d").await.unwrap();
        assert_eq!(told(&mut observer).await, "e/1=d");
        resign(&member, &first).await;
        assert_eq!(told(&mut observer).await, "e/2=c");
        let second = in_time(second).await.unwrap().into_inner().leader.unwrap();
        resign(&member, &second).await;
        gone(&member, "e/2").await;
        elected(&member, "e", 1, "again").await;
        assert_eq!(told(&mut observer).await, "e/1=again");
    }

    /// An observer of an election that nobody stands in waits for the first.
    async fn an_observer_waits_for_the_first_leader(member) {
        member.grant(1, 100).await;
        let (name, mut election) = (LeaderRequest { name: "e".into() }, member.election());
        // A server may answer nothing, not even that it listens, before there is a leader.
        let told = tokio::spawn(async move {
            let mut observer = election.observe(name).await.unwrap().into_inner();
            told(&mut observer).await
        });
        elected(&member, "e", 1, "a").await;
        assert_eq!(told.await.unwrap(), "e/1=a");
    }

    /// A member that stops lets nobody wait.
    async fn a_stopping_member_ends_all_waiting(member) {
        member.grant(1, 100).await;
        member.grant(2, 100).await;
        locked(&member, "l", 1).await;
        elected(&member, "e", 1, "a").await;
        let waiter = in_line(&member, "l", 2).await;
        let candidate = campaigning(&member, "e", 2, "b").await;
        let mut observer = observe(&member, "e").await;
        assert_eq!(told(&mut observer).await, "e/1=a");
        let mut member = member;
        member.stop("TERM").await;
        in_time(waiter).await.unwrap_err();
        in_time(candidate).await.unwrap_err();
        tokio::time::timeout(PATIENCE, observer.message()).await.expect("in time").unwrap_err();
    }

    /// Who watches the health of the member is told at once, and of an unknown service that it is unknown.
    async fn health_is_watched(member) {
        use api::health::HealthCheckRequest;
        for (service, status) in [("", 1), ("nothing", 3)] {
            let request = HealthCheckRequest { service: service.into() };
            let mut stream = member.health().watch(request).await.unwrap().into_inner();
            assert_eq!(stream.message().await.unwrap().unwrap().status, status);
            // Nothing changes, and the stream goes on.
            let more = tokio::time::timeout(Duration::from_millis(50), stream.message()).await;
            assert!(more.is_err(), "{more:?}");
        }
    }
}

/// A request with somebody's token.
fn signed<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("token", token.parse().unwrap());
    request
}

/// Turns authentication on, with the user `alice` who may do everything below `mine/`, and returns her token.
async fn secure(member: &Member) -> String {
    let mut auth = AuthClient::new(member.channel());
    for (name, role) in [("root", "root"), ("alice", "r")] {
        let add = pb::AuthUserAddRequest { name: name.into(), password: "pw".into(), ..Default::default() };
        auth.user_add(add).await.unwrap();
        auth.role_add(pb::AuthRoleAddRequest { name: role.into() }).await.unwrap();
        let grant = pb::AuthUserGrantRoleRequest { user: name.into(), role: role.into() };
        auth.user_grant_role(grant).await.unwrap();
    }
    let permission = Permission {
        perm_type: permission::Type::Readwrite.into(),
        key: "mine/".into(),
        range_end: e2e::prefix_end("mine/"),
    };
    let grant = pb::AuthRoleGrantPermissionRequest { name: "r".into(), perm: Some(permission) };
    auth.role_grant_permission(grant).await.unwrap();
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    let log_in = pb::AuthenticateRequest { name: "alice".into(), password: "pw".into() };
    auth.authenticate(log_in).await.unwrap().into_inner().token
}

const DENIED: &str = "etcdserver: permission denied";
const NOBODY: &str = "etcdserver: user name is empty";

each_target! {
    everywhere;

    /// A lock takes the right to write its key and to read its line; who has none, or is nobody, is refused.
    async fn a_lock_takes_rights(member) {
        for lease in 1..=4 {
            member.grant(lease, 100).await;
        }
        let token = secure(&member).await;
        let lock = async |name: &'static str, lease: i64, token: Option<&str>| {
            let request = LockRequest { name: name.into(), lease };
            let request = token.map_or_else(|| Request::new(request.clone()), |token| signed(request.clone(), token));
            member.locks().lock(request).await
        };
        refused(lock("mine", 1, None).await, Code::Unknown, NOBODY);
        refused(lock("other", 2, Some(&token)).await, Code::Unknown, DENIED);
        assert_eq!(lock("mine", 3, Some(&token)).await.unwrap().into_inner().key, "mine/3");
        let unlock = async |key: &'static str, token: &str| {
            member.locks().unlock(signed(UnlockRequest { key: key.into() }, token)).await
        };
        refused(unlock("other/2", &token).await, Code::Unknown, DENIED);
        unlock("mine/3", &token).await.unwrap();
    }

    /// So does an election, and observing it the right to read.
    async fn an_election_takes_rights(member) {
        member.grant(1, 100).await;
        member.grant(2, 100).await;
        let token = secure(&member).await;
        let campaign = async |name: &'static str, lease: i64| {
            let request = CampaignRequest { name: name.into(), lease, value: "v".into() };
            member.election().campaign(signed(request, &token)).await
        };
        refused(campaign("other", 1).await, Code::Unknown, DENIED);
        let key = campaign("mine", 2).await.unwrap().into_inner().leader.unwrap();
        refused(proclaim(&member, &key, "w").await, Code::Unknown, NOBODY);
        let leader = async |name: &'static str| {
            member.election().leader(signed(LeaderRequest { name: name.into() }, &token)).await
        };
        refused(leader("other").await, Code::Unknown, DENIED);
        leader("mine").await.unwrap();
        let observe = async |name: &'static str| {
            let request = signed(LeaderRequest { name: name.into() }, &token);
            let mut observer = member.election().observe(request).await?.into_inner();
            tokio::time::timeout(PATIENCE, observer.message()).await.expect("in time")
        };
        assert_eq!(observe("mine").await.unwrap().unwrap().kv.unwrap().value, "v");
        // 3.4 ends the stream without a word.
        match observe("other").await {
            Ok(told) => assert_eq!(told, None),
            Err(status) => assert_eq!((status.code(), status.message()), (Code::Unknown, DENIED)),
        }
    }
}

mod ours {
    use super::*;

    each_target! {
        ours;

        /// A waiter whose lease ends is told so when its turn comes. (3.4 gives it the lock.)
        async fn a_waiter_without_a_lease_gets_no_lock(member) {
            member.grant(1, 100).await;
            member.grant(2, 100).await;
            locked(&member, "l", 1).await;
            let waiter = in_line(&member, "l", 2).await;
            revoke(&member, 2).await;
            unlock(&member, "l/1").await.unwrap();
            refused(in_time(waiter).await, Code::Unknown, "mutex: session is expired");
        }

        /// A candidate whose lease ended while it waited does not lead, as its key is gone. (etcd tells it that it leads.)
        async fn a_candidate_without_a_lease_does_not_lead(member) {
            for lease in 1..=2 {
                member.grant(lease, 100).await;
            }
            let first = elected(&member, "e", 1, "one").await;
            let waiting = campaigning(&member, "e", 2, "two").await;
            revoke(&member, 2).await;
            resign(&member, &first).await;
            refused(in_time(waiting).await, Code::Unknown, NO_LEASE);
        }

        /// History that is compacted away under those who wait takes nothing from them. (etcd fails some of them.)
        async fn compaction_does_not_disturb_those_who_wait(member) {
            for lease in 1..=2 {
                member.grant(lease, 100).await;
            }
            locked(&member, "l", 1).await;
            let leading = elected(&member, "e", 1, "one").await;
            let waiter = in_line(&member, "l", 2).await;
            let mut observer = observe(&member, "e").await;
            assert_eq!(told(&mut observer).await, "e/1=one");
            for _ in 0..10 {
                member.compact(member.put("k", "v").await.header.unwrap().revision).await;
            }
            unlock(&member, "l/1").await.unwrap();
            in_time(waiter).await.unwrap();
            proclaim(&member, &leading, "still").await.unwrap();
            assert_eq!(told(&mut observer).await, "e/1=still");
        }
    }
}
