//! HashKV of histories whose hashes were taken from etcd.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use api::LeaseId;
use backend::MemBackend;
use etcd_rs_mvcc::{Error, KvHash, Store};

/// Revisions 2 to 11.
fn history() -> (Arc<MemBackend>, Store) {
    let backend = Arc::new(MemBackend::new());
    let mut store = Store::open(backend.clone()).unwrap();
    for request in ["a=1", "a=2", "b=1", "c=1", "b", "b=2", "d=9", "a c", "a=3", "c=2"] {
        let mut txn = store.write();
        match (request.split_once('='), request.split_once(' ')) {
            (Some((key, value)), _) => {
                let (key, value) = (key.to_owned().into(), value.to_owned().into());
                txn.put(key, value, LeaseId::NONE).unwrap();
            }
            (None, Some((key, end))) => {
                txn.delete_range(&key.to_owned().into(), &end.to_owned().into()).unwrap();
            }
            (None, None) => drop(txn.delete_range(&request.to_owned().into(), &"".into()).unwrap()),
        }
        txn.commit().unwrap();
    }
    assert_eq!(store.reader().revision(), 11);
    (backend, store)
}

fn compact(store: &mut Store, revision: i64) {
    let mut txn = store.write();
    let compaction = txn.compact(revision).unwrap();
    txn.commit().unwrap();
    while compaction.run_chunk(1).unwrap() {}
}

fn hashes(store: &Store, revisions: &[i64]) -> Vec<u32> {
    revisions.iter().map(|revision| store.reader().hash_kv(*revision).unwrap().hash).collect()
}

#[test]
fn a_history_that_is_not_compacted_has_these_hashes() {
    let (_, store) = history();
    let expected = [
        1_084_519_789,
        2_587_454_935,
        535_221_974,
        1_662_700_350,
        303_662_770,
        2_242_937_166,
        999_755_042,
        1_329_825_914,
        483_172_329,
        3_553_821_528,
        3_894_908_886,
        3_894_908_886,
    ];
    assert_eq!(hashes(&store, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0]), expected);
    let now = store.reader().hash_kv(0).unwrap();
    assert_eq!((now.compact_revision, now.hash_revision), (-1, 11));
    assert!(matches!(store.reader().hash_kv(12), Err(Error::FutureRevision)));
    assert_eq!(hashes(&store, &[-1]), [1_084_519_789], "nothing but the seed");
}

#[test]
fn compacted_histories_have_these_hashes() {
    let (backend, mut store) = history();
    let expected: [(i64, &[(i64, u32)]); 4] = [
        (
            6,
            &[
                (6, 1_795_996_822),
                (7, 2_056_626_873),
                (8, 1_922_625_940),
                (9, 578_974_470),
                (10, 3_844_311_172),
                (0, 2_722_079_843),
            ],
        ),
        (8, &[(8, 1_922_625_940), (9, 3_095_334_691), (10, 673_754_719), (0, 2_666_140_945)]),
        (9, &[(9, 2_068_938_802), (10, 2_905_625_499), (0, 3_820_535_310)]),
        (11, &[(11, 3_820_535_310), (0, 3_820_535_310)]),
    ];
    for (revision, expected) in expected {
        compact(&mut store, revision);
        // Without the hash that the compaction has taken.
        let reopened = Store::open(backend.clone()).unwrap();
        for (at, hash) in expected {
            let found = reopened.reader().hash_kv(*at).unwrap();
            assert_eq!(
                (found.hash, found.compact_revision),
                (*hash, revision),
                "at {at}, compacted at {revision}"
            );
        }
        assert!(matches!(reopened.reader().hash_kv(revision - 1), Err(Error::Compacted)));
    }
}

#[test]
fn a_hash_does_not_depend_on_how_far_the_compaction_is() {
    let (backend, mut store) = history();
    let mut txn = store.write();
    let compaction = txn.compact(8).unwrap();
    txn.commit().unwrap();
    loop {
        let more = compaction.run_chunk(1).unwrap();
        let reopened = Store::open(backend.clone()).unwrap();
        assert_eq!(
            hashes(&reopened, &[8, 9, 10, 0]),
            [1_922_625_940, 3_095_334_691, 673_754_719, 2_666_140_945]
        );
        if !more {
            break;
        }
    }
}

#[test]
fn a_compaction_leaves_the_hash_from_before_it() {
    let (backend, mut store) = history();
    let expected =
        [(6, 2_242_937_166, -1), (8, 1_922_625_940, 6), (9, 3_095_334_691, 8), (11, 3_820_535_310, 9)];
    for (revision, ..) in expected {
        compact(&mut store, revision);
    }
    for (hash_revision, hash, compact_revision) in expected {
        let found = store.reader().hash_kv(hash_revision).unwrap();
        assert_eq!(found, KvHash { hash, compact_revision, hash_revision });
    }
    let mut txn = store.write();
    txn.delete_range(&"\0".into(), &"\0".into()).unwrap();
    txn.commit().unwrap();
    assert_eq!(hashes(&store, &[12, 0]), [1_051_702_848; 2]);
    compact(&mut store, 12);
    let found = store.reader().hash_kv(12).unwrap();
    assert_eq!((found.hash, found.compact_revision), (324_259_872, 11));
    let reopened = Store::open(backend).unwrap();
    let found = reopened.reader().hash_kv(12).unwrap();
    assert_eq!((found.hash, found.compact_revision), (1_084_519_789, 12), "nothing is left");
}

#[test]
fn only_the_last_ten_compactions_are_remembered() {
    let (_, mut store) = history();
    (1..=11).for_each(|revision| compact(&mut store, revision));
    assert!(matches!(store.reader().hash_kv(1), Err(Error::Compacted)));
    assert_eq!(hashes(&store, &[2]), [2_587_454_935]);
}
