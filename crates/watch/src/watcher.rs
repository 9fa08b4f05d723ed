//! One watcher: what it wants, and how far it has come.

use api::etcdserverpb::WatchCreateRequest;
use api::etcdserverpb::watch_create_request::FilterType;
use bytes::Bytes;

use crate::interval_tree::End;
use crate::wire::WatchIdField;

/// The keys a watcher is interested in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// Exactly this one.
    Key(Bytes),
    /// From a key up to an end.
    Range(Bytes, End),
}

impl Span {
    /// The span of a request, or `None` if it holds no key. An empty key stands for the first possible one, an end of one
    /// zero byte for no end. The keys are copied: a request's buffer should not live as long as the watcher.
    pub(crate) fn of(request: &WatchCreateRequest) -> Option<Self> {
        let key = if request.key.is_empty() { &[0][..] } else { &request.key[..] };
        let start = Bytes::copy_from_slice(key);
        match &request.range_end[..] {
            [] => Some(Self::Key(start)),
            [0] => Some(Self::Range(start, End::Open)),
            end if end <= key => None,
            end => Some(Self::Range(start, End::Before(Bytes::copy_from_slice(end)))),
        }
    }
}

/// Which form of an event a watcher gets, if any: three bits, so that there are eight variants and a commit's bytes are made
/// at most once for each that somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant(u8);

impl Variant {
    /// How many there are.
    pub(crate) const COUNT: usize = 8;

    const PREV_KV: u8 = 1;
    const NO_PUT: u8 = 2;
    const NO_DELETE: u8 = 4;

    pub(crate) fn of(request: &WatchCreateRequest) -> Self {
        let mut bits = if request.prev_kv { Self::PREV_KV } else { 0 };
        for filter in &request.filters {
            bits |= match FilterType::try_from(*filter) {
                Ok(FilterType::Noput) => Self::NO_PUT,
                Ok(FilterType::Nodelete) => Self::NO_DELETE,
                Err(_) => 0,
            };
        }
        Self(bits)
    }

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..8).map(Self)
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(crate) const fn wants_prev_kv(self) -> bool {
        self.0 & Self::PREV_KV != 0
    }

    /// Whether an event of this kind passes the filters.
    pub(crate) const fn passes(self, is_delete: bool) -> bool {
        self.0 & (if is_delete { Self::NO_DELETE } else { Self::NO_PUT }) == 0
    }
}

/// How far a watcher has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Has been sent everything that was published; its place among the live watchers.
    Synced { group: usize, at: usize },
    /// Has to be sent history from this revision on, and there is room for it.
    Ready { next: i64 },
    /// Has to be sent history from this revision on, but its stream has no room.
    Waiting { next: i64 },
    /// What it would have to be sent has been compacted, and it has been told. It keeps its id, and its stream from progress
    /// answers, until the client cancels it.
    Compacted,
}

/// One watcher.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// The stream it belongs to, by its place.
    pub(crate) stream: usize,
    /// Its id on that stream.
    pub(crate) id: i64,
    pub(crate) id_field: WatchIdField,
    pub(crate) span: Span,
    /// As requested; no progress is told before it is reached.
    pub(crate) start_revision: i64,
    pub(crate) variant: Variant,
    pub(crate) fragment: bool,
    pub(crate) progress_notify: bool,
    /// Whether it was sent events from history since the last tick; live events are noted in its group.
    pub(crate) active: bool,
    pub(crate) state: State,
}
