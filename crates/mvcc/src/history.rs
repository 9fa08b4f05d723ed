//! Reading what is on disk: values by revision, keys as they were, changes in order.

use std::collections::HashMap;

use backend::{Cursor, Table};
use bytes::Bytes;

use crate::commit::{Change, ChangeKind, Changes};
use crate::key_value::{self, KeyValue};
use crate::options::Span;
use crate::record::Record;
use crate::view::Shared;
use crate::{Error, KeyMeta, Result, Revision, index_entry};

/// How many newer versions of a key a scan steps over before it seeks.
const STEPS_MAX: usize = 8;

pub(crate) fn corrupt_record(key: &[u8]) -> Error {
    Error::corrupt(Table::Rev, key, "the record does not decode")
}

fn corrupt_entry(key: &[u8]) -> Error {
    Error::corrupt(Table::Index, key, "the entry does not decode")
}

/// The message in a stored record.
pub(crate) fn message(key: &[u8], record: Bytes) -> Result<Bytes> {
    let kv_len = Record::decode(&record).ok_or_else(|| corrupt_record(key))?.kv.len();
    Ok(record.slice(record.len() - kv_len..))
}

/// A key at an old revision.
pub(crate) type Past = (Bytes, KeyMeta);

impl Shared {
    /// The messages of these changes, in their order; `None` for those that are not there any more.
    pub(crate) fn messages(&self, revisions: &[Revision]) -> Result<Vec<Option<Bytes>>> {
        if let [revision] = revisions {
            let key = revision.to_bytes();
            let record = self.backend.get(Table::Rev, &key)?;
            return Ok(vec![record.map(|record| message(&key, record)).transpose()?]);
        }
        let keys: Vec<_> = revisions.iter().map(|revision| revision.to_bytes()).collect();
        let borrowed: Vec<&[u8]> = keys.iter().map(<[u8; 16]>::as_slice).collect();
        let records = self.backend.multi_get(Table::Rev, &borrowed)?;
        let messages =
            keys.iter().zip(records).map(|(key, record)| record.map(|r| message(key, r)).transpose());
        messages.collect()
    }

    /// The keys of a span as they were at an old revision, at most so many.
    ///
    /// # Errors
    /// The revision is compacted. An entry that compaction has deleted leaves no gap to be seen, so this is looked at when the
    /// scan is over: had anything been deleted that it needed, the compaction would be known by then.
    pub(crate) fn keys_at(&self, span: Span<'_>, revision: i64, limit: usize) -> Result<Vec<Past>> {
        let mut keys = Vec::new();
        self.for_each_at(span, revision, |key, meta| {
            keys.push((Bytes::copy_from_slice(key), meta));
            keys.len() < limit
        })?;
        Ok(keys)
    }

    pub(crate) fn count_at(&self, span: Span<'_>, revision: i64) -> Result<usize> {
        let mut keys = 0;
        self.for_each_at(span, revision, |_, _| {
            keys += 1;
            true
        })?;
        Ok(keys)
    }

    fn for_each_at(
        &self,
        span: Span<'_>,
        revision: i64,
        mut visit: impl FnMut(&[u8], KeyMeta) -> bool,
    ) -> Result<()> {
        let newest = index_entry::descending(Revision::new(revision, i64::MAX));
        let (mut from, mut to) = (Vec::new(), Vec::new());
        match span {
            Span::One(key) => {
                index_entry::encode_key(key, &mut from);
                to.extend_from_slice(&from);
                index_entry::behind(&mut to);
                from.extend_from_slice(&newest);
            }
            Span::From(key) => index_entry::encode_key(key, &mut from),
            Span::Between(key, end) => {
                index_entry::encode_key(key, &mut from);
                index_entry::encode_key(end, &mut to);
            }
        }
        let to = (!to.is_empty()).then_some(&to[..]);
        if to.is_none_or(|to| &from[..] < to) {
            let entries = self.backend.scan(Table::Index, &from, to)?;
            let mut walk = Walk { entries, revision, newest, place: Vec::new(), key: Vec::new() };
            while let Some(meta) = walk.next_key()? {
                if !visit(&walk.key, meta) {
                    break;
                }
            }
        }
        self.check_compacted(revision)
    }

