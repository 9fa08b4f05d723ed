//! The configuration file: YAML, in etcd's keys and with etcd's leniency.
//!
//! Keys are the flags' names, in any case; what is unknown is ignored, and of a key that is there twice the last counts. Some
//! flags are written otherwise: TLS and discovery in maps of their own, lists as lists, durations as nanoseconds.
//!
//! ```yaml
//! name: node1
//! listen-peer-urls: http://10.0.0.1:2380
//! corrupt-check-time: 600000000000
//! peer-transport-security:
//!   cert-file: /etc/etcd/peer.crt
//! ```

use serde_json::{Map, Value};

use super::table::{self, Flag, Kind};
use crate::config::Config;

/// A map of the file whose keys are flags of other names.
struct Section {
    path: &'static [&'static str],
    /// The key, and the flag that it is.
    keys: &'static [(&'static str, &'static str)],
}

const SECTIONS: &[Section] = &[
    Section {
        path: &["client-transport-security"],
        keys: &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
        ],
    },
    Section {
        path: &["peer-transport-security"],
        keys: &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("skip-client-san-verification", "peer-skip-client-san-verification"),
        ],
    },
    Section { path: &["discovery-config"], keys: &[("token", "discovery-token")] },
    Section {
        path: &["discovery-config", "client"],
        keys: &[
            ("endpoints", "discovery-endpoints"),
            ("dial-timeout", "discovery-dial-timeout"),
            ("request-timeout", "discovery-request-timeout"),
            ("keepalive-time", "discovery-keepalive-time"),
            ("keepalive-timeout", "discovery-keepalive-timeout"),
        ],
    },
    Section {
        path: &["discovery-config", "client", "secure"],
        keys: &[
            ("cert", "discovery-cert"),
            ("key", "discovery-key"),
            ("cacert", "discovery-cacert"),
            ("insecure-transport", "discovery-insecure-transport"),
            ("insecure-skip-tls-verify", "discovery-insecure-skip-tls-verify"),
        ],
    },
    Section {
        path: &["discovery-config", "client", "auth"],
        keys: &[("username", "discovery-user"), ("password", "discovery-password")],
    },
];

/// Flags that are no keys of the file by their own names, though no section has them either.
const FLAGS_ONLY: &[&str] =
    &["config-file", "client-crl-file", "peer-crl-file", "raft-read-timeout", "raft-write-timeout"];

/// Reads a file into a configuration, and names the flags it sets.
///
/// # Errors
/// The file cannot be read, is no YAML, or holds a value that makes no sense; the text is etcd's where etcd has one.
pub(super) fn read(path: &str) -> Result<(Config, Vec<&'static str>), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("open {path}: {}", go_text(&error)))?;
    configuration(&text)
}

/// What the system says, without its number.
fn go_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn configuration(text: &str) -> Result<(Config, Vec<&'static str>), String> {
    let keys = parse(text)?;
    let (mut config, mut named) = (Config::default(), Vec::new());
    for section in SECTIONS {
        let Some(map) = section.path.iter().try_fold(&keys, |map, key| lookup(map, key)?.as_object()) else {
            continue;
        };
        for (key, flag) in section.keys {
            let Some(value) = lookup(map, key).filter(|value| !value.is_null()) else { continue };
            let path = format!("{}.{key}", section.path.join("."));
            // A setting of security that is not kept must not look as if it were.
            let Some(flag) = table::all().find(|known| known.name == *flag) else {
                return Err(format!("{path} is not supported by this version"));
            };
            set(&mut config, flag, &path, value)?;
            named.push(flag.name);
        }
    }
    for flag in table::all().filter(|flag| is_key(flag.name)) {
        if let Some(value) = lookup(&keys, flag.name).filter(|value| !value.is_null()) {
            set(&mut config, flag, flag.name, value)?;
            named.push(flag.name);
        }
    }
    Ok((config, named))
}

fn is_key(name: &str) -> bool {
    let elsewhere = || SECTIONS.iter().any(|section| section.keys.iter().any(|(_, flag)| *flag == name));
    !FLAGS_ONLY.contains(&name) && !elsewhere()
}

fn parse(text: &str) -> Result<Map<String, Value>, String> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(Value::Object(keys)) => Ok(keys),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(mistyped(&other, "Go value", "embed.configYAML")),
        Err(error) => {
            let line = error.location().map_or(0, |location| location.line());
            Err(format!("error converting YAML to JSON: yaml: line {line}: {error}"))
        }
    }
}

/// The value of a key in this or another case.
fn lookup<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key)
        .or_else(|| map.iter().find(|(other, _)| other.eq_ignore_ascii_case(key)).map(|(_, value)| value))
}

fn set(config: &mut Config, flag: &Flag, path: &str, value: &Value) -> Result<(), String> {
    let field = || format!("Go struct field .{path}");
    let text = as_typed(flag.kind, value).ok_or_else(|| mistyped(value, &field(), go_type(flag.kind)))?;
    (flag.set)(config, &text).map_err(|why| match (flag.kind, flag.name) {
        // etcd takes this key for another one here.
        (Kind::Urls, "advertise-client-urls") => {
            format!("unexpected error setting up advertise-peer-urls: {why}")
        }
        (Kind::Urls, name) => format!("unexpected error setting up {name}: {why}"),
        (Kind::Number(_), _) => mistyped(value, &field(), go_type(flag.kind)),
        (_, "initial-cluster-state") => format!("unexpected clusterState {text:?}"),
        _ => format!("invalid value {text:?} for {path}: {why}"),
    })
}

