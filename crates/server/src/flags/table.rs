//! The flags, one table: name, kind, default as shown, help, and what a value does to the [`Config`].

use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;

use super::value::{boolean, duration, number, urls};
use crate::config::{ClusterState, Config, LogFormat, LogOutput, QUOTA_BYTES_DEFAULT};

/// How a flag's text changes the configuration.
pub(super) type Set = fn(&mut Config, &str) -> Result<(), String>;

/// A flag, which is also a variable and a key of the configuration file.
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    pub(super) help: &'static str,
    pub(super) set: Set,
}

/// How a value is written: the same on the command line and in a variable, but not in the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// URLs separated by commas, in the file, too.
    Urls,
    /// Texts separated by commas; a list in the file.
    List,
    /// An integer, of the type that etcd's complaints name.
    Number(&'static str),
    /// On or off; on the command line, naming it is enough.
    Switch,
    /// A duration in Go's notation; nanoseconds in the file.
    Duration,
}

pub(super) const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
    set: Set,
) -> Flag {
    Flag { name, kind, default, help, set }
}

/// Every flag there is.
pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    let rest = super::discovery::FLAGS.iter().chain(super::tls::FLAGS).chain(super::cluster::FLAGS);
    let rest = rest.chain(super::house::FLAGS).chain(super::unneeded::FLAGS).chain(super::auth::FLAGS);
    FLAGS.iter().chain(rest)
}

