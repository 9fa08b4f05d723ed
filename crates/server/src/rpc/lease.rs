//! Lease: LeaseGrant, LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive, LeaseLeases.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::LeaseId;
use api::etcdserverpb::{
    LeaseCheckpoint, LeaseCheckpointRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, ResponseHeader,
};
use api::status;
use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::frame::Messages;
use super::{Failure, Framed, Frames, Rpc, decode, frame, kv, push_frame};
use crate::apply::{self, Output};
use crate::proposal::Command;

pub(super) async fn grant(rpc: &Arc<Rpc>, raw: Bytes) -> Framed {
    let mut request: LeaseGrantRequest = decode(&raw)?;
    kv::admit(rpc, apply::LEASE_COST).await?;
    if request.id == 0 {
        request.id = rpc.shared.proposals.next_lease_id();
    }
    match kv::propose(rpc, Command::lease_grant(&request)).await? {
        Output::LeaseGrant { revision, id, ttl } => {
            let header = Some(rpc.shared.header(revision));
            Ok(frame::message(&LeaseGrantResponse { header, id, ttl, error: String::new() }))
        }
        other => Err(kv::mismatched(&other)),
    }
}

pub(super) async fn revoke(rpc: &Arc<Rpc>, raw: Bytes) -> Framed {
    let request: LeaseRevokeRequest = decode(&raw)?;
    match rpc.shared.proposals.propose(Command::lease_revoke(&request)).await? {
        Output::Revision(revision) => {
            Ok(frame::message(&LeaseRevokeResponse { header: Some(rpc.shared.header(revision)) }))
        }
        other => Err(kv::mismatched(&other)),
    }
}

pub(super) fn time_to_live(rpc: &Rpc, raw: &Bytes) -> Framed {
    let request: LeaseTimeToLiveRequest = decode(raw)?;
    let shared = &rpc.shared;
    let mut response = LeaseTimeToLiveResponse {
        header: Some(shared.header_now()),
        id: request.id,
        ttl: -1,
        ..Default::default()
    };
    match shared.lessor.time_to_live(LeaseId::new(request.id), shared.clock.now(), request.keys) {
        Ok(lease) => {
            response.ttl = lease.remaining_ttl;
            response.granted_ttl = lease.granted_ttl;
            response.keys = lease.keys;
        }
        Err(::lease::Error::NotPrimary) => return Err(status::NO_LEADER.into()),
        Err(_) => {}
    }
    Ok(frame::message(&response))
}

pub(super) fn leases(rpc: &Rpc) -> Bytes {
    let leases = rpc.shared.lessor.leases();
    let leases = leases.into_iter().map(|id| LeaseStatus { id: id.get() }).collect();
    frame::message(&LeaseLeasesResponse { header: Some(rpc.shared.header_now()), leases })
}

/// One LeaseKeepAlive stream: an answer for each request, in order.
///
/// Renewing is done in the leader's memory. Requests that arrive together are answered together, in one piece.
pub(super) struct KeepAlive {
    rpc: Arc<Rpc>,
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
    pub(super) fn open(rpc: &Arc<Rpc>, messages: &mut Messages) -> Self {
        Self { rpc: Arc::clone(rpc), messages: messages.take(), waiting: None, end: None }
    }

    /// Answers what can be answered at once.
    fn renew(&mut self, raw: &Bytes) -> Result<Option<LeaseKeepAliveResponse>, Failure> {
        let request: LeaseKeepAliveRequest = decode(raw)?;
        let header = self.rpc.shared.header_now();
        let shared = &self.rpc.shared;
        match shared.lessor.renew(LeaseId::new(request.id), shared.clock.now()) {
            Ok(ttl) => {
                shared.counters.leases_renewed.add(1);
                Ok(Some(LeaseKeepAliveResponse { header: Some(header), id: request.id, ttl }))
            }
            Err(::lease::Error::NotPrimary) => Err(status::NOT_PRIMARY_LESSOR.into()),
            Err(_) => {
                self.waiting = Some(Box::pin(renew_late(Arc::clone(&self.rpc), request.id, header)));
                Ok(None)
            }
        }
    }
}

/// A lease that is unknown may have been granted by an entry that is not applied yet, and one that has expired is revoked by
/// one that is on its way. Both are decided when this member has applied what is committed now.
async fn renew_late(
    rpc: Arc<Rpc>,
    id: i64,
    header: ResponseHeader,
) -> Result<LeaseKeepAliveResponse, Failure> {
    let shared = &rpc.shared;
    let lease = LeaseId::new(id);
    let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
    if let Some(committed) = rpc.node.status().committed {
        let applied = tokio::time::timeout_at(patience, rpc.node.wait_applied(committed.index)).await;
        applied.map_err(|_| status::TIMEOUT_WAIT_APPLIED_INDEX)?.map_err(|_| status::STOPPED)?;
    }
    let mut applied = rpc.node.applied();
    let ttl = loop {
        match shared.lessor.renew(lease, shared.clock.now()) {
            Ok(ttl) => break ttl,
            Err(::lease::Error::Checkpointed(_)) => {
                // The next leader must not cut the renewed lease short.
                let clear = LeaseCheckpoint { id, remaining_ttl: 0 };
                let request = LeaseCheckpointRequest { checkpoints: vec![clear] };
                shared.proposals.propose(Command::lease_checkpoint(&request)).await?;
            }
            Err(::lease::Error::Expired(_)) => {
                let more = tokio::time::timeout(rpc.limits.request_timeout, applied.changed()).await;
                more.map_err(|_| status::TIMEOUT)?.map_err(|_| status::STOPPED)?;
            }
            Err(::lease::Error::NotPrimary) => return Err(status::NOT_PRIMARY_LESSOR.into()),
            Err(_) => break 0,
        }
    };
    Ok(LeaseKeepAliveResponse { header: Some(header), id, ttl })
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
