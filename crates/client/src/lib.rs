//! A client for etcd v3: keys, transactions, watches, leases, locks and elections, users and roles.
//!
//! ```no_run
//! use etcd_rs_client::{Client, Compare, ConnectOptions, Put, Txn};
//!
//! #[tokio::main]
//! async fn main() -> etcd_rs_client::Result<()> {
//!     let client = Client::connect(ConnectOptions::new(["localhost:2379"])).await?;
//!
//!     client.put("greeting", "hello").await?;
//!     for kv in client.get("greet").prefix().await?.kvs {
//!         println!("{:?} = {:?}, written at {}", kv.key, kv.value, kv.mod_revision);
//!     }
//!
//!     let unless_changed = Compare::version("greeting").equal(1);
//!     let txn = Txn::new().when([unless_changed]).then([Put::new("greeting", "hello again")]);
//!     println!("changed: {}", client.txn(txn).await?.succeeded);
//!     Ok(())
//! }
//! ```
//!
//! # How it behaves
//!
//! - **Requests are builders**: `client.get(key)` and its kin are awaited, with what is special about them in between. The
//!   same builders made without a client, as `Get::new(key)`, are operations of a [`Txn`].
//! - **Answers are etcd's messages**, from the `api` crate, which is re-exported. Byte fields share the buffer they came in.
//! - **Endpoints take turns.** One that refuses connections is passed over; a request that was never sent goes to the next.
//!   Reads are sent again when the answer is Unavailable. Writes are not: see [`Error`] for what is known of them then.
//! - **Watches and keep-alives survive** broken connections and members; each kind shares one stream per client.
//! - **Errors** carry the gRPC code and etcd's text as it was sent; [`Error::is`] compares with the list of `api::status`.

mod auth;
mod channel;
mod client;
mod cluster;
mod concurrency;
mod core;
mod error;
mod kv;
mod lease;
mod maintenance;
mod options;
mod retry;
mod txn;
mod users;
mod watch;

pub use api;
pub use api::etcdserverpb::range_request::{SortOrder, SortTarget};
pub use api::etcdserverpb::watch_create_request::FilterType;
pub use api::{ClusterId, LeaseId, MemberId};
pub use tonic::Code;

pub use crate::client::Client;
pub use crate::concurrency::{Leadership, Lock, Observer, Session};
pub use crate::error::{Error, Result};
pub use crate::kv::{Compact, Delete, Get, Put};
pub use crate::lease::LeaseKeeper;
pub use crate::maintenance::SnapshotStream;
pub use crate::options::{ConnectOptions, TlsOptions};
pub use crate::txn::{Comparand, Compare, Op, Txn};
pub use crate::watch::{Watch, WatchStream};