const FLAGS: &[Flag] = &[
    flag("name", Kind::Text, "default", "Human-readable name for this member.", |c, v| {
        v.clone_into(&mut c.name);
        Ok(())
    }),
    flag("data-dir", Kind::Text, "", "Path to the data directory [NAME.etcd].", |c, v| {
        c.data_dir = PathBuf::from(v);
        Ok(())
    }),
    flag(
        "listen-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "List of URLs to listen on for client traffic; port 0 takes a free one.",
        |c, v| {
            c.listen_client_urls = urls(v)?;
            Ok(())
        },
    ),
    flag(
        "advertise-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "List of this member's client URLs to advertise to the public.",
        |c, v| {
            c.advertise_client_urls = urls(v)?;
            Ok(())
        },
    ),
    flag(
        "listen-peer-urls",
        Kind::Urls,
        "http://localhost:2380",
        "List of URLs to listen on for peer traffic.",
        |c, v| {
            c.listen_peer_urls = urls(v)?;
            Ok(())
        },
    ),
    flag(
        "initial-advertise-peer-urls",
        Kind::Urls,
        "http://localhost:2380",
        "List of this member's peer URLs to advertise to the rest of the cluster.",
        |c, v| {
            c.initial_advertise_peer_urls = urls(v)?;
            Ok(())
        },
    ),
    flag(
        "initial-cluster",
        Kind::Text,
        "default=http://localhost:2380",
        "Initial cluster configuration for bootstrapping: NAME=URL of each member, separated by commas.",
        |c, v| {
            v.clone_into(&mut c.initial_cluster);
            Ok(())
        },
    ),
    flag(
        "initial-cluster-state",
        Kind::Text,
        "new",
        "Initial cluster state ('new' or 'existing').",
        |c, v| {
            c.initial_cluster_state = match v {
                "new" => ClusterState::New,
                "existing" => ClusterState::Existing,
                _ => return Err("invalid value \"".to_owned() + v + "\""),
            };
            Ok(())
        },
    ),
    flag(
        "initial-cluster-token",
        Kind::Text,
        "etcd-cluster",
        "Initial cluster token for the etcd cluster during bootstrap.",
        |c, v| {
            v.clone_into(&mut c.initial_cluster_token);
            Ok(())
        },
    ),
    flag(
        "heartbeat-interval",
        Kind::Number("uint"),
        "100",
        "Time (in milliseconds) of a heartbeat interval.",
        |c, v| {
            c.heartbeat_interval = Duration::from_millis(number(v)?);
            Ok(())
        },
    ),
    flag(
        "election-timeout",
        Kind::Number("uint"),
        "1000",
        "Time (in milliseconds) for an election to timeout.",
        |c, v| {
            c.election_timeout = Duration::from_millis(number(v)?);
            Ok(())
        },
    ),
    flag(
        "snapshot-count",
        Kind::Number("uint64"),
        "10000",
        "Number of committed transactions to trigger a snapshot to disk.",
        |c, v| {
            let count: u64 = number(v)?;
            c.snapshot_count = if count == 0 { 10_000 } else { count };
            Ok(())
        },
    ),
    flag(
        "snapshot-catchup-entries",
        Kind::Number("uint64"),
        "5000",
        "Number of entries for a slow follower to catch up after compacting the raft log.",
        |c, v| {
            let count: u64 = number(v)?;
            c.snapshot_catchup_entries = if count == 0 { 5000 } else { count };
            Ok(())
        },
    ),
    flag(
        "quota-backend-bytes",
        Kind::Number("int64"),
        "0",
        "Raise alarms when live data exceeds this many bytes (0: 2 GiB, negative: no quota).",
        |c, v| {
            let bytes: i64 = number(v)?;
            c.quota_backend_bytes = match u64::try_from(bytes) {
                Ok(0) => Some(QUOTA_BYTES_DEFAULT),
                Ok(bytes) => Some(bytes),
                Err(_) => None,
            };
            Ok(())
        },
    ),
    flag(
        "max-request-bytes",
        Kind::Number("uint"),
        "1572864",
        "Maximum client request size in bytes the server will accept.",
        |c, v| {
            c.max_request_bytes = number(v)?;
            Ok(())
        },
    ),
    flag(
        "max-txn-ops",
        Kind::Number("uint"),
        "128",
        "Maximum number of compares, and of operations of a branch, in a transaction.",
        |c, v| {
            c.max_txn_ops = number(v)?;
            Ok(())
        },
    ),
    flag(
        "max-concurrent-streams",
        Kind::Number("uint32"),
        "4294967295",
        "Maximum concurrent streams that each client can open at a time.",
        |c, v| {
            c.max_concurrent_streams = number(v)?;
            Ok(())
        },
    ),
    flag(
        "grpc-keepalive-interval",
        Kind::Duration,
        "2h0m0s",
        "Frequency of server-to-client pings to check if a connection is alive (0 to disable).",
        |c, v| {
            c.grpc_keepalive_interval = duration(v)?;
            Ok(())
        },
    ),
    flag(
        "grpc-keepalive-timeout",
        Kind::Duration,
        "20s",
        "Additional duration of wait before closing a non-responsive connection (0 to disable).",
        |c, v| {
            c.grpc_keepalive_timeout = duration(v)?;
            Ok(())
        },
    ),
    flag(
        "enable-grpc-reflection",
        Kind::Switch,
        "false",
        "Describe the gRPC services to clients that ask (server reflection).",
        |c, v| {
            c.enable_grpc_reflection = boolean(v)?;
            Ok(())
        },
    ),
    flag(
        "watch-progress-notify-interval",
        Kind::Duration,
        "0s",
        "Interval of periodic watch progress notifications (0: 10m, at least 100ms).",
        |c, v| {
            let interval = duration(v)?;
            c.watch_progress_notify_interval = if interval.is_zero() {
                Duration::from_secs(600)
            } else {
                interval.max(Duration::from_millis(100))
            };
            Ok(())
        },
    ),
    flag(
        "compaction-batch-limit",
        Kind::Number("int"),
        "0",
        "Maximum revisions deleted in each compaction batch (0: 1000).",
        |c, v| {
            let limit: usize = number(v)?;
            c.compaction_batch_limit = if limit == 0 { 1000 } else { limit };
            Ok(())
        },
    ),
    flag(
        "compaction-sleep-interval",
        Kind::Duration,
        "0s",
        "Sleep interval between compaction batches (0: 10ms).",
        |c, v| {
            let pause = duration(v)?;
            c.compaction_sleep_interval = if pause.is_zero() { Duration::from_millis(10) } else { pause };
            Ok(())
        },
    ),
    flag(
        "backend-cache-bytes",
        Kind::Number("uint"),
        "33554432",
        "Memory for cached blocks of the state, in bytes (etcd-rs's own).",
        |c, v| {
            c.cache_bytes = number(v)?;
            Ok(())
        },
    ),
    flag("logger", Kind::Text, "zap", "Only 'zap', etcd's name for structured lines, is known.", |_, v| {
        if v == "zap" { Ok(()) } else { Err(format!("unknown logger option {v:?}")) }
    }),
    flag("log-outputs", Kind::List, "default", "'default', 'stderr' or 'stdout'.", |c, v| {
        c.log_output = match v {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            _ => return Err(format!("log output {v:?} is not supported by this version")),
        };
        Ok(())
    }),
    flag(
        "log-level",
        Kind::Text,
        "info",
        "Only supports debug, info, warn, error, panic, or fatal.",
        |c, v| {
            c.log_level = match v {
                "debug" => LevelFilter::DEBUG,
                "info" => LevelFilter::INFO,
                "warn" => LevelFilter::WARN,
                "error" | "dpanic" | "panic" | "fatal" => LevelFilter::ERROR,
                _ => return Err(format!("unrecognized level: {v:?}")),
            };
            Ok(())
        },
    ),
    flag("log-format", Kind::Text, "json", "Configures log format; 'json' or 'console'.", |c, v| {
        c.log_format = match v {
            "json" => LogFormat::Json,
            "console" => LogFormat::Console,
            _ => return Err(format!("unknown log format: {v}, supported values json, console")),
        };
        Ok(())
    }),
    flag(
        "force-new-cluster",
        Kind::Switch,
        "false",
        "Make this member the only one of its cluster, when the others are lost for good.",
        |c, v| {
            c.force_new_cluster = boolean(v)?;
            Ok(())
        },
    ),
];
