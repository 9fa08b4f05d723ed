//! The version that the cluster has agreed on: the least of its members', which clients decide by what they may ask.

use std::sync::Arc;
use std::time::Duration;

use api::internal::peer_request::Request;
use api::internal::peer_response::Response;
use api::internal::{ClusterVersionSet, MemberStatusRequest};
use raftlog::Node;

use crate::calls::Calls;
use crate::flags::ETCD_VERSION;
use crate::member::Shared;
use crate::proposal::Command;

/// How often members are asked; etcd `server/etcdserver/server.go` (`monitorVersionInterval`).
const INTERVAL: Duration = Duration::from_secs(4);

/// Asks members for their versions whenever this one leads.
pub(crate) async fn watch(shared: Arc<Shared>, node: Node, calls: Calls) {
    let mut leadership = node.leadership();
    loop {
        if leadership.borrow_and_update().is_leader {
            look(&shared, &calls).await;
        }
        // A new leader looks at once.
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

async fn look(shared: &Arc<Shared>, calls: &Calls) {
    let members = shared.members.list();
    let asked = members.iter().map(|member| async {
        match calls.ask(member.id, Request::MemberStatus(MemberStatusRequest {})).await {
            Ok(Response::MemberStatus(status)) => Some(status.version),
            _ => None,
        }
    });
    agree(shared, &futures_util::future::join_all(asked).await).await;
}

/// `major.minor.0` of a version.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// What the cluster's version becomes: the least of its members', as soon as all are known; it is never lowered. While none is
/// decided, those that are known decide.
fn decide(current: Option<&str>, members: &[Option<String>]) -> Option<String> {
    let known: Vec<(u32, u32)> = members.iter().flatten().filter_map(|version| minor(version)).collect();
    let current = current.and_then(minor);
    if current.is_some() && known.len() < members.len() {
        return None;
    }
    let least = known.into_iter().min()?;
    (current.is_none_or(|current| current < least)).then(|| format!("{}.{}.0", least.0, least.1))
}

/// Sets the cluster's version to what these members' versions allow, if that is something new.
pub(crate) async fn agree(shared: &Arc<Shared>, members: &[Option<String>]) {
    let current = shared.members.version();
    let Some(version) = decide(current.as_deref(), members) else { return };
    let set = Command::cluster_version_set(&ClusterVersionSet { version: version.clone() });
    // Whoever leads tries again soon.
    if shared.proposals.propose(set).await.is_ok() {
        match current {
            None => tracing::info!(cluster_version = version, "set initial cluster version"),
            Some(from) => tracing::info!(from, to = version, "updated cluster version"),
        }
    }
}

/// What this member's own version is.
pub(crate) fn own() -> String {
    ETCD_VERSION.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_version_counts_once_all_are_known_and_is_never_lowered() {
        let decided = |current, members: &[&str]| {
            let members: Vec<_> =
                members.iter().map(|version| (!version.is_empty()).then(|| (*version).to_owned())).collect();
            decide(current, &members)
        };
        assert_eq!(decided(None, &["3.7.1"]).as_deref(), Some("3.7.0"));
        assert_eq!(decided(None, &["3.7.1", ""]).as_deref(), Some("3.7.0"));
        assert_eq!(decided(None, &["", ""]), None);
        assert_eq!(decided(Some("3.6.0"), &["3.7.1", ""]), None);
        assert_eq!(decided(Some("3.6.0"), &["3.7.1", "3.7.0"]).as_deref(), Some("3.7.0"));
        assert_eq!(decided(Some("3.6.0"), &["3.7.1", "3.6.9"]), None);
        assert_eq!(decided(Some("3.7.0"), &["3.10.0"]).as_deref(), Some("3.10.0"));
        assert_eq!(decided(Some("3.7.0"), &["3.6.0"]), None);
    }
}
