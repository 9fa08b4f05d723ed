//! Whether the answers that clients got could have come from one store that did one thing after the other, each at
//! some moment between its call and its return.
//!
//! In general that is a search for an order, which grows beyond all bounds with the number of calls in flight and of
//! those whose fate is unknown; the crates that exist for it search. Here there is nothing to search: every answer of
//! etcd carries the store's revision, and the store's own history (a watch from the first revision on, which keeps
//! every event) says what each revision did. So the order is given, and it is checked in one pass over it:
//!
//! - each revision was made by exactly one call, which does to the store what the history says;
//! - each acknowledged write has its revision, and its answer is what the store as it was would have answered;
//! - each read answers what the store was at the revision that it carries;
//! - time is kept: what was called after something had returned has no older revision, and a write has a newer one;
//! - the fate of a call that did not return is free, but it happens at most once, and not before it was called.
//!
//! Values are never written twice, so that a revision tells which call made it; deletes that did not return stand in
//! for one another. Revisions that the history does not mention belong to keys that are not looked at.

mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use model::{Answer, Condition, Event, Found, Outcome, Request, Step, Store};

/// A moment, in nanoseconds since the history began.
pub type Moment = u64;

/// A call of a client.
#[derive(Debug, Clone)]
pub struct Call {
    /// Whose, for messages only.
    pub client: String,
    /// When it was sent.
    pub called: Moment,
    /// What was asked for.
    pub request: Request,
    /// Whether an answer from the past will do.
    pub serializable: bool,
    /// What came back, if anything did.
    pub returned: Option<Return>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    /// When.
    pub at: Moment,
    /// The store's revision, from the answer's header.
    pub revision: i64,
    /// The answer.
    pub answer: Answer,
}

/// Why no store that does one thing after the other gives these answers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Two calls were told that they made the same revision.
    #[error("two writes made revision {revision}:\n{one:?}\n{other:?}")]
    OneRevisionTwice {
        /// The revision.
        revision: i64,
        /// One of the calls.
        one: Box<Call>,
        /// The other.
        other: Box<Call>,
    },
    /// A write was acknowledged, and the history knows nothing of it.
    #[error("a write was lost: nothing happened at the revision of {call:?}")]
    Lost {
        /// The write.
        call: Box<Call>,
    },
    /// A write was acknowledged, and the history has something else at its revision.
    #[error("{call:?} should have done {expected:?}, and the history has {happened:?}")]
    OtherEvents {
        /// The write.
        call: Box<Call>,
        /// What it does to the store as it was.
        expected: Vec<Event>,
        /// What the history has.
        happened: Vec<Event>,
    },
    /// The store as it was answers otherwise.
    #[error("{call:?} should have been answered {expected:?}")]
    WrongAnswer {
        /// The call.
        call: Box<Call>,
        /// The answer at its revision.
        expected: Answer,
    },
    /// A call saw, or made, a revision that is older than one seen before it was called.
    #[error("revision {seen} had been seen before {call:?}")]
    Stale {
        /// The call.
        call: Box<Call>,
        /// What had been seen.
        seen: i64,
    },
    /// Nobody's call explains a revision.
    #[error("no call explains {events:?}")]
    Unexplained {
        /// What happened.
        events: Vec<Event>,
    },
    /// The history is out of order, or tells of a key what cannot be.
    #[error("the history cannot be: {event:?}")]
    BrokenHistory {
        /// Where.
        event: Event,
    },
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        (&self.client, self.called, &self.request) == (&other.client, other.called, &other.request)
    }
}

/// Checks calls against the history of the keys that they are about.
///
/// `seen` are moments at which somebody else, as a watcher, was told of a revision.
///
/// # Errors
/// The first thing found that cannot be.
pub fn check(calls: &[Call], history: &[Event], seen: &[(Moment, i64)]) -> Result<(), Violation> {
    let revisions = by_revision(history)?;
    keeps_time(calls, seen)?;
    let mut writers = writers(calls)?;
    for (revision, writer) in &writers {
        if !revisions.contains_key(revision) {
            return Err(Violation::Lost { call: Box::new((*writer).clone()) });
        }
    }
    let mut readers = readers(calls);
    let mut lost = Unreturned::new(calls, seen);
    let mut store = Store::default();
    for (revision, events) in &revisions {
        // What carries an older revision saw the store as it was before this one.
        let later = readers.split_off(revision);
        for call in std::mem::replace(&mut readers, later).into_values().flatten() {
            answers(call, &store)?;
        }
        match writers.remove(revision) {
            Some(call) => writes(call, &mut store, events)?,
            None => lost.explain(&mut store, *revision, events)?,
        }
    }
    for call in readers.into_values().flatten() {
        answers(call, &store)?;
    }
    Ok(())
}

fn by_revision(history: &[Event]) -> Result<BTreeMap<i64, Vec<Event>>, Violation> {
    let mut revisions: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    let mut last = 0;
    for event in history {
        let written = event.found.as_ref().map_or(event.revision, |found| found.mod_revision);
        if event.revision < last || written != event.revision {
            return Err(Violation::BrokenHistory { event: event.clone() });
        }
        last = event.revision;
        revisions.entry(event.revision).or_default().push(event.clone());
    }
    Ok(revisions)
}

/// The writes that were acknowledged, by the revisions they made.
fn writers(calls: &[Call]) -> Result<BTreeMap<i64, &Call>, Violation> {
    let mut writers = BTreeMap::new();
    for (call, returned) in calls.iter().filter_map(|call| Some((call, call.returned.as_ref()?))) {
        if !returned.answer.wrote() {
            continue;
        }
        if let Some(other) = writers.insert(returned.revision, call) {
            return Err(Violation::OneRevisionTwice {
                revision: returned.revision,
                one: Box::new(other.clone()),
                other: Box::new(call.clone()),
            });
        }
    }
    Ok(writers)
}

