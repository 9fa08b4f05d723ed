//! Members that have applied other entries than the rest: how they are found, and how they are fenced.
//!
//! ```text
//! follower   applies, keeps hashes ── its newest go with each answer to a heartbeat ──┐
//! leader     compares them with its own ◄──────────────────────────────────────────────┘
//!            │ they differ: asks everybody for all that they know, and judges
//!            ├─ a majority has the same, one has not ──► tells that one, which stops and does not start again
//!            └─ no majority has the same, for a while ─► the CORRUPT alarm: nobody changes keys until somebody has looked
//! ```
//!
//! The same hashes go with a state that is sent to a member which lags: one that has applied something else takes no such state, as that
//! would hide who of the two is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::internal::peer_request::Request;
use api::internal::peer_response::Response;
use api::internal::{Diverged, Fenced, MemberStatusRequest};
use bytes::Bytes;
use raftlog::{CallError, Node};
use tokio::sync::{Notify, watch};

use crate::bootstrap;
use crate::calls::Calls;
use crate::corrupt::raise_corrupt;
use crate::hashes::Hashes;
use crate::member::Shared;

/// How long members may take to tell what they have applied.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before a suspicion is looked into again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long no majority may be found before the alarm is raised.
const UNTOLD_MAX: Duration = Duration::from_secs(3);

/// What is known of this member's own divergence, and of others'.
#[derive(Debug)]
pub(crate) struct Divergence {
    /// Another member's hashes differ from this one's.
    suspected: Notify,
    /// Why this member must not serve any more.
    fenced: watch::Sender<Option<String>>,
    data_dir: PathBuf,
}

impl Divergence {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { suspected: Notify::new(), fenced: watch::Sender::default(), data_dir: data_dir.to_owned() }
    }

    /// Why this member must not serve any more, once there is a reason.
    pub(crate) fn fenced(&self) -> watch::Receiver<Option<String>> {
        self.fenced.subscribe()
    }
}

/// Compares what a member said with its answer to a heartbeat.
pub(crate) fn heard(shared: &Shared, beacon: Bytes) {
    if shared.applied.differs(&Hashes::decode(beacon)) {
        shared.divergence.suspected.notify_one();
    }
}

/// Refuses a state whose member has applied something else than this one.
///
/// # Errors
/// Says where they differ.
pub(crate) fn offered(shared: &Shared, from: u64, offer: Bytes) -> Result<(), String> {
    let Some((index, own, other)) = shared.applied.hashes().difference(&Hashes::decode(offer)) else {
        return Ok(());
    };
    tracing::error!(
        index,
        hash = format!("{own:016x}"),
        remote_peer_id = format!("{from:x}"),
        remote_peer_hash = format!("{other:016x}"),
        "a member offers its state, and one of us has applied other entries than the rest"
    );
    Err(format!(
        "the receiver has applied other entries: its hash at {index} is {own:016x}, not {other:016x}"
    ))
}

