//! Data goes out to a real etcd and comes in from one, with its revisions, its history and its hashes.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use api::etcdserverpb as pb;
use e2e::random::{Operation, Source};
use e2e::{IntoOp, Member, Target, each_target, get, programs, put, range, real_etcd, run_alone};

use etcd_rs_e2e as e2e;

/// Requests of one history.
const REQUESTS: usize = 150;

/// A command line of ours or of the real etcd's.
fn ctl(target: Target, member: Option<&Member>, args: &[&str]) -> Output {
    let program = match target {
        Target::Real => real_etcd().join("etcdctl"),
        Target::InProcess | Target::Binary => programs().ctl.clone(),
    };
    let mut command = Command::new(program);
    command.env("ETCDCTL_API", "3");
    if let Some(member) = member {
        command.args(["--endpoints", member.client_url().trim_start_matches("http://")]);
    }
    command.args(args).output().expect("the client can be run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// The exit code and the error of a command that fails.
fn failure(output: &Output) -> (i32, String) {
    assert!(!output.status.success(), "it succeeded: {}", text(&output.stdout));
    (output.status.code().unwrap(), text(&output.stderr))
}

/// Saves a snapshot of the member with a client of the kind.
fn save(by: Target, member: &Member, name: &str) -> PathBuf {
    let path = member.scratch().join(name);
    let said = succeeded(&ctl(by, Some(member), &["snapshot", "save", path.to_str().unwrap()]));
    assert!(said.starts_with(&format!("Snapshot saved at {}\n", path.display())), "{said}");
    assert!(!path.with_extension("part").exists());
    path
}

/// A member that runs on a snapshot.
async fn restore(target: Target, snapshot: &Path, flags: &[&str]) -> Member {
    let (mut member, output) = Member::restored(target, snapshot, flags);
    succeeded(&output);
    member.launch().await;
    member
}

/// Changes keys and leases at random. Refusals are part of it.
async fn write(member: &Member, source: &mut Source) {
    for _ in 0..REQUESTS {
        let revision = member.revision().await;
        match source.operation(revision) {
            Operation::Put(request) => drop(member.kv().put(request).await),
            Operation::Delete(request) => drop(member.kv().delete_range(request).await),
            Operation::Txn(request) => drop(member.kv().txn(request).await),
            Operation::Grant(request) => drop(member.lease().lease_grant(request).await),
            Operation::Revoke(request) => drop(member.lease().lease_revoke(request).await),
            Operation::Range(_) | Operation::TimeToLive(_) | Operation::HashKv => {}
            Operation::Compact { .. } => {
                // An etcd before 3.4.34 forgets a delete right at the compacted revision, and its hash knows of it.
                let revision = member.put("compacted here", "").await.header.unwrap().revision;
                member.put("after that", "").await;
                member.compact(revision).await;
            }
        }
    }
    // Something to be found, whatever chance has done.
    member.put("the last", "one").await;
}

/// Everything that clients see: keys at some revisions, hashes, leases.
async fn seen(member: &Member) -> Vec<String> {
    let revision = member.revision().await;
    let mut seen = vec![format!("revision {revision}")];
    for asked in (revision - 60).max(1)..=revision {
        let mut request = range("\0", "\0");
        request.revision = asked;
        let keys = member.kv().range(request).await.map(|answer| answer.into_inner().kvs);
        seen.push(format!("{asked}: {:?}", keys.map_err(|status| status.message().to_owned())));
    }
    let compacted = hash(member, 0).await.unwrap().1;
    seen.push(format!("compacted {compacted}"));
    // The compacted revision itself is told from memory by who has compacted.
    for asked in ((revision - 20).max(compacted + 1)..=revision).chain([0]) {
        seen.push(format!("hash at {asked}: {:?}", hash(member, asked).await));
    }
    let leases = member.lease().lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
    let mut ids: Vec<i64> = leases.iter().map(|lease| lease.id).collect();
    ids.sort_unstable();
    for id in ids {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let mut lease = member.lease().lease_time_to_live(request).await.unwrap().into_inner();
        lease.keys.sort();
        seen.push(format!("lease {id}: {} s, {:?}", lease.granted_ttl, lease.keys));
    }
    seen
}

async fn hash(member: &Member, revision: i64) -> Result<(u32, i64), String> {
    let answer = member.maintenance().hash_kv(pb::HashKvRequest { revision }).await;
    let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
    Ok((answer.hash, answer.compact_revision))
}

/// A history that is begun on a real etcd goes on here, and then there, and comes back.
fn there_and_back(seed: u64) {
    run_alone(async {
        let mut source = Source::new(seed);
        let first = Member::start(Target::Real).await;
        write(&first, &mut source).await;
        let expected = seen(&first).await;

        let ours = restore(Target::Binary, &save(Target::Real, &first, "one"), &[]).await;
        assert_eq!(seen(&ours).await, expected, "from etcd to here");
        write(&ours, &mut source).await;
        let expected = seen(&ours).await;

        let again = restore(Target::Real, &save(Target::Binary, &ours, "two"), &[]).await;
        assert_eq!(seen(&again).await, expected, "from here to etcd");
        write(&again, &mut source).await;
        let expected = seen(&again).await;

        let last = restore(Target::Binary, &save(Target::Binary, &again, "three"), &[]).await;
        assert_eq!(seen(&last).await, expected, "from etcd to here again");
    });
}

#[test]
fn a_history_goes_from_etcd_to_here_and_back() {
    there_and_back(1);
}

#[test]
fn another_history_goes_from_etcd_to_here_and_back() {
    there_and_back(2);
}

/// The database of a member that has stopped needs no snapshot.
#[test]
fn the_database_of_a_stopped_etcd_comes_in() {
    run_alone(async {
        let mut etcd = Member::start(Target::Real).await;
        write(&etcd, &mut Source::new(4)).await;
        let expected = seen(&etcd).await;
        etcd.stop("TERM").await;
        let database = etcd.data_dir().join("member/snap/db");
        let before = fs::read(&database).unwrap();
        let (_, refused) = Member::restored(Target::Binary, &database, &[]);
        let (code, error) = failure(&refused);
        assert_eq!(code, 1);
        assert!(error.contains("snapshot missing hash but --skip-hash-check=false"), "{error}");
        let ours = restore(Target::Binary, &database, &["--skip-hash-check"]).await;
        assert_eq!(seen(&ours).await, expected);
        assert!(fs::read(&database).unwrap() == before, "the source is not touched");
    });
}

/// The real client and ours tell the same of the same file, whoever wrote it.
#[test]
fn both_clients_tell_the_same_of_a_snapshot() {
    run_alone(async {
        for target in [Target::Binary, Target::Real] {
            let member = Member::start(target).await;
            write(&member, &mut Source::new(5)).await;
            member.put_with(put("large", &"x".repeat(100_000))).await;
            for by in [Target::Binary, Target::Real] {
                let path = save(by, &member, "snapshot");
                let path = path.to_str().unwrap();
                let told = |by: Target| {
                    let line = succeeded(&ctl(by, None, &["snapshot", "status", path]));
                    let fields: Vec<String> = line.split(',').map(|field| field.trim().to_owned()).collect();
                    // How the keys are counted has changed with 3.6.
                    [fields[0].clone(), fields[1].clone(), fields[3].clone()]
                };
                assert_eq!(told(Target::Binary), told(Target::Real), "a {target:?} saved by a {by:?} client");
                assert_eq!(told(Target::Binary)[1], member.revision().await.to_string());
            }
        }
    });
}

each_target! {
    ours;

    /// What is saved while others write is one state: each pair of keys, written together, is there together.
    async fn a_snapshot_is_of_one_moment(member) {
        let writing = async {
            for n in 0..200 {
                let value = n.to_string();
                member.txn(vec![], vec![put("a", &value).op(), put("b", &value).op()], vec![]).await;
            }
        };
        let saving = async {
            let mut pieces = Vec::new();
            let mut stream = member.maintenance().snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
            while let Some(piece) = stream.message().await.unwrap() {
                pieces.push(piece);
            }
            pieces
        };
        let ((), pieces) = tokio::join!(writing, saving);
        let (hash, blobs) = pieces.split_last().unwrap();
        assert_eq!((hash.blob.len(), hash.remaining_bytes), (32, 0));
        let total: u64 = blobs.iter().map(|piece| piece.blob.len() as u64).sum();
        let mut remaining = total;
        for piece in blobs {
            remaining -= piece.blob.len() as u64;
            assert_eq!(piece.remaining_bytes, remaining);
            assert!(piece.blob.len() == 32 << 10 || remaining == 0, "pieces are of 32 KiB");
            assert_eq!(piece.header, None);
        }
        let path = member.scratch().join("moment");
        fs::write(&path, pieces.iter().flat_map(|piece| piece.blob.to_vec()).collect::<Vec<u8>>()).unwrap();
        let restored = restore(Target::Binary, &path, &[]).await;
        let (a, b) = (restored.get("a").await, restored.get("b").await);
        let values = |kv: Option<api::mvccpb::KeyValue>| kv.map(|kv| (kv.value, kv.mod_revision, kv.version));
        assert_eq!(values(a), values(b));
    }

    /// Who has seen revisions after the snapshot must not take others for them.
    async fn a_bumped_revision_leaves_room_and_compacts_what_was(member) {
        for n in 0..10 {
            member.put("k", &n.to_string()).await;
        }
        let revision = member.revision().await;
        let snapshot = save(Target::Binary, &member, "bumped");
        for flags in [&["--bump-revision", "1000"][..], &["--mark-compacted"]] {
            let (code, error) = failure(&Member::restored(Target::Binary, &snapshot, flags).1);
            assert_eq!(code, 128);
            assert!(error.contains("--mark-compacted required if --revision-bump > 0"), "{error}");
        }
        let flags = ["--bump-revision", "1000", "--mark-compacted"];
        let restored = restore(Target::Binary, &snapshot, &flags).await;
        assert_eq!(restored.revision().await, revision + 1000);
        let kv = restored.get("k").await.unwrap();
        assert_eq!((kv.mod_revision, kv.version), (revision, 10));
        let mut old = get("k");
        old.revision = revision;
        let refused = restored.kv().range(old).await.unwrap_err();
        assert_eq!(refused.message(), "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(restored.put("k", "next").await.header.unwrap().revision, revision + 1001);
    }
}

/// A file that is not what it should be leaves nothing behind, and the error says why.
#[test]
fn what_is_no_snapshot_is_refused() {
    run_alone(async {
        let member = Member::start(Target::Binary).await;
        write(&member, &mut Source::new(6)).await;
        let good = fs::read(save(Target::Binary, &member, "good")).unwrap();
        let bad = member.scratch().join("bad");
        let check = |bytes: Vec<u8>, flags: &[&str], expected: &str| {
            fs::write(&bad, bytes).unwrap();
            let (restored, output) = Member::restored(Target::Binary, &bad, flags);
            let (code, error) = failure(&output);
            assert_eq!(code, 1, "{error}");
            assert!(error.contains(expected), "{expected}: {error}");
            let left = fs::read_dir(restored.data_dir()).map(Iterator::count).unwrap_or_default();
            assert_eq!(left, 0, "nothing is left");
        };
        let skip: &[&str] = &["--skip-hash-check"];
        check(Vec::new(), &[], "snapshot missing hash but --skip-hash-check=false");
        check(Vec::new(), skip, "invalid database");
        check(b"something else altogether".repeat(100), skip, "invalid database");
        check(good[..good.len() / 2].to_vec(), &[], "snapshot missing hash but --skip-hash-check=false");
        check(good[..good.len() / 2].to_vec(), skip, "the database is truncated");
        let flipped = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        };
        check(flipped(good.len() / 2), &[], "expected sha256 [");
        check(flipped(good.len() - 1), &[], "expected sha256 [");
        // The page says that it is another.
        check(flipped(2 * 4096), skip, "page 2: it says that it is page 3");
        fs::remove_file(&bad).unwrap();
        let (_, output) = Member::restored(Target::Binary, &bad, &[]);
        assert!(failure(&output).1.contains("no such file or directory"));
    });
}

#[test]
fn a_directory_that_is_not_empty_is_left_alone() {
    run_alone(async {
        let member = Member::start(Target::Binary).await;
        member.put("k", "v").await;
        let snapshot = save(Target::Binary, &member, "snapshot");
        let dir = member.scratch().join("full");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("mine"), "").unwrap();
        let line = ["snapshot", "restore", snapshot.to_str().unwrap(), "--data-dir", dir.to_str().unwrap()];
        let (code, error) = failure(&ctl(Target::Binary, None, &line));
        assert_eq!(code, 1);
        let expected = format!("data-dir \"{}\" not empty or could not be read", dir.display());
        assert!(error.contains(&expected), "{error}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    });
}

#[test]
fn a_save_that_fails_leaves_no_file() {
    run_alone(async {
        let member = Member::start(Target::Binary).await;
        let path = member.scratch().join("no such directory/snapshot");
        let (code, error) =
            failure(&ctl(Target::Binary, Some(&member), &["snapshot", "save", path.to_str().unwrap()]));
        assert_eq!(code, 5);
        assert!(error.contains(&format!("could not open {}.part", path.display())), "{error}");
        let two = format!("{0},{0}", member.client_url().trim_start_matches("http://"));
        let (code, error) =
            failure(&ctl(Target::Binary, None, &["--endpoints", &two, "snapshot", "save", "unused"]));
        assert_eq!(code, 5);
        assert!(error.contains("snapshot must be requested to one selected node, not multiple ["), "{error}");
        let (code, error) = failure(&ctl(Target::Binary, None, &["snapshot", "save"]));
        assert_eq!(code, 128);
        assert!(error.contains("snapshot save expects one argument"), "{error}");
    });
}
