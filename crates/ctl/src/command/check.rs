//! `check perf` and `check datascale`: how a cluster bears a load.

mod load;
mod memory;
mod progress;

use std::time::Duration;

use client::Client;

use super::{Action, Command, Invocation, Session, endpoint, say};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Parsed};
use crate::go::quote;
use crate::output::out;
use crate::signals::Signals;

use load::{Load, Report};

pub(super) static COMMAND: Command = Command {
    name: "check",
    alias: None,
    usage: "<subcommand>",
    short: "Commands for checking properties of the etcd cluster",
    long: "",
    flags: &[],
    action: Action::Parent(&[&DATASCALE, &PERF]),
};

const LOAD: Flag = Flag::string("load", "s", "the workload: s(mall), m(edium), l(arge) or xl(arge)");
const AUTO_COMPACT: Flag = Flag::bool("auto-compact", "compact the history of the check when it is over");
const AUTO_DEFRAG: Flag = Flag::bool("auto-defrag", "defragment all members when it is over");

static PERF: Command = Command {
    name: "perf",
    alias: None,
    usage: "[options]",
    short: "Check the performance of the etcd cluster",
    long: "Puts keys for 60 seconds at the rate of the workload, and deletes them again.",
    flags: &[
        LOAD,
        Flag::string("prefix", "/etcdctl-check-perf/", "where the keys go; there must be none yet"),
        AUTO_COMPACT,
        AUTO_DEFRAG,
    ],
    action: Action::Run(|invocation| Box::pin(perf(invocation))),
};

static DATASCALE: Command = Command {
    name: "datascale",
    alias: None,
    usage: "[options]",
    short: "Check the memory usage of holding data for different workloads on a given server endpoint",
    long: "Puts as many keys as the workload has and says what memory they took at the first endpoint.",
    flags: &[
        LOAD,
        Flag::string("prefix", "/etcdctl-check-datascale/", "where the keys go; there must be none yet"),
        AUTO_COMPACT,
        AUTO_DEFRAG,
    ],
    action: Action::Run(|invocation| Box::pin(datascale(invocation))),
};

/// Slower than this share of the asked-for rate, or than these, is a failure.
const THROUGHPUT_SHARE: f64 = 0.9;
const SLOWEST_MAX: Duration = Duration::from_millis(500);
const DEVIATION_MAX: f64 = 0.1;

/// A workload: for `perf` the puts of a second, for `datascale` the keys; and the clients.
fn workload(name: &str) -> Outcome<(u32, u64, usize)> {
    match name {
        "s" | "small" => Ok((150, 10_000, 50)),
        "m" | "medium" => Ok((1000, 100_000, 200)),
        "l" | "large" => Ok((8000, 1_000_000, 500)),
        "xl" | "xLarge" => Ok((15_000, 3_000_000, 1000)),
        _ => Err(Failure::bad_feature(format!("unknown load option {name}"))),
    }
}

async fn perf(invocation: Invocation) -> Outcome {
    let (rate, _, clients) = workload(invocation.parsed.get("load").unwrap_or("s"))?;
    let (session, parsed) = invocation.session()?;
    let prefix = parsed.get("prefix").unwrap_or("/etcdctl-check-perf/").to_owned();
    let client = session.connect().await?;
    refuse_keys(&client, &prefix, "'").await?;
    let load = Load {
        prefix: prefix.clone(),
        key_bytes: 256,
        value_bytes: 1024,
        rate: Some(rate),
        end: load::End::After(Duration::from_secs(60)),
    };
    let report = load.run(&session, clients, Signals::listen()?).await?;
    if let Err(error) = client.delete(prefix).prefix().await {
        say(format!("FAIL: Cleanup failed during key deletion: ERROR({error})"))?;
    }
    tidy_up(&session, &client, &parsed).await?;
    let (lines, passed) = verdict(&report, rate);
    out(lines)?;
    if passed { Ok(()) } else { Err(Failure::silent(1)) }
}

/// What is said of a finished load, and whether it is good.
fn verdict(report: &Report, rate: u32) -> (String, bool) {
    let mut passed = true;
    let mut lines = String::new();
    let mut say = |good: bool, text: String| {
        passed &= good;
        lines.push_str(&text);
        lines.push('\n');
    };
    if !report.errors.is_empty() {
        say(false, too_many_errors(report));
    }
    let throughput = report.throughput();
    let whole = format!("{} writes/s", throughput.floor() + 1.0);
    match throughput / f64::from(rate) > THROUGHPUT_SHARE {
        true => say(true, format!("PASS: Throughput is {whole}")),
        false => say(false, format!("FAIL: Throughput too low: {whole}")),
    }
    let slowest = report.slowest.as_secs_f64();
    match report.slowest <= SLOWEST_MAX {
        true => say(true, format!("PASS: Slowest request took {slowest:.6}s")),
        false => say(false, format!("Slowest request took too long: {slowest:.6}s")),
    }
    let deviation = report.deviation();
    match deviation <= DEVIATION_MAX {
        true => say(true, format!("PASS: Stddev is {deviation:.6}s")),
        false => say(false, format!("Stddev too high: {deviation:.6}s")),
    }
    lines.push_str(if passed { "PASS\n" } else { "FAIL\n" });
    (lines, passed)
}

