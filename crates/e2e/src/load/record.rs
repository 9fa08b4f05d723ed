//! What a load remembers, and the judgement of it.

use std::collections::{BTreeMap, BTreeSet};

use api::etcdserverpb as pb;

use super::keeper::Kept;
use super::watching::Seen;
use super::{ALL, CALLED, END, messages};
use crate::linear::{self, Call, Event, Violation};
use crate::{Cluster, Member, Watcher, eventually, put, revision};

/// All that the clients, watchers and keepers of a load remember.
#[derive(Debug)]
pub struct Record {
    calls: Vec<Call>,
    seen: Vec<Seen>,
    kept: Vec<Kept>,
    last: i64,
}

/// What a cluster did that it must never do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The answers are not those of one store.
    #[error("not linearizable: {0}")]
    Linear(#[from] Violation),
    /// Two members have different histories.
    #[error("the histories of the first member that runs and of member {member} differ: {difference:?}")]
    Histories {
        /// The other member's number.
        member: usize,
        /// Where.
        difference: Box<Difference>,
    },
    /// Two members have different hashes of their histories.
    #[error("the members' hashes of their histories differ: {hashes:?}")]
    Hashes {
        /// What each member that runs has.
        hashes: BTreeMap<usize, u32>,
    },
    /// A watcher was not told exactly what happened.
    #[error("watcher {name} was not told what happened: {difference:?}")]
    Watch {
        /// The watcher.
        name: String,
        /// Where what it was told first differs from what happened.
        difference: Box<Difference>,
    },
    /// The events of one revision came in two answers.
    #[error("watcher {name} was told of revision {revision} by halves")]
    Halves {
        /// The watcher.
        name: String,
        /// The revision.
        revision: i64,
    },
    /// A lease ended before the time that was promised.
    #[error("the lease of {key} ended at least {early_ms} ms early")]
    Lease {
        /// The key on it.
        key: String,
        /// By how much, at least.
        early_ms: u64,
    },
}

/// Where two histories part.
#[derive(Debug)]
pub struct Difference {
    /// How many events are the same.
    pub same: usize,
    /// What the one has then.
    pub one: Option<Event>,
    /// What the other has.
    pub other: Option<Event>,
}

impl Record {
    pub(super) fn new(calls: Vec<Call>, seen: Vec<Seen>, kept: Vec<Vec<Kept>>, last: i64) -> Self {
        Self { calls, seen, kept: kept.into_iter().flatten().collect(), last }
    }

    /// How many calls were answered, of how many.
    pub fn answered(&self) -> (usize, usize) {
        (self.calls.iter().filter(|call| call.returned.is_some()).count(), self.calls.len())
    }

    /// How many streams the watchers took.
    pub fn streams(&self) -> usize {
        self.seen.iter().map(|seen| seen.streams).sum()
    }

    /// The same, and a panic if the cluster failed.
    ///
    /// # Panics
    /// When it failed.
    pub async fn holds(&self, cluster: &Cluster) {
        if let Err(failure) = self.check(cluster).await {
            panic!("{failure}");
        }
    }

    /// Judges the cluster, of which all members must run.
    ///
    /// # Errors
    /// The first failure found.
    pub async fn check(&self, cluster: &Cluster) -> Result<(), Failure> {
        let mut history = self.common_history(cluster).await?;
        self.common_hash(cluster).await?;
        history.retain(|event| event.key.starts_with(ALL));
        for seen in &self.seen {
            told_everything(seen, &history)?;
        }
        self.leases_last()?;
        history.retain(|event| event.key.starts_with(CALLED));
        let deliveries = self.seen.iter().flat_map(|seen| &seen.deliveries);
        let told: Vec<_> =
            deliveries.filter_map(|delivery| Some((delivery.at, delivery.events.last()?.revision))).collect();
        linear::check(&self.calls, &history, &told)?;
        Ok(())
    }

    /// No lease ended before it was due. When it ended is not known, but by when: the keeper or a watcher was told.
    fn leases_last(&self) -> Result<(), Failure> {
        for kept in &self.kept {
            let deliveries = self.seen.iter().flat_map(|seen| &seen.deliveries);
            let ends = |event: &Event| event.key == kept.key && event.found.is_none();
            let watched = deliveries.filter(|delivery| delivery.events.iter().any(ends)).map(|end| end.at);
            if let Some(ended) = watched.chain(kept.gone).min()
                && ended < kept.promised
            {
                let early_ms = (kept.promised - ended) / 1_000_000;
                return Err(Failure::Lease { key: kept.key.clone(), early_ms });
            }
        }
        Ok(())
    }

    /// The history that all members have.
    async fn common_history(&self, cluster: &Cluster) -> Result<Vec<Event>, Failure> {
        let mut first: Option<Vec<Event>> = None;
        for member in cluster.running() {
            let history = history(&cluster[member], self.last).await;
            match &first {
                None => first = Some(history),
                Some(first) => {
                    if let Some(difference) = difference(first, &history) {
                        return Err(Failure::Histories { member, difference });
                    }
                }
            }
        }
        Ok(first.unwrap_or_default())
    }

    /// All members have the same hash of everything up to the last revision, which they have reached.
    async fn common_hash(&self, cluster: &Cluster) -> Result<(), Failure> {
        let mut hashes = BTreeMap::new();
        for member in cluster.running() {
            let request = pb::HashKvRequest { revision: self.last };
            let hash = eventually("a hash", async || {
                let answer = cluster[member].maintenance().hash_kv(request).await;
                answer.ok().map(|answer| answer.into_inner().hash)
            });
            hashes.insert(member, hash.await);
        }
        let distinct: BTreeSet<&u32> = hashes.values().collect();
        if distinct.len() > 1 { Err(Failure::Hashes { hashes }) } else { Ok(()) }
    }
}

/// Writes the last event of the history and returns its revision.
pub(super) async fn end_of_history(cluster: &Cluster) -> i64 {
    let written = eventually("a last write", async || {
        let member = *cluster.running().first()?;
        cluster[member].kv().put(put(END, "end")).await.ok()
    });
    revision(written.await.into_inner().header.as_ref())
}

/// Everything that happened on a member up to a revision.
async fn history(member: &Member, last: i64) -> Vec<Event> {
    let all = pb::WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision: 1,
        ..Default::default()
    };
    let (mut watcher, _) = Watcher::open(member, all).await;
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|event| event.revision < last) {
        let response = watcher.next().await;
        assert!(!response.canceled, "{response:?}");
        events.extend(response.events.iter().map(messages::event));
    }
    events.retain(|event| event.revision <= last);
    events
}

fn difference(one: &[Event], other: &[Event]) -> Option<Box<Difference>> {
    let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let (one, other) = (one.get(same).cloned(), other.get(same).cloned());
    (one.is_some() || other.is_some()).then(|| Box::new(Difference { same, one, other }))
}

/// Every event once, in order, and those of one revision together.
fn told_everything(seen: &Seen, history: &[Event]) -> Result<(), Failure> {
    let told: Vec<Event> = seen.deliveries.iter().flat_map(|delivery| delivery.events.clone()).collect();
    if let Some(difference) = difference(&told, history) {
        return Err(Failure::Watch { name: seen.name.clone(), difference });
    }
    let mut revisions = BTreeSet::new();
    for delivery in &seen.deliveries {
        let here: BTreeSet<i64> = delivery.events.iter().map(|event| event.revision).collect();
        if let Some(revision) = here.intersection(&revisions).next() {
            return Err(Failure::Halves { name: seen.name.clone(), revision: *revision });
        }
        revisions.extend(here);
    }
    Ok(())
}
