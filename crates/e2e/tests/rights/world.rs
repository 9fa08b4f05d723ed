//! A member whose root writes a history, and a user who tries things.

use api::authpb::Permission;
use api::etcdserverpb as pb;
use api::mvccpb::KeyValue;
use bytes::Bytes;
use e2e::{Member, Session, Target, Watcher, range};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use etcd_rs_e2e as e2e;

use crate::attempts::Attempt;
use crate::model::{KEYS, Rights};

/// The leases there are; keys are put on two of them.
pub(crate) const LEASES: [i64; 3] = [101, 102, 103];

/// What came of an attempt: all that the user sees, as text, or why it was refused.
pub(crate) type Outcome = Result<String, (Code, String)>;

pub(crate) struct World {
    /// Killed with the world.
    _member: Member,
    pub(crate) root: Session,
    pub(crate) ann: Session,
    /// Tells values of keys that Ann must not read from those of the other world.
    name: &'static str,
}

impl World {
    pub(crate) async fn start(target: Target, name: &'static str) -> Self {
        let member = Member::start(target).await;
        let nobody = Session::nobody(&member);
        nobody.add_user("ann", "ann's own").await;
        nobody.enable("root's own").await;
        let root = Session::login(&member, "root", "root's own").await;
        let ann = Session::login(&member, "ann", "ann's own").await;
        root.add_role("anns").await;
        root.grant_role("ann", "anns").await;
        Self { _member: member, root, ann, name }
    }

    /// Gives Ann other rights than before.
    pub(crate) async fn permit(&self, rights: &Rights) {
        self.root.delete_role("anns").await;
        self.root.add_role("anns").await;
        self.root.grant_role("ann", "anns").await;
        for permission in &rights.permissions {
            self.root.permit("anns", Permission::clone(permission)).await;
        }
    }

    /// Writes all keys anew. What Ann can neither read nor write is there in one world and not in the other, if `strangers` says so;
    /// values that she must not read are never the same. Both worlds have as many revisions.
    pub(crate) async fn write_history(&self, rights: &Rights, strangers: impl Fn(usize) -> bool) {
        for id in LEASES {
            // It may be gone, or there.
            drop(self.root.lease().lease_revoke(pb::LeaseRevokeRequest { id }).await);
            self.root.lease().lease_grant(pb::LeaseGrantRequest { id, ttl: 3600 }).await.expect("grant");
        }
        // Every key begins a new life, so that nothing is left of what other rights made different.
        self.put_all(rights, false).await;
        self.root.kv().delete_range(e2e::delete("\0", "\0")).await.expect("delete");
        // On a lease and in no way special else: Ann may or may not have to do with it.
        let held = pb::PutRequest { lease: LEASES[2], ..e2e::put("e2", "held") };
        self.root.kv().put(held).await.expect("put");
        self.put_all(rights, true).await;
        for (number, key) in KEYS.iter().enumerate() {
            let stranger = !rights.reads(key.as_bytes()) && !rights.writes(key.as_bytes());
            if stranger && strangers(number) {
                self.root.kv().delete_range(e2e::delete(key, "")).await.expect("delete");
            } else if stranger {
                self.root.kv().put(e2e::put(key, "one revision more")).await.expect("put");
            }
        }
    }

    /// Puts each key once: values that Ann may read are the same everywhere.
    pub(crate) async fn put_all(&self, rights: &Rights, with_leases: bool) {
        for (number, key) in KEYS.iter().enumerate() {
            let reads = rights.reads(key.as_bytes());
            let value =
                if reads { format!("value {number}") } else { format!("{}: secret {number}", self.name) };
            let stranger = !reads && !rights.writes(key.as_bytes());
            let lease = match number {
                1 | 6 if with_leases && !stranger => LEASES[0],
                4 if with_leases && !stranger => LEASES[1],
                _ => 0,
            };
            let put = pb::PutRequest { lease, ..e2e::put(key, &value) };
            self.root.kv().put(put).await.expect("put");
        }
    }

    /// All that there is.
    pub(crate) async fn all(&self) -> Vec<KeyValue> {
        self.root.kv().range(range("\0", "\0")).await.expect("range").into_inner().kvs
    }

    /// Which keys are on a lease.
    pub(crate) async fn leased(&self, id: i64) -> Vec<Bytes> {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        self.root.lease().lease_time_to_live(request).await.expect("time to live").into_inner().keys
    }

    pub(crate) async fn revision(&self) -> i64 {
        let answer = self.root.kv().range(e2e::get("none")).await.expect("range").into_inner();
        e2e::revision(answer.header.as_ref())
    }

    /// Lets Ann try.
    pub(crate) async fn attempt(&self, attempt: &Attempt) -> Outcome {
        let who = &self.ann;
        match attempt.clone() {
            Attempt::Range(request) => told(who.kv().range(request).await),
            Attempt::Put(request) => told(who.kv().put(request).await),
            Attempt::Delete(request) => told(who.kv().delete_range(request).await),
            Attempt::Txn(request) => told(who.kv().txn(request).await),
            Attempt::Revoke(id) => told(who.lease().lease_revoke(pb::LeaseRevokeRequest { id }).await),
            Attempt::KeepAlive(id) => keep_alive(who, id).await,
            Attempt::TimeToLive { id, keys } => {
                let request = pb::LeaseTimeToLiveRequest { id, keys };
                told(who.lease().lease_time_to_live(request).await)
            }
            Attempt::Leases => told(who.lease().lease_leases(pb::LeaseLeasesRequest {}).await),
            Attempt::Watch(create) => watch(who, create).await,
        }
    }
}

async fn keep_alive(who: &Session, id: i64) -> Outcome {
    let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id }]);
    let answers = who.lease().lease_keep_alive(requests).await.map_err(refusal)?;
    let answer = answers.into_inner().next().await.expect("an answer or an error").map_err(refusal)?;
    told(Ok(tonic::Response::new(answer)))
}

/// Only whether it is created: what it brings is looked at elsewhere.
async fn watch(who: &Session, create: pb::WatchCreateRequest) -> Outcome {
    let (_watcher, created) = Watcher::open_by(who, create).await;
    assert!(created.created);
    let reason = "rpc error: code = PermissionDenied desc = ";
    match created.cancel_reason.strip_prefix(reason) {
        Some(text) if created.canceled => Err((Code::PermissionDenied, text.to_owned())),
        _ => {
            assert!(!created.canceled, "{created:?}");
            Ok("created".to_owned())
        }
    }
}

/// An answer as text without what differs between any two members. Time passes, so what is left of it is not looked at.
fn told<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, Status>) -> Outcome {
    let text = format!("{:?}", answer.map_err(refusal)?.into_inner());
    let mut out = String::new();
    let mut rest = text.as_str();
    for field in ["cluster_id: ", "member_id: ", "raft_term: "] {
        if let Some((before, behind)) = rest.split_once(field) {
            out.push_str(before);
            rest = behind.trim_start_matches(|c: char| c.is_ascii_digit());
        }
    }
    out.push_str(rest);
    if let Some((before, behind)) = out.clone().split_once(" ttl: ") {
        out = format!("{before}{}", behind.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    Ok(out)
}

fn refusal(status: Status) -> (Code, String) {
    (status.code(), status.message().to_owned())
}
