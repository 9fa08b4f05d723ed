//! The flags of how founders find each other.

use std::path::PathBuf;

use super::table::{Flag, Kind, flag};
use super::value::{boolean, duration};

pub(super) const FLAGS: &[Flag] = &[
    flag("discovery-srv", Kind::Text, "", "DNS domain whose SRV records name the members.", |c, v| {
        v.clone_into(&mut c.discovery.srv);
        Ok(())
    }),
    flag(
        "discovery-srv-name",
        Kind::Text,
        "",
        "Suffix of the service names that are asked for by --discovery-srv.",
        |c, v| {
            v.clone_into(&mut c.discovery.srv_name);
            Ok(())
        },
    ),
    flag(
        "discovery-token",
        Kind::Text,
        "",
        "Names the new cluster in the cluster that is its registry.",
        |c, v| {
            v.clone_into(&mut c.discovery.registry.token);
            Ok(())
        },
    ),
    flag(
        "discovery-endpoints",
        Kind::List,
        "",
        "Client URLs of an etcd cluster in which the members of a new one register.",
        |c, v| {
            let mut endpoints: Vec<String> =
                if v.is_empty() { Vec::new() } else { v.split(',').map(str::to_owned).collect() };
            endpoints.sort();
            endpoints.dedup();
            c.discovery.registry.endpoints = endpoints;
            Ok(())
        },
    ),
    flag("discovery-dial-timeout", Kind::Duration, "2s", "Time limit of a connection to it.", |c, v| {
        c.discovery.registry.dial_timeout = duration(v)?;
        Ok(())
    }),
    flag("discovery-request-timeout", Kind::Duration, "5s", "Time limit of a request to it.", |c, v| {
        c.discovery.registry.request_timeout = duration(v)?;
        Ok(())
    }),
    flag(
        "discovery-keepalive-time",
        Kind::Duration,
        "2s",
        "Silence after which a connection to it is probed; at least 10s.",
        |c, v| {
            c.discovery.registry.keepalive_time = duration(v)?;
            Ok(())
        },
    ),
    flag("discovery-keepalive-timeout", Kind::Duration, "6s", "Time limit of such a probe.", |c, v| {
        c.discovery.registry.keepalive_timeout = duration(v)?;
        Ok(())
    }),
    flag(
        "discovery-insecure-transport",
        Kind::Switch,
        "true",
        "Speak plain text to endpoints that name no scheme.",
        |c, v| {
            c.discovery.registry.insecure_transport = boolean(v)?;
            Ok(())
        },
    ),
    flag(
        "discovery-insecure-skip-tls-verify",
        Kind::Switch,
        "false",
        "Take any certificate of the registry; for tests only.",
        |c, v| {
            c.discovery.registry.insecure_skip_tls_verify = boolean(v)?;
            Ok(())
        },
    ),
    flag("discovery-cert", Kind::Text, "", "Certificate to show to the registry.", |c, v| {
        c.discovery.registry.cert = path(v);
        Ok(())
    }),
    flag("discovery-key", Kind::Text, "", "Key of that certificate.", |c, v| {
        c.discovery.registry.key = path(v);
        Ok(())
    }),
    flag("discovery-cacert", Kind::Text, "", "Authority that signs the registry's certificates.", |c, v| {
        c.discovery.registry.cacert = path(v);
        Ok(())
    }),
    flag("discovery-user", Kind::Text, "", "User of the registry: NAME or NAME:PASSWORD.", |c, v| {
        v.clone_into(&mut c.discovery.registry.user);
        Ok(())
    }),
    flag("discovery-password", Kind::Text, "", "The user's password.", |c, v| {
        v.clone_into(&mut c.discovery.registry.password);
        Ok(())
    }),
];

fn path(value: &str) -> Option<PathBuf> {
    (!value.is_empty()).then(|| PathBuf::from(value))
}
