//! What a member is made of, before it runs: its state, read back from the backend.

use std::sync::Arc;
use std::time::Duration;

use backend::Backend;
use lease::Lessor;
use mvcc::Store;

use crate::apply::{Alarms, AppliedMeta, Members, Quota, attached};
use crate::bootstrap::Identity;
use crate::clock::Clock;
use crate::compactor::{self, Worker};
use crate::config::Config;
use crate::counters::Counters;
use crate::divergence::Divergence;
use crate::error::Result;
use crate::member::{AppliedPosition, Files, Shared};
use crate::proposal::Proposals;
use crate::users::Users;
use crate::watches::Watches;

/// What a member is made of, before it runs.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) meta: AppliedMeta,
    pub(crate) shared: Arc<Shared>,
    pub(crate) compactor: Worker,
}

impl Parts {
    /// Reads the state that `backend` holds.
    ///
    /// # Errors
    /// The state cannot be read, or makes no sense.
    pub(crate) fn open(config: &Config, backend: Arc<dyn Backend>, identity: Identity) -> Result<Self> {
        let store = Store::open(Arc::clone(&backend))?;
        let meta = AppliedMeta::open(&*backend)?;
        let clock = Clock::start();
        let lessor = Lessor::open(
            &*backend,
            lease::Options {
                min_ttl: Duration::from_secs(config.min_lease_ttl().unsigned_abs()),
                revoke_retry: config.request_timeout(),
                ..lease::Options::default()
            },
        )?;
        lessor.attach_many(attached(&store))?;
        let (compactions, compactor) =
            compactor::channel(config.compaction_batch_limit, config.compaction_sleep_interval);
        if let Some(interrupted) = store.interrupted_compaction() {
            compactions.start(interrupted);
        }
        let reader = store.reader();
        let proposals = Arc::new(Proposals::new(
            identity.member_id.get(),
            clock,
            config.max_request_bytes,
            config.request_timeout(),
        ));
        let shared = Arc::new(Shared {
            member_id: identity.member_id,
            cluster_id: identity.cluster_id,
            clock,
            lessor,
            alarms: Alarms::open(&*backend)?,
            members: Members::open(&*backend, identity.member_id)?,
            users: Users::open(&*backend, config, clock)?,
            quota: Quota::new(config.quota_backend_bytes, reader.clone()),
            proposals,
            watches: Watches::new(),
            compactions,
            applied: AppliedPosition::new(&meta),
            divergence: Divergence::new(&config.data_dir),
            counters: Counters::default(),
            reader,
            files: Files::new(backend),
        });
        Ok(Self { store, meta, shared, compactor })
    }
}

#[cfg(test)]
mod tests {
    use api::LeaseId;
    use api::etcdserverpb::{LeaseGrantRequest, PutRequest};
    use api::internal::request::Command;
    use api::internal::{Batch, Request};
    use api::{ClusterId, MemberId};
    use backend::MemBackend;
    use prost::Message as _;
    use raftlog::{Application as _, Entry};

    use super::*;
    use crate::apply::Applier;

    fn parts(backend: &Arc<MemBackend>) -> Parts {
        parts_on(Arc::clone(backend) as Arc<dyn Backend>)
    }

    fn parts_on(backend: Arc<dyn Backend>) -> Parts {
        let config = Config::default();
        let identity = Identity { member_id: MemberId::new(1), cluster_id: ClusterId::new(2) };
        Parts::open(&config, backend, identity).unwrap()
    }

    fn applier(parts: Parts) -> Applier {
        Applier::new(parts.store, parts.meta, parts.shared)
    }

    /// Entry 0 is the log's own. Of the others, every third grants a lease, and the rest put a key twice.
    fn entry(index: u64) -> Entry {
        let put = |value: u64| {
            let request =
                PutRequest { key: "k".into(), value: value.to_string().into(), ..Default::default() };
            Command::Put(request.encode_to_vec().into())
        };
        let commands = match index {
            0 => Vec::new(),
            index if index % 3 == 0 => {
                let id = i64::try_from(index).unwrap();
                vec![Command::LeaseGrant(LeaseGrantRequest { ttl: 100, id })]
            }
            index => vec![put(index), put(index + 1000)],
        };
        let requests = commands
            .into_iter()
            .map(|command| Request { id: index, command: Some(command), ..Default::default() })
            .collect();
        let data = Batch { requests, proposer: 1 }.encode_to_vec().into();
        Entry { term: 1, index, data, membership: None }
    }

    /// What the state says of itself: position, rolling hash, revision, leases.
    fn summary(parts: &Parts) -> (u64, u64, i64, usize) {
        let shared = &parts.shared;
        (shared.applied.index(), shared.applied.hash(), shared.reader.revision(), shared.lessor.len())
    }

