//! A keyspace as plain as can be: all changes in a list, and everything asked of it found by walking the list.

use std::collections::BTreeMap;

use api::mvccpb::KeyValue;
use etcd_rs_mvcc::{KvHash, Order, RangeOptions, Target};
use prost::Message as _;

#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) main: i64,
    pub(crate) sub: i64,
    /// With a value for a put; for a delete as etcd stores it.
    pub(crate) kv: KeyValue,
    pub(crate) tombstone: bool,
}

/// What a range must answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    Compacted,
    Future,
    Found { revision: i64, count: i64, more: bool, kvs: Vec<KeyValue> },
}

#[derive(Clone, Debug)]
pub(crate) struct Keyspace {
    pub(crate) changes: Vec<Change>,
    /// Those that a finished compaction has left.
    pub(crate) stored: Vec<Change>,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    open: i64,
}

impl Default for Keyspace {
    fn default() -> Self {
        Self { changes: Vec::new(), stored: Vec::new(), revision: 1, compact_revision: -1, open: 0 }
    }
}

pub(crate) fn within(key: &[u8], first: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == first,
        [0] => key >= first,
        _ => key >= first && key < end,
    }
}

impl Keyspace {
    pub(crate) fn state_at(&self, revision: i64) -> BTreeMap<Vec<u8>, KeyValue> {
        let mut state = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.main <= revision) {
            if change.tombstone {
                state.remove(&change.kv.key[..]);
            } else {
                state.insert(change.kv.key.to_vec(), change.kv.clone());
            }
        }
        state
    }

    /// Counting what the open request has changed.
    pub(crate) fn now(&self) -> i64 {
        self.revision + i64::from(self.open > 0)
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], lease: i64) {
        let main = self.revision + 1;
        let old = self.state_at(main).remove(key);
        let kv = KeyValue {
            key: key.to_vec().into(),
            create_revision: old.as_ref().map_or(main, |old| old.create_revision),
            mod_revision: main,
            version: old.map_or(1, |old| old.version + 1),
            value: value.to_vec().into(),
            lease,
        };
        self.push(kv, false);
    }

    /// Returns the keys that were there.
    pub(crate) fn delete(&mut self, first: &[u8], end: &[u8]) -> Vec<Vec<u8>> {
        let keys: Vec<Vec<u8>> =
            self.state_at(self.revision + 1).into_keys().filter(|key| within(key, first, end)).collect();
        for key in &keys {
            self.push(KeyValue { key: key.clone().into(), ..KeyValue::default() }, true);
        }
        keys
    }

    fn push(&mut self, kv: KeyValue, tombstone: bool) {
        let change = Change { main: self.revision + 1, sub: self.open, kv, tombstone };
        self.changes.push(change.clone());
        self.stored.push(change);
        self.open += 1;
    }

    pub(crate) fn end_request(&mut self) {
        self.revision += i64::from(self.open > 0);
        self.open = 0;
    }

    /// Drops what a compaction drops.
    pub(crate) fn finish_compaction(&mut self, at: i64) {
        let stored = std::mem::take(&mut self.stored);
        let is_newest = |change: &Change, n: usize| {
            !stored[n + 1..].iter().any(|later| later.main <= at && later.kv.key == change.kv.key)
        };
        self.stored = stored
            .iter()
            .enumerate()
            .filter(|(n, change)| {
                let tombstone_of_then = change.tombstone && change.main == at;
                let kept = !change.tombstone && is_newest(change, *n);
                change.main > at || kept || tombstone_of_then
            })
            .map(|(_, change)| change.clone())
            .collect();
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        self.stored.iter().map(|change| 16 + change.kv.encoded_len() as u64).sum()
    }

    pub(crate) fn range(&self, options: &RangeOptions) -> Answer {
        let revision = if options.revision <= 0 { self.now() } else { options.revision };
        if options.revision > self.revision {
            return Answer::Future;
        }
        if options.revision > 0 && revision < self.compact_revision {
            return Answer::Compacted;
        }
        let mut kvs: Vec<KeyValue> = self.state_at(revision).into_values().collect();
        kvs.retain(|kv| within(&kv.key, &options.key, &options.range_end));
        let count = i64::try_from(kvs.len()).unwrap();
        if options.count_only {
            return Answer::Found { revision: self.now(), count, more: false, kvs: Vec::new() };
        }
        let filters = [
            options.min_mod_revision,
            options.max_mod_revision,
            options.min_create_revision,
            options.max_create_revision,
        ];
        let limit = usize::try_from(options.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let by_key =
            options.order == Order::None || (options.target == Target::Key && options.order == Order::Ascend);
        if by_key && filters == [0; 4] {
            kvs.truncate(limit.saturating_add(1));
        }
        let [min_mod, max_mod, min_create, max_create] = filters;
        kvs.retain(|kv| {
            (min_mod == 0 || kv.mod_revision >= min_mod)
                && (max_mod == 0 || kv.mod_revision <= max_mod)
                && (min_create == 0 || kv.create_revision >= min_create)
                && (max_create == 0 || kv.create_revision <= max_create)
        });
        kvs.sort_by(|a, b| {
            let ordering = match options.target {
                Target::Key => a.key.cmp(&b.key),
                Target::Version => a.version.cmp(&b.version),
                Target::Create => a.create_revision.cmp(&b.create_revision),
                Target::Mod => a.mod_revision.cmp(&b.mod_revision),
                Target::Value => a.value.cmp(&b.value),
            };
            if options.order == Order::Descend { ordering.reverse() } else { ordering }
        });
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if options.keys_only {
            for kv in &mut kvs {
                kv.value.clear();
                if options.target != Target::Value {
                    kv.lease = 0;
                }
            }
        }
        Answer::Found { revision: self.now(), count, more, kvs }
    }

    /// The rules of HashKV word by word. `None` where they let the answer depend on how far a compaction is.
    pub(crate) fn hash(&self, at: i64, compacting: bool) -> Option<KvHash> {
        let state = self.state_at(at);
        let keep = |change: &Change| {
            // The newest change of its key up to then, and no tombstone.
            !change.tombstone
                && state.get(&change.kv.key[..]).is_some_and(|kv| *kv == change.kv)
                && !self.changes.iter().any(|later| {
                    later.main <= at
                        && (later.main, later.sub) > (change.main, change.sub)
                        && later.kv.key == change.kv.key
                })
        };
        if state.is_empty() && compacting {
            return None;
        }
        let mut hash = crc32c::crc32c(b"key");
        for change in self.stored.iter().filter(|change| change.main <= at) {
            let compacted = change.main <= self.compact_revision;
            if (compacted && !state.is_empty() && !keep(change))
                || (change.main == self.compact_revision && change.tombstone)
            {
                continue;
            }
            let mut key = [&change.main.to_be_bytes()[..], b"_", &change.sub.to_be_bytes()].concat();
            key.extend(change.tombstone.then_some(b't'));
            hash = crc32c::crc32c_append(hash, &key);
            hash = crc32c::crc32c_append(hash, &change.kv.encode_to_vec());
        }
        Some(KvHash { hash, compact_revision: self.compact_revision, hash_revision: at })
    }
}
