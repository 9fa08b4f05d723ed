//! How users and roles lie in the backend's tables: etcd's own keys and messages, so that moving in and out needs no
//! translation.
//!
//! | table | key | value |
//! |---|---|---|
//! | `Auth` | `authEnabled` | one byte, 1 or 0 |
//! | `Auth` | `authRevision` | 8 bytes big endian |
//! | `AuthUsers` | the user's name | `authpb.User` |
//! | `AuthRoles` | the role's name | `authpb.Role` |

use std::collections::BTreeMap;
use std::sync::Arc;

use api::authpb;
use backend::{Backend, Table, WriteTx};
use bytes::Bytes;
use prost::Message;

use crate::rules::{Role, Rules, User};
use crate::{Error, Result};

const ENABLED: &[u8] = b"authEnabled";
const REVISION: &[u8] = b"authRevision";

/// Reads everything back.
pub(crate) fn load(backend: &dyn Backend) -> Result<Rules> {
    let enabled = backend.get(Table::Auth, ENABLED)?.map_or(Ok(false), |value| parse_enabled(&value))?;
    let revision = backend.get(Table::Auth, REVISION)?.map_or(Ok(1), |value| parse_revision(&value))?;
    let users = records(backend, Table::AuthUsers, |key, value| {
        let record: authpb::User = parse(key, value, |record: &authpb::User| &record.name)?;
        Ok(User::new(record))
    })?;
    let roles = records(backend, Table::AuthRoles, |key, value| {
        Ok(Role { record: parse(key, value, |record: &authpb::Role| &record.name)? })
    })?;
    Ok(Rules { enabled, revision, users, roles })
}

pub(crate) fn save_enabled(tx: &mut WriteTx, enabled: bool) {
    tx.put(Table::Auth, ENABLED, &[u8::from(enabled)]);
}

pub(crate) fn save_revision(tx: &mut WriteTx, revision: u64) {
    tx.put(Table::Auth, REVISION, &revision.to_be_bytes());
}

pub(crate) fn save_user(tx: &mut WriteTx, user: &authpb::User) {
    tx.put(Table::AuthUsers, &user.name, &user.encode_to_vec());
}

pub(crate) fn delete_user(tx: &mut WriteTx, name: &str) {
    tx.delete(Table::AuthUsers, name.as_bytes());
}

pub(crate) fn save_role(tx: &mut WriteTx, role: &authpb::Role) {
    tx.put(Table::AuthRoles, &role.name, &role.encode_to_vec());
}

pub(crate) fn delete_role(tx: &mut WriteTx, name: &str) {
    tx.delete(Table::AuthRoles, name.as_bytes());
}

fn records<T>(
    backend: &dyn Backend,
    table: Table,
    parse: impl Fn(&[u8], &[u8]) -> Result<T>,
) -> Result<BTreeMap<Arc<str>, Arc<T>>> {
    let mut records = BTreeMap::new();
    let mut cursor = backend.scan(table, &[], None)?;
    while let Some((key, value)) = cursor.next()? {
        let name = str::from_utf8(key).map_err(|_| corrupt(key, "the name is not text"))?;
        records.insert(Arc::from(name), Arc::new(parse(key, value)?));
    }
    Ok(records)
}

/// Reads one record back and sees that it is the key's.
pub(crate) fn parse<T: Message + Default>(
    key: &[u8],
    value: &[u8],
    name: impl Fn(&T) -> &Bytes,
) -> Result<T> {
    let record = T::decode(value).map_err(|_| corrupt(key, "the value is no user or role"))?;
    if name(&record) != key {
        return Err(corrupt(key, "the value has another name"));
    }
    Ok(record)
}

fn parse_enabled(value: &[u8]) -> Result<bool> {
    match value {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(corrupt(ENABLED, "the value is neither 0 nor 1")),
    }
}

fn parse_revision(value: &[u8]) -> Result<u64> {
    let value = value.try_into().map_err(|_| corrupt(REVISION, "the value is not 8 bytes long"))?;
    Ok(u64::from_be_bytes(value))
}

fn corrupt(key: &[u8], reason: &'static str) -> Error {
    Error::Corrupt { key: Bytes::copy_from_slice(key), reason }
}

#[cfg(test)]
mod tests {
    use backend::MemBackend;

    use super::*;

    #[test]
    fn records_are_those_that_etcd_keeps() {
        let mut tx = WriteTx::new();
        save_enabled(&mut tx, true);
        save_revision(&mut tx, 258);
        let options = Some(authpb::UserAddOptions { no_password: true });
        let user = authpb::User { name: "u".into(), roles: vec!["r".into()], options, ..Default::default() };
        save_user(&mut tx, &user);
        let key_permission =
            vec![authpb::Permission { perm_type: 2, key: "k".into(), range_end: "l".into() }];
        save_role(&mut tx, &authpb::Role { name: "r".into(), key_permission });
        let backend = MemBackend::new();
        backend.commit(tx).unwrap();
        let get = |table, key: &[u8]| backend.get(table, key).unwrap().unwrap();
        assert_eq!(get(Table::Auth, b"authEnabled"), [1].as_slice());
        assert_eq!(get(Table::Auth, b"authRevision"), [0, 0, 0, 0, 0, 0, 1, 2].as_slice());
        assert_eq!(get(Table::AuthUsers, b"u"), b"\x0a\x01u\x1a\x01r\x22\x02\x08\x01".as_slice());
        assert_eq!(get(Table::AuthRoles, b"r"), b"\x0a\x01r\x12\x08\x08\x02\x12\x01k\x1a\x01l".as_slice());
    }

    #[test]
    fn nonsense_is_corrupt_and_no_panic() {
        let check = |table, key: &[u8], value: &[u8]| {
            let backend = MemBackend::new();
            let mut tx = backend.begin();
            tx.put(table, key, value);
            backend.commit(tx).unwrap();
            assert!(matches!(load(&backend), Err(Error::Corrupt { .. })), "{table:?} {key:?} {value:?}");
        };
        check(Table::Auth, ENABLED, b"");
        check(Table::Auth, ENABLED, b"\x02");
        check(Table::Auth, REVISION, b"1");
        check(Table::AuthUsers, b"u", b"\xff");
        check(Table::AuthUsers, b"u", b"\x0a\x01v");
        check(Table::AuthRoles, b"r", b"");
        check(Table::AuthRoles, b"\xff", b"\x0a\x01\xff");
    }
}
