//! What happens between opening the log and taking part in the cluster: log and state are compared, and the state
//! catches up with what the log knows to be committed.
//!
//! ```text
//! log          purged ├───────────────────────┤ last
//! committed                            │
//! state               ├──────┤ applied └ replayed up to here
//! ```
//!
//! - The state is never ahead of the log, because an entry is applied only once it is durable in the log. If it is, the log
//!   has lost entries, unless the state has just been replaced by a snapshot.
//! - The log never begins after the state, because it is purged only up to where the state was flushed.
//! - Where both have the same index, they have the same entry.

use crate::application::LogId;
use crate::error::{Error, Result};
use crate::log_store::LogStore;
use crate::state_machine::ApplyQueue;
use crate::state_machine::queue::Job;

/// Refuses a log and a state that do not belong together.
pub(crate) async fn check(log: &LogStore, applied: Option<LogId>) -> Result<()> {
    let positions = log.positions();
    let path = || log.path().to_owned();
    if let Some(purged) = positions.purged.filter(|purged| applied.is_none_or(|a| a.index < purged.index)) {
        return Err(Error::StateLost { path: path(), purged, applied });
    }
    let Some(applied) = applied else { return Ok(()) };
    if positions.last.is_none_or(|last| last.index < applied.index) {
        if log.installed()?.is_some_and(|installed| installed.index <= applied.index) {
            return Ok(());
        }
        return Err(Error::LogLost { path: path(), last: positions.last, applied });
    }
    let entry = log.read(applied.index, applied.index + 1).await?;
    let found = entry.first().map(|entry| entry.position()).or(positions.purged);
    if found.is_some_and(|found| found.index == applied.index && found != applied) {
        let reason =
            format!("the state has applied {applied}, but the log has another entry there: {found:?}");
        return Err(Error::Damaged { path: path(), reason });
    }
    Ok(())
}

/// Hands the application what is known to be committed and not applied. openraft would do it too, but in
/// pieces of 64 entries.
pub(crate) async fn replay(log: &LogStore, queue: &ApplyQueue, applied: Option<LogId>) -> Result<()> {
    let end = log.positions().committed.map_or(0, |committed| committed.index + 1);
    let begin = applied.map_or(0, |applied| applied.index + 1);
    let mut next = begin;
    while next < end {
        let entries = log.read(next, end).await?;
        next = entries.last().map_or(end, |entry| entry.index + 1);
        queue.push(entries.into_iter().map(|entry| Job::Entry(entry, None)));
        queue.room().await;
    }
    if begin < end {
        tracing::info!(entries = end - begin, "replaying committed entries");
    }
    Ok(())
}
