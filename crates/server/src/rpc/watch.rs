//! Watch: one stream of requests in, one of answers out; the hub does the rest.

use std::sync::Arc;
use std::task::{Context, Poll};

use api::etcdserverpb::WatchRequest;
use api::etcdserverpb::watch_request::RequestUnion;
use api::status;
use bytes::Bytes;

use super::frame::Messages;
use super::{Failure, Frames, Rpc, decode};
use crate::watches::Stream;

/// One Watch call. Dropping it, as hyper does when the client is gone, ends its watchers.
pub(super) struct Call {
    messages: Messages,
    /// The client has not said its last. When it has, events still flow.
    asking: bool,
    stream: Stream,
}

impl Call {
    pub(super) fn open(rpc: &Arc<Rpc>, messages: &mut Messages) -> Self {
        Self { messages: messages.take(), asking: true, stream: rpc.shared.watches.open() }
    }

    /// Passes requests on for as long as there is room for the replies.
    fn take_requests(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        while self.asking && self.stream.has_room() {
            match self.messages.poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.asking = false,
                Poll::Ready(Some(Err(failure))) => return Err(failure),
                Poll::Ready(Some(Ok(raw))) => match decode::<WatchRequest>(&raw)?.request_union {
                    Some(RequestUnion::CreateRequest(request)) => self.stream.create(request),
                    Some(RequestUnion::CancelRequest(request)) => self.stream.cancel(request.watch_id),
                    Some(RequestUnion::ProgressRequest(_)) => self.stream.progress(),
                    None => {}
                },
            }
        }
        Ok(())
    }
}

impl Frames for Call {
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        if let Err(failure) = self.take_requests(cx) {
            return Poll::Ready(Some(Err(failure)));
        }
        match self.stream.poll_take(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(frames)) => Poll::Ready(Some(Ok(frames))),
            Poll::Ready(None) => Poll::Ready(Some(Err(status::STOPPED.into()))),
        }
    }
}
