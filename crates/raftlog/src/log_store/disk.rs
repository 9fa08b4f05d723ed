//! The log on disk: a RocksDB instance of its own.
//!
//! Column family `log` maps the index (8 bytes, big endian) to the entry; `meta` holds the vote and a few
//! positions. They are apart so that the keys of `log` only ever grow: its files then never overlap, move to the last
//! level without being rewritten, and can be dropped whole once their entries are purged.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Direction, ErrorKind,
    IteratorMode, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::recovery::{self, Survey};
use crate::error::{Error, Result};
use crate::record;
use crate::types::LogEntry;

/// The newest layout of the directory this version understands, and the one it writes. It is kept in the lock file,
/// because opening the files of a newer format might already damage them.
const FORMAT: u64 = 1;

/// What is kept besides entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meta {
    Identity,
    Vote,
    Committed,
    Purged,
    Installed,
}

impl Meta {
    fn key(self) -> &'static [u8] {
        match self {
            Self::Identity => b"identity",
            Self::Vote => b"vote",
            Self::Committed => b"committed",
            Self::Purged => b"purged",
            Self::Installed => b"installed",
        }
    }
}

/// One change of what is on disk.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    Entry(&'a LogEntry),
    /// Removes the entries from this index on.
    Truncate(u64),
    Meta(Meta, Vec<u8>),
}

/// What the log needs of a disk. There is one implementation; tests put faults in front of it.
pub(crate) trait Disk: Send + Sync {
    /// Makes all changes or none, durably, and returns how many bytes that took.
    fn write(&self, changes: &[Change<'_>]) -> Result<u64>;

    /// Hands the entries from `from` on to `take`, in order, until it returns false or `to` is reached.
    fn read(&self, from: u64, to: u64, take: &mut dyn FnMut(LogEntry) -> bool) -> Result<()>;

    fn meta(&self, meta: Meta) -> Result<Option<Vec<u8>>>;

    /// Gives back the space of entries before `before`, where that is cheap.
    fn reclaim(&self, before: u64) -> Result<()>;

    /// Closes the files. Everything after that fails.
    fn close(&self);

    /// Where the files are.
    fn path(&self) -> &Path;
}

pub(crate) struct RocksDisk {
    path: PathBuf,
    /// Write-locked only to close it.
    open: RwLock<Option<OpenDisk>>,
}

/// Refuses a log in which an acknowledged batch is damaged or missing. Opening it for writing would cut off that
/// batch and everything behind it.
fn check_damage(path: &Path) -> Result<()> {
    let Survey { last_change, suspicion: Some(suspicion) } = recovery::survey(path)? else { return Ok(()) };
    match DB::open_cf_descriptors_read_only(&db_options(), path, families(), false) {
        Ok(db) if db.latest_sequence_number() >= last_change => Ok(()),
        Ok(_) | Err(_) => Err(suspicion),
    }
}

fn families() -> impl Iterator<Item = ColumnFamilyDescriptor> {
    [("default", Options::default()), ("log", log_options()), ("meta", meta_options())]
        .into_iter()
        .map(|(name, options)| ColumnFamilyDescriptor::new(name, options))
}

/// The format of the directory; a new one gets the newest.
fn format(lock: &mut File) -> io::Result<u64> {
    let mut text = String::new();
    lock.read_to_string(&mut text)?;
    if text.is_empty() {
        lock.write_all(format!("{FORMAT}\n").as_bytes())?;
        lock.sync_all()?;
        return Ok(FORMAT);
    }
    text.trim().parse().map_err(io::Error::other)
}

struct OpenDisk {
    db: DB,
    /// Held as long as the files are open. RocksDB has a lock too, but the files are looked at before it is taken.
    _lock: File,
}

impl RocksDisk {
    /// Opens the log in `dir/log`, after checking what a crash or the disk did to it.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("log");
        let io = |operation, error: io::Error| Error::Io {
            operation,
            path: path.clone(),
            message: error.to_string(),
        };
        fs::create_dir_all(&path).map_err(|error| io("creating the directory", error))?;
        let lock = dir.join("log.lock");
        let mut lock = (File::options().read(true).write(true).create(true).truncate(false).open(lock))
            .map_err(|error| io("creating the lock", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(io("locking", error)),
        }
        let found = format(&mut lock).map_err(|error| io("reading the format", error))?;
        if found > FORMAT {
            return Err(Error::Format { path, found, supported: FORMAT });
        }
        check_damage(&path)?;
        let db = DB::open_cf_descriptors(&db_options(), &path, families())
            .map_err(|error| convert("opening", &path, &error))?;
        Ok(Self { path, open: RwLock::new(Some(OpenDisk { db, _lock: lock })) })
    }

    fn with<T>(&self, operation: &'static str, f: impl FnOnce(&DB) -> Result<T, Fault>) -> Result<T> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let Some(OpenDisk { db, .. }) = &*open else {
            let message = "the log is closed".to_owned();
            return Err(Error::Io { operation, path: self.path.clone(), message });
        };
        f(db).map_err(|fault| match fault {
            Fault::RocksDb(error) => convert(operation, &self.path, &error),
            Fault::Record(reason) => self.damaged(reason),
        })
    }

    fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), reason: reason.into() }
    }
}

