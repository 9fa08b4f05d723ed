//! Doors for fuzzers to the decoders of what lies on disk: bytes in, and a panic if they break a promise.

use std::time::Duration;

use backend::{Backend as _, MemBackend, Table};
use prost::Message as _;

use crate::record::Record;
use crate::{Lessor, Options};

/// A lease's record, its key in front: read, and brought to life in a lessor.
pub fn record(bytes: &[u8]) {
    let Some((key, value)) = bytes.split_at_checked(8) else { return };
    let Ok((id, record)) = Record::parse(key, value) else { return };
    let again = Record::parse(&Record::key(id), &record.encode_to_vec()).expect("what was encoded decodes");
    assert_eq!(again, (id, record));

    let backend = MemBackend::new();
    let mut tx = backend.begin();
    tx.put(Table::Lease, key, value);
    backend.commit(tx).expect("memory takes everything");
    let Ok(lessor) = Lessor::open(&backend, Options::default()) else { return };
    let now = Duration::from_secs(1);
    lessor.promote(now, Duration::from_secs(2));
    assert!(lessor.contains(id));
    lessor.time_to_live(id, now, true).expect("the lease is there");
    let late = lessor.next_expiry().expect("the lease ends at some time");
    assert_eq!(lessor.expired(late, 10), [id]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_damaged_seeds_break_no_promise() {
        smoke::run("lease_record", record);
    }
}
