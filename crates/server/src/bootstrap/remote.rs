//! Asking members of a running cluster over their peer URLs.

use std::time::Duration;

use api::{ClusterId, MemberId};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use raftlog::{Dial, Io};
use serde::Deserialize;

use super::MemberRecord;
use crate::peer::CLUSTER_ID;
use crate::url::Url;

/// How long a member of a cluster that may not run yet has to answer.
const FOUNDING_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest answer that is read; a list of members is far smaller.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A running cluster, as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) id: ClusterId,
    pub(super) members: Vec<MemberRecord>,
}

/// Whether the cluster behind these URLs has had this member running.
pub(super) async fn knows(dial: &dyn Dial, urls: &[Url], id: MemberId) -> bool {
    let expected = |address: &str, error: &str| tracing::debug!(address, error, "no cluster there yet");
    match first(dial, urls, FOUNDING_TIMEOUT, expected).await {
        Ok(cluster) => {
            cluster.members.iter().any(|member| member.id == id.get() && !member.client_urls.is_empty())
        }
        Err(_) => false,
    }
}

/// What the first of these URLs that answers says of its cluster; each has `timeout`.
///
/// # Errors
/// None answers, or the answer names no cluster.
pub(super) async fn cluster(dial: &dyn Dial, urls: &[Url], timeout: Duration) -> Result<Cluster, String> {
    first(dial, urls, timeout, |address, error| {
        tracing::warn!(address, error, "failed to get cluster response");
    })
    .await
}

async fn first(
    dial: &dyn Dial,
    urls: &[Url],
    timeout: Duration,
    failed: impl Fn(&str, &str),
) -> Result<Cluster, String> {
    for url in urls {
        let address = format!("{url}/members");
        let (head, body) = match get(dial, url, "/members", timeout).await {
            Ok(answer) => answer,
            Err(error) => {
                failed(&address, &error);
                continue;
            }
        };
        let mut members: Vec<MemberRecord> = match serde_json::from_slice(&body) {
            Ok(members) => members,
            Err(error) => {
                failed(&address, &error.to_string());
                continue;
            }
        };
        let id = head.get(CLUSTER_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        let id = u64::from_str_radix(id, 16).map_err(|error| format!("cluster ID {id:?}: {error}"))?;
        if members.is_empty() {
            return Err("failed to get raft cluster member(s) from the given URLs".to_owned());
        }
        members.sort_by_key(|member| member.id);
        return Ok(Cluster { id: ClusterId::new(id), members });
    }
    Err("could not retrieve cluster information from the given URLs".to_owned())
}

#[derive(Deserialize)]
struct Versions {
    #[serde(default)]
    etcdcluster: String,
}

/// The cluster version that a member speaks of; nothing if it cannot be reached.
pub(super) async fn cluster_version(
    dial: &dyn Dial,
    member: &MemberRecord,
    timeout: Duration,
) -> Option<String> {
    for url in &member.peer_urls {
        let answer = match Url::parse(url) {
            Ok(url) => get(dial, &url, "/version", timeout).await,
            Err(error) => Err(error),
        };
        match answer.map(|(_, body)| serde_json::from_slice::<Versions>(&body)) {
            Ok(Ok(versions)) => return Some(versions.etcdcluster),
            Ok(Err(error)) => tracing::warn!(url, error = error.to_string(), "failed to unmarshal version"),
            Err(error) => tracing::warn!(url, error, "failed to get version"),
        }
    }
    None
}

/// Whether a downgrade is under way, as the first member that answers says.
pub(super) async fn downgrading(dial: &dyn Dial, members: &[MemberRecord], timeout: Duration) -> bool {
    for url in members.iter().flat_map(|member| &member.peer_urls) {
        if let Ok(url) = Url::parse(url)
            && let Ok((_, body)) = get(dial, &url, "/downgrade/enabled", timeout).await
        {
            return &body[..] == b"true";
        }
    }
    false
}

/// GETs a path and takes the whole answer, if it is a good one.
async fn get(
    dial: &dyn Dial,
    url: &Url,
    path: &str,
    timeout: Duration,
) -> Result<(HeaderMap, Bytes), String> {
    let answer = async {
        let io = dial.dial(url.to_string()).await.map_err(|error| error.to_string())?;
        exchange(TokioIo::new(io), url, path).await
    };
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {timeout:?}")),
    }
}

async fn exchange(io: TokioIo<Box<dyn Io>>, url: &Url, path: &str) -> Result<(HeaderMap, Bytes), String> {
    let refused = |error: hyper::Error| error.to_string();
    let (mut requests, connection) = hyper::client::conn::http1::handshake(io).await.map_err(refused)?;
    let (_, authority) = url.as_str().split_once("://").unwrap_or_default();
    let request = Request::get(path)
        .header(http::header::HOST, authority)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = requests.send_request(request).await.map_err(refused)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        match head.status {
            StatusCode::OK => Ok((head.headers, body.to_bytes())),
            status => Err(format!("status code {status}")),
        }
    };
    // A connection may end when it has delivered everything, so what has come of the exchange is asked of the exchange.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}
