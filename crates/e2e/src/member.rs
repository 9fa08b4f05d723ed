//! A member under test, of any kind, and the clients that speak to it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use api::etcdserverpb::{
    cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient,
};
use api::health::health_client::HealthClient;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::{Target, eventually, ports, programs, real_etcd};

const DEFAULT_PEER_URL: &str = "http://localhost:2380";

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

/// A running member. It is killed, and its data removed, when this goes out of scope.
#[derive(Debug)]
pub struct Member {
    target: Target,
    settings: Settings,
    directory: TempDir,
    client_url: String,
    listen_peer_url: String,
    peer_url: String,
    process: Option<Child>,
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
        let client_url = format!("http://127.0.0.1:{}", ports::free());
        let listen_peer_url = format!("http://127.0.0.1:{}", ports::free());
        let peer_url =
            if settings.default_peer_url { DEFAULT_PEER_URL.to_owned() } else { listen_peer_url.clone() };
        let channel = Endpoint::from_shared(client_url.clone()).expect("a well-formed URL").connect_lazy();
        let directory = TempDir::with_prefix("etcd-e2e-").expect("a temporary directory can be made");
        let mut member = Self {
            target,
            settings,
            directory,
            client_url,
            listen_peer_url,
            peer_url,
            process: None,
            channel,
        };
        member.launch().await;
        member
    }

    /// Starts the process on whatever data is there and waits until it serves.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.log()).expect("the log can be opened");
        let program = match self.target {
            Target::Binary => programs().server.clone(),
            Target::Real => real_etcd().join("etcd"),
        };
        let process = Command::new(&program)
            .args(["--name", "default", "--data-dir"])
            .arg(self.data_dir())
            .args(["--listen-client-urls", &self.client_url, "--advertise-client-urls", &self.client_url])
            .args([
                "--listen-peer-urls",
                &self.listen_peer_url,
                "--initial-advertise-peer-urls",
                &self.peer_url,
            ])
            .args(["--initial-cluster", &format!("default={}", self.peer_url)])
            .args(self.settings.quota_backend_bytes.map(|bytes| format!("--quota-backend-bytes={bytes}")))
            .args(self.settings.progress_interval.map(progress_flag))
            // What concerns the tests does not concern the server.
            .env_remove("ETCD_REAL")
            .env_remove("ETCD_RS_BIN")
            .env_remove("ETCD_RS_SEED")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be copied"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {}: {error}", program.display()));
        self.process = Some(process);
        // The old connection may have been to the process before.
        self.channel =
            Endpoint::from_shared(self.client_url.clone()).expect("a well-formed URL").connect_lazy();
        eventually("a member that serves", async || {
            let ended =
                self.process.as_mut().and_then(|process| process.try_wait().expect("it is our child"));
            if let Some(status) = ended {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                panic!("{} ended with {status}:\n{log}", program.display());
            }
            let probe = api::etcdserverpb::RangeRequest { key: "probe".into(), ..Default::default() };
            self.kv().range(probe).await.ok()
        })
        .await;
    }

    /// Kills the process as a power failure would, but for what the kernel still holds.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Killing fails only if it has ended already, which is as good.
            drop(process.kill());
            drop(process.wait());
        }
    }

    /// Stops the process by a signal and returns how it ended.
    ///
    /// # Panics
    /// When it does not stop.
    pub async fn stop(&mut self, signal: &str) -> std::process::ExitStatus {
        let mut process = self.process.take().expect("only a running member can be stopped");
        let pid = process.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill can be run");
        assert!(sent.success(), "kill -s {signal} {pid} failed");
        eventually("a stopped member", async || process.try_wait().expect("it is our child")).await
    }

    /// What kind it is.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Where its clients connect, as `http://HOST:PORT`.
    pub fn client_url(&self) -> &str {
        &self.client_url
    }

    /// The directory its data is in.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
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
        let pid = self.process.as_ref()?.id();
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

    /// A client of `grpc.health.v1.Health`.
    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
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

fn progress_flag(interval: Duration) -> String {
    format!("--watch-progress-notify-interval={}ms", interval.as_millis())
}
