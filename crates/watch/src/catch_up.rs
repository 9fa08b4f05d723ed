//! History for the watchers that are behind: started in the past, slow, or shaken off by a snapshot.
//!
//! A watcher that is behind remembers only the next revision it needs; nothing is kept for it, so that the slowest client
//! costs no memory. While its stream has no room it waits with the stream, and costs no time either.
//!
//! History is read in stretches. The sweep goes through the watchers by their next revision and reads the stretch that the
//! first one needs; everybody else whose next revision lies in that stretch is served from it too. Then it goes on behind the
//! stretch, so that a watcher with little to catch up never waits for one that has all of history before it:
//!
//! ```text
//! next revisions:     3 3 3 7      5000                 published: 5100, stretches of 1000
//! sweep, 1st stretch: 3..1002 read once for four        they need 1003 now
//! sweep, 2nd stretch: 5000..5100                        one more is in sync
//! sweep, 3rd stretch: 1003..2002, from the start again
//! ```

use mvcc::{Changes, Error as StoreError};

use crate::batch::Batch;
use crate::hub::Hub;
use crate::interval_tree::End;
use crate::stream::{Stream, StreamId};
use crate::watcher::{Span, State};
use crate::wire::Control;
use crate::{Result, wire};

impl Hub {
    /// Sends history to watchers that are behind, reading at most so many stretches of it. Returns whether more can be done
    /// at once; when it returns false, some watchers may still wait for room in their outboxes.
    ///
    /// # Errors
    /// The history could not be read.
    pub fn sync(&mut self, stretches: usize) -> Result<bool> {
        self.wake_those_with_room();
        for _ in 0..stretches {
            self.cancel_compacted(self.reader.compact_revision());
            let Some((from, _)) = self.ready.range(self.sweep..).next().or(self.ready.first()).copied()
            else {
                break;
            };
            self.catch_up(from)?;
        }
        if self.ready.is_empty() {
            // After a reset, they may have waited for revisions that are never published.
            self.answer_delayed_progress();
        }
        self.flush();
        Ok(!self.ready.is_empty())
    }

