//! One HTTP/2 connection of a client, with as little work per request as the protocol allows.
//!
//! The generator shares its machine with the server that it measures, so each microsecond it spends is one the
//! server does not have. A general client costs 8 to 12 us a call; this one about four with the kernel's share,
//! because it knows what it sends: request headers are indexed after their first use, bodies come ready-made,
//! many requests leave in one write, and of an answer's headers it looks only for `grpc-status: 0`.
//!
//! It announces a header table of size zero, so that a server's header blocks can be read one by one, and
//! windows so large that the server never waits for room. It keeps to the server's windows, answers pings, and
//! treats everything unexpected as an error. It speaks plain HTTP/2 only, and never pushes back.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;
const FRAME_BYTES_MAX: usize = 16_384;
const INITIAL_WINDOW: i64 = 65_535;
/// What we grant at once, on the connection and on each stream; and the share of it after which we grant anew.
const OUR_WINDOW: u32 = 1 << 30;
const REFILL_AFTER: u32 = 1 << 28;
/// The first index of HPACK's dynamic table.
const DYNAMIC: usize = 62;

/// What the peer sent, as far as a load cares; the bytes stay in the connection until the next frame.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    /// A part of a body.
    Data { stream: u32, payload: Range<usize> },
    /// A header block; `ok` if it says `grpc-status: 0`.
    Headers { stream: u32, payload: Range<usize>, ok: bool, end: bool },
    /// The peer gave up this stream.
    Reset { stream: u32, code: u32 },
}

/// Any frame: type, flags, stream, payload.
type RawFrame = (u8, u8, u32, Range<usize>);

/// A connection; see the module.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    authority: String,
    /// Bytes read and not yet looked at: `input[start..end]`.
    input: Vec<u8>,
    start: usize,
    end: usize,
    output: Vec<u8>,
    written: usize,
    next_stream: u32,
    /// What says in every request who asks.
    token: Option<String>,
    /// Header fields the peer's dynamic table holds, oldest first. We only ever add these.
    indexed: Vec<(&'static str, String)>,
    send_window: i64,
    initial_send_window: i64,
    /// Of the streams that stay open for sending.
    stream_windows: BTreeMap<u32, i64>,
    received: u32,
    received_by_stream: HashMap<u32, u32>,
}

