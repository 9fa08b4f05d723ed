//! What the keyspace costs: loads keys, reads them in several ways, compacts and opens again, and prints what each took.
//!
//! `cargo run --release -p etcd-rs-mvcc --example load -- [keys] [directory]`; without a directory it stays in memory.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(clippy::cast_precision_loss, reason = "figures to look at")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::LeaseId;
use backend::{Backend, MemBackend};
use bytes::Bytes;
use etcd_rs_mvcc::{RangeOptions, Store};

const BATCH: u64 = 100;
const VALUE: [u8; 256] = [b'v'; 256];

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result {
    let mut arguments = std::env::args().skip(1);
    let keys: u64 = arguments.next().map_or(Ok(1_000_000), |keys| keys.parse())?;
    let directory = arguments.next();
    let backend = open(directory.as_deref())?;
    let mut store = Store::open(Arc::clone(&backend))?;

    timed("put, new keys in random order", keys, || put_all(&mut store, keys, 1))?;
    println!("index: {} bytes per key of 64 bytes", store.reader().index_bytes() / keys);
    timed("put, the same keys again", keys, || put_all(&mut store, keys, 2))?;
    backend.flush()?;
    read(&store, keys)?;
    compact(&mut store, keys)?;
    let size = backend.size()?;
    println!("size: {} MiB, live {} MiB", size.total_bytes >> 20, size.live_bytes >> 20);

    drop((store, backend));
    if let Some(directory) = &directory {
        let backend = timed("open the backend", 1, || open(Some(directory)))?;
        let before = resident_bytes()?;
        let store = timed("open the store, per key", keys, || Ok(Store::open(backend)?))?;
        let index = store.reader().index_bytes();
        println!(
            "index: {} bytes per key, {} more resident",
            index / keys,
            (resident_bytes()? - before) / keys
        );
    }
    Ok(())
}

#[cfg(feature = "rocksdb")]
fn open(directory: Option<&str>) -> Result<Arc<dyn Backend>> {
    Ok(match directory {
        Some(directory) => Arc::new(backend::DiskBackend::open(directory, backend::Options::default())?),
        None => Arc::new(MemBackend::new()),
    })
}

#[cfg(not(feature = "rocksdb"))]
fn open(_: Option<&str>) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(MemBackend::new()))
}

/// 64 bytes, half of them shared with neighbours.
fn key(n: u64) -> Bytes {
    let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("/registry/pods/namespace-{:03}/pod-{spread:031x}", spread % 500).into()
}

fn timed<T>(what: &str, times: u64, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let (start, cpu) = (Instant::now(), cpu_time()?);
    let result = run()?;
    let (took, cpu) = (start.elapsed(), cpu_time()? - cpu);
    let each = |time: Duration| time.as_nanos() as f64 / times as f64;
    println!("{what:45} {:12.0} ns each, {:12.0} ns of this thread's CPU", each(took), each(cpu));
    Ok(result)
}

/// What this thread has computed so far, as Linux tells: other programs on the machine do not count.
fn cpu_time() -> Result<Duration> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Ok(Duration::from_nanos(times.split(' ').next().unwrap_or_default().parse().unwrap_or(0)))
}

/// What the process occupies, as Linux tells.
fn resident_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

fn put_all(store: &mut Store, keys: u64, stride: u64) -> Result {
    for first in (0..keys).step_by(usize::try_from(BATCH)?) {
        let mut txn = store.write();
        for n in first..(first + BATCH).min(keys) {
            txn.put(key(n.wrapping_mul(stride) % keys), Bytes::from_static(&VALUE), LeaseId::NONE)?;
            txn.end_request();
        }
        txn.commit()?;
    }
    Ok(())
}

fn read(store: &Store, keys: u64) -> Result {
    const READS: u64 = 200_000;
    let reader = store.reader();
    let spread = |n: u64| key(n.wrapping_mul(7919) % keys);
    let lookups = reader.read();
    timed("look up a key in the index (with its making)", READS, || {
        (0..READS).for_each(|n| assert!(lookups.lookup(&spread(n)).is_some()));
        Ok(())
    })?;
    timed("get a key", READS, || {
        for n in 0..READS {
            assert_eq!(reader.range(&RangeOptions::new(spread(n), ""))?.kvs.len(), 1);
        }
        Ok(())
    })?;
    timed("count all keys", READS, || {
        (0..READS).for_each(|_| assert!(reader.count(b"/", b"0") > 0));
        Ok(())
    })?;
    let mut page = RangeOptions::new("/", "0");
    page.limit = 500;
    let pages = keys.div_ceil(500);
    timed("page through all keys, per page of 500", pages, || {
        for _ in 0..pages {
            let found = reader.range(&page)?;
            page.revision = found.revision;
            page.key = [&last_key(&found.kvs), &b"\0"[..]].concat().into();
        }
        Ok(())
    })?;
    let mut past = RangeOptions::new("/", "0");
    past.revision = reader.revision() - i64::try_from(keys / 2)?;
    past.count_only = true;
    timed("count all keys half of the history ago", 1, || Ok(reader.range(&past)?))?;
    timed("hash", 1, || Ok(reader.hash_kv(0)?))?;
    timed("read history, per change", 2 * keys, || {
        let mut from = 2;
        loop {
            let changes = reader.changes(from, 1000, 1 << 20)?;
            let Some(last) = changes.last() else { return Ok(()) };
            from = last.main + 1;
        }
    })
}

fn last_key(kvs: &[Bytes]) -> Bytes {
    use prost::Message as _;
    let last = kvs.last().cloned().unwrap_or_default();
    api::mvccpb::KeyValue::decode(last).map(|kv| kv.key).unwrap_or_default()
}

fn compact(store: &mut Store, keys: u64) -> Result {
    let mut txn = store.write();
    let compaction = txn.compact(txn.revision())?;
    txn.commit()?;
    let mut longest = Duration::ZERO;
    timed("compact, per deleted change", keys, || {
        let mut more = true;
        while more {
            let start = Instant::now();
            more = compaction.run_chunk(1000)?;
            longest = longest.max(start.elapsed());
        }
        Ok(())
    })?;
    println!("longest chunk: {longest:?}");
    Ok(())
}
