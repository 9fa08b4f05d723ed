//! The members of the cluster and its version, as the replicated state knows them.
//!
//! An entry that changes the members also changes the membership of the log itself, so whether it may be is decided before it is
//! proposed ([`crate::membership`]). What is applied here is done on every member alike, and what makes no sense does nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use api::MemberId;
use api::etcdserverpb::Member;
use api::internal::{
    MemberAdd, MemberPromote, MemberPublish, MemberRemove, MemberUpdate, MembersFound, MembersKeep,
};
use backend::{Backend, Table};
use mvcc::WriteTxn;
use prost::Message as _;
use tokio::sync::watch;

use super::{Answer, Output};
use crate::error::{Error, Result};
use crate::member::Shared;

const VERSION_KEY: &[u8] = b"version";
const DOWNGRADE_KEY: &[u8] = b"downgrade";

/// Who belongs to the cluster. Written by the Applier only.
#[derive(Debug)]
pub(crate) struct Members {
    /// Guards everything; held only to look or change.
    known: RwLock<Known>,
    /// This member's own standing.
    own: watch::Sender<Standing>,
    own_id: u64,
}

/// What this member is in its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The state does not know it yet.
    #[default]
    Unknown,
    /// It votes, now or as soon as it has caught up.
    Voter,
    /// It only learns.
    Learner,
    /// It was removed, for ever.
    Removed,
}

#[derive(Debug, Default)]
struct Known {
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    /// `major.minor.0`, once decided.
    version: Option<String>,
    /// What it is being downgraded to, as `major.minor.0`.
    downgrade: Option<String>,
}

impl Members {
    pub(crate) fn open(backend: &dyn Backend, own_id: MemberId) -> Result<Self> {
        let members = Self { known: RwLock::default(), own: watch::Sender::default(), own_id: own_id.get() };
        members.reload(backend)?;
        Ok(members)
    }

    /// Starts over from what the backend holds now.
    pub(super) fn reload(&self, backend: &dyn Backend) -> Result<()> {
        let known = Known::load(backend)?;
        *self.write() = known;
        self.look_at_own();
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// All members by ascending id.
    pub(crate) fn list(&self) -> Vec<Member> {
        self.read().members.values().cloned().collect()
    }

    pub(crate) fn get(&self, id: u64) -> Option<Member> {
        self.read().members.get(&id).cloned()
    }

    /// The ids of members that were removed.
    pub(crate) fn removed(&self) -> BTreeSet<u64> {
        self.read().removed.clone()
    }

    /// Whether a member of this id was removed; it never comes back.
    pub(crate) fn is_removed(&self, id: u64) -> bool {
        self.read().removed.contains(&id)
    }

    /// This member's own standing, now and whenever it changes.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.own.subscribe()
    }

    /// Whether this member only learns.
    pub(crate) fn is_learner(&self) -> bool {
        *self.own.borrow() == Standing::Learner
    }

    /// The version the cluster has agreed on, as `major.minor.0`.
    pub(crate) fn version(&self) -> Option<String> {
        self.read().version.clone()
    }

    /// The version the cluster is being downgraded to, as `major.minor.0`.
    pub(crate) fn downgrade(&self) -> Option<String> {
        self.read().downgrade.clone()
    }

    fn look_at_own(&self) {
        let known = self.read();
        let standing = match known.members.get(&self.own_id) {
            Some(member) if member.is_learner => Standing::Learner,
            Some(_) => Standing::Voter,
            None if known.removed.contains(&self.own_id) => Standing::Removed,
            None => Standing::Unknown,
        };
        drop(known);
        self.own.send_if_modified(|own| std::mem::replace(own, standing) != standing);
    }

    /// Records a member that exists, changed or new.
    fn record(&self, txn: &mut WriteTxn<'_>, member: Member) {
        txn.tx().put(Table::Member, &member.id.to_be_bytes(), &member.encode_to_vec());
        self.write().members.insert(member.id, member);
        self.look_at_own();
    }

