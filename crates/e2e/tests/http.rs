//! Plain HTTP on the client port: health, version, metrics, beside gRPC.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use api::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
use e2e::{Member, each_target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use etcd_rs_e2e as e2e;

/// An answer: status, headers in lower case, body.
struct Answer {
    status: u16,
    headers: String,
    body: String,
}

/// One request on a connection of its own.
async fn ask(member: &Member, method: &str, path: &str) -> Answer {
    let address = member.client_url().trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, headers: head.to_lowercase(), body: body.to_owned() }
}

/// The value of a metric without labels.
fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
}

async fn alarm(member: &Member, action: AlarmAction, alarm: AlarmType) {
    let request = AlarmRequest { action: action.into(), member_id: 1, alarm: alarm.into() };
    member.maintenance().alarm(request).await.unwrap();
}

each_target! {
    everywhere;

    /// A member that serves is healthy, in the words that scripts look for.
    async fn a_serving_member_is_healthy(member) {
        let answer = ask(&member, "GET", "/health").await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.starts_with("{\"health\":\"true\""), "{}", answer.body);
    }

    /// An alarm makes it unhealthy, and the end of the alarm healthy again.
    async fn an_alarm_makes_it_unhealthy(member) {
        for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
            alarm(&member, AlarmAction::Activate, kind).await;
            let answer = ask(&member, "GET", "/health").await;
            assert_eq!(answer.status, 503, "{kind:?}");
            assert!(answer.body.starts_with("{\"health\":\"false\""), "{}", answer.body);
            alarm(&member, AlarmAction::Deactivate, kind).await;
            assert_eq!(ask(&member, "GET", "/health").await.status, 200);
        }
    }

    /// The versions of the member and of its cluster.
    async fn the_version_is_told(member) {
        let answer = e2e::eventually("a decided version", async || {
            let answer = ask(&member, "GET", "/version").await;
            (!answer.body.contains("not_decided")).then_some(answer)
        });
        let answer = answer.await;
        assert_eq!(answer.status, 200);
        assert!(answer.headers.contains("content-type: application/json"), "{}", answer.headers);
        assert!(answer.body.starts_with("{\"etcdserver\":\"3."), "{}", answer.body);
        assert!(answer.body.contains("\",\"etcdcluster\":\"3."), "{}", answer.body);
    }

    /// Metrics have etcd's names, and move with what happens.
    async fn metrics_move_with_what_happens(member) {
        let read = async || ask(&member, "GET", "/metrics").await;
        let before = read().await;
        assert_eq!(before.status, 200);
        assert!(before.headers.contains("content-type: text/plain; version=0.0.4"), "{}", before.headers);
        assert_eq!(metric(&before.body, "etcd_server_has_leader").to_string(), "1");
        for _ in 0..10 {
            member.put("a", "1").await;
        }
        let after = read().await.body;
        let grown = |name| metric(&after, name) - metric(&before.body, name);
        assert!(grown("etcd_server_proposals_committed_total") >= 10.0);
        assert!(grown("etcd_server_proposals_applied_total") >= 10.0);
        assert!(grown("etcd_mvcc_put_total") >= 10.0 || grown("etcd_debugging_mvcc_put_total") >= 10.0);
        assert!(grown("etcd_disk_wal_fsync_duration_seconds_count") >= 1.0);
        assert!(metric(&after, "process_resident_memory_bytes") > 1e6);
    }

    /// What is not there is not found, and what only tells cannot be told.
    async fn other_paths_and_methods_are_refused(member) {
        let answer = ask(&member, "GET", "/nothing").await;
        assert_eq!((answer.status, &*answer.body), (404, "404 page not found\n"));
        assert_eq!(ask(&member, "POST", "/health").await.status, 405);
    }
}
