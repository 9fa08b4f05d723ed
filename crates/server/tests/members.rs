//! Clusters of several members in one process: who belongs to them, who leads, and what a member tells clients of the others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use api::etcdserverpb as pb;
use api::status;
use common::{Client, Status, config};
use etcd_rs_server::{ClusterState, Config, Error, Server};

type Answer<M> = Result<M, Status>;

/// Long enough for a busy machine not to elect leaders in the middle of a test.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(600);

/// A peer URL that nobody else has: the port is free now.
fn peer_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Members that run, by name.
struct Cluster {
    dir: tempfile::TempDir,
    urls: BTreeMap<String, String>,
    running: BTreeMap<String, (Server, Client)>,
    corrupt_check_time: Duration,
    election_timeout: Duration,
}

impl Cluster {
    async fn start(names: &[&str]) -> Self {
        Self::start_with(names, Duration::ZERO, ELECTION_TIMEOUT).await
    }

    /// With a leader that compares hashes so often, if ever, and elections that take so long.
    async fn start_with(names: &[&str], corrupt_check_time: Duration, election_timeout: Duration) -> Self {
        let urls = names.iter().map(|name| ((*name).to_owned(), peer_url())).collect();
        let mut cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            urls,
            running: BTreeMap::new(),
            corrupt_check_time,
            election_timeout,
        };
        let starts = names.iter().map(|name| Server::start(cluster.config(name, ClusterState::New)));
        let servers = futures_util::future::join_all(starts.map(Box::pin)).await;
        for (name, server) in names.iter().zip(servers) {
            cluster.runs(name, server.unwrap()).await;
        }
        cluster
    }

    async fn runs(&mut self, name: &str, server: Server) {
        let client = Client::connect(&server).await;
        self.running.insert(name.to_owned(), (server, client));
    }

    fn config(&self, name: &str, state: ClusterState) -> Config {
        let url = &self.urls[name];
        Config {
            name: name.to_owned(),
            data_dir: self.dir.path().join(name),
            listen_peer_urls: vec![url.clone()],
            initial_advertise_peer_urls: vec![url.clone()],
            initial_cluster: self
                .urls
                .iter()
                .map(|(name, url)| format!("{name}={url}"))
                .collect::<Vec<_>>()
                .join(","),
            initial_cluster_state: state,
            heartbeat_interval: Duration::from_millis(30),
            election_timeout: self.election_timeout,
            corrupt_check_time: self.corrupt_check_time,
            compact_hash_check: true,
            compact_hash_check_time: Duration::from_millis(200),
            snapshot_count: 50,
            snapshot_catchup_entries: 10,
            ..config(self.dir.path())
        }
    }

    /// Starts a member that joins, or starts again.
    async fn join(&mut self, name: &str) {
        let server = Box::pin(Server::start(self.config(name, ClusterState::Existing))).await.unwrap();
        self.runs(name, server).await;
    }

    fn client(&self, name: &str) -> &Client {
        &self.running[name].1
    }

    async fn stop(&mut self, name: &str) {
        let (server, client) = self.running.remove(name).unwrap();
        drop(client);
        server.shutdown().await.unwrap();
    }

    async fn status(&self, name: &str) -> pb::StatusResponse {
        self.client(name).call("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}).await.unwrap()
    }

    async fn id(&self, name: &str) -> u64 {
        self.status(name).await.header.unwrap().member_id
    }

    /// The name of the leader, once all running members agree on one of them.
    async fn leader(&self) -> String {
        let mut leader = None;
        eventually(async || {
            let mut seen = Vec::new();
            let mut names = BTreeMap::new();
            for name in self.running.keys() {
                let status = self.status(name).await;
                seen.push(status.leader);
                names.insert(status.header.unwrap().member_id, name.clone());
            }
            leader = names.remove(&seen[0]);
            leader.is_some() && seen.iter().all(|id| *id == seen[0])
        })
        .await;
        leader.unwrap()
    }

    async fn follower(&self) -> String {
        let leader = self.leader().await;
        self.running.keys().find(|name| **name != leader).unwrap().clone()
    }

    async fn put(&self, name: &str, key: &str) -> Answer<pb::PutResponse> {
        let request = pb::PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() };
        self.client(name).call("/etcdserverpb.KV/Put", &request).await
    }

    async fn count(&self, name: &str, key: &str, serializable: bool) -> Answer<i64> {
        let request = pb::RangeRequest { key: key.to_owned().into(), serializable, ..Default::default() };
        let answer: Answer<pb::RangeResponse> =
            self.client(name).call("/etcdserverpb.KV/Range", &request).await;
        answer.map(|answer| answer.count)
    }

    async fn members(&self, name: &str) -> Vec<pb::Member> {
        let request = pb::MemberListRequest { linearizable: true };
        let answer: Answer<pb::MemberListResponse> =
            self.client(name).call("/etcdserverpb.Cluster/MemberList", &request).await;
        answer.unwrap().members
    }

    /// Adds a member through another.
    async fn add(&mut self, through: &str, name: &str, is_learner: bool) -> Answer<pb::Member> {
        let url = peer_url();
        let request = pb::MemberAddRequest { peer_ur_ls: vec![url.clone()], is_learner };
        let answer: pb::MemberAddResponse =
            self.client(through).call("/etcdserverpb.Cluster/MemberAdd", &request).await?;
        self.urls.insert(name.to_owned(), url);
        Ok(answer.member.unwrap())
    }

    async fn remove(&self, through: &str, id: u64) -> Answer<pb::MemberRemoveResponse> {
        let request = pb::MemberRemoveRequest { id };
        self.client(through).call("/etcdserverpb.Cluster/MemberRemove", &request).await
    }

    async fn promote(&self, through: &str, id: u64) -> Answer<pb::MemberPromoteResponse> {
        let request = pb::MemberPromoteRequest { id };
        self.client(through).call("/etcdserverpb.Cluster/MemberPromote", &request).await
    }

    async fn move_leader(&self, through: &str, target_id: u64) -> Answer<pb::MoveLeaderResponse> {
        let request = pb::MoveLeaderRequest { target_id };
        self.client(through).call("/etcdserverpb.Maintenance/MoveLeader", &request).await
    }

    /// Waits until a member has found out that it was removed, and stops it.
    async fn is_removed(&mut self, name: &str) {
        let (mut server, client) = self.running.remove(name).unwrap();
        let failed = tokio::time::timeout(Duration::from_secs(20), server.failed()).await.unwrap();
        assert!(matches!(failed, Error::Removed), "{failed}");
        drop(client);
        // The log may have been told, too.
        drop(server.shutdown().await);
        self.urls.remove(name);
    }

    async fn end(mut self) {
        for (_, (server, client)) in std::mem::take(&mut self.running) {
            drop(client);
            server.shutdown().await.unwrap();
        }
    }
}

