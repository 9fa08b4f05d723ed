//! Doors for fuzzers to the decoders of what lies on disk and what clients send: bytes in, and a panic if they break a promise.

use api::authpb::{Permission, Role, User};
use backend::{Backend as _, MemBackend, Table};
use bytes::Bytes;
use prost::Message as _;

pub use crate::token::fuzzing::{jwt, options, token};

use crate::permission::{Grants, is_valid_range};
use crate::{Access, AuthStore, Identity, record};

/// A user's or a role's record, its key in front, the two parted by a zero byte: read, and brought to life in a store.
pub fn record(bytes: &[u8]) {
    let Some(at) = bytes.iter().position(|byte| *byte == 0) else { return };
    let (key, value) = (&bytes[..at], &bytes[at + 1..]);
    if let Ok(user) = record::parse(key, value, |user: &User| &user.name) {
        let again = record::parse(key, &user.encode_to_vec(), |user: &User| &user.name);
        assert_eq!(again.expect("what was encoded decodes"), user);
    }
    if let Ok(role) = record::parse(key, value, |role: &Role| &role.name) {
        let again = record::parse(key, &role.encode_to_vec(), |role: &Role| &role.name);
        assert_eq!(again.expect("what was encoded decodes"), role);
    }
    for table in [Table::AuthUsers, Table::AuthRoles] {
        let backend = MemBackend::new();
        let mut tx = backend.begin();
        tx.put(table, key, value);
        tx.put(Table::Auth, b"authEnabled", &[1]);
        backend.commit(tx).expect("memory takes everything");
        let Ok(store) = AuthStore::open(&backend) else { continue };
        let rules = store.rules();
        let name = str::from_utf8(key).expect("a name is text");
        assert!(rules.user(name).is_some() || rules.role(name).is_some());
        let identity = Identity { username: name.into(), revision: rules.revision() };
        let may = rules.check(Some(&identity), Access::Read, key, &[0]).is_ok();
        assert_eq!(
            may,
            rules.user(name).is_some_and(crate::User::is_root),
            "a role that is nowhere permits nothing"
        );
    }
}

/// Permissions and a range that is asked for, each as bytes: a type, the length of a key, the key, the length of an end, the end. What
/// is asked for is permitted exactly if each of its keys is, as far as keys can tell.
pub fn permissions(bytes: &[u8]) {
    let mut rest = bytes;
    let mut all = Vec::new();
    while let Some(one) = take(&mut rest) {
        all.push(one);
    }
    let Some((asked, granted)) = all.split_last() else { return };
    let grants = Grants::new(granted.iter());
    let shuffled = Grants::new(granted.iter().rev());
    assert_eq!(grants, shuffled, "the order of permissions does not matter");
    for access in [Access::Read, Access::Write] {
        let covered = grants.cover(access, &asked.key, &asked.range_end);
        // Where any range begins or ends, something may change; between, nothing does.
        let edges = all.iter().flat_map(|one| {
            [one.key.clone(), one.range_end.clone(), [&one.key[..], &[0]].concat().into(), Bytes::new()]
        });
        let mut inside = edges.filter(|key| contains(asked, key)).peekable();
        if !is_valid_range(&asked.key, &asked.range_end) || inside.peek().is_none() {
            continue;
        }
        let each = inside.all(|key| granted.iter().any(|one| permits(one, access) && contains(one, &key)));
        let endless = granted.iter().any(|one| permits(one, access) && one.range_end[..] == [0]);
        assert_eq!(
            covered,
            each && (endless || asked.range_end[..] != [0]),
            "{access:?} {asked:?} of {granted:?}"
        );
    }
}

fn permits(one: &Permission, access: Access) -> bool {
    one.perm_type == 2 || one.perm_type == i32::from(access == Access::Write)
}

fn contains(one: &Permission, key: &[u8]) -> bool {
    match &one.range_end[..] {
        [] => key == one.key,
        [0] => key >= &one.key[..],
        end => key >= &one.key[..] && key < end,
    }
}

/// The next permission; none when bytes are missing.
fn take(rest: &mut &[u8]) -> Option<Permission> {
    let (kind, behind) = rest.split_first()?;
    *rest = behind;
    let mut part = || {
        let (length, behind) = rest.split_first()?;
        let (part, behind) = behind.split_at_checked(usize::from(*length % 8))?;
        *rest = behind;
        Some(Bytes::copy_from_slice(part))
    };
    Some(Permission { perm_type: i32::from(kind % 3), key: part()?, range_end: part()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_damaged_seeds_break_no_promise() {
        smoke::run("auth_record", record);
        smoke::run("auth_permissions", permissions);
        smoke::run("auth_token", token);
        smoke::run("auth_jwt", jwt);
        smoke::run("auth_options", options);
    }
}
