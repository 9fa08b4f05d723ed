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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
use crate::types::{self, RaftLogId, SnapshotMeta, StoredMembership, TypeConfig};

pub(crate) mod queue;
#[cfg(test)]
mod tests;
pub(crate) mod worker;

/// How many entries are forwarded at a time.
const FORWARD: usize = 4096;

type Snapshot = openraft::Snapshot<types::CommittedLeaderId, u64, crate::config::Member, SnapshotData>;

/// What openraft sees of the application.
pub(crate) struct StateMachine {
    queue: Arc<ApplyQueue>,
    log: LogStore,
    failure: Failure,
    /// Where snapshots from elsewhere are put together.
    snapshot_dir: PathBuf,
    /// The snapshot built or installed last since the start.
    current: Arc<Mutex<Option<SnapshotMeta>>>,
    transfers: Transfers,
    /// How many snapshots were installed.
    installed: Arc<AtomicU64>,
}

impl StateMachine {
    pub(crate) fn new(
        queue: Arc<ApplyQueue>,
        log: LogStore,
        failure: Failure,
        snapshot_dir: PathBuf,
        transfers: Transfers,
    ) -> Self {
        Self {
            queue,
            log,
            failure,
            snapshot_dir,
            current: Arc::default(),
            transfers,
            installed: Arc::default(),
        }
    }

    /// How many snapshots were installed since the start, now and later.
    pub(crate) fn installed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.installed)
    }

    fn data(&self) -> SnapshotData {
        SnapshotData::Ours { queue: Arc::clone(&self.queue), transfers: self.transfers.clone() }
    }
}

/// Snapshots on their way to other members. While there are any the log is not shortened, or their receivers would need
/// another one when they arrive.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transfers(Arc<Mutex<Vec<Instant>>>);

/// A transfer nobody waits for any longer.
const TRANSFER_MAX: Duration = Duration::from_secs(600);

impl Transfers {
    /// Counts a transfer until the guard is dropped.
    fn begin(&self) -> Transfer {
        let begun = Instant::now();
        self.lock().push(begun);
        Transfer { transfers: self.clone(), begun }
    }

    /// Whether the log must stay as it is.
    pub(crate) fn hold_the_log(&self) -> bool {
        self.lock().iter().any(|begun| begun.elapsed() < TRANSFER_MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transfer under way.
#[derive(Debug)]
pub(crate) struct Transfer {
    transfers: Transfers,
    begun: Instant,
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let mut transfers = self.transfers.lock();
        if let Some(at) = transfers.iter().position(|begun| *begun == self.begun) {
            transfers.swap_remove(at);
        }
    }
}

/// The bytes of a snapshot.
#[derive(Debug, Clone)]
pub(crate) enum SnapshotData {
    /// Of this member. It need not exist yet: most of them only allow the log to be purged and are never sent.
    Ours { queue: Arc<ApplyQueue>, transfers: Transfers },
    /// Files that came from another member.
    Received { dir: PathBuf },
}

impl SnapshotData {
    pub(crate) fn received(dir: PathBuf) -> Self {
        Self::Received { dir }
    }

    /// Writes the state as files into `dir`, which is made for it. Returns the position the files stand for, which may be newer than
    /// the snapshot's metadata say, and what keeps the log from being purged behind it.
    pub(crate) async fn write(&self, dir: &Path) -> Result<(Applied, Transfer)> {
        match self {
            Self::Ours { queue, transfers } => {
                let (dir, transfer) = (dir.to_owned(), transfers.begin());
                Ok((ask(queue, |reply| Command::Snapshot { dir, reply }).await?, transfer))
            }
            Self::Received { dir } => {
                Err(Error::Core(format!("the snapshot in {} was to be installed, not sent", dir.display())))
            }
        }
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

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        if self.transfers.hold_the_log() && !force {
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { queue: Arc::clone(&self.queue), current: Arc::clone(&self.current), data: self.data() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        if let Some(log_id) = &meta.last_log_id {
            self.log.save_installed(types::from_raft(log_id)).await.map_err(io::Error::other)?;
        }
        let dir = match snapshot {
            SnapshotData::Received { dir } => dir,
            ours @ SnapshotData::Ours { .. } => {
                let dir = self.snapshot_dir.join("own");
                ours.write(&dir).await.map_err(io::Error::other)?;
                dir
            }
        };
        let installed = ask(&self.queue, |reply| Command::Install { dir, reply }).await;
        let installed = installed.map_err(io::Error::other)?;
        self.installed.fetch_add(1, Ordering::Relaxed);
        tracing::info!(at = %installed.last.unwrap_or_default(), "installed a snapshot");
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let meta = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(meta.map(|meta| Snapshot { meta, snapshot: self.data() }))
    }
}

/// Makes the state durable, which is all a snapshot is until somebody needs its bytes.
pub(crate) struct Builder {
    queue: Arc<ApplyQueue>,
    current: Arc<Mutex<Option<SnapshotMeta>>>,
    data: SnapshotData,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let applied = ask(&self.queue, |reply| Command::Flush { reply }).await.map_err(io::Error::other)?;
        let meta = snapshot_meta(&applied)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: self.data.clone() })
    }
}
