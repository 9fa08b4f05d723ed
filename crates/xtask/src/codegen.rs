//! `cargo xtask codegen`: from `proto/` to `crates/api/src/generated/`, without protoc.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;

/// What clients speak.
const PUBLIC: [&str; 7] = [
    "kv.proto",
    "auth.proto",
    "rpc.proto",
    "lock.proto",
    "election.proto",
    "health.proto",
    "reflection.proto",
];
/// What members speak among themselves.
const INTERNAL: [&str; 1] = ["internal.proto"];

/// Writes the generated code, or with `check` compares it with what is committed.
pub(crate) fn run(root: &Path, check: bool) -> Result<(), String> {
    let committed = root.join("crates/api/src/generated");
    if !check {
        fs::create_dir_all(&committed).map_err(|e| format!("create {}: {e}", committed.display()))?;
        return generate(root, &committed);
    }
    let fresh = root.join("target/codegen-check");
    fs::create_dir_all(&fresh).map_err(|e| format!("create {}: {e}", fresh.display()))?;
    generate(root, &fresh)?;
    let stale: Vec<String> = files(&fresh)?
        .into_iter()
        .filter(|name| fs::read(fresh.join(name)).ok() != fs::read(committed.join(name)).ok())
        .collect();
    if stale.is_empty() {
        Ok(())
    } else {
        Err(format!("generated code is out of date: {}; run `cargo xtask codegen`", stale.join(", ")))
    }
}

fn files(dir: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(dir).map_err(|e| format!("read {}: {e}", dir.display()))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn generate(root: &Path, out: &Path) -> Result<(), String> {
    let proto = root.join("proto");
    let paths = |names: &[&str]| -> Vec<PathBuf> { names.iter().map(|name| proto.join(name)).collect() };
    describe(&proto, &paths(&PUBLIC), &out.join("descriptors.bin"))?;
    let paths = [paths(&PUBLIC), paths(&INTERNAL)].concat();
    let descriptors = protox::compile(&paths, [&proto]).map_err(|e| format!("parse proto/: {e:?}"))?;
    tonic_prost_build::configure()
        .bytes(".")
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .build_transport(false)
        .out_dir(out)
        .compile_fds(descriptors)
        .map_err(|e| format!("generate into {}: {e}", out.display()))
}

/// Writes the descriptors of what clients speak, without the comments: a server that is asked shows them.
fn describe(proto: &Path, paths: &[PathBuf], out: &Path) -> Result<(), String> {
    let mut descriptors = protox::compile(paths, [proto]).map_err(|e| format!("parse proto/: {e:?}"))?;
    descriptors.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(out, descriptors.encode_to_vec()).map_err(|e| format!("write {}: {e}", out.display()))
}
