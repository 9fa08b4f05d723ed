//! `etcd-rs-chaos`: minutes of harm to clusters under load, in an order that follows from a seed, and a judgement of
//! everything that clients, watchers and keepers of leases were told meanwhile.
//!
//! Each round has a cluster of its own and a seed of its own, which alone repeats it: `--seed N --rounds 1`. A failure
//! keeps the members' logs, the calls and, if it came to an end, the history, and ends the run.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use clap::Parser;
use etcd_rs_e2e::load::{Load, Plan};
use etcd_rs_e2e::nemesis::{Harm, Whom};
use etcd_rs_e2e::random::Source;
use etcd_rs_e2e::{Cluster, Shape, Target};
use futures_util::FutureExt as _;

/// Harms clusters under load and judges what came of it.
#[derive(Debug, Parser)]
#[command(name = "etcd-rs-chaos")]
struct Flags {
    /// Begin no round after so many seconds.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// The seed of the first round; the next ones have the next numbers. By the clock if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// No more than so many rounds.
    #[arg(long, default_value_t = u64::MAX)]
    rounds: u64,
    /// How many harms a round has.
    #[arg(long, default_value_t = 8)]
    harms: u32,
    /// Members of a cluster: 3 or 5 by the seed if not given.
    #[arg(long)]
    members: Option<usize>,
    /// Replace members so many times a round, besides.
    #[arg(long, default_value_t = 0)]
    replace: u32,
    /// Harm a real etcd instead.
    #[arg(long)]
    real: bool,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(Box::pin(rounds(&flags)))
}

#[expect(clippy::print_stdout, reason = "it is what the user watches")]
async fn rounds(flags: &Flags) -> Result<()> {
    let begun = Instant::now();
    let clock = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs());
    let first = flags.seed.unwrap_or_else(clock);
    for round in 0..flags.rounds {
        if begun.elapsed() >= Duration::from_secs(flags.seconds) {
            println!("{round} rounds without a failure, from seed {first}");
            return Ok(());
        }
        let seed = first.wrapping_add(round);
        println!("round {round}, --seed {seed}");
        Box::pin(one_round(flags, seed)).await?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it is what the user watches")]
async fn one_round(flags: &Flags, seed: u64) -> Result<()> {
    let mut source = Source::new(seed);
    let target = if flags.real { Target::Real } else { Target::Binary };
    let mut cluster = Cluster::start_with(target, shape(flags, seed, &mut source)).await;
    println!("  {} members, {:?}", cluster.numbers().len(), cluster.shape());
    let load = Load::start(&cluster, &Plan { seed, ..Plan::default() });
    let harmed = AssertUnwindSafe(harm(flags, &mut source, &mut cluster, &load)).catch_unwind().await;
    if let Err(panic) = harmed {
        let why = panic.downcast_ref::<String>().map_or("a panic", String::as_str);
        let calls = load.give_up().await;
        let directory = cluster.keep_logs()?;
        fs::write(directory.join("record.txt"), format!("seed {seed}: {why}\n{calls:#?}\n"))?;
        bail!("seed {seed}: {why}\nlogs and calls are in {}", directory.display());
    }
    let record = load.end(&cluster).await;
    let (answered, calls) = record.answered();
    println!("  {answered} of {calls} calls answered; {} watch streams", record.streams());
    if let Err(failure) = record.check(&cluster).await {
        let directory = cluster.keep_logs()?;
        fs::write(directory.join("record.txt"), format!("seed {seed}: {failure}\n{record:#?}\n"))?;
        bail!("seed {seed}: {failure}\nlogs and record are in {}", directory.display());
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it is what the user watches")]
async fn harm(flags: &Flags, source: &mut Source, cluster: &mut Cluster, load: &Load) {
    load.goes_on(100).await;
    let begun = Instant::now();
    for harm in harms(flags, source) {
        let hold = Duration::from_millis(200 + source.below(2800));
        println!("  {:5.1} s: {harm} for {} ms", begun.elapsed().as_secs_f64(), hold.as_millis());
        Box::pin(harm.befall(cluster, load, hold)).await;
    }
}

fn shape(flags: &Flags, seed: u64, source: &mut Source) -> Shape {
    let members = flags.members.unwrap_or(if source.below(3) == 0 { 5 } else { 3 });
    // Where the log is cut often, those who were away need snapshots.
    let (snapshot_count, catchup_entries) =
        if source.below(2) == 0 { (Some(50), Some(20)) } else { (None, None) };
    Shape { members, snapshot_count, catchup_entries, seed, ..Shape::default() }
}

/// The harms of a round, those of the membership in between.
fn harms(flags: &Flags, source: &mut Source) -> Vec<Harm> {
    let mut harms: Vec<Harm> = (0..flags.harms).map(|_| Harm::any(source)).collect();
    for _ in 0..flags.replace {
        let whom = if source.below(2) == 0 { Whom::Leader } else { Whom::Follower };
        let place = source.below(u64::try_from(harms.len()).unwrap_or(0) + 1);
        harms.insert(usize::try_from(place).unwrap_or(0), Harm::Replace(whom));
    }
    harms
}
