//! Passwords that were right, as keyed hashes.
//!
//! A tag is an HMAC of the user's name, its stored hash and the password, under a key that this process drew and never tells. The
//! stored hash is part of it: once the user's password changes, the old tag is never asked for again. Nothing is kept that
//! would help to find a password without the key, and a tag cannot be guessed byte by byte from the time a look-up takes, for
//! nobody knows which tag a guess has.

use std::collections::HashSet;
use std::mem;

use ring::hmac;
use ring::rand::SystemRandom;

use crate::{Error, Result};

/// Half of what is remembered at most; 32 bytes each.
const GENERATION: usize = 8192;

pub(super) type Tag = [u8; 32];

/// What was verified lately. When the newer half is full, the older is forgotten.
pub(super) struct Verified {
    key: hmac::Key,
    newer: HashSet<Tag>,
    older: HashSet<Tag>,
}

impl Verified {
    pub(super) fn new() -> Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| Error::Crypto("draw a random key"))?;
        Ok(Self { key, newer: HashSet::new(), older: HashSet::new() })
    }

    /// The tag of this password of this user. Lengths go first, so that no two triples look alike.
    pub(super) fn tag(&self, username: &str, stored: &str, password: &str) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [username, stored, password] {
            context.update(&part.len().to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut tag = Tag::default();
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    pub(super) fn contains(&self, tag: &Tag) -> bool {
        self.newer.contains(tag) || self.older.contains(tag)
    }

    pub(super) fn insert(&mut self, tag: Tag) {
        if self.newer.len() == GENERATION {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_makes_another_tag() {
        let verified = Verified::new().unwrap();
        let tags = [("ab", "c", "d"), ("a", "bc", "d"), ("a", "b", "cd"), ("", "abc", "d"), ("a", "b", "c")]
            .map(|(name, stored, password)| verified.tag(name, stored, password));
        assert_eq!(tags.iter().collect::<HashSet<_>>().len(), tags.len());
        assert_eq!(verified.tag("ab", "c", "d"), tags[0]);
        assert_ne!(Verified::new().unwrap().tag("ab", "c", "d"), tags[0], "each process has its key");
    }

    #[test]
    fn the_latest_are_remembered_and_memory_is_bounded() {
        let mut verified = Verified::new().unwrap();
        let tag = |i: usize| {
            let mut tag = Tag::default();
            tag[..8].copy_from_slice(&i.to_be_bytes());
            tag
        };
        let all = 5 * GENERATION / 2;
        (0..all).for_each(|i| verified.insert(tag(i)));
        assert!(verified.contains(&tag(all - 1)) && verified.contains(&tag(all - GENERATION)));
        assert!(!verified.contains(&tag(0)));
        assert!(verified.newer.len() + verified.older.len() <= 2 * GENERATION);
    }
}
