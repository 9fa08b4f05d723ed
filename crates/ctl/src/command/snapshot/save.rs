//! `snapshot save`: the state of a member into a file.
//!
//! It comes into a file beside the one that was asked for, which gets its name when it is whole and on disk. So there is never a part
//! of a snapshot under the name of one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use client::Client;
use tokio::time::Instant;

use super::super::{Action, Command, Invocation, say};
use crate::failure::{Failure, Outcome};
use crate::go;
use crate::output::err_line;
use crate::printer::{json_string, si};

pub(super) static COMMAND: Command = Command {
    name: "save",
    alias: None,
    usage: "<filename>",
    short: "Stores an etcd node backend snapshot to a given file",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(run(invocation))),
};

/// A snapshot ends with a hash of so many bytes, behind pages that fill whole sectors.
const TRAILER: u64 = 32;
const SECTOR: u64 = 512;

async fn run(invocation: Invocation) -> Outcome {
    let [file] = invocation.args() else {
        return Err(Failure::bad_args("snapshot save expects one argument <filename>"));
    };
    let path = PathBuf::from(OsString::from_vec(file.clone()));
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    if client.endpoints().len() > 1 {
        let endpoints = client.endpoints().join(" ");
        return Err(Failure::interrupted(format!(
            "snapshot must be requested to one selected node, not multiple [{endpoints}]"
        )));
    }
    let part = appended(&path, ".part");
    let saving = save(&client, &path, &part);
    let outcome = match session.globals.explicit_timeout() {
        Some(limit) => tokio::time::timeout(limit, saving).await.unwrap_or_else(|_| {
            Err(Failure::interrupted("rpc error: code = DeadlineExceeded desc = context deadline exceeded"))
        }),
        None => saving.await,
    };
    if outcome.is_err() {
        drop(fs::remove_file(&part));
    }
    let version = outcome?;
    say(format!("Snapshot saved at {}", path.display()))?;
    if version.is_empty() { Ok(()) } else { say(format!("Server version {version}")) }
}

/// Returns the version that the server tells.
async fn save(client: &Client, path: &Path, part: &Path) -> Outcome<String> {
    let failed = |what: String| move |error: io::Error| Failure::interrupted(format!("{what} ({error})"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)
        .map_err(failed(format!("could not open {}", part.display())))?;
    let started = Instant::now();
    let endpoint = client.endpoints().join(",");
    info("fetching snapshot", &[("endpoint", &endpoint)]);
    let (bytes, version) = receive(client, &mut file).await?;
    if bytes % SECTOR != TRAILER {
        return Err(Failure::interrupted(format!("sha256 checksum not found [bytes: {bytes}]")));
    }
    file.sync_all().map_err(failed(format!("could not sync {}", part.display())))?;
    let took = go::Duration::from(started.elapsed()).to_string();
    info(
        "fetched snapshot",
        &[("endpoint", &endpoint), ("size", &si(bytes)), ("took", &took), ("etcd-version", &version)],
    );
    let rename = format!("could not rename {} to {}", part.display(), path.display());
    fs::rename(part, path).map_err(failed(rename))?;
    sync_directory(path).map_err(failed(format!("could not sync the directory of {}", path.display())))?;
    info("saved", &[("path", &path.display().to_string())]);
    Ok(version)
}

async fn receive(client: &Client, file: &mut File) -> Outcome<(u64, String)> {
    let mut pieces = client.snapshot().await.map_err(refused)?;
    let (mut bytes, mut version) = (0, String::new());
    while let Some(piece) = pieces.next().await.map_err(refused)? {
        file.write_all(&piece.blob)
            .map_err(|error| Failure::interrupted(format!("could not write snapshot: {error}")))?;
        bytes += piece.blob.len() as u64;
        version = piece.version;
    }
    Ok((bytes, version))
}

/// This command shows what it was answered in the words of gRPC.
fn refused(error: client::Error) -> Failure {
    match error {
        client::Error::Rpc { code, message } => {
            Failure::interrupted(format!("rpc error: code = {code:?} desc = {message}"))
        }
        other => Failure::interrupted(other),
    }
}

/// A name that has been given stays only once its directory is on disk.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn appended(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn info(message: &str, fields: &[(&str, &str)]) {
    let fields = fields.iter().map(|(name, value)| format!(",{}:{}", json_string(name), json_string(value)));
    err_line(format!(
        "{{\"level\":\"info\",\"msg\":{}{}}}",
        json_string(message),
        fields.collect::<String>()
    ));
}
