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
    agree(shared, &ask(shared, calls).await).await;
}

/// The version of every member; `None` for one that does not answer.
pub(crate) async fn ask(shared: &Shared, calls: &Calls) -> Vec<Option<String>> {
    let members = shared.members.list();
    let asked = members.iter().map(|member| async {
        match calls.ask(member.id, Request::MemberStatus(MemberStatusRequest {})).await {
            Ok(Response::MemberStatus(status)) => Some(status.version),
            _ => None,
        }
    });
    futures_util::future::join_all(asked).await
}

/// A version as far as members must agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Minor {
    major: u32,
    minor: u32,
}

impl Minor {
    /// `major.minor.0`, as the cluster's version is written.
    pub(crate) fn long(self) -> String {
        format!("{}.{}.0", self.major, self.minor)
    }

    /// `major.minor`.
    pub(crate) fn short(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// The version before, if there is one of the same major.
    pub(crate) fn before(self) -> Option<Self> {
        Some(Self { minor: self.minor.checked_sub(1)?, ..self })
    }
}

/// Major and minor of a version.
pub(crate) fn minor(version: &str) -> Option<Minor> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some(Minor { major: numbers.next()??, minor: numbers.next()?? })
}

/// A version that somebody typed: `major.minor`, or in full, with what semantic versioning allows behind it.
pub(crate) fn target(version: &str) -> Option<Minor> {
    let number = |part: &str| -> Option<u32> {
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<u32> = core.split('.').map(number).collect::<Option<_>>()?;
    match parts[..] {
        [major, minor] if core == version => Some(Minor { major, minor }),
        [major, minor, _] => Some(Minor { major, minor }),
        _ => None,
    }
}

/// What the cluster's version becomes: the least of its members', as soon as all are known. It is lowered only to the target of a
/// downgrade, and stays there for as long as that is enabled. While none is decided, those that are known decide.
fn decide(current: Option<&str>, downgrade: Option<&str>, members: &[Option<String>]) -> Option<String> {
    let known: Vec<Minor> = members.iter().flatten().filter_map(|version| minor(version)).collect();
    let current = current.and_then(minor);
    if current.is_some() && known.len() < members.len() {
        return None;
    }
    let least = known.into_iter().min()?;
    match (current, downgrade.and_then(minor)) {
        (Some(current), Some(target)) => (current.before() == Some(target)).then(|| target.long()),
        (current, _) => current.is_none_or(|current| current < least).then(|| least.long()),
    }
}

/// Sets the cluster's version to what these members' versions allow, if that is something new.
pub(crate) async fn agree(shared: &Arc<Shared>, members: &[Option<String>]) {
    let current = shared.members.version();
    let downgrade = shared.members.downgrade();
    let Some(version) = decide(current.as_deref(), downgrade.as_deref(), members) else { return };
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
    fn a_target_is_two_numbers_or_a_whole_version() {
        let read = |version: &str| target(version).map(Minor::long);
        for version in ["3.6", "3.6.0", "3.6.9", "3.6.0-rc.1", "3.6.0+x", "3.6.1-a+b"] {
            assert_eq!(read(version).as_deref(), Some("3.6.0"), "{version}");
        }
        for version in ["", "3", "3.", "3.6.", "3.6.0.0", "v3.6", "3.x", "+3.6", "3.6-rc", " 3.6", "3.-1"] {
            assert_eq!(read(version), None, "{version}");
        }
    }

    #[test]
    fn only_a_downgrade_lowers_the_version_and_keeps_it_low() {
        let members: Vec<_> = ["3.7.1", "3.7.1"].map(|version| Some(version.to_owned())).into();
        assert_eq!(decide(Some("3.7.0"), Some("3.6.0"), &members).as_deref(), Some("3.6.0"));
        assert_eq!(decide(Some("3.6.0"), Some("3.6.0"), &members), None);
        assert_eq!(decide(Some("3.7.0"), Some("3.5.0"), &members), None);
        assert_eq!(decide(Some("3.6.0"), None, &members).as_deref(), Some("3.7.0"));
        assert_eq!(decide(Some("3.7.0"), Some("3.6.0"), &[Some("3.7.1".to_owned()), None]), None);
    }

    #[test]
    fn the_least_version_counts_once_all_are_known_and_is_never_lowered() {
        let decided = |current, members: &[&str]| {
            let members: Vec<_> =
                members.iter().map(|version| (!version.is_empty()).then(|| (*version).to_owned())).collect();
            decide(current, None, &members)
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
