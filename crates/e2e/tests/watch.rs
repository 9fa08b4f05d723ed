//! Watches: what is created, what is delivered, in which order, and how they end.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use api::etcdserverpb as pb;
use api::etcdserverpb::WatchCreateRequest as Create;
use api::mvccpb::{Event, event::EventType};
use e2e::{IntoOp, Watcher, delete, each_target, prefix_end, put};

use etcd_rs_e2e as e2e;

fn on(key: &str) -> Create {
    Create { key: key.to_owned().into(), ..Default::default() }
}

fn on_prefix(prefix: &str) -> Create {
    Create { range_end: prefix_end(prefix), ..on(prefix) }
}

/// Events as text: `PUT a=1 @2` or `DELETE a @3`.
fn told(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| {
        let kv = event.kv.as_ref().unwrap();
        let (key, value) = (String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
        match event.r#type() {
            EventType::Put => format!("PUT {key}={value} @{}", kv.mod_revision),
            EventType::Delete => format!("DELETE {key} @{}", kv.mod_revision),
        }
    };
    events.iter().map(text).collect()
}

/// Short, since it is waited out in full; long for a server with nothing to do.
const MOMENT: Duration = Duration::from_millis(300);

each_target! {
    everywhere;

    /// A watch is confirmed, numbered from 0, and then tells of each change as it happens.
    async fn a_watch_tells_of_changes(member) {
        member.put("a", "before").await;
        let (mut watcher, created) = Watcher::open(&member, on("a")).await;
        assert!(created.created && !created.canceled);
        assert_eq!((created.watch_id, created.header.unwrap().revision), (0, 2));
        member.put("a", "1").await;
        let response = watcher.next().await;
        assert_eq!((response.watch_id, response.header.unwrap().revision), (0, 3));
        assert_eq!(told(&response.events), ["PUT a=1 @3"]);
        member.put("other", "1").await;
        member.delete("a").await;
        assert_eq!(told(&watcher.events(1).await), ["DELETE a @5"]);
    }

    /// A put's event has the whole key; a delete's only the key and the revision.
    async fn events_carry_what_they_should(member) {
        let (mut watcher, _) = Watcher::open(&member, on("a")).await;
        member.put("a", "1").await;
        member.put("a", "2").await;
        member.delete("a").await;
        let events = watcher.events(3).await;
        let kv = events[1].kv.as_ref().unwrap();
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version, &kv.value[..]), (2, 3, 2, &b"2"[..]));
        let kv = events[2].kv.as_ref().unwrap();
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version, kv.value.len()), (0, 4, 0, 0));
        assert!(events.iter().all(|event| event.prev_kv.is_none()));
    }

    /// Started in the past, a watch tells everything since and goes on into the present without gap or repetition.
    async fn history_runs_into_the_present(member) {
        for value in 1..=50 {
            member.put("a", &value.to_string()).await;
        }
        let (mut watcher, _) = Watcher::open(&member, Create { start_revision: 2, ..on("a") }).await;
        for value in 51..=100 {
            member.put("a", &value.to_string()).await;
        }
        let revisions: Vec<i64> =
            watcher.events(100).await.iter().map(|event| event.kv.as_ref().unwrap().mod_revision).collect();
        assert_eq!(revisions, (2..=101).collect::<Vec<_>>());
    }

    /// Started in the future, a watch is silent until then.
    async fn a_future_start_is_waited_for(member) {
        let (mut watcher, created) = Watcher::open(&member, Create { start_revision: 4, ..on("a") }).await;
        assert!(created.created);
        for value in ["1", "2", "3"] {
            member.put("a", value).await;
        }
        assert_eq!(told(&watcher.events(1).await), ["PUT a=3 @4"]);
    }

    /// Started before the compacted revision, a watch is confirmed, then canceled, and told what is left.
    async fn a_compacted_start_is_canceled(member) {
        for value in ["1", "2", "3"] {
            member.put("a", value).await;
        }
        member.compact(3).await;
        let (mut watcher, created) = Watcher::open(&member, Create { start_revision: 2, ..on("a") }).await;
        assert!(created.created && !created.canceled);
        let canceled = watcher.next().await;
        assert!(canceled.canceled);
        assert_eq!((canceled.compact_revision, canceled.header.unwrap().revision), (3, 0));
        assert_eq!(canceled.cancel_reason, "");
    }

    /// Started at the compacted revision itself, a watch is served.
    async fn the_compacted_revision_itself_can_be_watched(member) {
        for value in ["1", "2", "3"] {
            member.put("a", value).await;
        }
        member.compact(3).await;
        let (mut watcher, _) = Watcher::open(&member, Create { start_revision: 3, ..on("a") }).await;
        assert_eq!(told(&watcher.events(2).await), ["PUT a=2 @3", "PUT a=3 @4"]);
    }

    /// Prefixes, from a key on, everything.
    async fn ranges_are_watched(member) {
        let (mut prefix, _) = Watcher::open(&member, on_prefix("a/")).await;
        let (mut onwards, _) = Watcher::open(&member, Create { range_end: "\0".into(), ..on("a/2") }).await;
        let (mut everything, _) = Watcher::open(&member, Create { range_end: "\0".into(), ..on("") }).await;
        for key in ["a", "a/1", "a/2", "b"] {
            member.put(key, "v").await;
        }
        assert_eq!(told(&prefix.events(2).await), ["PUT a/1=v @3", "PUT a/2=v @4"]);
        assert_eq!(told(&onwards.events(2).await), ["PUT a/2=v @4", "PUT b=v @5"]);
        assert_eq!(everything.events(4).await.len(), 4);
    }

    /// All changes of one transaction come in one answer, in the order in which they were made.
    async fn a_revision_is_never_split(member) {
        member.put("k0", "old").await;
        let (mut watcher, _) = Watcher::open(&member, on_prefix("k")).await;
        let mut ops: Vec<_> = (1..100).map(|number| put(&format!("k{number:02}"), "v").op()).collect();
        ops.push(delete("k0", "").op());
        member.txn(vec![], ops, vec![]).await;
        let response = watcher.next().await;
        let told = told(&response.events);
        assert_eq!((told.len(), &*told[0], &*told[99]), (100, "PUT k01=v @3", "DELETE k0 @3"));
    }

    /// With `prev_kv` each event brings what was before, if that was anything.
    async fn events_bring_what_was_before(member) {
        let (mut watcher, _) = Watcher::open(&member, Create { prev_kv: true, ..on("a") }).await;
        member.put("a", "1").await;
        member.put("a", "2").await;
        member.delete("a").await;
        member.put("a", "3").await;
        let before: Vec<Option<i64>> =
            watcher.events(4).await.iter().map(|event| event.prev_kv.as_ref().map(|kv| kv.mod_revision)).collect();
        assert_eq!(before, [None, Some(2), Some(3), None]);
    }

    /// The same from history, where what was before may have been compacted away.
    async fn what_was_before_may_be_compacted(member) {
        for value in ["1", "2", "3"] {
            member.put("a", value).await;
        }
        member.compact(3).await;
        let create = Create { prev_kv: true, start_revision: 3, ..on("a") };
        let (mut watcher, _) = Watcher::open(&member, create).await;
        let before: Vec<Option<i64>> =
            watcher.events(2).await.iter().map(|event| event.prev_kv.as_ref().map(|kv| kv.mod_revision)).collect();
        assert_eq!(before, [None, Some(3)]);
    }

    /// Filters drop kinds of events.
    async fn filters_drop_events(member) {
        let (mut no_puts, _) = Watcher::open(&member, Create { filters: vec![0], ..on("a") }).await;
        let (mut no_deletes, _) = Watcher::open(&member, Create { filters: vec![1], ..on("a") }).await;
        member.put("a", "1").await;
        member.delete("a").await;
        member.put("a", "2").await;
        member.delete("a").await;
        assert_eq!(told(&no_puts.events(2).await), ["DELETE a @3", "DELETE a @5"]);
        assert_eq!(told(&no_deletes.events(2).await), ["PUT a=1 @2", "PUT a=2 @4"]);
    }

    /// Watches on one stream have numbers of their own; one may be chosen, none may be taken twice.
    async fn watches_of_a_stream_are_numbered(member) {
        let (mut watcher, first) = Watcher::open(&member, on("a")).await;
        assert_eq!(first.watch_id, 0);
        assert_eq!(watcher.create(on("b")).await.watch_id, 1);
        assert_eq!(watcher.create(Create { watch_id: 7, ..on("c") }).await.watch_id, 7);
        assert_eq!(watcher.create(on("d")).await.watch_id, 2);
        let duplicate = watcher.create(Create { watch_id: 7, ..on("e") }).await;
        assert!(duplicate.created && duplicate.canceled);
        assert_eq!(duplicate.watch_id, -1);
        assert_eq!(duplicate.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
        member.put("c", "1").await;
        assert_eq!(watcher.next().await.watch_id, 7);
    }

    /// A range whose end is not behind its start is refused; the stream lives on.
    async fn an_empty_range_is_refused(member) {
        let (mut watcher, refused) = Watcher::open(&member, Create { range_end: "a".into(), ..on("b") }).await;
        assert!(refused.created && refused.canceled);
        assert_eq!((refused.watch_id, &*refused.cancel_reason), (-1, "mvcc: watcher range is empty"));
        assert_eq!(watcher.create(on("a")).await.watch_id, 0);
    }

    /// A canceled watch says so and is silent; its number can be used again.
    async fn a_canceled_watch_is_silent(member) {
        let (mut watcher, _) = Watcher::open(&member, Create { watch_id: 5, ..on("a") }).await;
        member.put("a", "1").await;
        watcher.events(1).await;
        watcher.cancel(5).await;
        let canceled = watcher.next().await;
        assert!(canceled.canceled && !canceled.created);
        assert_eq!((canceled.watch_id, canceled.header.unwrap().revision), (5, 2));
        member.put("a", "2").await;
        let again = watcher.create(Create { watch_id: 5, ..on("a") }).await;
        assert_eq!((again.watch_id, again.canceled), (5, false));
        member.put("a", "3").await;
        assert_eq!(told(&watcher.events(1).await), ["PUT a=3 @4"]);
    }

    /// Canceling a watch that is not there is answered with nothing.
    async fn canceling_the_unknown_is_ignored(member) {
        let (mut watcher, _) = Watcher::open(&member, on("a")).await;
        watcher.cancel(99).await;
        member.put("a", "1").await;
        assert_eq!(told(&watcher.next().await.events), ["PUT a=1 @2"]);
    }

    /// A stream in step with the store says so when asked.
    async fn progress_is_told_when_asked(member) {
        let (mut watcher, _) = Watcher::open(&member, on("a")).await;
        member.put("b", "1").await;
        member.put("b", "2").await;
        watcher.progress().await;
        let progress = watcher.next().await;
        assert_eq!((progress.watch_id, progress.header.unwrap().revision), (-1, 3));
        assert!(progress.events.is_empty() && !progress.created && !progress.canceled);
    }

    /// A client that has said all it wants to say still hears.
    async fn half_closing_leaves_the_watch_alive(member) {
        let (mut watcher, _) = Watcher::open(&member, on("a")).await;
        watcher.half_close();
        member.put("a", "1").await;
        assert_eq!(told(&watcher.events(1).await), ["PUT a=1 @2"]);
    }

    /// The end of a lease is told as deletes of its keys, all in one revision, in the order of the keys.
    async fn a_revoked_lease_is_told_as_deletes(member) {
        member.grant(3, 100).await;
        for key in ["b", "a", "c"] {
            member.put_with(pb::PutRequest { lease: 3, ..put(key, "v") }).await;
        }
        let (mut watcher, _) = Watcher::open(&member, on_prefix("")).await;
        member.lease().lease_revoke(pb::LeaseRevokeRequest { id: 3 }).await.unwrap();
        let response = watcher.next().await;
        assert_eq!(told(&response.events), ["DELETE a @5", "DELETE b @5", "DELETE c @5"]);
    }

    /// Each watcher sees each event once, in order, whatever the writers do and wherever it started.
    async fn every_watcher_sees_everything_once_in_order(member) {
        const WRITES: i64 = 300;
        let writer = async {
            for number in 0..WRITES {
                member.put(&format!("k/{}", number % 7), &number.to_string()).await;
            }
        };
        let watch = async |start_revision: i64| {
            let (mut watcher, created) = Watcher::open(&member, Create { start_revision, ..on_prefix("k/") }).await;
            let first = if start_revision > 0 { start_revision } else { created.header.unwrap().revision + 1 };
            let mut next = first;
            while next < WRITES + 2 {
                let response = watcher.next().await;
                assert!(response.header.unwrap().revision >= next);
                for event in &response.events {
                    assert_eq!(event.kv.as_ref().unwrap().mod_revision, next);
                    next += 1;
                }
            }
        };
        tokio::join!(writer, watch(2), watch(0), watch(2), watch(100), watch(250));
    }

    /// A watcher that falls far behind gets everything all the same, once and in order (etcd #17529: events were
    /// lost).
    async fn a_slow_watcher_misses_nothing(member) {
        let (mut slow, _) = Watcher::open(&member, on_prefix("k")).await;
        let value = "x".repeat(10_000);
        for round in 0..30 {
            let keys: Vec<String> = (0..100).map(|number| format!("k{round}-{number}")).collect();
            futures_util::future::join_all(keys.iter().map(|key| member.put(key, &value))).await;
        }
        let revisions: Vec<i64> =
            slow.events(3000).await.iter().map(|event| event.kv.as_ref().unwrap().mod_revision).collect();
        assert_eq!(revisions, (2..=3001).collect::<Vec<_>>());
    }

    /// The large answer of one revision is cut if the client asked for it, and all pieces but the last say so.
    async fn large_answers_are_cut_on_request(member) {
        let value = "x".repeat(600_000);
        for key in ["k1", "k2", "k3", "k4", "k5"] {
            member.put(key, &value).await;
        }
        let create = Create { prev_kv: true, fragment: true, ..on_prefix("k") };
        let (mut watcher, created) = Watcher::open(&member, create).await;
        assert!(created.created);
        member.delete_with(delete("k", "l")).await;
        let mut pieces = Vec::new();
        loop {
            let response = watcher.next().await;
            assert_eq!(response.header.unwrap().revision, 7);
            pieces.push(response.events.len());
            if !response.fragment {
                break;
            }
        }
        assert_eq!(pieces, [3, 2]);
    }

    /// Thousands of watches are created on one stream without the connection being lost to their number.
    async fn thousands_of_watches_fit_a_stream(member) {
        let (mut watcher, _) = Watcher::open(&member, on("a")).await;
        for expected in 1..3000 {
            assert_eq!(watcher.create(on("a")).await.watch_id, expected);
        }
        member.put("a", "1").await;
        assert_eq!(watcher.events(3000).await.len(), 3000);
    }
}

