//! A member: its parts built, its tasks started, and all of it stopped again.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use api::etcdserverpb::Member;
use api::internal::MembersKeep;
use backend::DiskBackend;
use raftlog::{Dial, Node};
use tokio::sync::{mpsc, watch};

use crate::apply::{Applier, Standing};
use crate::auto_compaction;
use crate::bootstrap::{self, DataDir, Origin};
use crate::calls::{Answers, Calls};
use crate::compactor::{Compactions, Worker};
use crate::config::Config;
use crate::corrupt::Checker;
use crate::divergence;
use crate::downgrade;
use crate::error::{Error, Result};
use crate::leaderless;
use crate::leases::{self, Timekeeper};
use crate::listener::{Listener, Wire};
use crate::member::Shared;
use crate::membership::Membership;
use crate::parts::Parts;
use crate::peer::{self, PeerPort};
use crate::proposal::{Command, Proposals};
use crate::publish;
use crate::rpc::{Budget, Limits, Rpc};
use crate::security::Security;
use crate::serve::{self, Capacity};
use crate::space;
use crate::versions;
use crate::watches::Watches;

/// Recent entries of the log kept in memory: they are applied from there.
const LOG_CACHE_BYTES: usize = 16 * 1024 * 1024;
/// State that is committed but not in files yet. The log replays it after a crash, so it also bounds a restart.
const WRITE_BUFFER_BYTES: usize = 32 * 1024 * 1024;
/// How often waiting requests are looked at for being too late.
const EXPIRE_INTERVAL: Duration = Duration::from_millis(500);
/// How long a member that was removed goes on, as in etcd.
const REMOVED_STOP: Duration = Duration::from_secs(1);
/// How long calls may take to end when their connections have.
const CALLS_END: Duration = Duration::from_secs(1);
/// What a request may exceed the limit by on the wire, as in etcd: the limit counts the request as replicated.
const RECEIVE_OVERHEAD_BYTES: usize = 512 * 1024;

/// A running member.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    node: Node,
    watches: Watches,
    proposals: Arc<Proposals>,
    compactions: Compactions,
    membership: Arc<Membership>,
    answers: Arc<Answers>,
    /// What this member is in its cluster.
    standing: watch::Receiver<Standing>,
    /// Why this member must not serve any more.
    fenced: watch::Receiver<Option<String>>,
    /// Closed when the last call has ended.
    calls: mpsc::Receiver<()>,
    stopping: watch::Sender<bool>,
    serving: Vec<tokio::task::JoinHandle<()>>,
    peers: PeerPort,
    background: tokio::task::JoinSet<()>,
    threads: Threads,
    /// What stopped one of the threads, if that happens.
    failures: mpsc::UnboundedReceiver<Error>,
}

/// What a member starts with besides its parts.
struct Start {
    config: Arc<Config>,
    data_dir: DataDir,
    origin: Origin,
    dial: Arc<dyn Dial>,
    capacity: Capacity,
    peers: PeerPort,
    listeners: Vec<Listener>,
    /// Where only metrics and health are served.
    metrics: Vec<Listener>,
}

/// Threads that do nothing but their one thing.
#[derive(Debug)]
struct Threads {
    stopping: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a member and returns when it serves clients.
    ///
    /// # Errors
    /// The configuration, the data directory or an address cannot be used. Nothing is left running then.
    pub async fn start(config: Config) -> Result<Self> {
        config.check()?;
        let config = Arc::new(config);
        let capacity = Capacity::of_process()?;
        let security = Security::prepare(&config)?;
        let peers = PeerPort::open(&config.listen_peer_urls, security.peer.as_ref(), capacity.peers).await?;
        let listeners = Listener::bind_all(&config.listen_client_urls, security.client.as_ref()).await?;
        let metrics = Listener::bind_all(&config.listen_metrics_urls, security.client.as_ref()).await?;
        let dial: Arc<dyn Dial> = security.dial;
        let data_dir = DataDir::open(&config.data_dir)?;
        let (identity, origin) = bootstrap::identity(&config, &data_dir, &*dial).await?;
        let options =
            backend::Options { cache_bytes: config.cache_bytes, write_buffer_bytes: WRITE_BUFFER_BYTES };
        let backend = Arc::new(DiskBackend::open(&data_dir.state, options)?);
        let parts = Parts::open(&config, backend, identity)?;
        parts.start(Start { config, data_dir, origin, dial, capacity, peers, listeners, metrics }).await
    }

