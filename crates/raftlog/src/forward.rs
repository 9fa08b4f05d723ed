//! Proposals, made here if this member leads, and otherwise sent to whoever does.
//!
//! A proposal that certainly was not made, because its receiver did not lead or could not be reached, is tried again when there is
//! a leader. One whose fate is unknown is never tried again: it might be applied twice.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use openraft::raft::ClientWriteResult;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::application::LogId;
use crate::error::ProposeError;
use crate::leadership::Leadership;
use crate::network::links::{Links, Purpose, never_sent};
use crate::network::wire::{self, ProposeRequest, ProposeResponse};
use crate::node::Raft;
use crate::proposal::{Pending, Proposal, Responder};
use crate::record::LogIdRecord;
use crate::types::{Data, TypeConfig};

/// When to look again whether there is a leader, if nothing tells.
const LOOK: Duration = Duration::from_millis(50);

/// Makes proposals, here or at the leader.
pub(crate) struct Proposer {
    pub(crate) id: u64,
    pub(crate) raft: Raft,
    pub(crate) links: Arc<Links>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) applied: watch::Receiver<Option<LogId>>,
    pub(crate) stopped: watch::Receiver<bool>,
    /// Where proposals wait for a leader; an application may submit from threads of its own.
    pub(crate) runtime: Handle,
    /// How long a proposal waits for a leader.
    pub(crate) patience: Duration,
}

impl Proposer {
    fn leads(&self) -> bool {
        self.leadership.borrow().is_leader
    }

    /// Proposes an entry; see [`Node::propose`](crate::Node::propose).
    pub(crate) fn propose(self: &Arc<Self>, data: Bytes) -> Proposal {
        if *self.stopped.borrow() {
            return Proposal::refused(ProposeError::Stopped);
        }
        if self.leads() || self.links_to_nobody() {
            return self.propose_here(data);
        }
        let share = match self.pending.take(data.len()) {
            Ok(share) => share,
            Err(error) => return Proposal::refused(error),
        };
        let this = Arc::clone(self);
        Proposal::routed(self.runtime.spawn(async move {
            let position = this.route(data).await?;
            drop(share);
            this.wait_applied(position.index).await?;
            Ok(position)
        }))
    }

    /// Whether this member knows of nobody else who could lead, so that only waiting is left.
    fn links_to_nobody(&self) -> bool {
        self.raft.voter_ids().eq([self.id])
    }

    /// Proposes an entry as the leader.
    pub(crate) fn propose_here(&self, data: Bytes) -> Proposal {
        let share = match self.pending.take(data.len()) {
            Ok(share) => share,
            Err(error) => return Proposal::refused(error),
        };
        let (responder, outcome) = Responder::notify(share);
        match self.send(data, responder) {
            Ok(()) => Proposal::waiting(outcome),
            Err(error) => Proposal::refused(error),
        }
    }

    /// Proposes an entry; see [`Node::submit`](crate::Node::submit).
    pub(crate) fn submit(
        self: &Arc<Self>,
        data: Bytes,
        on_failure: impl FnOnce(ProposeError) + Send + 'static,
    ) -> Result<(), ProposeError> {
        let share = self.pending.take(data.len())?;
        if !self.leads() {
            drop(share);
            self.reroute(data, on_failure);
            return Ok(());
        }
        let (this, again) = (Arc::clone(self), data.clone());
        let responder = Responder::on_failure(share, move |error| match error {
            ProposeError::NotLeader { .. } => this.reroute(again, on_failure),
            error => on_failure(error),
        });
        // When the core has stopped, dropping the responder has called back already.
        self.send(data, responder).or(Ok(()))
    }

    /// Sends an entry to whoever leads, now or soon, in the background.
    fn reroute(self: &Arc<Self>, data: Bytes, on_failure: impl FnOnce(ProposeError) + Send + 'static) {
        let share = match self.pending.take(data.len()) {
            Ok(share) => share,
            Err(error) => return on_failure(error),
        };
        let this = Arc::clone(self);
        self.runtime.spawn(async move {
            let routed = this.route(data).await;
            drop(share);
            if let Err(error) = routed {
                on_failure(error);
            }
        });
    }

