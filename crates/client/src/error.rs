//! What can go wrong with a call, in one enum.

use std::error::Error as _;
use std::fmt;

use api::LeaseId;
use api::etcdserverpb::WatchResponse;
use tonic::{Code, ConnectError, Status};

/// A call's outcome.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed.
///
/// `Display` gives the words a user of etcd knows: etcd's own texts bare, any other status as
/// `rpc error: code = <Code> desc = <text>`.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server, or the connection to it, answered with a status.
    #[error("{}", RpcText(*.code, message))]
    Rpc {
        /// The gRPC code.
        code: Code,
        /// The text, word for word as it was sent.
        message: String,
    },

    /// There is nobody to talk to: the list of endpoints is empty.
    #[error("etcdclient: no available endpoints")]
    NoEndpoints,

    /// An endpoint cannot be understood.
    #[error("bad endpoint {endpoint:?}: {reason}")]
    BadEndpoint {
        /// The endpoint as it was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },

    /// TLS cannot be set up as it was asked for: a file is missing or does not hold what it should.
    #[error("{0}")]
    Tls(String),

    /// No endpoint accepted a connection in time; the request was never sent.
    #[error("no endpoint is reachable: {reason}")]
    Unreachable {
        /// How the last attempt failed.
        reason: String,
    },

    /// The request's own time limit passed. Whether a write took effect is unknown.
    #[error("context deadline exceeded")]
    DeadlineExceeded,

    /// The server ended a watch, or refused to create it; the response says why.
    #[error("{}", WatchText(.0))]
    WatchCanceled(Box<WatchResponse>),

    /// A lease that was kept alive is gone: revoked, expired, or not renewed in time.
    #[error("lease {id} expired or revoked")]
    LeaseExpired {
        /// The lease.
        id: LeaseId,
    },

    /// The task that serves watches or leases is gone, because its runtime is shutting down.
    #[error("the client's runtime has shut down")]
    Closed,
}

impl Error {
    /// The gRPC code, if the error came as a status.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Rpc { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether this is the given error of etcd's list. Texts decide, not codes: servers of different versions send
    /// some of them under different codes.
    #[must_use]
    pub fn is(&self, known: api::status::Status) -> bool {
        match self {
            Self::Rpc { message, .. } => message == known.text(),
            Self::WatchCanceled(response) => bare(&WatchText(response).to_string()) == known.text(),
            _ => false,
        }
    }

    /// The revision below which history is gone, when that is why a watch was cancelled: reading the keys anew and
    /// watching from there is the way on.
    #[must_use]
    pub fn compact_revision(&self) -> Option<i64> {
        match self {
            Self::WatchCanceled(response) if response.compact_revision != 0 => {
                Some(response.compact_revision)
            }
            _ => None,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Rpc { code: effective_code(&status), message: status.message().to_owned() }
    }
}

/// Whether the request of this status was never sent, because no connection came about.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The code a status stands for. A status with a source was made up on this side because the connection broke; gRPC
/// calls that Unavailable, whatever the layer below called it.
pub(crate) fn effective_code(status: &Status) -> Code {
    if status.source().is_some() { Code::Unavailable } else { status.code() }
}

/// A text without the words that Go puts before it when it prints a status; servers give them as the reason why a watch is
/// refused.
pub(crate) fn bare(text: &str) -> &str {
    let described = text.strip_prefix("rpc error: code = ").and_then(|rest| rest.split_once(" desc = "));
    described.map_or(text, |(_, description)| description)
}

struct RpcText<'a>(Code, &'a str);

impl fmt::Display for RpcText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(code, message) = *self;
        if api::status::ALL.iter().any(|known| known.text() == message) {
            return f.write_str(message);
        }
        write!(f, "rpc error: code = {} desc = {message}", code_name(code))
    }
}

struct WatchText<'a>(&'a WatchResponse);

impl fmt::Display for WatchText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(response) = self;
        if response.compact_revision != 0 {
            f.write_str(api::status::COMPACTED.text())
        } else if response.cancel_reason.is_empty() {
            f.write_str(api::status::FUTURE_REV.text())
        } else {
            f.write_str(&response.cancel_reason)
        }
    }
}

/// The code's name as gRPC spells it in texts.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts_stand_bare_and_others_carry_their_code() {
        let known = Error::from(Status::invalid_argument("etcdserver: key is not provided"));
        assert_eq!(known.to_string(), "etcdserver: key is not provided");
        assert!(known.is(api::status::EMPTY_KEY));
        assert_eq!(known.code(), Some(Code::InvalidArgument));

        let other = Error::from(Status::unimplemented("unknown service x"));
        assert_eq!(other.to_string(), "rpc error: code = Unimplemented desc = unknown service x");
    }

    #[test]
    fn a_broken_connection_is_unavailable_and_only_a_failed_connect_was_never_sent() {
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
        assert_eq!(effective_code(&broken), Code::Unavailable);
        assert!(!never_sent(&broken));

        let refused = Status::from_error(Box::new(ConnectError("refused".into())));
        assert!(never_sent(&refused));
    }

    #[test]
    fn the_reason_of_a_refused_watch_is_known_as_servers_print_it() {
        let cancel_reason =
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied".to_owned();
        let response = WatchResponse { canceled: true, cancel_reason, ..Default::default() };
        let error = Error::WatchCanceled(Box::new(response));
        assert!(error.is(api::status::PERMISSION_DENIED));
        assert!(!error.is(api::status::INVALID_AUTH_TOKEN));
    }

    #[test]
    fn a_compacted_watch_tells_where_history_begins() {
        let response = WatchResponse { canceled: true, compact_revision: 7, ..Default::default() };
        let error = Error::WatchCanceled(Box::new(response));
        assert_eq!(error.compact_revision(), Some(7));
        assert!(error.is(api::status::COMPACTED));
    }
}
