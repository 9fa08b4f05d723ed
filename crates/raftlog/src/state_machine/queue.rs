//! What waits to be applied.

use std::fmt;
use std::mem;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use openraft::storage::ApplyResponder;
use tokio::sync::{Notify, oneshot};

use crate::application::Applied;
use crate::error::Result;
use crate::types::{LogEntry, TypeConfig};

/// How many bytes may wait before forwarding pauses.
const WAITING_BYTES: usize = 32 << 20;

/// One piece of work for the apply thread.
pub(crate) enum Job {
    Entry(LogEntry, Option<ApplyResponder<TypeConfig>>),
    Command(Command),
}

/// What the application is asked besides applying; always after everything queued before it.
pub(crate) enum Command {
    /// How far has the state come?
    Applied { reply: oneshot::Sender<Result<Applied>> },
    /// Make the state durable.
    Flush { reply: oneshot::Sender<Result<Applied>> },
    /// Write the state as files, and tell how far it has come.
    Snapshot { dir: PathBuf, reply: oneshot::Sender<Result<Applied>> },
    /// Replace the state by these files.
    Install { dir: PathBuf, reply: oneshot::Sender<Result<Applied>> },
}

/// The queue between openraft and the apply thread.
#[derive(Default)]
pub(crate) struct ApplyQueue {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Notify,
}

#[derive(Default)]
struct State {
    jobs: Vec<Job>,
    bytes: usize,
    /// The apply thread sleeps, and the first job must wake it.
    idle: bool,
    closed: bool,
}

impl fmt::Debug for ApplyQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplyQueue").finish_non_exhaustive()
    }
}

impl ApplyQueue {
    /// Adds jobs; they are dropped when the queue is closed.
    pub(crate) fn push(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        for job in jobs {
            if let Job::Entry(entry, _) = &job {
                state.bytes += entry.size();
            }
            state.jobs.push(job);
        }
        if mem::take(&mut state.idle) {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Waits until there is room for more.
    pub(crate) async fn room(&self) {
        loop {
            let emptied = self.emptied.notified();
            {
                let state = self.lock();
                if state.bytes <= WAITING_BYTES || state.closed {
                    return;
                }
            }
            emptied.await;
        }
    }

    /// Lets the apply thread finish what is queued, and then end.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// Waits for jobs and takes all of them; `None` when the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<Vec<Job>> {
        let mut state = self.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return None;
            }
            state.idle = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        if mem::take(&mut state.bytes) > WAITING_BYTES {
            self.emptied.notify_waiters();
        }
        Some(mem::take(&mut state.jobs))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
