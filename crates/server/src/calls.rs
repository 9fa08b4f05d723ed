//! What members ask each other, beside the log: changes of the members, renewals of leases, hashes, how they are.
//!
//! Only a leader changes members and keeps the time of leases. Any other member passes such a request on, whole, and the leader
//! answers with what its own client would be told.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::etcdserverpb::{HashKvRequest, HashKvResponse};
use api::internal::peer_request::Request;
use api::internal::peer_response::Response;
use api::internal::{MemberStatus, PeerRequest, PeerResponse, Refusal};
use api::status::{self, Code};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use prost::Message as _;
use raftlog::{CallError, Node};

use crate::divergence;
use crate::leases;
use crate::member::Shared;
use crate::membership::Membership;
use crate::rpc::Failure;
use crate::versions;

/// The pause before a leader is asked again.
const RETRY: Duration = Duration::from_millis(50);

/// Asks other members.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    node: Node,
    timeout: Duration,
}

impl Calls {
    pub(crate) fn new(node: Node, timeout: Duration) -> Self {
        Self { node, timeout }
    }

    /// Asks one member.
    ///
    /// # Errors
    /// It could not be asked, did not answer, or refused.
    pub(crate) async fn ask(&self, member: u64, request: Request) -> Result<Response, CallError> {
        let request = PeerRequest { request: Some(request) }.encode_to_vec();
        let answer = self.node.call(member, request.into(), self.timeout).await?;
        let decoded = PeerResponse::decode(answer).ok().and_then(|answer| answer.response);
        decoded.ok_or_else(|| CallError::Refused("the answer does not decode".to_owned()))
    }

    /// Asks the leader, be it this member itself, and asks again for as long as there is none or it has just ceased to be one.
    ///
    /// # Errors
    /// What the leader refuses it with; or it did not answer and may have done it all the same.
    pub(crate) async fn ask_leader(&self, request: &Request) -> Result<Response, Failure> {
        let mut leadership = self.node.leadership();
        loop {
            let led = leadership.wait_for(|leadership| leadership.leader.is_some()).await;
            let leader = led.map_err(|_| status::STOPPED)?.leader.unwrap_or_default();
            match self.ask(leader, request.clone()).await {
                Ok(Response::Refusal(refusal)) if !is_passing(&refusal) => return Err(refused(refusal)),
                Err(CallError::NoAnswer(why)) if !is_repeatable(request) => {
                    tracing::warn!(leader = format!("{leader:x}"), error = why, "the leader did not answer");
                    return Err(status::TIMEOUT_DUE_TO_CONNECTION_LOST.into());
                }
                Ok(Response::Refusal(_)) | Err(_) => tokio::time::sleep(RETRY).await,
                Ok(response) => return Ok(response),
            }
        }
    }

    /// As [`ask_leader`](Self::ask_leader), within the time that requests have.
    ///
    /// # Errors
    /// Likewise, and when the time is over.
    pub(crate) async fn ask_leader_in_time(&self, request: &Request) -> Result<Response, Failure> {
        let late = |_| Err(status::TIMEOUT.into());
        tokio::time::timeout(self.timeout, self.ask_leader(request)).await.unwrap_or_else(late)
    }
}

/// Whether it does no harm to ask again what may have been done.
fn is_repeatable(request: &Request) -> bool {
    matches!(request, Request::LeaseKeepAlive(_) | Request::LeaseTimeToLive(_))
}

/// Whether another leader may say otherwise.
fn is_passing(refusal: &Refusal) -> bool {
    [status::NOT_LEADER, status::NOT_PRIMARY_LESSOR].iter().any(|status| status.text() == refusal.text)
}

fn refused(refusal: Refusal) -> Failure {
    let known = status::ALL.iter().find(|status| status.text() == refusal.text);
    known.map_or_else(
        || Failure { code: Code::Unknown, text: refusal.text.into() },
        |status| Failure::from(*status),
    )
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code as u32, text: failure.text.into_owned() }
    }
}

/// An answer of another kind than was asked for.
pub(crate) fn mismatched() -> Failure {
    Failure::internal("another member answered another request")
}

