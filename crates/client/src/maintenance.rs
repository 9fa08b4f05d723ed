//! The state of one member, and what keeps it in shape.
//!
//! Except for alarms these calls are about the member that answers them: with several endpoints, take one with
//! [`Client::only`] first.

use api::MemberId;
use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::downgrade_request::DowngradeAction;
use api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use tonic::Streaming;

use crate::retry::Repeat;
use crate::{Client, Result};

impl Client {
    /// The member's version, size, leader and position in the log.
    ///
    /// # Errors
    /// Any of [`Error`](crate::Error), likewise below.
    pub async fn status(&self) -> Result<StatusResponse> {
        let call = self.core.unary(Repeat::Harmless, StatusRequest {}, |stub, request| async move {
            stub.maintenance().status(request).await
        });
        call.await
    }

    /// A hash over the member's whole store.
    pub async fn hash(&self) -> Result<HashResponse> {
        let call = self.core.unary(Repeat::Harmless, HashRequest {}, |stub, request| async move {
            stub.maintenance().hash(request).await
        });
        call.await
    }

    /// A hash over the member's history up to a revision (0 for now): equal on all members that hold the same.
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse> {
        let request = HashKvRequest { revision };
        let call = self.core.unary(Repeat::Harmless, request, |stub, request| async move {
            stub.maintenance().hash_kv(request).await
        });
        call.await
    }

    /// Has the member give the space of deleted records back.
    pub async fn defragment(&self) -> Result<DefragmentResponse> {
        let call = self.core.unary(Repeat::Unsafe, DefragmentRequest {}, |stub, request| async move {
            stub.maintenance().defragment(request).await
        });
        call.await
    }

    /// Has the leader hand its leadership to another voting member; only the leader itself can be asked.
    pub async fn move_leader(&self, to: MemberId) -> Result<MoveLeaderResponse> {
        let request = MoveLeaderRequest { target_id: to.get() };
        let call = self.core.unary(Repeat::Unsafe, request, |stub, request| async move {
            stub.maintenance().move_leader(request).await
        });
        call.await
    }

    /// Asks whether the cluster can go back to an older version, has it do so, or has it stay.
    pub async fn downgrade(
        &self,
        action: DowngradeAction,
        version: impl Into<String>,
    ) -> Result<DowngradeResponse> {
        let request = DowngradeRequest { action: action.into(), version: version.into() };
        let call = self.core.unary(Repeat::Unsafe, request, |stub, request| async move {
            stub.maintenance().downgrade(request).await
        });
        call.await
    }

    /// The member's whole state at one moment, as etcd's database file in pieces, the last of which is a SHA-256 of all others.
    pub async fn snapshot(&self) -> Result<SnapshotStream> {
        let call = self.core.unary(Repeat::Harmless, SnapshotRequest {}, |stub, request| async move {
            stub.maintenance().snapshot(request).await
        });
        Ok(SnapshotStream { pieces: call.await? })
    }

    /// All alarms raised in the cluster.
    pub async fn alarms(&self) -> Result<AlarmResponse> {
        self.alarm(Repeat::Harmless, AlarmAction::Get, MemberId::default(), AlarmType::None).await
    }

    /// Withdraws one alarm; the answer holds it if it was raised.
    pub async fn disarm(&self, member: MemberId, alarm: AlarmType) -> Result<AlarmResponse> {
        self.alarm(Repeat::Unsafe, AlarmAction::Deactivate, member, alarm).await
    }

    /// Withdraws every alarm raised and tells which they were. The server knows no such request, so this is a list
    /// followed by one request each, and the answer has no header.
    pub async fn disarm_all(&self) -> Result<AlarmResponse> {
        let mut disarmed: Vec<AlarmMember> = Vec::new();
        for raised in self.alarms().await?.alarms {
            let answer = self.disarm(MemberId::new(raised.member_id), raised.alarm()).await?;
            disarmed.extend(answer.alarms);
        }
        Ok(AlarmResponse { header: None, alarms: disarmed })
    }

    async fn alarm(
        &self,
        repeat: Repeat,
        action: AlarmAction,
        member: MemberId,
        alarm: AlarmType,
    ) -> Result<AlarmResponse> {
        let request = AlarmRequest { action: action.into(), member_id: member.get(), alarm: alarm.into() };
        let call = self
            .core
            .unary(repeat, request, |stub, request| async move { stub.maintenance().alarm(request).await });
        call.await
    }
}

/// The pieces of a [snapshot](Client::snapshot), as they come.
#[derive(Debug)]
pub struct SnapshotStream {
    pieces: Streaming<SnapshotResponse>,
}

impl SnapshotStream {
    /// The next piece; `None` when that was all.
    ///
    /// # Errors
    /// The server failed, or the connection broke; what has come is no whole snapshot.
    pub async fn next(&mut self) -> Result<Option<SnapshotResponse>> {
        Ok(self.pieces.message().await?)
    }
}
