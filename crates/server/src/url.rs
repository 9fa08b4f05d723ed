//! URLs of members and listeners, as etcd takes them: `http://host:port`, `https://host:port`, `unix:///path`, `unixs:///path`.
//!
//! A URL is kept as it was written, but for its scheme in lower case: ids are hashes of these texts, and members with equal
//! texts must come to equal ids.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What is spoken at a URL, and over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scheme {
    /// Plain text over TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// Plain text over a Unix socket.
    Unix,
    /// TLS over a Unix socket.
    Unixs,
}

impl Scheme {
    /// Whether what is spoken is TLS.
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Unixs)
    }

    /// Whether it is a Unix socket.
    pub(crate) fn is_unix(self) -> bool {
        matches!(self, Self::Unix | Self::Unixs)
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A URL of a listener or member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Url {
    text: String,
    scheme: Scheme,
    host: String,
    /// Zero for Unix sockets.
    port: u16,
    /// What follows the scheme, of a Unix socket.
    path: String,
}

impl Url {
    /// Takes a URL apart, refusing in etcd's words what etcd refuses.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        let lower = scheme.to_ascii_lowercase();
        let scheme = match lower.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        };
        let printed = format!("{lower}:{rest}");
        if scheme.is_unix() {
            let path = rest.strip_prefix("//").unwrap_or(rest).to_owned();
            return Ok(Self { text: printed, scheme, host: String::new(), port: 0, path });
        }
        let rest = rest.strip_prefix("//").unwrap_or_default();
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let (host, port) = split_host_port(authority)
            .ok_or_else(|| format!("URL address does not have the form \"host:port\": {text}"))?;
        let port = match port {
            "" => 0,
            port => {
                port.parse().map_err(|_| format!("parse {text:?}: invalid port \":{port}\" after host"))?
            }
        };
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {text}"));
        }
        Ok(Self { text: printed, scheme, host: host.to_owned(), port, path: String::new() })
    }

    /// All of a list, sorted.
    ///
    /// # Errors
    /// What is wrong with the first that is wrong.
    pub(crate) fn parse_list<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Self>, String> {
        let mut urls = texts.into_iter().map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        if urls.is_empty() {
            return Err("no valid URLs given".to_owned());
        }
        urls.sort();
        Ok(urls)
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host without brackets; empty for Unix sockets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a listener can be bound to it: to a host that need not be looked up.
    pub(crate) fn check_bind(&self) -> Result<(), String> {
        self.address().map(drop)
    }

    /// Whether it can be told to others: not without a host.
    pub(crate) fn check_advertised(&self) -> Result<(), String> {
        if !self.scheme.is_unix() && self.host.is_empty() {
            return Err(format!("unexpected empty host ({self})"));
        }
        Ok(())
    }

    /// Where a listener of this URL is bound; `localhost` is the IPv4 loopback, as for etcd. A Unix socket is the file that
    /// is named by all that follows the scheme.
    pub(crate) fn address(&self) -> Result<Address, String> {
        if self.scheme.is_unix() {
            return Ok(Address::Unix(PathBuf::from(&self.path)));
        }
        let ip = if self.host == "localhost" { "127.0.0.1" } else { &self.host };
        let ip: IpAddr = ip.parse().map_err(|_| format!("expected IP in URL for binding ({self})"))?;
        Ok(Address::Tcp(SocketAddr::new(ip, self.port)))
    }
}

/// Splits `host:port`, with an IPv6 host in brackets.
fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        return Some((host, rest.strip_prefix(':')?));
    }
    let (host, port) = authority.rsplit_once(':')?;
    (!host.contains(':')).then_some((host, port))
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Url::parse(text).unwrap_err()
    }

    #[test]
    fn a_url_is_kept_as_written_but_for_its_scheme() {
        let url = Url::parse(" HTTPS://Node-1.Example:2380 ").unwrap();
        assert_eq!(url.to_string(), "https://Node-1.Example:2380");
        assert_eq!((url.scheme(), url.host(), url.port()), (Scheme::Https, "Node-1.Example", 2380));
        assert_eq!(Url::parse("http://[::1]:1").unwrap().host(), "::1");
    }

    #[test]
    fn what_is_no_url_of_a_member_is_refused_in_etcds_words() {
        assert_eq!(refused("nonsense"), "URL scheme must be http, https, unix, or unixs: nonsense");
        assert_eq!(refused("ftp://a:1"), "URL scheme must be http, https, unix, or unixs: ftp://a:1");
        assert_eq!(refused(""), "URL scheme must be http, https, unix, or unixs: ");
        assert_eq!(refused("http://a"), "URL address does not have the form \"host:port\": http://a");
        assert_eq!(refused("http://::1:2"), "URL address does not have the form \"host:port\": http://::1:2");
        assert_eq!(refused("http://a:1/"), "URL must not contain a path: http://a:1/");
        assert_eq!(refused("http://a:x"), "parse \"http://a:x\": invalid port \":x\" after host");
        assert_eq!(Url::parse_list([]).unwrap_err(), "no valid URLs given");
    }

    #[test]
    fn lists_are_sorted() {
        let urls = Url::parse_list(["http://b:1", "http://a:1"]).unwrap();
        assert_eq!(urls.iter().map(Url::as_str).collect::<Vec<_>>(), ["http://a:1", "http://b:1"]);
    }

    #[test]
    fn only_addresses_and_localhost_are_bound() {
        let address = |text: &str| Url::parse(text).unwrap().address();
        assert_eq!(address("http://localhost:1"), Ok(Address::Tcp(([127, 0, 0, 1], 1).into())));
        assert_eq!(address("unix://localhost:1"), Ok(Address::Unix("localhost:1".into())));
        assert_eq!(address("unixs:///run/etcd.sock"), Ok(Address::Unix("/run/etcd.sock".into())));
        assert_eq!(address("unix:/run/etcd.sock"), Ok(Address::Unix("/run/etcd.sock".into())));
        assert_eq!(
            address("http://example.org:1"),
            Err("expected IP in URL for binding (http://example.org:1)".to_owned())
        );
        assert_eq!(
            Url::parse("http://:1").unwrap().check_advertised(),
            Err("unexpected empty host (http://:1)".to_owned())
        );
    }
}
