//! Why TLS cannot be set up as it was asked for.

use std::io;
use std::path::PathBuf;

/// What is wrong with settings or with the files they name; the texts are etcd's where etcd has one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings contradict each other, or ask for something unknown.
    #[error("{0}")]
    Settings(String),
    /// A file cannot be read or written.
    #[error("open {}: {}", path.display(), plain(source))]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        what: String,
    },
}

/// What the operations of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn settings(text: impl Into<String>) -> Self {
        Self::Settings(text.into())
    }
}

/// The commonest failures as Go prints them, for scripts that look for them.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
