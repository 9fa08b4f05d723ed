//! The application's thread.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use openraft::storage::ApplyResponder;
use tokio::sync::watch;

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
        while let Some(jobs) = self.queue.take() {
            if let Err(error) = self.work(jobs) {
                self.failure.set(error);
                // Whoever still waits learns from the dropped jobs that the node stops.
                self.queue.close();
                drop(self.queue.take());
                return;
            }
        }
        if self.failure.get().is_none()
            && let Err(error) = self.application.flush()
        {
            self.failure.set(failed("flushing the application", error));
        }
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
        self.application.apply(&batch.entries).map_err(|error| failed("applying entries", error))?;
        self.metrics.applied(batch.entries.len());
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
                let flushed = flushed.map_err(|error| failed("flushing the application", error))?;
                drop(reply.send(Ok(flushed)));
            }
            Command::Snapshot { dir, reply } => {
                let written = empty(&dir).map_err(ApplicationError::from);
                let written = written.and_then(|()| self.application.snapshot(&dir));
                drop(reply.send(written.map_err(|error| failed("writing a snapshot", error))));
            }
            Command::Install { dir, reply } => {
                let applied = self.application.install(&dir);
                self.applied = applied.map_err(|error| failed("installing a snapshot", error))?;
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
