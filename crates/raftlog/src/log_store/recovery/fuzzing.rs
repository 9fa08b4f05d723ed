//! The fuzzers' door to the survey: files as they come, files of intact fragments with anything in them, and good files
//! with one byte changed.

use super::{BLOCK, End, HEADER, Path, Survey, mask};

/// The number of the file.
const NUMBER: u64 = 12;
/// Longer files only take longer.
const FILE_BYTES_MAX: usize = 4 * BLOCK;

/// A write-ahead log; the first byte tells how the others make one.
pub fn wal(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    match how % 3 {
        0 => drop(survey(bytes)),
        1 => drop(survey(&fragments(bytes))),
        _ => one_byte_changed(bytes),
    }
}

fn survey(file: &[u8]) -> Survey {
    let mut survey = Survey::default();
    let mut end: Option<End> = None;
    survey.file(Path::new("000012.log"), NUMBER, file, &mut end);
    survey
}

/// Fragments with good checksums: a byte for the kind, one for the length, and what is in it.
fn fragments(mut bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    while let [kind, length, rest @ ..] = bytes
        && file.len() < FILE_BYTES_MAX
    {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        fragment(&mut file, kind % 10, payload);
        bytes = rest;
    }
    file
}

/// Batches of lengths that the bytes tell: the survey sees all of them, and when one byte is not what it was, none is lost
/// silently but the last.
fn one_byte_changed(bytes: &[u8]) {
    let Some((place, lengths)) = bytes.split_first_chunk::<4>() else { return };
    let (mut file, mut ends, mut change) = (Vec::new(), Vec::new(), 1_u64);
    for length in lengths.as_chunks::<2>().0 {
        if file.len() > FILE_BYTES_MAX {
            break;
        }
        let changes = u32::from(length[1] % 7) + 1;
        let mut payload = [&change.to_le_bytes()[..], &changes.to_le_bytes()[..]].concat();
        payload.resize(12 + usize::from(u16::from_be_bytes(*length)), length[0]);
        batch(&mut file, &payload);
        change += u64::from(changes);
        ends.push((file.len(), change - 1));
    }
    let whole = survey(&file);
    assert!(whole.suspicion.is_none(), "{:?} in a good file", whole.suspicion);
    assert_eq!(whole.last_change, change - 1);

    let at = usize::from(u16::from_be_bytes([place[0], place[1]])) * 4 + usize::from(place[2] % 4);
    let Some(byte) = file.get_mut(at) else { return };
    *byte ^= place[3];
    let changed = survey(&file);
    let before = ends.iter().rfind(|(end, _)| *end <= at).map_or(0, |(_, change)| *change);
    assert!(changed.last_change >= before, "batches before the changed byte are seen");
    assert!(changed.last_change <= whole.last_change, "no batch comes from nowhere");
    if changed.suspicion.is_none() {
        assert!(
            changed.last_change == before || changed.last_change == whole.last_change,
            "a batch in the middle is missing and nobody says so"
        );
    }
}

/// Writes a batch as RocksDB does.
fn batch(file: &mut Vec<u8>, payload: &[u8]) {
    let (mut rest, mut first) = (payload, true);
    loop {
        let mut room = BLOCK - file.len() % BLOCK;
        if room < HEADER {
            file.resize(file.len() + room, 0);
            room = BLOCK;
        }
        let (part, after) = rest.split_at(rest.len().min(room - HEADER));
        let kind = match (first, after.is_empty()) {
            (true, true) => 5,
            (true, false) => 6,
            (false, false) => 7,
            (false, true) => 8,
        };
        fragment(file, kind, part);
        if after.is_empty() {
            return;
        }
        (rest, first) = (after, false);
    }
}

fn fragment(file: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let length = u16::try_from(payload.len()).expect("a fragment fits into a block");
    let number = u32::try_from(NUMBER).expect("it is small").to_le_bytes();
    let summed = [&[kind][..], &number, payload].concat();
    file.extend_from_slice(&mask(crc32c::crc32c(&summed)).to_le_bytes());
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&summed);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fuzzing found it: the number of the change after a batch was computed without looking whether there is such a
    /// number. A batch that was written wrong, and has a good checksum, ended a debug build in the middle of opening the
    /// log, and in a release build counted on from 0.
    #[test]
    fn a_batch_at_the_end_of_all_numbers_is_suspect() {
        let (mut file, changes) = (Vec::new(), 3_u32);
        batch(&mut file, &[&(u64::MAX - 2).to_le_bytes()[..], &changes.to_le_bytes()].concat());
        let survey = survey(&file);
        assert!(matches!(survey.suspicion, Some(crate::Error::Corrupt { offset: 0, .. })), "{survey:?}");
        assert_eq!(survey.last_change, 0);
    }
}
