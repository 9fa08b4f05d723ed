//! What a set of permissions covers: intervals of keys, merged once and then searched.
//!
//! A user's rights are the union of what its roles permit, reading and writing kept apart. The union is kept as intervals
//! that are sorted, disjoint and do not even touch; so whatever the union covers without a gap lies in exactly one of them,
//! and a check is one binary search:
//!
//! ```text
//!   granted   [a, c)  [c, f)  "k"  ["x", ...)        merged   [a, f)  [k, k\0)  [x, ∞)
//!   asked     [b, e)  lies in [a, f): yes            [b, l)   is not in [a, f): no
//! ```

use api::authpb::{Permission, permission::Type};
use bytes::Bytes;

/// What somebody wants to do with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// See them, or that they exist.
    Read,
    /// Change them.
    Write,
}

/// The keys of one or more permissions, read and write apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    read: Intervals,
    write: Intervals,
}

impl Grants {
    /// The union of these permissions.
    pub(crate) fn new<'a>(permissions: impl Iterator<Item = &'a Permission> + Clone) -> Self {
        let of = |access| Intervals::new(permissions.clone().filter(move |one| permits(one, access)));
        Self { read: of(Access::Read), write: of(Access::Write) }
    }

    /// Whether all keys of the range are covered.
    pub(crate) fn cover(&self, access: Access, key: &[u8], range_end: &[u8]) -> bool {
        match access {
            Access::Read => self.read.cover(key, range_end),
            Access::Write => self.write.cover(key, range_end),
        }
    }
}

/// A type that nobody knows permits nothing.
fn permits(permission: &Permission, access: Access) -> bool {
    match Type::try_from(permission.perm_type) {
        Ok(Type::Readwrite) => true,
        Ok(Type::Read) => access == Access::Read,
        Ok(Type::Write) => access == Access::Write,
        Err(_) => false,
    }
}

/// Whether a permission may be stored with this range: a key, and no end, one behind the key, or the mark for all that follow.
pub(crate) fn is_valid_range(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (range_end.is_empty() || is_from_key(range_end) || range_end > key)
}

/// Whether this end of a range means that there is none: a single zero byte.
fn is_from_key(range_end: &[u8]) -> bool {
    range_end == [0]
}

/// Sorted by `begin`; each ends before the next begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Intervals(Box<[Interval]>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Interval {
    begin: Bytes,
    end: End,
}

/// Any end is less than none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// The first key behind the interval.
    Before(Bytes),
    /// There are no keys behind it.
    Never,
}

impl End {
    fn is_behind(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < end,
            Self::Never => true,
        }
    }

    /// Whether everything before `end` is before this end too.
    fn reaches(&self, end: &[u8]) -> bool {
        match self {
            Self::Before(own) => end <= own,
            Self::Never => true,
        }
    }
}

impl Interval {
    fn of(permission: &Permission) -> Self {
        let end = if permission.range_end.is_empty() {
            End::Before([&permission.key[..], &[0]].concat().into())
        } else if is_from_key(&permission.range_end) {
            End::Never
        } else {
            End::Before(permission.range_end.clone())
        };
        Self { begin: permission.key.clone(), end }
    }

    fn is_empty(&self) -> bool {
        !self.end.is_behind(&self.begin)
    }
}

