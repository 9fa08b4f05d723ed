//! The quota and its alarm.

mod common;

use std::path::Path;
use std::time::Duration;

use api::etcdserverpb as pb;
use api::status;
use common::{Client, Status, config};
use etcd_rs_server::{Config, Server};

const QUOTA: u64 = 256 * 1024;

async fn start(dir: &Path, quota: u64, quota_auto_disarm: bool) -> (Server, Client) {
    let config = Config { quota_backend_bytes: Some(quota), quota_auto_disarm, ..config(dir) };
    let server = Server::start(config).await.expect("a member that starts");
    let client = Client::connect(&server).await;
    (server, client)
}

async fn put(client: &Client, key: &str) -> Result<pb::PutResponse, Status> {
    let request =
        pb::PutRequest { key: key.to_owned().into(), value: vec![0; 65536].into(), ..Default::default() };
    client.call("/etcdserverpb.KV/Put", &request).await
}

async fn fill(client: &Client) -> Status {
    for n in 0..100 {
        if let Err(refusal) = put(client, &format!("k{n}")).await {
            return refusal;
        }
    }
    panic!("the quota is far below what was put");
}

async fn alarm(client: &Client, action: pb::alarm_request::AlarmAction) -> Vec<pb::AlarmMember> {
    let request = pb::AlarmRequest {
        action: action.into(),
        member_id: 0x8e9e_05c5_2164_694d,
        alarm: pb::AlarmType::Nospace.into(),
    };
    client
        .call::<pb::AlarmResponse>("/etcdserverpb.Maintenance/Alarm", &request)
        .await
        .expect("an answer")
        .alarms
}

/// Deletes and compacts everything.
async fn recover(client: &Client) {
    let all = pb::DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let deleted: pb::DeleteRangeResponse =
        client.call("/etcdserverpb.KV/DeleteRange", &all).await.expect("deletes are allowed");
    let revision = deleted.header.expect("a header").revision;
    let compaction = pb::CompactionRequest { revision, physical: true };
    client
        .call::<pb::CompactionResponse>("/etcdserverpb.KV/Compact", &compaction)
        .await
        .expect("so are compactions");
}

async fn raised(client: &Client) -> bool {
    !alarm(client, pb::alarm_request::AlarmAction::Get).await.is_empty()
}

/// Waits until a member has ended the alarm.
async fn disarmed(client: &Client) {
    let ended = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while raised(client).await {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the alarm ends by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_for_space_finds_the_alarm_raised() {
    let dir = tempfile::tempdir().unwrap();
    let (server, client) = start(dir.path(), QUOTA, false).await;
    let refusal = fill(&client).await;
    assert!(refusal.is(status::NO_SPACE), "{refusal:?}");
    assert_eq!(alarm(&client, pb::alarm_request::AlarmAction::Get).await.len(), 1);
    recover(&client).await;
    assert!(put(&client, "k").await.is_err_and(|refusal| refusal.is(status::NO_SPACE)));
    assert_eq!(alarm(&client, pb::alarm_request::AlarmAction::Deactivate).await.len(), 1);
    put(&client, "k").await.expect("there is room again");
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alarm_ends_by_itself_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let (server, client) = start(dir.path(), QUOTA, true).await;
    for _ in 0..2 {
        let refusal = fill(&client).await;
        assert!(refusal.is(status::NO_SPACE), "{refusal:?}");
        assert!(raised(&client).await);
        recover(&client).await;
        disarmed(&client).await;
    }
    put(&client, "k").await.expect("there is room again");
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alarm_survives_a_restart_until_the_quota_is_larger() {
    let dir = tempfile::tempdir().unwrap();
    let (server, client) = start(dir.path(), QUOTA, true).await;
    fill(&client).await;
    server.shutdown().await.unwrap();
    let (server, client) = start(dir.path(), QUOTA, true).await;
    assert!(raised(&client).await);
    assert!(put(&client, "k").await.is_err_and(|refusal| refusal.is(status::NO_SPACE)));
    server.shutdown().await.unwrap();
    let (server, client) = start(dir.path(), 10 * QUOTA, true).await;
    disarmed(&client).await;
    put(&client, "k").await.expect("there is room now");
    server.shutdown().await.unwrap();
}
