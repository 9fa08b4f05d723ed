use api::LeaseId;
use bytes::Bytes;

use crate::Revision;

/// What a commit has changed, for whoever watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The store's revision now.
    pub revision: i64,
    /// The changes, a request at a time.
    pub changes: Vec<Changes>,
}

/// The changes of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The request's revision.
    pub main: i64,
    /// Its changes in the order they were made.
    pub changes: Vec<Change>,
}

/// One change of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// What happened to it.
    pub kind: ChangeKind,
    /// The `mvccpb.KeyValue` of the event, encoded; after a delete it has only key and mod_revision.
    pub kv: Bytes,
    /// The request whose put began this life of the key, 0 for a delete.
    pub create_revision: i64,
    /// How many puts this life has seen, 0 for a delete.
    pub version: i64,
    /// The lease the key goes with from now on.
    pub lease: LeaseId,
    /// The key's record from before this request, if the key was live then. Both changes of a key that is changed twice in
    /// one request name the same one.
    pub previous: Option<Revision>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It was created or changed.
    #[default]
    Put,
    /// It was deleted.
    Delete,
}
