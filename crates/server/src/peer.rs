//! The peer port: where other members reach this one.
//!
//! It answers from the moment its address is bound, before the member knows who it is: with "503 Service Unavailable" then, so
//! that members that start together see at once that none of them can tell the others anything yet. Later it serves the log's
//! calls, and the plain HTTP by which members learn of each other, as etcd's do.

mod http;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use raftlog::{Node, PeerService};
use tls::Acceptor;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub(crate) use http::CLUSTER_ID;

use crate::bootstrap::MemberRecord;
use crate::error::Result;
use crate::listener::Listener;
use crate::member::Shared;
use crate::serve;

/// How often a silent connection is asked whether the other side is still there, and how long it may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How long calls may take to end when their connections have.
const CALLS_END: Duration = Duration::from_secs(1);

/// What the peer port answers from, once there is something to answer from.
pub(crate) struct Source {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: Node,
    /// Answers the calls of other members' logs.
    pub(crate) log: PeerService,
    /// The members of a cluster whose state does not know them yet.
    pub(crate) initial: Vec<MemberRecord>,
    pub(crate) request_timeout: Duration,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("member_id", &self.shared.member_id).finish_non_exhaustive()
    }
}

/// A source, and a word when the last call has let go of it.
#[derive(Debug)]
struct Serving {
    source: Source,
    #[expect(dead_code, reason = "it speaks by being dropped")]
    alive: mpsc::Sender<()>,
}

/// The listeners of the peer port and what they serve. Dropping it ends them at once.
#[derive(Debug)]
pub(crate) struct PeerPort {
    serving: Arc<OnceLock<Serving>>,
    listening: JoinSet<()>,
    stopping: watch::Sender<bool>,
    /// Closed when the last call has ended.
    calls: Option<mpsc::Receiver<()>>,
}

impl PeerPort {
    /// Binds the URLs and answers on them.
    ///
    /// # Errors
    /// One of them cannot be bound.
    pub(crate) async fn open(
        urls: &[String],
        acceptor: Option<&Arc<Acceptor>>,
        connections_max: usize,
    ) -> Result<Self> {
        let listeners = Listener::bind_all(urls, acceptor).await?;
        let connections_max = (connections_max / listeners.len().max(1)).max(1);
        let serving: Arc<OnceLock<Serving>> = Arc::default();
        let (stopping, stop) = watch::channel(false);
        let mut listening = JoinSet::new();
        for listener in listeners {
            tracing::info!(address = listener.to_string(), "serving peer traffic");
            let serving = Arc::clone(&serving);
            let answer = move |request| http::answer(Arc::clone(&serving), request);
            let mut builder = serve::builder();
            builder.http2().keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE);
            listening.spawn(serve::connections(
                listener,
                builder,
                answer,
                serve::RULES,
                connections_max,
                stop.clone(),
            ));
        }
        Ok(Self { serving, listening, stopping, calls: None })
    }

    /// From now on, answers from this.
    ///
    /// # Panics
    /// When there was something to answer from already.
    pub(crate) fn serve(&mut self, source: Source) {
        let (alive, calls) = mpsc::channel(1);
        assert!(self.serving.set(Serving { source, alive }).is_ok(), "a port serves one member");
        self.calls = Some(calls);
    }

    /// Lets open calls end, for a moment, and closes everything.
    pub(crate) async fn stop(self) {
        let Self { serving, mut listening, stopping, calls } = self;
        stopping.send_replace(true);
        while listening.join_next().await.is_some() {}
        drop(serving);
        if let Some(mut calls) = calls {
            drop(tokio::time::timeout(CALLS_END, calls.recv()).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;

    /// Members that start together ask each other who they are; none may have to wait for another's answer.
    #[tokio::test]
    async fn a_member_that_does_not_know_itself_says_so_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peer");
        let port = PeerPort::open(&[format!("unix://{}", path.display())], None, 8).await.unwrap();
        for asked in ["/members", "/raftlog.Peer/Vote", "/nonsense"] {
            let mut socket = UnixStream::connect(&path).await.unwrap();
            let request = format!("GET {asked} HTTP/1.0\r\n\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains(" 503 Service Unavailable\r\n"), "{answer}");
        }
        port.stop().await;
        assert!(!path.exists(), "a socket's file goes with its listener");
    }
}
