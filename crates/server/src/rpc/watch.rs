//! Watch: one stream of requests in, one of answers out; the hub does the rest.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::auth::Access;
use api::etcdserverpb::watch_request::RequestUnion;
use api::etcdserverpb::{WatchCreateRequest, WatchRequest};
use api::status::{self, Code};
use bytes::Bytes;

use super::caller::Caller;
use super::encode::SEND_BYTES;
use super::frame::Messages;
use super::{Failure, Frames, Rpc, decode};
use crate::watches::Stream;

/// One Watch call. Dropping it, as hyper does when the client is gone, ends its watchers.
pub(super) struct Call {
    rpc: Arc<Rpc>,
    caller: Caller,
    messages: Messages,
    /// A creation whose maker is being asked for the right to it. Requests behind it wait.
    creating: Option<Creating>,
    /// The client has not said its last. When it has, events still flow.
    asking: bool,
    stream: Stream,
}

impl Call {
    pub(super) fn open(rpc: &Arc<Rpc>, caller: &Caller, messages: &mut Messages) -> Self {
        Self {
            rpc: Arc::clone(rpc),
            caller: caller.clone(),
            messages: messages.take(),
            creating: None,
            asking: true,
            stream: rpc.shared.watches.open(),
        }
    }

    fn create(&mut self, request: WatchCreateRequest) {
        if self.rpc.shared.users.rules().enabled() {
            self.creating = Some(Box::pin(judged(Arc::clone(&self.rpc), self.caller.clone(), request)));
        } else {
            self.stream.create(request);
        }
    }

    /// Passes requests on for as long as there is room for the replies.
    fn take_requests(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        loop {
            if let Some(creating) = &mut self.creating {
                let Poll::Ready((request, permitted)) = creating.as_mut().poll(cx) else { break };
                self.creating = None;
                match permitted {
                    Ok(()) => self.stream.create(request),
                    Err(failure) => self.stream.deny(request, reason(&failure)),
                }
            }
            if !self.asking || !self.stream.has_room() {
                break;
            }
            match self.messages.poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.asking = false,
                Poll::Ready(Some(Err(failure))) => return Err(failure),
                Poll::Ready(Some(Ok(raw))) => match decode::<WatchRequest>(&raw)?.request_union {
                    Some(RequestUnion::CreateRequest(request)) => self.create(request),
                    Some(RequestUnion::CancelRequest(request)) => self.stream.cancel(request.watch_id),
                    Some(RequestUnion::ProgressRequest(_)) => self.stream.progress(),
                    None => {}
                },
            }
        }
        Ok(())
    }
}

/// A creation, and whether its maker has the right to it.
type Creating = Pin<Box<dyn Future<Output = (WatchCreateRequest, Result<(), Failure>)> + Send>>;

async fn judged(
    rpc: Arc<Rpc>,
    caller: Caller,
    request: WatchCreateRequest,
) -> (WatchCreateRequest, Result<(), Failure>) {
    let permitted = may_watch(&rpc, &caller, &request).await;
    (request, permitted)
}

/// Whether somebody may watch these keys from now on. What they lose later does not end the watch, as in etcd.
pub(super) async fn may_watch(
    rpc: &Rpc,
    caller: &Caller,
    request: &WatchCreateRequest,
) -> Result<(), Failure> {
    let key: &[u8] = if request.key.is_empty() { &[0] } else { &request.key };
    rpc.judged(caller, |rules, identity| rules.check(identity, Access::Read, key, &request.range_end)).await
}

/// Why a watch is refused, as Go prints a status.
pub(super) fn reason(failure: &Failure) -> String {
    let (code, text) = match failure.code {
        Code::Unauthenticated => ("Unauthenticated", &*failure.text),
        Code::InvalidArgument => ("InvalidArgument", &*failure.text),
        _ => ("PermissionDenied", status::PERMISSION_DENIED.text()),
    };
    format!("rpc error: code = {code} desc = {text}")
}

impl Frames for Call {
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        if let Err(failure) = self.take_requests(cx) {
            return Poll::Ready(Some(Err(failure)));
        }
        match self.stream.poll_take(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(frames)) => Poll::Ready(Some(Ok(frames))),
            Poll::Ready(None) => Poll::Ready(Some(Err(match self.stream.too_large() {
                Some(bytes) => Failure::too_large_to_send(bytes, SEND_BYTES),
                None => status::STOPPED.into(),
            }))),
        }
    }
}
