//! From openraft's state machine to the [`Application`](crate::Application).
//!
//! openraft hands over committed entries one command at a time and waits for each. Waiting for the application there
//! would make batches of whatever one command holds. So its `apply` only forwards the entries; the application's own
//! thread takes everything that came together meanwhile as one batch:
//!
//! ```text
//! openraft worker:  apply(7)  apply(8..10)  apply(11)
//! apply thread:     [    apply [7]    ][ apply [8,9,10,11] ]
//! ```
//!
//! The price: openraft believes entries applied that are only queued. Whoever needs the truth (reads, snapshots,
//! openraft itself when it starts) asks through the same queue, behind the entries, or watches our own applied position.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, StreamExt};
use openraft::RaftSnapshotBuilder;
use openraft::storage::{EntryResponder, RaftStateMachine};
use tokio::sync::oneshot;

pub(crate) use self::queue::ApplyQueue;
use self::queue::{Command, Job};
use crate::application::Applied;
use crate::error::{Error, Result};
use crate::failure::Failure;
use crate::log_store::LogStore;
use crate::record;
use crate::types::{self, RaftLogId, StoredMembership, TypeConfig};

pub(crate) mod queue;
#[cfg(test)]
mod tests;
pub(crate) mod worker;

/// How many entries are forwarded at a time.
const FORWARD: usize = 4096;

type Snapshot = openraft::Snapshot<types::CommittedLeaderId, u64, crate::config::Member, SnapshotData>;
type SnapshotMeta = openraft::SnapshotMeta<types::CommittedLeaderId, u64, crate::config::Member>;

/// What openraft sees of the application.
pub(crate) struct StateMachine {
    queue: Arc<ApplyQueue>,
    log: LogStore,
    failure: Failure,
    /// Where snapshots from elsewhere are put together.
    snapshot_dir: PathBuf,
    /// The snapshot built or installed last since the start.
    current: Arc<Mutex<Option<SnapshotMeta>>>,
}

impl StateMachine {
    pub(crate) fn new(
        queue: Arc<ApplyQueue>,
        log: LogStore,
        failure: Failure,
        snapshot_dir: PathBuf,
    ) -> Self {
        Self { queue, log, failure, snapshot_dir, current: Arc::default() }
    }
}

/// A snapshot that need not exist yet: most of them only allow the log to be purged and are never sent.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotData {
    queue: Arc<ApplyQueue>,
}

impl SnapshotData {
    /// Writes the state as files into `dir`, which is made for it. The state may be newer than the snapshot's
    /// metadata say; applying the entries between again changes nothing.
    pub(crate) async fn write(&self, dir: &Path) -> Result<()> {
        let dir = dir.to_owned();
        ask(&self.queue, |reply| Command::Snapshot { dir, reply }).await
    }
}

/// Sends a command behind everything queued and waits for its answer.
async fn ask<T>(
    queue: &ApplyQueue,
    command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    queue.push([Job::Command(command(reply))]);
    answer.await.unwrap_or_else(|_| Err(Error::Core("the application is gone".to_owned())))
}

fn membership(applied: &Applied) -> io::Result<StoredMembership> {
    let decoded = applied.membership.as_deref().map(record::decode_stored_membership).transpose();
    Ok(decoded.map_err(io::Error::other)?.unwrap_or_default())
}

fn snapshot_meta(applied: &Applied) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta { last_log_id: applied.last.map(types::to_raft), last_membership: membership(applied)? })
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembership)> {
        let applied = ask(&self.queue, |reply| Command::Applied { reply }).await.map_err(io::Error::other)?;
        Ok((applied.last.map(types::to_raft), membership(&applied)?))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut entries = entries.ready_chunks(FORWARD);
        while let Some(chunk) = entries.next().await {
            self.failure.check()?;
            let jobs =
                chunk.into_iter().map(|item| item.map(|(entry, responder)| Job::Entry(entry, responder)));
            self.queue.push(jobs.collect::<io::Result<Vec<_>>>()?);
            self.queue.room().await;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { queue: Arc::clone(&self.queue), current: Arc::clone(&self.current) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        if let Some(log_id) = &meta.last_log_id {
            self.log.save_installed(types::from_raft(log_id)).await.map_err(io::Error::other)?;
        }
        let dir = self.snapshot_dir.join("incoming");
        snapshot.write(&dir).await.map_err(io::Error::other)?;
        ask(&self.queue, |reply| Command::Install { dir, reply }).await.map_err(io::Error::other)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let meta = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(meta.map(|meta| Snapshot { meta, snapshot: SnapshotData { queue: Arc::clone(&self.queue) } }))
    }
}

/// Makes the state durable, which is all a snapshot is until somebody needs its bytes.
pub(crate) struct Builder {
    queue: Arc<ApplyQueue>,
    current: Arc<Mutex<Option<SnapshotMeta>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let applied = ask(&self.queue, |reply| Command::Flush { reply }).await.map_err(io::Error::other)?;
        let meta = snapshot_meta(&applied)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: SnapshotData { queue: Arc::clone(&self.queue) } })
    }
}
