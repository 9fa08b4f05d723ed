//! WatchResponse written by hand, in pieces, so that N watchers share the bytes of one event.
//!
//! ```text
//!  one per revision        one per watcher     one per commit and variant
//! +-----------------------+-----------------+------------------------------------+
//! | 1 header              | 2 watch_id      | 11 event | 11 event | ...           |
//! +-----------------------+-----------------+------------------------------------+
//! ```
//!
//! A protobuf message is the concatenation of its fields, so whoever sends the response just sends the pieces one after the
//! other. Field numbers are those of `proto/rpc.proto`; the tests decode with prost.

use api::{ClusterId, MemberId};

const VARINT: u8 = 0;
const LENGTH: u8 = 2;

/// The bytes of `fragment = true`.
pub(crate) const FRAGMENT: &[u8] = &[7 << 3, 1];

/// Who answers: goes into every header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The member that serves the stream.
    pub member_id: MemberId,
}

pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

/// How many bytes a varint takes.
pub(crate) const fn varint_len(value: u64) -> usize {
    match value {
        0 => 1,
        _ => (value.ilog2() / 7 + 1) as usize,
    }
}

fn uint_field(out: &mut Vec<u8>, number: u8, value: u64) {
    if value != 0 {
        out.push(number << 3 | VARINT);
        varint(out, value);
    }
}

fn bytes_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | LENGTH);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends field 1, the header.
pub(crate) fn header(out: &mut Vec<u8>, identity: Identity, revision: i64, raft_term: u64) {
    let mut body = Vec::with_capacity(44);
    uint_field(&mut body, 1, identity.cluster_id.get());
    uint_field(&mut body, 2, identity.member_id.get());
    uint_field(&mut body, 3, revision.cast_unsigned());
    uint_field(&mut body, 4, raft_term);
    bytes_field(out, 1, &body);
}

/// Field 2, the watch id, encoded once per watcher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchIdField {
    bytes: [u8; 11],
    len: u8,
}

impl WatchIdField {
    pub(crate) fn new(watch_id: i64) -> Self {
        let mut encoded = Vec::with_capacity(11);
        uint_field(&mut encoded, 2, watch_id.cast_unsigned());
        let mut bytes = [0; 11];
        bytes[..encoded.len()].copy_from_slice(&encoded);
        Self { bytes, len: u8::try_from(encoded.len()).expect("a tag and ten bytes at most") }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What a control message says about its watcher, besides header and id.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Control<'a> {
    pub(crate) created: bool,
    pub(crate) canceled: bool,
    pub(crate) compact_revision: i64,
    pub(crate) cancel_reason: &'a str,
}

/// Appends fields 3 to 6.
pub(crate) fn control(out: &mut Vec<u8>, control: Control<'_>) {
    uint_field(out, 3, u64::from(control.created));
    uint_field(out, 4, u64::from(control.canceled));
    uint_field(out, 5, control.compact_revision.cast_unsigned());
    if !control.cancel_reason.is_empty() {
        bytes_field(out, 6, control.cancel_reason.as_bytes());
    }
}

/// Appends field 11: one event, of an encoded key-value and maybe an encoded previous one.
pub(crate) fn event(out: &mut Vec<u8>, is_delete: bool, kv: &[u8], prev_kv: Option<&[u8]>) {
    let kv_len = 1 + varint_len(kv.len() as u64) + kv.len();
    let prev_len = prev_kv.map_or(0, |prev| 1 + varint_len(prev.len() as u64) + prev.len());
    let type_len = if is_delete { 2 } else { 0 };
    out.push(11 << 3 | LENGTH);
    varint(out, (type_len + kv_len + prev_len) as u64);
    uint_field(out, 1, u64::from(is_delete));
    bytes_field(out, 2, kv);
    if let Some(prev) = prev_kv {
        bytes_field(out, 3, prev);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::etcdserverpb::{ResponseHeader, WatchResponse};
    use api::mvccpb::{Event, KeyValue};
    use proptest::prelude::*;
    use prost::Message as _;

    proptest! {
        #[test]
        fn the_pieces_put_together_are_what_prost_encodes(
            ids in any::<(u64, u64, u64)>(),
            revision in 0..i64::MAX,
            watch_id in any::<i64>(),
            flags in any::<(bool, bool, bool)>(),
            compact_revision in 0..i64::MAX,
            cancel_reason in ".{0,40}",
            events in proptest::collection::vec(
                (any::<bool>(), 0..300_usize, proptest::option::of(0..300_usize)), 0..4),
        ) {
            let kv = |size: usize| KeyValue { key: "k".into(), mod_revision: 3, value: vec![7; size].into(), ..Default::default() };
            let events: Vec<Event> = events
                .into_iter()
                .map(|(delete, size, prev)| Event { r#type: delete.into(), kv: Some(kv(size)), prev_kv: prev.map(kv) })
                .collect();
            let expected = WatchResponse {
                header: Some(ResponseHeader { cluster_id: ids.0, member_id: ids.1, revision, raft_term: ids.2 }),
                watch_id,
                created: flags.0,
                canceled: flags.1,
                compact_revision,
                cancel_reason: cancel_reason.clone(),
                fragment: flags.2,
                events: events.clone(),
            };
            let identity = Identity { cluster_id: ClusterId::new(ids.0), member_id: MemberId::new(ids.1) };
            let mut out = Vec::new();
            header(&mut out, identity, revision, ids.2);
            out.extend_from_slice(WatchIdField::new(watch_id).as_slice());
            let about =
                Control { created: flags.0, canceled: flags.1, compact_revision, cancel_reason: &cancel_reason };
            control(&mut out, about);
            if flags.2 {
                out.extend_from_slice(FRAGMENT);
            }
            for e in &events {
                let prev = e.prev_kv.as_ref().map(|kv| kv.encode_to_vec());
                event(&mut out, e.r#type == 1, &e.kv.as_ref().unwrap().encode_to_vec(), prev.as_deref());
            }
            assert_eq!(out, expected.encode_to_vec());
        }
    }

    #[test]
    fn a_varint_is_as_long_as_it_says() {
        for shift in 0..64 {
            for value in [(1_u64 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                let mut out = Vec::new();
                varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
            }
        }
    }
}
