//! What several members promise together, and what of openraft that relies on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "../node/journal.rs"]
#[expect(dead_code, reason = "the tests of one member need more of it")]
mod journal;
mod network;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use raftlog::{Answer, Change, ChangeError, Config, Error, Node, ProposeError, TransferError};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::journal::Journal;
use crate::network::{Cuts, Dialer, Listener};

/// As by default; with less, a busy machine would make elections of its own.
const HEARTBEAT: Duration = Duration::from_millis(100);
const ELECTION: Duration = Duration::from_millis(1000);
/// Longer than anything here may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that will happen.
async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, happens).await.unwrap_or_else(|_| panic!("{what} has not happened"))
}

struct Running {
    node: Node,
    journal: Journal,
}

/// One member, running or not.
struct Site {
    id: u64,
    dir: TempDir,
    listener: Listener,
    running: Option<Running>,
    /// What a stopped member had.
    journal: Journal,
}

struct Echo;

impl Answer for Echo {
    fn answer(&self, from: u64, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        async move {
            match &*request {
                b"no" => Err("as you wish".to_owned()),
                request => Ok([from.to_string().as_bytes(), b": ", request].concat().into()),
            }
        }
        .boxed()
    }

    fn is_removed(&self, member: u64) -> bool {
        member == 66
    }
}

/// Says what it is told to, remembers what it hears, and takes no state that is offered as bad.
struct Beacon {
    says: &'static [u8],
    heard: watch::Sender<BTreeMap<u64, Bytes>>,
    offers: watch::Sender<Vec<(u64, Bytes)>>,
}

impl Beacon {
    fn saying(says: &'static [u8]) -> Arc<Self> {
        Arc::new(Self { says, heard: watch::Sender::default(), offers: watch::Sender::default() })
    }
}

impl Answer for Beacon {
    fn answer(&self, _from: u64, _request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        async { Err("nobody asks".to_owned()) }.boxed()
    }

    fn beacon(&self) -> Bytes {
        self.says.into()
    }

    fn heard(&self, from: u64, beacon: Bytes) {
        self.heard.send_modify(|heard| drop(heard.insert(from, beacon)));
    }

    fn offer(&self) -> Bytes {
        self.says.into()
    }

    fn offered(&self, from: u64, offer: Bytes) -> Result<(), String> {
        self.offers.send_modify(|offers| offers.push((from, offer)));
        if self.offers.borrow().len() < 3 { Err("not yet".to_owned()) } else { Ok(()) }
    }
}

struct Cluster {
    sites: Vec<Site>,
    cuts: Cuts,
    listeners: Arc<Mutex<BTreeMap<String, u64>>>,
    bootstrap: BTreeMap<u64, raftlog::Member>,
    snapshot_entries: u64,
}

impl Cluster {
    async fn start(members: u64) -> Self {
        Self::start_with(members, 100_000).await
    }

    async fn start_with(members: u64, snapshot_entries: u64) -> Self {
        Self::start_on(Cuts::default(), members, snapshot_entries).await
    }

    async fn start_on(cuts: Cuts, members: u64, snapshot_entries: u64) -> Self {
        let mut cluster = Self {
            sites: Vec::new(),
            cuts,
            listeners: Arc::default(),
            bootstrap: BTreeMap::new(),
            snapshot_entries,
        };
        for id in 1..=members {
            let member = cluster.site(id).await;
            cluster.bootstrap.insert(id, member);
        }
        for id in 1..=members {
            cluster.open(id).await;
        }
        cluster
    }

    /// A place for a member that does not run yet.
    async fn site(&mut self, id: u64) -> raftlog::Member {
        let listener = Listener::bind().await;
        let member = listener.member();
        self.listeners.lock().unwrap().insert(listener.url.clone(), id);
        let dir = TempDir::new().unwrap();
        self.sites.push(Site { id, dir, listener, running: None, journal: Journal::default() });
        member
    }

    fn at(&mut self, id: u64) -> &mut Site {
        self.sites.iter_mut().find(|site| site.id == id).unwrap()
    }

    async fn open(&mut self, id: u64) {
        self.open_with(id, |_| {}).await;
    }

