//! Doors for fuzzers to the decoders of what lies on disk: bytes in, and a panic if they break a promise.

use std::sync::Arc;

use api::LeaseId;
use backend::{Backend, MemBackend, Table};
use bytes::Bytes;
use prost::Message as _;

use crate::key_value::{self, KeyValue};
use crate::meta::{Saved, State};
use crate::record::{self, Record};
use crate::{RangeOptions, Result, Revision, Store, index_entry};

/// A record of the `rev` table, as its value.
pub fn record(bytes: &[u8]) {
    let Some(found) = Record::decode(bytes) else { return };
    let Some(kv) = KeyValue::decode(found.kv) else { return };
    let (again, kv_at) = record::encode(&kv, found.tombstone, found.predecessor);
    assert_eq!(Record::decode(&again), Some(Record { kv: &again[kv_at..], ..found }));
    assert_eq!(KeyValue::decode(&again[kv_at..]), Some(kv));
}

/// A message, which says to ours what it says to the generated decoder.
pub fn key_value(bytes: &[u8]) {
    let Some(kv) = KeyValue::decode(bytes) else { return };
    assert_eq!(&bytes[key_value::place(bytes, kv.key)], kv.key);
    assert_eq!(&bytes[key_value::place(bytes, kv.value)], kv.value);
    let message = api::mvccpb::KeyValue::decode(bytes).expect("ours is the stricter one");
    assert_eq!(kv.to_bytes(), message.encode_to_vec());
    assert_eq!(kv.encoded_len(), message.encoded_len());
    assert_eq!(KeyValue::decode(&kv.to_bytes()), Some(kv));
}

/// An entry of the `index` table: the bytes as a key of a user, as the key of an entry, and as its value.
pub fn index_entry(bytes: &[u8]) {
    let (mut entry, mut key) = (Vec::new(), Vec::new());
    index_entry::encode_entry(bytes, Revision::new(1, 2), &mut entry);
    let (prefix, revision) = index_entry::split(&entry).expect("what was encoded decodes");
    assert_eq!(index_entry::decode_key(prefix, &mut key), Some(()));
    assert_eq!((key.as_slice(), revision), (bytes, Revision::new(1, 2)));

    if let Some((prefix, revision)) = index_entry::split(bytes) {
        assert_eq!(Revision::from_bytes(&revision.to_bytes()), Some(revision));
        let (mut entry, mut key) = (Vec::new(), Vec::new());
        if index_entry::decode_key(prefix, &mut key).is_some() {
            index_entry::encode_entry(&key, revision, &mut entry);
            assert_eq!(entry, bytes, "a key is written in one way only");
            let mut behind = prefix.to_vec();
            index_entry::behind(&mut behind);
            assert!(*behind > *bytes);
        }
    }

    let revision = Revision::new(1 << 40, 0);
    let Some(found) = index_entry::decode_value(bytes, revision) else { return };
    let mut value = Vec::new();
    match &found {
        Some(meta) => index_entry::encode_put(meta, &mut value),
        None => index_entry::encode_tombstone(&mut value),
    }
    assert_eq!(index_entry::decode_value(&value, revision), Some(found));
}

/// What the writer and compaction remember.
pub fn meta(bytes: &[u8]) {
    let store = |key: &[u8], value: &[u8]| {
        let backend = MemBackend::new();
        let mut tx = backend.begin();
        tx.put(Table::Meta, key, value);
        backend.commit(tx).expect("memory takes everything");
        backend
    };
    if let Ok(state) = State::load(&store(b"mvcc", bytes)) {
        let backend = MemBackend::new();
        let mut tx = backend.begin();
        state.store(&mut tx);
        backend.commit(tx).expect("memory takes everything");
        assert_eq!(State::load(&backend).expect("what was stored is loaded"), state);
    }
    if let Ok(saved) = Saved::load(&store(b"mvcc_compaction", bytes)) {
        let backend = MemBackend::new();
        let mut tx = backend.begin();
        saved.store(&mut tx);
        backend.commit(tx).expect("memory takes everything");
        assert_eq!(Saved::load(&backend).expect("what was stored is loaded"), saved);
    }
}

/// A keyspace with a short history, one record of which is not what it was: every request is answered or refused.
///
/// The first bytes choose the table, the record, and whether the others are its value or its key.
pub fn store(bytes: &[u8]) {
    let Some((&[table, place, how], bytes)) = bytes.split_first_chunk() else { return };
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::new());
    write_history(&backend).expect("nothing is wrong yet");
    let table = [Table::Rev, Table::Index, Table::Meta][usize::from(table % 3)];
    let mut tx = backend.begin();
    {
        let mut records = backend.scan(table, &[], None).expect("memory does not fail");
        for _ in 0..place % 8 {
            records.next().expect("memory does not fail");
        }
        let Some((key, value)) = records.next().expect("memory does not fail") else { return };
        if how % 2 == 0 {
            tx.put(table, key, bytes);
        } else {
            tx.delete(table, key);
            tx.put(table, bytes, value);
        }
    }
    backend.commit(tx).expect("memory takes everything");
    drop(use_all_of_it(&backend));
}

fn write_history(backend: &Arc<dyn Backend>) -> Result<()> {
    let mut store = Store::open(Arc::clone(backend))?;
    let mut txn = store.write();
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3"), ("a\0b", ""), ("b", "4")] {
        txn.put(key.into(), value.into(), LeaseId::new(7))?;
        txn.end_request();
    }
    txn.delete_range(&"b".into(), &Bytes::new())?;
    txn.end_request();
    txn.commit()?;
    Ok(())
}

fn use_all_of_it(backend: &Arc<dyn Backend>) -> Result<()> {
    let mut store = Store::open(Arc::clone(backend))?;
    let reader = store.reader();
    let mut all = RangeOptions::new("\0", "\0");
    for revision in 0..=8 {
        all.revision = revision;
        drop(reader.range(&all));
        drop(reader.hash_kv(revision));
        drop(reader.changes(revision, 100, 1 << 20));
        drop(reader.record(Revision::new(revision, 0)));
    }
    store.for_each_leased(|_, _| {});
    let mut txn = store.write();
    txn.previous_kv(b"a")?;
    txn.put("a".into(), "5".into(), LeaseId::NONE)?;
    txn.delete_range(&"\0".into(), &"\0".into())?;
    txn.end_request();
    let compaction = txn.compact(6)?;
    txn.commit()?;
    while compaction.run_chunk(2)? {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_damaged_seeds_break_no_promise() {
        smoke::run("mvcc_record", record);
        smoke::run("mvcc_key_value", key_value);
        smoke::run("mvcc_index_entry", index_entry);
        smoke::run("mvcc_meta", meta);
        smoke::run("mvcc_store", store);
    }

    /// Fuzzing found it: the bytes ever written, and ever deleted, are read from disk, and the next request and the next
    /// compaction added to them although there was no room. They only make up an estimate of the size.
    #[test]
    fn counts_of_bytes_that_have_no_room_left_stop_nothing() {
        let full = [&[1_u8][..], &7_i64.to_be_bytes(), &(-1_i64).to_be_bytes(), &[0xff; 8]].concat();
        store(&[&[2, 0, 0][..], &full].concat());
    }

    /// Fuzzing found it: an entry of the index whose bytes are in order, but not the key that they encode.
    #[test]
    fn an_index_out_of_order_is_corrupt() {
        store(&[
            4, 203, 255, 98, 0, 1, 255, 255, 255, 255, 255, 255, 255, 249, 255, 255, 255, 255, 255, 255, 255,
            255, 255, 0, 0, 0, 254, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 7,
            15,
        ]);
    }
}
