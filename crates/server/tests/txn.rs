//! Which of several reasons to refuse a transaction is given: etcd checks the operations in their order.

mod common;

use api::etcdserverpb as pb;
use api::etcdserverpb::request_op::Request;
use api::status;
use common::{Client, start};

fn txn(ops: Vec<Request>) -> pb::TxnRequest {
    let success = ops.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect();
    pb::TxnRequest { success, ..Default::default() }
}

fn range_at(revision: i64) -> Request {
    Request::RequestRange(pb::RangeRequest { key: "k".into(), revision, ..Default::default() })
}

fn put(key: &str, lease: i64, ignore_value: bool) -> Request {
    Request::RequestPut(pb::PutRequest {
        key: key.to_owned().into(),
        lease,
        ignore_value,
        ..Default::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_operation_that_cannot_be_names_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let client = Client::connect(&server).await;
    let cases = [
        (vec![range_at(99), put("a", 5, false)], status::FUTURE_REV),
        (vec![put("a", 5, false), range_at(99)], status::LEASE_NOT_FOUND),
        (vec![Request::RequestTxn(txn(vec![put("a", 5, false)])), range_at(99)], status::LEASE_NOT_FOUND),
        (vec![range_at(99), Request::RequestTxn(txn(vec![put("a", 5, false)]))], status::FUTURE_REV),
        // Within one put, the key it refers to comes before its lease.
        (vec![put("a", 5, true)], status::KEY_NOT_FOUND),
        (vec![put("b", 0, false), range_at(-2)], status::COMPACTED),
    ];
    for (ops, expected) in cases {
        let refusal =
            client.call::<pb::TxnResponse>("/etcdserverpb.KV/Txn", &txn(ops.clone())).await.unwrap_err();
        assert!(refusal.is(expected), "{ops:?}: {refusal:?}");
    }
    server.shutdown().await.unwrap();
}
