use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::Table;

/// Changes that become visible, and durable, together or not at all.
///
/// Keys and small values are gathered in one buffer, a large value that is already in a [`Bytes`] is only referred to; so a
/// batch costs no allocation per change, and each byte is copied once more at most, into the engine's own batch.
#[derive(Default)]
pub struct WriteTx {
    buffer: Vec<u8>,
    operations: Vec<Stored>,
}

/// One change, as an engine sees it.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// The key has this value from now on.
    Put {
        /// Where.
        table: Table,
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: Value<'a>,
    },
    /// The key is gone, if it was there.
    Delete {
        /// Where.
        table: Table,
        /// The key.
        key: &'a [u8],
    },
    /// The keys in `from..to` are gone.
    DeleteRange {
        /// Where.
        table: Table,
        /// The first key to go.
        from: &'a [u8],
        /// The first key to stay.
        to: &'a [u8],
    },
}

/// A value to be written, which an in-memory engine may keep without copying.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// In the batch's buffer.
    Slice(&'a [u8]),
    /// On its own.
    Shared(&'a Bytes),
}

impl Value<'_> {
    /// The value's bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Slice(slice) => slice,
            Self::Shared(bytes) => bytes,
        }
    }

    /// The value on its own; copied only where it has to be.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Slice(slice) => Bytes::copy_from_slice(slice),
            Self::Shared(bytes) => (*bytes).clone(),
        }
    }
}

/// Ranges lie in the buffer.
enum Stored {
    Put { table: Table, key: Range<usize>, value: Range<usize> },
    PutShared { table: Table, key: Range<usize>, value: Bytes },
    Delete { table: Table, key: Range<usize> },
    DeleteRange { table: Table, from: Range<usize>, to: Range<usize> },
}

impl WriteTx {
    /// A batch that changes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the key this value. Both are copied.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        let key = self.append(key);
        let value = self.append(value);
        self.operations.push(Stored::Put { table, key, value });
    }

    /// Gives the key this value. The key is copied, the value is not.
    pub fn put_shared(&mut self, table: Table, key: &[u8], value: Bytes) {
        let key = self.append(key);
        self.operations.push(Stored::PutShared { table, key, value });
    }

    /// Takes the key away, if it is there.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        let key = self.append(key);
        self.operations.push(Stored::Delete { table, key });
    }

    /// Takes the keys in `from..to` away.
    pub fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        let from = self.append(from);
        let to = self.append(to);
        self.operations.push(Stored::DeleteRange { table, from, to });
    }

    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is no change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The keys' and values' bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        let shared = self.operations.iter().map(|operation| match operation {
            Stored::PutShared { value, .. } => value.len(),
            Stored::Put { .. } | Stored::Delete { .. } | Stored::DeleteRange { .. } => 0,
        });
        self.buffer.len() + shared.sum::<usize>()
    }

    /// The changes, in the order they were made; a later one wins over an earlier one of the same key.
    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        let at = |range: &Range<usize>| &self.buffer[range.clone()];
        self.operations.iter().map(move |operation| match operation {
            Stored::Put { table, key, value } => {
                Operation::Put { table: *table, key: at(key), value: Value::Slice(at(value)) }
            }
            Stored::PutShared { table, key, value } => {
                Operation::Put { table: *table, key: at(key), value: Value::Shared(value) }
            }
            Stored::Delete { table, key } => Operation::Delete { table: *table, key: at(key) },
            Stored::DeleteRange { table, from, to } => {
                Operation::DeleteRange { table: *table, from: at(from), to: at(to) }
            }
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        start..self.buffer.len()
    }
}

impl fmt::Debug for WriteTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.operations()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_keeps_its_changes_in_order_and_counts_their_bytes() {
        let mut tx = WriteTx::new();
        tx.put(Table::Rev, b"k", b"small");
        tx.put_shared(Table::Rev, b"k2", Bytes::from_static(b"large"));
        tx.delete(Table::Meta, b"gone");
        tx.delete_range(Table::Index, b"a", b"b");
        assert_eq!((tx.len(), tx.len_bytes()), (4, 1 + 5 + 2 + 5 + 4 + 2));
        let seen: Vec<String> = tx.operations().map(|operation| format!("{operation:?}")).collect();
        assert!(seen[0].starts_with("Put { table: Rev"), "{seen:?}");
        assert!(seen[1].contains("Shared(b\"large\")"), "{seen:?}");
        assert!(seen[2].starts_with("Delete { table: Meta"), "{seen:?}");
        assert!(seen[3].starts_with("DeleteRange { table: Index"), "{seen:?}");
    }
}
