//! What a member needs to run, checked once.
//!
//! [`flags`](crate::flags) holds what a user typed; [`Config::check`] is the door between the two, with etcd's messages.

mod discovery;
mod retention;
mod security;

use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;

use crate::error::{Error, Result};
use crate::url::Url;

pub use discovery::{Discovery, Registry};
pub use retention::AutoCompaction;
pub(crate) use retention::Retention;
pub use security::{ClientTls, PeerTls};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, as etcd writes them.
    Json,
    /// Tab-separated, for people.
    Console,
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error; also what `default` means.
    Stderr,
    /// Standard output.
    Stdout,
}

/// Whether the cluster of a new member is new, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// It is founded by the members of the initial cluster.
    New,
    /// It runs, and the member has been added to it.
    Existing,
}

/// Everything a [`Server`](crate::Server) is started with. [`Config::default`] is etcd without flags.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// Where everything is kept; `NAME.etcd` if the user named nothing.
    pub data_dir: PathBuf,
    /// URLs to serve clients on; port 0 takes a free one.
    pub listen_client_urls: Vec<String>,
    /// URLs that clients are told to use.
    pub advertise_client_urls: Vec<String>,
    /// URLs to serve other members on.
    pub listen_peer_urls: Vec<String>,
    /// URLs that other members are told to use; the member's id is made of them.
    pub initial_advertise_peer_urls: Vec<String>,
    /// `name=url` of every initial member, separated by commas; empty if they are to be discovered.
    pub initial_cluster: String,
    /// Whether these found the cluster, or one joins it.
    pub initial_cluster_state: ClusterState,
    /// Keeps clusters with the same URLs apart.
    pub initial_cluster_token: String,
    /// Where its members learn of each other instead.
    pub discovery: Discovery,
    /// Whether this member becomes the only one of its cluster, whatever the membership was.
    pub force_new_cluster: bool,
    /// TLS towards clients.
    pub client_tls: ClientTls,
    /// TLS among members.
    pub peer_tls: PeerTls,
    /// For how many years certificates are valid that the member makes itself.
    pub self_signed_cert_validity: u32,
    /// How often a leader tells the others that it is there.
    pub heartbeat_interval: Duration,
    /// How long a follower waits for that before it stands for election.
    pub election_timeout: Duration,
    /// Entries between two snapshots of the state, after which the log is cut.
    pub snapshot_count: u64,
    /// Ask whether an election could be won before calling it.
    pub pre_vote: bool,
    /// Entries that the log keeps behind a snapshot, so that a member that is a little behind needs none.
    pub snapshot_catchup_entries: u64,
    /// Live bytes above which puts are refused; `None` for no limit.
    pub quota_backend_bytes: Option<u64>,
    /// Whether NOSPACE ends by itself when there is room in the quota again.
    pub quota_auto_disarm: bool,
    /// How often a leader looks whether a downgrade is over; zero for never.
    pub downgrade_check_time: Duration,
    /// Largest request, in bytes.
    pub max_request_bytes: usize,
    /// Bytes that large answers may take up together while they are made and sent; more of them wait.
    pub answer_bytes_max: usize,
    /// Most compares, and most operations of each branch, of a transaction.
    pub max_txn_ops: usize,
    /// Most streams a client may have open on one connection.
    pub max_concurrent_streams: u32,
    /// How long a client with calls must leave between two pings; zero for five minutes.
    pub grpc_keepalive_min_time: Duration,
    /// How long a connection is idle before the server asks whether the client is still there.
    pub grpc_keepalive_interval: Duration,
    /// How long the server waits for the answer.
    pub grpc_keepalive_timeout: Duration,
    /// How often watchers that asked for it hear how far they are, when nothing else is sent.
    pub watch_progress_notify_interval: Duration,
    /// What history is compacted without being asked to.
    pub auto_compaction: AutoCompaction,
    /// Records a compaction looks at between two pauses.
    pub compaction_batch_limit: usize,
    /// The pause.
    pub compaction_sleep_interval: Duration,
    /// Memory for cached blocks of the state, in bytes.
    pub cache_bytes: usize,
    /// Refuse changes of the members that would leave too few that work.
    pub strict_reconfig_check: bool,
    /// Most learners there may be.
    pub max_learners: usize,
    /// Which tokens users get: `simple`, `jwt` with its options, or nothing for none.
    pub auth_token: String,
    /// How long a simple token lives after its last use.
    pub auth_token_ttl: Duration,
    /// How hard bcrypt works, 4 to 31; anything else means 10.
    pub bcrypt_cost: u32,
    /// How often a leader compares the hashes of all members; zero for never.
    pub corrupt_check_time: Duration,
    /// Compare with the other members at a restart, before serving.
    pub initial_corrupt_check: bool,
    /// Compare the hashes that compactions take.
    pub compact_hash_check: bool,
    /// How often.
    pub compact_hash_check_time: Duration,
    /// Tell gRPC's health service that this member does not serve while it defragments.
    pub stop_grpc_service_on_defrag: bool,
    /// Describe the gRPC services to whoever asks.
    pub enable_grpc_reflection: bool,
    /// Applying a batch of entries that takes longer is logged.
    pub warning_apply_duration: Duration,
    /// A unary call that takes longer is logged.
    pub warning_unary_request_duration: Duration,
    /// URLs to serve `/metrics` and `/health` on, beside the client port.
    pub listen_metrics_urls: Vec<String>,
    /// Lowest level that is logged.
    pub log_level: LevelFilter,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Where log lines go.
    pub log_output: LogOutput,
}

