//! Leases: many kept alive, and many that are due at the same moment.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb as pb;
use futures_util::future::try_join_all;

use super::Bench;
use crate::closed_loop::{Numbered, Shape, Until, call, run};
use crate::flags::LoadName;
use crate::messages::{self, LEASE_GRANT, LEASE_KEEP_ALIVE, PUT, RANGE, frame, framed};
use crate::results::{Meter, Unit};
use crate::server::now;
use crate::stats::Histogram;
use crate::streams::Streams;
use crate::wire::Connection;

const CONNECTIONS: usize = 10;
/// Keep-alives in flight on each stream.
const DEPTH: usize = 10;
/// Leases that are not gone this long after they were due are given up.
const EXPIRY_LIMIT: Duration = Duration::from_secs(180);
const EXPIRY_TTL: Duration = Duration::from_secs(20);

/// The lease loads, each if it was asked for.
pub(crate) async fn all(bench: &mut Bench<'_>) -> Result<()> {
    if bench.flags.wants(LoadName::KeepAlive) {
        keep_alive(bench).await?;
    }
    if bench.flags.wants(LoadName::Expiry) {
        expiry(bench).await?;
    }
    Ok(())
}

async fn grant(bench: &Bench<'_>, first: i64, count: usize, ttl: Duration) -> Result<()> {
    let ttl = i64::try_from(ttl.as_secs())?;
    let load = Numbered::new(u64::try_from(first)?, move |id, out: &mut Vec<u8>| {
        frame(&pb::LeaseGrantRequest { ttl, id: id.try_into().unwrap_or_default() }, out);
    });
    let until = Until::Requests(u64::try_from(count)?);
    run(&bench.server.targets(), Shape { path: LEASE_GRANT, in_flight: 200, until }, &load.into()).await?;
    bench.server.settle().await
}

/// Renews 10,000 leases over 100 streams as fast as answers come.
async fn keep_alive(bench: &mut Bench<'_>) -> Result<()> {
    let leases = bench.flags.scaled(10_000);
    let first = 1_000_000;
    grant(bench, first, leases, Duration::from_secs(3600)).await?;
    let meter = Meter::start(bench.server)?;
    let window = bench.flags.window();
    let begun = now();
    let lanes = try_join_all((0..CONNECTIONS).map(|lane| renew(bench, first, leases, lane, window))).await?;
    let elapsed = begun.elapsed();
    let mut latencies = Histogram::default();
    for lane in &lanes {
        latencies.merge(lane);
    }
    let outcome = crate::closed_loop::Outcome { latencies, elapsed };
    let figure = meter.outcome(bench.server, &outcome)?;
    bench.add("lease keep-alive, 100 streams", Unit::PerSecond, figure);
    bench.server.settle().await
}

/// One connection's ten streams: each renews its leases in turn, some at a time.
async fn renew(
    bench: &Bench<'_>,
    first: i64,
    leases: usize,
    lane: usize,
    window: Duration,
) -> Result<Histogram> {
    let mut streams = Streams::connect(bench.server.address()).await?;
    let mut latencies = Histogram::default();
    let mut next = lane;
    let mut message = Vec::new();
    let mut renewal = || -> Result<Vec<u8>> {
        message.clear();
        frame(&pb::LeaseKeepAliveRequest { id: first + i64::try_from(next % leases)? }, &mut message);
        next += CONNECTIONS;
        Ok(message.clone())
    };
    let begun = now();
    let mut sent = std::collections::HashMap::new();
    let mut owed: Vec<u32> = Vec::new();
    for _ in 0..10 {
        let stream = streams.open(LEASE_KEEP_ALIVE, &renewal()?)?;
        sent.insert(stream, std::collections::VecDeque::from([now()]));
        owed.extend([stream].repeat(DEPTH - 1));
    }
    while begun.elapsed() < window {
        while let Some(stream) = owed.pop() {
            if !streams.send(stream, &renewal()?) {
                owed.push(stream);
                break;
            }
            sent.entry(stream).or_default().push_back(now());
        }
        let turn = streams.turn(|stream, message| {
            let answer = <pb::LeaseKeepAliveResponse as prost::Message>::decode(message)?;
            ensure!(answer.ttl > 0, "lease {} is gone", answer.id);
            let times = sent.get_mut(&stream).context("an answer on an unknown stream")?;
            latencies.record(times.pop_front().context("an answer to no question")?.elapsed());
            owed.push(stream);
            Ok(())
        });
        if let Ok(turned) = tokio::time::timeout(window.saturating_sub(begun.elapsed()), turn).await {
            turned?;
        }
    }
    Ok(latencies)
}

/// Grants 20,000 leases, gives each a key, renews all within a moment, and waits for the last key to go.
async fn expiry(bench: &mut Bench<'_>) -> Result<()> {
    let leases = bench.flags.scaled(20_000);
    let first = 2_000_000;
    grant(bench, first, leases, EXPIRY_TTL).await?;
    let attach = Numbered::new(0, move |number: u64, out: &mut Vec<u8>| {
        let lease = first + i64::try_from(number).unwrap_or_default();
        let put = messages::put(format!("/leased/{number:0>8}").into(), messages::value(number));
        frame(&pb::PutRequest { lease, ..put }, out);
    });
    let until = Until::Requests(u64::try_from(leases)?);
    run(&bench.server.targets(), Shape { path: PUT, in_flight: 200, until }, &attach.into()).await?;
    renew_all(bench, first, leases).await?;

    let due = now() + EXPIRY_TTL;
    tokio::time::sleep_until(due.into()).await;
    let meter = Meter::start(bench.server)?;
    let mut connection = Connection::open(bench.server.address()).await?;
    let question = framed(&pb::RangeRequest { serializable: true, ..messages::count("/leased/") });
    loop {
        let answer: pb::RangeResponse = messages::unframed(&call(&mut connection, RANGE, &question).await?)?;
        if answer.count == 0 {
            break;
        }
        ensure!(due.elapsed() < EXPIRY_LIMIT, "{} keys never went", answer.count);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let figure = meter.figure(bench.server, due.elapsed().as_secs_f64(), u64::try_from(leases)?)?;
    bench.add("leases due together: last key gone after", Unit::Seconds, figure);
    Ok(())
}

/// Renews every lease once, so that all are due together.
async fn renew_all(bench: &Bench<'_>, first: i64, leases: usize) -> Result<()> {
    let answered = Cell::new(0);
    let mut streams = Streams::connect(bench.server.address()).await?;
    let mut count = |_: u32, message: &[u8]| {
        let answer = <pb::LeaseKeepAliveResponse as prost::Message>::decode(message)?;
        ensure!(answer.ttl > 0, "lease {} was gone before it was due", answer.id);
        answered.set(answered.get() + 1);
        Ok(())
    };
    let message = |index: usize| -> Result<Vec<u8>> {
        Ok(framed(&pb::LeaseKeepAliveRequest { id: first + i64::try_from(index)? }))
    };
    let stream = streams.open(LEASE_KEEP_ALIVE, &message(0)?)?;
    for index in 1..leases {
        let message = message(index)?;
        while index - answered.get() > 500 {
            streams.turn(&mut count).await?;
        }
        while !streams.send(stream, &message) {
            streams.turn(&mut count).await?;
        }
    }
    while answered.get() < leases {
        streams.turn(&mut count).await?;
    }
    Ok(())
}
