//! Bugs that others had with watches, each told and then shown to be absent. `#n` is an issue of etcd.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod common;

use api::etcdserverpb::WatchCreateRequest;
use common::{IDENTITY, Inbox, World, delete, put, request};
use etcd_rs_watch::{NO_WATCH_ID, Options};

/// #15220: a progress notification could leave before events that were still in a watcher's own queue, so that a client which
/// resumed from it missed them.
#[test]
fn progress_is_not_told_while_a_watcher_lacks_events() {
    let mut world = World::new();
    let inbox = Inbox::with_room(1);
    let stream = world.hub.open(inbox.clone());
    world.hub.create(stream, &request("a"));
    world.put("a", "1");
    assert_eq!(world.hub.stats().slow, 1, "the created reply fills the inbox");

    world.hub.progress(stream);
    assert!(inbox.read()[0].created);
    world.hub.progress(stream);
    assert!(inbox.read().is_empty(), "there is room now, but event 2 has not been sent");
    world.sync();
    assert_eq!(inbox.events(), ["2 put a"]);
    world.hub.progress(stream);
    let progress = inbox.read();
    assert_eq!((progress[0].watch_id, progress[0].header.unwrap().revision), (NO_WATCH_ID, 2));
}

/// #15220, the other half: the store was ahead of what had been published, and progress told the store's revision.
#[test]
fn progress_tells_what_was_published_and_waits_for_what_was_committed() {
    let mut world = World::new();
    let inbox = Inbox::endless();
    let stream = world.hub.open(inbox.clone());
    world.hub.create(stream, &request("a"));
    inbox.read();
    let commit = world.commit(|txn| put(txn, "a", "1"));
    world.hub.progress(stream);
    world.hub.progress(stream);
    assert!(inbox.read().is_empty());
    world.hub.publish(&commit, 1).unwrap();
    let sent = inbox.read();
    assert_eq!(sent.len(), 2);
    assert_eq!((sent[0].events.len(), sent[0].header.unwrap().revision), (1, 2));
    assert_eq!((sent[1].events.len(), sent[1].header.unwrap().revision), (0, 2));
}

/// #17247: an event came twice, once from history and once live, when a watcher became synced while a commit was on its way.
#[test]
fn an_event_that_is_committed_but_not_published_comes_once() {
    let mut world = World::new();
    world.put("a", "1");
    let inbox = Inbox::endless();
    let stream = world.hub.open(inbox.clone());
    world.hub.create(stream, &WatchCreateRequest { start_revision: 2, ..request("a") });
    let on_its_way = world.commit(|txn| put(txn, "a", "2"));
    // Created in between: revision 3 is its past though the hub does not know it yet.
    world.hub.create(stream, &request("a"));
    world.hub.create(stream, &WatchCreateRequest { start_revision: 3, ..request("a") });
    world.sync();
    world.hub.publish(&on_its_way, 1).unwrap();
    world.put("a", "3");
    world.sync();
    let sent = inbox.read();
    let of = |id| {
        let events = sent.iter().filter(move |response| response.watch_id == id).flat_map(|r| &r.events);
        events.map(common::event_name).collect::<Vec<_>>()
    };
    assert_eq!(of(0), ["2 put a", "3 put a", "4 put a"]);
    assert_eq!(of(1), ["4 put a"]);
    assert_eq!(of(2), ["3 put a", "4 put a"]);
}

/// #17247 again, where the same commits are handed over twice around a snapshot.
#[test]
fn a_commit_that_a_reset_has_covered_is_passed_over() {
    let mut world = World::new();
    let inbox = Inbox::endless();
    let stream = world.hub.open(inbox.clone());
    world.hub.create(stream, &request("a"));
    let in_the_queue = world.commit(|txn| put(txn, "a", "1"));
    world.hub.reset(world.store.reader());
    world.hub.publish(&in_the_queue, 1).unwrap();
    world.sync();
    assert_eq!(inbox.events(), ["2 put a"]);
}

/// #17529: a slow watcher whose pending events could not be delivered lost them when it was moved between the sets of synced
/// and unsynced watchers.
#[test]
fn a_slow_watcher_loses_nothing_however_often_it_falls_behind() {
    let mut world = World::with(Options { history_revisions: 3, ..Options::new(IDENTITY) });
    let inbox = Inbox::with_room(2);
    let stream = world.hub.open(inbox.clone());
    world.hub.create(stream, &request("a"));
    let mut seen = Vec::new();
    for round in 0..100 {
        world.put("a", &round.to_string());
        if round % 3 == 0 {
            seen.extend(inbox.next().iter().flat_map(|response| &response.events).map(common::event_name));
            world.sync();
        }
    }
    while world.hub.stats().unsynced > 0 {
        seen.extend(inbox.events());
        world.sync();
    }
    seen.extend(inbox.events());
    let expected: Vec<String> = (2..=101).map(|revision| format!("{revision} put a")).collect();
    assert_eq!(seen, expected);
}

/// #18089, #19179: a delete at the very revision of a compaction was gone for a watcher that started there, which is allowed.
#[test]
fn a_delete_at_the_compacted_revision_is_still_seen_from_there() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("b", "1");
    world.delete("a");
    world.compact(4);
    world.put("c", "1");
    let inbox = Inbox::endless();
    let stream = world.hub.open(inbox.clone());
    let all = WatchCreateRequest { range_end: "\0".into(), ..request("\0") };
    world.hub.create(stream, &WatchCreateRequest { start_revision: 4, ..all.clone() });
    world.sync();
    assert_eq!(inbox.events(), ["4 del a", "5 put c"]);

    world.hub.create(stream, &WatchCreateRequest { start_revision: 3, ..all });
    world.sync();
    let sent = inbox.read();
    assert!(sent[0].created && !sent[0].canceled);
    assert!(sent[1].canceled && sent[1].compact_revision == 4 && sent[1].header.unwrap().revision == 0);
    assert_eq!((sent.len(), &sent[1].cancel_reason[..]), (2, ""));
}

