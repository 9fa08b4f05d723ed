//! Who leads, as far as this member knows, and who belongs to the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use tokio::sync::watch;

use crate::application::LogId;
use crate::contact::{self, Contact};
use crate::membership::Membership;
use crate::network::links::Links;
use crate::node::Raft;
use crate::sole_voter::SoleVoter;
use crate::types::TypeConfig;

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The leader, if there is one that works: a quorum has lately confirmed it, or it was lately heard here.
    pub leader: Option<u64>,
    /// The term this is about.
    pub term: u64,
    /// Whether it is this member.
    pub is_leader: bool,
}

/// What follows openraft's metrics, and publishes what they mean.
pub(crate) struct Follower {
    pub(crate) id: u64,
    pub(crate) raft: Raft,
    pub(crate) applied: watch::Receiver<Option<LogId>>,
    pub(crate) sole_voter: Arc<SoleVoter>,
    pub(crate) contact: Arc<Contact>,
    pub(crate) links: Arc<Links>,
    pub(crate) election_timeout: Duration,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) membership: watch::Sender<Membership>,
    /// How often another leader was seen.
    pub(crate) changes: Arc<AtomicU64>,
}

impl Follower {
    /// openraft goes on naming a leader that nobody hears any more, so signs of life decide.
    fn judge(&self, metrics: &RaftServerMetrics<TypeConfig>) -> Leadership {
        let term = metrics.vote.leader_id.term;
        let leads = metrics.state == ServerState::Leader;
        let leader = metrics.current_leader.filter(|&leader| {
            if leads {
                metrics.membership_config.membership().voter_ids().eq([self.id])
                    || contact::is_confirmed(&self.raft, self.election_timeout)
            } else {
                self.contact.age(leader).is_some_and(|age| age < self.election_timeout * 3 / 2)
            }
        });
        Leadership { leader, term, is_leader: leads && leader == Some(self.id) }
    }

    /// Follows until openraft's core ends, and tells the sole voter when a sole leadership has begun.
    pub(crate) async fn run(mut self) {
        let mut metrics = self.raft.server_metrics();
        let mut tick = tokio::time::interval((self.election_timeout / 10).max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut published, mut last_leader) = (None, None);
        loop {
            let (leadership, stored) = {
                let metrics = metrics.borrow_watched();
                (self.judge(&metrics), Arc::clone(&metrics.membership_config))
            };
            self.leadership.send_if_modified(|current| {
                let changed = *current != leadership;
                *current = leadership;
                changed
            });
            if leadership.leader.is_some() && leadership.leader != last_leader {
                last_leader = leadership.leader;
                self.changes.fetch_add(1, Ordering::Relaxed);
            }
            if published != Some(*stored.log_id()) {
                published = Some(*stored.log_id());
                let membership = Membership::of_raft(stored.membership());
                if !membership.members.is_empty() {
                    self.links.learn(membership.members.iter().map(|(&id, member)| (id, member)));
                }
                self.membership.send_replace(membership);
            }
            let term_applied =
                self.applied.borrow_and_update().is_some_and(|last| last.term == leadership.term);
            if leadership.is_leader && term_applied {
                let index = stored.log_id().as_ref().map(|log_id| log_id.index);
                self.sole_voter.begin(leadership.term, index, stored.membership());
            }
            let is_alone = self.sole_voter.leads();
            let ended = tokio::select! {
                changed = metrics.changed() => changed.is_err(),
                // Until the first entry of the term is applied, this looks at every batch; afterwards only at changes.
                applied = self.applied.changed(), if leadership.is_leader && !term_applied => applied.is_err(),
                // Silence changes nothing that could be waited for.
                _ = tick.tick(), if !is_alone => false,
            };
            if ended {
                self.leadership.send_replace(Leadership { leader: None, is_leader: false, ..leadership });
                return;
            }
        }
    }
}
