//! The two records of ours in the `meta` table: one written by the writer, one by compaction, so that neither waits for the other.

use backend::{Backend, ReadTx, Table};
use bytes::Bytes;

use crate::{Error, Result, Revision};

const STATE_KEY: &[u8] = b"mvcc";
const PROGRESS_KEY: &[u8] = b"mvcc_compaction";
const FORMAT: u8 = 1;

/// What the writer remembers; in every batch that changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) revision: i64,
    /// The last compaction that was asked for.
    pub(crate) scheduled: i64,
    /// Bytes of all records ever written.
    pub(crate) written: u64,
}

/// What compaction remembers; in every batch that deletes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    /// The last compaction that has deleted all it had to.
    pub(crate) finished: i64,
    /// The compaction that is under way, and where it goes on.
    pub(crate) target: i64,
    pub(crate) position: Revision,
    /// Bytes of all records ever deleted.
    pub(crate) deleted: u64,
}

impl Default for State {
    /// An empty keyspace: no key has revision 1.
    fn default() -> Self {
        Self { revision: 1, scheduled: -1, written: 0 }
    }
}

impl Default for Saved {
    fn default() -> Self {
        Self { finished: -1, target: -1, position: Revision::default(), deleted: 0 }
    }
}

impl State {
    pub(crate) fn load(backend: &dyn Backend) -> Result<Self> {
        Self::decode(backend.get(Table::Meta, STATE_KEY)?)
    }

    /// As it was at some moment.
    pub(crate) fn load_from(view: &dyn ReadTx) -> Result<Self> {
        Self::decode(view.get(Table::Meta, STATE_KEY)?)
    }

    fn decode(record: Option<Bytes>) -> Result<Self> {
        let Some([revision, scheduled, written]) = numbers(record, STATE_KEY)? else {
            return Ok(Self::default());
        };
        Ok(Self { revision, scheduled, written: written.cast_unsigned() })
    }

    pub(crate) fn store(&self, tx: &mut backend::WriteTx) {
        tx.put(Table::Meta, STATE_KEY, &bytes([self.revision, self.scheduled, self.written.cast_signed()]));
    }
}

impl Saved {
    pub(crate) fn load(backend: &dyn Backend) -> Result<Self> {
        Self::decode(backend.get(Table::Meta, PROGRESS_KEY)?)
    }

    /// As it was at some moment.
    pub(crate) fn load_from(view: &dyn ReadTx) -> Result<Self> {
        Self::decode(view.get(Table::Meta, PROGRESS_KEY)?)
    }

    fn decode(record: Option<Bytes>) -> Result<Self> {
        let Some([finished, target, main, sub, deleted]) = numbers(record, PROGRESS_KEY)? else {
            return Ok(Self::default());
        };
        Ok(Self { finished, target, position: Revision::new(main, sub), deleted: deleted.cast_unsigned() })
    }

    pub(crate) fn store(&self, tx: &mut backend::WriteTx) {
        let Self { finished, target, position, deleted } = *self;
        let numbers = [finished, target, position.main(), position.sub(), deleted.cast_signed()];
        tx.put(Table::Meta, PROGRESS_KEY, &bytes(numbers));
    }
}

fn bytes<const N: usize>(numbers: [i64; N]) -> Vec<u8> {
    std::iter::once(FORMAT).chain(numbers.into_iter().flat_map(i64::to_be_bytes)).collect()
}

fn numbers<const N: usize>(record: Option<Bytes>, key: &[u8]) -> Result<Option<[i64; N]>> {
    let Some(record) = record else { return Ok(None) };
    let strange =
        || Error::corrupt(Table::Meta, key, format!("{} bytes that are no record of format 1", record.len()));
    let numbers = record.strip_prefix(&[FORMAT]).filter(|rest| rest.len() == 8 * N).ok_or_else(strange)?;
    let (chunks, _) = numbers.as_chunks::<8>();
    let mut chunks = chunks.iter().map(|chunk| i64::from_be_bytes(*chunk));
    Ok(Some(std::array::from_fn(|_| chunks.next().expect("the length has been checked"))))
}

#[cfg(test)]
mod tests {
    use backend::MemBackend;

    use super::*;

    #[test]
    fn what_is_stored_is_loaded() {
        let backend = MemBackend::new();
        assert_eq!(State::load(&backend).unwrap(), State::default());
        assert_eq!(Saved::load(&backend).unwrap(), Saved::default());
        let state = State { revision: 7, scheduled: 5, written: u64::MAX };
        let saved = Saved { finished: 3, target: 5, position: Revision::new(4, 1), deleted: 9 };
        let mut tx = backend.begin();
        state.store(&mut tx);
        saved.store(&mut tx);
        backend.commit(tx).unwrap();
        assert_eq!(State::load(&backend).unwrap(), state);
        assert_eq!(Saved::load(&backend).unwrap(), saved);
    }

    #[test]
    fn strange_records_are_refused() {
        let backend = MemBackend::new();
        for record in [&[][..], &[2], &[1; 24], &[2; 25], &[1; 26]] {
            let mut tx = backend.begin();
            tx.put(Table::Meta, STATE_KEY, record);
            backend.commit(tx).unwrap();
            assert!(matches!(State::load(&backend), Err(Error::Corrupt { table: Table::Meta, .. })));
        }
    }
}
