//! What can go wrong with a lease.

use api::LeaseId;
use bytes::Bytes;

/// The result of what a [`Lessor`](crate::Lessor) does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a lessor refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The id asked for belongs to another lease.
    #[error("lease {0} already exists")]
    Exists(LeaseId),
    /// The time to live is beyond [`MAX_TTL_SECONDS`](crate::MAX_TTL_SECONDS).
    #[error("lease ttl of {0} seconds is too large")]
    TtlTooLarge(i64),
    /// There is no such lease: never granted, or revoked.
    #[error("lease {0} not found")]
    NotFound(LeaseId),
    /// The lease has run out and waits for its revocation to be committed. It cannot be renewed any more; who wants to
    /// answer its holder waits until the lease is gone.
    #[error("lease {0} has expired and awaits its revocation")]
    Expired(LeaseId),
    /// The lease carries a checkpoint of its remaining time. A checkpoint of 0 has to be committed before the renewal, or
    /// the next leader would cut the renewed lease short.
    #[error("lease {0} has a checkpoint that must be cleared first")]
    Checkpointed(LeaseId),
    /// This member does not keep the leases' time: it is not the primary.
    #[error("not the primary lessor")]
    NotPrimary,
    /// A stored record makes no sense.
    #[error("corrupt lease record {key:?}: {reason}")]
    Corrupt {
        /// The record's key.
        key: Bytes,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] backend::Error),
}