    /// Changes the record of a member, if there is one.
    fn change(&self, txn: &mut WriteTxn<'_>, id: u64, change: impl FnOnce(&mut Member)) -> bool {
        let Some(mut member) = self.get(id) else { return false };
        change(&mut member);
        self.record(txn, member);
        true
    }
}

impl Known {
    fn load(backend: &dyn Backend) -> Result<Self> {
        let mut known = Self::default();
        let mut records = backend.scan(Table::Member, &[], None)?;
        while let Some((_, record)) = records.next()? {
            let member = Member::decode(record).map_err(|error| {
                Error::DataDir(format!(
                    "a member record does not decode ({error}); restore this member from a snapshot"
                ))
            })?;
            known.members.insert(member.id, member);
        }
        drop(records);
        let mut records = backend.scan(Table::RemovedMember, &[], None)?;
        while let Some((id, _)) = records.next()? {
            known.removed.extend(<[u8; 8]>::try_from(id).map(u64::from_be_bytes));
        }
        drop(records);
        let version = |key| -> backend::Result<Option<String>> {
            let version = backend.get(Table::Cluster, key)?;
            Ok(version.map(|version| String::from_utf8_lossy(&version).into_owned()))
        };
        known.version = version(VERSION_KEY)?;
        known.downgrade = version(DOWNGRADE_KEY)?;
        Ok(known)
    }
}

fn done(txn: &WriteTxn<'_>) -> Answer {
    Ok(Output::Revision(txn.revision()))
}

/// Records the members of a new cluster, unless it is not new any more.
pub(super) fn found(shared: &Shared, txn: &mut WriteTxn<'_>, request: MembersFound) -> Answer {
    let members = &shared.members;
    let is_new = {
        let known = members.read();
        known.members.is_empty() && known.removed.is_empty()
    };
    if is_new {
        request.members.into_iter().for_each(|member| members.record(txn, member));
    }
    done(txn)
}

/// Records a member's name and client URLs.
pub(super) fn publish(shared: &Shared, txn: &mut WriteTxn<'_>, request: MemberPublish) -> Answer {
    if let Some(Member { id, name, client_ur_ls, .. }) = request.member {
        shared.members.change(txn, id, |member| {
            member.name = name;
            member.client_ur_ls = client_ur_ls;
        });
    }
    done(txn)
}

pub(super) fn add(shared: &Shared, txn: &mut WriteTxn<'_>, request: MemberAdd) -> Answer {
    if let Some(member) = request.member
        && shared.members.get(member.id).is_none()
        && !shared.members.is_removed(member.id)
    {
        tracing::info!(
            cluster_id = shared.cluster_id.to_string(),
            local_member_id = shared.member_id.to_string(),
            added_peer_id = MemberId::new(member.id).to_string(),
            added_peer_peer_urls = member.peer_ur_ls.join(","),
            added_peer_is_learner = member.is_learner,
            "added member"
        );
        shared.members.record(txn, member);
    }
    done(txn)
}

/// Removes all members but one, which is recorded if it is not.
pub(super) fn keep(shared: &Shared, txn: &mut WriteTxn<'_>, request: MembersKeep) -> Answer {
    if let Some(kept) = request.member {
        for member in shared.members.list().iter().filter(|member| member.id != kept.id) {
            remove(shared, txn, &MemberRemove { id: member.id })?;
        }
        if shared.members.get(kept.id).is_none() {
            shared.members.record(txn, kept);
        }
    }
    done(txn)
}

pub(super) fn remove(shared: &Shared, txn: &mut WriteTxn<'_>, request: &MemberRemove) -> Answer {
    let members = &shared.members;
    if members.get(request.id).is_some() {
        txn.tx().delete(Table::Member, &request.id.to_be_bytes());
        txn.tx().put(Table::RemovedMember, &request.id.to_be_bytes(), &[]);
        let mut known = members.write();
        known.members.remove(&request.id);
        known.removed.insert(request.id);
        drop(known);
        tracing::info!(
            cluster_id = shared.cluster_id.to_string(),
            local_member_id = shared.member_id.to_string(),
            removed_remote_peer_id = MemberId::new(request.id).to_string(),
            "removed member"
        );
        members.look_at_own();
    }
    done(txn)
}

