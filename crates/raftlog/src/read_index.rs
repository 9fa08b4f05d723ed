//! Up to where the state must have come before a read is up to date.
//!
//! A leader must ask a quorum whether it still leads. One round of questions serves everybody who asked before it
//! began; who asks while it runs is served by the next one:
//!
//! ```text
//! reads    a  b c          d e        f
//! rounds   [ a ]           [ b c ... ][ d e f ]
//! ```

use std::time::Duration;

use openraft::{LinearizerOption, ReadPolicy};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::ReadIndexError;
use crate::leadership::Leadership;
use crate::node::Raft;

/// How long one round may take before it is tried again.
const ROUND: Duration = Duration::from_millis(500);

type Waiter = oneshot::Sender<u64>;

/// Hands reads to the task that asks for them.
#[derive(Debug, Clone)]
pub(crate) struct ReadIndex(mpsc::UnboundedSender<Waiter>);

impl ReadIndex {
    /// Also returns the task, which the caller runs.
    pub(crate) fn new(
        raft: Raft,
        leadership: watch::Receiver<Leadership>,
    ) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), run(raft, leadership, receiver))
    }

    pub(crate) async fn get(&self) -> Result<u64, ReadIndexError> {
        let (waiter, index) = oneshot::channel();
        self.0.send(waiter).map_err(|_| ReadIndexError::Stopped)?;
        index.await.map_err(|_| ReadIndexError::Stopped)
    }
}

/// Runs rounds until nobody can ask any more or openraft's core has stopped.
async fn run(
    raft: Raft,
    mut leadership: watch::Receiver<Leadership>,
    mut waiting: mpsc::UnboundedReceiver<Waiter>,
) {
    let mut waiters = Vec::new();
    loop {
        if waiters.is_empty() && waiting.recv_many(&mut waiters, usize::MAX).await == 0 {
            return;
        }
        while let Ok(waiter) = waiting.try_recv() {
            waiters.push(waiter);
        }
        // This is openraft's read index, never its lease read: a lease trusts clocks.
        let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(ROUND);
        match raft.get_read_linearizer(option).await {
            Ok(linearizer) => {
                let index = linearizer.read_log_id().index();
                for waiter in waiters.drain(..) {
                    // A read that was given up needs no answer.
                    waiter.send(index).ok();
                }
            }
            Err(error) if error.fatal().is_some() => return,
            Err(_) => {
                let changed = tokio::time::timeout(ROUND, leadership.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    return;
                }
                waiters.retain(|waiter| !waiter.is_closed());
            }
        }
    }
}
