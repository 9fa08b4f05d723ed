//! The Applier: the one writer of replicated state.
//!
//! Everything committed that waits becomes one backend batch: the keys' changes, leases, alarms, members, and with them the
//! position in the log, in a single atomic write. Then the new revision is published to readers, the watch hub is told, and
//! whoever waits for an answer gets it. Applying asks no clock and draws no random number, so every member comes to the same
//! state; an error that is not an answer stops the member.

mod alarm;
mod auth;
mod cluster;
mod kv;
mod lease;
mod meta;
mod output;
mod quota;
mod txn;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::auth::{Access, Identity};
use api::LeaseId;
use api::internal::Request;
use api::internal::request::Command;
use api::status;
use bytes::Bytes;
use mvcc::{ChangeKind, Commit, Compaction, Store, WriteTxn};
use prost::Message as _;
use raftlog::{Application, ApplicationError, Applied, Entry};

pub(crate) use alarm::{Alarms, alarm_key, alarm_of};
pub(crate) use cluster::{Members, Standing};
pub(crate) use meta::AppliedMeta;
pub(crate) use output::{Answer, OpOutput, Output, TxnOutput};
pub(crate) use quota::{LEASE_COST, Quota, put_cost, txn_cost};
pub(crate) use txn::evaluate;

use crate::member::Shared;
use crate::permit::Permit;

/// A client's request, which this or another member has decoded before it was proposed.
fn decode<M: prost::Message + Default>(request: Bytes) -> mvcc::Result<M> {
    M::decode(request).map_err(|error| mvcc::Error::undecodable(&error))
}

/// Ends the request with its refusal, if there is one.
macro_rules! allowed {
    ($asked:expr) => {
        if let Err(refusal) = $asked {
            return auth::refused(refusal);
        }
    };
}

/// What is told when entries have been committed.
#[derive(Default)]
struct Outcome {
    answers: Vec<(u64, Answer)>,
    entries_of_ours: usize,
    compactions: Vec<Compaction>,
}

/// Turns committed entries into state.
pub(crate) struct Applier {
    store: Store,
    meta: AppliedMeta,
    shared: Arc<Shared>,
    /// Applying a batch that takes longer is logged.
    slow: Duration,
}

/// The keys that go with leases.
pub(crate) fn attached(store: &Store) -> Vec<(LeaseId, Vec<u8>)> {
    let mut attached = Vec::new();
    store.for_each_leased(|key, lease| attached.push((lease, key.to_vec())));
    attached
}

impl Applier {
    pub(crate) fn new(store: Store, meta: AppliedMeta, shared: Arc<Shared>) -> Self {
        Self { store, meta, shared, slow: Duration::MAX }
    }

    /// Logs batches that take longer to apply.
    pub(crate) fn warn_above(self, slow: Duration) -> Self {
        Self { slow, ..self }
    }

    /// Logs that a batch took long, in etcd's words.
    fn warn(&self, took: Duration, entries: usize) {
        if took > self.slow {
            self.shared.counters.slow_applies.add(1);
            tracing::warn!(?took, expected_duration = ?self.slow, entries, "apply request took too long");
        }
    }

    /// Tells everybody of what has been committed.
    fn publish(&mut self, commit: Commit, outcome: Outcome) {
        for compaction in outcome.compactions {
            self.shared.compactions.start(compaction);
        }
        self.shared.applied(&mut self.meta);
        self.count(&commit);
        if !commit.changes.is_empty() {
            self.shared.watches.publish(commit, self.meta.term());
        }
        self.shared.proposals.applied(outcome.answers, outcome.entries_of_ours);
    }

    fn count(&self, commit: &Commit) {
        let changes = commit.changes.iter().flat_map(|request| &request.changes);
        let (mut puts, mut deletes) = (0, 0);
        for change in changes {
            match change.kind {
                ChangeKind::Put => puts += 1,
                ChangeKind::Delete => deletes += 1,
            }
        }
        self.shared.counters.puts.add(puts);
        self.shared.counters.deletes.add(deletes);
    }

