//! Plain HTTP among members.

use std::error::Error;
use std::sync::{Arc, OnceLock};

use api::status;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use raftlog::PeerService;
use serde::{Deserialize, Serialize};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::{Serving, Source};
use crate::bootstrap::MemberRecord;

type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// Names the cluster on answers about it.
pub(crate) const CLUSTER_ID: &str = "x-etcd-cluster-id";
/// Largest body of a request: a revision as JSON.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Answers one request of another member.
pub(super) async fn answer(serving: Arc<OnceLock<Serving>>, request: Request<Incoming>) -> Response<Body> {
    let Some(Serving { source, .. }) = serving.get() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "this member is starting\n");
    };
    let path = request.uri().path();
    if path.starts_with(PeerService::PREFIX) {
        return source.log.serve(request).await.map(|body| body.map_err(Into::into).boxed_unsync());
    }
    let about_cluster = path.starts_with("/members") || path.starts_with("/downgrade/");
    let mut response = route(source, request).await;
    if about_cluster && let Ok(id) = HeaderValue::from_str(&source.shared.cluster_id.to_string()) {
        response.headers_mut().insert(CLUSTER_ID, id);
    }
    response
}

async fn route(source: &Source, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if !matches!(path, "/members" | "/members/hashkv" | "/version" | "/raft/probing" | "/downgrade/enabled") {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    if request.method() != Method::GET {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        refused.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    match path {
        "/members" => members(source),
        "/members/hashkv" => hash_kv(source, request).await,
        "/version" => json(crate::http::versions(&source.shared)),
        "/raft/probing" => text(StatusCode::OK, probing()),
        _ => downgrade_enabled(source).await,
    }
}

/// The members that the state knows; before the log has told it of any, those it was founded with.
fn members(source: &Source) -> Response<Body> {
    let known: Vec<MemberRecord> = source.shared.members.list().into_iter().map(MemberRecord::from).collect();
    let members = if known.is_empty() { &source.initial } else { &known };
    json_line(members)
}

#[derive(Deserialize)]
struct HashKvRequest {
    #[serde(default)]
    revision: i64,
}

#[derive(Serialize)]
struct HashKvResponse {
    header: HashKvHeader,
    hash: u32,
    compact_revision: i64,
    hash_revision: i64,
}

#[derive(Serialize)]
struct HashKvHeader {
    revision: i64,
}

async fn hash_kv(source: &Source, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let cluster = source.shared.cluster_id.to_string();
    if head.headers.get(CLUSTER_ID).is_some_and(|asked| asked.as_bytes() != cluster.as_bytes()) {
        return text(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch\n");
    }
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return text(StatusCode::BAD_REQUEST, "error reading body\n");
    };
    let Ok(request) = serde_json::from_slice::<HashKvRequest>(&body.to_bytes()) else {
        return text(StatusCode::BAD_REQUEST, "error unmarshalling request\n");
    };
    let reader = source.shared.reader.clone();
    match tokio::task::spawn_blocking(move || reader.hash_kv(request.revision)).await {
        Ok(Ok(found)) => json_line(&HashKvResponse {
            header: HashKvHeader { revision: source.shared.reader.revision() },
            hash: found.hash,
            compact_revision: found.compact_revision,
            hash_revision: found.hash_revision,
        }),
        Ok(Err(error)) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", status::STOPPED.text())),
    }
}

/// Whether the cluster is being downgraded; a member that asks wants to know that the cluster agrees.
async fn downgrade_enabled(source: &Source) -> Response<Body> {
    match crate::read::barrier(&source.node, source.request_timeout).await {
        Ok(()) => text(StatusCode::OK, source.shared.members.downgrade().is_some().to_string()),
        Err(status) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("failed linearized read: {}\n", status.text()))
        }
    }
}

fn probing() -> String {
    let mut now = String::new();
    SystemTime.format_time(&mut Writer::new(&mut now)).expect("a string grows as needed");
    format!("{{\"OK\":true,\"Now\":\"{now}\"}}\n")
}

/// A value as one line, its fields in etcd's order.
fn json_line(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_string(value) {
        Ok(line) => json(line + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn json(body: impl Into<Bytes>) -> Response<Body> {
    respond(StatusCode::OK, "application/json", body)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
