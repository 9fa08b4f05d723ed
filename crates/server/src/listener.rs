//! Sockets that wait for connections.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tls::Acceptor;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::error::{Error, Result};
use crate::url::{Address, Url};

/// After how long a silence the kernel asks whether the other side is still there, and how often it asks again.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// A bound URL.
#[derive(Debug)]
pub(crate) struct Listener {
    url: Url,
    socket: Socket,
    wire: Wire,
}

/// What is spoken on connections.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Plain,
    Tls(Arc<Acceptor>),
    /// Whatever the other side begins with: the address is in a URL with TLS and in one without.
    Either(Arc<Acceptor>),
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        #[expect(dead_code, reason = "it acts by being dropped")]
        file: SocketFile,
    },
}

/// A socket's file, which goes with its listener.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have taken it away already.
        drop(std::fs::remove_file(&self.path));
    }
}

/// A connection that came in.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Binds several URLs. Two for one address, one of them with TLS, share a listener.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub(crate) async fn bind_all(urls: &[String], acceptor: Option<&Arc<Acceptor>>) -> Result<Vec<Self>> {
        let mut listeners: Vec<Self> = Vec::new();
        for url in urls {
            match (listeners.iter_mut().find(|listener| listener.differs_in_tls(url)), acceptor) {
                (Some(listener), Some(acceptor)) => listener.wire = Wire::Either(Arc::clone(acceptor)),
                _ => listeners.push(Self::bind(url, acceptor).await?),
            }
        }
        Ok(listeners)
    }

    /// Whether a URL is that of this listener, but that one is with TLS and one without.
    fn differs_in_tls(&self, url: &str) -> bool {
        let Ok(url) = Url::parse(url) else { return false };
        let same = |url: &Url| (url.host().to_owned(), url.port());
        url.port() != 0
            && same(&url) == same(&self.url)
            && url.scheme().is_tls() != self.url.scheme().is_tls()
    }

    /// Binds a URL; port 0 takes a free one, and a socket file that was left behind is replaced. The acceptor is for a URL that
    /// asks for TLS; others do without.
    ///
    /// # Errors
    /// The URL names no address, the system refuses it, or there is no acceptor for it.
    async fn bind(url: &str, acceptor: Option<&Arc<Acceptor>>) -> Result<Self> {
        let url = Url::parse(url).map_err(Error::Config)?;
        let wire = match (url.scheme().is_tls(), acceptor) {
            (false, _) => Wire::Plain,
            (true, Some(acceptor)) => Wire::Tls(Arc::clone(acceptor)),
            (true, None) => {
                return Err(Error::config(format!("{url} asks for TLS, and there is no certificate for it")));
            }
        };
        let socket = match url.address().map_err(Error::Config)? {
            Address::Tcp(address) => Socket::Tcp(bind_tcp(address).await?),
            Address::Unix(path) => bind_unix(&path)?,
        };
        Ok(Self { url, socket, wire })
    }

    /// The port's address, or `None` for a Unix socket.
    pub(crate) fn address(&self) -> Result<Option<SocketAddr>> {
        match &self.socket {
            Socket::Tcp(listener) => {
                listener.local_addr().map(Some).map_err(Error::io("read the address of a listener"))
            }
            Socket::Unix { .. } => Ok(None),
        }
    }

    /// What is spoken on its connections.
    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                if let Err(error) = tune(&stream) {
                    tracing::debug!(%error, "a connection ended at once");
                }
                Ok(Accepted::Tcp(stream))
            }
            Socket::Unix { listener, .. } => {
                listener.accept().await.map(|(stream, _)| Accepted::Unix(stream))
            }
        }
    }
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address() {
            Ok(Some(address)) => write!(f, "{address}"),
            _ => write!(f, "{}", self.url),
        }
    }
}

async fn bind_tcp(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| in_gos_words(error, format!("listen tcp {address}: bind")))
}

fn bind_unix(path: &Path) -> Result<Socket> {
    let what = format!("listen unix {}: bind", path.display());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(in_gos_words(error, what)),
        _ => {}
    }
    match UnixListener::bind(path) {
        Ok(listener) => Ok(Socket::Unix { listener, file: SocketFile { path: path.to_owned() } }),
        Err(error) => Err(in_gos_words(error, what)),
    }
}

/// As Go says it, for those who look for it.
fn in_gos_words(error: io::Error, what: String) -> Error {
    let error = match error.kind() {
        io::ErrorKind::AddrInUse => io::Error::new(error.kind(), "address already in use"),
        _ => error,
    };
    Error::io(what)(error)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
