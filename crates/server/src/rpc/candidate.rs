//! Keys that stand for those who want to lead or to hold a lock, and waiting for one's turn.
//!
//! Everybody who wants the same thing puts a key below the same name, each with a lease of its own; the oldest key has it. Who
//! comes later waits for the key that was made just before its own to go away, so that each that goes wakes one waiter, and
//! turns come in the order of creation.
//!
//! A key whose maker gave up waiting would keep all behind it waiting until its lease ends. So a [`Candidate`] that is dropped
//! before it is [kept](Candidate::keep) takes its key away again: a call is dropped when its client is gone.

use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::response_op::Response;
use api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};
use api::mvccpb::KeyValue;
use api::mvccpb::event::EventType;
use api::status;
use bytes::Bytes;

use super::Failure;
use super::own::{Ended, Own};

/// Seconds that a lease lives which a call had to get for itself. Nobody renews it.
const LEASE_SECONDS: i64 = 60;

/// The lease to use: the one named, or a new one.
pub(super) async fn lease(own: &Own, named: i64) -> Result<i64, Failure> {
    if named != 0 {
        return Ok(named);
    }
    Ok(own.grant(LEASE_SECONDS).await?.id)
}

/// What the keys below a name begin with.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The end of the range of the keys below a name: `0` follows `/`.
pub(super) fn prefix_end(name: &[u8]) -> Bytes {
    [name, b"0"].concat().into()
}

