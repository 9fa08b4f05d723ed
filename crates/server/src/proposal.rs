//! From a request to its answer: what waits to be proposed, and who waits for what was.
//!
//! Requests are packed: while entries of this member are on their way through the log, further requests gather in a batch that
//! leaves as one entry when one of those has been applied. Under load an entry so carries whatever came during one write to
//! the disk, and costs of the log are paid once per batch; alone, a request leaves at once.
//!
//! ```text
//! propose ──► Gathering ──► node.submit(entry) ──► log, disk, commit ──► Applier
//!    ▲                                                                      │
//!    └────────── answer by request id ◄── Waiters ◄─────────────────────────┘
//! ```
//!
//! The answer comes from this member's own apply, so that a client reads its own writes here. A request that was proposed
//! may take effect although its caller is told that it failed or timed out, as in etcd.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ::auth::Identity;
use api::internal::AuthChange;
use api::internal::auth_change::Change;
use api::status::{self, Status};
use bytes::{Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use raftlog::{Node, ProposeError};
use tokio::sync::oneshot;

use crate::apply::Answer;
use crate::clock::{Clock, unix_millis};

/// Entries of this member that may be on their way at once; what comes meanwhile is packed into the next.
const IN_FLIGHT_MAX: usize = 2;
/// A batch is closed when it has grown to this many bytes.
const BATCH_BYTES: usize = 512 * 1024;
/// Requests are refused while so many committed entries wait to be applied, as in etcd.
const BACKLOG_MAX: u64 = 5000;
/// Requests are refused while this many bytes wait.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A command as it goes into the log: its field in `etcdrs.Request`, and its encoding, which is the client's own where the
/// command is a client's request.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    field: u32,
    body: Bytes,
    /// The only term in which it may take effect; 0 for any.
    term: u64,
    /// Who asks, while authentication is on.
    identity: Option<Identity>,
    /// Whether it changes what others may do: it is then alone in its entry, so that what precedes it can be committed first.
    alone: bool,
}

impl Command {
    const fn new(field: u32, body: Bytes) -> Self {
        Self { field, body, term: 0, identity: None, alone: false }
    }

    fn encoded(field: u32, request: &impl prost::Message) -> Self {
        Self::new(field, request.encode_to_vec().into())
    }

    /// What a leader decides on its own: it has no effect once another leads.
    pub(crate) fn in_term(self, term: u64) -> Self {
        Self { term, ..self }
    }

    /// Says who asks.
    pub(crate) fn by(self, identity: Option<Identity>) -> Self {
        Self { identity, ..self }
    }

    pub(crate) fn put(body: Bytes) -> Self {
        Self::new(10, body)
    }
    pub(crate) fn delete_range(body: Bytes) -> Self {
        Self::new(11, body)
    }
    pub(crate) fn txn(body: Bytes) -> Self {
        Self::new(12, body)
    }
    pub(crate) fn compaction(request: &api::etcdserverpb::CompactionRequest) -> Self {
        Self::encoded(13, request)
    }
    pub(crate) fn lease_grant(request: &api::etcdserverpb::LeaseGrantRequest) -> Self {
        Self::encoded(14, request)
    }
    pub(crate) fn lease_revoke(request: &api::etcdserverpb::LeaseRevokeRequest) -> Self {
        Self::encoded(15, request)
    }
    pub(crate) fn lease_expire(request: &api::internal::LeaseExpire) -> Self {
        Self::encoded(16, request)
    }
    pub(crate) fn lease_checkpoint(request: &api::etcdserverpb::LeaseCheckpointRequest) -> Self {
        Self::encoded(17, request)
    }
    pub(crate) fn alarm(request: &api::etcdserverpb::AlarmRequest) -> Self {
        Self::encoded(18, request)
    }
    pub(crate) fn member_publish(request: &api::internal::MemberPublish) -> Self {
        Self::encoded(19, request)
    }
    pub(crate) fn cluster_version_set(request: &api::internal::ClusterVersionSet) -> Self {
        Self::encoded(20, request)
    }
    pub(crate) fn members_found(request: &api::internal::MembersFound) -> Self {
        Self::encoded(21, request)
    }
    pub(crate) fn member_add(request: &api::internal::MemberAdd) -> Self {
        Self::encoded(22, request)
    }
    pub(crate) fn member_remove(request: &api::internal::MemberRemove) -> Self {
        Self::encoded(23, request)
    }
    pub(crate) fn member_update(request: &api::internal::MemberUpdate) -> Self {
        Self::encoded(24, request)
    }
    pub(crate) fn member_promote(request: &api::internal::MemberPromote) -> Self {
        Self::encoded(25, request)
    }

