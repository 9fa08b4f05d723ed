//! A range in chunks.
//!
//! The first chunk has ten keys; from then on chunks grow and shrink by the bytes of the one before, as etcd's do.

use bytes::Bytes;

use crate::options::{Span, count};
use crate::range::{self, Entry, Messages};
use crate::read::{Committed, ReadTxn, asked_revision};
use crate::tree::Tree;
use crate::{RangeOptions, Result, key_value};

const FIRST_CHUNK_KEYS: usize = 10;

/// A range at one revision, read a chunk at a time.
#[derive(Debug)]
pub struct RangeStream {
    txn: ReadTxn,
    options: RangeOptions,
    revision: i64,
    source: Source,
    chunk_bytes: usize,
    chunk_keys: usize,
    sent: usize,
    ended: bool,
}

/// A part of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The store's revision when the stream was opened.
    pub revision: i64,
    /// The keys, each an encoded `mvccpb.KeyValue`.
    pub kvs: Vec<Bytes>,
    /// In the last chunk: whether the limit left something out.
    pub more: bool,
    /// In the last chunk: how many keys the range has, before the limit.
    pub count: i64,
    /// Whether there are no more chunks.
    pub last: bool,
}

#[derive(Debug)]
enum Source {
    /// The rank of the next key, and that of the first key behind the range.
    Tree { tree: Tree, next: usize, end: usize },
    /// The next key.
    Past { from: Bytes },
}

impl RangeStream {
    pub(crate) fn open(txn: ReadTxn, options: RangeOptions, chunk_bytes: usize) -> Result<Self> {
        let revision = asked_revision(options.revision, txn.revision(), &txn.shared)?;
        let source = match txn.tree_at(revision) {
            Some(tree) => {
                let ranks = range::ranks(&tree, options.span());
                Source::Tree { tree, next: ranks.start, end: ranks.end }
            }
            None => Source::Past { from: options.key.clone() },
        };
        let chunk_keys = FIRST_CHUNK_KEYS;
        Ok(Self { txn, options, revision, source, chunk_bytes, chunk_keys, sent: 0, ended: false })
    }

    /// The next chunk; after the [last](Chunk::last) one, empty ones.
    ///
    /// # Errors
    /// [`Error::Compacted`](crate::Error::Compacted) if a compaction has overtaken the revision; otherwise the backend
    /// failed or is corrupt.
    pub fn next_chunk(&mut self) -> Result<Chunk> {
        self.txn.shared.check_compacted(self.revision)?;
        if self.options.count_only || self.ended {
            let rest = if self.ended { 0 } else { self.rest()? };
            return Ok(self.chunk(Vec::new(), Some(rest)));
        }
        let wanted = self.chunk_keys.min(self.options.limit() - self.sent);
        let (kvs, behind) = self.take(wanted)?;
        let rest = match behind {
            false => Some(0),
            true if self.sent == self.options.limit() => Some(self.rest()?),
            true => None,
        };
        self.adapt(kvs.iter().map(Bytes::len).sum());
        Ok(self.chunk(kvs, rest))
    }

    /// The chunk of these keys; it is the last one if it is known how many come behind.
    fn chunk(&mut self, kvs: Vec<Bytes>, rest: Option<usize>) -> Chunk {
        self.ended = rest.is_some();
        let more = !self.options.count_only && rest.is_some_and(|rest| rest > 0);
        let count = rest.map_or(0, |rest| count(self.sent + rest));
        Chunk { revision: self.txn.revision(), kvs, more, count, last: self.ended }
    }

    fn adapt(&mut self, bytes: usize) {
        if bytes < self.chunk_bytes / 2 {
            self.chunk_keys = self.chunk_keys.saturating_mul(2);
        } else if bytes > self.chunk_bytes.saturating_mul(2) {
            self.chunk_keys = (self.chunk_keys / 2).max(1);
        }
    }

    /// The next keys, and whether there are keys behind them.
    fn take(&mut self, wanted: usize) -> Result<(Vec<Bytes>, bool)> {
        let messages = Committed { shared: &self.txn.shared, revision: self.revision };
        match &mut self.source {
            Source::Tree { tree, next, end } => {
                let taken = wanted.min(*end - *next);
                let entries: Vec<_> = tree.iter(*next).take(taken).collect();
                let kvs = encoded(&entries, self.options.keys_only, &messages)?;
                *next += taken;
                self.sent += taken;
                Ok((kvs, next < end))
            }
            Source::Past { from } => {
                let span = rest_of(&self.options, from);
                let mut entries = self.txn.shared.keys_at(span, self.revision, wanted.saturating_add(1))?;
                let behind = entries.len() > wanted;
                let next = if behind { entries.pop().map(|(key, _)| key) } else { None };
                let kvs = encoded(&entries, self.options.keys_only, &messages)?;
                self.sent += entries.len();
                if let Some(key) = next {
                    *from = key;
                }
                Ok((kvs, behind))
            }
        }
    }

    /// How many keys have not been taken.
    fn rest(&self) -> Result<usize> {
        match &self.source {
            Source::Tree { next, end, .. } => Ok(end - next),
            Source::Past { from } => self.txn.shared.count_at(rest_of(&self.options, from), self.revision),
        }
    }
}

fn rest_of<'a>(options: &'a RangeOptions, from: &'a Bytes) -> Span<'a> {
    Span::new(from, &options.range_end)
}

fn encoded<E: Entry>(entries: &[E], keys_only: bool, messages: &impl Messages) -> Result<Vec<Bytes>> {
    if keys_only {
        let none = api::LeaseId::NONE;
        return Ok(entries.iter().map(|e| key_value::without_value(&e.key(), &e.meta(), none)).collect());
    }
    range::fetch(entries, messages)
}