impl Intervals {
    fn new<'a>(permissions: impl Iterator<Item = &'a Permission>) -> Self {
        let mut all: Vec<Interval> =
            permissions.map(Interval::of).filter(|interval| !interval.is_empty()).collect();
        all.sort_unstable();
        let mut merged: Vec<Interval> = Vec::new();
        for next in all {
            match merged.last_mut() {
                Some(last) if last.end.reaches(&next.begin) => {
                    if last.end < next.end {
                        last.end = next.end;
                    }
                }
                _ => merged.push(next),
            }
        }
        Self(merged.into())
    }

    /// A range that ends before it begins holds no key; as in etcd it is covered if an interval holds its key and begins
    /// before its end.
    fn cover(&self, key: &[u8], range_end: &[u8]) -> bool {
        let behind = self.0.partition_point(|interval| interval.begin <= key);
        let Some(found) = behind.checked_sub(1).map(|at| &self.0[at]) else { return false };
        if is_from_key(range_end) {
            return found.end == End::Never;
        }
        found.end.is_behind(key)
            && (range_end.is_empty() || (found.begin < range_end && found.end.reaches(range_end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(kind: Type, key: &str, range_end: &str) -> Permission {
        Permission {
            perm_type: kind.into(),
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
        }
    }

    fn check(granted: &[(&str, &str)], asked: (&str, &str), expected: bool) {
        let permissions: Vec<_> =
            granted.iter().map(|(key, end)| permission(Type::Readwrite, key, end)).collect();
        let grants = Grants::new(permissions.iter());
        for access in [Access::Read, Access::Write] {
            let covered = grants.cover(access, asked.0.as_bytes(), asked.1.as_bytes());
            assert_eq!(covered, expected, "{granted:?} {asked:?}");
        }
    }

    #[test]
    fn a_single_key_covers_itself_and_nothing_beside_it() {
        check(&[("k", "")], ("k", ""), true);
        check(&[("k", "")], ("k", "k\0"), true);
        check(&[("k", "")], ("k", "k\0\0"), false);
        check(&[("k", "")], ("k\0", ""), false);
        check(&[("k", "")], ("j", ""), false);
        check(&[("k", "")], ("k", "\0"), false);
        check(&[], ("k", ""), false);
    }

    #[test]
    fn a_range_covers_from_its_first_key_to_before_its_end() {
        check(&[("b", "d")], ("b", ""), true);
        check(&[("b", "d")], ("c", "d"), true);
        check(&[("b", "d")], ("d", ""), false);
        check(&[("b", "d")], ("a", "c"), false);
        check(&[("b", "d")], ("c", "da"), false);
        check(&[("b", "d")], ("c", "\0"), false);
    }

    #[test]
    fn permissions_that_touch_cover_what_spans_them_and_a_gap_does_not() {
        check(&[("a", "c"), ("c", "e")], ("b", "d"), true);
        check(&[("c", "e"), ("a", "c")], ("a", "e"), true);
        check(&[("a", "c"), ("c\0", "e")], ("b", "d"), false);
        check(&[("a", "c"), ("c\0", "e"), ("c", "")], ("b", "d"), true);
        check(&[("a", "z"), ("b", "c")], ("b", "y"), true);
    }

    #[test]
    fn only_a_permission_without_end_covers_everything_behind_a_key() {
        check(&[("b", "\0")], ("b", "\0"), true);
        check(&[("b", "\0")], ("c", "zzz"), true);
        check(&[("b", "\0")], ("a", "\0"), false);
        check(&[("\0", "\0")], ("\0", "\0"), true);
        check(&[("a", "m"), ("l", "\0")], ("b", "\0"), true);
        check(&[("a", "\u{10ffff}")], ("b", "\0"), false);
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_no_way_around() {
        check(&[("b", "d")], ("x", "a"), false);
        check(&[("b", "d")], ("c", "a"), false);
        check(&[("b", "d")], ("c", "bb"), true);
        check(&[("b", "d")], ("b", "b"), false);
        check(&[("d", "b")], ("c", ""), false);
    }

    #[test]
    fn reading_and_writing_are_apart() {
        let (read, write) = (permission(Type::Read, "a", "c"), permission(Type::Write, "b", "d"));
        let grants = Grants::new([&read, &write].into_iter());
        let may = |access, key: &[u8]| grants.cover(access, key, b"");
        assert!(may(Access::Read, b"a") && !may(Access::Write, b"a"));
        assert!(may(Access::Read, b"b") && may(Access::Write, b"b"));
        assert!(!may(Access::Read, b"c") && may(Access::Write, b"c"));
        let unknown = Permission { perm_type: 9, ..read };
        assert_eq!(Grants::new([&unknown].into_iter()), Grants::default());
    }

    #[test]
    fn a_permission_needs_a_key_and_an_end_behind_it() {
        for (key, end, valid) in [
            ("k", "", true),
            ("k", "l", true),
            ("k", "\0", true),
            ("\0", "\0", true),
            ("", "", false),
            ("", "l", false),
            ("", "\0", false),
            ("k", "k", false),
            ("k", "j", false),
            ("k", "\0\0", false),
        ] {
            assert_eq!(is_valid_range(key.as_bytes(), end.as_bytes()), valid, "{key:?} {end:?}");
        }
    }
}
