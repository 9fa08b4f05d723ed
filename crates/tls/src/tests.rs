//! Both sides of a handshake against each other, over a pipe, with certificates made here.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use crate::{Acceptor, Connector, Settings, Side, Version, self_signed};

const RSA_PKCS1: &str = include_str!("tests/rsa.pkcs1.pem");
const RSA_PKCS8: &str = include_str!("tests/rsa.pkcs8.pem");
const EC_SEC1: &str = include_str!("tests/ec.sec1.pem");
const EC_PKCS8: &str = include_str!("tests/ec.pkcs8.pem");

/// A certificate authority, and a folder for what it makes.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of a certificate.
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { dir: tempfile::tempdir().unwrap(), issuer };
        fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ca(&self) -> Option<PathBuf> {
        Some(self.path("ca.pem"))
    }

    /// Makes a certificate `name` with this common name and these alternative names.
    fn issue(&self, name: &str, common_name: &str, hosts: &[&str]) -> Files {
        let key = KeyPair::generate().unwrap();
        self.issue_for(name, common_name, hosts, &key, &key.serialize_pem())
    }

    fn issue_for(
        &self,
        name: &str,
        common_name: &str,
        hosts: &[&str],
        key: &KeyPair,
        key_pem: &str,
    ) -> Files {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from(vec![0x80, name.len().try_into().unwrap()]));
        let pem = params.signed_by(key, &self.issuer).unwrap().pem();
        let files = Files { cert: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) };
        write(&files.cert, pem.as_bytes());
        write(&files.key, key_pem.as_bytes());
        files
    }

    fn revoke(&self, serial: &[u8]) -> rcgen::CertificateRevocationList {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial.to_vec()),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2124, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }

    /// A server for 127.0.0.1 that asks nobody who they are.
    fn server(&self) -> Settings {
        self.issue("server", "server", &["127.0.0.1", "localhost"]).settings()
    }

    /// A client that trusts this authority, without a certificate.
    fn client(&self) -> Settings {
        Settings { trusted_ca_file: self.ca(), ..Settings::default() }
    }
}

impl Files {
    fn settings(&self) -> Settings {
        Settings {
            cert_file: Some(self.cert.clone()),
            key_file: Some(self.key.clone()),
            ..Settings::default()
        }
    }
}

/// Puts a file in the place of another, as those who renew certificates do.
fn write(path: &Path, bytes: &[u8]) {
    let next = path.with_extension("next");
    fs::write(&next, bytes).unwrap();
    fs::rename(next, path).unwrap();
}

/// What the two sides say of a handshake. In TLS 1.3 a client learns that it was refused when it reads.
async fn shake(
    acceptor: &Acceptor,
    connector: &Connector,
    host: &str,
) -> (Result<(), String>, io::Result<()>) {
    let (ours, theirs) = duplex(64 * 1024);
    let remote: SocketAddr = "127.0.0.1:50000".parse().unwrap();
    let server = async {
        let mut stream = acceptor.handshake(theirs, Some(remote)).await.map_err(|rejected| rejected.error)?;
        // A client that was refused, or refuses us, is gone.
        if stream.read_u8().await.is_ok() {
            stream.write_u8(7).await.unwrap();
            stream.flush().await.unwrap();
        }
        Ok(())
    };
    let client = async {
        let mut stream = connector.connect(host, ours).await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        stream.read_u8().await.map(drop)
    };
    tokio::join!(server, client)
}

/// [`shake`] with 127.0.0.1, made for the occasion.
async fn meet(server: Settings, client: Settings) -> (Result<(), String>, Result<(), String>) {
    let acceptor = Acceptor::new(server, Side::Client).unwrap();
    let connector = Connector::new(client).unwrap();
    let (server, client) = shake(&acceptor, &connector, "127.0.0.1").await;
    (server, client.map_err(|error| error.to_string()))
}

fn refused(text: &str) -> Result<(), String> {
    Err(text.to_owned())
}

