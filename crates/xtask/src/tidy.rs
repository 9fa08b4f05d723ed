//! House rules that no lint knows, checked over the files that git tracks (and those it would).
//!
//! Each rule is one function from a file to complaints, so that a new rule is a few lines. A rule is here only
//! if breaking it was always a mistake so far; matters of taste stay with the reviewers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of our crates a crate may depend on: the arrows of the architecture.
/// The tests of a crate (`[dev-dependencies]`) are free.
const ARROWS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("auth", &["api", "backend"]),
    ("backend", &[]),
    ("bench", &["api", "client"]),
    ("boltdb", &[]),
    ("client", &["api", "tls"]),
    ("ctl", &["api", "boltdb", "client", "server"]),
    ("lease", &["api", "backend"]),
    ("mvcc", &["api", "backend"]),
    ("raftlog", &[]),
    ("server", &["api", "auth", "backend", "boltdb", "client", "lease", "mvcc", "raftlog", "tls", "watch"]),
    ("smoke", &[]),
    ("tls", &[]),
    ("watch", &["api", "mvcc"]),
    ("xtask", &[]),
];

/// Crates that only some of ours may name, because an upgrade must touch few places.
const CONFINED: &[(&str, &[&str])] = &[
    ("openraft", &["raftlog"]),
    ("rocksdb", &["raftlog", "backend"]),
    ("tonic", &["api", "bench", "client", "ctl", "e2e", "raftlog", "server", "sim"]),
    ("tokio", &["bench", "client", "ctl", "e2e", "raftlog", "server", "sim", "tls", "examples"]),
];

/// Our crates by the names they are used under inside the workspace.
const OURS: &[&str] = &[
    "api", "auth", "backend", "boltdb", "client", "lease", "mvcc", "raftlog", "server", "sim", "tls", "watch",
];

/// A file of the project and its text.
struct File {
    /// Relative to the workspace's root, with `/`.
    path: String,
    text: String,
}

impl File {
    /// The crate that the file belongs to, by its folder: `crates/mvcc/src/lib.rs` is mvcc's.
    fn crate_name(&self) -> Option<&str> {
        match self.path.strip_prefix("crates/") {
            Some(rest) => rest.split('/').next(),
            None => self.path.starts_with("examples/").then_some("examples"),
        }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs") && !self.path.contains("/generated/")
    }

    fn complain(&self, line: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }
}

/// Checks every rule and returns all complaints as one message.
pub(crate) fn run() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = read_tracked(&root)?;
    let mut complaints = Vec::new();
    for file in &files {
        whitespace(file, &mut complaints);
        if file.is_rust() {
            opens_with_its_purpose(file, &mut complaints);
            no_postponed_tests(file, &mut complaints);
            no_sleeping_tests(file, &mut complaints);
        }
        if file.path.ends_with("/Cargo.toml") {
            versions_in_one_list(file, &mut complaints);
            arrows(file, &mut complaints);
            confined(file, &mut complaints);
            lints_inherited(file, &mut complaints);
        }
    }
    readme_per_crate(&files, &mut complaints);
    if complaints.is_empty() {
        return Ok(());
    }
    complaints.sort();
    Err(format!("{} house rules broken:\n{}", complaints.len(), complaints.join("\n")))
}

/// All text files that git tracks, or would if one added everything.
fn read_tracked(root: &Path) -> Result<Vec<File>, String> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("git ls-files: {error}"))?;
    if !listing.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listing.stderr).trim()));
    }
    let mut files = Vec::new();
    for path in String::from_utf8_lossy(&listing.stdout).lines() {
        let full: PathBuf = root.join(path);
        // A file that is tracked but deleted here is not ours to complain about.
        let Ok(bytes) = fs::read(&full) else { continue };
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File { path: path.to_owned(), text });
        }
    }
    Ok(files)
}

