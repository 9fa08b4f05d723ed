use api::LeaseId;
use bytes::Bytes;

use crate::Revision;

/// What the index knows of a live key: everything but the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMeta {
    /// The request whose put began this life of the key.
    pub create_revision: i64,
    /// The last change.
    pub mod_revision: Revision,
    /// How many puts this life has seen.
    pub version: i64,
    /// The lease the key goes with.
    pub lease: LeaseId,
    /// The value's bytes.
    pub value_size: usize,
}

/// Which keys, at which revision, in which order, and what of them. The fields mean what those of etcd's `RangeRequest` do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RangeOptions {
    /// The key, or the first one.
    pub key: Bytes,
    /// Empty for the one key, one zero byte for all keys from `key` on, otherwise the first key behind the range.
    pub range_end: Bytes,
    /// How many keys at most; zero or less for all.
    pub limit: i64,
    /// The revision to read at; zero or less for now.
    pub revision: i64,
    /// Which way to sort.
    pub order: Order,
    /// What to sort by.
    pub target: Target,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Leave out keys that were last changed before; zero for none.
    pub min_mod_revision: i64,
    /// Leave out keys that were last changed after; zero for none.
    pub max_mod_revision: i64,
    /// Leave out keys that were created before; zero for none.
    pub min_create_revision: i64,
    /// Leave out keys that were created after; zero for none.
    pub max_create_revision: i64,
}

impl RangeOptions {
    /// The range as it is now, all of it, in the order of keys.
    pub fn new(key: impl Into<Bytes>, range_end: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            range_end: range_end.into(),
            limit: 0,
            revision: 0,
            order: Order::None,
            target: Target::Key,
            keys_only: false,
            count_only: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }

    pub(crate) fn span(&self) -> Span<'_> {
        Span::new(&self.key, &self.range_end)
    }

    pub(crate) fn limit(&self) -> usize {
        usize::try_from(self.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX)
    }

    pub(crate) fn is_filtered(&self) -> bool {
        let filters = [
            self.min_mod_revision,
            self.max_mod_revision,
            self.min_create_revision,
            self.max_create_revision,
        ];
        filters != [0; 4]
    }

    pub(crate) fn passes(&self, meta: &KeyMeta) -> bool {
        let within = |min: i64, max: i64, revision: i64| {
            (min == 0 || revision >= min) && (max == 0 || revision <= max)
        };
        within(self.min_mod_revision, self.max_mod_revision, meta.mod_revision.main())
            && within(self.min_create_revision, self.max_create_revision, meta.create_revision)
    }
}

/// Which way a range is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As [`Ascend`](Self::Ascend), but a limit cuts before sorting.
    #[default]
    None,
    /// Least first.
    Ascend,
    /// Greatest first.
    Descend,
}

/// What a range is sorted by. Keys that are equal in it stay in the order of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// The key.
    #[default]
    Key,
    /// The version.
    Version,
    /// The revision of creation.
    Create,
    /// The revision of the last change.
    Mod,
    /// The value.
    Value,
}

/// What a range found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// The store's revision at the read, also if an older one was asked for.
    pub revision: i64,
    /// How many keys the range has at the revision that was asked for, whatever the limit and the filters.
    pub count: i64,
    /// Whether the limit left something out.
    pub more: bool,
    /// The keys, each an encoded `mvccpb.KeyValue`.
    pub kvs: Vec<Bytes>,
}

/// Which keys a range means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span<'a> {
    One(&'a [u8]),
    From(&'a [u8]),
    Between(&'a [u8], &'a [u8]),
}

impl<'a> Span<'a> {
    pub(crate) fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::One(key),
            [0] => Self::From(key),
            _ => Self::Between(key, range_end),
        }
    }
}

pub(crate) fn count(keys: usize) -> i64 {
    i64::try_from(keys).expect("keys fit in memory")
}
