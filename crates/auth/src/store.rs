//! The store: users and roles as the log makes them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::authpb;
use api::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserDeleteRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
};
use arc_swap::ArcSwap;
use backend::{Backend, WriteTx};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;

use crate::permission::is_valid_range;
use crate::record;
use crate::rules::{ROOT, Reader, Role, Rules, User};
use crate::{Error, Result};

/// All users and roles of one member, and whether authentication is on.
///
/// Commands come from the one applier, in log order, and have the same outcome on every member: an effect, or an error and no
/// effect. Records go into the caller's [`WriteTx`]; the new [`Rules`] show to every [`Reader`] at once, before that is
/// committed. Nobody's rights are checked here. A change of one user or role copies the list of all, but none of the others.
#[derive(Debug)]
pub struct AuthStore {
    rules: Arc<ArcSwap<Rules>>,
    /// Held while a command makes new rules out of the old ones; guards nothing else.
    changing: Mutex<()>,
}

/// What a command did.
enum Outcome {
    /// Users or roles are not what they were: the revision grows.
    Changed,
    /// All is as it was wanted already.
    Same,
}

impl AuthStore {
    /// Reads users and roles back.
    ///
    /// # Errors
    /// The backend failed, or holds something that is no user or role.
    pub fn open(backend: &dyn Backend) -> Result<Self> {
        let rules = Arc::new(ArcSwap::from_pointee(record::load(backend)?));
        Ok(Self { rules, changing: Mutex::new(()) })
    }

    /// Starts over from what the backend holds now, as after installing a snapshot.
    ///
    /// # Errors
    /// As [`AuthStore::open`]; nothing has changed then.
    pub fn reset(&self, backend: &dyn Backend) -> Result<()> {
        let rules = record::load(backend)?;
        let _changing = self.lock();
        self.rules.store(Arc::new(rules));
        Ok(())
    }