fn whitespace(file: &File, complaints: &mut Vec<String>) {
    // Golden files hold what a program printed, blanks and all; seeds of fuzzers are bytes.
    if ["/generated/", "/scripts/", "/golden/", "/corpus/"].iter().any(|place| file.path.contains(place)) {
        return;
    }
    for (number, line) in file.text.lines().enumerate() {
        if line.ends_with([' ', '\t']) {
            complaints.push(file.complain(number, "blanks at the end of the line"));
        }
        if file.path.ends_with(".rs") && line.contains('\t') {
            complaints.push(file.complain(number, "a tab"));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        complaints.push(file.complain(file.text.lines().count() - 1, "no newline at the end of the file"));
    }
}

/// A module says what it is for before anything else, unless it is named after its one type, which says it.
fn opens_with_its_purpose(file: &File, complaints: &mut Vec<String>) {
    let is_source = file.path.contains("/src/") || file.path.contains("/tests/");
    if !is_source || file.text.starts_with("//!") || file.path.ends_with("/tests.rs") {
        return;
    }
    let stem = file.path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or_default();
    let type_name = stem.replace('_', "");
    let named_after_it = file.text.lines().any(|line| {
        let declares = ["struct ", "enum ", "trait "].iter().find_map(|kind| line.split_once(kind));
        declares.is_some_and(|(before, name)| {
            before.starts_with("pub") && name.to_lowercase().contains(&type_name)
        })
    });
    if !named_after_it {
        complaints.push(file.complain(0, "a file opens with `//!` and what it is for"));
    }
}

fn no_postponed_tests(file: &File, complaints: &mut Vec<String>) {
    let ignore = ["#[", "ignore"].concat();
    for (number, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with(&ignore) {
            complaints.push(file.complain(number, "no ignored tests: assert today's behaviour and say why"));
        }
    }
}

/// Tests wait for conditions. A loop that polls a process from outside may pause between two looks; it says
/// so with the word `poll` in the line.
fn no_sleeping_tests(file: &File, complaints: &mut Vec<String>) {
    if file.text.contains("start_paused = true") {
        // Time is the test's own there, and passes when the test says so.
        return;
    }
    let sleep = ["sleep", "("].concat();
    let mut in_tests = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    for (number, line) in file.text.lines().enumerate() {
        in_tests |= line.starts_with("mod tests {");
        let sleeps = line.contains(&format!("thread::{sleep}")) || line.contains(&format!("time::{sleep}"));
        if in_tests && sleeps && !line.contains("poll") {
            complaints.push(file.complain(number, "a sleeping test: wait for a condition"));
        }
    }
}

/// The dependency lines of a manifest: table, name, the rest of the line.
fn dependencies(file: &File) -> Vec<(usize, &str, &str, &str)> {
    let mut table = "";
    let mut found = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        if let Some(header) = line.strip_prefix('[') {
            table = header.trim_end_matches(']');
        } else if table.ends_with("dependencies") && !line.trim_start().starts_with('#') {
            let name_end = line.find(['.', ' ', '=']).unwrap_or(0);
            if name_end > 0 {
                found.push((number, table, &line[..name_end], &line[name_end..]));
            }
        }
    }
    found
}

/// Versions stand in the root manifest and nowhere else.
fn versions_in_one_list(file: &File, complaints: &mut Vec<String>) {
    for (number, table, name, rest) in dependencies(file) {
        // A workspace of its own (`fuzz/`) has its own list.
        if table == "workspace.dependencies" {
            continue;
        }
        let local = rest.contains("path =");
        if !rest.replace(' ', "").contains("workspace=true") && !local {
            let what =
                format!("{name}: give the version in the workspace's list, and `workspace = true` here");
            complaints.push(file.complain(number, &what));
        }
    }
}

fn arrows(file: &File, complaints: &mut Vec<String>) {
    let Some(name) = file.crate_name() else { return };
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else { return };
    for (number, table, dependency, _) in dependencies(file) {
        let checked = !table.contains("dev-") && OURS.contains(&dependency);
        if checked && !allowed.contains(&dependency) {
            complaints.push(file.complain(number, &format!("{name} must not depend on {dependency}")));
        }
    }
}

