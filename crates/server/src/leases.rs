//! The leader's side of leases: who has run out, who is owed a checkpoint.
//!
//! A lease ends by an entry that the leader proposes, never by a member's own decision. Leases that are due together go
//! together, as many as fit into an entry of reasonable size, so that a storm of expiries is over in a moment.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest};
use api::internal::LeaseExpire;
use raftlog::Node;

use crate::member::Shared;
use crate::proposal::Command;

/// Leases revoked by one entry.
const EXPIRE_MAX: usize = 1000;
/// Checkpoints in one entry, as in etcd.
const CHECKPOINTS_MAX: usize = 1000;
/// Looks are this far apart when nothing is known to be due, because leases may come at any time.
const LOOK: Duration = Duration::from_millis(100);

/// Follows leadership: a leader keeps the leases' time, nobody else does. The first step is taken at the call.
pub(crate) fn follow_leadership(
    shared: Arc<Shared>,
    node: Node,
    election_timeout: Duration,
) -> impl Future<Output = ()> + Send {
    let mut leadership = node.leadership();
    let follow = move |shared: &Shared, leads: bool| match (leads, shared.lessor.is_primary()) {
        // A restarted or new leader gives everybody the time that nobody led.
        (true, false) => shared.lessor.promote(shared.clock.now(), election_timeout),
        (false, true) => shared.lessor.demote(),
        _ => {}
    };
    follow(&shared, leadership.borrow_and_update().is_leader);
    async move {
        while leadership.changed().await.is_ok() {
            follow(&shared, leadership.borrow_and_update().is_leader);
        }
    }
}

/// Proposes what has become due, for as long as the member runs.
pub(crate) async fn expire(shared: Arc<Shared>) {
    loop {
        let now = shared.clock.now();
        let expired = shared.lessor.expired(now, EXPIRE_MAX);
        if !expired.is_empty() {
            let ids = expired.iter().map(|id| id.get()).collect();
            // What could not be proposed is handed out again later.
            drop(shared.proposals.propose(Command::lease_expire(&LeaseExpire { ids })).await);
            continue;
        }
        let checkpoints = shared.lessor.checkpoints_due(now, CHECKPOINTS_MAX);
        if !checkpoints.is_empty() {
            let checkpoints = checkpoints
                .iter()
                .map(|due| LeaseCheckpoint { id: due.id.get(), remaining_ttl: due.remaining_ttl })
                .collect();
            let request = LeaseCheckpointRequest { checkpoints };
            drop(shared.proposals.propose(Command::lease_checkpoint(&request)).await);
            continue;
        }
        let next = shared.lessor.next_expiry().map_or(now + LOOK, |next| next.min(now + LOOK));
        tokio::time::sleep_until(shared.clock.instant(next.max(now + Duration::from_millis(1)))).await;
    }
}
