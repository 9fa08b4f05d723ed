use std::fmt;

/// When a change happened: the request, and the change's place in it.
///
/// `main` counts the requests that changed something, `sub` the changes of one request. Clients see `main` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    main: i64,
    sub: i64,
}

impl Revision {
    /// How long [`to_bytes`](Self::to_bytes) is.
    pub const LEN: usize = 16;

    /// The `sub`-th change of request `main`.
    #[must_use]
    pub const fn new(main: i64, sub: i64) -> Self {
        Self { main, sub }
    }

    /// Which request.
    #[must_use]
    pub const fn main(self) -> i64 {
        self.main
    }

    /// Which of its changes.
    #[must_use]
    pub const fn sub(self) -> i64 {
        self.sub
    }

    /// Bytes that sort as revisions do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sub.to_be_bytes());
        bytes
    }

    /// The revision of which these are the [bytes](Self::to_bytes).
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (main, sub) = bytes.split_at_checked(8)?;
        let revision =
            Self::new(i64::from_be_bytes(main.try_into().ok()?), i64::from_be_bytes(sub.try_into().ok()?));
        (revision.main >= 0 && revision.sub >= 0).then_some(revision)
    }

    /// The key under which etcd stores a put at this revision.
    #[must_use]
    pub fn etcd_key(self) -> [u8; 17] {
        let mut key = [b'_'; 17];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[9..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    /// The key under which etcd stores a delete at this revision.
    #[must_use]
    pub fn etcd_tombstone_key(self) -> [u8; 18] {
        let mut key = [b't'; 18];
        key[..17].copy_from_slice(&self.etcd_key());
        key
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_sort_as_revisions_do() {
        let ascending = [(0, 0), (1, 0), (1, 255), (1, 256), (2, 0), (i64::MAX, i64::MAX)];
        let ascending = ascending.map(|(main, sub)| Revision::new(main, sub));
        assert!(ascending.is_sorted());
        assert!(ascending.map(Revision::to_bytes).is_sorted());
        for revision in ascending {
            assert_eq!(Revision::from_bytes(&revision.to_bytes()), Some(revision));
        }
    }

    #[test]
    fn other_bytes_are_no_revision() {
        for bytes in [&[][..], &[0; 8], &[0; 15], &[0; 17], &[0xff; 16]] {
            assert_eq!(Revision::from_bytes(bytes), None);
        }
    }

    #[test]
    fn etcd_puts_an_underscore_between_and_a_t_behind_deletes() {
        assert_eq!(Revision::new(2, 0).etcd_key(), *b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0");
        assert_eq!(Revision::new(3, 1).etcd_tombstone_key(), *b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\x01t");
    }
}
