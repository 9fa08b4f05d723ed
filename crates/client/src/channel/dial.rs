//! What a connection is made of: TCP or a Unix socket, with or without TLS.
//!
//! Plain connections are tonic's own. For TLS, tonic gets a service that dials and does the handshake.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tls::Connector;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{ConnectOptions, Error, Result};

/// How an endpoint is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// `http://`: without TLS.
    Plain,
    /// `https://` and `unixs:`: with TLS.
    Secure,
    /// No scheme, or `unix:`: as the options, or the first endpoint, have it.
    Either,
}

#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Tcp(&'a str),
    Unix(&'a str),
}

/// An endpoint, read.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    scheme: Scheme,
    place: Place<'a>,
}

impl<'a> Target<'a> {
    fn parse(endpoint: &'a str) -> Result<Self> {
        let unix = |rest: &'a str| Place::Unix(rest.strip_prefix("//").unwrap_or(rest));
        if let Some(rest) = endpoint.strip_prefix("unix:") {
            return Ok(Self { scheme: Scheme::Either, place: unix(rest) });
        }
        if let Some(rest) = endpoint.strip_prefix("unixs:") {
            return Ok(Self { scheme: Scheme::Secure, place: unix(rest) });
        }
        let (scheme, address) = match endpoint.split_once("://") {
            None => (Scheme::Either, endpoint),
            Some(("http", address)) => (Scheme::Plain, address),
            Some(("https", address)) => (Scheme::Secure, address),
            Some((other, _)) => {
                return Err(Error::BadEndpoint {
                    endpoint: endpoint.to_owned(),
                    reason: format!("scheme {other:?} is not http, https, unix or unixs"),
                });
            }
        };
        Ok(Self { scheme, place: Place::Tcp(address.trim_end_matches('/')) })
    }

    /// The name the server's certificate must be valid for, unless the options name one.
    fn host(&self) -> String {
        let authority = match self.place {
            Place::Tcp(address) => address,
            Place::Unix(path) => path.rsplit('/').next().unwrap_or(path),
        };
        match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host.to_owned(),
            _ => authority.to_owned(),
        }
    }
}

/// Makes channels to endpoints, all by the same options.
#[derive(Debug)]
pub(crate) struct Dialer {
    /// What makes connections safe, for the endpoints that want it.
    connector: Option<Arc<Connector>>,
    /// Whether endpoints that do not say go with TLS.
    secure: bool,
}

impl Dialer {
    /// The first endpoint's scheme decides for those that have none; without one there, whether options for TLS were given.
    pub(crate) fn new(options: &ConnectOptions) -> Result<Self> {
        let first = match options.endpoints.first() {
            Some(endpoint) => Target::parse(endpoint)?.scheme,
            None => Scheme::Either,
        };
        let secure = match first {
            Scheme::Plain => false,
            Scheme::Secure => true,
            Scheme::Either => options.tls.is_some(),
        };
        let mut named = options.endpoints.iter().map(|endpoint| Target::parse(endpoint));
        let wanted = options.tls.is_some()
            || named.any(|target| target.is_ok_and(|target| target.scheme == Scheme::Secure));
        let connector = match wanted {
            true => {
                let settings = options.tls.clone().unwrap_or_default().into_settings();
                let connector = Connector::new(settings).map_err(|error| Error::Tls(error.to_string()))?;
                Some(Arc::new(connector))
            }
            false => None,
        };
        Ok(Self { connector, secure })
    }

