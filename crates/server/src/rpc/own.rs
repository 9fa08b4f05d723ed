//! The member as a client of itself: what Election and Lock are made of.
//!
//! etcd composes these services of its own KV, Lease and Watch, so that whoever asks needs no more rights, and gets no fewer
//! refusals, than one who makes the same calls himself. So do these calls: each goes through the handler that serves the
//! client's own, with that client's rights.
//!
//! Whatever fails here fails with the code Unknown and the text it has elsewhere, as it does with etcd.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use api::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, RangeRequest,
    RangeResponse, TxnRequest, TxnResponse, WatchCreateRequest, WatchResponse,
};
use api::status::{self, Code};
use bytes::{Buf as _, Bytes};
use prost::Message;

use super::caller::Caller;
use super::frame::PREFIX_BYTES;
use super::{Failure, Framed, Rpc, kv, lease, watch};
use crate::watches;

/// Calls of the member's own services, as somebody.
#[derive(Clone)]
pub(super) struct Own {
    rpc: Arc<Rpc>,
    caller: Caller,
}

impl Own {
    pub(super) fn new(rpc: &Arc<Rpc>, caller: &Caller) -> Self {
        Self { rpc: Arc::clone(rpc), caller: caller.clone() }
    }

    pub(super) fn rpc(&self) -> &Arc<Rpc> {
        &self.rpc
    }

    pub(super) async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Failure> {
        answer(Box::pin(kv::range(&self.rpc, &self.caller, encoded(request))).await)
    }

    pub(super) async fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Failure> {
        answer(Box::pin(kv::txn(&self.rpc, &self.caller, encoded(request))).await)
    }

    pub(super) async fn delete(&self, key: Bytes) -> Result<DeleteRangeResponse, Failure> {
        let request = DeleteRangeRequest { key, ..Default::default() };
        answer(Box::pin(kv::delete_range(&self.rpc, &self.caller, encoded(&request))).await)
    }

    pub(super) async fn grant(&self, ttl: i64) -> Result<LeaseGrantResponse, Failure> {
        let request = LeaseGrantRequest { id: 0, ttl };
        answer(Box::pin(lease::grant(&self.rpc, &self.caller, encoded(&request))).await)
    }

    /// Watches from a revision on. A refusal comes as the first answer.
    pub(super) async fn watch(&self, key: Bytes, range_end: Bytes, start_revision: i64) -> Events {
        let stream = self.rpc.shared.watches.open();
        let request = WatchCreateRequest { key, range_end, start_revision, ..Default::default() };
        match watch::may_watch(&self.rpc, &self.caller, &request).await {
            Ok(()) => stream.create(request),
            Err(failure) => stream.deny(request, watch::reason(&failure)),
        }
        Events { stream, arrived: VecDeque::new() }
    }
}

fn encoded(request: &impl Message) -> Bytes {
    request.encode_to_vec().into()
}

fn answer<M: Message + Default>(framed: Framed) -> Result<M, Failure> {
    let frame = framed.map_err(unknown)?;
    M::decode(frame.slice(PREFIX_BYTES..)).map_err(|error| Failure::internal(error.to_string()))
}

/// The same failure with the code that these services have for all.
fn unknown(failure: Failure) -> Failure {
    Failure { code: Code::Unknown, ..failure }
}

/// Why a watch has no more events.
#[derive(Debug)]
pub(super) enum Ended {
    /// History from where it stood is gone; looking again tells what it would have.
    Compacted,
    /// It was refused, or the member stops.
    Failed(Failure),
}

/// What happens to keys, until this is dropped.
pub(super) struct Events {
    stream: watches::Stream,
    arrived: VecDeque<WatchResponse>,
}

impl Events {
    /// The next answer that carries events.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, Ended> {
        loop {
            let response = std::future::poll_fn(|cx| self.poll_response(cx)).await?;
            if response.canceled {
                return Err(if response.compact_revision > 0 {
                    Ended::Compacted
                } else {
                    Ended::Failed(Failure::unknown(response.cancel_reason))
                });
            }
            if !response.events.is_empty() {
                return Ok(response);
            }
        }
    }

    fn poll_response(&mut self, cx: &Context<'_>) -> Poll<Result<WatchResponse, Ended>> {
        loop {
            if let Some(response) = self.arrived.pop_front() {
                return Poll::Ready(Ok(response));
            }
            match ready!(self.stream.poll_take(cx)) {
                Some(frames) => self.take(frames).map_err(Ended::Failed)?,
                None => return Poll::Ready(Err(Ended::Failed(status::STOPPED.into()))),
            }
        }
    }

    /// Takes apart what the hub has put into the outbox: whole framed messages, any number of them.
    fn take(&mut self, mut frames: Bytes) -> Result<(), Failure> {
        while frames.len() >= PREFIX_BYTES {
            frames.advance(1);
            let length = usize::try_from(frames.get_u32()).unwrap_or(usize::MAX).min(frames.len());
            let response = WatchResponse::decode(frames.split_to(length));
            self.arrived.push_back(response.map_err(|error| Failure::internal(error.to_string()))?);
        }
        Ok(())
    }
}
