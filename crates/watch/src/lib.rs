//! The watch hub: each committed event to each watcher once and in order.
//!
//! Commits come in, encoded `WatchResponse`s go out. The [`Hub`] promises every watcher what etcd promises: its events in
//! revision order, each exactly once, none left out, the events of one revision together, nothing before its commit, and
//! progress that never overtakes an event. It runs on one thread of its server's, beside the writer: however many watchers
//! there are, the writer only hands over each commit.
//!
//! # Two ways to a client
//!
//! ```text
//!              commit ──> publish ──> groups of synced watchers ──────────> outbox ──> client
//!                                          │ no room      ^ caught up          ^
//!                                          v              │                    │
//!              history of the store ──> watchers that are behind (only a revision each)
//! ```
//!
//! - *Synced* watchers are fed by [`publish`](Hub::publish). Those that watch the very same keys form a group; groups are
//!   found by key in a hash map, or by range in an interval tree. The bytes of a revision's events are made once, and once
//!   more with previous values if some watcher wants these; a delivery is three slices given to the stream's [`Outbox`]: the
//!   header that all share, the watch id, the events that all share.
//! - Watchers *behind*, because they start in the past, because their client is slow, or because a snapshot was installed,
//!   are only a number: the next revision they need. [`sync`](Hub::sync) feeds them from [`mvcc::Reader::changes`] when their
//!   outbox has room, many for each stretch of history it reads, until they are live again. So a slow client costs no memory
//!   and nobody else's time. If compaction gets there first, the watcher is told so and ends.
//!
//! # What it does not do
//!
//! No threads, sockets, clock or randomness: the server decides when to [`sync`](Hub::sync) and to
//! [tick](Hub::tick_progress). No permissions either: the server checks [`requested_range`] and [denies](Hub::deny).
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use backend::MemBackend;
//! use api::{ClusterId, LeaseId, MemberId, etcdserverpb::{WatchCreateRequest, WatchResponse}};
//! use etcd_rs_watch::{Hub, Identity, Options, Outbox};
//! use mvcc::Store;
//! use prost::Message;
//!
//! #[derive(Default)]
//! struct Inbox(Mutex<Vec<WatchResponse>>);
//!
//! impl Outbox for Inbox {
//!     fn push(&self, response: &[&[u8]]) {
//!         self.0.lock().unwrap().push(WatchResponse::decode(response.concat().as_slice()).unwrap());
//!     }
//!     fn has_room(&self) -> bool {
//!         true
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut store = Store::open(Arc::new(MemBackend::new()))?;
//! let identity = Identity { cluster_id: ClusterId::new(1), member_id: MemberId::new(2) };
//! let mut hub = Hub::new(store.reader(), Options::new(identity));
//!
//! let inbox = Arc::new(Inbox::default());
//! let stream = hub.open(inbox.clone());
//! hub.create(stream, &WatchCreateRequest { key: "a".into(), range_end: "b".into(), ..Default::default() });
//!
//! let mut txn = store.write();
//! txn.put("apple".into(), "red".into(), LeaseId::NONE)?;
//! txn.end_request();
//! hub.publish(&txn.commit()?, 1)?;
//!
//! let received = inbox.0.lock().unwrap();
//! assert!(received[0].created);
//! assert_eq!(received[1].events[0].kv.as_ref().unwrap().value, "red");
//! # Ok(())
//! # }
//! ```

mod batch;
mod catch_up;
mod error;
mod group;
mod hub;
mod interval_tree;
mod outbox;
mod progress;
mod publish;
mod stream;
mod watcher;
mod wire;

pub use error::{Error, Result};
pub use hub::{Hub, NO_WATCH_ID, Options, Stats, requested_range};
pub use outbox::Outbox;
pub use stream::StreamId;
pub use wire::Identity;
