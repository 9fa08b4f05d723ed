//! gRPC's framing of messages, read and written.
//!
//! A message travels as one byte that says whether it is compressed, four bytes of length, and the encoded message.

#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod partial;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use api::status;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;
use prost::Message;

use self::partial::Partial;
use super::Failure;

/// Bytes in front of each message.
pub(crate) const PREFIX_BYTES: usize = 5;

/// Appends one framed message made of `parts`.
pub(crate) fn push(frames: &mut BytesMut, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    frames.reserve(PREFIX_BYTES + length);
    frames.put_u8(0);
    frames.put_u32(message_length(length));
    for part in parts {
        frames.extend_from_slice(part);
    }
}

/// Frames what `encode` writes, whose length it must know.
pub(crate) fn framed(length: usize, encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(message_length(length));
    encode(&mut frame);
    debug_assert_eq!(frame.len(), PREFIX_BYTES + length, "the announced length is the written one");
    frame.freeze()
}

/// Frames a message.
pub(crate) fn message(message: &impl Message) -> Bytes {
    framed(message.encoded_len(), |frame| {
        message.encode(frame).expect("the buffer grows as needed");
    })
}

fn message_length(length: usize) -> u32 {
    u32::try_from(length).expect("answers are kept below 4 GiB")
}

/// Takes framed messages off a request's body, none larger than `limit` bytes.
pub(crate) struct Messages {
    /// `None` once it has been handed on.
    body: Option<Incoming>,
    /// What has arrived of the next message.
    buffer: Buffer,
    limit: usize,
    /// Bytes of messages that have been taken.
    taken: usize,
    /// Accounts for the buffer while it grows.
    partial: Partial,
}

/// Bytes that have arrived. A message that came in one piece is handed on without a copy.
enum Buffer {
    Whole(Bytes),
    Growing(BytesMut),
}

impl Buffer {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Growing(bytes) => bytes,
        }
    }

    /// Bytes of its own; what came in one piece is the connection's.
    fn grown(&self) -> usize {
        match self {
            Self::Whole(_) => 0,
            Self::Growing(bytes) => bytes.capacity(),
        }
    }

    fn append(&mut self, data: Bytes) {
        match self {
            Self::Whole(bytes) if bytes.is_empty() => *self = Self::Whole(data),
            Self::Whole(bytes) => {
                let mut grown = BytesMut::with_capacity(2 * (bytes.len() + data.len()));
                grown.extend_from_slice(bytes);
                grown.extend_from_slice(&data);
                *self = Self::Growing(grown);
            }
            Self::Growing(bytes) => bytes.extend_from_slice(&data),
        }
    }

    fn take(&mut self, length: usize) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes.split_to(length),
            Self::Growing(bytes) => bytes.split_to(length).freeze(),
        }
    }
}

impl Messages {
    pub(crate) fn new(body: Incoming, limit: usize) -> Self {
        Self {
            body: Some(body),
            buffer: Buffer::Whole(Bytes::new()),
            limit,
            taken: 0,
            partial: Partial::default(),
        }
    }

    /// Bytes of messages that have been taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Hands the body on to whoever will read the stream; nothing is left here.
    pub(crate) fn take(&mut self) -> Self {
        let buffer = std::mem::replace(&mut self.buffer, Buffer::Whole(Bytes::new()));
        Self {
            body: self.body.take(),
            buffer,
            limit: self.limit,
            taken: 0,
            partial: std::mem::take(&mut self.partial),
        }
    }

    /// The next message; `None` when the client has said its last.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            match self.buffered() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(None) => {}
                Err(failure) => return Poll::Ready(Some(Err(failure))),
            }
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.append(data);
                        if !self.partial.hold(self.buffer.grown()) {
                            return Poll::Ready(Some(Err(status::REQUEST_TOO_MANY_REQUESTS.into())));
                        }
                    }
                }
                Some(Err(_)) => return Poll::Ready(Some(Err(Failure::canceled()))),
                None if self.buffer.as_slice().is_empty() => return Poll::Ready(None),
                None => {
                    return Poll::Ready(Some(Err(Failure::internal("the request ended inside a message"))));
                }
            }
        }
    }

    /// The one message of a unary request.
    pub(crate) async fn only(&mut self) -> Result<Bytes, Failure> {
        std::future::poll_fn(|cx| self.poll_next(cx))
            .await
            .unwrap_or_else(|| Err(Failure::internal("the request carries no message")))
    }

    fn buffered(&mut self) -> Result<Option<Bytes>, Failure> {
        let mut prefix = self.buffer.as_slice();
        if prefix.len() < PREFIX_BYTES {
            return Ok(None);
        }
        let compressed = prefix.get_u8() != 0;
        let length = prefix.get_u32() as usize;
        if compressed {
            return Err(Failure::unimplemented("grpc: compressed messages are not supported by this server"));
        }
        if length > self.limit {
            return Err(Failure::too_large(length, self.limit));
        }
        if prefix.len() < length {
            return Ok(None);
        }
        self.buffer.take(PREFIX_BYTES);
        let message = self.buffer.take(length);
        self.taken += length;
        // What is left is less, so there is room for it.
        self.partial.hold(self.buffer.grown());
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_one_message() {
        let mut frames = BytesMut::new();
        push(&mut frames, &[b"ab", b"c"]);
        push(&mut frames, &[]);
        assert_eq!(&frames[..], b"\0\0\0\0\x03abc\0\0\0\0\0");
    }

    #[test]
    fn pieces_are_joined_and_a_whole_is_not_copied() {
        let whole = Bytes::from_static(b"abcdef");
        let mut buffer = Buffer::Whole(Bytes::new());
        buffer.append(whole.clone());
        assert_eq!(buffer.take(3).as_ptr(), whole.as_ptr());
        buffer.append(Bytes::from_static(b"gh"));
        assert_eq!(buffer.as_slice(), b"defgh");
        assert_eq!(buffer.take(4), "defg");
    }
}
