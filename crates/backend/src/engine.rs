//! What every engine does.

use std::fmt;
use std::path::Path;

use bytes::Bytes;

use crate::error::Result;
use crate::table::Table;
use crate::write_tx::WriteTx;

/// A store of tables. All methods may be called from several threads at once.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// The record of a key.
    ///
    /// # Errors
    /// The engine failed, or found the record damaged. So for all reads.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>>;

    /// The records of several keys, in the order of the keys. Fastest when they ascend.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn multi_get(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>>;

    /// The records from `from` on and below `to`, in order of keys, as of this call; `None` is the end of the table.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn scan<'a>(&'a self, table: Table, from: &[u8], to: Option<&[u8]>) -> Result<Box<dyn Cursor + 'a>>;

    /// The record with the greatest key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn last(&self, table: Table) -> Result<Option<(Bytes, Bytes)>>;

    /// All tables as they are at this call, whatever is committed afterwards.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn read<'a>(&'a self) -> Result<Box<dyn ReadTx + 'a>>;

    /// An empty change.
    fn begin(&self) -> WriteTx {
        WriteTx::default()
    }

    /// Makes a change: all of it, visible when this returns. Changes committed at once by several threads come one after the
    /// other, in any order.
    ///
    /// # Errors
    /// The engine failed; it must not be used any further.
    fn commit(&self, tx: WriteTx) -> Result<()>;

    /// Makes everything committed so far survive a crash.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    fn flush(&self) -> Result<()>;

    /// The record a crash right now would leave.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn persisted(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>>;

    /// How much there is. Cheap: the engine's estimates.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn size(&self) -> Result<Size>;

    /// Rewrites a table without what is dead in it, while reads and commits go on.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    fn compact(&self, table: Table) -> Result<()>;

    /// Copies the state, flushed, into the directory `dir`, which is created; the copy can be opened as a store of its own.
    ///
    /// # Errors
    /// The engine failed, or keeps nothing on disk.
    fn checkpoint(&self, dir: &Path) -> Result<()>;
}

/// A point in time of all tables.
pub trait ReadTx {
    /// As [`Backend::get`].
    ///
    /// # Errors
    /// As [`Backend::get`].
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>>;

    /// As [`Backend::scan`].
    ///
    /// # Errors
    /// As [`Backend::get`].
    fn scan<'a>(&'a self, table: Table, from: &[u8], to: Option<&[u8]>) -> Result<Box<dyn Cursor + 'a>>;
}

/// Records one after the other, lent until the next.
pub trait Cursor {
    /// The next key and its record; `None` at the end.
    ///
    /// # Errors
    /// As [`Backend::get`].
    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>>;
}

/// How much a store holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// What it takes: files, and what is not yet in files.
    pub total_bytes: u64,
    /// An estimate of what would be left after rewriting everything without what is dead.
    pub live_bytes: u64,
}
