//! Who leads, as far as this member knows.

use std::sync::Arc;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft_rt_tokio::TokioWatchReceiver;
use tokio::sync::watch;

use crate::application::LogId;
use crate::sole_voter::SoleVoter;
use crate::types::TypeConfig;

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The leader, if there is one.
    pub leader: Option<u64>,
    /// The term this is about.
    pub term: u64,
    /// Whether it is this member.
    pub is_leader: bool,
}

impl Leadership {
    fn new(metrics: &RaftServerMetrics<TypeConfig>) -> Self {
        Self {
            leader: metrics.current_leader,
            term: metrics.vote.leader_id.term,
            is_leader: metrics.state == ServerState::Leader,
        }
    }
}

/// Publishes openraft's metrics as [`Leadership`] and tells `sole_voter` when a sole leadership has begun.
/// Ends when openraft's core does.
pub(crate) async fn follow(
    mut metrics: TokioWatchReceiver<RaftServerMetrics<TypeConfig>>,
    mut applied: watch::Receiver<Option<LogId>>,
    sole_voter: Arc<SoleVoter>,
    published: watch::Sender<Leadership>,
) {
    loop {
        let (leadership, membership) = {
            let metrics = metrics.borrow_watched();
            (Leadership::new(&metrics), Arc::clone(&metrics.membership_config))
        };
        published.send_if_modified(|current| {
            let changed = *current != leadership;
            *current = leadership;
            changed
        });
        let term_applied = applied.borrow_and_update().is_some_and(|last| last.term == leadership.term);
        if leadership.is_leader && term_applied {
            let index = membership.log_id().as_ref().map(|log_id| log_id.index);
            sole_voter.begin(leadership.term, index, membership.membership());
        }
        // Until the first entry of the term is applied, this looks at every batch; afterwards only at changes.
        let ended = if leadership.is_leader && !term_applied {
            tokio::select! {
                changed = metrics.changed() => changed.is_err(),
                applied = applied.changed() => applied.is_err(),
            }
        } else {
            metrics.changed().await.is_err()
        };
        if ended {
            published.send_replace(Leadership { leader: None, is_leader: false, ..leadership });
            return;
        }
    }
}
