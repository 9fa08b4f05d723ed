//! A whole etcd-rs member: the libraries joined, the sockets, the tasks and the clock.
//!
//! The program `etcd-rs` is a thin layer over this crate, and so can be any other: a member is started with a [`Config`] and
//! stops when it is told to.
//!
//! ```no_run
//! # async fn run() -> etcd_rs_server::Result<()> {
//! use etcd_rs_server::{Config, Server};
//!
//! let config = Config { data_dir: "./my.etcd".into(), ..Config::default() };
//! let server = Server::start(config).await?;
//! println!("serving clients on {:?}", server.client_addresses());
//! server.shutdown().await
//! # }
//! ```
//!
//! The way of a put: `serve` hands the call to `rpc::kv`, which checks it; `proposal` packs it with others into an entry;
//! raftlog makes that durable and commits it; `apply` turns it into one batch on the store; `watches` tells those who watch;
//! the caller gets its answer.

mod apply;
mod auto_compaction;
mod bootstrap;
mod calls;
mod clock;
mod compactor;
mod config;
mod corrupt;
mod counters;
mod dial;
mod divergence;
mod downgrade;
mod error;
mod exchange;
pub mod flags;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod hashes;
mod http;
mod leaderless;
mod leases;
mod listener;
pub mod logging;
mod member;
mod membership;
mod parts;
mod peer;
mod permit;
mod proposal;
mod publish;
mod read;
mod rpc;
mod security;
mod serve;
mod server;
mod space;
mod url;
mod users;
mod versions;
mod watches;

pub use config::{
    AutoCompaction, ClientTls, ClusterState, Config, Discovery, LogFormat, LogOutput, PeerTls, Registry,
};
pub use error::{Error, Result};
pub use exchange::Restore;
pub use flags::Launch;
pub use server::Server;
pub use tls::{Settings as TlsSettings, Version as TlsVersion};
