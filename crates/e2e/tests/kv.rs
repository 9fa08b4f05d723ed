//! Puts, reads, deletes and compaction of single requests.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use api::etcdserverpb as pb;
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use api::mvccpb::KeyValue;
use e2e::{delete, each_target, get, keys, pairs, prefix_end, put, range, refused, revision};
use tonic::Code;

use etcd_rs_e2e as e2e;

fn sorted_by(target: SortTarget, order: SortOrder) -> pb::RangeRequest {
    pb::RangeRequest { sort_target: target.into(), sort_order: order.into(), ..range("a", "z") }
}

each_target! {
    everywhere;

    /// A fresh store is at revision 1, and the first write makes revision 2.
    async fn the_first_write_makes_revision_two(member) {
        assert_eq!(member.revision().await, 1);
        let header = member.put("foo", "bar").await.header.unwrap();
        assert_eq!(header.revision, 2);
        assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term > 0);
        let kv = member.get("foo").await.unwrap();
        let expected = KeyValue {
            key: "foo".into(), value: "bar".into(), create_revision: 2, mod_revision: 2, version: 1, lease: 0,
        };
        assert_eq!(kv, expected);
    }

    /// Each put raises the version; a delete ends the key's life and the next put begins another.
    async fn a_deleted_key_begins_a_new_life(member) {
        member.put("k", "1").await;
        member.put("k", "2").await;
        let kv = member.get("k").await.unwrap();
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
        assert_eq!(member.delete("k").await, 1);
        assert_eq!(member.get("k").await, None);
        member.put("k", "3").await;
        let kv = member.get("k").await.unwrap();
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
    }

    /// A delete that finds nothing makes no revision.
    async fn deleting_nothing_makes_no_revision(member) {
        member.put("a", "1").await;
        let answer = member.delete_with(delete("b", "")).await;
        assert_eq!((answer.deleted, revision(answer.header.as_ref())), (0, 2));
    }

    /// One delete of a range makes one revision, however many keys go.
    async fn a_range_delete_is_one_revision(member) {
        for key in ["a", "b", "c", "d"] {
            member.put(key, key).await;
        }
        let answer = member.delete_with(pb::DeleteRangeRequest { prev_kv: true, ..delete("b", "d") }).await;
        assert_eq!((answer.deleted, revision(answer.header.as_ref())), (2, 6));
        assert_eq!(pairs(&answer.prev_kvs), ["b=b", "c=c"]);
        assert_eq!(keys(&member.range(range("a", "\0")).await.kvs), ["a", "d"]);
    }

    /// The four forms of a range: one key, from a key on, a prefix, from one key to another.
    async fn ranges_have_four_forms(member) {
        for key in ["a", "ab", "abc", "b", "c"] {
            member.put(key, key).await;
        }
        let found = async |request| keys(&member.range(request).await.kvs);
        assert_eq!(found(get("ab")).await, ["ab"]);
        assert_eq!(found(range("abc", "\0")).await, ["abc", "b", "c"]);
        assert_eq!(found(range("\0", "\0")).await, ["a", "ab", "abc", "b", "c"]);
        assert_eq!(found(pb::RangeRequest { range_end: prefix_end("ab"), ..get("ab") }).await, ["ab", "abc"]);
        assert_eq!(found(range("ab", "c")).await, ["ab", "abc", "b"]);
        assert_eq!(found(range("c", "a")).await, [""; 0]);
        assert_eq!(found(range("b", "b")).await, [""; 0]);
    }

    /// Keys and values are bytes, not text.
    async fn keys_and_values_are_any_bytes(member) {
        let key: &[u8] = &[0, 0xff, 0x80, b'a'];
        member.put_with(pb::PutRequest { key: key.to_vec().into(), value: vec![0xfe; 3].into(), ..Default::default() }).await;
        let answer = member.range(pb::RangeRequest { key: key.to_vec().into(), ..Default::default() }).await;
        assert_eq!(answer.kvs[0].value, vec![0xfe; 3]);
    }

    /// `count` is that of the whole range, `more` says that the limit cut something off.
    async fn a_limit_leaves_the_count_whole(member) {
        for key in ["a", "b", "c", "d", "e"] {
            member.put(key, key).await;
        }
        let limited = async |limit| {
            let answer = member.range(pb::RangeRequest { limit, ..range("a", "z") }).await;
            (keys(&answer.kvs).concat(), answer.more, answer.count)
        };
        assert_eq!(limited(2).await, ("ab".to_owned(), true, 5));
        assert_eq!(limited(4).await, ("abcd".to_owned(), true, 5));
        assert_eq!(limited(5).await, ("abcde".to_owned(), false, 5));
        assert_eq!(limited(0).await, ("abcde".to_owned(), false, 5));
        assert_eq!(limited(-1).await, ("abcde".to_owned(), false, 5));
    }

    /// A count brings no keys, and a reading of keys no values.
    async fn counting_and_keys_only_leave_out_the_rest(member) {
        member.put("a", "1").await;
        member.put("b", "2").await;
        let counted = member.range(pb::RangeRequest { count_only: true, limit: 1, ..range("a", "z") }).await;
        assert_eq!((counted.kvs.len(), counted.more, counted.count), (0, false, 2));
        let listed = member.range(pb::RangeRequest { keys_only: true, ..range("a", "z") }).await;
        assert_eq!(pairs(&listed.kvs), ["a=", "b="]);
        assert_eq!((listed.kvs[1].create_revision, listed.kvs[1].mod_revision, listed.kvs[1].version), (3, 3, 1));
    }

    /// Every order by every target, ties in the order of keys.
    async fn answers_are_sorted_as_asked(member) {
        // Create order c a b, modification order c b a, versions a=3 b=2 c=1, values a=9 b=8 c=7.
        for (key, value) in [("c", "7"), ("a", "0"), ("b", "0"), ("b", "8"), ("a", "1"), ("a", "9")] {
            member.put(key, value).await;
        }
        let order = async |target, order| keys(&member.range(sorted_by(target, order)).await.kvs).concat();
        for (target, ascending, descending) in [
            (SortTarget::Key, "abc", "cba"),
            (SortTarget::Version, "cba", "abc"),
            (SortTarget::Create, "cab", "bac"),
            (SortTarget::Mod, "cba", "abc"),
            (SortTarget::Value, "cba", "abc"),
        ] {
            assert_eq!(order(target, SortOrder::Ascend).await, ascending, "{target:?}");
            assert_eq!(order(target, SortOrder::Descend).await, descending, "{target:?}");
            assert_eq!(order(target, SortOrder::None).await, ascending, "{target:?} without an order ascends");
        }
    }

    /// With equal sort values keys stay in their own order, both ways.
    async fn ties_stay_in_key_order(member) {
        for key in ["b", "a", "c"] {
            member.put(key, "same").await;
        }
        for order in [SortOrder::Ascend, SortOrder::Descend] {
            assert_eq!(keys(&member.range(sorted_by(SortTarget::Version, order)).await.kvs), ["a", "b", "c"]);
        }
    }

    /// Without an order, a limit cuts by key first, to one more than asked, and only then is sorted.
    async fn a_limit_without_an_order_cuts_before_sorting(member) {
        // By modification: d c b a. The first three keys a b c, sorted by it, are c b a; two of them are left.
        for key in ["d", "c", "b", "a"] {
            member.put(key, key).await;
        }
        let mut request = sorted_by(SortTarget::Mod, SortOrder::None);
        request.limit = 2;
        let answer = member.range(request.clone()).await;
        assert_eq!((keys(&answer.kvs).concat(), answer.more), ("cb".to_owned(), true));
        request.sort_order = SortOrder::Ascend.into();
        assert_eq!(keys(&member.range(request).await.kvs).concat(), "dc");
    }

    /// Filters by revision take both of their ends.
    async fn filters_include_their_bounds(member) {
        for key in ["a", "b", "c", "d"] {
            member.put(key, key).await;
        }
        member.put("a", "again").await;
        let all = || range("a", "z");
        let found = async |request| keys(&member.range(request).await.kvs).concat();
        assert_eq!(found(pb::RangeRequest { min_mod_revision: 4, ..all() }).await, "acd");
        assert_eq!(found(pb::RangeRequest { max_mod_revision: 4, ..all() }).await, "bc");
        assert_eq!(found(pb::RangeRequest { min_create_revision: 3, max_create_revision: 4, ..all() }).await, "bc");
        let answer = member.range(pb::RangeRequest { max_create_revision: 3, limit: 1, ..all() }).await;
        assert_eq!((keys(&answer.kvs).concat(), answer.more, answer.count), ("a".to_owned(), true, 4));
    }

    /// A read at an old revision sees the keys as they were, and says in its header how old that is.
    async fn the_past_can_be_read(member) {
        member.put("a", "1").await;
        member.put("b", "1").await;
        member.put("a", "2").await;
        member.delete("b").await;
        let at = async |revision| {
            let answer = member.range(pb::RangeRequest { revision, ..range("a", "z") }).await;
            assert_eq!(answer.header.unwrap().revision, 5);
            pairs(&answer.kvs).join(" ")
        };
        assert_eq!(at(1).await, "");
        assert_eq!(at(2).await, "a=1");
        assert_eq!(at(3).await, "a=1 b=1");
        assert_eq!(at(4).await, "a=2 b=1");
        assert_eq!(at(5).await, "a=2");
        assert_eq!(at(0).await, "a=2");
        assert_eq!(at(-7).await, "a=2");
    }

    /// A revision that is not there yet, or not any more, is refused.
    async fn the_future_and_the_compacted_past_are_refused(member) {
        for value in ["1", "2", "3"] {
            member.put("a", value).await;
        }
        let at = async |revision| member.kv().range(pb::RangeRequest { revision, ..get("a") }).await;
        refused(at(5).await, Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");
        member.compact(3).await;
        refused(at(2).await, Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(pairs(&at(3).await.unwrap().into_inner().kvs), ["a=2"]);
    }

    /// An empty key is refused by everything but a watch.
    async fn an_empty_key_is_refused(member) {
        let text = "etcdserver: key is not provided";
        refused(member.kv().put(put("", "v")).await, Code::InvalidArgument, text);
        refused(member.kv().range(get("")).await, Code::InvalidArgument, text);
        refused(member.kv().delete_range(delete("", "")).await, Code::InvalidArgument, text);
    }

    /// A put can bring back what it replaced.
    async fn a_put_returns_what_it_replaced(member) {
        let with_previous = || pb::PutRequest { prev_kv: true, ..put("a", "2") };
        assert_eq!(member.put_with(with_previous()).await.prev_kv, None);
        let previous = member.put_with(with_previous()).await.prev_kv.unwrap();
        assert_eq!((&previous.value[..], previous.mod_revision, previous.version), (&b"2"[..], 2, 1));
        assert_eq!(member.put("a", "3").await.prev_kv, None);
    }

    /// A put can keep the value; that is a write all the same.
    async fn a_put_can_keep_the_value(member) {
        let keep = |value: &str| pb::PutRequest { ignore_value: true, ..put("a", value) };
        refused(member.kv().put(keep("")).await, Code::InvalidArgument, "etcdserver: key not found");
        member.put("a", "1").await;
        refused(member.kv().put(keep("x")).await, Code::InvalidArgument, "etcdserver: value is provided");
        member.put_with(keep("")).await;
        let kv = member.get("a").await.unwrap();
        assert_eq!((&kv.value[..], kv.mod_revision, kv.version), (&b"1"[..], 3, 2));
    }

    /// A put can keep the lease.
    async fn a_put_can_keep_the_lease(member) {
        let keep = |lease| pb::PutRequest { ignore_lease: true, lease, ..put("a", "2") };
        refused(member.kv().put(keep(0)).await, Code::InvalidArgument, "etcdserver: key not found");
        refused(member.kv().put(keep(7)).await, Code::InvalidArgument, "etcdserver: lease is provided");
        member.grant(7, 100).await;
        member.put_with(pb::PutRequest { lease: 7, ..put("a", "1") }).await;
        member.put_with(keep(0)).await;
        assert_eq!(member.get("a").await.unwrap().lease, 7);
        member.put("a", "3").await;
        assert_eq!(member.get("a").await.unwrap().lease, 0);
    }

    /// A lease that nobody granted holds no key.
    async fn a_put_with_an_unknown_lease_is_refused(member) {
        let request = pb::PutRequest { lease: 12345, ..put("a", "1") };
        refused(member.kv().put(request).await, Code::NotFound, "etcdserver: requested lease not found");
        assert_eq!(member.revision().await, 1);
    }

    /// One and a half MiB is the limit of a request.
    async fn a_request_that_is_too_large_is_refused(member) {
        let value = "x".repeat(1_600_000);
        let result = member.kv().put(put("big", &value)).await;
        refused(result, Code::InvalidArgument, "etcdserver: request is too large");
        let value = "x".repeat(1_500_000);
        member.put("big", &value).await;
        assert_eq!(member.get("big").await.unwrap().value.len(), 1_500_000);
    }

    /// Beyond the limit of gRPC's own, the request is not even read.
    async fn a_message_beyond_the_transports_limit_is_refused(member) {
        let value = "x".repeat(3_000_000);
        let status = member.kv().put(put("big", &value)).await.expect_err("too large");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.message().starts_with("grpc: received message larger than max"), "{status:?}");
    }

    /// A serializable read needs no quorum; on one member it is as fresh as any.
    async fn a_serializable_read_sees_the_last_write(member) {
        member.put("a", "1").await;
        let answer = member.range(pb::RangeRequest { serializable: true, ..get("a") }).await;
        assert_eq!(pairs(&answer.kvs), ["a=1"]);
    }

    /// What was compacted stays so; the compacted revision itself can be read.
    async fn compaction_is_refused_behind_and_ahead(member) {
        member.put("a", "1").await;
        member.put("a", "2").await;
        let compact = async |revision| {
            member.kv().compact(pb::CompactionRequest { revision, physical: true }).await
        };
        let future = "etcdserver: mvcc: required revision is a future revision";
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        refused(compact(4).await, Code::OutOfRange, future);
        let answer = compact(2).await.unwrap().into_inner();
        assert_eq!(revision(answer.header.as_ref()), 3);
        refused(compact(2).await, Code::OutOfRange, compacted);
        refused(compact(1).await, Code::OutOfRange, compacted);
        refused(compact(-1).await, Code::OutOfRange, compacted);
        compact(3).await.unwrap();
        assert_eq!(member.get("a").await.unwrap().version, 2);
    }

    /// A new store has compacted revision -1, so that compacting at 0 succeeds, once.
    async fn compacting_at_zero_succeeds_once(member) {
        let zero = || pb::CompactionRequest::default();
        member.kv().compact(zero()).await.unwrap();
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        refused(member.kv().compact(zero()).await, Code::OutOfRange, compacted);
    }

    /// Compaction keeps what is live and forgets what was deleted before.
    async fn compaction_keeps_what_is_live(member) {
        member.put("kept", "1").await;
        member.put("gone", "1").await;
        member.delete("gone").await;
        member.put("kept", "2").await;
        member.put("later", "1").await;
        member.compact(5).await;
        let at = async |revision| pairs(&member.range(pb::RangeRequest { revision, ..range("a", "z") }).await.kvs).join(" ");
        assert_eq!(at(5).await, "kept=2");
        assert_eq!(at(6).await, "kept=2 later=1");
        let kv = member.get("kept").await.unwrap();
        assert_eq!((kv.create_revision, kv.version), (2, 2));
    }

    /// A method that is not there is said not to be there.
    async fn an_unknown_method_is_unimplemented(member) {
        for (path, text) in [
            ("/etcdserverpb.KV/Nothing", "unknown method Nothing for service etcdserverpb.KV"),
            ("/etcdserverpb.Nothing/Range", "unknown service etcdserverpb.Nothing"),
        ] {
            let result = e2e::call_raw(&member, path, bytes::Bytes::new()).await;
            refused(result, Code::Unimplemented, text);
        }
    }

    /// Reads overlap writes without ever seeing one half done: a transaction's keys change together.
    async fn readers_never_see_half_a_transaction(member) {
        use e2e::IntoOp;
        let write = |value: String| member.txn(vec![], vec![put("x", &value).op(), put("y", &value).op()], vec![]);
        write("0".to_owned()).await;
        let writing = async {
            for round in 1..200 {
                write(round.to_string()).await;
            }
        };
        let reading = async {
            for _ in 0..200 {
                let answer = member.range(range("x", "z")).await;
                assert_eq!(answer.kvs[0].value, answer.kvs[1].value);
                assert_eq!(answer.kvs[0].mod_revision, answer.kvs[1].mod_revision);
            }
        };
        tokio::join!(writing, reading);
    }
}

