//! Downgrading a cluster: what is refused, what it changes, and calling it off.

mod common;

use std::time::Duration;

use api::etcdserverpb as pb;
use api::etcdserverpb::downgrade_request::DowngradeAction::{Cancel, Enable, Validate};
use api::status;
use common::{Client, Status, start};

async fn downgrade(client: &Client, action: i32, target: &str) -> Result<String, Status> {
    let request = pb::DowngradeRequest { action, version: target.to_owned() };
    let answer = client.call::<pb::DowngradeResponse>("/etcdserverpb.Maintenance/Downgrade", &request).await;
    answer.map(|answer| answer.version)
}

async fn status(client: &Client) -> pb::StatusResponse {
    client.call("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}).await.expect("a status")
}

async fn enabled(client: &Client) -> Option<String> {
    let info = status(client).await.downgrade_info.expect("it is always there");
    assert_eq!(info.enabled, !info.target_version.is_empty());
    info.enabled.then_some(info.target_version)
}

/// Waits for the cluster's version.
async fn cluster_is(client: &Client, version: &str) {
    let waited = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while status(client).await.storage_version != version {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.expect("the version changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downgrade_is_checked_enabled_and_called_off() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let client = Client::connect(&server).await;
    let (validate, enable, cancel) = (Validate.into(), Enable.into(), Cancel.into());
    for (target, expected) in [
        ("x", status::WRONG_DOWNGRADE_VERSION_FORMAT),
        ("3.7", status::INVALID_DOWNGRADE_TARGET_VERSION),
        ("3.5.0", status::INVALID_DOWNGRADE_TARGET_VERSION),
    ] {
        for action in [validate, enable] {
            let refused = downgrade(&client, action, target).await.unwrap_err();
            assert!(refused.is(expected), "{target}: {refused:?}");
        }
    }
    let refused = downgrade(&client, 9, "3.6").await.unwrap_err();
    assert!(refused.is(status::UNKNOWN_METHOD), "{refused:?}");
    let nothing_to_call_off = downgrade(&client, cancel, "").await;
    assert_eq!(nothing_to_call_off.as_deref(), Ok("3.7"));
    assert_eq!(downgrade(&client, validate, "3.6.0").await.as_deref(), Ok("3.7"));
    assert_eq!(enabled(&client).await, None);

    assert_eq!(downgrade(&client, enable, "3.6").await.as_deref(), Ok("3.7"));
    cluster_is(&client, "3.6.0").await;
    server.shutdown().await.unwrap();
    let server = start(dir.path()).await;
    let client = Client::connect(&server).await;
    assert_eq!(enabled(&client).await.as_deref(), Some("3.6.0"), "a restart does not forget it");
    let refused = downgrade(&client, enable, "3.5").await.unwrap_err();
    assert!(refused.is(status::DOWNGRADE_IN_PROCESS), "{refused:?}");

    assert_eq!(downgrade(&client, cancel, "").await.as_deref(), Ok("3.6"));
    assert_eq!(enabled(&client).await, None);
    cluster_is(&client, "3.7.0").await;
    server.shutdown().await.unwrap();
}
