//! Measures what leases cost: granting, renewing, promoting, expiring many of them. Run it with
//! `cargo run --release --example keep_alive --no-default-features`.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement prints times")]

use std::time::{Duration, Instant};

use api::LeaseId;
use backend::{Backend, MemBackend};
use etcd_rs_lease::{Lessor, Options};

const RENEWALS: u64 = 5_000_000;

fn timed(what: &str, count: u64, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    let time = start.elapsed();
    println!("{what:40} {:9.1} ns each {time:10.1?} in all", time.as_secs_f64() * 1e9 / count as f64);
}

fn main() {
    for leases in [10_000_i64, 100_000, 1_000_000] {
        println!("{leases} leases");
        let count = leases.unsigned_abs();
        let backend = MemBackend::new();
        let lessor = Lessor::open(&backend, Options::default()).expect("an empty store opens");
        lessor.promote(Duration::ZERO, Duration::ZERO);
        let mut tx = backend.begin();
        // Ids as a server picks them: far from each other in a hash map.
        let id = |n: i64| LeaseId::new(0x694d_a203_842f_0000 + n);
        timed("grant, with one key", count, || {
            for n in 0..leases {
                lessor.grant(&mut tx, id(n), 60, Duration::ZERO).expect("a new id");
                lessor.attach(id(n), format!("/a/key/of/lease/{n}").as_bytes()).expect("it was granted");
            }
        });
        timed("renew, now and then looking for expiries", RENEWALS, || {
            for renewal in 0..RENEWALS {
                let now = Duration::from_micros(renewal * 59 * 1_000_000 / count.max(RENEWALS));
                let n = i64::try_from(renewal.wrapping_mul(2_654_435_761) % count).expect("less than leases");
                if lessor.renew(id(n), now).is_err() {
                    unreachable!("nothing expires in 59 seconds");
                }
                if renewal % 1000 == 0 {
                    assert!(lessor.expired(now, 100).is_empty());
                }
            }
        });
        timed("promote", count, || lessor.promote(Duration::from_secs(60), Duration::ZERO));
        let end =
            lessor.time_to_live(id(0), Duration::ZERO, false).expect("it lives").remaining_ttl.unsigned_abs();
        timed("expire in batches of 1000 and revoke", count, || {
            while !lessor.is_empty() {
                for id in lessor.expired(Duration::from_secs(end + 10_000), 1000) {
                    let keys = lessor.revoke(&mut tx, id).expect("it was there");
                    assert_eq!(keys.len(), 1);
                }
            }
        });
    }
}