/// etcd's default quota, 2 GiB.
pub(crate) const QUOTA_BYTES_DEFAULT: u64 = 2 * 1024 * 1024 * 1024;

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            data_dir: PathBuf::from("default.etcd"),
            listen_client_urls: vec!["http://localhost:2379".to_owned()],
            advertise_client_urls: vec!["http://localhost:2379".to_owned()],
            listen_peer_urls: vec!["http://localhost:2380".to_owned()],
            initial_advertise_peer_urls: vec!["http://localhost:2380".to_owned()],
            initial_cluster: "default=http://localhost:2380".to_owned(),
            initial_cluster_state: ClusterState::New,
            initial_cluster_token: "etcd-cluster".to_owned(),
            discovery: Discovery::default(),
            force_new_cluster: false,
            client_tls: ClientTls::default(),
            peer_tls: PeerTls::default(),
            self_signed_cert_validity: 1,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            snapshot_count: 10_000,
            pre_vote: true,
            snapshot_catchup_entries: 5000,
            quota_backend_bytes: Some(QUOTA_BYTES_DEFAULT),
            quota_auto_disarm: true,
            downgrade_check_time: Duration::from_secs(5),
            max_request_bytes: 1_572_864,
            answer_bytes_max: 256 * 1024 * 1024,
            max_txn_ops: 128,
            max_concurrent_streams: u32::MAX,
            grpc_keepalive_min_time: Duration::from_secs(5),
            grpc_keepalive_interval: Duration::from_secs(2 * 60 * 60),
            grpc_keepalive_timeout: Duration::from_secs(20),
            watch_progress_notify_interval: Duration::from_secs(10 * 60),
            auto_compaction: AutoCompaction::default(),
            compaction_batch_limit: 1000,
            compaction_sleep_interval: Duration::from_millis(10),
            cache_bytes: 32 * 1024 * 1024,
            strict_reconfig_check: true,
            max_learners: 1,
            auth_token: "simple".to_owned(),
            auth_token_ttl: Duration::from_secs(300),
            bcrypt_cost: ::auth::DEFAULT_BCRYPT_COST,
            corrupt_check_time: Duration::ZERO,
            initial_corrupt_check: false,
            compact_hash_check: false,
            compact_hash_check_time: Duration::from_secs(60),
            stop_grpc_service_on_defrag: false,
            enable_grpc_reflection: false,
            warning_apply_duration: Duration::from_millis(100),
            warning_unary_request_duration: Duration::from_millis(300),
            listen_metrics_urls: Vec::new(),
            log_level: LevelFilter::INFO,
            log_format: LogFormat::Json,
            log_output: LogOutput::Stderr,
        }
    }
}

