//! Rolling hashes of what a member has applied, at some indexes that all members choose alike.
//!
//! Members that have applied the same entries have the same hash at the same index, and one that has not never has it again:
//!
//! ```text
//! entry     62  63  64  65  ...  128  129     a position is known at every 64th entry, and where the member is now
//! here               a            c    d
//! there              a            x           has diverged somewhere in 65..=128
//! ```

use std::collections::VecDeque;

use api::internal::{AppliedHash, AppliedHashes};
use bytes::Bytes;
use prost::Message as _;

/// Members know their hashes at entries whose index is a multiple of this.
pub(crate) const EVERY: u64 = 64;
/// How many are remembered, for members that are behind to be compared at.
const KEPT: usize = 512;

/// Indexes with the hash at each, ascending; the newest are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hashes(VecDeque<(u64, u64)>);

impl Hashes {
    /// Adds what is known at an index that is not below those that are there.
    pub(crate) fn push(&mut self, index: u64, hash: u64) {
        if self.0.back().is_some_and(|(last, _)| *last >= index) {
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((index, hash));
    }

    pub(crate) fn at(&self, index: u64) -> Option<u64> {
        let found = self.0.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(self.0[found].1)
    }

    /// All of them, ascending.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// Only the newest.
    pub(crate) fn newest(&self, count: usize) -> Self {
        let skipped = self.0.len().saturating_sub(count);
        Self(self.0.iter().skip(skipped).copied().collect())
    }

    /// The newest index at which these and others are known, with the hash of each, if they differ there.
    pub(crate) fn difference(&self, others: &Self) -> Option<(u64, u64, u64)> {
        let mut known = self.iter().rev().filter_map(|(index, hash)| Some((index, hash, others.at(index)?)));
        known.next().filter(|(_, hash, other)| hash != other)
    }

    pub(crate) fn encode(&self) -> Bytes {
        AppliedHashes { hashes: self.records() }.encode_to_vec().into()
    }

    pub(crate) fn records(&self) -> Vec<AppliedHash> {
        self.iter().map(|(index, hash)| AppliedHash { index, hash }).collect()
    }

    /// Reads what [`encode`](Self::encode) wrote; nothing from what another kind of member may have written.
    pub(crate) fn decode(bytes: Bytes) -> Self {
        AppliedHashes::decode(bytes).map(|decoded| Self::of(&decoded.hashes)).unwrap_or_default()
    }

    pub(crate) fn of(records: &[AppliedHash]) -> Self {
        let mut hashes = Self::default();
        records.iter().for_each(|at| hashes.push(at.index, at.hash));
        hashes
    }
}

impl Extend<(u64, u64)> for Hashes {
    fn extend<I: IntoIterator<Item = (u64, u64)>>(&mut self, known: I) {
        known.into_iter().for_each(|(index, hash)| self.push(index, hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(known: &[(u64, u64)]) -> Hashes {
        let mut hashes = Hashes::default();
        known.iter().for_each(|(index, hash)| hashes.push(*index, *hash));
        hashes
    }

    #[test]
    fn they_differ_where_both_are_known() {
        let here = hashes(&[(64, 1), (128, 2), (192, 3), (200, 4)]);
        assert_eq!(here.difference(&hashes(&[(64, 1), (128, 2)])), None);
        assert_eq!(here.difference(&hashes(&[(64, 1), (128, 7), (192, 8), (201, 9)])), Some((192, 3, 8)));
        assert_eq!(here.difference(&hashes(&[(65, 7)])), None);
        assert_eq!(here.difference(&Hashes::default()), None);
    }

    #[test]
    fn the_newest_are_kept_and_travel() {
        let mut many = Hashes::default();
        (0..2 * KEPT as u64).for_each(|n| many.push(n * EVERY, n));
        assert_eq!((many.0.len(), many.at(EVERY), many.at(KEPT as u64 * EVERY)), (KEPT, None, Some(512)));
        let few = many.newest(2);
        assert_eq!(Hashes::decode(few.encode()), hashes(&[(1022 * EVERY, 1022), (1023 * EVERY, 1023)]));
        assert_eq!(Hashes::decode(Bytes::from_static(b"\xff")), Hashes::default());
    }

    #[test]
    fn an_index_is_known_once() {
        assert_eq!(hashes(&[(64, 1), (64, 2), (3, 3), (65, 4)]), hashes(&[(64, 1), (65, 4)]));
    }
}
