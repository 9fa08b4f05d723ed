//! Founding a cluster by way of another one: its founders write down there who they are, and read who the others are.
//!
//! ```text
//! /_etcd/registry/TOKEN/_config/size     how many members there are to be; whoever sets the cluster up writes it
//! /_etcd/registry/TOKEN/members/ID       NAME=URL[,NAME=URL], by the member itself; the first SIZE of them are the cluster
//! ```

use std::time::Duration;

use api::MemberId;
use client::{Client, ConnectOptions, SortOrder, SortTarget, TlsOptions};

use super::InitialCluster;
use crate::config::Registry;
use crate::error::Error;

/// The pauses between attempts double up to this many seconds.
const PAUSE_MAX: u64 = 256;

/// Why nothing came of it.
#[derive(Debug)]
enum Failure {
    /// The registry says no.
    Refused(&'static str),
    /// The registry cannot be asked; it may be back soon.
    Unreachable(client::Error),
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        Self::Unreachable(error)
    }
}

/// What the registry knows of a cluster.
struct Registered {
    size: usize,
    /// Each member's key and what it says of itself, the oldest first.
    members: Vec<(String, String)>,
    revision: i64,
}

/// Registers a member that describes itself as `own`, and waits until its cluster is complete. A registry that cannot be
/// reached is asked again and again, as by etcd.
///
/// # Errors
/// The registry holds no such cluster, or a full one, or makes no sense.
pub(super) async fn join(
    registry: &Registry,
    id: MemberId,
    own: &InitialCluster,
) -> Result<InitialCluster, Error> {
    let mut pause = 1;
    loop {
        match attempt(registry, id, own).await {
            Ok(cluster) => return parsed(&cluster),
            Err(Failure::Refused(why)) => return Err(failed(why)),
            Err(Failure::Unreachable(error)) => {
                pause = (pause * 2).min(PAUSE_MAX);
                tracing::warn!(
                    error = error.to_string(),
                    after_seconds = pause,
                    "retry connecting to discovery service"
                );
                tokio::time::sleep(Duration::from_secs(pause)).await;
            }
        }
    }
}

fn failed(why: &str) -> Error {
    Error::config(format!("failed to join discovery cluster ({why})"))
}

fn parsed(cluster: &str) -> Result<InitialCluster, Error> {
    let cluster = InitialCluster::parse(cluster).map_err(|_| failed("discovery: invalid peer URL"))?;
    if cluster.has_duplicates() {
        return Err(Error::config(format!("discovery cluster {cluster} has duplicate url")));
    }
    Ok(cluster)
}

async fn attempt(registry: &Registry, id: MemberId, own: &InitialCluster) -> Result<String, Failure> {
    let client = Client::connect(options(registry)).await?;
    let own_key = format!("{}{id}", members_prefix(registry));
    let before = registered(&client, registry).await?;
    is_among_the_first(&before, &own_key)?;
    client.put(own_key.clone(), own.to_string()).await?;
    let mut registered = registered(&client, registry).await?;
    is_among_the_first(&registered, &own_key)?;
    if registered.members.len() < registered.size {
        wait_for_the_rest(&client, registry, &mut registered).await?;
    }
    registered.members.truncate(registered.size);
    let members: Vec<String> = registered.members.into_iter().map(|(_, member)| member).collect();
    Ok(members.join(","))
}

/// A full cluster takes nobody more.
fn is_among_the_first(registered: &Registered, own_key: &str) -> Result<(), Failure> {
    let first = registered.members.iter().take(registered.size);
    if registered.members.len() >= registered.size && !first.into_iter().any(|(key, _)| key == own_key) {
        return Err(Failure::Refused("discovery: cluster is full"));
    }
    Ok(())
}

async fn registered(client: &Client, registry: &Registry) -> Result<Registered, Failure> {
    let size = client.get(format!("/_etcd/registry/{}/_config/size", registry.token)).await?;
    let size = size.kvs.first().ok_or(Failure::Refused("discovery: size key not found"))?;
    let size = std::str::from_utf8(&size.value).ok().and_then(|size| size.parse().ok());
    let size = size.filter(|size| *size > 0).ok_or(Failure::Refused("discovery: size key is bad"))?;
    let found =
        client.get(members_prefix(registry)).prefix().sort(SortTarget::Create, SortOrder::Ascend).await?;
    let revision = found.header.map_or(0, |header| header.revision);
    let members = found.kvs.iter().filter_map(|kv| member(&kv.key, &kv.value)).collect();
    Ok(Registered { size, members, revision })
}