    pub(crate) fn members_keep(request: &api::internal::MembersKeep) -> Self {
        Self::encoded(26, request)
    }

    pub(crate) fn quota_alarm(request: &api::internal::QuotaAlarm) -> Self {
        Self::encoded(40, request)
    }

    pub(crate) fn downgrade_set(request: &api::internal::DowngradeSet) -> Self {
        Self::encoded(41, request)
    }

    pub(crate) fn auth_change(change: Change) -> Self {
        let alone = !matches!(change, Change::TokenAssign(_));
        Self { alone, ..Self::encoded(60, &AuthChange { change: Some(change) }) }
    }

    /// An entry with this command alone, whose answer nobody waits for.
    pub(crate) fn entry(&self) -> Bytes {
        let mut batch = BytesMut::new();
        self.encode(0, &mut batch);
        batch.freeze()
    }

    /// Bytes of the `Request` around this command.
    fn request_len(&self, id: u64) -> usize {
        let (field, body) = (self.field, self.body.len());
        let term = if self.term > 0 { key_len(4) + encoded_len_varint(self.term) } else { 0 };
        let identity = self.identity.as_ref().map_or(0, |identity| {
            let name = identity.username.len();
            key_len(2)
                + encoded_len_varint(name as u64)
                + name
                + key_len(3)
                + encoded_len_varint(identity.revision)
        });
        key_len(1)
            + encoded_len_varint(id)
            + identity
            + term
            + key_len(field)
            + encoded_len_varint(body as u64)
            + body
    }

    pub(crate) fn encode(&self, id: u64, batch: &mut BytesMut) {
        let length = self.request_len(id);
        batch.reserve(length + 16);
        encode_key(1, WireType::LengthDelimited, batch);
        encode_varint(length as u64, batch);
        encode_key(1, WireType::Varint, batch);
        encode_varint(id, batch);
        if let Some(identity) = &self.identity {
            encode_key(2, WireType::LengthDelimited, batch);
            encode_varint(identity.username.len() as u64, batch);
            batch.extend_from_slice(identity.username.as_bytes());
            encode_key(3, WireType::Varint, batch);
            encode_varint(identity.revision, batch);
        }
        if self.term > 0 {
            encode_key(4, WireType::Varint, batch);
            encode_varint(self.term, batch);
        }
        encode_key(self.field, WireType::LengthDelimited, batch);
        encode_varint(self.body.len() as u64, batch);
        batch.extend_from_slice(&self.body);
    }
}

/// Requests on their way. One per member, shared by every connection and the Applier.
#[derive(Debug)]
pub(crate) struct Proposals {
    node: OnceLock<Node>,
    clock: Clock,
    /// First id of this run; an entry that carries it as its proposer is ours.
    origin: u64,
    request_bytes_max: usize,
    timeout: Duration,
    /// Guards everything that waits. Taken once per request and once per applied batch, never held while blocking.
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    next_id: u64,
    gathering: Batch,
    /// Batches that are full and have not left.
    closed: VecDeque<Batch>,
    closed_bytes: usize,
    in_flight: usize,
    /// One above the last id that has left.
    sent_id: u64,
    waiters: Waiters,
    stopped: bool,
}

/// Encoded requests of ascending ids. Ids between them that it does not hold are nobody's: they became leases' ids.
#[derive(Debug, Default)]
struct Batch {
    requests: BytesMut,
    first_id: u64,
    /// One above the last.
    end_id: u64,
}

impl Proposals {
    pub(crate) fn new(member_id: u64, clock: Clock, request_bytes_max: usize, timeout: Duration) -> Self {
        // As etcd makes them: the member, the time of the start, a counter; the lower 48 bits count on as one number.
        let origin = (member_id & 0xffff) << 48 | (unix_millis() & 0xff_ffff_ffff) << 8;
        Self {
            node: OnceLock::new(),
            clock,
            origin,
            request_bytes_max,
            timeout,
            waiting: Mutex::new(Waiting {
                next_id: origin + 1,
                gathering: Batch::default(),
                closed: VecDeque::new(),
                closed_bytes: 0,
                in_flight: 0,
                sent_id: origin + 1,
                waiters: Waiters { base: origin + 1, slots: VecDeque::new() },
                stopped: false,
            }),
        }
    }

    /// Tells where proposals go; they are refused before.
    pub(crate) fn connect(&self, node: Node) {
        assert!(self.node.set(node).is_ok(), "a member has one node");
    }