    /// Has the leader propose an entry, waiting for one to appear if need be. Returns when the leader has applied it.
    async fn route(&self, data: Bytes) -> Result<LogId, ProposeError> {
        let deadline = Instant::now() + self.patience;
        let mut leadership = self.leadership.clone();
        loop {
            let Leadership { leader, is_leader, .. } = *leadership.borrow_and_update();
            let outcome = match leader {
                _ if is_leader => self.propose_here(data.clone()).await,
                Some(leader) => self.until_stopped(self.ask(leader, data.clone())).await,
                None => Err(ProposeError::NotLeader { leader: None }),
            };
            match outcome {
                Err(ProposeError::NotLeader { .. }) if Instant::now() < deadline => {}
                outcome => return outcome,
            }
            let look = deadline.min(Instant::now() + LOOK);
            let changed =
                self.until_stopped(async { Ok(timeout_at(look, leadership.changed()).await) }).await?;
            if let Ok(Err(_)) = changed {
                return Err(ProposeError::Stopped);
            }
        }
    }

    async fn until_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, ProposeError>>,
    ) -> Result<T, ProposeError> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            done = work => done,
            _ = stopped.wait_for(|stopped| *stopped) => Err(ProposeError::Stopped),
        }
    }

    async fn ask(&self, leader: u64, data: Bytes) -> Result<LogId, ProposeError> {
        let answer: Result<ProposeResponse, _> =
            self.links.unary(leader, Purpose::Bulk, wire::PROPOSE, ProposeRequest { data }).await;
        match answer {
            Ok(ProposeResponse { log_id: Some(log_id), .. }) => Ok(log_id.into_log_id()),
            Ok(ProposeResponse { not_leader: true, .. }) => Err(ProposeError::NotLeader { leader: None }),
            Ok(ProposeResponse { overloaded: true, .. }) => Err(ProposeError::Overloaded),
            Err(status) if never_sent(&status) => Err(ProposeError::NotLeader { leader: None }),
            // Nobody knows whether it was proposed.
            Ok(_) | Err(_) => Err(ProposeError::LeaderChanged),
        }
    }

    /// Answers another member that takes this one for the leader.
    pub(crate) async fn answer(&self, request: ProposeRequest) -> ProposeResponse {
        match self.propose_here(request.data).await {
            Ok(log_id) => {
                ProposeResponse { log_id: Some(LogIdRecord::new(log_id)), ..ProposeResponse::default() }
            }
            Err(ProposeError::NotLeader { .. }) => {
                ProposeResponse { not_leader: true, ..ProposeResponse::default() }
            }
            Err(ProposeError::Overloaded) => {
                ProposeResponse { overloaded: true, ..ProposeResponse::default() }
            }
            Err(_) => ProposeResponse { leader_changed: true, ..ProposeResponse::default() },
        }
    }

    async fn wait_applied(&self, index: u64) -> Result<(), ProposeError> {
        let mut applied = self.applied.clone();
        let reached = applied.wait_for(|last| last.is_some_and(|last| last.index >= index)).await;
        reached.map(|_| ()).map_err(|_| ProposeError::Stopped)
    }

    fn send(
        &self,
        data: Bytes,
        responder: Responder<ClientWriteResult<TypeConfig>>,
    ) -> Result<(), ProposeError> {
        if *self.stopped.borrow() {
            return Err(ProposeError::Stopped);
        }
        let send = self.raft.client_write_ff(Data(data), Some(responder));
        // openraft's queue has room for more proposals than may be pending, so this is over at once; tokio must
        // only be kept from pretending otherwise to a task that has done much.
        match tokio::task::unconstrained(send).now_or_never() {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(ProposeError::Stopped),
        }
    }
}
