//! Random requests, compactions, crashes and reads, against a [plain model](keyspace).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod keyspace;

use std::sync::Arc;

use api::LeaseId;
use api::mvccpb::KeyValue;
use backend::{Backend, MemBackend};
use bytes::Bytes;
use etcd_rs_mvcc::{
    ChangeKind, Changes, Compaction, Error, Order, RangeOptions, RangeResult, Revision, Store, Target,
    WriteTxn,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message as _;

use keyspace::{Answer, Keyspace};

const KEYS: [&[u8]; 7] = [b"a", b"a\0", b"a\0\0", b"ab", b"b", b"b\xff", b"c"];
const VALUES: [&[u8]; 4] = [b"", b"v", b"w", b"a longer value"];
const ENDS: [&[u8]; 7] = [b"", b"", b"\0", b"a\0", b"b", b"c", b"zz"];

#[derive(Clone, Debug)]
enum Op {
    Put { key: &'static [u8], value: &'static [u8], lease: i64 },
    Delete { key: &'static [u8], end: &'static [u8] },
    Read(Box<Asked>),
}

#[derive(Clone, Debug)]
enum Request {
    Ops(Vec<Op>),
    Compact(Index),
}

/// Range options in which revisions are still relative.
#[derive(Clone, Debug)]
struct Asked {
    options: RangeOptions,
    revision: Option<Index>,
    filters: [Option<Index>; 4],
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Request>),
    Abandon(Vec<Request>),
    Chunk(usize),
    Finish,
    Flush,
    /// Opens the backend anew, without what had not been flushed.
    Crash,
    /// Opens it anew with everything.
    Reopen,
    /// Goes over to a copy, as when another member's state is installed.
    Replace,
    Read(Box<Asked>),
    Stream(Box<Asked>),
    Changes(Index, usize, usize),
    Hash(Index),
}

fn asked() -> impl Strategy<Value = Asked> {
    let what = (select(&KEYS[..]), select(&ENDS[..]), -1..6i64, any::<[bool; 2]>());
    let order = (
        select(&[Order::None, Order::None, Order::Ascend, Order::Descend][..]),
        select(&[Target::Key, Target::Key, Target::Version, Target::Create, Target::Mod, Target::Value][..]),
    );
    let revision = prop::option::of(any::<Index>());
    let filters = prop::array::uniform4(prop::option::weighted(0.1, any::<Index>()));
    (what, order, revision, filters).prop_map(
        |((key, end, limit, [a, b]), (order, target), revision, filters)| {
            let mut options = RangeOptions::new(key, end);
            (options.limit, options.order, options.target) = (limit, order, target);
            (options.keys_only, options.count_only) = (a, b && !a);
            Asked { options, revision, filters }
        },
    )
}

impl Asked {
    fn at(&self, now: i64) -> RangeOptions {
        let mut options = self.options.clone();
        // Sometimes before the beginning or behind the end.
        let pick = |index: &Index| i64::try_from(index.index(usize::try_from(now).unwrap() + 2)).unwrap();
        options.revision = self.revision.as_ref().map_or(0, pick);
        let [a, b, c, d] = self.filters.each_ref().map(|filter| filter.as_ref().map_or(0, pick));
        (options.min_mod_revision, options.max_mod_revision) = (a, b);
        (options.min_create_revision, options.max_create_revision) = (c, d);
        options
    }
}

fn op() -> impl Strategy<Value = Op> {
    let value = select(&VALUES[..]);
    prop_oneof![
        5 => (select(&KEYS[..]), value, select(&[0, 0, 7, -8][..])).prop_map(|(key, value, lease)| Op::Put { key, value, lease }),
        3 => (select(&KEYS[..]), select(&ENDS[..])).prop_map(|(key, end)| Op::Delete { key, end }),
        1 => asked().prop_map(|asked| Op::Read(Box::new(asked))),
    ]
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let request = prop_oneof![
        10 => prop::collection::vec(op(), 0..4).prop_map(Request::Ops),
        2 => any::<Index>().prop_map(Request::Compact),
    ];
    prop::collection::vec(request, 0..5)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => requests().prop_map(Step::Commit),
        1 => requests().prop_map(Step::Abandon),
        4 => (1..5usize).prop_map(Step::Chunk),
        2 => Just(Step::Finish),
        2 => Just(Step::Flush),
        1 => Just(Step::Crash),
        1 => Just(Step::Reopen),
        1 => Just(Step::Replace),
        6 => asked().prop_map(|asked| Step::Read(Box::new(asked))),
        2 => asked().prop_map(|asked| Step::Stream(Box::new(asked))),
        2 => (any::<Index>(), 1..5usize, 0..200usize).prop_map(|(from, n, bytes)| Step::Changes(from, n, bytes)),
        2 => any::<Index>().prop_map(Step::Hash),
    ]
}

