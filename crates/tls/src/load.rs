//! Files with certificates, keys and revoked serial numbers. The one place that reads PEM.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error as Rustls, InconsistentKeys};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use crate::error::{Error, Result};
use crate::settings::Pair;

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn content(path: &Path, what: impl ToString) -> Error {
    Error::Content { path: path.to_owned(), what: what.to_string() }
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path)?;
    let certificates = rustls_pemfile::certs(&mut bytes.as_slice())
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(|error| content(path, error))?;
    match certificates.is_empty() {
        true => Err(content(path, "tls: failed to find any PEM data in certificate input")),
        false => Ok(certificates),
    }
}

/// The first private key of a PEM file: PKCS#1, PKCS#8 or SEC1.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let bytes = read(path)?;
    let key = rustls_pemfile::private_key(&mut bytes.as_slice()).map_err(|error| content(path, error))?;
    key.ok_or_else(|| {
        let what = match bytes.windows(10).any(|window| window == b" ENCRYPTED") {
            true => "tls: encrypted private keys are not supported",
            false => "tls: failed to find any PEM data in key input",
        };
        content(path, what)
    })
}

/// A certificate chain and the key that belongs to it.
pub(crate) fn certified_key(pair: Pair<'_>, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>> {
    let (certificates, key) = (certificates(pair.cert)?, private_key(pair.key)?);
    match CertifiedKey::from_der(certificates, key, provider) {
        Ok(key) => Ok(Arc::new(key)),
        Err(Rustls::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(content(pair.key, "tls: private key does not match public key"))
        }
        Err(Rustls::General(_)) => Err(content(
            pair.key,
            "tls: the private key is none of RSA (2048 bits or more), ECDSA (P-256 or P-384) and Ed25519",
        )),
        Err(error) => Err(content(pair.cert, error)),
    }
}

/// Serial numbers of certificates that were revoked, without leading zeros.
#[derive(Debug, Default)]
pub(crate) struct Revoked(HashSet<Vec<u8>>);

impl Revoked {
    /// Reads one list in DER, or any number of them in PEM. Signatures of lists are not verified, as by etcd: who can write
    /// this file could as well change the certificates.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = read(path)?;
        let lists = match bytes.windows(10).any(|window| window == b"-----BEGIN") {
            true => rustls_pemfile::crls(&mut bytes.as_slice())
                .map(|list| list.map(|list| list.to_vec()))
                .collect::<std::io::Result<Vec<_>>>()
                .map_err(|error| content(path, error))?,
            false => vec![bytes],
        };
        if lists.is_empty() {
            return Err(content(path, "no revocation list in it"));
        }
        let mut serials = HashSet::new();
        for list in &lists {
            let (_, list) = CertificateRevocationList::from_der(list)
                .map_err(|error| content(path, format!("not a revocation list: {error}")))?;
            serials.extend(list.iter_revoked_certificates().map(|revoked| trimmed(revoked.raw_serial())));
        }
        Ok(Self(serials))
    }

    pub(crate) fn contains(&self, serial: &[u8]) -> bool {
        self.0.contains(&trimmed(serial))
    }
}

/// A serial number as a number: DER may put a zero before it.
pub(crate) fn trimmed(serial: &[u8]) -> Vec<u8> {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    serial[zeros..].to_vec()
}