    /// The rules of this moment.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// A handle to the rules of any moment, for those who check.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.rules))
    }

    /// Turns authentication on; if it is on already, nothing happens. The revision stays what it is.
    ///
    /// # Errors
    /// [`Error::RootUserNotExist`]; [`Error::RootRoleNotExist`] when the user root does not hold the role root.
    pub fn enable(&self, tx: &mut WriteTx) -> Result<()> {
        self.change(tx, |rules, tx| {
            if !rules.enabled {
                let root = rules.user(ROOT).ok_or(Error::RootUserNotExist)?;
                if !root.is_root() {
                    return Err(Error::RootRoleNotExist);
                }
                rules.enabled = true;
                record::save_enabled(tx, true);
                record::save_revision(tx, rules.revision);
            }
            Ok(Outcome::Same)
        })
    }

    /// Turns authentication off; if it is off already, nothing happens. The caller drops all simple tokens.
    ///
    /// # Errors
    /// None today.
    pub fn disable(&self, tx: &mut WriteTx) -> Result<()> {
        self.change(tx, |rules, tx| {
            if !rules.enabled {
                return Ok(Outcome::Same);
            }
            rules.enabled = false;
            record::save_enabled(tx, false);
            Ok(Outcome::Changed)
        })
    }

    /// Adds a user. Its password comes hashed, in base64, for hashing here would differ from member to member.
    ///
    /// # Errors
    /// [`Error::UserEmpty`]; [`Error::UserAlreadyExist`]; [`Error::NoPasswordUser`] for a hash that is not base64.
    pub fn user_add(&self, tx: &mut WriteTx, request: &AuthUserAddRequest) -> Result<()> {
        self.change(tx, |rules, tx| {
            if request.name.is_empty() {
                return Err(Error::UserEmpty);
            }
            if rules.user(&request.name).is_some() {
                return Err(Error::UserAlreadyExist);
            }
            let options = request.options.unwrap_or_default();
            let password =
                if options.no_password { Bytes::new() } else { decode_hash(&request.hashed_password)? };
            let name = Bytes::copy_from_slice(request.name.as_bytes());
            let user = authpb::User { name, password, roles: Vec::new(), options: Some(options) };
            rules.put_user(tx, &request.name, user);
            Ok(Outcome::Changed)
        })
    }

    /// Removes a user. The caller drops its simple tokens.
    ///
    /// # Errors
    /// [`Error::InvalidAuthMgmt`] for root while authentication is on; [`Error::UserNotFound`].
    pub fn user_delete(&self, tx: &mut WriteTx, request: &AuthUserDeleteRequest) -> Result<()> {
        self.change(tx, |rules, tx| {
            if rules.enabled && request.name == ROOT {
                return Err(Error::InvalidAuthMgmt);
            }
            rules.users.remove(request.name.as_str()).ok_or(Error::UserNotFound)?;
            record::delete_user(tx, &request.name);
            Ok(Outcome::Changed)
        })
    }

    /// Gives a user another password, hashed as in [`user_add`](Self::user_add); without a hash no password is right any more.
    /// One who is to have none stays so. The caller drops the user's simple tokens.
    ///
    /// # Errors
    /// [`Error::UserNotFound`]; [`Error::NoPasswordUser`] for a hash that is not base64.
    pub fn user_change_password(
        &self,
        tx: &mut WriteTx,
        request: &AuthUserChangePasswordRequest,
    ) -> Result<()> {
        self.change(tx, |rules, tx| {
            let user = rules.user(&request.name).ok_or(Error::UserNotFound)?;
            let password =
                if user.no_password() { Bytes::new() } else { decode_hash(&request.hashed_password)? };
            let user = authpb::User { password, ..user.record.clone() };
            rules.put_user(tx, &request.name, user);
            Ok(Outcome::Changed)
        })
    }

    /// Gives a user a role; if it holds the role already, nothing happens.
    ///
    /// # Errors
    /// [`Error::UserNotFound`]; [`Error::RoleNotFound`], which root never is.
    pub fn user_grant_role(&self, tx: &mut WriteTx, request: &AuthUserGrantRoleRequest) -> Result<()> {
        self.change(tx, |rules, tx| {
            let user = rules.user(&request.user).ok_or(Error::UserNotFound)?;
            if request.role != ROOT && rules.role(&request.role).is_none() {
                return Err(Error::RoleNotFound);
            }
            if user.holds(&request.role) {
                return Ok(Outcome::Same);
            }
            let mut user = user.record.clone();
            user.roles.push(request.role.clone());
            user.roles.sort_unstable();
            rules.put_user(tx, &request.user, user);
            Ok(Outcome::Changed)
        })
    }

    /// Takes a role from a user.
    ///
    /// # Errors
    /// [`Error::InvalidAuthMgmt`] for root's root while authentication is on; [`Error::UserNotFound`];
    /// [`Error::RoleNotGranted`].
    pub fn user_revoke_role(&self, tx: &mut WriteTx, request: &AuthUserRevokeRoleRequest) -> Result<()> {
        self.change(tx, |rules, tx| {
            if rules.enabled && request.name == ROOT && request.role == ROOT {
                return Err(Error::InvalidAuthMgmt);
            }
            let user = rules.user(&request.name).ok_or(Error::UserNotFound)?;
            if !user.holds(&request.role) {
                return Err(Error::RoleNotGranted);
            }
            rules.put_user(tx, &request.name, user.without(&request.role));
            Ok(Outcome::Changed)
        })
    }

    /// Adds a role, which permits nothing yet.
    ///
    /// # Errors
    /// [`Error::RoleEmpty`]; [`Error::RoleAlreadyExist`].
    pub fn role_add(&self, tx: &mut WriteTx, request: &AuthRoleAddRequest) -> Result<()> {
        self.change(tx, |rules, tx| {
            if request.name.is_empty() {
                return Err(Error::RoleEmpty);
            }
            if rules.role(&request.name).is_some() {
                return Err(Error::RoleAlreadyExist);
            }
            let name = Bytes::copy_from_slice(request.name.as_bytes());
            rules.put_role(tx, &request.name, authpb::Role { name, key_permission: Vec::new() });
            Ok(Outcome::Changed)
        })
    }

    /// Removes a role, also from all who hold it.
    ///
    /// # Errors
    /// [`Error::InvalidAuthMgmt`] for root while authentication is on; [`Error::RoleNotFound`].
    pub fn role_delete(&self, tx: &mut WriteTx, request: &AuthRoleDeleteRequest) -> Result<()> {
        self.change(tx, |rules, tx| {
            if rules.enabled && request.role == ROOT {
                return Err(Error::InvalidAuthMgmt);
            }
            rules.roles.remove(request.role.as_str()).ok_or(Error::RoleNotFound)?;
            record::delete_role(tx, &request.role);
            for user in rules.users.values_mut().filter(|user| user.holds(&request.role)) {
                let record = user.without(&request.role);
                record::save_user(tx, &record);
                *user = Arc::new(User::new(record));
            }
            Ok(Outcome::Changed)
        })
    }

    /// Permits a role something. The first permission with the same key, if it has the same end too, changes its type; else
    /// there is one more.
    ///
    /// # Errors
    /// [`Error::PermissionNotGiven`]; [`Error::InvalidAuthMgmt`] for a range that makes no sense; [`Error::RoleNotFound`].
    pub fn role_grant_permission(
        &self,
        tx: &mut WriteTx,
        request: &AuthRoleGrantPermissionRequest,
    ) -> Result<()> {
        self.change(tx, |rules, tx| {
            let granted = request.perm.as_ref().ok_or(Error::PermissionNotGiven)?;
            if !is_valid_range(&granted.key, &granted.range_end) {
                return Err(Error::InvalidAuthMgmt);
            }
            let mut role = rules.role(&request.name).ok_or(Error::RoleNotFound)?.record.clone();
            let all = &mut role.key_permission;
            let first = all.partition_point(|one| one.key < granted.key);
            match all.get_mut(first) {
                Some(one) if one.key == granted.key && one.range_end == granted.range_end => {
                    one.perm_type = granted.perm_type;
                }
                _ => {
                    let behind = all.partition_point(|one| one.key <= granted.key);
                    all.insert(behind, granted.clone());
                }
            }
            rules.put_role(tx, &request.name, role);
            Ok(Outcome::Changed)
        })
    }

    /// Takes a permission from a role: all of exactly this key and end.
    ///
    /// # Errors
    /// [`Error::RoleNotFound`]; [`Error::PermissionNotGranted`].
    pub fn role_revoke_permission(
        &self,
        tx: &mut WriteTx,
        request: &AuthRoleRevokePermissionRequest,
    ) -> Result<()> {
        self.change(tx, |rules, tx| {
            let mut role = rules.role(&request.role).ok_or(Error::RoleNotFound)?.record.clone();
            let before = role.key_permission.len();
            role.key_permission.retain(|one| one.key != request.key || one.range_end != request.range_end);
            if role.key_permission.len() == before {
                return Err(Error::PermissionNotGranted);
            }
            rules.put_role(tx, &request.role, role);
            Ok(Outcome::Changed)
        })
    }

    /// Makes new rules out of the old ones, and shows them if there was no error. A command looks before it writes, so that an
    /// error leaves no record behind.
    fn change(
        &self,
        tx: &mut WriteTx,
        command: impl FnOnce(&mut Rules, &mut WriteTx) -> Result<Outcome>,
    ) -> Result<()> {
        let _changing = self.lock();
        let mut rules = Rules::clone(&self.rules.load());
        if let Outcome::Changed = command(&mut rules, tx)? {
            rules.revision += 1;
            record::save_revision(tx, rules.revision);
        }
        self.rules.store(Arc::new(rules));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rules {
    fn put_user(&mut self, tx: &mut WriteTx, name: &str, record: authpb::User) {
        record::save_user(tx, &record);
        self.users.insert(name.into(), Arc::new(User::new(record)));
    }

    /// Whoever holds the role has its rights worked out anew.
    fn put_role(&mut self, tx: &mut WriteTx, name: &str, record: authpb::Role) {
        record::save_role(tx, &record);
        self.roles.insert(name.into(), Arc::new(Role { record }));
        for user in self.users.values_mut().filter(|user| user.holds(name)) {
            *user = Arc::new(User::new(user.record.clone()));
        }
    }
}

impl User {
    fn without(&self, role: &str) -> authpb::User {
        let mut record = self.record.clone();
        record.roles.retain(|held| held != role);
        record
    }
}

fn decode_hash(hash: &str) -> Result<Bytes> {
    BASE64_STANDARD.decode(hash).map(Bytes::from).map_err(|_| Error::NoPasswordUser)
}
