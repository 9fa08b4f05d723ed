//! Several members as one cluster, each a process of its own, on a network that can be made bad.

mod change;

use std::fs;
use std::io;
use std::ops::{Index, IndexMut};
use std::path::PathBuf;
use std::time::Duration;

use api::etcdserverpb as pb;

use crate::disk::SmallDisk;
use crate::member::Place;
use crate::network::Network;
use crate::programs::workspace;
use crate::{Member, Session, Settings, Target, eventually, ports};

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct Shape {
    /// How many members.
    pub members: usize,
    /// `--heartbeat-interval`.
    pub heartbeat: Duration,
    /// `--election-timeout`.
    pub election: Duration,
    /// `--snapshot-count`, if it is to be set: after so many entries the log is cut off, and whoever needs more of it
    /// gets a snapshot.
    pub snapshot_count: Option<u64>,
    /// How many entries are kept behind it all the same; ours only, as the real one keeps 5000 unless it is newer.
    pub catchup_entries: Option<u64>,
    /// A member that has a disk of so many bytes to itself.
    pub small_disk: Option<(usize, u64)>,
    /// What the network's luck follows from.
    pub seed: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            members: 3,
            heartbeat: Duration::from_millis(50),
            election: Duration::from_millis(500),
            snapshot_count: None,
            catchup_entries: None,
            small_disk: None,
            seed: 1,
        }
    }
}

/// What a member says of the cluster.
#[derive(Debug, Clone, Copy)]
struct View {
    member: usize,
    id: u64,
    leader: u64,
    term: u64,
}

/// A running cluster. Its members are killed, and their data removed, when this goes out of scope.
#[derive(Debug)]
pub struct Cluster {
    target: Target,
    shape: Shape,
    members: Vec<Member>,
    network: Network,
    small_disk: Option<SmallDisk>,
    /// What is shown to members when they are asked how they are.
    token: Option<String>,
}

impl Cluster {
    /// Starts a cluster of three and waits until each of them serves.
    pub async fn start(target: Target) -> Self {
        Self::start_with(target, Shape::default()).await
    }

    /// The same, with a shape.
    ///
    /// # Panics
    /// When it does not come to serve.
    pub async fn start_with(target: Target, shape: Shape) -> Self {
        let mut network = Network::new(shape.seed);
        let mut places = Vec::new();
        for number in 0..shape.members {
            places.push(place(&mut network, target, &shape, number).await);
        }
        let all = initial_cluster(places.iter());
        let mut cluster = Self { target, shape, members: Vec::new(), network, small_disk: None, token: None };
        for place in &mut places {
            place.initial_cluster.clone_from(&all);
        }
        cluster.members =
            places.into_iter().map(|place| Member::placed(target, Settings::default(), place)).collect();
        if let Some((number, bytes)) = cluster.shape.small_disk {
            cluster.give_disk(number, bytes);
        }
        for number in 0..cluster.members.len() {
            cluster.begin(number).await;
        }
        for member in &mut cluster.members {
            member.serves().await;
        }
        cluster
    }

    /// Starts a stopped member on whatever data it has, and does not wait.
    pub async fn begin(&mut self, number: usize) {
        self.members[number].begin().await;
        let process = self.members[number].process().expect("members of a cluster are processes");
        self.network.runs_as(number, process);
    }

    /// Starts a stopped member on whatever data it has and waits until it serves.
    pub async fn launch(&mut self, number: usize) {
        self.begin(number).await;
        self.members[number].serves().await;
    }

    /// A member more, with what the others are to know of it; it has yet to be added and started.
    pub async fn prepare(&mut self) -> usize {
        let number = self.members.len();
        let place = place(&mut self.network, self.target, &self.shape, number).await;
        self.members.push(Member::placed(self.target, Settings::default(), place));
        number
    }

    /// Says which members the one that joins a running cluster finds there, itself among them.
    pub fn finds(&mut self, number: usize, members: &[usize]) {
        let named =
            |number: &usize| format!("{}={}", self.members[*number].name(), self.members[*number].peer_url());
        let all = members.iter().map(named).collect::<Vec<_>>().join(",");
        let place = self.members[number].place_mut();
        place.initial_cluster = all;
        place.joins = true;
    }

    /// Shows this token from now on when members are asked how they are, as they tell nobody when authentication is on.
    pub fn show(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    fn give_disk(&mut self, number: usize, bytes: u64) {
        let member = &mut self.members[number];
        let directory = member.scratch().join("disk");
        fs::create_dir(&directory).expect("the scratch directory is fresh");
        let disk = SmallDisk::new(&directory, bytes);
        let place = member.place_mut();
        place.inside = disk.inside();
        place.data_dir = Some(directory.join("data"));
        self.small_disk = Some(disk);
    }

    /// The small disk.
    ///
    /// # Panics
    /// When there is none.
    pub fn small_disk(&self) -> &SmallDisk {
        self.small_disk.as_ref().expect("a member with a disk to itself")
    }

    /// The network between the members.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The members' numbers.
    pub fn numbers(&self) -> std::ops::Range<usize> {
        0..self.members.len()
    }

    /// The numbers of those that run.
    pub fn running(&self) -> Vec<usize> {
        self.numbers().filter(|number| self.members[*number].process().is_some()).collect()
    }

    /// Where clients reach the members, in the order of their numbers.
    pub fn client_urls(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client_url().to_owned()).collect()
    }

