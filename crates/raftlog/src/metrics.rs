//! Counters of the log, for a monitoring system.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The upper bounds of the histogram of syncs, in seconds; slower ones fall into one more bucket.
pub(crate) const BOUNDS: [f64; 17] = [
    0.000_125, 0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512,
    1.024, 2.048, 4.096, 8.192,
];

/// How durations are distributed.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// The upper bounds of all buckets but the last, in seconds.
    pub bounds: Vec<f64>,
    /// How many durations fell into each bucket; one more than there are bounds.
    pub counts: Vec<u64>,
    /// The sum of all durations, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What the log has done since the node was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// The synced writes, one per batch.
    pub fsync: Histogram,
    /// Bytes given to the storage, entries and what belongs to them.
    pub bytes_written: u64,
    /// Entries and other changes written.
    pub changes_written: u64,
    /// Entries applied.
    pub entries_applied: u64,
    /// Batches in which they were applied.
    pub batches_applied: u64,
    /// Proposals that are not applied yet.
    pub proposals_pending: u64,
    /// Their bytes.
    pub proposal_bytes_pending: u64,
    /// Bytes that wait to be written.
    pub bytes_unwritten: u64,
    /// Bytes of entries kept in memory.
    pub cache_bytes: u64,
    /// How often another leader was seen.
    pub leader_changes: u64,
    /// Snapshots that came from other members and were installed.
    pub snapshots_installed: u64,
    /// The ways to the other members.
    pub peers: BTreeMap<u64, PeerMetrics>,
}

/// What has happened on the way to another member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PeerMetrics {
    /// Whether the last heartbeat, vote or read got through.
    pub is_active: bool,
    /// How often that ceased.
    pub disconnects: u64,
    /// Messages that did not get through.
    pub failures: u64,
    /// Snapshots the member has taken.
    pub snapshots_sent: u64,
    /// Snapshots that were not sent whole.
    pub snapshot_failures: u64,
}

#[derive(Debug, Default)]
pub(crate) struct LogMetrics {
    syncs: [AtomicU64; BOUNDS.len() + 1],
    sync_nanos: AtomicU64,
    bytes: AtomicU64,
    changes: AtomicU64,
}

impl LogMetrics {
    pub(crate) fn written(&self, elapsed: Duration, bytes: u64, changes: usize) {
        let bucket = BOUNDS.partition_point(|&bound| bound < elapsed.as_secs_f64());
        self.syncs[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.changes.fetch_add(changes as u64, Ordering::Relaxed);
    }

    pub(crate) fn fsync(&self) -> Histogram {
        Histogram {
            bounds: BOUNDS.to_vec(),
            counts: self.syncs.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: Duration::from_nanos(self.sync_nanos.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct ApplyMetrics {
    entries: AtomicU64,
    batches: AtomicU64,
}

impl ApplyMetrics {
    pub(crate) fn applied(&self, entries: usize) {
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(crate) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }
}

/// Measures how long something takes. Nothing depends on the result but metrics.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let metrics = LogMetrics::default();
        metrics.written(Duration::from_micros(125), 10, 1);
        metrics.written(Duration::from_micros(126), 10, 1);
        metrics.written(Duration::from_secs(9), 10, 1);
        let fsync = metrics.fsync();
        assert_eq!((fsync.counts[0], fsync.counts[1], fsync.counts[BOUNDS.len()]), (1, 1, 1));
        assert_eq!((fsync.count(), metrics.bytes(), metrics.changes()), (3, 30, 3));
    }
}
