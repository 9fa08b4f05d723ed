//! The types openraft is instantiated with. Nothing outside this crate sees them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use openraft::entry::{RaftEntry, RaftPayload};
use openraft::vote::leader_id_std;

use crate::application::LogId;
use crate::config::Member;
use crate::proposal::Responder;
use crate::runtime::Runtime;

/// One leader per term, so that a log id is a term and an index, as in the Raft paper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Data;
    type R = ();
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = LogEntry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Responder<T>
    where
        T: Send + 'static;
    type Batch<T>
        = Vec<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type CommittedLeaderId = leader_id_std::CommittedLeaderId<u64>;
pub(crate) type RaftLogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Vote = openraft::vote::Vote<leader_id_std::LeaderId<u64, u64>>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, Member>;

pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, Member>;

/// From our log id to openraft's.
pub(crate) fn to_raft(log_id: LogId) -> RaftLogId {
    RaftLogId::new_term_index(log_id.term, log_id.index)
}

/// From openraft's log id to ours.
pub(crate) fn from_raft(log_id: &RaftLogId) -> LogId {
    LogId { term: log_id.leader_id.term, index: log_id.index }
}

/// The bytes of a proposal. openraft asks its data to be printable; their number is all that is printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Data(pub(crate) Bytes);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What an entry carries: bytes of the application, a membership, both (so that the application learns of a
/// change of membership in the entry that makes it), or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Payload {
    pub(crate) data: Data,
    pub(crate) membership: Option<Arc<Membership>>,
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.membership {
            None => write!(f, "{}", self.data),
            Some(membership) => write!(f, "{} and {membership}", self.data),
        }
    }
}

impl RaftPayload for Payload {
    type D = Data;
    type NodeId = u64;
    type Node = Member;

    fn blank() -> Self {
        Self::default()
    }

    fn with_normal(self, data: Data) -> Self {
        Self { data, ..self }
    }

    fn with_membership(self, membership: Membership) -> Self {
        Self { membership: Some(Arc::new(membership)), ..self }
    }

    fn get_membership(&self) -> Option<Membership> {
        self.membership.as_deref().cloned()
    }
}

/// An entry of the log. Cloning it copies no bytes of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEntry {
    pub(crate) leader: CommittedLeaderId,
    pub(crate) index: u64,
    pub(crate) payload: Payload,
}

impl LogEntry {
    pub(crate) fn position(&self) -> LogId {
        LogId { term: self.leader.term, index: self.index }
    }

    /// About how much memory the entry holds on to.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.payload.data.0.len() + self.payload.membership.as_ref().map_or(0, |_| 256)
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.position(), self.payload)
    }
}

impl RaftEntry for LogEntry {
    type CommittedLeaderId = CommittedLeaderId;
    type Payload = Payload;

    fn new(log_id: RaftLogId, payload: Payload) -> Self {
        Self { leader: log_id.leader_id, index: log_id.index, payload }
    }

    fn log_id_parts(&self) -> (&CommittedLeaderId, u64) {
        (&self.leader, self.index)
    }

    fn set_log_id(&mut self, new: RaftLogId) {
        self.leader = new.leader_id;
        self.index = new.index;
    }

    fn get_membership(&self) -> Option<Membership> {
        self.payload.get_membership()
    }
}
