//! Short forms of the calls that nearly every test makes, and of looks at their answers.

use api::etcdserverpb as pb;
use api::etcdserverpb::{compare, request_op};
use api::mvccpb::KeyValue;
use bytes::{Buf, BufMut, Bytes};
use tonic::{Code, Response, Status};

use crate::Member;

/// The revision in an answer's header.
///
/// # Panics
/// When there is no header.
pub fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.expect("the answer has a header").revision
}

/// Insists that a call was refused, with this code and this text.
///
/// # Panics
/// When it was not, or otherwise.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<Response<T>, Status>, code: Code, text: &str) {
    let status = result.expect_err("the call should have been refused");
    assert_eq!((status.code(), status.message()), (code, text));
}

/// The keys of an answer, as text.
pub fn keys(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

/// The keys and values of an answer, as `key=value`.
pub fn pairs(kvs: &[KeyValue]) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    kvs.iter().map(|kv| format!("{}={}", text(&kv.key), text(&kv.value))).collect()
}

/// The end of the range of all keys that begin with `prefix`.
pub fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

/// Anything whose order does not matter, put in order.
pub trait Sorted {
    /// The same, sorted.
    #[must_use]
    fn sorted(self) -> Self;
}

impl<T: Ord> Sorted for Vec<T> {
    fn sorted(mut self) -> Self {
        self.sort();
        self
    }
}

impl Member {
    /// Puts a value.
    ///
    /// # Panics
    /// When it is refused; so do all short forms here.
    pub async fn put(&self, key: &str, value: &str) -> pb::PutResponse {
        self.put_with(put(key, value)).await
    }

    /// Puts with everything a put can carry.
    pub async fn put_with(&self, request: pb::PutRequest) -> pb::PutResponse {
        self.kv().put(request).await.expect("put").into_inner()
    }

    /// The live value of a key.
    pub async fn get(&self, key: &str) -> Option<KeyValue> {
        self.range(get(key)).await.kvs.into_iter().next()
    }

    /// Reads with everything a range can carry.
    pub async fn range(&self, request: pb::RangeRequest) -> pb::RangeResponse {
        self.kv().range(request).await.expect("range").into_inner()
    }

    /// Deletes one key and says how many that were.
    pub async fn delete(&self, key: &str) -> i64 {
        self.delete_with(delete(key, "")).await.deleted
    }

    /// Deletes with everything a delete can carry.
    pub async fn delete_with(&self, request: pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        self.kv().delete_range(request).await.expect("delete").into_inner()
    }

    /// Runs a transaction.
    pub async fn txn(
        &self,
        compare: Vec<pb::Compare>,
        success: Vec<pb::RequestOp>,
        failure: Vec<pb::RequestOp>,
    ) -> pb::TxnResponse {
        let request = pb::TxnRequest { compare, success, failure };
        self.kv().txn(request).await.expect("txn").into_inner()
    }

    /// Compacts and waits until that is done.
    pub async fn compact(&self, revision: i64) {
        let request = pb::CompactionRequest { revision, physical: true };
        self.kv().compact(request).await.expect("compact");
    }

    /// The store's revision now.
    pub async fn revision(&self) -> i64 {
        revision(self.range(get("no such key")).await.header.as_ref())
    }

    /// Grants a lease.
    pub async fn grant(&self, id: i64, ttl: i64) -> pb::LeaseGrantResponse {
        self.lease().lease_grant(pb::LeaseGrantRequest { id, ttl }).await.expect("grant").into_inner()
    }
}

/// A put without wishes.
pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

/// A read of one key.
pub fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// A read of a range; `"\0"` as its end means no end.
pub fn range(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), ..Default::default() }
}

/// A delete; an empty `end` means the one key.
pub fn delete(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), prev_kv: false }
}

/// An operation of a transaction.
pub trait IntoOp {
    /// Wraps it.
    fn op(self) -> pb::RequestOp;
}

macro_rules! into_op {
    ($($request:ident => $variant:ident),+) => {$(
        impl IntoOp for pb::$request {
            fn op(self) -> pb::RequestOp {
                pb::RequestOp { request: Some(request_op::Request::$variant(self)) }
            }
        }
    )+};
}

into_op!(
    RangeRequest => RequestRange,
    PutRequest => RequestPut,
    DeleteRangeRequest => RequestDeleteRange,
    TxnRequest => RequestTxn
);

/// A comparison of one key: `target` is taken from the kind of `with`.
pub fn compare(key: &str, result: compare::CompareResult, with: compare::TargetUnion) -> pb::Compare {
    use compare::{CompareTarget, TargetUnion};
    let target = match with {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: key.to_owned().into(),
        range_end: Bytes::new(),
        target_union: Some(with),
    }
}

/// Calls a method by its path with a message that is any bytes, and takes the answer as bytes.
///
/// # Errors
/// What the server answers.
///
/// # Panics
/// When the server cannot be reached.
pub async fn call_raw(
    member: &Member,
    path: &'static str,
    message: Bytes,
) -> Result<Response<Bytes>, Status> {
    let mut client = tonic::client::Grpc::new(member.channel());
    client.ready().await.expect("the server can be reached");
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    client.unary(tonic::Request::new(message), path, Verbatim).await
}

/// Messages as they are.
#[derive(Debug, Clone, Copy)]
struct Verbatim;

impl tonic::codec::Codec for Verbatim {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
