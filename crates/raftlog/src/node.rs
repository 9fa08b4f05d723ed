//! One member: the log, the state machine and openraft between them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tonic::Status as GrpcStatus;

use crate::application::{Application, LogId};
use crate::config::Config;
use crate::contact::{self, Contact};
use crate::error::ProposeError;
use crate::error::{CallError, Error, ReadIndexError, Result};
use crate::failure::Failure;
use crate::force_new_cluster;
use crate::forward::Proposer;
use crate::leadership::{Follower, Leadership};
use crate::log_store::LogStore;
use crate::log_store::disk::{Disk, RocksDisk};
use crate::membership::{self, Change, ChangeError, Membership};
use crate::metrics::{ApplyMetrics, Metrics};
use crate::network::Network;
use crate::network::dial::{Answer, Mute};
use crate::network::links::{Links, Purpose, never_sent};
use crate::network::service::{self, PeerService};
use crate::network::snapshot::Incoming;
use crate::network::wire::{self, CallMessage};
use crate::proposal::{Pending, Proposal};
use crate::read_index::ReadIndex;
use crate::record::Identity;
use crate::replay;
use crate::runtime;
use crate::sole_voter::SoleVoter;
use crate::state_machine::worker::{FlushPolicy, Worker};
use crate::state_machine::{ApplyQueue, StateMachine, Transfers};
use crate::supervisor::{self, Parts};
use crate::transfer::{Progress, Transfer, TransferError};
use crate::types::{self, TypeConfig};

/// How long another member may at least take to write entries that it was sent, and say so. A disk may be slow; one that has not
/// finished by then is asked anew.
const ANSWER: Duration = Duration::from_secs(5);

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// A handle to a member of the cluster. Cloning gives another handle to the same member.
///
/// The member runs until [`shutdown`](Self::shutdown) is called, the last handle is dropped, or something goes
/// wrong that it cannot survive; [`failed`](Self::failed) tells about the last.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    raft: Raft,
    log: LogStore,
    failure: Failure,
    sole_voter: Arc<SoleVoter>,
    read_index: ReadIndex,
    proposer: Arc<Proposer>,
    links: Arc<Links>,
    answer: Arc<dyn Answer>,
    peers: PeerService,
    transfer: Transfer,
    applied: watch::Receiver<Option<LogId>>,
    apply_metrics: Arc<ApplyMetrics>,
    leader_changes: Arc<AtomicU64>,
    snapshots_installed: Arc<AtomicU64>,
    leadership: watch::Receiver<Leadership>,
    membership: watch::Receiver<Membership>,
    /// Asks the supervisor to stop everything. Dropped with the last handle, which asks the same.
    stop: mpsc::Sender<()>,
    stopped: watch::Receiver<bool>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

/// Where a member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The member.
    pub id: u64,
    /// The current term.
    pub term: u64,
    /// The leader, as far as the member knows.
    pub leader: Option<u64>,
    /// Whether the member leads.
    pub is_leader: bool,
    /// The newest entry known to be committed.
    pub committed: Option<LogId>,
    /// The newest entry applied.
    pub applied: Option<LogId>,
    /// The last entry of the log.
    pub last: Option<LogId>,
    /// The last entry that was purged from the log.
    pub purged: Option<LogId>,
    /// Everything up to here is durable in the application's state.
    pub snapshot: Option<LogId>,
}