mod newer {
    //! What newer versions do otherwise than the one compared with.

    use super::{Create, MOMENT, on, on_prefix, told};
    use e2e::{Watcher, each_target};
    use etcd_rs_e2e as e2e;

    each_target! {
        ours;

        /// Progress never overtakes events (etcd #15220): whatever it promises has been delivered before. In 3.4 it does,
        /// now and then.
        async fn progress_never_overtakes_events(member) {
            let (mut watcher, _) = Watcher::open(&member, on("a")).await;
            for value in 0..100 {
                member.put("a", &value.to_string()).await;
                watcher.progress().await;
            }
            let (mut seen, mut events) = (1, 0);
            while events < 100 {
                let response = watcher.next().await;
                let header = response.header.unwrap().revision;
                if response.events.is_empty() {
                    assert!(header <= seen, "progress for {header} with events up to {seen}");
                }
                for event in &response.events {
                    assert_eq!(event.kv.as_ref().unwrap().mod_revision, seen + 1);
                    seen += 1;
                    events += 1;
                }
            }
        }

        /// A tombstone exactly at the compacted revision is still told of (etcd #18089, #19179: it was lost, and
        /// still is in 3.4).
        async fn a_delete_at_the_compacted_revision_is_not_lost(member) {
            member.put("a", "1").await;
            member.delete("a").await;
            member.put("b", "1").await;
            member.compact(3).await;
            let (mut watcher, _) = Watcher::open(&member, Create { start_revision: 3, ..on_prefix("") }).await;
            assert_eq!(told(&watcher.events(2).await), ["DELETE a @3", "PUT b=1 @4"]);
        }

        /// A negative start is refused at once. (3.5 confirmed it first and canceled it then.)
        async fn a_negative_start_is_refused(member) {
            let (_, refused) = Watcher::open(&member, Create { start_revision: -1, ..on("a") }).await;
            assert!(refused.created && refused.canceled);
            assert_eq!((refused.watch_id, refused.compact_revision), (-1, 0));
            assert_eq!(refused.cancel_reason, "etcdserver: mvcc: required revision has been compacted");
        }

        /// No progress is told while a watch of the stream waits for the future. (3.5 told it regardless.)
        async fn a_watch_of_the_future_holds_progress_back(member) {
            let (mut watcher, _) = Watcher::open(&member, Create { start_revision: 100, ..on("a") }).await;
            watcher.progress().await;
            watcher.silent(MOMENT).await;
        }

        /// A watch canceled by compaction keeps its number, and progress waits, until the client lets it go.
        async fn a_watch_lost_to_compaction_must_be_let_go(member) {
            for value in ["1", "2", "3"] {
                member.put("a", value).await;
            }
            member.compact(3).await;
            let (mut watcher, _) = Watcher::open(&member, Create { start_revision: 1, ..on("a") }).await;
            assert_eq!(watcher.next().await.compact_revision, 3);
            watcher.progress().await;
            watcher.silent(MOMENT).await;
            watcher.cancel(0).await;
            assert!(watcher.next().await.canceled);
        }
    }
}

/// A watch that asked for it hears from time to time how far it is, although nothing happens to its keys.
#[test]
fn progress_is_notified() {
    e2e::run_alone(async {
        let settings =
            e2e::Settings { progress_interval: Some(Duration::from_millis(100)), ..Default::default() };
        let member = e2e::Member::start_with(e2e::Target::Binary, settings).await;
        let (mut watcher, created) =
            Watcher::open(&member, Create { progress_notify: true, ..on("a") }).await;
        assert!(created.created);
        member.put("b", "1").await;
        loop {
            let progress = watcher.next().await;
            assert!(progress.events.is_empty() && progress.watch_id == 0, "{progress:?}");
            if progress.header.unwrap().revision == 2 {
                break;
            }
        }
    });
}
