//! A store in memory, a hub, and inboxes that decode what they are sent.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod golden;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use api::{ClusterId, LeaseId, MemberId};
use backend::{Backend as _, MemBackend};
use bytes::Bytes;
use etcd_rs_watch::{Hub, Identity, Options, Outbox};
use mvcc::{Commit, Store, WriteTxn};
use prost::Message as _;

pub(crate) const IDENTITY: Identity =
    Identity { cluster_id: ClusterId::new(0xc), member_id: MemberId::new(0xe) };

/// What one stream was sent and has not read yet.
#[derive(Debug)]
pub(crate) struct Inbox(Mutex<(VecDeque<WatchResponse>, usize)>);

impl Inbox {
    /// An inbox that has room while fewer than so many responses lie in it.
    pub(crate) fn with_room(room: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new((VecDeque::new(), room))))
    }

    pub(crate) fn endless() -> Arc<Self> {
        Self::with_room(usize::MAX)
    }

    pub(crate) fn set_room(&self, room: usize) {
        self.0.lock().unwrap().1 = room;
    }

    /// Reads one response.
    pub(crate) fn next(&self) -> Option<WatchResponse> {
        self.0.lock().unwrap().0.pop_front()
    }

    /// Reads everything.
    pub(crate) fn read(&self) -> Vec<WatchResponse> {
        self.0.lock().unwrap().0.drain(..).collect()
    }

    /// Reads everything, and returns each event as its revision, kind and key.
    pub(crate) fn events(&self) -> Vec<String> {
        self.read().iter().flat_map(|response| &response.events).map(event_name).collect()
    }
}

pub(crate) fn event_name(event: &api::mvccpb::Event) -> String {
    let kv = event.kv.as_ref().unwrap();
    let kind = if event.r#type == 1 { "del" } else { "put" };
    format!("{} {kind} {}", kv.mod_revision, String::from_utf8_lossy(&kv.key))
}

impl Outbox for Inbox {
    fn push(&self, response: &[&[u8]]) {
        let response = WatchResponse::decode(response.concat().as_slice()).unwrap();
        self.0.lock().unwrap().0.push_back(response);
    }

    fn has_room(&self) -> bool {
        let inbox = self.0.lock().unwrap();
        inbox.0.len() < inbox.1
    }
}

/// A store with its hub.
pub(crate) struct World {
    backend: Arc<MemBackend>,
    pub(crate) store: Store,
    pub(crate) hub: Hub,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Options::new(IDENTITY))
    }

    pub(crate) fn with(options: Options) -> Self {
        let backend = Arc::new(MemBackend::forgetful());
        let store = Store::open(backend.clone()).unwrap();
        let hub = Hub::new(store.reader(), options);
        Self { backend, store, hub }
    }

    /// Goes over to a copy of everything, as when another member's state is installed, without telling the hub.
    pub(crate) fn replace(&mut self) {
        self.backend.flush().unwrap();
        self.backend = Arc::new(self.backend.crash());
        self.store.replace(self.backend.clone()).unwrap();
    }

    /// Commits without telling the hub.
    pub(crate) fn commit(&mut self, requests: impl FnOnce(&mut WriteTxn<'_>)) -> Commit {
        let mut txn = self.store.write();
        requests(&mut txn);
        txn.end_request();
        txn.commit().unwrap()
    }

    /// Commits one request and publishes it.
    pub(crate) fn write(&mut self, request: impl FnOnce(&mut WriteTxn<'_>)) {
        let commit = self.commit(request);
        self.hub.publish(&commit, 7).unwrap();
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) {
        self.write(|txn| put(txn, key, value));
    }

    pub(crate) fn delete(&mut self, key: &str) {
        self.write(|txn| delete(txn, key, ""));
    }

    pub(crate) fn compact(&mut self, revision: i64) {
        compact(&mut self.store, revision).unwrap();
    }

    pub(crate) fn sync(&mut self) {
        while self.hub.sync(1).unwrap() {}
    }
}

pub(crate) fn put(txn: &mut WriteTxn<'_>, key: &str, value: &str) {
    txn.put(Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()), LeaseId::NONE)
        .unwrap();
}

pub(crate) fn delete(txn: &mut WriteTxn<'_>, key: &str, end: &str) {
    txn.delete_range(&Bytes::copy_from_slice(key.as_bytes()), &Bytes::copy_from_slice(end.as_bytes()))
        .unwrap();
}

/// Compacts, down to the last record.
pub(crate) fn compact(store: &mut Store, revision: i64) -> mvcc::Result<()> {
    let mut txn = store.write();
    let compaction = txn.compact(revision)?;
    txn.commit()?;
    while compaction.run_chunk(100)? {}
    Ok(())
}

pub(crate) fn request(key: &str) -> WatchCreateRequest {
    WatchCreateRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() }
}
