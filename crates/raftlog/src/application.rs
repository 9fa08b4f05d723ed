//! What a user of the log brings along: a state machine.

use std::fmt;
use std::path::Path;

use bytes::Bytes;

/// The position of an entry: the term in which a leader proposed it, and its place in the log.
///
/// Positions are ordered by term first; of two committed entries the one with the greater index never has
/// the smaller term, so for them both orders agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogId {
    /// The term of the leader that proposed the entry.
    pub term: u64,
    /// The place in the log; the first entry of a log has index 0.
    pub index: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

/// A committed entry, as the application sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that proposed the entry.
    pub term: u64,
    /// The place of the entry in the log.
    pub index: u64,
    /// What was proposed. It is empty for entries of the log itself (a new leader's first entry, a change of
    /// membership); such an entry changes nothing but the applied position.
    pub data: Bytes,
    /// The membership of the cluster from this entry on, if the entry changes it. It is opaque: the
    /// application only keeps the newest one and gives it back in [`Applied`].
    pub membership: Option<Bytes>,
}

impl Entry {
    /// The position of the entry.
    pub fn log_id(&self) -> LogId {
        LogId { term: self.term, index: self.index }
    }
}

/// How far the state of an application has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The last entry whose effects the state contains, or `None` for a state that never saw an entry.
    pub last: Option<LogId>,
    /// The newest [`Entry::membership`] up to there.
    pub membership: Option<Bytes>,
}

/// Why an application cannot go on. It stops the member.
pub type ApplicationError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A state machine: it turns committed entries into state, the same state on every member.
///
/// The methods run on a thread of their own, one at a time, so they may block; while one runs, the log keeps
/// accepting and replicating entries, and the next [`apply`](Self::apply) gets everything that came together meanwhile.
///
/// # Obligations
///
/// - Applying is deterministic: no clock, no randomness, no iteration order of hash maps may show in the state.
/// - The applied position is part of the state and changes atomically with it: after a crash,
///   [`applied`](Self::applied) tells exactly which entries the surviving state contains. The state need not be durable when
///   `apply` returns, as the log replays what is missing, but what survives must be a prefix.
/// - The state becomes durable in [`flush`](Self::flush) at the latest, because entries are purged from the log afterwards.
pub trait Application: Send + 'static {
    /// How far the state has come. Called once when the node opens, before anything else.
    fn applied(&self) -> Applied;

    /// Applies entries that are committed and durable in the local log: everything that waited, in log order,
    /// without gaps from one batch to the next, none twice. The batch is never empty.
    ///
    /// # Errors
    ///
    /// An error means that the state can no longer be trusted; the member stops.
    fn apply(&mut self, batch: &[Entry]) -> Result<(), ApplicationError>;

    /// Makes everything applied so far durable, and returns the position a crash right now would leave.
    ///
    /// An application for which this takes long may begin it, let it go on in the background, and return the older
    /// position that is durable by now; the log then keeps more until next time. Nothing is applied meanwhile.
    /// It is called for the last time when the node stops; then the application is dropped.
    ///
    /// # Errors
    ///
    /// An error stops the member.
    fn flush(&mut self) -> Result<Applied, ApplicationError>;

    /// Writes a complete copy of the state, with the applied position, as files into the empty directory `dir`,
    /// to be sent to a member that is too far behind for the log to help it.
    ///
    /// An application whose cluster will never have more than one member need not implement it.
    ///
    /// # Errors
    ///
    /// An error fails this snapshot; it is tried again when it is needed again.
    fn snapshot(&mut self, dir: &Path) -> Result<(), ApplicationError> {
        Err(format!("this application writes no snapshots (asked for one in {})", dir.display()).into())
    }

    /// Replaces the state by the one another member's [`snapshot`](Self::snapshot) wrote into `dir`, durably and
    /// atomically: a crash leaves the old state or the new one. Returns how far the new state has come.
    ///
    /// # Errors
    ///
    /// An error stops the member.
    fn install(&mut self, dir: &Path) -> Result<Applied, ApplicationError> {
        Err(format!("this application installs no snapshots (asked to from {})", dir.display()).into())
    }
}
