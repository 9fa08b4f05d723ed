//! Auto-compaction: what `--auto-compaction-mode` and `--auto-compaction-retention` ask for.
//!
//! The rules are etcd's (`server/etcdserver/api/v3compactor`). By revision: every five minutes everything but the last so many
//! revisions goes. Periodic: the revision is noted ten times an hour, more often if the period is shorter, and once an hour, or
//! once a period if that is shorter, everything goes that is older than the oldest note; notes are kept for one period.
//!
//! Every member notes, and the one that leads compacts. [`Schedule`] is told the time and the revision, so it is all there is to test.
//!
//! ```text
//! period 24h     0h        1h        2h   ...   24h        25h
//! notes          ||||||||||||||||||||||   ...   ||||||||||||||||||
//! compacts                                      to 0h      to 54min
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::CompactionRequest;
use api::status;
use raftlog::Node;

use crate::config::Retention;
use crate::member::Shared;
use crate::proposal::Command;

/// How often a compaction by revision is looked at.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Longest pause between two periodic compactions.
const PERIODIC_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// Notes taken in one such pause.
const NOTES: u32 = 10;

/// When to compact, and to which revision.
#[derive(Debug)]
pub(crate) enum Schedule {
    Periodic(Periodic),
    Revision(ByRevision),
}

impl Schedule {
    /// A schedule that begins at `now`, when the store is at `revision`.
    pub(crate) fn new(retention: Retention, now: Duration, revision: i64) -> Self {
        match retention {
            Retention::Period(period) => Self::Periodic(Periodic {
                period,
                notes: VecDeque::from([revision]),
                last: 0,
                since: now,
                pause: period,
            }),
            Retention::Revisions(keep) => Self::Revision(ByRevision { keep, last: 0 }),
        }
    }

    /// The time from one [look](Self::look) to the next.
    pub(crate) fn interval(&self) -> Duration {
        match self {
            Self::Periodic(periodic) => periodic.interval(),
            Self::Revision(_) => REVISION_INTERVAL,
        }
    }

    /// Notes the revision, and returns the one to compact to, if it is time for that and this member leads.
    pub(crate) fn look(&mut self, now: Duration, revision: i64, leads: bool) -> Option<i64> {
        match self {
            Self::Periodic(periodic) => periodic.look(now, revision, leads),
            Self::Revision(by_revision) => by_revision.look(revision, leads),
        }
    }

    /// The compaction to `revision` has taken place. One that failed is due again at the next look.
    pub(crate) fn done(&mut self, now: Duration, revision: i64) {
        match self {
            Self::Periodic(periodic) => periodic.done(now, revision),
            Self::Revision(by_revision) => by_revision.last = revision,
        }
    }
}

/// See [`Schedule`].
#[derive(Debug)]
pub(crate) struct Periodic {
    period: Duration,
    /// Revisions at the last looks, the oldest first.
    notes: VecDeque<i64>,
    /// What was compacted to last.
    last: i64,
    /// When that was; before the first time, when the schedule began.
    since: Duration,
    /// How long after `since` the next is due: a period at first.
    pause: Duration,
}

impl Periodic {
    fn pause_between(&self) -> Duration {
        self.period.min(PERIODIC_INTERVAL_MAX)
    }

    fn interval(&self) -> Duration {
        self.pause_between() / NOTES
    }

    fn notes_max(&self) -> usize {
        let notes = self.period.as_nanos() / self.interval().as_nanos().max(1);
        usize::try_from(notes).unwrap_or(usize::MAX).saturating_add(1)
    }

    fn look(&mut self, now: Duration, revision: i64, leads: bool) -> Option<i64> {
        let oldest = self.notes.front().copied().unwrap_or(revision);
        let due = leads && now.saturating_sub(self.since) >= self.pause && oldest != self.last;
        self.notes.push_back(revision);
        if self.notes.len() > self.notes_max() {
            self.notes.pop_front();
        }
        if due {
            self.pause = self.pause_between();
        }
        due.then_some(oldest)
    }

    fn done(&mut self, now: Duration, revision: i64) {
        self.last = revision;
        self.since = now;
    }
}

/// See [`Schedule`].
#[derive(Debug)]
pub(crate) struct ByRevision {
    keep: i64,
    /// What was compacted to last.
    last: i64,
}

impl ByRevision {
    fn look(&self, revision: i64, leads: bool) -> Option<i64> {
        let to = revision.saturating_sub(self.keep);
        (leads && to > 0 && to != self.last).then_some(to)
    }
}

/// Compacts by schedule for as long as the member runs.
pub(crate) async fn run(shared: Arc<Shared>, node: Node, retention: Retention) {
    let clock = shared.clock;
    let mut schedule = Schedule::new(retention, clock.now(), shared.reader.revision());
    loop {
        tokio::time::sleep(schedule.interval()).await;
        let leads = node.leadership().borrow().is_leader;
        if let Some(revision) = schedule.look(clock.now(), shared.reader.revision(), leads) {
            compact(&shared, &mut schedule, retention, revision).await;
        }
    }
}

