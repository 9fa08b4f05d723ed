//! The server's side of a handshake.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion, version};
use tokio_rustls::server::TlsStream;

use crate::certificate::Names;
use crate::error::{Error, Result};
use crate::load;
use crate::origin::{self, System};
use crate::reload::Fresh;
use crate::settings::{Settings, Version};
use crate::suites;
use crate::verify::Clients;
use crate::words;

/// An encrypted connection that a server accepted.
pub type ServerStream<S> = TlsStream<S>;

/// Whom a listener is for. It decides what a rejected connection is called in the log, and peers must also come from an address
/// their certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Clients.
    Client,
    /// Other members.
    Peer {
        /// Take certificates from every address.
        skip_san_verification: bool,
    },
}

/// Makes encrypted connections of accepted ones.
#[derive(Debug)]
pub struct Acceptor {
    config: Fresh<Arc<ServerConfig>>,
    side: Side,
    limit: Duration,
    /// Whether every connection must show a certificate (`--client-cert-auth`).
    verifies: bool,
}

impl Acceptor {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// The settings contradict each other, or a file is missing or does not hold what it should.
    pub fn new(settings: Settings, side: Side) -> Result<Self> {
        settings.check()?;
        suites::warn_of_left_out(&settings.cipher_suites);
        let (limit, verifies) = (settings.handshake_limit, settings.client_cert_auth);
        let config = Fresh::new(files(&settings)?, move || config(&settings).map(Arc::new))?;
        Ok(Self { config, side, limit, verifies })
    }

    /// Does the handshake on a connection from `remote` (none for a Unix socket), with the files as they are now. A connection
    /// that does not come about is logged here, and there is nothing left to do about it.
    pub async fn accept<S>(&self, stream: S, remote: Option<SocketAddr>) -> Option<ServerStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.handshake(stream, remote).await {
            Ok(stream) => Some(stream),
            Err(rejected) => {
                rejected.log(self.side, remote);
                None
            }
        }
    }

    /// The common name of the verified certificate that the other side showed; `None` where certificates are not asked for, and for
    /// one without a name.
    #[must_use]
    pub fn common_name<S>(&self, stream: &ServerStream<S>) -> Option<String> {
        if !self.verifies {
            return None;
        }
        let certificate = stream.get_ref().1.peer_certificates()?.first()?;
        Names::of(certificate).ok().map(|names| names.common_name).filter(|name| !name.is_empty())
    }

    pub(crate) async fn handshake<S>(
        &self,
        stream: S,
        remote: Option<SocketAddr>,
    ) -> Result<ServerStream<S>, Rejected>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let whole = async {
            let acceptor = TlsAcceptor::from(Arc::clone(&*self.config.current()));
            let stream = acceptor.accept(stream).await.map_err(|error| Rejected::new(words::of(&error)))?;
            self.check_origin(&stream, remote).await?;
            Ok(stream)
        };
        tokio::time::timeout(self.limit, whole)
            .await
            .unwrap_or_else(|_| Err(Rejected::new("tls: the handshake took too long".to_owned())))
    }

    async fn check_origin<S>(
        &self,
        stream: &ServerStream<S>,
        remote: Option<SocketAddr>,
    ) -> Result<(), Rejected> {
        let (Side::Peer { skip_san_verification: false }, Some(remote)) = (self.side, remote) else {
            return Ok(());
        };
        let session = stream.get_ref().1;
        let Some(certificate) = session.peer_certificates().and_then(<[_]>::first) else { return Ok(()) };
        let names = Names::of(certificate).map_err(|error| Rejected::new(error.to_string()))?;
        match origin::check(&names, remote.ip(), &System).await {
            Ok(()) => Ok(()),
            Err(error) => Err(Rejected {
                error,
                server_name: session.server_name().unwrap_or_default().to_owned(),
                names: Box::new(names),
            }),
        }
    }
}

/// Why a connection was not accepted, and what was known of the other side.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) error: String,
    server_name: String,
    names: Box<Names>,
}

impl Rejected {
    fn new(error: String) -> Self {
        Self { error, server_name: String::new(), names: Box::default() }
    }

    fn log(&self, side: Side, remote: Option<SocketAddr>) {
        let remote_addr = remote.map_or_else(|| "@".to_owned(), |remote| remote.to_string());
        let endpoint = match side {
            Side::Client => "client",
            Side::Peer { .. } => "peer",
        };
        if self.error == "EOF" {
            // Somebody who only looked whether the port is open.
            tracing::debug!(remote_addr, error = self.error, "rejected connection on {endpoint} endpoint");
            return;
        }
        let ips: Vec<String> = self.names.ips.iter().map(ToString::to_string).collect();
        tracing::warn!(
            remote_addr,
            server_name = self.server_name,
            ip_addresses = ips.join(","),
            dns_names = self.names.dns.join(","),
            error = self.error,
            "rejected connection on {endpoint} endpoint"
        );
    }
}

/// Every file that a server's configuration is made of.
fn files(settings: &Settings) -> Result<Vec<PathBuf>> {
    let pair = settings.server_pair()?;
    let mut files = vec![pair.cert.to_owned(), pair.key.to_owned()];
    files.extend(settings.trusted_ca_file.clone());
    files.extend(settings.crl_file.clone());
    Ok(files)
}

/// The versions within the bounds.
pub(crate) fn versions(settings: &Settings) -> Vec<&'static SupportedProtocolVersion> {
    let mut versions = Vec::new();
    if settings.max_version >= Version::Tls13 {
        versions.push(&version::TLS13);
    }
    if settings.min_version <= Version::Tls12 {
        versions.push(&version::TLS12);
    }
    versions
}

fn config(settings: &Settings) -> Result<ServerConfig> {
    let provider = suites::provider(&settings.cipher_suites)?;
    let key = load::certified_key(settings.server_pair()?, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(settings))
        .map_err(|error| Error::settings(error.to_string()))?;
    let builder = if settings.verifies_clients() {
        builder.with_client_cert_verifier(Arc::new(Clients::new(settings, &provider)?))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session would not be verified again, whatever has been revoked since; Go's clients never ask for one.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
