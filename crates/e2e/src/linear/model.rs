//! What a store is: keys with their values and counters, and requests that are answered one after the other.

use std::collections::BTreeMap;

/// A key as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its value.
    pub value: String,
    /// The revision that made it.
    pub create_revision: i64,
    /// The revision that wrote it last.
    pub mod_revision: i64,
    /// How often it was written since it was made.
    pub version: i64,
}

/// A condition of a transaction. A key that is not there has revision 0 and no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The key was written last by this revision.
    ModRevision(String, i64),
    /// The key has this value.
    Value(String, String),
}

/// One step of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Reads a key.
    Get(String),
    /// Writes a key.
    Put(String, String),
    /// Deletes a key.
    Delete(String),
}

/// A request. What is no transaction has no conditions and one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// If all hold, `then` is done, and `otherwise` if not.
    pub conditions: Vec<Condition>,
    /// Steps for the one case.
    pub then: Vec<Step>,
    /// Steps for the other.
    pub otherwise: Vec<Step>,
}

impl Request {
    /// One step without conditions.
    pub fn plain(step: Step) -> Self {
        Self { conditions: Vec::new(), then: vec![step], otherwise: Vec::new() }
    }
}

/// What came of a step: a get tells what it found, a put and a delete what was there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Of a get.
    Got(Option<Found>),
    /// Of a put.
    Put(Option<Found>),
    /// Of a delete.
    Deleted(Option<Found>),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether the conditions held.
    pub succeeded: bool,
    /// What came of each step that was done.
    pub outcomes: Vec<Outcome>,
}

impl Answer {
    /// Whether the request changed anything, so that it made a revision.
    pub fn wrote(&self) -> bool {
        self.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Put(_) | Outcome::Deleted(Some(_))))
    }
}

/// What happened to a key, as a watch tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision that did it.
    pub revision: i64,
    /// The key.
    pub key: String,
    /// How the key is found from then on, if it is.
    pub found: Option<Found>,
}

/// The store at some revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store {
    keys: BTreeMap<String, Found>,
}

impl Store {
    /// Answers a request that makes `revision` if it changes anything, and tells what happened.
    pub fn run(&mut self, request: &Request, revision: i64) -> (Answer, Vec<Event>) {
        let succeeded = request.conditions.iter().all(|condition| self.holds(condition));
        let steps = if succeeded { &request.then } else { &request.otherwise };
        let mut events = Vec::new();
        let outcomes = steps.iter().map(|step| self.step(step, revision, &mut events)).collect();
        (Answer { succeeded, outcomes }, events)
    }

    /// Follows what happened.
    pub fn follow(&mut self, event: &Event) {
        match &event.found {
            Some(found) => self.keys.insert(event.key.clone(), found.clone()),
            None => self.keys.remove(&event.key),
        };
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::ModRevision(key, revision) => {
                self.keys.get(key).map_or(0, |found| found.mod_revision) == *revision
            }
            Condition::Value(key, value) => self.keys.get(key).is_some_and(|found| found.value == *value),
        }
    }

    fn step(&mut self, step: &Step, revision: i64, events: &mut Vec<Event>) -> Outcome {
        match step {
            Step::Get(key) => Outcome::Got(self.keys.get(key).cloned()),
            Step::Put(key, value) => {
                let before = self.keys.get(key).cloned();
                let found = Found {
                    value: value.clone(),
                    create_revision: before.as_ref().map_or(revision, |before| before.create_revision),
                    mod_revision: revision,
                    version: before.as_ref().map_or(1, |before| before.version + 1),
                };
                self.keys.insert(key.clone(), found.clone());
                events.push(Event { revision, key: key.clone(), found: Some(found) });
                Outcome::Put(before)
            }
            Step::Delete(key) => {
                let before = self.keys.remove(key);
                if before.is_some() {
                    events.push(Event { revision, key: key.clone(), found: None });
                }
                Outcome::Deleted(before)
            }
        }
    }
}
