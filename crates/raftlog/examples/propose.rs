//! How fast is the log? Proposes entries of 300 bytes to a node of one member, so many at a time, and prints the rate
//! and how long one proposal takes.
//!
//! ```console
//! $ cargo run --release -p etcd-rs-raftlog --example propose [DIR] [SECONDS]
//! ```

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::error::Error;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftlog::{Application, ApplicationError, Applied, Config, Entry, LogId, Node};

const READS: u32 = 100_000;

/// Keeps its position and nothing else, in a file.
struct Position {
    file: PathBuf,
    applied: Applied,
}

impl Position {
    /// The file holds term, index and membership.
    fn open(file: PathBuf) -> Self {
        let bytes = fs::read(&file).unwrap_or_default();
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let last = number(0).zip(number(8)).map(|(term, index)| LogId { term, index });
        let membership = last.map(|_| Bytes::copy_from_slice(&bytes[16..]));
        Self { file, applied: Applied { last, membership } }
    }
}

impl Application for Position {
    fn applied(&self) -> Applied {
        self.applied.clone()
    }

    fn apply(&mut self, batch: &[Entry]) -> Result<(), ApplicationError> {
        for entry in batch {
            if entry.membership.is_some() {
                self.applied.membership.clone_from(&entry.membership);
            }
            self.applied.last = Some(entry.log_id());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<Applied, ApplicationError> {
        if let Some(last) = self.applied.last {
            let membership = self.applied.membership.as_deref().unwrap_or_default();
            let bytes = [&last.term.to_be_bytes()[..], &last.index.to_be_bytes(), membership].concat();
            let new = self.file.with_extension("new");
            fs::write(&new, bytes)?;
            File::open(&new)?.sync_all()?;
            fs::rename(&new, &self.file)?;
        }
        Ok(self.applied.clone())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let dir = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let seconds = arguments.next().map_or(Ok(3), |seconds| seconds.parse())?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(dir, seconds))
}

async fn run(dir: PathBuf, seconds: u64) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(&dir)?;
    let begin = Instant::now();
    let application = Position::open(dir.join("position"));
    let node = Node::open(Config::single(1, 1, dir), application).await?;
    node.leadership().wait_for(|leadership| leadership.is_leader).await?;
    node.propose(Bytes::from_static(b"the first is slow")).await?;
    println!("writable after {:?}", begin.elapsed());
    println!(
        "{:>9} {:>12} {:>9} {:>9} {:>11} {:>9}",
        "in flight", "proposals/s", "p50 us", "p99 us", "batch", "fsync us"
    );
    for in_flight in [1, 64, 200, 1000] {
        if let Err(error) = measure(&node, in_flight, Duration::from_secs(seconds)).await {
            // The node knows the reason.
            node.shutdown().await?;
            return Err(error);
        }
    }
    let begin = Instant::now();
    for _ in 0..READS {
        let index = node.read_index().await?;
        node.wait_applied(index).await?;
    }
    println!("a read index takes {:?}", begin.elapsed() / READS);
    node.shutdown().await?;
    Ok(())
}

async fn measure(node: &Node, in_flight: usize, duration: Duration) -> Result<(), Box<dyn Error>> {
    let before = node.metrics();
    let begin = Instant::now();
    let tasks: Vec<_> =
        (0..in_flight).map(|_| tokio::spawn(propose_until(node.clone(), begin + duration))).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let elapsed = begin.elapsed();
    let after = node.metrics();
    latencies.sort_unstable();
    let syncs = after.fsync.count() - before.fsync.count();
    println!(
        "{in_flight:>9} {:>12.0} {:>9} {:>9} {:>11.1} {:>9.0}",
        latencies.len() as f64 / elapsed.as_secs_f64(),
        latencies[latencies.len() / 2].as_micros(),
        latencies[latencies.len() * 99 / 100].as_micros(),
        latencies.len() as f64 / syncs as f64,
        (after.fsync.sum - before.fsync.sum) * 1e6 / syncs as f64,
    );
    Ok(())
}

async fn propose_until(node: Node, end: Instant) -> Result<Vec<Duration>, raftlog::ProposeError> {
    let data = Bytes::from(vec![7; 300]);
    let mut latencies = Vec::new();
    loop {
        let begin = Instant::now();
        if begin >= end {
            return Ok(latencies);
        }
        node.propose(data.clone()).await?;
        latencies.push(begin.elapsed());
    }
}
