//! Closed loops of unary calls: a fixed number is in flight, and each answer makes room for the next request.
//!
//! All connections run in one thread. A [`Load`] says what the next request of a slot is and may look at its
//! answer; a slot is one of the places in flight, so a load can keep a key or a revision per slot.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::server::{Target, now};
use crate::stats::Histogram;
use crate::wire::{Connection, Frame};

/// What a closed loop sends.
pub(crate) trait Load {
    /// Appends the next message of `slot`, framed for gRPC.
    fn request(&mut self, slot: usize, out: &mut Vec<u8>);
    /// Whether [`answer`](Self::answer) is to be called; collecting bodies costs time.
    const WANTS_ANSWERS: bool = false;
    /// Looks at the body of an answer, still framed.
    fn answer(&mut self, slot: usize, body: &[u8]) -> Result<()> {
        let _unused = (slot, body);
        Ok(())
    }
}

/// A load that is only a function from the number of the request to its message.
pub(crate) struct Numbered<F> {
    next: u64,
    message: F,
}

impl<F: FnMut(u64, &mut Vec<u8>)> Numbered<F> {
    /// The first request has the number `first`.
    pub(crate) fn new(first: u64, message: F) -> Self {
        Self { next: first, message }
    }
}

impl<F: FnMut(u64, &mut Vec<u8>)> Load for Numbered<F> {
    fn request(&mut self, _slot: usize, out: &mut Vec<u8>) {
        (self.message)(self.next, out);
        self.next += 1;
    }
}

/// How a loop runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The gRPC method.
    pub(crate) path: &'static str,
    /// Requests in flight over all connections.
    pub(crate) in_flight: usize,
    /// When it ends.
    pub(crate) until: Until,
}

/// The end of a loop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// After so many requests.
    Requests(u64),
    /// After so much time, or once each place in flight has had an answer if that takes longer, but within
    /// [`EXTENSION`]; what is in flight then is abandoned.
    Elapsed(Duration),
}

/// What came of a loop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// How long each answered request took.
    pub(crate) latencies: Histogram,
    /// How long all of it took.
    pub(crate) elapsed: Duration,
}

impl Outcome {
    /// Answers a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.count() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

const CONNECTIONS: usize = 10;
/// How long a load of slow requests may go on beyond its time for the first answers to come.
const EXTENSION: Duration = Duration::from_secs(60);
/// How often a lane without answers looks whether the time is over.
const POLL: Duration = Duration::from_millis(20);

/// What the connections of one loop share.
struct Shared<'a, L> {
    load: &'a RefCell<L>,
    shape: Shape,
    begun: Instant,
    left: Cell<u64>,
    answered: Cell<usize>,
}

impl<L> Shared<'_, L> {
    fn may_start(&self) -> bool {
        let late = matches!(self.shape.until, Until::Elapsed(limit) if self.begun.elapsed() >= limit);
        self.left.get() > 0 && !late
    }

    /// Whether the loop is over although requests are in flight.
    fn timed_out(&self) -> bool {
        let Until::Elapsed(limit) = self.shape.until else { return false };
        let elapsed = self.begun.elapsed();
        elapsed >= limit && (self.answered.get() >= self.shape.in_flight || elapsed >= limit + EXTENSION)
    }
}

/// Runs a loop over up to ten connections, spread over the targets. Any failed request fails the loop: a bench of errors measures nothing.
pub(crate) async fn run<L: Load>(targets: &[Target], shape: Shape, load: &RefCell<L>) -> Result<Outcome> {
    let count = CONNECTIONS.min(shape.in_flight);
    let mut connections = Vec::with_capacity(count);
    for target in targets.iter().cycle().take(count) {
        let mut connection = Connection::open(target.address).await.context("connecting")?;
        connection.show(target.token.clone());
        connections.push(connection);
    }
    let left = match shape.until {
        Until::Requests(requests) => requests,
        Until::Elapsed(_) => u64::MAX,
    };
    let shared = Shared { load, shape, begun: now(), left: Cell::new(left), answered: Cell::new(0) };
    let mut running: FuturesUnordered<_> = connections
        .into_iter()
        .enumerate()
        .map(|(index, connection)| {
            let slots = (index..shape.in_flight).step_by(count).collect();
            Lane { shared: &shared, connection, waiting: slots, busy: HashMap::new(), scratch: Vec::new() }
                .run()
        })
        .collect();
    let mut latencies = Histogram::default();
    while let Some(lane) = running.next().await {
        latencies.merge(&lane.with_context(|| format!("under the load {}", shape.path))?);
    }
    Ok(Outcome { latencies, elapsed: shared.begun.elapsed() })
}