fn decoded(kvs: &[Bytes]) -> Vec<KeyValue> {
    kvs.iter().map(|kv| KeyValue::decode(kv.clone()).unwrap()).collect()
}

fn answer(result: Result<RangeResult, Error>) -> Answer {
    match result {
        Ok(RangeResult { revision, count, more, kvs }) => {
            Answer::Found { revision, count, more, kvs: decoded(&kvs) }
        }
        Err(Error::Compacted) => Answer::Compacted,
        Err(Error::FutureRevision) => Answer::Future,
        Err(error) => panic!("{error}"),
    }
}

/// A store, what it should be, and what it should be after a crash.
struct Run {
    backend: Arc<MemBackend>,
    store: Store,
    compactions: Vec<Compaction>,
    model: Keyspace,
    flushed: Keyspace,
    /// Revisions whose hash the compactions at them have left.
    hashed: Vec<i64>,
    /// The compaction that the last restart has interrupted; it leaves no hash.
    interrupted: i64,
}

impl Run {
    fn new() -> Self {
        let backend = Arc::new(MemBackend::forgetful());
        let store = Store::open(backend.clone()).unwrap();
        let (model, flushed) = <(Keyspace, Keyspace)>::default();
        Self { backend, store, compactions: Vec::new(), model, flushed, hashed: Vec::new(), interrupted: -1 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit(requests) => self.commit(&requests),
            Step::Abandon(requests) => {
                let mut model = self.model.clone();
                let mut txn = self.store.write();
                requests.iter().for_each(|request| drop(run(&mut txn, &mut model, request)));
            }
            Step::Chunk(limit) => self.chunk(limit),
            Step::Finish => {
                while !self.compactions.is_empty() {
                    self.chunk(100);
                }
            }
            Step::Flush => {
                self.backend.flush().unwrap();
                self.flushed = self.model.clone();
            }
            Step::Crash => {
                self.backend = Arc::new(self.backend.crash());
                self.model = self.flushed.clone();
                self.reopen();
            }
            Step::Reopen => self.reopen(),
            Step::Replace => self.replace(),
            Step::Read(asked) => {
                let options = asked.at(self.model.revision);
                let found = answer(self.store.reader().range(&options));
                assert_eq!(found, self.model.range(&options), "{options:?}");
            }
            Step::Stream(asked) => self.stream(&asked),
            Step::Changes(from, revisions, bytes) => self.changes(&from, revisions, bytes),
            Step::Hash(at) => self.hash(&at),
        }
        self.check();
    }

    fn commit(&mut self, requests: &[Request]) {
        let before = self.model.changes.len();
        let mut txn = self.store.write();
        for request in requests {
            self.compactions.extend(run(&mut txn, &mut self.model, request));
            assert_eq!(txn.revision(), self.model.revision);
        }
        let commit = txn.commit().unwrap();
        assert_eq!(commit.revision, self.model.revision);
        let changes: Vec<_> = self.model.changes[before..].iter().collect();
        check_changes(&commit.changes, &changes, &self.model);
    }

    fn chunk(&mut self, limit: usize) {
        let Some(compaction) = self.compactions.first() else { return };
        if !compaction.run_chunk(limit).unwrap() {
            assert!(compaction.is_finished());
            self.model.finish_compaction(compaction.revision());
            if compaction.revision() > self.interrupted {
                self.hashed.push(compaction.revision());
            }
            self.compactions.remove(0);
        }
    }

    fn reopen(&mut self) {
        self.store = Store::open(self.backend.clone()).unwrap();
        self.found();
    }

