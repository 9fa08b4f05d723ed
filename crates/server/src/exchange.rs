//! Moving data out to etcd's own files, and in from them.
//!
//! A snapshot of etcd is its database file with a hash behind it. What lies in its buckets and how, only this module and the owners
//! of the tables know; the format of the file is `boltdb`'s.
//!
//! | bucket | what a record is | where it lies here |
//! |---|---|---|
//! | `alarm` | an encoded `AlarmMember`, no value | `Alarm`, with a key of our own |
//! | `auth`, `authUsers`, `authRoles` | as etcd keeps them | the same, record for record |
//! | `cluster` | the cluster's version | left out, see below |
//! | `key` | a change | `Rev`, by [`mvcc::Export`] and [`mvcc::Import`] |
//! | `lease` | a lease | the same, record for record |
//! | `members`, `members_removed` | JSON under the id in hexadecimal digits | `Member`, `RemovedMember` |
//! | `meta` | position in the log, compactions, the storage's version | `Meta` |
//!
//! The *cluster's version* is left out on both ways: who starts from a snapshot is a new cluster, which agrees on a version of its own,
//! and an etcd older than the recorded version would refuse to start. For the same reason the storage's version is told as
//! 3.6.0: between that and 3.7.0 nothing differs, 3.6 and 3.7 take it, and older ones do not look.

mod export;
mod restore;

pub(crate) use export::{STORAGE_VERSION, write};
pub use restore::Restore;

const ALARM: &[u8] = b"alarm";
const AUTH: &[u8] = b"auth";
const AUTH_ROLES: &[u8] = b"authRoles";
const AUTH_USERS: &[u8] = b"authUsers";
const CLUSTER: &[u8] = b"cluster";
const KEY: &[u8] = b"key";
const LEASE: &[u8] = b"lease";
const MEMBERS: &[u8] = b"members";
const MEMBERS_REMOVED: &[u8] = b"members_removed";
const META: &[u8] = b"meta";

/// Records of `meta`.
const SCHEDULED_COMPACT_REV: &[u8] = b"scheduledCompactRev";
const FINISHED_COMPACT_REV: &[u8] = b"finishedCompactRev";
