//! The engine without a disk.
//!
//! Each key has its value and, as long as somebody holds a snapshot that is older, the values before it. Commits count; a
//! snapshot is the number of the last commit it sees. Scans take the lock anew for every few records, so a slow reader does not hold
//! up the writer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::{Backend, Cursor, Error, Operation, ReadTx, Record, Result, Size, Table, WriteTx};

/// How many records a scan takes at a time.
const SCAN_RECORDS: usize = 64;
/// The one file of a checkpoint.
const CHECKPOINT: &str = "records";

/// Keeps everything in memory: for tests, for simulation, and for keyspaces that need not survive.
///
/// [`new`](Self::new) makes one that has nothing to lose. [`forgetful`](Self::forgetful) makes one that acts like a disk behind a
/// write cache: [`crash`](Self::crash) gives what would be found after a power cut, which is what had been flushed.
#[derive(Default)]
pub struct MemBackend {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    tables: [BTreeMap<Bytes, Versions>; Table::ALL.len()],
    /// Number of the last commit.
    commits: u64,
    /// How many readers hold which commit.
    snapshots: BTreeMap<u64, usize>,
    /// Keys that kept something for a snapshot and can be tidied when the last snapshot is gone.
    untidy: BTreeSet<(Table, Bytes)>,
    disk: Option<Disk>,
}

/// What a forgetful backend would find after a crash.
#[derive(Default)]
struct Disk {
    tables: [BTreeMap<Bytes, Bytes>; Table::ALL.len()],
    unflushed: Vec<WriteTx>,
}

/// A key's values; `None` for "not there".
struct Versions {
    newest: (u64, Option<Bytes>),
    /// Ascending; only what some snapshot may still see.
    older: Vec<(u64, Option<Bytes>)>,
}

impl Versions {
    fn at(&self, commit: u64) -> Option<&Bytes> {
        if self.newest.0 <= commit {
            return self.newest.1.as_ref();
        }
        self.older.iter().rev().find(|(since, _)| *since <= commit).and_then(|(_, value)| value.as_ref())
    }
}

impl State {
    fn set(&mut self, table: Table, key: &[u8], value: Option<Bytes>) {
        let keep = !self.snapshots.is_empty();
        let records = &mut self.tables[table.at()];
        match records.get_mut(key) {
            Some(versions) if keep => {
                let old = std::mem::replace(&mut versions.newest, (self.commits, value));
                if old.0 < self.commits {
                    versions.older.push(old);
                }
                self.untidy.insert((table, Bytes::copy_from_slice(key)));
            }
            Some(versions) if value.is_some() => versions.newest = (self.commits, value),
            Some(_) => drop(records.remove(key)),
            None if value.is_some() => {
                let versions = Versions { newest: (self.commits, value), older: Vec::new() };
                records.insert(Bytes::copy_from_slice(key), versions);
            }
            None => {}
        }
    }

    fn apply(&mut self, tx: &WriteTx) {
        self.commits += 1;
        for operation in tx.operations() {
            match operation {
                Operation::Put { table, key, value } => self.set(table, key, Some(value.to_bytes())),
                Operation::Delete { table, key } => self.set(table, key, None),
                Operation::DeleteRange { table, from, to } if from < to => {
                    let bounds = (Bound::Included(from), Bound::Excluded(to));
                    let keys = self.tables[table.at()].range::<[u8], _>(bounds);
                    let keys: Vec<Bytes> = keys.map(|(key, _)| key.clone()).collect();
                    keys.iter().for_each(|key| self.set(table, key, None));
                }
                Operation::DeleteRange { .. } => {}
            }
        }
    }

    fn release(&mut self, snapshot: u64) {
        let readers = self.snapshots.get_mut(&snapshot).expect("a snapshot is released once");
        *readers -= 1;
        if *readers == 0 {
            self.snapshots.remove(&snapshot);
        }
        if self.snapshots.is_empty() {
            for (table, key) in std::mem::take(&mut self.untidy) {
                let records = &mut self.tables[table.at()];
                let Some(versions) = records.get_mut(&key) else { continue };
                versions.older = Vec::new();
                if versions.newest.1.is_none() {
                    records.remove(&key);
                }
            }
        }
    }
}

