//! The first thing that went wrong, kept for everybody who asks.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use crate::error::Error;

/// Set at most once; later failures follow from the first and are not kept.
#[derive(Debug, Clone)]
pub(crate) struct Failure(Arc<watch::Sender<Option<Error>>>);

impl Failure {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Records why the node cannot go on, and logs it.
    pub(crate) fn set(&self, error: Error) {
        self.0.send_if_modified(|current| {
            if current.is_some() {
                return false;
            }
            tracing::error!(%error, "the node cannot go on");
            *current = Some(error);
            true
        });
    }

    pub(crate) fn get(&self) -> Option<Error> {
        self.0.borrow().clone()
    }

    /// The failure as openraft wants it: once there is one, no operation succeeds.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.get().map_or(Ok(()), |error| Err(io::Error::other(error)))
    }

    /// Waits until there is a failure.
    pub(crate) async fn wait(&self) -> Error {
        let mut receiver = self.0.subscribe();
        let failure = receiver.wait_for(Option::is_some).await.expect("self holds the sender");
        failure.clone().expect("it was waited for")
    }
}