enum Fault {
    RocksDb(rocksdb::Error),
    Record(String),
}

impl From<rocksdb::Error> for Fault {
    fn from(error: rocksdb::Error) -> Self {
        Self::RocksDb(error)
    }
}

impl Disk for RocksDisk {
    fn write(&self, changes: &[Change<'_>]) -> Result<u64> {
        self.with("writing", |db| {
            let (log, meta) = (family(db, "log"), family(db, "meta"));
            let mut batch = WriteBatch::default();
            let mut record = Vec::new();
            for change in changes {
                match change {
                    Change::Entry(entry) => {
                        record.clear();
                        record::encode_entry(entry, &mut record);
                        batch.put_cf(log, entry.index.to_be_bytes(), &record);
                    }
                    Change::Truncate(from) => {
                        // The end of a range is exclusive, but no log grows to the last index.
                        batch.delete_range_cf(log, from.to_be_bytes(), u64::MAX.to_be_bytes());
                    }
                    Change::Meta(name, value) => batch.put_cf(meta, name.key(), value),
                }
            }
            let bytes = batch.size_in_bytes() as u64;
            db.write_opt(batch, &write_options())?;
            Ok(bytes)
        })
    }

    fn read(&self, from: u64, to: u64, take: &mut dyn FnMut(LogEntry) -> bool) -> Result<()> {
        self.with("reading", |db| {
            let mut options = ReadOptions::default();
            options.set_iterate_upper_bound(to.to_be_bytes().to_vec());
            options.fill_cache(false);
            let mode = IteratorMode::From(&from.to_be_bytes(), Direction::Forward);
            for item in db.iterator_cf_opt(family(db, "log"), options, mode) {
                let (key, value) = item?;
                let index = <[u8; 8]>::try_from(&*key)
                    .map(u64::from_be_bytes)
                    .map_err(|_| Fault::Record(format!("a key has {} bytes", key.len())))?;
                let entry = record::decode_entry(index, Bytes::from(value))
                    .map_err(|error| Fault::Record(format!("entry {index} is unreadable: {error}")))?;
                if !take(entry) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn meta(&self, meta: Meta) -> Result<Option<Vec<u8>>> {
        self.with("reading", |db| Ok(db.get_cf(family(db, "meta"), meta.key())?))
    }

    fn reclaim(&self, before: u64) -> Result<()> {
        let range = (0u64.to_be_bytes(), before.to_be_bytes());
        self.with("purging", |db| Ok(db.delete_file_in_range_cf(family(db, "log"), range.0, range.1)?))
    }

    fn close(&self) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("all families are created when the log is opened")
}

/// RocksDB names file and offset in its message when a block is damaged.
fn convert(operation: &'static str, path: &Path, error: &rocksdb::Error) -> Error {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::Corruption => Error::Damaged { path, reason: error.to_string() },
        _ => Error::Io { operation, path, message: error.to_string() },
    }
}

fn write_options() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options.set_memtable_insert_hint_per_batch(true);
    options
}

fn db_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A crash may leave a torn batch at the end, which this mode cuts off. It would cut off more, silently, after
    // damage further up; `check_damage` has made sure that there is none.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_paranoid_checks(true);
    // Overwriting an old file, a sync need not update its size.
    options.set_recycle_log_file_num(3);
    // The few keys of `meta` must not keep every old file alive: all of them are read when the log is opened.
    options.set_max_total_wal_size(96 << 20);
    options.set_allow_concurrent_memtable_write(false);
    options.set_max_background_jobs(2);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn log_options() -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(32 << 20);
    options.set_max_write_buffer_number(8);
    options.set_num_levels(2);
    options.set_level_zero_file_num_compaction_trigger(2);
    // Files only move down, so they cannot pile up; a stall here would cost the member its leadership.
    options.set_level_zero_slowdown_writes_trigger(64);
    options.set_level_zero_stop_writes_trigger(128);
    options
}

fn meta_options() -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(1 << 20);
    options
}
