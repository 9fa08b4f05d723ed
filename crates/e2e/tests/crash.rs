//! kill -9 at any moment under load: what was acknowledged is there afterwards, nothing is there by half, and
//! revisions go on where they were.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;

use api::etcdserverpb as pb;
use e2e::{IntoOp, Member, Target, put, revision, run};
use tokio::sync::mpsc;

use etcd_rs_e2e as e2e;

const WRITERS: usize = 20;

/// A write that was acknowledged: its name and the revision it made.
type Acknowledged = (String, i64);

/// Writes pairs of keys, each pair in one transaction, until the member is gone.
async fn write(
    mut kv: pb::kv_client::KvClient<tonic::transport::Channel>,
    name: String,
    done: mpsc::Sender<Acknowledged>,
) {
    for number in 0.. {
        let pair = format!("{name}/{number:06}");
        let ops = ["left", "right"].map(|side| put(&format!("{side}/{pair}"), &pair).op());
        let request = pb::TxnRequest { success: ops.to_vec(), ..Default::default() };
        let Ok(answer) = kv.txn(request).await else { return };
        if done.send((pair, revision(answer.into_inner().header.as_ref()))).await.is_err() {
            return;
        }
    }
}

/// The pairs that one side has: their names and revisions.
async fn side(member: &Member, name: &str) -> BTreeMap<String, i64> {
    let range = pb::RangeRequest { range_end: e2e::prefix_end(name), ..e2e::get(name) };
    let found = member.range(range).await.kvs;
    let pair = |key: &[u8]| String::from_utf8_lossy(&key[name.len()..]).into_owned();
    found.iter().map(|kv| (pair(&kv.key), kv.mod_revision)).collect()
}

async fn survives(mut member: Member) {
    let mut acknowledged: BTreeMap<String, i64> = BTreeMap::new();
    for (round, enough) in [150, 700, 1300].into_iter().enumerate() {
        let (done, mut acknowledgements) = mpsc::channel(WRITERS);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write(member.kv(), format!("{round}-{writer:02}"), done.clone())))
            .collect();
        drop(done);
        for _ in 0..enough {
            acknowledged.extend(acknowledgements.recv().await);
        }
        member.kill();
        // Acknowledgements that were on their way count as well.
        while let Some(late) = acknowledgements.recv().await {
            acknowledged.extend([late]);
        }
        for writer in writers {
            writer.await.expect("a writer ends with the member");
        }

        member.launch().await;
        let (left, right) = (side(&member, "left/").await, side(&member, "right/").await);
        assert_eq!(left, right, "a pair is there as a whole or not at all");
        for (pair, revision) in &acknowledged {
            assert_eq!(left.get(pair), Some(revision), "round {round}: {pair} was acknowledged");
        }
        let last = left.values().max().copied().unwrap_or(1);
        let next = revision(member.put("after", "crash").await.header.as_ref());
        assert!(next > last, "revision {next} after {last}");
        // Every revision up to now was made by one of these writes; none was skipped or used twice.
        let mut revisions: Vec<i64> = left.values().copied().collect();
        revisions.sort_unstable();
        revisions.dedup();
        assert_eq!(revisions.len(), left.len());
    }
}

/// etcd #14370: a cluster of one member answered a put before its log was synced, as it has nobody else to ask; a crash then lost
/// what had been acknowledged.
#[test]
fn acknowledged_writes_survive_kill_9() {
    run(Target::Binary, survives);
}

/// That the real etcd passes shows that the test asks for nothing more than etcd promises.
#[test]
fn the_real_etcd_survives_kill_9_too() {
    run(Target::Real, survives);
}

/// Killed in the midst of a compaction, the member comes back with all that is live, the compaction done or to be
/// done again, and revisions that go on (etcd #17780: they went back).
async fn survives_in_compaction(mut member: Member) {
    let mut last = 1;
    for round in 0..4 {
        let keys: Vec<String> = (0..500).map(|number| format!("k{number:03}")).collect();
        let value = round.to_string();
        futures_util::future::join_all(keys.iter().map(|key| member.put(key, &value))).await;
        last += 500;
        let compact = pb::CompactionRequest { revision: last, physical: false };
        member.kv().compact(compact).await.unwrap();
        member.kill();
        member.launch().await;
        let answer = member.range(e2e::range("k", "l")).await;
        assert_eq!((revision(answer.header.as_ref()), answer.kvs.len()), (last, 500));
        assert!(answer.kvs.iter().all(|kv| kv.value == value && kv.version == round + 1));
        let past = pb::RangeRequest { revision: last - 1, ..e2e::get("k000") };
        let refused = member.kv().range(past).await.expect_err("what was compacted stays so");
        assert_eq!(refused.code(), tonic::Code::OutOfRange);
    }
}

#[test]
fn a_crash_in_compaction_takes_nothing_back() {
    run(Target::Binary, survives_in_compaction);
}

/// etcd #14685: a member that was killed while it defragmented came back without what had been written meanwhile. Here tables
/// are rewritten beside the writes, and a crash at any moment leaves the old files or the new.
async fn survives_in_defragmentation(mut member: Member) {
    for round in 0..3 {
        let keys: Vec<String> = (0..300).map(|number| format!("k{number:03}")).collect();
        let value = round.to_string();
        futures_util::future::join_all(keys.iter().map(|key| member.put(key, &value))).await;
        let mut maintenance = member.maintenance();
        let defragment = tokio::spawn(async move { maintenance.defragment(pb::DefragmentRequest {}).await });
        futures_util::future::join_all(keys.iter().map(|key| member.put(key, &value))).await;
        member.kill();
        // Whether it was done by then is not the question.
        drop(defragment.await);
        member.launch().await;
        let answer = member.range(e2e::range("k", "l")).await;
        assert_eq!((revision(answer.header.as_ref()), answer.kvs.len()), (1 + (round + 1) * 600, 300));
        assert!(answer.kvs.iter().all(|kv| kv.value == value && kv.version == 2 * (round + 1)));
    }
}

#[test]
fn a_crash_in_defragmentation_takes_nothing_back() {
    run(Target::Binary, survives_in_defragmentation);
}

/// The same data under two processes would be no data soon.
#[test]
fn a_second_process_on_the_same_data_is_refused() {
    run(Target::Binary, async |member: Member| {
        member.put("a", "1").await;
        let mut second = std::process::Command::new(&e2e::programs().server)
            .arg("--data-dir")
            .arg(member.data_dir())
            .args([
                "--listen-client-urls",
                "http://127.0.0.1:0",
                "--advertise-client-urls",
                "http://127.0.0.1:0",
            ])
            .args(["--listen-peer-urls", "http://127.0.0.1:0"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the program can be run");
        let ended =
            e2e::eventually("the second process to give up", async || second.try_wait().expect("our child"));
        assert!(!ended.await.success());
        member.put("a", "2").await;
    });
}
