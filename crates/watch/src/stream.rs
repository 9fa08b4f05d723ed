//! One client stream and its watchers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::outbox::Outbox;

/// Names a stream of a hub until it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) usize);

/// One stream.
pub(crate) struct Stream {
    pub(crate) outbox: Arc<dyn Outbox>,
    /// Whether something was pushed since the last flush.
    touched: bool,
    /// Ids and places of the watchers.
    pub(crate) watchers: BTreeMap<i64, usize>,
    /// The next id to give to a watcher that did not ask for one.
    next_id: i64,
    /// Watchers in state `Waiting`, by their next revision.
    pub(crate) waiting: BTreeSet<(i64, usize)>,
    /// Progress requests to be answered when these revisions are published, ascending.
    pub(crate) delayed_progress: Vec<i64>,
}

impl Stream {
    pub(crate) fn new(outbox: Arc<dyn Outbox>) -> Self {
        Self {
            outbox,
            touched: false,
            watchers: BTreeMap::new(),
            next_id: 0,
            waiting: BTreeSet::new(),
            delayed_progress: Vec::new(),
        }
    }

    /// The stream at a place that is in use.
    pub(crate) fn at(streams: &mut [Option<Self>], at: usize) -> &mut Self {
        streams[at].as_mut().expect("a watcher's stream is open")
    }

    /// Notes that the stream is to be flushed.
    pub(crate) fn touch(&mut self, at: usize, touched: &mut Vec<usize>) {
        if !self.touched {
            self.touched = true;
            touched.push(at);
        }
    }

    pub(crate) fn flush(&mut self) {
        self.touched = false;
        self.outbox.flush();
    }

    /// The id for a new watcher: the one asked for, or for 0 the next one that is free. `None` if it is taken.
    pub(crate) fn choose_id(&mut self, asked: i64) -> Option<i64> {
        if asked != 0 {
            return (!self.watchers.contains_key(&asked)).then_some(asked);
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(self.next_id - 1)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("watchers", &self.watchers)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
