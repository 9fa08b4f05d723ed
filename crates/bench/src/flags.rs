//! What the user typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures etcd-rs beside a real etcd, by turns, on this machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "etcd-rs-bench", version)]
pub(crate) struct Flags {
    /// The etcd-rs to measure.
    #[arg(long, value_name = "PATH", default_value = "target/release/etcd-rs")]
    pub(crate) server: PathBuf,
    /// The etcd to compare with; by default the one that scripts/real-etcd unpacks, or $ETCD_REAL/etcd.
    #[arg(long, value_name = "PATH")]
    pub(crate) peer: Option<PathBuf>,
    /// Measure only one of the two.
    #[arg(long, value_enum)]
    pub(crate) alone: Option<Side>,
    /// Only these loads.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<LoadName>,
    /// Keys of the big load; 1,000,000 if not given, 50,000 in a short look.
    #[arg(long)]
    keys: Option<u64>,
    /// How long each timed load runs.
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// How often the short loads are repeated, by turns; the median counts.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// A short look: 2 seconds a load, one round, 50,000 keys, a tenth of the leases.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Where the servers keep their data; a real disk, if the figures are to mean anything.
    #[arg(long, value_name = "DIR", default_value = "target/bench/data")]
    pub(crate) data: PathBuf,
    /// Where the table and the plots go.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub(crate) out: PathBuf,
}

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// This project's.
    Ours,
    /// The etcd beside it.
    Peer,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadName {
    /// Puts with 1, 200 and 1000 in flight.
    Put,
    /// Reads of one key, linearizable and serializable, with 1, 200 and 1000 in flight.
    Get,
    /// Compare-and-put transactions as Kubernetes sends them, with 1, 200 and 1000 in flight.
    Txn,
    /// A million keys: loading, counting, paging, compacting, restarting, memory.
    Keys,
    /// 1000 watchers of one prefix over 10 streams.
    Fanout,
    /// One serial writer and many watches on its key over 100 streams.
    Serial,
    /// 10,000 leases kept alive over 100 streams.
    KeepAlive,
    /// 20,000 leases that are due together.
    Expiry,
    /// Puts and reads through all members of a cluster of three.
    Cluster,
    /// Puts and reads with authentication on, each beside the same with it off.
    Auth,
}

impl Flags {
    /// Whether a load was asked for.
    pub(crate) fn wants(&self, load: LoadName) -> bool {
        self.only.is_empty() || self.only.contains(&load)
    }

    /// Whether any of these loads was asked for.
    pub(crate) fn wants_any(&self, loads: &[LoadName]) -> bool {
        loads.iter().any(|load| self.wants(*load))
    }

    /// Applies what `--quick` means, and gives this run a data directory that no other run uses.
    pub(crate) fn settled(mut self) -> Self {
        self.data.push(std::process::id().to_string());
        if self.quick {
            self.seconds = self.seconds.min(2);
            self.rounds = 1;
            self.keys.get_or_insert(50_000);
        }
        self
    }

    /// Keys of the big load.
    pub(crate) fn keys(&self) -> u64 {
        self.keys.unwrap_or(1_000_000)
    }

    /// How long a timed load runs.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// A number of things, a tenth of it in a short look.
    pub(crate) fn scaled(&self, number: usize) -> usize {
        if self.quick { number / 10 } else { number }
    }
}
