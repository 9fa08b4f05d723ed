//! What is written is what is read: random databases against ordered maps.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::io::{Cursor, Seek as _, SeekFrom, Write};

use etcd_rs_boltdb::{Bucket, Error, Reader, Result, Shape, Source, Writer};
use proptest::prelude::*;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;
type Database = BTreeMap<Vec<u8>, Records>;

fn write<W: Write>(mut writer: Writer<W>, database: &Database) -> Result<(W, Shape)> {
    for (name, records) in database {
        writer.bucket(name)?;
        for (key, value) in records {
            writer.put(key, value)?;
        }
    }
    writer.finish()
}

/// Writes into a file, whose front comes last.
fn file(database: &Database, page_size: u32) -> Vec<u8> {
    let writer = Writer::with_page_size(Cursor::new(Vec::new()), page_size).unwrap();
    let (mut sink, shape) = write(writer, database).unwrap();
    sink.seek(SeekFrom::Start(0)).unwrap();
    shape.write_front(&mut sink).unwrap();
    assert_eq!(sink.get_ref().len() as u64, shape.len_bytes());
    sink.into_inner()
}

fn records<S: Source>(bucket: &Bucket<'_, S>) -> Records {
    let mut records = Records::new();
    let mut cursor = bucket.cursor();
    while let Some(record) = cursor.next_record().unwrap() {
        assert!(records.last_key_value().is_none_or(|(last, _)| last.as_slice() < record.key));
        records.insert(record.key.to_vec(), record.value.to_vec());
    }
    records
}

fn check(database: &Database, bytes: &[u8]) {
    let reader = Reader::new(bytes).unwrap();
    assert_eq!(reader.check().unwrap(), Vec::<String>::new());
    let names: Vec<Vec<u8>> = records(&reader.root().unwrap()).into_keys().collect();
    assert_eq!(names, database.keys().cloned().collect::<Vec<_>>());
    for (name, expected) in database {
        let bucket = reader.bucket(name).unwrap().unwrap();
        assert_eq!(&records(&bucket), expected);
        assert_eq!(bucket.last().unwrap(), expected.last_key_value().map(|(k, v)| (k.clone(), v.clone())));
        for (key, value) in expected.iter().step_by(expected.len() / 7 + 1) {
            assert_eq!(bucket.get(key).unwrap().as_ref(), Some(value));
            let mut missing = key.clone();
            missing.push(0);
            let there = expected.contains_key(&missing);
            assert_eq!(bucket.get(&missing).unwrap().is_some(), there);
        }
    }
    assert!(reader.bucket(b"no such bucket").unwrap().is_none());
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 1..20),
        2 => prop::collection::vec(0..3_u8, 1..6),
        1 => (any::<u8>(), 500..3000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..60),
        1 => (any::<u8>(), 0..9000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn database() -> impl Strategy<Value = Database> {
    let records = prop::collection::btree_map(key(), value(), 0..150);
    prop::collection::btree_map(key(), records, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(database in database(), large in any::<bool>()) {
        check(&database, &file(&database, if large { 4096 } else { 1024 }));
    }

    #[test]
    fn a_stream_is_the_file_that_was_measured(database in database()) {
        let (_, shape) = write(Writer::measure(), &database).unwrap();
        let (bytes, _) = write(Writer::with_shape(Vec::new(), shape).unwrap(), &database).unwrap();
        prop_assert_eq!(bytes.len() as u64, shape.len_bytes());
        prop_assert_eq!(&bytes, &file(&database, 4096));
        check(&database, &bytes);
    }
}

/// Keys of 8 bytes, in order.
fn many(count: u64) -> Records {
    (0..count).map(|n| (n.to_be_bytes().to_vec(), n.to_string().into_bytes())).collect()
}

#[test]
fn trees_of_several_levels_are_read() {
    for count in [1, 20, 21, 1000, 30_000] {
        let database = Database::from([(b"many".to_vec(), many(count)), (b"one".to_vec(), many(1))]);
        check(&database, &file(&database, 1024));
    }
}

#[test]
fn keys_of_any_length_do_not_make_a_tree_without_end() {
    let long = (0..40_u8).map(|n| (vec![n; 32_768], vec![n; 3])).collect();
    let database = Database::from([(b"long".to_vec(), long)]);
    check(&database, &file(&database, 1024));
}

#[test]
fn a_database_without_buckets_and_a_bucket_without_records_are_fine() {
    check(&Database::new(), &file(&Database::new(), 4096));
    let database = Database::from([(b"empty".to_vec(), Records::new())]);
    check(&database, &file(&database, 4096));
}

#[test]
fn what_does_not_ascend_or_has_no_size_is_refused() {
    let mut writer = Writer::measure();
    writer.bucket(b"b").unwrap();
    assert!(matches!(writer.bucket(b"a"), Err(Error::Order)));
    writer.bucket(b"c").unwrap();
    writer.put(b"k", b"").unwrap();
    for key in [&b"k"[..], b"j"] {
        assert!(matches!(writer.put(key, b""), Err(Error::Order)));
    }
    for key in [vec![], vec![b'z'; 32_769]] {
        assert!(matches!(writer.put(&key, b""), Err(Error::Size)));
    }
}

#[test]
fn a_stream_of_other_records_than_were_measured_is_refused() {
    let database = Database::from([(b"many".to_vec(), many(1000))]);
    let (_, shape) = write(Writer::measure(), &database).unwrap();
    let fewer = Database::from([(b"many".to_vec(), many(100))]);
    let outcome = write(Writer::with_shape(Vec::new(), shape).unwrap(), &fewer);
    assert!(matches!(outcome, Err(Error::Shape)));
}
