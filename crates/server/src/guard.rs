//! What a connection is watched for, below HTTP: that it begins, and that its client does not ping too often.
//!
//! h2 answers pings by itself and tells nobody of them. So this follows the frames of both directions, of which it only reads the
//! nine bytes in front: pings are counted by the rules of Go's gRPC (`internal/transport/http2_server.go`), which are etcd's. A
//! client may ping every so often while it has calls, every two hours while it has none, and whenever it has been sent something since its
//! last ping. The third ping too many ends the connection with GOAWAY, ENHANCE_YOUR_CALM and `too_many_pings`, by which gRPC clients
//! learn to ping less.
//!
//! ```text
//! hyper ◄──► Guarded ◄──► socket
//!              └── follows: HEADERS and RST_STREAM (which calls are open), PING (in), DATA and HEADERS (out)
//! ```

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is in front of each frame.
const FRAME_HEAD: usize = 9;
/// The time between pings that a client without calls is allowed.
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);
/// So many pings too many are forgiven.
const STRIKES_MAX: u32 = 2;
/// How long a client that was sent away has to read why.
const FAREWELL: Duration = Duration::from_secs(1);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// The rules of a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How long a connection may take to begin.
    pub(crate) begin: Duration,
    /// The time between pings that a client with calls is allowed; `None` to count no pings.
    pub(crate) ping_interval: Option<Duration>,
}

/// A connection under these rules.
pub(crate) struct Guarded<I> {
    io: I,
    /// Rings if the connection does not begin; `None` once it has.
    begin: Option<Pin<Box<Sleep>>>,
    /// Bytes received until it has begun.
    received: usize,
    police: Option<Police>,
    farewell: Option<Farewell>,
}

impl<I> Guarded<I> {
    pub(crate) fn new(io: I, rules: Rules) -> Self {
        Self {
            io,
            begin: Some(Box::pin(tokio::time::sleep(rules.begin))),
            received: 0,
            police: rules.ping_interval.map(Police::new),
            farewell: None,
        }
    }

    /// Takes note of what has arrived.
    fn received(&mut self, bytes: &[u8], now: Instant) {
        if bytes.is_empty() {
            return;
        }
        if self.begin.is_some() {
            let preface = &PREFACE[self.received.min(PREFACE.len())..];
            let checked = preface.len().min(bytes.len());
            if bytes[..checked] != preface[..checked] {
                // It is HTTP/1, which has a limit of its own for heads, and no pings.
                self.begin = None;
                self.police = None;
                return;
            }
            self.received += bytes.len();
            if self.received >= PREFACE.len() + FRAME_HEAD {
                self.begin = None;
            }
            return self.follow(&bytes[checked..], now);
        }
        self.follow(bytes, now);
    }

    fn follow(&mut self, bytes: &[u8], now: Instant) {
        if self.police.as_mut().is_some_and(|police| police.incoming(bytes, now)) {
            tracing::warn!("closing a connection whose client pings too often");
            self.farewell = Some(Farewell::Goaway(0));
        }
    }
}

/// Follows frames by what is in front of each.
#[derive(Debug, Default)]
struct Follower {
    head: [u8; FRAME_HEAD],
    /// Bytes of the head that are there.
    filled: usize,
    /// Bytes of the frame that are still to come.
    payload: usize,
}

/// The head of a frame.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Follower {
    /// Takes bytes, and hands over each head that they complete.
    fn follow(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (FRAME_HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == FRAME_HEAD {
                self.filled = 0;
                let [a, b, c, kind, flags, s0, s1, s2, s3] = self.head;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                each(Frame { kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]) });
            }
        }
    }

    /// Bytes until the frame that has begun is over, as far as that is known.
    fn rest(&self) -> usize {
        if self.filled > 0 { FRAME_HEAD - self.filled } else { self.payload }
    }
}

/// Counts pings.
#[derive(Debug)]
struct Police {
    interval: Duration,
    incoming: Follower,
    outgoing: Follower,
    /// Calls that are open, and the highest there has been.
    open: HashSet<u32>,
    highest: u32,
    strikes: u32,
    last_ping: Option<Instant>,
    /// Something was sent since the last ping.
    sent: bool,
}

impl Police {
    fn new(interval: Duration) -> Self {
        Self {
            interval,
            incoming: Follower::default(),
            outgoing: Follower::default(),
            open: HashSet::new(),
            highest: 0,
            strikes: 0,
            last_ping: None,
            sent: false,
        }
    }

    /// Follows what the client sends. Whether that was too much.
    fn incoming(&mut self, bytes: &[u8], now: Instant) -> bool {
        let mut incoming = std::mem::take(&mut self.incoming);
        incoming.follow(bytes, |frame| match frame.kind {
            HEADERS if frame.stream > self.highest => {
                self.highest = frame.stream;
                self.open.insert(frame.stream);
            }
            RST_STREAM => {
                self.open.remove(&frame.stream);
            }
            PING if frame.flags & ACK == 0 => self.ping(now),
            _ => {}
        });
        self.incoming = incoming;
        self.strikes > STRIKES_MAX
    }