    /// The history from request `from` on up to request `last`: whole requests, as long as neither limit is reached, and at least one.
    pub(crate) fn changes(
        &self,
        from: i64,
        last: i64,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Result<Vec<Changes>> {
        self.check_compacted(from)?;
        let mut history: Vec<Changes> = Vec::new();
        let mut bytes = 0;
        let to = Revision::new(last.saturating_add(1), 0).to_bytes();
        let mut records = self.backend.scan(Table::Rev, &Revision::new(from, 0).to_bytes(), Some(&to))?;
        while let Some((key, value)) = records.next()? {
            let revision = Revision::from_bytes(key).ok_or_else(|| corrupt_record(key))?;
            let record = Record::decode(value).ok_or_else(|| corrupt_record(key))?;
            let change = change(revision, &record).ok_or_else(|| corrupt_record(key))?;
            let full = !history.is_empty() && (history.len() >= max_revisions || bytes >= max_bytes);
            match history.last_mut() {
                Some(open) if open.main == revision.main() => open.changes.push(change),
                _ if full => break,
                _ => history.push(Changes { main: revision.main(), changes: vec![change] }),
            }
            bytes += value.len();
        }
        drop(records);
        self.check_compacted(from)?;
        history.iter_mut().for_each(settle_previous);
        Ok(history)
    }
}

fn change(revision: Revision, record: &Record<'_>) -> Option<Change> {
    let stored = KeyValue::decode(record.kv)?;
    let previous = record.predecessor.map(|predecessor| predecessor.revision);
    if record.tombstone {
        let kv = key_value::deleted(stored.key, revision);
        let key = KeyValue::decode(&kv)?.key;
        let key = kv.slice(key_value::place(&kv, key));
        return Some(Change { key, kind: ChangeKind::Delete, kv, previous, ..Change::default() });
    }
    let kv = Bytes::copy_from_slice(record.kv);
    let key = kv.slice(key_value::place(record.kv, stored.key));
    Some(Change {
        key,
        kind: ChangeKind::Put,
        kv,
        create_revision: stored.create_revision,
        version: stored.version,
        lease: api::LeaseId::new(stored.lease),
        previous,
    })
}

/// A change's previous record is the one from before the request, also for the second change of a key in it.
pub(crate) fn settle_previous(request: &mut Changes) {
    if request.changes.len() < 2 {
        return;
    }
    let mut first: HashMap<Bytes, Option<Revision>> = HashMap::with_capacity(request.changes.len());
    for change in &mut request.changes {
        change.previous = *first.entry(change.key.clone()).or_insert(change.previous);
    }
}

/// Goes through the `index` table from key to key, at one revision.
struct Walk<'a> {
    entries: Box<dyn Cursor + 'a>,
    revision: i64,
    /// What the newest entry that counts has behind its key at least.
    newest: [u8; Revision::LEN],
    /// What the entries of the current key begin with; empty before the first.
    place: Vec<u8>,
    key: Vec<u8>,
}

impl Walk<'_> {
    /// The next key that is live at the revision; the key itself is in `key` then.
    fn next_key(&mut self) -> Result<Option<KeyMeta>> {
        let mut steps = 0;
        let mut done_with = !self.place.is_empty();
        loop {
            let Some((entry, value)) = self.entries.next()? else { return Ok(None) };
            let (place, revision) = index_entry::split(entry).ok_or_else(|| corrupt_entry(entry))?;
            if place != self.place {
                self.place.clear();
                self.place.extend_from_slice(place);
                (steps, done_with) = (0, false);
            }
            if !done_with && revision.main() <= self.revision {
                let meta = index_entry::decode_value(value, revision).ok_or_else(|| corrupt_entry(entry))?;
                if let Some(meta) = meta {
                    self.key.clear();
                    index_entry::decode_key(&self.place, &mut self.key)
                        .ok_or_else(|| corrupt_entry(&self.place))?;
                    return Ok(Some(meta));
                }
                (steps, done_with) = (0, true);
            }
            steps += 1;
            if steps == STEPS_MAX {
                self.skip(done_with);
                steps = 0;
            }
        }
    }

    /// To the next key if we are done with this one, else to its newest entry that counts.
    fn skip(&mut self, done_with: bool) {
        let mut target = self.place.clone();
        if done_with {
            index_entry::behind(&mut target);
        } else {
            target.extend_from_slice(&self.newest);
        }
        self.entries.seek(&target);
    }
}
