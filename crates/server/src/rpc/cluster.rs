//! Cluster: MemberList.

use std::sync::Arc;

use api::etcdserverpb::{MemberListRequest, MemberListResponse};
use bytes::Bytes;

use super::{Framed, Rpc, decode, frame};

pub(super) async fn member_list(rpc: &Arc<Rpc>, raw: &Bytes) -> Framed {
    let request: MemberListRequest = decode(raw)?;
    if request.linearizable {
        rpc.barrier().await?;
    }
    // Calls about the cluster carry no revision.
    let header = Some(rpc.shared.header(0));
    Ok(frame::message(&MemberListResponse { header, members: rpc.shared.members.list() }))
}
