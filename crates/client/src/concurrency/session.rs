//! A lease that is kept alive for whatever is held under it.

use api::LeaseId;
use api::etcdserverpb::LeaseRevokeResponse;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::{Client, Error, Result};

impl Client {
    /// Begins a session: grants a lease of so many seconds and keeps it alive until the session is dropped.
    ///
    /// # Errors
    /// As [`lease_grant`](Self::lease_grant).
    pub async fn session(&self, ttl: i64) -> Result<Session> {
        let granted = self.lease_grant(ttl).await?;
        Ok(self.session_of(LeaseId::new(granted.id)))
    }

    /// Begins a session with a lease that is there already.
    #[must_use]
    pub fn session_of(&self, lease: LeaseId) -> Session {
        let mut keeper = self.lease_keep_alive(lease);
        let (end, lost) = watch::channel(None);
        let keeping = tokio::spawn(async move {
            while let Some(renewed) = keeper.next().await {
                if let Err(error) = renewed {
                    end.send_replace(Some(error));
                    return;
                }
            }
        });
        Session { client: self.clone(), lease, lost, keeping: keeping.abort_handle() }
    }
}

/// A lease that is kept alive. Dropped, it is renewed no more, and ends when its time is over.
#[derive(Debug)]
pub struct Session {
    client: Client,
    lease: LeaseId,
    lost: watch::Receiver<Option<Error>>,
    keeping: AbortHandle,
}

impl Session {
    /// The lease.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The client that the session belongs to.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until the lease is gone, or must be taken for gone because it could not be renewed; returns why.
    pub async fn lost(&self) -> Error {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or(Error::Closed),
            // The task ended without a word: its runtime is going.
            Err(_) => Error::Closed,
        }
    }

    /// Ends the session at once, and with it all that is held under it.
    ///
    /// # Errors
    /// As [`lease_revoke`](Client::lease_revoke); the lease is renewed no more in any case.
    pub async fn close(self) -> Result<LeaseRevokeResponse> {
        self.keeping.abort();
        self.client.lease_revoke(self.lease).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}
