//! Election: Campaign, Proclaim, Leader, Observe, Resign. The oldest key below an election's name leads; its value is what the
//! leader proclaims.

use std::sync::Arc;

use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{PutRequest, ResponseHeader, TxnRequest, TxnResponse};
use api::mvccpb::KeyValue;
use api::mvccpb::event::EventType;
use api::status;
use api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::body::Told;
use super::caller::Caller;
use super::candidate::{self, Candidate, Stood, created_at, op, pairs};
use super::own::{Ended, Own};
use super::{Failure, Framed, Frames, Rpc, decode, frame};

pub(super) async fn campaign(rpc: &Arc<Rpc>, caller: &Caller, raw: Bytes) -> Framed {
    let request: CampaignRequest = decode(&raw)?;
    let own = Own::new(rpc, caller);
    let lease = candidate::lease(&own, request.lease).await?;
    let Stood { mut candidate, response } =
        Candidate::stand(&own, &request.name, request.value.clone(), lease, None).await?;
    let known = pairs(response.responses.first()).first().map(|kv| kv.value.clone());
    if let Err(failure) = win(&own, &request, &mut candidate, known).await {
        candidate.withdraw().await;
        return Err(failure);
    }
    let leader = LeaderKey { name: request.name, key: candidate.key.clone(), rev: candidate.revision, lease };
    candidate.keep();
    Ok(frame::message(&CampaignResponse { header: response.header, leader: Some(leader) }))
}

/// Waits until the candidate leads, having proclaimed what it says now if it stood with something else already.
async fn win(
    own: &Own,
    request: &CampaignRequest,
    candidate: &mut Candidate,
    known: Option<Bytes>,
) -> Result<(), Failure> {
    if known.is_some_and(|value| value != request.value) {
        let (key, revision, lease) = (candidate.key.clone(), candidate.revision, candidate.lease);
        say(own, key, revision, lease, request.value.clone()).await?;
    }
    // Who has waited may have lost its lease meanwhile, and somebody else may lead by now. etcd tells it that it leads.
    if candidate.wait(own, &request.name).await? && !candidate.look(own).await?.0 {
        return Err(Failure::unknown(status::LEASE_NOT_FOUND.text()));
    }
    Ok(())
}

pub(super) async fn proclaim(rpc: &Arc<Rpc>, caller: &Caller, raw: Bytes) -> Framed {
    let request: ProclaimRequest = decode(&raw)?;
    let leader = request.leader.ok_or_else(no_leader_key)?;
    let own = Own::new(rpc, caller);
    let lease = candidate::lease(&own, leader.lease).await?;
    let response = say(&own, leader.key, leader.rev, lease, request.value).await?;
    Ok(frame::message(&ProclaimResponse { header: response.header }))
}

/// Gives the key that was created at `revision` another value.
async fn say(own: &Own, key: Bytes, revision: i64, lease: i64, value: Bytes) -> Result<TxnResponse, Failure> {
    let put = PutRequest { key: key.clone(), value, lease, ..Default::default() };
    let success = vec![op(Request::RequestPut(put))];
    let request = TxnRequest { compare: vec![created_at(key, revision)], success, failure: vec![] };
    let response = own.txn(&request).await?;
    if response.succeeded { Ok(response) } else { Err(Failure::unknown("election: not leader")) }
}

pub(super) async fn leader(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let request: LeaderRequest = decode(raw)?;
    let found = Own::new(rpc, caller).range(&candidate::oldest(&request.name)).await?;
    match found.kvs.into_iter().next() {
        Some(kv) => Ok(frame::message(&LeaderResponse { header: found.header, kv: Some(kv) })),
        None => Err(Failure::unknown("election: no leader")),
    }
}

pub(super) async fn resign(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let request: ResignRequest = decode(raw)?;
    let leader = request.leader.ok_or_else(no_leader_key)?;
    let response = candidate::remove(&Own::new(rpc, caller), leader.key, leader.rev).await?;
    Ok(frame::message(&ResignResponse { header: response.header }))
}

fn no_leader_key() -> Failure {
    Failure::unknown("\"leader\" field must be provided")
}

pub(super) fn observe(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Result<Box<dyn Frames>, Failure> {
    let request: LeaderRequest = decode(raw)?;
    let own = Own::new(rpc, caller);
    Ok(Box::new(Told::new(|listener| Observer { own, name: request.name, listener }.follow())))
}

/// Tells one client who leads.
struct Observer {
    own: Own,
    name: Bytes,
    listener: mpsc::Sender<Bytes>,
}

impl Observer {
    async fn follow(self) -> Result<(), Failure> {
        loop {
            let found = self.own.range(&candidate::oldest(&self.name)).await?;
            let leader = match found.kvs.into_iter().next() {
                Some(kv) => Some((found.header, kv)),
                None => self.first(found.header.map_or(0, |header| header.revision)).await?,
            };
            // Without one, what was to be watched is gone from history; another look tells.
            if let Some((header, kv)) = leader {
                self.follow_one(header, kv).await?;
            }
        }
    }

    /// The first put below the name, when nobody led at `revision`.
    async fn first(&self, revision: i64) -> Result<Option<(Option<ResponseHeader>, KeyValue)>, Failure> {
        let range = (candidate::prefix(&self.name), candidate::prefix_end(&self.name));
        let mut events = self.own.watch(range.0, range.1, revision).await;
        loop {
            let response = match events.next().await {
                Ok(response) => response,
                Err(Ended::Compacted) => return Ok(None),
                Err(Ended::Failed(failure)) => return Err(failure),
            };
            let put = response.events.into_iter().find(|event| event.r#type() == EventType::Put);
            if let Some(kv) = put.and_then(|event| event.kv) {
                // The answer may carry later puts; this one is told as of its own revision.
                let header =
                    response.header.map(|header| ResponseHeader { revision: kv.mod_revision, ..header });
                return Ok(Some((header, kv)));
            }
        }
    }

    /// Tells what one leader proclaims, until its key is gone.
    async fn follow_one(&self, header: Option<ResponseHeader>, kv: KeyValue) -> Result<(), Failure> {
        let (key, revision) = (kv.key.clone(), header.as_ref().map_or(0, |header| header.revision));
        self.tell(header, kv).await;
        let mut events = self.own.watch(key, Bytes::new(), revision + 1).await;
        loop {
            let response = match events.next().await {
                Ok(response) => response,
                Err(Ended::Compacted) => return Ok(()),
                Err(Ended::Failed(failure)) => return Err(failure),
            };
            for event in response.events {
                if event.r#type() == EventType::Delete {
                    return Ok(());
                }
                if let Some(kv) = event.kv {
                    self.tell(response.header, kv).await;
                }
            }
        }
    }

    async fn tell(&self, header: Option<ResponseHeader>, kv: KeyValue) {
        let message = frame::message(&LeaderResponse { header, kv: Some(kv) });
        // Whoever listens owns this future; it is never polled again once nobody does.
        drop(self.listener.send(message).await);
    }
}
