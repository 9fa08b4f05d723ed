//! Single keys: puts, reads and compare-and-put transactions, with 1, 200 and 1000 in flight.

use anyhow::{Context, Result};
use api::etcdserverpb as pb;
use bytes::Bytes;

use super::Bench;
use crate::closed_loop::{Load, Numbered, Shape, Until, run};
use crate::flags::LoadName;
use crate::messages::{self, PUT, RANGE, TXN, frame};

const IN_FLIGHT: [usize; 3] = [1, 200, 1000];
const HOT_KEYS: u64 = 10_000;

/// Runs those of put, get and txn that were asked for.
pub(crate) async fn all(bench: &mut Bench<'_>) -> Result<()> {
    fill(bench).await?;
    let until = Until::Elapsed(bench.flags.window());
    if bench.flags.wants(LoadName::Put) {
        for in_flight in IN_FLIGHT {
            put(bench, "", in_flight).await?;
        }
    }
    if bench.flags.wants(LoadName::Get) {
        for serializable in [false, true] {
            for in_flight in IN_FLIGHT {
                get(bench, "", in_flight, serializable).await?;
            }
        }
    }
    if bench.flags.wants(LoadName::Txn) {
        for in_flight in IN_FLIGHT {
            let shape = Shape { path: TXN, in_flight, until };
            bench
                .measure(&format!("compare-and-put, {in_flight} in flight"), shape, Guarded::new(in_flight))
                .await?;
        }
    }
    Ok(())
}

/// Puts to the hot keys, under a name that begins with `what`.
pub(super) async fn put(bench: &mut Bench<'_>, what: &str, in_flight: usize) -> Result<()> {
    let shape = Shape { path: PUT, in_flight, until: Until::Elapsed(bench.flags.window()) };
    let name = format!("{what}put, {in_flight} in flight");
    bench.measure(&name, shape, Numbered::new(0, put_hot)).await?;
    Ok(())
}

/// Reads of the hot keys, under a name that begins with `what`.
pub(super) async fn get(
    bench: &mut Bench<'_>,
    what: &str,
    in_flight: usize,
    serializable: bool,
) -> Result<()> {
    let load = Numbered::new(0, move |number, out: &mut Vec<u8>| {
        frame(&messages::get(messages::hot_key(number), serializable), out);
    });
    let shape = Shape { path: RANGE, in_flight, until: Until::Elapsed(bench.flags.window()) };
    let word = if serializable { "serializable" } else { "linearizable" };
    bench.measure(&format!("{what}get {word}, {in_flight} in flight"), shape, load).await?;
    Ok(())
}

fn put_hot(number: u64, out: &mut Vec<u8>) {
    frame(&messages::put(messages::hot_key(number), messages::value(number)), out);
}

/// Writes every hot key once, which also warms the server up.
pub(super) async fn fill(bench: &Bench<'_>) -> Result<()> {
    let shape = Shape { path: PUT, in_flight: 200, until: Until::Requests(HOT_KEYS) };
    run(&bench.server.targets(), shape, &Numbered::new(0, put_hot).into()).await?;
    bench.server.settle().await
}

/// Each slot owns a key and writes it again and again, guarded by the revision it last saw.
struct Guarded {
    keys: Vec<(Bytes, i64)>,
    written: u64,
}

impl Guarded {
    fn new(slots: usize) -> Self {
        let key = |slot| (format!("/registry/leases/node-{slot:0>6}").into(), 0);
        Self { keys: (0..slots).map(key).collect(), written: 0 }
    }
}

impl Load for Guarded {
    const WANTS_ANSWERS: bool = true;

    fn request(&mut self, slot: usize, out: &mut Vec<u8>) {
        let (key, mod_revision) = &self.keys[slot];
        self.written += 1;
        frame(&messages::guarded_put(key, messages::value(self.written), *mod_revision), out);
    }

    fn answer(&mut self, slot: usize, body: &[u8]) -> Result<()> {
        let answer: pb::TxnResponse = messages::unframed(body)?;
        if answer.succeeded {
            self.keys[slot].1 = answer.header.context("an answer without a header")?.revision;
            return Ok(());
        }
        // Another round wrote the key before: take over from where it is.
        let first = answer.responses.into_iter().next().and_then(|op| op.response);
        let Some(pb::response_op::Response::ResponseRange(range)) = first else {
            anyhow::bail!("a failed transaction without its read");
        };
        self.keys[slot].1 = range.kvs.first().context("a key that failed its compare is gone")?.mod_revision;
        Ok(())
    }
}
