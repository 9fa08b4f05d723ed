use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tempfile::TempDir;

use crate::log_store::disk::{Change, Disk, Meta, RocksDisk};
use crate::types::LogEntry;
use crate::{
    Application, ApplicationError, Applied, Config, Dial, Entry, Io, Member, Node, PeerService, Result,
};

/// A disk that can be told not to finish its writes.
struct Stalling {
    disk: RocksDisk,
    is_stalled: Mutex<bool>,
    changed: Condvar,
}

impl Stalling {
    fn open(dir: &Path) -> Arc<Self> {
        let disk = RocksDisk::open(dir).unwrap();
        Arc::new(Self { disk, is_stalled: Mutex::default(), changed: Condvar::new() })
    }

    fn stall(&self, is_stalled: bool) {
        *self.is_stalled.lock().unwrap() = is_stalled;
        self.changed.notify_all();
    }
}

impl Disk for Stalling {
    fn write(&self, changes: &[Change<'_>]) -> Result<u64> {
        let written = self.disk.write(changes);
        let stalled = self.is_stalled.lock().unwrap();
        drop(self.changed.wait_while(stalled, |is_stalled| *is_stalled).unwrap());
        written
    }

    fn read(&self, from: u64, to: u64, take: &mut dyn FnMut(LogEntry) -> bool) -> Result<()> {
        self.disk.read(from, to, take)
    }

    fn meta(&self, meta: Meta) -> Result<Option<Vec<u8>>> {
        self.disk.meta(meta)
    }

    fn reclaim(&self, before: u64) -> Result<()> {
        self.disk.reclaim(before)
    }

    fn close(&self) {
        self.disk.close();
    }

    fn path(&self) -> &Path {
        self.disk.path()
    }
}

/// Connects members by pipes within the process.
#[derive(Debug, Clone, Default)]
struct Pipes(Arc<Mutex<BTreeMap<String, PeerService>>>);

impl Dial for Pipes {
    fn dial(&self, url: String) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let peers = self.0.lock().unwrap().get(&url).cloned();
        async move {
            let peers = peers.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let peers = peers.clone();
                    async move { Ok::<_, Infallible>(peers.serve(request).await) }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                builder.serve_connection(TokioIo::new(theirs), service).await.ok();
            });
            Ok(Box::new(ours) as Box<dyn Io>)
        }
        .boxed()
    }
}

/// An application that only counts.
#[derive(Default)]
struct Position(Applied);

impl Application for Position {
    fn applied(&self) -> Applied {
        self.0.clone()
    }

    fn apply(&mut self, batch: &[Entry]) -> std::result::Result<(), ApplicationError> {
        for entry in batch {
            self.0.last = Some(entry.log_id());
            self.0.membership = entry.membership.clone().or(self.0.membership.take());
        }
        Ok(())
    }

    fn flush(&mut self) -> std::result::Result<Applied, ApplicationError> {
        Ok(Applied::default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_stalls_hands_over_and_the_others_go_on() {
    let url = |id: u64| format!("http://member-{id}");
    let members: BTreeMap<u64, Member> =
        (1..=3).map(|id| (id, Member { peer_urls: vec![url(id)] })).collect();
    let (pipes, mut nodes, mut dirs) = (Pipes::default(), BTreeMap::new(), Vec::new());
    for id in 1..=3 {
        let dir = TempDir::new().unwrap();
        let mut config = Config::new(id, 7, dir.path());
        config.bootstrap = members.clone();
        config.heartbeat = Duration::from_millis(100);
        config.election_timeout = Duration::from_secs(1);
        config.dial = Arc::new(pipes.clone());
        let disk = Stalling::open(dir.path());
        let node =
            Node::open_on(Arc::clone(&disk) as Arc<dyn Disk>, config, Position::default()).await.unwrap();
        pipes.0.lock().unwrap().insert(url(id), node.peer_service());
        nodes.insert(id, (node, disk));
        dirs.push(dir);
    }
    let patience = Duration::from_secs(60);
    let mut leadership = nodes[&1].0.leadership();
    let known = tokio::time::timeout(patience, leadership.wait_for(|l| l.leader.is_some()));
    let old = known.await.unwrap().unwrap().leader.unwrap();
    let (leader, disk) = &nodes[&old];
    let term = leader.status().term;
    leader.propose(Bytes::from_static(b"fine")).await.unwrap();

    disk.stall(true);
    drop(leader.propose(Bytes::from_static(b"slow")));
    let other = &nodes[&(old % 3 + 1)].0;
    let mut leadership = other.leadership();
    let moved = leadership.wait_for(|l| l.leader.is_some_and(|leader| leader != old));
    let moved = *tokio::time::timeout(patience, moved).await.expect("leadership has not moved").unwrap();
    // By a transfer, not by an election after the other: nobody has had to stand twice.
    assert_eq!(moved.term, term + 1);
    let proposed = other.propose(Bytes::from_static(b"goes on"));
    tokio::time::timeout(patience, proposed).await.expect("nothing is committed").unwrap();

    disk.stall(false);
    for (node, _) in nodes.values() {
        node.shutdown().await.unwrap();
    }
}