/// The calls that were answered and wrote nothing, by the revision they saw.
fn readers(calls: &[Call]) -> BTreeMap<i64, Vec<&Call>> {
    let mut readers: BTreeMap<i64, Vec<&Call>> = BTreeMap::new();
    for (call, returned) in calls.iter().filter_map(|call| Some((call, call.returned.as_ref()?))) {
        if !returned.answer.wrote() {
            readers.entry(returned.revision).or_default().push(call);
        }
    }
    readers
}

/// Checks what a call that wrote nothing was told of the store at its revision.
fn answers(call: &Call, store: &Store) -> Result<(), Violation> {
    let Some(returned) = &call.returned else { return Ok(()) };
    let (expected, _) = store.clone().run(&call.request, returned.revision);
    if expected != returned.answer {
        return Err(Violation::WrongAnswer { call: Box::new(call.clone()), expected });
    }
    Ok(())
}

/// Checks what an acknowledged write was told, and did to the store before it.
fn writes(call: &Call, store: &mut Store, happened: &[Event]) -> Result<(), Violation> {
    let Some(returned) = &call.returned else { return Ok(()) };
    let (expected, events) = store.run(&call.request, returned.revision);
    if expected != returned.answer {
        return Err(Violation::WrongAnswer { call: Box::new(call.clone()), expected });
    }
    if events != happened {
        let (call, happened) = (Box::new(call.clone()), happened.to_vec());
        return Err(Violation::OtherEvents { call, expected: events, happened });
    }
    Ok(())
}

/// Checks that nobody was told of an older revision than somebody before the call.
fn keeps_time(calls: &[Call], seen: &[(Moment, i64)]) -> Result<(), Violation> {
    let known = Known::new(calls, seen);
    for (call, returned) in calls.iter().filter_map(|call| Some((call, call.returned.as_ref()?))) {
        let seen = known.before(call.called);
        // What makes a revision makes a new one.
        let oldest = if returned.answer.wrote() { seen + 1 } else { seen };
        if !call.serializable && returned.revision < oldest {
            return Err(Violation::Stale { call: Box::new(call.clone()), seen });
        }
    }
    Ok(())
}

/// What the newest revision was that anybody had been told of, at each moment.
struct Known {
    /// Both grow.
    steps: Vec<(Moment, i64)>,
}

impl Known {
    fn new(calls: &[Call], seen: &[(Moment, i64)]) -> Self {
        let returned = calls.iter().filter_map(|call| call.returned.as_ref());
        let mut steps: Vec<_> = returned.map(|returned| (returned.at, returned.revision)).collect();
        steps.extend_from_slice(seen);
        steps.sort_unstable();
        let mut newest = 0;
        for (_, revision) in &mut steps {
            newest = newest.max(*revision);
            *revision = newest;
        }
        Self { steps }
    }

    fn before(&self, moment: Moment) -> i64 {
        let earlier = self.steps.partition_point(|(at, _)| *at < moment);
        earlier.checked_sub(1).map_or(0, |last| self.steps[last].1)
    }
}

/// The calls that did not return, to be found by what they would do.
struct Unreturned<'a> {
    /// By the values that they may put.
    puts: BTreeMap<&'a str, Candidate<'a>>,
    /// Deletes by key; one is as good as another.
    deletes: BTreeMap<&'a str, Vec<Candidate<'a>>>,
    /// The values whose calls have happened.
    happened: BTreeSet<&'a str>,
}

#[derive(Clone, Copy)]
struct Candidate<'a> {
    request: &'a Request,
    /// The newest revision known when it was called: it happened later.
    after: i64,
}

impl<'a> Unreturned<'a> {
    fn new(calls: &'a [Call], seen: &[(Moment, i64)]) -> Self {
        let known = Known::new(calls, seen);
        let (mut puts, mut deletes) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        for call in calls.iter().filter(|call| call.returned.is_none()) {
            let candidate = Candidate { request: &call.request, after: known.before(call.called) };
            for value in values(&call.request) {
                puts.insert(value, candidate);
            }
            if let [Step::Delete(key)] = call.request.then.as_slice() {
                deletes.entry(key.as_str()).or_default().push(candidate);
            }
        }
        Self { puts, deletes, happened: BTreeSet::new() }
    }

    /// Finds a call that makes of the store what happened, and lets it happen.
    fn explain(&mut self, store: &mut Store, revision: i64, events: &[Event]) -> Result<(), Violation> {
        let unexplained = || Violation::Unexplained { events: events.to_vec() };
        let candidate = self.take(revision, events).ok_or_else(unexplained)?;
        let (_, would) = store.run(candidate.request, revision);
        if would == events { Ok(()) } else { Err(unexplained()) }
    }

    fn take(&mut self, revision: i64, events: &[Event]) -> Option<Candidate<'a>> {
        let value = events.iter().find_map(|event| Some(event.found.as_ref()?.value.as_str()));
        let Some(value) = value else {
            let deletes = self.deletes.get_mut(events.first()?.key.as_str())?;
            let first = deletes.iter().position(|candidate| candidate.after < revision)?;
            return Some(deletes.swap_remove(first));
        };
        let candidate = *self.puts.get(value).filter(|candidate| candidate.after < revision)?;
        // It happens once, whatever of it we have seen.
        let fresh = values(candidate.request).all(|value| self.happened.insert(value));
        fresh.then_some(candidate)
    }
}

/// All that a request may put.
fn values(request: &Request) -> impl Iterator<Item = &str> {
    request.then.iter().chain(&request.otherwise).filter_map(|step| match step {
        Step::Put(_, value) => Some(value.as_str()),
        Step::Get(_) | Step::Delete(_) => None,
    })
}
