//! Lease: LeaseGrant, LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive, LeaseLeases.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::auth::Access;
use api::LeaseId;
use api::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use api::internal::peer_request::Request;
use api::internal::peer_response::Response;
use api::status;
use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::caller::Caller;
use super::frame::Messages;
use super::{Failure, Framed, Frames, Rpc, decode, frame, kv, push_frame};
use crate::apply::{self, Output};
use crate::calls;
use crate::leases;
use crate::permit::Permit;
use crate::proposal::Command;

pub(super) async fn grant(rpc: &Arc<Rpc>, caller: &Caller, raw: Bytes) -> Framed {
    let mut request: LeaseGrantRequest = decode(&raw)?;
    kv::admit(rpc, apply::LEASE_COST).await?;
    if request.id == 0 {
        request.id = rpc.shared.proposals.next_lease_id();
    }
    let identity = rpc.permitted(caller, |permit| permit.user()).await?;
    match kv::propose(rpc, Command::lease_grant(&request).by(identity)).await? {
        Output::LeaseGrant { revision, id, ttl } => {
            let header = Some(rpc.shared.header(revision));
            Ok(frame::message(&LeaseGrantResponse { header, id, ttl, error: String::new() }))
        }
        other => Err(kv::mismatched(&other)),
    }
}

pub(super) async fn revoke(rpc: &Arc<Rpc>, caller: &Caller, raw: Bytes) -> Framed {
    let request: LeaseRevokeRequest = decode(&raw)?;
    let identity = rpc.permitted(caller, |permit| permit.lease(Access::Write, request.id)).await?;
    match rpc.shared.proposals.propose(Command::lease_revoke(&request).by(identity)).await? {
        Output::Revision(revision) => {
            Ok(frame::message(&LeaseRevokeResponse { header: Some(rpc.shared.header(revision)) }))
        }
        other => Err(kv::mismatched(&other)),
    }
}

pub(super) async fn time_to_live(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let request: LeaseTimeToLiveRequest = decode(raw)?;
    let ask = |permit: Permit<'_>| if request.keys { permit.lease(Access::Read, request.id) } else { Ok(()) };
    let seen = rpc.may_read(caller, ask).await?;
    let told_keys = request.keys;
    let response = match leases::time_to_live(&rpc.shared, &rpc.node, &request) {
        Err(failure) if failure == status::NOT_PRIMARY_LESSOR.into() => {
            match rpc.calls.ask_leader_in_time(&Request::LeaseTimeToLive(request)).await? {
                Response::LeaseTimeToLive(response) => {
                    LeaseTimeToLiveResponse { header: Some(rpc.shared.header_now()), ..response }
                }
                _ => return Err(calls::mismatched()),
            }
        }
        known => known?,
    };
    if told_keys {
        seen.still(&rpc.shared.users.rules())?;
    }
    Ok(frame::message(&response))
}

pub(super) async fn leases(rpc: &Rpc, caller: &Caller) -> Framed {
    let leases = rpc.shared.lessor.leases();
    let ask = |permit: Permit<'_>| leases.iter().try_for_each(|id| permit.lease(Access::Read, id.get()));
    let seen = rpc.may_read(caller, ask).await?;
    seen.still(&rpc.shared.users.rules())?;
    let leases = leases.into_iter().map(|id| LeaseStatus { id: id.get() }).collect();
    Ok(frame::message(&LeaseLeasesResponse { header: Some(rpc.shared.header_now()), leases }))
}

/// One LeaseKeepAlive stream: an answer for each request, in order.
///
/// Renewing is done in the leader's memory. Requests that arrive together are answered together, in one piece.
pub(super) struct KeepAlive {
    rpc: Arc<Rpc>,
    caller: Caller,
    messages: Messages,
    /// A renewal that has to wait, of the lease that has been asked for last.
    waiting: Option<Renewal>,
    /// Ends the stream once what has been answered is sent.
    end: Option<Option<Failure>>,
}

/// A renewal on its way.
type Renewal = Pin<Box<dyn Future<Output = Result<LeaseKeepAliveResponse, Failure>> + Send>>;

