//! Random lives of leases against a plain list that is searched from end to end.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::time::Duration;

use api::LeaseId;
use backend::{Backend, MemBackend};
use bytes::Bytes;
use etcd_rs_lease::{Checkpoint, Error, Lessor, Options, TimeToLive};
use proptest::prelude::*;

const MIN_TTL: i64 = 2;
const RETRY: Duration = Duration::from_secs(3);
const INTERVAL: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
enum Step {
    Grant(i64, i64),
    Revoke(i64),
    Attach(i64, u8),
    Detach(i64, u8),
    Renew(i64),
    Pass(u64),
    Expired(usize),
    Promote(u64),
    Demote,
    Checkpoint(i64, i64),
    CommitCheckpoints,
    Restart,
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let id = -2..4_i64;
    prop_oneof![
        3 => (id.clone(), 0..60_i64).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        1 => id.clone().prop_map(Step::Revoke),
        2 => (id.clone(), 0..30_u8).prop_map(|(id, key)| Step::Attach(id, key)),
        1 => (id.clone(), 0..30_u8).prop_map(|(id, key)| Step::Detach(id, key)),
        4 => id.clone().prop_map(Step::Renew),
        4 => (0..9000_u64).prop_map(Step::Pass),
        3 => (1..4_usize).prop_map(Step::Expired),
        1 => (0..3_u64).prop_map(Step::Promote),
        1 => Just(Step::Demote),
        1 => (id, -1..70_i64).prop_map(|(id, ttl)| Step::Checkpoint(id, ttl)),
        1 => Just(Step::CommitCheckpoints),
        1 => Just(Step::Restart),
        1 => Just(Step::Reset),
    ]
}

#[derive(Clone, Debug)]
struct Plain {
    id: i64,
    ttl: i64,
    remaining: i64,
    expiry: Option<Duration>,
    again: Option<Duration>,
    keys: BTreeSet<Bytes>,
}

#[derive(Debug, Default)]
struct Model {
    now: Duration,
    primary: bool,
    leases: Vec<Plain>,
}

impl Model {
    fn find(&mut self, id: i64) -> Option<&mut Plain> {
        self.leases.iter_mut().find(|lease| lease.id == id)
    }

    fn renewed(&mut self, id: i64) -> Result<i64, &'static str> {
        let (now, primary) = (self.now, self.primary);
        match self.find(id) {
            _ if !primary => Err("not primary"),
            None => Err("not found"),
            Some(lease) if lease.expiry.unwrap() <= now => Err("expired"),
            Some(lease) if lease.remaining > 0 => Err("checkpointed"),
            Some(lease) => {
                lease.expiry = Some(now + seconds(lease.ttl));
                Ok(lease.ttl)
            }
        }
    }

    fn expired(&mut self, limit: usize) -> Vec<LeaseId> {
        let now = self.now;
        let turn = |lease: &Plain| lease.again.or(lease.expiry);
        let mut due: Vec<_> = self.leases.iter_mut().filter(|l| turn(l).is_some_and(|t| t <= now)).collect();
        due.sort_by_key(|lease| (turn(lease), lease.id));
        due.truncate(limit);
        due.into_iter()
            .map(|lease| {
                lease.again = Some(now + RETRY);
                LeaseId::new(lease.id)
            })
            .collect()
    }

    fn demote(&mut self) {
        self.primary = false;
        for lease in &mut self.leases {
            (lease.expiry, lease.again) = (None, None);
        }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.try_into().unwrap())
}

fn name(error: &Error) -> &'static str {
    match error {
        Error::NotPrimary => "not primary",
        Error::NotFound(_) => "not found",
        Error::Expired(_) => "expired",
        Error::Checkpointed(_) => "checkpointed",
        other => panic!("unexpected: {other}"),
    }
}

fn open(backend: &MemBackend) -> Lessor {
    let options = Options {
        min_ttl: Duration::from_millis(1500),
        revoke_retry: RETRY,
        checkpoint_interval: Some(INTERVAL),
    };
    Lessor::open(backend, options).unwrap()
}