    /// Where clients are served: an address for each URL to listen on that is not a Unix socket.
    #[must_use]
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Resolves when the member cannot go on; it must be [shut down](Self::shutdown) then.
    pub async fn failed(&mut self) -> Error {
        tokio::select! {
            error = self.node.failed() => error.into(),
            Some(error) = self.failures.recv() => error,
            Ok(_) = self.standing.wait_for(|standing| *standing == Standing::Removed) => {
                // A moment, for whoever asked for it to be answered.
                tokio::time::sleep(REMOVED_STOP).await;
                Error::Removed
            }
            Ok(why) = self.fenced.wait_for(Option::is_some) => {
                // What it would answer from now on may be wrong.
                self.stopping.send_replace(true);
                Error::Diverged(why.clone().unwrap_or_default())
            }
        }
    }

    /// Stops: calls under way get a moment, everything is flushed, and the data directory can be opened again at once.
    ///
    /// # Errors
    /// What could not be flushed, or what had stopped the member before.
    pub async fn shutdown(mut self) -> Result<()> {
        self.membership.hand_over().await;
        self.stopping.send_replace(true);
        self.watches.stop();
        for task in self.serving.drain(..) {
            drop(task.await);
        }
        self.proposals.stop();
        // Their connections are gone, so calls end as soon as they are looked at; only one that is busy on a thread takes longer.
        drop(tokio::time::timeout(CALLS_END, self.calls.recv()).await);
        self.background.shutdown().await;
        self.answers.stop();
        let stopped = self.node.shutdown().await;
        self.peers.stop().await;
        self.threads.stopping.store(true, Ordering::Relaxed);
        self.compactions.stop();
        // The threads hold parts of the store; they must be gone before somebody else opens it.
        let threads = std::mem::take(&mut self.threads.handles);
        drop(self.node);
        drop(self.membership);
        drop(self.proposals);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                drop(thread.join());
            }
        });
        drop(joined.await);
        Ok(stopped?)
    }

    /// Runs a member as a program does: until a signal asks it to stop, or something does that it cannot survive.
    #[must_use]
    pub fn run(config: Config) -> ExitCode {
        serve::raise_file_limit();
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "cannot start threads");
                return ExitCode::FAILURE;
            }
        };
        let outcome = runtime.block_on(Self::run_until_signal(config));
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    }

    async fn run_until_signal(config: Config) -> ExitCode {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
            tracing::error!("cannot listen for signals");
            return ExitCode::FAILURE;
        };
        // A start may take long, when much is replayed, and can be broken off anywhere, as by a crash.
        let started = tokio::select! {
            started = Self::start(config) => started,
            _ = interrupt.recv() => return broken_off("interrupt"),
            _ = terminate.recv() => return broken_off("terminated"),
        };
        let mut server = match started {
            Ok(server) => server,
            Err(Error::Removed) => return removed(),
            Err(error) => {
                tracing::error!(error = error.to_string(), "discovery failed");
                return ExitCode::FAILURE;
            }
        };
        notify_systemd();
        let (failure, signal) = tokio::select! {
            _ = interrupt.recv() => (None, "interrupt"),
            _ = terminate.recv() => (None, "terminated"),
            error = server.failed() => (Some(error), ""),
        };
        match &failure {
            None => tracing::info!(signal, "received signal; shutting down"),
            Some(Error::Removed) => drop(removed()),
            Some(error) => tracing::error!(error = error.to_string(), "the member cannot go on"),
        }
        let stopped = server.shutdown().await;
        match (failure, stopped) {
            (None, Ok(())) => ended_by(signal),
            (None, Err(error)) => {
                tracing::error!(error = error.to_string(), "stopping failed");
                ExitCode::FAILURE
            }
            (Some(Error::Removed), _) => ExitCode::SUCCESS,
            (Some(_), _) => ExitCode::FAILURE,
        }
    }
}

