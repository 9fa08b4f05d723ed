//! The synced watchers, gathered in groups that watch the very same keys, so that a commit is matched and its bytes are put
//! together once per group; what then remains to be done per watcher is one look at its [`Member`] and one push.

use std::collections::HashMap;

use bytes::Bytes;

use crate::interval_tree::IntervalTree;
use crate::watcher::{Span, Variant};
use crate::wire::WatchIdField;

/// What a delivery needs to know of a watcher, laid out one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// The first revision it wants; later than the published one for watchers of the future.
    pub(crate) from: i64,
    pub(crate) watcher: usize,
    pub(crate) stream: usize,
    pub(crate) id_field: WatchIdField,
    pub(crate) variant: Variant,
    pub(crate) fragment: bool,
    /// Whether it was sent events since the last tick.
    pub(crate) active: bool,
}

/// Watchers of the same keys.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) span: Span,
    pub(crate) members: Vec<Member>,
    /// How many members want each variant.
    pub(crate) variants: [u32; Variant::COUNT],
}

/// All groups, and which of them a key concerns.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Vec<Option<Group>>,
    free: Vec<usize>,
    /// Groups of a single key.
    exact: HashMap<Bytes, usize>,
    /// Groups of a range.
    ranges: IntervalTree<usize>,
}

impl Groups {
    /// Adds a member; returns its group and its place there.
    pub(crate) fn join(&mut self, span: &Span, member: Member) -> (usize, usize) {
        let at = self.find(span).unwrap_or_else(|| self.found(span));
        let group = self.groups[at].as_mut().expect("a group that was found exists");
        group.variants[member.variant.index()] += 1;
        group.members.push(member);
        (at, group.members.len() - 1)
    }

    /// Takes a member out. The last member takes its place: the caller tells that one's watcher.
    pub(crate) fn leave(&mut self, at: usize, place: usize) -> (Member, Option<usize>) {
        let group = self.groups[at].as_mut().expect("a member's group exists");
        let member = group.members.swap_remove(place);
        group.variants[member.variant.index()] -= 1;
        let moved = group.members.get(place).map(|moved| moved.watcher);
        if group.members.is_empty() {
            let group = self.groups[at].take().expect("it was there a moment ago");
            match &group.span {
                Span::Key(key) => self.exact.remove(key),
                Span::Range(start, end) => self.ranges.remove(start, end),
            };
            self.free.push(at);
        }
        (member, moved)
    }

    /// Calls `found` with each group that watches `key`.
    pub(crate) fn matching(&self, key: &[u8], mut found: impl FnMut(usize)) {
        if let Some(group) = self.exact.get(key) {
            found(*group);
        }
        self.ranges.stab(key, &mut found);
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> &mut Group {
        self.groups[at].as_mut().expect("only groups in use are asked for")
    }

    /// Whether nobody is live at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.len() == self.free.len()
    }

    /// The watchers of all members, by group and place.
    pub(crate) fn watchers(&self) -> Vec<usize> {
        self.groups.iter().flatten().flat_map(|group| group.members.iter().map(|m| m.watcher)).collect()
    }

    fn find(&self, span: &Span) -> Option<usize> {
        match span {
            Span::Key(key) => self.exact.get(key).copied(),
            Span::Range(start, end) => self.ranges.get(start, end),
        }
    }

    fn found(&mut self, span: &Span) -> usize {
        let at = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            self.groups.len() - 1
        });
        self.groups[at] =
            Some(Group { span: span.clone(), members: Vec::new(), variants: [0; Variant::COUNT] });
        match span {
            Span::Key(key) => {
                self.exact.insert(key.clone(), at);
            }
            Span::Range(start, end) => self.ranges.insert(start.clone(), end.clone(), at),
        }
        at
    }
}
