//! The log as the rest of the program sees it: where it begins and ends, and its recent entries in memory.
//!
//! Everything here changes at once when openraft asks for it; the disk follows later, in the same order.

use std::collections::VecDeque;

use crate::application::LogId;
use crate::types::{LogEntry, Vote};

#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The last vote, or `None` for a member that never took part in an election.
    pub(crate) vote: Option<Vote>,
    /// The newest position known to be committed.
    pub(crate) committed: Option<LogId>,
    /// The last entry that was purged; none if the log is complete.
    pub(crate) purged: Option<LogId>,
    /// The last entry, purged or not.
    pub(crate) last: Option<LogId>,
    /// The index of the first entry the log contains, or would contain.
    pub(crate) start: u64,
    /// The newest entries, without gaps up to `last`. Entries leave at the front, and only when they are on disk.
    recent: VecDeque<LogEntry>,
    /// The sizes of the recent entries together.
    recent_bytes: usize,
}

impl Log {
    /// The index after the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.last.map_or(self.start, |last| last.index + 1)
    }

    /// The index from which on entries are in memory.
    pub(crate) fn recent_start(&self) -> u64 {
        self.end() - self.recent.len() as u64
    }

    pub(crate) fn recent_bytes(&self) -> usize {
        self.recent_bytes
    }

    /// Appends one entry; `Err` names the index that was expected.
    pub(crate) fn push(&mut self, entry: LogEntry) -> Result<(), u64> {
        if self.last.is_none() {
            self.start = entry.index;
        } else if entry.index != self.end() {
            return Err(self.end());
        }
        self.last = Some(entry.position());
        self.recent_bytes += entry.size();
        self.recent.push_back(entry);
        Ok(())
    }

    /// Forgets entries from the front until at most `limit` bytes are in memory, but none from `durable` on.
    pub(crate) fn evict(&mut self, limit: usize, durable: u64) {
        while self.recent_bytes > limit && self.recent.front().is_some_and(|entry| entry.index < durable) {
            self.pop_front();
        }
    }

    /// Removes all entries after `last`, whose position is known to the caller.
    pub(crate) fn truncate_after(&mut self, last: Option<LogId>) {
        let end = last.map_or(0, |last| last.index + 1).max(self.start);
        while self.recent.back().is_some_and(|entry| entry.index >= end) {
            let entry = self.recent.pop_back().expect("it was just looked at");
            self.recent_bytes -= entry.size();
        }
        if self.end() > end {
            self.last = last.max(self.purged);
        }
    }

    /// Removes the entries up to and with `upto`, which may lie behind the end.
    pub(crate) fn purge(&mut self, upto: LogId) {
        if self.purged >= Some(upto) {
            return;
        }
        while self.recent.front().is_some_and(|entry| entry.index <= upto.index) {
            self.pop_front();
        }
        self.purged = Some(upto);
        self.start = self.start.max(upto.index + 1);
        if self.last.is_none_or(|last| last.index < upto.index) {
            self.last = Some(upto);
        }
    }

    /// The entries from `from` on that are in memory, up to `to` and until they exceed `limit` bytes; at
    /// least one, if there is any.
    pub(crate) fn recent(&self, from: u64, to: u64, limit: usize) -> Vec<LogEntry> {
        let skip = usize::try_from(from - self.recent_start()).expect("less than the length");
        let mut bytes = 0;
        let fits = |entry: &&LogEntry| {
            let first = bytes == 0;
            bytes += entry.size();
            first || bytes <= limit
        };
        self.recent.range(skip..).take_while(|entry| entry.index < to).take_while(fits).cloned().collect()
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.recent.pop_front() {
            self.recent_bytes -= entry.size();
        }
    }
}
