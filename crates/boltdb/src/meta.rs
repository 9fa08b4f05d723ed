//! The two pages in front of a file, which say where everything else is.
//!
//! ```text
//! page 0 or 1: header (16 bytes), magic u32, version u32, page size u32, flags u32, root u64, sequence u64,
//!              freelist u64, high water mark u64, txid u64, checksum u64        all little endian
//! ```
//!
//! A transaction writes one of the two, so that the other is whole whatever happens: the newer one that is whole counts.

use crate::page::{self, HEADER_BYTES};
use crate::source::Source;
use crate::{Error, Result};

const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;
const BODY_BYTES: usize = 64;
/// A freelist that is not in the file; it follows from what is reachable.
pub(crate) const NO_FREELIST: u64 = u64::MAX;
/// A page cannot be larger or smaller.
pub(crate) const PAGE_BYTES: std::ops::RangeInclusive<u32> = 1 << 10..=1 << 16;

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_size: u32,
    pub(crate) root: u64,
    pub(crate) freelist: u64,
    /// One more than the last page that was ever used.
    pub(crate) high_water: u64,
    pub(crate) txid: u64,
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Meta {
    /// The meta page, as long as a page is.
    pub(crate) fn encode(&self, id: u64) -> Vec<u8> {
        let mut bytes = page::header(id, page::META, 0, 0).to_vec();
        for number in [MAGIC, VERSION, self.page_size, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.root, 0, self.freelist, self.high_water, self.txid] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = fnv(&bytes[HEADER_BYTES..]);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.resize(self.page_size as usize, 0);
        bytes
    }

    /// Reads the meta page that begins at `offset`, `None` if there is none that is whole.
    fn read(source: &impl Source, offset: u64) -> Result<Option<Self>> {
        let mut bytes = [0; HEADER_BYTES + BODY_BYTES];
        match source.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(Self::decode(&bytes[HEADER_BYTES..])),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let short = |at: usize| page::u32_at(body, at);
        let long = |at: usize| page::u64_at(body, at);
        let page_size = short(8);
        let whole = short(0) == MAGIC
            && short(4) == VERSION
            && PAGE_BYTES.contains(&page_size)
            && page_size.is_power_of_two()
            && long(56) == fnv(&body[..56]);
        whole.then(|| Self {
            page_size,
            root: long(16),
            freelist: long(32),
            high_water: long(40),
            txid: long(48),
        })
    }

    /// Finds the meta page that counts.
    ///
    /// # Errors
    /// There is none, or the file is shorter than it says.
    pub(crate) fn find(source: &impl Source) -> Result<Self> {
        let first = Self::read(source, 0)?;
        let second = match first {
            Some(first) => Self::read(source, u64::from(first.page_size))?,
            // Where the second one is depends on the size of pages, which nobody knows now.
            None => Self::probe(source)?,
        };
        let second = second.filter(|second| first.is_none_or(|first| first.page_size == second.page_size));
        let newest = first.into_iter().chain(second).max_by_key(|meta| meta.txid).ok_or(Error::Invalid)?;
        let needed = newest.high_water.saturating_mul(u64::from(newest.page_size));
        let len = source.len()?;
        if needed > len {
            return Err(Error::Truncated { len, needed });
        }
        Ok(newest)
    }

    fn probe(source: &impl Source) -> Result<Option<Self>> {
        let mut page_size = *PAGE_BYTES.start();
        while PAGE_BYTES.contains(&page_size) {
            if let Some(meta) = Self::read(source, u64::from(page_size))?.filter(|m| m.page_size == page_size)
            {
                return Ok(Some(meta));
            }
            page_size *= 2;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(txid: u64) -> Meta {
        Meta { page_size: 1024, root: 3, freelist: NO_FREELIST, high_water: 2, txid }
    }

    fn file(first: &Meta, second: &Meta) -> Vec<u8> {
        [first.encode(0), second.encode(1)].concat()
    }

    #[test]
    fn the_checksum_is_fnv_1a() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_newer_page_that_is_whole_counts() {
        let find = |bytes: &[u8]| Meta::find(&bytes);
        assert_eq!(find(&file(&meta(4), &meta(3))).unwrap(), meta(4));
        assert_eq!(find(&file(&meta(4), &meta(5))).unwrap(), meta(5));
        for damaged in [16, 24, 60, 72] {
            let mut bytes = file(&meta(4), &meta(5));
            bytes[1024 + damaged] ^= 1;
            assert_eq!(find(&bytes).unwrap(), meta(4), "byte {damaged} of the second");
            bytes[damaged] ^= 1;
            assert!(matches!(find(&bytes), Err(Error::Invalid)), "byte {damaged} of both");
            bytes[1024 + damaged] ^= 1;
            assert_eq!(find(&bytes).unwrap(), meta(5), "byte {damaged} of the first");
        }
    }

    #[test]
    fn what_is_no_database_or_only_the_beginning_of_one_is_refused() {
        for bytes in [&[][..], b"text", &[0; 4096]] {
            assert!(matches!(Meta::find(&bytes), Err(Error::Invalid)));
        }
        let bytes = file(&Meta { high_water: 3, ..meta(1) }, &meta(0));
        assert!(matches!(Meta::find(&bytes.as_slice()), Err(Error::Truncated { len: 2048, needed: 3072 })));
        let endless = file(&Meta { high_water: u64::MAX, ..meta(1) }, &meta(0));
        assert!(matches!(Meta::find(&endless.as_slice()), Err(Error::Truncated { .. })));
    }
}
