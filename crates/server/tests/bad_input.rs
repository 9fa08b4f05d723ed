//! What no client should send: it is answered, and the member goes on.

mod common;

use api::etcdserverpb as pb;
use common::{Client, frame, start};
use prost::Message as _;

/// Longer than anything here takes on any machine.
const SOON: std::time::Duration = std::time::Duration::from_secs(5);

const PUT: &str = "/etcdserverpb.KV/Put";

/// A put of `key` followed by an unknown field of groups, one in the other.
fn put_with_groups(key: &str, depth: usize) -> Vec<u8> {
    let mut put = pb::PutRequest { key: key.to_owned().into(), ..Default::default() }.encode_to_vec();
    let group = |kind: u8| [(15 << 3) | kind];
    put.extend(std::iter::repeat_n(group(3), depth).flatten());
    put.extend(std::iter::repeat_n(group(4), depth).flatten());
    put
}

fn nested_txn(depth: usize) -> pb::TxnRequest {
    let put = pb::PutRequest { key: "deep".into(), ..Default::default() };
    let mut op = pb::request_op::Request::RequestPut(put);
    for _ in 0..depth {
        let success = vec![pb::RequestOp { request: Some(op) }];
        op = pb::request_op::Request::RequestTxn(pb::TxnRequest { success, ..Default::default() });
    }
    pb::TxnRequest { success: vec![pb::RequestOp { request: Some(op) }], ..Default::default() }
}

/// What was taken from the client must be understood when it is applied, or the member stops for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_any_depth_is_refused_or_can_be_applied() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let client = Client::connect(&server).await;
    for depth in 90..110 {
        // Refused or not, there is an answer.
        drop(client.call_encoded::<pb::PutResponse>(PUT, &put_with_groups("k", depth)).await);
    }
    for depth in 1..60 {
        drop(client.raw("/etcdserverpb.KV/Txn", frame(&nested_txn(depth).encode_to_vec())).await);
    }
    client
        .call::<pb::PutResponse>(PUT, &pb::PutRequest { key: "k".into(), ..Default::default() })
        .await
        .unwrap();
    server.shutdown().await.unwrap();
}

/// What Go's gRPC says to calls of what is not there, before it has read any message.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let client = Client::connect(&server).await;
    let cases = [
        ("/etcdserverpb.KV/Nothing", "unknown method Nothing for service etcdserverpb.KV"),
        ("/nobody.Service/Nothing", "unknown service nobody.Service"),
        ("/nothing", "malformed method name: \"/nothing\""),
    ];
    for (path, text) in cases {
        let (response, _send) = client.open(common::post(path)).await;
        let response = tokio::time::timeout(SOON, response).await.expect("an answer without a message");
        let (status, _) = common::finish(response.unwrap()).await;
        assert_eq!((status.code, status.text.as_str()), (Some(12), text));
    }
    server.shutdown().await.unwrap();
}

/// Only what is a gRPC call is taken for one.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_like_a_call_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let client = Client::connect(&server).await;
    let range = frame(&pb::RangeRequest { key: "k".into(), ..Default::default() }.encode_to_vec());
    let request = |method: &str, content_type: &str| {
        http::Request::builder()
            .method(method)
            .uri("http://localhost/etcdserverpb.KV/Range")
            .header("content-type", content_type)
            .body(())
            .unwrap()
    };
    let cases = [
        ("POST", "application/grpc", 200, Some(0)),
        ("POST", "application/grpc+proto", 200, Some(0)),
        ("POST", "application/grpc;charset=utf-8", 200, Some(0)),
        ("POST", "application/grpc-web", 404, None),
        ("POST", "application/json", 404, None),
        ("GET", "application/grpc", 405, Some(13)),
    ];
    for (method, content_type, http, code) in cases {
        let (response, mut send) = client.open(request(method, content_type)).await;
        drop(send.send_data(range.clone(), true));
        let (status, _) = common::finish(response.await.unwrap()).await;
        assert_eq!((status.http, status.code), (http, code), "{method} {content_type}: {status:?}");
    }
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_bounded_and_must_be_whole() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let client = Client::connect(&server).await;
    let refused = async |body: Vec<u8>| {
        let (status, _) = client.raw(PUT, body.into()).await;
        (status.code.unwrap(), status.text)
    };
    // Refused by its length, before it is sent.
    let (code, text) = refused(b"\0\xff\xff\xff\xff".to_vec()).await;
    assert_eq!((code, text.as_str()), (8, "grpc: received message larger than max (4294967295 vs. 2097152)"));
    assert_eq!(refused(b"\0\0\0\0\x05ab".to_vec()).await.0, 13);
    assert_eq!(refused(b"\0\0".to_vec()).await.0, 13);
    assert_eq!(refused(Vec::new()).await.0, 13);
    assert_eq!(refused(b"\0\0\0\0\x01\xff".to_vec()).await.0, 13);
    assert_eq!(refused(b"\x01\0\0\0\x01a".to_vec()).await.0, 12);
    let large = pb::PutRequest { key: "k".into(), value: vec![0; 1_572_864].into(), ..Default::default() };
    let refusal = client.call::<pb::PutResponse>(PUT, &large).await.unwrap_err();
    assert!(refusal.is(api::status::REQUEST_TOO_LARGE), "{refusal:?}");
    server.shutdown().await.unwrap();
}

