//! A commit on its way to the synced watchers.

use mvcc::{Changes, Commit};

use crate::batch::{Batch, Body};
use crate::group::Group;
use crate::hub::Hub;
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
            for variant in group.wanted().filter(|variant| variant.wants_prev_kv()) {
                for (_, event) in events {
                    if variant.passes(batch.is_delete(*event)) {
                        batch.load_prev(*event, &self.reader)?;
                    }
                }
            }
            let mut bodies: [Option<Body<'_>>; Variant::COUNT] = Default::default();
            for variant in group.wanted() {
                bodies[variant.index()] = batch.body(events, variant);
            }
            let limit = self.options.fragment_bytes;
            for member in &mut group.members {
                let Some(body) = &bodies[member.variant.index()] else { continue };
                if changes.main < member.from {
                    continue;
                }
                let stream = Stream::at(&mut self.streams, member.stream);
                if !stream.outbox.has_room() {
                    behind.push(member.watcher);
                    continue;
                }
                stream.touch(member.stream, &mut self.touched);
                member.active = true;
                self.delivered += body.events as u64;
                let id = member.id_field;
                let prefix = [&header[..], id.as_slice()];
                if member.fragment && body.is_too_large(prefix, limit) {
                    let events: Vec<usize> = passing(&batch, events, member.variant);
                    batch.push_fragments(&*stream.outbox, prefix, (&events, member.variant), limit);
                } else {
                    stream.outbox.push(&[prefix[0], prefix[1], &body.bytes]);
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

fn passing(batch: &Batch<'_>, events: &[(usize, usize)], variant: Variant) -> Vec<usize> {
    events.iter().map(|(_, event)| *event).filter(|event| variant.passes(batch.is_delete(*event))).collect()
}

impl Body<'_> {
    fn is_too_large(&self, prefix: [&[u8]; 2], limit: usize) -> bool {
        self.events > 1 && prefix[0].len() + prefix[1].len() + self.bytes.len() >= limit
    }
}
