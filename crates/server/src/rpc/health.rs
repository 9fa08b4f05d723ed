//! gRPC health: the one service `""` serves from the start.

use std::task::{Context, Poll};

use api::health::health_check_response::ServingStatus;
use api::health::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};
use api::status;
use bytes::Bytes;

use super::{Failure, Framed, Frames, decode, frame};

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

pub(super) fn check(raw: &Bytes) -> Framed {
    let request: HealthCheckRequest = decode(raw)?;
    if request.service.is_empty() {
        Ok(frame::message(&response(ServingStatus::Serving)))
    } else {
        Err(status::HEALTH_UNKNOWN_SERVICE.into())
    }
}

pub(super) fn list() -> Bytes {
    let statuses = [(String::new(), response(ServingStatus::Serving))].into();
    frame::message(&HealthListResponse { statuses })
}

/// The status now, and changes of it, of which there are none while the member runs.
pub(super) fn watch(raw: &Bytes) -> Result<Box<dyn Frames>, Failure> {
    let request: HealthCheckRequest = decode(raw)?;
    let known = request.service.is_empty();
    let status = if known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
    Ok(Box::new(Once(Some(frame::message(&response(status))))))
}

/// Says one thing and stays.
struct Once(Option<Bytes>);

impl Frames for Once {
    fn poll_frames(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        self.0.take().map_or(Poll::Pending, |frame| Poll::Ready(Some(Ok(frame))))
    }
}
