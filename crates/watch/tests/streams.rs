//! Streams: opened, flushed, closed, many of them.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::etcdserverpb::WatchCreateRequest;
use common::{Inbox, World, put, request};
use etcd_rs_watch::Outbox;

/// Counts what it is asked.
#[derive(Default)]
struct Counter {
    pushed: AtomicUsize,
    flushed: AtomicUsize,
}

impl Outbox for Counter {
    fn push(&self, _: &[&[u8]]) {
        self.pushed.fetch_add(1, Ordering::Relaxed);
    }

    fn has_room(&self) -> bool {
        true
    }

    fn flush(&self) {
        self.flushed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counter {
    fn take(&self) -> (usize, usize) {
        (self.pushed.swap(0, Ordering::Relaxed), self.flushed.swap(0, Ordering::Relaxed))
    }
}

#[test]
fn an_outbox_is_flushed_once_however_much_was_pushed() {
    let mut world = World::new();
    let (busy, idle) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    let stream = world.hub.open(busy.clone());
    let _quiet = world.hub.open(idle.clone());
    for _ in 0..10 {
        world.hub.create(stream, &request("a"));
    }
    assert_eq!(busy.take(), (10, 10));
    let mut txn = world.store.write();
    for value in ["1", "2", "3"] {
        put(&mut txn, "a", value);
        txn.end_request();
    }
    let commit = txn.commit().unwrap();
    world.hub.publish(&commit, 1).unwrap();
    assert_eq!(busy.take(), (30, 1));
    world.put("b", "nobody watches it");
    world.sync();
    assert_eq!(busy.take(), (0, 0));
    assert_eq!(idle.take(), (0, 0));
}

#[test]
fn a_closed_stream_is_sent_nothing_and_answers_nothing() {
    let mut world = World::new();
    let (gone, stays) = (Inbox::endless(), Inbox::endless());
    let (first, second) = (world.hub.open(gone.clone()), world.hub.open(stays.clone()));
    for stream in [first, second] {
        world.hub.create(stream, &request("a"));
        world.hub.create(stream, &WatchCreateRequest { start_revision: 1, ..request("a") });
    }
    // One watcher waits for room, one for history, and a progress request for a commit, when the stream ends.
    gone.set_room(0);
    world.put("a", "1");
    let commit = world.commit(|txn| put(txn, "a", "2"));
    world.hub.progress(first);
    gone.read();
    world.hub.close(first);
    world.hub.close(first);
    world.hub.publish(&commit, 1).unwrap();
    world.sync();
    world.hub.create(first, &request("a"));
    world.hub.cancel(first, 0);
    world.hub.progress(first);
    world.hub.tick_progress(first);
    assert!(gone.read().is_empty());
    assert_eq!(stays.events(), ["2 put a", "3 put a", "2 put a", "3 put a"]);
    assert_eq!((world.hub.stats().streams, world.hub.stats().watchers), (1, 2));
}

#[test]
fn watchers_of_many_streams_and_one_key_all_get_it() {
    let mut world = World::new();
    let inboxes: Vec<_> = (0..50).map(|_| Inbox::endless()).collect();
    let streams: Vec<_> = inboxes.iter().map(|inbox| world.hub.open(inbox.clone())).collect();
    for watcher in 0..1000 {
        world.hub.create(streams[watcher * 7 % 50], &request("a"));
    }
    // Some leave, from the middle of their groups.
    for stream in &streams {
        world.hub.cancel(*stream, 3);
    }
    inboxes.iter().for_each(|inbox| drop(inbox.read()));
    world.put("a", "1");
    for inbox in &inboxes {
        let mut ids: Vec<i64> = inbox.read().iter().map(|response| response.watch_id).collect();
        ids.sort_unstable();
        let expected: Vec<i64> = (0..20).filter(|id| *id != 3).collect();
        assert_eq!(ids, expected);
    }
}
