//! A proposal on its way, and how its proposer learns what became of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use openraft::errors::{ClientWriteError, ForwardReason};
use openraft::raft::ClientWriteResult;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::application::LogId;
use crate::error::ProposeError;
use crate::types::{self, TypeConfig};

/// Fewer than openraft's queue holds, so that handing it a proposal never has to wait.
const PROPOSALS_MAX: u64 = 60_000;

/// What became of a proposal: its position once it has been applied here, or why it failed.
///
/// The proposal was made when this was returned; dropping this does not take it back.
#[must_use = "a proposal that failed says so only here"]
pub struct Proposal(State);

enum State {
    Refused(ProposeError),
    Waiting(oneshot::Receiver<ClientWriteResult<TypeConfig>>),
    /// Another member is asked to propose it.
    Routed(JoinHandle<Result<LogId, ProposeError>>),
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proposal").finish_non_exhaustive()
    }
}

impl Proposal {
    pub(crate) fn refused(error: ProposeError) -> Self {
        Self(State::Refused(error))
    }

    pub(crate) fn waiting(outcome: oneshot::Receiver<ClientWriteResult<TypeConfig>>) -> Self {
        Self(State::Waiting(outcome))
    }

    pub(crate) fn routed(outcome: JoinHandle<Result<LogId, ProposeError>>) -> Self {
        Self(State::Routed(outcome))
    }
}

impl Future for Proposal {
    type Output = Result<LogId, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Refused(error) => Poll::Ready(Err(error.clone())),
            State::Waiting(outcome) => Pin::new(outcome).poll(context).map(|outcome| match outcome {
                Ok(Ok(response)) => Ok(types::from_raft(&response.log_id)),
                Ok(Err(error)) => Err(failure(&error)),
                Err(_) => Err(ProposeError::Stopped),
            }),
            State::Routed(outcome) => {
                Pin::new(outcome).poll(context).map(|outcome| outcome.unwrap_or(Err(ProposeError::Stopped)))
            }
        }
    }
}

/// What openraft's refusal means.
fn failure(error: &ClientWriteError<TypeConfig>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(forward) if forward.reason == ForwardReason::LeaseExpired => {
            ProposeError::NotLeader { leader: None }
        }
        ClientWriteError::ForwardToLeader(forward) => ProposeError::NotLeader { leader: forward.leader_id },
        _ => ProposeError::LeaderChanged,
    }
}

/// Tells the proposer, and holds the proposal's share of what may be pending, until it is applied or lost.
pub(crate) struct Responder<T> {
    outcome: Outcome<T>,
    share: Share,
}

enum Outcome<T> {
    Notify(oneshot::Sender<T>),
    Call(Box<dyn FnOnce(T) + Send>),
}

impl<T> openraft::raft::responder::Responder<TypeConfig, T> for Responder<T>
where
    T: Send + 'static,
{
    fn on_complete(self, result: T) {
        // Whoever is told may propose again at once, and needs the room.
        let Self { outcome, share } = self;
        drop(share);
        match outcome {
            // The proposer may have lost interest.
            Outcome::Notify(sender) => drop(sender.send(result)),
            Outcome::Call(callback) => callback(result),
        }
    }
}

impl<T> Responder<T> {
    pub(crate) fn notify(share: Share) -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self { outcome: Outcome::Notify(sender), share }, receiver)
    }
}

impl Responder<ClientWriteResult<TypeConfig>> {
    /// Calls back unless the proposal succeeds.
    pub(crate) fn on_failure(share: Share, callback: impl FnOnce(ProposeError) + Send + 'static) -> Self {
        let mut armed = Armed(Some(callback));
        let callback = move |result: ClientWriteResult<TypeConfig>| match result {
            Ok(_) => drop(armed.0.take()),
            Err(error) => armed.fire(failure(&error)),
        };
        Self { outcome: Outcome::Call(Box::new(callback)), share }
    }
}

/// A callback that is called when it is dropped: then the core has stopped.
struct Armed<F: FnOnce(ProposeError)>(Option<F>);

impl<F: FnOnce(ProposeError)> Armed<F> {
    fn fire(&mut self, error: ProposeError) {
        if let Some(callback) = self.0.take() {
            callback(error);
        }
    }
}

impl<F: FnOnce(ProposeError)> Drop for Armed<F> {
    fn drop(&mut self) {
        self.fire(ProposeError::Stopped);
    }
}

/// Bounds what is proposed and not yet applied.
#[derive(Debug)]
pub(crate) struct Pending {
    bytes_max: u64,
    bytes: AtomicU64,
    proposals: AtomicU64,
}

impl Pending {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: AtomicU64::new(0), proposals: AtomicU64::new(0) }
    }

    /// Takes a share for a proposal of so many bytes, if there is one left.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Share, ProposeError> {
        let bytes = bytes as u64;
        let share = Share { pending: Arc::clone(self), bytes };
        let proposals = self.proposals.fetch_add(1, Ordering::Relaxed) + 1;
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if total > self.bytes_max || proposals > PROPOSALS_MAX {
            Err(ProposeError::Overloaded)
        } else {
            Ok(share)
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn proposals(&self) -> u64 {
        self.proposals.load(Ordering::Relaxed)
    }
}

/// A proposal's share; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    pending: Arc<Pending>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pending.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.pending.proposals.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_beyond_the_limit_is_refused_and_leaves_nothing_behind() {
        let pending = Arc::new(Pending::new(10));
        let first = pending.take(8).unwrap();
        assert_eq!(pending.take(3).unwrap_err(), ProposeError::Overloaded);
        assert_eq!((pending.bytes(), pending.proposals()), (8, 1));
        drop(first);
        let all = pending.take(10).unwrap();
        assert_eq!(pending.bytes(), 10);
        drop(all);
    }

    #[test]
    fn a_callback_that_is_dropped_says_that_the_node_stopped() {
        let pending = Arc::new(Pending::new(10));
        let (sender, mut receiver) = oneshot::channel();
        let responder = Responder::on_failure(pending.take(1).unwrap(), |error| sender.send(error).unwrap());
        drop(responder);
        assert_eq!(receiver.try_recv().unwrap(), ProposeError::Stopped);
        assert_eq!(pending.proposals(), 0);
    }
}
