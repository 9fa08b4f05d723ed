//! What a range answers: which keys, in which order, and how many.
//!
//! The rules are etcd's, in this order: keys ascending at the revision, filters, sort, limit. Where the order of keys is wanted
//! and nothing is filtered, only as many keys are looked at as the limit allows, even if they are to be sorted by something else
//! afterwards (as etcd does: asked for the two newest keys with sort order "none", it gives the newest of the first three).
//!
//! Everything but the values comes from the index.

use bytes::Bytes;

use crate::key_value::{self, KeyValue};
use crate::options::{Span, count};
use crate::tree::{Item, Tree};
use crate::{Error, KeyMeta, Order, RangeOptions, RangeResult, Result, Revision, Target};

/// Where the messages of changes are found.
pub(crate) trait Messages {
    /// The messages of these changes, which ascend.
    ///
    /// # Errors
    /// Some are gone, because of a compaction; or the backend failed.
    fn messages(&self, revisions: &[Revision]) -> Result<Vec<Bytes>>;
}

/// A key that a range found.
pub(crate) trait Entry {
    fn key(&self) -> Bytes;
    fn meta(&self) -> KeyMeta;
}

impl Entry for Item<'_> {
    fn key(&self) -> Bytes {
        Item::key(self)
    }
    fn meta(&self) -> KeyMeta {
        Item::meta(self)
    }
}

impl Entry for crate::history::Past {
    fn key(&self) -> Bytes {
        self.0.clone()
    }
    fn meta(&self) -> KeyMeta {
        self.1
    }
}

/// The ranks of a span's keys.
pub(crate) fn ranks(tree: &Tree, span: Span<'_>) -> std::ops::Range<usize> {
    match span {
        Span::One(key) => {
            let rank = tree.rank(key);
            rank..rank + usize::from(tree.find(key).is_some())
        }
        Span::From(key) => tree.rank(key)..tree.len(),
        Span::Between(key, end) => {
            let first = tree.rank(key);
            first..tree.rank(end).max(first)
        }
    }
}

/// The range's answer from a tree; the revision in it is left to the caller.
pub(crate) fn in_tree(tree: &Tree, options: &RangeOptions, messages: &impl Messages) -> Result<RangeResult> {
    if let Span::One(key) = options.span() {
        let found = tree.find(key);
        let keys = usize::from(found.is_some());
        if options.count_only {
            return Ok(counted(keys));
        }
        let found = found.into_iter().filter(|item| options.passes(&item.meta())).collect();
        return finish(found, keys, options, messages);
    }
    let ranks = ranks(tree, options.span());
    let keys = ranks.len();
    if options.count_only {
        return Ok(counted(keys));
    }
    let found = if options.is_filtered() || sorts_all(options) {
        let all = tree.iter(ranks.start).take(keys);
        all.filter(|item| options.passes(&item.meta())).collect()
    } else if options.target == Target::Key && options.order == Order::Descend {
        let wanted = options.limit().saturating_add(1).min(keys);
        tree.iter(ranks.end - wanted).take(wanted).collect()
    } else {
        tree.iter(ranks.start).take(options.limit().saturating_add(1).min(keys)).collect()
    };
    finish(found, keys, options, messages)
}

/// The range's answer from all keys of an old revision.
pub(crate) fn in_past(
    mut found: Vec<crate::history::Past>,
    options: &RangeOptions,
    messages: &impl Messages,
) -> Result<RangeResult> {
    let keys = found.len();
    if options.is_filtered() {
        found.retain(|(_, meta)| options.passes(meta));
    } else if options.order == Order::None {
        found.truncate(options.limit().saturating_add(1));
    }
    finish(found, keys, options, messages)
}

pub(crate) fn counted(keys: usize) -> RangeResult {
    RangeResult { count: count(keys), ..RangeResult::default() }
}

/// Whether the limit cuts only after sorting by something else than the key.
fn sorts_all(options: &RangeOptions) -> bool {
    options.target != Target::Key && options.order != Order::None
}

/// Sorts, cuts, and fetches what has been found in the order of keys.
fn finish<E: Entry>(
    mut found: Vec<E>,
    keys: usize,
    options: &RangeOptions,
    messages: &impl Messages,
) -> Result<RangeResult> {
    let more = found.len() > options.limit();
    let kvs = if options.target == Target::Value {
        let mut valued = by_value(found, options.order, messages)?;
        valued.truncate(options.limit());
        valued.into_iter().map(|(entry, kv)| if options.keys_only { valueless(&entry) } else { kv }).collect()
    } else {
        sort(&mut found, options.target, options.order);
        found.truncate(options.limit());
        if options.keys_only {
            let none = api::LeaseId::NONE;
            found.iter().map(|entry| key_value::without_value(&entry.key(), &entry.meta(), none)).collect()
        } else {
            fetch(&found, messages)?
        }
    };
    Ok(RangeResult { revision: 0, count: count(keys), more, kvs })
}

/// From the index, but with its lease, as etcd has it when it had to load the value.
fn valueless(entry: &impl Entry) -> Bytes {
    let meta = entry.meta();
    key_value::without_value(&entry.key(), &meta, meta.lease)
}

/// Equal ones stay in the order of keys, whichever way.
fn sort<E: Entry>(found: &mut [E], target: Target, order: Order) {
    let number: fn(&KeyMeta) -> i64 = match target {
        Target::Key if order == Order::Descend => return found.reverse(),
        Target::Key | Target::Value => return,
        Target::Version => |meta| meta.version,
        Target::Create => |meta| meta.create_revision,
        Target::Mod => |meta| meta.mod_revision.main(),
    };
    if order == Order::Descend {
        found.sort_by_cached_key(|entry| std::cmp::Reverse(number(&entry.meta())));
    } else {
        found.sort_by_cached_key(|entry| number(&entry.meta()));
    }
}

fn by_value<E: Entry>(found: Vec<E>, order: Order, messages: &impl Messages) -> Result<Vec<(E, Bytes)>> {
    let kvs = fetch(&found, messages)?;
    let mut valued = Vec::with_capacity(found.len());
    for (entry, kv) in found.into_iter().zip(kvs) {
        let value =
            KeyValue::decode(&kv).ok_or_else(|| Error::invariant("a stored message does not decode"))?.value;
        valued.push((key_value::place(&kv, value), entry, kv));
    }
    let compare = |(a, _, x): &(std::ops::Range<usize>, E, Bytes), (b, _, y): &(_, E, Bytes)| {
        let b: &std::ops::Range<usize> = b;
        x[a.clone()].cmp(&y[b.clone()])
    };
    match order {
        Order::Descend => valued.sort_by(|a, b| compare(b, a)),
        Order::None | Order::Ascend => valued.sort_by(compare),
    }
    Ok(valued.into_iter().map(|(_, entry, kv)| (entry, kv)).collect())
}

/// The entries' messages, asked for in the order in which they lie on disk.
pub(crate) fn fetch<E: Entry>(found: &[E], messages: &impl Messages) -> Result<Vec<Bytes>> {
    let mut wanted: Vec<(Revision, usize)> =
        found.iter().enumerate().map(|(at, entry)| (entry.meta().mod_revision, at)).collect();
    wanted.sort_unstable();
    let revisions: Vec<Revision> = wanted.iter().map(|(revision, _)| *revision).collect();
    if revisions.is_empty() {
        return Ok(Vec::new());
    }
    let mut kvs = vec![Bytes::new(); found.len()];
    for ((_, at), kv) in wanted.into_iter().zip(messages.messages(&revisions)?) {
        kvs[at] = kv;
    }
    Ok(kvs)
}
