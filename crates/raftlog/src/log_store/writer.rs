//! The one thread that writes the log.
//!
//! While it waits for a sync, the queue fills; then everything in it becomes the next batch. So the load makes the
//! batches, without any waiting for company:
//!
//! ```text
//! queue      a          b c d         e f
//! writer       [write a]     [write bcd]   [write ef]      one sync each
//! ```

use std::mem;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::Shared;
use super::disk::{Change, Meta};
use super::queue::{Drain, Riders, Step};
use crate::error::Error;
use crate::metrics::Stopwatch;
use crate::record;
use crate::types::TypeConfig;

/// The most that goes into one batch, so that the memory for writing is bounded.
const BATCH_BYTES: usize = 8 << 20;

/// How many entries are purged before files are dropped, which costs a write of its own.
const RECLAIM_ENTRIES: u64 = 100_000;

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// What the disk knows of the riders.
    written: Riders,
    /// Entries before this index were given back.
    reclaimed: u64,
}

/// Whom to tell about a batch.
#[derive(Default)]
struct Waiting {
    flushed: Vec<IOFlushed<TypeConfig>>,
    done: Vec<oneshot::Sender<Result<(), Error>>>,
    /// The index below which everything is durable afterwards, and the epoch it counts in.
    durable: Option<(u64, u64)>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, written: Riders) -> Self {
        Self { shared, written, reclaimed: 0 }
    }

    /// Writes until the queue is closed or a write fails, and closes the disk.
    pub(super) fn run(mut self) {
        loop {
            let Drain { mut steps, riders, last } = self.shared.queue.take();
            while !steps.is_empty() {
                let rest = steps.split_off(batch_length(&steps));
                self.write(mem::replace(&mut steps, rest), riders);
            }
            if last {
                if riders != self.written {
                    self.write(Vec::new(), riders);
                }
                break;
            }
            self.reclaim();
        }
        self.shared.durable.close();
        self.shared.disk.close();
    }

    fn write(&mut self, steps: Vec<Step>, riders: Riders) {
        let result = match self.shared.failure.get() {
            // After a failed write nobody knows what is on disk; writing on could leave a hole.
            Some(failure) => Err(failure),
            None => self.write_batch(&steps, riders),
        };
        if let Err(error) = &result {
            self.shared.failure.set(error.clone());
            self.shared.durable.close();
        }
        let mut waiting = Waiting::default();
        steps.into_iter().for_each(|step| waiting.add(step));
        waiting.tell(&self.shared, &result);
    }

    fn write_batch(&mut self, steps: &[Step], riders: Riders) -> Result<(), Error> {
        let changes = changes(steps, riders, self.written);
        let watch = Stopwatch::start();
        self.writing(Some(Instant::now()));
        let written = self.shared.disk.write(&changes);
        self.writing(None);
        let bytes = written?;
        self.shared.metrics.written(watch.elapsed(), bytes, changes.len());
        self.written = riders;
        Ok(())
    }

    fn writing(&self, since: Option<Instant>) {
        *self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Drops the files of purged entries now and then. What is purged is on disk by now, so a crash cannot bring
    /// back a log without its beginning.
    fn reclaim(&mut self) {
        let Some(purged) = self.written.purged else { return };
        if purged.index < self.reclaimed + RECLAIM_ENTRIES || self.shared.failure.get().is_some() {
            return;
        }
        self.reclaimed = purged.index;
        if let Err(error) = self.shared.disk.reclaim(purged.index + 1) {
            self.shared.failure.set(error);
        }
    }
}

/// How many of the steps fit into one batch.
fn batch_length(steps: &[Step]) -> usize {
    let mut bytes = 0;
    let fits = steps.iter().take_while(|step| {
        let first = bytes == 0;
        bytes += step.bytes();
        first || bytes <= BATCH_BYTES
    });
    fits.count()
}

fn changes(steps: &[Step], riders: Riders, written: Riders) -> Vec<Change<'_>> {
    let mut changes = Vec::with_capacity(steps.len() + 1);
    for step in steps {
        match step {
            Step::Append { entries, .. } => changes.extend(entries.iter().map(Change::Entry)),
            Step::Truncate { from } => changes.push(Change::Truncate(*from)),
            Step::Meta { meta, value, .. } => changes.push(Change::Meta(*meta, value.clone())),
        }
    }
    let positions = [
        (Meta::Committed, riders.committed, written.committed),
        (Meta::Purged, riders.purged, written.purged),
    ];
    for (meta, new, old) in positions {
        if let Some(log_id) = new.filter(|_| new != old) {
            changes.push(Change::Meta(meta, record::encode_log_id(log_id)));
        }
    }
    changes
}

impl Waiting {
    fn add(&mut self, step: Step) {
        match step {
            Step::Append { entries, flushed, epoch, .. } => {
                self.durable = entries.last().map(|entry| (epoch, entry.index + 1)).or(self.durable);
                self.flushed.push(flushed);
            }
            Step::Truncate { .. } => self.durable = None,
            Step::Meta { done, .. } => self.done.push(done),
        }
    }

    /// The newest callback comes first: to openraft it says everything the older ones say, which then wake nobody.
    fn tell(self, shared: &Shared, result: &Result<(), Error>) {
        if let Some((epoch, next)) = self.durable.filter(|_| result.is_ok()) {
            shared.durable.advance(epoch, next);
        }
        for flushed in self.flushed.into_iter().rev() {
            flushed.io_completed(result.clone().map_err(std::io::Error::other));
        }
        for done in self.done {
            // Nobody waits any more when the core is being stopped.
            done.send(result.clone()).ok();
        }
    }
}
