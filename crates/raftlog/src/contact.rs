//! When the leader was heard last, and when a leader was last confirmed.
//!
//! openraft goes on naming a leader that has been silent for long. Whether there is one that works is for us to say.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::rt::Instant as _;
use tokio::time::Instant;

use crate::node::Raft;

/// Whether a quorum has answered this leader within an election timeout. As long as it has, nobody else is elected: the members
/// of that quorum do not vote so soon after they have heard a leader, unless it has asked them to.
pub(crate) fn is_confirmed(raft: &Raft, election_timeout: Duration) -> bool {
    let metrics = raft.data_metrics();
    let acknowledged = metrics.borrow_watched().last_quorum_acked;
    acknowledged.is_some_and(|at| at.elapsed() < election_timeout)
}

/// The last sign of life of a leader.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    heard: Mutex<Option<(u64, Instant)>>,
}

impl Contact {
    /// A member has shown that it leads, by entries or a heartbeat that were not refused.
    pub(crate) fn heard(&self, leader: u64) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = Some((leader, Instant::now()));
    }

    /// How long ago that was; `None` if it was never heard as the last leader.
    pub(crate) fn age(&self, leader: u64) -> Option<Duration> {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.filter(|(heard, _)| *heard == leader).map(|(_, at)| at.elapsed())
    }
}
