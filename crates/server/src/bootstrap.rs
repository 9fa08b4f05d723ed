//! Before a member runs: who it is, who the others are, and whether its data is its own and readable.
//!
//! ```text
//! data with an identity ────────────────────────────────► that one; the flags about the first start are ignored
//! no data, state "new" ──► initial_cluster ─► remote ───► ids made of URLs and token; the others must not know us
//!                              └► srv, registry            the members are in DNS, or in another cluster
//! no data, state "existing" ─► initial_cluster ─► join ─► ids copied from the running cluster
//! ```
//!
//! The rules, their order and their words are etcd's (`server/etcdserver/bootstrap.go`).

mod data_dir;
mod initial_cluster;
mod join;
mod registry;
mod remote;
mod resolve;
mod srv;

use api::etcdserverpb::Member;
use api::{ClusterId, MemberId};
use raftlog::Dial;
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use data_dir::{DataDir, Origin, fence};
pub(crate) use initial_cluster::{InitialCluster, member_id};

use crate::config::{ClusterState, Config};
use crate::error::{Error, Result};

/// Who the member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) member_id: MemberId,
    pub(crate) cluster_id: ClusterId,
}

/// A member as members tell each other of it, in etcd's JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberRecord {
    pub(crate) id: u64,
    #[serde(rename = "peerURLs", default, deserialize_with = "null_is_empty")]
    pub(crate) peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(
        rename = "clientURLs",
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) client_urls: Vec<String>,
}

/// Go writes an empty list as `null` in places.
fn null_is_empty<'de, D: Deserializer<'de>>(list: D) -> std::result::Result<Vec<String>, D::Error> {
    Option::deserialize(list).map(Option::unwrap_or_default)
}

impl From<MemberRecord> for Member {
    fn from(record: MemberRecord) -> Self {
        Self {
            id: record.id,
            name: record.name,
            peer_ur_ls: record.peer_urls,
            client_ur_ls: record.client_urls,
            is_learner: record.is_learner,
        }
    }
}

impl From<Member> for MemberRecord {
    fn from(member: Member) -> Self {
        Self {
            id: member.id,
            peer_urls: member.peer_ur_ls,
            is_learner: member.is_learner,
            name: member.name,
            client_urls: member.client_ur_ls,
        }
    }
}

/// Works out who a member is and who founded its cluster with it, once, and remembers it.
///
/// # Errors
/// The flags contradict themselves, or the running cluster; nothing is remembered then.
pub(crate) async fn identity(
    config: &Config,
    data_dir: &DataDir,
    dial: &dyn Dial,
) -> Result<(Identity, Origin)> {
    if let Some(identity) = data_dir.identity()? {
        if config.discovery.registry.is_set() {
            tracing::warn!(
                "discovery token is ignored since cluster already initialized; valid logs are found"
            );
        }
        return Ok((identity, data_dir.origin()?));
    }
    let cluster = InitialCluster::of(config).await?;
    let (identity, origin) = match config.initial_cluster_state {
        ClusterState::New => found(config, cluster, dial).await?,
        ClusterState::Existing => join::join(config, cluster, dial).await?,
    };
    data_dir.remember(identity, &origin)?;
    Ok((identity, origin))
}

/// A member of a cluster that is founded by the flags alone, as etcd makes it of a snapshot: nobody is asked.
///
/// # Errors
/// The flags contradict themselves.
pub(crate) async fn founder(config: &Config) -> Result<(Identity, Origin)> {
    let cluster = InitialCluster::of(config).await?;
    cluster.check_advertised(config).await?;
    cluster.check_duplicates()?;
    let token = &config.initial_cluster_token;
    let member_id = cluster.member_id(&config.name, token);
    let members = cluster.members(token)?;
    let cluster_id = initial_cluster::cluster_id(&members);
    Ok((Identity { member_id, cluster_id }, Origin { joined: false, members }))
}

/// A member of a new cluster.
async fn found(config: &Config, mut cluster: InitialCluster, dial: &dyn Dial) -> Result<(Identity, Origin)> {
    cluster.check_advertised(config).await?;
    cluster.check_duplicates()?;
    let registry = &config.discovery.registry;
    // The founders that a registry brings together agree on the token they did so by.
    let token = if registry.is_set() { &registry.token } else { &config.initial_cluster_token };
    let member_id = cluster.member_id(&config.name, token);
    if remote::knows(dial, &cluster.others(&config.name), member_id).await {
        return Err(already_bootstrapped(member_id));
    }
    if registry.is_set() {
        cluster = registry::join(registry, member_id, &cluster).await?;
    }
    let members = cluster.members(token)?;
    let cluster_id = initial_cluster::cluster_id(&members);
    Ok((Identity { member_id, cluster_id }, Origin { joined: false, members }))
}

/// Why a member whose data is gone cannot come back as it was.
fn already_bootstrapped(id: MemberId) -> Error {
    Error::config(format!("member {id} has already been bootstrapped"))
}
