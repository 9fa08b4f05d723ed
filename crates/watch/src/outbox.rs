//! Where a stream's responses go.

/// The sending side of one watch stream, as its server provides it.
///
/// The hub calls it from its one thread, tens of thousands of times for one commit, so `push` should be a copy into a buffer
/// and no more; waking whoever empties that buffer belongs into [`flush`](Self::flush).
pub trait Outbox: Send + Sync {
    /// Appends one encoded `WatchResponse`, given in pieces that are to be put one after the other. Never refused: the hub
    /// asks [`has_room`](Self::has_room) before it pushes events, and control messages answer requests one to one (a server
    /// bounds them by not reading requests while there is no room).
    fn push(&self, response: &[&[u8]]);

    /// Whether more events are welcome. A watcher whose stream says no is set aside and caught up from history later.
    fn has_room(&self) -> bool;

    /// The hub has pushed what it had; called once per stream and call of the hub.
    fn flush(&self) {}
}
