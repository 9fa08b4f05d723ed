//! Doors for fuzzers to the decoders of what lies on disk: bytes in, and a panic if they break a promise.

use backend::{Backend as _, MemBackend, Table};
use prost::Message as _;

use crate::key_value::{self, KeyValue};
use crate::meta::{Saved, State};
use crate::record::{self, Record};
use crate::{Revision, index_entry};

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

    let revision = Revision::new(3, 0);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_damaged_seeds_break_no_promise() {
        smoke::run("mvcc_record", record);
        smoke::run("mvcc_key_value", key_value);
        smoke::run("mvcc_index_entry", index_entry);
        smoke::run("mvcc_meta", meta);
    }
}
