//! A tiny DNS server of our own answers here.

use std::net::Ipv4Addr;
use std::str::FromStr as _;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SRV};
use hickory_resolver::proto::rr::{Name, Record, RecordType};
use tokio::net::UdpSocket;

use super::*;

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

/// The members of example.org: two in plain text, and one with TLS; `a` has the last number of its address in its name.
fn zone(query: &str, kind: RecordType) -> Vec<RData> {
    let srv = |port, target: &str| RData::SRV(SRV::new(0, 0, port, name(target)));
    match (query, kind) {
        ("_etcd-server._tcp.example.org.", RecordType::SRV) => {
            vec![srv(2380, "m1.example.org."), srv(2380, "m2.example.org.")]
        }
        ("_etcd-server-ssl._tcp.example.org." | "_etcd-server-ssl-x._tcp.example.org.", RecordType::SRV) => {
            vec![srv(2380, "m3.example.org.")]
        }
        (host, RecordType::A) if host.ends_with(".example.org.") => {
            let number = host[1..2].parse().unwrap();
            vec![RData::A(A(Ipv4Addr::new(10, 0, 0, number)))]
        }
        _ => Vec::new(),
    }
}

/// A resolver that asks our own server.
async fn resolver() -> TokioResolver {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            let answer = answer(&Message::from_vec(&packet[..length]).unwrap());
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    let mut connection = ConnectionConfig::udp();
    connection.port = port;
    let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap()
}

fn answer(question: &Message) -> Message {
    let mut answer = question.clone();
    answer.metadata.message_type = MessageType::Response;
    let query = &question.queries[0];
    let found = zone(&query.name().to_string(), query.query_type());
    answer.metadata.response_code =
        if found.is_empty() { ResponseCode::NXDomain } else { ResponseCode::NoError };
    for data in found {
        answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
    }
    answer
}

async fn discover(edit: impl FnOnce(&mut Config)) -> Result<String, String> {
    let mut config = Config { name: "own".to_owned(), ..Config::default() };
    config.discovery.srv = "example.org".to_owned();
    config.initial_advertise_peer_urls = vec!["http://m2.example.org:2380".to_owned()];
    edit(&mut config);
    cluster_from(&config, &resolver().await).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn records_of_both_services_are_members_and_ours_has_our_name() {
    let found = discover(|_| {}).await.unwrap();
    assert_eq!(
        found,
        "0=https://m3.example.org:2380,1=http://m1.example.org:2380,own=http://m2.example.org:2380"
    );
}

#[tokio::test]
async fn an_address_is_as_good_as_its_name() {
    let by_address = |c: &mut Config| c.initial_advertise_peer_urls = vec!["http://10.0.0.1:2380".to_owned()];
    let found = discover(by_address).await.unwrap();
    assert!(found.contains("own=http://m1.example.org:2380"), "{found}");
}

#[tokio::test]
async fn another_service_name_finds_other_members() {
    let other = |c: &mut Config| {
        c.discovery.srv_name = "x".to_owned();
        c.initial_advertise_peer_urls = vec!["https://m3.example.org:2380".to_owned()];
    };
    assert_eq!(discover(other).await.unwrap(), "own=https://m3.example.org:2380");
}

#[tokio::test]
async fn a_cluster_without_us_and_no_records_are_refused_in_etcds_words() {
    let elsewhere =
        |c: &mut Config| c.initial_advertise_peer_urls = vec!["http://m4.example.org:2380".to_owned()];
    assert_eq!(
        discover(elsewhere).await.unwrap_err(),
        "error setting up initial cluster: cannot find local etcd member \"own\" in SRV records"
    );
    let nowhere = discover(|c| c.discovery.srv = "nowhere.org".to_owned()).await.unwrap_err();
    let lines: Vec<&str> = nowhere.lines().collect();
    assert!(
        lines[0].starts_with(
            "error setting up initial cluster: error querying DNS SRV records for _etcd-server-ssl "
        ),
        "{nowhere}"
    );
    assert!(lines[1].starts_with("error querying DNS SRV records for _etcd-server "), "{nowhere}");
}

#[tokio::test]
async fn a_record_of_ours_with_another_scheme_is_left_out() {
    let mismatched = |c: &mut Config| {
        c.discovery.srv_name = "x".to_owned();
        c.initial_advertise_peer_urls = vec!["http://m3.example.org:2380".to_owned()];
    };
    let refused = discover(mismatched).await.unwrap_err();
    assert!(
        refused.contains(
            "bootstrap at https://m3.example.org:2380 from DNS for etcd-server-ssl-x has scheme mismatch \
             with expected peer http://m3.example.org:2380"
        ),
        "{refused}"
    );
}