    /// What kind its members are.
    pub fn target(&self) -> Target {
        self.target
    }

    /// How it was started.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Waits until more than half of the voters follow one that calls itself leader, and returns its number.
    ///
    /// # Panics
    /// When there is none for too long.
    pub async fn leader(&self) -> usize {
        eventually("a leader", async || self.leader_now().await).await
    }

    /// Waits for a leader other than `old`.
    ///
    /// # Panics
    /// When there is none for too long.
    pub async fn leader_other_than(&self, old: usize) -> usize {
        eventually("another leader", async || self.leader_now().await.filter(|leader| *leader != old)).await
    }

    /// The id of a member that runs.
    ///
    /// # Panics
    /// When it does not answer for too long.
    pub async fn id(&self, number: usize) -> u64 {
        eventually("the id of a member", async || self.view(number).await).await.id
    }

    /// Whether each member that runs says that it knows of no leader.
    pub async fn no_leader(&self) -> bool {
        self.views().await.iter().all(|view| view.leader == 0)
    }

    /// Any member that runs and does not lead.
    ///
    /// # Panics
    /// When there is no leader for too long, or no other member.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        self.running().into_iter().find(|number| *number != leader).expect("another member that runs")
    }

    async fn leader_now(&self) -> Option<usize> {
        let views = self.views().await;
        let newest = views.iter().map(|view| view.term).max()?;
        let current = || views.iter().filter(|view| view.term == newest);
        let leader = current().find(|view| view.leader == view.id)?;
        let followers = current().filter(|view| view.leader == leader.id).count();
        (followers * 2 > self.shape.members).then_some(leader.member)
    }

    async fn views(&self) -> Vec<View> {
        let views = futures_util::future::join_all(self.numbers().map(|number| self.view(number)));
        views.await.into_iter().flatten().collect()
    }

    async fn view(&self, member: usize) -> Option<View> {
        self.members[member].process()?;
        let member_asked = &self.members[member];
        let session = self.token.as_ref().map(|token| Session::with_token(member_asked, token));
        let mut maintenance = session.unwrap_or_else(|| Session::nobody(member_asked)).maintenance();
        let asked = maintenance.status(pb::StatusRequest {});
        let status = tokio::time::timeout(Duration::from_millis(500), asked).await.ok()?.ok()?.into_inner();
        let id = status.header?.member_id;
        Some(View { member, id, leader: status.leader, term: status.raft_term })
    }
}

impl Cluster {
    /// Keeps what the members printed so far in a directory that stays, and returns it.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn keep_logs(&self) -> io::Result<PathBuf> {
        let first = self.members.first().map_or("nobody", |member| member.client_url());
        let name = format!("{:?}-{}", self.target, first.rsplit(':').next().unwrap_or(first));
        let directory = workspace().join("target/clusters").join(name);
        fs::create_dir_all(&directory)?;
        for member in &self.members {
            let log = directory.join(format!("{}.log", member.name()));
            match fs::copy(member.log(), log) {
                // One that was never started has printed nothing.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        directory.canonicalize()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = self.keep_logs();
            #[expect(clippy::print_stderr, reason = "shown only with a failed test")]
            {
                eprintln!("--- the members' logs are in {kept:?}");
            }
        }
    }
}

impl Index<usize> for Cluster {
    type Output = Member;

    fn index(&self, number: usize) -> &Member {
        &self.members[number]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, number: usize) -> &mut Member {
        &mut self.members[number]
    }
}

async fn place(network: &mut Network, target: Target, shape: &Shape, number: usize) -> Place {
    let peer_port = ports::free();
    let proxy_port = network.front(number, peer_port).await;
    let mut flags = vec![
        format!("--heartbeat-interval={}", shape.heartbeat.as_millis()),
        format!("--election-timeout={}", shape.election.as_millis()),
        // The default since etcd 3.5.
        "--pre-vote=true".to_owned(),
        // Passwords are not what is tested, and the usual cost is a good part of a second where others build.
        "--bcrypt-cost=4".to_owned(),
    ];
    flags.extend(shape.snapshot_count.map(|count| format!("--snapshot-count={count}")));
    if target != Target::Real {
        flags.extend(shape.catchup_entries.map(|count| format!("--snapshot-catchup-entries={count}")));
    }
    Place {
        name: format!("m{number}"),
        client_url: format!("http://127.0.0.1:{}", ports::free()),
        listen_peer_url: format!("http://127.0.0.1:{peer_port}"),
        peer_url: format!("http://127.0.0.1:{proxy_port}"),
        initial_cluster: String::new(),
        joins: false,
        flags,
        inside: Vec::new(),
        in_cluster: true,
        data_dir: None,
    }
}

fn initial_cluster<'a>(places: impl Iterator<Item = &'a Place>) -> String {
    places.map(|place| format!("{}={}", place.name, place.peer_url)).collect::<Vec<_>>().join(",")
}
