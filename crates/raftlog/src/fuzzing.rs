//! Doors for fuzzers to the decoders of what lies on disk and comes from other members: bytes in, and a panic if they
//! break a promise.

use bytes::Bytes;
use prost::Message as _;

pub use crate::log_store::recovery::fuzzing::wal;
use crate::record::{self, Identity};

/// An entry, a vote, a position, a membership and an identity; the first byte tells which.
pub fn record(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    const AGAIN: &str = "what was encoded decodes";
    match which % 5 {
        0 => {
            let Ok(entry) = record::decode_entry(7, Bytes::copy_from_slice(bytes)) else { return };
            let mut again = Vec::new();
            record::encode_entry(&entry, &mut again);
            assert_eq!(record::decode_entry(7, again.into()).expect(AGAIN), entry);
        }
        1 => {
            let Ok(vote) = record::decode_vote(bytes) else { return };
            assert_eq!(record::decode_vote(&record::encode_vote(&vote)).expect(AGAIN), vote);
        }
        2 => {
            let Ok(log_id) = record::decode_log_id(bytes) else { return };
            assert_eq!(record::decode_log_id(&record::encode_log_id(log_id)).expect(AGAIN), log_id);
        }
        3 => {
            let Ok(stored) = record::decode_stored_membership(bytes) else { return };
            let Some(log_id) = stored.log_id() else { return };
            let log_id = crate::types::from_raft(log_id);
            let again = record::encode_stored_membership(log_id, stored.membership());
            assert_eq!(record::decode_stored_membership(&again).expect(AGAIN), stored);
        }
        _ => {
            let Ok(identity) = Identity::decode(bytes) else { return };
            assert_eq!(Identity::decode(identity.encode_to_vec().as_slice()).expect(AGAIN), identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_damaged_seeds_break_no_promise() {
        smoke::run("raftlog_record", record);
        smoke::run("raftlog_wal", wal);
    }
}
