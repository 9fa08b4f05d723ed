//! A member under test, of any kind, and the clients that speak to it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use api::etcdserverpb::{
    cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient,
};
use api::health::health_client::HealthClient;
use api::v3electionpb::election_client::ElectionClient;
use api::v3lockpb::lock_client::LockClient;
use server::Server;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::{Target, eventually, ports, programs, real_etcd};

const DEFAULT_PEER_URL: &str = "http://localhost:2380";

/// One question whether a member serves takes no longer; without a leader it would wait for one.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// What a member is started with beyond its addresses and its data.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `--quota-backend-bytes`, if it is to be set.
    pub quota_backend_bytes: Option<u32>,
    /// How often watches that ask for it are told how far they are; newer versions only.
    pub progress_interval: Option<Duration>,
    /// Whether other members are told etcd's default peer URL, from which the well-known ids follow.
    pub default_peer_url: bool,
}

/// What sets a member apart from the others of its cluster.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) client_url: String,
    pub(crate) listen_peer_url: String,
    /// What the other members are told, which need not be where it listens.
    pub(crate) peer_url: String,
    /// Every member, as `--initial-cluster` has them.
    pub(crate) initial_cluster: String,
    /// Whether the cluster is there already, and this member joins it.
    pub(crate) joins: bool,
    /// More flags for the program.
    pub(crate) flags: Vec<String>,
    /// A program with arguments that runs the member's own, if it needs surroundings of its own.
    pub(crate) inside: Vec<String>,
    /// Its log is looked after by the cluster when a test fails.
    pub(crate) in_cluster: bool,
    /// Where its data goes, if not beside its log.
    pub(crate) data_dir: Option<PathBuf>,
}

impl Place {
    /// The one member of its cluster.
    fn alone(default_peer_url: bool) -> Self {
        let listen_peer_url = format!("http://127.0.0.1:{}", ports::free());
        let peer_url = if default_peer_url { DEFAULT_PEER_URL.to_owned() } else { listen_peer_url.clone() };
        Self {
            name: "default".to_owned(),
            client_url: format!("http://127.0.0.1:{}", ports::free()),
            listen_peer_url,
            initial_cluster: format!("default={peer_url}"),
            peer_url,
            joins: false,
            flags: Vec::new(),
            inside: Vec::new(),
            in_cluster: false,
            data_dir: None,
        }
    }
}

/// Where a member runs.
#[derive(Debug)]
enum Running {
    Nowhere,
    Here(Box<Server>),
    Process(Child),
}

/// A running member. It is killed, and its data removed, when this goes out of scope.
#[derive(Debug)]
pub struct Member {
    target: Target,
    settings: Settings,
    directory: TempDir,
    place: Place,
    running: Running,
    channel: Channel,
}

impl Member {
    /// Starts a fresh member and waits until it serves.
    pub async fn start(target: Target) -> Self {
        Self::start_with(target, Settings::default()).await
    }

    /// The same, with settings.
    ///
    /// # Panics
    /// When it does not come to serve.
    pub async fn start_with(target: Target, settings: Settings) -> Self {
        let place = Place::alone(settings.default_peer_url);
        let mut member = Self::placed(target, settings, place);
        member.launch().await;
        member
    }

    /// A fresh member that does not run, whose data comes from a snapshot by the command line of its kind, which is given
    /// `flags` as well. How that ended comes with it.
    ///
    /// # Panics
    /// When the command cannot be run.
    pub fn restored(target: Target, snapshot: &Path, flags: &[&str]) -> (Self, Output) {
        let member = Self::placed(target, Settings::default(), Place::alone(false));
        let program = match target {
            Target::Real => real_etcd().join("etcdctl"),
            Target::InProcess | Target::Binary => programs().ctl.clone(),
        };
        let place = &member.place;
        let output = Command::new(program)
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore"])
            .arg(snapshot)
            .arg("--data-dir")
            .arg(member.data_dir())
            .args(["--name", &place.name, "--initial-cluster", &place.initial_cluster])
            .args(["--initial-advertise-peer-urls", &place.peer_url])
            .args(flags)
            .output()
            .expect("the client can be run");
        (member, output)
    }

    /// A member that is yet to be started.
    pub(crate) fn placed(target: Target, settings: Settings, place: Place) -> Self {
        Self {
            target,
            settings,
            directory: TempDir::with_prefix("etcd-e2e-").expect("a temporary directory can be made"),
            channel: connection(&place.client_url),
            place,
            running: Running::Nowhere,
        }
    }

