//! Changing who belongs to the cluster, as its leader.
//!
//! A change is judged ([`checks`]) and proposed under one lock, on the state as of a read that the cluster agrees to, so that no
//! change overtakes another. What is proposed is one entry for the members' records and the log's own membership together. Where the
//! two differ for a while, because a new voter has yet to catch up or a removed one to hear of it, the leader's [`reconciler`]
//! takes the next step when it is time.

mod checks;
mod reconciler;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::{Member, MemberAddRequest, MemberUpdateRequest};
use api::internal::{MemberAdd, MemberPromote, MemberRemove, MemberUpdate, MembersChanged};
use api::status;
use bytes::Bytes;
use raftlog::{Change, ChangeError, Node, TransferError};
use tokio::sync::Mutex;

use self::checks::Cluster;
use self::reconciler::{Reconciler, Seen};
use crate::bootstrap;
use crate::clock::unix_millis;
use crate::config::Config;
use crate::member::Shared;
use crate::proposal::Command;
use crate::read;
use crate::rpc::Failure;
use crate::url::Url;

/// How often a leader looks whether the log's membership is what the records say.
const LOOK: Duration = Duration::from_millis(100);

/// What a leader needs to change members.
#[derive(Debug)]
pub(crate) struct Membership {
    shared: Arc<Shared>,
    node: Node,
    strict: bool,
    learners_max: usize,
    timeout: Duration,
    /// Who has not answered for so long does not work.
    silence: Duration,
    /// Held while a change is judged and made.
    changing: Mutex<()>,
}

