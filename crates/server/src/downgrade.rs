//! Downgrading the cluster to the version before: asked for, checked, and over when every member runs that version.
//!
//! While a downgrade is enabled the leader lowers the cluster's version ([`versions`](crate::versions)), so that members of the version before may
//! join; then the members are replaced one by one. etcd `server/etcdserver/version`.

use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::downgrade_request::DowngradeAction;
use api::etcdserverpb::{DowngradeRequest, DowngradeResponse};
use api::internal::DowngradeSet;
use api::status::{self, Status};
use raftlog::Node;

use crate::calls::Calls;
use crate::member::Shared;
use crate::proposal::Command;
use crate::read;
use crate::versions::{self, Minor};

/// Does what a client asks for.
///
/// # Errors
/// The target is no version or not the one before the cluster's, the cluster's version is not known yet, it is being downgraded
/// already, or there is no such action. As in etcd, calling off a downgrade never fails.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    node: &Node,
    timeout: Duration,
    request: &DowngradeRequest,
) -> Result<DowngradeResponse, Status> {
    let action = DowngradeAction::try_from(request.action).map_err(|_| status::UNKNOWN_METHOD)?;
    // Validated is the version that was found, even if it changes right afterwards.
    let mut found = shared.members.version();
    match action {
        DowngradeAction::Cancel => cancel(shared, node, timeout).await,
        DowngradeAction::Validate => drop(validate(shared, node, timeout, &request.version).await?),
        DowngradeAction::Enable => {
            let target = validate(shared, node, timeout, &request.version).await?;
            set(shared, Some(target)).await?;
        }
    }
    if found.is_none() {
        found = shared.members.version();
    }
    let version = found.as_deref().and_then(versions::minor).map_or_else(String::new, Minor::short);
    Ok(DowngradeResponse { header: Some(shared.header_now()), version })
}

async fn validate(
    shared: &Arc<Shared>,
    node: &Node,
    timeout: Duration,
    version: &str,
) -> Result<Minor, Status> {
    let target = versions::target(version).ok_or(status::WRONG_DOWNGRADE_VERSION_FORMAT)?;
    let current = || shared.members.version().as_deref().and_then(versions::minor);
    current().ok_or(status::CLUSTER_VERSION_UNAVAILABLE)?;
    read::barrier(node, timeout).await?;
    let current = current().ok_or(status::CLUSTER_VERSION_UNAVAILABLE)?;
    if current.before() != Some(target) {
        return Err(status::INVALID_DOWNGRADE_TARGET_VERSION);
    }
    if shared.members.downgrade().is_some() {
        return Err(status::DOWNGRADE_IN_PROCESS);
    }
    Ok(target)
}

async fn cancel(shared: &Arc<Shared>, node: &Node, timeout: Duration) {
    let outcome = match read::barrier(node, timeout).await {
        Ok(()) if shared.members.downgrade().is_some() => set(shared, None).await,
        Ok(()) => Err(status::NO_INFLIGHT_DOWNGRADE),
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = outcome {
        tracing::error!(error = refusal.text(), "failed to cancel downgrade");
    }
}

async fn set(shared: &Arc<Shared>, target: Option<Minor>) -> Result<(), Status> {
    let target = target.map_or_else(String::new, Minor::long);
    shared.proposals.propose(Command::downgrade_set(&DowngradeSet { target })).await.map(drop)
}

/// As the leader, ends the downgrade once every member runs the version it was for.
pub(crate) async fn watch(shared: Arc<Shared>, node: Node, calls: Calls, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let leads = node.leadership().borrow().is_leader;
        let Some(target) = shared.members.downgrade().filter(|_| leads) else { continue };
        let members = versions::ask(&shared, &calls).await;
        if is_over(&target, members.iter().map(Option::as_deref)) {
            tracing::info!(cluster_version = target, "the cluster has been downgraded");
            if let Err(refusal) = set(&shared, None).await {
                tracing::warn!(error = refusal.text(), "failed to cancel downgrade");
            }
        }
    }
}

/// Whether every member runs the target; one whose version is not known does not.
fn is_over<'a>(target: &str, mut members: impl Iterator<Item = Option<&'a str>>) -> bool {
    let target = versions::minor(target);
    members.all(|version| version.and_then(versions::minor) == target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_downgrade_is_over_when_every_member_is_known_to_run_the_target() {
        let over = |members: &[Option<&str>]| is_over("3.6.0", members.iter().copied());
        assert!(over(&[Some("3.6.0"), Some("3.6.14")]));
        assert!(!over(&[Some("3.6.0"), Some("3.7.1")]));
        assert!(!over(&[Some("3.6.0"), None]));
    }
}
