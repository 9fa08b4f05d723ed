//! Logging in.

use std::time::Duration;

use api::etcdserverpb::AuthenticateRequest;
use api::status;

use crate::core::Core;
use crate::retry::Repeat;
use crate::{Error, Result};

impl Core {
    /// Fetches a token for the user of the options, if there is one and no token was given. A cluster without
    /// authentication has no tokens to give, and then needs none.
    pub(crate) async fn log_in(&self) -> Result<()> {
        let Some(user) = self.options.credentials.clone() else { return Ok(()) };
        let request = AuthenticateRequest { name: user.name, password: user.password };
        // Boxed because a refused token leads here from inside `unary`.
        let call = Box::pin(self.unary(Repeat::Harmless, request, |stub, request| async move {
            stub.auth().authenticate(request).await
        }));
        match within(self.options.connect_timeout, call).await {
            Ok(response) => self.set_token(&response.token),
            Err(error) if error.is(status::AUTH_NOT_ENABLED) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, call).await.map_err(|_| Error::DeadlineExceeded)?
}