/// An answer is sent when it has grown to this many bytes, though more requests have arrived.
const ANSWER_BYTES: usize = 64 * 1024;

impl KeepAlive {
    pub(super) fn open(rpc: &Arc<Rpc>, caller: &Caller, messages: &mut Messages) -> Self {
        Self {
            rpc: Arc::clone(rpc),
            caller: caller.clone(),
            messages: messages.take(),
            waiting: None,
            end: None,
        }
    }

    /// Answers what can be answered at once.
    fn renew(&mut self, raw: &Bytes) -> Result<Option<LeaseKeepAliveResponse>, Failure> {
        let request: LeaseKeepAliveRequest = decode(raw)?;
        let header = self.rpc.shared.header_now();
        let shared = &self.rpc.shared;
        if shared.users.rules().enabled() {
            self.waiting = Some(Box::pin(renew_as(Arc::clone(&self.rpc), self.caller.clone(), request)));
            return Ok(None);
        }
        match leases::renew_now(shared, &self.rpc.node, LeaseId::new(request.id)) {
            Ok(ttl) => {
                shared.counters.leases_renewed.add(1);
                Ok(Some(LeaseKeepAliveResponse { header: Some(header), id: request.id, ttl }))
            }
            Err(_) => {
                self.waiting = Some(Box::pin(renew_late(Arc::clone(&self.rpc), request)));
                Ok(None)
            }
        }
    }
}

/// Renews for somebody who has to be asked for their rights.
async fn renew_as(
    rpc: Arc<Rpc>,
    caller: Caller,
    request: LeaseKeepAliveRequest,
) -> Result<LeaseKeepAliveResponse, Failure> {
    let ask = |permit: Permit<'_>| permit.user().and_then(|()| permit.lease(Access::Write, request.id));
    rpc.may_read(&caller, ask).await?;
    renew_late(rpc, request).await
}

/// Renews what cannot be renewed at once: the lease is not to be found, or its time is not kept here but by the leader.
async fn renew_late(
    rpc: Arc<Rpc>,
    request: LeaseKeepAliveRequest,
) -> Result<LeaseKeepAliveResponse, Failure> {
    let timeout = rpc.limits.request_timeout;
    match leases::renew(&rpc.shared, &rpc.node, request.id, timeout).await {
        Err(failure) if failure == status::NOT_PRIMARY_LESSOR.into() => {}
        renewed => return renewed,
    }
    match rpc.calls.ask_leader_in_time(&Request::LeaseKeepAlive(request)).await? {
        Response::LeaseKeepAlive(response) => {
            Ok(LeaseKeepAliveResponse { header: Some(rpc.shared.header_now()), ..response })
        }
        _ => Err(calls::mismatched()),
    }
}

impl Frames for KeepAlive {
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        let mut answers = BytesMut::new();
        let mut encoded = Vec::new();
        let mut push = |answers: &mut BytesMut, response: &LeaseKeepAliveResponse| {
            encoded.clear();
            response.encode(&mut encoded).expect("a vector grows as needed");
            push_frame(answers, &[&encoded]);
        };
        while self.end.is_none() && answers.len() < ANSWER_BYTES {
            if let Some(waiting) = &mut self.waiting {
                let Poll::Ready(response) = waiting.as_mut().poll(cx) else { break };
                self.waiting = None;
                match response {
                    Ok(response) => push(&mut answers, &response),
                    Err(failure) => self.end = Some(Some(failure)),
                }
                continue;
            }
            match self.messages.poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.end = Some(None),
                Poll::Ready(Some(Err(failure))) => self.end = Some(Some(failure)),
                Poll::Ready(Some(Ok(raw))) => match self.renew(&raw) {
                    Ok(Some(response)) => push(&mut answers, &response),
                    Ok(None) => {}
                    Err(failure) => self.end = Some(Some(failure)),
                },
            }
        }
        if !answers.is_empty() {
            return Poll::Ready(Some(Ok(answers.freeze())));
        }
        match self.end.take() {
            None => Poll::Pending,
            Some(None) => Poll::Ready(None),
            Some(Some(failure)) => Poll::Ready(Some(Err(failure))),
        }
    }
}