impl Membership {
    pub(crate) fn new(config: &Config, shared: Arc<Shared>, node: Node) -> Arc<Self> {
        Arc::new(Self {
            shared,
            node,
            strict: config.strict_reconfig_check,
            learners_max: config.max_learners,
            timeout: config.request_timeout(),
            silence: config.election_timeout,
            changing: Mutex::new(()),
        })
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// How long requests may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Adds a member, with an id made of its URLs and the time.
    pub(crate) async fn add(&self, request: MemberAddRequest) -> Result<MembersChanged, Failure> {
        let urls = peer_urls(&request.peer_ur_ls)?;
        let _changing = self.changing.lock().await;
        let id = bootstrap::member_id(&urls, &(unix_millis() / 1000).to_string()).get();
        let peer_ur_ls: Vec<String> = urls.iter().map(|url| url.as_str().to_owned()).collect();
        let new = Member { id, peer_ur_ls, is_learner: request.is_learner, ..Member::default() };
        self.cluster().await?.may_add(&new)?;
        let member = raftlog::Member { peer_urls: new.peer_ur_ls.clone() };
        let record = Command::member_add(&MemberAdd { member: Some(new.clone()) });
        let index = self.change(Change::AddLearner { id, member }, &record).await?;
        Ok(MembersChanged { index, member: Some(new) })
    }

    pub(crate) async fn remove(&self, id: u64) -> Result<MembersChanged, Failure> {
        let _changing = self.changing.lock().await;
        self.cluster().await?.may_remove(id)?;
        let membership = self.node.membership().borrow().clone();
        let is_voter = membership.voters.contains(&id);
        // A leader as a learner would lead for ever, and a learner hears of its removal in vain.
        let change = if is_voter && id != self.shared.member_id.get() {
            Change::Demote { id }
        } else {
            Change::Remove { id }
        };
        let record = Command::member_remove(&MemberRemove { id });
        let index = self.change(change, &record).await?;
        Ok(MembersChanged { index, member: None })
    }

    /// Tells where a member is reached. As in etcd, anything may be given.
    pub(crate) async fn update(&self, request: MemberUpdateRequest) -> Result<MembersChanged, Failure> {
        let MemberUpdateRequest { id, peer_ur_ls: peer_urls } = request;
        let _changing = self.changing.lock().await;
        self.cluster().await?.may_update(id, &peer_urls)?;
        let record = Command::member_update(&MemberUpdate { id, peer_urls: peer_urls.clone() });
        let member = raftlog::Member { peer_urls };
        let index = self.change(Change::Update { id, member }, &record).await?;
        Ok(MembersChanged { index, member: None })
    }

    pub(crate) async fn promote(&self, id: u64) -> Result<MembersChanged, Failure> {
        let _changing = self.changing.lock().await;
        let cluster = self.cluster().await?;
        let last = self.node.status().last.map_or(0, |last| last.index);
        let progress = self.node.progress().get(&id).copied();
        let matched = progress.map(|progress| progress.matched.map_or(0, |matched| matched.index));
        let own = id == self.shared.member_id.get();
        cluster.may_promote(id, if own { Some(last) } else { matched }, last)?;
        let record = Command::member_promote(&MemberPromote { id });
        let index = self.change(Change::Promote { id }, &record).await?;
        Ok(MembersChanged { index, member: None })
    }

    /// The cluster as of now, with everything applied that was decided before; only a leader has it.
    async fn cluster(&self) -> Result<Cluster, Failure> {
        if !self.node.leadership().borrow().is_leader {
            return Err(status::NOT_LEADER.into());
        }
        read::barrier(&self.node, self.timeout).await?;
        let leader = self.shared.member_id.get();
        let heard = self.node.progress().into_iter();
        let heard = heard.filter(|(_, progress)| progress.acknowledged.is_some_and(|age| age < self.silence));
        Ok(Cluster {
            members: self.records(),
            removed: self.shared.members.removed(),
            leader,
            connected: heard.map(|(id, _)| id).chain([leader]).collect::<BTreeSet<u64>>(),
            strict: self.strict,
            learners_max: self.learners_max,
        })
    }

    fn records(&self) -> BTreeMap<u64, Member> {
        self.shared.members.list().into_iter().map(|member| (member.id, member)).collect()
    }

    /// Makes a change, and returns the index of its entry.
    async fn change(&self, change: Change, record: &Command) -> Result<u64, Failure> {
        match self.node.change_membership(change.clone(), record.entry()).await {
            Ok(at) => Ok(at.index),
            Err(ChangeError::NotLeader) => Err(status::NOT_LEADER.into()),
            Err(ChangeError::Busy) => Err(status::TIMEOUT.into()),
            Err(ChangeError::LeaderChanged) => Err(status::TIMEOUT_DUE_TO_LEADER_FAIL.into()),
            Err(ChangeError::Stopped) => Err(status::STOPPED.into()),
            Err(error) => {
                tracing::warn!(%change, %error, "the log refuses a change of the membership");
                Err(status::UNHEALTHY.into())
            }
        }
    }

    /// Brings the log's membership along, whenever this member leads.
    pub(crate) async fn reconcile(self: Arc<Self>) {
        let mut reconciler = Reconciler::default();
        loop {
            tokio::time::sleep(LOOK).await;
            if !self.node.leadership().borrow().is_leader {
                reconciler = Reconciler::default();
                continue;
            }
            let Ok(_changing) = self.changing.try_lock() else { continue };
            if self.step(&mut reconciler).is_none() {
                continue;
            }
            // The records may have been behind the membership.
            if read::barrier(&self.node, self.timeout).await.is_err() {
                continue;
            }
            if let Some(change) = self.step(&mut reconciler)
                && let Err(error) = self.node.change_membership(change.clone(), Bytes::new()).await
            {
                tracing::info!(%change, %error, "the membership will be changed later");
            }
        }
    }

    fn step(&self, reconciler: &mut Reconciler) -> Option<Change> {
        let records = self.records();
        if records.is_empty() {
            // The cluster is being founded.
            return None;
        }
        reconciler.next(&Seen {
            now: self.shared.clock.now(),
            leader: self.shared.member_id.get(),
            records: &records,
            membership: &self.node.membership().borrow().clone(),
            progress: &self.node.progress(),
            last: self.node.status().last.map_or(0, |last| last.index),
            silence: self.silence,
        })
    }

    /// Hands leadership over, and returns when the other member leads. While that one is not fit to, this waits.
    pub(crate) async fn move_leader(&self, to: u64) -> Result<(), Failure> {
        if !self.node.leadership().borrow().is_leader {
            return Err(status::NOT_LEADER.into());
        }
        if self.shared.members.get(to).is_none_or(|member| member.is_learner) {
            return Err(status::BAD_LEADER_TRANSFEREE.into());
        }
        let moved = async {
            loop {
                match self.node.transfer_leadership(to).await {
                    Ok(()) => return Ok(()),
                    Err(TransferError::Stopped) => return Err(status::STOPPED.into()),
                    Err(error) => tracing::warn!(%error, "leadership is not handed over"),
                }
                if self.node.leadership().borrow().leader == Some(to) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let late = |_| Err(status::LEADER_TRANSFER_TIMEOUT.into());
        tokio::time::timeout(self.timeout, moved).await.unwrap_or_else(late)
    }

    /// Before this member stops: hands leadership to the voter that has most of the log, if there is one that works.
    pub(crate) async fn hand_over(&self) {
        if !self.node.leadership().borrow().is_leader {
            return;
        }
        let own = self.shared.member_id.get();
        let Some(best) = self.node.successor() else { return };
        let (from, to) = (format!("{own:x}"), format!("{best:x}"));
        tracing::info!(local_member_id = from, transferee_member_id = to, "leadership transfer starting");
        match self.node.transfer_leadership(best).await {
            Ok(()) => tracing::info!(
                local_member_id = from,
                transferee_member_id = to,
                "leadership transfer finished"
            ),
            Err(error) => tracing::warn!(%error, local_member_id = from, "leadership transfer failed"),
        }
    }
}

/// The URLs of a new member, sorted, as they are printed.
pub(crate) fn peer_urls(urls: &[String]) -> Result<Vec<Url>, Failure> {
    Url::parse_list(urls.iter().map(String::as_str)).map_err(|why| {
        tracing::warn!(why, "a member's URLs are refused");
        Failure::from(status::MEMBER_BAD_UR_LS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urls_of_a_new_member_are_checked_as_etcd_does() {
        let parsed = |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            peer_urls(&urls).map(|urls| urls.iter().map(|url| url.as_str().to_owned()).collect::<Vec<_>>())
        };
        let bad = Err(Failure::from(status::MEMBER_BAD_UR_LS));
        assert_eq!(parsed(&[]), bad);
        for url in [
            "garbage",
            "http://host",
            "http://host:1/",
            "http://host:1/path",
            "ftp://host:1",
            "localhost:2380",
        ] {
            assert_eq!(parsed(&[url]), bad, "{url}");
        }
        let printed = parsed(&[" HTTP://b:1 ", "https://a:2", "unix:///tmp/s"]).unwrap();
        assert_eq!(printed, ["http://b:1", "https://a:2", "unix:///tmp/s"]);
    }
}
