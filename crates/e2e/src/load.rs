//! A load on a cluster that remembers everything: each call with its times and its answer, each event that a watch
//! delivered, each renewal of a lease. What comes of it is a [`Record`], which judges the cluster.
//!
//! Clients write, read and delete a few keys through all members, with values that are never used twice. A call that
//! fails has an unknown fate, and is never sent again. Watchers follow the same keys and go on from the last revision
//! they saw, on the next member, whenever a stream ends, is silent for long, or has been enough. Keepers hold leases.

mod client;
mod keeper;
mod messages;
mod record;
mod watching;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::linear::{Call, Moment};
use crate::random::Source;
use crate::{Cluster, eventually};

pub use record::{Difference, Failure, Record};

/// All keys of a load begin so.
const ALL: &str = "load/";
/// All keys of the clients begin so.
const CALLED: &str = "load/key/";
/// All keys of the keepers begin so.
const LEASED: &str = "load/lease/";
/// The key that is written when all is over, so that whoever sees it has seen everything.
const END: &str = "load/~end";

/// How much of everything a load has.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Clients that call, one call at a time each.
    pub clients: usize,
    /// Keys that they share.
    pub keys: u64,
    /// Watchers that follow.
    pub watchers: usize,
    /// Leases that are kept alive.
    pub leases: usize,
    /// How long a client rests between two calls.
    pub rest: Duration,
    /// Takes answers from the past for answers of now, so that the judge has something to find.
    pub takes_past_for_now: bool,
    /// What all choices follow from.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            clients: 8,
            keys: 5,
            watchers: 4,
            leases: 2,
            rest: Duration::from_millis(4),
            takes_past_for_now: false,
            seed: 1,
        }
    }
}

/// How long a client of a cluster that has failed may take to end.
const GIVE_UP: Duration = Duration::from_secs(20);

/// What all tasks of a load share.
#[derive(Debug)]
struct Shared {
    begun: Instant,
    /// Where clients reach the members. It only grows: they find out by themselves who is gone.
    urls: Mutex<Vec<String>>,
    /// Set when the clients and keepers are to end.
    over: AtomicBool,
    /// When this revision has been seen, the watchers are to end.
    last: AtomicU64,
    acknowledged_writes: AtomicU64,
}

impl Shared {
    fn now(&self) -> Moment {
        Moment::try_from(self.begun.elapsed().as_nanos()).expect("a test does not last for centuries")
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn last(&self) -> i64 {
        self.last.load(Ordering::Relaxed).try_into().expect("it was a revision")
    }
}

/// A load that runs. Its tasks end when it goes out of scope.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Vec<Call>>,
    watchers: JoinSet<watching::Seen>,
    keepers: JoinSet<Vec<keeper::Kept>>,
}

impl Load {
    /// Starts a load on all members that the cluster has now.
    pub fn start(cluster: &Cluster, plan: &Plan) -> Self {
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            urls: Mutex::new(cluster.client_urls()),
            over: AtomicBool::new(false),
            last: AtomicU64::new(i64::MAX.unsigned_abs()),
            acknowledged_writes: AtomicU64::new(0),
        });
        let mut seeds = Source::new(plan.seed);
        let mut load =
            Self { shared, clients: JoinSet::new(), watchers: JoinSet::new(), keepers: JoinSet::new() };
        for number in 0..plan.clients {
            let source = Source::new(seeds.below(u64::MAX));
            load.clients.spawn(client::run(load.shared.clone(), plan.clone(), number, source));
        }
        for number in 0..plan.watchers {
            let source = Source::new(seeds.below(u64::MAX));
            load.watchers.spawn(watching::run(load.shared.clone(), number, source));
        }
        for number in 0..plan.leases {
            load.keepers.spawn(keeper::run(load.shared.clone(), number));
        }
        load
    }

    /// Lets clients, watchers and keepers find a member that came later.
    ///
    /// # Panics
    /// Never, as nobody panics with the list.
    pub fn meets(&self, url: &str) {
        self.shared.urls.lock().expect("nobody panics with it").push(url.to_owned());
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged_writes(&self) -> u64 {
        self.shared.acknowledged_writes.load(Ordering::Relaxed)
    }

    /// Waits until so many more writes are acknowledged.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn goes_on(&self, more: u64) {
        let enough = self.acknowledged_writes() + more;
        eventually("writes that are acknowledged", async || {
            (self.acknowledged_writes() >= enough).then_some(())
        })
        .await;
    }

    /// Ends the load. The cluster must be whole by now: the watchers are waited for until they have seen everything.
    ///
    /// # Panics
    /// When the cluster does not serve.
    pub async fn end(mut self, cluster: &Cluster) -> Record {
        self.shared.over.store(true, Ordering::Relaxed);
        let calls: Vec<Call> = collect(&mut self.clients).await.into_iter().flatten().collect();
        let kept = collect(&mut self.keepers).await;
        let last = record::end_of_history(cluster).await;
        self.shared.last.store(last.unsigned_abs(), Ordering::Relaxed);
        let seen = collect(&mut self.watchers).await;
        Record::new(calls, seen, kept, last)
    }
}

impl Load {
    /// Ends the load of a cluster that has failed: what its clients asked and were told. Clients that do not end soon are left out.
    pub async fn give_up(mut self) -> Vec<Call> {
        self.shared.over.store(true, Ordering::Relaxed);
        let mut calls = Vec::new();
        while let Ok(Some(Ok(done))) = tokio::time::timeout(GIVE_UP, self.clients.join_next()).await {
            calls.extend(done);
        }
        calls
    }
}

async fn collect<T: 'static>(tasks: &mut JoinSet<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.push(done.expect("the load's own tasks do not panic"));
    }
    all
}

/// One task's connections to all members, opened when first used.
struct Members {
    shared: Arc<Shared>,
    channels: Vec<Channel>,
    /// The member it uses now.
    current: usize,
}

impl Members {
    fn new(shared: Arc<Shared>, number: usize) -> Self {
        let mut members = Self { shared, channels: Vec::new(), current: number };
        members.learn();
        members.current = number % members.channels.len();
        members
    }

    fn channel(&self) -> Channel {
        self.channels[self.current].clone()
    }

    /// Goes to the next member.
    fn next(&mut self) {
        self.learn();
        self.current = (self.current + 1) % self.channels.len();
    }

    /// Goes to any member.
    fn any(&mut self, source: &mut Source) {
        self.learn();
        self.current = below(source, self.channels.len());
    }

    fn learn(&mut self) {
        let urls = self.shared.urls.lock().expect("nobody panics with it");
        for url in urls.iter().skip(self.channels.len()) {
            let endpoint = Endpoint::from_shared(url.clone()).expect("a well-formed URL");
            self.channels.push(endpoint.connect_timeout(Duration::from_secs(1)).connect_lazy());
        }
    }
}

/// A small number.
fn below(source: &mut Source, end: usize) -> usize {
    let end = u64::try_from(end).expect("a small number");
    usize::try_from(source.below(end)).expect("a small number")
}
