//! Connections to the other members, and unary calls over them.
//!
//! Each member has up to three connections: one for the long stream of entries, one for what must not wait behind
//! entries (heartbeats, votes, reads), and one for what is large (snapshots, forwarded proposals, calls of the application). Each is
//! made when it is first used and again whenever it has broken. Where a member is reached is looked up at every
//! connect, because its URLs may change.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::sync::watch;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::dial::{Dial, Io};
use super::wire::MESSAGE_BYTES;
use crate::config::Member;
use crate::error::Error;
use crate::failure::Failure;
use crate::metrics::PeerMetrics;

/// Receive windows of a stream and a connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Headers of every call: whose cluster, who asks, and whom.
const CLUSTER: &str = "raftlog-cluster";
const FROM: &str = "raftlog-from";
const TO: &str = "raftlog-to";
/// The text with which a member that was removed is refused.
const REMOVED: &str = "removed member";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The stream of entries.
    Entries,
    /// Small messages that must not wait.
    Control,
    /// Everything large.
    Bulk,
}

/// Who calls whom, as each call's headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parties {
    pub(crate) cluster: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Parties {
    fn headers(self) -> MetadataMap {
        let ids = [(CLUSTER, self.cluster), (FROM, self.from), (TO, self.to)];
        let headers = ids.map(|(name, id)| {
            let value = HeaderValue::from_str(&format!("{id:x}")).expect("digits are a header's value");
            (HeaderName::from_static(name), value)
        });
        MetadataMap::from_headers(HeaderMap::from_iter(headers))
    }

    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let id = |name: &str| {
            let text = headers.get(name)?.to_str().ok()?;
            u64::from_str_radix(text, 16).ok()
        };
        Some(Self { cluster: id(CLUSTER)?, from: id(FROM)?, to: id(TO)? })
    }
}

/// Refuses a caller that is no member any more, and so tells it.
pub(crate) fn removed() -> Status {
    Status::permission_denied(REMOVED)
}

/// Whether a call failed before anything of it was sent.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() || error.is::<NoConnection>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("member {member:x} cannot be reached at {}: {reason}", urls.join(" or "))]
struct NoConnection {
    member: u64,
    urls: Vec<String>,
    reason: io::Error,
}

/// A connection to a member as it is now reached.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) channel: Channel,
    /// Changes when the member is to be reached elsewhere; long streams end then.
    pub(crate) moved: watch::Receiver<()>,
    headers: MetadataMap,
}

impl Link {
    /// A request with the headers of every call.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        request
    }
}

#[derive(Debug, Default)]
struct Known {
    urls: Vec<String>,
    /// The headers of every call, made when there is a first one.
    headers: Option<MetadataMap>,
    channels: [Option<Channel>; 3],
    moved: Option<watch::Sender<()>>,
    /// Whether the last message got through; unknown before the first.
    is_active: Option<bool>,
    metrics: PeerMetrics,
}

/// All connections of this member to others.
#[derive(Debug)]
pub(crate) struct Links {
    cluster: u64,
    member: u64,
    dial: Arc<dyn Dial>,
    /// How long a connect may take, and how long a connection may be silent before it is asked for a sign of life.
    patience: Duration,
    failure: Failure,
    known: Mutex<BTreeMap<u64, Known>>,
}

impl Links {
    pub(crate) fn new(
        cluster: u64,
        member: u64,
        dial: Arc<dyn Dial>,
        patience: Duration,
        failure: Failure,
    ) -> Self {
        Self { cluster, member, dial, patience, failure, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over where members are reached; those that are not named are forgotten.
    pub(crate) fn learn<'a>(&self, members: impl Iterator<Item = (u64, &'a Member)>) {
        let mut known = self.known();
        let mut old = std::mem::take(&mut *known);
        for (id, member) in members {
            let entry = match old.remove(&id) {
                Some(entry) if entry.urls == member.peer_urls => entry,
                // Dropping an entry ends the streams that use it.
                entry => {
                    let metrics = entry.map(|entry| entry.metrics).unwrap_or_default();
                    Known { urls: member.peer_urls.clone(), metrics, ..Known::default() }
                }
            };
            known.insert(id, entry);
        }
    }

    /// As [`learn`](Self::learn), for one member that may be unknown so far.
    pub(crate) fn introduce(&self, id: u64, member: &Member) {
        let mut known = self.known();
        known.entry(id).or_insert_with(|| Known { urls: member.peer_urls.clone(), ..Known::default() });
    }