    /// Applies one request inside the batch. Whoever asks is asked for their rights again: every member decides alike, by the rules
    /// as they are at this entry.
    fn request(
        shared: &Shared,
        txn: &mut WriteTxn<'_>,
        entry: &Entry,
        request: Request,
    ) -> mvcc::Result<Answer> {
        let Some(command) = request.command else { return Ok(Err(status::UNKNOWN_METHOD)) };
        if request.term != 0 && request.term != entry.term {
            return Ok(Err(status::LEADER_CHANGED));
        }
        if let Err(status) = shared.alarms.admit(&command) {
            return Ok(Err(status));
        }
        let (username, revision) = (request.username, request.auth_revision);
        let identity = (!username.is_empty()).then(|| Identity { username: username.into(), revision });
        let rules = shared.users.rules();
        let permit = Permit { rules: &rules, identity: identity.as_ref(), lessor: &shared.lessor };
        let answer = match command {
            Command::Put(request) => {
                let request = decode(request)?;
                allowed!(permit.put(&request));
                kv::put(shared, txn, &request)?
            }
            Command::DeleteRange(request) => {
                let request = decode(request)?;
                allowed!(permit.delete_range(&request));
                kv::delete_range(shared, txn, &request)?
            }
            Command::Txn(request) => {
                let request = decode(request)?;
                allowed!(permit.txn(&request));
                txn::apply(shared, txn, &request)?
            }
            Command::Compaction(request) => kv::compact(txn, &request)?,
            Command::LeaseGrant(request) => {
                allowed!(rules.check_user(identity.as_ref()));
                lease::grant(shared, txn, &request)
            }
            Command::LeaseRevoke(request) => {
                allowed!(rules.check_user(identity.as_ref()));
                allowed!(permit.lease(Access::Write, request.id));
                lease::revoke(shared, txn, request.id)?
            }
            Command::LeaseExpire(request) => lease::expire(shared, txn, &request.ids)?,
            Command::LeaseCheckpoint(request) => lease::checkpoint(shared, txn, &request),
            Command::Alarm(request) => alarm::apply(shared, txn, &request),
            Command::MembersFound(request) => cluster::found(shared, txn, request),
            Command::MemberPublish(request) => cluster::publish(shared, txn, request),
            Command::MemberAdd(request) => cluster::add(shared, txn, request),
            Command::MemberRemove(request) => cluster::remove(shared, txn, &request),
            Command::MemberUpdate(request) => cluster::update(shared, txn, request),
            Command::MemberPromote(request) => cluster::promote(shared, txn, &request),
            Command::MembersKeep(request) => cluster::keep(shared, txn, request),
            Command::DowngradeSet(request) => cluster::set_downgrade(shared, txn, request.target),
            Command::QuotaAlarm(request) => alarm::apply_quota(shared, txn, &request),
            Command::AuthChange(request) => match &request.change {
                Some(change) => auth::apply(shared, txn, entry.index, identity.as_ref(), change)?,
                None => Err(status::UNKNOWN_METHOD),
            },
            Command::ClusterVersionSet(request) => cluster::set_version(shared, txn, request.version),
        };
        txn.end_request();
        Ok(answer)
    }
}

impl Application for Applier {
    fn applied(&self) -> Applied {
        self.meta.applied()
    }

    fn apply(&mut self, batch: &[Entry]) -> Result<(), ApplicationError> {
        // Only for the log: nothing that is applied depends on it.
        let began = self.shared.clock.now();
        let mut outcome = Outcome::default();
        let mut txn = self.store.write();
        for (number, entry) in batch.iter().enumerate() {
            let decoded = api::internal::Batch::decode(entry.data.clone())
                .map_err(|error| format!("entry {} does not decode: {error}", entry.log_id()))?;
            if number > 0 && auth::changes_rules(&decoded) {
                // New rules show at once. Whoever they allow to read must not see what was there before the writes before them.
                self.meta.record(txn.tx());
                let commit = txn.commit()?;
                self.publish(commit, std::mem::take(&mut outcome));
                txn = self.store.write();
            }
            self.meta.advance(entry);
            let ours = self.shared.proposals.is_ours(decoded.proposer);
            outcome.entries_of_ours += usize::from(ours);
            for request in decoded.requests {
                let id = request.id;
                let answer = Self::request(&self.shared, &mut txn, entry, request)?;
                // Nothing may be removed before it is committed that it may be.
                if let Ok(Output::Compaction { running, .. }) = &answer {
                    outcome.compactions.push(running.clone());
                }
                if ours {
                    outcome.answers.push((id, answer));
                }
            }
        }
        self.meta.record(txn.tx());
        let commit = txn.commit()?;
        self.publish(commit, outcome);
        self.warn(self.shared.clock.now().saturating_sub(began), batch.len());
        Ok(())
    }

    fn flush(&mut self) -> Result<Applied, ApplicationError> {
        self.shared.files.get().flush()?;
        Ok(self.meta.applied())
    }

    fn snapshot(&mut self, dir: &Path) -> Result<(), ApplicationError> {
        // A checkpoint makes its directory itself.
        std::fs::remove_dir(dir)?;
        Ok(self.shared.files.get().checkpoint(dir)?)
    }

    /// The files come first, and everything in memory is read from them: a failure in between stops the member, and its next start
    /// finds the new state.
    fn install(&mut self, dir: &Path) -> Result<Applied, ApplicationError> {
        let backend = self.shared.files.get().install(dir)?;
        self.meta = AppliedMeta::open(&*backend)?;
        self.store.replace(Arc::clone(&backend))?;
        self.shared.lessor.reset(&*backend, attached(&self.store))?;
        self.shared.alarms.reload(&*backend)?;
        self.shared.members.reload(&*backend)?;
        self.shared.users.store.reset(&*backend)?;
        self.shared.files.replace(backend);
        if let Some(interrupted) = self.store.interrupted_compaction() {
            self.shared.compactions.start(interrupted);
        }
        self.shared.installed(&self.meta);
        self.shared.watches.installed();
        self.shared.proposals.installed();
        tracing::info!(
            applied_index = self.meta.index(),
            current_rev = self.shared.reader.revision(),
            "applied snapshot"
        );
        Ok(self.meta.applied())
    }
}
