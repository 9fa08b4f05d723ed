//! A process that is killed keeps what it acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::journal::{Journal, leads, open};

const DIR: &str = "RAFTLOG_KILL_TEST_DIR";

/// Not a test of its own: in the process that is to be killed, this proposes numbers and prints those that were
/// acknowledged. Otherwise it has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let node = open(Path::new(&dir), &Journal::default()).await;
    leads(&node).await;
    let mut waiting = std::collections::VecDeque::new();
    let mut output = std::io::stdout();
    for n in 0u64.. {
        waiting.push_back(node.propose(n.to_string().into()));
        if waiting.len() == 100 {
            let position = waiting.pop_front().unwrap().await.unwrap();
            writeln!(output, "acknowledged {}", position.index).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_keeps_what_it_acknowledged() {
    let dir = TempDir::new().unwrap();
    for round in 1..=4 {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["kill::the_process_that_is_killed", "--exact", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let index =
            |line: String| line.strip_prefix("acknowledged ").map(|index| index.parse::<u64>().unwrap());
        let mut acknowledged = lines.filter_map(index);
        acknowledged.nth(round * 700).unwrap();
        process.kill().unwrap();
        // What it still managed to say counts too.
        let last = acknowledged.last();
        process.wait().unwrap();

        let journal = Journal::default();
        let node = open(dir.path(), &journal).await;
        leads(&node).await;
        node.propose("end".into()).await.unwrap();
        node.shutdown().await.unwrap();
        let entries = journal.entries();
        assert!(entries.last().unwrap().index > last.unwrap_or(0));
        // Within a run the numbers count up from zero: none is lost, doubled or moved.
        let mut expected = 0;
        for entry in entries.iter().filter(|entry| !entry.data.is_empty()) {
            if entry.data == "end" || entry.data == "0" {
                expected = 0;
            }
            if entry.data != "end" {
                assert_eq!(entry.data, expected.to_string());
                expected += 1;
            }
        }
    }
}
