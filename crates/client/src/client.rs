//! The handle everything starts from.

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use crate::core::Core;
use crate::lease::keeper;
use crate::watch::worker;
use crate::{ConnectOptions, Result};

/// A client of one cluster. Cheap to clone; clones share connections, the watch stream and the keep-alive stream.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) core: Arc<Core>,
    streams: Arc<Streams>,
}

/// The way to the two background tasks, which start when first needed and end when nobody can reach them any more.
#[derive(Debug, Default)]
struct Streams {
    watch: OnceLock<mpsc::UnboundedSender<worker::Command>>,
    keep_alive: OnceLock<mpsc::UnboundedSender<keeper::Command>>,
}

impl Client {
    /// Prepares a client. Connections open when they are first needed, so an unreachable cluster shows on the first call;
    /// only a user is logged in at once.
    ///
    /// # Errors
    /// When there is no endpoint or one cannot be understood, and when the login fails.
    pub async fn connect(options: ConnectOptions) -> Result<Self> {
        let given_token = options.token.is_some();
        let client = Self { core: Arc::new(Core::new(options)?), streams: Arc::default() };
        if !given_token {
            client.core.log_in().await?;
        }
        Ok(client)
    }

    /// A client with the same options that talks to this endpoint only: for calls that ask about one member, as
    /// [`status`](Self::status) does.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn only(&self, endpoint: impl Into<String>) -> Result<Self> {
        Self::connect(self.core.options.clone().with_endpoints([endpoint.into()])).await
    }

    /// The endpoints this client talks to.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        self.core.options.endpoints()
    }

    pub(crate) fn watch_commands(&self) -> &mpsc::UnboundedSender<worker::Command> {
        self.streams.watch.get_or_init(|| worker::spawn(self.core.clone()))
    }

    pub(crate) fn keep_alive_commands(&self) -> &mpsc::UnboundedSender<keeper::Command> {
        self.streams.keep_alive.get_or_init(|| keeper::spawn(self.core.clone()))
    }
}
