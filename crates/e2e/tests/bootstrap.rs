//! How a member comes to be one of a cluster: flags, files, ids, refusals, and the peer port that tells of them.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use api::etcdserverpb as pb;
use api::etcdserverpb::{cluster_client::ClusterClient, kv_client::KvClient};
use e2e::{Target, eventually, free_port, run_alone};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};

use etcd_rs_e2e as e2e;

/// A server as a process, with its data and its log in a directory that outlives it.
struct Server {
    target: Target,
    directory: TempDir,
    name: String,
    client_url: String,
    peer_url: String,
    process: Option<Child>,
}

impl Server {
    fn new(target: Target, name: &str) -> Self {
        let url = || format!("http://127.0.0.1:{}", free_port());
        let directory = TempDir::with_prefix("etcd-e2e-").unwrap();
        Self { target, directory, name: name.to_owned(), client_url: url(), peer_url: url(), process: None }
    }

    fn named(target: Target) -> Vec<Self> {
        ["a", "b", "c"].map(|name| Self::new(target, name)).into()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn command(&self) -> Command {
        let program = match self.target {
            Target::Real => e2e::real_etcd().join("etcd"),
            Target::InProcess | Target::Binary => e2e::programs().server.clone(),
        };
        let log = File::options().create(true).append(true).open(self.directory.path().join("log")).unwrap();
        let mut command = Command::new(program);
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        command.env_remove("ETCD_REAL").env_remove("ETCD_RS_BIN").env_remove("ETCD_RS_SEED");
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    /// The flags of one member, without those that say with whom.
    fn flags(&self) -> Vec<String> {
        let data = self.data().display().to_string();
        let flags = [
            ("name", &*self.name),
            ("data-dir", &data),
            ("listen-client-urls", &self.client_url),
            ("advertise-client-urls", &self.client_url),
            ("listen-peer-urls", &self.peer_url),
            ("initial-advertise-peer-urls", &self.peer_url),
        ];
        flags.map(|(flag, value)| format!("--{flag}={value}")).into()
    }

    fn start(&mut self, further: &[&str]) {
        let child = self.command().args(self.flags()).args(further).spawn().unwrap();
        self.process = Some(child);
    }

    async fn ended(&mut self) -> ExitStatus {
        let process = self.process.as_mut().unwrap();
        let status = eventually("the process to end", async || process.try_wait().unwrap()).await;
        self.process = None;
        status
    }

    async fn stop(&mut self) -> ExitStatus {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        self.ended().await
    }

    /// Starts it and insists that it ends by itself, having said this.
    async fn refuses(&mut self, further: &[&str], text: &str) {
        self.start(further);
        let status = self.ended().await;
        let log = self.log().replace("\\\"", "\"");
        assert!(!status.success(), "{log}");
        assert!(log.contains(text), "{:?} should have said {text}\n{log}", self.target);
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(self.client_url.clone()).unwrap().connect_lazy()
    }

    /// Waits until it serves clients, and says who it is.
    async fn serves(&self) -> pb::ResponseHeader {
        eventually("a member that serves", async || {
            let range = pb::RangeRequest { key: "probe".into(), ..Default::default() };
            KvClient::new(self.channel()).range(range).await.ok()?.into_inner().header
        })
        .await
    }

    async fn members(&self) -> Vec<pb::Member> {
        let request = pb::MemberListRequest::default();
        ClusterClient::new(self.channel()).member_list(request).await.unwrap().into_inner().members
    }

    /// Waits for a good answer of the peer port.
    async fn peer(&self, path: &str) -> Answer {
        eventually("an answer on the peer port", async || {
            let answer = get(&self.peer_url, path).await.ok()?;
            (answer.status == 200).then_some(answer)
        })
        .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// `name=url` of each.
fn initial_cluster(servers: &[Server]) -> String {
    let pairs: Vec<String> =
        servers.iter().map(|server| format!("{}={}", server.name, server.peer_url)).collect();
    format!("--initial-cluster={}", pairs.join(","))
}

/// An answer: status, headers in lower case, body.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn cluster_id(&self) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix("x-etcd-cluster-id: "))
    }
}

async fn get(url: &str, path: &str) -> io::Result<Answer> {
    exchange(TcpStream::connect(url.trim_start_matches("http://")).await?, path).await
}

async fn exchange(mut socket: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> io::Result<Answer> {
    socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: member\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    socket.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    Ok(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
}

/// Before anybody else is there, a member tells who the members will be: the same as an etcd with these flags.
#[test]
fn the_same_urls_and_token_make_the_same_cluster() {
    run_alone(async {
        let mut real = Server::new(Target::Real, "a");
        let second = format!("http://127.0.0.1:{}", free_port());
        let urls = format!("{},{second}", real.peer_url);
        let all = format!(
            "--initial-cluster=b=http://127.0.0.1:1,a={},c=http://127.0.0.1:2,a={second}",
            real.peer_url
        );
        let peers = [format!("--listen-peer-urls={urls}"), format!("--initial-advertise-peer-urls={urls}")];
        let flags = [&*all, "--initial-cluster-token=a-token", &peers[0], &peers[1]];
        real.start(&flags);
        let expected = real.peer("/members").await;
        assert!(expected.body.contains("\"name\":\"c\""), "{expected:?}");
        let (client_url, peer_url) = (real.client_url.clone(), real.peer_url.clone());
        drop(real);
        let mut ours = Server::new(Target::Binary, "a");
        (ours.client_url, ours.peer_url) = (client_url, peer_url);
        ours.start(&flags);
        let found = ours.peer("/members").await;
        assert_eq!(found.cluster_id(), expected.cluster_id());
        let sorted = |body: &str| {
            let mut fields: Vec<String> = body.split(['[', ']', '{', '}', ',']).map(str::to_owned).collect();
            fields.sort();
            fields
        };
        assert_eq!(sorted(&found.body), sorted(&expected.body));
        assert_eq!(ours.peer("/raft/probing").await.body.split(',').next(), Some("{\"OK\":true"));
        assert!(ours.peer("/version").await.body.contains("\"etcdcluster\":\"not_decided\""));
        assert_eq!(get(&ours.peer_url, "/metrics").await.unwrap().status, 404);
    });
}

async fn waits_for_the_others(target: Target) {
    let mut servers = Server::named(target);
    let all = initial_cluster(&servers);
    servers[0].start(&[&all]);
    servers[0].peer("/members").await;
    // Alone it neither gives up nor serves; and it stops when told to.
    let stopping = Instant::now();
    let status = servers[0].stop().await;
    assert_eq!(status.signal(), Some(15), "{}", servers[0].log());
    assert!(stopping.elapsed().as_secs() < 10);
    for server in &mut servers {
        server.start(&[&all]);
    }
    let mut clusters = Vec::new();
    for server in &servers {
        clusters.push(server.serves().await.cluster_id);
    }
    assert!(clusters.windows(2).all(|two| two[0] == two[1]));
}

async fn remembers_who_it_is(target: Target) {
    let mut server = Server::new(target, "a");
    let all = format!("--initial-cluster=a={}", server.peer_url);
    server.start(&[&all, "--initial-cluster-token=first"]);
    let before = server.serves().await;
    server.stop().await;
    server.start(&["--initial-cluster=z=http://127.0.0.1:1", "--initial-cluster-token=second"]);
    let after = server.serves().await;
    assert_eq!((after.member_id, after.cluster_id), (before.member_id, before.cluster_id));
}

async fn is_refused_when_it_contradicts_itself(target: Target) {
    let server = || Server::new(target, "a");
    let missing = "couldn't find local name \"a\" in the initial cluster configuration";
    server().refuses(&["--initial-cluster=b=http://127.0.0.1:1"], missing).await;
    let mut twice = server();
    let own = twice.peer_url.clone();
    let all = format!("--initial-cluster=a={own},b={own}");
    twice.refuses(&[&all], &format!("initial cluster a={own},b={own} has duplicate url")).await;
    let mut elsewhere = server();
    let advertised = elsewhere.peer_url.clone();
    let text = format!(
        "--initial-cluster has a=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls={advertised} \
         (resolved urls: \"{advertised}\" != \"http://127.0.0.1:1\")"
    );
    elsewhere.refuses(&["--initial-cluster=a=http://127.0.0.1:1"], &text).await;
    let mut unlisted = server();
    let own = unlisted.peer_url.clone();
    let (all, advertised) = (
        format!("--initial-cluster=a={own}"),
        format!("--initial-advertise-peer-urls={own},http://127.0.0.1:1"),
    );
    let text = format!(
        "--initial-advertise-peer-urls has http://127.0.0.1:1 but missing from --initial-cluster=a=http://127.0.0.1:1,a={own}"
    );
    unlisted.refuses(&[&all, &advertised], &text).await;
}

async fn is_not_founded_twice(target: Target) {
    let mut servers = Server::named(target);
    let all = initial_cluster(&servers);
    for server in &mut servers {
        server.start(&[&all]);
    }
    let mut ids = Vec::new();
    for server in &servers {
        ids.push(server.serves().await.member_id);
    }
    servers[1].stop().await;
    fs::remove_dir_all(servers[1].data()).unwrap();
    let text = format!("member {:x} has already been bootstrapped", ids[1]);
    servers[1].refuses(&[&all], &text).await;
}

async fn joins_only_what_is_there(target: Target) {
    let mut alone = Server::new(target, "a");
    let all = format!("--initial-cluster=a={},b=http://127.0.0.1:1", alone.peer_url);
    let nobody = "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs";
    alone.refuses(&[&all, "--initial-cluster-state=existing"], nobody).await;

    let mut running = Server::new(target, "r");
    let own = format!("--initial-cluster=r={}", running.peer_url);
    running.start(&[&own]);
    running.serves().await;
    let all = format!("--initial-cluster=r={},a={}", running.peer_url, alone.peer_url);
    alone.refuses(&[&all, "--initial-cluster-state=existing"], "member count is unequal").await;
}

/// Without data, a member that once ran cannot come back under its old id: it may have promised what it has forgotten. etcd
/// lets it.
#[test]
fn a_member_without_its_data_is_not_let_back_in() {
    run_alone(async {
        let mut servers = Server::named(Target::Binary);
        let all = initial_cluster(&servers);
        for server in &mut servers {
            server.start(&[&all]);
        }
        let mut ids = Vec::new();
        for server in &servers {
            ids.push(server.serves().await.member_id);
        }
        servers[2].stop().await;
        fs::remove_dir_all(servers[2].data()).unwrap();
        let text = format!("member {:x} has already been bootstrapped", ids[2]);
        servers[2].refuses(&[&all, "--initial-cluster-state=existing"], &text).await;
    });
}

/// A member that was added joins with the list that adding gave, and has what was written before.
async fn joins_when_it_was_added(target: Target) {
    let mut servers = vec![Server::new(target, "a"), Server::new(target, "b")];
    let own = initial_cluster(&servers[..1]);
    servers[0].start(&[&own]);
    let before = servers[0].serves().await;
    write(&servers[0], "k", "v").await;
    let request =
        pb::MemberAddRequest { peer_ur_ls: vec![servers[1].peer_url.clone()], ..Default::default() };
    let added = ClusterClient::new(servers[0].channel()).member_add(request).await.unwrap().into_inner();
    let both = initial_cluster(&servers);
    servers[1].start(&[&both, "--initial-cluster-state=existing", "--initial-cluster-token=of-no-interest"]);
    let header = servers[1].serves().await;
    assert_eq!(header.cluster_id, before.cluster_id);
    assert_eq!(header.member_id, added.member.unwrap().id);
    let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
    let found = KvClient::new(servers[1].channel()).range(range).await.unwrap().into_inner();
    assert_eq!(found.kvs[0].value, "v");
    // And once more, with flags that would mean something else to a new member.
    servers[1].stop().await;
    let alone = initial_cluster(&servers[1..]);
    servers[1].start(&[&alone]);
    assert_eq!(servers[1].serves().await.member_id, header.member_id);
}

/// When the others are lost for good, a survivor goes on alone, under its own id and with what was written.
async fn goes_on_alone_when_forced(target: Target) {
    let mut servers = Server::named(target);
    let all = initial_cluster(&servers);
    for server in &mut servers {
        server.start(&[&all]);
    }
    for server in &servers {
        server.serves().await;
    }
    write(&servers[0], "k", "v").await;
    let before = servers[0].serves().await;
    for server in &mut servers {
        server.stop().await;
    }
    servers.truncate(1);
    servers[0].start(&["--force-new-cluster"]);
    let after = servers[0].serves().await;
    assert_eq!((after.member_id, after.cluster_id), (before.member_id, before.cluster_id));
    let members = servers[0].members().await;
    assert_eq!(members.iter().map(|member| member.id).collect::<Vec<_>>(), [before.member_id]);
    let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
    let found = KvClient::new(servers[0].channel()).range(range).await.unwrap().into_inner();
    assert_eq!(found.kvs[0].value, "v");
    write(&servers[0], "k", "w").await;
    // Without the flag it stays what it has become.
    servers[0].stop().await;
    servers[0].start(&[]);
    servers[0].serves().await;
    assert_eq!(servers[0].members().await.len(), 1);
}

/// What a member needs to know of a cluster it joins, it learns over etcd's own peer HTTP.
#[test]
fn ids_are_copied_from_a_running_etcd() {
    run_alone(async {
        let mut real = Server::new(Target::Real, "r");
        let own = format!("--initial-cluster=r={}", real.peer_url);
        real.start(&[&own]);
        real.serves().await;
        let mut ours = Server::new(Target::Binary, "a");
        let request = pb::MemberAddRequest { peer_ur_ls: vec![ours.peer_url.clone()], ..Default::default() };
        let added = ClusterClient::new(real.channel()).member_add(request).await.unwrap().into_inner();
        let all = format!("--initial-cluster=r={},a={}", real.peer_url, ours.peer_url);
        ours.start(&[&all, "--initial-cluster-state=existing"]);
        let found = ours.peer("/members").await;
        assert_eq!(found.cluster_id(), Some(&*format!("{:x}", added.header.unwrap().cluster_id)));
        for member in added.members {
            assert!(found.body.contains(&format!("\"id\":{},", member.id)), "{found:?}");
        }
    });
}

async fn write(server: &Server, key: &str, value: &str) {
    let put =
        pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
    KvClient::new(server.channel()).put(put).await.unwrap();
}

/// A real etcd is the registry by which three of ours find each other, and nobody gets in after them.
#[test]
fn founders_find_each_other_in_another_cluster() {
    run_alone(async {
        let mut registry = Server::new(Target::Real, "r");
        let own = format!("--initial-cluster=r={}", registry.peer_url);
        registry.start(&[&own]);
        registry.serves().await;
        let endpoints = format!("--discovery-endpoints={}", registry.client_url);
        let flags = [&*endpoints, "--discovery-token=a-token"];

        let key = "/_etcd/registry/a-token/_config/size";
        let failed = "failed to join discovery cluster (discovery: size key";
        Server::new(Target::Binary, "z").refuses(&flags, &format!("{failed} not found)")).await;
        write(&registry, key, "none").await;
        Server::new(Target::Binary, "z").refuses(&flags, &format!("{failed} is bad)")).await;

        write(&registry, key, "3").await;
        let mut servers = Server::named(Target::Binary);
        for server in &mut servers {
            server.start(&flags);
        }
        let mut ids = Vec::new();
        for server in &servers {
            ids.push(server.serves().await);
        }
        assert!(ids.windows(2).all(|two| two[0].cluster_id == two[1].cluster_id));
        let all = initial_cluster(&servers);
        let full = "failed to join discovery cluster (discovery: cluster is full)";
        Server::new(Target::Binary, "z").refuses(&flags, full).await;

        // The ids are those of the same list with the same token.
        let mut listed = Server::new(Target::Binary, "a");
        servers[0].stop().await;
        (listed.client_url, listed.peer_url) = (servers[0].client_url.clone(), servers[0].peer_url.clone());
        servers.clear();
        listed.start(&[&all, "--initial-cluster-token=a-token"]);
        let cluster = format!("{:x}", ids[0].cluster_id);
        assert_eq!(listed.peer("/members").await.cluster_id(), Some(&*cluster));
    });
}

async fn reads_a_file(target: Target) {
    let mut server = Server::new(target, "ignored");
    let file = server.directory.path().join("etcd.yml");
    let text = format!(
        "name: filed\ndata-dir: {}\nlisten-client-urls: {client}\nadvertise-client-urls: {client}\n\
         listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\ninitial-cluster: filed={peer}\n\
         no-such-key: 1\nheartbeat-interval: 100\ngrpc-keepalive-timeout: 20000000000\n",
        server.data().display(),
        client = server.client_url,
        peer = server.peer_url,
    );
    fs::write(&file, text).unwrap();
    server.process =
        Some(server.command().env("ETCD_CONFIG_FILE", &file).env("ETCD_NAME", "other").spawn().unwrap());
    server.serves().await;
    assert_eq!(server.members().await[0].name, "filed");
    drop(server);

    let mut server = Server::new(target, "a");
    fs::write(server.directory.path().join("bad.yml"), "max-txn-ops: many\n").unwrap();
    let text =
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go struct field";
    let text = if target == Target::Real { "error unmarshaling JSON" } else { text };
    server.refuses(&["--config-file=bad.yml"], text).await;
    server.refuses(&["--config-file=none.yml"], "open none.yml: no such file or directory").await;
}

async fn listens_on_a_socket() {
    let mut server = Server::new(Target::Binary, "a");
    let all = format!("--initial-cluster=a={}", server.peer_url);
    let port = free_port();
    let urls = format!("--listen-client-urls={},unix://localhost:{port}", server.client_url);
    let path = server.directory.path().join(format!("localhost:{port}"));
    for _ in 0..2 {
        server.start(&[&all, &urls]);
        server.serves().await;
        let health = exchange(UnixStream::connect(&path).await.unwrap(), "/health").await.unwrap();
        assert!(health.body.starts_with("{\"health\":\"true\""), "{health:?}");
        // The second start finds what a crash leaves behind.
        let mut process = server.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

#[test]
fn clients_are_served_on_a_socket() {
    run_alone(listens_on_a_socket());
}

macro_rules! on_both {
    ($($test:ident: $body:ident;)+) => {$(
        mod $test {
            use super::*;
            #[test]
            fn binary() {
                run_alone($body(Target::Binary));
            }
            #[test]
            fn real_etcd() {
                run_alone($body(Target::Real));
            }
        }
    )+};
}

on_both! {
    a_founder_waits_for_the_others: waits_for_the_others;
    a_restart_ignores_the_initial_flags: remembers_who_it_is;
    an_initial_cluster_that_contradicts_itself_is_refused: is_refused_when_it_contradicts_itself;
    a_member_that_ran_is_not_founded_again: is_not_founded_twice;
    a_cluster_that_does_not_match_is_not_joined: joins_only_what_is_there;
    a_file_is_the_configuration: reads_a_file;
    a_member_that_was_added_joins: joins_when_it_was_added;
    a_survivor_can_be_forced_to_go_on_alone: goes_on_alone_when_forced;
}