impl Disk {
    fn flush(&mut self) {
        for tx in std::mem::take(&mut self.unflushed) {
            for operation in tx.operations() {
                match operation {
                    Operation::Put { table, key, value } => {
                        self.tables[table.at()].insert(Bytes::copy_from_slice(key), value.to_bytes());
                    }
                    Operation::Delete { table, key } => drop(self.tables[table.at()].remove(key)),
                    Operation::DeleteRange { table, from, to } => {
                        self.tables[table.at()].retain(|key, _| &key[..] < from || &key[..] >= to);
                    }
                }
            }
        }
    }
}

impl MemBackend {
    /// An empty backend that has no disk: what is committed counts as durable.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty backend that forgets at a [crash](Self::crash) what was not flushed.
    #[must_use]
    pub fn forgetful() -> Self {
        Self { state: RwLock::new(State { disk: Some(Disk::default()), ..State::default() }) }
    }

    /// What is found after a power cut at this moment: a forgetful backend with what this one had flushed. Of a backend that
    /// is not forgetful nothing is left.
    #[must_use]
    pub fn crash(&self) -> Self {
        let crashed = Self::forgetful();
        if let Some(disk) = &self.read_state().disk {
            let mut state = crashed.write_state();
            for (at, records) in disk.tables.iter().enumerate() {
                state.tables[at] = records
                    .iter()
                    .map(|(k, v)| (k.clone(), Versions { newest: (0, Some(v.clone())), older: Vec::new() }))
                    .collect();
            }
            state.disk = Some(Disk { tables: disk.tables.clone(), unflushed: Vec::new() });
        }
        crashed
    }

    /// No invariant is broken where a panic can happen under this lock, so a poisoned one is as good as any.
    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> Snapshot<'_> {
        let mut state = self.write_state();
        let commit = state.commits;
        *state.snapshots.entry(commit).or_default() += 1;
        drop(state);
        Snapshot { backend: self, commit }
    }
}

impl Backend for MemBackend {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>> {
        let state = self.read_state();
        Ok(state.tables[table.at()].get(key).and_then(|versions| versions.newest.1.clone()))
    }

    fn multi_get(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>> {
        let state = self.read_state();
        let records = &state.tables[table.at()];
        Ok(keys.iter().map(|key| records.get(*key).and_then(|versions| versions.newest.1.clone())).collect())
    }

    fn scan<'a>(&'a self, table: Table, from: &[u8], to: Option<&[u8]>) -> Result<Box<dyn Cursor + 'a>> {
        Ok(Box::new(MemCursor::new(Held::Own(self.snapshot()), table, from, to)))
    }

    fn last(&self, table: Table) -> Result<Option<(Bytes, Bytes)>> {
        let state = self.read_state();
        let mut newest = state.tables[table.at()].iter().rev();
        Ok(newest.find_map(|(key, versions)| Some((key.clone(), versions.newest.1.clone()?))))
    }

    fn read<'a>(&'a self) -> Result<Box<dyn ReadTx + 'a>> {
        Ok(Box::new(self.snapshot()))
    }

    fn commit(&self, tx: WriteTx) -> Result<()> {
        let mut state = self.write_state();
        state.apply(&tx);
        if let Some(disk) = &mut state.disk {
            disk.unflushed.push(tx);
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        if let Some(disk) = &mut self.write_state().disk {
            disk.flush();
        }
        Ok(())
    }

    fn persisted(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>> {
        match &self.read_state().disk {
            Some(disk) => Ok(disk.tables[table.at()].get(key).cloned()),
            None => self.get(table, key),
        }
    }

    fn size(&self) -> Result<Size> {
        let state = self.read_state();
        let sizes = state.tables.iter().flatten();
        let live = sizes.map(|(key, versions)| versions.newest.1.as_ref().map_or(0, |v| key.len() + v.len()));
        let live = live.sum::<usize>() as u64;
        let unflushed =
            state.disk.as_ref().map_or(0, |disk| disk.unflushed.iter().map(WriteTx::len_bytes).sum());
        Ok(Size { total_bytes: live, live_bytes: live, unflushed_bytes: unflushed as u64 })
    }

    fn compact(&self, _: Table) -> Result<()> {
        Ok(())
    }

    fn checkpoint(&self, dir: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        for table in Table::ALL {
            let mut records = self.scan(table, &[], None)?;
            while let Some((key, value)) = records.next()? {
                bytes.push(u8::try_from(table.at()).expect("there are few tables"));
                for part in [key, value] {
                    bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
                    bytes.extend_from_slice(part);
                }
            }
        }
        let write = || {
            fs::create_dir(dir)?;
            fs::write(dir.join(CHECKPOINT), bytes)
        };
        write().map_err(|error| file_failure("write a checkpoint to", dir, &error))
    }

    fn install(&self, dir: &Path) -> Result<Arc<dyn Backend>> {
        let path = dir.join(CHECKPOINT);
        let bytes = fs::read(&path).map_err(|error| file_failure("read", &path, &error))?;
        let corrupt = || Error::Corrupt { path: path.clone(), detail: "a record is cut off".to_owned() };
        let installed = if self.read_state().disk.is_some() { Self::forgetful() } else { Self::new() };
        let mut tx = installed.begin();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (table, key, value) = checkpointed(&mut rest).ok_or_else(corrupt)?;
            tx.put(table, key, value);
        }
        installed.commit(tx)?;
        installed.flush()?;
        Ok(Arc::new(installed))
    }
}