pub(super) fn update(shared: &Shared, txn: &mut WriteTxn<'_>, request: MemberUpdate) -> Answer {
    shared.members.change(txn, request.id, |member| member.peer_ur_ls = request.peer_urls);
    done(txn)
}

pub(super) fn promote(shared: &Shared, txn: &mut WriteTxn<'_>, request: &MemberPromote) -> Answer {
    shared.members.change(txn, request.id, |member| member.is_learner = false);
    done(txn)
}

pub(super) fn set_version(shared: &Shared, txn: &mut WriteTxn<'_>, version: String) -> Answer {
    txn.tx().put(Table::Cluster, VERSION_KEY, version.as_bytes());
    shared.members.write().version = Some(version);
    done(txn)
}

/// Begins a downgrade, or ends the one there is.
pub(super) fn set_downgrade(shared: &Shared, txn: &mut WriteTxn<'_>, target: String) -> Answer {
    if target.is_empty() {
        txn.tx().delete(Table::Cluster, DOWNGRADE_KEY);
        shared.members.write().downgrade = None;
    } else {
        txn.tx().put(Table::Cluster, DOWNGRADE_KEY, target.as_bytes());
        tracing::info!(target_version = target, "the server is ready to downgrade");
        shared.members.write().downgrade = Some(target);
    }
    done(txn)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::ClusterId;
    use backend::MemBackend;
    use raftlog::{Application as _, Entry};

    use super::*;
    use crate::apply::Applier;
    use crate::bootstrap::Identity;
    use crate::config::Config;
    use crate::parts::Parts;
    use crate::proposal::Command;

    /// Member 1 of a cluster, which applies what it is given.
    struct World {
        backend: Arc<MemBackend>,
        shared: Arc<Shared>,
        applier: Applier,
        applied: u64,
    }

    impl World {
        fn new() -> Self {
            Self::on(Arc::new(MemBackend::new()), 0)
        }

        fn on(backend: Arc<MemBackend>, applied: u64) -> Self {
            let identity = Identity { member_id: MemberId::new(1), cluster_id: ClusterId::new(2) };
            let parts =
                Parts::open(&Config::default(), Arc::clone(&backend) as Arc<dyn Backend>, identity).unwrap();
            let shared = Arc::clone(&parts.shared);
            Self { backend, shared, applier: Applier::new(parts.store, parts.meta, parts.shared), applied }
        }

        fn founded() -> Self {
            let mut world = Self::new();
            let members = (1..=3).map(|id| member(id, "")).collect();
            world.apply(&Command::members_found(&MembersFound { members }));
            world
        }

        fn apply(&mut self, command: &Command) {
            let entry = Entry { term: 1, index: self.applied, data: command.entry(), membership: None };
            self.applier.apply(&[entry]).unwrap();
            self.applied += 1;
            let restarted = Self::on(Arc::clone(&self.backend), self.applied);
            let of = |world: &Self| {
                let members = &world.shared.members;
                (members.list(), members.removed(), *members.standing().borrow())
            };
            assert_eq!(of(self), of(&restarted), "what is known is what is stored");
        }

        fn seen(&self) -> String {
            let members = self.shared.members.list();
            let members = members.iter().map(|m| {
                let learner = if m.is_learner { "?" } else { "" };
                format!(
                    "{}{learner}:{}@{}>{}",
                    m.id,
                    m.name,
                    m.peer_ur_ls.join(","),
                    m.client_ur_ls.join(",")
                )
            });
            members.collect::<Vec<_>>().join(" ")
        }
    }

    fn member(id: u64, name: &str) -> Member {
        Member { id, name: name.to_owned(), peer_ur_ls: vec![format!("p{id}")], ..Member::default() }
    }

    #[test]
    fn only_the_first_founder_founds() {
        let mut world = World::founded();
        assert_eq!(world.seen(), "1:@p1> 2:@p2> 3:@p3>");
        assert_eq!(*world.shared.members.standing().borrow(), Standing::Voter);
        world.apply(&Command::members_found(&MembersFound { members: vec![member(4, "")] }));
        assert_eq!(world.seen(), "1:@p1> 2:@p2> 3:@p3>");
        for id in 1..=3 {
            world.apply(&Command::member_remove(&MemberRemove { id }));
        }
        world.apply(&Command::members_found(&MembersFound { members: vec![member(4, "")] }));
        assert_eq!(world.seen(), "", "a cluster is new only once");
    }

    #[test]
    fn members_come_change_and_go() {
        let mut world = World::founded();
        let publish = |id| {
            let client_ur_ls = vec!["c".to_owned()];
            let told = Member { client_ur_ls, is_learner: true, ..member(id, "m") };
            Command::member_publish(&MemberPublish { member: Some(Member { peer_ur_ls: vec![], ..told }) })
        };
        world.apply(&publish(2));
        assert_eq!(world.seen(), "1:@p1> 2:m@p2>c 3:@p3>", "only name and client URLs are published");
        world.apply(&Command::member_update(&MemberUpdate { id: 3, peer_urls: vec!["q".to_owned()] }));
        let learner = Member { is_learner: true, ..member(4, "") };
        world.apply(&Command::member_add(&MemberAdd { member: Some(learner) }));
        assert_eq!(world.seen(), "1:@p1> 2:m@p2>c 3:@q> 4?:@p4>");
        world.apply(&Command::member_promote(&MemberPromote { id: 4 }));
        world.apply(&Command::member_remove(&MemberRemove { id: 2 }));
        assert_eq!(world.seen(), "1:@p1> 3:@q> 4:@p4>");
    }

    #[test]
    fn who_was_removed_never_comes_back() {
        let mut world = World::founded();
        let mut standing = world.shared.members.standing();
        world.apply(&Command::member_remove(&MemberRemove { id: 1 }));
        assert!(standing.has_changed().unwrap());
        assert_eq!(*standing.borrow_and_update(), Standing::Removed);
        for command in [
            Command::member_publish(&MemberPublish { member: Some(member(1, "m")) }),
            Command::member_add(&MemberAdd { member: Some(member(1, "")) }),
            Command::member_update(&MemberUpdate { id: 1, peer_urls: vec![] }),
            Command::member_promote(&MemberPromote { id: 1 }),
        ] {
            world.apply(&command);
            assert_eq!(world.seen(), "2:@p2> 3:@p3>", "{command:?}");
        }
        assert!(world.shared.members.is_removed(1) && !world.shared.members.is_removed(2));
    }

    #[test]
    fn a_survivor_keeps_its_record_and_no_other() {
        let mut world = World::founded();
        let keep = |id| Command::members_keep(&MembersKeep { member: Some(member(id, "new")) });
        world.apply(&keep(1));
        assert_eq!(world.seen(), "1:@p1>");
        assert!(world.shared.members.is_removed(2) && world.shared.members.is_removed(3));
        let mut empty = World::new();
        empty.apply(&keep(1));
        assert_eq!(empty.seen(), "1:new@p1>");
    }

    #[test]
    fn a_learner_knows_that_it_is_one() {
        let mut world = World::new();
        assert_eq!(*world.shared.members.standing().borrow(), Standing::Unknown);
        let learner = Member { is_learner: true, ..member(1, "") };
        world.apply(&Command::member_add(&MemberAdd { member: Some(learner) }));
        assert!(world.shared.members.is_learner());
        world.apply(&Command::member_promote(&MemberPromote { id: 1 }));
        assert!(!world.shared.members.is_learner());
    }

    /// A leader that has lost its office finds leases expired by its own clock, which the next leader has renewed.
    #[test]
    fn what_a_leader_decides_ends_with_its_term() {
        let mut world = World::founded();
        let set = |version: &str| {
            let version = version.to_owned();
            Command::cluster_version_set(&api::internal::ClusterVersionSet { version })
        };
        world.apply(&set("3.6.0").in_term(2));
        assert_eq!(world.shared.members.version(), None);
        world.apply(&set("3.7.0").in_term(1));
        assert_eq!(world.shared.members.version().as_deref(), Some("3.7.0"));
    }
}
