//! Measures what a delivery costs: one writer, many watchers of one key, spread over streams whose buffers are emptied after
//! each commit as a sender would. Run it with `cargo run --release --example fanout --no-default-features`.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement prints times")]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use api::etcdserverpb::WatchCreateRequest;
use api::{ClusterId, LeaseId, MemberId};
use backend::MemBackend;
use bytes::Bytes;
use etcd_rs_watch::{Hub, Identity, Options, Outbox};
use mvcc::{Commit, Store};

/// A buffer of gRPC messages, as a server would send them in one frame.
#[derive(Debug)]
struct Buffer {
    bytes: Mutex<Vec<u8>>,
    len: AtomicUsize,
    room: usize,
}

impl Buffer {
    fn with_room(room: usize) -> Arc<Self> {
        Arc::new(Self { bytes: Mutex::new(Vec::new()), len: AtomicUsize::new(0), room })
    }

    fn drain(&self) -> usize {
        let mut bytes = self.bytes.lock().expect("nobody panics with it");
        let len = bytes.len();
        bytes.clear();
        self.len.store(0, Ordering::Relaxed);
        len
    }
}

impl Outbox for Buffer {
    fn push(&self, response: &[&[u8]]) {
        let len: usize = response.iter().map(|piece| piece.len()).sum();
        let mut bytes = self.bytes.lock().expect("nobody panics with it");
        bytes.push(0);
        bytes.extend_from_slice(&u32::try_from(len).expect("a message of less than 4 GiB").to_be_bytes());
        for piece in response {
            bytes.extend_from_slice(piece);
        }
        self.len.store(bytes.len(), Ordering::Relaxed);
    }

    fn has_room(&self) -> bool {
        self.len.load(Ordering::Relaxed) < self.room
    }
}

struct Bench {
    store: Store,
    hub: Hub,
    buffers: Vec<Arc<Buffer>>,
}

impl Bench {
    fn new(watchers: usize, streams: usize, room: usize, request: &WatchCreateRequest) -> Self {
        let store = Store::open(Arc::new(MemBackend::new())).expect("an empty store opens");
        let identity = Identity {
            cluster_id: ClusterId::new(0xcdf8_1819_4e3a_8c32),
            member_id: MemberId::new(0x8e9e_05c5_2164_694d),
        };
        let mut hub = Hub::new(store.reader(), Options::new(identity));
        let buffers: Vec<_> = (0..streams).map(|_| Buffer::with_room(room)).collect();
        let ids: Vec<_> = buffers.iter().map(|buffer| hub.open(buffer.clone())).collect();
        for watcher in 0..watchers {
            hub.create(ids[watcher % streams], request);
        }
        let bench = Self { store, hub, buffers };
        bench.drain();
        bench
    }

    fn drain(&self) -> usize {
        self.buffers.iter().map(|buffer| buffer.drain()).sum()
    }

    /// One commit of so many puts, each a revision, or all of them in one.
    fn commit(&mut self, puts: usize, one_revision: bool) -> Commit {
        let value = Bytes::from(vec![b'v'; 256]);
        let mut txn = self.store.write();
        for put in 0..puts {
            let key = format!("/registry/pods/default/a-pod-with-a-name-of-some-length-{put:04}");
            txn.put(key.into(), value.clone(), LeaseId::NONE).map(drop).expect("a put succeeds");
            if !one_revision {
                txn.end_request();
            }
        }
        txn.end_request();
        txn.commit().expect("a commit in memory succeeds")
    }
}

fn report(name: &str, deliveries: u64, bytes: usize, time: Duration) {
    let each = time.as_secs_f64() * 1e9 / deliveries as f64;
    println!(
        "{name:52} {deliveries:>9} events {each:7.1} ns each {:6.2} M/s {:5} MB",
        1e3 / each,
        bytes >> 20
    );
}

fn live(
    name: &str,
    (watchers, streams): (usize, usize),
    (puts, one_revision): (usize, bool),
    request: &WatchCreateRequest,
) {
    let mut bench = Bench::new(watchers, streams, usize::MAX, request);
    let commits = 5_000_000 / (watchers * puts);
    let (mut time, mut bytes) = (Duration::ZERO, 0);
    for round in 0..commits + 2 {
        let commit = bench.commit(puts, one_revision);
        let start = Instant::now();
        bench.hub.publish(&commit, 2).expect("publishing in memory succeeds");
        // The first rounds grow the buffers.
        if round >= 2 {
            time += start.elapsed();
            bytes += bench.drain();
        } else {
            bench.drain();
        }
    }
    report(name, (commits * puts * watchers) as u64, bytes, time);
}

/// All watchers start at the first revision and read slowly.
fn history(name: &str, watchers: usize, streams: usize, room: usize, request: &WatchCreateRequest) {
    let revisions = 20_000;
    let mut bench = Bench::new(0, streams, room, request);
    for _ in 0..revisions / 100 {
        let commit = bench.commit(100, false);
        bench.hub.publish(&commit, 2).expect("publishing in memory succeeds");
    }
    let request = WatchCreateRequest { start_revision: 1, ..request.clone() };
    let ids: Vec<_> = bench.buffers.iter().map(|buffer| bench.hub.open(buffer.clone())).collect();
    for watcher in 0..watchers {
        bench.hub.create(ids[watcher % streams], &request);
    }
    let (start, mut bytes, mut most) = (Instant::now(), 0, 0);
    while bench.hub.stats().unsynced > 0 {
        let _more = bench.hub.sync(4).expect("history in memory can be read");
        let lying = bench.drain();
        most = most.max(lying);
        bytes += lying;
    }
    report(name, bench.hub.stats().events_total, bytes, start.elapsed());
    println!("{:52} at most {} KB in {streams} outboxes of {} KB", "", most >> 10, room >> 10);
}

fn main() {
    let exact = WatchCreateRequest {
        key: "/registry/pods/default/a-pod-with-a-name-of-some-length-0000".into(),
        ..Default::default()
    };
    let prefix = WatchCreateRequest {
        key: "/registry/pods/".into(),
        range_end: "/registry/pods0".into(),
        ..Default::default()
    };
    live("1,000 watchers of a prefix, 10 streams", (1000, 10), (1, false), &prefix);
    live("the same, 100 puts a commit", (1000, 10), (100, false), &prefix);
    live("the same, 100 puts a revision", (1000, 10), (100, true), &prefix);
    live("10,000 watchers of a key, 100 streams", (10_000, 100), (1, false), &exact);
    live("10,000 watchers of a prefix, 100 streams", (10_000, 100), (1, false), &prefix);
    live(
        "the same with prev_kv",
        (10_000, 100),
        (1, false),
        &WatchCreateRequest { prev_kv: true, ..prefix.clone() },
    );
    history("history: 100 watchers, 10 streams, 1 MiB each", 100, 10, 1 << 20, &prefix);
    history("history: 1,000 watchers, 100 streams, 64 KiB each", 1000, 100, 64 << 10, &exact);
}
