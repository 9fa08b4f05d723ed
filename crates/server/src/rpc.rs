//! The gRPC services, each call from its bytes to its bytes.
//!
//! One table sends a path to its handler; a unary handler takes the encoded request and gives back the framed answer, a
//! streaming one gives back [`Frames`]. There is no generic layer of codecs in between: on two cores hyper with a ready-made
//! frame answers a call in three quarters of the CPU that a generated tonic service takes, and answers that are spliced from
//! stored bytes would have to be taken apart first to go through one.
//!
//! Each handler does the same three things: check the arguments in etcd's order ([`check`]), propose or read, answer
//! ([`encode`]).

mod auth;
mod body;
mod budget;
mod caller;
mod candidate;
mod check;
mod cluster;
mod election;
mod encode;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod own;
mod range_stream;
mod reflection;
mod snapshot;
mod status;
mod watch;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::status as texts;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use prost::Message;
use raftlog::Node;
use tokio::sync::mpsc;

use body::UntilStopped;
pub(crate) use body::{Body, Frames};
pub(crate) use budget::Budget;
use caller::Caller;
pub(crate) use caller::CommonName;
pub(crate) use encode::SEND_BYTES;
use frame::Messages;
pub(crate) use frame::push as push_frame;
pub(crate) use status::Failure;

use crate::calls::Calls;
use crate::member::Shared;
use crate::membership::Membership;

/// What may be asked of a learner.
const LEARNERS_CALLS: &[&str] =
    &["/etcdserverpb.KV/Range", "/etcdserverpb.Maintenance/Status", "/etcdserverpb.Maintenance/Snapshot"];

/// What every handler works with.
pub(crate) struct Rpc {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: Node,
    pub(crate) calls: Calls,
    pub(crate) membership: Arc<Membership>,
    pub(crate) limits: Limits,
    /// What answers may take up together.
    pub(crate) budget: Arc<Budget>,
    /// Becomes true when the member begins to stop.
    pub(crate) stopping: tokio::sync::watch::Receiver<bool>,
    /// True while there has been no leader for so long that streams which require one are ended.
    pub(crate) leaderless: tokio::sync::watch::Receiver<bool>,
    /// Whether gRPC's health service says that this member serves.
    pub(crate) health: tokio::sync::watch::Sender<bool>,
    /// Say so while a defragmentation goes on.
    pub(crate) stop_on_defrag: bool,
    /// Describe the services to whoever asks.
    pub(crate) reflection: bool,
    /// Closed when the last call has let go of this.
    #[expect(dead_code, reason = "it speaks by being dropped")]
    pub(crate) alive: mpsc::Sender<()>,
}

/// Bounds on what a client may ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Largest gRPC message that is read, in bytes.
    pub(crate) receive_bytes: usize,
    pub(crate) request_bytes: usize,
    pub(crate) txn_ops: usize,
    pub(crate) request_timeout: Duration,
    /// A unary call that takes longer is logged.
    pub(crate) slow: Duration,
}

/// A framed answer, or why there is none.
type Framed = Result<Bytes, Failure>;

