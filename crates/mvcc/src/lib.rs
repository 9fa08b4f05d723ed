//! Keys with a history: the revisioned keyspace of etcd, to embed.
//!
//! A keyspace maps keys to values and remembers what they were. Every request that changes something gets the next *revision*; a
//! read can ask for the state at an old revision, a watcher for all changes since one, until a *compaction* lets go of what is older.
//! There is no raft here, no gRPC, no clock: whoever embeds a [`Store`] decides the order of requests, and leases are numbers that
//! keys carry.
//!
//! ```
//! use std::sync::Arc;
//! use api::LeaseId;
//! use backend::MemBackend;
//! use etcd_rs_mvcc::{RangeOptions, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut store = Store::open(Arc::new(MemBackend::new()))?;
//! let reader = store.reader();
//!
//! let mut txn = store.write();
//! txn.put("color/apple".into(), "green".into(), LeaseId::NONE)?;
//! assert_eq!(txn.end_request(), 2, "a fresh store has revision 1");
//! txn.put("color/apple".into(), "red".into(), LeaseId::NONE)?;
//! txn.put("color/plum".into(), "blue".into(), LeaseId::NONE)?;
//! assert_eq!(txn.end_request(), 3);
//! assert_eq!(reader.revision(), 1, "readers see nothing before the commit");
//! let commit = txn.commit()?;
//! assert_eq!(commit.changes.len(), 2, "one for each request");
//!
//! let mut all = RangeOptions::new("color/", "color0");
//! assert_eq!(reader.range(&all)?.count, 2);
//! all.revision = 2;
//! let before = reader.range(&all)?;
//! assert_eq!((before.count, before.revision), (1, 3));
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! In memory there is one tree of the live keys (`tree.rs`): key to revisions, version, lease and size of the value. It is copied on write, so a
//! [`Reader`] takes its root and meets no lock, and it is counted, so that counting a range costs as much as finding a key. Old
//! versions are on disk only, in two tables of the [`backend`]:
//!
//! ```text
//!            put a=x            rev    (revision)     -> superseded revision, KeyValue message     in order of time
//!  Store ──► WriteTxn ──► tx ──►
//!               │               index  (key, revision) -> numbers, without the value               in order of keys
//!               └──► tree ──► view ──► Reader: which keys? tree now, `index` for old revisions; values: `rev`
//! ```
//!
//! Both are written in the batch that commits the request, together with whatever else the embedder puts into [`WriteTxn::tx`]. `rev` grows at its
//! end only. Messages in it are those of the wire, so a range or a watch hands them on without taking them apart.
//!
//! - [`Store::open`] reads the newest entry of each key and builds the tree from the leaves up.
//! - [`Compaction`] deletes in chunks, on any thread, beside the writer; why that is safe is told in `compaction.rs`.
//! - [`Reader::hash_kv`] equals etcd's HashKV for equal histories.
//!
//! A reader that a compaction overtakes is told so; it never sees a gap.

mod commit;
mod compaction;
mod error;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod history;
mod index_entry;
mod key_value;
mod meta;
mod options;
mod pins;
mod range;
mod read;
mod record;
mod restore;
mod revision;
mod store;
mod stream;
mod tree;
mod view;
mod write;

pub use commit::{Change, ChangeKind, Changes, Commit};
pub use compaction::Compaction;
pub use error::{Error, Result};
pub use exchange::{Export, Import, Imported};
pub use hash::KvHash;
pub use options::{KeyMeta, Order, RangeOptions, RangeResult, Target};
pub use read::{ReadTxn, Reader};
pub use revision::Revision;
pub use store::Store;
pub use stream::{Chunk, RangeStream};
pub use write::{Deleted, WriteTxn};
