//! What can be wrong with a file, or with what is to be written into one.

use std::{fmt, io};

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file could not be read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read or written.
    Io(io::Error),
    /// This is no database: neither of its first pages says so.
    Invalid,
    /// The file is shorter than it says.
    Truncated {
        /// How many bytes there are.
        len: u64,
        /// How many there must be.
        needed: u64,
    },
    /// A page makes no sense.
    Corrupt {
        /// The page's id.
        page: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// A record to be written does not come behind the one before it.
    Order,
    /// A key to be written is empty or longer than [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX), or a value longer than
    /// [`VALUE_BYTES_MAX`](crate::VALUE_BYTES_MAX).
    Size,
    /// What was written is not what had been measured.
    Shape,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Invalid => f.write_str("invalid database"),
            Self::Truncated { len, needed } => {
                write!(f, "the database is truncated: {len} bytes of {needed}")
            }
            Self::Corrupt { page, detail } => write!(f, "page {page}: {detail}"),
            Self::Order => f.write_str("keys do not ascend"),
            Self::Size => f.write_str("a key or a value is too long, or a key is empty"),
            Self::Shape => f.write_str("the records are not those that were measured"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Error {
    pub(crate) fn corrupt(page: u64, detail: impl Into<String>) -> Self {
        Self::Corrupt { page, detail: detail.into() }
    }
}
