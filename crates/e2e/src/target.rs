//! What a test can run against, and how it comes to run against each.

use std::future::Future;
use std::time::Duration;

use crate::Member;

/// A kind of member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The server inside the test's own process, as a program that embeds it has it.
    InProcess,
    /// The `etcd-rs` program.
    Binary,
    /// A real etcd.
    Real,
}

/// A test that runs longer has hung.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a test's body against a fresh member of one kind.
///
/// # Panics
/// When the body does, or when it hangs.
pub fn run<F: Future<Output = ()>>(target: Target, body: impl FnOnce(Member) -> F) {
    run_alone(async { body(Member::start(target).await).await });
}

/// Runs a test that starts its members itself.
///
/// # Panics
/// When the body does, or when it hangs.
pub fn run_alone(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async { tokio::time::timeout(LIMIT, body).await.expect("the test hung") });
}

/// Makes one `#[test]` per target out of each body.
///
/// Say `everywhere;` where ours and the etcd compared with agree, and `ours;` before bodies that hold for etcd's
/// newest version, which is what we follow, but not for the older one that the tests compare with.
#[macro_export]
macro_rules! each_target {
    (everywhere; $($(#[$doc:meta])+ async fn $name:ident($member:ident) $body:block)+) => {
        $($(#[$doc])+ mod $name {
            #[allow(unused_imports, reason = "not every body needs what its file imports")]
            use super::*;
            $crate::each_target!(@test in_process, InProcess, $member, $body);
            $crate::each_target!(@test binary, Binary, $member, $body);
            $crate::each_target!(@test real_etcd, Real, $member, $body);
        })+
    };
    (ours; $($(#[$doc:meta])+ async fn $name:ident($member:ident) $body:block)+) => {
        $($(#[$doc])+ mod $name {
            #[allow(unused_imports, reason = "not every body needs what its file imports")]
            use super::*;
            $crate::each_target!(@test in_process, InProcess, $member, $body);
            $crate::each_target!(@test binary, Binary, $member, $body);
        })+
    };
    (@test $test:ident, $target:ident, $member:ident, $body:block) => {
        #[test]
        fn $test() {
            $crate::run($crate::Target::$target, async |$member: $crate::Member| $body);
        }
    };
}
