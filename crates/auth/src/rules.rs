//! The view that is checked against: all users and roles at one moment, and whether any of it matters.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use api::authpb::{self, Permission};
use arc_swap::ArcSwap;

use crate::permission::{Access, Grants};
use crate::{Error, Result};

/// The user that must exist before authentication can be enabled, and the role that may do everything.
pub(crate) const ROOT: &str = "root";

/// Who asks: a name, and the auth revision at which it was established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub username: Arc<str>,
    /// Older than the current one, it has to be established again. 0 is nobody's.
    pub revision: u64,
}

/// All users, roles and whether authentication is on, as they were at one moment; immutable and shared.
///
/// What a user may do is worked out at the first check and kept until one of its roles, or the user, changes.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(crate) enabled: bool,
    pub(crate) revision: u64,
    pub(crate) users: BTreeMap<Arc<str>, Arc<User>>,
    pub(crate) roles: BTreeMap<Arc<str>, Arc<Role>>,
}

/// A user's record.
pub struct User {
    pub(crate) record: authpb::User,
    /// The union of the permissions of its roles. A role that changes takes every `User` that holds it along.
    grants: OnceLock<Grants>,
}

/// A role's record.
#[derive(Debug)]
pub struct Role {
    pub(crate) record: authpb::Role,
}

/// Hands out the current [`Rules`], to any thread, without a lock.
#[derive(Clone, Debug)]
pub struct Reader(pub(crate) Arc<ArcSwap<Rules>>);

impl Reader {
    /// The rules of this moment.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.0.load_full()
    }
}

impl Rules {
    /// Whether anybody has to say who they are.
    #[must_use]
    pub const fn enabled(&self) -> bool {
        self.enabled
    }

    /// Grows with every change of users and roles, and when authentication is disabled; 1 in the beginning.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether this identity may read or write all keys of the range: `range_end` empty for the one key, a single zero byte
    /// for all from `key` on.
    ///
    /// # Errors
    /// With authentication on: [`Error::UserEmpty`] without an identity, [`Error::AuthOldRevision`] for one established before
    /// the last change, [`Error::PermissionDenied`] else, also for a user that is gone.
    pub fn check(
        &self,
        identity: Option<&Identity>,
        access: Access,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<()> {
        if !self.enabled {
            return Ok(());
        }
        let identity = identity.filter(|identity| identity.revision > 0).ok_or(Error::UserEmpty)?;
        if identity.revision < self.revision {
            return Err(Error::AuthOldRevision);
        }
        let user = self.user(&identity.username).ok_or(Error::PermissionDenied)?;
        if user.is_root() || self.grants(user).cover(access, key, range_end) {
            Ok(())
        } else {
            Err(Error::PermissionDenied)
        }
    }

    /// Whether this identity may do everything. Its revision does not matter.
    ///
    /// # Errors
    /// With authentication on: [`Error::UserEmpty`] without an identity, [`Error::UserNotFound`], or
    /// [`Error::PermissionDenied`] without the role root.
    pub fn check_root(&self, identity: Option<&Identity>) -> Result<()> {
        if !self.enabled || self.identified(identity)?.is_root() {
            Ok(())
        } else {
            Err(Error::PermissionDenied)
        }
    }

    /// Whether this is any user at all. Its revision does not matter.
    ///
    /// # Errors
    /// With authentication on: [`Error::UserEmpty`] without an identity, or [`Error::UserNotFound`].
    pub fn check_user(&self, identity: Option<&Identity>) -> Result<()> {
        if self.enabled { self.identified(identity).map(drop) } else { Ok(()) }
    }

    /// Whether this identity may see the user's roles: they are its own, or it may do everything.
    ///
    /// # Errors
    /// As [`check_root`](Self::check_root).
    pub fn check_user_get(&self, identity: Option<&Identity>, name: &str) -> Result<()> {
        let own = identity.map_or("", |identity| &identity.username) == name;
        if own { Ok(()) } else { self.check_root(identity) }
    }

    /// Whether this identity may see the role's permissions: it holds the role, or may do everything.
    ///
    /// # Errors
    /// As [`check_root`](Self::check_root).
    pub fn check_role_get(&self, identity: Option<&Identity>, role: &str) -> Result<()> {
        let held = identity
            .and_then(|identity| self.user(&identity.username))
            .is_some_and(|user| user.roles().iter().any(|held| held == role));
        if held { Ok(()) } else { self.check_root(identity) }
    }

    /// Whether what was checked before something was read still holds after it, with the rules of after. Else somebody who lost
    /// a right meanwhile would see what was written since.
    ///
    /// # Errors
    /// With authentication on: [`Error::UserEmpty`] without an identity; [`Error::AuthOldRevision`] for any revision but the
    /// current one, so that one from the future may write but not read, as in etcd.
    pub fn check_after_read(&self, identity: Option<&Identity>) -> Result<()> {
        if !self.enabled {
            return Ok(());
        }
        let identity = identity.ok_or(Error::UserEmpty)?;
        if identity.revision == self.revision { Ok(()) } else { Err(Error::AuthOldRevision) }
    }

    /// The user of this name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(AsRef::as_ref)
    }

