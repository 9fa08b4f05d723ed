//! Simple tokens: random letters that every member remembers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::secret::Secret;
use crate::{Error, Identity, Result};
use ring::rand::{SecureRandom as _, SystemRandom};

/// How many letters a token begins with.
const PREFIX_LETTERS: usize = 16;

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The tokens that are known.
pub(super) struct Simple {
    ttl: Duration,
    /// Written only when tokens come and go. A use is noted in the entry, under the reader's lock.
    known: RwLock<HashMap<Secret, Entry>>,
}

struct Entry {
    username: Arc<str>,
    /// When it is forgotten unless used before, in milliseconds of the caller's clock.
    expires_ms: AtomicU64,
}

impl Simple {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, known: RwLock::default() }
    }

    pub(super) fn identity(&self, token: &str, revision: u64, now: Duration) -> Result<Identity> {
        let known = self.read();
        let entry = known.get(&Secret::new(token)).ok_or(Error::InvalidAuthToken)?;
        if entry.expires_ms.load(Ordering::Relaxed) <= milliseconds(now) {
            return Err(Error::InvalidAuthToken);
        }
        entry.expires_ms.fetch_max(milliseconds(now.saturating_add(self.ttl)), Ordering::Relaxed);
        Ok(Identity { username: Arc::clone(&entry.username), revision })
    }

    pub(super) fn assign(&self, token: &str, username: &str, now: Duration) {
        let expires_ms = AtomicU64::new(milliseconds(now.saturating_add(self.ttl)));
        self.write().insert(Secret::new(token), Entry { username: username.into(), expires_ms });
    }

    pub(super) fn drop_user(&self, username: &str) {
        self.write().retain(|_, entry| *entry.username != *username);
    }

    pub(super) fn drop_all(&self) {
        self.write().clear();
    }

    /// Looks under the reader's lock first: most of the time nothing has expired.
    pub(super) fn sweep(&self, now: Duration) {
        let now_ms = milliseconds(now);
        let is_over = |entry: &Entry| entry.expires_ms.load(Ordering::Relaxed) <= now_ms;
        if self.read().values().any(is_over) {
            self.write().retain(|_, entry| !is_over(entry));
        }
    }

    /// No change of the map is ever half done when a panic could come.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<Secret, Entry>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Secret, Entry>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The index of the entry that made the token known.
pub(super) fn index(token: &str) -> Result<u64> {
    let mut parts = token.split('.');
    let (Some(_), Some(index), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Error::InvalidAuthToken);
    };
    index.parse().map_err(|_| Error::InvalidAuthToken)
}

pub(super) fn format(prefix: &str, index: u64) -> String {
    format!("{prefix}.{index}")
}

/// Random letters, each of the 52 as likely as the others.
pub(super) fn prefix() -> Result<String> {
    let random = SystemRandom::new();
    let mut prefix = String::with_capacity(PREFIX_LETTERS);
    let mut bytes = [0; 2 * PREFIX_LETTERS];
    while prefix.len() < PREFIX_LETTERS {
        random.fill(&mut bytes).map_err(|_| Error::Crypto("draw a random token"))?;
        // 208 is 4 × 52; what lies above would favour some letters.
        let fair =
            bytes.iter().filter(|byte| **byte < 208).map(|byte| char::from(LETTERS[usize::from(*byte) % 52]));
        prefix.extend(fair.take(PREFIX_LETTERS - prefix.len()));
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn check(simple: &Simple, token: &str, now: u64, expected: Option<&str>) {
        let identity = simple.identity(token, 7, at(now)).ok();
        assert_eq!(identity.as_ref().map(|identity| &*identity.username), expected, "{token} at {now}");
        assert!(identity.is_none_or(|identity| identity.revision == 7));
    }

    fn simple() -> Simple {
        let simple = Simple::new(at(300));
        simple.assign("abc.1", "ann", at(0));
        simple.assign("abd.2", "bob", at(0));
        simple.assign("abe.3", "bob", at(0));
        simple
    }

    #[test]
    fn a_token_is_its_users_and_only_when_it_is_all_right() {
        let simple = simple();
        check(&simple, "abc.1", 1, Some("ann"));
        check(&simple, "abd.2", 1, Some("bob"));
        for wrong in ["", ".", "abc.2", "abc", "abc.1 ", "ABC.1", "abc.01", "xbc.1"] {
            check(&simple, wrong, 1, None);
        }
    }

    #[test]
    fn a_token_dies_its_time_after_the_last_use() {
        let simple = simple();
        check(&simple, "abc.1", 299, Some("ann"));
        check(&simple, "abc.1", 598, Some("ann"));
        check(&simple, "abd.2", 300, None);
        simple.sweep(at(600));
        assert_eq!(simple.read().len(), 1);
        check(&simple, "abc.1", 898, None);
        simple.sweep(at(898));
        assert!(simple.read().is_empty());
    }

    #[test]
    fn a_user_that_is_gone_takes_its_tokens_along() {
        let simple = simple();
        simple.drop_user("bob");
        check(&simple, "abd.2", 1, None);
        check(&simple, "abe.3", 1, None);
        check(&simple, "abc.1", 1, Some("ann"));
        simple.drop_all();
        check(&simple, "abc.1", 1, None);
    }

    #[test]
    fn a_token_tells_the_index_to_wait_for() {
        assert_eq!(index(&format(&prefix().unwrap(), 41)).unwrap(), 41);
        assert_eq!(index(".0").unwrap(), 0);
        for wrong in ["", "a", "a.", "a.b", "a.1.2", "a.-1", "a.18446744073709551616", "a.1.", "a. 1"] {
            assert!(matches!(index(wrong), Err(Error::InvalidAuthToken)), "{wrong:?}");
        }
    }

    #[test]
    fn a_prefix_is_16_letters_that_nobody_has_seen() {
        let seen: BTreeSet<String> = (0..1000).map(|_| prefix().unwrap()).collect();
        assert_eq!(seen.len(), 1000);
        assert!(
            seen.iter().all(|one| one.len() == 16 && one.bytes().all(|letter| letter.is_ascii_alphabetic()))
        );
        let letters: BTreeSet<u8> = seen.iter().flat_map(|one| one.bytes()).collect();
        assert_eq!(letters.len(), 52, "every letter occurs");
    }
}
