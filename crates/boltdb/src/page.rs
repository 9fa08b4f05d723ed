//! Pages: a header, elements of 16 bytes, and then the keys and values that they point to.
//!
//! ```text
//! header          id u64, flags u16, count u16, overflow u32 (how many further pages it takes)
//! leaf element    flags u32, pos u32, key bytes u32, value bytes u32
//! branch element  pos u32, key bytes u32, child's id u64         the key is the first one of the child
//! ```
//!
//! `pos` counts from the element itself. A page that was [parsed](Page::parse) has been checked whole, so the rest of the crate
//! takes its keys and values without asking.

use std::ops::Range;

pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const ELEMENT_BYTES: usize = 16;

pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
pub(crate) const FREELIST: u16 = 0x10;

/// The flag of a leaf's element whose value is a bucket.
pub(crate) const BUCKET: u32 = 1;

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// A page's header.
pub(crate) fn header(id: u64, flags: u16, count: u16, overflow: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes[8..10].copy_from_slice(&flags.to_le_bytes());
    bytes[10..12].copy_from_slice(&count.to_le_bytes());
    bytes[12..].copy_from_slice(&overflow.to_le_bytes());
    bytes
}

/// A header taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) id: u64,
    pub(crate) flags: u16,
    pub(crate) count: u16,
    pub(crate) overflow: u32,
}

impl Header {
    /// # Panics
    /// There are fewer than [`HEADER_BYTES`].
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self { id: u64_at(bytes, 0), flags: short(8), count: short(10), overflow: u32_at(bytes, 12) }
    }
}

/// A branch or leaf page, with those that it flows over into.
#[derive(Debug)]
pub(crate) struct Page {
    bytes: Vec<u8>,
    count: usize,
    leaf: bool,
}

impl Page {
    /// Checks a page of a tree whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.len() < HEADER_BYTES {
            return Err(format!("{} bytes are no page", bytes.len()));
        }
        let header = Header::decode(&bytes);
        let leaf = match header.flags {
            LEAF => true,
            BRANCH => false,
            other => return Err(format!("invalid type: {other:#x}")),
        };
        let page = Self { bytes, count: header.count.into(), leaf };
        page.check()?;
        Ok(page)
    }

    /// Elements do not overlap and lie in the page; keys are there and ascend.
    fn check(&self) -> Result<(), String> {
        let mut end = HEADER_BYTES + self.count * ELEMENT_BYTES;
        if end > self.bytes.len() {
            return Err(format!("{} elements do not fit in {} bytes", self.count, self.bytes.len()));
        }
        if self.count == 0 && !self.leaf {
            return Err("a branch without children".to_owned());
        }
        for at in 0..self.count {
            let (key, value) = self.place(at);
            if key.start < end || value.end > self.bytes.len() {
                return Err(format!("element {at} lies outside of its place"));
            }
            end = value.end;
            if key.is_empty() {
                return Err(format!("element {at} has no key"));
            }
            if at > 0 && self.key(at - 1) >= self.key(at) {
                return Err(format!("key[{at}] needs to be > than previous element"));
            }
            if self.leaf && self.flags(at) & !BUCKET != 0 {
                return Err(format!("element {at} has unknown flags {:#x}", self.flags(at)));
            }
        }
        Ok(())
    }

    fn element(&self, at: usize) -> &[u8] {
        let start = HEADER_BYTES + at * ELEMENT_BYTES;
        &self.bytes[start..start + ELEMENT_BYTES]
    }

    /// Where key and value say that they are. A branch's element has no value.
    fn place(&self, at: usize) -> (Range<usize>, Range<usize>) {
        let element = self.element(at);
        let (pos, key, value) = if self.leaf {
            (u32_at(element, 4), u32_at(element, 8), u32_at(element, 12))
        } else {
            (u32_at(element, 0), u32_at(element, 4), 0)
        };
        let start = HEADER_BYTES + at * ELEMENT_BYTES + pos as usize;
        let middle = start + key as usize;
        (start..middle, middle..middle + value as usize)
    }

    fn flags(&self, at: usize) -> u32 {
        u32_at(self.element(at), 0)
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.leaf
    }

    /// How many elements there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn key(&self, at: usize) -> &[u8] {
        &self.bytes[self.place(at).0]
    }

    /// The value of a leaf's element.
    pub(crate) fn value(&self, at: usize) -> &[u8] {
        &self.bytes[self.place(at).1]
    }

    /// Whether a leaf's element is a bucket.
    pub(crate) fn is_bucket(&self, at: usize) -> bool {
        self.leaf && self.flags(at) & BUCKET != 0
    }

    /// The child of a branch's element.
    pub(crate) fn child(&self, at: usize) -> u64 {
        u64_at(self.element(at), 8)
    }

    /// The first element whose key is not less than this one.
    pub(crate) fn lower_bound(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle) < key { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The child of a branch in which a key would be.
    pub(crate) fn child_for(&self, key: &[u8]) -> usize {
        let at = self.lower_bound(key);
        if at < self.count && self.key(at) == key { at } else { at.saturating_sub(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leaf with two records, as bbolt lays them out.
    fn leaf() -> Vec<u8> {
        let mut bytes = header(7, LEAF, 2, 0).to_vec();
        for element in [[0, 32, 1, 2], [1, 19, 2, 1]] {
            bytes.extend(element.into_iter().flat_map(u32::to_le_bytes));
        }
        bytes.extend_from_slice(b"a12bc3 and something behind");
        bytes
    }

    #[test]
    fn a_page_shows_its_elements() {
        let page = Page::parse(leaf()).unwrap();
        assert!(page.is_leaf());
        assert_eq!((page.key(0), page.value(0), page.is_bucket(0)), (&b"a"[..], &b"12"[..], false));
        assert_eq!((page.key(1), page.value(1), page.is_bucket(1)), (&b"bc"[..], &b"3"[..], true));
        assert_eq!([&b"0"[..], b"a", b"b", b"bc", b"c"].map(|key| page.lower_bound(key)), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn a_page_that_lies_is_refused() {
        let check = |at: usize, byte: u8, what: &str| {
            let mut bytes = leaf();
            bytes[at] = byte;
            let error = Page::parse(bytes).unwrap_err();
            assert!(error.contains(what), "{error}");
        };
        check(8, 0x10, "invalid type");
        check(10, 200, "do not fit");
        check(20, 31, "outside");
        check(36, 18, "outside");
        check(44, 200, "outside");
        check(24, 0, "no key");
        check(48, b'z', "needs to be >");
        check(16, 2, "unknown flags");
        assert!(Page::parse(vec![0; 8]).is_err());
        assert!(Page::parse(header(1, BRANCH, 0, 0).to_vec()).unwrap_err().contains("without children"));
    }
}
