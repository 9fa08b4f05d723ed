//! The members of the cluster and its version, as the replicated state knows them.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use api::etcdserverpb::Member;
use backend::{Backend, Table};
use mvcc::WriteTxn;
use prost::Message as _;

use super::{Answer, Output};
use crate::error::{Error, Result};
use crate::member::Shared;

const VERSION_KEY: &[u8] = b"version";

/// Who belongs to the cluster. Written by the Applier only.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// Guards both; held only to look or change.
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    members: BTreeMap<u64, Member>,
    /// `major.minor.0`, once decided.
    version: Option<String>,
}

impl Members {
    pub(crate) fn open(backend: &dyn Backend) -> Result<Self> {
        let members = Self::default();
        members.reload(backend)?;
        Ok(members)
    }

    /// Starts over from what the backend holds now.
    pub(super) fn reload(&self, backend: &dyn Backend) -> Result<()> {
        let mut members = BTreeMap::new();
        let mut records = backend.scan(Table::Member, &[], None)?;
        while let Some((_, record)) = records.next()? {
            let member = Member::decode(record).map_err(|error| {
                Error::DataDir(format!(
                    "a member record does not decode ({error}); restore this member from a snapshot"
                ))
            })?;
            members.insert(member.id, member);
        }
        drop(records);
        let version = backend
            .get(Table::Cluster, VERSION_KEY)?
            .map(|version| String::from_utf8_lossy(&version).into_owned());
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known { members, version };
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// All members by ascending id.
    pub(crate) fn list(&self) -> Vec<Member> {
        self.read().members.values().cloned().collect()
    }

    pub(crate) fn get(&self, id: u64) -> Option<Member> {
        self.read().members.get(&id).cloned()
    }

    /// The version the cluster has agreed on, as `major.minor.0`.
    pub(crate) fn version(&self) -> Option<String> {
        self.read().version.clone()
    }
}

pub(super) fn publish(shared: &Shared, txn: &mut WriteTxn<'_>, member: Option<Member>) -> Answer {
    if let Some(member) = member {
        txn.tx().put(Table::Member, &member.id.to_be_bytes(), &member.encode_to_vec());
        let mut known = shared.members.known.write().unwrap_or_else(PoisonError::into_inner);
        known.members.insert(member.id, member);
    }
    Ok(Output::Revision(txn.revision()))
}

pub(super) fn set_version(shared: &Shared, txn: &mut WriteTxn<'_>, version: String) -> Answer {
    txn.tx().put(Table::Cluster, VERSION_KEY, version.as_bytes());
    let mut known = shared.members.known.write().unwrap_or_else(PoisonError::into_inner);
    known.version = Some(version);
    Ok(Output::Revision(txn.revision()))
}
