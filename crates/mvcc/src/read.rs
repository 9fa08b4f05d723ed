//! Reading what is committed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::commit::Changes;
use crate::options::{self, Span};
use crate::range::{self, Messages};
use crate::stream::RangeStream;
use crate::tree::Tree;
use crate::view::{Shared, View, lock};
use crate::{Error, KeyMeta, KvHash, RangeOptions, RangeResult, Result, Revision};

/// What a key takes up in an answer beside itself and its value: numbers, and the room to hold it.
const KEY_OVERHEAD: usize = 96;

/// Reads committed state from any thread. Cheap to clone; never meets the writer's lock, because there is none.
///
/// When the [store is replaced](crate::Store::replace), every reader goes over to the new one; each call sees one of the two, and what
/// it has handed out goes on seeing the old.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) current: Arc<ArcSwap<Shared>>,
}

impl Reader {
    /// The revision of the last commit.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.current.load().view.load().revision
    }

    /// The revision below which nothing can be read, −1 if there has been no compaction.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.current.load().compact_revision()
    }

    /// How many keys live.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.current.load().view.load().tree.len() as u64
    }

    /// The bytes of all changes that have been committed and not yet deleted by compaction: 16 for the revision, and the
    /// message. Equal histories give equal numbers, except that members delete at their own pace.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.current.load().live_bytes()
    }

    /// What the index of live keys occupies in memory. Walks over all of it.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        self.current.load().view.load().tree.memory_bytes() as u64
    }

    /// A view of the last commit that does not change any more, for several reads that must fit together.
    #[must_use]
    pub fn read(&self) -> ReadTxn {
        let shared = self.current.load_full();
        let view = shared.view.load_full();
        ReadTxn { shared, view }
    }

    /// The keys of a range.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::FutureRevision`] if that is what the asked revision is; otherwise the backend
    /// failed or is corrupt.
    pub fn range(&self, options: &RangeOptions) -> Result<RangeResult> {
        loop {
            match self.read().range(options) {
                // Now was overtaken by a compaction between looking and fetching; now it is another now.
                Err(Error::Compacted) if options.revision <= 0 => {}
                answer => return answer,
            }
        }
    }

    /// How many keys a range has now.
    #[must_use]
    pub fn count(&self, key: &[u8], range_end: &[u8]) -> i64 {
        options::count(range::ranks(&self.current.load().view.load().tree, Span::new(key, range_end)).len())
    }

    /// At least the bytes that the keys of a range take up in an answer, were it read now. Only the keys, the limit and whether
    /// values are wanted are looked at. Costs a step for each key.
    #[must_use]
    pub fn weigh(&self, options: &RangeOptions) -> u64 {
        let shared = self.current.load();
        let view = shared.view.load();
        let ranks = range::ranks(&view.tree, options.span());
        let all = options.is_filtered() || options.target != crate::Target::Key;
        let limit = if all { usize::MAX } else { options.limit().saturating_add(1) };
        let keys = if options.order == crate::Order::Descend {
            let wanted = limit.min(ranks.len());
            view.tree.iter(ranks.end - wanted).take(wanted)
        } else {
            view.tree.iter(ranks.start).take(limit.min(ranks.len()))
        };
        let weight = |item: crate::tree::Item<'_>| {
            let value = if options.keys_only { 0 } else { item.meta().value_size };
            (KEY_OVERHEAD + item.key_len() + value) as u64
        };
        keys.map(weight).sum()
    }

    /// A range in chunks, of which the encoded keys take up about half of `chunk_bytes` to twice that; all at one revision. Sort order and
    /// filters of the options are not looked at.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn stream(&self, options: RangeOptions, chunk_bytes: usize) -> Result<RangeStream> {
        RangeStream::open(self.read(), options, chunk_bytes)
    }

    /// The history from request `from` on, whole requests until one of the limits is reached, and at least one. Empty if there is
    /// nothing from there on yet.
    ///
    /// # Errors
    /// [`Error::Compacted`] if a part of it is gone; otherwise the backend failed or is corrupt.
    pub fn changes(&self, from: i64, max_revisions: usize, max_bytes: usize) -> Result<Vec<Changes>> {
        let shared = self.current.load();
        let revision = shared.view.load().revision;
        shared.changes(from.max(0), revision, max_revisions, max_bytes)
    }

    /// The encoded `mvccpb.KeyValue` that one change has stored; of a delete it has the key only. `None` if there is no such
    /// change, or not any more: a record that compaction is about to delete may be found or not.
    ///
    /// # Errors
    /// The backend failed or is corrupt.
    pub fn record(&self, revision: Revision) -> Result<Option<Bytes>> {
        Ok(self.current.load().messages(&[revision])?.pop().flatten())
    }

    /// etcd's hash of the history up to a revision, 0 for now: equal histories have equal hashes, here and there.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn hash_kv(&self, revision: i64) -> Result<KvHash> {
        crate::hash::hash_kv(&self.current.load(), revision)
    }

    /// The hashes that the last compactions have taken before they deleted, ascending by revision. A
    /// [hash](Self::hash_kv) asked for at one of those revisions is that one.
    #[must_use]
    pub fn compaction_hashes(&self) -> Vec<KvHash> {
        lock(&self.current.load().hashes).all()
    }

    /// Checks what must always hold of the index in memory, for tests.
    ///
    /// # Panics
    /// It does not hold.
    pub fn check_invariants(&self) {
        self.current.load().view.load().tree.check_invariants();
    }
}