fn confined(file: &File, complaints: &mut Vec<String>) {
    let Some(name) = file.crate_name() else { return };
    for (number, table, dependency, _) in dependencies(file) {
        let Some((_, homes)) = CONFINED.iter().find(|(held, _)| *held == dependency) else { continue };
        if !table.contains("dev-") && !homes.contains(&name) {
            complaints.push(file.complain(number, &format!("{dependency} is not for {name}")));
        }
    }
}

fn lints_inherited(file: &File, complaints: &mut Vec<String>) {
    if !file.text.contains("[lints]\nworkspace = true") {
        complaints.push(file.complain(0, "the manifest lacks `[lints] workspace = true`"));
    }
}

fn readme_per_crate(files: &[File], complaints: &mut Vec<String>) {
    for manifest in files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let readme = manifest.path.replace("Cargo.toml", "README.md");
        if !files.iter().any(|file| file.path == readme) {
            complaints.push(format!("{readme}: missing; say in five lines what the crate is and is not"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&File, &mut Vec<String>), path: &str, text: &str) -> usize {
        let mut complaints = Vec::new();
        rule(&File { path: path.to_owned(), text: text.to_owned() }, &mut complaints);
        complaints.len()
    }

    #[test]
    fn an_arrow_against_the_architecture_is_found() {
        let text = "[dependencies]\nbackend.workspace = true\nraftlog = { workspace = true }\n";
        assert_eq!(check(arrows, "crates/mvcc/Cargo.toml", text), 1);
        assert_eq!(check(arrows, "crates/server/Cargo.toml", text), 0);
        let text = "[dev-dependencies]\nraftlog.workspace = true\n";
        assert_eq!(check(arrows, "crates/mvcc/Cargo.toml", text), 0);
    }

    #[test]
    fn a_file_without_a_purpose_is_found_unless_its_type_tells() {
        assert_eq!(check(opens_with_its_purpose, "crates/x/src/write_tx.rs", "fn a() {}\n"), 1);
        assert_eq!(check(opens_with_its_purpose, "crates/x/src/write_tx.rs", "pub struct WriteTx {\n"), 0);
        assert_eq!(check(opens_with_its_purpose, "crates/x/src/write_tx.rs", "//! Writes.\nfn a() {}\n"), 0);
    }

    #[test]
    fn a_version_outside_the_list_is_found() {
        assert_eq!(check(versions_in_one_list, "crates/x/Cargo.toml", "[dependencies]\nbytes = \"1\"\n"), 1);
        let text = "[workspace.dependencies]\nbytes = \"1\"\n";
        assert_eq!(check(versions_in_one_list, "fuzz/Cargo.toml", text), 0);
        let text = "[dependencies]\nbytes.workspace = true\ntokio = { workspace = true, features = [] }\n";
        assert_eq!(check(versions_in_one_list, "crates/x/Cargo.toml", text), 0);
    }

    #[test]
    fn a_confined_crate_is_found_outside_its_home() {
        let text = "[dependencies]\nopenraft.workspace = true\n";
        assert_eq!(check(confined, "crates/server/Cargo.toml", text), 1);
        assert_eq!(check(confined, "crates/raftlog/Cargo.toml", text), 0);
    }

    #[test]
    fn a_sleeping_test_is_found_and_a_sleeping_program_is_not() {
        let line = ["    std::thread::sleep", "(pause);\n"].concat();
        assert_eq!(check(no_sleeping_tests, "crates/x/tests/a.rs", &line), 1);
        assert_eq!(check(no_sleeping_tests, "crates/x/src/a.rs", &line), 0);
        let inline = ["mod tests {\n", &line].concat();
        assert_eq!(check(no_sleeping_tests, "crates/x/src/a.rs", &inline), 1);
    }
}