#[tokio::test]
async fn keys_of_all_kinds_and_forms_are_taken() {
    let authority = Authority::new();
    for (pem, pkcs8) in
        [(RSA_PKCS1, RSA_PKCS8), (RSA_PKCS8, RSA_PKCS8), (EC_SEC1, EC_PKCS8), (EC_PKCS8, EC_PKCS8)]
    {
        let key = KeyPair::from_pem(pkcs8).unwrap();
        let files = authority.issue_for("any", "any", &["127.0.0.1"], &key, pem);
        let form = pem.lines().next().unwrap();
        assert_eq!(meet(files.settings(), authority.client()).await, (Ok(()), Ok(())), "{form}");
    }
}

#[tokio::test]
async fn both_versions_work_and_bounds_keep_one_out() {
    let authority = Authority::new();
    for version in [Version::Tls12, Version::Tls13] {
        let server = Settings { min_version: version, max_version: version, ..authority.server() };
        assert_eq!(meet(server.clone(), authority.client()).await, (Ok(()), Ok(())), "{version}");
        let other = if version == Version::Tls12 { Version::Tls13 } else { Version::Tls12 };
        let client = Settings { min_version: other, max_version: other, ..authority.client() };
        let (server, client) = meet(server, client).await;
        assert!(server.is_err(), "{version}");
        assert_eq!(client, refused("remote error: tls: protocol version not supported"), "{version}");
    }
}

#[tokio::test]
async fn a_named_cipher_suite_is_the_one_used() {
    let authority = Authority::new();
    let server = Settings {
        max_version: Version::Tls12,
        cipher_suites: vec!["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".to_owned()],
        ..authority.server()
    };
    let acceptor = Acceptor::new(server, Side::Client).unwrap();
    let connector = Connector::new(authority.client()).unwrap();
    let (ours, theirs) = duplex(64 * 1024);
    let (server, client) =
        tokio::join!(acceptor.handshake(theirs, None), connector.connect("127.0.0.1", ours));
    let client = client.unwrap();
    let suite = client.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(format!("{suite:?}"), "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
    assert_eq!(server.unwrap().get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
}

#[tokio::test]
async fn a_server_of_another_authority_or_for_another_host_is_not_believed() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (server, client) = meet(ours.server(), other.client()).await;
    assert!(client.unwrap_err().starts_with("tls: failed to verify certificate: x509:"));
    assert!(server.unwrap_err().starts_with("remote error: tls: "));

    let acceptor = Acceptor::new(ours.server(), Side::Client).unwrap();
    let connector = Connector::new(ours.client()).unwrap();
    assert!(shake(&acceptor, &connector, "localhost").await.1.is_ok());
    assert!(shake(&acceptor, &connector, "127.0.0.2").await.1.is_err());
    let named = Settings { server_name: Some("localhost".to_owned()), ..ours.client() };
    let connector = Connector::new(named).unwrap();
    assert!(shake(&acceptor, &connector, "127.0.0.2").await.1.is_ok());
    let careless = Settings { insecure_skip_verify: true, ..other.client() };
    assert_eq!(meet(ours.server(), careless).await, (Ok(()), Ok(())));
}

#[tokio::test]
async fn a_client_must_show_a_certificate_of_the_trusted_authority() {
    let (ours, other) = (Authority::new(), Authority::new());
    let server = || Settings { trusted_ca_file: ours.ca(), ..ours.server() };
    let with = |files: Files| Settings { trusted_ca_file: ours.ca(), ..files.settings() };

    let good = with(ours.issue("client", "root", &[]));
    assert_eq!(meet(server(), good).await, (Ok(()), Ok(())));

    let (said, client) = meet(server(), ours.client()).await;
    assert_eq!(said, refused("tls: client didn't provide a certificate"));
    assert_eq!(client, refused("received fatal alert: CertificateRequired"));

    let foreign = with(other.issue("client", "root", &[]));
    let (said, _) = meet(server(), foreign).await;
    assert!(said.unwrap_err().starts_with("tls: failed to verify certificate: x509:"));
}

#[tokio::test]
async fn a_certificate_that_is_itself_trusted_needs_no_authority() {
    let dir = tempfile::tempdir().unwrap();
    let own = self_signed(dir.path(), &["127.0.0.1".to_owned()], 1).unwrap();
    let client = Settings { trusted_ca_file: own.cert_file.clone(), ..Settings::default() };
    assert_eq!(meet(own.clone(), client.clone()).await, (Ok(()), Ok(())));
    let acceptor = Acceptor::new(own.clone(), Side::Client).unwrap();
    let connector = Connector::new(client).unwrap();
    assert!(shake(&acceptor, &connector, "127.0.0.2").await.1.is_err());

    // It was made for servers.
    let server = Settings { trusted_ca_file: own.cert_file.clone(), ..own.clone() };
    let (said, _) = meet(server, own).await;
    assert_eq!(
        said,
        refused("tls: failed to verify certificate: x509: certificate specifies an incompatible key usage")
    );
}

#[tokio::test]
async fn members_with_self_made_certificates_take_each_other() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [a, b] = dirs.each_ref().map(|dir| self_signed(dir.path(), &["10.0.0.1".to_owned()], 1).unwrap());
    assert_eq!(meet(a, b).await, (Ok(()), Ok(())));
}

