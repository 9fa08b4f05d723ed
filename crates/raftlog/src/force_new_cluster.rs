//! Making a member the only one of its cluster, when the majority is lost for good.
//!
//! ```text
//! log before   ├── applied ──┤── committed ──┤── whatever else ──┤
//! log after    ├── applied ──┤── committed ──┤ the membership is this member alone
//! ```
//!
//! The new membership is an entry like any other, appended behind what is known to be committed and counted as committed itself, so
//! the application learns of it in the usual way. It is the only entry that ever becomes committed without a majority.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage};

use crate::application::Applied;
use crate::config::Member;
use crate::error::{Error, Result};
use crate::log_store::LogStore;
use crate::record;
use crate::types::{self, CommittedLeaderId, Data, LogEntry, Membership, Payload};

/// Leaves `log` so that replaying it makes member `id` the only one. A log that was never used stays as it is.
pub(crate) async fn force(
    log: &mut LogStore,
    applied: &Applied,
    id: u64,
    mut member: Member,
    data: Bytes,
) -> Result<()> {
    let Some(end) = log.positions().committed.max(applied.last) else { return Ok(()) };
    let failed = |error: std::io::Error| Error::Core(format!("forcing a new cluster: {error}"));
    if let Some(known) = applied.membership.as_deref() {
        let known = record::decode_stored_membership(known).map_err(|e| Error::Core(e.to_string()))?;
        if let Some(known) = known.membership().get_node(&id) {
            member = known.clone();
        }
    }
    tracing::warn!(member = %format!("{id:x}"), after = %end, "forcing a cluster of this member alone");
    let membership = Membership::new(vec![BTreeSet::from([id])], BTreeMap::from([(id, member)]))
        .map_err(|error| Error::Core(error.to_string()))?;
    let entry = LogEntry {
        leader: CommittedLeaderId::new(end.term),
        index: end.index + 1,
        payload: Payload { data: Data(data), membership: Some(Arc::new(membership)) },
    };
    let position = types::to_raft(entry.position());
    log.truncate_after(Some(types::to_raft(end))).await.map_err(failed)?;
    log.append([entry], IOFlushed::noop()).await.map_err(failed)?;
    log.save_committed(Some(position)).await.map_err(failed)?;
    log.synced().await
}
