//! Progress: telling a client up to which revision it has been sent everything, so that it can resume from there.
//!
//! It goes through the same outbox as the events, after them, and tells the published revision and never the store's: so it
//! cannot overtake an event. Where there is no room it is dropped, as the client sees from the next one.

use crate::hub::{Hub, NO_WATCH_ID};
use crate::stream::{Stream, StreamId};
use crate::watcher::State;
use crate::wire::Control;

/// A request that came when the store was ahead of what was published. It is answered when that revision is published:
/// its client may know of the newer revision and wait for an answer that covers it.
#[derive(Debug)]
pub(crate) struct DelayedProgress {
    pub(crate) stream: StreamId,
    revision: i64,
}

impl Hub {
    /// Answers a progress request, if all watchers of the stream are in sync and have begun, and there is at least one;
    /// else drops it.
    pub fn progress(&mut self, stream: StreamId) {
        if self.stream(stream).is_none() {
            return;
        }
        let revision = self.current_revision();
        if revision <= self.revision {
            self.answer_progress(stream);
            self.flush();
        } else if self
            .delayed_progress
            .last()
            .is_none_or(|last| (last.stream, last.revision) != (stream, revision))
        {
            // One answer stands for all requests that came at the same revision, so this list cannot be made to grow.
            self.delayed_progress.push(DelayedProgress { stream, revision });
        }
    }

    pub(crate) fn answer_delayed_progress(&mut self) {
        if self.delayed_progress.is_empty() {
            return;
        }
        let (due, later) = std::mem::take(&mut self.delayed_progress)
            .into_iter()
            .partition(|delayed: &DelayedProgress| delayed.revision <= self.revision);
        self.delayed_progress = later;
        for delayed in due {
            self.answer_progress(delayed.stream);
        }
    }

    fn answer_progress(&mut self, stream: StreamId) {
        let Some(open) = self.stream(stream) else { return };
        let in_sync = open.watchers.values().all(|watcher| self.is_in_sync(*watcher));
        if in_sync && !open.watchers.is_empty() && open.outbox.has_room() {
            self.push_control(stream, NO_WATCH_ID, self.revision, Control::default());
        }
    }

    /// One turn of a stream's progress ticker: tells every watcher that asked for it, is in sync, and got no events since the
    /// last tick, how far it is.
    pub fn tick_progress(&mut self, stream: StreamId) {
        let Some(open) = self.stream(stream) else { return };
        for (id, watcher) in open.watchers.iter().map(|(id, at)| (*id, *at)).collect::<Vec<_>>() {
            if !self.watcher(watcher).progress_notify {
                continue;
            }
            let was_active = self.take_active(watcher);
            let has_room = Stream::at(&mut self.streams, stream.0).outbox.has_room();
            if !was_active && has_room && self.is_in_sync(watcher) {
                self.push_control(stream, id, self.revision, Control::default());
            }
        }
        self.flush();
    }

    /// Whether the published revision is one that the watcher has been sent everything up to.
    fn is_in_sync(&self, watcher: usize) -> bool {
        let watcher = self.watcher(watcher);
        matches!(watcher.state, State::Synced { .. }) && watcher.start_revision <= self.revision
    }

    fn take_active(&mut self, at: usize) -> bool {
        let watcher = self.watcher_mut(at);
        let active = std::mem::take(&mut watcher.active);
        let State::Synced { group, at } = watcher.state else { return active };
        active | std::mem::take(&mut self.groups.get_mut(group).members[at].active)
    }
}
