//! Who belongs to the cluster, and changing that.
//!
//! Each change is one entry that carries the application's bytes and the new membership together, and changes at most one
//! voter, so that no joint membership is ever needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::{ChangeMembershipRequest, ClientWriteResponse, Precondition};
use tokio::time::Instant;

use crate::application::LogId;
use crate::config::Member;
use crate::node::Raft;
use crate::types::{self, Data, Payload, TypeConfig};

/// How long a change waits for the one before it to be committed.
const BUSY: Duration = Duration::from_secs(5);
/// When to look again.
const LOOK: Duration = Duration::from_millis(20);

/// The members of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// Those whose majority decides.
    pub voters: BTreeSet<u64>,
    /// All members; those that are no voters are learners, which get all entries and decide nothing.
    pub members: BTreeMap<u64, Member>,
}

impl Membership {
    pub(crate) fn of_raft(membership: &types::Membership) -> Self {
        Self {
            voters: membership.voter_ids().collect(),
            members: membership.nodes().map(|(&id, member)| (id, member.clone())).collect(),
        }
    }
}

/// A change of the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a member that does not vote.
    AddLearner {
        /// The new member's id, never used before in this cluster.
        id: u64,
        /// Where it is reached.
        member: Member,
    },
    /// Makes a learner a voter.
    Promote {
        /// The learner.
        id: u64,
    },
    /// Makes a voter a learner. A leader must not demote itself: it would go on leading.
    Demote {
        /// The voter.
        id: u64,
    },
    /// Removes a member. A leader that removes itself hands leadership over once this is committed.
    Remove {
        /// The member.
        id: u64,
    },
    /// Changes where a member is reached.
    Update {
        /// The member.
        id: u64,
        /// Where it is reached from now on.
        member: Member,
    },
}

impl Change {
    fn apply(&self, membership: &mut Membership) -> Result<(), ChangeError> {
        let id = self.id();
        let is_known = membership.members.contains_key(&id);
        if matches!(self, Self::AddLearner { .. }) == is_known {
            return Err(ChangeError::Refused(if is_known {
                format!("member {id:x} exists already")
            } else {
                format!("member {id:x} does not exist")
            }));
        }
        match self {
            Self::AddLearner { member, .. } | Self::Update { member, .. } => {
                membership.members.insert(id, member.clone());
            }
            Self::Promote { .. } => {
                membership.voters.insert(id);
            }
            Self::Demote { .. } => {
                membership.voters.remove(&id);
            }
            Self::Remove { .. } => {
                membership.voters.remove(&id);
                membership.members.remove(&id);
            }
        }
        if membership.voters.is_empty() {
            return Err(ChangeError::Refused("the last voter cannot go".to_owned()));
        }
        Ok(())
    }

    /// Whom it is about.
    pub fn id(&self) -> u64 {
        match self {
            Self::AddLearner { id, .. }
            | Self::Promote { id }
            | Self::Demote { id }
            | Self::Remove { id }
            | Self::Update { id, .. } => *id,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddLearner { id, .. } => write!(f, "add {id:x}"),
            Self::Promote { id } => write!(f, "promote {id:x}"),
            Self::Demote { id } => write!(f, "demote {id:x}"),
            Self::Remove { id } => write!(f, "remove {id:x}"),
            Self::Update { id, .. } => write!(f, "update {id:x}"),
        }
    }
}

/// Why the membership was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// This member does not lead; nothing was proposed.
    #[error("this member is not the leader")]
    NotLeader,
    /// The change makes no sense for the present membership.
    #[error("{0}")]
    Refused(String),
    /// Other changes are being made; nothing was proposed.
    #[error("another change of the membership is under way")]
    Busy,
    /// Another leader took over; the change may or may not be made.
    #[error("the leader changed before the change was committed")]
    LeaderChanged,
    /// The node stopped; the change may or may not be made.
    #[error("the node has stopped")]
    Stopped,
}

/// Proposes a change as the leader, waiting for others to be done.
pub(crate) async fn change(raft: &Raft, change: &Change, data: Bytes) -> Result<LogId, ChangeError> {
    let deadline = Instant::now() + BUSY;
    loop {
        match propose(raft, change, data.clone()).await {
            Err(ChangeError::Busy) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            outcome => return outcome,
        }
    }
}

async fn propose(raft: &Raft, change: &Change, data: Bytes) -> Result<LogId, ChangeError> {
    let stored = raft.server_metrics().borrow_watched().membership_config.clone();
    let mut membership = Membership::of_raft(stored.membership());
    change.apply(&mut membership)?;
    let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: *stored.log_id() };
    let payload = Payload { data: Data(data), membership: None };
    let written: Result<ClientWriteResponse<TypeConfig>, _> = if let Change::Update { id, member } = change {
        let nodes = BTreeMap::from([(*id, member.clone())]);
        let request = ChangeMembershipRequest::new(ChangeMembers::SetNodes(nodes), true)
            .with_payload(payload.clone(), payload)
            .with_preconditions([unchanged]);
        raft.change_membership_with_payload(request).await.map(|outcome| outcome.uniform)
    } else {
        let new = types::Membership::new(vec![membership.voters], membership.members)
            .map_err(|error| ChangeError::Refused(error.to_string()))?;
        raft.append_membership(new, payload, [unchanged]).await
    };
    match written {
        Ok(response) => Ok(types::from_raft(&response.log_id)),
        Err(RaftError::Fatal(_)) => Err(ChangeError::Stopped),
        Err(RaftError::APIError(error)) => Err(match error {
            ClientWriteError::ForwardToLeader(_) => ChangeError::NotLeader,
            ClientWriteError::LogEntryDiscarded(_) => ChangeError::LeaderChanged,
            ClientWriteError::PreconditionFailed(_)
            | ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
            ) => ChangeError::Busy,
            ClientWriteError::ChangeMembershipError(error) => ChangeError::Refused(error.to_string()),
        }),
    }
}
