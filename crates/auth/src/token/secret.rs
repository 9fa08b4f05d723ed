//! A token as the key of a map.

use std::hash::{Hash, Hasher};

use subtle::ConstantTimeEq as _;

/// Where it lies in the map depends on a hash that the map has keyed by chance, and it is compared in a time that does not tell how
/// much of it is right. It has no `Debug` form.
pub(super) struct Secret(Box<str>);

impl Secret {
    pub(super) fn new(token: &str) -> Self {
        Self(token.into())
    }
}

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}
