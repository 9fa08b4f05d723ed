//! Alarms: raised and ended by entries, kept in the state, and what each of them refuses.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, TxnRequest};
use api::internal::request::Command;
use api::status::{self, Status};
use backend::{Backend, Table};
use mvcc::WriteTxn;
use prost::Message as _;

use super::{Answer, Output};
use crate::member::Shared;

/// The alarms that are raised, of all members. Written by the Applier only.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    /// Guards the set; held only to look or change.
    raised: RwLock<BTreeSet<(i32, u64)>>,
}

impl Alarms {
    pub(crate) fn open(backend: &dyn Backend) -> backend::Result<Self> {
        let alarms = Self::default();
        alarms.reload(backend)?;
        Ok(alarms)
    }

    /// Starts over from what the backend holds now.
    pub(super) fn reload(&self, backend: &dyn Backend) -> backend::Result<()> {
        let mut raised = BTreeSet::new();
        let mut records = backend.scan(Table::Alarm, &[], None)?;
        while let Some((key, _)) = records.next()? {
            if let Ok(key) = <[u8; 12]>::try_from(key) {
                raised.insert(decode(key));
            }
        }
        drop(records);
        *self.raised.write().unwrap_or_else(PoisonError::into_inner) = raised;
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeSet<(i32, u64)>> {
        self.raised.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// All alarms, or those of one type.
    pub(crate) fn list(&self, only: AlarmType) -> Vec<AlarmMember> {
        self.read()
            .iter()
            .filter(|(alarm, _)| only == AlarmType::None || *alarm == i32::from(only))
            .map(|(alarm, member)| AlarmMember { member_id: *member, alarm: *alarm })
            .collect()
    }

    /// Whether any member has raised it.
    pub(crate) fn is_raised(&self, alarm: AlarmType) -> bool {
        self.read().iter().any(|(raised, _)| *raised == i32::from(alarm))
    }

    /// Refuses what the raised alarms refuse.
    pub(super) fn admit(&self, command: &Command) -> Result<(), Status> {
        if self.read().is_empty() {
            return Ok(());
        }
        if self.is_raised(AlarmType::Corrupt) && changes_keys(command) {
            return Err(status::CORRUPT);
        }
        if self.is_raised(AlarmType::Nospace) && takes_space(command) {
            return Err(status::NO_SPACE);
        }
        Ok(())
    }
}

fn changes_keys(command: &Command) -> bool {
    matches!(
        command,
        Command::Put(_)
            | Command::DeleteRange(_)
            | Command::Txn(_)
            | Command::Compaction(_)
            | Command::LeaseGrant(_)
            | Command::LeaseRevoke(_)
            | Command::LeaseExpire(_)
    )
}

fn takes_space(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant(_) => true,
        Command::Txn(request) => TxnRequest::decode(request.clone()).is_ok_and(|request| puts(&request)),
        _ => false,
    }
}

/// Whether either branch puts a key.
fn puts(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(nested)) => puts(nested),
        _ => false,
    })
}

fn encode(alarm: i32, member: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&alarm.to_be_bytes());
    key[4..].copy_from_slice(&member.to_be_bytes());
    key
}

fn decode(key: [u8; 12]) -> (i32, u64) {
    let (alarm, member) = key.split_at(4);
    (
        i32::from_be_bytes(alarm.try_into().expect("four of twelve bytes")),
        u64::from_be_bytes(member.try_into().expect("eight of twelve bytes")),
    )
}

pub(super) fn apply(shared: &Shared, txn: &mut WriteTxn<'_>, request: &AlarmRequest) -> Answer {
    let revision = txn.revision();
    let alarm = AlarmMember { member_id: request.member_id, alarm: request.alarm };
    let key = encode(alarm.alarm, alarm.member_id);
    let mut raised = shared.alarms.raised.write().unwrap_or_else(PoisonError::into_inner);
    let alarms = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => {
            drop(raised);
            shared.alarms.list(request.alarm())
        }
        Ok(AlarmAction::Activate) if request.alarm != i32::from(AlarmType::None) => {
            if raised.insert((alarm.alarm, alarm.member_id)) {
                txn.tx().put(Table::Alarm, &key, &[]);
                tracing::warn!(member_id = alarm.member_id, alarm = ?request.alarm(), "alarm raised");
            }
            vec![alarm]
        }
        Ok(AlarmAction::Deactivate) if raised.remove(&(alarm.alarm, alarm.member_id)) => {
            txn.tx().delete(Table::Alarm, &key);
            tracing::warn!(member_id = alarm.member_id, alarm = ?request.alarm(), "alarm disarmed");
            vec![alarm]
        }
        _ => Vec::new(),
    };
    Ok(Output::Alarms { revision, alarms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_alarm_and_member() {
        assert_eq!(decode(encode(2, 0x8e9e_05c5_2164_694d)), (2, 0x8e9e_05c5_2164_694d));
    }

    #[test]
    fn no_space_refuses_what_takes_space_and_corrupt_what_changes_keys() {
        let put = Command::Put(bytes::Bytes::new());
        let delete = Command::DeleteRange(bytes::Bytes::new());
        let txn = |failure| {
            let request = TxnRequest { compare: vec![], success: vec![], failure };
            Command::Txn(request.encode_to_vec().into())
        };
        let op = |request| api::etcdserverpb::RequestOp { request: Some(request) };
        let nested_put = op(Request::RequestTxn(TxnRequest {
            compare: vec![],
            success: vec![op(Request::RequestPut(api::etcdserverpb::PutRequest::default()))],
            failure: vec![],
        }));
        let raised = |alarm: AlarmType| Alarms { raised: RwLock::new([(i32::from(alarm), 1)].into()) };
        assert_eq!(Alarms::default().admit(&put), Ok(()));
        assert_eq!(raised(AlarmType::Nospace).admit(&put), Err(status::NO_SPACE));
        assert_eq!(raised(AlarmType::Nospace).admit(&delete), Ok(()));
        assert_eq!(raised(AlarmType::Nospace).admit(&txn(vec![])), Ok(()));
        assert_eq!(raised(AlarmType::Nospace).admit(&txn(vec![nested_put])), Err(status::NO_SPACE));
        assert_eq!(raised(AlarmType::Corrupt).admit(&delete), Err(status::CORRUPT));
        assert_eq!(raised(AlarmType::Corrupt).admit(&txn(vec![])), Err(status::CORRUPT));
    }
}
