//! Random users, roles and permissions against the plainest model of them: lists of ranges, and every key looked at one by one.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};

use api::authpb::Permission;
use api::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest,
};
use backend::{Backend, MemBackend};
use bytes::Bytes;
use etcd_rs_auth::{Access, AuthStore, Error, Identity};
use proptest::prelude::*;

/// Keys of up to two letters out of three, so that ranges touch, overlap and miss each other all the time.
fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop::sample::select(vec![0_u8, b'a', b'b', 0xff]), 1..3).prop_map(Bytes::from)
}

fn range() -> impl Strategy<Value = (Bytes, Bytes)> {
    let end = prop_oneof![
        2 => Just(Bytes::new()),
        1 => Just(Bytes::from_static(&[0])),
        4 => key(),
    ];
    (key(), end)
}

const NAMES: [&str; 3] = ["ann", "bob", "carl"];

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.to_vec())
}

#[derive(Clone, Debug)]
enum Command {
    UserAdd(&'static str),
    UserDelete(&'static str),
    UserGrant(&'static str, &'static str),
    UserRevoke(&'static str, &'static str),
    RoleAdd(&'static str),
    RoleDelete(&'static str),
    Permit(&'static str, i32, (Bytes, Bytes)),
    Forbid(&'static str, (Bytes, Bytes)),
    Restart,
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        2 => name().prop_map(Command::UserAdd),
        1 => name().prop_map(Command::UserDelete),
        6 => (name(), name()).prop_map(|(user, role)| Command::UserGrant(user, role)),
        2 => (name(), name()).prop_map(|(user, role)| Command::UserRevoke(user, role)),
        2 => name().prop_map(Command::RoleAdd),
        1 => name().prop_map(Command::RoleDelete),
        8 => (name(), 0..3, range()).prop_map(|(role, kind, range)| Command::Permit(role, kind, range)),
        2 => (name(), range()).prop_map(|(role, range)| Command::Forbid(role, range)),
        1 => Just(Command::Restart),
    ]
}

/// All keys of up to three bytes out of those that ranges are made of, and one behind them all: no range that is made of shorter
/// ones can tell two other keys apart.
fn all_keys() -> Vec<Vec<u8>> {
    let letters = [0_u8, 1, b'a', b'b', b'c', 0xff];
    let mut keys: Vec<Vec<u8>> = letters.iter().map(|letter| vec![*letter]).collect();
    for _ in 0..2 {
        let longer: Vec<Vec<u8>> = keys
            .iter()
            .flat_map(|key| letters.iter().map(|letter| [&key[..], &[*letter]].concat()))
            .collect();
        keys.extend(longer);
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn contains((key, end): &(Bytes, Bytes), one: &[u8]) -> bool {
    match &end[..] {
        [] => one == key,
        [0] => one >= &key[..],
        end => one >= &key[..] && one < end,
    }
}

/// A type and a range.
type Granted = (i32, (Bytes, Bytes));

#[derive(Default)]
struct Model {
    users: BTreeMap<&'static str, BTreeSet<&'static str>>,
    roles: BTreeMap<&'static str, Vec<Granted>>,
    revision: u64,
}

impl Model {
    /// Whether there was an effect.
    fn apply(&mut self, command: &Command) -> bool {
        match command {
            Command::UserAdd(user) => {
                let new = !self.users.contains_key(user);
                self.users.entry(user).or_default();
                new
            }
            Command::UserDelete(user) => self.users.remove(user).is_some(),
            Command::UserGrant(user, role) => {
                self.roles.contains_key(role)
                    && self.users.get_mut(user).is_some_and(|held| held.insert(role))
            }
            Command::UserRevoke(user, role) => self.users.get_mut(user).is_some_and(|held| held.remove(role)),
            Command::RoleAdd(role) => {
                let new = !self.roles.contains_key(role);
                self.roles.entry(role).or_default();
                new
            }
            Command::RoleDelete(role) => {
                self.users.values_mut().for_each(|held| {
                    held.remove(role);
                });
                self.roles.remove(role).is_some()
            }
            Command::Permit(role, kind, (key, end)) => {
                let valid = end.is_empty() || end[..] == [0] || end > key;
                let Some(role) = self.roles.get_mut(role).filter(|_| valid) else { return false };
                let same = |one: &&mut Granted| one.1.0 == *key;
                match role.iter_mut().find(same) {
                    Some(first) if first.1.1 == *end => first.0 = *kind,
                    _ => role.push((*kind, (key.clone(), end.clone()))),
                }
                true
            }
            Command::Forbid(role, range) => {
                let Some(role) = self.roles.get_mut(role) else { return false };
                let before = role.len();
                role.retain(|(_, one)| one != range);
                role.len() < before
            }
            Command::Restart => false,
        }
    }

    fn may(&self, user: &str, access: Access, one: &[u8]) -> bool {
        let kinds = if access == Access::Read { [0, 2] } else { [1, 2] };
        let held = self.users.get(user).into_iter().flatten().filter_map(|role| self.roles.get(role));
        held.flatten().any(|(kind, range)| kinds.contains(kind) && contains(range, one))
    }
}

fn apply(store: &mut AuthStore, backend: &MemBackend, command: &Command) -> Result<(), Error> {
    let own = |name: &str| name.to_owned();
    let mut tx = backend.begin();
    let outcome = match command.clone() {
        Command::UserAdd(name) => {
            store.user_add(&mut tx, &AuthUserAddRequest { name: own(name), ..Default::default() })
        }
        Command::UserDelete(name) => store.user_delete(&mut tx, &AuthUserDeleteRequest { name: own(name) }),
        Command::UserGrant(user, role) => {
            store.user_grant_role(&mut tx, &AuthUserGrantRoleRequest { user: own(user), role: own(role) })
        }
        Command::UserRevoke(name, role) => {
            store.user_revoke_role(&mut tx, &AuthUserRevokeRoleRequest { name: own(name), role: own(role) })
        }
        Command::RoleAdd(name) => store.role_add(&mut tx, &AuthRoleAddRequest { name: own(name) }),
        Command::RoleDelete(role) => store.role_delete(&mut tx, &AuthRoleDeleteRequest { role: own(role) }),
        Command::Permit(name, perm_type, (key, range_end)) => {
            let perm = Some(Permission { perm_type, key, range_end });
            store.role_grant_permission(&mut tx, &AuthRoleGrantPermissionRequest { name: own(name), perm })
        }
        Command::Forbid(role, (key, range_end)) => {
            let request = AuthRoleRevokePermissionRequest { role: own(role), key, range_end };
            store.role_revoke_permission(&mut tx, &request)
        }
        Command::Restart => {
            *store = AuthStore::open(backend)?;
            Ok(())
        }
    };
    backend.commit(tx).unwrap();
    outcome
}

/// A store that is on, with a user root.
fn enabled(backend: &MemBackend) -> AuthStore {
    let store = AuthStore::open(backend).unwrap();
    let mut tx = backend.begin();
    let (name, role) = ("root".to_owned(), "root".to_owned());
    store.user_add(&mut tx, &AuthUserAddRequest { name: name.clone(), ..Default::default() }).unwrap();
    store.user_grant_role(&mut tx, &AuthUserGrantRoleRequest { user: name, role }).unwrap();
    store.enable(&mut tx).unwrap();
    backend.commit(tx).unwrap();
    store
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_range_is_permitted_exactly_when_each_of_its_keys_is(
        commands in prop::collection::vec(command(), 1..40),
        ranges in prop::collection::vec(range(), 1..12),
    ) {
        let backend = MemBackend::new();
        let mut store = enabled(&backend);
        let mut model = Model { revision: store.rules().revision(), ..Model::default() };
        let keys = all_keys();
        for command in &commands {
            let changed = model.apply(command);
            model.revision += u64::from(changed);
            let outcome = apply(&mut store, &backend, command);
            prop_assert!(outcome.is_ok() || !changed, "{command:?}: {outcome:?}");
            let rules = store.rules();
            prop_assert_eq!(rules.revision(), model.revision, "{:?}", command);
            for name in NAMES {
                let identity = Identity { username: name.into(), revision: rules.revision() };
                for range in &ranges {
                    for access in [Access::Read, Access::Write] {
                        let inside: Vec<_> = keys.iter().filter(|one| contains(range, one)).collect();
                        let answer = rules.check(Some(&identity), access, &range.0, &range.1);
                        let all = inside.iter().all(|one| model.may(name, access, one));
                        if inside.is_empty() {
                            // A range without keys shows nothing; whether it is permitted is etcd's whim.
                            continue;
                        }
                        // The keys looked at stand for all but those before 0x00 0x00 0x00 and behind 0xff 0xff 0xff.
                        prop_assert_eq!(answer.is_ok(), all && reaches(&model, name, access, range),
                            "{} {:?} {:?}", name, access, range);
                        if answer.is_err() {
                            prop_assert!(matches!(answer, Err(Error::PermissionDenied)));
                        }
                    }
                }
            }
        }
    }
}

/// A range without an end needs a permission without one: no list of keys can show that.
fn reaches(model: &Model, user: &str, access: Access, range: &(Bytes, Bytes)) -> bool {
    range.1[..] != [0] || model.may(user, access, &[0xff; 64])
}