impl Connection {
    /// Connects and exchanges settings, so that everything sent later happens under ours.
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut connection = Self {
            socket,
            authority: address.to_string(),
            input: vec![0; 1 << 19],
            start: 0,
            end: 0,
            output: PREFACE.to_vec(),
            written: 0,
            next_stream: 1,
            token: None,
            indexed: Vec::new(),
            send_window: INITIAL_WINDOW,
            initial_send_window: INITIAL_WINDOW,
            stream_windows: BTreeMap::new(),
            received: 0,
            received_by_stream: HashMap::new(),
        };
        let settings: [(u16, u32); 3] = [(1, 0), (2, 0), (4, OUR_WINDOW)];
        connection.frame_header(settings.len() * 6, 4, 0, 0);
        for (id, value) in settings {
            connection.output.extend_from_slice(&id.to_be_bytes());
            connection.output.extend_from_slice(&value.to_be_bytes());
        }
        connection.grant(0, OUR_WINDOW);
        while !connection.handle_settings_ack()? {
            connection.turn().await?;
        }
        Ok(connection)
    }

    /// Sends this token with every request from now on.
    pub(crate) fn show(&mut self, token: Option<String>) {
        self.token = token;
    }

    /// Reads frames until the peer has confirmed our settings.
    fn handle_settings_ack(&mut self) -> io::Result<bool> {
        while let Some((kind, flags, stream, payload)) = self.raw_frame()? {
            if kind == 4 && flags & 1 != 0 {
                return Ok(true);
            }
            self.control(kind, flags, stream, payload)?;
        }
        Ok(false)
    }

    /// Begins a request with its first message, already framed for gRPC. `last` says that no other follows.
    /// `None` if the peer's window is full; ask again after the next [`turn`](Self::turn).
    pub(crate) fn request(&mut self, path: &'static str, message: &[u8], last: bool) -> Option<u32> {
        let size = i64::try_from(message.len()).ok()?;
        if size > self.send_window || size > self.initial_send_window {
            return None;
        }
        let stream = self.next_stream;
        self.next_stream += 2;
        let header_at = self.output.len();
        self.frame_header(0, 1, 4, stream);
        self.output.extend_from_slice(&[0x83, 0x86]);
        self.field(1, ":authority", self.authority.clone());
        self.field(4, ":path", path.to_owned());
        self.field(31, "content-type", "application/grpc".to_owned());
        self.field(0, "te", "trailers".to_owned());
        if let Some(token) = self.token.clone() {
            self.field(0, "token", token);
        }
        let length = self.output.len() - header_at - HEADER_BYTES;
        self.output[header_at + 1..header_at + 3].copy_from_slice(&u16_of(length).to_be_bytes());
        if !last {
            self.stream_windows.insert(stream, self.initial_send_window);
        }
        self.data(stream, message, last);
        Some(stream)
    }

    /// Sends one more message on an open stream; false if a window is full.
    pub(crate) fn send(&mut self, stream: u32, message: &[u8]) -> bool {
        let Ok(size) = i64::try_from(message.len()) else { return false };
        let Some(window) = self.stream_windows.get(&stream) else { return false };
        if size > self.send_window || size > *window {
            return false;
        }
        self.data(stream, message, false);
        true
    }

    fn data(&mut self, stream: u32, message: &[u8], last: bool) {
        debug_assert!(message.len() <= FRAME_BYTES_MAX, "loads send small messages");
        self.frame_header(message.len(), 0, u8::from(last), stream);
        self.output.extend_from_slice(message);
        let size = i64::try_from(message.len()).unwrap_or(i64::MAX);
        self.send_window -= size;
        if let Some(window) = self.stream_windows.get_mut(&stream) {
            *window -= size;
        }
    }

    /// A header field: an index if the peer has it already, else the text, to be remembered.
    fn field(&mut self, static_name: u8, name: &'static str, value: String) {
        let known = self.indexed.iter().position(|(n, v)| *n == name && *v == value);
        if let Some(position) = known {
            let index = DYNAMIC + self.indexed.len() - 1 - position;
            debug_assert!(index < 127, "a load uses few paths");
            self.output.push(0x80 | u8::try_from(index).unwrap_or(127));
            return;
        }
        self.output.push(0x40 | static_name);
        if static_name == 0 {
            self.text(name.as_bytes());
        }
        self.text(value.as_bytes());
        self.indexed.push((name, value));
    }

    fn text(&mut self, text: &[u8]) {
        debug_assert!(text.len() < 127, "header texts are short");
        self.output.push(u8::try_from(text.len()).unwrap_or(126));
        self.output.extend_from_slice(text);
    }

    fn frame_header(&mut self, length: usize, kind: u8, flags: u8, stream: u32) {
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        self.output.extend_from_slice(&length[1..]);
        self.output.extend_from_slice(&[kind, flags]);
        self.output.extend_from_slice(&stream.to_be_bytes());
    }

    fn grant(&mut self, stream: u32, bytes: u32) {
        self.frame_header(4, 8, 0, stream);
        self.output.extend_from_slice(&bytes.to_be_bytes());
    }

    /// Writes what waits and comes back once something new has been read.
    pub(crate) async fn turn(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_turn(context)).await
    }

    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.output.len() {
            match Pin::new(&mut self.socket).poll_write(context, &self.output[self.written..]) {
                Poll::Ready(result) => self.written += result?,
                Poll::Pending => break,
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let mut room = ReadBuf::new(&mut self.input[self.end..]);
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut room))?;
        let read = room.filled().len();
        if read == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up")));
        }
        self.end += read;
        Poll::Ready(Ok(()))
    }

    /// The next whole frame that concerns a load; `None` when more must be read first.
    pub(crate) fn frame(&mut self) -> io::Result<Option<Frame>> {
        while let Some((kind, flags, stream, payload)) = self.raw_frame()? {
            let end = flags & 1 != 0;
            match kind {
                0 => {
                    self.count_received(stream, payload.len(), end);
                    return Ok(Some(Frame::Data { stream, payload }));
                }
                1 if flags & 4 == 0 => return Err(protocol("a header block in several frames")),
                1 => {
                    let ok = says_ok(&self.input[payload.clone()]);
                    if end {
                        self.forget(stream);
                    }
                    return Ok(Some(Frame::Headers { stream, payload, ok, end }));
                }
                3 => {
                    self.forget(stream);
                    let code = self.u32_at(payload.start);
                    return Ok(Some(Frame::Reset { stream, code }));
                }
                _ => self.control(kind, flags, stream, payload)?,
            }
        }
        Ok(None)
    }

    /// The bytes of a frame that was just returned.
    pub(crate) fn bytes(&self, payload: Range<usize>) -> &[u8] {
        &self.input[payload]
    }

    fn forget(&mut self, stream: u32) {
        self.stream_windows.remove(&stream);
        self.received_by_stream.remove(&stream);
    }

    fn count_received(&mut self, stream: u32, bytes: usize, end: bool) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.received += bytes;
        if self.received >= REFILL_AFTER {
            let bytes = std::mem::take(&mut self.received);
            self.grant(0, bytes);
        }
        // Only long streams can use up a window; those of one answer are forgotten right away.
        if end || !self.stream_windows.contains_key(&stream) {
            return;
        }
        let received = self.received_by_stream.entry(stream).or_default();
        *received += bytes;
        if *received >= REFILL_AFTER {
            let bytes = std::mem::take(received);
            self.grant(stream, bytes);
        }
    }

    fn raw_frame(&mut self) -> io::Result<Option<RawFrame>> {
        let available = &self.input[self.start..self.end];
        let Some(header) = available.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        if length > FRAME_BYTES_MAX {
            return Err(protocol("a frame larger than we allow"));
        }
        if available.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
        let payload = self.start + HEADER_BYTES..self.start + HEADER_BYTES + length;
        let found = (header[3], header[4], stream, payload.clone());
        self.start = payload.end;
        Ok(Some(found))
    }

    /// Frames about the connection itself.
    fn control(&mut self, kind: u8, flags: u8, stream: u32, payload: Range<usize>) -> io::Result<()> {
        match kind {
            4 if flags & 1 == 0 => {
                self.take_settings(payload);
                self.frame_header(0, 4, 1, 0);
            }
            6 if flags & 1 == 0 => {
                self.frame_header(8, 6, 1, 0);
                let echo = self.input[payload].to_vec();
                self.output.extend_from_slice(&echo);
            }
            7 => {
                let code = self.u32_at(payload.start + 4);
                let text = String::from_utf8_lossy(&self.input[payload.start + 8..payload.end]).into_owned();
                return Err(protocol(&format!("the server said goodbye: code {code} {text}")));
            }
            8 => {
                let increment = i64::from(self.u32_at(payload.start));
                if stream == 0 {
                    self.send_window += increment;
                } else if let Some(window) = self.stream_windows.get_mut(&stream) {
                    *window += increment;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_settings(&mut self, payload: Range<usize>) {
        for at in payload.step_by(6) {
            if self.input[at..at + 2] == [0, 4] {
                let window = i64::from(self.u32_at(at + 2));
                for open in self.stream_windows.values_mut() {
                    *open += window - self.initial_send_window;
                }
                self.initial_send_window = window;
            }
        }
    }

    fn u32_at(&self, at: usize) -> u32 {
        self.input[at..at + 4].try_into().map_or(0, u32::from_be_bytes)
    }
}

fn protocol(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn u16_of(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// `grpc-status` in HPACK's Huffman code: 60 bits, filled up with ones.
const STATUS_CODED: [u8; 8] = [0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];

/// Whether a header block that uses no dynamic table holds `grpc-status: 0`. Either text may be coded or plain.
fn says_ok(block: &[u8]) -> bool {
    let value_after = |name: &[u8], length: u8| {
        let found = block.windows(name.len() + 1).position(|w| w[0] == length && w[1..] == *name)?;
        block.get(found + 1 + name.len()..)
    };
    let value = value_after(&STATUS_CODED, 0x88).or_else(|| value_after(b"grpc-status", 11));
    value.is_some_and(|value| value.starts_with(&[1, b'0']) || value.starts_with(&[0x81, 0x07]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coded_name_is_what_the_code_table_gives() {
        // RFC 7541, appendix B: the codes of the letters that occur, as text.
        let code = |letter| match letter {
            'a' => "00011",
            'c' => "00100",
            's' => "01000",
            't' => "01001",
            '-' => "010110",
            'g' => "100110",
            'p' => "101011",
            'r' => "101100",
            'u' => "101101",
            _ => unreachable!("no such letter"),
        };
        let mut bits: String = "grpc-status".chars().map(code).collect();
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        let bytes: Vec<u8> =
            (0..bits.len()).step_by(8).map(|at| u8::from_str_radix(&bits[at..at + 8], 2).unwrap()).collect();
        assert_eq!(bytes, STATUS_CODED);
    }

    #[test]
    fn success_is_seen_plain_and_coded_and_failure_is_not() {
        let plain = [&[0u8, 11][..], b"grpc-status", &[1, b'0']].concat();
        let coded = [&[0u8, 0x88][..], &STATUS_CODED, &[0x81, 0x07]].concat();
        let failed = [&[0u8, 11][..], b"grpc-status", &[2, b'1', b'4']].concat();
        assert!(says_ok(&plain) && says_ok(&coded));
        assert!(!says_ok(&failed) && !says_ok(b""));
    }
}
