//! Tokens whose signature was found good, so that the next request of the same client need not pay for it.

use std::collections::HashMap;
use std::mem;

use super::Claims;
use crate::token::secret::Secret;

/// Half of what is remembered at most.
const GENERATION: usize = 1024;

/// What is longer is verified each time, so that memory is bounded.
const TOKEN_BYTES_MAX: usize = 4096;

/// When the newer half is full, the older is forgotten.
#[derive(Default)]
pub(super) struct Seen {
    newer: HashMap<Secret, Claims>,
    older: HashMap<Secret, Claims>,
}

impl Seen {
    pub(super) fn get(&self, token: &str) -> Option<&Claims> {
        let token = Secret::new(token);
        self.newer.get(&token).or_else(|| self.older.get(&token))
    }

    pub(super) fn insert(&mut self, token: &str, claims: Claims) {
        if token.len() > TOKEN_BYTES_MAX {
            return;
        }
        if self.newer.len() >= GENERATION {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(Secret::new(token), claims);
    }
}