impl Rpc {
    /// Answers one gRPC call.
    pub(crate) async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        if head.method != http::Method::POST {
            let text = format!(
                "Received a HEADERS frame with :method {:?} which should be POST",
                head.method.as_str()
            );
            let mut refused = failed(&Failure::internal(text));
            *refused.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
            return refused;
        }
        let path = head.uri.path();
        let wants_leader = head.headers.get("hasleader").is_some_and(|value| value == "true");
        if let Err(failure) = self.admit(path, &head.headers, wants_leader) {
            return failed(&failure);
        }
        let caller = Caller::of(&head);
        if let Err(failure) = self.authorize(path, &caller).await {
            return failed(&failure);
        }
        let mut messages = Messages::new(body, self.limits.receive_bytes);
        if let Some(stream) = self.stream(path, &caller, &mut messages).await {
            return match stream {
                Ok(frames) => answer(Body::Stream(self.until_stopped(frames, path, wants_leader))),
                Err(failure) => failed(&failure),
            };
        }
        let began = self.shared.clock.now();
        let outcome = self.unary(path, &caller, &mut messages).await;
        let took = self.shared.clock.now().saturating_sub(began);
        if took > self.limits.slow {
            slow(path, took, messages.taken(), &outcome);
        }
        match outcome {
            Ok(frame) if frame.len() >= budget::SMALL_BYTES => answer(Body::Large(self.budget.leave(frame))),
            Ok(frame) => answer(Body::Unary(Some(frame))),
            Err(failure) => failed(&failure),
        }
    }

    /// The frames until the member stops, or there is no leader for too long and the client wants one.
    fn until_stopped(&self, frames: Box<dyn Frames>, path: &str, wants_leader: bool) -> Box<dyn Frames> {
        let last_words = if path == health::WATCH { texts::HEALTH_STREAM_ENDED } else { texts::STOPPED };
        let (mut stopping, mut leaderless) = (self.stopping.clone(), self.leaderless.clone());
        let stopped = async move {
            tokio::select! {
                // Without a sender the member is gone already.
                _ = stopping.wait_for(|stop| *stop) => last_words,
                Ok(_) = leaderless.wait_for(|leaderless| *leaderless), if wants_leader => texts::NO_LEADER,
            }
        };
        Box::new(UntilStopped::new(frames, stopped))
    }

    /// Checks of every call, before it is looked at.
    fn admit(&self, path: &str, headers: &HeaderMap, wants_leader: bool) -> Result<(), Failure> {
        // A range may be serializable, which is for its handler to see.
        if self.shared.members.is_learner() && !LEARNERS_CALLS.contains(&path) {
            return Err(texts::NOT_SUPPORTED_FOR_LEARNER.into());
        }
        if let Some(version) = headers.get("client-api-version") {
            std::str::from_utf8(version.as_bytes()).map_err(|_| texts::INVALID_CLIENT_API_VERSION)?;
        }
        if wants_leader && self.node.leadership().borrow().leader.is_none() {
            return Err(texts::NO_LEADER.into());
        }
        Ok(())
    }

    /// The calls that answer with a stream, `None` for any other path.
    async fn stream(
        self: &Arc<Self>,
        path: &str,
        caller: &Caller,
        messages: &mut Messages,
    ) -> Option<Result<Box<dyn Frames>, Failure>> {
        match path {
            "/etcdserverpb.Watch/Watch" => Some(Ok(Box::new(watch::Call::open(self, caller, messages)))),
            "/etcdserverpb.Lease/LeaseKeepAlive" => {
                Some(Ok(Box::new(lease::KeepAlive::open(self, caller, messages))))
            }
            "/etcdserverpb.KV/RangeStream" => Some(match messages.only().await {
                Ok(request) => range_stream::open(self, caller, request).await,
                Err(failure) => Err(failure),
            }),
            "/v3electionpb.Election/Observe" => Some(match messages.only().await {
                Ok(request) => election::observe(self, caller, &request),
                Err(failure) => Err(failure),
            }),
            "/etcdserverpb.Maintenance/Snapshot" => Some(match messages.only().await {
                Ok(_) => Ok(snapshot::open(self)),
                Err(failure) => Err(failure),
            }),
            health::WATCH => Some(match messages.only().await {
                Ok(request) => health::watch(self, &request),
                Err(failure) => Err(failure),
            }),
            reflection::PATH | reflection::PATH_ALPHA if self.reflection => {
                Some(Ok(reflection::open(messages)))
            }
            _ => None,
        }
    }

    /// All other calls. Whether there is such a call is said before its message has come.
    async fn unary(self: &Arc<Self>, path: &str, caller: &Caller, messages: &mut Messages) -> Framed {
        match path {
            "/etcdserverpb.KV/Range" => kv::range(self, caller, messages.only().await?).await,
            "/etcdserverpb.KV/Put" => kv::put(self, caller, messages.only().await?).await,
            "/etcdserverpb.KV/DeleteRange" => kv::delete_range(self, caller, messages.only().await?).await,
            "/etcdserverpb.KV/Txn" => kv::txn(self, caller, messages.only().await?).await,
            "/etcdserverpb.KV/Compact" => kv::compact(self, messages.only().await?).await,
            "/etcdserverpb.Lease/LeaseGrant" => lease::grant(self, caller, messages.only().await?).await,
            "/etcdserverpb.Lease/LeaseRevoke" => lease::revoke(self, caller, messages.only().await?).await,
            "/etcdserverpb.Lease/LeaseTimeToLive" => {
                lease::time_to_live(self, caller, &messages.only().await?).await
            }
            "/etcdserverpb.Lease/LeaseLeases" => lease::leases(self, caller).await,
            "/etcdserverpb.Cluster/MemberList" => cluster::member_list(self, &messages.only().await?).await,
            "/etcdserverpb.Cluster/MemberAdd" => cluster::member_add(self, &messages.only().await?).await,
            "/etcdserverpb.Cluster/MemberRemove" => {
                cluster::member_remove(self, &messages.only().await?).await
            }
            "/etcdserverpb.Cluster/MemberUpdate" => {
                cluster::member_update(self, &messages.only().await?).await
            }
            "/etcdserverpb.Cluster/MemberPromote" => {
                cluster::member_promote(self, &messages.only().await?).await
            }
            "/etcdserverpb.Maintenance/Status" => maintenance::status(self),
            "/etcdserverpb.Maintenance/Alarm" => {
                maintenance::alarm(self, caller, &messages.only().await?).await
            }
            "/etcdserverpb.Maintenance/Defragment" => maintenance::defragment(self).await,
            "/etcdserverpb.Maintenance/Hash" => maintenance::hash(self).await,
            "/etcdserverpb.Maintenance/MoveLeader" => {
                maintenance::move_leader(self, &messages.only().await?).await
            }
            "/etcdserverpb.Maintenance/Downgrade" => {
                maintenance::downgrade(self, caller, &messages.only().await?).await
            }
            "/etcdserverpb.Maintenance/HashKV" => maintenance::hash_kv(self, &messages.only().await?).await,
            "/v3electionpb.Election/Campaign" => {
                let request = messages.only().await?;
                self.waiting(election::campaign(self, caller, request)).await
            }
            "/v3electionpb.Election/Proclaim" => {
                Box::pin(election::proclaim(self, caller, messages.only().await?)).await
            }
            "/v3electionpb.Election/Leader" => {
                Box::pin(election::leader(self, caller, &messages.only().await?)).await
            }
            "/v3electionpb.Election/Resign" => {
                Box::pin(election::resign(self, caller, &messages.only().await?)).await
            }
            "/v3lockpb.Lock/Lock" => {
                let request = messages.only().await?;
                self.waiting(lock::lock(self, caller, request)).await
            }
            "/v3lockpb.Lock/Unlock" => Box::pin(lock::unlock(self, caller, messages.only().await?)).await,
            path if path.starts_with(auth::PREFIX) => auth::serve(self, caller, path, messages).await,
            "/grpc.health.v1.Health/Check" => health::check(self, &messages.only().await?),
            "/grpc.health.v1.Health/List" => Ok(health::list(self)),
            _ => Err(self.unknown(path)),
        }
    }

    /// A unary call that may wait for others without end; it ends when the member stops.
    async fn waiting(&self, call: impl Future<Output = Framed> + Send) -> Framed {
        let mut stopping = self.stopping.clone();
        let call = Box::pin(call);
        tokio::select! {
            answer = call => answer,
            // Without a sender the member is gone already.
            _ = stopping.wait_for(|stop| *stop) => Err(texts::STOPPED.into()),
        }
    }

    fn unknown(&self, path: &str) -> Failure {
        let Some((service, method)) = path.strip_prefix('/').unwrap_or(path).rsplit_once('/') else {
            return Failure::unimplemented(format!("malformed method name: {path:?}"));
        };
        let known = SERVICES.contains(&service) || self.reflection && reflection::SERVICES.contains(&service);
        Failure::unimplemented(if known {
            format!("unknown method {method} for service {service}")
        } else {
            format!("unknown service {service}")
        })
    }

    /// Returns when this member's state holds every write acknowledged before.
    async fn barrier(&self) -> Result<(), Failure> {
        crate::read::barrier(&self.node, self.limits.request_timeout).await.map_err(Failure::from)
    }
}