    async fn open_with(&mut self, id: u64, edit: impl FnOnce(&mut Config)) {
        let dial = Dialer { from: id, cuts: self.cuts.clone(), listeners: Arc::clone(&self.listeners) };
        let (bootstrap, snapshot_entries) = (self.bootstrap.clone(), self.snapshot_entries);
        let site = self.at(id);
        let mut config = Config::new(id, 7, site.dir.path());
        config.heartbeat = HEARTBEAT;
        config.election_timeout = ELECTION;
        config.snapshot_entries = snapshot_entries;
        config.keep_entries = snapshot_entries / 2;
        config.dial = Arc::new(dial);
        config.answer = Some(Arc::new(Echo));
        if bootstrap.contains_key(&id) {
            config.bootstrap = bootstrap;
        }
        edit(&mut config);
        let node = Node::open(config, site.journal.clone()).await.unwrap();
        site.listener.serve(node.peer_service()).await;
        site.running = Some(Running { node, journal: site.journal.clone() });
    }

    async fn stop(&mut self, id: u64) {
        let site = self.at(id);
        let running = site.running.take().unwrap();
        site.listener.stop().await;
        // A member that was removed says so here.
        running.node.shutdown().await.ok();
        site.journal = running.journal;
    }

    fn node(&mut self, id: u64) -> Node {
        self.at(id).running.as_ref().unwrap().node.clone()
    }

    fn data(&mut self, id: u64) -> Vec<Bytes> {
        self.at(id).running.as_ref().unwrap().journal.data()
    }

    fn running(&self) -> Vec<u64> {
        self.sites.iter().filter(|site| site.running.is_some()).map(|site| site.id).collect()
    }

    /// The leader that one of `members` names and that leads.
    async fn leader_of(&mut self, members: &[u64]) -> u64 {
        let nodes: Vec<Node> = members.iter().map(|&id| self.node(id)).collect();
        let leads = nodes.iter().map(|node| {
            let mut leadership = node.leadership();
            async move {
                let id = leadership.wait_for(|l| l.is_leader).await.unwrap().leader;
                id.unwrap()
            }
            .boxed()
        });
        soon("an election", futures_util::future::select_all(leads)).await.0
    }

    async fn leader(&mut self) -> u64 {
        let all = self.running();
        self.leader_of(&all).await
    }

    async fn shutdown(mut self) {
        for id in self.running() {
            self.stop(id).await;
        }
    }
}

