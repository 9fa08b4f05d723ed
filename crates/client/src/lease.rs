//! Leases: keys that live no longer than whoever keeps them alive.
//!
//! ```no_run
//! # async fn example(client: etcd_rs_client::Client) -> etcd_rs_client::Result<()> {
//! use etcd_rs_client::LeaseId;
//!
//! let granted = client.lease_grant(10).await?;
//! let lease = LeaseId::new(granted.id);
//! client.put("service/a", "10.0.0.1").lease(lease).await?;
//! let mut keeper = client.lease_keep_alive(lease);
//! while let Some(renewed) = keeper.next().await {
//!     println!("{} more seconds", renewed?.ttl);
//! }
//! # Ok(()) }
//! ```

pub(crate) mod keeper;

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use api::LeaseId;
use api::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;

use crate::lease::keeper::{Command, KeeperKey};
use crate::retry::Repeat;
use crate::{Client, Error, Result};

/// How many unread answers a keeper holds.
const UNREAD_MAX: usize = 16;

impl Client {
    /// Grants a lease of so many seconds; the server chooses its id and may raise the time.
    ///
    /// # Errors
    /// Any of [`Error`], likewise below.
    pub async fn lease_grant(&self, ttl: i64) -> Result<LeaseGrantResponse> {
        self.lease_grant_as(LeaseId::NONE, ttl).await
    }

    /// Grants a lease under an id of the caller's choice.
    pub async fn lease_grant_as(&self, id: LeaseId, ttl: i64) -> Result<LeaseGrantResponse> {
        let request = LeaseGrantRequest { ttl, id: id.get() };
        let call = self.core.unary(Repeat::Unsafe, request, |stub, request| async move {
            stub.lease().lease_grant(request).await
        });
        call.await
    }

    /// Ends a lease and deletes its keys.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<LeaseRevokeResponse> {
        let request = LeaseRevokeRequest { id: id.get() };
        let call = self.core.unary(Repeat::Unsafe, request, |stub, request| async move {
            stub.lease().lease_revoke(request).await
        });
        call.await
    }

    /// Keeps a lease alive until the keeper is dropped. All keepers of a client share one stream.
    #[must_use]
    pub fn lease_keep_alive(&self, id: LeaseId) -> LeaseKeeper {
        static NEXT_KEY: AtomicU64 = AtomicU64::new(0);
        let commands = self.keep_alive_commands().clone();
        let key = KeeperKey(NEXT_KEY.fetch_add(1, Ordering::Relaxed));
        let (sender, answers) = mpsc::channel(UNREAD_MAX);
        // A task that is gone drops the sender, which ends the keeper.
        commands.send(Command::Keep { key, id, answers: sender }).unwrap_or(());
        LeaseKeeper { key, id, answers, ended: false, commands }
    }

    /// Renews a lease once.
    ///
    /// # Errors
    /// [`api::status::LEASE_NOT_FOUND`] if there is no such lease.
    pub async fn lease_keep_alive_once(&self, id: LeaseId) -> Result<LeaseKeepAliveResponse> {
        let request = LeaseKeepAliveRequest { id: id.get() };
        let call = self.core.unary(Repeat::Harmless, request, |stub, request| async move {
            let (message, extensions) = (*request.get_ref(), request.metadata().clone());
            let mut stream = tonic::Request::new(tokio_stream::once(message));
            *stream.metadata_mut() = extensions;
            let mut answers = stub.lease().lease_keep_alive(stream).await?.into_inner();
            let answer = answers.message().await?;
            answer
                .map(tonic::Response::new)
                .ok_or_else(|| tonic::Status::unavailable("the server closed the keep-alive stream"))
        });
        let answer: LeaseKeepAliveResponse = call.await?;
        if answer.ttl <= 0 {
            return Err(tonic::Status::not_found(api::status::LEASE_NOT_FOUND.text()).into());
        }
        Ok(answer)
    }

    /// How long a lease has left, and with `keys` which keys are attached. A lease that does not exist has a time of -1.
    pub async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseTimeToLiveResponse> {
        let request = LeaseTimeToLiveRequest { id: id.get(), keys };
        let call = self.core.unary(Repeat::Harmless, request, |stub, request| async move {
            stub.lease().lease_time_to_live(request).await
        });
        call.await
    }

    /// All leases, those that end soonest first.
    pub async fn leases(&self) -> Result<LeaseLeasesResponse> {
        let call = self.core.unary(Repeat::Harmless, LeaseLeasesRequest {}, |stub, request| async move {
            stub.lease().lease_leases(request).await
        });
        call.await
    }
}

/// Keeps one lease alive, renewing it after each third of its time. It works whether or not the answers are read; of those not
/// read only the first few are kept.
///
/// Dropping it stops renewing; it does not revoke.
#[derive(Debug)]
pub struct LeaseKeeper {
    key: KeeperKey,
    id: LeaseId,
    answers: mpsc::Receiver<Result<LeaseKeepAliveResponse>>,
    /// The last item has been read.
    ended: bool,
    commands: mpsc::UnboundedSender<Command>,
}

impl LeaseKeeper {
    /// The lease.
    #[must_use]
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// The next renewal. An error is the last item: [`Error::LeaseExpired`] when the lease is gone, or could not be renewed
    /// for as long as it was granted and so must be taken for gone.
    pub async fn next(&mut self) -> Option<Result<LeaseKeepAliveResponse>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<LeaseKeepAliveResponse>>> {
        let item = std::task::ready!(self.answers.poll_recv(cx));
        let last = !matches!(item, Some(Ok(_)));
        if std::mem::replace(&mut self.ended, last) {
            return Poll::Ready(None);
        }
        // The channel may have been too full for the last word.
        Poll::Ready(item.or(Some(Err(Error::LeaseExpired { id: self.id }))))
    }
}

impl Stream for LeaseKeeper {
    type Item = Result<LeaseKeepAliveResponse>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        // A task that is gone renews nothing.
        self.commands.send(Command::Release { key: self.key }).unwrap_or(());
    }
}
