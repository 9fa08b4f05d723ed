//! What a node needs to know before it starts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::network::dial::{Answer, Dial, Tcp};

/// A member of the cluster, as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
}

/// Everything a [`Node`](crate::Node) needs to know. Start from [`Config::new`] and change what differs.
#[derive(Clone)]
pub struct Config {
    /// The id of this member; never reused in a cluster, not even after the member was removed.
    pub id: u64,
    /// The id of the cluster. A directory that belongs to another cluster or member is refused.
    pub cluster_id: u64,
    /// The directory of the log, created when missing. The log keeps to the subdirectories `log` and `snapshot`.
    pub dir: PathBuf,
    /// The voters of a new cluster, the same on each of them. It is used only when the log is empty;
    /// leave it empty for a member that joins an existing cluster.
    pub bootstrap: BTreeMap<u64, Member>,
    /// How often a leader that has nothing to say lets the others know that it is alive.
    pub heartbeat: Duration,
    /// How long a follower hears nothing from the leader before it calls an election, at least.
    pub election_timeout: Duration,
    /// Whether a member asks the others if they would vote for it before it calls an election, so that one that comes back after a
    /// while does not disturb a leader that works.
    pub pre_vote: bool,
    /// How many entries may be applied before the application is flushed and the log is shortened.
    pub snapshot_entries: u64,
    /// How many bytes of entries may be applied before the same happens, so that large entries do not make
    /// a log that takes long to read when the node opens.
    pub snapshot_bytes: u64,
    /// How many entries stay in the log behind the flushed position, for members that lag a little.
    pub keep_entries: u64,
    /// How many bytes of proposals may wait to be applied before further ones are refused.
    pub pending_bytes_max: u64,
    /// How many bytes of recent entries are kept in memory, so that neither applying nor sending them to
    /// other members reads the disk.
    pub cache_bytes: usize,
    /// How connections to other members are made; plain TCP unless told otherwise.
    pub dial: Arc<dyn Dial>,
    /// Who answers the calls of other members' applications, knows whom the cluster has removed, and compares states.
    pub answer: Option<Arc<dyn Answer>>,
    /// How long a proposal waits for a leader before it fails.
    pub proposal_timeout: Duration,
    /// Makes this member the only one of its cluster when it opens, whatever the membership was, with these bytes in the
    /// entry that does it. This is for a cluster whose majority is lost for good; entries that are not known to be committed
    /// are dropped. The other members must never be started again with their old data.
    pub force_new_cluster: Option<Bytes>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("id", &self.id)
            .field("cluster_id", &self.cluster_id)
            .field("dir", &self.dir)
            .field("bootstrap", &self.bootstrap)
            .field("heartbeat", &self.heartbeat)
            .field("election_timeout", &self.election_timeout)
            .field("dial", &self.dial)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// A configuration with the usual figures, for a member that does not found a cluster of its own.
    pub fn new(id: u64, cluster_id: u64, dir: impl Into<PathBuf>) -> Self {
        Self {
            id,
            cluster_id,
            dir: dir.into(),
            bootstrap: BTreeMap::new(),
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            pre_vote: true,
            snapshot_entries: 100_000,
            snapshot_bytes: 256 << 20,
            keep_entries: 5000,
            pending_bytes_max: 256 << 20,
            cache_bytes: 64 << 20,
            dial: Arc::new(Tcp),
            answer: None,
            proposal_timeout: Duration::from_secs(7),
            force_new_cluster: None,
        }
    }

    /// As [`new`](Self::new), for a cluster of this one member, founded when the log is empty.
    pub fn single(id: u64, cluster_id: u64, dir: impl Into<PathBuf>) -> Self {
        Self { bootstrap: BTreeMap::from([(id, Member::default())]), ..Self::new(id, cluster_id, dir) }
    }

    /// What openraft needs to know of it.
    pub(crate) fn openraft(&self) -> Result<openraft::Config> {
        let millis = |what: &str, duration: Duration| {
            u64::try_from(duration.as_millis())
                .ok()
                .filter(|millis| (1..=3_600_000).contains(millis))
                .ok_or_else(|| Error::Config(format!("{what} of {duration:?} is out of range")))
        };
        let heartbeat = millis("heartbeat", self.heartbeat)?;
        let election = millis("election timeout", self.election_timeout)?;
        // A follower campaigns after `max + rand(min..max)`: openraft adds its lease, which is `max`, to a
        // random timeout. So this waits between 1.2 and 2 times the election timeout, as etcd does from 1 to 2.
        let election_min = (election / 5).max(heartbeat + 1);
        if election_min >= election {
            return Err(Error::Config(format!(
                "an election timeout of {election} ms is too short for a heartbeat of {heartbeat} ms"
            )));
        }
        let config = openraft::Config {
            cluster_name: format!("{:x}", self.cluster_id),
            heartbeat_interval: heartbeat,
            election_timeout_min: election_min,
            election_timeout_max: election,
            enable_pre_vote: Some(self.pre_vote),
            enable_leader_restore: Some(false),
            // A leader that nobody answers is silent for so long, that others may be elected. Its last heartbeat may be sent
            // again for one election timeout of it; two others are what an election takes at most.
            quorum_loss_probe_interval: Some(3 * election),
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            replication_lag_threshold: self.snapshot_entries.saturating_mul(2).max(self.keep_entries + 1),
            max_in_snapshot_log_to_keep: self.keep_entries,
            purge_batch_size: 1024.min(self.snapshot_entries.max(1)),
            max_payload_entries: 4096,
            install_snapshot_timeout: 10 * 60 * 1000,
            ..Default::default()
        };
        config.validate().map_err(|error| Error::Config(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_configuration_is_valid() {
        let config = Config::single(1, 1, "unused").openraft().unwrap();
        assert_eq!((config.election_timeout_min, config.election_timeout_max), (200, 1000));
    }

    #[test]
    fn an_election_timeout_near_the_heartbeat_is_refused() {
        let mut config = Config::single(1, 1, "unused");
        config.election_timeout = Duration::from_millis(101);
        assert!(matches!(config.openraft(), Err(Error::Config(_))));
        config.election_timeout = Duration::MAX;
        assert!(matches!(config.openraft(), Err(Error::Config(_))));
    }
}
