//! RangeStream: a range in pieces, all at one revision.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::etcdserverpb::RangeRequest;
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::caller::Caller;
use super::{Failure, Framed, Frames, Rpc, check, decode, encode};
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
    Ok(Box::new(Stream { shared: Arc::clone(&rpc.shared), state: State::Idle(chunks) }))
}

/// Reads one chunk at a time, each on a blocking thread, and only when the client has taken the last.
struct Stream {
    shared: Arc<Shared>,
    state: State,
}

enum State {
    Idle(mvcc::RangeStream),
    Reading(JoinHandle<(Framed, Option<mvcc::RangeStream>)>),
    Ended,
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
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Idle(chunks) => {
                    let shared = Arc::clone(&self.shared);
                    self.state = State::Reading(tokio::task::spawn_blocking(move || read(&shared, chunks)));
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
                    return Poll::Ready(Some(frame));
                }
            }
        }
    }
}
