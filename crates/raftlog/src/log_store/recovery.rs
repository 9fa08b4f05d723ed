//! What a crash, or a failing disk, did to the write-ahead log.
//!
//! A batch is acknowledged once it is synced, and the next one is written only after that. So whatever a crash leaves
//! half-written is the last batch, and cutting it off loses nothing that was acknowledged. A damaged batch *before* an
//! intact one is something else: it was acknowledged, and the disk has lost it.
//!
//! ```text
//! 000012.log   batch  batch  batch  tor            a crash: the tail is cut off
//! 000012.log   batch  ba%§h  batch  batch          damage: refused, naming the file and the offset of the second batch
//! ```
//!
//! RocksDB's own recovery stops at the first damaged batch in both cases and does not tell them apart, therefore this
//! reads its files first. Only RocksDB knows which of them it still needs (others wait to be used again, and need
//! not be complete), so what looks like damage is damage if RocksDB would lose something by it. Their format: blocks of 32 KiB; in them fragments, each with a header of 11 bytes (checksum
//! of what follows, length, type, number of the file, so that the remains in a recycled file do not count); a batch is one
//! fragment or a first, middle ones and a last one. It begins with the number of its first change and their count.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use std::fs;
use std::mem;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 11;

/// What the write-ahead logs hold.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The number of the last change in an intact batch.
    pub(super) last_change: u64,
    /// The first place where an intact batch seems to be missing. It is, if RocksDB does not recover everything up to
    /// the last change; if it does, the file was not needed any more.
    pub(super) suspicion: Option<Error>,
}

/// Reads all write-ahead logs.
pub(super) fn survey(dir: &Path) -> Result<Survey> {
    let mut survey = Survey::default();
    let mut end = None;
    for (number, path) in wal_files(dir)? {
        let bytes = fs::read(&path).map_err(|error| io(&path, &error))?;
        survey.file(&path, number, &bytes, &mut end);
    }
    Ok(survey)
}

