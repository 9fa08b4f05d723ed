//! `snapshot status`: what is in a snapshot file, after a check of every page.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use api::mvccpb::KeyValue;
use boltdb::{Reader, Result};
use prost::Message as _;

use super::super::{Action, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::printer::{Answer, SnapshotStatus};

pub(super) static COMMAND: Command = Command {
    name: "status",
    alias: None,
    usage: "<filename>",
    short: "Gets backend snapshot status of a given file",
    long: "When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.\n\
           The items in the lists are hash, revision, total keys, total size, storage version.",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(run(invocation))),
};

async fn run(invocation: Invocation) -> Outcome {
    let [file] = invocation.args() else {
        return Err(Failure::bad_args("snapshot status requires exactly one argument"));
    };
    let path = PathBuf::from(OsString::from_vec(file.clone()));
    let (session, _) = invocation.session()?;
    let status = status(&path)?;
    session.print(&Answer::SnapshotStatus(&status))
}

fn status(path: &Path) -> Outcome<SnapshotStatus> {
    if !path.exists() {
        return Err(Failure::error(format!("stat {}: no such file or directory", path.display())));
    }
    let reader = Reader::open(path).map_err(Failure::error)?;
    let complaints = reader.check().map_err(Failure::error)?;
    if !complaints.is_empty() {
        return Err(Failure::error(format!(
            "snapshot file integrity check failed. {} errors found.\n{}",
            complaints.len(),
            complaints.join("\n")
        )));
    }
    read(&reader).map_err(Failure::error)
}

fn read(reader: &Reader<File>) -> Result<SnapshotStatus> {
    let mut status = SnapshotStatus { total_size: reader.len_bytes(), ..SnapshotStatus::default() };
    let mut live = HashSet::new();
    let mut add = |bytes: &[u8]| status.hash = crc32c::crc32c_append(status.hash, bytes);
    let root = reader.root()?;
    let mut buckets = root.cursor();
    while let Some(named) = buckets.next_record()? {
        add(named.key);
        let Some(bucket) = root.bucket(named.key)? else { continue };
        let mut records = bucket.cursor();
        while let Some(record) = records.next_record()? {
            add(record.key);
            add(record.value);
            if named.key == b"key" {
                count(&mut live, record.key, record.value);
            }
        }
    }
    status.total_keys = live.len();
    if let Some(keys) = reader.bucket(b"key")? {
        let last = keys.last()?;
        let main = last.as_ref().and_then(|(key, _)| key.first_chunk());
        status.revision = main.map_or(0, |main| i64::from_be_bytes(*main));
    }
    if let Some(meta) = reader.bucket(b"meta")? {
        let version = meta.get(b"storageVersion")?.unwrap_or_default();
        status.version = String::from_utf8_lossy(&version).into_owned();
    }
    Ok(status)
}

/// A put makes a key live, a delete (which has a mark at the end of its revision) ends that.
fn count(live: &mut HashSet<Vec<u8>>, revision: &[u8], value: &[u8]) {
    let Ok(kv) = KeyValue::decode(value) else { return };
    if revision.len() == 18 {
        live.remove(kv.key.as_ref());
    } else {
        live.insert(kv.key.to_vec());
    }
}
