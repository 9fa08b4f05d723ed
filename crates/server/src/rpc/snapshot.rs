//! Maintenance.Snapshot: the whole state as etcd's database file, in pieces, and behind it the hash of all pieces.
//!
//! A thread of its own writes the file from a view of one moment, twice: first into nothing, to know how long it will be, and
//! then into pieces that wait for the client, a few of them. Writes go on meanwhile; memory does not grow with the state.

use std::io::{self, Write};
use std::task::{Context, Poll};

use api::etcdserverpb::SnapshotResponse;
use backend::Backend;
use boltdb::Writer;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{Failure, Framed, Frames, Rpc, frame};
use crate::error::{Error, Result};
use crate::exchange;

/// How large a piece is.
const PIECE_BYTES: usize = 32 << 10;
/// How many pieces wait for the client.
const PIECES_AHEAD: usize = 16;

pub(super) fn open(rpc: &Rpc) -> Box<dyn Frames> {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    let backend = rpc.shared.files.get();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = send(&*backend, &sender) {
            tracing::warn!(error = error.to_string(), "failed to send database snapshot to client");
            // Nobody is told if nobody listens.
            drop(sender.blocking_send(Err(Failure::unknown(error.to_string()))));
        }
    });
    Box::new(Stream { pieces })
}

/// The pieces as they come.
struct Stream {
    pieces: mpsc::Receiver<Framed>,
}

impl Frames for Stream {
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Option<Framed>> {
        self.pieces.poll_recv(cx)
    }
}

fn send(backend: &dyn Backend, sender: &mpsc::Sender<Framed>) -> Result<()> {
    let view = backend.read()?;
    let (_, shape) = exchange::write(&*view, Writer::measure())?;
    let total_bytes = shape.len_bytes();
    tracing::info!(total_bytes, "sending database snapshot to client");
    let pieces = Pieces {
        piece: Vec::with_capacity(PIECE_BYTES),
        remaining: total_bytes,
        hash: Sha256::new(),
        sender,
    };
    let writer = Writer::with_shape(pieces, shape).map_err(Error::from)?;
    let (pieces, _) = exchange::write(&*view, writer)?;
    pieces.finish().map_err(boltdb::Error::from)?;
    tracing::info!(total_bytes, "successfully sent database snapshot to client");
    Ok(())
}

/// Cuts what is written into pieces and sends them.
struct Pieces<'a> {
    piece: Vec<u8>,
    /// Bytes that are not sent yet.
    remaining: u64,
    hash: Sha256,
    sender: &'a mpsc::Sender<Framed>,
}

impl Pieces<'_> {
    /// Sends the last piece, and the hash.
    fn finish(mut self) -> io::Result<()> {
        self.send()?;
        let hash = std::mem::take(&mut self.hash).finalize().to_vec();
        self.answer(hash.into())
    }

    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.hash.update(&piece);
        self.remaining = self.remaining.saturating_sub(piece.len() as u64);
        self.answer(piece.into())
    }

    fn answer(&self, blob: Bytes) -> io::Result<()> {
        let response = SnapshotResponse {
            header: None,
            remaining_bytes: self.remaining,
            blob,
            version: exchange::STORAGE_VERSION.to_owned(),
        };
        let sent = self.sender.blocking_send(Ok(frame::message(&response)));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has hung up"))
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
