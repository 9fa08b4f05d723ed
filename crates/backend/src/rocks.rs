//! The engine of a member: RocksDB, a column family per table.
//!
//! There is no write-ahead log (the replicated log is one), so what makes a crash leave a prefix of the commits is `atomic_flush`:
//! memtables of all column families go to disk together. Hence three rules, all kept here: every write disables the log, every flush names every
//! column family, and the position in the log is read back with the persisted read tier, which does not look into memtables.

mod generation;
mod options;

use std::ffi::CStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BottommostLevelCompaction, ColumnFamily, CompactOptions, DB, DBPinnableSlice, DBRawIterator,
    FlushOptions, ReadOptions, ReadTier, SnapshotWithThreadMode, WriteBatch, WriteOptions, properties,
};

use crate::{Backend, Cursor, Error, Operation, ReadTx, Record, Result, Size, Table, WriteTx};

use generation::{Generation, Step};
pub use options::Options;

/// So many keys at once are a list: its records are not kept in the cache, where they would drive out what is read again.
const LISTED_KEYS: usize = 64;
/// What a change costs in RocksDB's own batch beside its key and value.
const BATCH_OVERHEAD_BYTES: usize = 16;

/// Keeps everything in a directory, by RocksDB.
///
/// Dropping it flushes. One directory can be open once; a second opener is refused. What a checkpoint has
/// [replaced](Backend::install) is removed from disk when the last user of the old backend has dropped it.
pub struct DiskBackend {
    db: DB,
    /// Behind the database, so that it is dropped when that is closed.
    generation: Generation,
    path: PathBuf,
    options: Options,
    write: WriteOptions,
    /// Set by the first failed write; nobody may build on what is on disk then.
    failed: AtomicBool,
}

impl DiskBackend {
    /// Opens a directory, which is made if it is not there.
    ///
    /// # Errors
    /// The directory is in use, is corrupt, or cannot be read or written.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let generation = Generation::current(path.as_ref())?;
        let db = database(&generation.dir(), options)?;
        // Nobody else has it open, so nobody is busy with another generation.
        generation.clear_others()?;
        Ok(Self::new(db, generation, options))
    }

    fn new(db: DB, generation: Generation, options: Options) -> Self {
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        // Keys of a batch ascend in the table that matters most.
        write.set_memtable_insert_hint_per_batch(true);
        let path = generation.dir();
        Self { db, generation, path, options, write, failed: AtomicBool::new(false) }
    }

    fn install_stepwise(&self, dir: &Path, at: &mut dyn FnMut(Step)) -> Result<Self> {
        self.check()?;
        let incoming = self.generation.next(dir, at)?;
        // Only what can be opened may count.
        let db = database(&incoming.dir(), self.options)?;
        at(Step::Opened);
        let generation = incoming.switch(at).inspect_err(|_| self.failed.store(true, Ordering::Release))?;
        self.generation.retire();
        Ok(Self::new(db, generation, self.options))
    }

    fn family(&self, table: Table) -> &ColumnFamily {
        self.db.cf_handle(table.name()).expect("every table was opened")
    }

    fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(Error::Failed { path: self.path.clone() });
        }
        Ok(())
    }

    fn reading(&self, error: rocksdb::Error) -> Error {
        failure(error, "read", &self.path)
    }

    fn writing(&self, operation: &'static str, error: rocksdb::Error) -> Error {
        self.failed.store(true, Ordering::Release);
        failure(error, operation, &self.path)
    }

    /// Flushes and compactions run in the background, and fail there.
    fn check_background(&self, operation: &'static str) -> Result<()> {
        let errors = self.db.property_int_value(properties::BACKGROUND_ERRORS);
        match errors.map_err(|error| self.reading(error))? {
            None | Some(0) => Ok(()),
            Some(errors) => {
                self.failed.store(true, Ordering::Release);
                let detail = format!("{errors} background errors, see the engine's LOG there");
                Err(Error::Engine { operation, path: self.path.clone(), detail })
            }
        }
    }

    fn property(&self, table: Table, name: &CStr) -> Result<u64> {
        let value = self.db.property_int_value_cf(self.family(table), name);
        Ok(value.map_err(|error| self.reading(error))?.unwrap_or(0))
    }

    fn compact_between(&self, table: Table, from: &[u8], to: &[u8]) -> Result<()> {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        self.db.compact_range_cf_opt(self.family(table), Some(from), Some(to), &options);
        self.check_background("compact")
    }
}

