//! Founding a cluster whose members are named by DNS SRV records.

use std::collections::HashMap;
use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use crate::config::Config;
use crate::error::Error;
use crate::url::Url;

/// The initial cluster that the records of the domain name, as `name=url` pairs. The record that leads to one of this member's
/// own addresses gets its name, the others are numbered.
///
/// # Errors
/// There are no records, or the resolver has no configuration.
pub(super) async fn cluster(config: &Config) -> Result<String, Error> {
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
    let resolver = resolver.map_err(|error| failed(&error.to_string()))?;
    cluster_from(config, &resolver).await
}

fn failed(why: &str) -> Error {
    Error::config(format!("error setting up initial cluster: {why}"))
}

async fn cluster_from(config: &Config, resolver: &TokioResolver) -> Result<String, Error> {
    let suffix = match config.discovery.srv_name.as_str() {
        "" => String::new(),
        name => format!("-{name}"),
    };
    let (mut found, mut failures, mut unnamed) = (Vec::new(), Vec::new(), 0);
    for (scheme, service) in [("https", "etcd-server-ssl"), ("http", "etcd-server")] {
        let service = format!("{service}{suffix}");
        let asked = records(config, resolver, scheme, &service, &mut unnamed).await;
        tracing::info!(
            service_scheme = scheme,
            service_name = service,
            discovery_srv = config.discovery.srv,
            found_cluster = format!("{asked:?}"),
            "get cluster for {service} SRV"
        );
        match asked {
            Ok(members) => found.extend(members),
            Err(why) => failures.push(format!("error querying DNS SRV records for _{service} {why}")),
        }
    }
    if found.is_empty() {
        return Err(failed(&failures.join("\n")));
    }
    for node in &found {
        tracing::info!(node, "got bootstrap from DNS for etcd-server");
    }
    if !found.iter().any(|member| member.split_once('=').is_some_and(|(name, _)| name == config.name)) {
        return Err(failed(&format!("cannot find local etcd member {:?} in SRV records", config.name)));
    }
    Ok(found.join(","))
}

/// The members that the records of one service name. An error only if there are none. Those that are not us are numbered, and
/// `unnamed` counts how many there are.
async fn records(
    config: &Config,
    resolver: &TokioResolver,
    scheme: &str,
    service: &str,
    unnamed: &mut usize,
) -> Result<Vec<String>, String> {
    let own = own_addresses(config, resolver).await?;
    let name = format!("_{service}._tcp.{}", config.discovery.srv.trim_end_matches('.'));
    let answer = resolver.srv_lookup(format!("{name}.")).await.map_err(|error| error.to_string())?;
    let mut targets: Vec<(u16, String, u16)> = Vec::new();
    for record in answer.answers() {
        if let RData::SRV(srv) = &record.data {
            let host = srv.target.to_utf8().trim_end_matches('.').to_owned();
            targets.push((srv.priority, host, srv.port));
        }
    }
    targets.sort();
    let (mut members, mut why) = (Vec::new(), "no such host".to_owned());
    for (_, host, port) in targets {
        let address = match address(resolver, &host, port).await {
            Ok(address) => address,
            Err(error) => {
                why = error;
                continue;
            }
        };
        let url = format!("{scheme}://{host}:{port}");
        let name = match own.get(&address) {
            Some(expected) if !expected.as_str().starts_with(&format!("{scheme}:")) => {
                why = format!(
                    "bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer {expected}"
                );
                continue;
            }
            Some(_) => config.name.clone(),
            None => {
                *unnamed += 1;
                (*unnamed - 1).to_string()
            }
        };
        members.push(format!("{name}={url}"));
    }
    if members.is_empty() { Err(why) } else { Ok(members) }
}

/// This member's peer URLs by the addresses they lead to.
async fn own_addresses(
    config: &Config,
    resolver: &TokioResolver,
) -> Result<HashMap<SocketAddr, Url>, String> {
    let mut own = HashMap::new();
    for url in Url::parse_list(config.initial_advertise_peer_urls.iter().map(String::as_str))? {
        if !url.scheme().is_unix() {
            own.insert(address(resolver, url.host(), url.port()).await?, url);
        }
    }
    Ok(own)
}

async fn address(resolver: &TokioResolver, host: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(ip) = host.parse() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found = resolver.lookup_ip(host).await.map_err(|error| error.to_string())?;
    let ip = found.iter().next().ok_or_else(|| format!("lookup {host}: no such host"))?;
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests;
