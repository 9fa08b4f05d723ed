//! Certificates that a member makes for itself, for `--auto-tls` and `--peer-auto-tls`.
//!
//! They keep eavesdroppers out and prove nothing, so nobody verifies them. The key is ECDSA P-256, where etcd takes P-521:
//! rustls's ring cannot sign with the latter, and every client knows the former.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::error::{Error, Result};
use crate::settings::Settings;

const DAYS_PER_YEAR: u64 = 365;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings with the certificate in `dir/cert.pem` and its key in `dir/key.pem`. If both are there they are taken, as old as
/// they may be; otherwise they are made, for these hosts and this many years.
///
/// # Errors
/// The validity is zero, or the files cannot be written.
pub fn self_signed(dir: &Path, hosts: &[String], years: u32) -> Result<Settings> {
    if years == 0 {
        return Err(Error::settings("selfSignedCertValidity is invalid,it should be greater than 0"));
    }
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    if !(cert.exists() && key.exists()) {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        fs::create_dir_all(dir).map_err(failed(dir))?;
        let (cert_pem, key_pem) =
            make(hosts, years).map_err(|error| Error::settings(format!("making a certificate: {error}")))?;
        write(&cert, &cert_pem, 0o644).map_err(failed(&cert))?;
        write(&key, &key_pem, 0o600).map_err(failed(&key))?;
        tracing::info!(cert = %cert.display(), key = %key.display(), "created cert and key files");
    }
    Ok(Settings { cert_file: Some(cert), key_file: Some(key), self_signed: true, ..Settings::default() })
}

fn make(hosts: &[String], years: u32) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    let now = SystemTime::now();
    let days = DAYS_PER_YEAR.saturating_mul(u64::from(years));
    let validity = Duration::from_secs(days.saturating_mul(DAY.as_secs()));
    params.not_before = now.into();
    params.not_after = now.checked_add(validity).unwrap_or(now + 100 * 365 * DAY).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_pair_is_made_once_and_taken_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("fixtures/client");
        let settings = self_signed(&dir, &["127.0.0.1".to_owned(), "localhost".to_owned()], 1).unwrap();
        let mode = |path: &Option<std::path::PathBuf>| {
            fs::metadata(path.as_ref().unwrap()).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode(&settings.cert_file), mode(&settings.key_file)), (0o644, 0o600));
        let first = fs::read(dir.join("cert.pem")).unwrap();
        self_signed(&dir, &["10.0.0.1".to_owned()], 1).unwrap();
        assert_eq!(fs::read(dir.join("cert.pem")).unwrap(), first);
    }

    #[test]
    fn no_validity_at_all_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refused = self_signed(dir.path(), &[], 0).unwrap_err().to_string();
        assert_eq!(refused, "selfSignedCertValidity is invalid,it should be greater than 0");
    }
}
