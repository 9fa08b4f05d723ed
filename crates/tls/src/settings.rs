//! What a user may ask of TLS, for one side of a member or for a client.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::suites;

/// How long a handshake may take, as in etcd.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// A version of TLS that may be a bound. Older ones are not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2, the default lower bound.
    Tls12,
    /// TLS 1.3, the default upper bound.
    Tls13,
}

impl Version {
    /// Reads a version as flags spell it: `TLS1.2` or `TLS1.3`.
    ///
    /// # Errors
    /// Any other text, in etcd's words.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "TLS1.2" => Ok(Self::Tls12),
            "TLS1.3" => Ok(Self::Tls13),
            _ => Err(Error::settings(format!(
                "unexpected TLS version {text:?} (must be one of: TLS1.2, TLS1.3)"
            ))),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLS1.2",
            Self::Tls13 => "TLS1.3",
        })
    }
}

/// Everything about TLS that etcd's flags can say: `--cert-file` and its kin for clients, `--peer-cert-file` and its kin for
/// members, `--cert` and its kin of etcdctl. An [`Acceptor`](crate::Acceptor) and a [`Connector`](crate::Connector) are made of
/// the same settings, since a member is both to its peers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The certificate, followed by its intermediates, in PEM.
    pub cert_file: Option<PathBuf>,
    /// Its private key, in PEM: PKCS#1, PKCS#8 or SEC1.
    pub key_file: Option<PathBuf>,
    /// The certificate to show as the client of a connection, if it is not `cert_file`.
    pub client_cert_file: Option<PathBuf>,
    /// Its private key.
    pub client_key_file: Option<PathBuf>,
    /// Whom to trust, in PEM. Without it, whom the system trusts.
    pub trusted_ca_file: Option<PathBuf>,
    /// Serial numbers of certificates that are no good any more, in DER or PEM.
    pub crl_file: Option<PathBuf>,
    /// Clients must show a certificate. A trusted CA file asks for that too.
    pub client_cert_auth: bool,
    /// If any are given, the other side's certificate must have one of these common names.
    pub allowed_cns: Vec<String>,
    /// If any are given, the other side's certificate must be valid for one of these hosts. Not together with `allowed_cns`.
    pub allowed_hostnames: Vec<String>,
    /// Lowest version spoken.
    pub min_version: Version,
    /// Highest version spoken.
    pub max_version: Version,
    /// Go's names of the cipher suites to offer with TLS 1.2; all good ones if empty.
    pub cipher_suites: Vec<String>,
    /// As a client: the name the server's certificate must be valid for, instead of the host that is dialled.
    pub server_name: Option<String>,
    /// As a client: do not verify the server's certificate at all.
    pub insecure_skip_verify: bool,
    /// The certificate was made by [`self_signed`](crate::self_signed): others have no way to verify it, so nobody does.
    pub self_signed: bool,
    /// How long a handshake may take, 10 s unless told.
    pub handshake_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            client_cert_file: None,
            client_key_file: None,
            trusted_ca_file: None,
            crl_file: None,
            client_cert_auth: false,
            allowed_cns: Vec::new(),
            allowed_hostnames: Vec::new(),
            min_version: Version::Tls12,
            max_version: Version::Tls13,
            cipher_suites: Vec::new(),
            server_name: None,
            insecure_skip_verify: false,
            self_signed: false,
            handshake_limit: HANDSHAKE_LIMIT,
        }
    }
}

/// A certificate file and its key's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) cert: &'a Path,
    pub(crate) key: &'a Path,
}