/// The write-ahead logs, oldest first.
fn wal_files(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| io(dir, &error))? {
        let path = entry.map_err(|error| io(dir, &error))?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(number) = number
            && path.extension().is_some_and(|extension| extension == "log")
        {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn io(path: &Path, error: &std::io::Error) -> Error {
    Error::Io { operation: "reading", path: path.to_owned(), message: error.to_string() }
}

/// Where the intact batches of a file end, and the number of the change that should come next.
struct End {
    path: PathBuf,
    offset: u64,
    next_change: u64,
}

impl Survey {
    /// Reads one file. `end` is where the files before it ended.
    fn file(&mut self, path: &Path, number: u64, bytes: &[u8], end: &mut Option<End>) {
        let mut batch = Batch::default();
        // The first place that is not an intact batch.
        let mut gap: Option<u64> = None;
        for fragment in Fragments::new(bytes, number) {
            let begins = matches!(fragment, Fragment::Intact { first: true, .. });
            if begins && let Some(offset) = gap.take().or(batch.begun) {
                self.suspect(path, offset, "a batch that was synced is damaged, with intact ones behind it");
                batch = Batch::default();
            }
            match fragment {
                Fragment::Damaged { offset } => gap = gap.or(batch.begun.take()).or(Some(offset)),
                Fragment::Intact { first, last, offset, payload } if first || batch.begun.is_some() => {
                    batch.begun.get_or_insert(offset);
                    batch.end = payload.end as u64;
                    batch.take(&bytes[payload]);
                    if last {
                        self.batch(path, &mem::take(&mut batch), end);
                    }
                }
                // The rest of a batch whose beginning is damaged.
                Fragment::Intact { .. } => {}
            }
        }
    }

    /// Between the end of what came before and an intact batch nothing may be missing.
    fn batch(&mut self, path: &Path, batch: &Batch, end: &mut Option<End>) {
        let first_change = batch.first_change();
        if let Some(end) = end
            && end.next_change != first_change
        {
            let reason = format!(
                "change {} should follow, but the next one, in {}, is {first_change}",
                end.next_change,
                path.display(),
            );
            self.suspect(&end.path, end.offset, &reason);
        }
        let Some(next_change) = first_change.checked_add(batch.changes()) else {
            let reason = format!("change {first_change} and {} more: no log is so long", batch.changes());
            return self.suspect(path, batch.begun.unwrap_or(batch.end), &reason);
        };
        self.last_change = self.last_change.max(next_change.saturating_sub(1));
        *end = Some(End { path: path.to_owned(), offset: batch.end, next_change });
    }

    fn suspect(&mut self, path: &Path, offset: u64, reason: &str) {
        let error = || Error::Corrupt { path: path.to_owned(), offset, reason: reason.to_owned() };
        self.suspicion.get_or_insert_with(error);
    }
}

/// The beginning of a batch, put together from its fragments.
#[derive(Default)]
struct Batch {
    /// Where it begins in the file.
    begun: Option<u64>,
    /// Where it ends, as far as it was read.
    end: u64,
    /// Its first twelve bytes.
    header: Vec<u8>,
}

impl Batch {
    fn take(&mut self, payload: &[u8]) {
        let missing = 12 - self.header.len();
        self.header.extend_from_slice(&payload[..missing.min(payload.len())]);
    }

    fn first_change(&self) -> u64 {
        self.header.get(..8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }

    fn changes(&self) -> u64 {
        self.header
            .get(8..12)
            .map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")).into())
    }
}

enum Fragment {
    Intact {
        first: bool,
        last: bool,
        offset: u64,
        payload: Range<usize>,
    },
    /// No fragment of this file is here: it ends, or it is damaged. The rest of the block is skipped.
    Damaged {
        offset: u64,
    },
}

/// The fragments of a file.
struct Fragments<'a> {
    bytes: &'a [u8],
    /// The low half of the file's number, as its fragments carry it.
    number: [u8; 4],
    position: usize,
}

impl<'a> Fragments<'a> {
    fn new(bytes: &'a [u8], number: u64) -> Self {
        let low = number.to_le_bytes();
        Self { bytes, number: [low[0], low[1], low[2], low[3]], position: 0 }
    }

    /// Reads the fragment at the position, or nothing if it is damaged.
    fn read(&self) -> Option<(u8, Range<usize>)> {
        let header = self.bytes.get(self.position..self.position + HEADER)?;
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let kind = header[6];
        let payload = self.position + HEADER..self.position + HEADER + length;
        let within_block = self.position % BLOCK + HEADER + length <= BLOCK;
        if !within_block || header[7..11] != self.number || payload.end > self.bytes.len() {
            return None;
        }
        let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let sum = crc32c::crc32c(&self.bytes[self.position + 6..payload.end]);
        (mask(sum) == stored).then_some((kind, payload))
    }
}

/// RocksDB stores checksums of bytes that contain checksums; this keeps them from cancelling out.
fn mask(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

impl Iterator for Fragments<'_> {
    type Item = Fragment;

    fn next(&mut self) -> Option<Fragment> {
        loop {
            let left = BLOCK - self.position % BLOCK;
            if left < HEADER {
                self.position += left;
            }
            if self.position >= self.bytes.len() {
                return None;
            }
            let offset = self.position as u64;
            let Some((kind, payload)) = self.read() else {
                self.position += BLOCK - self.position % BLOCK;
                return Some(Fragment::Damaged { offset });
            };
            self.position = payload.end;
            match kind {
                5 => return Some(Fragment::Intact { first: true, last: true, offset, payload }),
                6 => return Some(Fragment::Intact { first: true, last: false, offset, payload }),
                7 => return Some(Fragment::Intact { first: false, last: false, offset, payload }),
                8 => return Some(Fragment::Intact { first: false, last: true, offset, payload }),
                // Other kinds say something about the file and belong to no batch.
                _ => {}
            }
        }
    }
}
