//! Connections to other members.

use std::io;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use raftlog::{Dial, Io};
use tls::{Connector, Settings};
use tokio::net::{TcpStream, UnixStream};

use crate::error::Result;
use crate::url::{Address, Scheme, Url};

/// Connects to URLs as their schemes say: over TCP or Unix sockets of this host, in plain text or with TLS.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dialler(Arc<Security>);

/// How to be safe. What is needed for it is made when the first URL asks for it, if nothing has been set for it.
#[derive(Debug, Default)]
struct Security {
    settings: Settings,
    connector: OnceLock<Connector>,
}

impl Security {
    fn connector(&self) -> tls::Result<&Connector> {
        if let Some(connector) = self.connector.get() {
            return Ok(connector);
        }
        let connector = Connector::new(self.settings.clone())?;
        Ok(self.connector.get_or_init(|| connector))
    }
}

impl Dialler {
    /// Connects as the member of these settings. Files that they name are read.
    ///
    /// # Errors
    /// A file is missing or no good.
    pub(crate) fn new(settings: Settings) -> Result<Self> {
        let asked = !settings.is_empty() || settings.trusted_ca_file.is_some();
        let security = Security { settings, connector: OnceLock::new() };
        if asked {
            security.connector()?;
        }
        Ok(Self(Arc::new(security)))
    }

    async fn connect(self, url: String) -> io::Result<Box<dyn Io>> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        let url = Url::parse(&url).map_err(invalid)?;
        match url.scheme() {
            Scheme::Http | Scheme::Https => {
                let socket = TcpStream::connect((url.host(), url.port())).await?;
                socket.set_nodelay(true)?;
                self.secure(&url, socket).await
            }
            Scheme::Unix | Scheme::Unixs => match url.address().map_err(invalid)? {
                Address::Unix(path) => self.secure(&url, UnixStream::connect(path).await?).await,
                Address::Tcp(_) => Err(invalid(format!("{url} names no socket"))),
            },
        }
    }

    /// Does the handshake, if the URL asks for one.
    async fn secure(&self, url: &Url, stream: impl Io + 'static) -> io::Result<Box<dyn Io>> {
        if !url.scheme().is_tls() {
            return Ok(Box::new(stream));
        }
        let connector = self.0.connector().map_err(|error| io::Error::other(error.to_string()))?;
        // A socket has no name of its own; etcd takes this one, too.
        let host = if url.host().is_empty() { "localhost" } else { url.host() };
        Ok(Box::new(connector.connect(host, stream).await?))
    }
}

impl Dial for Dialler {
    fn dial(&self, url: String) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        self.clone().connect(url).boxed()
    }
}
