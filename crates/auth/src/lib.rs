//! Users, roles and what they may do; passwords and tokens.
//!
//! The rules are few. A user holds roles, a role permits reading or writing ranges of keys, a user's rights are the union of all that;
//! whoever holds the role `root` may do everything. While authentication is off, everybody may. Each change of users and
//! roles counts the *auth revision* up, and an [`Identity`] established before that is too old to be believed.
//!
//! - [`AuthStore`] is the side of the log: each command changes users and roles on every member alike, and their records go
//!   into the transaction that the caller commits.
//! - [`Rules`] are what is checked against, an immutable view that any [`Reader`] takes without a lock. Whoever applies an entry
//!   checks the rules of that moment; whoever reads locally checks once before and [once after](Rules::check_after_read).
//! - [`Tokens`] tell whose request this is, and [`Passwords`] whether somebody may have a token. Both keep secrets, so neither shows
//!   any in its `Debug` form.
//!
//! Time comes in as an argument. Two things here do more than compute: [`Passwords`] has threads, because bcrypt is slow on
//! purpose, and [`Tokens`] reads the key files of JWTs. Random numbers (salts, tokens, the key of the memory of passwords) are
//! the operating system's; they are drawn before something is proposed, never while it is applied.
//!
//! ```
//! use api::authpb::{Permission, permission::Type};
//! use api::etcdserverpb::{AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest, AuthUserGrantRoleRequest};
//! use backend::{Backend, MemBackend};
//! use etcd_rs_auth::{Access, AuthStore, Error, Identity};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let backend = MemBackend::new();
//! let store = AuthStore::open(&backend)?;
//! let mut tx = backend.begin();
//! for name in ["root", "ann"] {
//!     store.user_add(&mut tx, &AuthUserAddRequest { name: name.into(), ..Default::default() })?;
//!     store.role_add(&mut tx, &AuthRoleAddRequest { name: name.into() })?;
//!     store.user_grant_role(&mut tx, &AuthUserGrantRoleRequest { user: name.into(), role: name.into() })?;
//! }
//! let perm = Some(Permission { perm_type: Type::Read.into(), key: "a".into(), range_end: "b".into() });
//! store.role_grant_permission(&mut tx, &AuthRoleGrantPermissionRequest { name: "ann".into(), perm })?;
//! store.enable(&mut tx)?;
//! backend.commit(tx)?;
//!
//! let rules = store.reader().rules();
//! let ann = Identity { username: "ann".into(), revision: rules.revision() };
//! assert!(rules.check(Some(&ann), Access::Read, b"a1", b"a9").is_ok());
//! assert!(matches!(rules.check(Some(&ann), Access::Write, b"a1", b""), Err(Error::PermissionDenied)));
//! assert!(matches!(rules.check(None, Access::Read, b"a1", b""), Err(Error::UserEmpty)));
//! # Ok(())
//! # }
//! ```

mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod password;
mod permission;
mod record;
mod rules;
mod store;
mod token;

pub use error::{Error, Result};
pub use password::{DEFAULT_BCRYPT_COST, Passwords};
pub use permission::Access;
pub use rules::{Identity, Reader, Role, Rules, User};
pub use store::AuthStore;
pub use token::{Now, Tokens};
