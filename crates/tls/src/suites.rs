//! Cipher suites by Go's names.
//!
//! A list concerns TLS 1.2 only: the suites of TLS 1.3 are all good, and always offered. rustls knows six suites for TLS 1.2,
//! the ones with forward secrecy and authenticated encryption. Lists from etcd's days often name older ones too; those are left
//! out with a warning, unless nothing would remain. A name that Go does not know either is refused, as by etcd.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::{CipherSuite, SupportedCipherSuite};

use crate::error::{Error, Result};

/// Names that Go knows and rustls, for good reasons, does not offer.
const LEFT_OUT: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Go's names for the suites of TLS 1.3, which a list may contain without effect.
const TLS13: &[&str] = &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

enum Meaning {
    Offered(CipherSuite),
    NotOffered,
    Tls13,
}

fn meaning(name: &str) -> Result<Meaning> {
    Ok(match name {
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => {
            Meaning::Offered(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
        }
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => {
            Meaning::Offered(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)
        }
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => {
            Meaning::Offered(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)
        }
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => {
            Meaning::Offered(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)
        }
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => {
            Meaning::Offered(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)
        }
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" | "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" => {
            Meaning::Offered(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)
        }
        name if TLS13.contains(&name) => Meaning::Tls13,
        name if LEFT_OUT.contains(&name) => Meaning::NotOffered,
        _ => return Err(Error::settings(format!("unexpected TLS cipher suite {name:?}"))),
    })
}

/// Refuses a list with unknown names, or one of which nothing can be offered.
pub(crate) fn check(names: &[String]) -> Result<()> {
    let mut for_tls12 = 0;
    let mut offered = 0;
    for name in names {
        match meaning(name)? {
            Meaning::Offered(_) => (for_tls12, offered) = (for_tls12 + 1, offered + 1),
            Meaning::NotOffered => for_tls12 += 1,
            Meaning::Tls13 => {}
        }
    }
    if for_tls12 > 0 && offered == 0 {
        return Err(Error::settings(format!(
            "none of the cipher suites can be offered, all are too weak: {}",
            names.join(",")
        )));
    }
    Ok(())
}

/// Says which of the names go unheeded; once, when a listener is set up.
pub(crate) fn warn_of_left_out(names: &[String]) {
    for name in names {
        if let Ok(Meaning::NotOffered) = meaning(name) {
            tracing::warn!(cipher_suite = name, "leaving a weak cipher suite out, which is not supported");
        }
    }
}

/// The cryptography to use, with no other suites of TLS 1.2 than those named.
pub(crate) fn provider(names: &[String]) -> Result<Arc<CryptoProvider>> {
    let mut provider = ring::default_provider();
    let mut wanted = Vec::new();
    for name in names {
        if let Meaning::Offered(suite) = meaning(name)? {
            wanted.push(suite);
        }
    }
    if !wanted.is_empty() {
        let is_tls13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
        provider.cipher_suites.retain(|suite| is_tls13(suite) || wanted.contains(&suite.suite()));
    }
    Ok(Arc::new(provider))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_list_leaves_only_its_suites_and_those_of_tls13() {
        let list = names(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_RSA_WITH_AES_128_CBC_SHA"]);
        check(&list).unwrap();
        let suites = provider(&list).unwrap().cipher_suites.clone();
        let tls12: Vec<_> = suites.iter().filter(|suite| suite.tls13().is_none()).collect();
        assert_eq!(tls12.len(), 1);
        assert_eq!(tls12[0].suite(), CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256);
        assert_eq!(suites.len(), 4);
        assert_eq!(provider(&[]).unwrap().cipher_suites.len(), 9);
        assert_eq!(provider(&names(TLS13)).unwrap().cipher_suites.len(), 9);
    }

    #[test]
    fn unknown_names_and_lists_of_weak_ones_are_refused() {
        let refused = |list: &[&str]| check(&names(list)).unwrap_err().to_string();
        assert_eq!(refused(&["TLS_AES_128_GCM_SHA256", "FOO"]), "unexpected TLS cipher suite \"FOO\"");
        assert_eq!(
            refused(&["TLS_RSA_WITH_AES_128_CBC_SHA"]),
            "none of the cipher suites can be offered, all are too weak: TLS_RSA_WITH_AES_128_CBC_SHA"
        );
    }
}
