//! What answers take up while many clients ask for much at once.

mod common;

use std::time::Duration;

use api::etcdserverpb as pb;
use bytes::Bytes;
use common::{Client, config, frame, post};
use etcd_rs_server::{Config, Server};
use prost::Message as _;

const MIB: usize = 1024 * 1024;
/// What one list takes up.
const LIST_BYTES: usize = 8 * MIB;
const CLIENTS: usize = 40;

/// The most memory that this process has had, in bytes.
fn memory_peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the peak is among it");
    let kilobytes: usize =
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kilobytes * 1024
}

fn list() -> Bytes {
    let request = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    frame(&request.encode_to_vec())
}

/// Reads what has arrived next, and returns how much it was.
async fn read(body: &mut h2::RecvStream) -> Option<usize> {
    let data = body.data().await?.expect("the answer goes on");
    drop(body.flow_control().release_capacity(data.len()));
    Some(data.len())
}

/// etcd #12342, #8483: a hundred clients that list everything at once take the server's memory, and the server with it.
#[tokio::test(flavor = "multi_thread")]
async fn many_clients_that_list_everything_at_once_all_get_it_in_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        Server::start(Config { answer_bytes_max: 32 * MIB, ..config(dir.path()) }).await.expect("a member");
    let writer = Client::connect(&server).await;
    for n in 0..LIST_BYTES / MIB {
        let put =
            pb::PutRequest { key: format!("k{n}").into(), value: vec![7; MIB].into(), ..Default::default() };
        writer.call::<pb::PutResponse>("/etcdserverpb.KV/Put", &put).await.expect("a put");
    }
    let before = memory_peak();

    let mut lists = Vec::new();
    for _ in 0..CLIENTS {
        let client = Client::connect(&server).await;
        let (response, mut send) = client.open(post("/etcdserverpb.KV/Range")).await;
        send.send_data(list(), true).expect("the request is sent");
        lists.push((client, response));
    }
    // Everybody has asked. One reads slowly for as long as the others read.
    let slow = lists.remove(0);
    let others = futures_util::future::join_all(lists.into_iter().map(|(client, response)| async move {
        let mut body = response.await.expect("an answer").into_body();
        let mut received = 0;
        while let Some(bytes) = read(&mut body).await {
            received += bytes;
        }
        drop(client);
        received
    }));
    let mut others =
        tokio::spawn(async { assert!(others.await.iter().all(|received| *received > LIST_BYTES)) });
    let (_slow_client, response) = slow;
    let mut body = response.await.expect("an answer").into_body();
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let mut received = 0;
    while !others.is_finished() {
        looks.tick().await;
        received += read(&mut body).await.unwrap_or_default();
    }
    tokio::time::timeout(Duration::from_secs(60), &mut others)
        .await
        .expect("they have read")
        .expect("all of it");
    while let Some(bytes) = read(&mut body).await {
        received += bytes;
    }
    assert!(received > LIST_BYTES);
    let grown = memory_peak() - before;
    assert!(grown < CLIENTS * LIST_BYTES / 2, "{} MiB more", grown / MIB);
    server.shutdown().await.unwrap();
}
