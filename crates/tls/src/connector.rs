//! The client's side of a handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::sign::SingleCertAndKey;

use crate::acceptor::versions;
use crate::error::{Error, Result};
use crate::load;
use crate::reload::Fresh;
use crate::settings::Settings;
use crate::suites;
use crate::verify::{Anybody, Servers};
use crate::words;

/// An encrypted connection to a server.
pub type ClientStream<S> = TlsStream<S>;

/// Makes encrypted connections of dialled ones. They are for HTTP/2.
#[derive(Debug)]
pub struct Connector {
    config: Fresh<Arc<ClientConfig>>,
    server_name: Option<String>,
    limit: Duration,
}

impl Connector {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// The settings contradict each other, or a file is missing or does not hold what it should.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        let (server_name, limit) = (settings.server_name.clone(), settings.handshake_limit);
        let mut files = Vec::new();
        if let Some(pair) = settings.client_pair() {
            files.extend([pair.cert.to_owned(), pair.key.to_owned()]);
        }
        files.extend(settings.trusted_ca_file.clone());
        let config = Fresh::new(files, move || config(&settings).map(Arc::new))?;
        Ok(Self { config, server_name, limit })
    }

    /// Does the handshake with a server that was dialled as `host`, with the files as they are now.
    ///
    /// # Errors
    /// The server is not to be believed, does not believe us, or does not speak TLS; the text is Go's where Go has one.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<ClientStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = self.server_name.as_deref().unwrap_or(host);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("tls: bad server name {host:?}: {error}"))
        })?;
        let connector = TlsConnector::from(Arc::clone(&*self.config.current()));
        match tokio::time::timeout(self.limit, connector.connect(name, stream)).await {
            Ok(connected) => connected.map_err(|error| io::Error::new(error.kind(), words::of(&error))),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "tls: the handshake took too long")),
        }
    }
}

fn config(settings: &Settings) -> Result<ClientConfig> {
    let provider = suites::provider(&settings.cipher_suites)?;
    let verifier: Arc<dyn ServerCertVerifier> = if settings.insecure_skip_verify || settings.self_signed {
        Arc::new(Anybody(Arc::clone(&provider)))
    } else {
        Arc::new(Servers::new(settings, &provider)?)
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(settings))
        .map_err(|error| Error::settings(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match settings.client_pair() {
        Some(pair) => {
            let key = load::certified_key(pair, &provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