/// What the log says of a compaction, with etcd's fields for its kind.
macro_rules! say {
    ($level:ident, $retention:expr, $what:literal, $($fields:tt)*) => {
        match $retention {
            Retention::Period(period) => {
                tracing::$level!($($fields)*, compact_period = ?period, concat!($what, " auto periodic compaction"));
            }
            Retention::Revisions(keep) => tracing::$level!(
                $($fields)*,
                revision_compaction_retention = keep,
                concat!($what, " auto revision compaction")
            ),
        }
    };
}

async fn compact(shared: &Arc<Shared>, schedule: &mut Schedule, retention: Retention, revision: i64) {
    let began = shared.clock.now();
    say!(info, retention, "starting", revision);
    let request = CompactionRequest { revision, physical: false };
    match shared.proposals.propose(Command::compaction(&request)).await {
        // Somebody else may have compacted as far, which is as good.
        Ok(_) | Err(status::COMPACTED) => {
            let now = shared.clock.now();
            schedule.done(now, revision);
            say!(info, retention, "completed", revision, took = ?now.saturating_sub(began));
        }
        Err(refusal) => {
            let error = refusal.text();
            say!(warn, retention, "failed", revision, retry_interval = ?schedule.interval(), error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    /// A world whose revision is 1 at the start and grows by `growth` from look to look.
    struct World {
        schedule: Schedule,
        now: Duration,
        revision: i64,
        growth: i64,
        leads: bool,
    }

    impl World {
        fn new(retention: Retention, growth: i64) -> Self {
            let schedule = Schedule::new(retention, Duration::ZERO, 1);
            Self { schedule, now: Duration::ZERO, revision: 1, growth, leads: true }
        }

        fn look(&mut self) -> Option<i64> {
            self.now += self.schedule.interval();
            self.revision += self.growth;
            self.schedule.look(self.now, self.revision, self.leads)
        }

        /// Every compaction in the next `looks`, as the minute at which it took place and the revision.
        fn run(&mut self, looks: usize) -> Vec<(u64, i64)> {
            let mut compacted = Vec::new();
            for _ in 0..looks {
                if let Some(revision) = self.look() {
                    compacted.push((self.now.as_secs() / 60, revision));
                    self.schedule.done(self.now, revision);
                }
            }
            compacted
        }
    }

    #[test]
    fn each_retention_compacts_when_and_to_what_etcd_does() {
        use Retention::{Period, Revisions};
        // Retention, growth of the revision from look to look, looks, and (minute, revision) of what must happen.
        type Row<'a> = (Retention, i64, usize, &'a [(u64, i64)]);
        let rows: [Row<'_>; 9] = [
            // Looks every 6 minutes; the first compaction is after a period, the others hourly.
            (Period(24 * HOUR), 1, 239, &[]),
            (Period(24 * HOUR), 1, 260, &[(1440, 1), (1500, 10), (1560, 20)]),
            (Period(2 * HOUR), 1, 40, &[(120, 1), (180, 10), (240, 20)]),
            (Period(HOUR), 1, 30, &[(60, 1), (120, 10), (180, 20)]),
            // Below an hour everything is in proportion: looks every half minute.
            (Period(5 * MINUTE), 1, 30, &[(5, 1), (10, 10), (15, 20)]),
            // Nothing is compacted twice.
            (Period(HOUR), 0, 40, &[(60, 1)]),
            // Looks every five minutes, at revision 1 + 100 for each.
            (Revisions(250), 100, 4, &[(15, 51), (20, 151)]),
            (Revisions(1000), 100, 9, &[]),
            (Revisions(10), 0, 100, &[]),
        ];
        for (retention, growth, looks, expected) in rows {
            assert_eq!(World::new(retention, growth).run(looks), expected, "{retention:?}, {looks} looks");
        }
    }

    #[test]
    fn only_a_leader_compacts_and_a_new_one_knows_the_past() {
        let mut world = World::new(Retention::Period(2 * HOUR), 1);
        world.leads = false;
        assert_eq!(world.run(95), []);
        world.leads = true;
        // At once, and to what was current two hours ago: it has noted that while it followed.
        assert_eq!(world.run(15), [(96 * 6, 96 - 20), (106 * 6, 106 - 20)]);

        let mut world = World::new(Retention::Revisions(1), 1);
        world.leads = false;
        assert_eq!(world.run(3), []);
        world.leads = true;
        assert_eq!(world.run(1), [(20, 4)]);
    }

    #[test]
    fn what_failed_is_tried_at_the_next_look() {
        let mut world = World::new(Retention::Period(HOUR), 1);
        assert_eq!(world.run(9), []);
        assert_eq!(world.look(), Some(1));
        assert_eq!(world.look(), Some(1), "it was not done");
        assert_eq!(world.look(), Some(2), "the oldest note is of an hour ago again");
        world.schedule.done(world.now, 2);
        assert_eq!(world.run(10), [(132, 12)]);
    }
}