impl Backend for DiskBackend {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>> {
        owned(self.db.get_pinned_cf(self.family(table), key)).map_err(|error| self.reading(error))
    }

    fn multi_get(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>> {
        if let [key] = keys {
            return Ok(vec![self.get(table, key)?]);
        }
        let sorted = keys.is_sorted();
        let mut options = ReadOptions::default();
        options.fill_cache(keys.len() < LISTED_KEYS);
        let family = self.family(table);
        let values = self.db.batched_multi_get_cf_opt(family, keys.iter().copied(), sorted, &options);
        values.into_iter().map(|value| owned(value).map_err(|error| self.reading(error))).collect()
    }

    fn scan<'a>(&'a self, table: Table, from: &[u8], to: Option<&[u8]>) -> Result<Box<dyn Cursor + 'a>> {
        let records = self.db.raw_iterator_cf_opt(self.family(table), scanning(table, to));
        Ok(Box::new(DiskCursor::new(self, records, from)))
    }

    fn last(&self, table: Table) -> Result<Option<(Bytes, Bytes)>> {
        let mut records = self.db.raw_iterator_cf(self.family(table));
        records.seek_to_last();
        let last = records.item().map(|(k, v)| (Bytes::copy_from_slice(k), Bytes::copy_from_slice(v)));
        records.status().map_err(|error| self.reading(error))?;
        Ok(last)
    }

    fn read<'a>(&'a self) -> Result<Box<dyn ReadTx + 'a>> {
        Ok(Box::new(DiskReadTx { backend: self, snapshot: self.db.snapshot() }))
    }

    fn commit(&self, tx: WriteTx) -> Result<()> {
        self.check()?;
        if tx.is_empty() {
            return Ok(());
        }
        let families = Table::ALL.map(|table| self.family(table));
        let capacity = tx.len_bytes() + tx.len() * BATCH_OVERHEAD_BYTES;
        let mut batch = WriteBatch::with_capacity_bytes(capacity);
        for operation in tx.operations() {
            match operation {
                Operation::Put { table, key, value } => {
                    batch.put_cf(families[table.at()], key, value.as_slice());
                }
                Operation::Delete { table, key } => batch.delete_cf(families[table.at()], key),
                // RocksDB takes a range that ends before it begins for an error.
                Operation::DeleteRange { table, from, to } if from < to => {
                    batch.delete_range_cf(families[table.at()], from, to);
                }
                Operation::DeleteRange { .. } => {}
            }
        }
        self.db.write_opt(batch, &self.write).map_err(|error| self.writing("write to", error))
    }

    fn flush(&self) -> Result<()> {
        self.check()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let mut families = Table::ALL.map(|table| self.family(table)).to_vec();
        families.extend(self.db.cf_handle(options::DEFAULT_FAMILY));
        self.db.flush_cfs_opt(&families, &options).map_err(|error| self.writing("flush", error))
    }

    fn persisted(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        let value = self.db.get_pinned_cf_opt(self.family(table), key, &options);
        owned(value).map_err(|error| self.reading(error))
    }

    fn size(&self) -> Result<Size> {
        let mut size = Size::default();
        for table in Table::ALL {
            let unflushed = self.property(table, properties::CUR_SIZE_ALL_MEM_TABLES.as_c_str())?;
            size.unflushed_bytes += unflushed;
            size.total_bytes +=
                self.property(table, properties::TOTAL_SST_FILES_SIZE.as_c_str())? + unflushed;
            size.live_bytes +=
                self.property(table, properties::ESTIMATE_LIVE_DATA_SIZE.as_c_str())? + unflushed;
        }
        Ok(size)
    }

    /// One file's span at a time, so that each step is short and compactions that the engine wants itself get their turn between; the
    /// rate limiter of the [`Options`] paces the writing.
    fn compact(&self, table: Table) -> Result<()> {
        self.flush()?;
        let files = self.db.live_files().map_err(|error| self.reading(error))?;
        let mut spans: Vec<(Vec<u8>, Vec<u8>)> = files
            .into_iter()
            .filter(|file| file.column_family_name == table.name())
            .filter_map(|file| Some((file.start_key?, file.end_key?)))
            .collect();
        spans.sort();
        let mut done: Option<Vec<u8>> = None;
        for (start, end) in spans {
            if done.as_ref().is_some_and(|done| *done >= end) {
                continue;
            }
            let from = done.filter(|done| *done > start).unwrap_or(start);
            self.compact_between(table, &from, &end)?;
            done = Some(end);
        }
        Ok(())
    }

    fn checkpoint(&self, dir: &Path) -> Result<()> {
        self.flush()?;
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(dir))
            .map_err(|error| failure(error, "make a checkpoint of", &self.path))
    }

    fn install(&self, dir: &Path) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(self.install_stepwise(dir, &mut |_| ())?))
    }
}

