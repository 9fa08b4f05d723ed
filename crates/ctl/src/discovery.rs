//! `--discovery-srv`: endpoints from the SRV records of a domain.
//!
//! `_etcd-client-ssl._tcp.DOMAIN` names endpoints with TLS, `_etcd-client._tcp.DOMAIN` those without. A service name is appended
//! to the first word: `_etcd-client-NAME`.

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use crate::failure::{Failure, Outcome};

/// Where one record leads: priority, host and port.
type Place = (u16, String, u16);

/// The endpoints that the records of a domain name, those with TLS first; none if there are records, but no targets in them.
pub(crate) async fn endpoints(domain: &str, service_name: &str) -> Outcome<Vec<String>> {
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
    let resolver = resolver.map_err(|error| Failure::error(format!("dns lookup errors: {error}")))?;
    endpoints_from(&resolver, domain, service_name).await
}

async fn endpoints_from(resolver: &TokioResolver, domain: &str, service_name: &str) -> Outcome<Vec<String>> {
    let domain = domain.trim_end_matches('.');
    let suffix = if service_name.is_empty() { String::new() } else { format!("-{service_name}") };
    let with_tls = places(resolver, &format!("_etcd-client-ssl{suffix}._tcp.{domain}.")).await;
    let without = places(resolver, &format!("_etcd-client{suffix}._tcp.{domain}.")).await;
    if let (Err(first), Err(second)) = (&with_tls, &without) {
        return Err(Failure::error(format!("dns lookup errors: {first} and {second}")));
    }
    let urls = |scheme: &'static str, found: Result<Vec<Place>, String>| {
        found.unwrap_or_default().into_iter().map(move |(_, host, port)| format!("{scheme}://{host}:{port}"))
    };
    Ok(urls("https", with_tls).chain(urls("http", without)).collect())
}

async fn places(resolver: &TokioResolver, name: &str) -> Result<Vec<Place>, String> {
    let answer = resolver.srv_lookup(name).await.map_err(|error| error.to_string())?;
    let mut places: Vec<Place> = Vec::new();
    for record in answer.answers() {
        if let RData::SRV(srv) = &record.data {
            let host = srv.target.to_utf8().trim_end_matches('.').to_owned();
            places.push((srv.priority, host, srv.port));
        }
    }
    places.sort();
    Ok(places)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::str::FromStr as _;

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
    use hickory_resolver::proto::rr::rdata::SRV;
    use hickory_resolver::proto::rr::{Name, Record};
    use tokio::net::UdpSocket;

    use super::*;

    fn zone(query: &str) -> Vec<(u16, &'static str)> {
        match query {
            "_etcd-client-ssl._tcp.example.org." => vec![(2, "b.example.org."), (1, "a.example.org.")],
            "_etcd-client._tcp.example.org." => vec![(1, "c.example.org.")],
            "_etcd-client-x._tcp.example.org." => vec![(1, "d.example.org.")],
            _ => Vec::new(),
        }
    }

    fn answer(question: &Message) -> Message {
        let mut answer = question.clone();
        answer.metadata.message_type = MessageType::Response;
        let name = question.queries[0].name().clone();
        let found = zone(&name.to_string());
        answer.metadata.response_code =
            if found.is_empty() { ResponseCode::NXDomain } else { ResponseCode::NoError };
        for (priority, target) in found {
            let srv = SRV::new(priority, 0, 2379, Name::from_str(target).unwrap());
            answer.add_answer(Record::from_rdata(name.clone(), 60, RData::SRV(srv)));
        }
        answer
    }

    /// What a server with our zone makes of it.
    async fn found(domain: &str, service_name: &str) -> Outcome<Vec<String>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let answer = answer(&Message::from_vec(&packet[..length]).unwrap());
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        endpoints_from(&builder.build().unwrap(), domain, service_name).await
    }

    #[tokio::test]
    async fn endpoints_with_tls_come_first_and_in_their_order() {
        let all = ["https://a.example.org:2379", "https://b.example.org:2379", "http://c.example.org:2379"];
        assert_eq!(found("example.org", "").await.unwrap(), all);
        assert_eq!(found("example.org.", "x").await.unwrap(), ["http://d.example.org:2379"]);
    }

    #[tokio::test]
    async fn a_domain_without_records_is_an_error_with_both_reasons() {
        let failure = found("example.com", "").await.unwrap_err();
        let message = failure.message.unwrap();
        assert!(message.starts_with("dns lookup errors: ") && message.contains(" and "), "{message}");
        assert_eq!(failure.code, 1);
    }
}
