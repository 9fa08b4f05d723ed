//! Long gRPC streams in both directions over one connection: the messages of each, cut out of the frames.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

use crate::wire::{Connection, Frame};

/// A connection and the streams on it.
#[derive(Debug)]
pub(crate) struct Streams {
    connection: Connection,
    /// The beginning of a message whose rest has not come yet, by stream.
    partial: HashMap<u32, Vec<u8>>,
}

impl Streams {
    /// A connection without streams.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        Ok(Self {
            connection: Connection::open(address).await.context("connecting")?,
            partial: HashMap::new(),
        })
    }

    /// Opens a stream with its first message, already framed.
    pub(crate) fn open(&mut self, path: &'static str, message: &[u8]) -> Result<u32> {
        self.connection.request(path, message, false).context("no window to open a stream")
    }

    /// Sends a framed message; false if it must be tried again after the next [`turn`](Self::turn).
    pub(crate) fn send(&mut self, stream: u32, message: &[u8]) -> bool {
        self.connection.send(stream, message)
    }

    /// Writes what waits, reads once, and gives every whole message that has come to `take`.
    pub(crate) async fn turn(&mut self, mut take: impl FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
        self.connection.turn().await?;
        while let Some(frame) = self.connection.frame()? {
            match frame {
                Frame::Data { stream, payload } => {
                    let payload = self.connection.bytes(payload);
                    let partial = self.partial.entry(stream).or_default();
                    if partial.is_empty() {
                        let rest = cut(payload, |message| take(stream, message))?;
                        partial.extend_from_slice(rest);
                    } else {
                        partial.extend_from_slice(payload);
                        let rest = cut(partial, |message| take(stream, message))?.len();
                        partial.drain(..partial.len() - rest);
                    }
                }
                Frame::Headers { end: true, payload, .. } => {
                    let block = String::from_utf8_lossy(self.connection.bytes(payload)).into_owned();
                    bail!("the server ended a stream: {block:?}");
                }
                Frame::Headers { .. } => {}
                Frame::Reset { code, .. } => bail!("the server reset a stream with code {code}"),
            }
        }
        Ok(())
    }
}

/// Gives each whole message of `bytes` to `take` and returns what is left over.
fn cut(mut bytes: &[u8], mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<&[u8]> {
    while let Some((prefix, rest)) = bytes.split_first_chunk::<5>() {
        let length = usize::try_from(u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]))?;
        let Some((message, rest)) = rest.split_at_checked(length) else { break };
        take(message)?;
        bytes = rest;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_and_the_rest_is_kept() {
        let bytes = [0, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1];
        let mut seen = Vec::new();
        let rest = cut(&bytes, |message| {
            seen.push(message.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [vec![7, 8], vec![]]);
        assert_eq!(rest, [0, 0, 0, 0, 3, 1]);
    }
}
