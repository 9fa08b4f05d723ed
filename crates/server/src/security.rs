//! TLS of a member: what the configuration says of it becomes acceptors for its listeners and a dialler to its peers.
//!
//! URLs decide what is encrypted, certificates only make it possible; where the two do not fit, it is said or refused in
//! etcd's words.

use std::path::Path;
use std::sync::Arc;

use tls::{Acceptor, Settings, Side, self_signed};

use crate::config::Config;
use crate::dial::Dialler;
use crate::error::{Error, Result};
use crate::url::Url;

/// What makes connections safe, or `None` where they are not to be.
#[derive(Debug)]
pub(crate) struct Security {
    pub(crate) client: Option<Arc<Acceptor>>,
    pub(crate) peer: Option<Arc<Acceptor>>,
    pub(crate) dial: Arc<Dialler>,
}

impl Security {
    /// Reads every certificate and key, and makes those that are to be made.
    ///
    /// # Errors
    /// A file is missing or no good, or a URL asks for TLS without a certificate.
    pub(crate) fn prepare(config: &Config) -> Result<Self> {
        let years = config.self_signed_cert_validity;
        let (client, peer) = (&config.client_tls, &config.peer_tls);
        let peer_urls = parsed(&config.listen_peer_urls)?;
        let peer_settings = match peer.auto {
            true => automatic("peer", &peer.settings, &peer_urls, &config.data_dir, years)?,
            false => peer.settings.clone(),
        };
        let client_urls = parsed(&config.listen_client_urls)?;
        let client_settings = match client.auto {
            true => automatic("client", &client.settings, &client_urls, &config.data_dir, years)?,
            false => client.settings.clone(),
        };
        check_peer_urls(&peer_urls, &peer_settings)?;
        check_client_urls(&client_urls, &client_settings)?;
        let mut dialled = peer_settings.clone();
        if !config.discovery.srv.is_empty() && dialled.trusted_ca_file.is_none() {
            // Members that were found in a domain show certificates of the domain.
            dialled.server_name = Some(config.discovery.srv.clone());
        }
        Ok(Self {
            peer: acceptor("starting with peer TLS", &peer_settings, peer.side())?,
            client: acceptor("starting with client TLS", &client_settings, Side::Client)?,
            dial: Arc::new(Dialler::new(dialled)?),
        })
    }
}

fn parsed(urls: &[String]) -> Result<Vec<Url>> {
    Url::parse_list(urls.iter().map(String::as_str)).map_err(Error::Config)
}

/// Settings with a certificate of the member's own making, for the hosts it listens on; or the given ones, if they have one.
fn automatic(side: &str, given: &Settings, urls: &[Url], data_dir: &Path, years: u32) -> Result<Settings> {
    if !given.is_empty() {
        tracing::warn!("ignoring {side} auto TLS since certs given");
        return Ok(given.clone());
    }
    tracing::warn!("automatically generate certificates");
    let mut hosts: Vec<String> = urls.iter().map(|url| url.host().to_owned()).collect();
    hosts.retain(|host| !host.is_empty());
    hosts.sort();
    hosts.dedup();
    let made = self_signed(&data_dir.join("fixtures").join(side), &hosts, years)
        .map_err(|error| Error::config(format!("failed to get {side} self-signed certs: {error}")))?;
    Ok(Settings {
        cert_file: made.cert_file,
        key_file: made.key_file,
        self_signed: made.self_signed,
        ..given.clone()
    })
}

fn acceptor(starting: &str, settings: &Settings, side: Side) -> Result<Option<Arc<Acceptor>>> {
    if settings.is_empty() {
        return Ok(None);
    }
    let cipher_suites = settings.cipher_suites.join(",");
    tracing::info!(tls_info = settings.to_string(), cipher_suites, "{starting}");
    Ok(Some(Arc::new(Acceptor::new(settings.clone(), side)?)))
}

fn check_peer_urls(urls: &[Url], settings: &Settings) -> Result<()> {
    for url in urls {
        let peer_url = url.as_str();
        if url.scheme().is_tls() {
            if settings.is_empty() {
                let address = format!("{}:{}", url.host(), url.port());
                return Err(Error::config(format!(
                    "cannot listen on TLS for {address}: KeyFile and CertFile are not presented"
                )));
            }
            continue;
        }
        if !settings.is_empty() {
            tracing::warn!(
                peer_url,
                "scheme is HTTP while key and cert files are present; ignoring key and cert files"
            );
        }
        if settings.client_cert_auth {
            tracing::warn!(
                peer_url,
                "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL"
            );
        }
    }
    Ok(())
}

fn check_client_urls(urls: &[Url], settings: &Settings) -> Result<()> {
    for url in urls {
        let client_url = url.as_str();
        if url.scheme().is_tls() {
            if settings.is_empty() {
                return Err(Error::config(format!(
                    "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"
                )));
            }
            continue;
        }
        if !settings.is_empty() {
            tracing::warn!(
                client_url,
                "scheme is http or unix while key and cert files are present; ignoring key and cert files"
            );
        }
        if settings.client_cert_auth {
            tracing::warn!(
                client_url,
                "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(edit: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        edit(&mut config);
        Security::prepare(&config).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_url_with_tls_needs_a_certificate() {
        assert_eq!(refusal(|_| {}), "");
        assert_eq!(
            refusal(|c| c.listen_client_urls = vec!["https://127.0.0.1:1".to_owned()]),
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with \
             HTTPS scheme"
        );
        assert_eq!(
            refusal(|c| c.listen_peer_urls = vec!["https://127.0.0.1:1".to_owned()]),
            "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented"
        );
    }

    #[test]
    fn auto_tls_makes_certificates_under_the_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let config = |years| {
            let mut config = Config {
                data_dir: dir.path().to_owned(),
                listen_client_urls: vec!["https://127.0.0.1:0".to_owned()],
                listen_peer_urls: vec!["https://127.0.0.1:0".to_owned()],
                self_signed_cert_validity: years,
                ..Config::default()
            };
            (config.client_tls.auto, config.peer_tls.auto) = (true, true);
            config
        };
        assert_eq!(
            Security::prepare(&config(0)).unwrap_err().to_string(),
            "failed to get peer self-signed certs: selfSignedCertValidity is invalid,it should be greater than 0"
        );
        let security = Security::prepare(&config(1)).unwrap();
        assert!(security.client.is_some() && security.peer.is_some());
        for file in ["fixtures/client/cert.pem", "fixtures/peer/key.pem"] {
            assert!(dir.path().join(file).exists(), "{file}");
        }
    }
}
