//! One client of a load: it calls, remembers, and goes to another member after a failure.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::etcdserverpb::ResponseHeader;
use api::etcdserverpb::kv_client::KvClient;
use tonic::Status;
use tonic::transport::Channel;

use super::messages::{self, Message};
use super::{CALLED, Members, Plan, Shared};
use crate::linear::{Answer, Call, Condition, Outcome, Request, Return, Step};
use crate::random::Source;

/// A call that takes longer has an unknown fate.
const PATIENCE: Duration = Duration::from_millis(1500);
/// After a failure, so that a member that is gone is not called without end.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn run(shared: Arc<Shared>, plan: Plan, number: usize, source: Source) -> Vec<Call> {
    let mut client = Client {
        name: format!("c{number}"),
        keys: plan.keys,
        source,
        values: 0,
        // What it saw of some key last, so that comparing with it often holds.
        remembered: None,
    };
    let mut members = Members::new(shared.clone(), number);
    let mut calls = Vec::new();
    while !shared.is_over() {
        let (request, serializable) = client.next();
        let message = Message::new(&request, serializable);
        let called = shared.now();
        let answered = tokio::time::timeout(PATIENCE, send(members.channel(), message)).await;
        let returned = answered.ok().and_then(Result::ok).map(|(revision, answer)| Return {
            at: shared.now(),
            revision,
            answer,
        });
        let pause = if let Some(returned) = &returned {
            client.remember(&request, &returned.answer, returned.revision);
            let wrote = returned.answer.wrote();
            shared.acknowledged_writes.fetch_add(u64::from(wrote), Ordering::Relaxed);
            plan.rest
        } else {
            members.any(&mut client.source);
            PAUSE
        };
        let serializable = serializable && !plan.takes_past_for_now;
        calls.push(Call { client: client.name.clone(), called, request, serializable, returned });
        tokio::time::sleep(pause).await;
    }
    calls
}

/// Sends a request and takes the revision and the answer.
async fn send(channel: Channel, message: Message) -> Result<(i64, Answer), Status> {
    let mut kv = KvClient::new(channel);
    let (header, answer) = match message {
        Message::Range(request) => {
            let response = kv.range(request).await?.into_inner();
            (response.header, messages::plain(messages::got(&response)))
        }
        Message::Put(request) => {
            let response = kv.put(request).await?.into_inner();
            (response.header, messages::plain(messages::wrote(&response)))
        }
        Message::Delete(request) => {
            let response = kv.delete_range(request).await?.into_inner();
            (response.header, messages::plain(messages::deleted(&response)))
        }
        Message::Txn(request) => {
            let response = kv.txn(request).await?.into_inner();
            (response.header, messages::decided(&response))
        }
    };
    let ResponseHeader { revision, .. } = header.ok_or_else(|| Status::internal("no header"))?;
    Ok((revision, answer))
}

/// Where a client's requests come from.
struct Client {
    name: String,
    keys: u64,
    source: Source,
    values: u64,
    remembered: Option<(String, i64)>,
}

impl Client {
    /// The next request, and whether an answer from the past will do.
    fn next(&mut self) -> (Request, bool) {
        let key = self.key();
        match self.source.below(100) {
            0..35 => (Request::plain(self.put(key)), false),
            35..60 => (Request::plain(Step::Get(key)), false),
            60..70 => (Request::plain(Step::Get(key)), true),
            70..80 => (Request::plain(Step::Delete(key)), false),
            _ => (self.txn(key), false),
        }
    }

    fn txn(&mut self, other: String) -> Request {
        let (key, revision) = self.remembered.clone().unwrap_or((other.clone(), 0));
        let condition = if self.source.below(4) == 0 {
            Condition::Value(key.clone(), format!("{}-{}", self.name, self.values))
        } else {
            Condition::ModRevision(key.clone(), revision)
        };
        let mut then = vec![self.put(key.clone())];
        // No key twice, as etcd refuses that.
        if other != key {
            then.push(match self.source.below(3) {
                0 => Step::Delete(other),
                1 => Step::Get(other),
                _ => self.put(other),
            });
        }
        Request { conditions: vec![condition], then, otherwise: vec![Step::Get(key)] }
    }

    fn key(&mut self) -> String {
        format!("{CALLED}{}", self.source.below(self.keys))
    }

    fn put(&mut self, key: String) -> Step {
        self.values += 1;
        Step::Put(key, format!("{}-{}", self.name, self.values))
    }

    fn remember(&mut self, request: &Request, answer: &Answer, revision: i64) {
        let steps = if answer.succeeded { &request.then } else { &request.otherwise };
        let Some((step, outcome)) = steps.first().zip(answer.outcomes.first()) else { return };
        let (Step::Get(key) | Step::Put(key, _) | Step::Delete(key)) = step;
        let written = match outcome {
            Outcome::Got(found) => found.as_ref().map_or(0, |found| found.mod_revision),
            Outcome::Put(_) => revision,
            Outcome::Deleted(_) => 0,
        };
        self.remembered = Some((key.clone(), written));
    }
}
