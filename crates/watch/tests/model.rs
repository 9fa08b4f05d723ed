//! Random commits, watchers, full outboxes, compactions and snapshots against a plain list of all events ever: what a watcher
//! is sent must be ordered, unique, reliable, atomic, resumable and bookmarkable.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use api::mvccpb::{Event, KeyValue};
use bytes::Bytes;
use common::{IDENTITY, Inbox, World};
use etcd_rs_watch::{NO_WATCH_ID, Options, StreamId};
use mvcc::Commit;
use proptest::prelude::*;
use prost::Message as _;

const STREAMS: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Put(u8),
    Delete(u8, u8),
}

#[derive(Clone, Debug)]
enum Step {
    /// Some requests in one commit.
    Commit(Vec<Vec<Op>>),
    /// Publish what was committed.
    Publish,
    Watch {
        stream: usize,
        key: u8,
        end: u8,
        back: i64,
        filters: u8,
        prev_kv: bool,
        fragment: bool,
    },
    Cancel {
        stream: usize,
        nth: usize,
    },
    Progress(usize),
    Tick(usize),
    Read {
        stream: usize,
        count: usize,
    },
    Room {
        stream: usize,
        room: usize,
    },
    Sync(usize),
    Compact(i64),
    Reset,
    /// Another member's state is installed; what was committed there is not published here.
    Install(usize),
    Reopen(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![3 => (0..6_u8).prop_map(Op::Put), 1 => (0..6_u8, 0..7_u8).prop_map(|(a, b)| Op::Delete(a, b))]
}

fn step() -> impl Strategy<Value = Step> {
    let stream = 0..STREAMS;
    let watch = (stream.clone(), 0..6_u8, 0..8_u8, -4..12_i64, 0..4_u8, any::<(bool, bool)>()).prop_map(
        |(stream, key, end, back, filters, (prev_kv, fragment))| Step::Watch {
            stream,
            key,
            end,
            back,
            filters,
            prev_kv,
            fragment,
        },
    );
    let requests = proptest::collection::vec(proptest::collection::vec(op(), 1..4), 1..4);
    prop_oneof![
        6 => requests.prop_map(Step::Commit),
        6 => Just(Step::Publish),
        5 => watch,
        2 => (stream.clone(), 0..5_usize).prop_map(|(stream, nth)| Step::Cancel { stream, nth }),
        3 => stream.clone().prop_map(Step::Progress),
        2 => stream.clone().prop_map(Step::Tick),
        3 => (stream.clone(), 1..6_usize).prop_map(|(stream, count)| Step::Read { stream, count }),
        3 => (stream.clone(), 0..8_usize).prop_map(|(stream, room)| Step::Room { stream, room }),
        4 => (1..4_usize).prop_map(Step::Sync),
        1 => (0..8_i64).prop_map(Step::Compact),
        1 => Just(Step::Reset),
        1 => (0..3_usize).prop_map(Step::Install),
        1 => stream.prop_map(Step::Reopen),
    ]
}

/// What one watcher wanted and was sent.
#[derive(Debug)]
struct Seen {
    request: WatchCreateRequest,
    /// The first revision it is owed.
    from: i64,
    /// The response that is being put together of fragments.
    open: Vec<Event>,
    events: Vec<Event>,
    /// How far progress was told.
    bookmark: i64,
    ended: Option<i64>,
}

#[derive(Debug)]
struct Client {
    stream: StreamId,
    inbox: Arc<Inbox>,
    watchers: BTreeMap<i64, Seen>,
    /// Creations on their way, in order.
    asked: Vec<WatchCreateRequest>,
}

struct Play {
    world: World,
    clients: Vec<Client>,
    held: Vec<Commit>,
    /// Every event ever, with its previous value.
    all: Vec<Event>,
    live: BTreeMap<Bytes, KeyValue>,
    compacted: i64,
    /// Everything that was received, by stream.
    log: Vec<(usize, WatchResponse)>,
}

fn key(number: u8) -> Bytes {
    vec![b'a' + number].into()
}

impl Play {
    fn new() -> Self {
        let options = Options {
            fragment_bytes: 90,
            history_revisions: 3,
            history_bytes: 200,
            ..Options::new(IDENTITY)
        };
        let mut world = World::with(options);
        let clients = (0..STREAMS)
            .map(|_| {
                let inbox = Inbox::endless();
                let stream = world.hub.open(inbox.clone());
                Client { stream, inbox, watchers: BTreeMap::new(), asked: Vec::new() }
            })
            .collect();
        Self {
            world,
            clients,
            held: Vec::new(),
            all: Vec::new(),
            live: BTreeMap::new(),
            compacted: -1,
            log: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit(requests) => self.commit(&requests),
            Step::Publish => self.publish(),
            Step::Watch { stream, key: at, end, back, filters, prev_kv, fragment } => {
                let current = self.world.store.reader().revision();
                let request = WatchCreateRequest {
                    key: key(at),
                    range_end: match end {
                        0 => Bytes::new(),
                        7 => Bytes::from_static(&[0]),
                        end => key(end),
                    },
                    start_revision: if back == 0 { 0 } else { (current - back).max(1) },
                    filters: (0..2).filter(|bit| filters & (1 << bit) != 0).collect(),
                    prev_kv,
                    fragment,
                    progress_notify: true,
                    watch_id: 0,
                };
                let client = &mut self.clients[stream];
                client.asked.push(request.clone());
                self.world.hub.create(client.stream, &request);
            }
            Step::Cancel { stream, nth } => {
                let client = &self.clients[stream];
                let id = client.watchers.keys().nth(nth).copied().unwrap_or(77);
                self.world.hub.cancel(client.stream, id);
            }
            Step::Progress(stream) => self.world.hub.progress(self.clients[stream].stream),
            Step::Tick(stream) => self.world.hub.tick_progress(self.clients[stream].stream),
            Step::Read { stream, count } => {
                for _ in 0..count {
                    let Some(response) = self.clients[stream].inbox.next() else { break };
                    self.receive(stream, &response);
                }
            }
            Step::Room { stream, room } => self.clients[stream].inbox.set_room(room),
            Step::Sync(stretches) => {
                let _more = self.world.hub.sync(stretches).unwrap();
            }
            Step::Compact(back) => {
                let revision = self.world.store.reader().revision() - back;
                if revision > self.compacted && revision > 0 {
                    self.world.compact(revision);
                    self.compacted = revision;
                }
            }
            Step::Reset => self.world.hub.reset(self.world.store.reader()),
            Step::Install(stretches) => {
                self.world.replace();
                // The hub may work on before it is told.
                let _more = self.world.hub.sync(stretches).unwrap();
                self.held.clear();
                self.world.hub.reset(self.world.store.reader());
            }
            Step::Reopen(stream) => {
                self.world.hub.close(self.clients[stream].stream);
                self.drain(stream);
                let inbox = Inbox::with_room(5);
                let stream_id = self.world.hub.open(inbox.clone());
                let client =
                    Client { stream: stream_id, inbox, watchers: BTreeMap::new(), asked: Vec::new() };
                let old = std::mem::replace(&mut self.clients[stream], client);
                for (_, seen) in old.watchers {
                    self.check_prefix(&seen);
                }
            }
        }
    }

