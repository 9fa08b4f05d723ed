//! `--auth-token`: a kind, and for JWTs options behind commas.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use crate::{Error, Result};

/// How long a JWT lives if nothing else is said.
const DEFAULT_TTL: Duration = Duration::from_secs(300);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    None,
    Simple,
    Jwt(JwtOptions),
}

/// `jwt,sign-method=METHOD[,pub-key=FILE][,priv-key=FILE][,ttl=DURATION]`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JwtOptions {
    pub(super) algorithm: Algorithm,
    pub(super) public_key: Option<PathBuf>,
    pub(super) private_key: Option<PathBuf>,
    pub(super) ttl: Duration,
}

pub(super) fn parse(spec: &str) -> Result<Kind> {
    let (kind, options) = spec.split_once(',').map_or((spec, None), |(kind, options)| (kind, Some(options)));
    // As etcd: what is said of simple tokens must look like options, but none is known.
    let options = pairs(options)?;
    match kind {
        "" if options.is_empty() => Ok(Kind::None),
        "simple" => Ok(Kind::Simple),
        "jwt" => jwt(&options).map(Kind::Jwt),
        _ => Err(invalid(format!("there are no tokens of type {kind:?}"))),
    }
}

fn pairs(options: Option<&str>) -> Result<Vec<(&str, &str)>> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for option in options.into_iter().flat_map(|options| options.split(',')) {
        let Some((name, value)) = option.split_once('=').filter(|(_, value)| !value.contains('=')) else {
            return Err(invalid(format!("{option:?} is not NAME=VALUE")));
        };
        if pairs.iter().any(|(other, _)| *other == name) {
            return Err(invalid(format!("{name} is given twice")));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

fn jwt(options: &[(&str, &str)]) -> Result<JwtOptions> {
    let (mut algorithm, mut public_key, mut private_key, mut ttl) = (None, None, None, DEFAULT_TTL);
    for (name, value) in options {
        match *name {
            "sign-method" => algorithm = Some(parse_algorithm(value)?),
            "pub-key" => public_key = Some(PathBuf::from(value)),
            "priv-key" => private_key = Some(PathBuf::from(value)),
            "ttl" => {
                ttl = parse_duration(value).ok_or_else(|| invalid(format!("ttl={value} is no duration")))?;
            }
            // etcd passes over what it does not know, and so do we.
            _ => {}
        }
    }
    let algorithm = algorithm.ok_or_else(|| invalid("sign-method is missing".to_owned()))?;
    Ok(JwtOptions { algorithm, public_key, private_key, ttl })
}

fn parse_algorithm(name: &str) -> Result<Algorithm> {
    Ok(match name {
        "HS256" => Algorithm::HS256,
        "HS384" => Algorithm::HS384,
        "HS512" => Algorithm::HS512,
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return Err(invalid(format!("sign-method={name} is not supported"))),
    })
}

/// A duration as Go writes them, `1h30m` or `0.5s`; above zero.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = behind;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

pub(super) fn invalid(detail: String) -> Error {
    Error::InvalidAuthOptions(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_and_its_options_are_understood() {
        assert_eq!(parse("").unwrap(), Kind::None);
        assert_eq!(parse("simple").unwrap(), Kind::Simple);
        let Kind::Jwt(options) =
            parse("jwt,pub-key=a.pem,priv-key=b.pem,sign-method=PS384,ttl=1h30m").unwrap()
        else {
            panic!("no jwt")
        };
        let expected = JwtOptions {
            algorithm: Algorithm::PS384,
            public_key: Some("a.pem".into()),
            private_key: Some("b.pem".into()),
            ttl: Duration::from_secs(5400),
        };
        assert_eq!(options, expected);
        let Kind::Jwt(options) = parse("jwt,sign-method=EdDSA").unwrap() else { panic!("no jwt") };
        assert_eq!((options.ttl, options.public_key), (Duration::from_secs(300), None));
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_etcds_words() {
        for spec in [
            "simpl",
            "JWT",
            ",",
            "jwt",
            "jwt,",
            "simple,x",
            "jwt,sign-method",
            "jwt,sign-method=RS256=x",
            "jwt,sign-method=RS256,sign-method=RS256",
            "jwt,sign-method=none",
            "jwt,sign-method=rs256",
            "jwt,sign-method=RS256,ttl=5",
            "jwt,sign-method=RS256,ttl=",
            "jwt,sign-method=RS256,ttl=0s",
            "jwt,sign-method=RS256,ttl=-1s",
            "jwt,sign-method=RS256,ttl=1e3s",
        ] {
            let error = parse(spec).unwrap_err().to_string();
            assert!(error.starts_with("auth: invalid auth options: "), "{spec}: {error}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, ms) in [("1.5s", 1500), ("2m3s", 123_000), ("250ms", 250), ("1h", 3_600_000), (".5s", 500)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["1", "s", "1d", "1.2.3s", "1 s", "99999999999999999999999h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