    /// Whether an applied entry was proposed by this run of this member.
    pub(crate) fn is_ours(&self, proposer: u64) -> bool {
        proposer == self.origin
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id for a lease whose client did not choose one: positive, never given out before.
    pub(crate) fn next_lease_id(&self) -> i64 {
        let mut waiting = self.waiting();
        let id = waiting.next_id;
        waiting.next_id += 1;
        waiting.waiters.skip();
        i64::try_from(id & (u64::MAX >> 1)).expect("the sign bit is cleared")
    }

    /// Proposes `command` and waits for what this member's apply says.
    pub(crate) async fn propose(self: &Arc<Self>, command: Command) -> Answer {
        match self.enqueue(&command) {
            Ok(answer) => answer.await.unwrap_or(Err(status::STOPPED)),
            Err(status) => Err(status),
        }
    }

    fn enqueue(self: &Arc<Self>, command: &Command) -> Result<oneshot::Receiver<Answer>, Status> {
        if self.node.get().is_some_and(|node| node.backlog() > BACKLOG_MAX) {
            return Err(status::REQUEST_TOO_MANY_REQUESTS);
        }
        let (sender, receiver) = oneshot::channel();
        let deadline = self.clock.now() + self.timeout;
        let mut waiting = self.waiting();
        let id = waiting.next_id;
        if waiting.stopped {
            return Err(status::STOPPED);
        }
        if command.request_len(id) > self.request_bytes_max {
            return Err(status::REQUEST_TOO_LARGE);
        }
        if waiting.closed_bytes > WAITING_BYTES_MAX {
            return Err(status::REQUEST_TOO_MANY_REQUESTS);
        }
        waiting.next_id += 1;
        waiting.gather(id, command);
        waiting.waiters.push(Waiter { sender, deadline });
        self.send(waiting);
        Ok(receiver)
    }

    /// Hands batches to the log for as long as there is room on the way. The lock is released before: a log that has stopped
    /// reports the failure from within the call.
    fn send(self: &Arc<Self>, mut waiting: MutexGuard<'_, Waiting>) {
        let mut leaving = Vec::new();
        while waiting.in_flight < IN_FLIGHT_MAX
            && let Some(batch) = waiting.next_batch()
        {
            waiting.in_flight += 1;
            waiting.sent_id = batch.end_id;
            leaving.push(batch);
        }
        drop(waiting);
        for batch in leaving {
            let (first_id, end_id) = (batch.first_id, batch.end_id);
            let this = Arc::clone(self);
            let on_failure = move |error: ProposeError| this.failed(first_id, end_id, &error);
            let submitted = match self.node.get() {
                Some(node) => node.submit(batch.entry(self.origin), on_failure),
                None => Err(ProposeError::NotLeader { leader: None }),
            };
            if let Err(error) = submitted {
                self.failed(first_id, end_id, &error);
            }
        }
    }

    fn failed(self: &Arc<Self>, first_id: u64, end_id: u64, error: &ProposeError) {
        let mut waiting = self.waiting();
        if matches!(error, ProposeError::Stopped) {
            // Nothing gets through any more; sending what waits would only lead back here, once for each batch.
            return waiting.stop();
        }
        waiting.in_flight = waiting.in_flight.saturating_sub(1);
        waiting.waiters.fail(first_id, end_id, refusal(error));
        self.send(waiting);
    }

    /// Answers the callers of requests that have been applied; `entries` of this member's have come through.
    pub(crate) fn applied(self: &Arc<Self>, answers: Vec<(u64, Answer)>, entries: usize) {
        let mut senders = Vec::with_capacity(answers.len());
        let mut waiting = self.waiting();
        for (id, answer) in answers {
            if let Some(waiter) = waiting.waiters.take(id) {
                senders.push((waiter.sender, answer));
            }
        }
        waiting.in_flight = waiting.in_flight.saturating_sub(entries);
        self.send(waiting);
        for (sender, answer) in senders {
            // A caller that has gone away does not want its answer.
            drop(sender.send(answer));
        }
    }

    /// The state has been replaced by another member's, and entries of ours may be in it: nobody will ever see them applied here.
    /// Whoever waits for one that is on its way is told what is known, that it may have been committed.
    pub(crate) fn installed(self: &Arc<Self>) {
        let mut waiting = self.waiting();
        let (first_id, end_id) = (waiting.waiters.base, waiting.sent_id);
        waiting.waiters.fail(first_id, end_id, status::TIMEOUT_DUE_TO_LEADER_FAIL);
        // Those that are not in it come through yet, and are not counted then.
        waiting.in_flight = 0;
        self.send(waiting);
    }

    /// Answers those who have waited too long; called now and then.
    pub(crate) fn expire(&self) {
        let now = self.clock.now();
        let leader = self.node.get().is_some_and(|node| node.leadership().borrow().leader.is_some());
        let status = if leader { status::TIMEOUT } else { status::CONTEXT_DEADLINE_EXCEEDED };
        let expired = self.waiting().waiters.expired(now);
        for waiter in expired {
            drop(waiter.sender.send(Err(status)));
        }
    }

    /// Refuses everything from now on, and whoever waits.
    pub(crate) fn stop(&self) {
        self.waiting().stop();
    }
}

fn refusal(error: &ProposeError) -> Status {
    match error {
        ProposeError::Stopped => status::STOPPED,
        // It may have been committed all the same.
        ProposeError::LeaderChanged => status::TIMEOUT_DUE_TO_LEADER_FAIL,
        ProposeError::Overloaded => status::REQUEST_TOO_MANY_REQUESTS,
        _ => status::NO_LEADER,
    }
}

impl Waiting {
    fn gather(&mut self, id: u64, command: &Command) {
        let open = !self.gathering.requests.is_empty();
        if open && (command.alone || self.gathering.requests.len() >= BATCH_BYTES) {
            self.close();
        }
        if self.gathering.requests.is_empty() {
            self.gathering.first_id = id;
        }
        self.gathering.end_id = id + 1;
        command.encode(id, &mut self.gathering.requests);
        if command.alone {
            self.close();
        }
    }