fn too_many_errors(report: &Report) -> String {
    let each = report.errors.iter().map(|(error, count)| format!("\nFAIL: ERROR({error}) -> {count}"));
    ["FAIL: too many errors".to_owned()].into_iter().chain(each).collect()
}

async fn datascale(invocation: Invocation) -> Outcome {
    let (_, keys, clients) = workload(invocation.parsed.get("load").unwrap_or("s"))?;
    let (session, parsed) = invocation.session()?;
    let prefix = parsed.get("prefix").unwrap_or("/etcdctl-check-datascale/").to_owned();
    let client = session.connect().await?;
    refuse_keys(&client, &prefix, "").await?;
    let endpoint = client.endpoints().first().cloned().unwrap_or_default();
    let before = resident_bytes(&endpoint, "before").await?;
    say(format!(
        "Start data scale check for work load [{keys} key-value pairs, 1024 bytes per key-value, {clients} \
         concurrent clients]."
    ))?;
    let load = Load {
        prefix: prefix.clone(),
        key_bytes: 512,
        value_bytes: 512,
        rate: None,
        end: load::End::Puts(keys),
    };
    let report = load.run(&session, clients, Signals::listen()?).await?;
    let after = resident_bytes(&endpoint, "after").await;
    client.delete(prefix).prefix().await?;
    tidy_up(&session, &client, &parsed).await?;
    let after = after?;
    if !report.errors.is_empty() {
        say(too_many_errors(&report))?;
        return Err(Failure::silent(1));
    }
    let mebibytes = (after - before) / f64::from(1 << 20);
    say(format!("PASS: Approximate system memory used : {mebibytes:.2} MB."))
}

async fn resident_bytes(endpoint: &str, when: &str) -> Outcome<f64> {
    match memory::resident_bytes(endpoint).await {
        Ok(bytes) => Ok(bytes),
        Err(why) => {
            say(why)?;
            let metric = memory::METRIC;
            say(format!("FAIL: Could not read {metric} {when} the put operations."))?;
            Err(Failure::silent(1))
        }
    }
}

/// Somebody's keys are not to be measured, nor to be deleted.
async fn refuse_keys(client: &Client, prefix: &str, around_command: &str) -> Outcome {
    let found = client.get(prefix.to_owned()).prefix().limit(1).await?;
    if found.kvs.is_empty() {
        return Ok(());
    }
    Err(Failure::invalid_input(format!(
        "prefix {} has keys. Delete with {around_command}etcdctl del --prefix {prefix}{around_command} first",
        quote(prefix.as_bytes())
    )))
}

async fn tidy_up(session: &Session, client: &Client, parsed: &Parsed) -> Outcome {
    if parsed.on("auto-compact") {
        let now = client.get("compact").await?.header.map_or(0, |header| header.revision);
        say(format!("Compacting with revision {now}"))?;
        client.compact(now).physical().await?;
        say(format!("Compacted with revision {now}"))?;
    }
    if parsed.on("auto-defrag") {
        for endpoint in endpoint::endpoints(session, false).await? {
            let shown = quote(endpoint.as_bytes());
            say(format!("Defragmenting {shown}"))?;
            session.globals.connect_to(vec![endpoint]).await?.defragment().await?;
            say(format!("Defragmented {shown}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(puts: u32, seconds: u64, slowest: u64) -> Report {
        let mut report = Report::default();
        for _ in 1..puts {
            report.add(Duration::from_millis(1));
        }
        report.add(Duration::from_millis(slowest));
        report.took = Duration::from_secs(seconds);
        report
    }

    #[test]
    fn a_load_that_is_borne_passes() {
        let (lines, passed) = verdict(&report(8999, 60, 100), 150);
        let start =
            "PASS: Throughput is 150 writes/s\nPASS: Slowest request took 0.100000s\nPASS: Stddev is 0.0";
        assert!(passed && lines.starts_with(start) && lines.ends_with("s\nPASS\n"), "{lines}");
    }

    #[test]
    fn each_way_of_being_slow_fails() {
        let failed = |report: Report| {
            let (lines, passed) = verdict(&report, 150);
            assert!(!passed && lines.ends_with("\nFAIL\n"), "{lines}");
            lines
        };
        assert!(failed(report(6000, 60, 1)).starts_with("FAIL: Throughput too low: 101 writes/s\n"));
        assert!(failed(report(9000, 60, 501)).contains("\nSlowest request took too long: 0.501000s\n"));
        assert!(failed(report(2, 0, 490)).contains("\nStddev too high: 0.244500s\n"));
        let mut refused = report(9000, 60, 1);
        refused.errors.insert("no".into(), 3);
        assert!(failed(refused).starts_with("FAIL: too many errors\nFAIL: ERROR(no) -> 3\nPASS: Throughput"));
    }

    #[test]
    fn workloads_have_two_spellings_each() {
        for (short, long) in [("s", "small"), ("m", "medium"), ("l", "large"), ("xl", "xLarge")] {
            assert_eq!(workload(short), workload(long));
        }
        assert_eq!(workload("foo"), Err(Failure::bad_feature("unknown load option foo")));
    }
}