/// #20221: a watcher of a future revision was sent events below it after its stream had been slow, or after a resync.
#[test]
fn a_watcher_of_the_future_never_sees_the_past() {
    let mut world = World::new();
    let inbox = Inbox::endless();
    let stream = world.hub.open(inbox.clone());
    world.hub.create(stream, &WatchCreateRequest { start_revision: 5, ..request("a") });
    inbox.read();
    inbox.set_room(0);
    world.put("a", "2");
    world.hub.reset(world.store.reader());
    world.sync();
    world.put("a", "3");
    inbox.set_room(10);
    world.put("a", "4");
    inbox.set_room(0);
    world.put("a", "5");
    world.put("a", "6");
    inbox.set_room(10);
    world.sync();
    assert_eq!(inbox.events(), ["5 put a", "6 put a"]);
}

/// #20221, its second part: progress was told to such a watcher for revisions that it had not asked for.
#[test]
fn a_watcher_of_the_future_holds_progress_back_until_it_has_begun() {
    let mut world = World::new();
    let inbox = Inbox::endless();
    let stream = world.hub.open(inbox.clone());
    world
        .hub
        .create(stream, &WatchCreateRequest { start_revision: 3, progress_notify: true, ..request("a") });
    inbox.read();
    world.put("b", "2");
    world.hub.progress(stream);
    world.hub.tick_progress(stream);
    assert!(inbox.read().is_empty());
    world.put("b", "3");
    world.hub.progress(stream);
    world.hub.tick_progress(stream);
    let sent = inbox.read();
    assert_eq!(
        sent.iter().map(|r| (r.watch_id, r.header.unwrap().revision)).collect::<Vec<_>>(),
        [(-1, 3), (0, 3)]
    );
}

/// #15271: after a snapshot was installed, watchers were sent old events again. What they had been sent before counts; what
/// they missed comes from the new history.
#[test]
fn a_watch_does_not_go_back_after_a_snapshot() {
    let mut world = World::new();
    let inbox = Inbox::endless();
    let stream = world.hub.open(inbox.clone());
    world.hub.create(stream, &request("a"));
    world.put("a", "2");
    world.put("a", "3");
    assert_eq!(inbox.events(), ["2 put a", "3 put a"]);
    // The snapshot's history goes on where this member was cut off.
    for value in ["4", "5"] {
        let _unseen = world.commit(|txn| put(txn, "a", value));
    }
    world.hub.reset(world.store.reader());
    assert!(inbox.read().is_empty());
    world.sync();
    world.put("a", "6");
    assert_eq!(inbox.events(), ["4 put a", "5 put a", "6 put a"]);
}

/// The same where the snapshot's history does not reach back far enough: the watcher must be told, not skip events.
#[test]
fn a_watch_that_a_snapshot_has_left_behind_is_cancelled_as_compacted() {
    let mut world = World::new();
    let inbox = Inbox::endless();
    let stream = world.hub.open(inbox.clone());
    world.hub.create(stream, &request("a"));
    inbox.read();
    for value in ["2", "3", "4"] {
        let _unseen = world.commit(|txn| put(txn, "a", value));
    }
    world.compact(4);
    world.hub.reset(world.store.reader());
    world.sync();
    let sent = inbox.read();
    assert_eq!((sent.len(), sent[0].canceled, sent[0].compact_revision), (1, true, 4));
    world.hub.progress(stream);
    assert!(inbox.read().is_empty(), "it blocks progress until its client cancels it");
    world.hub.cancel(stream, 0);
    assert!(inbox.read()[0].canceled);
}

/// #16839: slow clients made memory grow without bounds. Here a client that reads nothing is sent nothing, and nothing is
/// kept for it but a number.
#[test]
fn a_client_that_reads_nothing_is_sent_nothing() {
    let mut world = World::new();
    let inbox = Inbox::with_room(1);
    let stream = world.hub.open(inbox.clone());
    world.hub.create(stream, &request("a"));
    for _ in 0..1000 {
        world.put("a", "value");
        assert!(!world.hub.sync(1).unwrap(), "nothing can be done without room");
    }
    assert_eq!(inbox.read().len(), 1);
    world.sync();
    let sent = inbox.read();
    assert_eq!((sent.len(), sent[0].events.len()), (1, 1000), "all of history in one response");
}

/// Events of one revision stay together, in the order of the transaction, also from history and across groups of watchers.
#[test]
fn a_transaction_is_delivered_whole_live_and_from_history() {
    let mut world = World::new();
    let inbox = Inbox::endless();
    let stream = world.hub.open(inbox.clone());
    let prefix = WatchCreateRequest { range_end: "b".into(), ..request("a") };
    world.hub.create(stream, &prefix);
    world.put("a3", "0");
    world.write(|txn| {
        put(txn, "a2", "1");
        put(txn, "b", "1");
        delete(txn, "a3", "");
        put(txn, "a1", "1");
    });
    world.hub.create(stream, &WatchCreateRequest { start_revision: 3, ..prefix });
    world.sync();
    let sent = inbox.read();
    let names = |at: usize| sent[at].events.iter().map(common::event_name).collect::<Vec<_>>();
    assert_eq!(names(2), ["3 put a2", "3 del a3", "3 put a1"]);
    assert_eq!(names(4), names(2));
}
