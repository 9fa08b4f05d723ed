//! A commit on its way to the synced watchers.

use mvcc::{Changes, Commit, Reader};

use crate::batch::{Batch, Body};
use crate::group::{Group, Member};
use crate::hub::Hub;
use crate::outbox::Outbox;
use crate::stream::Stream;
use crate::watcher::Variant;
use crate::{Result, wire};

impl Hub {
    /// Delivers a commit to all synced watchers that it concerns: one response per watcher and revision. Revisions that the
    /// hub knows already (from a reader that was ahead when the hub was made or reset) are passed over.
    ///
    /// # Errors
    /// A previous value could not be read.
    ///
    /// # Panics
    /// If the commit leaves out a revision: watchers would miss events.
    pub fn publish(&mut self, commit: &Commit, raft_term: u64) -> Result<()> {
        self.raft_term = raft_term;
        for changes in &commit.changes {
            if changes.main <= self.revision {
                continue;
            }
            assert_eq!(changes.main, self.revision + 1, "every revision is published, in order");
            self.revision = changes.main;
            if !self.groups.is_empty() {
                self.fan_out(changes)?;
            }
        }
        self.answer_delayed_progress();
        self.flush();
        Ok(())
    }

    fn fan_out(&mut self, changes: &Changes) -> Result<()> {
        let mut matches = std::mem::take(&mut self.matches);
        for (at, change) in changes.changes.iter().enumerate() {
            self.groups.matching(&change.key, |group| matches.push((group, at)));
        }
        if changes.changes.len() > 1 {
            matches.sort_unstable();
        }
        if !matches.is_empty() {
            self.deliver(changes, &matches)?;
        }
        matches.clear();
        self.matches = matches;
        Ok(())
    }

    /// Delivers one revision. `matches` are pairs of a group and an event, sorted.
    fn deliver(&mut self, changes: &Changes, matches: &[(usize, usize)]) -> Result<()> {
        let mut batch = Batch::new(std::slice::from_ref(changes));
        let mut header = Vec::with_capacity(48);
        wire::header(&mut header, self.options.identity, changes.main, self.raft_term);
        let mut behind = Vec::new();
        for events in matches.chunk_by(|a, b| a.0 == b.0) {
            let group = self.groups.get_mut(events[0].0);
            load_previous(&mut batch, group, events, &self.reader)?;
            let limit = self.options.fragment_bytes;
            let delivery = Delivery::new(&batch, group, events, &header, changes.main, limit);
            for (at, members) in &mut group.streams {
                let stream = Stream::at(&mut self.streams, *at);
                let delivered = delivery.push(&*stream.outbox, members, &mut behind);
                if delivered > 0 {
                    self.delivered += delivered;
                    stream.touch(*at, &mut self.touched);
                }
            }
        }
        for watcher in behind {
            self.unsync(watcher, changes.main);
        }
        Ok(())
    }

    /// Takes a watcher out of the live ones: it will be sent history from `next` on, once its stream has room.
    fn unsync(&mut self, watcher: usize, next: i64) {
        self.leave_group(watcher);
        self.wait_for_room(watcher, next);
    }
}

impl Group {
    /// The variants that some member wants.
    fn wanted(&self) -> impl Iterator<Item = Variant> + use<> {
        let counts = self.variants;
        Variant::all().filter(move |variant| counts[variant.index()] > 0)
    }
}

/// Loads the previous values that some member of the group wants to see.
fn load_previous(
    batch: &mut Batch<'_>,
    group: &Group,
    events: &[(usize, usize)],
    reader: &Reader,
) -> Result<()> {
    for variant in group.wanted().filter(|variant| variant.wants_prev_kv()) {
        for (_, event) in events {
            if variant.passes(batch.is_delete(*event)) {
                batch.load_prev(*event, reader)?;
            }
        }
    }
    Ok(())
}

/// One revision on its way to one group.
struct Delivery<'a> {
    batch: &'a Batch<'a>,
    events: &'a [(usize, usize)],
    header: &'a [u8],
    revision: i64,
    fragment_bytes: usize,
    /// What members of each variant get.
    bodies: [Option<Body<'a>>; Variant::COUNT],
}

impl<'a> Delivery<'a> {
    fn new(
        batch: &'a Batch<'a>,
        group: &Group,
        events: &'a [(usize, usize)],
        header: &'a [u8],
        revision: i64,
        fragment_bytes: usize,
    ) -> Self {
        let mut bodies: [Option<Body<'_>>; Variant::COUNT] = Default::default();
        for variant in group.wanted() {
            bodies[variant.index()] = batch.body(events, variant);
        }
        Self { batch, events, header, revision, fragment_bytes, bodies }
    }

    /// Delivers to the members of one stream, noting those for whom there is no room. Returns the number of events sent.
    fn push(&self, outbox: &dyn Outbox, members: &mut [Member], behind: &mut Vec<usize>) -> u64 {
        let mut delivered = 0;
        for member in members {
            let Some(body) = &self.bodies[member.variant.index()] else { continue };
            if self.revision < member.from {
                continue;
            }
            if !outbox.has_room() {
                behind.push(member.watcher);
                continue;
            }
            member.active = true;
            delivered += body.events as u64;
            let prefix = [self.header, member.id_field.as_slice()];
            if member.fragment && self.is_too_large(body, prefix) {
                let events = self.passing(member.variant);
                self.batch.push_fragments(outbox, prefix, (&events, member.variant), self.fragment_bytes);
            } else {
                outbox.push(&[prefix[0], prefix[1], &body.bytes]);
            }
        }
        delivered
    }

    fn is_too_large(&self, body: &Body<'_>, prefix: [&[u8]; 2]) -> bool {
        body.events > 1 && prefix[0].len() + prefix[1].len() + body.bytes.len() >= self.fragment_bytes
    }

    fn passing(&self, variant: Variant) -> Vec<usize> {
        let events = self.events.iter().map(|(_, event)| *event);
        events.filter(|event| variant.passes(self.batch.is_delete(*event))).collect()
    }
}