/// A value as it would be typed on the command line; nothing if it is of the wrong type.
fn as_typed(kind: Kind, value: &Value) -> Option<String> {
    match (kind, value) {
        (Kind::Text | Kind::Urls, Value::String(text)) => Some(text.clone()),
        // As in etcd, where a text is wanted, a bare number or truth is one.
        (Kind::Text | Kind::Urls, Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        (Kind::List, Value::Array(items)) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            Some(items?.join(","))
        }
        (Kind::Number(_), Value::Number(number)) if number.is_u64() || number.is_i64() => {
            Some(number.to_string())
        }
        (Kind::Switch, Value::Bool(on)) => Some(on.to_string()),
        (Kind::Duration, Value::Number(number)) if number.is_u64() => Some(format!("{number}ns")),
        _ => None,
    }
}

fn go_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Urls => "string",
        Kind::List => "[]string",
        Kind::Number(name) => name,
        Kind::Switch => "bool",
        Kind::Duration => "time.Duration",
    }
}

fn mistyped(value: &Value, place: &str, wanted: &str) -> String {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) => format!("number {number}"),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    format!(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into {place} of type {wanted}"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::LogOutput;

    fn refused(text: &str) -> String {
        configuration(text).unwrap_err()
    }

    #[test]
    fn keys_are_flags_and_strangers_are_ignored() {
        let (config, named) = configuration(
            "name: other\nname: node1\nNo-Such-Key: {a: [1]}\nLISTEN-peer-urls: http://127.0.0.1:2,http://127.0.0.1:1\n\
             quota-backend-bytes: -1\ngrpc-keepalive-timeout: 1500000000\nlog-outputs: [stdout]\nforce-new-cluster: true\n\
             initial-cluster-token: 7\nmax-wals: 5\nheartbeat-interval:\n",
        )
        .unwrap();
        assert_eq!((config.name.as_str(), config.initial_cluster_token.as_str()), ("node1", "7"));
        assert_eq!(config.listen_peer_urls, ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        assert_eq!(config.quota_backend_bytes, None);
        assert_eq!(config.grpc_keepalive_timeout, Duration::from_millis(1500));
        assert_eq!(config.log_output, LogOutput::Stdout);
        assert!(
            config.force_new_cluster && named.contains(&"name") && !named.contains(&"heartbeat-interval")
        );
    }

    #[test]
    fn a_registry_is_a_map_in_maps() {
        let (config, _) = configuration(
            "discovery-config:\n  token: t\n  client:\n    endpoints: [b:1, a:1]\n    dial-timeout: 1000000000\n    \
             secure: {insecure-transport: false, cacert: /ca}\n    auth: {username: u, password: p}\n",
        )
        .unwrap();
        let registry = config.discovery.registry;
        assert_eq!(
            (registry.token.as_str(), registry.endpoints),
            ("t", vec!["a:1".to_owned(), "b:1".to_owned()])
        );
        assert_eq!((registry.dial_timeout, registry.insecure_transport), (Duration::from_secs(1), false));
        assert_eq!((registry.user.as_str(), registry.password.as_str()), ("u", "p"));
    }

    #[test]
    fn an_empty_file_means_all_defaults() {
        for text in ["", "# nothing\n", "---\n"] {
            assert_eq!(configuration(text).unwrap().1, Vec::<&str>::new(), "{text:?}");
        }
    }

    #[test]
    fn values_of_another_type_are_refused_in_gos_words() {
        let cannot = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal";
        assert_eq!(
            refused("grpc-keepalive-timeout: 10m"),
            format!("{cannot} string into Go struct field .grpc-keepalive-timeout of type time.Duration")
        );
        assert_eq!(
            refused("election-timeout: 1.5"),
            format!("{cannot} number 1.5 into Go struct field .election-timeout of type uint")
        );
        assert_eq!(
            refused("election-timeout: -5"),
            format!("{cannot} number -5 into Go struct field .election-timeout of type uint")
        );
        assert_eq!(
            refused("log-outputs: stdout"),
            format!("{cannot} string into Go struct field .log-outputs of type []string")
        );
        assert_eq!(
            refused("force-new-cluster: 1"),
            format!("{cannot} number 1 into Go struct field .force-new-cluster of type bool")
        );
        assert_eq!(refused("- a"), format!("{cannot} array into Go value of type embed.configYAML"));
    }

    #[test]
    fn bad_urls_and_states_are_refused_in_etcds_words() {
        assert_eq!(
            refused("listen-peer-urls: http://127.0.0.1"),
            "unexpected error setting up listen-peer-urls: \
             URL address does not have the form \"host:port\": http://127.0.0.1"
        );
        assert_eq!(
            refused("advertise-client-urls: ftp://a:1"),
            "unexpected error setting up advertise-peer-urls: \
             URL scheme must be http, https, unix, or unixs: ftp://a:1"
        );
        assert_eq!(refused("initial-cluster-state: old"), "unexpected clusterState \"old\"");
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_line() {
        let text = refused("name: a\nname: b: c\n");
        assert!(text.starts_with("error converting YAML to JSON: yaml: line 2: "), "{text}");
        assert_eq!(read("/no/such/file").unwrap_err(), "open /no/such/file: no such file or directory");
    }

    #[test]
    fn a_flag_of_tls_is_a_key_only_in_its_section() {
        assert!(configuration("cert-file: x\ntrusted-ca-file: y\n").unwrap().1.is_empty());
        for section in SECTIONS {
            for (_, flag) in section.keys {
                assert!(!is_key(flag), "{flag}");
            }
        }
    }
}