impl Node {
    /// Opens the log in `config.dir`, brings the application up to date with it, and takes part in the cluster.
    /// The node's tasks run on the current tokio runtime.
    ///
    /// A member whose log is empty founds the cluster of `config.bootstrap`. One that is alone elects itself
    /// at once.
    ///
    /// # Errors
    ///
    /// Fails when the configuration is wrong, the directory is in use, belongs to somebody else or is
    /// damaged, when log and state do not belong together, and when the application fails.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub async fn open(config: Config, application: impl Application) -> Result<Self> {
        let disk = RocksDisk::open(&config.dir)?;
        Self::open_on(Arc::new(disk), config, application).await
    }

    /// As [`open`](Self::open), on a disk that may be a test's.
    pub(crate) async fn open_on(
        disk: Arc<dyn Disk>,
        config: Config,
        application: impl Application,
    ) -> Result<Self> {
        let openraft = Arc::new(config.openraft()?);
        runtime::answers_take(config.election_timeout);
        let failure = Failure::new();
        let sole_voter = Arc::new(SoleVoter::new(config.id));
        let (log, writer) =
            LogStore::open(disk, config.cache_bytes, failure.clone(), Arc::clone(&sole_voter))?;
        let mut parts = Parts::new(log.clone(), writer, failure.clone());
        let (stop, asked) = mpsc::channel(1);
        match Self::start(&mut parts, stop, openraft, config, application, sole_voter).await {
            Ok(node) => {
                tokio::spawn(supervisor::run(parts, asked));
                Ok(node)
            }
            Err(error) => {
                // The first failure is the cause; what came back through openraft only follows from it.
                let error = failure.get().unwrap_or(error);
                supervisor::stop(parts).await;
                Err(error)
            }
        }
    }

    async fn start(
        parts: &mut Parts,
        stop: mpsc::Sender<()>,
        openraft: Arc<openraft::Config>,
        config: Config,
        application: impl Application,
        sole_voter: Arc<SoleVoter>,
    ) -> Result<Self> {
        let (log, failure) = (parts.log.clone(), parts.failure.clone());
        log.identify(Identity { cluster: config.cluster_id, member: config.id }).await?;
        let state = application.applied();
        replay::check(&log, state.last).await?;
        if let Some(data) = config.force_new_cluster.clone() {
            let member = config.bootstrap.get(&config.id).cloned().unwrap_or_default();
            force_new_cluster::force(&mut log.clone(), &state, config.id, member, data).await?;
        }

        let snapshot_dir = config.dir.join("snapshot");
        if snapshot_dir.exists() {
            // What an interrupted transfer left behind.
            fs::remove_dir_all(&snapshot_dir).map_err(|error| Error::Io {
                operation: "clearing",
                path: snapshot_dir.clone(),
                message: error.to_string(),
            })?;
        }
        let links = Arc::new(Links::new(
            config.cluster_id,
            config.id,
            Arc::clone(&config.dial),
            config.election_timeout,
            failure.clone(),
        ));
        links.learn(config.bootstrap.iter().map(|(&id, member)| (id, member)));
        let queue = Arc::new(ApplyQueue::default());
        let apply_metrics = Arc::new(ApplyMetrics::default());
        let (publish_applied, applied) = watch::channel(state.last);
        let (flush_policy, flush_due) = FlushPolicy::new(config.snapshot_bytes);
        let worker = Worker {
            application,
            queue: Arc::clone(&queue),
            durable: log.durable(),
            failure: failure.clone(),
            applied: state.clone(),
            published: publish_applied,
            metrics: Arc::clone(&apply_metrics),
            flush_policy,
        };
        parts.apply = Some((Arc::clone(&queue), worker.spawn()?));
        replay::replay(&log, &queue, state.last).await?;

        let is_new = log.positions().last.is_none() && state.last.is_none();
        let transfers = Transfers::default();
        let state_machine =
            StateMachine::new(queue, log.clone(), failure.clone(), snapshot_dir.clone(), transfers.clone());
        let snapshots_installed = state_machine.installed();
        let answer = config.answer.clone().unwrap_or_else(|| Arc::new(Mute));
        let network = Network {
            links: Arc::clone(&links),
            answer: Arc::clone(&answer),
            heartbeat: config.heartbeat,
            patience: ANSWER.max(5 * config.election_timeout),
            snapshot_dir: snapshot_dir.clone(),
        };
        let raft = Box::pin(Raft::new(config.id, openraft, network, log.clone(), state_machine));
        let raft = raft.await.map_err(|error| Error::Core(error.to_string()))?;
        parts.raft = Some(raft.clone());
        if is_new && !config.bootstrap.is_empty() {
            found(&raft, config.bootstrap).await?;
        } else if raft.voter_ids().eq([config.id]) {
            raft.trigger().elect(false).await.map_err(|error| Error::Core(error.to_string()))?;
        }

        let (publish_leadership, leadership) = watch::channel(Leadership::default());
        let (publish_membership, membership) = watch::channel(Membership::default());
        let contact = Arc::new(Contact::default());
        let leader_changes = Arc::new(AtomicU64::new(0));
        let follower = Follower {
            id: config.id,
            raft: raft.clone(),
            applied: applied.clone(),
            sole_voter: Arc::clone(&sole_voter),
            contact: Arc::clone(&contact),
            links: Arc::clone(&links),
            election_timeout: config.election_timeout,
            leadership: publish_leadership,
            membership: publish_membership,
            changes: Arc::clone(&leader_changes),
        };
        parts.core_ended = Some(tokio::spawn(follower.run()));
        let (read_index, rounds) = ReadIndex::new(raft.clone(), Arc::clone(&links), leadership.clone());
        tokio::spawn(rounds);
        tokio::spawn(flush_when_due(raft.clone(), flush_due));
        let proposer = Arc::new(Proposer {
            id: config.id,
            raft: raft.clone(),
            links: Arc::clone(&links),
            pending: Arc::new(Pending::new(config.pending_bytes_max)),
            leadership: leadership.clone(),
            applied: applied.clone(),
            stopped: parts.stopped(),
            runtime: Handle::current(),
            patience: config.proposal_timeout,
        });
        let transfer = Transfer {
            id: config.id,
            raft: raft.clone(),
            log: log.clone(),
            leadership: leadership.clone(),
            membership: membership.clone(),
            election_timeout: config.election_timeout,
        };
        tokio::spawn(transfer.clone().when_the_disk_stalls());
        let peers = PeerService::new(service::Inner {
            cluster: config.cluster_id,
            member: config.id,
            raft: raft.clone(),
            contact,
            answer: Arc::clone(&answer),
            read_index: read_index.clone(),
            proposer: Arc::clone(&proposer),
            incoming: Arc::new(tokio::sync::Mutex::new(Incoming::new(snapshot_dir.join("incoming")))),
        });
        let inner = Inner {
            id: config.id,
            raft,
            log,
            failure,
            sole_voter,
            read_index,
            proposer,
            links,
            answer,
            peers,
            transfer,
            applied,
            apply_metrics,
            leader_changes,
            snapshots_installed,
            leadership,
            membership,
            stop,
            stopped: parts.stopped(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Proposes an entry. It is on its way when this returns, behind those proposed before; what is returned
    /// tells when it has been applied here.
    ///
    /// It never waits, so any number of proposals may be on their way at once, up to the configured limit.
    pub fn propose(&self, data: Bytes) -> Proposal {
        self.inner.proposer.propose(data)
    }

    /// Proposes an entry, as [`propose`](Self::propose), for those who learn of success from their application: only a
    /// failure is reported, and nobody is woken in vain.
    ///
    /// # Errors
    ///
    /// Fails when too much is pending; the callback is not called then.
    pub fn submit(
        &self,
        data: Bytes,
        on_failure: impl FnOnce(ProposeError) + Send + 'static,
    ) -> Result<(), ProposeError> {
        self.inner.proposer.submit(data, on_failure)
    }

    /// The index up to which the state must have been applied for a read that begins now to see everything
    /// that was acknowledged anywhere before. [Wait](Self::wait_applied) for it, then read.
    ///
    /// Reads that ask at the same time share one round of questions to the other members; a member that is
    /// alone asks nobody. While there is no leader this waits.
    ///
    /// # Errors
    ///
    /// Fails when the node stops.
    pub async fn read_index(&self) -> Result<u64, ReadIndexError> {
        if *self.inner.stopped.borrow() {
            return Err(ReadIndexError::Stopped);
        }
        // Looked at in this order: the position is then one the leader had applied while it led. It may lack
        // what is just being applied, but the state itself is never behind what was acknowledged.
        let applied = *self.inner.applied.borrow();
        if self.inner.sole_voter.leads()
            && let Some(applied) = applied
        {
            return Ok(applied.index);
        }
        self.inner.read_index.get().await
    }

    /// Waits until the entry at `index` has been applied here.
    ///
    /// # Errors
    ///
    /// Fails when the node stops first.
    pub async fn wait_applied(&self, index: u64) -> Result<(), ReadIndexError> {
        let reached = |applied: &Option<LogId>| applied.is_some_and(|applied| applied.index >= index);
        if reached(&self.inner.applied.borrow()) {
            return Ok(());
        }
        let waited = self.inner.applied.clone().wait_for(reached).await.map(|_| ());
        waited.map_err(|_| ReadIndexError::Stopped)
    }

    /// The newest entry applied here, now and whenever it changes. It changes after the application's
    /// [`apply`](Application::apply) has returned.
    pub fn applied(&self) -> watch::Receiver<Option<LogId>> {
        self.inner.applied.clone()
    }

    /// Who leads, now and whenever it changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Whether this member leads at this very moment: a quorum has confirmed it so lately that nobody else can have been elected
    /// since. [`leadership`](Self::leadership) may lag behind it, above all in a process that was stopped for a while.
    pub fn leads(&self) -> bool {
        if self.inner.sole_voter.leads() {
            return true;
        }
        let metrics = self.inner.raft.server_metrics();
        let leads = metrics.borrow_watched().state == ServerState::Leader;
        leads && contact::is_confirmed(&self.inner.raft, self.inner.transfer.election_timeout)
    }

    /// Who belongs to the cluster, now and whenever it changes. A change counts from when it is in the log.
    pub fn membership(&self) -> watch::Receiver<Membership> {
        self.inner.membership.clone()
    }

    /// What is to be served to other members, on a listener that the members' URLs lead to.
    pub fn peer_service(&self) -> PeerService {
        self.inner.peers.clone()
    }

    /// Asks a member's application, which answers by [`Answer`]. Asking oneself takes no network.
    ///
    /// # Errors
    ///
    /// Fails when the member cannot be reached, does not answer within `timeout`, or its application refuses.
    pub async fn call(&self, member: u64, request: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        let answered = async {
            if member == self.inner.id {
                return self.inner.answer.answer(member, request).await.map_err(CallError::Refused);
            }
            let message = CallMessage { body: request, error: None };
            let call = self.inner.links.unary(member, Purpose::Bulk, wire::CALL, message);
            let answer: Result<CallMessage, GrpcStatus> = call.await;
            match answer {
                Ok(CallMessage { error: Some(error), .. }) => Err(CallError::Refused(error)),
                Ok(CallMessage { body, error: None }) => Ok(body),
                Err(status) if never_sent(&status) => {
                    Err(CallError::Unreachable(status.message().to_owned()))
                }
                Err(status) => Err(CallError::NoAnswer(status.message().to_owned())),
            }
        };
        let late = |_| Err(CallError::NoAnswer(format!("nothing came within {timeout:?}")));
        tokio::time::timeout(timeout, answered).await.unwrap_or_else(late)
    }

    /// Changes the membership as the leader. `data` and the change are one entry, which the application gets as any other;
    /// what is returned is its position, once it has been applied here. It waits for changes under way.
    ///
    /// # Errors
    ///
    /// Fails when this member does not lead, or the change makes no sense.
    pub async fn change_membership(&self, change: Change, data: Bytes) -> Result<LogId, ChangeError> {
        let changed = membership::change(&self.inner.raft, &change, data).await?;
        tracing::info!(%change, at = %changed, "the membership has changed");
        Ok(changed)
    }

    /// How far the others are, as far as this member knows; nothing unless it leads.
    pub fn progress(&self) -> BTreeMap<u64, Progress> {
        self.inner.transfer.progress()
    }

    /// The voter that is best fit to lead after this member: it works, and has most of the log. Nobody, unless this member leads.
    pub fn successor(&self) -> Option<u64> {
        self.inner.transfer.successor()
    }

    /// Hands leadership to a voter, and returns when it leads.
    ///
    /// # Errors
    ///
    /// Fails at once when this member does not lead or the target is not fit to, and after two election timeouts when
    /// the target has not taken over; then whoever wins the election leads.
    pub async fn transfer_leadership(&self, to: u64) -> Result<(), TransferError> {
        self.inner.transfer.to(to).await
    }

    /// Where this member stands.
    pub fn status(&self) -> Status {
        let positions = self.inner.log.positions();
        let metrics = self.inner.raft.data_metrics();
        let snapshot = metrics.borrow_watched().snapshot.as_ref().map(types::from_raft);
        let Leadership { leader, term, is_leader } = *self.inner.leadership.borrow();
        Status {
            id: self.inner.id,
            term,
            leader,
            is_leader,
            committed: positions.committed,
            applied: *self.inner.applied.borrow(),
            last: positions.last,
            purged: positions.purged,
            snapshot,
        }
    }

    /// How many entries are committed that the application has not applied yet.
    pub fn backlog(&self) -> u64 {
        let committed = self.inner.log.positions().committed.map_or(0, |committed| committed.index);
        committed.saturating_sub(self.inner.applied.borrow().map_or(0, |applied| applied.index))
    }

    /// What the log has done so far.
    pub fn metrics(&self) -> Metrics {
        let log = self.inner.log.metrics();
        let (cache_bytes, bytes_unwritten) = self.inner.log.memory();
        Metrics {
            fsync: log.fsync(),
            bytes_written: log.bytes(),
            changes_written: log.changes(),
            entries_applied: self.inner.apply_metrics.entries(),
            batches_applied: self.inner.apply_metrics.batches(),
            proposals_pending: self.inner.proposer.pending.proposals(),
            proposal_bytes_pending: self.inner.proposer.pending.bytes(),
            bytes_unwritten: bytes_unwritten as u64,
            cache_bytes: cache_bytes as u64,
            leader_changes: self.inner.leader_changes.load(Ordering::Relaxed),
            snapshots_installed: self.inner.snapshots_installed.load(Ordering::Relaxed),
            peers: self.inner.links.metrics(),
        }
    }

    /// Waits until something goes wrong that the member cannot survive, and tells what it was. Then the process
    /// should end; everything that was acknowledged is on disk.
    pub async fn failed(&self) -> Error {
        self.inner.failure.wait().await
    }

    /// Stops the member: what is queued is written, the application is flushed and dropped, all files are closed.
    /// When this returns, the directory can be opened again.
    ///
    /// # Errors
    ///
    /// Fails with the reason if the member had to stop by itself.
    pub async fn shutdown(&self) -> Result<()> {
        // The supervisor may be stopping everything already.
        self.inner.stop.try_send(()).ok();
        let mut stopped = self.inner.stopped.clone();
        let waited = stopped.wait_for(|stopped| *stopped).await.map(|_| ());
        match self.inner.failure.get() {
            Some(failure) => Err(failure),
            None => waited.map_err(|_| Error::Core("the runtime ended before the node".to_owned())),
        }
    }
}

/// Has a snapshot built whenever it is due, until the application or the core is gone.
async fn flush_when_due(raft: Raft, mut due: mpsc::Receiver<()>) {
    while due.recv().await.is_some() && raft.trigger().snapshot().await.is_ok() {}
}

/// Founds a cluster. Every founder does it, and all but the first find that it has happened.
async fn found(raft: &Raft, members: BTreeMap<u64, crate::config::Member>) -> Result<()> {
    match raft.initialize(members).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(RaftError::APIError(InitializeError::NotInMembers(error))) => {
            Err(Error::Config(error.to_string()))
        }
        Err(RaftError::Fatal(error)) => Err(Error::Core(error.to_string())),
    }
}
