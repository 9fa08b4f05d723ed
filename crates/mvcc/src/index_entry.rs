//! What lies in the `index` table: one entry per change, a key's entries side by side, the newest first.
//!
//! ```text
//! key    the user key, escaped and ended (see below); the revision's 16 bytes, each bit turned over
//! value  0, create_revision, version, lease, size of the value (varints)      a put
//!        1                                                                    a tombstone
//! ```
//!
//! A user key may hold any byte, and one may be the beginning of another, so `00` is written `00 ff` and the key ends with
//! `00 01`. The order stays that of the user keys:
//!
//! ```text
//! a      61 00 01
//! a 00   61 00 ff 00 01
//! ab     61 62 00 01
//! ```

use api::LeaseId;
use prost::encoding::{decode_varint, encode_varint};

use crate::key_value::{signed, unsigned};
use crate::{KeyMeta, Revision};

const END: [u8; 2] = [0, 1];
const ESCAPED_ZERO: u8 = 0xff;

const PUT: u8 = 0;
const TOMBSTONE: u8 = 1;

/// No key is put so often, and there is room for those that follow.
const VERSION_MAX: i64 = i64::MAX / 2;

/// Appends what all entries of the key begin with.
pub(crate) fn encode_key(key: &[u8], out: &mut Vec<u8>) {
    let mut rest = key;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        out.extend_from_slice(&rest[..=zero]);
        out.push(ESCAPED_ZERO);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&END);
}

/// Appends the key of an entry.
pub(crate) fn encode_entry(key: &[u8], revision: Revision, out: &mut Vec<u8>) {
    encode_key(key, out);
    out.extend_from_slice(&descending(revision));
}

/// The revision's bytes such that later ones come first.
pub(crate) fn descending(revision: Revision) -> [u8; Revision::LEN] {
    revision.to_bytes().map(|byte| !byte)
}

/// What is behind all entries of the key whose entries begin with `prefix`.
pub(crate) fn behind(prefix: &mut [u8]) {
    *prefix.last_mut().expect("every encoded key has an end") += 1;
}

/// Splits an entry's key into what all entries of the user key begin with, and the revision.
pub(crate) fn split(entry: &[u8]) -> Option<(&[u8], Revision)> {
    let (prefix, revision) = entry.split_at_checked(entry.len().checked_sub(Revision::LEN)?)?;
    let mut bytes: [u8; Revision::LEN] = revision.try_into().ok()?;
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    let revision = Revision::from_bytes(&bytes)?;
    // No request has that many changes.
    u32::try_from(revision.sub()).ok()?;
    Some((prefix, revision))
}

/// Appends the user key whose entries begin with `prefix`. `None` if there is none such.
pub(crate) fn decode_key(prefix: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = prefix.strip_suffix(&END)?;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        out.extend_from_slice(&rest[..=zero]);
        rest = rest[zero + 1..].strip_prefix(&[ESCAPED_ZERO])?;
    }
    out.extend_from_slice(rest);
    Some(())
}

/// Appends the value of a put's entry.
pub(crate) fn encode_put(meta: &KeyMeta, out: &mut Vec<u8>) {
    out.push(PUT);
    encode_varint(unsigned(meta.create_revision), out);
    encode_varint(unsigned(meta.version), out);
    encode_varint(unsigned(meta.lease.get()), out);
    encode_varint(meta.value_size as u64, out);
}

/// Appends the value of a tombstone's entry.
pub(crate) fn encode_tombstone(out: &mut Vec<u8>) {
    out.push(TOMBSTONE);
}

