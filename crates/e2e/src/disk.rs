//! Disks that members have trouble with.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::NamedTempFile;

/// A small disk in memory that one member has to itself, and that can be filled.
///
/// It is mounted in a namespace of its own, which needs no rights where users may have namespaces, and which is gone,
/// with everything in it, when the process that holds it ends; that one ends with the test, however that ends.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    directory: PathBuf,
}

impl SmallDisk {
    /// Makes a disk of so many bytes, seen as `directory` by whoever is run [`inside`](Self::inside).
    ///
    /// # Panics
    /// When the machine lets nobody mount anything.
    pub(crate) fn new(directory: &Path, bytes: u64) -> Self {
        let script = format!("mount -t tmpfs -o size={bytes} tmpfs \"$1\" && echo mounted && exec cat");
        let mut holder = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare can be run");
        let mut said = String::new();
        let stdout = holder.stdout.as_mut().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut said).expect("a pipe can be read");
        assert_eq!(said.trim(), "mounted", "a small disk cannot be mounted");
        Self { holder, directory: directory.to_owned() }
    }

    /// What runs a program where the disk is seen.
    pub(crate) fn inside(&self) -> Vec<String> {
        let holder = self.holder.id().to_string();
        let words = ["nsenter", "--target", &holder, "--user", "--preserve-credentials", "--mount", "--"];
        words.map(str::to_owned).to_vec()
    }

    /// Fills the disk to its last byte.
    ///
    /// # Panics
    /// When something else than a full disk ends it.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("the disk is there");
        for piece in [1 << 20, 4096, 1] {
            let bytes = vec![0; piece];
            let full = loop {
                if let Err(error) = ballast.write_all(&bytes) {
                    break error;
                }
            };
            assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
        }
    }

    /// Makes room again.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    /// Seen from outside, the disk is where its holder sees it.
    fn ballast(&self) -> PathBuf {
        let directory = self.directory.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(directory).join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// A disk that takes a second for each sync, for one process and as long as this exists.
///
/// strace holds the process's system calls up; that takes the right to trace it.
#[derive(Debug)]
pub struct SlowSyncs {
    tracer: Child,
    /// What strace tells of each call.
    told: NamedTempFile,
}

impl SlowSyncs {
    /// Slows the syncs of a process down from now on.
    ///
    /// # Panics
    /// When it cannot be traced.
    pub fn of(process: u32) -> Self {
        let told = NamedTempFile::new().expect("a temporary file can be made");
        let mut tracer = Command::new("strace")
            .args(["--follow-forks", "--trace=fsync,fdatasync", "--output"])
            .arg(told.path())
            .args(["--inject=fsync,fdatasync:delay_enter=1000000", "--attach"])
            .arg(process.to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace can be run");
        let mut said = String::new();
        let stderr = tracer.stderr.as_mut().expect("it is a pipe");
        BufReader::new(stderr).read_line(&mut said).expect("a pipe can be read");
        assert!(said.contains("attached"), "{said}");
        Self { tracer, told }
    }

    /// How many syncs have been held up.
    ///
    /// # Panics
    /// When what strace tells cannot be read.
    pub fn count(&self) -> usize {
        let told = fs::read_to_string(self.told.path()).expect("it is our file");
        told.lines().filter(|line| line.ends_with("(DELAYED)")).count()
    }
}

impl Drop for SlowSyncs {
    fn drop(&mut self) {
        // Asked politely it lets the process go; killed, it might not.
        let pid = self.tracer.id().to_string();
        drop(Command::new("kill").args(["-s", "TERM", &pid]).status());
        drop(self.tracer.wait());
    }
}
