//! How to reach a cluster.

mod tls;

use std::time::Duration;

pub use tls::TlsOptions;

/// gRPC servers close a connection that is probed more often; no gRPC client goes below.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(10);

/// Where the cluster is and how to talk to it.
///
/// ```
/// use std::time::Duration;
/// use etcd_rs_client::ConnectOptions;
///
/// let options = ConnectOptions::new(["10.0.0.1:2379", "10.0.0.2:2379"])
///     .user("app", "secret")
///     .request_timeout(Duration::from_secs(5));
/// assert_eq!(options.endpoints().len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub(crate) endpoints: Vec<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) ready_timeout: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) keepalive_time: Option<Duration>,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) max_send_bytes: Option<usize>,
    pub(crate) max_recv_bytes: Option<usize>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) token: Option<String>,
    pub(crate) tls: Option<TlsOptions>,
}

/// A user's name and password; the password never shows in `Debug`.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ConnectOptions {
    /// Talk to these endpoints, by turns. An endpoint is `host:port`, `http://host:port` or `unix:path`, and with TLS
    /// `https://host:port` or `unixs:path`.
    #[must_use]
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            connect_timeout: Duration::from_secs(2),
            ready_timeout: Some(Duration::from_secs(5)),
            request_timeout: None,
            keepalive_time: Some(KEEPALIVE_TIME_MIN),
            keepalive_timeout: Duration::from_secs(6),
            max_send_bytes: None,
            max_recv_bytes: None,
            credentials: None,
            token: None,
            tls: None,
        }
    }

    /// The endpoints, as they were given.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// How long one attempt to open a connection may take, 2 s unless told. It also bounds the login of
    /// [`user`](Self::user), and a second more than it is what the first answer to a keep-alive may take.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call waits for any endpoint to be reachable before it fails with
    /// [`Error::Unreachable`](crate::Error::Unreachable), 5 s unless told; `None` waits for ever.
    #[must_use]
    pub fn ready_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.ready_timeout = timeout.into();
        self
    }

    /// How long a unary call may take in all, retries included. Without it (the default) a call that has reached a
    /// server waits for its answer as long as the connection answers probes.
    #[must_use]
    pub fn request_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.request_timeout = timeout.into();
        self
    }

    /// How long a connection may be silent before it is probed; `None` switches probing off. Values below 10 s count as
    /// 10 s, because servers hang up on clients that probe more often.
    #[must_use]
    pub fn keepalive_time(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.keepalive_time = time.into().map(|time| time.max(KEEPALIVE_TIME_MIN));
        self
    }

    /// How long the answer to a probe may take before the connection counts as dead, 6 s unless told.
    #[must_use]
    pub fn keepalive_timeout(mut self, timeout: Duration) -> Self {
        self.keepalive_timeout = timeout;
        self
    }

    /// Refuse to send larger requests; unlimited unless told (a server has its own limit).
    #[must_use]
    pub fn max_send_bytes(mut self, limit: impl Into<Option<usize>>) -> Self {
        self.max_send_bytes = limit.into();
        self
    }

    /// Refuse larger answers; unlimited unless told.
    #[must_use]
    pub fn max_recv_bytes(mut self, limit: impl Into<Option<usize>>) -> Self {
        self.max_recv_bytes = limit.into();
        self
    }

    /// Log in as this user when connecting, and again when the token has run out.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some(Credentials { name: name.into(), password: password.into() });
        self
    }

    /// Send this token with every call; a user given as well is not logged in.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Talk TLS in this way, to endpoints that begin with `https:` or `unixs:`, and to those that name neither this nor `http:`
    /// unless the first endpoint does. Without it, endpoints that ask for TLS are verified as the system has it.
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The same options for other endpoints.
    #[must_use]
    pub fn with_endpoints<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }
}

impl Default for ConnectOptions {
    /// One endpoint, `localhost:2379`.
    fn default() -> Self {
        Self::new(["localhost:2379"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_keeps_the_password_to_itself() {
        let shown = format!("{:?}", ConnectOptions::default().user("root", "hunter2"));
        assert!(shown.contains("root"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn probes_are_never_more_frequent_than_servers_bear() {
        let options = ConnectOptions::default().keepalive_time(Duration::from_secs(2));
        assert_eq!(options.keepalive_time, Some(KEEPALIVE_TIME_MIN));
    }
}