async fn applied(node: &Node, index: u64) {
    soon("applying", node.wait_applied(index)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_elect_a_leader_and_apply_the_same_entries_wherever_they_were_proposed() {
    let mut cluster = Cluster::start(3).await;
    cluster.leader().await;
    let mut last = 0;
    for round in 0..20u64 {
        for id in 1..=3 {
            let data = Bytes::from(format!("{round} from {id}"));
            let position = soon("a proposal", cluster.node(id).propose(data.clone())).await.unwrap();
            assert!(cluster.data(id).contains(&data), "it is applied where it was proposed");
            last = position.index;
        }
    }
    applied(&cluster.node(1), last).await;
    let expected = cluster.data(1);
    assert_eq!(expected.len(), 60);
    for id in 2..=3 {
        applied(&cluster.node(id), last).await;
        assert_eq!(cluster.data(id), expected);
    }
    cluster.shutdown().await;
}

/// An application that proposes out of its own `apply` does so from a thread that belongs to no runtime.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_takes_proposals_from_any_thread() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.node(leader % 3 + 1);
    let submitted = std::thread::spawn(move || {
        let submitted = follower.submit(Bytes::from_static(b"submitted"), |error| panic!("{error}"));
        (submitted, follower.propose(Bytes::from_static(b"proposed")))
    });
    let (submitted, proposed) = submitted.join().expect("the thread does not panic");
    submitted.unwrap();
    soon("the proposal", proposed).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_at_any_member_covers_what_was_acknowledged_anywhere() {
    let mut cluster = Cluster::start(3).await;
    cluster.leader().await;
    for round in 0..10u64 {
        let writer = cluster.node(round % 3 + 1);
        let position = soon("a proposal", writer.propose(Bytes::from(round.to_string()))).await.unwrap();
        for id in 1..=3 {
            let index = soon("a read index", cluster.node(id).read_index()).await.unwrap();
            assert!(index >= position.index, "{index} at {id} does not cover {position}");
        }
    }
    cluster.shutdown().await;
}

/// openraft gives a heartbeat up after a heartbeat interval, and a vote after a fifth of an election timeout here.
#[tokio::test(flavor = "multi_thread")]
async fn members_far_apart_have_a_leader_that_stays() {
    let cuts = Cuts::default();
    cuts.delay(ELECTION / 8);
    let mut cluster = Cluster::start_on(cuts, 3, 100_000).await;
    let leader = cluster.leader().await;
    let mut last = None;
    for round in 0..5u64 {
        let node = cluster.node(round % 3 + 1);
        let index = soon("a read index", node.read_index()).await.unwrap();
        assert!(Some(index) >= last, "{index} does not cover {last:?}");
        last = Some(soon("a proposal", node.propose(round.to_string().into())).await.unwrap().index);
    }
    // Nobody says anything but heartbeats, whose answers take longer than their interval and than a vote may.
    let mut leadership = cluster.node(leader).leadership();
    let lost = leadership.wait_for(|leadership| !leadership.is_leader);
    tokio::time::timeout(ELECTION * 3, lost).await.expect_err("it has ceased to lead");
    cluster.shutdown().await;
}

/// A lost packet stops a connection for a while, and with it the heartbeat that is under way on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_connections_stall_stays_the_leader() {
    let cuts = Cuts::default();
    let mut cluster = Cluster::start_on(cuts.clone(), 3, 100_000).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    soon("a proposal", node.propose("before".into())).await.unwrap();
    cuts.stall();
    let mut leadership = node.leadership();
    let lost = leadership.wait_for(|leadership| !leadership.is_leader);
    tokio::time::timeout(ELECTION * 3, lost).await.expect_err("it has ceased to lead");
    // By now the connection for entries has been found to be dead, too.
    soon("a proposal", node.propose("after".into())).await.unwrap();
    assert_eq!(cluster.leader().await, leader);
    cluster.shutdown().await;
}

/// It answers pings, so its connection is fine; it is only that nothing comes of the entries.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_takes_entries_and_never_answers_is_asked_anew() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (first, second) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    for follower in [first, second] {
        cluster.stop(follower).await;
        cluster.at(follower).listener.mute.store(1, Ordering::SeqCst);
        cluster.open(follower).await;
    }
    cluster.leader().await;
    let node = cluster.node(leader);
    let last = soon("a proposal", node.propose("in the end".into())).await.unwrap();
    for follower in [first, second] {
        applied(&cluster.node(follower), last.index).await;
        let unheard = cluster.at(follower).listener.mute.load(Ordering::SeqCst);
        assert!(unheard == 0 || cluster.leader().await != leader, "nobody opened a stream of entries");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_submits_at_any_member_from_a_thread_of_its_own() {
    let mut cluster = Cluster::start(3).await;
    cluster.leader().await;
    for id in 1..=3 {
        let node = cluster.node(id);
        let submitted = std::thread::spawn(move || {
            let data = format!("from {id}").into();
            node.submit(data, |error| panic!("{error}")).unwrap();
        });
        submitted.join().unwrap();
        let (node, data) = (cluster.node(id), Bytes::from(format!("from {id}")));
        let mut applied = node.applied();
        while !cluster.data(id).contains(&data) {
            soon("applying", applied.changed()).await.unwrap();
        }
    }
    cluster.shutdown().await;
}

/// openraft pauses between requests it could not send, but not between streams that could not be opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_cannot_be_reached_is_not_tried_in_a_hurry() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.cuts.cut(leader, leader % 3 + 1);
    soon("a proposal", cluster.node(leader).propose("x".into())).await.unwrap();
    let begun = std::time::Instant::now();
    soon("attempts", cluster.cuts.attempts(30)).await;
    let each = begun.elapsed() / 30;
    assert!(each >= Duration::from_millis(10), "an attempt every {each:?}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_is_replaced_and_catches_up_when_it_comes_back() {
    let mut cluster = Cluster::start(3).await;
    let old = cluster.leader().await;
    let first = soon("a proposal", cluster.node(old).propose("before".into())).await.unwrap();
    cluster.stop(old).await;
    let new = cluster.leader().await;
    assert_ne!(old, new);
    let second = soon("a proposal", cluster.node(new).propose("after".into())).await.unwrap();
    assert!(second.term > first.term);
    cluster.open(old).await;
    applied(&cluster.node(old), second.index).await;
    assert_eq!(cluster.data(old), ["before", "after"]);
    cluster.shutdown().await;
}

/// raftlog.md: openraft goes on naming a leader that has lost its quorum, and a follower one it does not hear.
#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_leader_and_its_cut_off_follower_know_that_there_is_no_leader() {
    let mut cluster = Cluster::start(3).await;
    let old = cluster.leader().await;
    cluster.cuts.isolate(old, 1..=3);
    let mut leadership = cluster.node(old).leadership();
    soon("noticing", leadership.wait_for(|l| l.leader.is_none() && !l.is_leader)).await.unwrap();
    let others: Vec<u64> = (1..=3).filter(|&id| id != old).collect();
    let new = cluster.leader_of(&others).await;
    let position = soon("a proposal", cluster.node(new).propose("majority".into())).await.unwrap();
    assert_eq!(cluster.data(old), Vec::<Bytes>::new());
    cluster.cuts.heal();
    applied(&cluster.node(old), position.index).await;
    assert_eq!(cluster.data(old), ["majority"]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_without_a_leader_fails_in_the_end_and_one_that_outlasts_the_election_succeeds() {
    let mut cluster = Cluster::start(3).await;
    let old = cluster.leader().await;
    let follower = old % 3 + 1;
    cluster.stop(old).await;
    soon("a proposal across an election", cluster.node(follower).propose("patient".into())).await.unwrap();
    let leader = cluster.leader().await;
    cluster.stop(leader).await;
    let left = cluster.running()[0];
    let refused = soon("a refusal", cluster.node(left).propose("hopeless".into())).await;
    assert!(
        matches!(refused, Err(ProposeError::NotLeader { .. } | ProposeError::LeaderChanged)),
        "{refused:?}"
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_never_starts_costs_no_availability_and_votes_once_it_has_caught_up() {
    let mut cluster = Cluster::start(1).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    let member = cluster.site(2).await;
    let added = Change::AddLearner { id: 2, member };
    soon("adding", node.change_membership(added.clone(), "add 2".into())).await.unwrap();
    assert_eq!(cluster.data(1), ["add 2"]);
    soon("a proposal", node.propose("goes on".into())).await.unwrap();
    assert!(matches!(node.change_membership(added, Bytes::new()).await, Err(ChangeError::Refused(_))));
    cluster.open(2).await;
    let last = soon("a proposal", node.propose("with two".into())).await.unwrap();
    applied(&cluster.node(2), last.index).await;
    assert!(node.progress()[&2].matched.is_some());
    soon("promoting", node.change_membership(Change::Promote { id: 2 }, Bytes::new())).await.unwrap();
    assert_eq!(node.membership().borrow().voters, [1, 2].into());
    assert_eq!(cluster.data(2), ["add 2", "goes on", "with two"]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_demoted_and_removed_and_the_rest_goes_on() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (victim, node) = (leader % 3 + 1, cluster.node(leader));
    let demoted = soon("demoting", node.change_membership(Change::Demote { id: victim }, "bye".into())).await;
    // The victim learns of it, because as a learner it still gets the entry.
    applied(&cluster.node(victim), demoted.unwrap().index).await;
    assert_eq!(cluster.data(victim), ["bye"]);
    soon("removing", node.change_membership(Change::Remove { id: victim }, Bytes::new())).await.unwrap();
    cluster.stop(victim).await;
    soon("a proposal", node.propose("two are left".into())).await.unwrap();
    assert_eq!(node.membership().borrow().members.len(), 2);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_removes_itself_hands_over() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    soon("removing", node.change_membership(Change::Remove { id: leader }, "me".into())).await.unwrap();
    assert_eq!(cluster.data(leader), ["me"]);
    let others: Vec<u64> = (1..=3).filter(|&id| id != leader).collect();
    let new = cluster.leader_of(&others).await;
    soon("a proposal", cluster.node(new).propose("without it".into())).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_to_a_live_voter_and_to_nobody_else() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (target, node) = (leader % 3 + 1, cluster.node(leader));
    soon("a proposal", node.propose("x".into())).await.unwrap();
    let unknown = node.transfer_leadership(9).await;
    assert!(matches!(unknown, Err(TransferError::Unfit { to: 9, .. })), "{unknown:?}");
    // The first heartbeats may be on their way still.
    let moved = async {
        while let Err(TransferError::Unfit { .. }) = node.transfer_leadership(target).await {
            tokio::task::yield_now().await;
        }
    };
    soon("the transfer", moved).await;
    assert_eq!(cluster.leader().await, target);
    let refused = node.transfer_leadership(leader).await;
    assert_eq!(refused, Err(TransferError::NotLeader));
    soon("a proposal", node.propose("through the new leader".into())).await.unwrap();
    cluster.shutdown().await;
}

/// raftlog.md: openraft never rebuilds a client when a member's URLs change.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_moved_is_found_where_it_is_now() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (moving, node) = (leader % 3 + 1, cluster.node(leader));
    cluster.stop(moving).await;
    let listener = Listener::bind().await;
    let member = listener.member();
    cluster.listeners.lock().unwrap().insert(listener.url.clone(), moving);
    cluster.at(moving).listener = listener;
    soon("an update", node.change_membership(Change::Update { id: moving, member }, "moved".into()))
        .await
        .unwrap();
    cluster.open(moving).await;
    let last = soon("a proposal", node.propose("found".into())).await.unwrap();
    applied(&cluster.node(moving), last.index).await;
    assert_eq!(cluster.data(moving), ["moved", "found"]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_far_behind_is_sent_a_snapshot_and_then_follows_the_log() {
    let mut cluster = Cluster::start_with(3, 20).await;
    let leader = cluster.leader().await;
    let (slow, node) = (leader % 3 + 1, cluster.node(leader));
    cluster.stop(slow).await;
    for n in 0..200u64 {
        soon("a proposal", node.propose(n.to_string().into())).await.unwrap();
    }
    assert!(node.status().purged.is_some_and(|purged| purged.index > 50), "{:?}", node.status());
    cluster.open(slow).await;
    let last = soon("a proposal", node.propose("last".into())).await.unwrap();
    applied(&cluster.node(slow), last.index).await;
    assert_eq!(cluster.data(slow), cluster.data(leader));
    let receiver = cluster.node(slow);
    let counted = async {
        while receiver.metrics().snapshots_installed == 0 || node.metrics().peers[&slow].snapshots_sent == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("counting it", counted).await;
    let peer = node.metrics().peers[&slow];
    assert!(peer.disconnects > 0 && peer.failures > 0, "{peer:?}");
    // Nothing was put together for a member that could not be reached.
    assert_eq!(peer.snapshot_failures, 0);
    // And again from its own disk.
    cluster.stop(slow).await;
    cluster.open(slow).await;
    let last = soon("a proposal", node.propose("once more".into())).await.unwrap();
    applied(&cluster.node(slow), last.index).await;
    assert_eq!(cluster.data(slow), cluster.data(leader));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_applications_say_of_their_state_goes_with_heartbeats_and_snapshots() {
    let mut cluster = Cluster::start_with(2, 20).await;
    let leader = cluster.leader().await;
    let follower = 3 - leader;
    let says: [Arc<Beacon>; 2] = [Beacon::saying(b"one"), Beacon::saying(b"two")];
    for id in [1, 2] {
        cluster.stop(id).await;
    }
    for (id, beacon) in (1..).zip(&says) {
        cluster.open_with(id, |config| config.answer = Some(Arc::clone(beacon) as Arc<dyn Answer>)).await;
    }
    let leader = if cluster.leader().await == leader { leader } else { follower };
    let follower = 3 - leader;
    let at = |id: u64| Arc::clone(&says[usize::try_from(id).unwrap() - 1]);
    let mut heard = at(leader).heard.subscribe();
    let heard =
        soon("an answer", heard.wait_for(|heard| heard.contains_key(&follower))).await.unwrap().clone();
    assert_eq!(heard, BTreeMap::from([(follower, Bytes::from_static(at(follower).says))]));

    // A third member is offered the state until it takes it.
    let third = Beacon::saying(b"three");
    let node = cluster.node(leader);
    for n in 0..200u64 {
        soon("a proposal", node.propose(n.to_string().into())).await.unwrap();
    }
    let member = cluster.site(3).await;
    soon("adding", node.change_membership(Change::AddLearner { id: 3, member }, "3".into())).await.unwrap();
    cluster.open_with(3, |config| config.answer = Some(Arc::clone(&third) as Arc<dyn Answer>)).await;
    let last = soon("a proposal", node.propose("last".into())).await.unwrap();
    applied(&cluster.node(3), last.index).await;
    let offers = third.offers.borrow().clone();
    assert!(offers.len() >= 3, "{offers:?}");
    assert!(offers.iter().all(|offer| *offer == (leader, Bytes::from_static(at(leader).says))), "{offers:?}");
    assert_eq!(cluster.data(3), cluster.data(leader));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_is_forced_to_be_its_own_cluster_and_takes_in_new_members() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let last = soon("a proposal", cluster.node(leader).propose("before".into())).await.unwrap();
    let survivor = leader % 3 + 1;
    applied(&cluster.node(survivor), last.index).await;
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    let force = |config: &mut Config| config.force_new_cluster = Some("alone".into());
    for times in 1..=2 {
        cluster.open_with(survivor, force).await;
        let node = cluster.node(survivor);
        assert_eq!(cluster.leader().await, survivor);
        soon("a proposal", node.propose("goes on".into())).await.unwrap();
        assert_eq!(cluster.data(survivor).len(), 1 + 2 * times, "{:?}", cluster.data(survivor));
        assert_eq!(node.membership().borrow().members.len(), 1);
        cluster.stop(survivor).await;
    }
    cluster.open(survivor).await;
    let node = cluster.node(survivor);
    cluster.leader().await;
    let member = cluster.site(4).await;
    soon("adding", node.change_membership(Change::AddLearner { id: 4, member }, "4".into())).await.unwrap();
    cluster.open(4).await;
    let last = soon("a proposal", node.propose("to both".into())).await.unwrap();
    applied(&cluster.node(4), last.index).await;
    assert_eq!(cluster.data(4), cluster.data(survivor));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_call_each_other() {
    let mut cluster = Cluster::start(2).await;
    cluster.leader().await;
    let node = cluster.node(1);
    for to in [1, 2] {
        assert_eq!(node.call(to, "hello".into(), PATIENCE).await.unwrap(), "1: hello");
        let refused = node.call(to, "no".into(), PATIENCE).await.unwrap_err();
        assert_eq!(refused.to_string(), "as you wish");
    }
    assert!(node.call(9, "hello".into(), PATIENCE).await.is_err());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_member_is_refused_and_a_removed_one_learns_that_it_is() {
    let mut cluster = Cluster::start(1).await;
    cluster.leader().await;
    let url = cluster.at(1).listener.member();
    let outsider = |id: u64, cluster_id: u64, dir: &TempDir| {
        let mut config = Config::new(id, cluster_id, dir.path());
        config.election_timeout = ELECTION;
        config.heartbeat = HEARTBEAT;
        config.bootstrap = BTreeMap::from([(id, raftlog::Member::default()), (1, url.clone())]);
        Node::open(config, Journal::default())
    };
    let dir = TempDir::new().unwrap();
    let stranger = outsider(5, 8, &dir).await.unwrap();
    let refused = stranger.call(1, "hello".into(), PATIENCE).await.unwrap_err();
    assert!(refused.to_string().contains("cluster ID mismatch"), "{refused}");
    stranger.shutdown().await.unwrap();
    let dir = TempDir::new().unwrap();
    let removed = outsider(66, 7, &dir).await.unwrap();
    let failure = soon("learning of the removal", removed.failed()).await;
    assert!(matches!(failure, Error::Removed { member: 66 }), "{failure}");
    removed.shutdown().await.unwrap_err();
    cluster.shutdown().await;
}
