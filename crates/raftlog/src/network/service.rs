//! The other end of [`Links`](super::links::Links): what other members ask of this one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::{Request as HttpRequest, Response as HttpResponse};
use http_body::Body as HttpBody;
use openraft::Snapshot;
use openraft::raft::TransferLeaderRequest;
use tokio::sync::Mutex;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::dial::Answer;
use super::links::{self, Parties};
use super::snapshot::Incoming;
use super::wire::{
    self, AppendRequest, AppendResponse, Appended, CallMessage, MESSAGE_BYTES, PingMessage, ProposeRequest,
    ProposeResponse, ReadIndexRequest, ReadIndexResponse, SnapshotDone, SnapshotHave, SnapshotOffer,
    SnapshotPiece, TransferRequest, TransferResponse, VoteMessage,
};
use crate::contact::Contact;
use crate::forward::Proposer;
use crate::node::Raft;
use crate::read_index::ReadIndex;
use crate::record::{LogIdRecord, VoteRecord};
use crate::state_machine::SnapshotData;
use crate::types::TypeConfig;

/// What a member serves to the others: hand it every request whose path begins with [`PeerService::PREFIX`].
#[derive(Clone)]
pub struct PeerService {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) cluster: u64,
    pub(crate) member: u64,
    pub(crate) raft: Raft,
    pub(crate) contact: Arc<Contact>,
    pub(crate) answer: Arc<dyn Answer>,
    pub(crate) read_index: ReadIndex,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) incoming: Arc<Mutex<Incoming>>,
}

impl fmt::Debug for PeerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerService").field("member", &self.inner.member).finish_non_exhaustive()
    }
}

fn internal(error: impl fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// A codec that reads `Q` and writes `A`, without the usual bounds on messages.
fn grpc<Q, A>() -> Grpc<ProstCodec<A, Q>>
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Send + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES)
}

impl PeerService {
    /// The beginning of every path that is served here.
    pub const PREFIX: &'static str = wire::SERVICE;

    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Answers one HTTP/2 request.
    pub async fn serve<B>(&self, request: HttpRequest<B>) -> HttpResponse<Body>
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
        B::Data: Send,
    {
        let parties = match self.admit(&request) {
            Ok(parties) => parties,
            Err(status) => return status.into_http(),
        };
        let (from, inner) = (parties.from, Arc::clone(&self.inner));
        /// A handler of one kind of call, with what it needs.
        macro_rules! handler {
            ($inner:ident, $request:ident: $kind:ty, $work:expr) => {
                tower::service_fn(move |$request: Request<$kind>| {
                    let $inner = Arc::clone(&$inner);
                    async move { $work.await.map(Response::new) }
                })
            };
        }
        match request.uri().path() {
            wire::APPEND => {
                let handler =
                    handler!(inner, call: Streaming<AppendRequest>, inner.append(call.into_inner()));
                grpc::<AppendRequest, AppendResponse>().streaming(handler, request).await
            }
            wire::HEARTBEAT => {
                let handler = handler!(inner, call: AppendRequest, inner.heartbeat(call.into_inner()));
                grpc::<AppendRequest, AppendResponse>().unary(handler, request).await
            }
            wire::VOTE => {
                let handler = handler!(inner, call: VoteMessage, inner.vote(call.into_inner()));
                grpc::<VoteMessage, VoteMessage>().unary(handler, request).await
            }
            wire::TRANSFER => {
                let handler = handler!(inner, call: TransferRequest, inner.transfer(call.into_inner()));
                grpc::<TransferRequest, TransferResponse>().unary(handler, request).await
            }
            wire::READ_INDEX => {
                let handler = handler!(inner, _call: ReadIndexRequest, inner.read_index());
                grpc::<ReadIndexRequest, ReadIndexResponse>().unary(handler, request).await
            }
            wire::PROPOSE => {
                let handler = handler!(inner, call: ProposeRequest, inner.propose(call.into_inner()));
                grpc::<ProposeRequest, ProposeResponse>().unary(handler, request).await
            }
            wire::CALL => {
                let handler = handler!(inner, call: CallMessage, inner.call(from, call.into_inner()));
                grpc::<CallMessage, CallMessage>().unary(handler, request).await
            }
            wire::PING => {
                let handler = tower::service_fn(async |call: Request<PingMessage>| {
                    Ok::<_, Status>(Response::new(call.into_inner()))
                });
                grpc::<PingMessage, PingMessage>().unary(handler, request).await
            }
            wire::SNAPSHOT_OFFER => {
                let handler = handler!(inner, call: SnapshotOffer, inner.offer(from, call.into_inner()));
                grpc::<SnapshotOffer, SnapshotHave>().unary(handler, request).await
            }
            wire::SNAPSHOT_SEND => {
                let handler =
                    handler!(inner, call: Streaming<SnapshotPiece>, inner.snapshot(from, call.into_inner()));
                grpc::<SnapshotPiece, SnapshotDone>().client_streaming(handler, request).await
            }
            path => Status::unimplemented(format!("there is no {path}")).into_http(),
        }
    }

