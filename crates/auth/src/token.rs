//! Tokens: what a client shows instead of its password.
//!
//! A *simple* token is random letters and the index of the log entry that made it known, `ZQbkoaAVbFDMEEdr.41`: every member
//! that has applied the entry knows it, and forgets it some time after its last use. A *JWT* is signed, says itself whose it is, of
//! which auth revision and until when, and is remembered by nobody. Which of them a member speaks is its `--auth-token`.

mod jwt;
mod options;
mod secret;
mod simple;

use std::fmt;
use std::time::Duration;

use self::jwt::Jwt;
use self::options::Kind;
use self::simple::Simple;
use crate::{Error, Identity, Result};

/// Two clocks at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Since any fixed point, never going back: simple tokens live by it.
    pub monotonic: Duration,
    /// Since 1970: JWTs live by it.
    pub unix: Duration,
}

/// The tokens of one member, which may be shown to any thread.
pub struct Tokens(Provider);

enum Provider {
    /// There are no tokens; identities come from certificates.
    None,
    Simple(Simple),
    Jwt(Box<Jwt>),
}

impl Tokens {
    /// What `--auth-token` says: `simple`, `jwt,sign-method=...,pub-key=FILE,priv-key=FILE,ttl=5m`, or nothing. Simple tokens live
    /// for `simple_ttl` after their last use.
    ///
    /// # Errors
    /// [`Error::InvalidAuthOptions`], also for key files that cannot be used; [`Error::Crypto`].
    pub fn parse(spec: &str, simple_ttl: Duration) -> Result<Self> {
        Ok(Self(match options::parse(spec)? {
            Kind::None => Provider::None,
            Kind::Simple => Provider::Simple(Simple::new(simple_ttl)),
            Kind::Jwt(options) => Provider::Jwt(Box::new(Jwt::new(options)?)),
        }))
    }

    /// Whether tokens are neither signed nor kept anywhere but in memory, of which etcd warns at start.
    #[must_use]
    pub const fn is_simple(&self) -> bool {
        matches!(self.0, Provider::Simple(_))
    }

    /// The index that must have been applied here before [`identity`](Self::identity) can tell whose the token is; `None` if none.
    ///
    /// # Errors
    /// [`Error::InvalidAuthToken`] for what can be no token.
    pub fn awaits(&self, token: &str) -> Result<Option<u64>> {
        match &self.0 {
            Provider::None => Err(Error::InvalidAuthToken),
            Provider::Simple(_) => simple::index(token).map(Some),
            Provider::Jwt(_) => Ok(None),
        }
    }

    /// Whose token this is. A simple one counts as established at `revision`, the auth revision of this moment, and lives
    /// for its whole time again.
    ///
    /// # Errors
    /// [`Error::InvalidAuthToken`].
    pub fn identity(&self, token: &str, revision: u64, now: Now) -> Result<Identity> {
        match &self.0 {
            Provider::None => Err(Error::InvalidAuthToken),
            Provider::Simple(simple) => simple.identity(token, revision, now.monotonic),
            Provider::Jwt(jwt) => jwt.identity(token, now.unix),
        }
    }

    /// What the entry of a new token has to carry: the random letters of a simple one, nothing for others.
    ///
    /// # Errors
    /// [`Error::Crypto`] when there are no random numbers.
    pub fn prefix(&self) -> Result<String> {
        match &self.0 {
            Provider::Simple(_) => simple::prefix(),
            Provider::None | Provider::Jwt(_) => Ok(String::new()),
        }
    }

    /// Makes a simple token known when its entry is applied, on every member. Other tokens need not be.
    pub fn assign(&self, prefix: &str, username: &str, index: u64, now: Now) {
        if let Provider::Simple(simple) = &self.0
            && !prefix.is_empty()
        {
            simple.assign(&simple::format(prefix, index), username, now.monotonic);
        }
    }

    /// The token that the client gets, once its entry has been applied: that with this prefix, or one for this identity.
    ///
    /// # Errors
    /// [`Error::AuthFailed`] without tokens; [`Error::VerifyOnlyKey`] without a private key; [`Error::Crypto`].
    pub fn issue(&self, prefix: &str, index: u64, identity: &Identity, now: Now) -> Result<String> {
        match &self.0 {
            Provider::None => Err(Error::AuthFailed),
            Provider::Simple(_) => Ok(simple::format(prefix, index)),
            Provider::Jwt(jwt) => jwt.issue(identity, now.unix),
        }
    }

    /// Forgets the simple tokens of a user that was deleted or got another password.
    pub fn drop_user(&self, username: &str) {
        if let Provider::Simple(simple) = &self.0 {
            simple.drop_user(username);
        }
    }

    /// Forgets all simple tokens, as when authentication is disabled.
    pub fn drop_all(&self) {
        if let Provider::Simple(simple) = &self.0 {
            simple.drop_all();
        }
    }

    /// Forgets simple tokens that have not been used for their time, and reads key files that have changed. To be called
    /// about once a second.
    ///
    /// # Errors
    /// [`Error::InvalidAuthOptions`] for files that cannot be used; the former keys stay in use.
    pub fn sweep(&self, now: Now) -> Result<()> {
        match &self.0 {
            Provider::None => Ok(()),
            Provider::Simple(simple) => {
                simple.sweep(now.monotonic);
                Ok(())
            }
            Provider::Jwt(jwt) => jwt.reload(),
        }
    }
}

/// Says nothing of any token or key.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Provider::None => "Tokens(none)",
            Provider::Simple(_) => "Tokens(simple)",
            Provider::Jwt(_) => "Tokens(jwt)",
        })
    }
}