    /// Serves everybody whose next revision lies in the stretch of history that begins with `from`.
    fn catch_up(&mut self, from: i64) -> Result<()> {
        let (revisions, bytes) = (self.options.history_revisions, self.options.history_bytes);
        let mut history = match self.reader.changes(from, revisions, bytes) {
            Ok(history) => history,
            Err(StoreError::Compacted) => {
                self.cancel_compacted(self.reader.compact_revision().max(from + 1));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        // What has not been published comes to the synced watchers by itself, so nobody may be sent it from here.
        history.truncate(history.partition_point(|changes| changes.main <= self.revision));
        let last = history.last().map_or(self.revision, |changes| changes.main);
        self.serve(&history, from, last)?;
        self.sweep = (last + 1, usize::MAX);
        Ok(())
    }

    fn serve(&mut self, history: &[Changes], from: i64, last: i64) -> Result<()> {
        let mut batch = Batch::new(history);
        let mut by_key: Vec<usize> = (0..batch.len()).collect();
        by_key.sort_by_key(|event| batch.key(*event));
        let mut header = Vec::with_capacity(48);
        wire::header(&mut header, self.options.identity, self.revision, self.raft_term);

        let watchers: Vec<_> = self.ready.range((from, 0)..=(last, usize::MAX)).copied().collect();
        for (next, at) in watchers {
            self.ready.remove(&(next, at));
            let stream = self.watcher(at).stream;
            if !Stream::at(&mut self.streams, stream).outbox.has_room() {
                self.wait_for_room(at, next);
                continue;
            }
            self.send_history(at, next, &mut batch, &by_key, &header)?;
            if last >= self.revision {
                self.join_group(at, last + 1);
            } else {
                self.be_ready(at, last + 1);
            }
        }
        Ok(())
    }

    /// Sends one watcher its part of a stretch of history in one response, or nothing if it has no part.
    fn send_history(
        &mut self,
        at: usize,
        next: i64,
        batch: &mut Batch<'_>,
        by_key: &[usize],
        header: &[u8],
    ) -> Result<()> {
        let watcher = self.watcher(at);
        let (variant, fragment, stream, id) =
            (watcher.variant, watcher.fragment, watcher.stream, watcher.id_field);
        let mut events: Vec<usize> = watcher.span.within(by_key, |event| batch.key(event)).to_vec();
        events.retain(|event| batch.revision(*event) >= next && variant.passes(batch.is_delete(*event)));
        if events.is_empty() {
            return Ok(());
        }
        events.sort_unstable();
        if variant.wants_prev_kv() {
            events.iter().try_for_each(|event| batch.load_prev(*event, &self.reader))?;
        }
        let open = Stream::at(&mut self.streams, stream);
        let prefix = [header, id.as_slice()];
        let mut response = prefix.to_vec();
        batch.pieces(events.iter().copied(), variant, &mut response);
        let limit = self.options.fragment_bytes;
        if fragment && events.len() > 1 && response.iter().map(|piece| piece.len()).sum::<usize>() >= limit {
            batch.push_fragments(&*open.outbox, prefix, (&events, variant), limit);
        } else {
            open.outbox.push(&response);
        }
        open.touch(stream, &mut self.touched);
        self.delivered += events.len() as u64;
        self.watcher_mut(at).active = true;
        Ok(())
    }

    /// Tells the ready watchers that need something older than `compacted` that it is gone.
    fn cancel_compacted(&mut self, compacted: i64) {
        while let Some((next, at)) = self.ready.first().copied()
            && next < compacted
        {
            self.ready.remove(&(next, at));
            let (stream, id) = (self.watcher(at).stream, self.watcher(at).id);
            if Stream::at(&mut self.streams, stream).outbox.has_room() {
                self.watcher_mut(at).state = State::Compacted;
                let gone = Control { canceled: true, compact_revision: compacted, ..Control::default() };
                self.push_control(StreamId(stream), id, 0, gone);
            } else {
                self.wait_for_room(at, next);
            }
        }
    }

    /// Sets a watcher aside until its stream has room.
    pub(crate) fn wait_for_room(&mut self, at: usize, next: i64) {
        self.watcher_mut(at).state = State::Waiting { next };
        let stream = self.watcher(at).stream;
        Stream::at(&mut self.streams, stream).waiting.insert((next, at));
        self.waiting_streams.insert(stream);
    }

    pub(crate) fn stop_waiting(&mut self, at: usize, next: i64) {
        let stream = self.watcher(at).stream;
        let open = Stream::at(&mut self.streams, stream);
        open.waiting.remove(&(next, at));
        if open.waiting.is_empty() {
            self.waiting_streams.remove(&stream);
        }
    }

    fn wake_those_with_room(&mut self) {
        let streams = &self.streams;
        let has_room = |at: &usize| streams[*at].as_ref().is_some_and(|stream| stream.outbox.has_room());
        let awake: Vec<usize> = self.waiting_streams.iter().copied().filter(has_room).collect();
        for stream in awake {
            self.waiting_streams.remove(&stream);
            for (next, at) in std::mem::take(&mut Stream::at(&mut self.streams, stream).waiting) {
                self.be_ready(at, next);
            }
        }
    }

    /// After a reset: whoever needs nothing that is published yet is live again.
    pub(crate) fn join_those_of_the_future(&mut self) {
        for (next, at) in self.ready.split_off(&(self.revision + 1, 0)) {
            self.join_group(at, next);
        }
    }
}

impl Span {
    /// The part of `events`, sorted by key, whose keys are in this span.
    fn within<'a, 'k>(&self, events: &'a [usize], key: impl Fn(usize) -> &'k [u8]) -> &'a [usize] {
        let behind = |bound: &[u8]| events.partition_point(|event| key(*event) < bound);
        let (start, end) = match self {
            Self::Key(only) => (behind(only), events.partition_point(|event| key(*event) <= &only[..])),
            Self::Range(start, End::Before(end)) => (behind(start), behind(end)),
            Self::Range(start, End::Open) => (behind(start), events.len()),
        };
        &events[start..end]
    }
}