fn decode<M: Message + Default>(raw: &Bytes) -> Result<M, Failure> {
    M::decode(raw.clone()).map_err(|error| Failure::undecodable(&error))
}

/// Runs what may read from disk for long on a thread where that hurts nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|_| texts::STOPPED.into())
}

const SERVICES: &[&str] = &[
    "etcdserverpb.Auth",
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "v3electionpb.Election",
    "v3lockpb.Lock",
    "grpc.health.v1.Health",
];

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

fn answer(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, GRPC);
    response
}

/// A call that failed before it answered anything: its status travels in the headers.
fn failed(failure: &Failure) -> Response<Body> {
    let mut response = answer(Body::Done);
    response.headers_mut().extend(failure.trailers());
    response
}

/// Says in the log that a call took long, in etcd's words; never what was asked for or answered.
fn slow(path: &str, took: Duration, request_size: usize, outcome: &Framed) {
    tracing::warn!(
        "time spent" = ?took,
        "response type" = path,
        "request size" = request_size,
        "response size" = outcome.as_ref().map_or(0, Bytes::len),
        error = outcome.as_ref().err().map(|failure| failure.text.as_ref()),
        "request stats"
    );
}

/// Whether a request is a gRPC call: over HTTP/2, `application/grpc` perhaps with a codec or parameters.
pub(crate) fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(http::header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    request.version() == http::Version::HTTP_2
        && content_type
            .and_then(|value| value.strip_prefix(b"application/grpc"))
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A future that is polled at once where it stands and only becomes a task if it has to wait.
///
/// Most calls never wait: their request has arrived whole and their answer is in memory. Answering those from the
/// connection's own task saves a task for each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollFirst;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for PollFirst {
    fn execute(&self, future: F) {
        let mut future = Box::pin(future);
        // The waker of this first poll wakes nobody; the task polls again at once and leaves its own.
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        if future.as_mut().poll(&mut cx).is_pending() {
            tokio::spawn(future);
        }
    }
}