#[tokio::test]
async fn common_names_and_host_names_decide_who_may_connect() {
    let ours = Authority::new();
    let server = Settings { trusted_ca_file: ours.ca(), ..ours.server() };
    let client = |name: &str, cn: &str, hosts: &[&str]| Settings {
        trusted_ca_file: ours.ca(),
        ..ours.issue(name, cn, hosts).settings()
    };
    let failed = refused("client certificate authentication failed");

    let cns = Settings { allowed_cns: vec!["root".to_owned(), "backup".to_owned()], ..server.clone() };
    assert_eq!(meet(cns.clone(), client("c", "backup", &[])).await.0, Ok(()));
    assert_eq!(meet(cns, client("c", "guest", &["root"])).await.0, failed);

    let hosts =
        Settings { allowed_hostnames: vec!["a.svc.example".to_owned(), "10.0.0.1".to_owned()], ..server };
    assert_eq!(meet(hosts.clone(), client("c", "x", &["*.svc.example"])).await.0, Ok(()));
    assert_eq!(meet(hosts.clone(), client("c", "x", &["10.0.0.1"])).await.0, Ok(()));
    assert_eq!(meet(hosts, client("c", "a.svc.example", &["b.other"])).await.0, failed);
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_from_the_next_handshake_on() {
    let ours = Authority::new();
    let list = ours.path("crl");
    write(&list, ours.revoke(&[9]).der());
    let server = Settings { trusted_ca_file: ours.ca(), crl_file: Some(list.clone()), ..ours.server() };
    let files = ours.issue("client", "root", &[]);
    let acceptor = Acceptor::new(server, Side::Client).unwrap();
    let connector = Connector::new(Settings { trusted_ca_file: ours.ca(), ..files.settings() }).unwrap();
    assert_eq!(shake(&acceptor, &connector, "127.0.0.1").await.0, Ok(()));
    let revoked = ours.revoke(&[0x80, 6]);
    for bytes in [revoked.der().to_vec(), revoked.pem().unwrap().into_bytes()] {
        write(&list, ours.revoke(&[9]).der());
        assert_eq!(shake(&acceptor, &connector, "127.0.0.1").await.0, Ok(()));
        write(&list, &bytes);
        let (said, _) = shake(&acceptor, &connector, "127.0.0.1").await;
        assert_eq!(said, refused("transport: certificate serial 8006 revoked"));
    }
    // A list that cannot be read does not let anybody in again.
    write(&list, b"nonsense");
    assert!(shake(&acceptor, &connector, "127.0.0.1").await.0.is_err());
}

#[tokio::test]
async fn replaced_files_count_from_the_next_handshake_on_and_broken_ones_never() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = old.issue("server", "server", &["127.0.0.1"]);
    let acceptor = Acceptor::new(files.settings(), Side::Client).unwrap();
    let trusted = old.path("trusted.pem");
    write(&trusted, old.issuer.pem().as_bytes());
    let connector =
        Connector::new(Settings { trusted_ca_file: Some(trusted.clone()), ..Settings::default() }).unwrap();
    assert!(shake(&acceptor, &connector, "127.0.0.1").await.1.is_ok());

    // Halfway through, certificate and key do not belong together.
    let next = new.issue("server", "server", &["127.0.0.1"]);
    write(&files.cert, &fs::read(&next.cert).unwrap());
    assert!(shake(&acceptor, &connector, "127.0.0.1").await.1.is_ok());
    write(&files.key, &fs::read(&next.key).unwrap());
    assert!(shake(&acceptor, &connector, "127.0.0.1").await.1.is_err());
    write(&trusted, new.issuer.pem().as_bytes());
    assert!(shake(&acceptor, &connector, "127.0.0.1").await.1.is_ok());
}

