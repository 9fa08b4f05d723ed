//! How far the state has come: written in the same batch as the effects, and by nothing else.

use backend::{Backend, ReadTx, Table, WriteTx};
use bytes::Bytes;
use raftlog::{Applied, Entry, LogId};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};
use crate::hashes;

const APPLIED_KEY: &[u8] = b"applied";
const MEMBERSHIP_KEY: &[u8] = b"membership";

/// The position in the log that the state stands for, and a hash of everything up to there.
///
/// The rolling hash covers each applied entry's bytes in order. Members that applied the same entries have the same hash at the
/// same index; comparing it finds one that diverged.
#[derive(Clone, Debug, Default)]
pub(crate) struct AppliedMeta {
    last: Option<LogId>,
    hash: u64,
    membership: Option<Bytes>,
    /// The membership changed since it was recorded.
    membership_dirty: bool,
    /// The last index at which members are compared, with the hash there, so that a restart does not hide what came before it.
    compared: Option<(u64, u64)>,
    /// Indexes at which members are compared, passed since they were last [taken](Self::take_passed), with the hash there.
    passed: Vec<(u64, u64)>,
}

impl AppliedMeta {
    pub(crate) fn open(backend: &dyn Backend) -> Result<Self> {
        Self::load(&*backend.read()?)
    }

    /// As it was at some moment.
    pub(crate) fn load(view: &dyn ReadTx) -> Result<Self> {
        let Some(record) = view.get(Table::Meta, APPLIED_KEY)? else { return Ok(Self::default()) };
        // Without the last two words it is from before members could be compared right after a restart.
        if ![24, 40].contains(&record.len()) {
            return Err(Error::DataDir(format!(
                "the applied position has {} bytes instead of 40; restore this member from a snapshot",
                record.len()
            )));
        }
        let words = record.chunks_exact(8);
        let words: Vec<u64> =
            words.map(|word| u64::from_be_bytes(word.try_into().expect("eight bytes"))).collect();
        Ok(Self {
            last: Some(LogId { term: words[0], index: words[1] }),
            hash: words[2],
            compared: words.get(3).copied().zip(words.get(4).copied()).filter(|(index, _)| *index != 0),
            membership: view.get(Table::Meta, MEMBERSHIP_KEY)?,
            membership_dirty: false,
            passed: Vec::new(),
        })
    }

    /// Takes an entry into account.
    pub(crate) fn advance(&mut self, entry: &Entry) {
        debug_assert!(
            self.last.is_none_or(|last| entry.index == last.index + 1),
            "entries come without gaps"
        );
        self.last = Some(entry.log_id());
        self.hash = xxh3_64_with_seed(&entry.data, self.hash ^ entry.index);
        if entry.index.is_multiple_of(hashes::EVERY) {
            self.compared = Some((entry.index, self.hash));
            self.passed.extend(self.compared);
        }
        if let Some(membership) = &entry.membership {
            self.membership = Some(membership.clone());
            self.membership_dirty = true;
        }
    }

    /// Adds the position to the batch of its effects.
    pub(super) fn record(&mut self, tx: &mut WriteTx) {
        let last = self.last.unwrap_or_default();
        let (compared, hash_there) = self.compared.unwrap_or_default();
        let record = [last.term, last.index, self.hash, compared, hash_there].map(u64::to_be_bytes);
        tx.put(Table::Meta, APPLIED_KEY, record.as_flattened());
        if let (true, Some(membership)) = (self.membership_dirty, &self.membership) {
            tx.put(Table::Meta, MEMBERSHIP_KEY, membership);
            self.membership_dirty = false;
        }
    }

    pub(crate) fn applied(&self) -> Applied {
        Applied { last: self.last, membership: self.membership.clone() }
    }

    /// The last index at which members are compared, with the hash there.
    pub(crate) fn compared(&self) -> Option<(u64, u64)> {
        self.compared
    }

    /// The indexes at which members are compared, passed since the last call, with the hash there.
    pub(crate) fn take_passed(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.passed)
    }

    /// Term of the last applied entry.
    pub(crate) fn term(&self) -> u64 {
        self.last.map_or(0, |last| last.term)
    }

    /// Index of the last applied entry.
    pub(crate) fn index(&self) -> u64 {
        self.last.map_or(0, |last| last.index)
    }

    /// The rolling hash of all applied entries.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, data: &'static str) -> Entry {
        Entry { term: 3, index, data: data.into(), membership: (index == 0).then(|| "m".into()) }
    }

    #[test]
    fn what_is_recorded_is_what_a_restart_finds() {
        let backend = backend::MemBackend::new();
        let mut meta = AppliedMeta::open(&backend).unwrap();
        assert_eq!(meta.applied(), Applied::default());
        meta.advance(&entry(0, ""));
        meta.advance(&entry(1, "a"));
        let mut tx = backend.begin();
        meta.record(&mut tx);
        backend.commit(tx).unwrap();
        let found = AppliedMeta::open(&backend).unwrap();
        assert_eq!(found.applied(), meta.applied());
        assert_eq!((found.term(), found.index(), found.hash()), (3, 1, meta.hash()));
    }

    #[test]
    fn a_restart_can_still_be_compared_at_what_was_passed_before() {
        let backend = backend::MemBackend::new();
        let mut meta = AppliedMeta::default();
        (0..=200).for_each(|index| meta.advance(&entry(index, "a")));
        let passed = meta.take_passed();
        let mut tx = backend.begin();
        meta.record(&mut tx);
        backend.commit(tx).unwrap();
        let found = AppliedMeta::open(&backend).unwrap();
        assert_eq!(found.compared().map(|(index, _)| index), Some(192));
        assert_eq!(found.compared(), passed.last().copied());
    }

    #[test]
    fn the_hash_tells_histories_apart() {
        let hash = |entries: &[&'static str]| {
            let mut meta = AppliedMeta::default();
            for (index, data) in entries.iter().enumerate() {
                meta.advance(&entry(index as u64, data));
            }
            meta.hash()
        };
        assert_eq!(hash(&["a", "b"]), hash(&["a", "b"]));
        assert_ne!(hash(&["a", "b"]), hash(&["b", "a"]));
        assert_ne!(hash(&["a", "b"]), hash(&["ab"]));
        assert_ne!(hash(&["a"]), hash(&["a", ""]));
    }
}
