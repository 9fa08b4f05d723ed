//! What waits to be written.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::disk::Meta;
use crate::application::LogId;
use crate::error::Error;
use crate::types::{LogEntry, TypeConfig};

/// One step of the log. Steps reach the disk in the order in which they were queued.
pub(crate) enum Step {
    /// New entries, and whom to tell when they are durable. The epoch is [`Durable`](super::durable::Durable)'s.
    Append { entries: Vec<LogEntry>, bytes: usize, flushed: IOFlushed<TypeConfig>, epoch: u64 },
    /// Entries from this index on are gone.
    Truncate { from: u64 },
    /// A value that must be durable before openraft goes on.
    Meta { meta: Meta, value: Vec<u8>, done: oneshot::Sender<Result<(), Error>> },
}

impl Step {
    /// About how many bytes it writes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } => *bytes,
            Self::Truncate { .. } | Self::Meta { .. } => 64,
        }
    }
}

/// Positions that need not be durable at once and so cost no write of their own: they ride in the next one.
/// Only the newest of each matters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Riders {
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
}

/// What one turn of the writer writes.
#[derive(Default)]
pub(crate) struct Drain {
    pub(crate) steps: Vec<Step>,
    pub(crate) riders: Riders,
    /// Nothing comes after this.
    pub(crate) last: bool,
}

#[derive(Default)]
struct State {
    drain: Drain,
    bytes: usize,
    /// The writer sleeps, and the first step must wake it.
    idle: bool,
}

/// The queue between openraft and the writer thread. Its length is bounded where proposals come in.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

impl Queue {
    /// Adds a step.
    pub(crate) fn push(&self, step: Step) {
        let mut state = self.lock();
        state.bytes += step.bytes();
        state.drain.steps.push(step);
        self.wake(state);
    }

    /// Changes what rides in the next write, without causing one.
    pub(crate) fn ride(&self, change: impl FnOnce(&mut Riders)) {
        change(&mut self.lock().drain.riders);
    }

    /// Lets the writer finish what is queued, and then end.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.drain.last = true;
        self.wake(state);
    }

    /// About how many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Waits for steps and takes all of them.
    pub(crate) fn take(&self) -> Drain {
        let mut state = self.lock();
        while state.drain.steps.is_empty() && !state.drain.last {
            state.idle = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        state.bytes = 0;
        let riders = state.drain.riders;
        let last = state.drain.last;
        mem::replace(&mut state.drain, Drain { steps: Vec::new(), riders, last })
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if mem::take(&mut state.idle) {
            drop(state);
            self.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