/// The next record of a checkpoint.
fn checkpointed<'a>(rest: &mut &'a [u8]) -> Option<(Table, &'a [u8], &'a [u8])> {
    let (table, behind) = rest.split_first()?;
    *rest = behind;
    let mut part = || {
        let (length, behind) = rest.split_first_chunk::<8>()?;
        let (part, behind) = behind.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
        *rest = behind;
        Some(part)
    };
    Some((*Table::ALL.get(usize::from(*table))?, part()?, part()?))
}

fn file_failure(operation: &'static str, path: &Path, error: &std::io::Error) -> Error {
    Error::Engine { operation, path: path.to_owned(), detail: error.to_string() }
}

impl fmt::Debug for MemBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.read_state();
        f.debug_struct("MemBackend")
            .field("commits", &state.commits)
            .field("records", &state.tables.iter().map(BTreeMap::len).sum::<usize>())
            .finish_non_exhaustive()
    }
}

/// All tables as of one commit, which stays readable while this lives.
struct Snapshot<'a> {
    backend: &'a MemBackend,
    commit: u64,
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        self.backend.write_state().release(self.commit);
    }
}

impl ReadTx for Snapshot<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>> {
        let state = self.backend.read_state();
        Ok(state.tables[table.at()].get(key).and_then(|versions| versions.at(self.commit).cloned()))
    }

    fn scan<'a>(&'a self, table: Table, from: &[u8], to: Option<&[u8]>) -> Result<Box<dyn Cursor + 'a>> {
        Ok(Box::new(MemCursor::new(Held::Borrowed(self), table, from, to)))
    }
}

enum Held<'a> {
    Own(Snapshot<'a>),
    Borrowed(&'a Snapshot<'a>),
}

struct MemCursor<'a> {
    snapshot: Held<'a>,
    table: Table,
    /// Where to go on when `ahead` is empty; `None` at the end.
    from: Option<Bound<Bytes>>,
    to: Option<Bytes>,
    ahead: VecDeque<(Bytes, Bytes)>,
    lent: (Bytes, Bytes),
}

impl<'a> MemCursor<'a> {
    fn new(snapshot: Held<'a>, table: Table, from: &[u8], to: Option<&[u8]>) -> Self {
        let from = Some(Bound::Included(Bytes::copy_from_slice(from)));
        let to = to.map(Bytes::copy_from_slice);
        Self { snapshot, table, from, to, ahead: VecDeque::new(), lent: Default::default() }
    }

