//! `--initial-cluster`: the members a cluster is founded with, and etcd's checks of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use api::{ClusterId, MemberId};
use sha1::{Digest as _, Sha1};

use super::{MemberRecord, resolve, srv};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::url::Url;

/// How long names in URLs may take to be found.
pub(super) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);

/// The URLs of each member by its name; printed as etcd prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InitialCluster(BTreeMap<String, Vec<Url>>);

/// The first eight bytes, as etcd makes ids of hashes.
fn id_of(bytes: &[u8]) -> u64 {
    let digest = Sha1::digest(bytes);
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has twenty bytes"))
}

/// A member's id: a hash of its peer URLs, sorted, and the cluster's token. etcd `server/etcdserver/api/membership/member.go`.
pub(crate) fn member_id(peer_urls: &[Url], token: &str) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(Url::as_str).collect();
    urls.sort_unstable();
    MemberId::new(id_of((urls.concat() + token).as_bytes()))
}

/// A cluster's id: a hash of its first members' ids. etcd `server/etcdserver/api/membership/cluster.go`.
pub(super) fn cluster_id(members: &[MemberRecord]) -> ClusterId {
    let mut ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_be_bytes()).collect();
    ClusterId::new(id_of(&bytes))
}

impl InitialCluster {
    /// What the flags say, or the records they point to, with this member in it. A member that will ask a registry knows only
    /// itself yet.
    ///
    /// # Errors
    /// Something in it is no URL, or this member's name is missing.
    pub(crate) async fn of(config: &Config) -> Result<Self> {
        let listed = if config.discovery.registry.is_set() {
            let own = config.initial_advertise_peer_urls.iter().map(|url| format!("{}={url}", config.name));
            own.collect::<Vec<_>>().join(",")
        } else if config.discovery.srv.is_empty() {
            config.initial_cluster.clone()
        } else {
            srv::cluster(config).await?
        };
        let cluster = Self::parse(&listed)
            .map_err(|why| Error::config(format!("error setting up initial cluster: {why}")))?;
        if !cluster.0.contains_key(&config.name) {
            return Err(Error::config(format!(
                "couldn't find local name {:?} in the initial cluster configuration",
                config.name
            )));
        }
        Ok(cluster)
    }

    /// Reads `name=url` pairs separated by commas; a name with several URLs is there several times.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut named: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
            named.entry(name.to_owned()).or_default().push(url);
        }
        let urls = named.into_iter().map(|(name, urls)| Ok((name, Url::parse_list(urls)?)));
        Ok(Self(urls.collect::<std::result::Result<_, String>>()?))
    }

    fn own(&self, config: &Config) -> &[Url] {
        self.0.get(&config.name).map(Vec::as_slice).unwrap_or_default()
    }

    /// This member's URLs must be those it advertises, as texts or as addresses.
    pub(super) async fn check_advertised(&self, config: &Config) -> Result<()> {
        let advertised = Url::parse_list(config.initial_advertise_peer_urls.iter().map(String::as_str))
            .map_err(Error::Config)?;
        let own = self.own(config);
        match resolve::same(&advertised, own, RESOLVE_TIMEOUT).await {
            Ok(()) => Ok(()),
            Err(why) => Err(Error::Config(unmatched(&config.name, &advertised, own, &why))),
        }
    }

    /// No two members may share a URL.
    pub(super) fn check_duplicates(&self) -> Result<()> {
        if self.has_duplicates() {
            return Err(Error::config(format!("initial cluster {self} has duplicate url")));
        }
        Ok(())
    }

    /// Whether a URL is in it twice.
    pub(super) fn has_duplicates(&self) -> bool {
        let mut urls: Vec<&Url> = self.0.values().flatten().collect();
        let all = urls.len();
        urls.sort();
        urls.dedup();
        urls.len() < all
    }

    /// The members with the ids that follow from their URLs and the token.
    pub(super) fn members(&self, token: &str) -> Result<Vec<MemberRecord>> {
        let mut members: BTreeMap<u64, MemberRecord> = BTreeMap::new();
        for (name, urls) in &self.0 {
            let id = member_id(urls, token);
            let member = MemberRecord {
                id: id.get(),
                name: name.clone(),
                peer_urls: urls.iter().map(Url::to_string).collect(),
                ..MemberRecord::default()
            };
            if id.get() == 0 {
                return Err(Error::config("cannot use 0 as member id"));
            }
            if members.insert(id.get(), member).is_some() {
                return Err(Error::config(format!("member exists with identical ID {id}")));
            }
        }
        Ok(members.into_values().collect())
    }

    /// The id of the member of this name in a new cluster.
    pub(super) fn member_id(&self, name: &str, token: &str) -> MemberId {
        member_id(self.0.get(name).map(Vec::as_slice).unwrap_or_default(), token)
    }

    /// The URLs of all members but the one of this name, sorted.
    pub(super) fn others(&self, name: &str) -> Vec<Url> {
        let others = self.0.iter().filter(|(other, _)| *other != name);
        let mut urls: Vec<Url> = others.flat_map(|(_, urls)| urls).cloned().collect();
        urls.sort();
        urls
    }

    /// Each member's name and URLs.
    pub(super) fn by_name(&self) -> impl Iterator<Item = (&str, &[Url])> {
        self.0.iter().map(|(name, urls)| (name.as_str(), urls.as_slice()))
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named =
            self.by_name().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
        let mut pairs: Vec<String> = named.collect();
        pairs.sort();
        f.write_str(&pairs.join(","))
    }
}

