//! What the rules ask of a certificate beyond its chain: names, addresses, serial number.

use std::net::IpAddr;

use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, Error as Rustls};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// For what a certificate is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Client,
    Server,
}

/// What was read out of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) common_name: String,
    pub(crate) dns: Vec<String>,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) serial: Vec<u8>,
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Rustls> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|_| Rustls::InvalidCertificate(CertificateError::BadEncoding))?;
    Ok(certificate)
}

impl Names {
    pub(crate) fn of(der: &CertificateDer<'_>) -> Result<Self, Rustls> {
        let certificate = parse(der)?;
        let mut names = Self { serial: certificate.raw_serial().to_vec(), ..Self::default() };
        // The last one counts, as in Go.
        if let Some(name) = certificate.subject().iter_common_name().last() {
            names.common_name = name.as_str().unwrap_or_default().to_owned();
        }
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.ips.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(names)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Whether a certificate is valid for a host, by its alternative names alone.
pub(crate) fn is_valid_for(der: &CertificateDer<'_>, host: &str) -> bool {
    let (Ok(certificate), Ok(name)) = (ParsedCertificate::try_from(der), ServerName::try_from(host)) else {
        return false;
    };
    verify_server_name(&certificate, &name).is_ok()
}

/// Whether a certificate that is trusted as it is, without a chain, may be used so and now.
pub(crate) fn check_trusted(der: &CertificateDer<'_>, usage: Usage, now: UnixTime) -> Result<(), Rustls> {
    let certificate = parse(der)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        return Err(Rustls::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > validity.not_after.timestamp() {
        return Err(Rustls::InvalidCertificate(CertificateError::Expired));
    }
    let fits = match certificate.extended_key_usage() {
        Ok(None) => true,
        Ok(Some(extension)) => {
            let purposes = extension.value;
            let named = match usage {
                Usage::Client => purposes.client_auth,
                Usage::Server => purposes.server_auth,
            };
            named || purposes.any
        }
        Err(_) => return Err(Rustls::InvalidCertificate(CertificateError::BadEncoding)),
    };
    match fits {
        true => Ok(()),
        false => Err(Rustls::InvalidCertificate(CertificateError::InvalidPurpose)),
    }
}
