//! Clusters of three processes, and what can happen to them. Each test loads a cluster, does it harm, lets it recover,
//! and judges what clients, watchers and keepers of leases were told: no acknowledged write is lost, answers are those
//! of one store, watches bring every event once and in order, leases last as long as promised, and all members end
//! with the same history.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod auth;
mod disks;
mod membership;
mod network;
mod processes;

use etcd_rs_e2e as e2e;

use e2e::load::{Load, Plan};
use e2e::{Cluster, Shape};

/// Writes that are to be acknowledged before, during and after a fault.
const SOME: u64 = 60;

/// Loads a cluster, lets `fault` happen, and judges. The fault has to leave the cluster whole.
async fn under_load(cluster: &mut Cluster, fault: impl AsyncFnOnce(&mut Cluster, &Load)) {
    let load = Load::start(cluster, &Plan::default());
    load.goes_on(SOME).await;
    fault(cluster, &load).await;
    load.goes_on(SOME).await;
    load.end(cluster).await.holds(cluster).await;
}

/// Makes tests of bodies that get a fresh cluster, of the default shape or the one that is given: against ours and a
/// real etcd, or after `ours;` against ours alone, where it is safer.
macro_rules! faults {
    (both; $($tests:tt)+) => { $crate::faults!(@each [binary Binary, real_etcd Real]; $($tests)+); };
    (ours; $($tests:tt)+) => { $crate::faults!(@each [binary Binary]; $($tests)+); };
    (@each $targets:tt;
        $($(#[$doc:meta])+ async fn $name:ident($cluster:ident $(, $shape:expr)?) $body:block)+
    ) => {$(
        $(#[$doc])+
        mod $name {
            #[allow(unused_imports, reason = "not every body needs what its file imports")]
            use super::*;

            async fn body($cluster: &mut $crate::Cluster) $body

            fn shape() -> $crate::Shape {
                let [shape, ..] = [$($shape,)? $crate::Shape::default()];
                shape
            }

            $crate::faults!(@tests $targets);
        }
    )+};
    (@tests [$($test:ident $target:ident),+]) => {$(
        #[test]
        fn $test() {
            $crate::run($crate::e2e::Target::$target, shape(), body);
        }
    )+};
}
use faults;

fn run(target: e2e::Target, shape: Shape, body: impl AsyncFnOnce(&mut Cluster)) {
    e2e::run_alone(async {
        let mut cluster = Box::pin(Cluster::start_with(target, shape)).await;
        Box::pin(body(&mut cluster)).await;
    });
}
