use std::path::PathBuf;

/// What an operation on a backend returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a backend could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody else has the directory open.
    #[error("{} is in use by another process, or opened twice by this one", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// What is on disk is not what was written.
    #[error("{} is corrupt: {detail}", path.display())]
    Corrupt {
        /// The file, or the directory where the engine names no file.
        path: PathBuf,
        /// The engine's own words.
        detail: String,
    },
    /// The engine failed; most often the disk did.
    #[error("cannot {operation} {}: {detail}", path.display())]
    Engine {
        /// What was tried.
        operation: &'static str,
        /// The directory.
        path: PathBuf,
        /// The engine's own words.
        detail: String,
    },
    /// An earlier write failed, so nobody knows what is on disk; only opening it again tells.
    #[error("{} refuses to go on after a failed write", path.display())]
    Failed {
        /// The directory.
        path: PathBuf,
    },
}
