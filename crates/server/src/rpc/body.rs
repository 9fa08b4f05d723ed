//! What an answer's body may be.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use api::status::Status;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

use super::Failure;
use super::budget::Pieces;

/// A source of framed messages that ends with a status: the answer of a streaming call.
pub(crate) trait Frames: Send {
    /// The next bytes to send, any number of whole framed messages; `None` when the call is over.
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>>;
}

/// A streaming call that ends when something else does, with the status of that.
pub(super) struct UntilStopped<F> {
    frames: Box<dyn Frames>,
    stopped: Pin<Box<F>>,
}

impl<F: Future<Output = Status> + Send> UntilStopped<F> {
    pub(super) fn new(frames: Box<dyn Frames>, stopped: F) -> Self {
        Self { frames, stopped: Box::pin(stopped) }
    }
}

impl<F: Future<Output = Status> + Send> Frames for UntilStopped<F> {
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        match self.frames.poll_frames(cx) {
            Poll::Pending => self.stopped.as_mut().poll(cx).map(|status| Some(Err(status.into()))),
            Poll::Ready(frames) => Poll::Ready(frames),
        }
    }
}

/// A streaming call told by a future, which sends its messages and ends with the call.
///
/// It is polled where the answer is, so it stops where it stands when nobody takes the answer any more, and is as far ahead of
/// the client as one message.
pub(super) struct Told {
    teller: Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>,
    messages: mpsc::Receiver<Bytes>,
    /// How it ended, to be said after its last message.
    end: Option<Option<Result<Bytes, Failure>>>,
}

impl Told {
    pub(super) fn new<F>(teller: impl FnOnce(mpsc::Sender<Bytes>) -> F) -> Self
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let (sender, messages) = mpsc::channel(1);
        Self { teller: Box::pin(teller(sender)), messages, end: None }
    }
}

impl Frames for Told {
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        if self.end.is_none()
            && let Poll::Ready(ended) = self.teller.as_mut().poll(cx)
        {
            self.end = Some(ended.err().map(Err));
        }
        match self.messages.poll_recv(cx) {
            Poll::Ready(Some(message)) => Poll::Ready(Some(Ok(message))),
            _ => self.end.clone().map_or(Poll::Pending, Poll::Ready),
        }
    }
}

/// The body of any answer on the client port.
pub(crate) enum Body {
    /// One gRPC message, then the status OK.
    Unary(Option<Bytes>),
    /// One large gRPC message, then the status OK.
    Large(Pieces),
    /// Messages as they come.
    Stream(Box<dyn Frames>),
    /// Plain HTTP.
    Full(Bytes),
    /// Nothing more.
    Done,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unary(_) => "Unary",
            Self::Large(_) => "Large",
            Self::Stream(_) => "Stream",
            Self::Full(_) => "Full",
            Self::Done => "Done",
        })
    }
}

fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    trailers
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match this {
            Self::Unary(message) => Poll::Ready(Some(Ok(if let Some(message) = message.take() {
                Frame::data(message)
            } else {
                *this = Self::Done;
                Frame::trailers(ok_trailers())
            }))),
            Self::Large(pieces) => Poll::Ready(Some(Ok(match pieces.next() {
                Ok(Some(piece)) => Frame::data(piece),
                end => {
                    *this = Self::Done;
                    Frame::trailers(end.err().map_or_else(ok_trailers, |failure| failure.trailers()))
                }
            }))),
            Self::Stream(frames) => match frames.poll_frames(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Ok(bytes))) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Poll::Ready(end) => {
                    *this = Self::Done;
                    Poll::Ready(Some(Ok(Frame::trailers(match end {
                        Some(Err(failure)) => failure.trailers(),
                        _ => ok_trailers(),
                    }))))
                }
            },
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Done;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Done => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Done => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Unary(_) | Self::Large(_) | Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Done => SizeHint::with_exact(0),
            Self::Unary(_) | Self::Large(_) | Self::Stream(_) => SizeHint::default(),
        }
    }
}
