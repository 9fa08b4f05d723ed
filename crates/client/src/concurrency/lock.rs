//! Mutual exclusion.

use api::etcdserverpb::{ResponseHeader, TxnResponse};
use bytes::Bytes;

use super::Session;
use super::candidate::Candidate;
use crate::{Error, Result};

impl Session {
    /// Waits until this session holds the lock of this name. A session that holds it already gets it at once.
    ///
    /// Dropping the future while it waits leaves the line.
    ///
    /// # Errors
    /// Any of [`Error`]; [`Error::LeaseExpired`] when the session ended while it waited.
    pub async fn lock(&self, name: impl Into<Bytes>) -> Result<Lock> {
        let name = name.into();
        let (mut candidate, _) = Candidate::stand(self, &name, Bytes::new()).await?;
        match candidate.wait(&name).await {
            Ok(false) => {}
            Ok(true) => {
                if candidate.look().await?.is_none() {
                    return Err(Error::LeaseExpired { id: self.lease() });
                }
            }
            Err(error) => {
                // What matters is why there is no lock.
                drop(candidate.withdraw().await);
                return Err(error);
            }
        }
        candidate.keep();
        Ok(Lock { candidate })
    }
}

/// A lock that is held. Dropped, it stays held until the session ends.
#[derive(Debug)]
pub struct Lock {
    candidate: Candidate,
}

impl Lock {
    /// The key that stands for the lock while it is held.
    #[must_use]
    pub fn key(&self) -> Bytes {
        self.candidate.key.clone()
    }

    /// The revision at which the key was created: compare with it in transactions made under the lock.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.candidate.revision
    }

    /// The header of the answer with which the lock was had.
    #[must_use]
    pub fn header(&self) -> ResponseHeader {
        self.candidate.header
    }

    /// Gives the lock up.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn unlock(self) -> Result<TxnResponse> {
        self.candidate.withdraw().await
    }
}