/// Bytes that are neither HTTP/1 nor HTTP/2, or not enough of either.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_the_port_concerns_nobody_else() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let frame_of = |length: u8, kind: u8, flags: u8, stream: u8| [0, 0, length, kind, flags, 0, 0, 0, stream];
    let nonsense: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\0\0\0\0".to_vec(),
        b"PRI * HTT".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"POST /etcdserverpb.KV/Put HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        [b"GET /".as_slice(), &vec![b'a'; 1024 * 1024]].concat(),
        [b"GET / HTTP/1.1\r\n".as_slice(), &b"a: b\r\n".repeat(10_000)].concat(),
        [preface.as_slice(), &[0xff; 64]].concat(),
        [preface.as_slice(), &frame_of(0, 4, 0, 0), &frame_of(255, 1, 0, 1)].concat(),
        [preface.as_slice(), &frame_of(0, 4, 0, 0), &frame_of(0, 0, 0, 1)].concat(),
        [preface.as_slice(), &frame_of(0, 4, 0, 0), &frame_of(4, 8, 0, 0), &[0; 4]].concat(),
    ];
    let mut open = Vec::new();
    for bytes in nonsense {
        let mut socket = tokio::net::TcpStream::connect(server.client_addresses()[0]).await.unwrap();
        // The server may close as soon as it has seen enough.
        drop(socket.write_all(&bytes).await);
        open.push(socket);
    }
    let client = Client::connect(&server).await;
    client
        .call::<pb::PutResponse>(PUT, &pb::PutRequest { key: "k".into(), ..Default::default() })
        .await
        .unwrap();
    tokio::time::timeout(SOON, server.shutdown()).await.expect("nonsense does not hold a stop up").unwrap();
    for mut socket in open {
        let mut rest = Vec::new();
        drop(socket.read_to_end(&mut rest).await);
    }
}

/// Each call may hold one message that is not whole; together they may not hold everything.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_never_end_are_refused_before_they_take_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let mut refused = false;
    let mut clients = Vec::new();
    let almost = frame(&vec![0; 2_000_000]).slice(..1_900_000);
    'clients: for _ in 0..8 {
        let client = Client::connect(&server).await;
        let mut calls = Vec::new();
        for _ in 0..60 {
            let (response, mut send) = client.open(common::post(PUT)).await;
            drop(send.send_data(almost.clone(), false));
            calls.push((response, send));
        }
        clients.push((client, calls));
        // All that was sent has been looked at once a call that was made after it is answered.
        for (client, calls) in &mut clients {
            let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
            drop(client.call::<pb::RangeResponse>("/etcdserverpb.KV/Range", &range).await);
            for (response, _) in calls {
                if let std::task::Poll::Ready(response) = futures_util::poll!(response) {
                    let refusal = common::finish(response.unwrap()).await.0;
                    assert!(refusal.is(api::status::REQUEST_TOO_MANY_REQUESTS), "{refusal:?}");
                    refused = true;
                    break 'clients;
                }
            }
        }
    }
    assert!(refused);
    drop(clients);
    let client = Client::connect(&server).await;
    let put = pb::PutRequest { key: "k".into(), value: vec![0; 100_000].into(), ..Default::default() };
    let accepted = async { while client.call::<pb::PutResponse>(PUT, &put).await.is_err() {} };
    tokio::time::timeout(SOON, accepted).await.expect("what their ends have set free is there for others");
    server.shutdown().await.unwrap();
}
