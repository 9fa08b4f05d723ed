//! The physical side of compactions: removing what a compaction made superfluous, in the background.
//!
//! A compaction takes effect when its entry is applied: from then on older revisions are refused. Their records go bit by
//! bit, with pauses, on a thread of its own, so that no request waits for them. One that a crash interrupts goes on at the
//! next start.

use std::sync::mpsc;
use std::time::Duration;

use mvcc::Compaction;
use tokio::sync::watch;

/// Hands compactions to the thread that carries them out.
#[derive(Clone, Debug)]
pub(crate) struct Compactions {
    /// `None` ends the thread.
    jobs: mpsc::Sender<Option<Compaction>>,
    /// The highest revision ever started, and the highest finished.
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    started: i64,
    finished: i64,
}

/// The thread's end of [`Compactions`].
pub(crate) struct Worker {
    jobs: mpsc::Receiver<Option<Compaction>>,
    progress: watch::Sender<Progress>,
    batch_limit: usize,
    pause: Duration,
}

/// Makes both ends.
pub(crate) fn channel(batch_limit: usize, pause: Duration) -> (Compactions, Worker) {
    let (sender, jobs) = mpsc::channel();
    let progress = watch::Sender::new(Progress::default());
    (Compactions { jobs: sender, progress: progress.clone() }, Worker { jobs, progress, batch_limit, pause })
}

impl Compactions {
    /// Puts a compaction in line.
    pub(crate) fn start(&self, compaction: Compaction) {
        self.progress.send_modify(|progress| progress.started = progress.started.max(compaction.revision()));
        // The worker ends with the member; what it did not get to is resumed at the next start.
        drop(self.jobs.send(Some(compaction)));
    }

    /// Ends the thread, whoever still holds this.
    pub(crate) fn stop(&self) {
        // If nobody listens, it has ended.
        drop(self.jobs.send(None));
    }

    /// Resolves when the compaction at `revision` has removed its last record.
    pub(crate) async fn finished(&self, revision: i64) {
        self.until(|progress| progress.finished >= revision).await;
    }

    /// Resolves when no compaction is under way.
    pub(crate) async fn idle(&self) {
        self.until(|progress| progress.finished >= progress.started).await;
    }

    async fn until(&self, done: impl FnMut(&Progress) -> bool) {
        // The sender is our own, so waiting ends only with success.
        drop(self.progress.subscribe().wait_for(done).await);
    }
}

impl Worker {
    /// Carries out compactions until the member stops.
    ///
    /// # Errors
    /// The store failed; the member must not go on.
    pub(crate) fn run(self, stopping: &dyn Fn() -> bool) -> mvcc::Result<()> {
        while let Ok(Some(compaction)) = self.jobs.recv() {
            while compaction.run_chunk(self.batch_limit)? {
                if stopping() {
                    return Ok(());
                }
                std::thread::sleep(self.pause);
            }
            let revision = compaction.revision();
            self.progress.send_modify(|progress| progress.finished = progress.finished.max(revision));
            tracing::info!(compact_revision = revision, "finished scheduled compaction");
        }
        Ok(())
    }
}
