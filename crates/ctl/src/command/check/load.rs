//! Many clients that put keys, no faster than they are told.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use client::Client;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::progress::Bar;
use crate::command::Session;
use crate::failure::{Failure, Outcome};
use crate::signals::Signals;

/// What to put, and for how long.
pub(super) struct Load {
    pub(super) prefix: String,
    /// Length of a key after the prefix.
    pub(super) key_bytes: usize,
    pub(super) value_bytes: usize,
    /// Puts of all clients in a second; `None` for as many as they can.
    pub(super) rate: Option<u32>,
    pub(super) end: End,
}

#[derive(Clone, Copy)]
pub(super) enum End {
    After(Duration),
    Puts(u64),
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Report {
    puts: f64,
    sum: f64,
    sum_of_squares: f64,
    pub(super) slowest: Duration,
    pub(super) took: Duration,
    /// What puts failed with, and how many.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Report {
    pub(super) fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.puts += 1.0;
        self.sum += seconds;
        self.sum_of_squares += seconds * seconds;
        self.slowest = self.slowest.max(took);
    }

    fn merge(&mut self, other: Self) {
        self.puts += other.puts;
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
        self.slowest = self.slowest.max(other.slowest);
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }

    /// Successful puts of a second.
    pub(super) fn throughput(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { self.puts / seconds } else { self.puts }
    }

    /// The standard deviation of how long puts took, in seconds.
    pub(super) fn deviation(&self) -> f64 {
        if self.puts == 0.0 {
            return 0.0;
        }
        let mean = self.sum / self.puts;
        (self.sum_of_squares / self.puts - mean * mean).max(0.0).sqrt()
    }
}

/// What the clients share.
struct Pace {
    /// When the next put may begin. Held to take that and set the next.
    next: Mutex<Instant>,
    interval: Option<Duration>,
    begun: Instant,
    end: End,
    puts: AtomicU64,
    chance: RandomState,
}

impl Pace {
    /// Waits for the turn of a put and gives its number; `None` when the load is over.
    async fn turn(&self) -> Option<u64> {
        if let Some(interval) = self.interval {
            let mut next = self.next.lock().await;
            // A turn that nobody took is not made up for.
            let at = (*next).max(Instant::now());
            *next = at + interval;
            drop(next);
            tokio::time::sleep_until(at).await;
        }
        let number = self.puts.fetch_add(1, Ordering::Relaxed);
        let more = match self.end {
            End::After(limit) => self.begun.elapsed() < limit,
            End::Puts(count) => number < count,
        };
        more.then_some(number)
    }

    /// How much of the load is done, between 0 and 1.
    fn done(&self) -> f64 {
        let part = match self.end {
            End::After(limit) => self.begun.elapsed().as_secs_f64() / limit.as_secs_f64(),
            #[expect(clippy::cast_precision_loss, reason = "it is for a bar of a few dozen columns")]
            End::Puts(count) => self.puts.load(Ordering::Relaxed) as f64 / count as f64,
        };
        part.min(1.0)
    }
}

impl Load {
    /// Runs until the end, or until a signal.
    pub(super) async fn run(
        self,
        session: &Session,
        clients: usize,
        mut signals: Signals,
    ) -> Outcome<Report> {
        let mut connected = Vec::with_capacity(clients);
        for _ in 0..clients {
            connected.push(session.connect().await?);
        }
        let begun = Instant::now();
        let pace = Arc::new(Pace {
            next: Mutex::new(begun),
            interval: self.rate.map(|rate| Duration::from_secs(1) / rate),
            begun,
            end: self.end,
            puts: AtomicU64::new(0),
            chance: RandomState::new(),
        });
        let load = Arc::new(self);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut tasks = tokio::task::JoinSet::new();
        for client in connected {
            tasks.spawn(Arc::clone(&load).puts(client, Arc::clone(&pace), stopped.clone()));
        }
        let mut report = Report::default();
        let mut bar = Bar::new();
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    Some(Ok(part)) => report.merge(part),
                    Some(Err(error)) => return Err(Failure::error(error)),
                    None => break,
                },
                () = signals.next() => drop(stop.send_replace(true)),
                () = bar.tick() => bar.show(pace.done()),
            }
        }
        bar.end();
        report.took = begun.elapsed();
        Ok(report)
    }

    /// One client's puts, one after the other.
    async fn puts(
        self: Arc<Self>,
        client: Client,
        pace: Arc<Pace>,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) -> Report {
        let mut report = Report::default();
        loop {
            let number = tokio::select! {
                number = pace.turn() => number,
                // Without a sender nobody waits for what comes of it.
                _ = stop.wait_for(|stop| *stop) => None,
            };
            let Some(number) = number else { return report };
            let begun = Instant::now();
            match client.put(self.key(pace.chance.hash_one(number)), vec![0; self.value_bytes]).await {
                Ok(_) => report.add(begun.elapsed()),
                Err(error) => *report.errors.entry(error.to_string()).or_default() += 1,
            }
        }
    }

    /// A key of full length with a random number in front, in seven bits a byte as Go writes it.
    fn key(&self, chance: u64) -> Vec<u8> {
        let mut key = self.prefix.clone().into_bytes();
        let mut rest = chance;
        while rest >= 0x80 {
            key.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        key.push(rest.to_le_bytes()[0]);
        key.resize(self.prefix.len() + self.key_bytes, 0);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_length_and_differ() {
        let load =
            Load { prefix: "/p/".into(), key_bytes: 256, value_bytes: 0, rate: None, end: End::Puts(0) };
        assert_eq!(load.key(300)[..6], *b"/p/\xac\x02\0");
        assert_eq!(load.key(u64::MAX).len(), 259);
    }

    #[test]
    fn throughput_counts_what_succeeded_over_all_of_the_time() {
        let mut report = Report::default();
        [1, 3].into_iter().for_each(|millis| report.add(Duration::from_millis(millis)));
        report.took = Duration::from_secs(4);
        assert!((report.throughput() - 0.5).abs() < 1e-9);
        assert!((report.deviation() - 0.001).abs() < 1e-9);
    }
}
