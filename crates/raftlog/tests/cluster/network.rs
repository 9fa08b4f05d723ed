//! Members in one process, with listeners of their own, and connections that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use raftlog::{Dial, Io, Member, PeerService};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Which members cannot reach which, as pairs of who calls and who is called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cuts {
    cuts: Arc<watch::Sender<BTreeSet<(u64, u64)>>>,
    /// Attempts to connect along a way that is cut.
    attempts: Arc<watch::Sender<usize>>,
    /// How long bytes take, one way.
    delay: Arc<Mutex<Duration>>,
    /// How often the connections of the time were stalled.
    stalls: Arc<watch::Sender<u64>>,
}

/// Passes bytes on, each after a delay, until the reader ends.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let reading = async {
        loop {
            let mut bytes = Vec::with_capacity(1 << 16);
            if from.read_buf(&mut bytes).await? == 0 || sender.send((Instant::now() + delay, bytes)).is_err()
            {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((at, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(at).await;
            to.write_all(&bytes).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}

impl Cuts {
    /// Cuts what is under way from one member to another, and whatever is tried later.
    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.cuts.send_if_modified(|cuts| cuts.insert((from, to)));
    }

    /// Cuts a member off from all others, both ways.
    pub(crate) fn isolate(&self, member: u64, others: impl IntoIterator<Item = u64>) {
        for other in others {
            if other != member {
                self.cut(member, other);
                self.cut(other, member);
            }
        }
    }

    /// From now on bytes of new connections take so long, one way.
    pub(crate) fn delay(&self, delay: Duration) {
        *self.delay.lock().unwrap() = delay;
    }

    /// From now on nothing gets through the connections that there are; new ones work.
    pub(crate) fn stall(&self) {
        self.stalls.send_modify(|stalls| *stalls += 1);
    }

    pub(crate) fn heal(&self) {
        self.cuts.send_replace(BTreeSet::new());
    }

    /// Waits for so many more attempts to connect in vain.
    pub(crate) async fn attempts(&self, more: usize) {
        let mut attempts = self.attempts.subscribe();
        let wanted = *attempts.borrow() + more;
        attempts.wait_for(|attempts| *attempts >= wanted).await.unwrap();
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cuts.borrow().contains(&(from, to))
    }
}

/// Connects one member to the others unless the way is cut.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    pub(crate) from: u64,
    pub(crate) cuts: Cuts,
    /// Who listens at a URL.
    pub(crate) listeners: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Dial for Dialer {
    fn dial(&self, url: String) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let this = self.clone();
        async move {
            let to = this.listeners.lock().unwrap().get(&url).copied().unwrap_or_default();
            if this.cuts.is_cut(this.from, to) {
                this.cuts.attempts.send_modify(|attempts| *attempts += 1);
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the way is cut"));
            }
            let socket = TcpStream::connect(url.trim_start_matches("http://")).await?;
            socket.set_nodelay(true)?;
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let delay = *this.cuts.delay.lock().unwrap();
            let mut cuts = this.cuts.cuts.subscribe();
            let mut stalls = this.cuts.stalls.subscribe();
            let begun = *stalls.borrow();
            tokio::spawn(async move {
                let is_cut = cuts.wait_for(|cuts| cuts.contains(&(this.from, to)));
                let ((mut ours, mut our_end), (mut theirs, mut their_end)) =
                    (tokio::io::split(theirs), tokio::io::split(socket));
                let passed = async {
                    tokio::select! {
                        _ = pump(&mut ours, &mut their_end, delay) => return,
                        _ = pump(&mut theirs, &mut our_end, delay) => return,
                        _ = stalls.wait_for(|stalls| *stalls > begun) => {}
                    }
                    // Both ends stay open, and neither hears anything.
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = passed => {}
                    _ = is_cut => {}
                }
            });
            Ok(Box::new(ours) as Box<dyn Io>)
        }
        .boxed()
    }
}

/// A member's listener. It is bound before there is a service, so that its URL is known.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) url: String,
    /// So many streams of entries are opened in vain: nobody answers on them.
    pub(crate) mute: Arc<AtomicUsize>,
    socket: Option<TcpListener>,
    serving: Option<JoinHandle<()>>,
}

impl Listener {
    pub(crate) async fn bind() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        Self { url, mute: Arc::default(), socket: Some(socket), serving: None }
    }

    pub(crate) fn member(&self) -> Member {
        Member { peer_urls: vec![self.url.clone()] }
    }

    /// Serves until [`stop`](Self::stop).
    pub(crate) async fn serve(&mut self, peers: PeerService) {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            // The port may take a moment to be free again.
            None => loop {
                match TcpListener::bind(self.url.trim_start_matches("http://")).await {
                    Ok(socket) => break socket,
                    Err(_) => tokio::task::yield_now().await,
                }
            },
        };
        let mute = Arc::clone(&self.mute);
        self.serving = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = socket.accept().await {
                let (peers, mute) = (peers.clone(), Arc::clone(&mute));
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (peers, mute) = (peers.clone(), Arc::clone(&mute));
                    async move {
                        let is_append = request.uri().path().ends_with("/Append");
                        let one_less = |left: usize| left.checked_sub(1);
                        if is_append && mute.fetch_update(SeqCst, SeqCst, one_less).is_ok() {
                            std::future::pending::<()>().await;
                        }
                        Ok::<_, Infallible>(peers.serve(request).await)
                    }
                });
                connections.spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    builder.serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        }));
    }

    /// Closes the listener and every connection to it.
    pub(crate) async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            serving.await.ok();
        }
    }
}
