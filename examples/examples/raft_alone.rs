//! A replicated state machine of one's own, on a cluster of one member: a shopping list.
//!
//! ```console
//! $ cargo run --example raft_alone -- /tmp/list add milk
//! $ cargo run --example raft_alone -- /tmp/list add bread
//! $ cargo run --example raft_alone -- /tmp/list drop milk
//! bread
//! ```

#![expect(clippy::print_stdout, reason = "printing the list is what it is for")]

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Arc, Mutex};

use raftlog::{Application, ApplicationError, Applied, Config, Entry, Node};

/// The state lives in memory only: the log has every change, and replays them when it is opened.
#[derive(Clone, Default)]
struct List {
    items: Arc<Mutex<BTreeSet<String>>>,
    applied: Applied,
}

impl Application for List {
    fn applied(&self) -> Applied {
        self.applied.clone()
    }

    fn apply(&mut self, batch: &[Entry]) -> Result<(), ApplicationError> {
        let mut items = self.items.lock().map_err(|error| error.to_string())?;
        for entry in batch {
            // Entries of the log itself are empty.
            match std::str::from_utf8(&entry.data)?.split_once(' ') {
                Some(("add", item)) => drop(items.insert(item.to_owned())),
                Some(("drop", item)) => drop(items.remove(item)),
                _ => {}
            }
            self.applied.last = Some(entry.log_id());
            self.applied.membership = entry.membership.clone().or(self.applied.membership.take());
        }
        Ok(())
    }

    /// A crash leaves nothing of this state, so the log must keep everything.
    fn flush(&mut self) -> Result<Applied, ApplicationError> {
        Ok(Applied::default())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let dir = arguments.next().map_or_else(|| temporary.path().to_owned(), Into::into);
    let command = arguments.collect::<Vec<_>>().join(" ");

    let list = List::default();
    let node = Node::open(Config::single(1, 1, dir), list.clone()).await?;
    node.leadership().wait_for(|leadership| leadership.is_leader).await?;
    node.propose(command.into()).await?;
    for item in list.items.lock().map_err(|error| error.to_string())?.iter() {
        println!("{item}");
    }
    node.shutdown().await?;
    Ok(())
}
