//! Sockets: one port for gRPC and HTTP.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::rpc::{PollFirst, Rpc, is_grpc};

/// How long open calls may go on after the member has been told to stop.
const GRACE: Duration = Duration::from_millis(500);
/// How long a client may take to send the head of a plain HTTP request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Receive windows of a stream and of a connection. A connection's window also decides how many small frames h2 lets a client
/// pipeline before it takes it for an attacker.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// File descriptors that clients must leave to the member: its tables and its log would fail without, and the member with them.
const OWN_FILES: u64 = 150;

/// Binds an address; port 0 takes a free one.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        // As Go says it, for those who look for it.
        let error = match error.kind() {
            io::ErrorKind::AddrInUse => io::Error::new(error.kind(), "address already in use"),
            _ => error,
        };
        Error::io(format!("listen tcp {address}: bind"))(error)
    })
}

/// How many connections the process can serve.
///
/// # Errors
/// The limit of file descriptors leaves nothing for clients.
pub(crate) fn connections_max() -> Result<usize> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    match files.saturating_sub(OWN_FILES) {
        0 => Err(Error::config("file descriptor limit of etcd process is too low; please set higher")),
        connections => Ok(usize::try_from(connections).unwrap_or(usize::MAX)),
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

fn builder(config: &Config) -> auto::Builder<PollFirst> {
    let mut builder = auto::Builder::new(PollFirst);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let interval = config.grpc_keepalive_interval;
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(config.max_concurrent_streams)
        .keep_alive_interval((!interval.is_zero()).then_some(interval))
        .keep_alive_timeout(config.grpc_keepalive_timeout);
    builder
}

/// Serves clients until `stopping` says so; then lets open calls end, for a moment. No connection is left after this.
pub(crate) async fn clients(
    listener: TcpListener,
    rpc: Arc<Rpc>,
    config: Arc<Config>,
    connections_max: usize,
    mut stopping: watch::Receiver<bool>,
) {
    let builder = Arc::new(builder(&config));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // Further clients wait in the listener's queue.
            accepted = listener.accept(), if connections.len() < connections_max => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((socket, _)) => connection(socket, &builder, &rpc, &graceful, &mut connections),
            // Out of file descriptors, or a client that left: neither is a reason to stop serving.
            Err(error) => {
                tracing::warn!(%error, "accepting a client failed");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    drop(listener);
    drop(tokio::time::timeout(GRACE, graceful.shutdown()).await);
    connections.shutdown().await;
}

fn connection(
    socket: TcpStream,
    builder: &Arc<auto::Builder<PollFirst>>,
    rpc: &Arc<Rpc>,
    graceful: &GracefulShutdown,
    connections: &mut JoinSet<()>,
) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a client left at once");
        return;
    }
    let rpc = Arc::clone(rpc);
    let service = service_fn(move |request: Request<Incoming>| {
        let rpc = Arc::clone(&rpc);
        async move {
            Ok::<_, Infallible>(if is_grpc(&request) {
                rpc.serve(request).await
            } else {
                crate::http::serve(rpc, request).await
            })
        }
    });
    let connection = builder.serve_connection(TokioIo::new(socket), service).into_owned();
    let connection = graceful.watch(connection);
    connections.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
}
