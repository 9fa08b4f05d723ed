//! Alarms: raised and ended by entries, kept in the state, and what each of them refuses.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{PoisonError, RwLock};

use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, TxnRequest};
use api::internal::QuotaAlarm;
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
    raised: RwLock<BTreeMap<(i32, u64), Origin>>,
}

/// Why an alarm is raised; part of its record, since it decides how the alarm ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Somebody, or a check, has asked for it. It ends by hand.
    Request,
    /// A member's quota has no room. It ends when there is room again, or by hand.
    Quota,
}

impl Origin {
    fn record(self) -> &'static [u8] {
        match self {
            Self::Request => &[],
            Self::Quota => &[1],
        }
    }

    fn of(record: &[u8]) -> Self {
        if record == Self::Quota.record() { Self::Quota } else { Self::Request }
    }
}

impl Alarms {
    pub(crate) fn open(backend: &dyn Backend) -> backend::Result<Self> {
        let alarms = Self::default();
        alarms.reload(backend)?;
        Ok(alarms)
    }

    /// Starts over from what the backend holds now.
    pub(super) fn reload(&self, backend: &dyn Backend) -> backend::Result<()> {
        let mut raised = BTreeMap::new();
        let mut records = backend.scan(Table::Alarm, &[], None)?;
        while let Some((key, origin)) = records.next()? {
            raised.extend(alarm_of(key).map(|alarm| (alarm, Origin::of(origin))));
        }
        drop(records);
        *self.raised.write().unwrap_or_else(PoisonError::into_inner) = raised;
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<(i32, u64), Origin>> {
        self.raised.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// All alarms, or those of one type.
    pub(crate) fn list(&self, only: AlarmType) -> Vec<AlarmMember> {
        self.read()
            .keys()
            .filter(|(alarm, _)| only == AlarmType::None || *alarm == i32::from(only))
            .map(|(alarm, member)| AlarmMember { member_id: *member, alarm: *alarm })
            .collect()
    }

    /// Whether any member has raised it.
    pub(crate) fn is_raised(&self, alarm: AlarmType) -> bool {
        self.read().keys().any(|(raised, _)| *raised == i32::from(alarm))
    }

    /// The members whose quota had no room, and has not been heard of since.
    pub(crate) fn over_quota(&self) -> Vec<u64> {
        let raised = self.read();
        let by_quota = raised.iter().filter(|(_, origin)| **origin == Origin::Quota);
        by_quota.map(|((_, member), _)| *member).collect()
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

/// The key of an alarm's record.
pub(crate) fn alarm_key(alarm: i32, member: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&alarm.to_be_bytes());
    key[4..].copy_from_slice(&member.to_be_bytes());
    key
}

/// The alarm and the member that a record is about.
pub(crate) fn alarm_of(key: &[u8]) -> Option<(i32, u64)> {
    let (alarm, member) = key.split_first_chunk()?;
    Some((i32::from_be_bytes(*alarm), u64::from_be_bytes(member.try_into().ok()?)))
}

pub(super) fn apply(shared: &Shared, txn: &mut WriteTxn<'_>, request: &AlarmRequest) -> Answer {
    let revision = txn.revision();
    let alarm = AlarmMember { member_id: request.member_id, alarm: request.alarm };
    let mut raised = shared.alarms.raised.write().unwrap_or_else(PoisonError::into_inner);
    let alarms = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => {
            drop(raised);
            shared.alarms.list(request.alarm())
        }
        Ok(AlarmAction::Activate) if request.alarm != i32::from(AlarmType::None) => {
            raise(&mut raised, txn, (alarm.alarm, alarm.member_id), Origin::Request);
            vec![alarm]
        }
        Ok(AlarmAction::Deactivate) if disarm(&mut raised, txn, (alarm.alarm, alarm.member_id)) => {
            vec![alarm]
        }
        _ => Vec::new(),
    };
    Ok(Output::Alarms { revision, alarms })
}

/// Raises or ends the alarm that a member's quota has no room.
pub(super) fn apply_quota(shared: &Shared, txn: &mut WriteTxn<'_>, request: &QuotaAlarm) -> Answer {
    let alarm = (i32::from(AlarmType::Nospace), request.member_id);
    let mut raised = shared.alarms.raised.write().unwrap_or_else(PoisonError::into_inner);
    if request.raised {
        raise(&mut raised, txn, alarm, Origin::Quota);
    } else if raised.get(&alarm) == Some(&Origin::Quota) {
        disarm(&mut raised, txn, alarm);
    }
    Ok(Output::Revision(txn.revision()))
}

type Raised = BTreeMap<(i32, u64), Origin>;

/// Raises an alarm; one that is raised stays as it is.
fn raise(raised: &mut Raised, txn: &mut WriteTxn<'_>, (alarm, member): (i32, u64), origin: Origin) {
    if let Entry::Vacant(vacant) = raised.entry((alarm, member)) {
        vacant.insert(origin);
        txn.tx().put(Table::Alarm, &alarm_key(alarm, member), origin.record());
        tracing::warn!(member_id = member, alarm = name(alarm), "alarm raised");
    }
}

/// Ends an alarm, if it is raised.
fn disarm(raised: &mut Raised, txn: &mut WriteTxn<'_>, (alarm, member): (i32, u64)) -> bool {
    let was_raised = raised.remove(&(alarm, member)).is_some();
    if was_raised {
        txn.tx().delete(Table::Alarm, &alarm_key(alarm, member));
        tracing::warn!(member_id = member, alarm = name(alarm), "alarm disarmed");
    }
    was_raised
}

fn name(alarm: i32) -> &'static str {
    AlarmType::try_from(alarm).map_or("unknown", |alarm| alarm.as_str_name())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::{ClusterId, MemberId};
    use backend::MemBackend;
    use raftlog::Application as _;

    use super::*;
    use crate::apply::Applier;
    use crate::bootstrap::Identity;
    use crate::config::Config;
    use crate::parts::Parts;

    #[test]
    fn a_record_names_alarm_and_member() {
        assert_eq!(alarm_of(&alarm_key(2, 0x8e9e_05c5_2164_694d)), Some((2, 0x8e9e_05c5_2164_694d)));
        assert_eq!(alarm_of(b"short"), None);
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
        let raised = |alarm: AlarmType| Alarms {
            raised: RwLock::new([((i32::from(alarm), 1), Origin::Request)].into()),
        };
        assert_eq!(Alarms::default().admit(&put), Ok(()));
        assert_eq!(raised(AlarmType::Nospace).admit(&put), Err(status::NO_SPACE));
        assert_eq!(raised(AlarmType::Nospace).admit(&delete), Ok(()));
        assert_eq!(raised(AlarmType::Nospace).admit(&txn(vec![])), Ok(()));
        assert_eq!(raised(AlarmType::Nospace).admit(&txn(vec![nested_put])), Err(status::NO_SPACE));
        assert_eq!(raised(AlarmType::Corrupt).admit(&delete), Err(status::CORRUPT));
        assert_eq!(raised(AlarmType::Corrupt).admit(&txn(vec![])), Err(status::CORRUPT));
    }

    fn opened(backend: &Arc<MemBackend>) -> Parts {
        let identity = Identity { member_id: MemberId::new(1), cluster_id: ClusterId::new(2) };
        Parts::open(&Config::default(), Arc::clone(backend) as Arc<dyn Backend>, identity).unwrap()
    }

    #[test]
    fn an_alarm_by_quota_ends_by_quota_and_one_by_hand_by_hand() {
        let backend = Arc::new(MemBackend::new());
        let mut index = 0;
        // Applies one command after a restart, and returns the members with alarms, and those with alarms by quota.
        let mut apply = |command: crate::proposal::Command| -> (Vec<u64>, Vec<u64>) {
            let parts = opened(&backend);
            let entry = raftlog::Entry { term: 1, index, data: command.entry(), membership: None };
            Applier::new(parts.store, parts.meta, parts.shared).apply(&[entry]).unwrap();
            index += 1;
            let alarms = opened(&backend).shared;
            let raised = alarms.alarms.list(AlarmType::None).iter().map(|alarm| alarm.member_id).collect();
            (raised, alarms.alarms.over_quota())
        };
        let by_quota =
            |member_id, raised| crate::proposal::Command::quota_alarm(&QuotaAlarm { member_id, raised });
        let by_hand = |action: AlarmAction, member_id| {
            let alarm = AlarmType::Nospace.into();
            crate::proposal::Command::alarm(&AlarmRequest { action: action.into(), member_id, alarm })
        };
        assert_eq!(apply(by_quota(1, true)), (vec![1], vec![1]));
        assert_eq!(apply(by_hand(AlarmAction::Activate, 2)), (vec![1, 2], vec![1]));
        assert_eq!(apply(by_quota(2, true)), (vec![1, 2], vec![1]));
        assert_eq!(apply(by_quota(2, false)), (vec![1, 2], vec![1]));
        assert_eq!(apply(by_quota(1, false)), (vec![2], vec![]));
        assert_eq!(apply(by_quota(3, true)), (vec![2, 3], vec![3]));
        assert_eq!(apply(by_hand(AlarmAction::Deactivate, 3)), (vec![2], vec![]));
        assert_eq!(apply(by_hand(AlarmAction::Deactivate, 2)), (vec![], vec![]));
    }
}
