//! What lies in the `rev` table: one record per change.
//!
//! ```text
//! key    revision, 16 bytes
//! value  flags (1 byte) [predecessor: main, sub, length of its message, as varints] KeyValue message
//! ```
//!
//! The predecessor is the change that this one supersedes: the key's previous put in the same life. With it compaction
//! is one scan, and with the length of its message the scan can tell how many bytes it frees without reading them.

use bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint};

use crate::Revision;
use crate::key_value::{KeyValue, signed, unsigned};

const TOMBSTONE: u8 = 1;
const SUPERSEDES: u8 = 2;

/// No message is longer: the size of a value fits into 32 bits, and so does that of a key.
const MESSAGE_BYTES_MAX: u64 = 1 << 34;

/// The change that a record supersedes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Predecessor {
    pub(crate) revision: Revision,
    /// Of its `KeyValue`.
    pub(crate) len: u64,
}

/// A record taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) tombstone: bool,
    pub(crate) predecessor: Option<Predecessor>,
    /// The message as it goes on the wire; of a tombstone it has only the key.
    pub(crate) kv: &'a [u8],
}

impl<'a> Record<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (flags, mut rest) = bytes.split_first()?;
        if flags & !(TOMBSTONE | SUPERSEDES) != 0 {
            return None;
        }
        let predecessor = if flags & SUPERSEDES == 0 {
            None
        } else {
            let mut number = || decode_varint(&mut rest).ok();
            let revision = Revision::new(signed(number()?), signed(number()?));
            let len = number().filter(|len| *len <= MESSAGE_BYTES_MAX)?;
            Some(Predecessor { revision, len })
        };
        Some(Self { tombstone: flags & TOMBSTONE != 0, predecessor, kv: rest })
    }
}

/// A record, and where in it the message begins.
pub(crate) fn encode(kv: &KeyValue<'_>, tombstone: bool, predecessor: Option<Predecessor>) -> (Bytes, usize) {
    const HEAD_BYTES_MAX: usize = 1 + 3 * 10;
    let mut out = Vec::with_capacity(HEAD_BYTES_MAX + kv.encoded_len());
    out.push(u8::from(tombstone) * TOMBSTONE + u8::from(predecessor.is_some()) * SUPERSEDES);
    if let Some(Predecessor { revision, len }) = predecessor {
        encode_varint(unsigned(revision.main()), &mut out);
        encode_varint(unsigned(revision.sub()), &mut out);
        encode_varint(len, &mut out);
    }
    let kv_at = out.len();
    kv.encode(&mut out);
    (out.into(), kv_at)
}

/// What a record counts towards the store's size: its revision and its message.
pub(crate) fn accounted(kv_len: usize) -> u64 {
    (Revision::LEN + kv_len) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(record) = Record::decode(&bytes) {
                prop_assert!(bytes.ends_with(record.kv));
            }
        }
    }

    #[test]
    fn a_record_keeps_its_parts() {
        let kv = KeyValue { key: b"k", mod_revision: 7, value: b"v", ..KeyValue::default() };
        let predecessor = Predecessor { revision: Revision::new(5, 300), len: 1 << 20 };
        for tombstone in [false, true] {
            for predecessor in [None, Some(predecessor)] {
                let (bytes, kv_at) = encode(&kv, tombstone, predecessor);
                let record = Record::decode(&bytes).unwrap();
                assert_eq!(record, Record { tombstone, predecessor, kv: &bytes[kv_at..] });
                assert_eq!(KeyValue::decode(record.kv), Some(kv));
            }
        }
    }

    /// Fuzzing found it: a record that claimed to supersede one of 2^64-1 bytes was believed, and compaction added to that.
    #[test]
    fn a_record_that_supersedes_an_impossible_one_does_not_decode() {
        let supersedes = |len| {
            encode(&KeyValue::default(), false, Some(Predecessor { revision: Revision::new(5, 0), len })).0
        };
        assert!(Record::decode(&supersedes(MESSAGE_BYTES_MAX)).is_some());
        assert_eq!(Record::decode(&supersedes(MESSAGE_BYTES_MAX + 1)), None);
        assert_eq!(Record::decode(&supersedes(u64::MAX)), None);
    }

    #[test]
    fn cut_or_strange_bytes_do_not_decode() {
        assert_eq!(Record::decode(&[]), None);
        assert_eq!(Record::decode(&[4]), None);
        assert_eq!(Record::decode(&[SUPERSEDES, 1, 1]), None);
    }
}
