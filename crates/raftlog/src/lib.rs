//! A replicated log for a state machine of your own, driven by [openraft] and kept in [RocksDB].
//!
//! Bring an [`Application`]: something that turns entries into state. Open a [`Node`] with it and
//! [propose](Node::propose) entries. Each comes back, on every member of the cluster and in the same order, as a call of
//! [`Application::apply`], once a majority has it on disk.
//!
//! ```
//! use raftlog::{Application, ApplicationError, Applied, Config, Entry, Node};
//!
//! /// Adds up numbers.
//! #[derive(Default)]
//! struct Sum {
//!     total: u64,
//!     applied: Applied,
//! }
//!
//! impl Application for Sum {
//!     fn applied(&self) -> Applied {
//!         self.applied.clone()
//!     }
//!
//!     fn apply(&mut self, batch: &[Entry]) -> Result<(), ApplicationError> {
//!         for entry in batch {
//!             if !entry.data.is_empty() {
//!                 self.total += u64::from_be_bytes(entry.data[..].try_into()?);
//!             }
//!             self.applied.last = Some(entry.log_id());
//!             self.applied.membership = entry.membership.clone().or(self.applied.membership.take());
//!         }
//!         println!("the sum is {}", self.total);
//!         Ok(())
//!     }
//!
//!     /// The sum lives in memory only, so a crash leaves nothing of it; the log has it all.
//!     fn flush(&mut self) -> Result<Applied, ApplicationError> {
//!         Ok(Applied::default())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let dir = tempfile::tempdir()?;
//! let node = Node::open(Config::single(1, 1, dir.path()), Sum::default()).await?;
//! let mut leadership = node.leadership();
//! leadership.wait_for(|leadership| leadership.is_leader).await?;
//! let proposals: Vec<_> = (1..=10u64).map(|n| node.propose(n.to_be_bytes().to_vec().into())).collect();
//! for proposal in proposals {
//!     proposal.await?;
//! }
//! node.shutdown().await?;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # How it works
//!
//! ```text
//! propose ─> openraft ─append─> log store ─> queue ─> writer ─> RocksDB: one synced batch for all that waits
//!               │                                       │
//!               │<──────────── durable ─────────────────┘
//!               └─committed─> queue ─> apply thread ─> Application: one batch for all that waits
//! ```
//!
//! - There are two threads besides the tasks on your runtime: one writes the log, one applies. Each takes everything that came
//!   together while it was busy, so the more load, the larger the batches, and nobody waits for company.
//! - An entry is applied only once it is durable here. So the state is never ahead of the log, need not be
//!   durable itself, and is brought up to date from the log when the node opens.
//! - The log is purged only up to where the application was [flushed](Application::flush).
//! - A failed write or sync is final. The node stops, and [`Node::failed`] tells why.
//! - A crash may tear the last batch; it was not acknowledged and is cut off. Damage anywhere else is
//!   reported with file and offset, and nothing is repaired by guessing.
//!
//! # Several members
//!
//! Give each member the others' URLs in [`Config::bootstrap`], and serve its [`PeerService`] where its own URL leads. The log
//! speaks HTTP/2 over whatever [`Dial`] connects, so encryption is the application's business. Proposals and reads may
//! be made at any member; they find the leader themselves. [`Node::change_membership`] adds and removes members, one voter at a time.
//! A member that lags too far is sent the [state itself](Application::snapshot).
//!
//! # What it is not
//!
//! It knows nothing of what it replicates, and it answers no clients.
//!
//! [openraft]: https://docs.rs/openraft
//! [RocksDB]: https://rocksdb.org

mod application;
mod config;
mod contact;
mod error;
mod failure;
mod force_new_cluster;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod leadership;
mod log_store;
mod membership;
mod metrics;
mod network;
mod node;
mod proposal;
mod read_index;
mod record;
mod replay;
mod runtime;
mod sole_voter;
mod state_machine;
mod supervisor;
mod transfer;
mod types;

pub use application::{Application, ApplicationError, Applied, Entry, LogId};
pub use config::{Config, Member};
pub use error::{CallError, Error, ProposeError, ReadIndexError, Result};
pub use leadership::Leadership;
pub use membership::{Change, ChangeError, Membership};
pub use metrics::{Histogram, Metrics, PeerMetrics};
pub use network::dial::{Answer, Dial, Io, Tcp};
pub use network::service::PeerService;
pub use node::{Node, Status};
pub use proposal::Proposal;
pub use transfer::{Progress, TransferError};