/// Waits for a condition.
async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    let waited = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while !condition().await {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect("it happens");
}

/// Tries again while the cluster finds itself not healthy enough, as it may for a moment after a change.
async fn healthily<M>(mut call: impl AsyncFnMut() -> Answer<M>) -> Answer<M> {
    let mut answer = None;
    eventually(async || {
        let called = call().await;
        let passing = called.as_ref().is_err_and(|refusal| refusal.is(status::UNHEALTHY));
        answer = Some(called);
        !passing
    })
    .await;
    answer.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn founders_know_each_other_and_serve_the_same() {
    let cluster = Cluster::start(&["a", "b", "c"]).await;
    for name in ["a", "b", "c"] {
        cluster.put(name, name).await.unwrap();
    }
    let members = cluster.members("a").await;
    let named: Vec<(&str, usize)> = members.iter().map(|m| (m.name.as_str(), m.client_ur_ls.len())).collect();
    let mut sorted = named.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [("a", 1), ("b", 1), ("c", 1)]);
    assert!(members.is_sorted_by_key(|member| member.id));
    for name in ["a", "b", "c"] {
        assert_eq!(cluster.members(name).await, members);
        for key in ["a", "b", "c"] {
            assert_eq!(cluster.count(name, key, false).await, Ok(1));
        }
        eventually(async || cluster.status(name).await.storage_version == "3.7.0").await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_voter_costs_nothing_until_it_starts_and_is_gone_for_ever_once_removed() {
    let mut cluster = Cluster::start(&["a"]).await;
    cluster.put("a", "before").await.unwrap();
    let added = cluster.add("a", "b", false).await.unwrap();
    assert_eq!((added.name.as_str(), added.is_learner), ("", false));
    // A quorum of two is both, but the one that was never started is not waited for.
    cluster.put("a", "between").await.unwrap();
    let refused = cluster.add("a", "x", false).await.unwrap_err();
    assert!(refused.is(status::MEMBER_NOT_ENOUGH_STARTED), "{refused:?}");
    let a = cluster.id("a").await;

    cluster.join("b").await;
    assert_eq!(cluster.count("b", "between", false).await, Ok(1));
    assert_eq!(cluster.id("b").await, added.id);
    assert_eq!(cluster.members("b").await.iter().filter(|member| member.name == "b").count(), 1);
    // Only a voter can lead.
    cluster.move_leader("a", added.id).await.unwrap();
    assert_eq!(cluster.leader().await, "b");
    cluster.move_leader("b", a).await.unwrap();

    healthily(async || cluster.remove("a", added.id).await).await.unwrap();
    let gone = cluster.config("b", ClusterState::Existing);
    cluster.is_removed("b").await;
    assert!(matches!(Box::pin(Server::start(gone)).await, Err(Error::Removed)));
    assert_eq!(cluster.members("a").await.len(), 1);
    let refused = cluster.remove("a", added.id).await.unwrap_err();
    assert!(refused.is(status::MEMBER_NOT_FOUND), "{refused:?}");
    let refused = cluster.remove("a", a).await.unwrap_err();
    assert!(refused.is(status::MEMBER_NOT_ENOUGH_STARTED), "{refused:?}");
    cluster.put("a", "after").await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_can_be_removed_through_any_member_and_the_others_go_on() {
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let id = cluster.id(&leader).await;
    let left = healthily(async || cluster.remove(&follower, id).await).await.unwrap().members;
    assert_eq!(left.len(), 2);
    cluster.is_removed(&leader).await;
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    cluster.put(&follower, "after").await.unwrap();
    // A follower goes through itself.
    let follower = cluster.follower().await;
    let id = cluster.id(&follower).await;
    healthily(async || cluster.remove(&follower, id).await).await.unwrap();
    cluster.is_removed(&follower).await;
    cluster.put(&next, "alone").await.unwrap();
    cluster.end().await;
}

/// Every call of every service.
const CALLS: &[(&str, &str)] = &[
    ("etcdserverpb.KV", "Range RangeStream Put DeleteRange Txn Compact"),
    ("etcdserverpb.Watch", "Watch"),
    ("etcdserverpb.Lease", "LeaseGrant LeaseRevoke LeaseKeepAlive LeaseTimeToLive LeaseLeases"),
    ("etcdserverpb.Cluster", "MemberAdd MemberRemove MemberUpdate MemberList MemberPromote"),
    ("etcdserverpb.Maintenance", "Alarm Status Defragment Hash HashKV Snapshot MoveLeader Downgrade"),
    (
        "etcdserverpb.Auth",
        "AuthEnable AuthDisable AuthStatus Authenticate UserAdd UserGet UserList UserDelete \
         UserChangePassword UserGrantRole UserRevokeRole RoleAdd RoleGet RoleList RoleDelete \
         RoleGrantPermission RoleRevokePermission",
    ),
    ("v3electionpb.Election", "Campaign Proclaim Leader Observe Resign"),
    ("v3lockpb.Lock", "Lock Unlock"),
    ("grpc.health.v1.Health", "Check List Watch"),
];

/// Walks over all calls: a learner serves but two of them, and of ranges those that are serializable.
async fn refuses_what_is_not_for_learners(learner: &Client) {
    let mut served = Vec::new();
    for (service, methods) in CALLS {
        for method in methods.split_whitespace() {
            let (status, _) = learner.raw(&format!("/{service}/{method}"), common::frame(&[])).await;
            if !status.is(status::NOT_SUPPORTED_FOR_LEARNER) {
                served.push(method);
            }
        }
    }
    assert_eq!(served, ["Status", "Snapshot"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_answers_little_until_it_is_promoted() {
    let mut cluster = Cluster::start(&["a"]).await;
    cluster.put("a", "k").await.unwrap();
    let learner = cluster.add("a", "l", true).await.unwrap().id;
    let refused = cluster.add("a", "m", true).await.unwrap_err();
    assert!(refused.is(status::TOO_MANY_LEARNERS), "{refused:?}");
    let refused = cluster.promote("a", learner).await.unwrap_err();
    assert!(refused.is(status::LEARNER_NOT_READY), "{refused:?}");
    cluster.join("l").await;

    assert!(cluster.status("l").await.is_learner);
    // etcd #21736: telling a learner's URLs made it a voter.
    let request = pb::MemberUpdateRequest { id: learner, peer_ur_ls: vec![cluster.urls["l"].clone()] };
    let updated: Answer<pb::MemberUpdateResponse> =
        cluster.client("a").call("/etcdserverpb.Cluster/MemberUpdate", &request).await;
    assert!(updated.unwrap().members.iter().any(|member| member.id == learner && member.is_learner));
    assert!(cluster.status("l").await.is_learner);
    assert_eq!(cluster.count("l", "k", true).await, Ok(1));
    let refused = [
        cluster.count("l", "k", false).await.unwrap_err(),
        cluster.put("l", "k").await.unwrap_err(),
        cluster.move_leader("a", learner).await.unwrap_err(),
        cluster.promote("a", 7).await.unwrap_err(),
    ];
    let expected = [
        status::NOT_SUPPORTED_FOR_LEARNER,
        status::NOT_SUPPORTED_FOR_LEARNER,
        status::BAD_LEADER_TRANSFEREE,
        status::MEMBER_NOT_FOUND,
    ];
    for (refused, expected) in refused.iter().zip(expected) {
        assert!(refused.is(expected), "{refused:?}");
    }

    refuses_what_is_not_for_learners(cluster.client("l")).await;

    let mut promoted = None;
    eventually(async || {
        promoted = cluster.promote("a", learner).await.ok();
        promoted.is_some()
    })
    .await;
    assert!(promoted.unwrap().members.iter().all(|member| !member.is_learner));
    cluster.put("l", "voter").await.unwrap();
    let refused = cluster.promote("l", learner).await.unwrap_err();
    assert!(refused.is(status::MEMBER_NOT_LEARNER), "{refused:?}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_moves_is_found_at_its_new_url() {
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    let follower = cluster.follower().await;
    let id = cluster.id(&follower).await;
    let taken = cluster.urls.iter().find(|(name, _)| **name != follower).unwrap().1.clone();
    let update = async |cluster: &Cluster, id, url: &str| -> Answer<pb::MemberUpdateResponse> {
        let request = pb::MemberUpdateRequest { id, peer_ur_ls: vec![url.to_owned()] };
        cluster.client(&follower).call("/etcdserverpb.Cluster/MemberUpdate", &request).await
    };
    let refused = update(&cluster, id, &taken).await.unwrap_err();
    assert!(refused.is(status::PEER_URL_EXIST), "{refused:?}");
    let refused = update(&cluster, 7, "http://127.0.0.1:1").await.unwrap_err();
    assert!(refused.is(status::MEMBER_NOT_FOUND), "{refused:?}");

    let url = peer_url();
    let members = update(&cluster, id, &url).await.unwrap().members;
    assert_eq!(members.iter().find(|member| member.id == id).unwrap().peer_ur_ls, std::slice::from_ref(&url));
    cluster.stop(&follower).await;
    cluster.urls.insert(follower.clone(), url);
    cluster.put(&cluster.leader().await, "meanwhile").await.unwrap();
    cluster.join(&follower).await;
    assert_eq!(cluster.count(&follower, "meanwhile", false).await, Ok(1));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_moved_only_by_the_leader_and_to_a_voter() {
    let cluster = Cluster::start(&["a", "b", "c"]).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let (leader_id, follower_id) = (cluster.id(&leader).await, cluster.id(&follower).await);
    let refused = cluster.move_leader(&follower, follower_id).await.unwrap_err();
    assert!(refused.is(status::NOT_LEADER), "{refused:?}");
    let refused = cluster.move_leader(&leader, 7).await.unwrap_err();
    assert!(refused.is(status::BAD_LEADER_TRANSFEREE), "{refused:?}");
    cluster.move_leader(&leader, leader_id).await.unwrap();
    cluster.move_leader(&leader, follower_id).await.unwrap();
    assert_eq!(cluster.leader().await, follower);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_live_on_through_any_member() {
    let cluster = Cluster::start(&["a", "b", "c"]).await;
    let follower = cluster.follower().await;
    let client = cluster.client(&follower);
    let request = pb::LeaseGrantRequest { ttl: 600, id: 5 };
    let granted: pb::LeaseGrantResponse =
        client.call("/etcdserverpb.Lease/LeaseGrant", &request).await.unwrap();
    assert_eq!(granted.ttl, 600);
    let request = pb::PutRequest { key: "k".into(), lease: 5, ..Default::default() };
    client.call::<pb::PutResponse>("/etcdserverpb.KV/Put", &request).await.unwrap();
    let mut stream =
        client.stream("/etcdserverpb.Lease/LeaseKeepAlive", &pb::LeaseKeepAliveRequest { id: 5 }).await;
    let own = cluster.id(&follower).await;
    for (id, ttl) in [(5, 600), (6, 0), (5, 600)] {
        let renewed: pb::LeaseKeepAliveResponse = stream.next().await.unwrap();
        assert_eq!((renewed.header.unwrap().member_id, renewed.ttl), (own, ttl));
        stream.say(&pb::LeaseKeepAliveRequest { id: if id == 5 { 6 } else { 5 } });
    }
    let request = pb::LeaseTimeToLiveRequest { id: 5, keys: true };
    let left: pb::LeaseTimeToLiveResponse =
        client.call("/etcdserverpb.Lease/LeaseTimeToLive", &request).await.unwrap();
    assert_eq!((left.granted_ttl, left.keys), (600, vec!["k".into()]));
    assert!(left.ttl > 590 && left.header.unwrap().member_id == own);
    drop(stream);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_only_those_who_do_not_require_one_are_served() {
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    cluster.put("a", "k").await.unwrap();
    let requiring = |path: &str| {
        let mut request = common::post(path);
        request.headers_mut().insert("hasleader", "true".parse().unwrap());
        request
    };
    let watch = "/etcdserverpb.Watch/Watch";
    let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    let create =
        pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    let client = Client::connect(&cluster.running["a"].0).await;
    let mut open = client.stream_of(requiring(watch), &create).await;
    let mut patient = client.stream(watch, &create).await;
    assert!(open.next::<pb::WatchResponse>().await.unwrap().created);
    assert!(patient.next::<pb::WatchResponse>().await.unwrap().created);

    for name in ["b", "c"] {
        cluster.stop(name).await;
    }
    let ended = open.next::<pb::WatchResponse>().await.unwrap_err();
    assert!(ended.is(status::NO_LEADER), "{ended:?}");
    let mut refused = client.stream_of(requiring(watch), &create).await;
    assert!(refused.next::<pb::WatchResponse>().await.unwrap_err().is(status::NO_LEADER));
    assert_eq!(cluster.status("a").await.leader, 0);
    assert_eq!(cluster.count("a", "k", true).await, Ok(1), "what is serializable needs no leader");

    cluster.join("b").await;
    cluster.put("b", "k").await.unwrap();
    let event: pb::WatchResponse = patient.next().await.unwrap();
    assert_eq!(event.events.len(), 1, "who waited goes on");
    drop((open, patient, refused, client));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_hands_leadership_over() {
    let patience = Duration::from_secs(3);
    let mut cluster = Cluster::start_with(&["a", "b", "c"], Duration::ZERO, patience).await;
    let leader = cluster.leader().await;
    let term = cluster.status(&leader).await.raft_term;
    let stopping = std::time::Instant::now();
    cluster.stop(&leader).await;
    let next = cluster.leader().await;
    cluster.put(&next, "k").await.unwrap();
    assert!(stopping.elapsed() < patience, "nobody had to notice that the leader is gone");
    assert_eq!(cluster.status(&next).await.raft_term, term + 1, "one election, and nobody waited for it");
    cluster.end().await;
}

/// Changes a member's data behind its back, while it is stopped.
fn tamper(cluster: &Cluster, name: &str, change: impl FnOnce(&dyn backend::Backend, &mut backend::WriteTx)) {
    use backend::Backend as _;
    let state = cluster.dir.path().join(name).join("member/state");
    let backend = backend::DiskBackend::open(state, backend::Options::default()).unwrap();
    let mut tx = backend.begin();
    change(&backend, &mut tx);
    assert!(!tx.is_empty());
    backend.commit(tx).unwrap();
}

async fn corrupt_alarms(cluster: &Cluster, name: &str) -> Vec<u64> {
    let request = pb::AlarmRequest { alarm: pb::AlarmType::Corrupt.into(), ..Default::default() };
    let answer: pb::AlarmResponse =
        cluster.client(name).call("/etcdserverpb.Maintenance/Alarm", &request).await.unwrap();
    answer.alarms.iter().map(|alarm| alarm.member_id).collect()
}

/// Makes a member, while it is stopped, one that has applied something else than the others.
fn diverge(cluster: &Cluster, name: &str) {
    tamper(cluster, name, |backend, tx| {
        let applied = backend.get(backend::Table::Meta, b"applied").unwrap().unwrap();
        let mut record = applied.to_vec();
        // Two rolling hashes end here: where it is, and where it was compared last.
        record[23] ^= 1;
        record[39] ^= 1;
        tx.put(backend::Table::Meta, b"applied", &record);
    });
}

/// Starts a member that has diverged, and waits until it knows. It may be told while it starts, or when it has.
async fn is_fenced(cluster: &Cluster, name: &str) {
    let start = || Box::pin(Server::start(cluster.config(name, ClusterState::Existing)));
    let fenced = async {
        match start().await {
            Err(error) => error,
            Ok(mut server) => {
                let error = server.failed().await;
                server.shutdown().await.unwrap();
                error
            }
        }
    };
    let fenced = tokio::time::timeout(Duration::from_secs(20), fenced).await.unwrap();
    assert!(matches!(fenced, Error::Diverged(_)), "{fenced}");
    assert!(fenced.to_string().contains("has applied other entries than most of its cluster"), "{fenced}");
    assert!(fenced.to_string().contains("etcd-rs-ctl member remove"), "{fenced}");
    let again = start().await.unwrap_err();
    assert_eq!(again.to_string(), fenced.to_string(), "it does not start again");
}

/// Hashes are compared at every sixty-fourth entry.
async fn put_some(cluster: &Cluster, name: &str, count: usize) {
    for n in 0..count {
        cluster.put(name, &n.to_string()).await.unwrap();
    }
}

/// A member whose disk has lost or changed what it applied would go on as if nothing had happened; the leader finds out, and it
/// stops. Nobody else has to.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_applied_something_else_stops_and_the_others_go_on() {
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    put_some(&cluster, "a", 70).await;
    let follower = cluster.follower().await;
    cluster.stop(&follower).await;
    diverge(&cluster, &follower);
    is_fenced(&cluster, &follower).await;
    let leader = cluster.leader().await;
    cluster.put(&leader, "goes on").await.unwrap();
    assert!(corrupt_alarms(&cluster, &leader).await.is_empty(), "it is fenced, so the others need not be");
    cluster.end().await;
}

/// It is the leader that compares, and it may be the one that is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_has_applied_something_else_stops_too() {
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    put_some(&cluster, "a", 70).await;
    for name in ["a", "b", "c"] {
        cluster.stop(name).await;
    }
    diverge(&cluster, "a");
    let starts = ["a", "b", "c"].map(|name| Server::start(cluster.config(name, ClusterState::Existing)));
    let servers = futures_util::future::join_all(starts.map(Box::pin)).await;
    let mut diverged = None;
    for (name, server) in ["a", "b", "c"].into_iter().zip(servers) {
        match server {
            Ok(server) if name == "a" => diverged = Some(server),
            Err(error) if name == "a" => assert!(matches!(error, Error::Diverged(_)), "{error}"),
            server => cluster.runs(name, server.unwrap()).await,
        }
    }
    if let Some(mut server) = diverged {
        let failed = tokio::time::timeout(Duration::from_secs(20), server.failed()).await.unwrap();
        assert!(matches!(failed, Error::Diverged(_)), "{failed}");
        server.shutdown().await.unwrap();
    }
    cluster.leader().await;
    cluster.put("b", "goes on").await.unwrap();
    cluster.end().await;
}

/// Of two that differ nobody can say which one is right, so nobody may write.
#[tokio::test(flavor = "multi_thread")]
async fn where_no_majority_has_the_same_the_alarm_fences_all() {
    let mut cluster = Cluster::start(&["a", "b"]).await;
    put_some(&cluster, "a", 70).await;
    let follower = cluster.follower().await;
    cluster.stop(&follower).await;
    diverge(&cluster, &follower);
    cluster.join(&follower).await;
    let leader = cluster.leader().await;
    eventually(async || corrupt_alarms(&cluster, &leader).await == [0]).await;
    let refused = cluster.put(&leader, "fenced").await.unwrap_err();
    assert!(refused.is(status::CORRUPT), "{refused:?}");
    cluster.end().await;
}

/// To be sent the right state would hide that something is wrong with the member, or with the one that sends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_diverged_takes_no_other_state() {
    use backend::Backend as _;
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    put_some(&cluster, "a", 70).await;
    let follower = cluster.follower().await;
    cluster.stop(&follower).await;
    diverge(&cluster, &follower);
    let leader = cluster.leader().await;
    // Far more than the log keeps.
    put_some(&cluster, &leader, 200).await;
    is_fenced(&cluster, &follower).await;
    let state = cluster.dir.path().join(&follower).join("member/state");
    let backend = backend::DiskBackend::open(state, backend::Options::default()).unwrap();
    let applied = backend.get(backend::Table::Meta, b"applied").unwrap().unwrap();
    let index = u64::from_be_bytes(applied[8..16].try_into().unwrap());
    assert!(index < 200, "it has applied {index}, which another has sent");
    cluster.end().await;
}

/// Adds a record to a member's history that nobody wrote.
fn invent(backend: &dyn backend::Backend, tx: &mut backend::WriteTx) {
    let (key, record) = backend.last(backend::Table::Rev).unwrap().unwrap();
    let mut changed = record.to_vec();
    // The last byte belongs to the value.
    *changed.last_mut().unwrap() ^= 1;
    tx.put(backend::Table::Rev, &key, &changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_history_differs_is_found_by_hashes() {
    let mut cluster =
        Cluster::start_with(&["a", "b", "c"], Duration::from_millis(200), ELECTION_TIMEOUT).await;
    cluster.put("a", "k").await.unwrap();
    let follower = cluster.follower().await;
    let id = cluster.id(&follower).await;
    assert_eq!(cluster.count(&follower, "k", false).await, Ok(1));
    cluster.stop(&follower).await;
    tamper(&cluster, &follower, invent);

    let checked = Config { initial_corrupt_check: true, ..cluster.config(&follower, ClusterState::New) };
    let refused = Box::pin(Server::start(checked)).await.unwrap_err().to_string();
    assert!(refused.starts_with("checkInitialHashKV failed"), "{refused}");

    cluster.join(&follower).await;
    eventually(async || corrupt_alarms(&cluster, &follower).await == [id]).await;
    cluster.end().await;
}

/// Nobody asks for hashes here: the leader compares what every compaction leaves behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_history_differs_is_found_by_the_hashes_of_compactions() {
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    put_some(&cluster, "a", 5).await;
    compact(&cluster, "a", 3).await;
    let follower = cluster.follower().await;
    let id = cluster.id(&follower).await;
    assert_eq!(cluster.count(&follower, "4", false).await, Ok(1));
    cluster.stop(&follower).await;
    tamper(&cluster, &follower, invent);
    cluster.join(&follower).await;
    let leader = cluster.leader().await;
    assert!(
        corrupt_alarms(&cluster, &leader).await.is_empty(),
        "the first compaction was the same everywhere"
    );
    put_some(&cluster, &leader, 5).await;
    // It keeps the record that is not the same everywhere: the key has no newer one.
    cluster.put(&leader, "other").await.unwrap();
    compact(&cluster, &leader, 7).await;
    eventually(async || corrupt_alarms(&cluster, &leader).await == [id]).await;
    cluster.end().await;
}

async fn compact(cluster: &Cluster, name: &str, revision: i64) {
    let request = pb::CompactionRequest { revision, physical: true };
    let answer: Answer<pb::CompactionResponse> =
        cluster.client(name).call("/etcdserverpb.KV/Compact", &request).await;
    answer.unwrap();
}

/// A member that is cut off for so long that the log cannot help it gets another's state while its own clients go on: a watch
/// there sees every event once and in order, and what is written there afterwards is answered.
/// etcd #18667, #21432: members left reads out of transactions of others' clients, so one with a read that fails was applied by some
/// and not by the one that was asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_fails_at_one_member_fails_at_all() {
    let cluster = Cluster::start(&["a", "b", "c"]).await;
    let compacted = cluster.put("a", "k").await.unwrap().header.unwrap().revision + 1;
    cluster.put("a", "k").await.unwrap();
    let request = pb::CompactionRequest { revision: compacted, physical: true };
    let answer: Answer<pb::CompactionResponse> =
        cluster.client("a").call("/etcdserverpb.KV/Compact", &request).await;
    answer.unwrap();
    let put = pb::PutRequest { key: "in txn".into(), value: "v".into(), ..Default::default() };
    let read = pb::RangeRequest { key: "k".into(), revision: compacted - 1, ..Default::default() };
    let op = |request| pb::RequestOp { request: Some(request) };
    let txn = pb::TxnRequest {
        success: vec![
            op(pb::request_op::Request::RequestPut(put)),
            op(pb::request_op::Request::RequestRange(read)),
        ],
        ..Default::default()
    };
    for name in ["a", "b", "c"] {
        let refused: Answer<pb::TxnResponse> = cluster.client(name).call("/etcdserverpb.KV/Txn", &txn).await;
        assert!(refused.unwrap_err().is(status::COMPACTED));
    }
    let last = cluster.put("a", "after").await.unwrap().header.unwrap().revision;
    assert_eq!(last, compacted + 1);
    for name in ["a", "b", "c"] {
        assert_eq!(cluster.count(name, "in txn", false).await, Ok(0));
        assert_eq!(cluster.status(name).await.header.unwrap().revision, last);
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_given_the_state_while_it_serves() {
    const WRITES: i64 = 300;
    let cluster = Cluster::start(&["a", "b", "c"]).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let id = cluster.id(&follower).await;
    let update = async |url: &str| {
        let request = pb::MemberUpdateRequest { id, peer_ur_ls: vec![url.to_owned()] };
        let answer: Answer<pb::MemberUpdateResponse> =
            cluster.client(&leader).call("/etcdserverpb.Cluster/MemberUpdate", &request).await;
        answer.unwrap();
    };
    let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    let create =
        pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    let mut watch = cluster.client(&follower).stream("/etcdserverpb.Watch/Watch", &create).await;
    let created: pb::WatchResponse = watch.next().await.unwrap();
    let start = created.header.unwrap().revision;

    // Nobody finds it any more.
    update("http://127.0.0.1:1").await;
    for _ in 0..WRITES {
        cluster.put(&leader, "k").await.unwrap();
    }
    let behind = cluster.status(&follower).await.header.unwrap().revision;
    assert!(behind < start + WRITES - 100, "it was cut off: {behind}");
    update(&cluster.urls[&follower]).await;

    let mut seen = Vec::new();
    while seen.len() < usize::try_from(WRITES).unwrap() {
        let response: pb::WatchResponse = watch.next().await.unwrap();
        assert!(!response.canceled);
        seen.extend(response.events.into_iter().map(|event| event.kv.unwrap().mod_revision));
    }
    assert_eq!(seen, (start + 1..=start + WRITES).collect::<Vec<_>>());
    cluster.put(&follower, "after").await.unwrap();
    let hash = async |name: &str| {
        let request = pb::HashKvRequest { revision: start + WRITES };
        let answer: Answer<pb::HashKvResponse> =
            cluster.client(name).call("/etcdserverpb.Maintenance/HashKV", &request).await;
        let answer = answer.unwrap();
        (answer.hash, answer.compact_revision)
    };
    assert_eq!(hash(&follower).await, hash(&leader).await);
    let generation = cluster.dir.path().join(&follower).join("member/state/GENERATION");
    assert!(generation.exists(), "the state was replaced");
    drop(watch);
    cluster.end().await;
}
