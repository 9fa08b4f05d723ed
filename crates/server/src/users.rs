//! Users on this member: who they are, and what they may do.
//!
//! The records are replicated and change with the log alone ([`AuthStore`]); tokens and passwords are this member's to check.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::auth::{AuthStore, Now, Passwords, Rules, Tokens};
use backend::Backend;

use crate::clock::Clock;
use crate::config::Config;
use crate::error::Result;

/// Tokens whose time is over are forgotten this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct Users {
    pub(crate) store: AuthStore,
    pub(crate) tokens: Tokens,
    pub(crate) passwords: Passwords,
    clock: Clock,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("enabled", &self.rules().enabled()).finish_non_exhaustive()
    }
}

impl Users {
    /// # Errors
    /// The records make no sense, or the flags about tokens do not.
    pub(crate) fn open(backend: &dyn Backend, config: &Config, clock: Clock) -> Result<Self> {
        let tokens = Tokens::parse(&config.auth_token, config.auth_token_ttl)?;
        if tokens.is_simple() {
            tracing::warn!("simple token is not cryptographically signed");
        }
        Ok(Self {
            store: AuthStore::open(backend)?,
            tokens,
            passwords: Passwords::new(config.bcrypt_cost)?,
            clock,
        })
    }

    /// The rules of this moment.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.store.rules()
    }

    pub(crate) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: self.clock.now(), unix }
    }

    /// Forgets tokens whose time is over, and reads keys anew that were changed, for as long as the member runs.
    pub(crate) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            if let Err(error) = self.tokens.sweep(self.now()) {
                tracing::warn!(%error, "cannot read the keys of tokens; going on with those read before");
            }
        }
    }
}
