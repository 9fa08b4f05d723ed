//! TLS with etcd's rules: certificates from files that may change, and who may connect.
//!
//! [`Settings`] say what etcd's flags can say. An [`Acceptor`] made of them does the server's side of handshakes, a
//! [`Connector`] the client's; a member uses both on its peer side. Files are looked at before every handshake and read again
//! when they changed, so certificates, keys, trusted CAs and revocation lists are replaced without a restart, and open
//! connections stay as they are.
//!
//! ```no_run
//! # async fn run(listener: tokio::net::TcpListener) -> Result<(), Box<dyn std::error::Error>> {
//! use etcd_rs_tls::{Acceptor, Settings, Side};
//!
//! let settings = Settings {
//!     cert_file: Some("server.crt".into()),
//!     key_file: Some("server.key".into()),
//!     trusted_ca_file: Some("ca.crt".into()),
//!     ..Settings::default()
//! };
//! let acceptor = Acceptor::new(settings, Side::Client)?;
//! let (socket, remote) = listener.accept().await?;
//! if let Some(stream) = acceptor.accept(socket, Some(remote)).await {
//!     // An encrypted connection of a client whose certificate our CA vouches for.
//! #   drop(stream);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Differences from etcd, which come from rustls with ring: RSA keys have at least 2048 bits; ECDSA keys are P-256 or P-384,
//! also in certificates of others; weak cipher suites are left out of lists with a warning. And trusted CAs are read again
//! when they change, which etcd does only for certificates, keys and revocation lists.

mod acceptor;
mod certificate;
mod connector;
mod error;
mod load;
mod origin;
mod reload;
mod self_signed;
mod settings;
mod suites;
mod verify;
mod words;

pub use crate::acceptor::{Acceptor, ServerStream, Side};
pub use crate::connector::{ClientStream, Connector};
pub use crate::error::{Error, Result};
pub use crate::self_signed::self_signed;
pub use crate::settings::{Settings, Version};

#[cfg(test)]
mod tests;
