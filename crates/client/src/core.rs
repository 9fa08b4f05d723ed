//! What every call shares: the options, the connections, the token.

use std::sync::{PoisonError, RwLock};

use tonic::Request;
use tonic::metadata::{AsciiMetadataValue, MetadataValue};

use crate::channel::Pool;
use crate::{ConnectOptions, Error, Result};

/// The part of a client that its background tasks hold too. They must not hold the client itself, or it would never end.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: ConnectOptions,
    pub(crate) pool: Pool,
    /// What goes with each request. Held for no longer than a read or a write.
    token: RwLock<Option<AsciiMetadataValue>>,
}

impl Core {
    pub(crate) fn new(options: ConnectOptions) -> Result<Self> {
        let pool = Pool::new(&options)?;
        let core = Self { pool, token: RwLock::new(None), options };
        if let Some(token) = core.options.token.clone() {
            core.set_token(&token)?;
        }
        Ok(core)
    }

    pub(crate) fn set_token(&self, token: &str) -> Result<()> {
        let value = MetadataValue::try_from(token).map_err(|_| Error::Rpc {
            code: tonic::Code::Unauthenticated,
            message: api::status::INVALID_AUTH_TOKEN.text().to_owned(),
        })?;
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    /// The request with the token, if there is one.
    pub(crate) fn sign<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(token) = &*self.token.read().unwrap_or_else(PoisonError::into_inner) {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// A stream's request: as [`sign`](Self::sign), and the server is told to end the stream when it has lost its leader, so
    /// that a member cut off from its cluster is left for another instead of being silently stale.
    pub(crate) fn sign_stream<Q>(&self, stream: Q) -> Request<Q> {
        let mut request = self.sign(stream);
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        request
    }
}
