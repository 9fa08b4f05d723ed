//! The synced watchers, gathered in groups that watch the very same keys, so that a commit is matched and its bytes are put
//! together once per group; what then remains to be done per watcher is one look at its [`Member`] and one push.
//!
//! Within a group, members of the same stream stand together: a stream's outbox is then filled while it is in the processor's
//! nearest cache. Measured with 10,000 watchers of 100 streams, that takes a third of the time of a random order.

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
    /// Members by stream, by the streams' places.
    pub(crate) streams: Vec<(usize, Vec<Member>)>,
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
    /// Adds a member; returns its group and its place among the group's members of that stream.
    pub(crate) fn join(&mut self, span: &Span, stream: usize, member: Member) -> (usize, usize) {
        let at = self.find(span).unwrap_or_else(|| self.found(span));
        let group = self.groups[at].as_mut().expect("a group that was found exists");
        group.variants[member.variant.index()] += 1;
        let members = match group.streams.binary_search_by_key(&stream, |(stream, _)| *stream) {
            Ok(known) => &mut group.streams[known].1,
            Err(new) => {
                group.streams.insert(new, (stream, Vec::new()));
                &mut group.streams[new].1
            }
        };
        members.push(member);
        (at, members.len() - 1)
    }

    /// Takes a member out. The last member of that stream takes its place: the caller tells that one's watcher.
    pub(crate) fn leave(&mut self, at: usize, stream: usize, place: usize) -> (Member, Option<usize>) {
        let group = self.get_mut(at);
        let known = group.streams.binary_search_by_key(&stream, |(stream, _)| *stream);
        let known = known.expect("a member's stream is in its group");
        let members = &mut group.streams[known].1;
        let member = members.swap_remove(place);
        let moved = members.get(place).map(|moved| moved.watcher);
        group.variants[member.variant.index()] -= 1;
        if members.is_empty() {
            group.streams.remove(known);
        }
        if group.streams.is_empty() {
            self.dissolve(at);
        }
        (member, moved)
    }

    /// Removes a group without members.
    fn dissolve(&mut self, at: usize) {
        let group = self.groups[at].take().expect("it was there a moment ago");
        match &group.span {
            Span::Key(key) => self.exact.remove(key),
            Span::Range(start, end) => self.ranges.remove(start, end),
        };
        self.free.push(at);
    }

    /// A member, by its group, its stream and its place.
    pub(crate) fn member_mut(&mut self, at: usize, stream: usize, place: usize) -> &mut Member {
        let streams = &mut self.get_mut(at).streams;
        let known = streams.binary_search_by_key(&stream, |(stream, _)| *stream);
        &mut streams[known.expect("a member's stream is in its group")].1[place]
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
        let members =
            self.groups.iter().flatten().flat_map(|group| &group.streams).flat_map(|(_, members)| members);
        members.map(|member| member.watcher).collect()
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
            Some(Group { span: span.clone(), streams: Vec::new(), variants: [0; Variant::COUNT] });
        match span {
            Span::Key(key) => {
                self.exact.insert(key.clone(), at);
            }
            Span::Range(start, end) => self.ranges.insert(start.clone(), end.clone(), at),
        }
        at
    }
}