    /// Lets nobody in who belongs elsewhere, or does not belong here any more.
    fn admit<B>(&self, request: &HttpRequest<B>) -> Result<Parties, Status> {
        let refuse = |text: String| Err(Status::failed_precondition(text));
        let Some(parties) = Parties::read(request.headers()) else {
            return refuse("a call among members must say whose it is".to_owned());
        };
        let Parties { cluster, from, to } = parties;
        if self.inner.answer.is_removed(from) {
            return Err(links::removed());
        }
        if cluster != self.inner.cluster {
            tracing::warn!(
                local = %format!("{:x}", self.inner.cluster), remote = %format!("{cluster:x}"), from = %format!("{from:x}"),
                "request cluster ID mismatch"
            );
            return refuse(format!(
                "cluster ID mismatch: {cluster:x} asks, {:x} is asked",
                self.inner.cluster
            ));
        }
        if to != self.inner.member {
            return refuse(format!("member ID mismatch: {to:x} is sought, {:x} is here", self.inner.member));
        }
        Ok(parties)
    }
}

impl Inner {
    async fn append(
        &self,
        requests: Streaming<AppendRequest>,
    ) -> Result<BoxStream<'static, Result<AppendResponse, Status>>, Status> {
        // Everything on one stream comes from one leader.
        let leader = Arc::new(AtomicU64::new(0));
        let (seen, contact) = (Arc::clone(&leader), Arc::clone(&self.contact));
        // Whatever is wrong with a request ends the stream; the leader then asks how far this log goes.
        let requests = requests.map(move |request| {
            let request = request.and_then(AppendRequest::into_raft);
            if let Ok(request) = &request {
                seen.store(request.vote.leader_id.voted_for, Ordering::Relaxed);
            }
            request.ok()
        });
        let requests = requests.take_while(|request| std::future::ready(request.is_some()));
        let requests = requests.filter_map(std::future::ready);
        let responses = self.raft.stream_append(requests).map(move |appended| {
            let appended = appended.map_err(internal)?;
            if !is_refused(&appended) {
                contact.heard(leader.load(Ordering::Relaxed));
            }
            Ok(AppendResponse::new(&appended))
        });
        Ok(responses.boxed())
    }

    async fn heartbeat(&self, request: AppendRequest) -> Result<AppendResponse, Status> {
        let request = request.into_raft()?;
        let leader = request.vote.leader_id.voted_for;
        let previous = request.prev_log_id;
        let last = request.entries.last().map(|entry| crate::types::to_raft(entry.position())).or(previous);
        let appended = self.raft.append_entries(request).await.map_err(internal)?;
        let appended = appended.into_stream_result(previous, last);
        if !is_refused(&appended) {
            self.contact.heard(leader);
        }
        Ok(AppendResponse { beacon: self.answer.beacon(), ..AppendResponse::new(&appended) })
    }

    async fn vote(&self, message: VoteMessage) -> Result<VoteMessage, Status> {
        let pre = message.pre;
        let request = message.into_request()?;
        let response = if pre { self.raft.pre_vote(request).await } else { self.raft.vote(request).await };
        Ok(VoteMessage::response(&response.map_err(internal)?))
    }

    async fn transfer(&self, message: TransferRequest) -> Result<TransferResponse, Status> {
        let vote = message.vote.ok_or_else(|| wire::malformed("vote"))?.into_vote();
        let last = message.last.map(LogIdRecord::into_raft);
        let request = TransferLeaderRequest::<TypeConfig>::new(vote, message.to, last);
        let response = self.raft.handle_transfer_leader(request).await.map_err(internal)?;
        Ok(TransferResponse { refused: response.err().map(|error| error.to_string()).unwrap_or_default() })
    }

    async fn read_index(&self) -> Result<ReadIndexResponse, Status> {
        match self.read_index.get_as_leader().await {
            Some(index) => Ok(ReadIndexResponse { index }),
            None => Err(Status::failed_precondition("this member is not the leader")),
        }
    }

    async fn propose(&self, request: ProposeRequest) -> Result<ProposeResponse, Status> {
        Ok(self.proposer.answer(request).await)
    }

    async fn call(&self, from: u64, request: CallMessage) -> Result<CallMessage, Status> {
        Ok(match self.answer.answer(from, request.body).await {
            Ok(body) => CallMessage { body, error: None },
            Err(error) => CallMessage { error: Some(error), ..CallMessage::default() },
        })
    }

    async fn offer(&self, from: u64, mut offer: SnapshotOffer) -> Result<SnapshotHave, Status> {
        let judged = self.answer.offered(from, std::mem::take(&mut offer.application));
        judged.map_err(Status::failed_precondition)?;
        let Ok(mut incoming) = Arc::clone(&self.incoming).try_lock_owned() else {
            return Err(Status::aborted("another snapshot is on its way"));
        };
        let accepted = tokio::task::spawn_blocking(move || incoming.accept(from, offer)).await;
        accepted.map_err(internal)?
    }

    async fn snapshot(&self, from: u64, pieces: Streaming<SnapshotPiece>) -> Result<SnapshotDone, Status> {
        let mut incoming =
            self.incoming.try_lock().map_err(|_| Status::aborted("another snapshot is on its way"))?;
        let offer = incoming.receive(from, pieces).await?;
        let (vote, meta) = (offer.vote.ok_or_else(|| wire::malformed("vote"))?.into_vote(), offer.meta()?);
        tracing::info!(from = %format!("{from:x}"), files = offer.files.len(), "a snapshot has arrived; installing it");
        // The files are in use until this returns.
        let snapshot = Snapshot { meta, snapshot: SnapshotData::received(incoming.dir().to_owned()) };
        let response = self.raft.install_full_snapshot(vote, snapshot).await.map_err(internal)?;
        Ok(SnapshotDone { vote: Some(VoteRecord::new(&response.vote)) })
    }
}

/// Whether the sender is told that it does not lead any more.
fn is_refused(appended: &Appended) -> bool {
    matches!(appended, Err(openraft::raft::StreamAppendError::HigherVote(_)))
}
