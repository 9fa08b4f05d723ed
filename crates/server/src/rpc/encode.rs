//! Answers of the KV service, written straight onto the wire.
//!
//! Key-value pairs come out of the store encoded; they are spliced in as they are, so that an answer is copied once. Field
//! numbers are those of `proto/rpc.proto`; the tests decode with the generated code.

use api::etcdserverpb::ResponseHeader;
use bytes::{Bytes, BytesMut};
use mvcc::RangeResult;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::Failure;
use super::frame::framed;
use crate::apply::{OpOutput, TxnOutput};

/// A message whose length is known before it is written.
pub(crate) trait Encode {
    fn len(&self) -> usize;
    fn write(&self, out: &mut BytesMut);
}

/// Largest answer, as in etcd; a frame has room for twice that.
pub(crate) const SEND_BYTES: usize = i32::MAX as usize;

/// `message` as one gRPC frame.
///
/// # Errors
/// It is too large to be sent. What it answers has happened all the same.
pub(crate) fn frame(message: &impl Encode) -> Result<Bytes, Failure> {
    let length = message.len();
    if length > SEND_BYTES {
        return Err(Failure::too_large_to_send(length, SEND_BYTES));
    }
    Ok(framed(length, |out| message.write(out)))
}

fn nested_len(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

fn write_nested(tag: u32, length: usize, out: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

fn bytes_len(tag: u32, bytes: &[u8]) -> usize {
    nested_len(tag, bytes.len())
}

fn write_bytes(tag: u32, bytes: &[u8], out: &mut BytesMut) {
    write_nested(tag, bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn header_len(header: &ResponseHeader) -> usize {
    nested_len(1, header.encoded_len())
}

fn write_header(header: &ResponseHeader, out: &mut BytesMut) {
    write_nested(1, header.encoded_len(), out);
    header.encode_raw(out);
}

fn number_len(tag: u32, value: i64) -> usize {
    if value == 0 { 0 } else { key_len(tag) + encoded_len_varint(value.cast_unsigned()) }
}

fn write_number(tag: u32, value: i64, out: &mut BytesMut) {
    if value != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(value.cast_unsigned(), out);
    }
}

/// `RangeResponse`. A stream of a range sends all but its last without a header.
pub(crate) struct Range<'a> {
    pub(crate) header: Option<ResponseHeader>,
    pub(crate) kvs: &'a [Bytes],
    pub(crate) more: bool,
    pub(crate) count: i64,
}

impl<'a> Range<'a> {
    pub(crate) fn new(header: ResponseHeader, result: &'a RangeResult) -> Self {
        Self { header: Some(header), kvs: &result.kvs, more: result.more, count: result.count }
    }
}

impl Encode for Range<'_> {
    fn len(&self) -> usize {
        self.header.as_ref().map_or(0, header_len)
            + self.kvs.iter().map(|kv| bytes_len(2, kv)).sum::<usize>()
            + number_len(3, i64::from(self.more))
            + number_len(4, self.count)
    }

    fn write(&self, out: &mut BytesMut) {
        if let Some(header) = &self.header {
            write_header(header, out);
        }
        for kv in self.kvs {
            write_bytes(2, kv, out);
        }
        write_number(3, i64::from(self.more), out);
        write_number(4, self.count, out);
    }
}

/// `RangeStreamResponse`: a range answer in a wrapper.
pub(crate) struct RangeStream<'a>(pub(crate) Range<'a>);

impl Encode for RangeStream<'_> {
    fn len(&self) -> usize {
        nested_len(1, self.0.len())
    }

    fn write(&self, out: &mut BytesMut) {
        write_nested(1, self.0.len(), out);
        self.0.write(out);
    }
}

/// `PutResponse`.
pub(crate) struct Put<'a> {
    pub(crate) header: ResponseHeader,
    pub(crate) prev: Option<&'a Bytes>,
}

impl Encode for Put<'_> {
    fn len(&self) -> usize {
        header_len(&self.header) + self.prev.map_or(0, |kv| bytes_len(2, kv))
    }

    fn write(&self, out: &mut BytesMut) {
        write_header(&self.header, out);
        if let Some(kv) = self.prev {
            write_bytes(2, kv, out);
        }
    }
}

/// `DeleteRangeResponse`.
pub(crate) struct DeleteRange<'a> {
    pub(crate) header: ResponseHeader,
    pub(crate) deleted: i64,
    pub(crate) prevs: &'a [Bytes],
}

impl Encode for DeleteRange<'_> {
    fn len(&self) -> usize {
        header_len(&self.header)
            + number_len(2, self.deleted)
            + self.prevs.iter().map(|kv| bytes_len(3, kv)).sum::<usize>()
    }

    fn write(&self, out: &mut BytesMut) {
        write_header(&self.header, out);
        write_number(2, self.deleted, out);
        for kv in self.prevs {
            write_bytes(3, kv, out);
        }
    }
}

/// `TxnResponse`. Inside it, headers carry the revision only, and those of nested transactions nothing.
pub(crate) struct Txn<'a> {
    pub(crate) header: ResponseHeader,
    pub(crate) output: &'a TxnOutput,
}