/// A member's key and description; nothing if it describes no member.
fn member(key: &[u8], value: &[u8]) -> Option<(String, String)> {
    let (key, value) = (std::str::from_utf8(key).ok()?.trim(), std::str::from_utf8(value).ok()?.trim());
    match InitialCluster::parse(value) {
        Ok(_) => {
            tracing::info!(member = value, "found peer from discovery service");
            Some((key.to_owned(), value.to_owned()))
        }
        Err(error) => {
            tracing::warn!(key, error, "failed to parse cluster member: discovery: invalid peer URL");
            None
        }
    }
}

async fn wait_for_the_rest(
    client: &Client,
    registry: &Registry,
    registered: &mut Registered,
) -> Result<(), Failure> {
    let mut events =
        client.watch(members_prefix(registry)).prefix().start_revision(registered.revision + 1).await?;
    while registered.members.len() < registered.size {
        tracing::info!(
            found = registered.members.len(),
            needed = registered.size,
            "waiting for peers from discovery service"
        );
        let response = events.next().await.unwrap_or(Err(client::Error::Closed))?;
        for kv in response.events.into_iter().filter_map(|event| event.kv) {
            // One that registers again is not one more.
            let member = member(&kv.key, &kv.value);
            registered
                .members
                .extend(member.filter(|(key, _)| registered.members.iter().all(|(known, _)| known != key)));
        }
    }
    Ok(())
}

fn members_prefix(registry: &Registry) -> String {
    format!("/_etcd/registry/{}/members/", registry.token)
}

fn options(registry: &Registry) -> ConnectOptions {
    let endpoints = registry.endpoints.iter().map(|endpoint| {
        let bare = !endpoint.contains("://") && !endpoint.starts_with("unix");
        if bare && !registry.insecure_transport { format!("https://{endpoint}") } else { endpoint.clone() }
    });
    let mut options = ConnectOptions::new(endpoints)
        .connect_timeout(registry.dial_timeout)
        .request_timeout(registry.request_timeout)
        .keepalive_time(registry.keepalive_time)
        .keepalive_timeout(registry.keepalive_timeout);
    let mut tls = TlsOptions::new().insecure_skip_verify(registry.insecure_skip_tls_verify);
    let mut is_secure = registry.insecure_skip_tls_verify;
    if let Some(authority) = &registry.cacert {
        (tls, is_secure) = (tls.ca_file(authority), true);
    }
    if let (Some(cert), Some(key)) = (&registry.cert, &registry.key) {
        (tls, is_secure) = (tls.certificate_files(cert, key), true);
    }
    if is_secure {
        options = options.tls(tls);
    }
    if !registry.user.is_empty() {
        let (name, password) = registry.user.split_once(':').unwrap_or((&registry.user, &registry.password));
        options = options.user(name, password);
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered_with(size: usize, keys: &[&str]) -> Registered {
        let members = keys.iter().map(|key| ((*key).to_owned(), String::new())).collect();
        Registered { size, members, revision: 1 }
    }

    #[test]
    fn only_the_first_are_members() {
        let full = |size, keys: &[&str]| is_among_the_first(&registered_with(size, keys), "own").is_err();
        assert!(!full(2, &[]) && !full(2, &["x"]) && !full(2, &["x", "own"]) && !full(2, &["own", "x", "y"]));
        assert!(full(2, &["x", "y"]) && full(2, &["x", "y", "own"]));
    }

    #[test]
    fn a_description_that_is_none_is_passed_over() {
        assert_eq!(member(b" k ", b"a=http://a:1\n"), Some(("k".to_owned(), "a=http://a:1".to_owned())));
        assert_eq!(member(b"k", b"a=nonsense"), None);
        assert_eq!(member(b"k", b"\xff"), None);
    }

    #[test]
    fn what_comes_of_it_is_refused_in_etcds_words() {
        assert_eq!(
            parsed("a=http://a:1,b=http://a:1").unwrap_err().to_string(),
            "discovery cluster a=http://a:1,b=http://a:1 has duplicate url"
        );
        assert_eq!(
            parsed("a").unwrap_err().to_string(),
            "failed to join discovery cluster (discovery: invalid peer URL)"
        );
    }
}
