//! The fuzzers' door to requests: as clients send them, and as they lie in entries of the log.

use std::fmt::Debug;

use api::etcdserverpb as pb;
use api::internal::{Batch, request};
use bytes::{Bytes, BytesMut};
use prost::Message;

pub use super::frame::fuzzing::frame;
use super::{check, decode};
use crate::proposal::Command;

/// A request: the first byte tells which, or that the others are an entry.
pub fn request(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let raw = Bytes::copy_from_slice(bytes);
    match which % 8 {
        0 => entry(&raw),
        1 => {
            let Some(put) = again::<pb::PutRequest>(&raw) else { return };
            if check::put(&put).is_ok() {
                packed(&Command::put(raw.clone()), &request::Command::Put(raw));
            }
        }
        2 => {
            let Some(delete) = again::<pb::DeleteRangeRequest>(&raw) else { return };
            if check::delete_range(&delete).is_ok() {
                packed(&Command::delete_range(raw.clone()), &request::Command::DeleteRange(raw));
            }
        }
        3 => {
            let Some(txn) = again::<pb::TxnRequest>(&raw) else { return };
            if check::txn(&txn, 128).is_ok() {
                packed(&Command::txn(raw.clone()), &request::Command::Txn(raw));
            }
        }
        4 => {
            let Some(range) = again::<pb::RangeRequest>(&raw) else { return };
            if check::range_stream(&range).is_ok() {
                assert!(check::range(&range).is_ok(), "a stream takes no more than a single answer");
            }
        }
        5 => drop(again::<pb::WatchRequest>(&raw)),
        6 => drop(again::<pb::CompactionRequest>(&raw)),
        _ => drop(again::<pb::LeaseGrantRequest>(&raw)),
    }
}

/// What decodes also decodes from what it is encoded to.
fn again<M: Message + Default + PartialEq + Debug>(raw: &Bytes) -> Option<M> {
    let message = decode::<M>(raw).ok()?;
    let encoded = Bytes::from(message.encode_to_vec());
    assert_eq!(decode::<M>(&encoded).ok().as_ref(), Some(&message));
    Some(message)
}

/// What a check lets pass goes into an entry and comes out of it as it was.
fn packed(command: &Command, expected: &request::Command) {
    let mut batch = BytesMut::new();
    command.encode(9, &mut batch);
    let Ok(batch) = decode::<Batch>(&batch.freeze()) else { panic!("what was packed does not decode") };
    assert_eq!(batch.requests[0].command.as_ref(), Some(expected));
}

/// An entry, and the requests in it that are decoded when they are applied.
fn entry(raw: &Bytes) {
    let Some(batch) = again::<Batch>(raw) else { return };
    for request in batch.requests {
        match request.command {
            Some(request::Command::Put(body)) => drop(again::<pb::PutRequest>(&body)),
            Some(request::Command::DeleteRange(body)) => drop(again::<pb::DeleteRangeRequest>(&body)),
            Some(request::Command::Txn(body)) => drop(again::<pb::TxnRequest>(&body)),
            _ => {}
        }
    }
}
