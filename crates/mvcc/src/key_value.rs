//! `mvccpb.KeyValue` without the message: written field by field, and taken apart without copying.

use std::ops::Range;

use api::LeaseId;
use bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

use crate::{KeyMeta, Revision};

const KEY: u8 = 0x0a;
const CREATE_REVISION: u8 = 0x10;
const MOD_REVISION: u8 = 0x18;
const VERSION: u8 = 0x20;
const VALUE: u8 = 0x2a;
const LEASE: u8 = 0x30;

/// The fields of a `KeyValue`. On the wire they come in number order, and those that are zero or empty are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyValue<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) value: &'a [u8],
    pub(crate) lease: i64,
}

impl<'a> KeyValue<'a> {
    /// The key as a put leaves it.
    pub(crate) fn new(key: &'a [u8], meta: &KeyMeta, value: &'a [u8]) -> Self {
        Self {
            key,
            create_revision: meta.create_revision,
            mod_revision: meta.mod_revision.main(),
            version: meta.version,
            value,
            lease: meta.lease.get(),
        }
    }

    pub(crate) fn encoded_len(&self) -> usize {
        bytes_len(self.key.len())
            + number_len(self.create_revision)
            + number_len(self.mod_revision)
            + number_len(self.version)
            + bytes_len(self.value.len())
            + number_len(self.lease)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(KEY, self.key, out);
        put_number(CREATE_REVISION, self.create_revision, out);
        put_number(MOD_REVISION, self.mod_revision, out);
        put_number(VERSION, self.version, out);
        put_bytes(VALUE, self.value, out);
        put_number(LEASE, self.lease, out);
    }

    pub(crate) fn to_bytes(self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode(&mut out);
        out.into()
    }

    /// Takes apart what [`encode`](Self::encode) has made; nothing else comes from a table of ours.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut kv = Self::default();
        let mut rest = bytes;
        while let [tag, after @ ..] = rest {
            rest = after;
            let number = decode_varint(&mut rest).ok()?;
            match *tag {
                KEY => kv.key = take(&mut rest, number)?,
                VALUE => kv.value = take(&mut rest, number)?,
                CREATE_REVISION => kv.create_revision = signed(number),
                MOD_REVISION => kv.mod_revision = signed(number),
                VERSION => kv.version = signed(number),
                LEASE => kv.lease = signed(number),
                _ => return None,
            }
        }
        Some(kv)
    }
}

/// How long the message is that a put of this key has stored.
pub(crate) fn stored_len(key: &[u8], meta: &KeyMeta) -> usize {
    KeyValue::new(key, meta, &[]).encoded_len() + bytes_len(meta.value_size)
}

/// The message that a watcher gets of a delete.
pub(crate) fn deleted(key: &[u8], revision: Revision) -> Bytes {
    KeyValue { key, mod_revision: revision.main(), ..KeyValue::default() }.to_bytes()
}

/// The message of a key without its value, from the index alone: etcd leaves the lease out there.
pub(crate) fn without_value(key: &[u8], meta: &KeyMeta, lease: LeaseId) -> Bytes {
    KeyValue::new(key, &KeyMeta { lease, ..*meta }, &[]).to_bytes()
}

/// Where `part` lies in `whole`. An empty part lies anywhere.
pub(crate) fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    if part.is_empty() {
        return 0..0;
    }
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr()).expect("the part lies in the whole");
    start..start + part.len()
}

fn bytes_len(len: usize) -> usize {
    if len == 0 { 0 } else { 1 + encoded_len_varint(len as u64) + len }
}

fn number_len(number: i64) -> usize {
    if number == 0 { 0 } else { 1 + encoded_len_varint(unsigned(number)) }
}

fn put_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        out.push(tag);
        encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

fn put_number(tag: u8, number: i64, out: &mut Vec<u8>) {
    if number != 0 {
        out.push(tag);
        encode_varint(unsigned(number), out);
    }
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(taken)
}

/// Negative numbers travel as their two's complement.
pub(crate) fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}

pub(crate) fn signed(number: u64) -> i64 {
    number.cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_what_the_generated_message_says_or_nothing(
            bytes in prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 0x0a, 0x10, 0x18, 0x20, 0x2a, 0x30, 0x80, 0xff]), 0..16)
        ) {
            if let Some(kv) = KeyValue::decode(&bytes) {
                let message = api::mvccpb::KeyValue::decode(&bytes[..]).unwrap();
                prop_assert_eq!((kv.key, kv.value), (&message.key[..], &message.value[..]));
                prop_assert_eq!((kv.mod_revision, kv.lease), (message.mod_revision, message.lease));
            }
        }
    }

    #[test]
    fn bytes_are_those_of_the_generated_message() {
        let numbers = [0, 1, 127, 128, i64::MAX, -1, i64::MIN];
        for n in numbers {
            for (key, value) in [("", ""), ("k", "v"), ("key", ""), ("", "value")] {
                let kv = KeyValue {
                    key: key.as_bytes(),
                    create_revision: n,
                    mod_revision: n,
                    version: n,
                    value: value.as_bytes(),
                    lease: n,
                };
                let message = api::mvccpb::KeyValue {
                    key: key.into(),
                    create_revision: n,
                    mod_revision: n,
                    version: n,
                    value: value.into(),
                    lease: n,
                };
                assert_eq!(kv.to_bytes(), message.encode_to_vec());
                assert_eq!(kv.encoded_len(), message.encoded_len());
                assert_eq!(KeyValue::decode(&kv.to_bytes()), Some(kv));
            }
        }
    }

    #[test]
    fn the_first_put_of_a_store_has_these_bytes() {
        let kv =
            KeyValue { key: b"a", create_revision: 2, mod_revision: 2, version: 1, value: b"1", lease: 0 };
        assert_eq!(kv.to_bytes(), b"\x0a\x01a\x10\x02\x18\x02\x20\x01\x2a\x011".as_slice());
    }

    #[test]
    fn cut_or_strange_bytes_do_not_decode() {
        let kv = KeyValue { key: b"key", mod_revision: 300, value: b"value", ..KeyValue::default() };
        let bytes = kv.to_bytes();
        for cut in [1, 2, 4, 6, 7, 9, bytes.len() - 1] {
            assert_eq!(KeyValue::decode(&bytes[..cut]), None, "cut at {cut}");
        }
        assert_eq!(KeyValue::decode(&[0x3a, 0]), None);
    }
}
