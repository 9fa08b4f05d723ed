//! Joining a cluster that runs: its members and ids are asked for, and must be those that the flags name.

use std::time::Duration;

use api::MemberId;
use raftlog::Dial;

use super::initial_cluster::RESOLVE_TIMEOUT;
use super::remote::{self, Cluster};
use super::{Identity, InitialCluster, MemberRecord, Origin, already_bootstrapped, resolve};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::flags::ETCD_VERSION;
use crate::url::Url;

/// How long a member of the running cluster has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The oldest cluster that etcd's rules let this version join.
const VERSION_MIN: (u64, u64, u64) = (3, 0, 0);

/// Who this member is in a running cluster.
pub(super) async fn join(
    config: &Config,
    cluster: InitialCluster,
    dial: &dyn Dial,
) -> Result<(Identity, Origin)> {
    cluster.check_duplicates()?;
    let running = remote::cluster(dial, &cluster.others(&config.name), TIMEOUT)
        .await
        .map_err(|why| Error::config(format!("cannot fetch cluster info from peer urls: {why}")))?;
    let members = assigned(&cluster, &running, RESOLVE_TIMEOUT)
        .await
        .map_err(|why| Error::config(format!("error validating peerURLs {}: {why}", printed(&running))))?;
    let own = members.iter().find(|member| member.name == config.name);
    let own = MemberId::new(own.map(|member| member.id).unwrap_or_default());
    // Unlike etcd: a member that forgot what it promised could promise the opposite. It has to be removed, and added anew.
    let before = running.members.iter().find(|member| member.id == own.get());
    if before.is_some_and(|member| !member.client_urls.is_empty()) {
        return Err(already_bootstrapped(own));
    }
    let others: Vec<MemberRecord> = members.iter().filter(|other| other.id != own.get()).cloned().collect();
    if !compatible(dial, &others, config.request_timeout()).await {
        return Err(Error::config("incompatible with current running cluster"));
    }
    let learners = members.iter().filter(|member| member.is_learner).count();
    if learners > config.max_learners {
        return Err(Error::config("membership: too many learner members in cluster"));
    }
    Ok((Identity { member_id: own, cluster_id: running.id }, Origin { joined: true, members }))
}

/// The initial cluster with the ids of the running one; members are matched by their URLs.
async fn assigned(
    cluster: &InitialCluster,
    running: &Cluster,
    patience: Duration,
) -> std::result::Result<Vec<MemberRecord>, String> {
    if cluster.by_name().count() != running.members.len() {
        return Err("member count is unequal".to_owned());
    }
    let mut assigned = Vec::new();
    for member in &running.members {
        let urls = Url::parse_list(member.peer_urls.iter().map(String::as_str))?;
        let mut why = String::new();
        let mut found = None;
        for (name, named) in cluster.by_name() {
            match resolve::same(&urls, named, patience).await {
                Ok(()) => {
                    found = Some(name);
                    break;
                }
                Err(unlike) => why = unlike,
            }
        }
        let Some(name) = found else {
            return Err(format!(
                "PeerURLs: no match found for existing member ({}, [{}]), last resolver error ({why})",
                MemberId::new(member.id),
                member.peer_urls.join(" ")
            ));
        };
        assigned.push(MemberRecord { name: name.to_owned(), client_urls: Vec::new(), ..member.clone() });
    }
    Ok(assigned)
}

/// A cluster as etcd prints it.
fn printed(cluster: &Cluster) -> String {
    let member = |member: &MemberRecord| {
        format!(
            "&{{ID:{} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
            MemberId::new(member.id),
            member.peer_urls.join(" "),
            member.is_learner,
            member.name,
            member.client_urls.join(" ")
        )
    };
    let members: Vec<String> = cluster.members.iter().map(member).collect();
    format!("{{ClusterID:{} Members:[{}] RemovedMemberIDs:[]}}", cluster.id, members.join(" "))
}

/// Whether a member of the cluster speaks of a version this one can work with, and none of another.
async fn compatible(dial: &dyn Dial, others: &[MemberRecord], timeout: Duration) -> bool {
    let mut versions = Vec::new();
    for member in others {
        if let Some(version) = remote::cluster_version(dial, member, timeout).await {
            versions.push(version);
        }
    }
    compatible_versions(&versions, false)
        || (compatible_versions(&versions, true) && remote::downgrading(dial, others, timeout).await)
}

fn compatible_versions(versions: &[String], downgrading: bool) -> bool {
    let (major, minor, _) = parse_version(ETCD_VERSION).unwrap_or_default();
    let newest = (major, if downgrading { minor + 1 } else { minor }, 0);
    let mut agreed = false;
    for version in versions {
        let Some(parsed) = parse_version(version) else {
            tracing::warn!(remote_member_cluster_version = version, "failed to parse cluster version");
            continue;
        };
        if parsed < VERSION_MIN || parsed > newest {
            tracing::warn!(
                remote_member_cluster_version = version,
                "cluster version of remote member is not compatible"
            );
            return false;
        }
        agreed = true;
    }
    agreed
}

fn parse_version(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.splitn(3, '.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests;