    fn fill(&mut self) {
        let Some(from) = self.from.take() else { return };
        let snapshot = match &self.snapshot {
            Held::Own(snapshot) => snapshot,
            Held::Borrowed(snapshot) => snapshot,
        };
        let (Bound::Included(first) | Bound::Excluded(first)) = &from else { return };
        if self.to.as_ref().is_some_and(|to| first >= to) {
            return;
        }
        let state = snapshot.backend.read_state();
        let to = self.to.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let records = state.tables[self.table.at()].range((from, to));
        let seen = records.filter_map(|(k, v)| Some((k.clone(), v.at(snapshot.commit)?.clone())));
        self.ahead.extend(seen.take(SCAN_RECORDS));
        if self.ahead.len() == SCAN_RECORDS {
            self.from = self.ahead.back().map(|(key, _)| Bound::Excluded(key.clone()));
        }
    }
}

impl Cursor for MemCursor<'_> {
    fn next(&mut self) -> Result<Option<Record<'_>>> {
        if self.ahead.is_empty() {
            self.fill();
        }
        let Some(record) = self.ahead.pop_front() else { return Ok(None) };
        self.lent = record;
        Ok(Some((&self.lent.0, &self.lent.1)))
    }

    fn seek(&mut self, key: &[u8]) {
        while self.ahead.front().is_some_and(|(ahead, _)| &ahead[..] < key) {
            self.ahead.pop_front();
        }
        let Some(Bound::Included(next) | Bound::Excluded(next)) = &self.from else { return };
        if self.ahead.is_empty() && &next[..] < key {
            self.from = Some(Bound::Included(Bytes::copy_from_slice(key)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_the_suite() {
        crate::testing::suite(|| Arc::new(MemBackend::new()));
        crate::testing::suite(|| Arc::new(MemBackend::forgetful()));
        let dir = tempfile::tempdir().unwrap();
        crate::testing::replacement(|| Arc::new(MemBackend::new()), &dir.path().join("new"));
        crate::testing::replacement(|| Arc::new(MemBackend::forgetful()), &dir.path().join("forgetful"));
    }

    #[test]
    fn a_crash_leaves_what_was_flushed_and_nothing_else() {
        let backend = MemBackend::forgetful();
        let mut tx = backend.begin();
        tx.put(Table::Rev, b"a", b"1");
        tx.put(Table::Meta, b"applied", b"1");
        backend.commit(tx).unwrap();
        backend.flush().unwrap();
        let mut tx = backend.begin();
        tx.delete(Table::Rev, b"a");
        tx.put(Table::Meta, b"applied", b"2");
        backend.commit(tx).unwrap();

        let crashed = backend.crash();
        assert_eq!(crashed.get(Table::Rev, b"a").unwrap().unwrap(), "1");
        assert_eq!(crashed.get(Table::Meta, b"applied").unwrap().unwrap(), "1");
        assert_eq!(backend.get(Table::Rev, b"a").unwrap(), None, "the crash was somebody else's");
    }

    #[test]
    fn nothing_old_is_kept_once_the_last_snapshot_is_gone() {
        let backend = MemBackend::new();
        let put = |value: &[u8]| {
            let mut tx = backend.begin();
            tx.put(Table::Rev, b"a", value);
            tx.put(Table::Rev, b"b", value);
            backend.commit(tx).unwrap();
        };
        put(b"1");
        let before = backend.read().unwrap();
        put(b"2");
        let mut tx = backend.begin();
        tx.delete(Table::Rev, b"b");
        backend.commit(tx).unwrap();
        assert_eq!(before.get(Table::Rev, b"b").unwrap().unwrap(), "1");
        drop(before);
        let state = backend.read_state();
        assert_eq!(state.tables[Table::Rev.at()].len(), 1);
        assert!(state.tables[Table::Rev.at()].values().all(|versions| versions.older.is_empty()));
        assert!(state.untidy.is_empty() && state.snapshots.is_empty());
    }
}