fn play(steps: &[Step]) {
    let backend = MemBackend::new();
    let mut lessor = open(&backend);
    let mut model = Model::default();
    for step in steps {
        let mut tx = backend.begin();
        let now = model.now;
        match *step {
            Step::Grant(id, ttl) => {
                let granted = lessor.grant(&mut tx, LeaseId::new(id), ttl, now);
                if id == 0 || model.find(id).is_some() {
                    assert!(granted.is_err());
                } else {
                    let ttl = ttl.max(MIN_TTL);
                    assert_eq!(granted.unwrap(), ttl);
                    let expiry = model.primary.then(|| now + seconds(ttl));
                    let keys = BTreeSet::new();
                    model.leases.push(Plain { id, ttl, remaining: 0, expiry, again: None, keys });
                }
            }
            Step::Revoke(id) => {
                let keys = lessor.revoke(&mut tx, LeaseId::new(id)).ok();
                let at = model.leases.iter().position(|lease| lease.id == id);
                let plain = at.map(|at| model.leases.remove(at));
                assert_eq!(keys, plain.map(|lease| lease.keys.into_iter().collect()));
            }
            Step::Attach(id, key) => {
                let attached = lessor.attach(LeaseId::new(id), &[key]).is_ok();
                let known = model.find(id).map(|lease| lease.keys.insert(vec![key].into()));
                assert_eq!(attached, known.is_some());
            }
            Step::Detach(id, key) => {
                lessor.detach(LeaseId::new(id), &[key]);
                if let Some(lease) = model.find(id) {
                    lease.keys.remove([key].as_slice());
                }
            }
            Step::Renew(id) => {
                let renewed = lessor.renew(LeaseId::new(id), now);
                assert_eq!(renewed.map_err(|error| name(&error)), model.renewed(id));
            }
            Step::Pass(ms) => model.now += Duration::from_millis(ms),
            Step::Expired(limit) => {
                assert!(lessor.next_expiry().is_none_or(|next| {
                    model.leases.iter().all(|lease| lease.again.or(lease.expiry).unwrap() >= next)
                }));
                assert_eq!(lessor.expired(now, limit), model.expired(limit));
            }
            Step::Promote(extend) => {
                let extend = Duration::from_secs(extend);
                lessor.promote(now, extend);
                model.demote();
                model.primary = true;
                for lease in &mut model.leases {
                    let owed = if lease.remaining > 0 { lease.remaining } else { lease.ttl };
                    lease.expiry = Some(now + extend + seconds(owed));
                }
            }
            Step::Demote => {
                lessor.demote();
                model.demote();
            }
            Step::Checkpoint(id, remaining_ttl) => {
                lessor.checkpoint(&mut tx, Checkpoint { id: LeaseId::new(id), remaining_ttl }, now);
                if let Some(lease) = model.find(id) {
                    lease.remaining = remaining_ttl.clamp(0, lease.ttl);
                }
            }
            Step::CommitCheckpoints => {
                for checkpoint in lessor.checkpoints_due(now, 100) {
                    lessor.checkpoint(&mut tx, checkpoint, now);
                    let lease = model.find(checkpoint.id.get()).unwrap();
                    let left = lease.expiry.unwrap() - now;
                    assert!(seconds(checkpoint.remaining_ttl) >= left, "never less than promised");
                    assert!(seconds(checkpoint.remaining_ttl - 1) < left);
                    lease.remaining = checkpoint.remaining_ttl;
                }
            }
            Step::Restart | Step::Reset => {
                let keys = model.leases.iter().flat_map(|l| l.keys.iter().map(|k| (LeaseId::new(l.id), k)));
                if let Step::Reset = *step {
                    lessor.reset(&backend, keys).unwrap();
                } else {
                    lessor = open(&backend);
                    lessor.attach_many(keys).unwrap();
                }
                model.demote();
            }
        }
        backend.commit(tx).unwrap();
        compare(&lessor, &mut model);
    }
}

fn compare(lessor: &Lessor, model: &mut Model) {
    assert_eq!(lessor.is_primary(), model.primary);
    model.leases.sort_by_key(|lease| (lease.expiry, lease.id));
    let ids: Vec<LeaseId> = model.leases.iter().map(|lease| LeaseId::new(lease.id)).collect();
    assert_eq!(lessor.leases(), ids);
    for lease in &model.leases {
        let id = LeaseId::new(lease.id);
        let keys: Vec<Bytes> = lease.keys.iter().cloned().collect();
        assert_eq!(lessor.keys(id).unwrap(), keys);
        let Some(expiry) = lease.expiry else {
            assert!(matches!(lessor.time_to_live(id, model.now, false), Err(Error::NotPrimary)));
            continue;
        };
        let remaining_ttl = if expiry >= model.now {
            (expiry - model.now).as_secs().cast_signed()
        } else {
            -(model.now - expiry).as_secs().cast_signed()
        };
        let expected = TimeToLive { remaining_ttl, granted_ttl: lease.ttl, keys };
        assert_eq!(lessor.time_to_live(id, model.now, true).unwrap(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn leases_live_as_in_the_plain_model(steps in proptest::collection::vec(step(), 1..80)) {
        play(&steps);
    }
}
