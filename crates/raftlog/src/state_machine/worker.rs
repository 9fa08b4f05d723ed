//! The application's thread.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use openraft::storage::ApplyResponder;
use tokio::sync::{mpsc, watch};

use super::queue::{ApplyQueue, Command, Job};
use crate::application::{Application, ApplicationError, Applied, Entry, LogId};
use crate::error::{Error, Result};
use crate::failure::Failure;
use crate::log_store::durable::Durable;
use crate::metrics::ApplyMetrics;
use crate::record;
use crate::types::{LogEntry, TypeConfig};

/// The thread that owns the application; joined when the node stops.
pub(crate) type ApplyThread = JoinHandle<()>;

/// What the apply thread works with.
pub(crate) struct Worker<A> {
    pub(crate) application: A,
    pub(crate) queue: Arc<ApplyQueue>,
    /// No entry is applied that a crash of this member could lose: the state must never be ahead of the log.
    pub(crate) durable: Arc<Durable>,
    pub(crate) failure: Failure,
    /// How far the state has come.
    pub(crate) applied: Applied,
    /// Everybody's copy of `applied.last`.
    pub(crate) published: watch::Sender<Option<LogId>>,
    pub(crate) metrics: Arc<ApplyMetrics>,
    pub(crate) flush_policy: FlushPolicy,
}

/// Asks for a snapshot after so many bytes; openraft only counts entries.
pub(crate) struct FlushPolicy {
    pub(crate) bytes_max: u64,
    /// Bytes applied since the application was flushed, or since that was asked for.
    pub(crate) bytes: u64,
    pub(crate) due: mpsc::Sender<()>,
}

impl FlushPolicy {
    /// Also returns what tells that a snapshot is due.
    pub(crate) fn new(bytes_max: u64) -> (Self, mpsc::Receiver<()>) {
        let (due, receiver) = mpsc::channel(1);
        (Self { bytes_max, bytes: 0, due }, receiver)
    }

    fn applied(&mut self, entries: &[Entry]) {
        self.bytes += entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
        if self.bytes > self.bytes_max {
            self.bytes = 0;
            // If one is due already, that is enough.
            self.due.try_send(()).ok();
        }
    }
}

/// However the thread ends: what is queued is dropped, so that nobody waits for it, and a panic is a failure.
struct Ending {
    queue: Arc<ApplyQueue>,
    failure: Failure,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if thread::panicking() {
            self.failure.set(Error::Core("the application panicked".to_owned()));
        }
        self.queue.close();
        drop(self.queue.take());
    }
}

/// Entries that came together, and whom to tell when they are applied.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    responders: Vec<Option<ApplyResponder<TypeConfig>>>,
}

impl<A: Application> Worker<A> {
    pub(crate) fn spawn(self) -> Result<ApplyThread> {
        let thread = thread::Builder::new().name("raftlog-apply".to_owned()).spawn(move || self.run());
        thread.map_err(|error| Error::Core(format!("no thread for the application: {error}")))
    }

    /// Works until the queue is closed, then makes the state durable and drops the application.
    fn run(mut self) {
        let _ending = Ending { queue: Arc::clone(&self.queue), failure: self.failure.clone() };
        while let Some(jobs) = self.queue.take() {
            if self.work(jobs).is_err() {
                return;
            }
        }
        if self.failure.get().is_none()
            && let Err(error) = self.application.flush()
        {
            self.fail("flushing the application", error);
        }
    }

    /// Records that the application failed. This comes before anything is dropped that somebody waits for, so that
    /// whoever learns that the node stops finds the reason.
    fn fail(&self, operation: &'static str, error: ApplicationError) -> Error {
        let error = failed(operation, error);
        self.failure.set(error.clone());
        error
    }

    fn work(&mut self, jobs: Vec<Job>) -> Result<()> {
        let mut batch = Batch::default();
        for job in jobs {
            match job {
                Job::Entry(entry, responder) => batch.push(entry, responder),
                Job::Command(command) => {
                    self.apply(std::mem::take(&mut batch))?;
                    self.command(command)?;
                }
            }
        }
        self.apply(batch)
    }

    /// Applies a batch, piece by piece if not all of it is durable yet.
    fn apply(&mut self, mut batch: Batch) -> Result<()> {
        while let Some(first) = batch.entries.first() {
            // The writer is gone only after a failure, or when the node stops; then this waits for the log to replay it.
            let Some(durable) = self.durable.wait(first.index) else { return Ok(()) };
            let ready = batch.entries.partition_point(|entry| entry.index < durable);
            let rest = batch.split_off(ready);
            self.apply_durable(std::mem::replace(&mut batch, rest))?;
        }
        Ok(())
    }

    fn apply_durable(&mut self, batch: Batch) -> Result<()> {
        let Some(last) = batch.entries.last().map(Entry::log_id) else { return Ok(()) };
        if let Err(error) = self.application.apply(&batch.entries) {
            return Err(self.fail("applying entries", error));
        }
        self.metrics.applied(batch.entries.len());
        self.flush_policy.applied(&batch.entries);
        self.applied.last = Some(last);
        if let Some(membership) = batch.entries.into_iter().rev().find_map(|entry| entry.membership) {
            self.applied.membership = Some(membership);
        }
        self.published.send_replace(Some(last));
        for responder in batch.responders.into_iter().flatten() {
            responder.send(());
        }
        Ok(())
    }

    /// Whoever asked may be gone; nobody else needs the answer.
    fn command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Applied { reply } => drop(reply.send(Ok(self.applied.clone()))),
            Command::Flush { reply } => {
                let flushed = self.application.flush();
                let flushed = flushed.map_err(|error| self.fail("flushing the application", error))?;
                self.flush_policy.bytes = 0;
                drop(reply.send(Ok(flushed)));
            }
            Command::Snapshot { dir, reply } => {
                let written = empty(&dir).map_err(ApplicationError::from);
                let written = written.and_then(|()| self.application.snapshot(&dir));
                let written = written.map(|()| self.applied.clone());
                drop(reply.send(written.map_err(|error| failed("writing a snapshot", error))));
            }
            Command::Install { dir, reply } => {
                let applied = self.application.install(&dir);
                self.applied = applied.map_err(|error| self.fail("installing a snapshot", error))?;
                self.published.send_replace(self.applied.last);
                drop(reply.send(Ok(self.applied.clone())));
            }
        }
        Ok(())
    }
}

impl Batch {
    fn push(&mut self, entry: LogEntry, responder: Option<ApplyResponder<TypeConfig>>) {
        let log_id = entry.position();
        let membership = entry.payload.membership.as_deref();
        self.entries.push(Entry {
            term: log_id.term,
            index: log_id.index,
            membership: membership.map(|membership| record::encode_stored_membership(log_id, membership)),
            data: entry.payload.data.0,
        });
        self.responders.push(responder);
    }

    fn split_off(&mut self, at: usize) -> Self {
        Self { entries: self.entries.split_off(at), responders: self.responders.split_off(at) }
    }
}

/// Makes `dir` an empty directory.
fn empty(dir: &Path) -> std::io::Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)
}

fn failed(operation: &'static str, error: ApplicationError) -> Error {
    Error::Application { operation, source: error.into() }
}