/// Looks into every suspicion while this member leads.
pub(crate) async fn watch(shared: Arc<Shared>, node: Node) {
    let calls = Calls::new(node.clone(), ANSWER_TIMEOUT);
    let mut untold_since = None;
    loop {
        shared.divergence.suspected.notified().await;
        if !node.leadership().borrow().is_leader {
            untold_since = None;
            continue;
        }
        match examine(&shared, &calls).await {
            Verdict::Same => untold_since = None,
            Verdict::Diverged(members) => {
                untold_since = None;
                for (member, diverged) in members {
                    tell(&shared, &calls, member, diverged).await;
                }
            }
            Verdict::Untold => {
                let now = shared.clock.now();
                if now.saturating_sub(*untold_since.get_or_insert(now)) >= UNTOLD_MAX {
                    tracing::error!("members have applied different entries, and no majority has the same");
                    raise_corrupt(&shared, 0).await;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks everybody what they have applied.
async fn examine(shared: &Shared, calls: &Calls) -> Verdict {
    let members = shared.members.list();
    let asked = members.iter().map(|member| async {
        match calls.ask(member.id, Request::MemberStatus(MemberStatusRequest {})).await {
            Ok(Response::MemberStatus(status)) => Some((member.id, Hashes::of(&status.hashes))),
            _ => None,
        }
    });
    let known = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
    judge(&known, members.len())
}

/// What members' hashes say.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Nobody differs from anybody.
    Same,
    /// These differ from what a majority of all members has.
    Diverged(BTreeMap<u64, Diverged>),
    /// Some differ, and no majority has the same.
    Untold,
}

/// Judges each member at the newest index that it and a majority of all members know.
fn judge(known: &BTreeMap<u64, Hashes>, members: usize) -> Verdict {
    let indexes: BTreeSet<u64> =
        known.values().flat_map(|hashes| hashes.iter().map(|(index, _)| index)).collect();
    let majority = |index: u64| {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        known
            .values()
            .filter_map(|hashes| hashes.at(index))
            .for_each(|hash| *counts.entry(hash).or_default() += 1);
        counts.into_iter().find(|(_, count)| *count > members / 2).map(|(hash, _)| (index, hash))
    };
    let majorities: Vec<(u64, u64)> = indexes.into_iter().rev().filter_map(majority).collect();
    let newest = |hashes: &Hashes| {
        let both = |&(index, majority)| Some(Diverged { index, hash: hashes.at(index)?, majority });
        majorities.iter().find_map(both).filter(|found| found.hash != found.majority)
    };
    let diverged: BTreeMap<u64, Diverged> =
        known.iter().filter_map(|(id, hashes)| Some((*id, newest(hashes)?))).collect();
    if !diverged.is_empty() {
        return Verdict::Diverged(diverged);
    }
    let mut pairs = known.values().flat_map(|one| known.values().map(move |other| (one, other)));
    if pairs.any(|(one, other)| one.difference(other).is_some()) { Verdict::Untold } else { Verdict::Same }
}

/// Tells a member that it has diverged; one that does not understand it is fenced by the alarm.
async fn tell(shared: &Arc<Shared>, calls: &Calls, member: u64, diverged: Diverged) {
    tracing::error!(
        member_id = format!("{member:x}"),
        index = diverged.index,
        hash = format!("{:016x}", diverged.hash),
        hash_of_the_majority = format!("{:016x}", diverged.majority),
        "a member has applied other entries than the rest"
    );
    match calls.ask(member, Request::Diverged(diverged)).await {
        Ok(Response::Fenced(Fenced { is_fenced: true })) => {
            tracing::warn!(member_id = format!("{member:x}"), "the member that differs stops");
        }
        // Its state is another by now.
        Ok(Response::Fenced(Fenced { is_fenced: false })) => {}
        Ok(_) | Err(CallError::Refused(_)) => raise_corrupt(shared, member).await,
        // It is told when it can be reached again.
        Err(error) => {
            tracing::warn!(member_id = format!("{member:x}"), %error, "the member that differs was not told");
        }
    }
}

/// This member is told that it has diverged: it stops, and does not start again with this data.
pub(crate) async fn told(shared: &Arc<Shared>, diverged: Diverged) -> Fenced {
    let Diverged { index, hash, majority } = diverged;
    if hash == majority || shared.applied.hashes().at(index) != Some(hash) {
        return Fenced { is_fenced: false };
    }
    let (id, data_dir) = (shared.member_id, shared.divergence.data_dir.clone());
    let why = format!(
        "member {id} has applied other entries than most of its cluster: its rolling hash at entry {index} is \
         {hash:016x}, theirs is {majority:016x}; it serves no more. Run `etcd-rs-ctl member remove {id}` at another \
         member, delete {}, and add the member anew",
        data_dir.display()
    );
    let record = why.clone();
    let recorded = tokio::task::spawn_blocking(move || bootstrap::fence(&data_dir, &record)).await;
    if let Ok(Err(error)) = recorded {
        tracing::error!(%error, "the reason to stop cannot be recorded");
    }
    shared.divergence.fenced.send_replace(Some(why));
    Fenced { is_fenced: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(members: usize, known: &[&[(u64, u64)]]) -> Verdict {
        let hashes = |known: &&[(u64, u64)]| {
            let mut hashes = Hashes::default();
            known.iter().for_each(|(index, hash)| hashes.push(*index, *hash));
            hashes
        };
        judge(&(1..).zip(known.iter().map(hashes)).collect(), members)
    }

    fn diverged(member: u64, index: u64, hash: u64, majority: u64) -> Verdict {
        Verdict::Diverged(BTreeMap::from([(member, Diverged { index, hash, majority })]))
    }

    #[test]
    fn whoever_differs_from_the_majority_at_a_common_index_has_diverged() {
        assert_eq!(judged(3, &[]), Verdict::Same);
        assert_eq!(judged(3, &[&[(64, 1)], &[(64, 1)], &[(64, 1)]]), Verdict::Same);
        assert_eq!(judged(3, &[&[(64, 1), (128, 2)], &[(64, 1)], &[(64, 1), (128, 2)]]), Verdict::Same);
        assert_eq!(judged(3, &[&[(64, 1)], &[(64, 9)], &[(64, 1)]]), diverged(2, 64, 9, 1));
        let lagging: [&[_]; 3] = [&[(64, 1), (128, 2)], &[(64, 9)], &[(64, 1), (128, 2)]];
        assert_eq!(judged(3, &lagging), diverged(2, 64, 9, 1));
        assert_eq!(judged(5, &[&[(64, 1)], &[(64, 1)], &[(64, 1)], &[(64, 2)]]), diverged(4, 64, 2, 1));
    }

    #[test]
    fn a_member_that_was_given_the_right_state_is_left_alone() {
        let known: [&[_]; 3] = [&[(64, 1), (128, 2)], &[(64, 9), (128, 2)], &[(64, 1), (128, 2)]];
        assert_eq!(judged(3, &known), Verdict::Same, "though it remembers what it had");
    }

    #[test]
    fn without_a_majority_nobody_is_to_blame() {
        assert_eq!(judged(2, &[&[(64, 1)], &[(64, 2)]]), Verdict::Untold);
        assert_eq!(judged(3, &[&[(64, 1)], &[(64, 2)], &[(64, 3)]]), Verdict::Untold);
        assert_eq!(judged(3, &[&[(128, 2)], &[(128, 9)], &[(64, 1)]]), Verdict::Untold);
        assert_eq!(judged(5, &[&[(64, 1)], &[(64, 1)], &[(64, 2)]]), Verdict::Untold);
    }
}
