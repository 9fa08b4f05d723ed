//! Whether a peer comes from where its certificate says.
//!
//! A certificate with addresses or host names is only good for connections from there. Names are asked of the system's
//! resolver, both ways: what the remote address is called, and which addresses the names have.

use std::future::Future;
use std::io;
use std::net::IpAddr;

use crate::certificate::Names;

/// Asks for names and addresses.
pub(crate) trait Lookup {
    /// What an address is called.
    fn names(&self, address: IpAddr) -> impl Future<Output = io::Result<Vec<String>>> + Send;
    /// Which addresses a name has.
    fn addresses(&self, name: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;
}

/// The system's resolver.
#[derive(Debug)]
pub(crate) struct System;

impl Lookup for System {
    async fn names(&self, address: IpAddr) -> io::Result<Vec<String>> {
        let lookup = tokio::task::spawn_blocking(move || dns_lookup::lookup_addr(&address));
        let name = lookup.await.map_err(io::Error::other)??;
        // Without a name, the system gives the address back.
        Ok(if name.parse::<IpAddr>().is_ok() { Vec::new() } else { vec![name] })
    }

    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Refuses a remote address that the certificate is not for, in etcd's words.
pub(crate) async fn check(names: &Names, remote: IpAddr, lookup: &impl Lookup) -> Result<(), String> {
    let remote = remote.to_canonical();
    if names.ips.contains(&remote) || (names.ips.is_empty() && names.dns.is_empty()) {
        return Ok(());
    }
    if names.dns.is_empty() {
        let valid: Vec<String> = names.ips.iter().map(IpAddr::to_string).collect();
        return Err(format!("x509: certificate is valid for {}, not {remote}", valid.join(", ")));
    }
    let mut failure = String::new();
    match is_called(remote, &names.dns, lookup).await {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(error) => failure = format!(" ({error})"),
    }
    let listed: Vec<String> = names.dns.iter().map(|name| format!("{name:?}")).collect();
    Err(format!(
        "tls: {:?} does not match any of DNSNames [{}]{failure}",
        remote.to_string(),
        listed.join(" ")
    ))
}

async fn is_called(remote: IpAddr, dns: &[String], lookup: &impl Lookup) -> io::Result<bool> {
    let (patterns, plain): (Vec<_>, Vec<_>) = dns.iter().partition(|name| name.starts_with("*."));
    let mut last = None;
    match lookup.names(remote).await {
        Ok(called) => {
            for name in &called {
                let name = name.trim_end_matches('.');
                if patterns.iter().any(|pattern| name.ends_with(&pattern[1..]))
                    || plain.iter().any(|plain| *plain == name)
                {
                    return Ok(true);
                }
            }
        }
        Err(error) => last = Some(error),
    }
    for name in plain {
        match lookup.addresses(name).await {
            Ok(addresses) if addresses.iter().any(|address| address.to_canonical() == remote) => {
                return Ok(true);
            }
            Ok(_) => {}
            Err(error) => last = Some(error),
        }
    }
    last.map_or(Ok(false), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A resolver that knows one name for one address, and one address for one name.
    struct Fixed {
        reverse: (IpAddr, &'static str),
        forward: (&'static str, IpAddr),
    }

    impl Lookup for Fixed {
        async fn names(&self, address: IpAddr) -> io::Result<Vec<String>> {
            Ok(if address == self.reverse.0 { vec![self.reverse.1.to_owned()] } else { Vec::new() })
        }

        async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
            match name == self.forward.0 {
                true => Ok(vec![self.forward.1]),
                false => Err(io::Error::other("no such host")),
            }
        }
    }

    async fn verdict(dns: &[&str], ips: &[[u8; 4]], remote: [u8; 4]) -> Result<(), String> {
        let names = Names {
            dns: dns.iter().map(|name| (*name).to_owned()).collect(),
            ips: ips.iter().map(|ip| IpAddr::from(*ip)).collect(),
            ..Names::default()
        };
        let lookup = Fixed {
            reverse: ([10, 0, 0, 1].into(), "a.example.org."),
            forward: ("b.example.org", [10, 0, 0, 2].into()),
        };
        check(&names, remote.into(), &lookup).await
    }

    #[tokio::test]
    async fn a_certificate_without_addresses_and_names_is_good_from_everywhere() {
        assert_eq!(verdict(&[], &[], [10, 0, 0, 9]).await, Ok(()));
    }

    #[tokio::test]
    async fn an_address_must_be_listed_if_there_are_only_addresses() {
        assert_eq!(verdict(&[], &[[10, 0, 0, 1]], [10, 0, 0, 1]).await, Ok(()));
        assert_eq!(
            verdict(&[], &[[10, 0, 0, 1], [10, 0, 0, 2]], [10, 0, 0, 3]).await,
            Err("x509: certificate is valid for 10.0.0.1, 10.0.0.2, not 10.0.0.3".to_owned())
        );
    }

    #[tokio::test]
    async fn names_match_both_ways_of_looking_up() {
        assert_eq!(verdict(&["a.example.org"], &[[1, 1, 1, 1]], [10, 0, 0, 1]).await, Ok(()));
        assert_eq!(verdict(&["*.example.org"], &[], [10, 0, 0, 1]).await, Ok(()));
        assert_eq!(verdict(&["b.example.org"], &[], [10, 0, 0, 2]).await, Ok(()));
        assert_eq!(
            verdict(&["*.example.com"], &[], [10, 0, 0, 1]).await,
            Err("tls: \"10.0.0.1\" does not match any of DNSNames [\"*.example.com\"]".to_owned())
        );
        assert_eq!(
            verdict(&["c.example.org"], &[], [10, 0, 0, 3]).await,
            Err("tls: \"10.0.0.3\" does not match any of DNSNames [\"c.example.org\"] (no such host)"
                .to_owned())
        );
    }
}