impl Encode for Txn<'_> {
    fn len(&self) -> usize {
        header_len(&self.header)
            + number_len(2, i64::from(self.output.succeeded))
            + self.output.ops.iter().map(|op| nested_len(3, op_len(op))).sum::<usize>()
    }

    fn write(&self, out: &mut BytesMut) {
        write_header(&self.header, out);
        write_number(2, i64::from(self.output.succeeded), out);
        for op in &self.output.ops {
            write_nested(3, op_len(op), out);
            with_op(op, |tag, response| {
                write_nested(tag, response.len(), out);
                response.write(out);
            });
        }
    }
}

fn op_len(op: &OpOutput) -> usize {
    with_op(op, |tag, response| nested_len(tag, response.len()))
}

/// Calls `f` with the field of `ResponseOp` and the response that belong to `op`.
fn with_op<T>(op: &OpOutput, f: impl FnOnce(u32, &dyn Encode) -> T) -> T {
    let header = |revision| ResponseHeader { revision, ..Default::default() };
    match op {
        OpOutput::Range(result) => f(1, &Range::new(header(result.revision), result)),
        OpOutput::Put { revision, prev } => f(2, &Put { header: header(*revision), prev: prev.as_ref() }),
        OpOutput::DeleteRange { revision, deleted, prevs } => {
            f(3, &DeleteRange { header: header(*revision), deleted: *deleted, prevs })
        }
        OpOutput::Txn(output) => f(4, &Txn { header: header(0), output }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::etcdserverpb as pb;
    use api::mvccpb::KeyValue;

    fn kv(key: &str) -> KeyValue {
        KeyValue { key: key.to_owned().into(), mod_revision: 7, ..Default::default() }
    }

    fn encoded(key: &str) -> Bytes {
        kv(key).encode_to_vec().into()
    }

    fn header() -> ResponseHeader {
        ResponseHeader { cluster_id: u64::MAX, member_id: 2, revision: -1, raft_term: 4 }
    }

    fn check<M: prost::Message + Default + PartialEq + std::fmt::Debug>(message: &impl Encode, expected: &M) {
        let frame = frame(message).unwrap();
        assert_eq!(M::decode(&frame[5..]).unwrap(), *expected);
    }

    #[test]
    fn an_answer_beyond_what_a_client_takes_is_refused_and_not_made() {
        struct Huge;
        impl Encode for Huge {
            fn len(&self) -> usize {
                5_000_000_000
            }
            fn write(&self, _: &mut BytesMut) {
                panic!("it would not fit");
            }
        }
        let refusal = frame(&Huge).unwrap_err();
        assert_eq!(refusal.text, "grpc: trying to send message larger than max (5000000000 vs. 2147483647)");
    }

    #[test]
    fn ranges_splice_what_the_store_holds() {
        let result =
            RangeResult { revision: 9, count: 300, more: true, kvs: vec![encoded("a"), encoded("b")] };
        let expected =
            pb::RangeResponse { header: Some(header()), kvs: vec![kv("a"), kv("b")], more: true, count: 300 };
        check(&Range::new(header(), &result), &expected);
        let chunk = Range { header: None, kvs: &result.kvs, more: false, count: 0 };
        let expected = pb::RangeStreamResponse {
            range_response: Some(pb::RangeResponse { kvs: vec![kv("a"), kv("b")], ..Default::default() }),
        };
        check(&RangeStream(chunk), &expected);
    }

    #[test]
    fn puts_and_deletes_carry_what_was_there_before() {
        let prev = encoded("a");
        check(
            &Put { header: header(), prev: Some(&prev) },
            &pb::PutResponse { header: Some(header()), prev_kv: Some(kv("a")) },
        );
        check(
            &Put { header: header(), prev: None },
            &pb::PutResponse { header: Some(header()), prev_kv: None },
        );
        check(
            &DeleteRange { header: header(), deleted: 1, prevs: &[prev] },
            &pb::DeleteRangeResponse { header: Some(header()), deleted: 1, prev_kvs: vec![kv("a")] },
        );
    }

    #[test]
    fn transactions_nest_with_bare_headers() {
        use pb::response_op::Response;
        let op = |response| pb::ResponseOp { response: Some(response) };
        let bare = |revision| Some(ResponseHeader { revision, ..Default::default() });
        let output = TxnOutput {
            revision: 5,
            succeeded: true,
            ops: vec![
                OpOutput::Put { revision: 5, prev: None },
                OpOutput::DeleteRange { revision: 5, deleted: 0, prevs: vec![] },
                OpOutput::Txn(TxnOutput {
                    revision: 5,
                    succeeded: false,
                    ops: vec![OpOutput::Range(RangeResult {
                        revision: 5,
                        count: 1,
                        more: false,
                        kvs: vec![encoded("x")],
                    })],
                }),
            ],
        };
        let range = pb::RangeResponse { header: bare(5), kvs: vec![kv("x")], more: false, count: 1 };
        let nested = pb::TxnResponse {
            header: bare(0),
            succeeded: false,
            responses: vec![op(Response::ResponseRange(range))],
        };
        let expected = pb::TxnResponse {
            header: Some(header()),
            succeeded: true,
            responses: vec![
                op(Response::ResponsePut(pb::PutResponse { header: bare(5), prev_kv: None })),
                op(Response::ResponseDeleteRange(pb::DeleteRangeResponse {
                    header: bare(5),
                    ..Default::default()
                })),
                op(Response::ResponseTxn(nested)),
            ],
        };
        check(&Txn { header: header(), output: &output }, &expected);
    }
}
