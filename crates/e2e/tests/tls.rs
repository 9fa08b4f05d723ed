//! Members and clients that speak TLS, with certificates as `contrib/make-certs` makes them.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use client::{Client, ConnectOptions, TlsOptions};
use e2e::{PATIENCE, Target, eventually, free_port};
use tempfile::TempDir;

use etcd_rs_e2e as e2e;

/// An authority and what it vouches for, in a folder.
struct Certificates(TempDir);

impl Certificates {
    fn make() -> Self {
        let certificates = Self(TempDir::with_prefix("etcd-e2e-").unwrap());
        certificates.renew();
        certificates
    }

    /// Makes the certificate anew, and the authority if there is none.
    fn renew(&self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/make-certs");
        let output = Command::new(script).arg(self.0.path()).output().unwrap();
        assert!(output.status.success(), "make-certs: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes a client's certificate with this common name, and returns the flags of who shows it.
    fn named(&self, name: &str) -> Vec<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/make-certs");
        let mut command = Command::new(script);
        let output = command.env("CN", name).env("OUT", name).arg(self.0.path()).output().unwrap();
        assert!(output.status.success(), "make-certs: {}", String::from_utf8_lossy(&output.stderr));
        let key = [
            format!("--cert={}", self.path(&format!("{name}.crt"))),
            format!("--key={}", self.path(&format!("{name}.key"))),
        ];
        self.trusting().into_iter().chain(key).collect()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Takes over what another authority made, as an administrator does: file by file.
    fn replace_by(&self, other: &Self) {
        for name in ["ca.crt", "etcd.key", "etcd.crt"] {
            let next = self.path("next");
            fs::copy(other.path(name), &next).unwrap();
            fs::rename(next, self.path(name)).unwrap();
        }
    }

    /// The flags of a server that asks its clients for certificates.
    fn client_side(&self) -> Vec<String> {
        vec![
            format!("--cert-file={}", self.path("etcd.crt")),
            format!("--key-file={}", self.path("etcd.key")),
            format!("--trusted-ca-file={}", self.path("ca.crt")),
            "--client-cert-auth".to_owned(),
        ]
    }

    fn peer_side(&self) -> Vec<String> {
        vec![
            format!("--peer-cert-file={}", self.path("etcd.crt")),
            format!("--peer-key-file={}", self.path("etcd.key")),
            format!("--peer-trusted-ca-file={}", self.path("ca.crt")),
            "--peer-client-cert-auth".to_owned(),
        ]
    }

    /// The flags of a client that trusts the authority.
    fn trusting(&self) -> Vec<String> {
        vec![format!("--cacert={}", self.path("ca.crt"))]
    }

    /// The flags of a client with a certificate.
    fn known(&self) -> Vec<String> {
        let own = [format!("--cert={}", self.path("etcd.crt")), format!("--key={}", self.path("etcd.key"))];
        self.trusting().into_iter().chain(own).collect()
    }

    fn options(&self) -> TlsOptions {
        TlsOptions::new()
            .ca_file(self.path("ca.crt"))
            .certificate_files(self.path("etcd.crt"), self.path("etcd.key"))
    }
}

/// A server process with TLS on its client side.
struct Server {
    directory: TempDir,
    process: Child,
    port: u16,
}

impl Server {
    /// Starts a member of its own cluster, and waits until it serves.
    async fn start(target: Target, flags: &[String]) -> Self {
        let peer = format!("http://127.0.0.1:{}", free_port());
        let mut server = Self::begin(target, "alone", &peer, &format!("alone={peer}"), flags);
        server.serves().await;
        server
    }

    fn begin(target: Target, name: &str, peer: &str, cluster: &str, flags: &[String]) -> Self {
        let directory = TempDir::with_prefix("etcd-e2e-").unwrap();
        let port = free_port();
        let client = format!("https://127.0.0.1:{port}");
        let program = match target {
            Target::Real => e2e::real_etcd().join("etcd"),
            Target::InProcess | Target::Binary => e2e::programs().server.clone(),
        };
        let log = File::create(directory.path().join("log")).unwrap();
        let process = Command::new(program)
            .env_remove("ETCD_REAL")
            .env_remove("ETCD_RS_BIN")
            .env_remove("ETCD_RS_SEED")
            .arg(format!("--name={name}"))
            .arg(format!("--data-dir={}", directory.path().join("data").display()))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .arg(format!("--initial-cluster={cluster}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { directory, process, port }
    }

    async fn serves(&mut self) {
        self.is_ready().await;
        // The real etcd says so a moment before.
        eventually("an open port", async || TcpStream::connect(("127.0.0.1", self.port)).ok()).await;
    }

    /// Waits until it says that it serves, wherever that is.
    async fn is_ready(&mut self) {
        eventually("a member that serves", async || {
            let log = self.log();
            assert!(self.process.try_wait().unwrap().is_none(), "the member ended:\n{log}");
            log.contains("ready to serve client requests").then_some(())
        })
        .await;
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The lines of the log with this in them.
    fn lines(&self, text: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Runs a command-line client against it.
    fn ask(&self, program: &Path, flags: &[String], line: &str) -> Output {
        self.ask_at(program, &self.endpoint(), flags, line)
    }

    fn ask_at(&self, program: &Path, endpoint: &str, flags: &[String], line: &str) -> Output {
        Command::new(program)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", endpoint])
            .args(flags)
            .args(line.split_whitespace())
            .output()
            .unwrap()
    }

    fn says(&self, program: &Path, flags: &[String], line: &str) -> String {
        let output = self.ask(program, flags, line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A command must fail, within a second.
    fn fails(&self, program: &Path, flags: &[String], line: &str) {
        let output = self.ask(program, flags, &format!("--command-timeout=1s {line}"));
        assert!(!output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn ours() -> PathBuf {
    e2e::programs().ctl.clone()
}

fn theirs() -> PathBuf {
    e2e::real_etcd().join("etcdctl")
}

#[tokio::test]
async fn both_command_lines_work_with_both_servers() {
    let certificates = Certificates::make();
    for target in [Target::Binary, Target::Real] {
        let server = Server::start(target, &certificates.client_side()).await;
        for program in [ours(), theirs()] {
            let flags = certificates.known();
            assert_eq!(server.says(&program, &flags, "put greeting hello"), "OK\n");
            assert_eq!(server.says(&program, &flags, "get greeting"), "greeting\nhello\n");
            let status = server.says(&program, &flags, "endpoint status --cluster");
            assert!(status.starts_with(&format!("https://{}, ", server.endpoint())), "{status}");
            let url = format!("https://{}", server.endpoint());
            let output = server.ask_at(&program, &url, &flags, "get greeting");
            assert_eq!(String::from_utf8_lossy(&output.stdout), "greeting\nhello\n");
        }
    }
}

/// The name in a certificate is a user's, without any password, and a token counts more.
#[tokio::test]
async fn a_certificate_says_who_its_owner_is() {
    let certificates = Certificates::make();
    let (ann, root, stranger) =
        (certificates.named("ann"), certificates.named("root"), certificates.named("eve"));
    for target in [Target::Binary, Target::Real] {
        let server = Server::start(target, &certificates.client_side()).await;
        for line in [
            "role add writer",
            "role grant-permission writer readwrite a b",
            "user add ann:unused",
            "user grant-role ann writer",
            "user add root:secret",
            "role add root",
            "user grant-role root root",
            "auth enable",
        ] {
            server.says(&ours(), &ann, line);
        }
        for program in [ours(), theirs()] {
            assert_eq!(server.says(&program, &ann, "put a 1"), "OK\n");
            assert_eq!(server.says(&program, &ann, "get a"), "a\n1\n");
            server.fails(&program, &ann, "put z 1");
            server.fails(&program, &ann, "user list");
            server.fails(&program, &stranger, "get a");
            assert_eq!(server.says(&program, &root, "user list"), "ann\nroot\n");
            assert_eq!(server.says(&program, &ann, "--user=root:secret put z 1"), "OK\n");
        }
    }
}

#[tokio::test]
async fn who_shows_no_certificate_or_a_strangers_is_refused() {
    let (certificates, strangers) = (Certificates::make(), Certificates::make());
    let server = Server::start(Target::Binary, &certificates.client_side()).await;
    let mut foreign = certificates.trusting();
    foreign.extend(strangers.known().into_iter().skip(1));
    for program in [ours(), theirs()] {
        server.fails(&program, &certificates.trusting(), "get greeting");
        server.fails(&program, &foreign, "get greeting");
        // And who trusts somebody else refuses the server.
        server.fails(&program, &strangers.known(), "get greeting");
    }
    let log = server.log();
    for reason in ["tls: client didn't provide a certificate", "tls: failed to verify certificate: x509:"] {
        assert!(log.contains(reason), "{reason}\n{log}");
    }
    assert_eq!(server.says(&ours(), &certificates.known(), "put still here"), "OK\n");
}

#[tokio::test]
async fn replaced_certificates_are_used_from_the_next_connection_on() {
    let (certificates, next) = (Certificates::make(), Certificates::make());
    let old_ca = TempDir::with_prefix("etcd-e2e-").unwrap();
    let old_ca = old_ca.path().join("ca.crt");
    fs::copy(certificates.path("ca.crt"), &old_ca).unwrap();
    let server = Server::start(Target::Binary, &certificates.client_side()).await;
    let options = ConnectOptions::new([server.endpoint()]).tls(certificates.options());
    let connected = Client::connect(options).await.unwrap();
    connected.put("before", "yes").await.unwrap();

    certificates.replace_by(&next);
    // A connection that is there stays.
    connected.put("after", "yes").await.unwrap();
    assert_eq!(server.says(&theirs(), &certificates.known(), "get after"), "after\nyes\n");
    let mut outdated = certificates.known();
    outdated[0] = format!("--cacert={}", old_ca.display());
    server.fails(&theirs(), &outdated, "get after");
    assert_eq!(server.lines("read changed TLS files").len(), 1, "{}", server.log());

    // A renewal by the same authority goes unnoticed by everybody else.
    next.renew();
    certificates.replace_by(&next);
    assert_eq!(server.says(&ours(), &certificates.known(), "get after"), "after\nyes\n");
}

#[tokio::test]
async fn plain_text_on_a_port_with_tls_is_closed_said_once_and_forgotten() {
    let certificates = Certificates::make();
    let server = Server::start(Target::Binary, &certificates.client_side()).await;
    let rejected = "rejected connection on client endpoint";
    let before = server.open_files();
    for count in 1..=20 {
        let mut socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        // It may also be reset, because not all was read that was sent.
        drop(socket.read_to_end(&mut rest));
        let lines = eventually("a line in the log", async || {
            Some(server.lines(rejected)).filter(|lines| lines.len() >= count)
        });
        let lines = lines.await;
        assert_eq!(lines.len(), count);
        let expected = "\"error\":\"tls: first record does not look like a TLS handshake\"";
        assert!(lines[count - 1].contains(expected), "{}", lines[count - 1]);
    }
    let closed = async || (server.open_files() <= before).then_some(());
    eventually("as few open files as before", closed).await;
}

#[tokio::test]
async fn self_made_certificates_serve_clients_that_do_not_verify() {
    for target in [Target::Binary, Target::Real] {
        let server = Server::start(target, &["--auto-tls".to_owned()]).await;
        let careless = ["--insecure-skip-tls-verify".to_owned(), "--insecure-transport=false".to_owned()];
        for program in [ours(), theirs()] {
            assert_eq!(server.says(&program, &careless, "put greeting hello"), "OK\n");
            server.fails(&program, &["--insecure-transport=false".to_owned()], "get greeting");
        }
    }
}

#[tokio::test]
async fn a_unix_socket_can_have_tls_and_its_last_word_is_the_host() {
    let certificates = Certificates::make();
    let directory = TempDir::with_prefix("etcd-e2e-").unwrap();
    let url = |name: &str| format!("unixs://{}", directory.path().join(name).display());
    let mut flags = certificates.client_side();
    flags.push(format!("--listen-client-urls={},{}", url("localhost"), url("stranger")));
    let peer = format!("http://127.0.0.1:{}", free_port());
    let mut server = Server::begin(Target::Binary, "a", &peer, &format!("a={peer}"), &flags);
    server.is_ready().await;
    let put = server.ask_at(&ours(), &url("localhost"), &certificates.known(), "put greeting hello");
    assert_eq!(String::from_utf8_lossy(&put.stdout), "OK\n", "{put:?}");
    let line = "--command-timeout=1s get greeting";
    assert!(!server.ask_at(&ours(), &url("localhost"), &certificates.trusting(), line).status.success());
    assert!(!server.ask_at(&ours(), &url("stranger"), &certificates.known(), line).status.success());
}

/// The real etcd compared with offers this, too, but takes calls without TLS for bad handshakes then.
#[tokio::test]
async fn one_port_can_serve_with_and_without_tls() {
    let certificates = Certificates::make();
    let port = free_port();
    let mut flags = certificates.client_side();
    flags.push(format!("--listen-client-urls=http://127.0.0.1:{port},https://127.0.0.1:{port}"));
    let peer = format!("http://127.0.0.1:{}", free_port());
    let mut server = Server::begin(Target::Binary, "a", &peer, &format!("a={peer}"), &flags);
    server.port = port;
    server.serves().await;
    assert_eq!(server.says(&theirs(), &certificates.known(), "put greeting hello"), "OK\n");
    for program in [ours(), theirs()] {
        assert_eq!(server.says(&program, &[], "get greeting"), "greeting\nhello\n");
        server.fails(&program, &certificates.trusting(), "get greeting");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_stop_the_start_in_etcds_words() {
    let certificates = Certificates::make();
    let refusal = async |flags: &[String]| {
        let peer = format!("http://127.0.0.1:{}", free_port());
        let mut server = Server::begin(Target::Binary, "a", &peer, &format!("a={peer}"), flags);
        let ended = async || server.process.try_wait().unwrap();
        assert!(!eventually("the end of the server", ended).await.success());
        server.log()
    };
    let with = |flag: String| certificates.client_side().into_iter().chain([flag]).collect::<Vec<_>>();
    let log = refusal(&[]).await;
    assert!(log.contains("TLS key/cert (--cert-file, --key-file) must be provided for client url https://"));
    let log = refusal(&with("--cipher-suites=FOO".to_owned())).await;
    assert!(log.contains("unexpected TLS cipher suite"), "{log}");
    let log = refusal(&with("--key-file=/none".to_owned())).await;
    assert!(log.contains("open /none: no such file or directory"), "{log}");
    let log = refusal(&with("--tls-min-version=TLS1.1".to_owned())).await;
    assert!(log.contains("(must be one of: TLS1.2, TLS1.3)"), "{log}");
}

/// Starts three members that reach each other with TLS, and waits until all serve.
async fn three(flags: &[String]) -> [Server; 3] {
    let peers = ["a", "b", "c"].map(|name| (name, format!("https://127.0.0.1:{}", free_port())));
    let cluster = peers.each_ref().map(|(name, url)| format!("{name}={url}")).join(",");
    let mut servers = peers.map(|(name, url)| Server::begin(Target::Binary, name, &url, &cluster, flags));
    for server in &mut servers {
        server.serves().await;
    }
    servers
}

#[tokio::test]
async fn three_members_that_verify_each_other_are_a_cluster() {
    let certificates = Certificates::make();
    let mut flags: Vec<String> =
        certificates.client_side().into_iter().chain(certificates.peer_side()).collect();
    flags.push("--peer-cert-allowed-cn=etcd".to_owned());
    let [a, b, c] = three(&flags).await;
    assert_eq!(a.says(&theirs(), &certificates.known(), "put greeting hello"), "OK\n");
    for server in [&b, &c] {
        assert_eq!(server.says(&ours(), &certificates.known(), "get greeting"), "greeting\nhello\n");
    }
    let members = a.says(&theirs(), &certificates.known(), "member list");
    assert_eq!(members.lines().filter(|line| line.contains("started")).count(), 3, "{members}");
    let health = b.says(&theirs(), &certificates.known(), "endpoint health --cluster");
    assert!(!health.contains("unhealthy"), "{health}");
}

#[tokio::test]
async fn three_members_with_certificates_of_their_own_making_are_a_cluster() {
    let [a, _b, c] = three(&["--auto-tls".to_owned(), "--peer-auto-tls".to_owned()]).await;
    let careless = ["--insecure-skip-tls-verify".to_owned(), "--insecure-transport=false".to_owned()];
    assert_eq!(a.says(&ours(), &careless, "put greeting hello"), "OK\n");
    assert_eq!(c.says(&theirs(), &careless, "get greeting"), "greeting\nhello\n");
}