/// Says, in etcd's words, that this member is none any more.
fn removed() -> ExitCode {
    tracing::warn!(error = Error::Removed.to_string(), "server error");
    tracing::warn!("data-dir used by this member must be removed");
    ExitCode::SUCCESS
}

fn broken_off(signal: &str) -> ExitCode {
    tracing::info!(signal, "received signal; shutting down");
    ended_by(signal)
}

/// Ends the process as the signal would have, so that whoever waits for it sees why, as with etcd. An init process cannot be
/// ended so; it exits.
fn ended_by(signal: &str) -> ExitCode {
    let signal =
        if signal == "interrupt" { signal_hook::consts::SIGINT } else { signal_hook::consts::SIGTERM };
    if std::process::id() != 1
        && let Err(error) = signal_hook::low_level::emulate_default_handler(signal)
    {
        tracing::warn!(%error, "exiting instead of ending by the signal");
    }
    ExitCode::SUCCESS
}

fn notify_systemd() {
    tracing::info!("notifying init daemon");
    match sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        Ok(()) => tracing::info!("successfully notified init daemon"),
        Err(error) => tracing::error!(%error, "failed to notify systemd for readiness"),
    }
}

impl Parts {
    async fn start(self, start: Start) -> Result<Server> {
        let Start { config, data_dir, origin, dial, capacity, mut peers, listeners, metrics } = start;
        let Self { store, meta, shared, compactor } = self;
        if *shared.members.standing().borrow() == Standing::Removed {
            return Err(Error::Removed);
        }
        let retention = config.auto_compaction.retention()?;
        let connections_max = capacity.clients / listeners.len().max(1);
        announce(&config, &data_dir, &shared);
        let (failed, failures) = mpsc::unbounded_channel();
        // The hub stands where the store stands now; whatever the log replays is published to it.
        let hub = hub(&config, &shared);
        let applier =
            Applier::new(store, meta, Arc::clone(&shared)).warn_above(config.warning_apply_duration);
        let mut log = log_config(&config, &data_dir, &shared);
        log.bootstrap = origin.founders();
        log.dial = dial;
        let answers = Answers::new(Arc::clone(&shared));
        log.answer = Some(Arc::clone(&answers) as Arc<dyn raftlog::Answer>);
        if config.force_new_cluster {
            let own =
                shared.members.get(shared.member_id.get()).unwrap_or_else(|| own_record(&config, &shared));
            log.force_new_cluster = Some(Command::members_keep(&MembersKeep { member: Some(own) }).entry());
        }
        let node = Node::open(log, applier).await?;
        shared.proposals.connect(node.clone());
        let membership = Membership::new(&config, Arc::clone(&shared), node.clone());
        answers.connect(Arc::clone(&membership));
        let founders = founders(&config, &origin, &shared);
        peers.serve(peer::Source {
            shared: Arc::clone(&shared),
            node: node.clone(),
            log: node.peer_service(),
            initial: origin.members,
            request_timeout: config.request_timeout(),
        });
        let threads = threads(&config, &shared, hub, compactor, &failed)?;
        let (stopping, stop) = watch::channel(false);
        let (alive, calls) = mpsc::channel(1);
        let mut server = Server {
            addresses: Vec::new(),
            node: node.clone(),
            watches: shared.watches.clone(),
            proposals: Arc::clone(&shared.proposals),
            compactions: shared.compactions.clone(),
            membership: Arc::clone(&membership),
            answers,
            standing: shared.members.standing(),
            fenced: shared.divergence.fenced(),
            calls,
            stopping,
            serving: Vec::new(),
            peers,
            background: tokio::task::JoinSet::new(),
            threads,
            failures,
        };
        background(&mut server.background, &shared);
        server.background.spawn(divergence::watch(Arc::clone(&shared), node.clone()));
        // A member that joins as a learner of the log is made a voter by the leader, which needs this before anybody is served.
        server.background.spawn(Arc::clone(&membership).reconcile());
        let calls = Calls::new(node.clone(), config.request_timeout());
        let checker = Checker {
            shared: Arc::clone(&shared),
            node: node.clone(),
            calls: calls.clone(),
            timeout: config.request_timeout(),
        };
        let ready = async {
            publish::publish(&config, &shared, &node, founders).await?;
            if config.initial_corrupt_check && data_dir.initialized {
                checker.check_initially().await?;
            }
            Ok(())
        };
        // A member that has diverged may never get there.
        let mut fenced = shared.divergence.fenced();
        let ready = tokio::select! {
            biased;
            Ok(why) = fenced.wait_for(Option::is_some) => Err(Error::Diverged(why.clone().unwrap_or_default())),
            ready = ready => ready,
        };
        if let Err(error) = ready {
            drop((alive, membership, checker, calls));
            drop(server.shutdown().await);
            return Err(error);
        }
        checker.start(&config, &mut server.background);
        drop(checker);
        let (leaderless, without_leader) = watch::channel(false);
        server.background.spawn(leaderless::watch(node.clone(), config.election_timeout, leaderless));
        server.background.spawn(versions::watch(Arc::clone(&shared), node.clone(), calls.clone()));
        if let Some(retention) = retention {
            server.background.spawn(auto_compaction::run(Arc::clone(&shared), node.clone(), retention));
        }
        if !config.downgrade_check_time.is_zero() {
            let (shared, node, calls) = (Arc::clone(&shared), node.clone(), calls.clone());
            server.background.spawn(downgrade::watch(shared, node, calls, config.downgrade_check_time));
        }
        server.background.spawn(space::run(Arc::clone(&shared), node.clone(), config.quota_auto_disarm));
        // From the first call on, a leader keeps the leases' time.
        let timekeeper = Timekeeper::new(Arc::clone(&shared), node.clone(), config.election_timeout);
        server.background.spawn(Arc::clone(&timekeeper).follow());
        server.background.spawn(leases::expire(timekeeper));
        tracing::info!("ready to serve client requests");
        let budget = Budget::new(config.answer_bytes_max);
        server.background.spawn(Arc::clone(&budget).watch());
        let rpc = Arc::new(Rpc {
            shared,
            node,
            calls,
            membership,
            limits: limits(&config),
            budget,
            stopping: stop.clone(),
            leaderless: without_leader,
            health: watch::Sender::new(true),
            stop_on_defrag: config.stop_grpc_service_on_defrag,
            reflection: config.enable_grpc_reflection,
            alive,
        });
        for listener in metrics {
            tracing::info!(address = listener.to_string(), "serving metrics");
            server.serving.push(tokio::spawn(serve::metrics(listener, Arc::clone(&rpc), stop.clone())));
        }
        for listener in listeners {
            let address = listener.to_string();
            if !matches!(listener.wire(), Wire::Tls(_)) {
                tracing::info!(
                    traffic = "grpc+http",
                    address,
                    "serving client traffic insecurely; this is strongly discouraged!"
                );
            }
            if !matches!(listener.wire(), Wire::Plain) {
                tracing::info!(traffic = "grpc+http", address, "serving client traffic securely");
            }
            server.addresses.extend(listener.address()?);
            let serving = serve::clients(
                listener,
                Arc::clone(&rpc),
                Arc::clone(&config),
                connections_max,
                stop.clone(),
            );
            server.serving.push(tokio::spawn(serving));
        }
        Ok(server)
    }
}