    fn close(&mut self) {
        let batch = std::mem::take(&mut self.gathering);
        self.closed_bytes += batch.requests.len();
        self.closed.push_back(batch);
    }

    /// Refuses everything from now on; dropping the waiters tells their callers.
    fn stop(&mut self) {
        self.stopped = true;
        self.gathering = Batch::default();
        self.closed.clear();
        self.closed_bytes = 0;
        self.waiters.slots.clear();
    }

    fn next_batch(&mut self) -> Option<Batch> {
        if let Some(batch) = self.closed.pop_front() {
            self.closed_bytes -= batch.requests.len();
            return Some(batch);
        }
        (!self.gathering.requests.is_empty()).then(|| std::mem::take(&mut self.gathering))
    }
}

impl Batch {
    /// The entry: an encoded `etcdrs.Batch`.
    fn entry(mut self, origin: u64) -> Bytes {
        encode_key(2, WireType::Varint, &mut self.requests);
        encode_varint(origin, &mut self.requests);
        self.requests.freeze()
    }
}

#[derive(Debug)]
struct Waiter {
    sender: oneshot::Sender<Answer>,
    deadline: Duration,
}

/// Waiters by request id. Ids are consecutive and are answered nearly in order, so a queue with holes serves as the map.
#[derive(Debug)]
struct Waiters {
    /// The id of the first slot.
    base: u64,
    slots: VecDeque<Option<Waiter>>,
}

impl Waiters {
    fn push(&mut self, waiter: Waiter) {
        self.slots.push_back(Some(waiter));
    }

    /// Leaves out one id, which nobody waits for.
    fn skip(&mut self) {
        if self.slots.is_empty() {
            self.base += 1;
        } else {
            self.slots.push_back(None);
        }
    }

    fn take(&mut self, id: u64) -> Option<Waiter> {
        let slot = usize::try_from(id.checked_sub(self.base)?).ok()?;
        let waiter = self.slots.get_mut(slot)?.take();
        self.trim();
        waiter
    }

    fn fail(&mut self, first_id: u64, end_id: u64, status: Status) {
        for id in first_id..end_id {
            if let Some(waiter) = self.take(id) {
                drop(waiter.sender.send(Err(status)));
            }
        }
    }

    /// Everybody has the same patience, so the first to lose it are the first in line.
    fn expired(&mut self, now: Duration) -> Vec<Waiter> {
        let in_time = |slot: &Option<Waiter>| slot.as_ref().is_some_and(|waiter| waiter.deadline > now);
        let late = self.slots.iter().position(in_time).unwrap_or(self.slots.len());
        let expired = self.slots.drain(..late).flatten().collect();
        self.base += late as u64;
        self.trim();
        expired
    }

