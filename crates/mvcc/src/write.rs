//! Changing keys.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::LeaseId;
use backend::Table;
use bytes::Bytes;
use prost::Message as _;

use crate::commit::{Change, ChangeKind, Changes, Commit};
use crate::compaction::{self, Compaction};
use crate::key_value::{self, KeyValue};
use crate::meta::State;
use crate::options::Span;
use crate::range::{self, Messages};
use crate::read::{self, missing};
use crate::record::{self, Predecessor};
use crate::store::Store;
use crate::tree::Tree;
use crate::view::{Shared, View, lock};
use crate::{Error, KeyMeta, RangeOptions, RangeResult, Result, Revision, history, index_entry};

/// Changes of any number of requests, which become visible and durable together.
///
/// Its own reads see what it has written. Dropping it without [`commit`](Self::commit) undoes everything.
#[derive(Debug)]
pub struct WriteTxn<'a> {
    store: &'a mut Store,
    /// What readers see meanwhile.
    base: Arc<View>,
    tx: backend::WriteTx,
    edits: Vec<Edit>,
    /// How many changes the open request has made.
    open: i64,
    state: State,
    scratch: Scratch,
    committed: bool,
}

/// A key that a delete has taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The key.
    pub key: Bytes,
    /// What it was.
    pub previous: KeyMeta,
}

/// A change that is not committed yet.
#[derive(Debug)]
struct Edit {
    revision: Revision,
    key: Bytes,
    /// `None` for a delete.
    meta: Option<KeyMeta>,
    /// The message as it is stored.
    kv: Bytes,
    previous: Option<Revision>,
}

