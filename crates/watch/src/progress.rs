//! Progress: telling a client up to which revision it has been sent everything, so that it can resume from there.
//!
//! It goes through the same outbox as the events, after them, and tells the published revision and never the store's: so it
//! cannot overtake an event. Where there is no room it is dropped, as the client sees from the next one.

use crate::hub::{Hub, NO_WATCH_ID};
use crate::stream::{Stream, StreamId};
use crate::watcher::State;
use crate::wire::Control;

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
            return;
        }
        // The store is ahead of what was published, and the client may know: it is answered when that is published. At most
        // two requests are remembered: the oldest, so that it is answered soon, and the newest, so that it is answered right.
        let waiting = &mut Stream::at(&mut self.streams, stream.0).delayed_progress;
        waiting.truncate(1);
        waiting.push(revision);
        self.delayed_progress.insert(stream.0);
    }

    pub(crate) fn answer_delayed_progress(&mut self) {
        for stream in self.delayed_progress.iter().copied().collect::<Vec<_>>() {
            let published = self.revision;
            let waiting = &mut Stream::at(&mut self.streams, stream).delayed_progress;
            let before = waiting.len();
            waiting.retain(|revision| *revision > published);
            let is_due = waiting.len() < before;
            if waiting.is_empty() {
                self.delayed_progress.remove(&stream);
            }
            if is_due {
                self.answer_progress(StreamId(stream));
            }
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
        let (stream, State::Synced { group, at }) = (watcher.stream, watcher.state) else { return active };
        active | std::mem::take(&mut self.groups.member_mut(group, stream, at).active)
    }
}
