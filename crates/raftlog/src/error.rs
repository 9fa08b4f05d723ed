//! What can go wrong.

use std::path::PathBuf;
use std::sync::Arc;

use crate::application::LogId;

/// The result of opening or stopping a node.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a node cannot open, or had to stop. It can be cloned, because everybody who waits for a node that
/// stops is told.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("invalid configuration: {0}")]
    Config(String),

    /// Another process, or another node of this one, has the directory open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },

    /// The directory was written by a newer version.
    #[error("{} has format {found}, and this version understands formats up to {supported}", path.display())]
    Format {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format this version understands.
        supported: u64,
    },

    /// The directory belongs to another member or another cluster.
    #[error(
        "{} belongs to member {found_id:x} of cluster {found_cluster:x}, not to member {id:x} of cluster {cluster:x}",
        path.display()
    )]
    Identity {
        /// The directory.
        path: PathBuf,
        /// The member it belongs to.
        found_id: u64,
        /// The cluster it belongs to.
        found_cluster: u64,
        /// The member that was configured.
        id: u64,
        /// The cluster that was configured.
        cluster: u64,
    },

    /// Bytes on disk are not what was written there.
    #[error("{} is corrupt at offset {offset}: {reason}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },

    /// The log contradicts itself; RocksDB's own message, which names the file, is part of the reason.
    #[error("the log in {} is damaged: {reason}", path.display())]
    Damaged {
        /// The directory of the log.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// The state is ahead of the log: entries that were durable are missing from the log.
    #[error("the log in {} ends at {}, but the state has applied {applied}: entries of the log are lost",
        path.display(), or_none(.last.as_ref()))]
    LogLost {
        /// The directory of the log.
        path: PathBuf,
        /// The last entry of the log.
        last: Option<LogId>,
        /// The last entry the state contains.
        applied: LogId,
    },

    /// The state is too old for the log: entries it needs were purged.
    #[error("the log in {} begins after {purged}, but the state has applied only {}: the state was lost",
        path.display(), or_none(.applied.as_ref()))]
    StateLost {
        /// The directory of the log.
        path: PathBuf,
        /// The last entry that was purged.
        purged: LogId,
        /// The last entry the state contains.
        applied: Option<LogId>,
    },

    /// Reading or writing the log failed. After a failed write or sync nothing more is written.
    #[error("{operation} in {} failed: {message}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The directory of the log.
        path: PathBuf,
        /// What the storage said.
        message: String,
    },

    /// The application failed.
    #[error("{operation} failed: {source}")]
    Application {
        /// What the application was asked to do.
        operation: &'static str,
        /// What it answered.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },

    /// This member was removed from the cluster, and another member has said so.
    #[error("member {member:x} was removed from the cluster")]
    Removed {
        /// This member.
        member: u64,
    },

    /// The consensus core stopped; this is a bug of ours or of openraft.
    #[error("the consensus core stopped: {0}")]
    Core(String),
}

fn or_none(log_id: Option<&LogId>) -> String {
    log_id.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

/// Why a proposal failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Too many bytes of proposals wait already; try again later.
    #[error("too many proposals are pending")]
    Overloaded,

    /// This member does not lead, so the proposal was not made.
    #[error("this member is not the leader")]
    NotLeader {
        /// The leader, as far as this member knows.
        leader: Option<u64>,
    },

    /// Another leader took over before the entry was committed; it may or may not be committed.
    #[error("the leader changed before the entry was committed")]
    LeaderChanged,

    /// The node stopped before the entry was applied; it may or may not be committed.
    #[error("the node has stopped")]
    Stopped,
}

/// Why a member gave no answer to a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The member could not be asked; it knows nothing of the call.
    #[error("the member cannot be reached: {0}")]
    Unreachable(String),

    /// The call failed on the way, or took too long; the member may have seen it.
    #[error("the member did not answer: {0}")]
    NoAnswer(String),

    /// The member's application refused.
    #[error("{0}")]
    Refused(String),
}

/// Why a read index could not be obtained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadIndexError {
    /// There is no leader that a quorum follows.
    #[error("there is no leader")]
    NoLeader,

    /// The node stopped.
    #[error("the node has stopped")]
    Stopped,
}
