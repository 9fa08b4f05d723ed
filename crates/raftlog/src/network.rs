//! How members reach each other: gRPC over connections that the application makes.
//!
//! ```text
//! openraft ── Network ── Links ──► dial ──► ... ──► PeerService ──► openraft of the other member
//!                          ▲
//!              newest membership: member id -> URLs
//! ```
//!
//! Entries go over one long stream for each peer, on which many batches are under way at once. Heartbeats and votes have a
//! connection of their own, so that they never wait behind entries, and snapshots another. A connection that is silent
//! is asked for a sign of life, and closed when none comes, and a stream on which entries are not [answered](answers) ends;
//! openraft itself never gives a stream up. A [heartbeat] that is not answered soon is sent again.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use http::uri::PathAndQuery;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Snapshot};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use self::answers::Unanswered;
use self::dial::Answer;
use self::links::{Links, Purpose};
use self::wire::{AppendRequest, AppendResponse, TransferRequest, TransferResponse, VoteMessage};
use crate::config::Member;
use crate::record::{LogIdRecord, VoteRecord};
use crate::state_machine::SnapshotData;
use crate::types::{CommittedLeaderId, TypeConfig, Vote};

mod answers;
pub(crate) mod dial;
mod heartbeat;
pub(crate) mod links;
pub(crate) mod service;
pub(crate) mod snapshot;
pub(crate) mod wire;

/// How long to wait before a peer that could not be reached is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Makes openraft's clients of other members.
pub(crate) struct Network {
    pub(crate) links: Arc<Links>,
    pub(crate) answer: Arc<dyn Answer>,
    /// How often a heartbeat is sent as long as it is not answered.
    pub(crate) heartbeat: Duration,
    /// How long a member may take to say what became of entries that it was sent.
    pub(crate) patience: Duration,
    /// Where snapshots are put together before they are sent.
    pub(crate) snapshot_dir: PathBuf,
}

/// The way to one member.
pub(crate) struct Peer {
    target: u64,
    purpose: Purpose,
    links: Arc<Links>,
    answer: Arc<dyn Answer>,
    heartbeat: Duration,
    patience: Duration,
    snapshot_dir: PathBuf,
}

impl Network {
    /// Where the member is reached is looked up at every connect; what openraft knows of it may be old, and only serves until the
    /// membership is known.
    fn peer(&self, target: u64, member: &Member, purpose: Purpose) -> Peer {
        self.links.introduce(target, member);
        Peer {
            target,
            purpose,
            links: Arc::clone(&self.links),
            answer: Arc::clone(&self.answer),
            heartbeat: self.heartbeat,
            patience: self.patience,
            snapshot_dir: self.snapshot_dir.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node, Purpose::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node, Purpose::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node, Purpose::Bulk)
    }
}

/// What openraft should make of a failed call. It waits before it tries an unreachable member again.
fn rpc_error(status: &Status) -> RPCError<TypeConfig> {
    match status.code() {
        Code::Unavailable | Code::NotFound | Code::PermissionDenied | Code::Unknown => {
            RPCError::Unreachable(Unreachable::from_string(status))
        }
        _ => RPCError::Network(NetworkError::from_string(status)),
    }
}

impl Peer {
    /// Opens a stream of entries; it ends when the member is to be reached elsewhere, or does not answer.
    async fn entries<S>(&self, input: S) -> Result<BoxStream<'static, Result<AppendResponse, Status>>, Status>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let link = self.links.link(self.target, Purpose::Entries)?;
        let unanswered = Arc::<Unanswered>::default();
        let asked = Arc::clone(&unanswered);
        let requests = input.map(move |request| {
            asked.push();
            AppendRequest::new(&request)
        });
        let requests = link.request(requests);
        let mut grpc = links::client(link.channel);
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let path = PathAndQuery::from_static(wire::APPEND);
        let codec = ProstCodec::<AppendRequest, AppendResponse>::default();
        let responses = tokio::time::timeout(self.patience, grpc.streaming(requests, path, codec)).await;
        let late = |_| Err(Status::deadline_exceeded("the stream of entries is not taken"));
        let responses = responses.unwrap_or_else(late);
        let responses = responses.map_err(|status| self.links.heard(status))?.into_inner();
        let mut moved = link.moved;
        let moved = async move { moved.changed().await.ok() };
        Ok(answers::in_time(responses.take_until(moved.boxed()), unanswered, self.patience))
    }

    async fn ask(
        &self,
        request: &VoteRequest<TypeConfig>,
        pre: bool,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = VoteMessage::request(request, pre);
        let answer: Result<VoteMessage, Status> =
            self.links.unary(self.target, Purpose::Control, wire::VOTE, message).await;
        Ok(answer.map_err(|status| rpc_error(&status))?.into_response()?)
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = AppendRequest::new(&request);
        let answer = heartbeat::send(&self.links, self.target, self.heartbeat, &message).await;
        let mut answer = answer.map_err(|status| rpc_error(&status))?;
        self.answer.heard(self.target, std::mem::take(&mut answer.beacon));
        Ok(match answer.into_raft() {
            Ok(matching) => AppendEntriesResponse::PartialSuccess(matching),
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<openraft::raft::StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.purpose != Purpose::Entries {
            return stream_append_sequential(self, input, option);
        }
        async move {
            let responses = match self.entries(input).await {
                Ok(responses) => responses,
                Err(status) => {
                    // openraft's own pause comes with the requests, of which none has been asked for yet.
                    tokio::time::sleep(RETRY).await;
                    return Err(rpc_error(&status));
                }
            };
            let links = Arc::clone(&self.links);
            let responses = responses.map(move |response| match response {
                Ok(response) => Ok(response.into_raft()),
                Err(status) => Err(rpc_error(&links.heard(status))),
            });
            let responses: BoxStream<'s, _> = responses.boxed();
            Ok(responses)
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(&request, false).await
    }

    /// openraft's default grants every pre-vote, so this must ask.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(&request, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<CommittedLeaderId, u64, Member, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let unreachable = |status: &Status| StreamingError::Unreachable(Unreachable::from_string(status));
        snapshot::reach(&self.links, self.target).await.map_err(|status| unreachable(&status))?;
        let dir = self.snapshot_dir.join(format!("to-{:x}", self.target));
        let sent = snapshot::send(&self.links, &*self.answer, self.target, vote, &snapshot.snapshot, &dir);
        tokio::select! {
            sent = sent => match sent {
                Ok(vote) => {
                    self.links.snapshot_ended(self.target, true);
                    Ok(SnapshotResponse::new(vote))
                }
                Err(status) => {
                    self.links.snapshot_ended(self.target, false);
                    tracing::warn!(to = %format!("{:x}", self.target), error = %status, "sending a snapshot failed");
                    Err(match rpc_error(&status) {
                        RPCError::Network(error) => StreamingError::Network(error),
                        _ => unreachable(&status),
                    })
                }
            },
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = TransferRequest {
            vote: Some(VoteRecord::new(request.from_leader())),
            to: *request.to_node_id(),
            last: request.last_log_id().map(LogIdRecord::of_raft),
        };
        let answer: Result<TransferResponse, Status> =
            self.links.unary(self.target, Purpose::Control, wire::TRANSFER, message).await;
        let answer = answer.map_err(|status| rpc_error(&status))?;
        if answer.refused.is_empty() {
            Ok(Ok(()))
        } else {
            // openraft only logs what comes back.
            Err(RPCError::Network(NetworkError::from_string(answer.refused)))
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY)))
    }
}
