//! Golden scripts: each file in `tests/scripts` tells a history, a command a line, and behind `---` what came of it. To write the
//! answers anew and review the difference, run with `UPDATE_GOLDENFILES=1`.
//!
//! ```text
//! put K V [lease=N], del K [END]     changes; a line that begins with + belongs to the request of the line before
//! get K [END] [rev=N] [limit=N] [sort=TARGET,ORDER] [keys] [count]
//! compact N, chunk N, finish         schedule, delete a little, delete all
//! flush, crash, reopen               the disk; a crash forgets what was not flushed
//! changes FROM, record MAIN SUB, hash [N], status, stored
//! ```

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use api::LeaseId;
use api::mvccpb::KeyValue;
use backend::{Backend, MemBackend, Table};
use etcd_rs_mvcc::{ChangeKind, Changes, Compaction, Error, Order, RangeOptions, Revision, Store, Target};
use prost::Message as _;

struct Script {
    backend: Arc<MemBackend>,
    store: Store,
    compaction: Option<Compaction>,
}

#[test]
fn scripts_give_what_they_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let answered = run(&text);
        if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
            std::fs::write(&path, &answered).unwrap();
        } else {
            assert!(text == answered, "{} should read:\n{answered}", path.display());
        }
        scripts += 1;
    }
    assert!(scripts >= 5, "only {scripts} scripts were found");
}

/// The script with fresh answers. Blocks are separated by empty lines; lines with # are comments.
fn run(text: &str) -> String {
    let backend = Arc::new(MemBackend::forgetful());
    let store = Store::open(backend.clone()).unwrap();
    let mut script = Script { backend, store, compaction: None };
    let mut out = String::new();
    for block in text.trim_end().split("\n\n") {
        if !out.is_empty() {
            out.push('\n');
        }
        let commands: Vec<&str> = block.lines().take_while(|line| *line != "---").collect();
        commands.iter().for_each(|line| writeln!(out, "{line}").unwrap());
        if commands.iter().any(|line| !line.starts_with('#')) {
            out.push_str("---\n");
            out.push_str(&script.block(&commands));
        }
    }
    out
}

impl Script {
    fn block(&mut self, lines: &[&str]) -> String {
        let mut out = String::new();
        let lines: Vec<&str> = lines.iter().copied().filter(|line| !line.starts_with('#')).collect();
        let mut rest = &lines[..];
        while let [line, after @ ..] = rest {
            let more = after.iter().take_while(|line| line.starts_with('+')).count();
            let (request, after) = rest.split_at(1 + more);
            let answer = match line.split(' ').next().unwrap() {
                "put" | "del" => self.change(request),
                _ => self.command(line).unwrap_or_else(|error| format!("error: {error}\n")),
            };
            if lines.len() > request.len() && !answer.is_empty() {
                writeln!(out, "[{}]", request.join(" ")).unwrap();
            }
            out.push_str(&answer);
            rest = after;
        }
        out
    }

    fn change(&mut self, request: &[&str]) -> String {
        let mut txn = self.store.write();
        for line in request {
            let words: Vec<String> =
                line.trim_start_matches('+').split_whitespace().map(str::to_owned).collect();
            match &words[..] {
                [command, key, value, lease @ ..] if command == "put" => {
                    let lease =
                        lease.first().map_or(0, |l| l.strip_prefix("lease=").unwrap().parse().unwrap());
                    txn.put(key.clone().into(), value.clone().into(), LeaseId::new(lease)).unwrap();
                }
                [command, key, end @ ..] if command == "del" => {
                    let end = end.first().cloned().unwrap_or_default();
                    txn.delete_range(&key.clone().into(), &end.into()).unwrap();
                }
                other => panic!("no change: {other:?}"),
            }
        }
        let commit = txn.commit().unwrap();
        if commit.changes.is_empty() {
            format!("nothing at {}\n", commit.revision)
        } else {
            told(&commit.changes)
        }
    }

