//! Ascending keys in one piece of memory, with what they all begin with written once.

use std::ops::Range;

use super::room;

/// Ascending byte strings.
///
/// ```text
/// /registry/pods/a, /registry/pods/abc, /registry/pods/b      bytes  /registry/pods/ a abc b
///                                                             ends                   1 4   5
/// ```
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    /// What all keys begin with, then the rest of each key.
    bytes: Vec<u8>,
    prefix_len: u32,
    /// Where each key's rest ends, counted from behind the prefix.
    ends: Vec<u32>,
}

/// Keys of a node stay far below 4 GiB, since a request does.
fn small(len: usize) -> u32 {
    u32::try_from(len).expect("the keys of a node are less than 4 GiB")
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn prefix(&self) -> &[u8] {
        &self.bytes[..self.prefix_len as usize]
    }

    /// The key without the common prefix.
    pub(super) fn suffix(&self, at: usize) -> &[u8] {
        &self.bytes[self.place(at)]
    }

    pub(super) fn to_vec(&self, at: usize) -> Vec<u8> {
        [self.prefix(), self.suffix(at)].concat()
    }

    /// Where the key is, or where it belongs.
    pub(super) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let prefix = self.prefix();
        let Some(rest) = key.strip_prefix(prefix) else {
            return Err(if key < prefix { 0 } else { self.len() });
        };
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.suffix(middle).cmp(rest) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Puts a key where it belongs.
    pub(super) fn insert(&mut self, at: usize, key: &[u8]) {
        if self.ends.is_empty() {
            self.bytes = key.to_vec();
            self.prefix_len = small(key.len());
            self.ends = vec![0];
            return;
        }
        let common = common_len(self.prefix(), key);
        if common < self.prefix_len as usize {
            self.shorten_prefix(common);
        }
        let suffix = &key[common..];
        let start = self.start(at);
        insert_bytes(&mut self.bytes, common + start, suffix);
        room(&mut self.ends, 1);
        self.ends.insert(at, small(start));
        self.ends[at..].iter_mut().for_each(|end| *end += small(suffix.len()));
    }

    pub(super) fn push(&mut self, key: &[u8]) {
        self.insert(self.len(), key);
    }

    pub(super) fn remove(&mut self, at: usize) {
        let place = self.place(at);
        self.ends.remove(at);
        self.ends[at..].iter_mut().for_each(|end| *end -= small(place.len()));
        self.bytes.drain(place);
    }

    /// A copy of some of the keys in as little memory as possible.
    pub(super) fn slice(&self, range: Range<usize>) -> Self {
        self.copy(range, 0, 0)
    }

    /// A copy with room for one more key of this length.
    pub(super) fn clone_with_room(&self, key_len: usize) -> Self {
        let suffix = key_len.saturating_sub(self.prefix_len as usize);
        let mut bytes = Vec::with_capacity(self.bytes.len() + suffix);
        bytes.extend_from_slice(&self.bytes);
        let mut ends = Vec::with_capacity(self.ends.len() + 1);
        ends.extend_from_slice(&self.ends);
        Self { bytes, prefix_len: self.prefix_len, ends }
    }

    /// As [`slice`](Self::slice), with room for so many bytes and keys more.
    fn copy(&self, range: Range<usize>, more_bytes: usize, more_keys: usize) -> Self {
        if range.is_empty() {
            return Self::default();
        }
        let more = common_len(self.suffix(range.start), self.suffix(range.end - 1));
        let prefix_len = self.prefix_len as usize + more;
        let kept = self.ends[range.end - 1] as usize - self.start(range.start) - more * range.len();
        let mut bytes = Vec::with_capacity(prefix_len + kept + more_bytes);
        bytes.extend_from_slice(self.prefix());
        bytes.extend_from_slice(&self.suffix(range.start)[..more]);
        let mut ends = Vec::with_capacity(range.len() + more_keys);
        for at in range {
            bytes.extend_from_slice(&self.suffix(at)[more..]);
            ends.push(small(bytes.len() - prefix_len));
        }
        Self { bytes, prefix_len: small(prefix_len), ends }
    }

    fn shorten_prefix(&mut self, len: usize) {
        let moved = self.prefix()[len..].to_vec();
        let mut bytes = Vec::with_capacity(self.bytes.len() + moved.len() * self.len());
        bytes.extend_from_slice(&self.bytes[..len]);
        for at in 0..self.len() {
            bytes.extend_from_slice(&moved);
            bytes.extend_from_slice(self.suffix(at));
        }
        for (at, end) in self.ends.iter_mut().enumerate() {
            *end += small(moved.len() * (at + 1));
        }
        self.bytes = bytes;
        self.prefix_len = small(len);
    }

    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1] as usize }
    }

    fn place(&self, at: usize) -> Range<usize> {
        let prefix = self.prefix_len as usize;
        prefix + self.start(at)..prefix + self.ends[at] as usize
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    /// # Panics
    /// The keys do not ascend, or the parts do not fit together.
    pub(super) fn check_invariants(&self) {
        assert!(self.ends.is_sorted(), "the keys' ends do not ascend: {:?}", self.ends);
        let end = self.ends.last().copied().unwrap_or(0) + self.prefix_len;
        assert_eq!(self.bytes.len(), end as usize, "the last key does not end where the bytes do");
        for at in 1..self.len() {
            assert!(self.suffix(at - 1) < self.suffix(at), "key {at} is not greater than the one before");
        }
    }
}

/// How many bytes two byte strings have in common at their beginning.
pub(super) fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn insert_bytes(bytes: &mut Vec<u8>, at: usize, inserted: &[u8]) {
    let end = bytes.len();
    room(bytes, inserted.len());
    bytes.resize(end + inserted.len(), 0);
    bytes.copy_within(at..end, at + inserted.len());
    bytes[at..at + inserted.len()].copy_from_slice(inserted);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_a_sorted_set(
            keys in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab\0".to_vec()), 0..5), 1..40),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let (mut packed, mut model) = (Keys::default(), BTreeSet::new());
            for key in &keys {
                if let Err(at) = packed.find(key) {
                    packed.insert(at, key);
                }
                model.insert(key.clone());
                packed.check_invariants();
            }
            for index in removed {
                let key = index.get(&keys);
                if let Ok(at) = packed.find(key) {
                    packed.remove(at);
                }
                model.remove(key);
                packed.check_invariants();
            }
            let all: Vec<Vec<u8>> = (0..packed.len()).map(|at| packed.to_vec(at)).collect();
            prop_assert!(all.iter().eq(&model));
            for key in &keys {
                let place = model.iter().position(|other| other >= key).unwrap_or(model.len());
                let expected = if model.contains(key) { Ok(place) } else { Err(place) };
                prop_assert_eq!(packed.find(key), expected);
            }
            let half = packed.len() / 2;
            let right = packed.slice(half..packed.len());
            right.check_invariants();
            prop_assert!((0..right.len()).all(|at| right.to_vec(at) == all[half + at]));
        }
    }
}
