//! Which files are the state: it can be replaced as a whole, and a crash leaves the old files or the new ones.
//!
//! The first generation lies in the directory itself, each later one in a subdirectory of its own. One small file names the
//! generation that counts; it is only ever replaced by a rename, so that there is no moment without an answer:
//!
//! ```text
//! state/000012.sst ..          generation 0 (until it is cleared away)
//! state/generation-1/..        generation 1
//! state/GENERATION             "1"; without this file, 0 counts
//! ```
//!
//! [`Incoming`] is a generation in the making. What a crash leaves of one that does not count is removed at the next open.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// Names the generation that counts.
const POINTER: &str = "GENERATION";
/// The pointer before it counts.
const NEXT_POINTER: &str = "GENERATION.tmp";
const PREFIX: &str = "generation-";
/// Files of this kind are never written to again, and may be shared.
const IMMUTABLE: &str = "sst";

/// A step of replacing one generation by the next, for tests that crash there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A file of the new generation is there, and maybe others are not.
    Copied,
    /// All its files are there and synced.
    Synced,
    /// It has been opened, so it is known to be whole.
    Opened,
    /// The next pointer lies beside the old one.
    Pointed,
    /// The new generation counts.
    Switched,
}

/// The files of one generation. They are removed with this if another generation has [replaced](Self::retire) them.
#[derive(Debug)]
pub(super) struct Generation {
    root: PathBuf,
    number: u64,
    retired: AtomicBool,
}

impl Generation {
    /// The generation that counts in a directory, which is made if it is not there.
    pub(super) fn current(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(|error| failure("make", root, &error))?;
        let pointer = root.join(POINTER);
        let number = match fs::read_to_string(&pointer) {
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|_| Error::Corrupt { path: pointer, detail: "it holds no number".to_owned() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(failure("read", &pointer, &error)),
        };
        Ok(Self::new(root, number))
    }

    fn new(root: &Path, number: u64) -> Self {
        Self { root: root.to_owned(), number, retired: false.into() }
    }

    /// Where it lies.
    pub(super) fn dir(&self) -> PathBuf {
        match self.number {
            0 => self.root.clone(),
            number => self.root.join(format!("{PREFIX}{number}")),
        }
    }

    /// Another generation counts now: these files go when nobody reads them any more.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Removes what does not belong to this generation, which is the one that counts and is open.
    pub(super) fn clear_others(&self) -> Result<()> {
        let clear = || {
            remove_if_there(&self.root.join(NEXT_POINTER))?;
            for entry in fs::read_dir(&self.root)? {
                let path = entry?.path();
                if numbered(&path).is_some_and(|number| number != self.number) {
                    fs::remove_dir_all(&path)?;
                }
            }
            if self.number > 0 { remove_files(&self.root) } else { Ok(()) }
        };
        clear().map_err(|error| failure("clear away old files in", &self.root, &error))
    }

    /// Begins the next generation with a copy of the files in `from`.
    pub(super) fn next(&self, from: &Path, at: &mut dyn FnMut(Step)) -> Result<Incoming> {
        let incoming = Incoming { generation: Self::new(&self.root, self.number + 1) };
        let dir = incoming.generation.dir();
        let copy = |at: &mut dyn FnMut(Step)| {
            if dir.exists() {
                fs::remove_dir_all(&dir)?;
            }
            fs::create_dir(&dir)?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                share_or_copy(&entry.path(), &dir.join(entry.file_name()))?;
                at(Step::Copied);
            }
            File::open(&dir)?.sync_all()?;
            at(Step::Synced);
            Ok(())
        };
        copy(at).map_err(|error: io::Error| failure("copy a checkpoint to", &dir, &error))?;
        Ok(incoming)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if *self.retired.get_mut() {
            // What stays here is removed at the next open.
            let removed =
                if self.number == 0 { remove_files(&self.root) } else { fs::remove_dir_all(self.dir()) };
            drop(removed);
        }
    }
}

/// A generation that does not count yet.
#[derive(Debug)]
pub(super) struct Incoming {
    generation: Generation,
}

impl Incoming {
    /// Where it lies.
    pub(super) fn dir(&self) -> PathBuf {
        self.generation.dir()
    }

    /// Makes it the one that counts.
    pub(super) fn switch(self, at: &mut dyn FnMut(Step)) -> Result<Generation> {
        let (next, pointer) = (self.generation.root.join(NEXT_POINTER), self.generation.root.join(POINTER));
        let switch = |at: &mut dyn FnMut(Step)| {
            let mut file = File::create(&next)?;
            writeln!(file, "{}", self.generation.number)?;
            file.sync_all()?;
            at(Step::Pointed);
            fs::rename(&next, &pointer)?;
            File::open(&self.generation.root)?.sync_all()?;
            at(Step::Switched);
            Ok(())
        };
        switch(at).map_err(|error: io::Error| failure("switch", &pointer, &error))?;
        Ok(self.generation)
    }
}

/// The number in a generation's directory name.
fn numbered(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

/// The engine writes on in some of its files, so only those that it never touches again are shared.
fn share_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    let immutable = from.extension().is_some_and(|extension| extension == IMMUTABLE);
    if !immutable || fs::hard_link(from, to).is_err() {
        fs::copy(from, to)?;
    }
    File::open(to)?.sync_all()
}

/// Removes the files of generation 0, and no directory.
fn remove_files(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let kept = entry.file_name().to_str().is_some_and(|name| name == POINTER || name == NEXT_POINTER);
        if !kept && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failure(operation: &'static str, path: &Path, error: &io::Error) -> Error {
    Error::Engine { operation, path: path.to_owned(), detail: error.to_string() }
}
