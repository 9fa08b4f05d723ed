//! Stopping: whatever clients have open, a member is gone soon, and its data can be opened again at once.

mod common;

use std::time::{Duration, Instant};

use api::etcdserverpb as pb;
use api::health::{HealthCheckRequest, HealthCheckResponse};
use api::status;
use common::{Client, start};

/// Long enough for any machine, and shorter than the time after which anything else would end a call.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_are_told_and_do_not_hold_a_stop_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let client = Client::connect(&server).await;
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    client.call::<pb::LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", &grant).await.unwrap();
    let mut keep_alive =
        client.stream("/etcdserverpb.Lease/LeaseKeepAlive", &pb::LeaseKeepAliveRequest { id: 7 }).await;
    assert_eq!(keep_alive.next::<pb::LeaseKeepAliveResponse>().await.unwrap().ttl, 60);
    let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    let create =
        pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    let mut watch = client.stream("/etcdserverpb.Watch/Watch", &create).await;
    assert!(watch.next::<pb::WatchResponse>().await.unwrap().created);
    let mut health = client.stream("/grpc.health.v1.Health/Watch", &HealthCheckRequest::default()).await;
    assert_eq!(health.next::<HealthCheckResponse>().await.unwrap().status, 1);

    let began = Instant::now();
    tokio::time::timeout(SOON, server.shutdown()).await.expect("the member stops").unwrap();
    assert!(keep_alive.next::<pb::LeaseKeepAliveResponse>().await.unwrap_err().is(status::STOPPED));
    assert!(watch.next::<pb::WatchResponse>().await.unwrap_err().is(status::STOPPED));
    assert!(health.next::<HealthCheckResponse>().await.unwrap_err().is(status::HEALTH_STREAM_ENDED));
    assert!(began.elapsed() < SOON);

    let again = tokio::time::timeout(SOON, start(dir.path())).await.expect("the data can be opened again");
    again.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_finishes_its_request_does_not_hold_a_stop_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let client = Client::connect(&server).await;
    let (_response, mut send) = client.open(common::post("/etcdserverpb.KV/Put")).await;
    send.send_data(bytes::Bytes::from_static(b"\0\0\0"), false).unwrap();
    // The call is there once one that was sent after it has been answered.
    let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
    client.call::<pb::RangeResponse>("/etcdserverpb.KV/Range", &range).await.unwrap();

    tokio::time::timeout(SOON, server.shutdown()).await.expect("the member stops").unwrap();
    let again = tokio::time::timeout(SOON, start(dir.path())).await.expect("the data can be opened again");
    again.shutdown().await.unwrap();
}
