//! What members say to each other: gRPC messages of our own, so that the protocol does not change with openraft.

use bytes::Bytes;
use openraft::errors::NetworkError;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, VoteRequest, VoteResponse};
use prost::Message;
use tonic::Status;

use crate::record::{self, EntryRecord, LogIdRecord, VoteRecord};
use crate::types::{self, LogEntry, TypeConfig};

/// Paths of the service begin with this.
pub(crate) const SERVICE: &str = "/raftlog.Peer/";

pub(crate) const APPEND: &str = "/raftlog.Peer/Append";
pub(crate) const HEARTBEAT: &str = "/raftlog.Peer/Heartbeat";
pub(crate) const VOTE: &str = "/raftlog.Peer/Vote";
pub(crate) const TRANSFER: &str = "/raftlog.Peer/TransferLeader";
pub(crate) const READ_INDEX: &str = "/raftlog.Peer/ReadIndex";
pub(crate) const PROPOSE: &str = "/raftlog.Peer/Propose";
pub(crate) const CALL: &str = "/raftlog.Peer/Call";
pub(crate) const PING: &str = "/raftlog.Peer/Ping";
pub(crate) const SNAPSHOT_OFFER: &str = "/raftlog.Peer/SnapshotOffer";
pub(crate) const SNAPSHOT_SEND: &str = "/raftlog.Peer/SnapshotSend";

/// Largest message that is read or sent. A batch of entries is bounded by the log, so only one entry alone can be large.
pub(crate) const MESSAGE_BYTES: usize = 256 << 20;

/// Entries that follow `previous`, without gaps. Without entries it is a heartbeat.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppendRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<VoteRecord>,
    #[prost(message, optional, tag = "2")]
    pub(crate) previous: Option<LogIdRecord>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) entries: Vec<EntryRecord>,
    #[prost(message, optional, tag = "4")]
    pub(crate) committed: Option<LogIdRecord>,
}

/// How far the sender's and the receiver's logs are known to agree, or why the entries were not taken.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppendResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) matching: Option<LogIdRecord>,
    /// The receiver has another entry here, or none.
    #[prost(message, optional, tag = "2")]
    pub(crate) conflict: Option<LogIdRecord>,
    /// The receiver has voted in a later term.
    #[prost(message, optional, tag = "3")]
    pub(crate) higher_vote: Option<VoteRecord>,
    /// In an answer to a heartbeat: what the receiver's application says of its state.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) beacon: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VoteMessage {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<VoteRecord>,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<LogIdRecord>,
    /// In a request: the leader has asked the candidate to take over.
    #[prost(bool, tag = "3")]
    pub(crate) transfer: bool,
    /// In a request: only whether the vote would be granted is asked.
    #[prost(bool, tag = "4")]
    pub(crate) pre: bool,
    /// In a response.
    #[prost(bool, tag = "5")]
    pub(crate) granted: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TransferRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<VoteRecord>,
    #[prost(uint64, tag = "2")]
    pub(crate) to: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) last: Option<LogIdRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TransferResponse {
    /// Empty when the receiver will campaign.
    #[prost(string, tag = "1")]
    pub(crate) refused: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadIndexRequest {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadIndexResponse {
    #[prost(uint64, tag = "1")]
    pub(crate) index: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProposeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) data: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProposeResponse {
    /// Where the entry is, once the leader has applied it.
    #[prost(message, optional, tag = "1")]
    pub(crate) log_id: Option<LogIdRecord>,
    /// The entry was not proposed because the receiver does not lead.
    #[prost(bool, tag = "2")]
    pub(crate) not_leader: bool,
    /// The entry was not proposed because too much is pending.
    #[prost(bool, tag = "3")]
    pub(crate) overloaded: bool,
    /// The entry was proposed, but another leader took over.
    #[prost(bool, tag = "4")]
    pub(crate) leader_changed: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CallMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) body: Bytes,
    /// In a response: what was refused, and why.
    #[prost(string, optional, tag = "2")]
    pub(crate) error: Option<String>,
}

/// Nothing but a sign of life, either way.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PingMessage {}

/// A file of a snapshot.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct FileRecord {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint64, tag = "2")]
    pub(crate) size: u64,
}

/// What a snapshot consists of.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotOffer {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<VoteRecord>,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<LogIdRecord>,
    /// An encoded membership, as applications keep it.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) membership: Bytes,
    #[prost(message, repeated, tag = "4")]
    pub(crate) files: Vec<FileRecord>,
    /// What the sender's application says of the state.
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) application: Bytes,
}

/// How much of each file is there from an earlier attempt, in the order of the offer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotHave {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) bytes: Vec<u64>,
}

