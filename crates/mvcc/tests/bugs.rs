//! Bugs that others had, and those that only this design could have.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use api::LeaseId;
use backend::{Backend, MemBackend, Table};
use bytes::Bytes;
use etcd_rs_mvcc::{Error, RangeOptions, Revision, Store};

fn open() -> (Arc<MemBackend>, Store) {
    let backend = Arc::new(MemBackend::new());
    let store = Store::open(backend.clone()).unwrap();
    (backend, store)
}

fn put(store: &mut Store, key: &str, value: &str) -> i64 {
    let mut txn = store.write();
    txn.put(key.to_owned().into(), value.to_owned().into(), LeaseId::NONE).unwrap();
    txn.commit().unwrap().revision
}

fn at(key: &str, revision: i64) -> RangeOptions {
    let mut options = RangeOptions::new(key.to_owned(), "");
    options.revision = revision;
    options
}

/// etcd #18667, #21432: a transaction with a range at an old revision was answered by what the member had already deleted, which
/// differs between members.
#[test]
fn a_transaction_is_refused_by_what_is_scheduled_not_by_what_is_deleted() {
    let (_, mut store) = open();
    for value in ["1", "2", "3"] {
        put(&mut store, "a", value);
    }
    let mut txn = store.write();
    let compaction = txn.compact(4).unwrap();
    assert!(matches!(txn.range(&at("a", 3)), Err(Error::Compacted)), "in the same batch already");
    assert!(compaction.run_chunk(10).unwrap(), "but nothing is deleted before the commit");
    txn.commit().unwrap();
    assert!(store.reader().record(Revision::new(2, 0)).unwrap().is_some());
    assert!(matches!(store.write().range(&at("a", 3)), Err(Error::Compacted)));
    assert!(matches!(store.reader().range(&at("a", 3)), Err(Error::Compacted)));
    while compaction.run_chunk(10).unwrap() {}
    assert!(store.reader().record(Revision::new(2, 0)).unwrap().is_none());
    assert_eq!(store.write().range(&at("a", 4)).unwrap().count, 1);
}

/// A transaction that is not committed must leave nothing behind, in memory least of all.
#[test]
fn a_dropped_transaction_undoes_everything() {
    let (backend, mut store) = open();
    put(&mut store, "a", "1");
    let bytes = store.reader().live_bytes();
    let mut txn = store.write();
    txn.put("a".into(), "2".into(), LeaseId::new(5)).unwrap();
    txn.put("b".into(), "2".into(), LeaseId::NONE).unwrap();
    txn.end_request();
    txn.compact(3).unwrap();
    drop(txn);
    assert_eq!((store.reader().revision(), store.reader().compact_revision()), (2, -1));
    assert_eq!(store.reader().live_bytes(), bytes);
    assert_eq!(store.write().lookup(b"a").unwrap().version, 1);
    assert_eq!(put(&mut store, "b", "1"), 3);
    assert_eq!(Store::open(backend).unwrap().reader().keys(), 2);
}

/// Pages at one revision are cheap because the first page's root is kept; a compaction must take that away.
#[test]
fn pages_go_on_at_their_revision_until_it_is_compacted() {
    let (_, mut store) = open();
    for n in 0..100 {
        put(&mut store, &format!("key-{n:03}"), "1");
    }
    let reader = store.reader();
    let mut page = RangeOptions::new("key-", "key.");
    page.limit = 30;
    let first = reader.range(&page).unwrap();
    assert!(first.more && first.count == 100);
    let mut txn = store.write();
    txn.delete_range(&Bytes::from_static(b"\0"), &Bytes::from_static(b"\0")).unwrap();
    txn.commit().unwrap();

    page.revision = first.revision;
    page.key = "key-030".into();
    let second = reader.range(&page).unwrap();
    assert_eq!((second.count, second.more, second.kvs.len(), second.revision), (70, true, 30, 102));

    let mut stream = reader.stream(page.clone(), 1 << 20).unwrap();
    assert_eq!(stream.next_chunk().unwrap().kvs.len(), 10);
    let mut txn = store.write();
    let compaction = txn.compact(102).unwrap();
    txn.commit().unwrap();
    assert!(matches!(reader.range(&page), Err(Error::Compacted)));
    assert!(matches!(stream.next_chunk(), Err(Error::Compacted)));
    while compaction.run_chunk(10).unwrap() {}
    assert!(matches!(reader.range(&page), Err(Error::Compacted)));
}

/// A view is overtaken by a compaction: what is gone is answered as compacted, never as not there.
#[test]
fn a_view_that_a_compaction_overtakes_has_no_gaps() {
    let (_, mut store) = open();
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    let view = store.reader().read();
    let revision = put(&mut store, "a", "2");
    let mut txn = store.write();
    let compaction = txn.compact(revision).unwrap();
    txn.commit().unwrap();
    while compaction.run_chunk(10).unwrap() {}
    assert!(matches!(view.range(&RangeOptions::new("a", "z")), Err(Error::Compacted)));
    assert!(matches!(view.kv(b"a"), Err(Error::Compacted)));
    assert_eq!(view.range(&RangeOptions::new("b", "")).unwrap().kvs.len(), 1, "this one is still right");
}

/// Bytes from disk are not trusted.
#[test]
fn records_that_make_no_sense_are_errors() {
    let broken = |table: Table, key: &[u8], value: &[u8]| {
        let (backend, mut store) = open();
        put(&mut store, "a", "1");
        let mut tx = backend.begin();
        tx.put(table, key, value);
        backend.commit(tx).unwrap();
        (backend, store)
    };
    let record = Revision::new(2, 0).to_bytes();
    for value in [&b""[..], b"\xff", b"\x02\x01", b"\x00\x0a\xff"] {
        let (backend, store) = broken(Table::Rev, &record, value);
        let reader = store.reader();
        assert!(
            reader.changes(2, 10, 1 << 20).is_err_and(|error| matches!(error, Error::Corrupt { .. })),
            "{value:?}"
        );
        drop((backend, store));
    }
    let newer = Revision::new(9, 0).to_bytes();
    let strange: [(Table, &[u8], &[u8]); 5] = [
        (Table::Rev, &newer, b"\x00"),
        (Table::Rev, b"\xff", b"\x00"),
        (Table::Index, b"short", b"\x01"),
        (Table::Index, &[&b"no end"[..], &newer].concat(), b"\x01"),
        (Table::Meta, b"mvcc", b"\x07"),
    ];
    for (table, key, value) in strange {
        let (backend, store) = broken(table, key, value);
        drop(store);
        assert!(matches!(Store::open(backend), Err(Error::Corrupt { .. })), "{table:?} {key:?}");
    }
}

/// A record that is not there and not compacted either is corruption, and said to be.
#[test]
fn a_missing_record_is_an_error_and_not_an_empty_answer() {
    let (backend, mut store) = open();
    put(&mut store, "a", "1");
    let mut tx = backend.begin();
    tx.delete(Table::Rev, &Revision::new(2, 0).to_bytes());
    backend.commit(tx).unwrap();
    let answer = store.reader().range(&RangeOptions::new("a", ""));
    assert!(matches!(answer, Err(Error::Corrupt { .. })), "{answer:?}");
}
