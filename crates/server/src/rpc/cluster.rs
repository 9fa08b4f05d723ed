//! Cluster: MemberAdd, MemberRemove, MemberUpdate, MemberPromote, MemberList.
//!
//! The leader changes members; any other member passes the request on, and answers when it has applied the change itself.

use std::sync::Arc;

use api::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse, ResponseHeader,
};
use api::internal::MembersChanged;
use api::internal::peer_request::Request;
use api::internal::peer_response::Response;
use api::status;
use bytes::Bytes;

use super::{Failure, Framed, Rpc, decode, frame};
use crate::{calls, membership};

pub(super) async fn member_list(rpc: &Arc<Rpc>, raw: &Bytes) -> Framed {
    let request: MemberListRequest = decode(raw)?;
    if request.linearizable {
        rpc.barrier().await?;
    }
    Ok(frame::message(&MemberListResponse { header: header(rpc), members: rpc.shared.members.list() }))
}

pub(super) async fn member_add(rpc: &Arc<Rpc>, raw: &Bytes) -> Framed {
    let request: MemberAddRequest = decode(raw)?;
    membership::peer_urls(&request.peer_ur_ls)?;
    let (MembersChanged { member, .. }, members) = changed(rpc, Request::MemberAdd(request)).await?;
    Ok(frame::message(&MemberAddResponse { header: header(rpc), member, members }))
}

pub(super) async fn member_remove(rpc: &Arc<Rpc>, raw: &Bytes) -> Framed {
    let (_, members) = changed(rpc, Request::MemberRemove(decode(raw)?)).await?;
    Ok(frame::message(&MemberRemoveResponse { header: header(rpc), members }))
}

pub(super) async fn member_update(rpc: &Arc<Rpc>, raw: &Bytes) -> Framed {
    let (_, members) = changed(rpc, Request::MemberUpdate(decode(raw)?)).await?;
    Ok(frame::message(&MemberUpdateResponse { header: header(rpc), members }))
}

pub(super) async fn member_promote(rpc: &Arc<Rpc>, raw: &Bytes) -> Framed {
    let (_, members) = changed(rpc, Request::MemberPromote(decode(raw)?)).await?;
    Ok(frame::message(&MemberPromoteResponse { header: header(rpc), members }))
}

/// Calls about the cluster carry no revision.
fn header(rpc: &Rpc) -> Option<ResponseHeader> {
    Some(rpc.shared.header(0))
}

/// Has the leader make a change, and returns the members as this member then knows them.
async fn changed(rpc: &Rpc, request: Request) -> Result<(MembersChanged, Vec<Member>), Failure> {
    let Response::MembersChanged(changed) = rpc.calls.ask_leader(&request).await? else {
        return Err(calls::mismatched());
    };
    let applied =
        tokio::time::timeout(rpc.limits.request_timeout, rpc.node.wait_applied(changed.index)).await;
    applied.map_err(|_| status::TIMEOUT)?.map_err(|_| status::STOPPED)?;
    Ok((changed, rpc.shared.members.list()))
}