/// What an entry says: the key as the put at `revision` left it, or `Some(None)` if the key was deleted there.
#[expect(clippy::option_option, reason = "the outer one is for bytes that make no sense")]
pub(crate) fn decode_value(bytes: &[u8], revision: Revision) -> Option<Option<KeyMeta>> {
    match bytes.split_first()? {
        (&TOMBSTONE, []) => Some(None),
        (&PUT, mut rest) => {
            let mut number = || decode_varint(&mut rest).ok();
            let meta = KeyMeta {
                create_revision: signed(number()?),
                mod_revision: revision,
                version: signed(number()?),
                lease: LeaseId::new(signed(number()?)),
                value_size: u32::try_from(number()?).ok()? as usize,
            };
            // A key is created no later than it is changed, and versions count up by one.
            let possible = (1..=revision.main()).contains(&meta.create_revision)
                && (1..=VERSION_MAX).contains(&meta.version);
            possible.then_some(Some(meta))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some((prefix, revision)) = split(&bytes) {
                let mut key = Vec::new();
                if decode_key(prefix, &mut key).is_some() {
                    prop_assert_eq!(encoded(&key, revision), bytes.clone());
                }
            }
            let meta = decode_value(&bytes, Revision::default()).flatten();
            prop_assert!(meta.is_none_or(|meta| meta.mod_revision == Revision::default()));
        }
    }

    fn encoded(key: &[u8], revision: Revision) -> Vec<u8> {
        let mut out = Vec::new();
        encode_entry(key, revision, &mut out);
        out
    }

    proptest! {
        #[test]
        fn entries_sort_by_key_and_then_newest_first(
            a in prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 97, 255]), 0..6),
            b in prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 97, 255]), 0..6),
            revisions in any::<[(u16, u16); 2]>(),
        ) {
            let [x, y] = revisions.map(|(main, sub)| Revision::new(main.into(), sub.into()));
            prop_assert_eq!(encoded(&a, x).cmp(&encoded(&b, y)), a.cmp(&b).then(y.cmp(&x)));
            let entry = encoded(&a, x);
            let (prefix, revision) = split(&entry).unwrap();
            let mut key = Vec::new();
            decode_key(prefix, &mut key).unwrap();
            prop_assert_eq!((key, revision), (a.clone(), x));
            let mut after = prefix.to_vec();
            behind(&mut after);
            prop_assert!(after > entry);
            prop_assert!(a >= b || after < encoded(&b, y), "nothing of the next key is skipped");
        }
    }

    #[test]
    fn values_come_back() {
        let revision = Revision::new(9, 1);
        let meta = KeyMeta {
            create_revision: 3,
            mod_revision: revision,
            version: 4,
            lease: LeaseId::new(-5),
            value_size: 1000,
        };
        let mut out = Vec::new();
        encode_put(&meta, &mut out);
        assert_eq!(decode_value(&out, revision), Some(Some(meta)));
        out.clear();
        encode_tombstone(&mut out);
        assert_eq!(decode_value(&out, revision), Some(None));
    }

    /// Fuzzing found it: an entry on disk with the greatest version there is was believed, and the next put of its key
    /// added one to that.
    #[test]
    fn an_entry_with_impossible_numbers_does_not_decode() {
        let revision = Revision::new(4, 0);
        let meta = |create_revision, version| KeyMeta {
            create_revision,
            mod_revision: revision,
            version,
            lease: LeaseId::NONE,
            value_size: 1,
        };
        let check = |meta: KeyMeta, expected| {
            let mut out = Vec::new();
            encode_put(&meta, &mut out);
            assert_eq!(decode_value(&out, revision).is_some(), expected, "{meta:?}");
        };
        check(meta(2, 3), true);
        for (create_revision, version) in [(2, i64::MAX), (2, 0), (2, -1), (0, 1), (5, 1), (-1, 1)] {
            check(meta(create_revision, version), false);
        }
    }

    #[test]
    fn bytes_that_make_no_sense_do_not_decode() {
        assert_eq!(decode_value(&[], Revision::default()), None);
        assert_eq!(decode_value(&[PUT, 1, 1], Revision::default()), None);
        assert_eq!(decode_value(&[7], Revision::default()), None);
        assert_eq!(decode_value(&[PUT, 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Revision::default()), None);
        assert_eq!(split(&[0; 15]), None);
        assert_eq!(split(&[0x80; 16]), None, "more changes than a request can have");
        assert_eq!(decode_key(b"no end", &mut Vec::new()), None);
        assert_eq!(decode_key(b"\0\x02\0\x01", &mut Vec::new()), None);
    }
}
