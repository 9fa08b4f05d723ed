//! Why a member does not start, or stops.

use std::io;

/// What keeps a member from running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration asks for something that cannot be; the text is etcd's where etcd has one.
    #[error("{0}")]
    Config(String),
    /// Bind, read or write failed; `what` names the operation and the path or address.
    #[error("{what}: {source}")]
    Io {
        /// The operation and what it was done to.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory cannot be used; the text says why and what to do.
    #[error("{0}")]
    DataDir(String),
    /// A certificate, key or other file of TLS cannot be used, or they contradict each other.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The stored state could not be read or written.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// A snapshot or database file of etcd could not be read or written.
    #[error(transparent)]
    Snapshot(#[from] boltdb::Error),
    /// The keyspace could not be opened.
    #[error(transparent)]
    Mvcc(#[from] mvcc::Error),
    /// The leases could not be read.
    #[error(transparent)]
    Lease(#[from] lease::Error),
    /// Users and roles could not be read, or what tokens are made with.
    #[error(transparent)]
    Auth(#[from] ::auth::Error),
    /// The watch hub could not read history; its watchers would miss events.
    #[error(transparent)]
    Watch(#[from] watch::Error),
    /// The member was removed from its cluster, and must not take part any more.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// The member has applied other entries than most of its cluster, and must not serve; the text says what to do.
    #[error("{0}")]
    Diverged(String),
    /// The replicated log failed; the member cannot go on.
    #[error(transparent)]
    Log(raftlog::Error),
}

/// What the operations of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn config(text: impl Into<String>) -> Self {
        Self::Config(text.into())
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }
}

impl From<raftlog::Error> for Error {
    fn from(error: raftlog::Error) -> Self {
        match error {
            raftlog::Error::Removed { .. } => Self::Removed,
            other => Self::Log(other),
        }
    }
}
