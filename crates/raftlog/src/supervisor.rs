//! Stopping a node in the right order, whatever the reason.

use std::sync::Arc;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::failure::Failure;
use crate::log_store::{LogStore, WriterThread};
use crate::node::Raft;
use crate::state_machine::ApplyQueue;
use crate::state_machine::worker::ApplyThread;

/// Everything that runs. What was not started yet is missing.
pub(crate) struct Parts {
    pub(crate) log: LogStore,
    pub(crate) failure: Failure,
    pub(crate) apply: Option<(Arc<ApplyQueue>, ApplyThread)>,
    pub(crate) raft: Option<Raft>,
    /// Ends when openraft's core does.
    pub(crate) core_ended: Option<JoinHandle<()>>,
    writer: WriterThread,
    /// Becomes true when everything has stopped.
    stopped: watch::Sender<bool>,
}

impl Parts {
    pub(crate) fn new(log: LogStore, writer: WriterThread, failure: Failure) -> Self {
        let stopped = watch::Sender::new(false);
        Self { log, failure, apply: None, raft: None, core_ended: None, writer, stopped }
    }

    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stopped.subscribe()
    }
}

/// Waits until the node must stop, and stops it. `asked` yields when somebody asks for it, and ends with
/// the last handle.
pub(crate) async fn run(mut parts: Parts, mut asked: mpsc::Receiver<()>) {
    let failure = parts.failure.clone();
    let core_ended = parts.core_ended.take();
    let core_ended = async {
        match core_ended {
            Some(task) => drop(task.await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = asked.recv() => {}
        _ = failure.wait() => {}
        () = core_ended => {
            let reason = parts.raft.as_ref().and_then(|raft| raft.metrics().borrow_watched().running_state.clone().err());
            let reason = reason.map_or_else(|| "for no known reason".to_owned(), |fatal| fatal.to_string());
            failure.set(Error::Core(reason));
        }
    }
    stop(parts).await;
}

/// Stops what was started: first what hands out work, then those who do it.
pub(crate) async fn stop(parts: Parts) {
    let Parts { log, failure, apply, raft, writer, stopped, .. } = parts;
    if let Some(raft) = raft {
        // It cannot fail: what the core ended with is in its metrics.
        raft.shutdown().await.ok();
    }
    if let Some((queue, thread)) = apply {
        queue.close();
        join(thread, "the application", &failure).await;
    }
    log.close();
    join(writer, "the writer", &failure).await;
    stopped.send_replace(true);
}

async fn join(thread: std::thread::JoinHandle<()>, what: &str, failure: &Failure) {
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    if !matches!(joined, Ok(Ok(()))) {
        failure.set(Error::Core(format!("{what} panicked")));
    }
}
