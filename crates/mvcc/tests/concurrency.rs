//! A writer, a compaction and readers at the same time: whoever reads an old revision gets all of it, or is told that it has been
//! compacted; whoever reads now gets all of it. So it is while another member's state is installed.
//!
//! Every request gives all keys the same value, the number of the request, and so every state must look.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use api::LeaseId;
use api::mvccpb::KeyValue;
use backend::{Backend, MemBackend};
use etcd_rs_mvcc::{Error, RangeOptions, RangeResult, Reader, Store};
use prost::Message as _;

const KEYS: i64 = 40;
const REQUESTS: i64 = 400;

fn write(store: &mut Store) {
    let mut txn = store.write();
    let value = (txn.revision() + 1).to_string();
    for n in 0..KEYS {
        // Some are deleted and created again, so that there are tombstones, too.
        if n % 5 == 0 {
            txn.delete_range(&format!("key-{n:02}").into(), &"".into()).unwrap();
        }
        txn.put(format!("key-{n:02}").into(), value.clone().into(), LeaseId::NONE).unwrap();
    }
    txn.commit().unwrap();
}

fn check(found: &RangeResult, revision: i64) {
    assert_eq!(found.count, KEYS, "at {revision}");
    for kv in &found.kvs {
        let kv = KeyValue::decode(kv.clone()).unwrap();
        assert_eq!((kv.value, kv.mod_revision), (revision.to_string().into(), revision));
    }
}

