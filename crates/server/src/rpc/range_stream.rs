//! RangeStream: a range in pieces, all at one revision.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::etcdserverpb::RangeRequest;
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::budget::Pieces;
use super::caller::Caller;
use super::{Failure, Framed, Frames, Rpc, blocking, check, decode, encode};
use crate::member::Shared;
use crate::read::options;

pub(super) async fn open(rpc: &Arc<Rpc>, caller: &Caller, raw: Bytes) -> Result<Box<dyn Frames>, Failure> {
    let request: RangeRequest = decode(&raw)?;
    check::range_stream(&request)?;
    if !request.serializable {
        rpc.barrier().await?;
    }
    let seen = rpc.may_read(caller, |permit| permit.range(&request)).await?;
    let mut options = options(&request);
    options.target = mvcc::Target::Key;
    let chunks = rpc.shared.reader.stream(options, rpc.limits.request_bytes)?;
    // All of it is read as it was now.
    seen.still(&rpc.shared.users.rules())?;
    Ok(Box::new(Stream { rpc: Arc::clone(rpc), leaving: None, state: State::Idle(chunks) }))
}

/// Reads one chunk at a time, each on a blocking thread when the budget has room for it, and only when the client has taken the
/// last.
struct Stream {
    rpc: Arc<Rpc>,
    /// What is left of the last chunk.
    leaving: Option<Pieces>,
    state: State,
}

enum State {
    Idle(mvcc::RangeStream),
    Reading(JoinHandle<(Framed, Option<mvcc::RangeStream>)>),
    Ended,
}

/// The next chunk, when the budget has room for it.
async fn next(rpc: Arc<Rpc>, chunks: mvcc::RangeStream) -> (Framed, Option<mvcc::RangeStream>) {
    // While it is encoded there are two of it.
    let share = rpc.budget.reserve(2 * rpc.limits.request_bytes).await;
    let shared = Arc::clone(&rpc.shared);
    let (frame, rest) = match blocking(move || read(&shared, chunks)).await {
        Ok(read) => read,
        Err(failure) => (Err(failure), None),
    };
    (frame.map(|frame| share.hold(frame)), rest)
}

fn read(shared: &Shared, mut chunks: mvcc::RangeStream) -> (Framed, Option<mvcc::RangeStream>) {
    let chunk = match chunks.next_chunk() {
        Ok(chunk) => chunk,
        Err(error) => return (Err(error.into()), None),
    };
    let header = chunk.last.then(|| shared.header(chunk.revision));
    let range = encode::Range { header, kvs: &chunk.kvs, more: chunk.more, count: chunk.count };
    (encode::frame(&encode::RangeStream(range)), (!chunk.last).then_some(chunks))
}

impl Frames for Stream {
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            if let Some(pieces) = &self.leaving {
                match pieces.next() {
                    Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                    Ok(None) => self.leaving = None,
                    Err(failure) => {
                        self.state = State::Ended;
                        return Poll::Ready(Some(Err(failure)));
                    }
                }
            }
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Idle(chunks) => {
                    self.state = State::Reading(tokio::spawn(next(Arc::clone(&self.rpc), chunks)));
                }
                State::Reading(mut reading) => {
                    let Poll::Ready(read) = Pin::new(&mut reading).poll(cx) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    let (frame, rest) = read.unwrap_or_else(|_| (Err(api::status::STOPPED.into()), None));
                    if let Some(chunks) = rest {
                        self.state = State::Idle(chunks);
                    }
                    match frame {
                        Ok(frame) => self.leaving = Some(self.rpc.budget.leave(frame)),
                        Err(failure) => return Poll::Ready(Some(Err(failure))),
                    }
                }
            }
        }
    }
}