    fn replace(&mut self) {
        let options = RangeOptions::new("", "\0");
        let (reader, expected) = (self.store.reader(), self.model.range(&options));
        let before = reader.read();
        self.backend.flush().unwrap();
        self.flushed = self.model.clone();
        self.backend = Arc::new(self.backend.crash());
        self.store.replace(self.backend.clone()).unwrap();
        for compaction in &self.compactions {
            assert!(!compaction.run_chunk(1).unwrap(), "nobody needs it any more");
        }
        for found in [before.range(&options), reader.range(&options)] {
            assert_eq!(answer(found), expected, "before and after are the same");
        }
        self.found();
        let mut txn = self.store.write();
        txn.put("b".into(), "replaced".into(), LeaseId::NONE).unwrap();
        drop(txn);
        assert_eq!(reader.revision(), self.model.revision);
    }

    /// What an opened store must know of itself.
    fn found(&mut self) {
        self.compactions = self.store.interrupted_compaction().into_iter().collect();
        self.hashed.clear();
        self.interrupted = self.compactions.first().map_or(-1, Compaction::revision);
        if self.compactions.is_empty() {
            self.model.finish_compaction(self.model.compact_revision);
        }
        let mut leased = Vec::new();
        self.store.for_each_leased(|key, lease| leased.push((key.to_vec(), lease.get())));
        let expected = self.model.state_at(self.model.revision).into_iter().filter(|(_, kv)| kv.lease != 0);
        assert!(expected.map(|(key, kv)| (key, kv.lease)).eq(leased));
    }

    fn stream(&self, asked: &Asked) {
        let mut options = asked.at(self.model.revision);
        (options.order, options.target) = (Order::None, Target::Key);
        (options.min_mod_revision, options.max_mod_revision) = (0, 0);
        (options.min_create_revision, options.max_create_revision) = (0, 0);
        let expected = self.model.range(&options);
        let mut stream = match self.store.reader().stream(options, 40) {
            Ok(stream) => stream,
            Err(error) => return assert_eq!(answer(Err(error)), expected),
        };
        let mut kvs = Vec::new();
        let (revision, count, more) = loop {
            let chunk = stream.next_chunk().unwrap();
            kvs.extend(decoded(&chunk.kvs));
            if chunk.last {
                break (chunk.revision, chunk.count, chunk.more);
            }
            assert!(!chunk.kvs.is_empty() && !chunk.more && chunk.count == 0);
        };
        assert_eq!(Answer::Found { revision, count, more, kvs }, expected);
    }

    fn changes(&self, from: &Index, max_revisions: usize, max_bytes: usize) {
        let from = i64::try_from(from.index(usize::try_from(self.model.revision).unwrap() + 2)).unwrap();
        let found = match self.store.reader().changes(from, max_revisions, max_bytes) {
            Ok(found) => found,
            Err(error) => {
                assert!(matches!(error, Error::Compacted) && from < self.model.compact_revision, "{error}");
                return;
            }
        };
        assert!(from >= self.model.compact_revision);
        assert!(found.len() <= max_revisions);
        // Of the compacted request itself there may be more than the compaction is going to leave.
        let later = |main: i64| main > self.model.compact_revision;
        let expected = self.model.changes.iter().filter(|change| change.main >= from && later(change.main));
        let mut expected: Vec<_> = expected.collect();
        let is_full = found.len() == max_revisions || max_bytes < 300;
        if let Some(last) = found.last().map(|changes| changes.main).filter(|_| is_full) {
            expected.retain(|change| change.main <= last);
        }
        let found: Vec<Changes> = found.into_iter().filter(|changes| later(changes.main)).collect();
        check_changes(&found, &expected, &self.model);
    }

    fn hash(&self, at: &Index) {
        let at = i64::try_from(at.index(usize::try_from(self.model.revision).unwrap())).unwrap() + 1;
        let found = self.store.reader().hash_kv(at);
        if self.hashed.contains(&at) {
            assert_eq!(found.unwrap().hash_revision, at);
        } else if at < self.model.compact_revision {
            assert!(matches!(found, Err(Error::Compacted)));
        } else if let Some(expected) = self.model.hash(at, !self.compactions.is_empty()) {
            assert_eq!(found.unwrap(), expected);
        }
    }

