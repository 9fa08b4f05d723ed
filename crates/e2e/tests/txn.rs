//! Transactions: comparisons, branches, nesting, what is refused.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use api::etcdserverpb as pb;
use api::etcdserverpb::compare::{CompareResult, TargetUnion};
use api::etcdserverpb::response_op::Response;
use e2e::{IntoOp, Watcher, compare, delete, each_target, get, keys, pairs, put, range, refused, revision};
use tonic::Code;

use etcd_rs_e2e as e2e;

use CompareResult::{Equal, Greater, Less, NotEqual};

fn request(
    compare: Vec<pb::Compare>,
    success: Vec<pb::RequestOp>,
    failure: Vec<pb::RequestOp>,
) -> pb::TxnRequest {
    pb::TxnRequest { compare, success, failure }
}

fn then(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    request(vec![], success, vec![])
}

/// What the ranges among the answers found, in order.
fn found(answer: &pb::TxnResponse) -> Vec<String> {
    let ranges = answer.responses.iter().filter_map(|op| match op.response.as_ref()? {
        Response::ResponseRange(range) => Some(pairs(&range.kvs)),
        Response::ResponsePut(_) | Response::ResponseDeleteRange(_) | Response::ResponseTxn(_) => None,
    });
    ranges.flatten().collect()
}

const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";
const TOO_MANY: &str = "etcdserver: too many operations in txn request";