    /// etcd #13766: a member of etcd 3.5 could persist that it had applied an entry before the entry's data, so a crash at the
    /// wrong moment lost the data for good. Here whatever moment is flushed, position and data are those of the same entry,
    /// and replaying the rest of the log leads to where an uninterrupted member is.
    #[test]
    fn a_crash_leaves_position_and_data_of_the_same_entry() {
        let entries: Vec<Entry> = (0..40).map(entry).collect();
        let straight = Arc::new(MemBackend::new());
        let mut reached = Vec::new();
        for entry in &entries {
            applier(parts(&straight)).apply(std::slice::from_ref(entry)).unwrap();
            reached.push(summary(&parts(&straight)));
        }
        for flushed in 0..entries.len() {
            let disk = Arc::new(MemBackend::forgetful());
            let mut member = applier(parts(&disk));
            for (at, entry) in entries.iter().enumerate() {
                member.apply(std::slice::from_ref(entry)).unwrap();
                if at == flushed {
                    member.flush().unwrap();
                }
            }
            let disk = Arc::new(disk.crash());
            let found = parts(&disk);
            assert_eq!(summary(&found), reached[flushed], "flushed after entry {flushed}");
            let mut member = applier(found);
            assert_eq!(member.applied().last.map(|last| last.index), Some(flushed as u64));
            if flushed + 1 < entries.len() {
                member.apply(&entries[flushed + 1..]).unwrap();
            }
            drop(member);
            assert_eq!(summary(&parts(&disk)), reached[entries.len() - 1], "replayed from entry {flushed}");
        }
    }

    /// The state itself, from what everybody sees of it.
    fn state(shared: &Shared) -> (u64, u64, i64, usize, mvcc::KvHash, Vec<api::etcdserverpb::AlarmMember>) {
        let reader = &shared.reader;
        let hash = reader.hash_kv(0).unwrap();
        let alarms = shared.alarms.list(api::etcdserverpb::AlarmType::None);
        (shared.applied.index(), shared.applied.hash(), reader.revision(), shared.lessor.len(), hash, alarms)
    }

    /// As [`entry`], with alarms, members, attached keys and compactions among them.
    fn entry_of_many_kinds(index: u64) -> Entry {
        let command = match index % 7 {
            1 => Command::Alarm(api::etcdserverpb::AlarmRequest {
                action: api::etcdserverpb::alarm_request::AlarmAction::Activate.into(),
                member_id: index,
                // One of a kind that refuses nothing.
                alarm: 7,
            }),
            4 => Command::Put(
                PutRequest { key: format!("leased-{index}").into(), lease: 3, ..Default::default() }
                    .encode_to_vec()
                    .into(),
            ),
            5 if index.is_multiple_of(2) => Command::Compaction(api::etcdserverpb::CompactionRequest {
                revision: i64::try_from(index).unwrap(),
                physical: false,
            }),
            _ => return entry(index),
        };
        let requests = vec![Request { id: index, command: Some(command), ..Default::default() }];
        Entry { data: Batch { requests, proposer: 1 }.encode_to_vec().into(), ..entry(index) }
    }

    /// A member is given the state of another that is ahead, and goes on with the entries that follow.
    fn installs(open: impl Fn(&str) -> Arc<dyn Backend>, dir: &std::path::Path) {
        let entries: Vec<Entry> = (0..120).map(entry_of_many_kinds).collect();
        let (ahead, behind) = (parts_on(open("ahead")), parts_on(open("behind")));
        let shared = [Arc::clone(&ahead.shared), Arc::clone(&behind.shared)];
        let (mut ahead, mut behind) = (applier(ahead), applier(behind));
        let (mut to, mut reached) = (0, 0);
        for (round, step) in [30, 1, 20, 33].into_iter().enumerate() {
            ahead.apply(&entries[to..to + step]).unwrap();
            to += step;
            if round == 1 {
                // The one behind has a state of its own that is older.
                behind.apply(&entries[reached..reached + 1]).unwrap();
            }
            let snapshot = dir.join(format!("snapshot-{round}"));
            std::fs::create_dir(&snapshot).unwrap();
            ahead.snapshot(&snapshot).unwrap();
            let held = shared[1].reader.read();
            let before = held.range(&mvcc::RangeOptions::new("", "\0"));
            let applied = behind.install(&snapshot).unwrap();
            assert_eq!(applied, ahead.applied());
            assert_eq!(behind.flush().unwrap(), applied, "it is durable");
            assert_eq!(state(&shared[1]), state(&shared[0]), "installed at {to}");
            assert_eq!(held.range(&mvcc::RangeOptions::new("", "\0")).ok(), before.ok());
            // One more, by itself, and both are still the same.
            behind.apply(&entries[to..=to]).unwrap();
            ahead.apply(&entries[to..=to]).unwrap();
            to += 1;
            reached = to;
            assert_eq!(state(&shared[1]), state(&shared[0]), "went on at {to}");
        }
        let lease = LeaseId::new(3);
        assert_eq!(shared[1].lessor.keys(lease), shared[0].lessor.keys(lease));
        assert!(shared[0].lessor.keys(lease).unwrap().len() > 3, "keys are attached");
        assert!(shared[0].reader.compact_revision() > 0, "there are compactions");
    }

    #[test]
    fn a_member_goes_on_from_the_state_of_another_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        installs(|_| Arc::new(MemBackend::forgetful()), dir.path());
    }

    #[test]
    fn a_member_goes_on_from_the_state_of_another_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| -> Arc<dyn Backend> {
            let options = backend::Options::default();
            Arc::new(backend::DiskBackend::open(dir.path().join(name), options).unwrap())
        };
        installs(open, dir.path());
        let found = ["ahead", "behind"].map(|name| state(&parts_on(open(name)).shared));
        assert_eq!(found[0], found[1], "and a restart finds the same");
    }
}
