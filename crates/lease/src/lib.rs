//! Leases: granted, renewed, attached to keys, expired in time.
//!
//! A lease is a promise with an end: keys attached to it are deleted when nobody has renewed it for its time to live. Two
//! kinds of facts make up a lease, and the [`Lessor`] keeps them well apart:
//!
//! - *Replicated facts*: that it exists, its time to live, its keys, the checkpoint of its remaining time. They change only
//!   through the log, on every member alike, and their records go into the transaction that the caller commits together with
//!   everything else an entry did. Keys are not recorded here: each key names its lease, and the server attaches them at boot.
//! - *Time*: when it runs out. Only the primary (the member that leads) keeps it, in memory, by its own monotonic clock. A
//!   primary never ends a lease by itself: it hands out what has [expired](Lessor::expired), the server proposes a revocation,
//!   and the lease is gone when that is applied. Until then it is expired but not revoked, and can no longer be renewed.
//!
//! ```text
//!  grant ──> alive ──(time)──> expired ──> handed out ──> proposed ──> revoke ──> gone
//!              ^ │ renew          │ renew: refused            ^ │
//!              └─┘                └───────────────────────────┘ │ handed out again when that did not come about
//! ```
//!
//! A new primary starts every lease afresh ([`promote`](Lessor::promote)): with the time of its last checkpoint, or all of its
//! time, and some on top. It never knows less than the old one promised.
//!
//! Time comes in as `now`, a [`Duration`](std::time::Duration) since any fixed point; nothing here reads a clock, draws a
//! number or starts a thread.
//!
//! ```
//! use std::time::Duration;
//! use backend::{Backend, MemBackend};
//! use etcd_rs_lease::{Lessor, Options};
//! use api::LeaseId;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let backend = MemBackend::new();
//! let lessor = Lessor::open(&backend, Options::default())?;
//! let at = Duration::from_secs;
//! lessor.promote(at(0), Duration::ZERO);
//!
//! let (id, mut tx) = (LeaseId::new(7), backend.begin());
//! assert_eq!(lessor.grant(&mut tx, id, 10, at(1))?, 10);
//! lessor.attach(id, b"lock")?;
//! backend.commit(tx)?;
//!
//! lessor.renew(id, at(8))?;
//! assert!(lessor.expired(at(17), 100).is_empty());
//! assert_eq!(lessor.expired(at(18), 100), [id]);
//! assert!(lessor.renew(id, at(18)).is_err(), "too late");
//!
//! let mut tx = backend.begin();
//! assert_eq!(lessor.revoke(&mut tx, id)?, ["lock"]);
//! backend.commit(tx)?;
//! # Ok(())
//! # }
//! ```

mod error;
mod expiry_queue;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod lease;
mod lessor;
mod record;

pub use error::{Error, Result};
pub use lessor::{Checkpoint, Lessor, MAX_TTL_SECONDS, Options, TimeToLive};