fn announce(config: &Config, data_dir: &DataDir, shared: &Shared) {
    let (local, cluster) = (shared.member_id.to_string(), shared.cluster_id.to_string());
    if data_dir.initialized {
        tracing::info!(data_dir = %config.data_dir.display(), "server has already been initialized");
        tracing::info!(
            local_member_id = local,
            cluster_id = cluster,
            current_rev = shared.reader.revision(),
            "restarting local member"
        );
    } else {
        tracing::info!(data_dir = %config.data_dir.display(), "Initialize and start etcd server");
        tracing::info!(local_member_id = local, cluster_id = cluster, "starting local member");
    }
}

fn log_config(config: &Config, data_dir: &DataDir, shared: &Shared) -> raftlog::Config {
    let mut log = raftlog::Config::new(shared.member_id.get(), shared.cluster_id.get(), &data_dir.member);
    log.heartbeat = config.heartbeat_interval;
    log.election_timeout = config.election_timeout;
    log.snapshot_entries = config.snapshot_count;
    log.pre_vote = config.pre_vote;
    log.keep_entries = config.snapshot_catchup_entries;
    log.cache_bytes = LOG_CACHE_BYTES;
    log
}

fn limits(config: &Config) -> Limits {
    Limits {
        receive_bytes: config.max_request_bytes.saturating_add(RECEIVE_OVERHEAD_BYTES),
        request_bytes: config.max_request_bytes,
        txn_ops: config.max_txn_ops,
        request_timeout: config.request_timeout(),
        slow: config.warning_unary_request_duration,
    }
}

