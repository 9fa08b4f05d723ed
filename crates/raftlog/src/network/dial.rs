//! How a connection to another member is made, and how an application answers what other members ask of it.

use std::fmt;
use std::io;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection, whatever it is made of.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Makes connections to other members.
///
/// The log speaks HTTP/2 over what it gets; encryption, if there is any, happens below.
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Connects to a member's URL. It may take as long as it likes: whoever asks gives up in time.
    fn dial(&self, url: String) -> BoxFuture<'static, io::Result<Box<dyn Io>>>;
}

/// Plain TCP, for URLs of the form `http://host:port`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, url: String) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        async move {
            let address = url.strip_prefix("http://").ok_or_else(|| {
                let text = format!("{url} is no http:// URL, and plain TCP is all that is known here");
                io::Error::new(io::ErrorKind::Unsupported, text)
            })?;
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok(Box::new(socket) as Box<dyn Io>)
        }
        .boxed()
    }
}

/// The application's side of calls among members.
pub trait Answer: Send + Sync + 'static {
    /// Answers what member `from` asks by [`Node::call`](crate::Node::call). An error travels as its text.
    fn answer(&self, from: u64, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;

    /// Whether a member was removed from the cluster. Whatever it asks is refused, and the refusal tells it, so that it stops.
    fn is_removed(&self, member: u64) -> bool {
        let _ = member;
        false
    }

    /// A few bytes about this member's state, for the leader. They go with every answer to its heartbeats, so this must be quick.
    fn beacon(&self) -> Bytes {
        Bytes::new()
    }

    /// Member `from` has answered a heartbeat of this one, with its [`beacon`](Self::beacon).
    fn heard(&self, from: u64, beacon: Bytes) {
        let _ = (from, beacon);
    }

    /// What another member should know of this one's state before it puts the state in the place of its own. It is asked for when the
    /// state has been [written](crate::Application::snapshot) to be sent.
    fn offer(&self) -> Bytes {
        Bytes::new()
    }

    /// Judges the state of member `from` by its [`offer`](Self::offer), before any of it is sent.
    ///
    /// # Errors
    ///
    /// Refuses it, and says why. It will be offered again.
    fn offered(&self, from: u64, offer: Bytes) -> Result<(), String> {
        let _ = (from, offer);
        Ok(())
    }
}

/// An application that answers nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mute;

impl Answer for Mute {
    fn answer(&self, _from: u64, _request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        async { Err("this application answers no calls".to_owned()) }.boxed()
    }
}
