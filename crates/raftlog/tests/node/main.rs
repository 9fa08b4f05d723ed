//! What a node of one member promises, and what of openraft it relies on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod journal;
mod kill;

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use raftlog::{Config, Error, Leadership, Member, Node, ProposeError, ReadIndexError};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::journal::{Journal, PANIC, config, leads, open};

fn numbered(range: std::ops::Range<u32>) -> Vec<Bytes> {
    range.map(|n| Bytes::from(n.to_string())).collect()
}

/// Proposes without waiting in between, then waits for all.
async fn propose(node: &Node, data: &[Bytes]) {
    let proposals: Vec<_> = data.iter().map(|data| node.propose(data.clone())).collect();
    for proposal in proposals {
        proposal.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_are_applied_in_the_order_in_which_they_were_made() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    let data = numbered(0..5000);
    propose(&node, &data).await;
    assert_eq!(journal.data(), data);
    assert!(journal.batches() < 1000, "{} batches for 5000 entries", journal.batches());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_resolves_with_its_position_once_it_is_applied() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    let first = node.propose(Bytes::from_static(b"a")).await.unwrap();
    let second = node.propose(Bytes::from_static(b"b")).await.unwrap();
    assert_eq!(second.index, first.index + 1);
    assert_eq!(journal.entries().last().unwrap().log_id(), second);
    assert_eq!(node.status().applied, Some(second));
    assert_eq!(node.status().committed, Some(second));
    assert_eq!(node.status().last, Some(second));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_index_covers_what_was_acknowledged_before() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    for n in 0..100u32 {
        if n == 0 {
            leads(&node).await;
        }
        let proposed = node.propose(n.to_string().into()).await.unwrap();
        let index = node.read_index().await.unwrap();
        assert!(index >= proposed.index, "{index} does not cover {proposed}");
        node.wait_applied(index).await.unwrap();
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_comes_before_the_election_waits_for_it() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    let last = node.propose(Bytes::from_static(b"a")).await.unwrap();
    node.shutdown().await.unwrap();

    let node = open(dir.path(), &journal).await;
    // The new leader's first entry comes after everything that was acknowledged before the restart.
    assert!(node.read_index().await.unwrap() > last.index);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_brought_up_to_date_when_the_node_opens() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let data = numbered(0..3000);
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    propose(&node, &data).await;
    node.shutdown().await.unwrap();

    // Everything is committed, so it is applied before anybody is elected, in few batches.
    let lost = Journal::default();
    let node = open(dir.path(), &lost).await;
    assert_eq!(lost.data(), data);
    assert!(lost.batches() < 30, "{} batches for 3000 entries", lost.batches());
    leads(&node).await;
    node.shutdown().await.unwrap();
    assert_eq!(lost.data(), data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_can_be_opened_again_at_once_and_goes_on() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    for round in 0..5u32 {
        let node = open(dir.path(), &journal).await;
        leads(&node).await;
        propose(&node, &numbered(round * 10..round * 10 + 10)).await;
        node.shutdown().await.unwrap();
    }
    assert_eq!(journal.data(), numbered(0..50));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_handle_closes_the_node() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    node.propose(Bytes::from_static(b"a")).await.unwrap();
    let mut applied = node.applied();
    drop(node);
    // The application is dropped, and with it the sender, before the log is closed.
    while applied.changed().await.is_ok() {}
    let node = loop {
        match Node::open(config(dir.path()), journal.clone()).await {
            Ok(node) => break node,
            Err(Error::Locked { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(journal.data(), ["a"]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_opener_is_refused() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    let refused = Node::open(config(dir.path()), Journal::default()).await.unwrap_err();
    assert!(matches!(&refused, Error::Locked { path } if path == dir.path()), "{refused}");
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_directory_is_refused() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    open(dir.path(), &journal).await.shutdown().await.unwrap();
    for other in [Config { id: 2, ..config(dir.path()) }, Config { cluster_id: 8, ..config(dir.path()) }] {
        let refused = Node::open(other, Journal::default()).await.unwrap_err();
        assert!(matches!(refused, Error::Identity { found_id: 1, found_cluster: 7, .. }), "{refused}");
    }
    open(dir.path(), &journal).await.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_shutdown_everything_fails_and_nothing_hangs() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    node.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    assert_eq!(node.propose(Bytes::from_static(b"a")).await, Err(ProposeError::Stopped));
    assert_eq!(node.read_index().await, Err(ReadIndexError::Stopped));
    assert_eq!(node.wait_applied(u64::MAX).await, Err(ReadIndexError::Stopped));
    assert_eq!(node.leadership().borrow().leader, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_on_their_way_at_a_shutdown_are_applied_or_fail() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    let data = numbered(0..1000);
    let proposals: Vec<_> = data.iter().map(|data| node.propose(data.clone())).collect();
    node.shutdown().await.unwrap();
    let mut succeeded = 0;
    for proposal in proposals {
        match proposal.await {
            Ok(_) => succeeded += 1,
            Err(error) => assert_eq!(error, ProposeError::Stopped),
        }
    }
    assert!(journal.data().len() >= succeeded);
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    node.propose(Bytes::from_static(b"end")).await.unwrap();
    let applied = journal.data();
    assert_eq!(applied[..applied.len() - 1], data[..applied.len() - 1]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_fails_stops_the_node_with_its_reason() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    journal.fail_at("bad");
    let (sender, failure) = oneshot::channel();
    node.submit(Bytes::from_static(b"bad"), |error| sender.send(error).unwrap()).unwrap();
    let failed = node.failed().await;
    assert!(failed.to_string().contains("applying entries failed: asked to fail"), "{failed}");
    assert_eq!(failure.await.unwrap(), ProposeError::Stopped);
    let reason = node.shutdown().await.unwrap_err();
    assert!(matches!(reason, Error::Application { .. }), "{reason}");
    assert!(node.propose(Bytes::from_static(b"good")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_fails_while_the_node_opens_fails_it() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    node.propose(Bytes::from_static(b"bad")).await.unwrap();
    node.shutdown().await.unwrap();
    let lost = Journal::default();
    lost.fail_at("bad");
    let refused = Node::open(config(dir.path()), lost).await.unwrap_err();
    assert!(matches!(refused, Error::Application { .. }), "{refused}");
    open(dir.path(), &journal).await.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_panics_stops_the_node() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    let proposals = ["a", PANIC, "b"].map(|data| node.propose(data.into()));
    assert_eq!(node.failed().await.to_string(), "the consensus core stopped: the application panicked");
    assert!(node.shutdown().await.is_err());
    let [_, panicked, after] = proposals;
    assert_eq!((panicked.await, after.await), (Err(ProposeError::Stopped), Err(ProposeError::Stopped)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_calls_back_only_when_it_fails() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    let (sender, mut failure) = oneshot::channel::<ProposeError>();
    node.submit(Bytes::from_static(b"a"), |error| sender.send(error).unwrap()).unwrap();
    node.propose(Bytes::from_static(b"b")).await.unwrap();
    assert_eq!(journal.data(), ["a", "b"]);
    assert_eq!(failure.try_recv(), Err(oneshot::error::TryRecvError::Closed), "dropped without a call");
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_beyond_the_limit_are_refused_until_others_are_applied() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let config = Config { pending_bytes_max: 100, ..config(dir.path()) };
    let node = Node::open(config, journal.clone()).await.unwrap();
    leads(&node).await;
    assert_eq!(node.propose(vec![0; 101].into()).await, Err(ProposeError::Overloaded));
    for _ in 0..10 {
        node.propose(vec![0; 100].into()).await.unwrap();
    }
    assert_eq!(journal.data().len(), 10);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_purged_up_to_what_was_flushed_and_no_further() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let config = Config { snapshot_entries: 100, keep_entries: 20, ..config(dir.path()) };
    let node = Node::open(config.clone(), journal.clone()).await.unwrap();
    leads(&node).await;
    let mut round = 0;
    while node.status().purged.is_none() {
        propose(&node, &numbered(round..round + 50)).await;
        round += 50;
    }
    let (purged, flushed) = (node.status().purged.unwrap(), journal.flushed().last.unwrap());
    assert!(purged.index + 20 <= flushed.index, "purged {purged}, flushed {flushed}");
    node.shutdown().await.unwrap();

    // What a crash leaves of the state is enough to go on with what is left of the log.
    let crashed = journal.crashed();
    let node = Node::open(config, crashed.clone()).await.unwrap();
    assert_eq!(crashed.data(), journal.data());
    leads(&node).await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_entries_are_flushed_and_purged_by_their_bytes() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let config = Config { snapshot_bytes: 100_000, keep_entries: 5, ..config(dir.path()) };
    let node = Node::open(config, journal.clone()).await.unwrap();
    leads(&node).await;
    while node.status().purged.is_none() {
        node.propose(vec![1; 10_000].into()).await.unwrap();
    }
    assert!(node.status().purged.unwrap().index <= journal.flushed().last.unwrap().index);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_its_state_is_refused() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let config = Config { snapshot_entries: 100, keep_entries: 0, ..config(dir.path()) };
    let node = Node::open(config.clone(), journal.clone()).await.unwrap();
    leads(&node).await;
    while node.status().purged.is_none() {
        propose(&node, &numbered(0..50)).await;
    }
    node.shutdown().await.unwrap();
    let refused = Node::open(config, Journal::default()).await.unwrap_err();
    assert!(matches!(refused, Error::StateLost { applied: None, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_without_its_log_is_refused() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let node = open(dir.path(), &journal).await;
    leads(&node).await;
    propose(&node, &numbered(0..50)).await;
    node.shutdown().await.unwrap();
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    let refused = Node::open(config(dir.path()), journal).await.unwrap_err();
    assert!(matches!(refused, Error::LogLost { last: None, .. }), "{refused}");
}

/// openraft: `initialize` elects a member that is alone at once, and so does a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_alone_elects_itself_without_waiting() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let mut terms = Vec::new();
    for _ in 0..3 {
        // An election timeout is an hour here.
        let node = open(dir.path(), &journal).await;
        leads(&node).await;
        let Leadership { leader, term, is_leader } = *node.leadership().borrow();
        assert_eq!((leader, is_leader), (Some(1), true));
        terms.push(term);
        node.shutdown().await.unwrap();
    }
    // Each start is a term of its own: a leader that restarts must not go on as if nothing had happened.
    assert!(terms.is_sorted_by(|a, b| a < b), "{terms:?}");
}

/// openraft: the first entry is the founding membership, and each leader begins its term with an entry.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_begins_with_the_membership_and_each_term_with_an_entry() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    for _ in 0..2 {
        let node = open(dir.path(), &journal).await;
        leads(&node).await;
        node.propose(Bytes::from_static(b"x")).await.unwrap();
        node.shutdown().await.unwrap();
    }
    let entries = journal.entries();
    let is_own = |index: usize| entries[index].data.is_empty();
    assert!(is_own(0) && entries[0].membership.is_some());
    assert_eq!(entries.iter().filter(|entry| entry.membership.is_some()).count(), 1);
    for pair in entries.windows(2) {
        if pair[1].term > pair[0].term {
            assert!(pair[1].data.is_empty(), "term {} begins with {:?}", pair[1].term, pair[1].data);
        }
    }
}

/// openraft: a founder that cannot reach a quorum leads nobody, refuses proposals and says that there is no leader.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_founders_does_not_lead() {
    let (dir, journal) = (TempDir::new().unwrap(), Journal::default());
    let bootstrap = (1..=3).map(|id| (id, Member::default())).collect();
    let config = Config {
        bootstrap,
        heartbeat: Duration::from_millis(5),
        election_timeout: Duration::from_millis(20),
        ..config(dir.path())
    };
    let node = Node::open(config, journal.clone()).await.unwrap();
    assert_eq!(node.propose(Bytes::from_static(b"x")).await, Err(ProposeError::NotLeader { leader: None }));
    assert!(!node.status().is_leader);
    assert_eq!(journal.data(), Vec::<Bytes>::new());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_must_be_among_the_founders() {
    let dir = TempDir::new().unwrap();
    let config = Config { id: 9, ..config(dir.path()) };
    let refused = Node::open(config, Journal::default()).await.unwrap_err();
    assert!(matches!(refused, Error::Config(_)), "{refused}");
}
