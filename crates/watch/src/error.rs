//! What can go wrong in the hub.

/// The result of what a [`Hub`](crate::Hub) does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the hub failed. A client's mistakes are no errors: they are answered on its stream. After an error the hub's watchers
/// may have missed events, so it must not be used any further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The history could not be read.
    #[error(transparent)]
    Store(#[from] mvcc::Error),
}