/// A piece of a file. Pieces of one file come in order, files in the order of the offer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotPiece {
    #[prost(uint32, tag = "1")]
    pub(crate) file: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) data: Bytes,
    /// With the last piece of a file: the CRC-32C of the whole file.
    #[prost(fixed32, optional, tag = "3")]
    pub(crate) checksum: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotDone {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<VoteRecord>,
}

/// A message that lacks a part, or holds one that makes no sense.
pub(crate) fn malformed(what: &str) -> Status {
    Status::invalid_argument(format!("a peer's message has no usable {what}"))
}

impl AppendRequest {
    pub(crate) fn new(request: &AppendEntriesRequest<TypeConfig>) -> Self {
        Self {
            vote: Some(VoteRecord::new(&request.vote)),
            previous: request.prev_log_id.as_ref().map(LogIdRecord::of_raft),
            entries: request.entries.iter().map(EntryRecord::new).collect(),
            committed: request.leader_commit.as_ref().map(LogIdRecord::of_raft),
        }
    }

    pub(crate) fn into_raft(self) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
        let first = self.previous.as_ref().map_or(0, |previous| previous.index.saturating_add(1));
        let entries: Result<Vec<LogEntry>, _> =
            (first..).zip(self.entries).map(|(index, record)| record.into_entry(index)).collect();
        Ok(AppendEntriesRequest {
            vote: self.vote.ok_or_else(|| malformed("vote"))?.into_vote(),
            prev_log_id: self.previous.map(LogIdRecord::into_raft),
            entries: entries.map_err(|error| Status::invalid_argument(error.to_string()))?,
            leader_commit: self.committed.map(LogIdRecord::into_raft),
        })
    }
}

/// What became of a batch of entries.
pub(crate) type Appended = Result<Option<types::RaftLogId>, StreamAppendError<TypeConfig>>;

impl AppendResponse {
    pub(crate) fn new(appended: &Appended) -> Self {
        match appended {
            Ok(matching) => Self { matching: matching.as_ref().map(LogIdRecord::of_raft), ..Self::default() },
            Err(StreamAppendError::Conflict(log_id)) => {
                Self { conflict: Some(LogIdRecord::of_raft(log_id)), ..Self::default() }
            }
            Err(StreamAppendError::HigherVote(vote)) => {
                Self { higher_vote: Some(VoteRecord::new(vote)), ..Self::default() }
            }
        }
    }

    pub(crate) fn into_raft(self) -> Appended {
        match (self.conflict, self.higher_vote) {
            (Some(conflict), _) => Err(StreamAppendError::Conflict(conflict.into_raft())),
            (None, Some(vote)) => Err(StreamAppendError::HigherVote(vote.into_vote())),
            (None, None) => Ok(self.matching.map(LogIdRecord::into_raft)),
        }
    }
}

impl VoteMessage {
    pub(crate) fn request(request: &VoteRequest<TypeConfig>, pre: bool) -> Self {
        Self {
            vote: Some(VoteRecord::new(&request.vote)),
            last: request.last_log_id.as_ref().map(LogIdRecord::of_raft),
            transfer: request.leadership_transfer,
            pre,
            granted: false,
        }
    }

    pub(crate) fn into_request(self) -> Result<VoteRequest<TypeConfig>, Status> {
        let vote = self.vote.ok_or_else(|| malformed("vote"))?.into_vote();
        let mut request = VoteRequest::new(vote, self.last.map(LogIdRecord::into_raft));
        request.leadership_transfer = self.transfer;
        Ok(request)
    }

    pub(crate) fn response(response: &VoteResponse<TypeConfig>) -> Self {
        Self {
            vote: Some(VoteRecord::new(&response.vote)),
            last: response.last_log_id.as_ref().map(LogIdRecord::of_raft),
            granted: response.vote_granted,
            ..Self::default()
        }
    }

    pub(crate) fn into_response(self) -> Result<VoteResponse<TypeConfig>, NetworkError<TypeConfig>> {
        let vote = self.vote.ok_or_else(|| NetworkError::from_string("an answer without a vote"))?;
        Ok(VoteResponse::new(vote.into_vote(), self.last.map(LogIdRecord::into_raft), self.granted))
    }
}

impl SnapshotOffer {
    /// The snapshot's position and membership, as openraft wants them.
    pub(crate) fn meta(&self) -> Result<types::SnapshotMeta, Status> {
        let membership = record::decode_stored_membership(&self.membership)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(types::SnapshotMeta {
            last_log_id: self.last.map(LogIdRecord::into_raft),
            last_membership: membership,
        })
    }
}
