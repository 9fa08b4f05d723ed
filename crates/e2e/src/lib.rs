//! The outside view: what a client sees of a member, whichever member it is.
//!
//! A test is one body, written once with [`each_target!`], and run against every [`Target`] on which it holds: the
//! server inside the test's own process, the `etcd-rs` program, and a real etcd. A body gets a fresh [`Member`]
//! and speaks to it through the generated clients, so that each field of each message is in sight.
//!
//! Members listen on ports of the loopback that nobody else uses, keep their data in a temporary directory, and
//! are killed when they go out of scope. Tests wait for conditions ([`eventually`]), never for time to pass.
//!
//! ```
//! etcd_rs_e2e::each_target! {
//!     everywhere;
//!
//!     /// The header of an answer to a put carries the revision that the put made.
//!     async fn a_put_makes_a_revision(member) {
//!         assert_eq!(member.put("a", "1").await.header.unwrap().revision, 2);
//!     }
//! }
//! # fn main() {}
//! ```

mod calls;
mod cluster;
mod disk;
pub mod linear;
pub mod load;
mod member;
pub mod nemesis;
pub mod network;
mod ports;
mod programs;
pub mod random;
mod session;
mod target;
mod watcher;

pub use calls::{
    IntoOp, Sorted, call_raw, compare, delete, get, keys, pairs, prefix_end, put, range, refused, revision,
};
pub use cluster::{Cluster, Shape};
pub use disk::{SlowSyncs, SmallDisk};
pub use member::{Member, Settings};
pub use ports::free as free_port;
pub use programs::{Programs, programs, real_etcd};
pub use session::{Session, Shown, Token};
pub use target::{Target, run, run_alone};
pub use watcher::Watcher;

use std::time::{Duration, Instant};

/// How long a condition may take to come true before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none within [`PATIENCE`], naming `what` was waited for.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