fn read(reader: &Reader, back: i64) -> Result<(), Error> {
    let mut options = RangeOptions::new("key-", "key.");
    let now = reader.range(&options)?;
    assert_eq!(now.kvs.len(), usize::try_from(KEYS).unwrap());
    let is_consistent = |found: &RangeResult| {
        let at = KeyValue::decode(found.kvs[0].clone()).unwrap().mod_revision;
        check(found, at);
        at
    };
    let at = is_consistent(&now);

    options.revision = (at - back).max(2);
    options.limit = 1 + back % KEYS;
    check(&reader.range(&options)?, options.revision);

    let changes = reader.changes(options.revision + 1, 10, usize::MAX)?;
    let mains: Vec<i64> = changes.iter().map(|changes| changes.main).collect();
    assert!(mains.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{mains:?}");
    assert!(changes.iter().all(|c| c.changes.len() == usize::try_from(KEYS + KEYS / 5).unwrap()));

    let mut stream = reader.stream(RangeOptions::new("key-", "key."), 100)?;
    let mut kvs = Vec::new();
    loop {
        let chunk = stream.next_chunk()?;
        kvs.extend(chunk.kvs);
        if chunk.last {
            is_consistent(&RangeResult {
                revision: chunk.revision,
                count: chunk.count,
                more: chunk.more,
                kvs,
            });
            return Ok(());
        }
    }
}

fn run(backend: Arc<dyn Backend>) {
    let mut store = Store::open(Arc::clone(&backend)).unwrap();
    write(&mut store);
    let (done, refused, answered) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let reader = store.reader();
    let (compactions, waiting) = std::sync::mpsc::channel::<etcd_rs_mvcc::Compaction>();
    std::thread::scope(|scope| {
        let (done, refused, answered, reader) = (&done, &refused, &answered, &reader);
        for thread in 1..3 {
            scope.spawn(move || {
                for back in (0..).map(|n| n * thread % 60) {
                    match read(reader, back) {
                        Ok(()) => answered.fetch_add(1, Ordering::Relaxed),
                        Err(Error::Compacted) => refused.fetch_add(1, Ordering::Relaxed),
                        Err(error) => panic!("{error}"),
                    };
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                }
            });
        }
        scope.spawn(move || {
            for compaction in waiting {
                while compaction.run_chunk(50).unwrap() {}
            }
        });
        for n in 0..REQUESTS {
            write(&mut store);
            if n % 20 == 19 {
                let mut txn = store.write();
                let at = txn.revision() - n % 30;
                if let Ok(compaction) = txn.compact(at) {
                    txn.commit().unwrap();
                    compactions.send(compaction).unwrap();
                }
            }
        }
        drop(compactions);
        done.store(true, Ordering::Release);
    });
    assert!(answered.load(Ordering::Relaxed) > 0, "{refused:?} were refused");
    check(&reader.range(&RangeOptions::new("key-", "key.")).unwrap(), REQUESTS + 2);

    let (bytes, hash) = (reader.live_bytes(), reader.hash_kv(0).unwrap());
    drop((store, reader));
    let reopened = Store::open(backend).unwrap();
    assert!(reopened.interrupted_compaction().is_none());
    assert_eq!(reopened.reader().live_bytes(), bytes);
    assert_eq!(reopened.reader().hash_kv(0).unwrap(), hash);
}

/// Two members do the same; one of them stays behind and is given the other's state, again and again, while it is read.
fn run_replaced(open: impl Fn(&str) -> Arc<dyn Backend>, dir: &std::path::Path) {
    let (source, mut backend) = (open("source"), open("behind"));
    let mut ahead = Store::open(Arc::clone(&source)).unwrap();
    let mut behind = Store::open(Arc::clone(&backend)).unwrap();
    write(&mut ahead);
    write(&mut behind);
    let done = AtomicBool::new(false);
    let reader = behind.reader();
    std::thread::scope(|scope| {
        let (done, reader) = (&done, &reader);
        for thread in 1..3 {
            scope.spawn(move || {
                let mut last = 0;
                for back in (0..).map(|n| n * thread % 60) {
                    match read(reader, back) {
                        Ok(()) | Err(Error::Compacted) => {}
                        Err(error) => panic!("{error}"),
                    }
                    let now = reader.revision();
                    assert!(now >= last, "{last} was seen before {now}");
                    last = now;
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                }
            });
        }
        for round in 0..10 {
            (0..20).for_each(|_| write(&mut ahead));
            (0..round).for_each(|_| write(&mut behind));
            if round % 3 == 2 {
                let mut txn = ahead.write();
                let at = txn.revision() - 15;
                let compaction = txn.compact(at).unwrap();
                txn.commit().unwrap();
                while compaction.run_chunk(50).unwrap() {}
            }
            let checkpoint = dir.join(format!("checkpoint-{round}"));
            source.checkpoint(&checkpoint).unwrap();
            backend = backend.install(&checkpoint).unwrap();
            let held = reader.read();
            behind.replace(Arc::clone(&backend)).unwrap();
            check(&held.range(&RangeOptions::new("key-", "key.")).unwrap(), held.revision());
            let hashes = [&ahead, &behind].map(|store| store.reader().hash_kv(0).unwrap());
            assert_eq!(hashes[0], hashes[1]);
            assert_eq!(ahead.reader().live_bytes(), behind.reader().live_bytes());
        }
        done.store(true, Ordering::Release);
    });
    drop((behind, reader));
    assert_eq!(Store::open(backend).unwrap().reader().revision(), ahead.reader().revision());
}

#[test]
fn nobody_sees_a_mix_while_the_state_is_replaced_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    run_replaced(|_| Arc::new(MemBackend::new()), dir.path());
}

#[cfg(feature = "rocksdb")]
#[test]
fn nobody_sees_a_mix_while_the_state_is_replaced_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| -> Arc<dyn Backend> {
        let path = dir.path().join(name);
        Arc::new(backend::DiskBackend::open(path, backend::Options::default()).unwrap())
    };
    run_replaced(open, dir.path());
}

#[test]
fn nobody_sees_a_gap_in_memory() {
    run(Arc::new(MemBackend::new()));
}

#[cfg(feature = "rocksdb")]
#[test]
fn nobody_sees_a_gap_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    run(Arc::new(backend::DiskBackend::open(dir.path(), backend::Options::default()).unwrap()));
}
