//! A bound on messages that have begun to arrive and are not whole.
//!
//! A message is bounded, and so are connections, but a connection may carry any number of calls. What they have sent so far is
//! kept until the rest comes, so a client that never sends it is stopped here.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that all incomplete messages together may take.
const MAX_BYTES: usize = 512 * 1024 * 1024;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// What one call holds of them.
#[derive(Debug, Default)]
pub(super) struct Partial {
    bytes: usize,
}

impl Partial {
    /// Sets what the call holds; `false` if that is more than is left.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        if bytes == self.bytes {
            return true;
        }
        let more = bytes.saturating_sub(self.bytes);
        let held = HELD.fetch_add(more, Ordering::Relaxed) + more;
        HELD.fetch_sub(self.bytes.saturating_sub(bytes), Ordering::Relaxed);
        self.bytes = bytes;
        more == 0 || held <= MAX_BYTES
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.bytes > 0 {
            HELD.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_go_is_there_for_others() {
        let (mut one, mut other) = (Partial::default(), Partial::default());
        assert!(one.hold(MAX_BYTES / 2));
        assert!(!other.hold(MAX_BYTES));
        assert!(other.hold(1000));
        assert!(!one.hold(MAX_BYTES));
        drop(one);
        assert!(other.hold(MAX_BYTES - 1000));
        drop(other);
        assert!(Partial::default().hold(MAX_BYTES));
    }
}