    /// The role of this name. The role root needs no record to be held.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name).map(AsRef::as_ref)
    }

    /// The names of all users, in byte order.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(AsRef::as_ref)
    }

    /// The names of all roles that have a record, in byte order.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(AsRef::as_ref)
    }

    /// Whether this name, at this auth revision, is a user's.
    fn identified(&self, identity: Option<&Identity>) -> Result<&User> {
        let identity = identity.filter(|identity| !identity.username.is_empty()).ok_or(Error::UserEmpty)?;
        self.user(&identity.username).ok_or(Error::UserNotFound)
    }

    fn grants<'a>(&self, user: &'a User) -> &'a Grants {
        user.grants.get_or_init(|| {
            let roles = user.record.roles.iter().filter_map(|role| self.role(role));
            Grants::new(roles.flat_map(|role| &role.record.key_permission))
        })
    }
}

/// A new store: nobody, nothing, off.
impl Default for Rules {
    fn default() -> Self {
        Self { enabled: false, revision: 1, users: BTreeMap::new(), roles: BTreeMap::new() }
    }
}

impl User {
    pub(crate) const fn new(record: authpb::User) -> Self {
        Self { record, grants: OnceLock::new() }
    }

    /// The roles it holds, in byte order.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.record.roles
    }

    /// The bcrypt hash of its password; empty if no password is right.
    #[must_use]
    pub fn password_hash(&self) -> &[u8] {
        &self.record.password
    }

    /// Whether it was made to sign in by certificate only.
    #[must_use]
    pub fn no_password(&self) -> bool {
        self.record.options.is_some_and(|options| options.no_password)
    }

    /// Whether it may do everything.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.holds(ROOT)
    }

    /// Whether it holds the role.
    pub(crate) fn holds(&self, role: &str) -> bool {
        self.record.roles.iter().any(|held| held == role)
    }
}

impl Role {
    /// What the role permits, as it is stored: by key, and for one key in the order of the grants.
    #[must_use]
    pub fn permissions(&self) -> &[Permission] {
        &self.record.key_permission
    }
}

/// Says nothing of the password, not even its hash.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.record.name)
            .field("roles", &self.record.roles)
            .field("no_password", &self.no_password())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, roles: &[&str]) -> (Arc<str>, Arc<User>) {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let password = "the hash".into();
        let record = authpb::User { name: name.to_owned().into(), password, roles, options: None };
        (name.into(), Arc::new(User::new(record)))
    }

    #[test]
    fn neither_passwords_nor_their_hashes_are_shown() {
        let rules = Rules { users: [user("ann", &["r"])].into(), ..Rules::default() };
        let reader = Reader(Arc::new(ArcSwap::from_pointee(rules.clone())));
        let shown = format!(
            "{rules:?} {reader:?} {:?} {:?}",
            rules.user("ann"),
            rules.user("ann").unwrap().record.name
        );
        assert!(shown.contains("ann") && shown.contains("no_password: false"), "{shown}");
        assert!(!shown.contains("the hash"), "{shown}");
    }

    #[test]
    fn a_role_that_is_held_but_does_not_exist_permits_nothing() {
        let rules = Rules { enabled: true, users: [user("ann", &["gone"])].into(), ..Rules::default() };
        let ann = Identity { username: "ann".into(), revision: 1 };
        let answer = rules.check(Some(&ann), Access::Read, b"k", b"");
        assert!(matches!(answer, Err(Error::PermissionDenied)), "{answer:?}");
    }

    #[test]
    fn root_passes_with_a_role_that_has_no_record() {
        let rules = Rules { enabled: true, users: [user("any", &["root"])].into(), ..Rules::default() };
        let any = Identity { username: "any".into(), revision: 1 };
        rules.check(Some(&any), Access::Write, b"\0", b"\0").unwrap();
        rules.check_root(Some(&any)).unwrap();
        assert!(rules.role(ROOT).is_none());
    }

    #[test]
    fn what_a_user_may_do_is_worked_out_once_and_shared_with_later_rules() {
        let permission = Permission { perm_type: 2, key: "k".into(), range_end: "".into() };
        let record = authpb::Role { name: "r".into(), key_permission: vec![permission] };
        let rules = Rules {
            enabled: true,
            users: [user("ann", &["r"]), user("bob", &[])].into(),
            roles: [("r".into(), Arc::new(Role { record }))].into(),
            ..Rules::default()
        };
        let later = rules.clone();
        let ann = Identity { username: "ann".into(), revision: 1 };
        rules.check(Some(&ann), Access::Write, b"k", b"").unwrap();
        assert!(later.user("ann").unwrap().grants.get().is_some());
        assert!(later.user("bob").unwrap().grants.get().is_none(), "nobody asked");
    }
}
