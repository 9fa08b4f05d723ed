//! The network between the members of a cluster, which tests can make as bad as they like.
//!
//! In front of each member's peer port stands a proxy inside the test's process, and the proxy's address is what the
//! members know. All of them must know the same one, so a proxy cannot tell by its port who connects; it asks the
//! kernel which process holds the other end of the connection (`owner.rs`). This needs no rights, no namespaces and
//! nothing from the program under test, works the same for TLS, and several clusters never meet.
//!
//! A connection carries bytes both ways, and each way is a link of its own with its own [`Weather`]: what goes from
//! member 0 to member 1 takes link (0, 1), whoever opened the connection. So blocking one link is a one-way
//! partition. A proxy sees streams, not packets, and TCP would have repeated what was lost: a lost piece therefore
//! comes late, with all that follows it, and a blocked link holds what was sent until it opens or the connection
//! ends.

mod owner;
mod pipe;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ports;
use crate::random::Source;

/// What it is like on a link, one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Nothing gets through.
    pub blocked: bool,
    /// How long each piece takes.
    pub delay: Duration,
    /// How many pieces of a hundred are lost at first, and come after one more [`REPEAT`].
    pub lost_percent: u64,
}

/// After this time TCP sends again what was not acknowledged.
pub const REPEAT: Duration = Duration::from_millis(200);

impl Weather {
    /// Everything gets through at once.
    pub const FINE: Self = Self { blocked: false, delay: Duration::ZERO, lost_percent: 0 };
    /// Nothing gets through.
    pub const BLOCKED: Self = Self { blocked: true, ..Self::FINE };
}

/// A way from one member to another, by their numbers.
type Link = (usize, usize);

/// The proxies of one cluster. They end with it.
#[derive(Debug)]
pub struct Network {
    shared: Arc<Shared>,
    proxies: JoinSet<()>,
}

/// What all proxies and pipes of a cluster know.
#[derive(Debug)]
struct Shared {
    /// The members' processes, by the members' numbers.
    processes: Mutex<BTreeMap<usize, u32>>,
    links: Mutex<BTreeMap<Link, watch::Sender<State>>>,
    luck: Mutex<Source>,
}

/// The weather on a link, and how often its connections were cut.
#[derive(Debug, Clone, Copy)]
struct State {
    weather: Weather,
    cuts: u64,
}

impl Network {
    /// A network without members, whose luck follows from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let shared = Shared {
            processes: Mutex::default(),
            links: Mutex::default(),
            luck: Mutex::new(Source::new(seed)),
        };
        Self { shared: Arc::new(shared), proxies: JoinSet::new() }
    }

    /// Puts a proxy in front of a member's peer port and returns the proxy's port.
    pub(crate) async fn front(&mut self, member: usize, peer_port: u16) -> u16 {
        let port = ports::free();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port was free a moment ago");
        let shared = self.shared.clone();
        self.proxies.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                // A connection that is gone before it is accepted is none.
                let Ok((stream, _)) = listener.accept().await else { continue };
                connections.spawn(carry(shared.clone(), stream, member, peer_port));
                while connections.try_join_next().is_some() {}
            }
        });
        port
    }

    /// Tells which process a member is now.
    pub(crate) fn runs_as(&self, member: usize, process: u32) {
        self.shared.processes.lock().expect("nobody panics with it").insert(member, process);
    }

    /// Sets the weather one way.
    pub fn set(&self, from: usize, to: usize, weather: Weather) {
        self.shared.change((from, to), |state| state.weather = weather);
    }

    /// Sets the weather both ways between two members.
    pub fn set_between(&self, one: usize, other: usize, weather: Weather) {
        self.set(one, other, weather);
        self.set(other, one, weather);
    }

    /// Sets the weather on all links of `members` members.
    pub fn set_everywhere(&self, members: usize, weather: Weather) {
        for from in 0..members {
            for to in (0..members).filter(|to| *to != from) {
                self.set(from, to, weather);
            }
        }
    }

    /// Parts some members from the other `members`, both ways.
    pub fn part(&self, members: usize, some: &[usize]) {
        for one in some {
            for other in (0..members).filter(|other| !some.contains(other)) {
                self.set_between(*one, other, Weather::BLOCKED);
            }
        }
    }

    /// Ends all connections between two members; they may open new ones at once.
    pub fn cut(&self, one: usize, other: usize) {
        for link in [(one, other), (other, one)] {
            self.shared.change(link, |state| state.cuts += 1);
        }
    }

    /// Makes all links fine.
    pub fn heal(&self) {
        let links = self.shared.links.lock().expect("nobody panics with it");
        for state in links.values() {
            state.send_modify(|state| state.weather = Weather::FINE);
        }
    }
}

impl Shared {
    fn change(&self, link: Link, change: impl FnOnce(&mut State)) {
        let mut links = self.links.lock().expect("nobody panics with it");
        links.entry(link).or_insert_with(fine).send_modify(change);
    }

    fn look(&self, link: Link) -> watch::Receiver<State> {
        let mut links = self.links.lock().expect("nobody panics with it");
        links.entry(link).or_insert_with(fine).subscribe()
    }

    /// Whether a piece is lost, at so many in a hundred.
    fn loses(&self, percent: u64) -> bool {
        percent > 0 && self.luck.lock().expect("nobody panics with it").below(100) < percent
    }

    fn member_at(&self, stream: &TcpStream) -> io::Result<Option<usize>> {
        let processes = self.processes.lock().expect("nobody panics with it").clone();
        owner::of(stream.peer_addr()?, stream.local_addr()?, &processes)
    }
}

fn fine() -> watch::Sender<State> {
    watch::Sender::new(State { weather: Weather::FINE, cuts: 0 })
}

/// Carries one connection to a member until either side ends it or it is cut.
async fn carry(shared: Arc<Shared>, stream: TcpStream, to: usize, peer_port: u16) {
    // A connection of nobody we know, as one that has ended by now, is dropped, as the kernel would reset it.
    let Ok(Some(from)) = shared.member_at(&stream) else { return };
    // A member that does not listen is one that refuses; the connection ends here.
    let Ok(onward) = TcpStream::connect(("127.0.0.1", peer_port)).await else { return };
    for side in [&stream, &onward] {
        // Small messages must not wait for one another; without this they are only slower.
        side.set_nodelay(true).unwrap_or_default();
    }
    let (from_reader, from_writer) = stream.into_split();
    let (to_reader, to_writer) = onward.into_split();
    // Either end ends both, as the connection is one.
    tokio::select! {
        () = pipe::run(&shared, (from, to), from_reader, to_writer) => {}
        () = pipe::run(&shared, (to, from), to_reader, from_writer) => {}
    }
}
