//! Bugs that others had with leases, each told and then shown to be absent. `#n` is an issue of etcd.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use api::LeaseId;
use backend::{Backend, MemBackend};
use etcd_rs_lease::{Checkpoint, Error, Lessor, Options};

fn primary(backend: &MemBackend) -> Lessor {
    let lessor = Lessor::open(backend, Options::default()).unwrap();
    lessor.promote(Duration::ZERO, Duration::ZERO);
    lessor
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// #20615: a renewal let go of the lock between looking the lease up and refreshing it, to have a checkpoint cleared. A
/// revocation applied just then, and the holder was told that its lease lives. Here the renewal starts over after the clearing.
#[test]
fn a_revoked_lease_cannot_be_renewed_even_while_its_checkpoint_is_cleared() {
    let backend = MemBackend::new();
    let lessor = primary(&backend);
    let (id, mut tx) = (LeaseId::new(1), backend.begin());
    lessor.grant(&mut tx, id, 1000, at(0)).unwrap();
    lessor.checkpoint(&mut tx, Checkpoint { id, remaining_ttl: 700 }, at(300));

    assert!(matches!(lessor.renew(id, at(301)), Err(Error::Checkpointed(_))));
    lessor.revoke(&mut tx, id).unwrap();
    lessor.checkpoint(&mut tx, Checkpoint { id, remaining_ttl: 0 }, at(302));
    assert!(matches!(lessor.renew(id, at(302)), Err(Error::NotFound(_))));
    assert!(!lessor.contains(id), "and the late checkpoint does not bring it back");
    backend.commit(tx).unwrap();
    assert!(Lessor::open(&backend, Options::default()).unwrap().is_empty());
}

/// The same promise for a lease that has run out: its revocation is on its way, a renewal would be a lie.
#[test]
fn an_expired_lease_cannot_be_renewed_whether_or_not_it_was_handed_out() {
    let backend = MemBackend::new();
    let lessor = primary(&backend);
    lessor.grant(&mut backend.begin(), LeaseId::new(1), 10, at(0)).unwrap();
    assert!(matches!(lessor.renew(LeaseId::new(1), at(10)), Err(Error::Expired(_))));
    assert_eq!(lessor.expired(at(10), 1), [LeaseId::new(1)]);
    assert!(matches!(lessor.renew(LeaseId::new(1), at(10)), Err(Error::Expired(_))));
    // Another primary may give it time again: the old one's verdict was never committed.
    lessor.demote();
    lessor.promote(at(11), at(1));
    assert_eq!(lessor.renew(LeaseId::new(1), at(11)).unwrap(), 10);
}

/// #9395, #13294, #15247: an old leader that does not know that it was deposed went on to revoke everything.
#[test]
fn a_demoted_member_hands_out_nothing() {
    let backend = MemBackend::new();
    let lessor = primary(&backend);
    lessor.grant(&mut backend.begin(), LeaseId::new(1), 1000, at(0)).unwrap();
    lessor.demote();
    assert!(lessor.expired(at(5000), 10).is_empty());
    assert!(lessor.checkpoints_due(at(5000), 10).is_empty());
    assert_eq!((lessor.next_expiry(), lessor.next_checkpoint()), (None, None));
}

/// #12105: 900,000 leases that ran out together took ten minutes. All that are due come at once, in batches.
#[test]
fn many_leases_due_together_are_all_handed_out_at_once() {
    let backend = MemBackend::new();
    let lessor = primary(&backend);
    let mut tx = backend.begin();
    for id in 1..=20_000 {
        lessor.grant(&mut tx, LeaseId::new(id), 10, at(0)).unwrap();
    }
    let mut seen = 0;
    loop {
        let batch = lessor.expired(at(10), 1000);
        if batch.is_empty() {
            break;
        }
        assert_eq!(batch.len(), 1000);
        for id in batch {
            lessor.revoke(&mut tx, id).unwrap();
            seen += 1;
        }
    }
    assert_eq!((seen, lessor.len(), lessor.next_expiry()), (20_000, 0, None));
}

/// After an election all holders come back at about the same time; without spreading, all leases ran out together (#9496).
#[test]
fn a_new_primary_spreads_the_expiries_of_many_leases() {
    let backend = MemBackend::new();
    let lessor = Lessor::open(&backend, Options::default()).unwrap();
    let mut tx = backend.begin();
    for id in 1..=3000 {
        lessor.grant(&mut tx, LeaseId::new(id), 10, at(0)).unwrap();
    }
    lessor.promote(at(100), at(1));
    let due: Vec<usize> = (110..=116).map(|second| lessor.expired(at(second), 10_000).len()).collect();
    assert_eq!(due, [0, 750, 750, 750, 750, 0, 0]);
}

/// Snapshots replace everything; what the old leases had in the queues must not come back.
#[test]
fn a_reset_forgets_the_leases_that_the_snapshot_does_not_hold() {
    let (old, new) = (MemBackend::new(), MemBackend::new());
    let lessor = primary(&old);
    lessor.grant(&mut old.begin(), LeaseId::new(1), 10, at(0)).unwrap();
    let mut tx = new.begin();
    Lessor::open(&new, Options::default()).unwrap().grant(&mut tx, LeaseId::new(2), 20, at(0)).unwrap();
    new.commit(tx).unwrap();
    let missing = lessor.reset(&new, [(LeaseId::new(1), "lost")]).unwrap_err();
    assert!(matches!(missing, Error::NotFound(id) if id == LeaseId::new(1)), "{missing}");
    assert_eq!(lessor.leases(), [LeaseId::new(1)], "a reset that fails changes nothing");
    lessor.reset(&new, [(LeaseId::new(2), "kept")]).unwrap();
    assert_eq!(lessor.leases(), [LeaseId::new(2)]);
    assert_eq!(lessor.keys(LeaseId::new(2)).unwrap(), ["kept"]);
    assert!(lessor.expired(at(100), 10).is_empty(), "not primary after a reset");
    lessor.promote(at(100), at(0));
    assert_eq!(lessor.expired(at(120), 10), [LeaseId::new(2)]);
}
