//! What this member has done since it started, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters of a member.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Keys put, in transactions too.
    pub(crate) puts: Counter,
    /// Keys deleted, by requests and with leases.
    pub(crate) deletes: Counter,
    /// Range requests answered.
    pub(crate) ranges: Counter,
    /// Batches that took too long to apply.
    pub(crate) slow_applies: Counter,
    /// Transactions answered or applied.
    pub(crate) txns: Counter,
    /// Leases granted.
    pub(crate) leases_granted: Counter,
    /// Leases revoked by clients.
    pub(crate) leases_revoked: Counter,
    /// Leases revoked because they had run out.
    pub(crate) leases_expired: Counter,
    /// Renewals that came in time.
    pub(crate) leases_renewed: Counter,
}