/// The key of a lease below a name. The lease is written as Go writes the number, a negative one with its sign.
fn key(name: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [name, format!("/{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// The read that finds the oldest key below a name.
pub(super) fn oldest(name: &[u8]) -> RangeRequest {
    RangeRequest {
        key: prefix(name),
        range_end: prefix_end(name),
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    }
}

/// The comparison that is true while a key is the one that was created at `revision`; 0 for none.
pub(super) fn created_at(key: Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key,
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

pub(super) fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

pub(super) fn get(key: Bytes) -> RangeRequest {
    RangeRequest { key, ..Default::default() }
}

/// The pairs that an operation of a transaction has read.
pub(super) fn pairs(op: Option<&ResponseOp>) -> &[KeyValue] {
    match op.and_then(|op| op.response.as_ref()) {
        Some(Response::ResponseRange(range)) => &range.kvs,
        _ => &[],
    }
}

/// A key that stands for somebody.
pub(super) struct Candidate {
    /// What takes the key away; `None` once that is nobody's business here any more.
    own: Option<Own>,
    pub(super) key: Bytes,
    /// The revision at which the key was created, which tells it from any other that may come to have its name.
    pub(super) revision: i64,
    pub(super) lease: i64,
}

/// A candidate, and what was found when it was put up.
pub(super) struct Stood {
    pub(super) candidate: Candidate,
    pub(super) response: TxnResponse,
}

impl Candidate {
    /// Puts a key below `name` if the lease has none there yet; reads it if it has, and does `also` in either case.
    ///
    /// Once begun this goes on when the client is gone, because the key may come to be all the same; it is taken away then.
    pub(super) async fn stand(
        own: &Own,
        name: &[u8],
        value: Bytes,
        lease: i64,
        also: Option<RangeRequest>,
    ) -> Result<Stood, Failure> {
        let key = key(name, lease);
        let put = PutRequest { key: key.clone(), value, lease, ..Default::default() };
        let with =
            |first: Request| [first].into_iter().chain(also.clone().map(Request::RequestRange)).map(op);
        let request = TxnRequest {
            compare: vec![created_at(key.clone(), 0)],
            success: with(Request::RequestPut(put)).collect(),
            failure: with(Request::RequestRange(get(key.clone()))).collect(),
        };
        let own = own.clone();
        // Whoever drops the handle leaves the task running; what it gives back is dropped then, and the key removed.
        let stood = tokio::spawn(async move {
            let response = own.txn(&request).await?;
            let revision = if response.succeeded {
                response.header.as_ref().map_or(0, |header| header.revision)
            } else {
                pairs(response.responses.first()).first().map_or(0, |kv| kv.create_revision)
            };
            // A key that was there before is only ours to remove when we wait with it.
            let own = response.succeeded.then_some(own);
            Ok(Stood { candidate: Self { own, key, revision, lease }, response })
        });
        stood.await.map_err(|_| Failure::from(status::STOPPED))?
    }

    /// Returns when no key below `name` is older than this one; whether there was one.
    pub(super) async fn wait(&mut self, own: &Own, name: &[u8]) -> Result<bool, Failure> {
        let mut waited = false;
        loop {
            let request = RangeRequest {
                max_create_revision: self.revision - 1,
                sort_order: SortOrder::Descend.into(),
                ..oldest(name)
            };
            let found = own.range(&request).await?;
            let Some(before) = found.kvs.into_iter().next() else { return Ok(waited) };
            self.own = Some(own.clone());
            waited = true;
            let revision = found.header.map_or(0, |header| header.revision);
            deleted(own, before.key, revision).await?;
        }
    }

    /// Whether the key is still there, and what the answer's header was.
    pub(super) async fn look(
        &self,
        own: &Own,
    ) -> Result<(bool, Option<api::etcdserverpb::ResponseHeader>), Failure> {
        let found = own.range(&get(self.key.clone())).await?;
        Ok((found.kvs.first().is_some_and(|kv| kv.create_revision == self.revision), found.header))
    }

    /// Leaves the key to whoever it stands for.
    pub(super) fn keep(mut self) {
        self.own = None;
    }

    /// Takes the key away.
    pub(super) async fn withdraw(mut self) {
        if let Some(own) = self.own.take() {
            // If this fails, the end of the lease will do it.
            drop(remove(&own, self.key.clone(), self.revision).await);
        }
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        let (Some(own), Ok(runtime)) = (self.own.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (key, revision) = (std::mem::take(&mut self.key), self.revision);
        runtime.spawn(async move {
            let limit = own.rpc().limits.request_timeout;
            drop(tokio::time::timeout(limit, remove(&own, key, revision)).await);
        });
    }
}

/// Deletes the key that was created at `revision`, and no other.
pub(super) async fn remove(own: &Own, key: Bytes, revision: i64) -> Result<TxnResponse, Failure> {
    let delete = DeleteRangeRequest { key: key.clone(), ..Default::default() };
    let success = vec![op(Request::RequestDeleteRange(delete))];
    own.txn(&TxnRequest { compare: vec![created_at(key, revision)], success, failure: vec![] }).await
}

/// Returns when a key that was there at `revision` is gone, or may be.
async fn deleted(own: &Own, key: Bytes, revision: i64) -> Result<(), Failure> {
    let mut events = own.watch(key, Bytes::new(), revision).await;
    loop {
        match events.next().await {
            Ok(response) => {
                if response.events.iter().any(|event| event.r#type() == EventType::Delete) {
                    return Ok(());
                }
            }
            // What happened since `revision` is not to be had any more; another look tells the outcome.
            Err(Ended::Compacted) => return Ok(()),
            Err(Ended::Failed(failure)) => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_written_into_its_key_as_go_writes_it() {
        assert_eq!(key(b"l", 0x694d_a203_842f_e33d), "l/694da203842fe33d");
        assert_eq!(key(b"l", 7), "l/7");
        assert_eq!(key(b"", -10), "/-a");
    }

    #[test]
    fn the_range_below_a_name_holds_its_keys_and_no_others() {
        let range = prefix(b"l")..prefix_end(b"l");
        assert!(range.contains(&key(b"l", 7)) && range.contains(&key(b"l", -7)));
        assert!(!range.contains(&key(b"l0", 7)) && !range.contains(&Bytes::from_static(b"l")));
    }
}