    fn command(&mut self, line: &str) -> Result<String, Error> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<i64>().unwrap();
        match words[0] {
            "get" => return self.get(&words[1..]),
            "compact" => {
                let mut txn = self.store.write();
                self.compaction = Some(txn.compact(number(1))?);
                txn.commit()?;
            }
            "chunk" => {
                let more =
                    self.compaction.as_ref().unwrap().run_chunk(usize::try_from(number(1)).unwrap())?;
                return Ok(format!("{}\n", if more { "more to do" } else { "finished" }));
            }
            "finish" => while self.compaction.as_ref().unwrap().run_chunk(1000)? {},
            "flush" => self.backend.flush()?,
            "crash" | "reopen" => {
                if words[0] == "crash" {
                    self.backend = Arc::new(self.backend.crash());
                }
                self.store = Store::open(self.backend.clone())?;
                self.compaction = self.store.interrupted_compaction();
                let interrupted = self.compaction.as_ref().map(|compaction| compaction.revision());
                return Ok(
                    interrupted.map_or(String::new(), |at| format!("interrupted compaction at {at}\n"))
                );
            }
            "changes" => return Ok(told(&self.store.reader().changes(number(1), 100, 1 << 20)?)),
            "record" => {
                let record = self.store.reader().record(Revision::new(number(1), number(2)))?;
                return Ok(record.map_or("none\n".to_owned(), |kv| shown(&KeyValue::decode(kv).unwrap())));
            }
            "hash" => {
                let hash = self.store.reader().hash_kv(words.get(1).map_or(0, |at| at.parse().unwrap()))?;
                return Ok(format!(
                    "{} at {}, compacted at {}\n",
                    hash.hash, hash.hash_revision, hash.compact_revision
                ));
            }
            "status" => {
                let reader = self.store.reader();
                let (revision, compacted) = (reader.revision(), reader.compact_revision());
                let (keys, bytes) = (reader.keys(), reader.live_bytes());
                return Ok(format!(
                    "revision {revision}, compacted {compacted}, {keys} keys, {bytes} live bytes\n"
                ));
            }
            "stored" => return self.stored(),
            other => panic!("no command: {other}"),
        }
        Ok(String::new())
    }

    fn get(&self, words: &[&str]) -> Result<String, Error> {
        let options: BTreeMap<&str, &str> =
            words.iter().skip(1).map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
        let end = words.get(1).filter(|word| !word.contains('=') && !["keys", "count"].contains(word));
        let mut range = RangeOptions::new(words[0].to_owned(), end.copied().unwrap_or_default().to_owned());
        range.revision = options.get("rev").map_or(0, |n| n.parse().unwrap());
        range.limit = options.get("limit").map_or(0, |n| n.parse().unwrap());
        range.keys_only = options.contains_key("keys");
        range.count_only = options.contains_key("count");
        if let Some((target, order)) = options.get("sort").and_then(|sort| sort.split_once(',')) {
            range.target = match target {
                "key" => Target::Key,
                "version" => Target::Version,
                "create" => Target::Create,
                "mod" => Target::Mod,
                "value" => Target::Value,
                other => panic!("no target: {other}"),
            };
            range.order = match order {
                "none" => Order::None,
                "ascend" => Order::Ascend,
                "descend" => Order::Descend,
                other => panic!("no order: {other}"),
            };
        }
        let found = self.store.reader().range(&range)?;
        let mut out = String::new();
        found.kvs.into_iter().for_each(|kv| out.push_str(&shown(&KeyValue::decode(kv).unwrap())));
        let more = if found.more { ", more" } else { "" };
        writeln!(out, "count {}{more}, revision {}", found.count, found.revision).unwrap();
        Ok(out)
    }

    /// What lies in the two tables.
    fn stored(&self) -> Result<String, Error> {
        let mut out = String::new();
        for table in [Table::Rev, Table::Index] {
            let mut revisions = Vec::new();
            let mut records = self.backend.scan(table, &[], None)?;
            while let Some((key, _)) = records.next()? {
                let bytes: Vec<u8> = key[key.len() - 16..]
                    .iter()
                    .map(|b| if table == Table::Index { !b } else { *b })
                    .collect();
                revisions.push(Revision::from_bytes(&bytes).unwrap().to_string());
            }
            writeln!(out, "{}: {}", table.name(), revisions.join(" ")).unwrap();
        }
        Ok(out)
    }
}

fn told(history: &[Changes]) -> String {
    let mut out = String::new();
    for (main, change) in history.iter().flat_map(|c| c.changes.iter().map(|change| (c.main, change))) {
        let key = String::from_utf8_lossy(&change.key);
        let previous = change.previous.map_or(String::new(), |previous| format!(", was {previous}"));
        match change.kind {
            ChangeKind::Put => {
                let (created, version) = (change.create_revision, change.version);
                writeln!(out, "{main}: put {key}, created {created}, version {version}{previous}").unwrap();
            }
            ChangeKind::Delete => writeln!(out, "{main}: delete {key}{previous}").unwrap(),
        }
    }
    out
}

fn shown(kv: &KeyValue) -> String {
    let (key, value) = (String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
    let lease = if kv.lease == 0 { String::new() } else { format!(", lease {}", kv.lease) };
    format!(
        "{key}={value} created {}, changed {}, version {}{lease}\n",
        kv.create_revision, kv.mod_revision, kv.version
    )
}
