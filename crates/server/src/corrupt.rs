//! etcd's own checks that members hold the same history, by its HashKV.
//!
//! Three of them, all off unless asked for: a member that restarts compares itself with the others before it serves; a leader
//! compares everybody now and then at a revision of its own; and it compares the hashes that compactions have taken, which need no
//! further reading. What they find becomes the CORRUPT alarm. etcd `server/etcdserver/corrupt.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::{AlarmRequest, AlarmType, HashKvRequest, HashKvResponse};
use api::internal::peer_request::Request;
use api::internal::peer_response::Response;
use raftlog::Node;

use crate::calls::{self, Calls};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::member::Shared;
use crate::proposal::Command;
use crate::read;

/// What the checks work with.
#[derive(Clone)]
pub(crate) struct Checker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: Node,
    pub(crate) calls: Calls,
    pub(crate) timeout: Duration,
}

/// A hash of history and what it is the hash of.
type Hash = (i64, i64, u32);

fn hash(response: &HashKvResponse) -> Hash {
    (response.hash_revision, response.compact_revision, response.hash)
}

impl Checker {
    /// Starts the checks that a leader makes, if they are asked for.
    pub(crate) fn start(&self, config: &Config, tasks: &mut tokio::task::JoinSet<()>) {
        if !config.corrupt_check_time.is_zero() {
            tracing::info!(
                local_member_id = self.shared.member_id.to_string(),
                interval = ?config.corrupt_check_time,
                "enabled corruption checking"
            );
            tasks.spawn(self.clone().every(config.corrupt_check_time, Self::check_now));
        }
        if config.compact_hash_check {
            let mut checked = -1;
            let checker = self.clone();
            let interval = config.compact_hash_check_time;
            tasks.spawn(async move {
                loop {
                    tokio::time::sleep(interval).await;
                    if checker.node.leadership().borrow().is_leader {
                        checker.check_compactions(&mut checked).await;
                    }
                }
            });
        }
    }

    async fn every<F: Future<Output = ()>>(self, interval: Duration, check: impl Fn(Self) -> F) {
        loop {
            tokio::time::sleep(interval).await;
            if self.node.leadership().borrow().is_leader {
                check(self.clone()).await;
            }
        }
    }

