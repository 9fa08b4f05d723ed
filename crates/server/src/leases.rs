//! The leader's side of leases: who has run out, who is owed a checkpoint.
//!
//! A lease ends by an entry that the leader proposes, never by a member's own decision. Leases that are due together go
//! together, as many as fit into an entry of reasonable size, so that a storm of expiries is over in a moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::LeaseId;
use api::etcdserverpb::{
    LeaseCheckpoint, LeaseCheckpointRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use api::internal::LeaseExpire;
use api::status;
use raftlog::Node;

use crate::member::Shared;
use crate::proposal::Command;
use crate::rpc::Failure;

/// Leases revoked by one entry.
const EXPIRE_MAX: usize = 1000;
/// Checkpoints in one entry, as in etcd.
const CHECKPOINTS_MAX: usize = 1000;
/// Looks are this far apart when nothing is known to be due, because leases may come at any time.
const LOOK: Duration = Duration::from_millis(100);

/// Keeps the leases' time while this member leads, and nobody else's.
pub(crate) struct Timekeeper {
    shared: Arc<Shared>,
    node: Node,
    /// What every lease gets on top when this member begins to lead, for the time that nobody led.
    extend: Duration,
    /// The term for which time is kept. Guards the steps between leading and not; held only to make one.
    term: Mutex<Option<u64>>,
}

impl Timekeeper {
    /// Takes the first step at once.
    pub(crate) fn new(shared: Arc<Shared>, node: Node, election_timeout: Duration) -> Arc<Self> {
        let this = Self { shared, node, extend: election_timeout, term: Mutex::new(None) };
        this.step();
        Arc::new(this)
    }

    /// Goes along with the leadership, and returns the term for which time is kept.
    fn step(&self) -> Option<u64> {
        let leadership = *self.node.leadership().borrow();
        let leads = leadership.is_leader.then_some(leadership.term);
        let lessor = &self.shared.lessor;
        let mut term = self.term.lock().unwrap_or_else(PoisonError::into_inner);
        match leads {
            // Whoever led between may have renewed what this member takes for expired; and a state that was installed knows no
            // time at all.
            Some(_) if *term != leads || !lessor.is_primary() => {
                lessor.promote(self.shared.clock.now(), self.extend);
            }
            Some(_) => {}
            None if lessor.is_primary() => lessor.demote(),
            None => {}
        }
        *term = leads;
        leads
    }

    /// Follows leadership for as long as the log runs.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut leadership = self.node.leadership();
        while leadership.changed().await.is_ok() {
            self.step();
        }
    }
}

/// Proposes what has become due, for as long as the member runs.
pub(crate) async fn expire(timekeeper: Arc<Timekeeper>) {
    let shared = &timekeeper.shared;
    loop {
        let now = shared.clock.now();
        // What is found by one leader's clock must not happen under another, which may have renewed it.
        let Some(term) = timekeeper.step() else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let expired = shared.lessor.expired(now, EXPIRE_MAX);
        if !expired.is_empty() {
            let ids = expired.iter().map(|id| id.get()).collect();
            // What could not be proposed is handed out again later.
            drop(shared.proposals.propose(Command::lease_expire(&LeaseExpire { ids }).in_term(term)).await);
            continue;
        }
        let checkpoints = shared.lessor.checkpoints_due(now, CHECKPOINTS_MAX);
        if !checkpoints.is_empty() {
            let checkpoints = checkpoints
                .iter()
                .map(|due| LeaseCheckpoint { id: due.id.get(), remaining_ttl: due.remaining_ttl })
                .collect();
            let request = LeaseCheckpointRequest { checkpoints };
            drop(shared.proposals.propose(Command::lease_checkpoint(&request).in_term(term)).await);
            continue;
        }
        let next = shared.lessor.next_expiry().map_or(now + LOOK, |next| next.min(now + LOOK));
        tokio::time::sleep_until(shared.clock.instant(next.max(now + Duration::from_millis(1)))).await;
    }
}

/// Renews a lease in this member's memory, and returns its time to live in seconds.
///
/// What is promised so must hold under the next leader too. That one counts anew from its own beginning, so a renewal is good if
/// this member still led after it; a process that was stopped for a while and goes on as if it led promises nothing.
pub(crate) fn renew_now(shared: &Shared, node: &Node, lease: LeaseId) -> Result<i64, lease::Error> {
    let ttl = shared.lessor.renew(lease, shared.clock.now())?;
    if node.leads() { Ok(ttl) } else { Err(lease::Error::NotPrimary) }
}

/// Renews a lease in this member's memory, if it keeps the time. `ttl` 0 says that there is no such lease.
///
/// A lease that is unknown may have been granted by an entry that is not applied yet, and one that has expired is revoked by one
/// that is on its way. Both are decided when this member has applied what is committed now.
pub(crate) async fn renew(
    shared: &Arc<Shared>,
    node: &Node,
    id: i64,
    timeout: Duration,
) -> Result<LeaseKeepAliveResponse, Failure> {
    let header = Some(shared.header_now());
    let lease = LeaseId::new(id);
    let answer = |ttl| Ok(LeaseKeepAliveResponse { header, id, ttl });
    match renew_now(shared, node, lease) {
        Ok(ttl) => {
            shared.counters.leases_renewed.add(1);
            return answer(ttl);
        }
        Err(lease::Error::NotPrimary) => return Err(status::NOT_PRIMARY_LESSOR.into()),
        Err(_) => {}
    }
    let patience = tokio::time::Instant::now() + Duration::from_secs(1);
    if let Some(committed) = node.status().committed {
        let applied = tokio::time::timeout_at(patience, node.wait_applied(committed.index)).await;
        applied.map_err(|_| status::TIMEOUT_WAIT_APPLIED_INDEX)?.map_err(|_| status::STOPPED)?;
    }
    let mut applied = node.applied();
    loop {
        match renew_now(shared, node, lease) {
            Ok(ttl) => return answer(ttl),
            Err(lease::Error::Checkpointed(_)) => {
                // The next leader must not cut the renewed lease short.
                let clear = LeaseCheckpoint { id, remaining_ttl: 0 };
                let request = LeaseCheckpointRequest { checkpoints: vec![clear] };
                shared.proposals.propose(Command::lease_checkpoint(&request)).await?;
            }
            Err(lease::Error::Expired(_)) => {
                let more = tokio::time::timeout(timeout, applied.changed()).await;
                more.map_err(|_| status::TIMEOUT)?.map_err(|_| status::STOPPED)?;
            }
            Err(lease::Error::NotPrimary) => return Err(status::NOT_PRIMARY_LESSOR.into()),
            Err(_) => return answer(0),
        }
    }
}

/// What this member knows of a lease's time, if it keeps it.
pub(crate) fn time_to_live(
    shared: &Shared,
    node: &Node,
    request: &LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse, Failure> {
    let mut response = LeaseTimeToLiveResponse {
        header: Some(shared.header_now()),
        id: request.id,
        ttl: -1,
        ..Default::default()
    };
    match shared.lessor.time_to_live(LeaseId::new(request.id), shared.clock.now(), request.keys) {
        Ok(lease) => {
            response.ttl = lease.remaining_ttl;
            response.granted_ttl = lease.granted_ttl;
            response.keys = lease.keys;
        }
        Err(lease::Error::NotPrimary) => return Err(status::NOT_PRIMARY_LESSOR.into()),
        Err(_) => {}
    }
    // As in `renew_now`: another leader may know better.
    if node.leads() { Ok(response) } else { Err(status::NOT_PRIMARY_LESSOR.into()) }
}
