//! Values made of files, made again when the files change.
//!
//! Whoever wants the value asks each time; that costs a look at each file's inode, size and times. A change that does not work
//! (a certificate was replaced and its key not yet) is said once, and the last good value stays until the next change.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;

/// What tells one state of a file from another; `None` for a file that cannot be looked at.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

fn stamp(path: &PathBuf) -> Stamp {
    let file = fs::metadata(path).ok()?;
    Some((
        file.dev(),
        file.ino(),
        file.size(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ))
}

/// A value that follows its files.
pub(crate) struct Fresh<T> {
    files: Vec<PathBuf>,
    build: Box<dyn Fn() -> Result<T> + Send + Sync>,
    /// Guards the value and the stamps it was built for. Held while files are read, by no more than one handshake.
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Stamp>,
    value: Arc<T>,
}

impl<T> Fresh<T> {
    /// Makes the value for the first time; what is wrong then is an error.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        build: impl Fn() -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        // Looked at before they are read: a change in between is seen the next time.
        let stamps = files.iter().map(stamp).collect();
        let value = Arc::new(build()?);
        Ok(Self { files, build: Box::new(build), state: Mutex::new(State { stamps, value }) })
    }

    /// The value of the files as they are, or of their last good state.
    pub(crate) fn current(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps: Vec<Stamp> = self.files.iter().map(stamp).collect();
        if stamps != state.stamps {
            state.stamps = stamps;
            match (self.build)() {
                Ok(value) => {
                    tracing::info!(files = self.shown(), "read changed TLS files");
                    state.value = Arc::new(value);
                }
                Err(error) => tracing::warn!(
                    error = error.to_string(),
                    files = self.shown(),
                    "changed TLS files cannot be used; going on with the ones read before"
                ),
            }
        }
        Arc::clone(&state.value)
    }

    fn shown(&self) -> String {
        self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(",")
    }
}

impl<T> fmt::Debug for Fresh<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh").field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_change_is_seen_and_a_bad_one_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        fs::write(&path, "1").unwrap();
        let read = path.clone();
        let fresh = Fresh::new(vec![path.clone()], move || {
            fs::read_to_string(&read)
                .ok()
                .and_then(|text| text.parse::<u32>().ok())
                .ok_or_else(|| Error::settings("no number"))
        })
        .unwrap();
        let replace = |text: &str| {
            let next = dir.path().join("next");
            fs::write(&next, text).unwrap();
            fs::rename(&next, &path).unwrap();
        };
        assert_eq!(*fresh.current(), 1);
        replace("2");
        assert_eq!(*fresh.current(), 2);
        replace("x");
        assert_eq!(*fresh.current(), 2);
        fs::remove_file(&path).unwrap();
        assert_eq!(*fresh.current(), 2);
        fs::write(&path, "30").unwrap();
        assert_eq!(*fresh.current(), 30);
    }
}
