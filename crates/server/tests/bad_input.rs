//! What no client should send: it is answered, and the member goes on.

mod common;

use api::etcdserverpb as pb;
use common::{Client, frame, start};
use prost::Message as _;

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
