use backend::Table;

/// What an operation on a keyspace returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a keyspace could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The revision has been compacted away.
    #[error("the required revision has been compacted")]
    Compacted,
    /// The revision has not happened yet.
    #[error("the required revision is a future revision")]
    FutureRevision,
    /// What is stored makes no sense.
    #[error("table {} is corrupt at {key}: {detail}", table.name())]
    Corrupt {
        /// The table.
        table: Table,
        /// The record's key, as hexadecimal digits.
        key: String,
        /// What is wrong.
        detail: String,
    },
    /// A promise of this code to itself is broken.
    #[error("a broken invariant: {0}")]
    Invariant(String),
    /// An earlier write failed; only opening the store again tells what is stored.
    #[error("the store refuses to go on after a failed write")]
    Failed,
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] backend::Error),
}

impl Error {
    /// A stored message that does not decode.
    #[must_use]
    pub fn undecodable(error: &prost::DecodeError) -> Self {
        Self::corrupt(Table::Rev, &[], error.to_string())
    }

    /// A promise that somebody relied on and that does not hold.
    #[must_use]
    pub fn invariant(what: impl Into<String>) -> Self {
        Self::Invariant(what.into())
    }

    pub(crate) fn corrupt(table: Table, key: &[u8], detail: impl Into<String>) -> Self {
        let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::Corrupt { table, key, detail: detail.into() }
    }
}
