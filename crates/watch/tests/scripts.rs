//! Runs the golden scripts of `tests/scripts`: what streams are sent.
//!
//! Commands: `open S [ROOM]`, `close S`, `room S ROOM`, `read S [N]` (forget what was sent), `watch S KEY OPTION...` (options
//! `end=E rev=N id=N prev noput nodelete fragment progress`, a key of `''` is empty, `0` in an end is the zero byte),
//! `deny S KEY REASON`, `cancel S ID`, `progress S`, `tick S`, `put K V [K V]...` and `del K [END]` (one request each),
//! `txn put K V, del K, ...` (one request), `hold` and `publish` (commits are kept from the hub in between), `compact REV`,
//! `sync [STRETCHES]`, `reset`, `stats`. What is sent is printed at once, after the command.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use api::mvccpb::KeyValue;
use bytes::Bytes;
use common::{IDENTITY, Inbox, World, golden};
use etcd_rs_watch::{Options, StreamId};
use mvcc::{Commit, WriteTxn};

struct Stage {
    world: World,
    streams: BTreeMap<String, (StreamId, Arc<Inbox>, Log)>,
    held: Option<Vec<Commit>>,
}

/// Tells what is printed of an inbox: everything that was pushed, though its client may not have read it yet.
#[derive(Default)]
struct Log {
    unread: Vec<WatchResponse>,
    room: usize,
}

impl Stage {
    fn new() -> Self {
        let options = Options { fragment_bytes: 100, history_revisions: 3, ..Options::new(IDENTITY) };
        Self { world: World::with(options), streams: BTreeMap::new(), held: None }
    }

    fn command(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut out = String::new();
        match words[0] {
            "open" => {
                let room = words.get(2).map_or(usize::MAX, |room| room.parse().unwrap());
                let inbox = Inbox::with_room(room);
                let stream = self.world.hub.open(inbox.clone());
                self.streams.insert(words[1].to_owned(), (stream, inbox, Log { unread: Vec::new(), room }));
            }
            "close" => self.world.hub.close(self.streams.remove(words[1]).unwrap().0),
            "room" => self.streams.get_mut(words[1]).unwrap().2.room = words[2].parse().unwrap(),
            "read" => {
                let unread = &mut self.streams.get_mut(words[1]).unwrap().2.unread;
                let count = words.get(2).map_or(unread.len(), |count| count.parse().unwrap());
                unread.drain(..count);
            }
            "watch" => self.world.hub.create(self.streams[words[1]].0, &watch(&words[2..])),
            "deny" => {
                self.world.hub.deny(self.streams[words[1]].0, &watch(&words[2..3]), &words[3..].join(" "));
            }
            "cancel" => self.world.hub.cancel(self.streams[words[1]].0, words[2].parse().unwrap()),
            "progress" => self.world.hub.progress(self.streams[words[1]].0),
            "tick" => self.world.hub.tick_progress(self.streams[words[1]].0),
            "put" | "del" => self.write(&[&words]),
            "txn" => self.write(&words[1..].split(|word| *word == ",").collect::<Vec<_>>()),
            "hold" => self.held = Some(Vec::new()),
            "publish" => {
                for commit in self.held.take().unwrap() {
                    self.world.hub.publish(&commit, 7).unwrap();
                }
            }
            "compact" => self.world.compact(words[1].parse().unwrap()),
            "sync" => {
                let stretches = words.get(1).map_or(100, |stretches| stretches.parse().unwrap());
                let more = self.world.hub.sync(stretches).unwrap();
                writeln!(out, "{line}: {}", if more { "more to do" } else { "done" }).unwrap();
            }
            "reset" => self.world.hub.reset(self.world.store.reader()),
            "stats" => writeln!(out, "{:?}", self.world.hub.stats()).unwrap(),
            other => panic!("no command {other}"),
        }
        self.print_sent(&mut out);
        out
    }

    fn write(&mut self, operations: &[&[&str]]) {
        let commit = self.world.commit(|txn| operations.iter().for_each(|words| operate(txn, words)));
        match &mut self.held {
            Some(held) => held.push(commit),
            None => self.world.hub.publish(&commit, 7).unwrap(),
        }
    }

    fn print_sent(&mut self, out: &mut String) {
        for (name, (_, inbox, log)) in &mut self.streams {
            for response in inbox.read() {
                writeln!(out, "{name}: {}", describe(&response)).unwrap();
                log.unread.push(response);
            }
            inbox.set_room(log.room.saturating_sub(log.unread.len()));
        }
    }
}

fn operate(txn: &mut WriteTxn<'_>, words: &[&str]) {
    match words[0] {
        "put" => words[1..].chunks(2).for_each(|pair| common::put(txn, pair[0], pair[1])),
        "del" => common::delete(txn, words[1], words.get(2).copied().unwrap_or_default()),
        other => panic!("no operation {other}"),
    }
}

fn watch(words: &[&str]) -> WatchCreateRequest {
    let bytes = |text: &str| match text {
        "''" => Bytes::new(),
        "0" => Bytes::from_static(&[0]),
        text => Bytes::copy_from_slice(text.as_bytes()),
    };
    let mut request = WatchCreateRequest { key: bytes(words[0]), ..Default::default() };
    for word in &words[1..] {
        match word.split_once('=').unwrap_or((word, "")) {
            ("end", end) => request.range_end = bytes(end),
            ("rev", revision) => request.start_revision = revision.parse().unwrap(),
            ("id", id) => request.watch_id = id.parse().unwrap(),
            ("prev", _) => request.prev_kv = true,
            ("noput", _) => request.filters.push(0),
            ("nodelete", _) => request.filters.push(1),
            ("odd", _) => request.filters.push(77),
            ("fragment", _) => request.fragment = true,
            ("progress", _) => request.progress_notify = true,
            other => panic!("no option {other:?}"),
        }
    }
    request
}

fn describe(response: &WatchResponse) -> String {
    let header = response.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id), (0xc, 0xe));
    let mut out = format!("watch {} @{}", response.watch_id, header.revision);
    let flags =
        [(response.created, "created"), (response.canceled, "canceled"), (response.fragment, "fragment")];
    for (_, flag) in flags.iter().filter(|(set, _)| *set) {
        write!(out, " {flag}").unwrap();
    }
    if response.compact_revision != 0 {
        write!(out, " compact_revision={}", response.compact_revision).unwrap();
    }
    if !response.cancel_reason.is_empty() {
        write!(out, " reason={:?}", response.cancel_reason).unwrap();
    }
    for event in &response.events {
        let kv = event.kv.as_ref().unwrap();
        let kind = if event.r#type == 1 { "del" } else { "put" };
        write!(out, " [{} {kind} {}]", kv.mod_revision, pair(kv)).unwrap();
        if let Some(prev) = &event.prev_kv {
            write!(out, "(was {}@{})", pair(prev), prev.mod_revision).unwrap();
        }
    }
    out
}

fn pair(kv: &KeyValue) -> String {
    let (key, value) = (String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
    if value.is_empty() { key.into_owned() } else { format!("{key}={value}") }
}

#[test]
fn scripts_print_what_they_did_when_they_were_reviewed() {
    golden::run(Stage::new, Stage::command);
}
