//! A server under test: started on free ports of the loopback with its own data directory, watched through
//! `/proc`, and killed when the bench is done with it, however that comes about.

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
pub(crate) struct Member {
    product: Product,
    directory: PathBuf,
    client: SocketAddr,
    peer: SocketAddr,
    child: Child,
}

impl Member {
    /// Starts a product on a fresh data directory below `data` and waits until it is healthy.
    pub(crate) async fn start(product: &Product, data: &Path) -> Result<Self> {
        let directory = data.join(product.name.replace(' ', "-"));
        if directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| format!("emptying {}", directory.display()))?;
        }
        fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        let (client, peer) = (free_address()?, free_address()?);
        let child = spawn(product, &directory, client, peer)?;
        let mut member = Self { product: product.clone(), directory, client, peer, child };
        member.healthy().await?;
        Ok(member)
    }

    /// What the tables call its product.
    pub(crate) fn name(&self) -> &str {
        &self.product.name
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.client
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
    }

    /// Stops it (`TERM` politely, `KILL` not), starts it again on the same data, and says how long it took from
    /// the start to the first healthy answer.
    pub(crate) async fn restart(&mut self, signal: &str) -> Result<Duration> {
        self.stop(signal).await?;
        let started = now();
        self.child = spawn(&self.product, &self.directory, self.client, self.peer)?;
        self.healthy().await?;
        Ok(started.elapsed())
    }

    async fn stop(&mut self, signal: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().context("running kill")?;
        ensure!(sent.success(), "kill -s {signal} {pid} failed");
        let started = now();
        while self.child.try_wait()?.is_none() {
            ensure!(started.elapsed() < PATIENCE, "{} does not stop", self.product.name);
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn healthy(&mut self) -> Result<()> {
        let started = now();
        while !answers_healthy(self.client) {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended while starting: {status}; its log is {}", self.product.name, self.log());
            }
            ensure!(started.elapsed() < PATIENCE, "{} is not healthy; see {}", self.product.name, self.log());
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn log(&self) -> String {
        self.directory.join("log").display().to_string()
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

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, and nothing to say.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(self.directory.join("data")));
    }
}

fn spawn(product: &Product, directory: &Path, client: SocketAddr, peer: SocketAddr) -> Result<Child> {
    let log = File::options().create(true).append(true).open(directory.join("log"))?;
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    Command::new(&product.program)
        .args(["--name", "bench", "--data-dir"])
        .arg(directory.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("bench={peer}")])
        .args(["--quota-backend-bytes", "8589934592"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", product.program.display()))
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
