//! Handing leadership over: when it is asked for, and when the leader's own disk stalls.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::rt::Instant as _;
use tokio::sync::watch;

use crate::application::LogId;
use crate::leadership::Leadership;
use crate::log_store::LogStore;
use crate::membership::Membership;
use crate::node::Raft;
use crate::types;

/// Entries that the next leader may lack when leadership is handed over.
const LAG: u64 = 500;

/// Why leadership was not handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// This member does not lead.
    #[error("this member is not the leader")]
    NotLeader,
    /// The target cannot take over: it is no voter, is not heard of, or lags.
    #[error("member {to:x} cannot lead: {reason}")]
    Unfit {
        /// Who was to lead.
        to: u64,
        /// Why it cannot.
        reason: &'static str,
    },
    /// Nobody took over in time; whoever leads now is not the target.
    #[error("leadership was not taken over in time")]
    TimedOut,
    /// The node stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// How far a leader knows a member to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The newest entry it is known to have.
    pub matched: Option<LogId>,
    /// How long ago it last confirmed this leader.
    pub acknowledged: Option<Duration>,
}

/// Hands leadership over.
#[derive(Clone)]
pub(crate) struct Transfer {
    pub(crate) id: u64,
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) membership: watch::Receiver<Membership>,
    pub(crate) election_timeout: Duration,
}

impl Transfer {
    /// How far the others are, as far as this member knows; nothing unless it leads.
    pub(crate) fn progress(&self) -> BTreeMap<u64, Progress> {
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.iter().flatten();
        let mut progress: BTreeMap<u64, Progress> = matched
            .map(|(&id, matched)| {
                (id, Progress { matched: matched.as_ref().map(types::from_raft), acknowledged: None })
            })
            .collect();
        for (&id, at) in metrics.heartbeat.iter().flatten() {
            if let Some(at) = at {
                progress.entry(id).or_default().acknowledged = Some(at.elapsed());
            }
        }
        progress
    }

    /// Hands leadership to a voter; see [`Node::transfer_leadership`](crate::Node::transfer_leadership).
    pub(crate) async fn to(&self, to: u64) -> Result<(), TransferError> {
        let mut leadership = self.leadership.clone();
        if !leadership.borrow_and_update().is_leader {
            return Err(TransferError::NotLeader);
        }
        if to == self.id {
            return Ok(());
        }
        // openraft checks nothing and never takes a transfer back, so it must be likely to succeed.
        self.is_fit(to, self.progress().get(&to).copied().unwrap_or_default())?;
        self.raft.trigger().transfer_leader(to).await.map_err(|_| TransferError::Stopped)?;
        let taken = leadership.wait_for(|leadership| leadership.leader == Some(to));
        match tokio::time::timeout(2 * self.election_timeout, taken).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(TransferError::Stopped),
            Err(_) => Err(TransferError::TimedOut),
        }
    }

    fn is_fit(&self, to: u64, progress: Progress) -> Result<(), TransferError> {
        let unfit = |reason| Err(TransferError::Unfit { to, reason });
        if !self.membership.borrow().voters.contains(&to) {
            return unfit("it is no voter");
        }
        if progress.acknowledged.is_none_or(|age| age > self.election_timeout / 2) {
            return unfit("it has not been heard lately");
        }
        let last = self.log.positions().last.map_or(0, |last| last.index);
        if progress.matched.is_none_or(|matched| matched.index + LAG < last) {
            return unfit("it lags");
        }
        Ok(())
    }

    /// The voter that is farthest and fit to lead; see [`Node::successor`](crate::Node::successor).
    pub(crate) fn successor(&self) -> Option<u64> {
        let progress = self.progress().into_iter();
        let fit = progress.filter(|&(id, progress)| id != self.id && self.is_fit(id, progress).is_ok());
        fit.max_by_key(|(_, progress)| progress.matched.map(|matched| matched.index)).map(|(id, _)| id)
    }

    /// Hands leadership over whenever a write to the log takes half an election timeout: the others can go on without this disk, but
    /// not without a leader that answers. Ends when openraft's core does.
    pub(crate) async fn when_the_disk_stalls(self) {
        let limit = self.election_timeout / 2;
        let mut tick = tokio::time::interval((self.election_timeout / 10).max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.leadership.has_changed().is_ok() {
            tick.tick().await;
            let Some(stalled) = self.log.writing_for().filter(|&stalled| stalled > limit) else { continue };
            if !self.leadership.borrow().is_leader {
                continue;
            }
            let Some(successor) = self.successor() else { continue };
            tracing::warn!(
                stalled = ?stalled,
                to = %format!("{successor:x}"),
                "the disk does not finish a write; handing leadership over"
            );
            if let Err(error) = self.to(successor).await {
                tracing::warn!(%error, "leadership was not handed over");
            }
        }
    }
}

#[cfg(test)]
mod tests;
