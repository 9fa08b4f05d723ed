//! The state at one moment, as etcd's database file.

use std::collections::BTreeMap;
use std::io::Write;

use api::etcdserverpb::{AlarmMember, Member};
use backend::{ReadTx, Table};
use boltdb::{Shape, Writer};
use mvcc::{Export, Revision};
use prost::Message as _;

use super::{
    ALARM, AUTH, AUTH_ROLES, AUTH_USERS, CLUSTER, FINISHED_COMPACT_REV, KEY, LEASE, MEMBERS, MEMBERS_REMOVED,
    META, SCHEDULED_COMPACT_REV,
};
use crate::apply::{AppliedMeta, alarm_of};
use crate::bootstrap::MemberRecord;
use crate::error::{Error, Result};

/// The version of etcd's storage that is written.
pub(crate) const STORAGE_VERSION: &str = "3.6.0";

/// A few records that are sorted before they are written.
type Sorted = BTreeMap<Vec<u8>, Vec<u8>>;

/// Writes every bucket that etcd has. Memory does not grow with the keyspace.
///
/// # Errors
/// The backend failed or is corrupt, or writing failed.
pub(crate) fn write<W: Write>(view: &dyn ReadTx, mut writer: Writer<W>) -> Result<(W, Shape)> {
    let members = members(view)?;
    sorted(&mut writer, ALARM, alarms(view)?)?;
    sorted(&mut writer, AUTH, auth(view)?)?;
    copied(&mut writer, AUTH_ROLES, view, Table::AuthRoles)?;
    copied(&mut writer, AUTH_USERS, view, Table::AuthUsers)?;
    writer.bucket(CLUSTER)?;
    writer.bucket(KEY)?;
    let mut export = Export::new(view)?;
    while let Some((key, value)) = export.next_record()? {
        writer.put(key, value)?;
    }
    copied(&mut writer, LEASE, view, Table::Lease)?;
    sorted(&mut writer, MEMBERS, member_records(&members)?)?;
    sorted(&mut writer, MEMBERS_REMOVED, removed(view)?)?;
    sorted(&mut writer, META, meta(view, &members, &export)?)?;
    Ok(writer.finish()?)
}

fn sorted<W: Write>(writer: &mut Writer<W>, bucket: &[u8], records: Sorted) -> Result<()> {
    writer.bucket(bucket)?;
    for (key, value) in records {
        writer.put(&key, &value)?;
    }
    Ok(())
}

/// A table whose records are etcd's own.
fn copied<W: Write>(writer: &mut Writer<W>, bucket: &[u8], view: &dyn ReadTx, table: Table) -> Result<()> {
    writer.bucket(bucket)?;
    each(view, table, |key, value| Ok(writer.put(key, value)?))
}

fn each(view: &dyn ReadTx, table: Table, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    let mut records = view.scan(table, &[], None)?;
    while let Some((key, value)) = records.next()? {
        visit(key, value)?;
    }
    Ok(())
}

fn alarms(view: &dyn ReadTx) -> Result<Sorted> {
    let mut alarms = Sorted::new();
    each(view, Table::Alarm, |key, _| {
        if let Some((alarm, member_id)) = alarm_of(key) {
            alarms.insert(AlarmMember { member_id, alarm }.encode_to_vec(), Vec::new());
        }
        Ok(())
    })?;
    Ok(alarms)
}

/// etcd writes down the revision of a store in which nobody has changed anything.
fn auth(view: &dyn ReadTx) -> Result<Sorted> {
    let mut records = Sorted::from([(b"authRevision".to_vec(), 1_u64.to_be_bytes().to_vec())]);
    each(view, Table::Auth, |key, value| {
        records.insert(key.to_vec(), value.to_vec());
        Ok(())
    })?;
    Ok(records)
}

fn members(view: &dyn ReadTx) -> Result<Vec<MemberRecord>> {
    let mut members = Vec::new();
    each(view, Table::Member, |_, value| {
        let member = Member::decode(value)
            .map_err(|error| Error::DataDir(format!("a member record does not decode: {error}")))?;
        members.push(member.into());
        Ok(())
    })?;
    Ok(members)
}

/// etcd's key of a member: no digits more than its id has.
fn member_key(id: u64) -> Vec<u8> {
    format!("{id:x}").into_bytes()
}

fn member_records(members: &[MemberRecord]) -> Result<Sorted> {
    let record = |member: &MemberRecord| {
        let json = serde_json::to_vec(member)
            .map_err(|error| Error::DataDir(format!("a member record is no JSON: {error}")))?;
        Ok((member_key(member.id), json))
    };
    members.iter().map(record).collect()
}

fn removed(view: &dyn ReadTx) -> Result<Sorted> {
    let mut removed = Sorted::new();
    each(view, Table::RemovedMember, |id, _| {
        if let Ok(id) = id.try_into() {
            removed.insert(member_key(u64::from_be_bytes(id)), b"removed".to_vec());
        }
        Ok(())
    })?;
    Ok(removed)
}

fn meta(view: &dyn ReadTx, members: &[MemberRecord], export: &Export<'_>) -> Result<Sorted> {
    let applied = AppliedMeta::load(view)?;
    let mut meta = Sorted::from([
        (b"consistent_index".to_vec(), applied.index().to_be_bytes().to_vec()),
        (b"term".to_vec(), applied.term().to_be_bytes().to_vec()),
        (b"confState".to_vec(), conf_state(members).into_bytes()),
        (b"storageVersion".to_vec(), STORAGE_VERSION.as_bytes().to_vec()),
    ]);
    let compactions = [(SCHEDULED_COMPACT_REV, export.scheduled), (FINISHED_COMPACT_REV, export.finished)];
    for (key, revision) in compactions.into_iter().filter(|(_, revision)| *revision >= 0) {
        meta.insert(key.to_vec(), Revision::new(revision, 0).etcd_key().to_vec());
    }
    Ok(meta)
}

/// Who votes and who learns, in the JSON of etcd's raft.
fn conf_state(members: &[MemberRecord]) -> String {
    let ids = |learns: bool| {
        let ids =
            members.iter().filter(|member| member.is_learner == learns).map(|member| member.id.to_string());
        ids.collect::<Vec<_>>().join(",")
    };
    let list = |name: &str, ids: String| match ids.as_str() {
        "" => String::new(),
        ids => format!("\"{name}\":[{ids}],"),
    };
    format!("{{{}{}\"auto_leave\":false}}", list("voters", ids(false)), list("learners", ids(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_and_learners_are_told_as_etcd_tells_them() {
        let member = |id, is_learner| MemberRecord { id, is_learner, ..MemberRecord::default() };
        assert_eq!(conf_state(&[]), r#"{"auto_leave":false}"#);
        assert_eq!(
            conf_state(&[member(1, false), member(2, true), member(u64::MAX, false)]),
            r#"{"voters":[1,18446744073709551615],"learners":[2],"auto_leave":false}"#
        );
    }

    #[test]
    fn a_member_has_etcds_key_and_json() {
        let member = MemberRecord {
            id: 0xab,
            peer_urls: vec!["http://a:1".to_owned()],
            name: "a".to_owned(),
            ..MemberRecord::default()
        };
        let records = member_records(&[member]).unwrap();
        let json = r#"{"id":171,"peerURLs":["http://a:1"],"name":"a"}"#;
        assert_eq!(records, Sorted::from([(b"ab".to_vec(), json.as_bytes().to_vec())]));
    }
}