    /// The hashes of other members at a revision; nothing of one that has none to tell.
    async fn others(&self, revision: i64) -> BTreeMap<u64, HashKvResponse> {
        let own = self.shared.member_id.get();
        let others = self.shared.members.list().into_iter().filter(|member| member.id != own);
        let asked = others.map(|member| async move {
            match self.calls.ask(member.id, Request::HashKv(HashKvRequest { revision })).await {
                Ok(Response::HashKv(response)) => Some((member.id, response)),
                Ok(_) => None,
                Err(error) => {
                    tracing::warn!(
                        remote_peer_id = format!("{:x}", member.id),
                        %error,
                        "failed hash kv request"
                    );
                    None
                }
            }
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    async fn own(&self, revision: i64) -> Option<HashKvResponse> {
        calls::hash_kv(&self.shared, &HashKvRequest { revision }).await.ok()
    }

    /// Compares a restarted member with the others before it serves.
    ///
    /// # Errors
    /// Another member has another history.
    pub(crate) async fn check_initially(&self) -> Result<()> {
        let Some(own) = self.own(0).await else { return Ok(()) };
        for (id, other) in self.others(own.hash_revision).await {
            if other.compact_revision == own.compact_revision && other.hash != own.hash {
                tracing::warn!(
                    local_member_id = self.shared.member_id.to_string(),
                    local_member_hash = own.hash,
                    remote_peer_id = format!("{id:x}"),
                    remote_peer_hash = other.hash,
                    "found different hash values from remote peer"
                );
                let own = self.shared.member_id;
                return Err(Error::DataDir(format!(
                    "checkInitialHashKV failed: {own} found data inconsistency with peers"
                )));
            }
        }
        tracing::info!(
            local_member_id = self.shared.member_id.to_string(),
            "initial corruption checking passed; no corruption"
        );
        Ok(())
    }

    /// Compares everybody at the leader's present revision, and raises the alarm for at most one.
    async fn check_now(self) {
        let Some(first) = self.own(0).await else { return };
        let others = self.others(first.hash_revision).await;
        // What others may have by now, this member has then, too.
        if read::barrier(&self.node, self.timeout).await.is_err() {
            return;
        }
        let Some(second) = self.own(0).await else { return };
        let corrupt = judge(self.shared.member_id.get(), &first, &second, &others);
        if let Some(member) = corrupt {
            tracing::error!(corrupted_member_id = format!("{member:x}"), "a member's history differs");
            raise_corrupt(&self.shared, member).await;
        }
        tracing::info!(number_of_peers_checked = others.len(), "finished peer corruption check");
    }

    /// Compares the newest compaction that everybody can be asked about and that has not been compared.
    async fn check_compactions(&self, checked: &mut i64) {
        for own in self.shared.reader.compaction_hashes().into_iter().rev() {
            if own.hash_revision <= *checked {
                return;
            }
            let others = self.others(own.hash_revision).await;
            let ours = (own.hash_revision, own.compact_revision, own.hash);
            let mut hashes: BTreeMap<u64, Hash> =
                others.iter().map(|(id, other)| (*id, hash(other))).collect();
            // A hash of something else says nothing.
            hashes.retain(|_, other| (other.0, other.1) == (ours.0, ours.1));
            hashes.insert(self.shared.member_id.get(), ours);
            let members = self.shared.members.list().len();
            let corrupt = minority(&hashes, members);
            if corrupt.is_empty() && hashes.len() < members {
                continue;
            }
            *checked = own.hash_revision;
            self.report(corrupt, own.hash_revision).await;
            return;
        }
    }

    async fn report(&self, corrupt: BTreeSet<u64>, revision: i64) {
        if corrupt.is_empty() {
            tracing::info!(revision, "successfully checked hash on whole cluster");
        }
        for member in corrupt {
            tracing::error!(
                revision,
                corrupted_member_id = format!("{member:x}"),
                "Detected compaction hash mismatch"
            );
            raise_corrupt(&self.shared, member).await;
        }
    }
}

/// Who is corrupt, from what the leader found of itself before and after it asked the others.
fn judge(
    own: u64,
    first: &HashKvResponse,
    second: &HashKvResponse,
    others: &BTreeMap<u64, HashKvResponse>,
) -> Option<u64> {
    let same =
        (first.hash_revision, first.compact_revision) == (second.hash_revision, second.compact_revision);
    if same && first.hash != second.hash {
        return Some(own);
    }
    let last = second.header.map_or(second.hash_revision, |header| header.revision).max(second.hash_revision);
    others.iter().find_map(|(id, other)| {
        let is_ahead = other.header.is_some_and(|header| header.revision > last)
            || other.compact_revision > second.compact_revision;
        let differs = other.compact_revision == first.compact_revision && other.hash != first.hash;
        (is_ahead || differs).then_some(*id)
    })
}

/// Raises the alarm that a member's data is corrupt, unless it is raised.
pub(crate) async fn raise_corrupt(shared: &Arc<Shared>, member_id: u64) {
    let raised = shared.alarms.list(AlarmType::Corrupt);
    if raised.iter().any(|alarm| alarm.member_id == member_id) {
        return;
    }
    let alarm = i32::from(AlarmType::Corrupt);
    let request = AlarmRequest { action: AlarmAction::Activate.into(), member_id, alarm };
    // It is found again soon if this fails.
    drop(shared.proposals.propose(Command::alarm(&request)).await);
}

/// Those whose value is not that of a majority of all `members`; 0 alone if there is no such value but more than one; nobody if
/// all agree.
fn minority<T: Ord>(values: &BTreeMap<u64, T>, members: usize) -> BTreeSet<u64> {
    let mut counts: BTreeMap<&T, usize> = BTreeMap::new();
    values.values().for_each(|value| *counts.entry(value).or_default() += 1);
    if counts.len() < 2 {
        return BTreeSet::new();
    }
    let majority = counts.into_iter().find(|(_, count)| *count > members / 2);
    let Some((majority, _)) = majority else { return BTreeSet::from([0]) };
    values.iter().filter(|(_, value)| *value != majority).map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use api::etcdserverpb::ResponseHeader;

    use super::*;

    fn response(revision: i64, hash_revision: i64, compact_revision: i64, hash: u32) -> HashKvResponse {
        let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
        HashKvResponse { header, hash, compact_revision, hash_revision }
    }

    #[test]
    fn a_member_is_corrupt_when_it_is_ahead_or_its_hash_of_the_same_differs() {
        let (first, second) = (response(10, 10, 5, 1), response(12, 12, 6, 2));
        let judged = |other| judge(1, &first, &second, &BTreeMap::from([(2, other)]));
        assert_eq!(judged(response(10, 10, 5, 1)), None);
        assert_eq!(judged(response(11, 10, 6, 7)), None, "compacted further, so another hash is right");
        assert_eq!(judged(response(10, 10, 5, 9)), Some(2));
        assert_eq!(judged(response(13, 10, 5, 1)), Some(2), "a revision that the leader has not");
        assert_eq!(judged(response(10, 10, 7, 1)), Some(2), "a compaction that the leader has not");
        assert_eq!(judge(1, &first, &response(10, 10, 5, 3), &BTreeMap::new()), Some(1));
    }
}
