//! Where the programs under test are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Our two programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The server, `etcd-rs`.
    pub server: PathBuf,
    /// The command-line client, `etcd-rs-ctl`.
    pub ctl: PathBuf,
}

/// Our programs, built by cargo once per test process so that they are never older than the sources.
/// `ETCD_RS_BIN=DIR` names a directory that holds them ready-made instead.
///
/// # Panics
/// When they cannot be built.
pub fn programs() -> &'static Programs {
    static FOUND: OnceLock<Programs> = OnceLock::new();
    FOUND.get_or_init(|| {
        let directory = env::var_os("ETCD_RS_BIN").map_or_else(build, |directory| {
            let directory = PathBuf::from(directory);
            if directory.is_absolute() { directory } else { workspace().join(directory) }
        });
        let found = Programs { server: directory.join("etcd-rs"), ctl: directory.join("etcd-rs-ctl") };
        for program in [&found.server, &found.ctl] {
            assert!(program.exists(), "{} is missing", program.display());
        }
        found
    })
}

/// Builds both in the profile of this test and returns the directory they are in.
fn build() -> PathBuf {
    // target/PROFILE/deps/TEST or, for a doc test, somewhere else altogether.
    let test = env::current_exe().expect("a running program has a path");
    let profile = test.parent().and_then(Path::parent).filter(|_| test.to_string_lossy().contains("/deps/"));
    let release = profile.is_some_and(|directory| directory.ends_with("release"));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args(["build", "--quiet", "--locked"]);
    cargo.args(["--package", "etcd-rs-server", "--package", "etcd-rs-ctl"]);
    if release {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo runs this test, so it can be run");
    assert!(status.success(), "building etcd-rs and etcd-rs-ctl failed");
    profile.map_or_else(|| workspace().join("target/debug"), Path::to_owned)
}

/// The directory of a real `etcd` and `etcdctl`: `$ETCD_REAL`, or what `scripts/real-etcd` unpacks.
///
/// # Panics
/// When there is none; comparing with it is half of what these tests are for, so none is skipped.
pub fn real_etcd() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let output =
            Command::new(workspace().join("scripts/real-etcd")).output().expect("the script can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/real-etcd: {said}");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
