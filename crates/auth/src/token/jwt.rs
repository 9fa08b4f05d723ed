//! JWTs: tokens that say themselves whose they are, and are believed for their signature.
//!
//! A token's claims are `username`, `revision` (the auth revision at which it was issued) and `exp`. Nothing is remembered of
//! those issued. Verifying costs some fifty microseconds, more than all else that a small request costs; so those that were
//! found good are remembered with what they say, for as long as the keys stay the same.

mod keys;
mod provider;
mod seen;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Header, Validation};
use serde::{Deserialize, Serialize};

pub(super) use self::keys::Keys;
use self::seen::Seen;
use super::options::JwtOptions;
use crate::{Error, Identity, Result};

pub(super) struct Jwt {
    options: JwtOptions,
    validation: Validation,
    /// The keys in use, and what was verified by them. Nothing slow happens under this lock.
    current: Mutex<Current>,
}

struct Current {
    keys: Arc<Keys>,
    seen: Seen,
}

#[derive(Serialize)]
struct NewClaims<'a> {
    username: &'a str,
    revision: u64,
    exp: u64,
}

/// Times are seconds since 1970, possibly with a fraction. Claims that nobody here knows are passed over.
#[derive(Deserialize)]
struct RawClaims {
    username: String,
    revision: f64,
    exp: Option<f64>,
    nbf: Option<f64>,
}

/// What a good token says.
#[derive(Clone, Debug)]
struct Claims {
    identity: Identity,
    expires: Option<f64>,
    not_before: Option<f64>,
}

impl Jwt {
    pub(super) fn new(options: JwtOptions) -> Result<Self> {
        let keys = Keys::read(&options)?;
        Ok(Self::with_keys(options, keys))
    }

    pub(super) fn with_keys(options: JwtOptions, keys: Keys) -> Self {
        provider::install();
        let mut validation = Validation::new(options.algorithm);
        validation.required_spec_claims.clear();
        // Times are checked here, by the caller's clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let current = Current { keys: Arc::new(keys), seen: Seen::default() };
        Self { options, validation, current: Mutex::new(current) }
    }

    pub(super) fn identity(&self, token: &str, now: Duration) -> Result<Identity> {
        let (known, keys) = {
            let current = self.lock();
            (current.seen.get(token).cloned(), Arc::clone(&current.keys))
        };
        let claims = match known {
            Some(claims) => claims,
            None => self.verify(token, &keys)?,
        };
        claims.check(now)?;
        Ok(claims.identity)
    }

    pub(super) fn issue(&self, identity: &Identity, now: Duration) -> Result<String> {
        let keys = Arc::clone(&self.lock().keys);
        let key = keys.private.as_ref().ok_or(Error::VerifyOnlyKey)?;
        let exp = now.saturating_add(self.options.ttl).as_secs();
        let claims = NewClaims { username: &identity.username, revision: identity.revision, exp };
        jsonwebtoken::encode(&Header::new(self.options.algorithm), &claims, key)
            .map_err(|_| Error::Crypto("sign a token"))
    }

    /// Reads the key files again, and takes the keys if they are others.
    pub(super) fn reload(&self) -> Result<()> {
        let former = Arc::clone(&self.lock().keys);
        let Some(keys) = Keys::read_if_changed(&self.options, &former)? else { return Ok(()) };
        *self.lock() = Current { keys: Arc::new(keys), seen: Seen::default() };
        Ok(())
    }

    fn verify(&self, token: &str, keys: &Arc<Keys>) -> Result<Claims> {
        let raw = jsonwebtoken::decode::<RawClaims>(token, &keys.public, &self.validation)
            .map_err(|_| Error::InvalidAuthToken)?
            .claims;
        let claims = Claims::try_from(raw)?;
        let mut current = self.lock();
        // What former keys have verified is nothing to remember.
        if Arc::ptr_eq(&current.keys, keys) {
            current.seen.insert(token, claims.clone());
        }
        Ok(claims)
    }

    /// No change is half done when a panic could come.
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TryFrom<RawClaims> for Claims {
    type Error = Error;

    /// A revision is a JSON number, which may be written as a fraction; beyond 2^53 it was never issued.
    fn try_from(raw: RawClaims) -> Result<Self> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if !(0.0..=EXACT).contains(&raw.revision) {
            return Err(Error::InvalidAuthToken);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^53")]
        let revision = raw.revision as u64;
        let identity = Identity { username: raw.username.into(), revision };
        Ok(Self { identity, expires: raw.exp, not_before: raw.nbf })
    }
}

impl Claims {
    fn check(&self, now: Duration) -> Result<()> {
        let now = now.as_secs_f64();
        if self.expires.is_some_and(|expires| now >= expires)
            || self.not_before.is_some_and(|from| now < from)
        {
            Err(Error::InvalidAuthToken)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
