//! Doors for fuzzers: any bytes as a database, and a panic if that breaks a promise.

use crate::{Bucket, Reader, Result, Source};

/// Buckets in buckets are looked into so deep.
const DEPTH: usize = 4;

/// Bytes as a file: what can be read is in order and found again, and a file without complaints can be read whole.
pub fn database(bytes: &[u8]) {
    let Ok(reader) = Reader::new(bytes) else { return };
    assert!(reader.len_bytes() <= bytes.len() as u64);
    let sound = reader.check().expect("memory can be read").is_empty();
    let read = reader.root().and_then(|root| read(&root, DEPTH));
    assert!(!sound || read.is_ok(), "no complaints, but {read:?}");
}

fn read<S: Source>(bucket: &Bucket<'_, S>, depth: usize) -> Result<()> {
    let mut cursor = bucket.cursor();
    let mut previous = Vec::new();
    while let Some(record) = cursor.next_record()? {
        assert!(record.key > previous.as_slice());
        previous = record.key.to_vec();
        if !record.is_bucket {
            assert_eq!(bucket.get(record.key)?.as_deref(), Some(record.value));
        } else if depth > 0 {
            let inner = bucket.bucket(record.key)?.expect("it was there a moment ago");
            read(&inner, depth - 1)?;
        }
    }
    let last = bucket.last()?.map(|(key, _)| key).unwrap_or_default();
    assert_eq!(last, previous);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_damaged_seeds_break_no_promise() {
        smoke::run("boltdb_database", database);
    }
}
