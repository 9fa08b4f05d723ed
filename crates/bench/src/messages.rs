//! The messages that the loads send, framed for gRPC, and the keys they use.

use anyhow::{Context, Result};
use api::etcdserverpb as pb;
use bytes::Bytes;
use prost::Message;

pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(crate) const PUT: &str = "/etcdserverpb.KV/Put";
pub(crate) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(crate) const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub(crate) const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub(crate) const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub(crate) const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// Values are as long as a small object of Kubernetes is at the least.
pub(crate) const VALUE_BYTES: usize = 256;

/// Appends a message with the five bytes that gRPC puts before it: not compressed, and the length.
pub(crate) fn frame(message: &impl Message, out: &mut Vec<u8>) {
    let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
    out.push(0);
    out.extend_from_slice(&length.to_be_bytes());
    // A vector grows as needed; encoding into one cannot fail.
    message.encode(out).unwrap_or_default();
}

/// The same, into a buffer of its own.
pub(crate) fn framed(message: &impl Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.encoded_len() + 5);
    frame(message, &mut out);
    out
}

/// The message in a framed body of exactly one.
pub(crate) fn unframed<M: Message + Default>(body: &[u8]) -> Result<M> {
    let message = body.get(5..).context("an answer without a message")?;
    Ok(M::decode(message)?)
}

/// A value that compresses badly and differs from key to key.
pub(crate) fn value(number: u64) -> Bytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = Vec::with_capacity(VALUE_BYTES);
    while value.len() < VALUE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(&state.to_le_bytes());
    }
    value.into()
}

/// Key `number` of the big load: 60 bytes, in an order that is not the order of loading.
pub(crate) fn key(number: u64, total: u64) -> Bytes {
    let shuffled = (number.wrapping_mul(7_368_787)) % total.max(1);
    let text = format!("/registry/pods/namespace-{:04}/deployment-{shuffled:0>19}", shuffled / 2000);
    debug_assert_eq!(text.len(), 60, "keys have 60 bytes");
    text.into()
}

/// One of the ten thousand keys that single-key loads use.
pub(crate) fn hot_key(number: u64) -> Bytes {
    format!("/hot/{:0>8}", number.wrapping_mul(7919) % 10_000).into()
}

/// The end of the range of all keys that begin with `prefix`.
pub(crate) fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// A put without wishes.
pub(crate) fn put(key: Bytes, value: Bytes) -> pb::PutRequest {
    pb::PutRequest { key, value, ..Default::default() }
}

/// A read of one key.
pub(crate) fn get(key: Bytes, serializable: bool) -> pb::RangeRequest {
    pb::RangeRequest { key, serializable, ..Default::default() }
}

/// How many keys begin with `prefix`.
pub(crate) fn count(prefix: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: prefix.to_owned().into(),
        range_end: prefix_end(prefix),
        count_only: true,
        ..Default::default()
    }
}

/// What Kubernetes sends to write an object: put if it is still at `mod_revision`, else read it.
pub(crate) fn guarded_put(key: &Bytes, value: Bytes, mod_revision: i64) -> pb::TxnRequest {
    use pb::request_op::Request;
    let op = |request| pb::RequestOp { request: Some(request) };
    pb::TxnRequest {
        compare: vec![pb::Compare {
            result: pb::compare::CompareResult::Equal.into(),
            target: pb::compare::CompareTarget::Mod.into(),
            key: key.clone(),
            range_end: Bytes::new(),
            target_union: Some(pb::compare::TargetUnion::ModRevision(mod_revision)),
        }],
        success: vec![op(Request::RequestPut(put(key.clone(), value)))],
        failure: vec![op(Request::RequestRange(get(key.clone(), false)))],
    }
}

/// A watch on all keys that begin with `key`, or on that key alone.
pub(crate) fn watch(key: &str, prefix: bool) -> pb::WatchRequest {
    use pb::watch_request::RequestUnion;
    let range_end = if prefix { prefix_end(key) } else { Bytes::new() };
    let create = pb::WatchCreateRequest { key: key.to_owned().into(), range_end, ..Default::default() };
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

/// What of a `WatchResponse` a load wants to know, found without decoding it: how many events, and whether it
/// confirms a create.
pub(crate) fn skim_watch_response(mut message: &[u8]) -> Option<(u64, bool)> {
    let (mut events, mut created) = (0, false);
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let number = varint(&mut message)?;
                created |= tag >> 3 == 3 && number != 0;
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                events += u64::from(tag >> 3 == 11);
                message = message.get(length..)?;
            }
            _ => return None,
        }
    }
    Some((events, created))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_million_numbers_are_a_million_keys() {
        let total = 10_000;
        let keys: HashSet<_> = (0..total).map(|number| key(number, total)).collect();
        assert_eq!(keys.len(), 10_000);
        assert!(keys.iter().all(|key| key.len() == 60));
    }

    #[test]
    fn skimming_counts_what_decoding_finds() {
        let response = pb::WatchResponse {
            header: Some(pb::ResponseHeader { revision: 300, ..Default::default() }),
            created: true,
            events: vec![api::mvccpb::Event::default(); 3],
            ..Default::default()
        };
        assert_eq!(skim_watch_response(&response.encode_to_vec()), Some((3, true)));
        assert_eq!(skim_watch_response(&[0x5a, 9, 1]), None);
    }
}