/// Buffers that are filled anew for every change.
#[derive(Debug, Default)]
struct Scratch {
    entry: Vec<u8>,
    value: Vec<u8>,
}

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(store: &'a mut Store) -> Self {
        let base = store.shared.view.load_full();
        let (tx, state) = (store.shared.backend.begin(), store.state);
        let (edits, scratch) = (Vec::new(), Scratch::default());
        Self { store, base, tx, edits, open: 0, state, scratch, committed: false }
    }

    /// The revision of the last request that has changed something, also in this transaction.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.state.revision
    }

    /// The revision that the open request has come to: the next one if it has changed something, else the last.
    #[must_use]
    pub fn open_revision(&self) -> i64 {
        self.state.revision + i64::from(self.open > 0)
    }

    /// The revision below which nothing can be read, −1 if there has been no compaction; also one of this transaction.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.state.scheduled
    }

    /// What the index knows of a key, if it lives.
    #[must_use]
    pub fn lookup(&self, key: &[u8]) -> Option<KeyMeta> {
        self.store.tree.get(key)
    }

    /// The encoded `mvccpb.KeyValue` of a key, if it lives.
    ///
    /// # Errors
    /// The backend failed or is corrupt.
    pub fn previous_kv(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let Some(meta) = self.lookup(key) else { return Ok(None) };
        Ok(self.messages(&[meta.mod_revision])?.pop())
    }

    /// The same, decoded.
    ///
    /// # Errors
    /// The backend failed or is corrupt.
    pub fn previous(&self, key: &[u8]) -> Result<Option<api::mvccpb::KeyValue>> {
        let Some(kv) = self.previous_kv(key)? else { return Ok(None) };
        api::mvccpb::KeyValue::decode(kv).map(Some).map_err(|error| Error::undecodable(&error))
    }

    /// The keys of a range, as this transaction has left them so far, or at an older revision. The result's revision counts the
    /// open request if it has changed something.
    ///
    /// # Errors
    /// As [`Reader::range`](crate::Reader::range).
    pub fn range(&self, options: &RangeOptions) -> Result<RangeResult> {
        let asked = options.revision;
        let mut result = if asked <= 0 || (asked == self.state.revision && self.open == 0) {
            range::in_tree(&self.store.tree, options, self)?
        } else if asked > self.state.revision {
            return Err(Error::FutureRevision);
        } else if asked < self.state.scheduled {
            return Err(Error::Compacted);
        } else if asked >= self.base.revision {
            range::in_tree(&self.tree_at(asked), options, self)?
        } else {
            read::in_past(&self.store.shared, &self.base.tree, options, asked, self)?
        };
        result.revision = self.open_revision();
        Ok(result)
    }

    /// How many keys a range has now.
    #[must_use]
    pub fn count(&self, key: &[u8], range_end: &[u8]) -> i64 {
        crate::options::count(range::ranks(&self.store.tree, Span::new(key, range_end)).len())
    }

    /// The keys at a revision that this transaction has made. Seldom asked for, so made anew from the changes.
    fn tree_at(&self, revision: i64) -> Tree {
        let mut tree = self.base.tree.clone();
        for edit in self.edits.iter().take_while(|edit| edit.revision.main() <= revision) {
            match edit.meta {
                Some(meta) => drop(tree.upsert(&edit.key, |_| meta)),
                None => drop(tree.remove(&edit.key)),
            }
        }
        tree
    }

    /// Gives the key a value, and returns what the key was.
    ///
    /// # Errors
    /// The store had failed before.
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: LeaseId) -> Result<Option<KeyMeta>> {
        self.store.shared.check_failed()?;
        let revision = self.next_revision();
        let mut meta = KeyMeta {
            create_revision: revision.main(),
            mod_revision: revision,
            version: 1,
            lease,
            value_size: value.len(),
        };
        let previous = self.store.tree.upsert(&key, |old| {
            if let Some(old) = old {
                meta.create_revision = old.create_revision;
                meta.version = old.version + 1;
            }
            meta
        });
        self.scratch.value.clear();
        index_entry::encode_put(&meta, &mut self.scratch.value);
        let kv = self.write(&key, revision, &KeyValue::new(&key, &meta, &value), false, previous);
        let previous_revision = previous.map(|previous| previous.mod_revision);
        self.edits.push(Edit { revision, key, meta: Some(meta), kv, previous: previous_revision });
        Ok(previous)
    }

    /// Deletes the keys of a range, and returns them in ascending order with what they were.
    ///
    /// # Errors
    /// The store had failed before.
    pub fn delete_range(&mut self, key: &Bytes, range_end: &Bytes) -> Result<Vec<Deleted>> {
        self.store.shared.check_failed()?;
        let keys: Vec<Bytes> = match Span::new(key, range_end) {
            Span::One(_) => self.lookup(key).map(|_| key.clone()).into_iter().collect(),
            span => {
                let ranks = range::ranks(&self.store.tree, span);
                self.store.tree.iter(ranks.start).take(ranks.len()).map(|item| item.key()).collect()
            }
        };
        Ok(keys.into_iter().map(|key| self.delete(key)).collect())
    }

    fn delete(&mut self, key: Bytes) -> Deleted {
        let revision = self.next_revision();
        let previous = self.store.tree.remove(&key).expect("the key has been found in the tree");
        self.scratch.value.clear();
        index_entry::encode_tombstone(&mut self.scratch.value);
        let kv =
            self.write(&key, revision, &KeyValue { key: &key, ..KeyValue::default() }, true, Some(previous));
        let previous_revision = Some(previous.mod_revision);
        self.edits.push(Edit { revision, key: key.clone(), meta: None, kv, previous: previous_revision });
        Deleted { key, previous }
    }

    fn next_revision(&mut self) -> Revision {
        let revision = Revision::new(self.state.revision + 1, self.open);
        self.open += 1;
        revision
    }

    /// Adds the change to both tables, the `index` entry with the value in `scratch`; returns the stored message.
    fn write(
        &mut self,
        key: &[u8],
        revision: Revision,
        kv: &KeyValue<'_>,
        tombstone: bool,
        previous: Option<KeyMeta>,
    ) -> Bytes {
        let predecessor = previous.map(|previous| Predecessor {
            revision: previous.mod_revision,
            len: key_value::stored_len(key, &previous) as u64,
        });
        let (record, kv_at) = record::encode(kv, tombstone, predecessor);
        let message = record.slice(kv_at..);
        self.state.written = self.state.written.saturating_add(record::accounted(message.len()));
        self.tx.put_shared(Table::Rev, &revision.to_bytes(), record);
        self.scratch.entry.clear();
        index_entry::encode_entry(key, revision, &mut self.scratch.entry);
        self.tx.put(Table::Index, &self.scratch.entry, &self.scratch.value);
        message
    }

    /// Ends a request: if it has changed something, the revision advances by one. Returns the revision.
    pub fn end_request(&mut self) -> i64 {
        if self.open > 0 {
            self.state.revision += 1;
            self.open = 0;
        }
        self.state.revision
    }

    /// Schedules a compaction: once this transaction is committed, nothing below `revision` can be read, and
    /// [`Compaction::run_chunk`] may delete it.
    ///
    /// # Errors
    /// [`Error::Compacted`] if there has been a compaction at this revision or later, [`Error::FutureRevision`] if the
    /// revision has not happened.
    pub fn compact(&mut self, revision: i64) -> Result<Compaction> {
        self.store.shared.check_failed()?;
        compaction::check(revision, self.state.scheduled, self.state.revision)?;
        self.state.scheduled = revision;
        Ok(Compaction { shared: Arc::clone(&self.store.shared), revision })
    }

    /// The batch, for records of others that must become durable together with these changes.
    pub fn tx(&mut self) -> &mut backend::WriteTx {
        &mut self.tx
    }

    /// Commits the batch, and then shows the changes to readers. An open request is ended.
    ///
    /// # Errors
    /// The backend failed; the store refuses everything from then on.
    pub fn commit(mut self) -> Result<Commit> {
        self.store.shared.check_failed()?;
        self.end_request();
        if self.state != self.store.state {
            self.state.store(&mut self.tx);
        }
        let shared = Arc::clone(&self.store.shared);
        if !self.tx.is_empty() {
            let tx = std::mem::take(&mut self.tx);
            shared.backend.commit(tx).inspect_err(|_| shared.failed.store(true, Ordering::Release))?;
        }
        self.committed = true;
        if self.state != self.store.state {
            self.publish(&shared);
        }
        let changes = grouped(std::mem::take(&mut self.edits));
        Ok(Commit { revision: self.state.revision, changes })
    }

    fn publish(&mut self, shared: &Shared) {
        self.store.state = self.state;
        shared.written.store(self.state.written, Ordering::Release);
        shared.view.store(Arc::new(View { tree: self.store.tree.clone(), revision: self.state.revision }));
        shared.compact_revision.store(self.state.scheduled, Ordering::Release);
        lock(&shared.pins).commit(self.state.scheduled);
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        if !self.committed {
            self.store.tree = self.base.tree.clone();
        }
    }
}

