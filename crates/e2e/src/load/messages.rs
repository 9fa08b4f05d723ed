//! The checker's requests as etcd's messages, and etcd's answers as the checker's.

use api::etcdserverpb as pb;
use api::etcdserverpb::compare::{CompareResult, TargetUnion};
use api::etcdserverpb::request_op::Request as Op;
use api::etcdserverpb::response_op::Response;
use api::mvccpb::event::EventType;
use api::mvccpb::{self, KeyValue};

use crate::linear::{Answer, Condition, Event, Found, Outcome, Request, Step};
use crate::{IntoOp, compare};

/// A call as it goes over the wire: what is no transaction has a call of its own.
pub(super) enum Message {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
}

impl Message {
    pub(super) fn new(request: &Request, serializable: bool) -> Self {
        match request.then.as_slice() {
            [Step::Get(key)] if request.conditions.is_empty() => {
                Self::Range(pb::RangeRequest { serializable, ..crate::get(key) })
            }
            [Step::Put(key, value)] if request.conditions.is_empty() => Self::Put(put(key, value)),
            [Step::Delete(key)] if request.conditions.is_empty() => Self::Delete(delete(key)),
            _ => Self::Txn(pb::TxnRequest {
                compare: request.conditions.iter().map(condition).collect(),
                success: request.then.iter().map(op).collect(),
                failure: request.otherwise.iter().map(op).collect(),
            }),
        }
    }
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { prev_kv: true, ..crate::put(key, value) }
}

fn delete(key: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { prev_kv: true, ..crate::delete(key, "") }
}

fn condition(condition: &Condition) -> pb::Compare {
    match condition {
        Condition::ModRevision(key, revision) => {
            compare(key, CompareResult::Equal, TargetUnion::ModRevision(*revision))
        }
        Condition::Value(key, value) => {
            compare(key, CompareResult::Equal, TargetUnion::Value(value.clone().into()))
        }
    }
}

fn op(step: &Step) -> pb::RequestOp {
    let request = match step {
        Step::Get(key) => return crate::get(key).op(),
        Step::Put(key, value) => Op::RequestPut(put(key, value)),
        Step::Delete(key) => Op::RequestDeleteRange(delete(key)),
    };
    pb::RequestOp { request: Some(request) }
}

pub(super) fn plain(outcome: Outcome) -> Answer {
    Answer { succeeded: true, outcomes: vec![outcome] }
}

pub(super) fn got(response: &pb::RangeResponse) -> Outcome {
    Outcome::Got(response.kvs.first().map(found))
}

pub(super) fn wrote(response: &pb::PutResponse) -> Outcome {
    Outcome::Put(response.prev_kv.as_ref().map(found))
}

pub(super) fn deleted(response: &pb::DeleteRangeResponse) -> Outcome {
    Outcome::Deleted(response.prev_kvs.first().map(found))
}

pub(super) fn decided(response: &pb::TxnResponse) -> Answer {
    let outcome = |op: &pb::ResponseOp| match op.response.as_ref()? {
        Response::ResponseRange(response) => Some(got(response)),
        Response::ResponsePut(response) => Some(wrote(response)),
        Response::ResponseDeleteRange(response) => Some(deleted(response)),
        Response::ResponseTxn(_) => None,
    };
    Answer {
        succeeded: response.succeeded,
        outcomes: response.responses.iter().filter_map(outcome).collect(),
    }
}

pub(super) fn event(event: &mvccpb::Event) -> Event {
    let kv = event.kv.clone().unwrap_or_default();
    let found = (event.r#type() == EventType::Put).then(|| found(&kv));
    Event { revision: kv.mod_revision, key: String::from_utf8_lossy(&kv.key).into_owned(), found }
}

fn found(kv: &KeyValue) -> Found {
    Found {
        value: String::from_utf8_lossy(&kv.value).into_owned(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
    }
}
