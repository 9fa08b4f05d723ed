//! The one place that asks what time it is.
//!
//! The libraries take time as a [`Duration`] since an origin; here it is the start of the process.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock whose zero is its creation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Time since the clock was started.
    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// When the clock will say `at`, for a timer.
    pub(crate) fn instant(&self, at: Duration) -> tokio::time::Instant {
        (self.origin + at).into()
    }
}

/// Milliseconds since 1970, the seed of request ids: it only has to differ from one start to the next.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
