//! gRPC health: the one service `""` serves from the start; with the gate `StopGRPCServiceOnDefrag` it does not while the member
//! defragments.

use api::health::health_check_response::ServingStatus;
use api::health::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};
use api::status;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::body::Told;
use super::{Failure, Framed, Frames, Rpc, decode, frame};

/// The call that is told of changes.
pub(super) const WATCH: &str = "/grpc.health.v1.Health/Watch";

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn status_of(serves: bool) -> ServingStatus {
    if serves { ServingStatus::Serving } else { ServingStatus::NotServing }
}

pub(super) fn check(rpc: &Rpc, raw: &Bytes) -> Framed {
    let request: HealthCheckRequest = decode(raw)?;
    if request.service.is_empty() {
        Ok(frame::message(&response(status_of(*rpc.health.borrow()))))
    } else {
        Err(status::HEALTH_UNKNOWN_SERVICE.into())
    }
}

pub(super) fn list(rpc: &Rpc) -> Bytes {
    let statuses = [(String::new(), response(status_of(*rpc.health.borrow())))].into();
    frame::message(&HealthListResponse { statuses })
}

/// The status now, and each change of it.
pub(super) fn watch(rpc: &Rpc, raw: &Bytes) -> Result<Box<dyn Frames>, Failure> {
    let request: HealthCheckRequest = decode(raw)?;
    let health = request.service.is_empty().then(|| rpc.health.subscribe());
    Ok(Box::new(Told::new(|listener| async move {
        follow(health, listener).await;
        Err(status::HEALTH_STREAM_ENDED.into())
    })))
}

/// Tells the status of a service; of an unknown one there is never anything new.
async fn follow(health: Option<watch::Receiver<bool>>, listener: mpsc::Sender<Bytes>) {
    let Some(mut health) = health else {
        drop(listener.send(frame::message(&response(ServingStatus::ServiceUnknown))).await);
        return std::future::pending().await;
    };
    loop {
        let serves = *health.borrow_and_update();
        drop(listener.send(frame::message(&response(status_of(serves)))).await);
        // Only what differs from what was said last is news.
        if health.wait_for(|now| *now != serves).await.is_err() {
            return;
        }
    }
}

/// Does something during which the member does not count as serving.
pub(super) async fn while_not_serving<T>(health: &watch::Sender<bool>, work: impl Future<Output = T>) -> T {
    /// Serves again however the work ends.
    struct Paused<'a>(&'a watch::Sender<bool>);
    impl Drop for Paused<'_> {
        fn drop(&mut self) {
            self.0.send_replace(true);
        }
    }
    health.send_replace(false);
    let _paused = Paused(health);
    work.await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(health: &watch::Sender<bool>) -> impl AsyncFnMut() -> ServingStatus {
        let mut told = Told::new(|listener| {
            let followed = health.subscribe();
            async move {
                follow(Some(followed), listener).await;
                Ok(())
            }
        });
        async move || {
            let frames = std::future::poll_fn(|cx| told.poll_frames(cx)).await.unwrap().unwrap();
            decode::<HealthCheckResponse>(&frames.slice(frame::PREFIX_BYTES..)).unwrap().status()
        }
    }

    #[tokio::test]
    async fn a_watcher_is_told_of_each_change_and_of_nothing_else() {
        let health = watch::Sender::new(true);
        let mut next = statuses(&health);
        assert_eq!(next().await, ServingStatus::Serving);
        health.send_replace(true);
        health.send_replace(false);
        assert_eq!(next().await, ServingStatus::NotServing);
        health.send_replace(true);
        assert_eq!(next().await, ServingStatus::Serving);
    }

    #[tokio::test]
    async fn a_member_serves_again_when_the_work_is_done_or_given_up() {
        let health = watch::Sender::new(true);
        while_not_serving(&health, async { assert!(!*health.borrow()) }).await;
        assert!(*health.borrow());
        {
            let mut given_up = std::pin::pin!(while_not_serving(&health, std::future::pending::<()>()));
            assert!(futures_util::poll!(&mut given_up).is_pending());
            assert!(!*health.borrow());
        }
        assert!(*health.borrow());
    }
}
