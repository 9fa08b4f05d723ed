//! Numbers that name things and must not be mixed up.

use std::fmt;

/// Names a lease. Zero stands for no lease; negative ids are legal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(i64);

impl LeaseId {
    /// No lease.
    pub const NONE: Self = Self(0);

    /// The lease of this number.
    #[must_use]
    pub const fn new(id: i64) -> Self {
        Self(id)
    }

    /// The number, as it goes on the wire.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whether this stands for no lease.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Sixteen lower-case hexadecimal digits, as etcdctl prints leases.
impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Names a member of a cluster. Zero is no member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u64);

impl MemberId {
    /// The member of this number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number, as it goes on the wire.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Lower-case hexadecimal without padding, as etcd prints members.
impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Names a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(u64);

impl ClusterId {
    /// The cluster of this number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number, as it goes on the wire.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Lower-case hexadecimal without padding, as etcd prints clusters.
impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}
