//! The flags of TLS: for clients, for peers, and for both.

use std::path::PathBuf;

use ::tls::Version;

use super::table::{Flag, Kind, flag};
use super::value::{boolean, number};

/// A path, or nothing if it is empty.
fn path(value: &str) -> Option<PathBuf> {
    Some(value).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Texts separated by commas, in their order.
fn list(value: &str) -> Vec<String> {
    value.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn version(value: &str) -> Result<Version, String> {
    Version::parse(value).map_err(|error| error.to_string())
}

pub(super) const FLAGS: &[Flag] = &[
    flag("cert-file", Kind::Text, "", "Path to the client server TLS cert file.", |c, v| {
        c.client_tls.settings.cert_file = path(v);
        Ok(())
    }),
    flag("key-file", Kind::Text, "", "Path to the client server TLS key file.", |c, v| {
        c.client_tls.settings.key_file = path(v);
        Ok(())
    }),
    flag(
        "client-cert-file",
        Kind::Text,
        "",
        "Path to the TLS cert file to show as a client, instead of cert-file.",
        |c, v| {
            c.client_tls.settings.client_cert_file = path(v);
            Ok(())
        },
    ),
    flag("client-key-file", Kind::Text, "", "Path to the key of client-cert-file.", |c, v| {
        c.client_tls.settings.client_key_file = path(v);
        Ok(())
    }),
    flag("client-cert-auth", Kind::Switch, "false", "Enable client cert authentication.", |c, v| {
        c.client_tls.settings.client_cert_auth = boolean(v)?;
        Ok(())
    }),
    flag(
        "client-cert-allowed-hostname",
        Kind::List,
        "",
        "Comma-separated list of SAN hostnames for client cert authentication.",
        |c, v| {
            c.client_tls.settings.allowed_hostnames = list(v);
            Ok(())
        },
    ),
    flag(
        "client-crl-file",
        Kind::Text,
        "",
        "Path to the client certificate revocation list file.",
        |c, v| {
            c.client_tls.settings.crl_file = path(v);
            Ok(())
        },
    ),
    flag(
        "trusted-ca-file",
        Kind::Text,
        "",
        "Path to the client server TLS trusted CA cert file; enables client cert authentication.",
        |c, v| {
            c.client_tls.settings.trusted_ca_file = path(v);
            Ok(())
        },
    ),
    flag("auto-tls", Kind::Switch, "false", "Client TLS using generated certificates.", |c, v| {
        c.client_tls.auto = boolean(v)?;
        Ok(())
    }),
    flag("peer-cert-file", Kind::Text, "", "Path to the peer server TLS cert file.", |c, v| {
        c.peer_tls.settings.cert_file = path(v);
        Ok(())
    }),
    flag("peer-key-file", Kind::Text, "", "Path to the peer server TLS key file.", |c, v| {
        c.peer_tls.settings.key_file = path(v);
        Ok(())
    }),
    flag(
        "peer-client-cert-file",
        Kind::Text,
        "",
        "Path to the TLS cert file to show to peers as a client, instead of peer-cert-file.",
        |c, v| {
            c.peer_tls.settings.client_cert_file = path(v);
            Ok(())
        },
    ),
    flag("peer-client-key-file", Kind::Text, "", "Path to the key of peer-client-cert-file.", |c, v| {
        c.peer_tls.settings.client_key_file = path(v);
        Ok(())
    }),
    flag(
        "peer-client-cert-auth",
        Kind::Switch,
        "false",
        "Enable peer client cert authentication.",
        |c, v| {
            c.peer_tls.settings.client_cert_auth = boolean(v)?;
            Ok(())
        },
    ),
    flag("peer-trusted-ca-file", Kind::Text, "", "Path to the peer server TLS trusted CA file.", |c, v| {
        c.peer_tls.settings.trusted_ca_file = path(v);
        Ok(())
    }),
    flag(
        "peer-cert-allowed-cn",
        Kind::List,
        "",
        "Comma-separated list of allowed CNs for inter-peer TLS authentication.",
        |c, v| {
            c.peer_tls.settings.allowed_cns = list(v);
            Ok(())
        },
    ),
    flag(
        "peer-cert-allowed-hostname",
        Kind::List,
        "",
        "Comma-separated list of allowed SAN hostnames for inter-peer TLS authentication.",
        |c, v| {
            c.peer_tls.settings.allowed_hostnames = list(v);
            Ok(())
        },
    ),
    flag("peer-crl-file", Kind::Text, "", "Path to the peer certificate revocation list file.", |c, v| {
        c.peer_tls.settings.crl_file = path(v);
        Ok(())
    }),
    flag("peer-auto-tls", Kind::Switch, "false", "Peer TLS using generated certificates.", |c, v| {
        c.peer_tls.auto = boolean(v)?;
        Ok(())
    }),
    flag(
        "peer-skip-client-san-verification",
        Kind::Switch,
        "false",
        "Skip verification of the addresses and names in peers' certificates.",
        |c, v| {
            c.peer_tls.skip_san_verification = boolean(v)?;
            Ok(())
        },
    ),
    flag(
        "self-signed-cert-validity",
        Kind::Number("uint"),
        "1",
        "The validity period of generated certificates, in years.",
        |c, v| {
            c.self_signed_cert_validity = number(v)?;
            Ok(())
        },
    ),
    flag(
        "cipher-suites",
        Kind::List,
        "",
        "Comma-separated list of TLS 1.2 cipher suites, by Go's names, between server/client and peers.",
        |c, v| {
            for settings in [&mut c.client_tls.settings, &mut c.peer_tls.settings] {
                settings.cipher_suites = list(v);
            }
            Ok(())
        },
    ),
    flag(
        "tls-min-version",
        Kind::Text,
        "TLS1.2",
        "Minimum TLS version supported. Possible values: TLS1.2, TLS1.3.",
        |c, v| {
            let version = if v.is_empty() { Version::Tls12 } else { version(v)? };
            c.client_tls.settings.min_version = version;
            c.peer_tls.settings.min_version = version;
            Ok(())
        },
    ),
    flag(
        "tls-max-version",
        Kind::Text,
        "",
        "Maximum TLS version supported. Possible values: TLS1.2, TLS1.3 (empty: the newest).",
        |c, v| {
            let version = if v.is_empty() { Version::Tls13 } else { version(v)? };
            c.client_tls.settings.max_version = version;
            c.peer_tls.settings.max_version = version;
            Ok(())
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn set(config: &mut Config, name: &str, value: &str) -> Result<(), String> {
        let flag = FLAGS.iter().find(|flag| flag.name == name).unwrap();
        (flag.set)(config, value)
    }

    #[test]
    fn a_file_that_is_named_empty_is_none() {
        let mut config = Config::default();
        set(&mut config, "peer-cert-file", "a.pem").unwrap();
        assert_eq!(config.peer_tls.settings.cert_file, Some("a.pem".into()));
        set(&mut config, "peer-cert-file", "").unwrap();
        assert!(config.peer_tls.settings.is_empty());
    }

    #[test]
    fn versions_and_suites_are_for_both_sides() {
        let mut config = Config::default();
        set(&mut config, "cipher-suites", "A,B").unwrap();
        set(&mut config, "tls-min-version", "TLS1.3").unwrap();
        for settings in [&config.client_tls.settings, &config.peer_tls.settings] {
            assert_eq!(settings.cipher_suites, ["A", "B"]);
            assert_eq!(settings.min_version, Version::Tls13);
        }
        assert_eq!(
            set(&mut config, "tls-max-version", "TLS1.1").unwrap_err(),
            "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)"
        );
    }
}