    fn trim(&mut self) {
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn waiters(count: u64) -> (Waiters, Vec<oneshot::Receiver<Answer>>) {
        let mut waiters = Waiters { base: 1, slots: VecDeque::new() };
        let receivers = (1..=count)
            .map(|id| {
                let (sender, receiver) = oneshot::channel();
                waiters.push(Waiter { sender, deadline: Duration::from_secs(id) });
                receiver
            })
            .collect();
        (waiters, receivers)
    }

    #[test]
    fn each_waiter_is_found_by_its_id_once() {
        let (mut waiters, _receivers) = waiters(3);
        assert!(waiters.take(2).is_some());
        assert!(waiters.take(2).is_none());
        assert!(waiters.take(1).is_some());
        assert_eq!((waiters.base, waiters.slots.len()), (3, 1));
        assert!(waiters.take(0).is_none());
        assert!(waiters.take(9).is_none());
    }

    #[test]
    fn the_late_are_told_and_the_others_wait_on() {
        let (mut waiters, _receivers) = waiters(4);
        waiters.take(3);
        assert_eq!(waiters.expired(Duration::from_secs(2)).len(), 2);
        assert_eq!(waiters.base, 4);
        assert!(waiters.take(4).is_some());
    }

    fn proposals() -> Arc<Proposals> {
        Arc::new(Proposals::new(1, Clock::start(), 1024, Duration::from_secs(7)))
    }

    #[test]
    fn an_id_that_became_a_leases_does_not_split_a_batch() {
        let proposals = proposals();
        proposals.waiting().in_flight = IN_FLIGHT_MAX;
        let first = proposals.enqueue(&Command::put(Bytes::new())).unwrap();
        proposals.next_lease_id();
        let second = proposals.enqueue(&Command::put(Bytes::new())).unwrap();
        let mut waiting = proposals.waiting();
        let batch = waiting.next_batch().unwrap();
        assert!(waiting.next_batch().is_none());
        assert_eq!(batch.end_id - batch.first_id, 3);
        drop(waiting);
        proposals.failed(batch.first_id, batch.end_id, &ProposeError::LeaderChanged);
        for receiver in [first, second] {
            assert_eq!(receiver.blocking_recv().unwrap().unwrap_err(), status::TIMEOUT_DUE_TO_LEADER_FAIL);
        }
    }

    #[test]
    fn a_stopped_log_ends_whatever_waits_at_once() {
        let proposals = proposals();
        proposals.waiting().in_flight = IN_FLIGHT_MAX;
        let put = Command::put(vec![0; 1000].into());
        let waiting: Vec<_> = (0..10_000).map(|_| proposals.enqueue(&put).unwrap()).collect();
        assert!(proposals.waiting().closed.len() > 1);
        proposals.failed(0, 1, &ProposeError::Stopped);
        assert!(waiting.into_iter().all(|receiver| receiver.blocking_recv().is_err()));
        assert!(proposals.waiting().next_batch().is_none());
        assert_eq!(proposals.enqueue(&put).unwrap_err(), status::STOPPED);
    }

    #[test]
    fn an_installed_state_answers_what_is_on_its_way_and_lets_the_rest_go() {
        let proposals = proposals();
        let put = Command::put(Bytes::new());
        proposals.waiting().in_flight = IN_FLIGHT_MAX;
        let on_its_way = proposals.enqueue(&put).unwrap();
        let mut waiting = proposals.waiting();
        waiting.sent_id = waiting.next_batch().unwrap().end_id;
        drop(waiting);
        let mut waits = proposals.enqueue(&put).unwrap();
        assert!(waits.try_recv().is_err(), "it has not left");
        proposals.installed();
        assert_eq!(on_its_way.blocking_recv().unwrap().unwrap_err(), status::TIMEOUT_DUE_TO_LEADER_FAIL);
        // The other one has left now; there is no log here, which is how one sees it.
        assert_eq!(waits.blocking_recv().unwrap().unwrap_err(), status::NO_LEADER);
    }

    #[test]
    fn a_batch_decodes_as_what_was_gathered() {
        let put = api::etcdserverpb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        let mut batch = Batch::default();
        let put = Bytes::from(put.encode_to_vec());
        Command::put(put.clone()).encode(7, &mut batch.requests);
        Command::lease_revoke(&api::etcdserverpb::LeaseRevokeRequest { id: 5 })
            .in_term(300)
            .encode(8, &mut batch.requests);
        let decoded = api::internal::Batch::decode(batch.entry(3)).unwrap();
        assert_eq!(decoded.proposer, 3);
        let of = |request: &api::internal::Request| (request.id, request.term);
        assert_eq!(decoded.requests.iter().map(of).collect::<Vec<_>>(), [(7, 0), (8, 300)]);
        use api::internal::request::Command as Decoded;
        assert_eq!(decoded.requests[0].command, Some(Decoded::Put(put)));
        assert!(matches!(decoded.requests[1].command, Some(Decoded::LeaseRevoke(_))));
    }
}