fn database(dir: &Path, options: Options) -> Result<DB> {
    DB::open_cf_descriptors(&options.database(), dir, options.tables()).map_err(|error| opening(error, dir))
}

impl fmt::Debug for DiskBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskBackend")
            .field("path", &self.path)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

struct DiskReadTx<'a> {
    backend: &'a DiskBackend,
    snapshot: SnapshotWithThreadMode<'a, DB>,
}

impl ReadTx for DiskReadTx<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>> {
        let value = self.snapshot.get_pinned_cf(self.backend.family(table), key);
        owned(value).map_err(|error| self.backend.reading(error))
    }

    fn scan<'a>(&'a self, table: Table, from: &[u8], to: Option<&[u8]>) -> Result<Box<dyn Cursor + 'a>> {
        let records = self.snapshot.raw_iterator_cf_opt(self.backend.family(table), scanning(table, to));
        Ok(Box::new(DiskCursor::new(self.backend, records, from)))
    }
}

struct DiskCursor<'a> {
    backend: &'a DiskBackend,
    records: DBRawIterator<'a>,
    /// Whether the iterator stands on a record that has been lent already.
    lent: bool,
}

impl<'a> DiskCursor<'a> {
    fn new(backend: &'a DiskBackend, mut records: DBRawIterator<'a>, from: &[u8]) -> Self {
        records.seek(from);
        Self { backend, records, lent: false }
    }
}

impl Cursor for DiskCursor<'_> {
    fn next(&mut self) -> Result<Option<Record<'_>>> {
        if self.lent && self.records.valid() {
            self.records.next();
        }
        self.lent = true;
        if !self.records.valid() {
            self.records.status().map_err(|error| self.backend.reading(error))?;
        }
        Ok(self.records.item())
    }

    fn seek(&mut self, key: &[u8]) {
        if self.records.key().is_some_and(|at| at < key) {
            self.records.seek(key);
            self.lent = false;
        }
    }
}

fn scanning(table: Table, to: Option<&[u8]>) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(to) = to {
        options.set_iterate_upper_bound(to);
    }
    options.set_auto_readahead_size(true);
    // A walk over history must not push out what point reads need.
    options.fill_cache(table != Table::Rev);
    options
}

fn owned(
    value: Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>,
) -> Result<Option<Bytes>, rocksdb::Error> {
    Ok(value?.map(|value| Bytes::copy_from_slice(&value)))
}

fn opening(error: rocksdb::Error, path: &Path) -> Error {
    // RocksDB has no kind of its own for this.
    if error.kind() == rocksdb::ErrorKind::IOError && error.as_ref().contains("/LOCK:") {
        return Error::InUse { path: path.to_owned() };
    }
    failure(error, "open", path)
}

fn failure(error: rocksdb::Error, operation: &'static str, path: &Path) -> Error {
    let kind = error.kind();
    let detail = error.into_string();
    if kind == rocksdb::ErrorKind::Corruption {
        return Error::Corrupt { path: named_file(&detail, path), detail };
    }
    Error::Engine { operation, path: path.to_owned(), detail }
}

/// The file that the engine's message speaks of, or the directory.
fn named_file(detail: &str, directory: &Path) -> PathBuf {
    let prefix = directory.to_string_lossy();
    let Some(at) = detail.find(&*prefix) else { return directory.to_owned() };
    let name = detail[at..].split([' ', ':', ',']).next().unwrap_or_default();
    PathBuf::from(name.trim_end_matches(['.', '\'', '"']))
}

#[cfg(test)]
mod tests;
