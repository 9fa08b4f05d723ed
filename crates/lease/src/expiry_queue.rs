//! When to look at which lease again.
//!
//! Every lease is here at most once. A renewal moves the lease's expiry but not its place in the queue: when its turn comes
//! too early, it is put back at its true time. So a renewal costs one store into the lease, leaves no garbage behind, and the
//! queue does one step of work per lease and time to live, however often the lease is renewed.
//!
//! ```text
//! grant at 0 s, ttl 10     queue: (10 s, lease)     expiry: 10 s
//! renew at 3, 6, 9 s       queue: (10 s, lease)     expiry: 19 s
//! looked at, 10 s          queue: (19 s, lease)     not handed out
//! looked at, 19 s          queue: (26 s, lease)     handed out; again at 26 s should its revocation have failed
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use api::LeaseId;

/// Leases by the time of their turn, earliest first, ties by id.
#[derive(Debug, Default)]
pub(crate) struct ExpiryQueue {
    turns: BTreeSet<(Duration, LeaseId)>,
}

impl ExpiryQueue {
    /// Gives `id` its turn at `at`, in the slot that remembers the lease's place.
    pub(crate) fn place(&mut self, place: &mut Option<Duration>, at: Duration, id: LeaseId) {
        self.remove(place, id);
        *place = Some(at);
        let new = self.turns.insert((at, id));
        debug_assert!(new, "lease {id} is queued twice");
    }

    /// Takes `id` out.
    pub(crate) fn remove(&mut self, place: &mut Option<Duration>, id: LeaseId) {
        if let Some(at) = place.take() {
            let known = self.turns.remove(&(at, id));
            debug_assert!(known, "lease {id} is not queued at {at:?}");
        }
    }

    /// The next lease whose turn has come. It stays in the queue: the caller places it anew or removes it.
    pub(crate) fn due(&self, now: Duration) -> Option<LeaseId> {
        self.turns.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// The next turn.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.turns.first().map(|(at, _)| *at)
    }

    /// Forgets everybody; the caller clears the leases' places.
    pub(crate) fn clear(&mut self) {
        self.turns.clear();
    }

    /// Takes over turns in bulk.
    pub(crate) fn fill(&mut self, turns: impl Iterator<Item = (Duration, LeaseId)>) {
        self.turns = turns.collect();
    }

    /// How many leases have a turn.
    pub(crate) fn len(&self) -> usize {
        self.turns.len()
    }
}
