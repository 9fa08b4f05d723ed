//! Up to where the state must have come before a read is up to date.
//!
//! A leader must ask a quorum whether it still leads, and any other member must ask the leader. One round of questions
//! serves everybody who asked before it began; who asks while it runs is served by the next one:
//!
//! ```text
//! reads    a  b c          d e        f
//! rounds   [ a ]           [ b c ... ][ d e f ]
//! ```

use std::sync::Arc;
use std::time::Duration;

use openraft::{LinearizerOption, ReadPolicy};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::ReadIndexError;
use crate::leadership::Leadership;
use crate::network::links::{Links, Purpose};
use crate::network::wire::{self, ReadIndexRequest, ReadIndexResponse};
use crate::node::Raft;

/// How long one round may take before it is tried again.
const ROUND: Duration = Duration::from_secs(1);
/// When to look again whether there is a leader, if nothing tells.
const LOOK: Duration = Duration::from_millis(50);

/// Somebody who wants to read.
#[derive(Debug)]
struct Waiter {
    index: oneshot::Sender<u64>,
    /// Another member asks, which believes that this one leads. If it does not, there is no point in waiting.
    is_remote: bool,
}

/// Hands reads to the task that asks for them.
#[derive(Debug, Clone)]
pub(crate) struct ReadIndex(mpsc::UnboundedSender<Waiter>);

impl ReadIndex {
    /// Also returns the task, which the caller runs.
    pub(crate) fn new(
        raft: Raft,
        links: Arc<Links>,
        leadership: watch::Receiver<Leadership>,
    ) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), run(raft, links, leadership, receiver))
    }

    /// Waits for a leader's answer, and for a leader if there is none.
    pub(crate) async fn get(&self) -> Result<u64, ReadIndexError> {
        self.ask(false).await.ok_or(ReadIndexError::Stopped)
    }

    /// The answer of this member as the leader; `None` if it does not lead.
    pub(crate) async fn get_as_leader(&self) -> Option<u64> {
        self.ask(true).await
    }

    async fn ask(&self, is_remote: bool) -> Option<u64> {
        let (index, answer) = oneshot::channel();
        self.0.send(Waiter { index, is_remote }).ok()?;
        answer.await.ok()
    }
}

/// Why a round gave no index.
enum Missed {
    /// There is no leader, or it could not be asked.
    NoAnswer,
    /// openraft has stopped.
    Stopped,
}

/// Runs rounds until nobody can ask any more or openraft's core has stopped.
async fn run(
    raft: Raft,
    links: Arc<Links>,
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
        let Leadership { leader, is_leader, .. } = *leadership.borrow_and_update();
        let round = match leader {
            _ if is_leader => here(&raft).await,
            Some(leader) => {
                waiters.retain(|waiter| !waiter.is_remote);
                there(&links, leader).await
            }
            None => {
                waiters.retain(|waiter| !waiter.is_remote);
                Err(Missed::NoAnswer)
            }
        };
        match round {
            Ok(index) => {
                for waiter in waiters.drain(..) {
                    // A read that was given up needs no answer.
                    waiter.index.send(index).ok();
                }
            }
            Err(Missed::Stopped) => return,
            Err(Missed::NoAnswer) => {
                let changed = tokio::time::timeout(LOOK, leadership.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    return;
                }
                waiters.retain(|waiter| !waiter.index.is_closed());
            }
        }
    }
}

/// A round of this member as the leader.
async fn here(raft: &Raft) -> Result<u64, Missed> {
    // This is openraft's read index, never its lease read: a lease trusts clocks.
    let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(ROUND);
    match raft.get_read_linearizer(option).await {
        Ok(linearizer) => Ok(linearizer.read_log_id().index()),
        Err(error) if error.fatal().is_some() => Err(Missed::Stopped),
        Err(_) => Err(Missed::NoAnswer),
    }
}

/// A round of another member as the leader.
async fn there(links: &Links, leader: u64) -> Result<u64, Missed> {
    let call = links.unary(leader, Purpose::Control, wire::READ_INDEX, ReadIndexRequest {});
    let answer: Result<ReadIndexResponse, _> =
        tokio::time::timeout(2 * ROUND, call).await.map_err(|_| Missed::NoAnswer)?;
    answer.map(|answer| answer.index).map_err(|_| Missed::NoAnswer)
}
