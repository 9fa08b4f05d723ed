//! Files that are not what they should be: each ends in an error that names the place, and the check finds it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{Cursor, Seek as _, SeekFrom};

use etcd_rs_boltdb::{Error, Reader, Result, Writer};

const PAGE: usize = 1024;

/// A bucket `few` of one page, and a bucket `many` of branches and leaves, the pages of which begin at 3.
fn file() -> Vec<u8> {
    let mut writer = Writer::with_page_size(Cursor::new(Vec::new()), 1024).unwrap();
    writer.bucket(b"few").unwrap();
    for n in 0..20_u8 {
        writer.put(&[n], &[n; 20]).unwrap();
    }
    writer.bucket(b"many").unwrap();
    for n in 0..2000_u16 {
        writer.put(&n.to_be_bytes(), &[7; 40]).unwrap();
    }
    let (mut sink, shape) = writer.finish().unwrap();
    sink.seek(SeekFrom::Start(0)).unwrap();
    shape.write_front(&mut sink).unwrap();
    sink.into_inner()
}

/// Reads everything, and returns how many records there were.
fn read(bytes: &[u8]) -> Result<usize> {
    let reader = Reader::new(bytes)?;
    let mut count = 0;
    for name in [&b"few"[..], b"many"] {
        let Some(bucket) = reader.bucket(name)? else { continue };
        let mut cursor = bucket.cursor();
        while cursor.next_record()?.is_some() {
            count += 1;
        }
    }
    Ok(count)
}

fn complaints(bytes: &[u8]) -> String {
    Reader::new(bytes).unwrap().check().unwrap().join("\n")
}

/// The id of the first page of this kind, from a page on.
fn find(bytes: &[u8], kind: u8, from: usize) -> usize {
    (from..bytes.len() / PAGE).find(|id| bytes[id * PAGE + 8] == kind).unwrap()
}

const BRANCH: u8 = 1;
const LEAF: u8 = 2;

fn change(what: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = file();
    what(&mut bytes);
    bytes
}

fn refused(bytes: &[u8], detail: &str) {
    let error = read(bytes).unwrap_err().to_string();
    assert!(error.contains(detail), "{error}");
    let complaints = complaints(bytes);
    assert!(!complaints.is_empty(), "the check finds it, too");
}

#[test]
fn an_undamaged_file_is_read_whole() {
    assert_eq!(read(&file()).unwrap(), 2020);
    assert_eq!(complaints(&file()), "");
    let with_trailer = change(|bytes| bytes.extend_from_slice(&[1; 32]));
    assert_eq!(read(&with_trailer).unwrap(), 2020);
}

#[test]
fn a_file_cut_anywhere_is_truncated_or_no_database() {
    let whole = file();
    for len in (0..whole.len()).step_by(511) {
        match read(&whole[..len]) {
            Err(Error::Invalid) => assert!(len < PAGE, "{len}"),
            Err(Error::Truncated { needed, .. }) => assert_eq!(needed, whole.len() as u64),
            other => panic!("{other:?} of {len} bytes"),
        }
    }
}

#[test]
fn a_page_that_is_its_own_child_is_refused() {
    let own_child = |count: Option<u8>| {
        change(|bytes| {
            let branch = find(bytes, BRANCH, 3);
            let element = branch * PAGE + 16;
            bytes[element + 8..element + 16].copy_from_slice(&(branch as u64).to_le_bytes());
            if let Some(count) = count {
                bytes[branch * PAGE + 10] = count;
            }
        })
    };
    refused(&own_child(None), "needs to be < than key of the next element in ancestor");
    // With this child alone, keys are in order for ever.
    let bytes = own_child(Some(1));
    refused(&bytes, "the tree has no end");
    assert!(complaints(&bytes).contains("multiple references"), "{}", complaints(&bytes));
}

#[test]
fn two_branches_that_share_a_child_are_refused() {
    let bytes = change(|bytes| {
        let element = find(bytes, BRANCH, 3) * PAGE + 16;
        let first = bytes[element + 8..element + 16].to_vec();
        bytes[element + 24..element + 32].copy_from_slice(&first);
    });
    refused(&bytes, "the first key needs to be >= the key in the ancestor");
    assert!(complaints(&bytes).contains("multiple references"), "{}", complaints(&bytes));
}

#[test]
fn a_child_outside_of_the_file_is_refused() {
    for child in [0, 1, 10_000, u64::MAX] {
        let bytes = change(|bytes| {
            let element = find(bytes, BRANCH, 3) * PAGE + 16;
            bytes[element + 8..element + 16].copy_from_slice(&child.to_le_bytes());
        });
        refused(&bytes, &format!("page {child}: out of bounds"));
    }
}

#[test]
fn a_page_that_lies_about_what_follows_it_is_refused() {
    for overflow in [u32::MAX, 10_000] {
        let bytes = change(|bytes| {
            let leaf = find(bytes, LEAF, 5) * PAGE;
            bytes[leaf + 12..leaf + 16].copy_from_slice(&overflow.to_le_bytes());
        });
        refused(&bytes, "pages follow, which is too many");
    }
    // It claims the page behind it, too: only the check of the whole file can see that.
    let overlapping = change(|bytes| {
        let leaf = find(bytes, LEAF, 5) * PAGE;
        bytes[leaf + 12] = 1;
    });
    assert!(complaints(&overlapping).contains("multiple references"));
}

#[test]
fn a_page_in_the_place_of_another_is_refused() {
    let bytes = change(|bytes| {
        let leaf = find(bytes, LEAF, 4);
        let next = find(bytes, LEAF, leaf + 1);
        let copy = bytes[next * PAGE..(next + 1) * PAGE].to_vec();
        bytes[leaf * PAGE..(leaf + 1) * PAGE].copy_from_slice(&copy);
    });
    refused(&bytes, "it says that it is page");
}

#[test]
fn keys_out_of_order_are_refused_within_a_page_and_across_pages() {
    let leaf = |bytes: &[u8]| find(bytes, LEAF, 4) * PAGE;
    let key = |bytes: &[u8], at: usize| {
        let element = leaf(bytes) + 16 + 16 * at;
        element + usize::from(bytes[element + 4]) + 256 * usize::from(bytes[element + 5])
    };
    let bytes = change(|bytes| {
        let at = key(bytes, 2);
        bytes[at] = 0xff;
    });
    refused(&bytes, "needs to be > than previous element");
    let bytes = change(|bytes| {
        let last = usize::from(bytes[leaf(bytes) + 10]) - 1;
        let at = key(bytes, last);
        bytes[at] = 0xff;
    });
    refused(&bytes, "needs to be < than key of the next element in ancestor");
}

#[test]
fn no_flipped_bit_breaks_more_than_the_answer() {
    let whole = file();
    for at in (0..whole.len()).step_by(211) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let Ok(reader) = Reader::new(bytes.as_slice()) else { continue };
        let sound = reader.check().unwrap().is_empty();
        let outcome = read(&bytes);
        assert!(!sound || outcome.is_ok(), "byte {at}: {outcome:?}");
    }
}
