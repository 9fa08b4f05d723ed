//! A server under test, of one member or several: started on free ports of the loopback with its own data directory, watched
//! through `/proc`, and killed when the bench is done with it, however that comes about.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::proc::Usage;

/// How long a server may take to become healthy, or to stop.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at a server that starts.
const POLL: Duration = Duration::from_millis(2);

/// A program to measure.
#[derive(Debug, Clone)]
pub(crate) struct Product {
    /// As the tables call it.
    pub(crate) name: String,
    /// The executable.
    pub(crate) program: PathBuf,
    /// Its version, as it says itself.
    pub(crate) version: String,
}

impl Product {
    /// Asks a program for its version, by which the tables know it.
    pub(crate) fn new(name: &str, program: &Path) -> Result<Self> {
        let output = Command::new(program)
            .arg("--version")
            .output()
            .with_context(|| format!("running {} --version", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text
            .lines()
            .find_map(|line| {
                line.to_lowercase()
                    .split_once("version")
                    .map(|(_, v)| v.trim_start_matches(':').trim().to_owned())
            })
            .unwrap_or_else(|| text.lines().next().unwrap_or("?").to_owned());
        Ok(Self { name: name.to_owned(), program: program.to_owned(), version })
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    product: Product,
    directory: PathBuf,
    members: Vec<Member>,
    /// What loads show as who they are, if authentication is on.
    token: Option<String>,
}

/// Where a load connects, and the token it shows there.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) token: Option<String>,
}

/// One process of it.
#[derive(Debug)]
struct Member {
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    child: Option<Child>,
}

impl Server {
    /// Starts a product as so many members on fresh data directories below `data` and waits until all are healthy.
    pub(crate) async fn start(product: &Product, members: usize, data: &Path) -> Result<Self> {
        let directory = data.join(product.name.replace(' ', "-"));
        if directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| format!("emptying {}", directory.display()))?;
        }
        fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        let members = (1..=members)
            .map(|number| {
                let name = format!("bench{number}");
                Ok(Member { name, client: free_address()?, peer: free_address()?, child: None })
            })
            .collect::<Result<_>>()?;
        let mut server = Self { product: product.clone(), directory, members, token: None };
        server.spawn()?;
        server.healthy().await?;
        Ok(server)
    }

    /// What the tables call its product.
    pub(crate) fn name(&self) -> &str {
        &self.product.name
    }

    /// Where clients of its first member connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.members[0].client
    }

    /// Where loads connect, one target for each member.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let target = |member: &Member| Target { address: member.client, token: self.token.clone() };
        self.members.iter().map(target).collect()
    }

    /// The token that loads show from now on.
    pub(crate) fn show(&mut self, token: Option<String>) {
        self.token = token;
    }

    /// What all its members together have used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut total = Usage::default();
        for child in self.members.iter().filter_map(|member| member.child.as_ref()) {
            let usage = Usage::of(child.id())?;
            total.cpu += usage.cpu;
            total.written += usage.written;
            total.resident += usage.resident;
        }
        Ok(total)
    }

    /// Stops it (`TERM` politely, `KILL` not), starts it again on the same data, and says how long it took from
    /// the start to the first healthy answer.
    pub(crate) async fn restart(&mut self, signal: &str) -> Result<Duration> {
        self.stop(signal).await?;
        let started = now();
        self.spawn()?;
        self.healthy().await?;
        Ok(started.elapsed())
    }

    async fn stop(&mut self, signal: &str) -> Result<()> {
        for member in &mut self.members {
            let Some(child) = &mut member.child else { continue };
            let pid = child.id().to_string();
            let sent = Command::new("kill").args(["-s", signal, &pid]).status().context("running kill")?;
            ensure!(sent.success(), "kill -s {signal} {pid} failed");
            let started = now();
            while child.try_wait()?.is_none() {
                ensure!(started.elapsed() < PATIENCE, "{} does not stop", self.product.name);
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    fn spawn(&mut self) -> Result<()> {
        let cluster: Vec<String> =
            self.members.iter().map(|member| format!("{}=http://{}", member.name, member.peer)).collect();
        for member in &mut self.members {
            member.child = Some(member.spawn(&self.product, &self.directory, &cluster.join(","))?);
        }
        Ok(())
    }

    async fn healthy(&mut self) -> Result<()> {
        let started = now();
        let log = self.directory.display();
        for member in &mut self.members {
            while !answers_healthy(member.client) {
                if let Some(status) = member.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                    bail!("{} ended while starting: {status}; its logs are in {log}", self.product.name);
                }
                let waited = started.elapsed();
                ensure!(waited < PATIENCE, "{} is not healthy; its logs are in {log}", self.product.name);
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Waits until the server has nothing left to do from the load before, but not forever.
    pub(crate) async fn settle(&self) -> Result<()> {
        let (step, limit) = (Duration::from_millis(300), PATIENCE);
        let started = now();
        let mut before = self.usage()?.cpu;
        while started.elapsed() < limit {
            tokio::time::sleep(step).await;
            let after = self.usage()?.cpu;
            if after.saturating_sub(before) < step / 10 {
                break;
            }
            before = after;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(child) = &mut member.child {
                // It may have ended by itself; then there is nothing to kill, and nothing to say.
                drop(child.kill());
                drop(child.wait());
            }
            drop(fs::remove_dir_all(self.directory.join(&member.name)));
        }
    }
}

impl Member {
    fn spawn(&self, product: &Product, directory: &Path, cluster: &str) -> Result<Child> {
        let name = &self.name;
        let log = File::options().create(true).append(true).open(directory.join(format!("{name}.log")))?;
        let (client, peer) = (format!("http://{}", self.client), format!("http://{}", self.peer));
        Command::new(&product.program)
            .env_clear()
            .args(["--name", name])
            .arg("--data-dir")
            .arg(directory.join(name))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", cluster])
            .args(["--quota-backend-bytes", "8589934592"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", product.program.display()))
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn answers_healthy(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.write_all(b"GET /health HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer.replace(' ', "").contains("\"health\":\"true\""))
    };
    ask().unwrap_or(false)
}

/// The clock, read here and nowhere else.
pub(crate) fn now() -> Instant {
    Instant::now()
}
