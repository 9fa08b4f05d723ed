//! What a member that joins makes of what it is told; a listener that answers as a member would stands in for the cluster.

use api::ClusterId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::dial::Dialler;

fn running(members: &[(u64, &str)]) -> Cluster {
    let record = |(id, url): &(u64, &str)| MemberRecord {
        id: *id,
        peer_urls: vec![(*url).to_owned()],
        client_urls: vec!["http://c:1".to_owned()],
        name: "x".to_owned(),
        ..MemberRecord::default()
    };
    Cluster { id: ClusterId::new(0xc1), members: members.iter().map(record).collect() }
}

async fn assign(initial: &str, members: &[(u64, &str)]) -> std::result::Result<Vec<(u64, String)>, String> {
    let cluster = InitialCluster::parse(initial).unwrap();
    let assigned = assigned(&cluster, &running(members), Duration::ZERO).await?;
    Ok(assigned.into_iter().map(|member| (member.id, member.name)).collect())
}

#[tokio::test]
async fn members_are_matched_by_their_urls() {
    let assigned = assign(
        "a=http://127.0.0.1:1,b=http://127.0.0.1:2",
        &[(7, "http://127.0.0.1:2"), (9, "http://127.0.0.1:1")],
    );
    assert_eq!(assigned.await, Ok(vec![(7, "b".to_owned()), (9, "a".to_owned())]));
}

#[tokio::test]
async fn another_number_of_members_or_other_urls_are_refused() {
    assert_eq!(
        assign("a=http://127.0.0.1:1", &[(1, "http://127.0.0.1:1"), (2, "http://127.0.0.1:2")]).await,
        Err("member count is unequal".to_owned())
    );
    assert_eq!(
        assign("a=http://127.0.0.1:1", &[(0xab, "http://127.0.0.1:2")]).await,
        Err("PeerURLs: no match found for existing member (ab, [http://127.0.0.1:2]), last resolver error \
             (resolved urls: \"http://127.0.0.1:2\" != \"http://127.0.0.1:1\")"
            .to_owned())
    );
    assert_eq!(
        printed(&running(&[(0xab, "http://p:1")])),
        "{ClusterID:c1 Members:[&{ID:ab RaftAttributes:{PeerURLs:[http://p:1] IsLearner:false} \
         Attributes:{Name:x ClientURLs:[http://c:1]}}] RemovedMemberIDs:[]}"
    );
}

#[test]
fn clusters_from_three_to_this_minor_can_be_joined() {
    let joined = |versions: &[&str], downgrading| {
        compatible_versions(&versions.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>(), downgrading)
    };
    assert!(joined(&["3.7.0"], false) && joined(&["3.4.0", "not_decided"], false));
    assert!(!joined(&["2.3.0"], false) && !joined(&["3.8.0"], false) && !joined(&["3.9.0"], true));
    assert!(joined(&["3.8.0"], true));
    assert!(!joined(&[], false) && !joined(&["not_decided"], false));
}

#[tokio::test]
async fn a_cluster_that_nobody_answers_for_cannot_be_joined() {
    let config = Config {
        name: "a".to_owned(),
        initial_cluster: "a=http://127.0.0.1:1,b=http://127.0.0.1:2".to_owned(),
        ..Config::default()
    };
    let cluster = InitialCluster::of(&config).await.unwrap();
    assert_eq!(
        join(&config, cluster, &Dialler::default()).await.unwrap_err().to_string(),
        "cannot fetch cluster info from peer urls: \
         could not retrieve cluster information from the given URLs"
    );
}

/// Joins as `a`, at http://127.0.0.1:1, a cluster of that member and of one that gives these answers. What `members` says is
/// given the URL of the latter.
async fn join_told(members: fn(&str) -> String, version: &'static str) -> Result<(Identity, Origin)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let members = members(&url);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let length = socket.read(&mut request).await.unwrap();
            let body = if request[..length].starts_with(b"GET /members ") {
                members.clone()
            } else {
                format!("{{\"etcdcluster\":\"{version}\"}}")
            };
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: c1\r\nContent-Length: {length}\r\n\r\n");
            socket.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    let config = Config {
        name: "a".to_owned(),
        initial_cluster: format!("a=http://127.0.0.1:1,b={url}"),
        ..Config::default()
    };
    join(&config, InitialCluster::of(&config).await.unwrap(), &Dialler::default()).await
}

/// The cluster's members as JSON: `a`, with `more` about it, and the one that answers.
fn told(url: &str, more: &str) -> String {
    format!(
        "[{{\"id\":10,\"peerURLs\":[\"http://127.0.0.1:1\"]{more}}},\
          {{\"id\":11,\"peerURLs\":[\"{url}\"],\"name\":\"b\",\"clientURLs\":[\"http://c:1\"]}}]"
    )
}

#[tokio::test]
async fn ids_are_those_that_the_cluster_tells() {
    let (identity, origin) = join_told(|url| told(url, ""), "3.5.0").await.unwrap();
    assert_eq!((identity.member_id.get(), identity.cluster_id.get()), (10, 0xc1));
    assert!(origin.joined && origin.founders().is_empty());
    assert_eq!(origin.members.iter().map(|member| member.id).collect::<Vec<_>>(), [10, 11]);
}

#[tokio::test]
async fn what_the_cluster_tells_may_be_a_reason_not_to_join() {
    let refused = async |members, version| join_told(members, version).await.unwrap_err().to_string();
    assert_eq!(refused(|url| told(url, ""), "9.0.0").await, "incompatible with current running cluster");
    assert_eq!(
        refused(|url| told(url, ",\"clientURLs\":[\"http://a:1\"]"), "3.5.0").await,
        "member a has already been bootstrapped"
    );
    let learners =
        |url: &str| told(url, ",\"isLearner\":true").replace("\"name\"", "\"isLearner\":true,\"name\"");
    assert_eq!(refused(learners, "3.5.0").await, "membership: too many learner members in cluster");
    assert_eq!(
        refused(|_| "[]".to_owned(), "3.5.0").await,
        "cannot fetch cluster info from peer urls: \
         failed to get raft cluster member(s) from the given URLs"
    );
    assert_eq!(
        refused(|_| "nonsense".to_owned(), "3.5.0").await,
        "cannot fetch cluster info from peer urls: \
         could not retrieve cluster information from the given URLs"
    );
}
