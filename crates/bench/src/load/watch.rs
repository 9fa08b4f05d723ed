//! Watches: many watchers of one prefix, and what a writer feels of the watches on its key.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;

use super::Bench;
use crate::closed_loop::{Numbered, Shape, Until, run};
use crate::flags::LoadName;
use crate::messages::{self, PUT, WATCH, frame, framed, skim_watch_response};
use crate::results::{Figure, Meter, Unit};
use crate::server::now;
use crate::streams::Streams;

/// After the last write, events may take this long to arrive.
const DELIVERY_LIMIT: Duration = Duration::from_secs(60);

/// The watch loads, each if it was asked for.
pub(crate) async fn all(bench: &mut Bench<'_>) -> Result<()> {
    if bench.flags.wants(LoadName::Fanout) {
        fanout(bench).await?;
    }
    if bench.flags.wants(LoadName::Serial) {
        serial_writer(bench, 0).await?;
        serial_writer(bench, 1000).await?;
        serial_writer(bench, 10_000).await?;
    }
    Ok(())
}

/// Puts as fast as they go, to 1000 watchers of their prefix over 10 streams.
#[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
async fn fanout(bench: &mut Bench<'_>) -> Result<()> {
    let puts = u64::try_from(bench.flags.scaled(2000))?;
    let targets = bench.server.targets();
    let mut audience = Audience::open(bench.server.address(), 1000, 10, "/fanout/", true).await?;
    let expected = puts * 1000;
    let meter = Meter::start(bench.server)?;
    let begun = now();
    let writing = async {
        let load = Numbered::new(0, |number, out: &mut Vec<u8>| {
            let key = format!("/fanout/{}", number % 1000);
            frame(&messages::put(key.into(), messages::value(number)), out);
        });
        let shape = Shape { path: PUT, in_flight: 50, until: Until::Requests(puts) };
        run(&targets, shape, &load.into()).await
    };
    let (outcome, arrived) = tokio::try_join!(writing, audience.listen(expected, DELIVERY_LIMIT))?;
    ensure!(arrived.events == expected, "{} of {expected} events arrived", arrived.events);
    let took = arrived.last.duration_since(begun).as_secs_f64();
    let rate = expected as f64 / took;
    let latencies = &outcome.latencies;
    let figure = Figure {
        p50: Some(latencies.quantile(0.5)),
        p99: Some(latencies.quantile(0.99)),
        max: Some(latencies.max()),
        ..meter.figure(bench.server, rate, expected)?
    };
    bench.add("events to 1000 watchers, 10 streams", Unit::PerSecond, figure);
    bench.server.settle().await
}

/// One writer with one put in flight, and `watches` watches on its key over 100 streams.
async fn serial_writer(bench: &mut Bench<'_>, watches: usize) -> Result<()> {
    let targets = bench.server.targets();
    let mut audience = Audience::open(bench.server.address(), watches, 100, "/serial/key", false).await?;
    let meter = Meter::start(bench.server)?;
    let written = Cell::new(None);
    let writing = async {
        let load = Numbered::new(0, |number, out: &mut Vec<u8>| {
            frame(&messages::put("/serial/key".into(), messages::value(number)), out);
        });
        let shape = Shape { path: PUT, in_flight: 1, until: Until::Elapsed(bench.flags.window()) };
        let outcome = run(&targets, shape, &load.into()).await?;
        written.set(Some((outcome.latencies.count(), now())));
        anyhow::Ok(outcome)
    };
    // The abandoned last put may or may not have been written, so the events are counted to those answered.
    let fan = u64::try_from(watches)?;
    let listening = audience.listen_until(|events| {
        let Some((puts, end)) = written.get() else { return false };
        events >= puts * fan || end.elapsed() > DELIVERY_LIMIT
    });
    let (outcome, arrived) = tokio::try_join!(writing, listening)?;
    let (puts, end) = written.get().context("the writer ended without a word")?;
    ensure!(arrived.events >= puts * fan, "{} of {} events arrived", arrived.events, puts * fan);
    let lag = arrived.last.saturating_duration_since(end);
    let figure = Figure {
        note: (lag > Duration::from_millis(100)).then(|| format!("events {:.1} s behind", lag.as_secs_f64())),
        ..meter.outcome(bench.server, &outcome)?
    };
    bench.add(&format!("put, 1 in flight, {watches} watches on its key"), Unit::PerSecond, figure);
    drop(audience);
    bench.server.settle().await
}

/// Connections with watching streams on them.
struct Audience {
    connections: Vec<Streams>,
}

/// What an audience saw.
#[derive(Debug, Clone, Copy)]
struct Arrived {
    events: u64,
    last: Instant,
}

impl Audience {
    /// Spreads `watches` over `streams` and those over ten connections, and waits until all are confirmed.
    async fn open(
        address: SocketAddr,
        watches: usize,
        streams: usize,
        key: &str,
        prefix: bool,
    ) -> Result<Self> {
        let message = framed(&messages::watch(key, prefix));
        let connections = 10;
        let opened = try_join_all((0..connections).map(|_| async {
            let mut connection = Streams::connect(address).await?;
            let mut waiting = 0;
            for _ in 0..streams / connections {
                if watches == 0 {
                    break;
                }
                let stream = connection.open(WATCH, &message)?;
                waiting += 1;
                for _ in 1..watches / streams {
                    waiting += 1;
                    while !connection.send(stream, &message) {
                        connection.turn(|_, message| confirmed(message, &mut waiting)).await?;
                    }
                }
            }
            while waiting > 0 {
                connection.turn(|_, message| confirmed(message, &mut waiting)).await?;
            }
            anyhow::Ok(connection)
        }));
        let limited = tokio::time::timeout(DELIVERY_LIMIT, opened).await;
        Ok(Self { connections: limited.context("watches were not confirmed in time")?? })
    }

    async fn listen(&mut self, expected: u64, limit: Duration) -> Result<Arrived> {
        let begun = now();
        self.listen_until(|events| events >= expected || begun.elapsed() > limit).await
    }

    /// Counts events until `enough` says so; it is asked after each arrival and every few milliseconds.
    async fn listen_until(&mut self, enough: impl Fn(u64) -> bool) -> Result<Arrived> {
        let events = Cell::new(0);
        let last = Cell::new(now());
        let enough = || enough(events.get());
        try_join_all(self.connections.iter_mut().map(|connection| async {
            while !enough() {
                let turn = connection.turn(|_, message| {
                    let (more, _) = skim_watch_response(message).context("a broken watch answer")?;
                    events.set(events.get() + more);
                    last.set(now());
                    Ok(())
                });
                // No answer within the pause: look again whether it is enough.
                if let Ok(turned) = tokio::time::timeout(Duration::from_millis(5), turn).await {
                    turned?;
                }
            }
            anyhow::Ok(())
        }))
        .await?;
        Ok(Arrived { events: events.get(), last: last.get() })
    }
}

fn confirmed(message: &[u8], waiting: &mut usize) -> Result<()> {
    let (_, created) = skim_watch_response(message).context("a broken watch answer")?;
    *waiting -= usize::from(created);
    Ok(())
}
