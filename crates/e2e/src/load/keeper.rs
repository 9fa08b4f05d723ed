//! One keeper of a load: it holds a lease with a key on it, renews it through any member, and remembers until when
//! the lease was promised each time.

use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb as pb;
use api::etcdserverpb::kv_client::KvClient;
use api::etcdserverpb::lease_client::LeaseClient;
use tonic::transport::Channel;

use super::{LEASED, Members, Shared};
use crate::linear::Moment;

/// What is asked for, in seconds. A member may grant more.
const TTL: i64 = 3;
const PATIENCE: Duration = Duration::from_millis(700);
/// Between two renewals.
const REST: Duration = Duration::from_millis(400);

/// The life of one lease.
#[derive(Debug)]
pub(super) struct Kept {
    /// The key on it.
    pub(super) key: String,
    /// It must not end before this moment. A renewal counts from when it was sent, which is before it was granted.
    pub(super) promised: Moment,
    /// When the keeper was told that it has ended, if it was.
    pub(super) gone: Option<Moment>,
}

pub(super) async fn run(shared: Arc<Shared>, number: usize) -> Vec<Kept> {
    let mut members = Members::new(shared.clone(), number);
    let mut kept = Vec::new();
    while !shared.is_over() {
        let key = format!("{LEASED}{number}/{}", kept.len());
        match grant(&shared, members.channel(), &key).await {
            Some((id, promised)) => {
                let mut lease = Kept { key, promised, gone: None };
                keep(&shared, &mut members, id, &mut lease).await;
                kept.push(lease);
            }
            None => {
                members.next();
                tokio::time::sleep(REST).await;
            }
        }
    }
    kept
}

/// Grants a lease with a key on it.
async fn grant(shared: &Shared, channel: Channel, key: &str) -> Option<(i64, Moment)> {
    let called = shared.now();
    let mut leases = LeaseClient::new(channel.clone());
    let request = pb::LeaseGrantRequest { ttl: TTL, id: 0 };
    let granted = tokio::time::timeout(PATIENCE, leases.lease_grant(request)).await.ok()?.ok()?.into_inner();
    let put = pb::PutRequest { lease: granted.id, ..crate::put(key, "kept") };
    let mut kv = KvClient::new(channel);
    tokio::time::timeout(PATIENCE, kv.put(put)).await.ok()?.ok()?;
    Some((granted.id, called + nanoseconds(granted.ttl)))
}

/// Renews a lease until it is gone or all is over.
async fn keep(shared: &Shared, members: &mut Members, id: i64, lease: &mut Kept) {
    while !shared.is_over() {
        let called = shared.now();
        match tokio::time::timeout(PATIENCE, renew(members.channel(), id)).await {
            Ok(Some(0)) => {
                lease.gone = Some(shared.now());
                return;
            }
            Ok(Some(ttl)) => lease.promised = lease.promised.max(called + nanoseconds(ttl)),
            // Whether it is still there, another member may know.
            Ok(None) | Err(_) => members.next(),
        }
        tokio::time::sleep(REST).await;
    }
}

/// How many seconds the lease has again: 0 when it is gone.
async fn renew(channel: Channel, id: i64) -> Option<i64> {
    let request = pb::LeaseKeepAliveRequest { id };
    let mut leases = LeaseClient::new(channel);
    let mut answers = leases.lease_keep_alive(tokio_stream::once(request)).await.ok()?.into_inner();
    Some(answers.message().await.ok()??.ttl)
}

fn nanoseconds(seconds: i64) -> Moment {
    seconds.unsigned_abs() * 1_000_000_000
}