/// etcd's words for URLs that are advertised but not in the initial cluster, or the other way round. What it shows as the
/// initial cluster in two of them is what is advertised; so does this.
fn unmatched(name: &str, advertised: &[Url], own: &[Url], why: &str) -> String {
    let listed = |urls: &[Url]| urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",");
    let named = |urls: &[Url]| urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",");
    let without = |urls: &[Url], others: &[Url]| -> Vec<Url> {
        let mut missing: Vec<Url> = urls.iter().filter(|url| !others.contains(url)).cloned().collect();
        missing.dedup();
        missing
    };
    let missing = without(own, advertised);
    if !missing.is_empty() {
        return format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({why})",
            named(&missing),
            listed(advertised)
        );
    }
    let missing = without(advertised, own);
    if !missing.is_empty() {
        return format!(
            "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
            listed(&missing),
            named(advertised)
        );
    }
    format!(
        "failed to resolve {} to match --initial-cluster={} ({why})",
        listed(advertised),
        named(advertised)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, initial_cluster: &str, advertised: &[&str]) -> Config {
        Config {
            name: name.to_owned(),
            initial_cluster: initial_cluster.to_owned(),
            initial_advertise_peer_urls: advertised.iter().map(|url| (*url).to_owned()).collect(),
            ..Config::default()
        }
    }

    async fn refused(config: &Config) -> String {
        let check = async {
            let cluster = InitialCluster::of(config).await?;
            cluster.check_advertised(config).await?;
            cluster.check_duplicates()
        };
        check.await.unwrap_err().to_string()
    }

    #[test]
    fn ids_are_those_of_etcd_for_the_same_urls_and_token() {
        let cluster = InitialCluster::parse("default=http://localhost:2380").unwrap();
        assert_eq!(cluster.member_id("default", "etcd-cluster").to_string(), "8e9e05c52164694d");
        let members = cluster.members("etcd-cluster").unwrap();
        assert_eq!(cluster_id(&members).to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn a_name_may_have_several_urls_and_order_does_not_matter() {
        let ids = |text: &str| {
            let cluster = InitialCluster::parse(text).unwrap();
            cluster
                .members("t")
                .unwrap()
                .into_iter()
                .map(|member| (member.id, member.peer_urls))
                .collect::<Vec<_>>()
        };
        let one = ids("b=http://b:1,a=http://a:2,a=http://a:1");
        assert_eq!(one, ids("a=http://a:1,b=http://b:1,,a=http://a:2"));
        assert_eq!(one.len(), 2);
        let cluster = InitialCluster::parse("b=http://b:1,a=HTTP://a:2,a=http://a:1").unwrap();
        assert_eq!(cluster.to_string(), "a=http://a:1,a=http://a:2,b=http://b:1");
        assert_eq!(cluster.others("b").len(), 2);
    }

    #[tokio::test]
    async fn a_cluster_without_this_member_or_with_no_url_is_refused() {
        assert_eq!(
            refused(&config("a", "b=http://b:1", &["http://b:1"])).await,
            "couldn't find local name \"a\" in the initial cluster configuration"
        );
        assert_eq!(
            refused(&config("a", "a", &["http://b:1"])).await,
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: "
        );
    }

    #[tokio::test]
    async fn urls_that_are_not_advertised_are_refused_in_etcds_words() {
        assert_eq!(
            refused(&config("a", "a=http://127.0.0.1:28380", &["http://localhost:2380"])).await,
            "--initial-cluster has a=http://127.0.0.1:28380 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380 \
             (resolved urls: \"http://localhost:2380\" != \"http://127.0.0.1:28380\")"
        );
        assert_eq!(
            refused(&config("a", "a=http://127.0.0.1:1,a=http://127.0.0.1:2", &["http://127.0.0.1:1"])).await,
            "--initial-cluster has a=http://127.0.0.1:2 but missing from \
             --initial-advertise-peer-urls=http://127.0.0.1:1 \
             (len([\"http://127.0.0.1:1\"]) != len([\"http://127.0.0.1:1\" \"http://127.0.0.1:2\"]))"
        );
        assert_eq!(
            refused(&config("a", "a=http://127.0.0.1:1", &["http://127.0.0.1:1", "http://127.0.0.1:2"]))
                .await,
            "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from \
             --initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:2"
        );
        let url = |text: &str| vec![Url::parse(text).unwrap()];
        assert_eq!(
            unmatched("a", &url("http://x:1"), &url("http://x:1"), "no such host"),
            "failed to resolve http://x:1 to match --initial-cluster=a=http://x:1 (no such host)"
        );
    }

    #[tokio::test]
    async fn two_members_with_one_url_are_refused() {
        assert_eq!(
            refused(&config("a", "a=http://127.0.0.1:1,b=http://127.0.0.1:1", &["http://127.0.0.1:1"])).await,
            "initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url"
        );
    }
}
