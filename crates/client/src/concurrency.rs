//! Locks and elections among clients, made of keys that live with their owners' leases.
//!
//! ```no_run
//! # async fn example(client: etcd_rs_client::Client) -> etcd_rs_client::Result<()> {
//! let session = client.session(10).await?;
//! let lock = session.lock("jobs/nightly").await?;
//! // Whoever writes under the lock proves that it still has it: the key must be the one it was given.
//! let held = etcd_rs_client::Compare::create_revision(lock.key()).equal(lock.revision());
//! # let _ = held;
//! lock.unlock().await?;
//! session.close().await?;
//! # Ok(()) }
//! ```
//!
//! A [`Session`] is a lease that is kept alive; what it holds is gone when the lease is, which [`Session::lost`] tells. A lease
//! cannot keep two from believing at once that they hold a lock, if one of them sleeps through its end: what is done under a
//! lock must be compared with the lock's key, as above.
//!
//! These are etcd's recipes, so they share locks and elections with etcdctl, with other clients, and with those who use the
//! services Lock and Election of a server.

mod candidate;
mod election;
mod lock;
mod session;

pub use election::{Leadership, Observer};
pub use lock::Lock;
pub use session::Session;