    /// Starts on whatever data is there and waits until it serves.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn launch(&mut self) {
        self.begin().await;
        self.serves().await;
    }

    /// Starts on whatever data is there, and does not wait.
    pub(crate) async fn begin(&mut self) {
        self.running = match self.target {
            Target::InProcess => Running::Here(Box::new(Box::pin(self.start_here()).await)),
            Target::Binary => Running::Process(self.spawn(&programs().server)),
            Target::Real => Running::Process(self.spawn(&real_etcd().join("etcd"))),
        };
        // The old connection may have been to the process before.
        self.channel = connection(&self.place.client_url);
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn serves(&mut self) {
        eventually("a member that serves", async || {
            if let Some(status) = self.ended() {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                panic!("the member ended with {status}:\n{log}");
            }
            let probe = api::etcdserverpb::RangeRequest { key: "probe".into(), ..Default::default() };
            let answer = tokio::time::timeout(PROBE_LIMIT, self.kv().range(probe)).await;
            match answer.ok()? {
                // Authentication is on, and whoever asks so is nobody.
                Err(status) if status.message() == "etcdserver: user name is empty" => Some(()),
                answer => answer.ok().map(drop),
            }
        })
        .await;
    }

    /// How its process ended, if it has.
    ///
    /// # Panics
    /// When the kernel does not know it.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let Running::Process(process) = &mut self.running else { return None };
        process.try_wait().expect("it is our child")
    }

    fn flags(&self) -> Vec<String> {
        let mut flags: Vec<String> = [
            ("--name", &*self.place.name),
            ("--data-dir", &self.data_dir().to_string_lossy()),
            ("--listen-client-urls", &self.place.client_url),
            ("--advertise-client-urls", &self.place.client_url),
            ("--listen-peer-urls", &self.place.listen_peer_url),
            ("--initial-advertise-peer-urls", &self.place.peer_url),
            ("--initial-cluster", &self.place.initial_cluster),
            ("--initial-cluster-state", if self.place.joins { "existing" } else { "new" }),
        ]
        .iter()
        .map(|(flag, value)| format!("{flag}={value}"))
        .collect();
        flags.extend(self.settings.progress_interval.map(progress_flag));
        flags.extend(self.settings.quota_backend_bytes.map(|bytes| format!("--quota-backend-bytes={bytes}")));
        flags.extend_from_slice(&self.place.flags);
        flags
    }

    async fn start_here(&self) -> Server {
        let mut config = server::Config {
            name: self.place.name.clone(),
            data_dir: self.data_dir(),
            listen_client_urls: vec![self.place.client_url.clone()],
            advertise_client_urls: vec![self.place.client_url.clone()],
            listen_peer_urls: vec![self.place.listen_peer_url.clone()],
            initial_advertise_peer_urls: vec![self.place.peer_url.clone()],
            initial_cluster: self.place.initial_cluster.clone(),
            ..server::Config::default()
        };
        if let Some(bytes) = self.settings.quota_backend_bytes {
            config.quota_backend_bytes = Some(bytes.into());
        }
        if let Some(interval) = self.settings.progress_interval {
            config.watch_progress_notify_interval = interval;
        }
        Server::start(config).await.expect("a member that starts")
    }

    fn spawn(&self, program: &Path) -> Child {
        let log = File::options().create(true).append(true).open(self.log()).expect("the log can be opened");
        let mut words = self.place.inside.iter().map(OsStr::new).chain([program.as_os_str()]);
        Command::new(words.next().expect("the program at least"))
            .args(words)
            .args(self.flags())
            // What concerns the tests does not concern the server.
            .env_remove("ETCD_REAL")
            .env_remove("ETCD_RS_BIN")
            .env_remove("ETCD_RS_SEED")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be copied"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {}: {error}", program.display()))
    }

    /// Kills the process as a power failure would, but for what the kernel still holds.
    ///
    /// # Panics
    /// When it has no process of its own.
    pub fn kill(&mut self) {
        match std::mem::replace(&mut self.running, Running::Nowhere) {
            Running::Process(mut process) => {
                // Killing fails only if it has ended already, which is as good.
                drop(process.kill());
                drop(process.wait());
            }
            Running::Here(_) => panic!("a member in this process cannot be killed alone"),
            Running::Nowhere => {}
        }
    }

    /// Removes the data of a member that does not run.
    ///
    /// # Panics
    /// When it runs, or the data cannot be removed.
    pub fn wipe(&self) {
        assert!(matches!(self.running, Running::Nowhere), "a running member has open files");
        fs::remove_dir_all(self.data_dir()).expect("the data can be removed");
    }

    /// Stops it as a signal does and returns how the process ended, if it has one of its own.
    ///
    /// # Panics
    /// When it does not stop.
    pub async fn stop(&mut self, signal: &str) -> Option<ExitStatus> {
        match std::mem::replace(&mut self.running, Running::Nowhere) {
            Running::Process(mut process) => {
                send_signal(process.id(), signal);
                let ended = async || process.try_wait().expect("it is our child");
                Some(eventually("a stopped member", ended).await)
            }
            Running::Here(server) => {
                server.shutdown().await.expect("a member that stops without an error");
                None
            }
            Running::Nowhere => panic!("only a running member can be stopped"),
        }
    }

    /// Sends its process a signal, as `STOP` or `CONT`.
    ///
    /// # Panics
    /// When it has no process of its own, or the process is gone.
    pub fn signal(&self, signal: &str) {
        send_signal(self.process().expect("a process of its own"), signal);
    }

    /// The number of its process, if it has one of its own.
    pub fn process(&self) -> Option<u32> {
        match &self.running {
            Running::Process(process) => Some(process.id()),
            Running::Here(_) | Running::Nowhere => None,
        }
    }

    /// What kind it is.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Where its clients connect, as `http://HOST:PORT`.
    pub fn client_url(&self) -> &str {
        &self.place.client_url
    }

    /// What its cluster calls it.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Where the other members reach it.
    pub fn peer_url(&self) -> &str {
        &self.place.peer_url
    }

    pub(crate) fn place_mut(&mut self) -> &mut Place {
        &mut self.place
    }

    /// The directory its data is in.
    pub fn data_dir(&self) -> PathBuf {
        self.place.data_dir.clone().unwrap_or_else(|| self.directory.path().join("data"))
    }

    /// A directory that lives as long as the member, for whatever a test needs.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// Where what it prints goes.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// How much memory its process holds, if it has one of its own.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn resident_bytes(&self) -> Option<u64> {
        let pid = self.process()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes << 10)
    }

    /// The connection that its clients share.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A client of `etcdserverpb.KV`.
    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel()).max_decoding_message_size(usize::MAX)
    }

    /// A client of `etcdserverpb.Watch`.
    pub fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel()).max_decoding_message_size(usize::MAX)
    }

    /// A client of `etcdserverpb.Lease`.
    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel())
    }

    /// A client of `etcdserverpb.Cluster`.
    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel())
    }

    /// A client of `etcdserverpb.Maintenance`.
    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel())
    }

    /// A client of `v3electionpb.Election`.
    pub fn election(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.channel())
    }

    /// A client of `v3lockpb.Lock`.
    pub fn locks(&self) -> LockClient<Channel> {
        LockClient::new(self.channel())
    }

    /// A client of `grpc.health.v1.Health`.
    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.running, Running::Nowhere) {
            Running::Process(mut process) => {
                drop(process.kill());
                drop(process.wait());
            }
            // It has threads and open files; a failed test leaves them to the end of the process.
            Running::Here(server) if !std::thread::panicking() => {
                let handle = tokio::runtime::Handle::current();
                drop(tokio::task::block_in_place(|| handle.block_on(server.shutdown())));
            }
            Running::Here(_) => {}
            Running::Nowhere => {}
        }
        if std::thread::panicking() && !self.place.in_cluster {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let from = log.len().saturating_sub(4000);
            let tail = log.get(from..).unwrap_or(&log);
            // The test has failed; what the member said last is the first thing one wants to see.
            #[expect(clippy::print_stderr, reason = "shown only with a failed test")]
            {
                eprintln!("--- the end of the {:?} member's log\n{tail}", self.target);
            }
        }
    }
}

fn connection(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned()).expect("a well-formed URL").connect_lazy()
}

fn send_signal(pid: u32, signal: &str) {
    let pid = pid.to_string();
    let sent = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill can be run");
    assert!(sent.success(), "kill -s {signal} {pid} failed");
}

fn progress_flag(interval: Duration) -> String {
    format!("--watch-progress-notify-interval={}ms", interval.as_millis())
}
