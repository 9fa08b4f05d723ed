//! Connections to other members.

use std::io;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use raftlog::{Dial, Io};
use tokio::net::{TcpStream, UnixStream};

use crate::url::{Address, Scheme, Url};

/// Connects to URLs in plain text: over TCP, and over Unix sockets of this host.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Plain;

impl Dial for Plain {
    fn dial(&self, url: String) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        connect(url).boxed()
    }
}

async fn connect(url: String) -> io::Result<Box<dyn Io>> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let url = Url::parse(&url).map_err(invalid)?;
    match url.scheme() {
        Scheme::Http => {
            let socket = TcpStream::connect((url.host(), url.port())).await?;
            socket.set_nodelay(true)?;
            Ok(Box::new(socket))
        }
        Scheme::Unix => match url.address().map_err(invalid)? {
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp(_) => Err(invalid(format!("{url} names no socket"))),
        },
        Scheme::Https | Scheme::Unixs => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{url}: TLS is not spoken by this version"),
        )),
    }
}
