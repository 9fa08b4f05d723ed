//! Plain HTTP on the client port: health, version, metrics.

mod health;
mod metrics;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use crate::flags::ETCD_VERSION;
use crate::member::Shared;
use crate::rpc::{Body, Rpc};

/// Answers a request where only metrics and health are served.
pub(crate) async fn serve_metrics<B>(rpc: Arc<Rpc>, request: Request<B>) -> Response<Body> {
    match request.uri().path() {
        "/metrics" | "/health" => serve(rpc, request).await,
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// Answers a request that is no gRPC call.
pub(crate) async fn serve<B>(rpc: Arc<Rpc>, request: Request<B>) -> Response<Body> {
    let path = request.uri().path();
    if !matches!(path, "/health" | "/version" | "/metrics") {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    if request.method() != Method::GET {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    match path {
        "/health" => health::serve(&rpc, request.uri().query().unwrap_or_default()).await,
        "/metrics" => metrics::serve(&rpc),
        _ => respond(StatusCode::OK, "application/json", versions(&rpc.shared)),
    }
}

/// The body of `/version`.
pub(crate) fn versions(shared: &Shared) -> String {
    let cluster = shared.members.version();
    // Versions need no escaping, and etcd's order of fields is kept for those who compare texts.
    format!(
        r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{}","storage":"{}"}}"#,
        cluster.as_deref().unwrap_or("not_decided"),
        cluster.as_deref().unwrap_or("unknown"),
    )
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::Full(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
