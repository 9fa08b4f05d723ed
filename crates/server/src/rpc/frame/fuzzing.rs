//! The fuzzers' door to the reader of frames.

use bytes::{Bytes, BytesMut};

use super::{Buffer, Messages, push};

const LIMIT: usize = 64;

/// A request's body: the first byte tells in how small pieces it arrives, which must make no difference.
pub fn frame(bytes: &[u8]) {
    let Some((piece, body)) = bytes.split_first() else { return };
    let (whole, refused) = read(std::iter::once(body));
    assert_eq!(read(body.chunks(usize::from(*piece).max(1))), (whole.clone(), refused));
    let mut again = BytesMut::new();
    for message in &whole {
        assert!(message.len() <= LIMIT);
        push(&mut again, &[message]);
    }
    assert!(body.starts_with(&again), "messages come as they were sent");
}

/// The messages, and whether the reader has refused what came after them.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, bool) {
    let mut messages = Messages {
        body: None,
        buffer: Buffer::Whole(Bytes::new()),
        limit: LIMIT,
        taken: 0,
        partial: super::Partial::default(),
    };
    let mut read = Vec::new();
    for piece in pieces {
        messages.buffer.append(Bytes::copy_from_slice(piece));
        loop {
            match messages.buffered() {
                Ok(Some(message)) => read.push(message),
                Ok(None) => break,
                Err(_) => return (read, true),
            }
        }
    }
    (read, false)
}