/// The keyspace as of one commit.
#[derive(Clone, Debug)]
pub struct ReadTxn {
    pub(crate) shared: Arc<Shared>,
    pub(crate) view: Arc<View>,
}

impl ReadTxn {
    /// The revision of this view.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.view.revision
    }

    /// The revision below which nothing can be read, −1 if there has been no compaction; as it is at this call.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.shared.compact_revision()
    }

    /// What the index knows of a key, if it lives.
    #[must_use]
    pub fn lookup(&self, key: &[u8]) -> Option<KeyMeta> {
        self.view.tree.get(key)
    }

    /// The encoded `mvccpb.KeyValue` of a key, if it lives.
    ///
    /// # Errors
    /// [`Error::Compacted`] if a compaction has overtaken this view; otherwise the backend failed or is corrupt.
    pub fn kv(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let Some(meta) = self.lookup(key) else { return Ok(None) };
        let committed = Committed { shared: &self.shared, revision: self.view.revision };
        Ok(committed.messages(&[meta.mod_revision])?.pop())
    }

    /// The keys of a range. A compaction may overtake this view; what it has deleted is then answered as compacted, and
    /// what it has not is still correct.
    ///
    /// # Errors
    /// As [`Reader::range`].
    pub fn range(&self, options: &RangeOptions) -> Result<RangeResult> {
        let now = self.view.revision;
        let revision = asked_revision(options.revision, now, &self.shared)?;
        let messages = Committed { shared: &self.shared, revision };
        let mut result = match self.tree_at(revision) {
            Some(tree) => range::in_tree(&tree, options, &messages)?,
            None => in_past(&self.shared, &self.view.tree, options, revision, &messages)?,
        };
        if revision == now && result.more {
            lock(&self.shared.pins).pin(&self.view);
        }
        result.revision = now;
        Ok(result)
    }

    /// The tree of an old revision, if it is at hand.
    pub(crate) fn tree_at(&self, revision: i64) -> Option<Tree> {
        if revision == self.view.revision {
            return Some(self.view.tree.clone());
        }
        lock(&self.shared.pins).find(revision)
    }
}

/// The revision that a range means.
pub(crate) fn asked_revision(asked: i64, now: i64, shared: &Shared) -> Result<i64> {
    if asked <= 0 {
        return Ok(now);
    }
    if asked > now {
        return Err(Error::FutureRevision);
    }
    shared.check_compacted(asked)?;
    Ok(asked)
}

/// A range at an old revision, of which the tree is not at hand.
pub(crate) fn in_past(
    shared: &Shared,
    tree: &Tree,
    options: &RangeOptions,
    revision: i64,
    messages: &impl Messages,
) -> Result<RangeResult> {
    if let Span::One(key) = options.span() {
        // A key that has not changed since then needs no look at its history.
        if let Some(meta) = tree.get(key).filter(|meta| meta.mod_revision.main() <= revision) {
            if options.count_only {
                return Ok(range::counted(1));
            }
            return range::in_past(vec![(options.key.clone(), meta)], options, messages);
        }
    }
    if options.count_only {
        return Ok(range::counted(shared.count_at(options.span(), revision)?));
    }
    range::in_past(shared.keys_at(options.span(), revision, usize::MAX)?, options, messages)
}

/// Messages as of a revision, from the backend.
pub(crate) struct Committed<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) revision: i64,
}

impl Messages for Committed<'_> {
    fn messages(&self, revisions: &[Revision]) -> Result<Vec<Bytes>> {
        let found = self.shared.messages(revisions)?.into_iter().collect::<Option<Vec<Bytes>>>();
        found.ok_or_else(|| missing(self.shared, self.revision))
    }
}

/// Why a record is missing that was live at a revision.
pub(crate) fn missing(shared: &Shared, revision: i64) -> Error {
    match shared.check_compacted(revision) {
        Err(error) => error,
        Ok(()) => Error::corrupt(backend::Table::Rev, &[], format!("a record live at {revision} is missing")),
    }
}