mod newer {
    //! What newer versions do otherwise than the one compared with.

    use api::etcdserverpb as pb;
    use e2e::{each_target, get, keys, put, range, refused};
    use etcd_rs_e2e as e2e;
    use tonic::Code;

    each_target! {
        ours;

        /// Sort options that are not in the list are refused. (3.4 crashes on some of them.)
        async fn an_undefined_sort_option_is_refused(member) {
            let text = "etcdserver: invalid sort option";
            let request = pb::RangeRequest { sort_order: 7, ..get("a") };
            refused(member.kv().range(request).await, Code::InvalidArgument, text);
            let request = pb::RangeRequest { sort_target: 9, ..get("a") };
            refused(member.kv().range(request).await, Code::InvalidArgument, text);
        }

        /// Keys without values come from the index, which leaves the lease out. (Since 3.7.)
        async fn keys_only_leaves_the_lease_out(member) {
            member.grant(7, 100).await;
            member.put_with(pb::PutRequest { lease: 7, ..put("a", "1") }).await;
            let answer = member.range(pb::RangeRequest { keys_only: true, ..get("a") }).await;
            assert_eq!(answer.kvs[0].lease, 0);
        }

        /// The pieces of a streamed range, put together, are the range; only the last has a header. (Since 3.7.)
        async fn a_streamed_range_is_the_range_in_pieces(member) {
            for number in 0..100 {
                member.put(&format!("k{number:03}"), "v").await;
            }
            let mut stream = member.kv().range_stream(range("k", "l")).await.unwrap().into_inner();
            let (mut found, mut sizes, mut last) = (Vec::new(), Vec::new(), None);
            while let Some(piece) = stream.message().await.unwrap() {
                let piece = piece.range_response.unwrap();
                assert!(last.is_none(), "a piece after the one with the header");
                sizes.push(piece.kvs.len());
                found.extend(keys(&piece.kvs));
                last = piece.header.map(|header| (header.revision, piece.count, piece.more));
            }
            assert_eq!(sizes, [10, 20, 40, 30]);
            assert_eq!(last, Some((101, 100, false)));
            assert_eq!(found, keys(&member.range(range("k", "l")).await.kvs));
        }

        /// A stream has no order but that of keys, and no filters.
        async fn a_streamed_range_refuses_orders_and_filters(member) {
            let request = pb::RangeRequest { sort_order: 2, ..range("a", "z") };
            let result = member.kv().range_stream(request).await;
            refused_stream(result, "RangeStream does not support custom sort orders").await;
            let request = pb::RangeRequest { min_mod_revision: 2, ..range("a", "z") };
            let result = member.kv().range_stream(request).await;
            refused_stream(result, "RangeStream does not support revision filters").await;
        }

        /// A limited stream says what it left out.
        async fn a_limited_stream_says_what_is_more(member) {
            for key in ["a", "b", "c"] {
                member.put(key, key).await;
            }
            let request = pb::RangeRequest { limit: 2, ..range("a", "z") };
            let mut stream = member.kv().range_stream(request).await.unwrap().into_inner();
            let piece = stream.message().await.unwrap().unwrap().range_response.unwrap();
            assert_eq!((keys(&piece.kvs).concat(), piece.more, piece.count), ("ab".to_owned(), true, 3));
            assert!(stream.message().await.unwrap().is_none());
        }
    }

    type Pieces = tonic::Streaming<pb::RangeStreamResponse>;

    /// A stream may be refused in its headers or by its first message.
    async fn refused_stream(result: Result<tonic::Response<Pieces>, tonic::Status>, text: &str) {
        let status = match result {
            Err(status) => status,
            Ok(stream) => {
                stream.into_inner().message().await.expect_err("the stream should have been refused")
            }
        };
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, text));
    }
}
