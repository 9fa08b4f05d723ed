//! `snapshot restore`: a member's data directory from a snapshot file. What that is, the server knows.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use server::Restore;

use super::super::{Action, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Parsed};
use crate::output::err_line;

pub(super) static COMMAND: Command = Command {
    name: "restore",
    alias: None,
    usage: "<filename> [options]",
    short: "Restores an etcd member snapshot to an etcd directory",
    long: "The snapshot may be one of etcd-rs or of an etcd 3, or, with --skip-hash-check, the file member/snap/db\n\
           of an etcd that does not run.",
    flags: &[
        Flag::int("bump-revision", "how much to increase the latest revision after restore"),
        Flag::string("data-dir", "", "path to the data directory (default \"<name>.etcd\")"),
        Flag::string(
            "initial-advertise-peer-urls",
            "http://localhost:2380",
            "list of this member's peer URLs to advertise to the rest of the cluster",
        ),
        Flag::string(
            "initial-cluster",
            "default=http://localhost:2380",
            "initial cluster configuration for restore bootstrap",
        ),
        Flag::string(
            "initial-cluster-token",
            "etcd-cluster",
            "initial cluster token for the etcd cluster during restore bootstrap",
        ),
        Flag::bool(
            "mark-compacted",
            "mark the latest revision after restore as the point of scheduled compaction; goes with --bump-revision > 0",
        ),
        Flag::string("name", "default", "human-readable name for this member"),
        Flag::bool(
            "skip-hash-check",
            "ignore snapshot integrity hash value (required if copied from data directory)",
        ),
        Flag::string("wal-dir", "", "must not exist; the log lies in the data directory"),
    ],
    action: Action::Run(|invocation| Box::pin(run(invocation))),
};

async fn run(invocation: Invocation) -> Outcome {
    let [file] = invocation.args() else {
        return Err(Failure::bad_args("snapshot restore requires exactly one argument"));
    };
    let snapshot = PathBuf::from(OsString::from_vec(file.clone()));
    let (_, parsed) = invocation.session()?;
    let restore = restore(snapshot, &parsed)?;
    let came_in = restore.run().await.map_err(Failure::error)?;
    err_line(format!(
        "{{\"level\":\"info\",\"msg\":\"restored snapshot\",\"current-rev\":{},\"keys\":{}}}",
        came_in.revision, came_in.keys
    ));
    Ok(())
}

fn restore(snapshot: PathBuf, parsed: &Parsed) -> Outcome<Restore> {
    let value = |name: &str, default: &str| parsed.get(name).unwrap_or(default).to_owned();
    let bump = parsed.int("bump-revision");
    if (bump > 0) != parsed.on("mark-compacted") || bump < 0 {
        return Err(Failure::bad_args("--mark-compacted required if --revision-bump > 0"));
    }
    let name = value("name", "default");
    let data_dir = match value("data-dir", "") {
        none if none.is_empty() => format!("{name}.etcd"),
        given => given,
    };
    let urls = value("initial-advertise-peer-urls", "http://localhost:2380");
    Ok(Restore {
        snapshot,
        data_dir: data_dir.into(),
        wal_dir: Some(value("wal-dir", "")).filter(|dir| !dir.is_empty()).map(PathBuf::from),
        name,
        initial_cluster: value("initial-cluster", "default=http://localhost:2380"),
        initial_cluster_token: value("initial-cluster-token", "etcd-cluster"),
        initial_advertise_peer_urls: urls.split(',').map(str::to_owned).collect(),
        skip_hash_check: parsed.on("skip-hash-check"),
        bump_revision: Some(bump).filter(|bump| *bump > 0),
    })
}
