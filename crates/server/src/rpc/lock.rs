//! Lock: Lock, Unlock. A lock is had by the oldest key below its name.

use std::sync::Arc;

use api::etcdserverpb::ResponseHeader;
use api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use bytes::Bytes;

use super::caller::Caller;
use super::candidate::{self, Candidate, Stood, pairs};
use super::own::Own;
use super::{Failure, Framed, Rpc, decode, frame};

pub(super) async fn lock(rpc: &Arc<Rpc>, caller: &Caller, raw: Bytes) -> Framed {
    let request: LockRequest = decode(&raw)?;
    let own = Own::new(rpc, caller);
    let lease = candidate::lease(&own, request.lease).await?;
    let also = Some(candidate::oldest(&request.name));
    let Stood { mut candidate, response } =
        Candidate::stand(&own, &request.name, Bytes::new(), lease, also).await?;
    let header = match pairs(response.responses.get(1)).first() {
        Some(owner) if owner.create_revision != candidate.revision => {
            match turn(&own, &request.name, &mut candidate).await {
                Ok(header) => header,
                Err(failure) => {
                    candidate.withdraw().await;
                    return Err(failure);
                }
            }
        }
        _ => response.header,
    };
    let key = candidate.key.clone();
    candidate.keep();
    Ok(frame::message(&LockResponse { header, key }))
}

/// Waits until the lock is had; the lease may have ended meanwhile.
async fn turn(own: &Own, name: &[u8], candidate: &mut Candidate) -> Result<Option<ResponseHeader>, Failure> {
    candidate.wait(own, name).await?;
    match candidate.look(own).await? {
        (true, header) => Ok(header),
        (false, _) => Err(Failure::unknown("mutex: session is expired")),
    }
}

pub(super) async fn unlock(rpc: &Arc<Rpc>, caller: &Caller, raw: Bytes) -> Framed {
    let request: UnlockRequest = decode(&raw)?;
    let response = Own::new(rpc, caller).delete(request.key).await?;
    Ok(frame::message(&UnlockResponse { header: response.header }))
}
