//! One lease and the keys attached to it.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

/// One granted lease, as the lessor keeps it in memory.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Granted time to live in seconds, at least the minimum.
    pub(crate) ttl: i64,
    /// Seconds left at the last checkpoint; 0 when there is none. Replicated, unlike `expiry`.
    pub(crate) remaining_ttl: i64,
    /// When the lease runs out by the primary's clock; `None` on every other member.
    pub(crate) expiry: Option<Duration>,
    /// The lease's one place in the expiry queue; `None` on members that are not primary. At most `expiry` until the lease
    /// was handed out as expired, from then on when to hand it out again.
    pub(crate) wake: Option<Duration>,
    /// The lease's one place in the checkpoint queue, if it has one.
    pub(crate) checkpoint_due: Option<Duration>,
    /// What goes with the lease.
    pub(crate) keys: Keys,
}

impl Lease {
    pub(crate) const fn new(ttl: i64, remaining_ttl: i64) -> Self {
        Self { ttl, remaining_ttl, expiry: None, wake: None, checkpoint_due: None, keys: Keys::new() }
    }

    /// The granted time to live.
    pub(crate) fn duration(&self) -> Duration {
        seconds(self.ttl)
    }

    /// The time a new primary owes the lease: what the last checkpoint says, else all of it.
    pub(crate) fn owed(&self) -> Duration {
        seconds(if self.remaining_ttl > 0 { self.remaining_ttl } else { self.ttl })
    }

    /// Whether the lease has run out at `now`. Never, on a member that is not primary.
    pub(crate) fn is_expired(&self, now: Duration) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }
}

/// Seconds that are known not to be negative.
fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).expect("a stored ttl is at least 0"))
}

/// How many keys a lease holds in a plain vector.
const FEW: usize = 16;

/// The keys of one lease. Most leases have one key or a few: those sit in an exact sorted vector. A key is kept as its own
/// copy, because the caller's `Bytes` would keep the whole request alive, values and all, as long as the lease lives.
#[derive(Debug)]
pub(crate) enum Keys {
    /// At most [`FEW`], ascending.
    Few(Vec<Box<[u8]>>),
    /// More than that, or once were.
    Many(BTreeSet<Box<[u8]>>),
}

impl Keys {
    pub(crate) const fn new() -> Self {
        Self::Few(Vec::new())
    }

    pub(crate) fn insert(&mut self, key: &[u8]) {
        match self {
            Self::Few(keys) => {
                let Err(at) = keys.binary_search_by(|k| k.as_ref().cmp(key)) else { return };
                if keys.len() < FEW {
                    keys.reserve_exact(1);
                    keys.insert(at, key.into());
                } else {
                    let mut many: BTreeSet<_> = std::mem::take(keys).into_iter().collect();
                    many.insert(key.into());
                    *self = Self::Many(many);
                }
            }
            Self::Many(keys) => {
                if !keys.contains(key) {
                    keys.insert(key.into());
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        match self {
            Self::Few(keys) => {
                if let Ok(at) = keys.binary_search_by(|k| k.as_ref().cmp(key)) {
                    keys.remove(at);
                }
            }
            Self::Many(keys) => {
                keys.remove(key);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(keys) => keys.len(),
            Self::Many(keys) => keys.len(),
        }
    }

    /// Copies of the keys, ascending.
    pub(crate) fn to_vec(&self) -> Vec<Bytes> {
        match self {
            Self::Few(keys) => keys.iter().map(|k| Bytes::copy_from_slice(k)).collect(),
            Self::Many(keys) => keys.iter().map(|k| Bytes::copy_from_slice(k)).collect(),
        }
    }

    /// The keys themselves, ascending.
    pub(crate) fn into_vec(self) -> Vec<Bytes> {
        match self {
            Self::Few(keys) => keys.into_iter().map(Bytes::from).collect(),
            Self::Many(keys) => keys.into_iter().map(Bytes::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_sorted_and_unique_however_many() {
        for count in [0_u8, 1, 2, 16, 17, 40] {
            let mut keys = Keys::new();
            for i in (0..count).rev().chain(0..count) {
                keys.insert(&[i]);
            }
            let all: Vec<Bytes> = (0..count).map(|i| Bytes::from(vec![i])).collect();
            assert_eq!((keys.len(), keys.to_vec()), (all.len(), all.clone()));
            keys.remove(&[0]);
            keys.remove(&[200]);
            assert_eq!(keys.into_vec(), all.get(1..).unwrap_or_default());
        }
    }
}
