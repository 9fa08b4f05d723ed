//! The connections: one per endpoint, taken by turns.
//!
//! Connections open on first use and reopen by themselves. An endpoint that refused a connection is passed over for a
//! second while others are there. What a connection is made of is decided in one place, [`dial`].

mod dial;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::etcdserverpb::auth_client::AuthClient;
use api::etcdserverpb::cluster_client::ClusterClient;
use api::etcdserverpb::kv_client::KvClient;
use api::etcdserverpb::lease_client::LeaseClient;
use api::etcdserverpb::maintenance_client::MaintenanceClient;
use api::etcdserverpb::watch_client::WatchClient;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::{ConnectOptions, Error, Result};

use dial::Dialer;

const PASSED_OVER: Duration = Duration::from_secs(1);

/// All endpoints of a client.
#[derive(Debug)]
pub(crate) struct Pool {
    connections: Vec<Connection>,
    next: AtomicUsize,
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Channel,
    max_recv_bytes: usize,
    /// When this endpoint last refused a connection, until it accepts one. Held for no longer than a read or a write.
    down_since: Mutex<Option<Instant>>,
}

impl Pool {
    pub(crate) fn new(options: &ConnectOptions) -> Result<Self> {
        if options.endpoints.is_empty() {
            return Err(Error::NoEndpoints);
        }
        let dialer = Dialer::new(options)?;
        let connections = options
            .endpoints
            .iter()
            .map(|endpoint| {
                Ok(Connection {
                    channel: dialer.open(endpoint, options)?,
                    max_recv_bytes: options.max_recv_bytes.unwrap_or(usize::MAX),
                    down_since: Mutex::new(None),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { connections, next: AtomicUsize::new(0) })
    }

    /// The next endpoint that is not down, or the next one if all are.
    pub(crate) fn pick(&self) -> &Connection {
        let count = self.connections.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed) % count;
        (0..count)
            .map(|offset| &self.connections[(first + offset) % count])
            .find(|connection| !connection.is_down())
            .unwrap_or(&self.connections[first])
    }

    pub(crate) fn all_down(&self) -> bool {
        self.connections.iter().all(Connection::is_down)
    }
}

impl Connection {
    pub(crate) fn mark_down(&self) {
        *self.down_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn mark_up(&self) {
        *self.down_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn is_down(&self) -> bool {
        let since = *self.down_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < PASSED_OVER)
    }

    pub(crate) fn stub(&self) -> Stub {
        Stub { channel: self.channel.clone(), max_recv_bytes: self.max_recv_bytes }
    }
}

/// The generated clients over one connection, made when asked for; they cost two reference counts.
#[derive(Clone, Debug)]
pub(crate) struct Stub {
    channel: Channel,
    max_recv_bytes: usize,
}

macro_rules! stubs {
    ($($name:ident: $client:ident;)*) => {
        impl Stub {
            $(pub(crate) fn $name(self) -> $client<Channel> {
                $client::new(self.channel).max_decoding_message_size(self.max_recv_bytes)
            })*
        }
    };
}

stubs! {
    kv: KvClient;
    watch: WatchClient;
    lease: LeaseClient;
    cluster: ClusterClient;
    maintenance: MaintenanceClient;
    auth: AuthClient;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn endpoints_take_turns_and_those_that_are_down_are_passed_over() {
        let pool = Pool::new(&ConnectOptions::new(["a:1", "b:1", "c:1"])).unwrap();
        let index = |connection: &Connection| {
            pool.connections.iter().position(|other| std::ptr::eq(other, connection)).unwrap()
        };
        let turns = || index(pool.pick());
        assert_eq!([turns(), turns(), turns(), turns()], [0, 1, 2, 0]);
        pool.connections[1].mark_down();
        assert_eq!([turns(), turns(), turns()], [2, 2, 0]);
        pool.connections[1].mark_up();
        assert_eq!([turns(), turns()], [1, 2]);
    }
}
