//! Runs the golden scripts of `tests/scripts`: what administrators do, and what comes of it.
//!
//! Commands: `enable`, `disable`, `user add|delete|passwd NAME`, `user nopass NAME`, `user hash NAME BASE64`,
//! `user grant|revoke NAME ROLE`, `role add|delete NAME`, `role grant NAME read|write|both KEY [END]`, `role revoke NAME KEY [END]`,
//! `show`, `can NAME[@REVISION] read|write KEY [END]`, `root NAME`, `member NAME`, `sees NAME user|role OTHER`, `after NAME@REVISION`,
//! `restart`. `^` stands for a zero byte, `-` for nobody or nothing.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod golden;

use std::fmt::Write as _;

use api::authpb::{Permission, UserAddOptions, permission::Type};
use api::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserDeleteRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
};
use backend::{Backend, MemBackend, WriteTx};
use bytes::Bytes;
use etcd_rs_auth::{Access, AuthStore, Error, Identity, Rules};

struct World {
    backend: MemBackend,
    store: AuthStore,
}

/// `c2VjcmV0` is "secret"; the store takes any bytes for a hash.
const HASH: &str = "c2VjcmV0";

impl World {
    fn new() -> Self {
        let backend = MemBackend::new();
        let store = AuthStore::open(&backend).unwrap();
        Self { backend, store }
    }

    fn command(&mut self, line: &str) -> String {
        let words: Vec<&str> =
            line.split_whitespace().map(|word| if word == "-" { "" } else { word }).collect();
        let rules = self.store.rules();
        let outcome = match *words.as_slice() {
            ["show"] => Ok(show(&rules)),
            ["restart"] => {
                let before = show(&rules);
                self.store = AuthStore::open(&self.backend).unwrap();
                assert_eq!(show(&self.store.rules()), before, "nothing is lost");
                self.store.reset(&self.backend).unwrap();
                Ok(String::new())
            }
            ["can", who, access, key, ref end @ ..] => {
                let access = if access == "read" { Access::Read } else { Access::Write };
                let end = end.first().copied().unwrap_or_default();
                rules.check(identity(who, &rules).as_ref(), access, &bytes(key), &bytes(end)).map(yes)
            }
            ["root", who] => rules.check_root(identity(who, &rules).as_ref()).map(yes),
            ["member", who] => rules.check_user(identity(who, &rules).as_ref()).map(yes),
            ["sees", who, "user", other] => {
                rules.check_user_get(identity(who, &rules).as_ref(), other).map(yes)
            }
            ["sees", who, "role", other] => {
                rules.check_role_get(identity(who, &rules).as_ref(), other).map(yes)
            }
            ["after", who] => rules.check_after_read(identity(who, &rules).as_ref()).map(yes),
            _ => self.change(&words),
        };
        match outcome {
            Ok(text) if text.is_empty() => String::new(),
            Ok(text) => format!("{line}: {text}\n"),
            Err(error) => format!("{line}: error: {error}\n"),
        }
    }

    /// Like the server: whatever came of a command, its transaction is committed.
    fn change(&self, words: &[&str]) -> Result<String, Error> {
        let mut tx = self.backend.begin();
        let before = self.store.rules().revision();
        let outcome = apply(&self.store, &mut tx, words);
        let after = self.store.rules().revision();
        assert!(outcome.is_ok() || (tx.is_empty() && after == before), "an error has no effect");
        self.backend.commit(tx).unwrap();
        outcome.map(|()| if after == before { String::new() } else { format!("revision {after}") })
    }
}

fn apply(store: &AuthStore, tx: &mut WriteTx, words: &[&str]) -> Result<(), Error> {
    let own = |text: &str| text.to_owned();
    match *words {
        ["enable"] => store.enable(tx),
        ["disable"] => store.disable(tx),
        ["user", "add", name] => {
            let request =
                AuthUserAddRequest { name: own(name), hashed_password: own(HASH), ..Default::default() };
            store.user_add(tx, &request)
        }
        ["user", "nopass", name] => {
            let options = Some(UserAddOptions { no_password: true });
            let request = AuthUserAddRequest {
                name: own(name),
                hashed_password: own("?"),
                options,
                ..Default::default()
            };
            store.user_add(tx, &request)
        }
        ["user", "hash", name, hash] => {
            let request =
                AuthUserAddRequest { name: own(name), hashed_password: own(hash), ..Default::default() };
            store.user_add(tx, &request)
        }
        ["user", "passwd", name, hash] => {
            let request = AuthUserChangePasswordRequest {
                name: own(name),
                hashed_password: own(hash),
                ..Default::default()
            };
            store.user_change_password(tx, &request)
        }
        ["user", "delete", name] => store.user_delete(tx, &AuthUserDeleteRequest { name: own(name) }),
        ["user", "grant", user, role] => {
            store.user_grant_role(tx, &AuthUserGrantRoleRequest { user: own(user), role: own(role) })
        }
        ["user", "revoke", name, role] => {
            store.user_revoke_role(tx, &AuthUserRevokeRoleRequest { name: own(name), role: own(role) })
        }
        ["role", "add", name] => store.role_add(tx, &AuthRoleAddRequest { name: own(name) }),
        ["role", "delete", role] => store.role_delete(tx, &AuthRoleDeleteRequest { role: own(role) }),
        ["role", "grant", name] => {
            store.role_grant_permission(tx, &AuthRoleGrantPermissionRequest { name: own(name), perm: None })
        }
        ["role", "grant", name, access, key, ref end @ ..] => {
            let kind = match access {
                "read" => Type::Read,
                "write" => Type::Write,
                _ => Type::Readwrite,
            };
            let range_end = bytes(end.first().copied().unwrap_or_default());
            let perm = Some(Permission { perm_type: kind.into(), key: bytes(key), range_end });
            store.role_grant_permission(tx, &AuthRoleGrantPermissionRequest { name: own(name), perm })
        }
        ["role", "revoke", role, key, ref end @ ..] => {
            let range_end = bytes(end.first().copied().unwrap_or_default());
            let request = AuthRoleRevokePermissionRequest { role: own(role), key: bytes(key), range_end };
            store.role_revoke_permission(tx, &request)
        }
        _ => panic!("no command {words:?}"),
    }
}

fn bytes(word: &str) -> Bytes {
    word.replace('^', "\0").into()
}

fn identity(who: &str, rules: &Rules) -> Option<Identity> {
    let (name, revision) = who.split_once('@').unwrap_or((who, ""));
    let revision = revision.parse().unwrap_or_else(|_| rules.revision());
    (!name.is_empty()).then(|| Identity { username: name.into(), revision })
}

fn yes(_: ()) -> String {
    "yes".to_owned()
}

fn show(rules: &Rules) -> String {
    let mut out = format!("{}, revision {}", if rules.enabled() { "on" } else { "off" }, rules.revision());
    for name in rules.users() {
        let user = rules.user(name).unwrap();
        let hash = String::from_utf8_lossy(user.password_hash());
        let password = if user.no_password() { "none" } else { &hash };
        write!(out, "\n  user {name}: roles {:?}, password {password:?}", user.roles()).unwrap();
    }
    for name in rules.roles() {
        write!(out, "\n  role {name}:").unwrap();
        for one in rules.role(name).unwrap().permissions() {
            let (key, end) = (one.key.escape_ascii().to_string(), one.range_end.escape_ascii().to_string());
            write!(out, " {:?} [{key}, {end})", one.perm_type()).unwrap();
        }
    }
    out
}

#[test]
fn scripts_print_what_they_did_when_they_were_reviewed() {
    golden::run(World::new, World::command);
}
