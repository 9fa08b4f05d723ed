//! How entries, votes and memberships are written: protobuf messages of our own, so that what is on disk and
//! on the wire does not change with openraft.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::application::LogId;
use crate::config::Member;
use crate::types::{
    self, CommittedLeaderId, Data, LogEntry, Membership, Payload, RaftLogId, StoredMembership, Vote,
};

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("{0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("{0}")]
    Membership(String),
}

/// An entry, without its index, which is its key, or follows from those before it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EntryRecord {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(bytes = "bytes", tag = "2")]
    data: Bytes,
    #[prost(message, optional, tag = "3")]
    membership: Option<MembershipRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct MembershipRecord {
    /// Sets of voters; an entry is committed when a majority of each set has it.
    #[prost(message, repeated, tag = "1")]
    configs: Vec<VotersRecord>,
    /// Every member, voters and learners.
    #[prost(message, repeated, tag = "2")]
    members: Vec<MemberRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct VotersRecord {
    #[prost(uint64, repeated, tag = "1")]
    ids: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct MemberRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, repeated, tag = "2")]
    peer_urls: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct LogIdRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct VoteRecord {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) candidate: u64,
    /// Whether a quorum granted it, that is, whether the candidate leads.
    #[prost(bool, tag = "3")]
    committed: bool,
}

/// A membership and the entry that made it.
#[derive(Clone, PartialEq, Message)]
struct StoredMembershipRecord {
    #[prost(message, optional, tag = "1")]
    log_id: Option<LogIdRecord>,
    #[prost(message, optional, tag = "2")]
    membership: Option<MembershipRecord>,
}

/// Whose directory it is.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Identity {
    #[prost(uint64, tag = "1")]
    pub(crate) cluster: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) member: u64,
}

/// Appends an entry to `buffer`.
pub(crate) fn encode_entry(entry: &LogEntry, buffer: &mut Vec<u8>) {
    EntryRecord::new(entry).encode(buffer).expect("a vector grows as needed");
}

pub(crate) fn decode_entry(index: u64, bytes: Bytes) -> Result<LogEntry, DecodeError> {
    EntryRecord::decode(bytes)?.into_entry(index)
}

pub(crate) fn encode_log_id(log_id: LogId) -> Vec<u8> {
    LogIdRecord::new(log_id).encode_to_vec()
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, DecodeError> {
    let record = LogIdRecord::decode(bytes)?;
    Ok(LogId { term: record.term, index: record.index })
}

pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    VoteRecord::new(vote).encode_to_vec()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, DecodeError> {
    Ok(VoteRecord::decode(bytes)?.into_vote())
}

/// The membership an entry makes, as the application keeps it.
pub(crate) fn encode_stored_membership(log_id: LogId, membership: &Membership) -> Bytes {
    let record = StoredMembershipRecord {
        log_id: Some(LogIdRecord::new(log_id)),
        membership: Some(MembershipRecord::new(membership)),
    };
    record.encode_to_vec().into()
}

pub(crate) fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, DecodeError> {
    let record = StoredMembershipRecord::decode(bytes)?;
    let log_id = record.log_id.map(LogIdRecord::into_raft);
    let membership = record.membership.unwrap_or_default().into_membership()?;
    Ok(StoredMembership::new(log_id, membership))
}

impl EntryRecord {
    pub(crate) fn new(entry: &LogEntry) -> Self {
        Self {
            term: entry.leader.term,
            data: entry.payload.data.0.clone(),
            membership: entry.payload.membership.as_deref().map(MembershipRecord::new),
        }
    }

    pub(crate) fn into_entry(self, index: u64) -> Result<LogEntry, DecodeError> {
        let membership = self.membership.map(MembershipRecord::into_membership).transpose()?.map(Arc::new);
        Ok(LogEntry {
            leader: CommittedLeaderId::new(self.term),
            index,
            payload: Payload { data: Data(self.data), membership },
        })
    }
}

impl LogIdRecord {
    pub(crate) fn new(log_id: LogId) -> Self {
        Self { term: log_id.term, index: log_id.index }
    }

    pub(crate) fn of_raft(log_id: &RaftLogId) -> Self {
        Self::new(types::from_raft(log_id))
    }

    pub(crate) fn into_log_id(self) -> LogId {
        LogId { term: self.term, index: self.index }
    }

    pub(crate) fn into_raft(self) -> RaftLogId {
        types::to_raft(self.into_log_id())
    }
}

impl VoteRecord {
    pub(crate) fn new(vote: &Vote) -> Self {
        let Vote { leader_id, committed } = *vote;
        Self { term: leader_id.term, candidate: leader_id.voted_for, committed }
    }

    pub(crate) fn into_vote(self) -> Vote {
        let mut vote = Vote::new(self.term, self.candidate);
        vote.committed = self.committed;
        vote
    }
}

impl MembershipRecord {
    fn new(membership: &Membership) -> Self {
        Self {
            configs: (membership.get_joint_config().iter())
                .map(|voters| VotersRecord { ids: voters.iter().copied().collect() })
                .collect(),
            members: (membership.nodes())
                .map(|(&id, member)| MemberRecord { id, peer_urls: member.peer_urls.clone() })
                .collect(),
        }
    }

    fn into_membership(self) -> Result<Membership, DecodeError> {
        let configs: Vec<BTreeSet<u64>> =
            self.configs.into_iter().map(|voters| voters.ids.into_iter().collect()).collect();
        let members: BTreeMap<u64, Member> =
            self.members.into_iter().map(|m| (m.id, Member { peer_urls: m.peer_urls })).collect();
        Membership::new(configs, members).map_err(|error| DecodeError::Membership(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let members = (1..=3).map(|id| (id, Member { peer_urls: vec![format!("http://m{id}")] }));
        Membership::new(vec![BTreeSet::from([1, 2])], members.collect::<BTreeMap<_, _>>()).unwrap()
    }

    #[test]
    fn an_entry_with_data_and_membership_survives() {
        let entry = LogEntry {
            leader: CommittedLeaderId::new(7),
            index: 9,
            payload: Payload {
                data: Data(Bytes::from_static(b"x")),
                membership: Some(Arc::new(membership())),
            },
        };
        let mut buffer = Vec::new();
        encode_entry(&entry, &mut buffer);
        assert_eq!(decode_entry(9, buffer.into()).unwrap(), entry);
    }

    #[test]
    fn votes_log_ids_and_memberships_survive() {
        for vote in [Vote::new(3, 1), Vote::new_committed(3, 2)] {
            assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        }
        let log_id = LogId { term: 3, index: 1 << 40 };
        assert_eq!(decode_log_id(&encode_log_id(log_id)).unwrap(), log_id);
        let stored = decode_stored_membership(&encode_stored_membership(log_id, &membership())).unwrap();
        assert_eq!(stored, StoredMembership::new(Some(types::to_raft(log_id)), membership()));
    }

    #[test]
    fn a_membership_with_an_unknown_voter_is_refused() {
        let record = MembershipRecord { configs: vec![VotersRecord { ids: vec![4] }], members: vec![] };
        let bytes = StoredMembershipRecord { log_id: None, membership: Some(record) }.encode_to_vec();
        assert!(matches!(decode_stored_membership(&bytes), Err(DecodeError::Membership(_))));
    }
}
