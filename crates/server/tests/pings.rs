//! Clients that ping too often, and the others.

mod common;

use api::etcdserverpb as pb;
use common::{config, frame, post};
use etcd_rs_server::Server;
use h2::{Ping, Reason};
use prost::Message as _;

/// Pings as often as it is answered, up to `count` times, with a put after each if wanted; how the connection ended, or how many pings.
async fn ping(server: &Server, count: usize, put: bool) -> Result<usize, h2::Error> {
    let socket = tokio::net::TcpStream::connect(server.client_addresses()[0]).await.expect("a connection");
    let (mut requests, mut connection) = h2::client::handshake(socket).await.expect("HTTP/2 is spoken");
    let mut pings = connection.ping_pong().expect("the first to ask");
    let connection = tokio::spawn(connection);
    for pinged in 0..count {
        if pings.ping(Ping::opaque()).await.is_err() {
            return connection.await.expect("it ends").map(|()| pinged);
        }
        if put {
            requests = requests.ready().await?;
            let (response, mut send) = requests.send_request(post("/etcdserverpb.KV/Put"), false)?;
            let request = pb::PutRequest { key: "k".into(), ..Default::default() };
            send.send_data(frame(&request.encode_to_vec()), true)?;
            let mut body = response.await?.into_body();
            while let Some(data) = body.data().await {
                drop(body.flow_control().release_capacity(data?.len()));
            }
        }
    }
    connection.abort();
    Ok(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_only_pings_is_told_that_these_are_too_many_pings() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await.unwrap();
    let end = ping(&server, 100, false).await.unwrap_err();
    assert_eq!(end.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{end}");
    assert!(end.is_go_away() && end.to_string().contains("too_many_pings"), "{end}");
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_answered_may_ping_as_it_likes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await.unwrap();
    assert_eq!(ping(&server, 20, true).await.unwrap(), 20);
    server.shutdown().await.unwrap();
}