    /// The connection to a member, which may not be made yet.
    pub(crate) fn link(&self, to: u64, purpose: Purpose) -> Result<Link, Status> {
        let mut known = self.known();
        let unknown = || Status::not_found(format!("member {to:x} is unknown here"));
        let entry = known.get_mut(&to).ok_or_else(unknown)?;
        let moved = entry.moved.get_or_insert_with(|| watch::channel(()).0).subscribe();
        let urls = &entry.urls;
        let channel = entry.channels[purpose as usize].get_or_insert_with(|| self.channel(to, urls)).clone();
        let parties = Parties { cluster: self.cluster, from: self.member, to };
        let headers = entry.headers.get_or_insert_with(|| parties.headers()).clone();
        Ok(Link { channel, moved, headers })
    }

    /// A channel that connects when it is used, to the first URL that answers.
    fn channel(&self, to: u64, urls: &[String]) -> Channel {
        let (dial, urls, patience) = (Arc::clone(&self.dial), urls.to_vec(), self.patience);
        let connect = tower::service_fn(move |_: Uri| {
            let (dial, urls) = (Arc::clone(&dial), urls.clone());
            async move {
                let mut reason = io::Error::new(io::ErrorKind::NotFound, "it has no URLs");
                for url in &urls {
                    let timeout = || io::Error::new(io::ErrorKind::TimedOut, "connecting took too long");
                    let dialed = tokio::time::timeout(patience, dial.dial(url.clone())).await;
                    match dialed.unwrap_or_else(|_| Err(timeout())) {
                        Ok(io) => return Ok::<TokioIo<Box<dyn Io>>, NoConnection>(TokioIo::new(io)),
                        Err(error) => reason = error,
                    }
                }
                Err(NoConnection { member: to, urls, reason })
            }
        });
        Endpoint::from_static("http://member")
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(self.patience)
            .keep_alive_timeout(self.patience)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connect)
    }

    /// Makes a call and waits for its answer, for as long as it takes.
    pub(crate) async fn unary<Q, A>(
        &self,
        to: u64,
        purpose: Purpose,
        path: &'static str,
        message: Q,
    ) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let link = self.link(to, purpose)?;
        let request = link.request(message);
        let mut grpc = client(link.channel);
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await;
        if purpose == Purpose::Control {
            self.note(to, answer.as_ref().err());
        }
        Ok(answer.map_err(|status| self.heard(status))?.into_inner())
    }

    /// Says once that a member has become unreachable, and once that it is back.
    fn note(&self, to: u64, failure: Option<&Status>) {
        let is_active = failure.is_none_or(|status| status.code() != Code::Unavailable);
        let mut known = self.known();
        let Some(entry) = known.get_mut(&to) else { return };
        let was_active = entry.is_active.replace(is_active);
        entry.metrics.is_active = is_active;
        entry.metrics.failures += u64::from(!is_active);
        entry.metrics.disconnects += u64::from(was_active == Some(true) && !is_active);
        if was_active == Some(is_active) {
            return;
        }
        drop(known);
        match failure.filter(|_| !is_active) {
            None => tracing::info!(peer_id = %format!("{to:x}"), "peer became active"),
            Some(status) => tracing::warn!(
                peer_id = %format!("{to:x}"),
                error = %Reasons(status),
                "peer became inactive (message send to peer failed)"
            ),
        }
    }

    /// Counts a snapshot that was sent, or was not sent whole.
    pub(crate) fn snapshot_ended(&self, to: u64, is_sent: bool) {
        if let Some(entry) = self.known().get_mut(&to) {
            entry.metrics.snapshots_sent += u64::from(is_sent);
            entry.metrics.snapshot_failures += u64::from(!is_sent);
        }
    }

    /// What has happened on the ways to the other members.
    pub(crate) fn metrics(&self) -> BTreeMap<u64, PeerMetrics> {
        let known = self.known();
        let others = known.iter().filter(|(id, _)| **id != self.member);
        others.map(|(&id, entry)| (id, entry.metrics)).collect()
    }

    /// Looks at a refusal: whoever was removed learns it so, and stops.
    pub(crate) fn heard(&self, status: Status) -> Status {
        if status.code() == Code::PermissionDenied && status.message() == REMOVED {
            self.failure.set(Error::Removed { member: self.member });
        }
        status
    }
}

/// An error's innermost cause, which alone says something.
struct Reasons<'a>(&'a Status);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cause = self.0.source();
        while let Some(error) = cause {
            if let Some(reason) = error.downcast_ref::<NoConnection>() {
                return fmt::Display::fmt(reason, f);
            }
            cause = error.source();
        }
        f.write_str(self.0.message())
    }
}

/// A client on a channel, without the usual bounds on messages: what is sent is bounded by the log.
pub(crate) fn client(channel: Channel) -> Grpc<Channel> {
    Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES).max_encoding_message_size(MESSAGE_BYTES)
}
