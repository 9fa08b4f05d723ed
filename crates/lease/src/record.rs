//! How a lease lies in [`Table::Lease`](backend::Table::Lease): key = id, 8 bytes big endian; value = a small message with
//! the fields that etcd's own lease records have, so that moving in and out needs no translation.

use api::LeaseId;
use bytes::Bytes;
use prost::Message as _;

use crate::{Error, Result};

/// What survives a restart. Attached keys are not here: each key names its lease, and the server attaches them at boot.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Record {
    /// The lease's id, as in the key.
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    /// Granted time to live in seconds.
    #[prost(int64, tag = "2")]
    pub(crate) ttl: i64,
    /// Seconds that were left at the last checkpoint, 0 for none.
    #[prost(int64, tag = "3")]
    pub(crate) remaining_ttl: i64,
}

impl Record {
    /// The key of this lease's record.
    pub(crate) const fn key(id: LeaseId) -> [u8; 8] {
        id.get().to_be_bytes()
    }

    /// Reads one record back.
    pub(crate) fn parse(key: &[u8], value: &[u8]) -> Result<(LeaseId, Self)> {
        let corrupt = |reason| Error::Corrupt { key: Bytes::copy_from_slice(key), reason };
        let id: [u8; 8] = key.try_into().map_err(|_| corrupt("the key is not 8 bytes long"))?;
        let record = Self::decode(value).map_err(|_| corrupt("the value is not a lease"))?;
        if record.id != i64::from_be_bytes(id) {
            return Err(corrupt("the value names another lease"));
        }
        Ok((LeaseId::new(record.id), record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_etcds_field_numbers() {
        let record = Record { id: 1, ttl: 10, remaining_ttl: 5 };
        assert_eq!(record.encode_to_vec(), [0x08, 1, 0x10, 10, 0x18, 5]);
        assert_eq!(Record::key(LeaseId::new(-2)), [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);
    }

    #[test]
    fn nonsense_is_corrupt_and_no_panic() {
        let value = Record { id: 7, ttl: 10, remaining_ttl: 0 }.encode_to_vec();
        assert!(Record::parse(&Record::key(LeaseId::new(7)), &value).is_ok());
        let check = |key: &[u8], value: &[u8]| {
            assert!(matches!(Record::parse(key, value), Err(Error::Corrupt { .. })), "{key:?} {value:?}");
        };
        check(&Record::key(LeaseId::new(8)), &value);
        check(b"short", &value);
        check(&Record::key(LeaseId::new(7)), b"\xff\xff");
        check(&Record::key(LeaseId::new(7)), b"");
    }
}