/// One connection and the slots that use it.
struct Lane<'a, L> {
    shared: &'a Shared<'a, L>,
    connection: Connection,
    waiting: Vec<usize>,
    busy: HashMap<u32, Request>,
    scratch: Vec<u8>,
}

struct Request {
    slot: usize,
    sent: Instant,
    body: Vec<u8>,
}

impl<L: Load> Lane<'_, L> {
    async fn run(mut self) -> Result<Histogram> {
        let mut latencies = Histogram::default();
        loop {
            self.fill()?;
            if (self.busy.is_empty() && !self.shared.may_start()) || self.shared.timed_out() {
                return Ok(latencies);
            }
            // Most turns end at once; only one that waits long looks at the clock.
            match tokio::time::timeout(POLL, self.connection.turn()).await {
                Ok(turned) => turned?,
                Err(_) if self.shared.timed_out() => return Ok(latencies),
                Err(_) => continue,
            }
            while let Some(frame) = self.connection.frame()? {
                self.take(frame, &mut latencies)?;
            }
        }
    }

    /// Starts a request in every free slot, as far as the load and the server's window go.
    fn fill(&mut self) -> Result<()> {
        while !self.waiting.is_empty() && self.shared.may_start() {
            let slot = self.waiting[self.waiting.len() - 1];
            self.scratch.clear();
            self.shared.load.borrow_mut().request(slot, &mut self.scratch);
            let Some(stream) = self.connection.request(self.shared.shape.path, &self.scratch, true) else {
                bail!("the server's window is too small for this load");
            };
            self.waiting.pop();
            self.shared.left.set(self.shared.left.get() - 1);
            self.busy.insert(stream, Request { slot, sent: now(), body: Vec::new() });
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame, latencies: &mut Histogram) -> Result<()> {
        match frame {
            Frame::Data { stream, payload } => {
                if L::WANTS_ANSWERS
                    && let Some(request) = self.busy.get_mut(&stream)
                {
                    request.body.extend_from_slice(self.connection.bytes(payload));
                }
            }
            Frame::Headers { end: false, .. } => {}
            Frame::Headers { ok: false, payload, .. } => {
                let block = String::from_utf8_lossy(self.connection.bytes(payload)).into_owned();
                bail!("the server refused a request: {block:?}");
            }
            Frame::Headers { stream, .. } => {
                let request = self.busy.remove(&stream).context("an answer to no request")?;
                latencies.record(request.sent.elapsed());
                self.shared.answered.set(self.shared.answered.get() + 1);
                if L::WANTS_ANSWERS {
                    self.shared.load.borrow_mut().answer(request.slot, &request.body)?;
                }
                self.waiting.push(request.slot);
            }
            // A server may close a stream that it has answered; a real etcd does when it is busy.
            Frame::Reset { stream, code } => {
                ensure!(!self.busy.contains_key(&stream), "the server reset a request with code {code}");
            }
        }
        Ok(())
    }
}

/// One call alone: sends a message and returns the body of the answer, framed.
pub(crate) async fn call(connection: &mut Connection, path: &'static str, message: &[u8]) -> Result<Vec<u8>> {
    let stream = connection.request(path, message, true).context("no window")?;
    let mut body = Vec::new();
    loop {
        while let Some(frame) = connection.frame()? {
            match frame {
                Frame::Data { stream: from, payload } if from == stream => {
                    body.extend_from_slice(connection.bytes(payload));
                }
                Frame::Headers { stream: from, ok, end: true, payload } if from == stream => {
                    let block = connection.bytes(payload);
                    anyhow::ensure!(ok, "{path}: {:?}", String::from_utf8_lossy(block));
                    return Ok(body);
                }
                Frame::Reset { stream: from, code } if from == stream => {
                    return Err(io::Error::other(format!("{path}: reset with code {code}")).into());
                }
                Frame::Data { .. } | Frame::Headers { .. } | Frame::Reset { .. } => {}
            }
        }
        connection.turn().await?;
    }
}