    fn ping(&mut self, now: Instant) {
        let last = self.last_ping.replace(now);
        if std::mem::take(&mut self.sent) {
            self.strikes = 0;
            return;
        }
        let interval = if self.open.is_empty() { IDLE_PING_INTERVAL } else { self.interval };
        if last.is_some_and(|last| now.saturating_duration_since(last) < interval) {
            self.strikes += 1;
        }
    }

    /// Follows what the client is sent.
    fn outgoing(&mut self, bytes: &[u8]) {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        outgoing.follow(bytes, |frame| match frame.kind {
            DATA | HEADERS => {
                self.sent = true;
                if frame.flags & END_STREAM != 0 {
                    self.open.remove(&frame.stream);
                }
            }
            RST_STREAM => {
                self.open.remove(&frame.stream);
            }
            _ => {}
        });
        self.outgoing = outgoing;
    }
}

/// How a client is sent away.
#[derive(Debug)]
enum Farewell {
    /// So many bytes of it have been written.
    Goaway(usize),
    /// It is being closed.
    Shutdown,
    /// What still comes is read, so that closing the socket does not take back what was said.
    Drain(Pin<Box<Sleep>>),
    Over,
}

const GOAWAY: &[u8] = b"\0\0\x16\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0btoo_many_pings";

impl<I: AsyncRead + AsyncWrite + Unpin> Guarded<I> {
    /// Goes on saying farewell, once the frame is over that was being sent.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.farewell {
                None => return Poll::Pending,
                Some(Farewell::Goaway(0)) if self.police.as_ref().is_some_and(|p| p.outgoing.rest() > 0) => {
                    // It is looked at again when that has been written.
                    return Poll::Pending;
                }
                Some(Farewell::Goaway(written)) if *written < GOAWAY.len() => {
                    match ready!(Pin::new(&mut self.io).poll_write(cx, &GOAWAY[*written..])) {
                        Ok(more) if more > 0 => *written += more,
                        _ => self.farewell = Some(Farewell::Over),
                    }
                }
                Some(Farewell::Goaway(_)) => self.farewell = Some(Farewell::Shutdown),
                Some(Farewell::Shutdown) => {
                    let shut = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
                    let timer = Box::pin(tokio::time::sleep(FAREWELL));
                    self.farewell = Some(if shut.is_ok() { Farewell::Drain(timer) } else { Farewell::Over });
                }
                Some(Farewell::Drain(timer)) => {
                    let mut buffer = [0; 1024];
                    let mut buffer = ReadBuf::new(&mut buffer);
                    match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                        Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                        Poll::Ready(_) => self.farewell = Some(Farewell::Over),
                        Poll::Pending => {
                            ready!(timer.as_mut().poll(cx));
                            self.farewell = Some(Farewell::Over);
                        }
                    }
                }
                Some(Farewell::Over) => return Poll::Ready(()),
            }
        }
    }

    /// Takes note of what has been written, across several buffers.
    fn wrote(&mut self, bufs: &[IoSlice<'_>], mut written: usize) {
        let Some(police) = &mut self.police else { return };
        for buf in bufs {
            let part = written.min(buf.len());
            police.outgoing(&buf[..part]);
            written -= part;
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.farewell.is_none() {
            let before = buf.filled().len();
            match Pin::new(&mut this.io).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => this.received(&buf.filled()[before..], Instant::now()),
                Poll::Ready(error) => return Poll::Ready(error),
                Poll::Pending => {
                    let Some(begin) = &mut this.begin else { return Poll::Pending };
                    ready!(begin.as_mut().poll(cx));
                    tracing::debug!("a connection did not begin");
                    return Poll::Ready(Ok(()));
                }
            }
            if this.farewell.is_none() {
                return Poll::Ready(Ok(()));
            }
            // What was too much is not answered any more.
            buf.set_filled(before);
        }
        this.poll_farewell(cx).map(Ok)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.farewell.is_none() {
            let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
            this.wrote(bufs, written);
            return Poll::Ready(Ok(written));
        }
        // Only the frame that has begun is still sent.
        let rest = this.police.as_ref().map_or(0, |police| police.outgoing.rest());
        let first = bufs.iter().find(|buf| !buf.is_empty());
        if rest > 0
            && let Some(first) = first
        {
            let part = IoSlice::new(&first[..rest.min(first.len())]);
            let written = ready!(Pin::new(&mut this.io).poll_write(cx, &part))?;
            this.wrote(&[part], written);
            return Poll::Ready(Ok(written));
        }
        // Whether it is over is for whoever reads to find.
        let _going_on = this.poll_farewell(cx);
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        let _going_on = self.poll_farewell(cx);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(payload).unwrap(), kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.resize(FRAME_HEAD + payload, 0xff);
        frame
    }

    /// What a client does, or is sent, at some second. In capitals what the client does.
    #[derive(Clone, Copy)]
    enum Act {
        Ping(u64),
        Open(u32),
        Reset(u32),
        Sent(u32),
        Ended(u32),
        Settled,
    }
    use Act::{Ended, Open, Ping, Reset, Sent, Settled};

    /// Whether the last of these is the ping too many, and no other.
    fn is_too_much(acts: &[Act]) -> bool {
        let start = Instant::now();
        let mut police = Police::new(Duration::from_secs(5));
        let mut outcomes = Vec::new();
        for act in acts {
            let (seconds, incoming, outgoing) = match act {
                Ping(at) => (*at, frame(PING, 0, 0, 8), Vec::new()),
                Open(stream) => (0, frame(HEADERS, 4, *stream, 20), Vec::new()),
                Reset(stream) => (0, frame(RST_STREAM, 0, *stream, 4), Vec::new()),
                Sent(stream) => (0, Vec::new(), frame(DATA, 0, *stream, 200)),
                Ended(stream) => (0, Vec::new(), frame(HEADERS, END_STREAM, *stream, 5)),
                Settled => (0, frame(4, ACK, 0, 0), frame(PING, ACK, 0, 8)),
            };
            // However the bytes come.
            for byte in outgoing {
                police.outgoing(&[byte]);
            }
            let (one, two) = incoming.split_at(incoming.len() / 3);
            let now = start + Duration::from_secs(seconds);
            police.incoming(one, now);
            outcomes.push(police.incoming(two, now));
        }
        let last = outcomes.pop().unwrap();
        assert!(outcomes.iter().all(|outcome| !outcome), "too early");
        last
    }

    #[test]
    fn pings_are_counted_by_the_rules_of_grpc() {
        // Without calls, hardly any are allowed.
        assert!(is_too_much(&[Ping(0), Ping(10), Ping(20), Settled, Ping(3000)]));
        assert!(!is_too_much(&[Ping(0), Ping(7200), Ping(14400), Ping(21600), Ping(28800)]));
        // With one, so many.
        assert!(!is_too_much(&[Open(1), Ping(0), Ping(5), Ping(10), Ping(15), Ping(20)]));
        assert!(is_too_much(&[Open(1), Ping(0), Ping(4), Ping(8), Ping(12)]));
        // Calls end in one way or the other.
        assert!(is_too_much(&[Open(1), Ping(0), Reset(1), Ping(5), Ping(10), Ping(15)]));
        assert!(!is_too_much(&[Open(1), Open(3), Ping(0), Reset(1), Ping(5), Ping(10), Ping(15)]));
        // What a client is sent allows it to ask whether more is coming.
        assert!(!is_too_much(&[Open(1), Ping(0), Ping(1), Ping(2), Sent(1), Ping(3), Ping(4), Ping(5)]));
        assert!(is_too_much(&[Open(1), Ping(0), Sent(1), Ping(1), Ping(2), Ping(3), Ping(4)]));
        assert!(is_too_much(&[Open(1), Ended(1), Ping(0), Ping(5), Ping(10), Ping(15)]));
        // Heads of trailers and late frames open nothing.
        assert!(is_too_much(&[Open(1), Ended(1), Open(1), Ping(0), Ping(5), Ping(10), Ping(15)]));
    }

    #[tokio::test]
    async fn a_connection_that_does_not_begin_ends() {
        let rules = Rules { begin: Duration::from_millis(10), ping_interval: None };
        for said in [&b""[..], &PREFACE[..20], PREFACE] {
            let (mut client, server) = tokio::io::duplex(1000);
            client.write_all(said).await.unwrap();
            let mut read = Vec::new();
            Guarded::new(server, rules).read_to_end(&mut read).await.unwrap();
            assert_eq!(read, said);
        }
    }

    #[tokio::test]
    async fn a_client_that_pings_too_often_is_told_so_behind_the_frame_under_way() {
        let rules = Rules { begin: Duration::from_secs(60), ping_interval: Some(Duration::from_secs(5)) };
        let (mut client, server) = tokio::io::duplex(1000);
        let mut server = Guarded::new(server, rules);
        let mut buffer = vec![0; 500];
        let settings = frame(4, 0, 0, 60);
        client.write_all(PREFACE).await.unwrap();
        client.write_all(&settings).await.unwrap();
        assert_eq!(server.read(&mut buffer).await.unwrap(), PREFACE.len() + settings.len());
        server.write_all(&settings[..30]).await.unwrap();
        for _ in 0..4 {
            client.write_all(&frame(PING, 0, 0, 8)).await.unwrap();
        }
        assert!(server.read(&mut buffer).now_or_never().is_none(), "a frame is under way");
        server.write_all(&settings[30..]).await.unwrap();
        server.write_all(&settings).await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, [&settings[..], GOAWAY].concat(), "nothing comes behind it");
        drop(client);
        assert_eq!(server.read(&mut buffer).await.unwrap(), 0);
    }
}