impl Messages for WriteTxn<'_> {
    fn messages(&self, revisions: &[Revision]) -> Result<Vec<Bytes>> {
        let old = revisions.partition_point(|revision| revision.main() <= self.base.revision);
        let stored = self.store.shared.messages(&revisions[..old])?.into_iter();
        let stored: Option<Vec<Bytes>> = stored.collect();
        let mut kvs = stored.ok_or_else(|| missing(&self.store.shared, self.base.revision))?;
        for revision in &revisions[old..] {
            let at = self.edits.binary_search_by_key(revision, |edit| edit.revision);
            let at =
                at.map_err(|_| Error::invariant(format!("the change at {revision} is not in the batch")))?;
            kvs.push(self.edits[at].kv.clone());
        }
        Ok(kvs)
    }
}

fn grouped(edits: Vec<Edit>) -> Vec<Changes> {
    let mut requests: Vec<Changes> = Vec::new();
    for edit in edits {
        let main = edit.revision.main();
        let change = change(edit);
        match requests.last_mut() {
            Some(open) if open.main == main => open.changes.push(change),
            _ => requests.push(Changes { main, changes: vec![change] }),
        }
    }
    requests.iter_mut().for_each(history::settle_previous);
    requests
}

fn change(edit: Edit) -> Change {
    let Edit { revision, key, meta, kv, previous } = edit;
    match meta {
        None => {
            let kv = key_value::deleted(&key, revision);
            Change { key, kind: ChangeKind::Delete, kv, previous, ..Change::default() }
        }
        Some(meta) => Change {
            key,
            kind: ChangeKind::Put,
            kv,
            create_revision: meta.create_revision,
            version: meta.version,
            lease: meta.lease,
            previous,
        },
    }
}
