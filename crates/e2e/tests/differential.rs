//! The same random operations, sent to ours and to the real etcd: every answer must be the same, and so must every
//! event of a watch and every hash.
//!
//! Masked are the ids and the term of headers, which are each member's own. A failure names its seed;
//! `ETCD_RS_SEED=N` runs one more.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use api::etcdserverpb as pb;
use api::etcdserverpb::response_op::Response as Inner;
use api::mvccpb::{Event, KeyValue};
use e2e::random::{Operation, Source};
use e2e::{Member, Sorted, Target, Watcher, run_alone};
use tonic::Status;

use etcd_rs_e2e as e2e;

const OPERATIONS: usize = 500;

/// An answer in a form that compares and prints: what differs by right is masked out.
#[derive(Debug, PartialEq)]
enum Answer {
    Put(pb::PutResponse),
    Range(pb::RangeResponse),
    Delete(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    /// The revision of the header.
    Done(i64),
    Lease {
        granted: i64,
        keys: Vec<bytes::Bytes>,
    },
    Hash(u32, i64),
    Refused(tonic::Code, String),
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self::Refused(status.code(), status.message().to_owned())
    }
}

fn masked(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    }
}

fn masked_txn(mut txn: pb::TxnResponse) -> pb::TxnResponse {
    masked(&mut txn.header);
    for op in &mut txn.responses {
        match op.response.take() {
            Some(Inner::ResponseTxn(inner)) => op.response = Some(Inner::ResponseTxn(masked_txn(inner))),
            other => op.response = other,
        }
    }
    txn
}

async fn ask(member: &Member, operation: Operation, compaction: i64) -> Result<Answer, Status> {
    Ok(match operation {
        Operation::Put(request) => {
            let mut answer = member.kv().put(request).await?.into_inner();
            masked(&mut answer.header);
            Answer::Put(answer)
        }
        Operation::Range(request) => {
            let keys_only = request.keys_only;
            let mut answer = member.kv().range(request).await?.into_inner();
            masked(&mut answer.header);
            if keys_only {
                // Newer versions leave it out.
                answer.kvs.iter_mut().for_each(|kv: &mut KeyValue| kv.lease = 0);
            }
            Answer::Range(answer)
        }
        Operation::Delete(request) => {
            let mut answer = member.kv().delete_range(request).await?.into_inner();
            masked(&mut answer.header);
            Answer::Delete(answer)
        }
        Operation::Txn(request) => Answer::Txn(masked_txn(member.kv().txn(request).await?.into_inner())),
        Operation::Compact { .. } => {
            let request = pb::CompactionRequest { revision: compaction, physical: true };
            let answer = member.kv().compact(request).await?.into_inner();
            Answer::Done(e2e::revision(answer.header.as_ref()))
        }
        Operation::Grant(request) => {
            let answer = member.lease().lease_grant(request).await?.into_inner();
            Answer::Done(e2e::revision(answer.header.as_ref()))
        }
        Operation::Revoke(request) => {
            let answer = member.lease().lease_revoke(request).await?.into_inner();
            Answer::Done(e2e::revision(answer.header.as_ref()))
        }
        Operation::TimeToLive(request) => {
            let answer = member.lease().lease_time_to_live(request).await?.into_inner();
            Answer::Lease { granted: answer.granted_ttl, keys: answer.keys.sorted() }
        }
        Operation::HashKv => {
            let answer = member.maintenance().hash_kv(pb::HashKvRequest { revision: 0 }).await?.into_inner();
            Answer::Hash(answer.hash, answer.compact_revision)
        }
    })
}

/// A member and what a watch of everything there has told.
struct Side {
    member: Member,
    watcher: Watcher,
    seen: i64,
}

impl Side {
    async fn start(target: Target) -> Self {
        let member = Member::start(target).await;
        let create = pb::WatchCreateRequest {
            range_end: "\0".into(),
            prev_kv: true,
            start_revision: 2,
            ..Default::default()
        };
        let (watcher, created) = Watcher::open(&member, create).await;
        assert!(created.created && !created.canceled);
        Self { member, watcher, seen: 1 }
    }

    /// The events up to a revision that is known to have any.
    async fn events(&mut self, revision: i64) -> Vec<Event> {
        let mut events = Vec::new();
        while self.seen < revision {
            let response = self.watcher.next().await;
            assert!(!response.canceled, "{response:?}");
            for event in response.events {
                self.seen = event.kv.as_ref().unwrap().mod_revision;
                events.push(event);
            }
        }
        events
    }
}

/// What both sides are known to have, as the operations go on.
struct State {
    revision: i64,
    /// The last revision whose changes were puts only: compacting there is hashed alike by old and new versions.
    put_only: i64,
    compacted: i64,
}

impl State {
    fn learn(&mut self, answer: &Answer) {
        let header = match answer {
            Answer::Put(answer) => answer.header,
            Answer::Delete(answer) => answer.header,
            Answer::Txn(answer) => answer.header,
            Answer::Done(revision) => Some(pb::ResponseHeader { revision: *revision, ..Default::default() }),
            Answer::Range(_) | Answer::Lease { .. } | Answer::Hash(..) | Answer::Refused(..) => None,
        };
        let Some(header) = header else { return };
        if matches!(answer, Answer::Put(_)) {
            self.put_only = header.revision;
        }
        self.revision = header.revision;
    }

    /// Where to compact: at a put, and mostly not yet compacted.
    fn compaction(&self, behind: i64) -> i64 {
        if behind % 4 == 0 { self.compacted } else { self.put_only }
    }
}

async fn run_alike(seed: u64, left: Target, right: Target) {
    let (mut left, mut right) = tokio::join!(Side::start(left), Side::start(right));
    let mut source = Source::new(seed);
    let mut state = State { revision: 1, put_only: 1, compacted: -1 };
    for number in 0..OPERATIONS {
        let operation = source.operation(state.revision);
        let compaction = match operation {
            Operation::Compact { behind } => state.compaction(behind),
            _ => 0,
        };
        let (one, two) = tokio::join!(
            ask(&left.member, operation.clone(), compaction),
            ask(&right.member, operation.clone(), compaction)
        );
        let (one, two) = (one.unwrap_or_else(Answer::from), two.unwrap_or_else(Answer::from));
        assert_eq!(one, two, "seed {seed}, operation {number}, {operation:?} (compacting at {compaction})");
        state.learn(&one);
        if matches!((&operation, &one), (Operation::Compact { .. }, Answer::Done(_))) {
            state.compacted = compaction;
        }
        // Whatever was written must be told before a compaction may take away what was before it.
        let (one, two) = tokio::join!(left.events(state.revision), right.events(state.revision));
        assert_eq!(one, two, "seed {seed}, events of operation {number}, {operation:?}");
    }
    let everything = || Operation::Range(e2e::range("\0", "\0"));
    let (one, two) = tokio::join!(ask(&left.member, everything(), 0), ask(&right.member, everything(), 0));
    assert_eq!(one.unwrap(), two.unwrap(), "seed {seed}, at the end");
}

#[test]
fn ours_and_the_real_etcd_answer_alike() {
    let extra =
        std::env::var("ETCD_RS_SEED").ok().map(|seed| seed.parse().expect("ETCD_RS_SEED is a number"));
    for seed in (1..=4).chain(extra) {
        run_alone(run_alike(seed, Target::Binary, Target::Real));
    }
}

/// Were the real one not equal to itself, the mask would be too small or the operations not repeatable.
#[test]
fn the_real_etcd_answers_like_itself() {
    run_alone(run_alike(5, Target::Real, Target::Real));
}