    fn commit(&mut self, requests: &[Vec<Op>]) {
        let mut txn = self.world.store.write();
        for request in requests {
            // As etcd's transactions, a request changes a key once: of two changes in the compacted revision itself,
            // compaction leaves only the later one.
            let mut touched = [false; 8];
            for op in request {
                let (Op::Put(first) | Op::Delete(first, _)) = *op;
                let last = if let Op::Delete(_, end @ 1..) = *op { end } else { first + 1 };
                let keys = usize::from(first)..usize::from(last.max(first));
                if touched[keys.clone()].contains(&true) {
                    continue;
                }
                touched[keys].fill(true);
                match *op {
                    Op::Put(at) => {
                        txn.put(key(at), vec![b'v'; usize::from(at) * 7].into(), api::LeaseId::NONE)
                            .map(drop)
                            .unwrap();
                    }
                    Op::Delete(at, end) => {
                        let end = if end == 0 { Bytes::new() } else { key(end) };
                        txn.delete_range(&key(at), &end).map(drop).unwrap();
                    }
                }
            }
            txn.end_request();
        }
        let commit = txn.commit().unwrap();
        for changes in &commit.changes {
            let before = self.live.clone();
            for change in &changes.changes {
                let kv = KeyValue::decode(change.kv.clone()).unwrap();
                let delete = kv.version == 0;
                let created = kv.create_revision == kv.mod_revision;
                let prev_kv = before.get(&kv.key).filter(|_| !created).cloned();
                if delete {
                    self.live.remove(&kv.key);
                } else {
                    self.live.insert(kv.key.clone(), kv.clone());
                }
                self.all.push(Event { r#type: delete.into(), kv: Some(kv), prev_kv });
            }
        }
        self.held.push(commit);
    }

    fn publish(&mut self) {
        for commit in std::mem::take(&mut self.held) {
            self.world.hub.publish(&commit, 1).unwrap();
        }
    }

    fn drain(&mut self, stream: usize) {
        for response in self.clients[stream].inbox.read() {
            self.receive(stream, &response);
        }
    }

    fn receive(&mut self, stream: usize, response: &WatchResponse) {
        self.log.push((stream, response.clone()));
        let header = response.header.unwrap();
        if response.created {
            let request = self.clients[stream].asked.remove(0);
            if response.canceled {
                assert_eq!(
                    (response.watch_id, &response.cancel_reason[..]),
                    (NO_WATCH_ID, "mvcc: watcher range is empty")
                );
                return;
            }
            let from = if request.start_revision == 0 { header.revision + 1 } else { request.start_revision };
            let seen = Seen { request, from, open: Vec::new(), events: Vec::new(), bookmark: 0, ended: None };
            if let Some(old) = self.clients[stream].watchers.insert(response.watch_id, seen) {
                assert!(old.ended.is_some(), "an id is used again only after its end");
            }
            return;
        }
        if response.watch_id == NO_WATCH_ID {
            let mut watchers = std::mem::take(&mut self.clients[stream].watchers);
            for seen in watchers.values_mut() {
                // A cancelled watcher is not part of the stream any more.
                if seen.ended.is_none() {
                    self.check_bookmark(seen, header.revision);
                }
            }
            self.clients[stream].watchers = watchers;
            return;
        }
        let mut seen =
            self.clients[stream].watchers.remove(&response.watch_id).expect("only created watchers are told");
        if response.canceled && response.compact_revision > 0 {
            assert!(seen.ended.is_none() && response.events.is_empty() && header.revision == 0);
            self.check_prefix(&seen);
            let next = self.owed(&seen).get(seen.events.len()).map_or(i64::MAX, |event| revision(event));
            assert!(
                seen.events.last().map_or(seen.from, revision) < response.compact_revision,
                "{seen:?} next {next}"
            );
            seen.ended = Some(response.compact_revision);
        } else if response.canceled {
            self.check_prefix(&seen);
            seen.ended = Some(0);
        } else if response.events.is_empty() {
            self.check_bookmark(&mut seen, header.revision);
        } else {
            assert!(seen.ended.is_none(), "no events after the end");
            Self::receive_events(&mut seen, response, header.revision);
        }
        self.clients[stream].watchers.insert(response.watch_id, seen);
    }

    fn receive_events(seen: &mut Seen, response: &WatchResponse, header_revision: i64) {
        assert!(response.events.len() == 1 || seen.request.fragment || !response.fragment);
        seen.open.extend(response.events.iter().cloned());
        if response.fragment {
            return;
        }
        let events = std::mem::take(&mut seen.open);
        let (first, last) = (revision(&events[0]), revision(events.last().unwrap()));
        assert!(last <= header_revision);
        assert!(first > seen.bookmark, "progress must not overtake events");
        assert!(seen.events.last().is_none_or(|event| revision(event) < first), "a revision is never split");
        seen.events.extend(events);
    }

    fn check_bookmark(&self, seen: &mut Seen, at: i64) {
        assert!(at >= seen.bookmark && seen.open.is_empty() && at >= seen.request.start_revision);
        seen.bookmark = at;
        let owed = self.owed(seen).iter().filter(|event| revision(event) <= at).count();
        assert_eq!(seen.events.len(), owed, "progress at {at} promises all events up to it: {seen:?}");
    }

    /// All events that a watcher is to be sent if it lives long enough.
    fn owed(&self, seen: &Seen) -> Vec<&Event> {
        let request = &seen.request;
        let wants = |event: &&Event| {
            let key = &event.kv.as_ref().unwrap().key;
            let inside = match &request.range_end[..] {
                [] => *key == request.key,
                [0] => *key >= request.key,
                end => *key >= request.key && key < end,
            };
            inside && revision(event) >= seen.from && !request.filters.contains(&event.r#type)
        };
        self.all.iter().filter(wants).collect()
    }

    /// What was sent is the beginning of what is owed.
    fn check_prefix(&self, seen: &Seen) {
        let owed = self.owed(seen);
        assert!(seen.events.len() <= owed.len());
        for (sent, owed) in seen.events.iter().zip(owed) {
            assert_eq!((sent.r#type, &sent.kv), (owed.r#type, &owed.kv));
            match &sent.prev_kv {
                Some(_) => assert!(seen.request.prev_kv && sent.prev_kv == owed.prev_kv),
                None => assert!(
                    !seen.request.prev_kv || owed.prev_kv.is_none() || revision(owed) <= self.compacted,
                    "the previous value is missing of {owed:?}"
                ),
            }
        }
    }

    /// Everybody reads everything; then who still lives must have got all. Returns what was received.
    fn finish(mut self) -> Vec<(usize, WatchResponse)> {
        self.publish();
        while {
            for stream in 0..STREAMS {
                self.clients[stream].inbox.set_room(100);
                self.drain(stream);
            }
            self.world.hub.sync(10).unwrap() || self.world.hub.stats().unsynced > 0
        } {}
        let current = self.world.store.reader().revision();
        for stream in 0..STREAMS {
            self.drain(stream);
            for seen in self.clients[stream].watchers.values() {
                self.check_prefix(seen);
                assert!(seen.open.is_empty());
                if seen.ended.is_none() {
                    assert_eq!(seen.events.len(), self.owed(seen).len(), "an event was lost: {seen:?}");
                }
            }
            let client = &self.clients[stream];
            let blocked = client.watchers.values().any(|seen| {
                seen.ended.is_some_and(|compacted| compacted > 0)
                    || (seen.ended.is_none() && seen.request.start_revision > current)
            });
            let alive = client.watchers.values().any(|seen| seen.ended.is_none());
            self.world.hub.progress(client.stream);
            let answers = client.inbox.read();
            assert_eq!(answers.len(), usize::from(alive && !blocked));
            assert!(answers.iter().all(|answer| answer.header.unwrap().revision == current));
        }
        self.log
    }
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().unwrap().mod_revision
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_is_sent_what_it_is_owed_and_the_same_each_time(
        steps in proptest::collection::vec(step(), 1..70),
    ) {
        let play = || {
            let mut play = Play::new();
            steps.iter().for_each(|step| play.step(step.clone()));
            play.finish()
        };
        assert_eq!(play(), play());
    }
}