    /// What holds after every step.
    fn check(&self) {
        let reader = self.store.reader();
        reader.check_invariants();
        assert_eq!(
            (reader.revision(), reader.compact_revision()),
            (self.model.revision, self.model.compact_revision)
        );
        let state = self.model.state_at(self.model.revision);
        assert_eq!(reader.keys(), state.len() as u64);
        let view = reader.read();
        for key in KEYS {
            let kv = view.kv(key).unwrap().map(|kv| KeyValue::decode(kv).unwrap());
            assert_eq!(kv.as_ref(), state.get(key));
            assert_eq!(view.lookup(key).map(|meta| meta.version), kv.map(|kv| kv.version));
        }
        if self.compactions.is_empty() {
            assert_eq!(reader.live_bytes(), self.model.stored_bytes());
        }
    }
}

/// Runs a request on both sides.
fn run(txn: &mut WriteTxn<'_>, model: &mut Keyspace, request: &Request) -> Option<Compaction> {
    match request {
        Request::Compact(index) => {
            let at = i64::try_from(index.index(usize::try_from(model.revision).unwrap() + 3)).unwrap() - 1;
            match txn.compact(at) {
                Ok(compaction) => {
                    assert!(at > model.compact_revision && at <= model.revision);
                    model.compact_revision = at;
                    return Some(compaction);
                }
                Err(Error::Compacted) => assert!(at <= model.compact_revision),
                Err(Error::FutureRevision) => assert!(at > model.revision),
                Err(error) => panic!("{error}"),
            }
        }
        Request::Ops(ops) => {
            for op in ops {
                match op {
                    Op::Put { key, value, lease } => {
                        let old = model.state_at(model.now()).remove(*key);
                        let lease_id = LeaseId::new(*lease);
                        assert_eq!(txn.previous(key).unwrap(), old);
                        let previous =
                            txn.put(Bytes::from_static(key), Bytes::from_static(value), lease_id).unwrap();
                        assert_eq!(
                            previous.map(|m| (
                                m.create_revision,
                                m.mod_revision.main(),
                                m.version,
                                m.lease.get(),
                                m.value_size
                            )),
                            old.map(|kv| (
                                kv.create_revision,
                                kv.mod_revision,
                                kv.version,
                                kv.lease,
                                kv.value.len()
                            )),
                        );
                        model.put(key, value, *lease);
                    }
                    Op::Delete { key, end } => {
                        let deleted =
                            txn.delete_range(&Bytes::from_static(key), &Bytes::from_static(end)).unwrap();
                        assert!(deleted.iter().map(|deleted| &deleted.key[..]).eq(model.delete(key, end)));
                    }
                    Op::Read(asked) => {
                        let options = asked.at(model.revision);
                        assert_eq!(
                            answer(txn.range(&options)),
                            model.range(&options),
                            "{options:?} in a transaction"
                        );
                    }
                }
            }
            model.end_request();
            assert_eq!(txn.end_request(), model.revision);
        }
    }
    None
}

fn check_changes(found: &[Changes], expected: &[&keyspace::Change], model: &Keyspace) {
    assert!(found.iter().all(|changes| !changes.changes.is_empty()));
    let flat: Vec<_> = found.iter().flat_map(|c| c.changes.iter().map(|change| (c.main, change))).collect();
    assert_eq!(flat.len(), expected.len(), "{found:#?}\nshould be\n{expected:#?}");
    for ((main, change), expected) in flat.into_iter().zip(expected) {
        assert_eq!((main, &change.key), (expected.main, &expected.kv.key));
        assert_eq!(change.kind, if expected.tombstone { ChangeKind::Delete } else { ChangeKind::Put });
        let kv = KeyValue::decode(change.kv.clone()).unwrap();
        if expected.tombstone {
            let only = KeyValue { key: expected.kv.key.clone(), mod_revision: main, ..KeyValue::default() };
            assert_eq!(kv, only);
        } else {
            assert_eq!(kv, expected.kv);
            assert_eq!(
                (change.create_revision, change.version, change.lease.get()),
                (kv.create_revision, kv.version, kv.lease)
            );
        }
        let before = model.state_at(main - 1).remove(&expected.kv.key[..]);
        assert_eq!(change.previous.map(Revision::main), before.map(|kv| kv.mod_revision), "{change:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_does_what_the_model_does(steps in prop::collection::vec(step(), 0..40)) {
        let mut run = Run::new();
        steps.into_iter().for_each(|step| run.step(step));
    }
}