fn hub(config: &Config, shared: &Shared) -> ::watch::Hub {
    let identity = ::watch::Identity { cluster_id: shared.cluster_id, member_id: shared.member_id };
    let mut options = ::watch::Options::new(identity);
    options.fragment_bytes = config.max_request_bytes.saturating_add(RECEIVE_OVERHEAD_BYTES);
    ::watch::Hub::new(shared.reader.clone(), options)
}

/// Starts the threads of the watch hub and of the compactor.
fn threads(
    config: &Config,
    shared: &Arc<Shared>,
    hub: ::watch::Hub,
    compactor: Worker,
    failed: &mpsc::UnboundedSender<Error>,
) -> Result<Threads> {
    let stopping = Arc::new(AtomicBool::new(false));
    let (watches, reader, clock) = (shared.watches.clone(), shared.reader.clone(), shared.clock);
    let interval = config.watch_progress_notify_interval;
    let failures = failed.clone();
    let hub = spawn("watch-hub", move || {
        if let Err(error) = watches.run(hub, reader, clock, interval) {
            // Nobody listens any more only when the member stops anyway.
            drop(failures.send(error.into()));
        }
    })?;
    let (stop, failures) = (Arc::clone(&stopping), failed.clone());
    let compactor = spawn("compactor", move || {
        if let Err(error) = compactor.run(&|| stop.load(Ordering::Relaxed)) {
            drop(failures.send(error.into()));
        }
    })?;
    Ok(Threads { stopping, handles: vec![hub, compactor] })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(Error::io(format!("start thread {name}")))
}

/// Starts what goes on beside the requests.
fn background(tasks: &mut tokio::task::JoinSet<()>, shared: &Arc<Shared>) {
    let proposals = Arc::clone(&shared.proposals);
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(EXPIRE_INTERVAL).await;
            proposals.expire();
        }
    });
    let shared = Arc::clone(shared);
    tasks.spawn(async move { shared.users.sweep().await });
}

/// The members of a new cluster, as they are recorded; none for one that joins.
fn founders(config: &Config, origin: &Origin, shared: &Shared) -> Vec<Member> {
    if origin.joined {
        return Vec::new();
    }
    if origin.members.is_empty() {
        // A directory from before it remembered them.
        return vec![own_record(config, shared)];
    }
    origin.members.iter().cloned().map(Member::from).collect()
}

/// This member, as its flags describe it.
fn own_record(config: &Config, shared: &Shared) -> Member {
    Member {
        id: shared.member_id.get(),
        name: config.name.clone(),
        peer_ur_ls: config.initial_advertise_peer_urls.clone(),
        ..Member::default()
    }
}
