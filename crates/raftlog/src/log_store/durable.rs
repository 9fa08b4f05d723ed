//! How far the log has reached the disk.

use std::sync::{Condvar, Mutex, PoisonError};

/// The boundary between entries that survive a crash and entries that may not.
///
/// Truncating the log moves it back at once, although the writer may just be writing what was truncated. So
/// each truncation begins a new epoch, and what the writer reports about an earlier one is ignored:
///
/// ```text
/// append 5..8 (epoch 0)   truncate to 5 (epoch 1)   append 6' (epoch 1)
///        writer: 8 durable, epoch 0: too late, ignored      writer: 7 durable, epoch 1: entry 6' is safe
/// ```
#[derive(Debug, Default)]
pub(crate) struct Durable {
    state: Mutex<State>,
    advanced: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Entries below this index are durable.
    next: u64,
    epoch: u64,
    /// Threads in [`Durable::wait`], so that an advance nobody waits for costs no system call.
    waiting: usize,
    /// Nothing will advance any more.
    closed: bool,
}

impl Durable {
    pub(crate) fn new(next: u64) -> Self {
        Self { state: Mutex::new(State { next, ..State::default() }), advanced: Condvar::new() }
    }

    /// Begins a new epoch in which nothing from `next` on is durable.
    pub(crate) fn truncate(&self, next: u64) -> u64 {
        let mut state = self.lock();
        state.next = state.next.min(next);
        state.epoch += 1;
        state.epoch
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Everything below `next` is durable, as of the given epoch.
    pub(crate) fn advance(&self, epoch: u64, next: u64) {
        let mut state = self.lock();
        if epoch == state.epoch && next > state.next {
            state.next = next;
            if state.waiting > 0 {
                self.advanced.notify_all();
            }
        }
    }

    /// Ends all waiting: the writer is gone.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.advanced.notify_all();
    }

    /// The index below which everything is durable.
    pub(crate) fn next(&self) -> u64 {
        self.lock().next
    }

    /// Waits until the entry at `index` is durable and returns the index below which everything is; `None`
    /// when that will never happen.
    pub(crate) fn wait(&self, index: u64) -> Option<u64> {
        let mut state = self.lock();
        state.waiting += 1;
        while state.next <= index && !state.closed {
            state = self.advanced.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        (state.next > index).then_some(state.next)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_truncated_while_it_was_written_is_not_durable() {
        let durable = Durable::new(0);
        durable.advance(0, 5);
        let epoch = durable.truncate(3);
        durable.advance(0, 8);
        assert_eq!(durable.next(), 3);
        durable.advance(epoch, 4);
        assert_eq!(durable.wait(3), Some(4));
    }

    #[test]
    fn closing_ends_the_waiting() {
        let durable = Durable::new(0);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| durable.wait(0));
            durable.close();
            assert_eq!(waiter.join().unwrap(), None);
        });
    }
}