    /// A channel that connects when it is used.
    pub(crate) fn open(&self, endpoint: &str, options: &ConnectOptions) -> Result<Channel> {
        let target = Target::parse(endpoint)?;
        let connector = match target.scheme {
            Scheme::Plain => None,
            Scheme::Secure => self.connector.clone(),
            Scheme::Either if self.secure => self.connector.clone(),
            Scheme::Either => None,
        };
        let uri = match (&target.place, &connector) {
            (Place::Tcp(address), Some(_)) => format!("https://{address}"),
            (Place::Tcp(address), None) => format!("http://{address}"),
            (Place::Unix(_), Some(_)) => "https://localhost".to_owned(),
            (Place::Unix(_), None) => endpoint.to_owned(),
        };
        let transport = transport(&uri, options)
            .map_err(|reason| Error::BadEndpoint { endpoint: endpoint.to_owned(), reason })?;
        let Some(connector) = connector else { return Ok(transport.connect_lazy()) };
        let host = target.host();
        Ok(match target.place {
            Place::Tcp(address) => {
                let address = address.to_owned();
                let dial = move |_| {
                    let (connector, host, address) = (connector.clone(), host.clone(), address.clone());
                    async move {
                        let stream = TcpStream::connect(with_port(&address)).await?;
                        stream.set_nodelay(true)?;
                        secured(&connector, &host, stream).await
                    }
                };
                transport.connect_with_connector_lazy(service_fn(dial))
            }
            Place::Unix(path) => {
                let path = path.to_owned();
                let dial = move |_| {
                    let (connector, host, path) = (connector.clone(), host.clone(), path.clone());
                    async move { secured(&connector, &host, UnixStream::connect(path).await?).await }
                };
                transport.connect_with_connector_lazy(service_fn(dial))
            }
        })
    }
}

/// An address without a port gets that of HTTPS, as URLs have it.
fn with_port(address: &str) -> String {
    let after_host = address.rsplit(']').next().unwrap_or(address);
    if after_host.contains(':') { address.to_owned() } else { format!("{address}:443") }
}

async fn secured<S>(connector: &Connector, host: &str, stream: S) -> io::Result<TokioIo<tls::ClientStream<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    connector.connect(host, stream).await.map(TokioIo::new)
}

fn transport(uri: &str, options: &ConnectOptions) -> std::result::Result<Endpoint, String> {
    let mut transport = Endpoint::from_shared(uri.to_owned())
        .map_err(|error| error.to_string())?
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20);
    if let Some(time) = options.keepalive_time {
        transport = transport.http2_keep_alive_interval(time);
    }
    Ok(transport)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TlsOptions;

    #[test]
    fn endpoints_take_the_forms_etcd_takes() {
        let target = |scheme, place| Target { scheme, place };
        for (endpoint, expected) in [
            ("127.0.0.1:2379", target(Scheme::Either, Place::Tcp("127.0.0.1:2379"))),
            ("http://a:1", target(Scheme::Plain, Place::Tcp("a:1"))),
            ("https://a:1/", target(Scheme::Secure, Place::Tcp("a:1"))),
            ("unix:sock", target(Scheme::Either, Place::Unix("sock"))),
            ("unix://localhost:1", target(Scheme::Either, Place::Unix("localhost:1"))),
            ("unixs:///run/sock", target(Scheme::Secure, Place::Unix("/run/sock"))),
        ] {
            assert_eq!(Target::parse(endpoint).unwrap(), expected, "{endpoint}");
        }
        assert!(Target::parse("ftp://a:1").is_err());
    }

    #[test]
    fn a_certificate_must_be_for_the_host_that_is_dialled() {
        let host = |endpoint| Target::parse(endpoint).unwrap().host();
        assert_eq!(host("https://a.example:2379"), "a.example");
        assert_eq!(host("https://[::1]:2379"), "[::1]");
        assert_eq!(host("unixs:///run/localhost:1"), "localhost");
        assert_eq!(with_port("[::1]"), "[::1]:443");
        assert_eq!(with_port("a:1"), "a:1");
    }

    #[test]
    fn the_first_endpoint_and_the_options_decide_for_those_that_do_not_say() {
        let secure = |endpoints: &[&str], tls: Option<TlsOptions>| {
            let mut options = ConnectOptions::new(endpoints.iter().copied());
            if let Some(tls) = tls {
                options = options.tls(tls);
            }
            Dialer::new(&options).unwrap().secure
        };
        let some = || Some(TlsOptions::new().insecure_skip_verify(true));
        assert!(!secure(&["a:1", "b:1"], None));
        assert!(secure(&["a:1"], some()));
        assert!(!secure(&["http://a:1", "b:1"], some()));
        assert!(secure(&["unix:sock"], some()));
    }
}
