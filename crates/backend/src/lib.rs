//! One durable transaction for everything the state machine keeps.
//!
//! Several owners keep replicated state: keys, leases, users, members. What one entry of the log changes in any of it must
//! become durable together with the note that the entry has been applied, or a crash tears them apart. So all of it lies in
//! the [tables](Table) of one [`Backend`], and one [`WriteTx`] travels through the owners and is [committed](Backend::commit)
//! at the end.
//!
//! # What a commit promises, and what it does not
//!
//! A commit is atomic and visible on return. It survives a crash only once [`flush`](Backend::flush) has returned, or the
//! engine has flushed by itself: there is no write-ahead log here, because the replicated log already is one, and whoever owns it replays
//! what came after the position it finds in [`Table::Meta`]. What a crash leaves is always a prefix of the commits, the same
//! in all tables. [`persisted`](Backend::persisted) tells how long that prefix is now.
//!
//! ```
//! use etcd_rs_backend::{Backend, MemBackend, Table};
//!
//! # fn main() -> etcd_rs_backend::Result<()> {
//! let backend = MemBackend::new();
//! let mut tx = backend.begin();
//! tx.put(Table::Lease, b"7", b"ttl 10");
//! tx.put(Table::Meta, b"applied", b"41");
//! backend.commit(tx)?;
//!
//! let mut leases = backend.scan(Table::Lease, b"", None)?;
//! assert_eq!(leases.next()?, Some((b"7".as_slice(), b"ttl 10".as_slice())));
//! assert_eq!(leases.next()?, None);
//! # Ok(())
//! # }
//! ```
//!
//! # Engines
//!
//! [`MemBackend`] keeps everything in memory, and can forget like a disk at a power cut. `DiskBackend`, behind the default
//! feature `rocksdb`, is what a member runs on. Both pass [`testing::suite`].

mod error;
mod mem;
#[cfg(feature = "rocksdb")]
mod rocks;
mod table;
pub mod testing;
mod write_tx;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use error::{Error, Result};
pub use mem::MemBackend;
#[cfg(feature = "rocksdb")]
pub use rocks::{DiskBackend, Options};
pub use table::Table;
pub use write_tx::{Operation, Value, WriteTx};

/// Tables of ordered bytes with atomic batches over all of them. See the [crate's words](crate) on what a commit promises.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// The key's value.
    ///
    /// # Errors
    /// The engine failed, or the record is corrupt. So do all other reads.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>>;

    /// The values of several keys, in their order. Cheapest if the keys ascend.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn multi_get(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>>;

    /// The records in `from..to` in key order, as they are at this call. Without `to` there is no end.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn scan<'a>(&'a self, table: Table, from: &[u8], to: Option<&[u8]>) -> Result<Box<dyn Cursor + 'a>>;

    /// The record with the greatest key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn last(&self, table: Table) -> Result<Option<(Bytes, Bytes)>>;

    /// All tables as they are at this call.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn read<'a>(&'a self) -> Result<Box<dyn ReadTx + 'a>>;

    /// An empty batch.
    fn begin(&self) -> WriteTx {
        WriteTx::new()
    }

    /// Makes the batch visible, all of it at once. Batches may be committed from several threads.
    ///
    /// # Errors
    /// The engine failed. Nobody knows then what is on disk, so the backend refuses every further write until it is opened again.
    fn commit(&self, tx: WriteTx) -> Result<()>;

    /// Makes durable what has been committed before this call, in all tables together.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    fn flush(&self) -> Result<()>;

    /// The key's value as a crash at this moment would leave it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn persisted(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>>;

    /// How large it all is. Cheap, and an estimate.
    ///
    /// # Errors
    /// The engine failed.
    fn size(&self) -> Result<Size>;

    /// Gives the space of deleted records of this table back, step by step, while reads and writes go on.
    ///
    /// # Errors
    /// The engine failed.
    fn compact(&self, table: Table) -> Result<()>;

    /// Puts a copy of everything committed so far into `dir`, which must not exist; files are shared, not copied, where the
    /// file system can.
    ///
    /// # Errors
    /// The engine failed, or has no files.
    fn checkpoint(&self, dir: &Path) -> Result<()>;

    /// Replaces everything by the [checkpoint](Self::checkpoint) in `dir`, of this backend or another of its engine: durably, and
    /// a crash leaves all of the old or all of the new. Returns the backend that holds it.
    ///
    /// This one shows what it has shown for as long as somebody reads it, and what is still written to it is lost with it.
    /// The files in `dir` are not changed.
    ///
    /// # Errors
    /// The checkpoint is not whole, or cannot be read; then nothing has changed. Or the engine failed.
    fn install(&self, dir: &Path) -> Result<Arc<dyn Backend>>;
}

/// All tables as they were at one moment.
pub trait ReadTx {
    /// The key's value.
    ///
    /// # Errors
    /// As [`Backend::get`].
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>>;

    /// The records in `from..to` in key order. Without `to` there is no end.
    ///
    /// # Errors
    /// As [`Backend::get`].
    fn scan<'a>(&'a self, table: Table, from: &[u8], to: Option<&[u8]>) -> Result<Box<dyn Cursor + 'a>>;
}

/// A key and its value, borrowed from a [`Cursor`].
pub type Record<'a> = (&'a [u8], &'a [u8]);

/// Goes through records in key order without copying them.
pub trait Cursor {
    /// The next record, which is lent until the next call.
    ///
    /// # Errors
    /// As [`Backend::get`].
    fn next(&mut self) -> Result<Option<Record<'_>>>;

    /// Goes on with the first record whose key is not less than this one; forward only, within the scan's bounds.
    fn seek(&mut self, key: &[u8]);
}

/// How large a backend is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// What it occupies on disk, or in memory if it has no disk.
    pub total_bytes: u64,
    /// What would be left if deleted and overwritten records were cleared away.
    pub live_bytes: u64,
    /// What has been committed but lies only in memory yet.
    pub unflushed_bytes: u64,
}
