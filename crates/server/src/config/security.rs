//! What a member is told of TLS, for its two sides apart.

use tls::{Settings, Side};

use crate::error::{Error, Result};

/// TLS towards clients.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// Files and rules.
    pub settings: Settings,
    /// Make a certificate if none is given.
    pub auto: bool,
}

/// TLS among members, who are servers and clients to each other.
#[derive(Clone, Debug, Default)]
pub struct PeerTls {
    /// Files and rules.
    pub settings: Settings,
    /// Make a certificate if none is given.
    pub auto: bool,
    /// Take members' certificates from every address, whatever addresses and names are in them.
    pub skip_san_verification: bool,
}

impl ClientTls {
    pub(super) fn check(&self) -> Result<()> {
        Ok(self.settings.check()?)
    }
}

impl PeerTls {
    pub(super) fn check(&self) -> Result<()> {
        self.settings.check()?;
        // etcd drops the rules without a word.
        if self.auto && self.settings.is_empty() && self.settings.verifies_clients() {
            return Err(Error::config(
                "--peer-auto-tls makes certificates that nobody can verify; it cannot be used together with \
                 --peer-client-cert-auth or --peer-trusted-ca-file",
            ));
        }
        Ok(())
    }

    pub(crate) fn side(&self) -> Side {
        Side::Peer { skip_san_verification: self.skip_san_verification }
    }
}
