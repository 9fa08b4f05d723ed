//! Who is in the cluster.

use api::etcdserverpb::{MemberListRequest, MemberListResponse};

use crate::retry::Repeat;
use crate::{Client, Result};

impl Client {
    /// The members, in order of their ids, as a quorum knows them.
    ///
    /// # Errors
    /// Any of [`Error`](crate::Error).
    pub async fn members(&self) -> Result<MemberListResponse> {
        self.list_members(true).await
    }

    /// The members as the answering member knows them; works without a leader, may be old.
    ///
    /// # Errors
    /// Any of [`Error`](crate::Error).
    pub async fn members_serializable(&self) -> Result<MemberListResponse> {
        self.list_members(false).await
    }

    async fn list_members(&self, linearizable: bool) -> Result<MemberListResponse> {
        let request = MemberListRequest { linearizable };
        let call = self.core.unary(Repeat::Harmless, request, |stub, request| async move {
            stub.cluster().member_list(request).await
        });
        call.await
    }
}