impl Settings {
    /// Neither certificate nor key is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_none() && self.key_file.is_none()
    }

    /// Whether clients must show a certificate.
    #[must_use]
    pub fn verifies_clients(&self) -> bool {
        self.client_cert_auth || self.trusted_ca_file.is_some()
    }

    /// Refuses settings that contradict each other, without looking into files.
    ///
    /// # Errors
    /// The first contradiction, in etcd's words.
    pub fn check(&self) -> Result<()> {
        if self.min_version > self.max_version {
            return Err(Error::settings(format!(
                "min version ({}) is greater than max version ({})",
                self.min_version, self.max_version
            )));
        }
        if self.min_version == Version::Tls13 && !self.cipher_suites.is_empty() {
            return Err(Error::settings("cipher suites cannot be configured when only TLS1.3 is enabled"));
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err(self.incomplete_pair());
        }
        if self.client_cert_file.is_some() != self.client_key_file.is_some() {
            return Err(Error::settings(format!(
                "ClientKeyFile and ClientCertFile must both be present or both absent: key: {}, cert: {}]",
                shown(self.client_key_file.as_ref()),
                shown(self.client_cert_file.as_ref())
            )));
        }
        if !self.allowed_cns.is_empty() && !self.allowed_hostnames.is_empty() {
            return Err(Error::settings(format!(
                "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[{}], hostnames=[{}])",
                quoted(&self.allowed_cns),
                quoted(&self.allowed_hostnames)
            )));
        }
        suites::check(&self.cipher_suites)
    }

    /// The certificate shown as a server.
    pub(crate) fn server_pair(&self) -> Result<Pair<'_>> {
        match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => Ok(Pair { cert, key }),
            _ => Err(self.incomplete_pair()),
        }
    }

    /// The certificate shown as a client, if there is one.
    pub(crate) fn client_pair(&self) -> Option<Pair<'_>> {
        match (&self.client_cert_file, &self.client_key_file) {
            (Some(cert), Some(key)) => Some(Pair { cert, key }),
            _ => self.server_pair().ok(),
        }
    }

    fn incomplete_pair(&self) -> Error {
        Error::settings(format!(
            "KeyFile and CertFile must both be present[key: {}, cert: {}]",
            shown(self.key_file.as_ref()),
            shown(self.cert_file.as_ref())
        ))
    }
}

/// As etcd's log shows it in the field `tls-info`.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cert = {}, key = {}, client-cert={}, client-key={}, trusted-ca = {}, client-cert-auth = {}, crl-file = {}",
            shown(self.cert_file.as_ref()),
            shown(self.key_file.as_ref()),
            shown(self.client_cert_file.as_ref()),
            shown(self.client_key_file.as_ref()),
            shown(self.trusted_ca_file.as_ref()),
            self.client_cert_auth,
            shown(self.crl_file.as_ref())
        )
    }
}

fn shown(path: Option<&PathBuf>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(edit: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::default();
        edit(&mut settings);
        settings.check().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn contradictions_are_refused_in_etcds_words() {
        assert_eq!(refusal(|_| {}), "");
        assert_eq!(
            refusal(|s| s.cert_file = Some("c.pem".into())),
            "KeyFile and CertFile must both be present[key: , cert: c.pem]"
        );
        assert_eq!(
            refusal(|s| s.client_key_file = Some("k.pem".into())),
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: k.pem, cert: ]"
        );
        assert_eq!(
            refusal(|s| (s.min_version, s.max_version) = (Version::Tls13, Version::Tls12)),
            "min version (TLS1.3) is greater than max version (TLS1.2)"
        );
        assert_eq!(
            refusal(|s| {
                s.min_version = Version::Tls13;
                s.cipher_suites = vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()];
            }),
            "cipher suites cannot be configured when only TLS1.3 is enabled"
        );
        assert_eq!(
            refusal(|s| {
                s.allowed_cns = vec!["a".to_owned(), "b".to_owned()];
                s.allowed_hostnames = vec!["c".to_owned()];
            }),
            "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[\"a\" \"b\"], hostnames=[\"c\"])"
        );
        assert_eq!(
            refusal(|s| s.cipher_suites = vec!["FOO".to_owned()]),
            "unexpected TLS cipher suite \"FOO\""
        );
    }

    #[test]
    fn versions_are_read_as_flags_spell_them() {
        assert_eq!(Version::parse("TLS1.2").unwrap(), Version::Tls12);
        assert_eq!(
            Version::parse("TLS1.1").unwrap_err().to_string(),
            "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)"
        );
    }
}
