//! The events of one revision, or of a stretch of history, each encoded once for everybody.
//!
//! All plain events lie one after the other in one buffer, so what a watcher of a whole prefix gets is a single slice of it.
//! Events with their previous value are made when the first watcher asks for them, and lie in a second buffer.

use std::borrow::Cow;

use mvcc::{Change, ChangeKind, Changes, Reader};

use crate::outbox::Outbox;
use crate::watcher::Variant;
use crate::{Result, wire};

/// Encoded events, in order.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    events: Vec<Event<'a>>,
    plain: Vec<u8>,
    with_prev: Vec<u8>,
}

#[derive(Debug)]
struct Event<'a> {
    change: &'a Change,
    revision: i64,
    is_delete: bool,
    plain: Place,
    /// `None` until somebody asks.
    with_prev: Option<Place>,
}

/// Where an event's bytes are.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Whether in the buffer of events with previous values.
    second: bool,
    start: usize,
    end: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(history: &'a [Changes]) -> Self {
        let changes = || history.iter().flat_map(|r| r.changes.iter().map(|change| (r.main, change)));
        let bytes = changes().map(|(_, change)| change.kv.len() + 16).sum();
        let mut batch = Self {
            events: Vec::with_capacity(history.iter().map(|r| r.changes.len()).sum()),
            plain: Vec::with_capacity(bytes),
            with_prev: Vec::new(),
        };
        for (revision, change) in changes() {
            let start = batch.plain.len();
            let is_delete = change.kind == ChangeKind::Delete;
            wire::event(&mut batch.plain, is_delete, &change.kv, None);
            let plain = Place { second: false, start, end: batch.plain.len() };
            batch.events.push(Event { change, revision, is_delete, plain, with_prev: None });
        }
        batch
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn key(&self, event: usize) -> &'a [u8] {
        &self.events[event].change.key
    }

    pub(crate) fn revision(&self, event: usize) -> i64 {
        self.events[event].revision
    }

    pub(crate) fn is_delete(&self, event: usize) -> bool {
        self.events[event].is_delete
    }

    /// Makes the event's bytes with its previous value, unless they are there already.
    ///
    /// There is no previous value if the event began the key's life, nor if the revision before the event's has been
    /// compacted (even if the record happens to be on disk still).
    pub(crate) fn load_prev(&mut self, event: usize, reader: &Reader) -> Result<()> {
        let Event { change, revision, is_delete, plain, with_prev } = &mut self.events[event];
        if with_prev.is_some() {
            return Ok(());
        }
        let created = !*is_delete && change.create_revision == *revision;
        let prev = match change.previous {
            Some(previous) if !created && *revision > reader.compact_revision() => reader.record(previous)?,
            _ => None,
        };
        *with_prev = Some(match prev {
            None => *plain,
            Some(prev) => {
                let start = self.with_prev.len();
                wire::event(&mut self.with_prev, *is_delete, &change.kv, Some(&prev));
                Place { second: true, start, end: self.with_prev.len() }
            }
        });
        Ok(())
    }

    /// The bytes of these events for a variant, as few slices as possible. Previous values must have been loaded.
    pub(crate) fn pieces<'b>(
        &'b self,
        events: impl Iterator<Item = usize>,
        variant: Variant,
        out: &mut Vec<&'b [u8]>,
    ) {
        let mut open: Option<Place> = None;
        for event in events {
            let place = self.place(event, variant);
            match &mut open {
                Some(open) if open.second == place.second && open.end == place.start => open.end = place.end,
                _ => out.extend(open.replace(place).map(|done| self.slice(done))),
            }
        }
        out.extend(open.map(|done| self.slice(done)));
    }

    /// The same in one slice, copied together only where need be; with the number of events. `None` when there are none.
    pub(crate) fn body(&self, events: &[(usize, usize)], variant: Variant) -> Option<Body<'_>> {
        let passing = || {
            let events = events.iter().map(|(_, event)| *event);
            events.filter(|event| variant.passes(self.is_delete(*event)))
        };
        let mut pieces = Vec::new();
        self.pieces(passing(), variant, &mut pieces);
        let bytes = match pieces[..] {
            [] => return None,
            [piece] => Cow::Borrowed(piece),
            _ => Cow::Owned(pieces.concat()),
        };
        Some(Body { bytes, events: passing().count() })
    }

    fn place(&self, event: usize, variant: Variant) -> Place {
        let event = &self.events[event];
        if variant.wants_prev_kv() { event.with_prev.expect("loaded before it is sent") } else { event.plain }
    }

    fn slice(&self, place: Place) -> &[u8] {
        let buffer = if place.second { &self.with_prev } else { &self.plain };
        &buffer[place.start..place.end]
    }

    /// Sends events as one response in several pieces of less than `limit` bytes, or of a single event: each piece repeats
    /// the prefix, and all but the last say that more is to come.
    pub(crate) fn push_fragments(
        &self,
        outbox: &dyn Outbox,
        [header, id]: [&[u8]; 2],
        (events, variant): (&[usize], Variant),
        limit: usize,
    ) {
        let empty = header.len() + id.len() + wire::FRAGMENT.len();
        let mut rest = events;
        while !rest.is_empty() {
            let mut size = empty;
            let mut fits = |event: &usize| {
                let place = self.place(*event, variant);
                size += place.end - place.start;
                size < limit
            };
            let count = rest.iter().take_while(|event| fits(event)).count().max(1);
            let (now, later) = rest.split_at(count);
            let mut response = vec![header, id, if later.is_empty() { &[] } else { wire::FRAGMENT }];
            self.pieces(now.iter().copied(), variant, &mut response);
            outbox.push(&response);
            rest = later;
        }
    }
}

/// The event bytes that all members of a group share.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    pub(crate) bytes: Cow<'a, [u8]>,
    pub(crate) events: usize,
}
