//! Who is in the cluster, and changes of that.
//!
//! Changes are not made again by themselves when the connection breaks: whether they took effect is for the caller to see in
//! [`Client::members`].

use api::MemberId;
use api::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse,
};

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

    /// Adds a voting member that will be reached at these URLs. It has neither name nor client URLs until it has started.
    ///
    /// # Errors
    /// Any of [`Error`](crate::Error), likewise below.
    pub async fn member_add<U: Into<String>>(
        &self,
        peer_urls: impl IntoIterator<Item = U>,
    ) -> Result<MemberAddResponse> {
        self.add_member(peer_urls.into_iter().map(Into::into).collect(), false).await
    }

    /// Adds a member that gets everything and has no vote, until it is [promoted](Self::member_promote).
    pub async fn member_add_as_learner<U: Into<String>>(
        &self,
        peer_urls: impl IntoIterator<Item = U>,
    ) -> Result<MemberAddResponse> {
        self.add_member(peer_urls.into_iter().map(Into::into).collect(), true).await
    }

    async fn add_member(&self, peer_ur_ls: Vec<String>, is_learner: bool) -> Result<MemberAddResponse> {
        let request = MemberAddRequest { peer_ur_ls, is_learner };
        let call = self.core.unary(Repeat::Unsafe, request, |stub, request| async move {
            stub.cluster().member_add(request).await
        });
        call.await
    }

    /// Removes a member for good; it cannot come back under this id.
    pub async fn member_remove(&self, member: MemberId) -> Result<MemberRemoveResponse> {
        let request = MemberRemoveRequest { id: member.get() };
        let call = self.core.unary(Repeat::Unsafe, request, |stub, request| async move {
            stub.cluster().member_remove(request).await
        });
        call.await
    }

    /// Changes the URLs at which the others reach a member.
    pub async fn member_update<U: Into<String>>(
        &self,
        member: MemberId,
        peer_urls: impl IntoIterator<Item = U>,
    ) -> Result<MemberUpdateResponse> {
        let peer_ur_ls = peer_urls.into_iter().map(Into::into).collect();
        let request = MemberUpdateRequest { id: member.get(), peer_ur_ls };
        let call = self.core.unary(Repeat::Unsafe, request, |stub, request| async move {
            stub.cluster().member_update(request).await
        });
        call.await
    }

    /// Gives a learner its vote; refused until it has caught up with the leader.
    pub async fn member_promote(&self, member: MemberId) -> Result<MemberPromoteResponse> {
        let request = MemberPromoteRequest { id: member.get() };
        let call = self.core.unary(Repeat::Unsafe, request, |stub, request| async move {
            stub.cluster().member_promote(request).await
        });
        call.await
    }

    async fn list_members(&self, linearizable: bool) -> Result<MemberListResponse> {
        let request = MemberListRequest { linearizable };
        let call = self.core.unary(Repeat::Harmless, request, |stub, request| async move {
            stub.cluster().member_list(request).await
        });
        call.await
    }
}
