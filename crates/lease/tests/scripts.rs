//! Runs the golden scripts of `tests/scripts`: lives of leases, told in seconds.
//!
//! Commands: `at S` (the clock), `grant ID TTL`, `revoke ID`, `attach ID KEY...`, `detach ID KEY`, `renew ID`, `ttl ID`,
//! `leases`, `expired [LIMIT]`, `next`, `promote EXTEND`, `demote`, `checkpoints`, `checkpoint ID TTL`, `restart`.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod golden;

use std::fmt::Write as _;
use std::time::Duration;

use api::LeaseId;
use backend::{Backend, MemBackend};
use etcd_rs_lease::{Checkpoint, Lessor, Options};

struct World {
    backend: MemBackend,
    lessor: Lessor,
    now: Duration,
}

impl World {
    fn new() -> Self {
        let backend = MemBackend::new();
        let lessor = Lessor::open(&backend, Options::default()).unwrap();
        Self { backend, lessor, now: Duration::ZERO }
    }

    fn command(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| words[i].parse::<i64>().unwrap();
        let id = |i: usize| LeaseId::new(number(i));
        let seconds = |i: usize| Duration::from_secs_f64(words[i].parse().unwrap());
        let mut tx = self.backend.begin();
        let mut out = String::new();
        let outcome: Result<String, etcd_rs_lease::Error> = match words[0] {
            "at" => {
                self.now = seconds(1);
                Ok(String::new())
            }
            "grant" => self.lessor.grant(&mut tx, id(1), number(2), self.now).map(|ttl| format!("ttl {ttl}")),
            "revoke" => self.lessor.revoke(&mut tx, id(1)).map(|keys| format!("keys {keys:?}")),
            "attach" => words[2..]
                .iter()
                .try_for_each(|key| self.lessor.attach(id(1), key.as_bytes()))
                .map(|()| String::new()),
            "detach" => {
                self.lessor.detach(id(1), words[2].as_bytes());
                Ok(String::new())
            }
            "renew" => self.lessor.renew(id(1), self.now).map(|ttl| format!("ttl {ttl}")),
            "ttl" => self
                .lessor
                .time_to_live(id(1), self.now, true)
                .map(|ttl| format!("{} of {}, keys {:?}", ttl.remaining_ttl, ttl.granted_ttl, ttl.keys)),
            "leases" => Ok(numbers(&self.lessor.leases())),
            "expired" => {
                let limit = words.get(1).map_or(100, |limit| limit.parse().unwrap());
                Ok(numbers(&self.lessor.expired(self.now, limit)))
            }
            "next" => Ok(format!("{:?}", self.lessor.next_expiry())),
            "promote" => {
                self.lessor.promote(self.now, seconds(1));
                Ok(String::new())
            }
            "demote" => {
                self.lessor.demote();
                Ok(String::new())
            }
            "checkpoints" => {
                let due = self.lessor.checkpoints_due(self.now, 1000);
                let due: Vec<String> =
                    due.iter().map(|c| format!("{}: {} left", c.id.get(), c.remaining_ttl)).collect();
                Ok(format!("{due:?}"))
            }
            "checkpoint" => {
                let checkpoint = Checkpoint { id: id(1), remaining_ttl: number(2) };
                self.lessor.checkpoint(&mut tx, checkpoint, self.now);
                Ok(String::new())
            }
            "restart" => {
                self.lessor = Lessor::open(&self.backend, Options::default()).unwrap();
                Ok(String::new())
            }
            other => panic!("no command {other}"),
        };
        self.backend.commit(tx).unwrap();
        match outcome {
            Ok(text) if text.is_empty() => {}
            Ok(text) => writeln!(out, "{line}: {text}").unwrap(),
            Err(error) => writeln!(out, "{line}: error: {error}").unwrap(),
        }
        out
    }
}

fn numbers(ids: &[LeaseId]) -> String {
    format!("{:?}", ids.iter().map(|id| id.get()).collect::<Vec<_>>())
}

#[test]
fn scripts_print_what_they_did_when_they_were_reviewed() {
    golden::run(World::new, World::command);
}
