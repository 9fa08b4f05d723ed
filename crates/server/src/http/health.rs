//! `/health`: alarms, a leader, and a read that the cluster agrees to.

use std::sync::Arc;

use api::etcdserverpb::AlarmType;
use http::{Response, StatusCode};

use super::text;
use crate::rpc::{Body, Rpc};

pub(super) async fn serve(rpc: &Arc<Rpc>, query: &str) -> Response<Body> {
    let reason = unhealthy(rpc, query).await;
    if reason.is_empty() {
        return text(StatusCode::OK, r#"{"health":"true","reason":""}"#);
    }
    tracing::warn!(reason, "/health error");
    let body = format!("{}\n", serde_json::json!({ "health": "false", "reason": reason }));
    text(StatusCode::SERVICE_UNAVAILABLE, body)
}

/// Why the member is not healthy; empty if it is.
async fn unhealthy(rpc: &Arc<Rpc>, query: &str) -> String {
    let parameters: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let excluded = |alarm: &str| parameters.contains(&("exclude", alarm));
    let serializable = parameters.contains(&("serializable", "true"));
    for alarm in rpc.shared.alarms.list(AlarmType::None) {
        let name = alarm.alarm().as_str_name();
        if !excluded(name) {
            return format!("ALARM {name}");
        }
    }
    if serializable {
        return String::new();
    }
    if rpc.node.leadership().borrow().leader.is_none() {
        return "RAFT NO LEADER".to_owned();
    }
    match crate::read::barrier(&rpc.node, rpc.limits.request_timeout).await {
        Ok(()) => String::new(),
        Err(status) => format!("RANGE ERROR:{status}"),
    }
}
