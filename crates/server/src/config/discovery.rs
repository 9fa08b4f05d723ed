//! How the founders of a cluster find each other, when nobody lists them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};

/// Where members of a new cluster learn of each other, instead of from a list.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// The DNS domain whose SRV records name the members; empty for none.
    pub srv: String,
    /// What the names of these records end with, behind a dash; empty for nothing.
    pub srv_name: String,
    /// Another cluster as the registry.
    pub registry: Registry,
}

/// Another etcd cluster in which members write down who they are.
#[derive(Clone)]
pub struct Registry {
    /// Names the new cluster in the registry, and is its token.
    pub token: String,
    /// The registry's client URLs.
    pub endpoints: Vec<String>,
    /// How long a connection may take to be made.
    pub dial_timeout: Duration,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// How long a connection is silent before it is probed.
    pub keepalive_time: Duration,
    /// How long the answer to a probe may take.
    pub keepalive_timeout: Duration,
    /// Whether endpoints without a scheme are spoken to in plain text.
    pub insecure_transport: bool,
    /// Whether any certificate of the registry is taken.
    pub insecure_skip_tls_verify: bool,
    /// The certificate to show to the registry, and its key.
    pub cert: Option<PathBuf>,
    /// The key of that certificate.
    pub key: Option<PathBuf>,
    /// Who signs the registry's certificates.
    pub cacert: Option<PathBuf>,
    /// The user to log in as, or `user:password`; empty for nobody.
    pub user: String,
    /// The user's password, if it is not with the name.
    pub password: String,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            token: String::new(),
            endpoints: Vec::new(),
            dial_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            keepalive_time: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(6),
            insecure_transport: true,
            insecure_skip_tls_verify: false,
            cert: None,
            key: None,
            cacert: None,
            user: String::new(),
            password: String::new(),
        }
    }
}

/// The password never shows.
impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("token", &self.token)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

impl Discovery {
    /// Whether any way is set that makes a list of members needless.
    pub(crate) fn is_set(&self) -> bool {
        !self.srv.is_empty() || self.registry.is_set()
    }

    /// Refuses what contradicts itself; `listed` tells whether there is a list of members.
    pub(super) fn check(&self, listed: bool) -> Result<()> {
        let ways = [listed, !self.srv.is_empty(), self.registry.is_set()];
        if ways.iter().filter(|way| **way).count() > 1 {
            return Err(Error::config(
                "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
                 \"discovery-endpoints\" or \"discovery-srv\"",
            ));
        }
        if self.registry.token.is_empty() == self.registry.is_set() {
            return Err(Error::config("both --discovery-token and --discovery-endpoints must be set"));
        }
        if self.registry.endpoints.iter().any(String::is_empty) {
            return Err(Error::config("--discovery-endpoints must not contain empty endpoints"));
        }
        Ok(())
    }
}

impl Registry {
    pub(crate) fn is_set(&self) -> bool {
        !self.endpoints.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(listed: bool, edit: impl FnOnce(&mut Discovery)) -> String {
        let mut discovery = Discovery::default();
        edit(&mut discovery);
        discovery.check(listed).unwrap_err().to_string()
    }

    #[test]
    fn there_is_one_way_to_find_the_others() {
        assert!(Discovery::default().check(true).is_ok());
        let several = "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
                       \"discovery-endpoints\" or \"discovery-srv\"";
        assert_eq!(refused(true, |d| d.srv = "example.org".to_owned()), several);
        assert_eq!(refused(true, |d| d.registry.endpoints = vec!["a:1".to_owned()]), several);
    }

    #[test]
    fn a_registry_needs_endpoints_and_a_token() {
        let both = "both --discovery-token and --discovery-endpoints must be set";
        assert_eq!(refused(false, |d| d.registry.endpoints = vec!["a:1".to_owned()]), both);
        assert_eq!(refused(true, |d| d.registry.token = "t".to_owned()), both);
        let empty = |d: &mut Discovery| {
            d.registry.endpoints = vec![String::new(), "a:1".to_owned()];
            d.registry.token = "t".to_owned();
        };
        assert_eq!(refused(false, empty), "--discovery-endpoints must not contain empty endpoints");
    }
}