each_target! {
    everywhere;

    /// The comparisons choose the branch, and `succeeded` says which it was.
    async fn comparisons_choose_the_branch(member) {
        member.put("a", "1").await;
        let swap = |from: &str, to: &str| request(
            vec![compare("a", Equal, TargetUnion::Value(from.to_owned().into()))],
            vec![put("a", to).op()],
            vec![get("a").op()],
        );
        let answer = member.kv().txn(swap("1", "2")).await.unwrap().into_inner();
        assert!(answer.succeeded);
        assert_eq!(revision(answer.header.as_ref()), 3);
        let answer = member.kv().txn(swap("1", "3")).await.unwrap().into_inner();
        assert!(!answer.succeeded);
        assert_eq!((revision(answer.header.as_ref()), found(&answer)), (3, vec!["a=2".to_owned()]));
    }

    /// Every target with every operator, on a key whose figures are known.
    async fn every_target_compares_by_every_operator(member) {
        member.grant(9, 100).await;
        member.put("a", "m").await;
        member.put_with(pb::PutRequest { lease: 9, ..put("a", "m") }).await;
        // create_revision 2, mod_revision 3, version 2, lease 9, value m.
        let around: Vec<(TargetUnion, TargetUnion, TargetUnion)> = vec![
            (TargetUnion::Version(1), TargetUnion::Version(2), TargetUnion::Version(3)),
            (TargetUnion::CreateRevision(1), TargetUnion::CreateRevision(2), TargetUnion::CreateRevision(3)),
            (TargetUnion::ModRevision(2), TargetUnion::ModRevision(3), TargetUnion::ModRevision(4)),
            (TargetUnion::Lease(8), TargetUnion::Lease(9), TargetUnion::Lease(10)),
            (TargetUnion::Value("l".into()), TargetUnion::Value("m".into()), TargetUnion::Value("n".into())),
        ];
        for (below, same, above) in around {
            for (result, with, holds) in [
                (Equal, &same, true), (Equal, &below, false), (Equal, &above, false),
                (NotEqual, &same, false), (NotEqual, &below, true), (NotEqual, &above, true),
                (Greater, &below, true), (Greater, &same, false), (Greater, &above, false),
                (Less, &below, false), (Less, &same, false), (Less, &above, true),
            ] {
                let answer = member.txn(vec![compare("a", result, with.clone())], vec![], vec![]).await;
                assert_eq!(answer.succeeded, holds, "a {result:?} {with:?}");
            }
        }
    }

    /// A key that is not there compares as zero; its value compares as nothing at all.
    async fn a_missing_key_compares_as_zero(member) {
        let holds = async |result, with| member.txn(vec![compare("none", result, with)], vec![], vec![]).await.succeeded;
        assert!(holds(Equal, TargetUnion::Version(0)).await);
        assert!(holds(Equal, TargetUnion::CreateRevision(0)).await);
        assert!(holds(Less, TargetUnion::ModRevision(1)).await);
        assert!(holds(Equal, TargetUnion::Lease(0)).await);
        for result in [Equal, NotEqual, Greater, Less] {
            assert!(!holds(result, TargetUnion::Value("".into())).await, "{result:?}");
        }
    }

    /// A comparison of a range holds only if every key in it fits; of an empty range, as for a missing key.
    async fn a_range_compares_by_all_of_its_keys(member) {
        member.put("a1", "x").await;
        member.put("a2", "x").await;
        let all = |result, value: &str| pb::Compare {
            range_end: "b".into(),
            ..compare("a", result, TargetUnion::Value(value.to_owned().into()))
        };
        assert!(member.txn(vec![all(Equal, "x")], vec![], vec![]).await.succeeded);
        member.put("a2", "y").await;
        assert!(!member.txn(vec![all(Equal, "x")], vec![], vec![]).await.succeeded);
        assert!(member.txn(vec![all(Less, "z")], vec![], vec![]).await.succeeded);
    }

    /// All writes of a transaction make one revision, and later operations see earlier ones.
    async fn operations_see_those_before_them(member) {
        member.put("a", "0").await;
        member.put("c", "0").await;
        let ops = vec![
            get("a").op(),
            put("a", "1").op(),
            get("a").op(),
            put("b", "1").op(),
            delete("c", "").op(),
            range("a", "d").op(),
        ];
        let answer = member.txn(vec![], ops, vec![]).await;
        assert_eq!(found(&answer), ["a=0", "a=1", "a=1", "b=1"]);
        assert_eq!(revision(answer.header.as_ref()), 4);
        assert_eq!(member.get("b").await.unwrap().mod_revision, 4);
        assert_eq!(member.revision().await, 4);
    }

    /// The header of a range inside a transaction has a revision and nothing else, and counts the open writes.
    async fn inner_headers_carry_only_the_revision(member) {
        member.put("a", "0").await;
        let answer = member.txn(vec![], vec![get("a").op(), put("b", "1").op(), get("b").op()], vec![]).await;
        let headers: Vec<pb::ResponseHeader> = answer.responses.iter().map(|op| match op.response.as_ref().unwrap() {
            Response::ResponseRange(range) => range.header.unwrap(),
            Response::ResponsePut(put) => put.header.unwrap(),
            other => panic!("{other:?}"),
        }).collect();
        let only = |revision| pb::ResponseHeader { revision, ..Default::default() };
        assert_eq!(headers, [only(2), only(3), only(3)]);
    }

    /// A transaction that changes nothing makes no revision.
    async fn reading_makes_no_revision(member) {
        member.put("a", "1").await;
        let answer = member.txn(vec![], vec![get("a").op(), delete("none", "").op()], vec![]).await;
        assert_eq!(revision(answer.header.as_ref()), 2);
        let answer = member.txn(vec![], vec![], vec![]).await;
        assert!(answer.succeeded);
        assert_eq!(revision(answer.header.as_ref()), 2);
    }

    /// A transaction inside another chooses its own branch, by the state before the whole.
    async fn inner_comparisons_see_the_state_before(member) {
        member.put("a", "old").await;
        let inner = request(
            vec![compare("a", Equal, TargetUnion::Value("old".into()))],
            vec![put("b", "then").op()],
            vec![put("b", "else").op()],
        );
        let answer = member.txn(vec![], vec![put("a", "new").op(), inner.op()], vec![]).await;
        let Some(Response::ResponseTxn(inner)) = &answer.responses[1].response else { panic!("{answer:?}") };
        assert!(inner.succeeded);
        assert_eq!(pairs(&member.range(range("a", "z")).await.kvs), ["a=new", "b=then"]);
    }

    /// At most 128 comparisons, and 128 operations in each branch.
    async fn too_many_operations_are_refused(member) {
        let ops = |count: usize| (0..count).map(|number| put(&format!("k{number}"), "v").op()).collect::<Vec<_>>();
        let result = member.kv().txn(then(ops(129))).await;
        refused(result, Code::InvalidArgument, TOO_MANY);
        let result = member.kv().txn(request(vec![], vec![], ops(129))).await;
        refused(result, Code::InvalidArgument, TOO_MANY);
        let many = vec![compare("a", Equal, TargetUnion::Version(0)); 129];
        refused(member.kv().txn(request(many, vec![], vec![])).await, Code::InvalidArgument, TOO_MANY);
        member.kv().txn(request(vec![], ops(128), ops(128))).await.unwrap();
        assert_eq!(member.revision().await, 2);
    }

    /// Nested transactions share the budget: the inner may hold what the outer leaves of 128.
    async fn nesting_shares_the_budget(member) {
        let reads = |count: usize| vec![get("a").op(); count];
        let nested = |outer: usize, inner: usize| {
            let mut ops = reads(outer);
            ops.push(then(reads(inner)).op());
            then(ops)
        };
        refused(member.kv().txn(nested(127, 1)).await, Code::InvalidArgument, TOO_MANY);
        member.kv().txn(nested(126, 1)).await.unwrap();
        refused(member.kv().txn(nested(64, 64)).await, Code::InvalidArgument, TOO_MANY);
        member.kv().txn(nested(64, 63)).await.unwrap();
    }

    /// No key may be written twice in one branch, whichever way and in whichever order.
    async fn a_key_is_written_once(member) {
        for ops in [
            vec![put("a", "1").op(), put("a", "2").op()],
            vec![put("a", "1").op(), delete("a", "").op()],
            vec![delete("a", "").op(), put("a", "1").op()],
            vec![put("b", "1").op(), delete("a", "c").op()],
            vec![then(vec![delete("a", "").op()]).op(), put("a", "1").op()],
            vec![then(vec![put("a", "1").op()]).op(), then(vec![put("a", "2").op()]).op()],
            vec![then(vec![put("a", "1").op()]).op(), put("a", "2").op()],
        ] {
            let result = member.kv().txn(then(ops.clone())).await;
            refused(result, Code::InvalidArgument, DUPLICATE);
            let result = member.kv().txn(request(vec![], vec![], ops)).await;
            refused(result, Code::InvalidArgument, DUPLICATE);
        }
        assert_eq!(member.revision().await, 1);
    }

    /// What only looks like a duplicate: the two branches of one transaction, overlapping deletes, and a delete in
    /// a later sibling.
    async fn what_only_looks_like_a_duplicate_is_allowed(member) {
        let both = request(vec![], vec![put("a", "1").op()], vec![put("a", "2").op()]);
        for ops in [
            vec![both.op()],
            vec![delete("a", "c").op(), delete("b", "d").op()],
            vec![then(vec![put("a", "1").op()]).op(), then(vec![delete("a", "").op()]).op()],
        ] {
            member.kv().txn(then(ops)).await.unwrap();
        }
    }

    /// A delete "from a key on" escapes the check for duplicates; then the operations simply follow each other.
    async fn an_open_ended_delete_may_precede_a_put(member) {
        member.put("b", "1").await;
        let create = pb::WatchCreateRequest { key: "b".into(), prev_kv: true, ..Default::default() };
        let (mut watcher, _) = Watcher::open(&member, create).await;
        member.txn(vec![], vec![delete("a", "\0").op(), put("b", "2").op()], vec![]).await;
        let response = watcher.next().await;
        assert_eq!(response.header.unwrap().revision, 3);
        let [deleted, put] = &response.events[..] else { panic!("{response:?}") };
        assert_eq!((deleted.r#type, put.r#type), (1, 0));
        assert_eq!(deleted.prev_kv.as_ref().unwrap().value, "1");
        let kv = put.kv.as_ref().unwrap();
        assert_eq!((kv.create_revision, kv.version), (3, 1));
    }

    /// An operation that cannot succeed fails the whole, and nothing of it happens.
    async fn one_impossible_operation_fails_all(member) {
        member.put("a", "1").await;
        let with = async |op: pb::RequestOp| member.kv().txn(then(vec![put("b", "1").op(), op])).await;
        let future = pb::RangeRequest { revision: 9, ..get("a") };
        let text = "etcdserver: mvcc: required revision is a future revision";
        refused(with(future.op()).await, Code::OutOfRange, text);
        let leased = pb::PutRequest { lease: 4, ..put("c", "1") };
        refused(with(leased.op()).await, Code::NotFound, "etcdserver: requested lease not found");
        assert_eq!(member.revision().await, 2);
        assert_eq!(keys(&member.range(range("a", "z")).await.kvs), ["a"]);
    }

    /// A read of the compacted past inside a transaction fails the whole of it (etcd #18667: members diverged).
    async fn a_compacted_read_fails_all(member) {
        for value in ["1", "2", "3"] {
            member.put("a", value).await;
        }
        member.compact(3).await;
        let at = |revision| pb::RangeRequest { revision, ..get("a") }.op();
        let result = member.kv().txn(then(vec![put("b", "1").op(), at(2)])).await;
        refused(result, Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
        assert_eq!((member.revision().await, member.get("b").await), (4, None));
        let answer = member.txn(vec![], vec![put("b", "1").op(), at(3)], vec![]).await;
        assert_eq!(found(&answer), ["a=2"]);
    }

    /// Operations are checked like the requests that they are, in the branch not taken too.
    async fn operations_are_checked_in_both_branches(member) {
        let empty = "etcdserver: key is not provided";
        refused(member.kv().txn(then(vec![put("", "v").op()])).await, Code::InvalidArgument, empty);
        let result = member.kv().txn(request(vec![], vec![], vec![get("").op()])).await;
        refused(result, Code::InvalidArgument, empty);
        let nothing = compare("", Equal, TargetUnion::Version(0));
        refused(member.kv().txn(request(vec![nothing], vec![], vec![])).await, Code::InvalidArgument, empty);
        let provided = pb::PutRequest { ignore_value: true, ..put("a", "v") };
        let result = member.kv().txn(then(vec![provided.op()])).await;
        refused(result, Code::InvalidArgument, "etcdserver: value is provided");
    }

    /// An operation without a request is refused.
    async fn an_empty_operation_is_refused(member) {
        let result = member.kv().txn(then(vec![pb::RequestOp { request: None }])).await;
        refused(result, Code::InvalidArgument, "etcdserver: key not found");
    }

    /// Kubernetes' way to write: put if unchanged, else tell what is there. Of two racing writers one wins.
    async fn of_two_guarded_writes_one_wins(member) {
        member.put("a", "0").await;
        let guarded = |value: &str| request(
            vec![compare("a", Equal, TargetUnion::ModRevision(2))],
            vec![put("a", value).op()],
            vec![get("a").op()],
        );
        let (mut one, mut two) = (member.kv(), member.kv());
        let (first, second) = tokio::join!(one.txn(guarded("1")), two.txn(guarded("2")));
        let (first, second) = (first.unwrap().into_inner(), second.unwrap().into_inner());
        assert!(first.succeeded ^ second.succeeded);
        let (winner, loser) = if first.succeeded { ("1", second) } else { ("2", first) };
        assert_eq!(found(&loser), [format!("a={winner}")]);
    }
}
