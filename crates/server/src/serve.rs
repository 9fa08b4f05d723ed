//! Connections: how they are accepted, limited, served and ended, on the clients' port and on the peers'.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tls::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::guard::{Guarded, Rules};
use crate::listener::{Accepted, Listener, Wire};
use crate::rpc::{CommonName, PollFirst, Rpc, is_grpc};

/// How long open calls may go on after the member has been told to stop.
const GRACE: Duration = Duration::from_millis(500);
/// How long a client may take to begin, and to send the head of a plain HTTP request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection on a port with and without TLS may take to show which it is.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first byte of a handshake; no request of HTTP begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
/// Receive windows of a stream and of a connection. A connection's window also decides how many small frames h2 lets a client
/// pipeline before it takes it for an attacker.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// File descriptors that connections must leave to the member: its tables and its log would fail without, and the member with
/// them.
const OWN_FILES: u64 = 150;
/// Most connections that other members, or whoever finds their port, may have. Members need a handful each.
const PEERS_MAX: usize = 256;

/// Most connections of those who come for metrics alone; they take their share of what the member keeps for itself.
const METRICS_MAX: usize = 16;

/// How many connections the process can serve.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) clients: usize,
    pub(crate) peers: usize,
}

impl Capacity {
    /// # Errors
    /// The limit of file descriptors leaves nothing for connections.
    pub(crate) fn of_process() -> Result<Self> {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        match files.saturating_sub(OWN_FILES) {
            0 => Err(Error::config("file descriptor limit of etcd process is too low; please set higher")),
            connections => {
                let connections = usize::try_from(connections).unwrap_or(usize::MAX);
                let peers = PEERS_MAX.min(connections / 4);
                Ok(Self { clients: connections - peers, peers })
            }
        }
    }
}

/// Lets this process open as many files as it may.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "cannot raise the limit of file descriptors");
    }
}

/// How connections are watched on either port. Members may ping each other as they like.
pub(crate) const RULES: Rules = Rules { begin: HEADER_TIMEOUT, ping_interval: None };
/// The time between pings where none is set; that of Go's gRPC.
const PING_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How HTTP is spoken on either port.
pub(crate) fn builder() -> auto::Builder<PollFirst> {
    let mut builder = auto::Builder::new(PollFirst);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder
}

/// Serves clients until `stopping` says so.
pub(crate) async fn clients(
    listener: Listener,
    rpc: Arc<Rpc>,
    config: Arc<Config>,
    connections_max: usize,
    stopping: watch::Receiver<bool>,
) {
    let mut builder = builder();
    let (interval, timeout) = (config.grpc_keepalive_interval, config.grpc_keepalive_timeout);
    builder.http2().max_concurrent_streams(config.max_concurrent_streams);
    if !interval.is_zero() && !timeout.is_zero() {
        builder.http2().keep_alive_interval(interval).keep_alive_timeout(timeout);
    }
    let min_time = config.grpc_keepalive_min_time;
    let ping_interval = if min_time.is_zero() { PING_INTERVAL } else { min_time };
    let rules = Rules { ping_interval: Some(ping_interval), ..RULES };
    let answer = move |request: Request<Incoming>| {
        let rpc = Arc::clone(&rpc);
        async move {
            if is_grpc(&request) { rpc.serve(request).await } else { crate::http::serve(rpc, request).await }
        }
    };
    connections(listener, builder, answer, rules, connections_max, stopping).await;
}

/// Serves metrics and health alone, until `stopping` says so.
pub(crate) async fn metrics(listener: Listener, rpc: Arc<Rpc>, stopping: watch::Receiver<bool>) {
    let answer = move |request: Request<Incoming>| crate::http::serve_metrics(Arc::clone(&rpc), request);
    connections(listener, builder(), answer, RULES, METRICS_MAX, stopping).await;
}

/// Answers the requests of every connection until `stopping` says so; then lets open calls end, for a moment. No connection is
/// left after this.
pub(crate) async fn connections<A, F, B>(
    listener: Listener,
    builder: auto::Builder<PollFirst>,
    answer: A,
    rules: Rules,
    connections_max: usize,
    mut stopping: watch::Receiver<bool>,
) where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    let builder = Arc::new(builder);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // Further clients wait in the listener's queue.
            accepted = listener.accept(), if connections.len() < connections_max => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let (builder, answer, watcher) = (Arc::clone(&builder), answer.clone(), graceful.watcher());
        match accepted {
            Ok(Accepted::Tcp(socket)) => match listener.wire().clone() {
                Wire::Plain => {
                    connections.spawn(connection(
                        Guarded::new(socket, rules),
                        None,
                        builder,
                        answer,
                        watcher,
                    ));
                }
                Wire::Tls(acceptor) => {
                    let remote = socket.peer_addr().ok();
                    connections.spawn(secured(acceptor, socket, remote, builder, answer, watcher));
                }
                Wire::Either(acceptor) => {
                    connections.spawn(guessed(acceptor, socket, rules, builder, answer, watcher));
                }
            },
            Ok(Accepted::Unix(socket)) => match listener.wire().clone() {
                Wire::Plain => {
                    connections.spawn(connection(
                        Guarded::new(socket, rules),
                        None,
                        builder,
                        answer,
                        watcher,
                    ));
                }
                Wire::Tls(acceptor) | Wire::Either(acceptor) => {
                    connections.spawn(secured(acceptor, socket, None, builder, answer, watcher));
                }
            },
            // Out of file descriptors, or a client that left: neither is a reason to stop serving.
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    drop(listener);
    drop(tokio::time::timeout(GRACE, graceful.shutdown()).await);
    connections.shutdown().await;
}

/// A connection that begins with a handshake, or with plain text. One that does not begin ends.
async fn guessed<A, F, B>(
    acceptor: Arc<Acceptor>,
    socket: TcpStream,
    rules: Rules,
    builder: Arc<auto::Builder<PollFirst>>,
    answer: A,
    watcher: Watcher,
) where
    A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    let mut first = [0];
    let seen = tokio::time::timeout(FIRST_BYTE_TIMEOUT, socket.peek(&mut first)).await;
    match (seen, first) {
        (Ok(Ok(1)), [TLS_HANDSHAKE]) => {
            let remote = socket.peer_addr().ok();
            secured(acceptor, socket, remote, builder, answer, watcher).await;
        }
        (Ok(Ok(1)), _) => connection(Guarded::new(socket, rules), None, builder, answer, watcher).await,
        (_, _) => tracing::debug!("a connection did not begin"),
    }
}

/// A connection with TLS; one whose handshake fails has been heard of in the log, and ends.
async fn secured<I, A, F, B>(
    acceptor: Arc<Acceptor>,
    io: I,
    remote: Option<SocketAddr>,
    builder: Arc<auto::Builder<PollFirst>>,
    answer: A,
    watcher: Watcher,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    if let Some(stream) = acceptor.accept(io, remote).await {
        let name = acceptor.common_name(&stream).map(|name| CommonName(name.into()));
        // Behind TLS etcd lets its clients ping as they like.
        connection(Guarded::new(stream, RULES), name, builder, answer, watcher).await;
    }
}

/// A connection of somebody whose verified certificate has a name, or of anybody.
async fn connection<I, A, F, B>(
    io: I,
    name: Option<CommonName>,
    builder: Arc<auto::Builder<PollFirst>>,
    answer: A,
    watcher: Watcher,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(name) = &name {
            request.extensions_mut().insert(name.clone());
        }
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = builder.serve_connection(TokioIo::new(io), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended");
    }
}