impl Config {
    /// Refuses what cannot work, in etcd's words.
    ///
    /// # Errors
    /// [`Error::Config`] with the text etcd prints for the first thing that is wrong.
    pub fn check(&self) -> Result<()> {
        self.check_urls()?;
        self.discovery.check(!self.initial_cluster.is_empty())?;
        self.client_tls.check()?;
        self.peer_tls.check()?;
        self.auto_compaction.retention()?;
        let (heartbeat, election) = (self.heartbeat_interval.as_millis(), self.election_timeout.as_millis());
        if heartbeat == 0 {
            return Err(Error::config("--heartbeat-interval must be >0 (set to 0ms)"));
        }
        if election == 0 {
            return Err(Error::config("--election-timeout must be >0 (set to 0ms)"));
        }
        if 5 * heartbeat > election {
            return Err(Error::config(format!(
                "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
            )));
        }
        if election > 50_000 {
            return Err(Error::config(format!(
                "--election-timeout[{election}ms] is too long, and should be set less than 50000ms"
            )));
        }
        Ok(())
    }

    fn check_urls(&self) -> Result<()> {
        let listened = [&self.listen_peer_urls, &self.listen_client_urls];
        // There need not be any of these.
        for urls in
            listened.into_iter().chain(Some(&self.listen_metrics_urls).filter(|urls| !urls.is_empty()))
        {
            for url in parsed(urls)? {
                url.check_bind().map_err(Error::Config)?;
            }
        }
        for url in parsed(&self.initial_advertise_peer_urls)? {
            url.check_advertised().map_err(|why| {
                let urls = self.initial_advertise_peer_urls.join(",");
                Error::Config(format!("--initial-advertise-peer-urls {urls:?} must be \"host:port\" ({why})"))
            })?;
        }
        for url in parsed(&self.advertise_client_urls)? {
            url.check_advertised().map_err(|why| {
                let urls = self.advertise_client_urls.join(",");
                Error::Config(format!(
                    "--advertise-client-urls {urls:?} must be in the format \"host:port\", \
                     \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({why})"
                ))
            })?;
        }
        Ok(())
    }

    /// How long a request may take on the server: five seconds and two elections.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// Shortest lease, in whole seconds: one and a half elections.
    pub(crate) fn min_lease_ttl(&self) -> i64 {
        let ticks = self.election_timeout.as_millis() / self.heartbeat_interval.as_millis().max(1);
        let millis = 3 * ticks / 2 * self.heartbeat_interval.as_millis();
        i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX)
    }
}

fn parsed(urls: &[String]) -> Result<Vec<Url>> {
    Url::parse_list(urls.iter().map(String::as_str)).map_err(Error::Config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edit: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        edit(&mut config);
        config.check().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_defaults_are_those_of_etcd_and_pass() {
        assert_eq!(check(|_| {}), "");
        assert_eq!(Config::default().min_lease_ttl(), 2);
        assert_eq!(Config::default().request_timeout(), Duration::from_secs(7));
    }

    #[test]
    fn refusals_use_etcds_words() {
        assert_eq!(
            check(|c| c.heartbeat_interval = Duration::from_millis(300)),
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]"
        );
        assert_eq!(
            check(|c| c.election_timeout = Duration::from_secs(60)),
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms"
        );
        assert_eq!(
            check(|c| c.listen_client_urls = vec!["http://example.org:1".to_owned()]),
            "expected IP in URL for binding (http://example.org:1)"
        );
        assert_eq!(
            check(|c| c.listen_peer_urls = vec!["http://127.0.0.1:1/".to_owned()]),
            "URL must not contain a path: http://127.0.0.1:1/"
        );
        assert_eq!(
            check(|c| c.initial_advertise_peer_urls = vec!["http://:1".to_owned()]),
            "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" (unexpected empty host (http://:1))"
        );
        assert_eq!(
            check(|c| c.advertise_client_urls = vec!["http://:1".to_owned()]),
            "--advertise-client-urls \"http://:1\" must be in the format \"host:port\", \"unix:/path/to/socket\" or \
             \"unixs:/path/to/socket\" (unexpected empty host (http://:1))"
        );
    }
}
