//! A million keys: loading, counting, paging, reading, compacting, restarting, and the memory all that takes.

use std::time::Duration;

use anyhow::{Context, Result};
use api::etcdserverpb as pb;

use super::Bench;
use crate::closed_loop::{Numbered, Shape, Until, call, run};
use crate::messages::{self, COMPACT, PUT, RANGE, frame, framed};
use crate::results::{Figure, Meter, Unit};
use crate::server::now;
use crate::wire::Connection;

const PREFIX: &str = "/registry/pods/";
const PAGE: i64 = 500;
/// A paging that takes longer is stopped and extrapolated.
const PAGING_LIMIT: Duration = Duration::from_secs(60);

/// Loads the keys and measures everything on them.
pub(crate) async fn all(bench: &mut Bench<'_>) -> Result<()> {
    load(bench).await?;
    memory(bench, "memory after the load")?;
    count(bench, 1).await?;
    page(bench).await?;
    random_gets(bench).await?;
    memory(bench, "memory after the reads")?;
    // Last of the reads: where a count walks all keys, two hundred at once keep a server busy for minutes.
    count(bench, 200).await?;
    compact(bench).await?;
    memory(bench, "memory after compaction")?;
    restart(bench, "restart, after SIGTERM", "TERM").await?;
    memory(bench, "memory after the restart")?;
    restart(bench, "restart, after SIGKILL", "KILL").await
}

async fn load(bench: &mut Bench<'_>) -> Result<()> {
    let total = bench.flags.keys();
    let load = Numbered::new(0, move |number, out: &mut Vec<u8>| {
        frame(&messages::put(messages::key(number, total), messages::value(number)), out);
    });
    let shape = Shape { path: PUT, in_flight: 200, until: Until::Requests(total) };
    bench.measure("load of all keys, 200 in flight", shape, load).await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "memory is not counted to the byte")]
fn memory(bench: &mut Bench<'_>, name: &str) -> Result<()> {
    let resident = bench.server.usage()?.resident;
    bench.add(name, Unit::Bytes, Figure { value: resident as f64, ..Figure::default() });
    Ok(())
}

async fn count(bench: &mut Bench<'_>, in_flight: usize) -> Result<()> {
    let load = Numbered::new(0, |_, out: &mut Vec<u8>| frame(&messages::count(PREFIX), out));
    let shape = Shape { path: RANGE, in_flight, until: Until::Elapsed(bench.flags.window()) };
    bench.measure(&format!("count of all keys, {in_flight} in flight"), shape, load).await?;
    Ok(())
}

/// Reads all keys in pages at the revision of the first.
#[expect(clippy::cast_precision_loss, reason = "pages and keys are few enough")]
async fn page(bench: &mut Bench<'_>) -> Result<()> {
    let mut connection = Connection::open(bench.server.address()).await?;
    let meter = Meter::start(bench.server)?;
    let mut latencies = crate::stats::Histogram::default();
    let mut request = pb::RangeRequest { limit: PAGE, ..messages::count(PREFIX) };
    request.count_only = false;
    let begun = now();
    let mut seen = 0;
    let finished = loop {
        let sent = now();
        let page: pb::RangeResponse =
            messages::unframed(&call(&mut connection, RANGE, &framed(&request)).await?)?;
        latencies.record(sent.elapsed());
        seen += page.kvs.len() as u64;
        if request.revision == 0 {
            request.revision = page.header.context("an answer without a header")?.revision;
        }
        let Some(last) = page.kvs.last() else { break true };
        request.key = [&last.key[..], &[0]].concat().into();
        if !page.more {
            break true;
        }
        if begun.elapsed() > PAGING_LIMIT {
            break false;
        }
    };
    anyhow::ensure!(!finished || seen == bench.flags.keys(), "paging found {seen} keys");
    let share = seen as f64 / bench.flags.keys() as f64;
    let note = (!finished).then(|| format!("extrapolated from {:.0} %", share * 100.0));
    let figure = Figure {
        p50: Some(latencies.quantile(0.5)),
        p99: Some(latencies.quantile(0.99)),
        max: Some(latencies.max()),
        note,
        ..meter.figure(bench.server, begun.elapsed().as_secs_f64() / share, latencies.count())?
    };
    bench.add("page through all keys, limit 500", Unit::Seconds, figure);
    Ok(())
}

async fn random_gets(bench: &mut Bench<'_>) -> Result<()> {
    let total = bench.flags.keys();
    let load = Numbered::new(0, move |number: u64, out: &mut Vec<u8>| {
        let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        frame(&messages::get(messages::key(number % total, total), false), out);
    });
    let shape = Shape { path: RANGE, in_flight: 200, until: Until::Elapsed(bench.flags.window()) };
    bench.measure("get among all keys, 200 in flight", shape, load).await?;
    Ok(())
}

/// Overwrites keys while everything before is compacted away: what do writers feel, and how long does it take?
async fn compact(bench: &mut Bench<'_>) -> Result<()> {
    let total = bench.flags.keys();
    let overwrite = |number: u64, out: &mut Vec<u8>| {
        let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        frame(&messages::put(messages::key(number % total, total), messages::value(number)), out);
    };
    // Something to compact: a tenth of the keys get a second version.
    let targets = bench.server.targets();
    let shape = Shape { path: PUT, in_flight: 200, until: Until::Requests(total / 10) };
    run(&targets, shape, &Numbered::new(0, overwrite).into()).await?;
    bench.server.settle().await?;

    let mut connection = Connection::open(bench.server.address()).await?;
    let current: pb::RangeResponse = messages::unframed(
        &call(&mut connection, RANGE, &framed(&messages::get(PREFIX.into(), true))).await?,
    )?;
    let revision = current.header.context("an answer without a header")?.revision;
    let compaction = framed(&pb::CompactionRequest { revision, physical: true });
    let begun = now();
    let compacting = async {
        call(&mut connection, COMPACT, &compaction).await?;
        anyhow::Ok(begun.elapsed())
    };
    let meter = Meter::start(bench.server)?;
    let shape = Shape { until: Until::Elapsed(bench.flags.window() * 2), ..shape };
    let writers = Numbered::new(total, overwrite).into();
    let (took, outcome) = tokio::try_join!(compacting, run(&targets, shape, &writers))?;
    let figure = meter.outcome(bench.server, &outcome)?;
    bench.add("put during compaction, 200 in flight", Unit::PerSecond, figure);
    let figure = Figure { value: took.as_secs_f64(), ..Figure::default() };
    bench.add("compaction under load", Unit::Seconds, figure);
    bench.server.settle().await
}

async fn restart(bench: &mut Bench<'_>, name: &str, signal: &str) -> Result<()> {
    let took = bench.server.restart(signal).await?;
    let figure = Figure { value: took.as_secs_f64(), ..Figure::default() };
    bench.add(name, Unit::Seconds, figure);
    bench.server.settle().await
}
