//! `etcd-rs-bench`: etcd-rs and a real etcd under the same loads, by turns, in one run.
//!
//! For each group of loads each server is started on a fresh data directory and free ports, loaded, and killed;
//! short groups are repeated in rounds and the median counts. The generator keeps itself cheap (see `wire`),
//! because it shares the machine with what it measures; compare ratios and the server's CPU time a request
//! rather than rates. The table and the plots go to `target/bench/`.
//!
//! It measures one member, and three, on one machine; one load shows what authentication costs. It is no test: nothing fails because it is slow.

mod closed_loop;
mod flags;
mod load;
mod messages;
mod plot;
mod proc;
mod report;
mod results;
mod server;
mod stats;
mod streams;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::flags::{Flags, LoadName, Side};
use crate::load::Bench;
use crate::results::Results;
use crate::server::{Product, Server};

fn main() -> Result<()> {
    let flags = Flags::parse().settled();
    // One thread: it leaves the other cores to the server, and nothing here needs a lock.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Whichever way this ends, the members in the dropped future are killed with it.
        tokio::select! {
            result = bench(&flags) => result,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

#[expect(clippy::print_stdout, reason = "the table is what the user came for")]
async fn bench(flags: &Flags) -> Result<()> {
    for directory in [&flags.data, &flags.out] {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    let products = products(flags)?;
    let mut results = Results { products: products.len(), ..Results::default() };
    let outcome = groups(flags, &products, &mut results).await;
    // What was measured before a failure is worth its time.
    let table = report::markdown(flags, &products, &results);
    println!("{table}");
    let written = write_out(&flags.out, &products, &results, &table)?;
    println!("written: {}", written.join(", "));
    if outcome.is_ok() {
        // After a failure the servers' logs, all that is left in it, are worth keeping.
        fs::remove_dir_all(&flags.data).with_context(|| format!("removing {}", flags.data.display()))?;
    }
    outcome
}

fn products(flags: &Flags) -> Result<Vec<Product>> {
    let mut products = Vec::new();
    if flags.alone != Some(Side::Peer) {
        products.push(Product::new("etcd-rs", &flags.server)?);
    }
    if flags.alone != Some(Side::Ours) {
        let program = flags.peer.clone().map_or_else(real_etcd, Ok)?;
        products.push(Product::new("etcd", &program)?);
    }
    Ok(products)
}

fn real_etcd() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("ETCD_REAL") {
        return Ok(PathBuf::from(directory).join("etcd"));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/real-etcd");
    let output = Command::new(&script).output().with_context(|| format!("running {}", script.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join("etcd"))
}

/// The groups in order: how often each runs, and what asks for it.
async fn groups(flags: &Flags, products: &[Product], results: &mut Results) -> Result<()> {
    use LoadName::{Auth, Cluster, Expiry, Fanout, Get, KeepAlive, Keys, Put, Serial, Txn};
    let groups: [(&[LoadName], usize); 6] = [
        (&[Put, Get, Txn], flags.rounds),
        (&[Fanout, Serial], flags.rounds),
        (&[KeepAlive, Expiry], 1),
        (&[Keys], 1),
        (&[Cluster], flags.rounds),
        (&[Auth], flags.rounds),
    ];
    for (group, (loads, rounds)) in groups.into_iter().enumerate() {
        for round in 0..rounds {
            for turn in 0..products.len() {
                if !flags.wants_any(loads) {
                    continue;
                }
                // Who goes first changes, so that neither always finds the warmer machine.
                let product = (turn + round) % products.len();
                let members = if loads.contains(&Cluster) { 3 } else { 1 };
                let mut server = Server::start(&products[product], members, &flags.data).await?;
                let mut bench = Bench { flags, server: &mut server, product, results };
                let outcome = match group {
                    0 => load::kv::all(&mut bench).await,
                    1 => load::watch::all(&mut bench).await,
                    2 => load::lease::all(&mut bench).await,
                    3 => load::keys::all(&mut bench).await,
                    4 => load::cluster::all(&mut bench).await,
                    _ => load::auth::all(&mut bench).await,
                };
                outcome.with_context(|| format!("measuring {}", products[product].name))?;
            }
        }
    }
    Ok(())
}

fn write_out(out: &Path, products: &[Product], results: &Results, table: &str) -> Result<Vec<String>> {
    let mut files = vec![("table.md", table.to_owned())];
    files.extend(plot::all(products, results).into_iter().map(|plot| (plot.file, plot.svg)));
    let mut written = Vec::new();
    for (name, text) in files {
        let path = out.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        written.push(path.display().to_string());
    }
    Ok(written)
}