/// Answers other members, from when it is [connected](Self::connect) until it is [stopped](Self::stop).
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Guards what there is to answer from; held only to look or change. The node holds this, so it must be let go of for the
    /// node to go.
    source: RwLock<Option<Source>>,
}

#[derive(Clone, Debug)]
struct Source {
    shared: Arc<Shared>,
    membership: Option<Arc<Membership>>,
}

impl Answers {
    /// Knows from the start whom the state has seen removed.
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { source: RwLock::new(Some(Source { shared, membership: None })) })
    }

    /// Answers from now on.
    pub(crate) fn connect(&self, membership: Arc<Membership>) {
        if let Some(source) = &mut *self.source.write().unwrap_or_else(PoisonError::into_inner) {
            source.membership = Some(membership);
        }
    }

    /// Answers no more, and lets go of everything.
    pub(crate) fn stop(&self) {
        self.source.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn source(&self) -> Option<Source> {
        self.source.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl raftlog::Answer for Answers {
    fn answer(&self, _from: u64, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let source = self.source();
        async move {
            let Some(Source { shared, membership: Some(membership) }) = source else {
                return Err("this member is starting or stopping".to_owned());
            };
            let request = PeerRequest::decode(request).map_err(|error| error.to_string())?;
            let request = request.request.ok_or("an unknown request; this member may be older")?;
            let response = answer(&shared, &membership, request).await;
            let response = response.unwrap_or_else(|failure| Response::Refusal(failure.into()));
            Ok(PeerResponse { response: Some(response) }.encode_to_vec().into())
        }
        .boxed()
    }

    fn is_removed(&self, member: u64) -> bool {
        let source = self.source.read().unwrap_or_else(PoisonError::into_inner);
        source.as_ref().is_some_and(|source| source.shared.members.is_removed(member))
    }

    fn beacon(&self) -> Bytes {
        self.source().map_or_else(Bytes::new, |source| source.shared.applied.beacon().encode())
    }

    fn heard(&self, _from: u64, beacon: Bytes) {
        if let Some(source) = self.source() {
            divergence::heard(&source.shared, beacon);
        }
    }

    fn offer(&self) -> Bytes {
        self.source().map_or_else(Bytes::new, |source| source.shared.applied.hashes().encode())
    }

    fn offered(&self, from: u64, offer: Bytes) -> Result<(), String> {
        self.source().map_or(Ok(()), |source| divergence::offered(&source.shared, from, offer))
    }
}

async fn answer(
    shared: &Arc<Shared>,
    membership: &Membership,
    request: Request,
) -> Result<Response, Failure> {
    match request {
        Request::MemberAdd(request) => membership.add(request).await.map(Response::MembersChanged),
        Request::MemberRemove(request) => membership.remove(request.id).await.map(Response::MembersChanged),
        Request::MemberUpdate(request) => membership.update(request).await.map(Response::MembersChanged),
        Request::MemberPromote(request) => membership.promote(request.id).await.map(Response::MembersChanged),
        Request::LeaseKeepAlive(request) => {
            leases::renew(shared, membership.node(), request.id, membership.timeout())
                .await
                .map(Response::LeaseKeepAlive)
        }
        Request::LeaseTimeToLive(request) => {
            leases::time_to_live(shared, membership.node(), &request).map(Response::LeaseTimeToLive)
        }
        Request::HashKv(request) => hash_kv(shared, &request).await.map(Response::HashKv),
        Request::MemberStatus(_) => Ok(Response::MemberStatus(member_status(shared))),
        Request::Diverged(diverged) => Ok(Response::Fenced(divergence::told(shared, diverged).await)),
    }
}

/// The hash of this member's history.
pub(crate) async fn hash_kv(shared: &Shared, request: &HashKvRequest) -> Result<HashKvResponse, Failure> {
    let (reader, revision) = (shared.reader.clone(), request.revision);
    let found = tokio::task::spawn_blocking(move || reader.hash_kv(revision));
    let found = found.await.map_err(|_| status::STOPPED)??;
    Ok(HashKvResponse {
        header: Some(shared.header_now()),
        hash: found.hash,
        compact_revision: found.compact_revision,
        hash_revision: found.hash_revision,
    })
}

fn member_status(shared: &Shared) -> MemberStatus {
    MemberStatus { version: versions::own(), hashes: shared.applied.hashes().records() }
}
