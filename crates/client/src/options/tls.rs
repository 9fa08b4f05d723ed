//! How to talk TLS to a cluster.

use std::path::PathBuf;

/// Whom to trust and who to be, for connections with TLS. The files are in PEM, and are read again when they change.
///
/// ```
/// use etcd_rs_client::{ConnectOptions, TlsOptions};
///
/// let tls = TlsOptions::new().ca_file("ca.crt").certificate_files("client.crt", "client.key");
/// let options = ConnectOptions::new(["10.0.0.1:2379"]).tls(tls);
/// ```
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    server_name: Option<String>,
    insecure_skip_verify: bool,
}

impl TlsOptions {
    /// Trusts whom the system trusts, and shows no certificate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trust servers whose certificate one of the authorities in this file vouches for, and no others.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Show this certificate to servers that ask for one. The key is PKCS#1, PKCS#8 or SEC1.
    #[must_use]
    pub fn certificate_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        (self.cert_file, self.key_file) = (Some(cert.into()), Some(key.into()));
        self
    }

    /// The server's certificate must be valid for this name, instead of the endpoint's host.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Do not verify the server's certificate: whoever sits in between can read and change everything.
    #[must_use]
    pub fn insecure_skip_verify(mut self, skip: bool) -> Self {
        self.insecure_skip_verify = skip;
        self
    }

    pub(crate) fn into_settings(self) -> tls::Settings {
        tls::Settings {
            trusted_ca_file: self.ca_file,
            cert_file: self.cert_file,
            key_file: self.key_file,
            server_name: self.server_name,
            insecure_skip_verify: self.insecure_skip_verify,
            ..tls::Settings::default()
        }
    }
}
