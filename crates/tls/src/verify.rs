//! Who is believed: a chain to somebody trusted, no revoked serial number, and an allowed name.
//!
//! Chains are rustls's business. Two things differ from it. A certificate that is itself in the trusted file needs no chain,
//! even if it says of itself that it is a CA, as those that `openssl req -x509` makes do; Go sees it so, and people rely on
//! it. And everything etcd checks once the chain is good is checked here.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as Rustls, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::certificate::{Names, Usage, check_trusted, is_valid_for};
use crate::error::{Error, Result};
use crate::load::{self, Revoked, trimmed};
use crate::settings::Settings;

/// Why a certificate with a good chain was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);

impl From<Refusal> for Rustls {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

/// The rules that follow on a good chain.
#[derive(Debug, Default)]
struct Rules {
    revoked: Revoked,
    cns: Vec<String>,
    hostnames: Vec<String>,
}

impl Rules {
    fn new(settings: &Settings) -> Result<Self> {
        let revoked = match &settings.crl_file {
            Some(path) => Revoked::read(path)?,
            None => Revoked::default(),
        };
        let (cns, hostnames) = (settings.allowed_cns.clone(), settings.allowed_hostnames.clone());
        Ok(Self { revoked, cns, hostnames })
    }

    fn check(&self, certificate: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Rustls> {
        let names = Names::of(certificate)?;
        self.check_serial(&names.serial)?;
        for other in others {
            self.check_serial(&Names::of(other)?.serial)?;
        }
        let allowed = if !self.cns.is_empty() {
            self.cns.contains(&names.common_name)
        } else if !self.hostnames.is_empty() {
            self.hostnames.iter().any(|host| is_valid_for(certificate, host))
        } else {
            true
        };
        match allowed {
            true => Ok(()),
            false => Err(Refusal("client certificate authentication failed".to_owned()).into()),
        }
    }

    fn check_serial(&self, serial: &[u8]) -> Result<(), Rustls> {
        if !self.revoked.contains(serial) {
            return Ok(());
        }
        let hex: String = trimmed(serial).iter().map(|byte| format!("{byte:02x}")).collect();
        Err(Refusal(format!("transport: certificate serial {hex} revoked")).into())
    }
}

/// Those who are trusted, as certificates and as rustls wants them.
struct Trusted {
    certificates: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
}

impl Trusted {
    fn read(file: Option<&Path>) -> Result<Self> {
        let (certificates, file) = match file {
            Some(file) => (load::certificates(file)?, Some(file)),
            None => (rustls_native_certs::load_native_certs().certs, None),
        };
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            // One odd certificate among the system's many is not our user's doing.
            if let (Err(error), Some(file)) = (roots.add(certificate.clone()), file) {
                return Err(Error::Content { path: file.to_owned(), what: error.to_string() });
            }
        }
        Ok(Self { certificates, roots: Arc::new(roots) })
    }
}

/// Decides on the certificates of clients.
#[derive(Debug)]
pub(crate) struct Clients {
    chains: Arc<dyn ClientCertVerifier>,
    trusted: Vec<CertificateDer<'static>>,
    rules: Rules,
}

impl Clients {
    pub(crate) fn new(settings: &Settings, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let trusted = Trusted::read(settings.trusted_ca_file.as_deref())?;
        let chains = WebPkiClientVerifier::builder_with_provider(trusted.roots, Arc::clone(provider))
            .build()
            .map_err(|error| Error::settings(format!("nobody is trusted: {error}")))?;
        Ok(Self { chains, trusted: trusted.certificates, rules: Rules::new(settings)? })
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Rustls> {
        if self.trusted.contains(certificate) {
            check_trusted(certificate, Usage::Client, now)?;
        } else {
            self.chains.verify_client_cert(certificate, others, now)?;
        }
        self.rules.check(certificate, others)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Rustls> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Rustls> {
        self.chains.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Decides on the certificates of servers.
#[derive(Debug)]
pub(crate) struct Servers {
    chains: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
    rules: Rules,
}

impl Servers {
    pub(crate) fn new(settings: &Settings, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let trusted = Trusted::read(settings.trusted_ca_file.as_deref())?;
        let chains = WebPkiServerVerifier::builder_with_provider(trusted.roots, Arc::clone(provider))
            .build()
            .map_err(|error| Error::settings(format!("nobody is trusted: {error}")))?;
        // Lists of revoked certificates are for those who come to us, as in etcd.
        let (cns, hostnames) = (settings.allowed_cns.clone(), settings.allowed_hostnames.clone());
        let rules = Rules { revoked: Revoked::default(), cns, hostnames };
        Ok(Self { chains, trusted: trusted.certificates, rules })
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Rustls> {
        if self.trusted.contains(certificate) {
            check_trusted(certificate, Usage::Server, now)?;
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        } else {
            self.chains.verify_server_cert(certificate, others, name, ocsp, now)?;
        }
        self.rules.check(certificate, others)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Rustls> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Rustls> {
        self.chains.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Believes every server. The other side still has to own the key it shows, where its kind of signature is one we can check:
/// etcd's self-made certificates have P-521 keys, which we cannot, and must not be shut out for it.
pub(crate) struct Anybody(pub(crate) Arc<CryptoProvider>);

impl fmt::Debug for Anybody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Anybody")
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Rustls> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Rustls> {
        match signed.scheme {
            SignatureScheme::ECDSA_NISTP521_SHA512 => Ok(HandshakeSignatureValid::assertion()),
            _ => verify_tls12_signature(
                message,
                certificate,
                signed,
                &self.0.signature_verification_algorithms,
            ),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Rustls> {
        match signed.scheme {
            SignatureScheme::ECDSA_NISTP521_SHA512 => Ok(HandshakeSignatureValid::assertion()),
            _ => verify_tls13_signature(
                message,
                certificate,
                signed,
                &self.0.signature_verification_algorithms,
            ),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.signature_verification_algorithms.supported_schemes();
        schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
        schemes
    }
}
