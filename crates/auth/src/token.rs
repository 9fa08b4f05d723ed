//! Tokens: what a client shows instead of its password.
//!
//! A *simple* token is random letters and the index of the log entry that made it known, `ZQbkoaAVbFDMEEdr.41`: every member
//! that has applied the entry knows it, and forgets it some time after its last use. A *JWT* is signed, says itself whose it is, of
//! which auth revision and until when, and is remembered by nobody. Which of them a member speaks is its `--auth-token`.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
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

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn ann() -> Identity {
        Identity { username: "ann".into(), revision: 7 }
    }

    #[test]
    fn a_simple_token_is_issued_by_one_member_and_known_to_all_that_apply_its_entry() {
        let members = [(); 2].map(|()| Tokens::parse("simple", TTL).unwrap());
        let now = Now::default();
        let prefix = members[0].prefix().unwrap();
        let token = members[0].issue(&prefix, 41, &ann(), now).unwrap();
        assert_eq!(token, format!("{prefix}.41"));
        for member in &members {
            assert!(member.identity(&token, 7, now).is_err(), "its entry is not applied yet");
            assert_eq!(member.awaits(&token).unwrap(), Some(41));
            member.assign(&prefix, "ann", 41, now);
            assert_eq!(member.identity(&token, 7, now).unwrap(), ann());
            assert_eq!(member.identity(&token, 9, now).unwrap().revision, 9, "as of now");
        }
    }

    #[test]
    fn without_tokens_there_are_none() {
        let tokens = Tokens::parse("", TTL).unwrap();
        let now = Now::default();
        assert_eq!(tokens.prefix().unwrap(), "");
        assert!(matches!(tokens.issue("", 41, &ann(), now), Err(Error::AuthFailed)));
        assert!(matches!(tokens.awaits("a.1"), Err(Error::InvalidAuthToken)));
        assert!(matches!(tokens.identity("a.1", 7, now), Err(Error::InvalidAuthToken)));
        tokens.assign("a", "ann", 1, now);
        tokens.sweep(now).unwrap();
    }

    #[test]
    fn an_entry_of_a_member_that_speaks_another_kind_makes_no_token() {
        let tokens = Tokens::parse("simple", TTL).unwrap();
        tokens.assign("", "ann", 41, Now::default());
        assert!(tokens.identity(".41", 7, Now::default()).is_err());
    }

    #[test]
    fn neither_tokens_nor_keys_are_shown() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "the secret").unwrap();
        let spec = format!("jwt,sign-method=HS256,priv-key={}", secret.path().display());
        for spec in [spec.as_str(), "simple"] {
            let tokens = Tokens::parse(spec, TTL).unwrap();
            tokens.assign("letters", "ann", 41, Now::default());
            let shown = format!("{tokens:?}");
            assert!(shown == "Tokens(simple)" || shown == "Tokens(jwt)", "{shown}");
        }
    }
}