#[tokio::test]
async fn peers_come_from_where_their_certificates_say() {
    let ours = Authority::new();
    let server = Settings { trusted_ca_file: ours.ca(), ..ours.server() };
    let peer = |hosts: &[&str]| {
        let files = ours.issue("peer", "peer", hosts);
        Connector::new(Settings { trusted_ca_file: ours.ca(), ..files.settings() }).unwrap()
    };
    let checking = Side::Peer { skip_san_verification: false };
    let acceptor = Acceptor::new(server.clone(), checking).unwrap();
    assert_eq!(shake(&acceptor, &peer(&["127.0.0.1"]), "127.0.0.1").await.0, Ok(()));
    assert_eq!(shake(&acceptor, &peer(&[]), "127.0.0.1").await.0, Ok(()));
    assert_eq!(
        shake(&acceptor, &peer(&["10.0.0.1"]), "127.0.0.1").await.0,
        refused("x509: certificate is valid for 10.0.0.1, not 127.0.0.1")
    );
    let acceptor = Acceptor::new(server, Side::Peer { skip_san_verification: true }).unwrap();
    assert_eq!(shake(&acceptor, &peer(&["10.0.0.1"]), "127.0.0.1").await.0, Ok(()));
}

#[tokio::test]
async fn plain_text_is_turned_away_at_once() {
    let ours = Authority::new();
    let acceptor = Acceptor::new(ours.server(), Side::Client).unwrap();
    for text in [b"GET /health HTTP/1.1\r\n\r\n".as_slice(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let (mut client, server) = duplex(1024);
        client.write_all(text).await.unwrap();
        let rejected = acceptor.handshake(server, None).await.unwrap_err();
        assert_eq!(rejected.error, "tls: first record does not look like a TLS handshake");
        // The other end is gone.
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
    }
    let (client, server) = duplex(1024);
    drop(client);
    assert_eq!(acceptor.handshake(server, None).await.unwrap_err().error, "EOF");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_go_on_ends_after_its_limit() {
    let ours = Authority::new();
    let acceptor = Acceptor::new(ours.server(), Side::Client).unwrap();
    let (mut client, server) = duplex(1024);
    let started = tokio::time::Instant::now();
    assert!(acceptor.accept(server, None).await.is_none());
    assert_eq!(started.elapsed().as_secs(), 10);
    assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 0);

    let limit = Duration::from_secs(3);
    let connector = Connector::new(Settings { handshake_limit: limit, ..ours.client() }).unwrap();
    let (client, _server) = duplex(1024);
    let error = connector.connect("localhost", client).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(started.elapsed().as_secs(), 13);
}

#[test]
fn files_that_are_missing_or_hold_something_else_are_named() {
    let ours = Authority::new();
    let refusal = |settings: Settings| Acceptor::new(settings, Side::Client).unwrap_err().to_string();
    let missing = ours.path("missing");
    let gone = Settings { cert_file: Some(missing.clone()), ..ours.server() };
    assert_eq!(refusal(gone), format!("open {}: no such file or directory", missing.display()));
    assert_eq!(refusal(Settings::default()), "KeyFile and CertFile must both be present[key: , cert: ]");
    let odd = Settings { key_file: Some(ours.issue("other", "x", &[]).key), ..ours.server() };
    assert!(refusal(odd).ends_with("other.key: tls: private key does not match public key"));
    let empty = Settings { key_file: ours.ca(), ..ours.server() };
    assert!(refusal(empty).ends_with("ca.pem: tls: failed to find any PEM data in key input"));
}
