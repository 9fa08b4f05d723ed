//! The fuzzers' door to the command line.

use super::value::duration;
use super::{Parsed, parse};
use crate::url::Url;

/// Words of a command line, one a line; those of the form `ETCD_X=Y` are the environment. Each word is also read as a
/// duration and as a URL.
pub fn flags(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (mut args, mut environment) = (Vec::new(), Vec::new());
    for word in text.lines() {
        match word.split_once('=') {
            Some((name, value)) if name.starts_with("ETCD_") => {
                environment.push((name.to_owned(), value.to_owned()));
            }
            _ => args.push(word.to_owned()),
        }
        drop(duration(word));
        if let Ok(url) = Url::parse(word) {
            assert_eq!(Url::parse(&url.to_string()).ok().as_ref(), Some(&url));
            drop(url.address());
        }
    }
    if let Ok(Parsed::Config(config, _)) = parse(args.into_iter(), &environment) {
        assert!(config.check().is_ok(), "what was accepted has been checked");
        assert!(config.min_lease_ttl() >= 1);
        assert!(config.request_timeout() > config.election_timeout);
    }
}
