//! Doors for fuzzers to what a client shows and what an administrator writes; see [`crate::fuzzing`].

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};

use super::jwt::{Jwt, Keys};
use super::options::{JwtOptions, Kind, parse};
use super::{Now, Provider, Tokens, simple};

const SECRET: &[u8] = b"known to the fuzzer";
const KNOWN: &str = "AbCdEfGhIjKlMnOp";
const NOW: Duration = Duration::from_secs(1000);

/// A token of a stranger: it is nobody's, but for the one that is known.
pub fn token(bytes: &[u8]) {
    let Ok(token) = str::from_utf8(bytes) else { return };
    let now = Now { monotonic: NOW, unix: NOW };
    let simple = Tokens::parse("simple", NOW).expect("there are simple tokens");
    simple.assign(KNOWN, "ann", 41, now);
    let identity = simple.identity(token, 7, now);
    assert_eq!(identity.is_ok(), token == simple::format(KNOWN, 41));
    assert!(identity.is_err() || simple.awaits(token).is_ok_and(|index| index == Some(41)));
    let signed = Tokens(Provider::Jwt(Box::new(signer())));
    assert!(signed.identity(token, 7, now).is_err(), "nobody has signed this");
}

/// The claims of a token whose signature is right: whoever they name is believed, and never without a name and a revision.
pub fn jwt(bytes: &[u8]) {
    static KEY: OnceLock<EncodingKey> = OnceLock::new();
    let key = KEY.get_or_init(|| EncodingKey::from_secret(SECRET));
    let signer = signer();
    let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let message = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), key, Algorithm::HS256).expect("the key signs");
    let Ok(identity) = signer.identity(&format!("{message}.{signature}"), NOW) else { return };
    let claims = str::from_utf8(bytes).expect("claims are text");
    assert!(claims.contains("username") || claims.contains('\\'), "{claims:?}");
    let token = signer.issue(&identity, NOW).expect("there is a key");
    assert_eq!(signer.identity(&token, NOW).expect("it has just been issued"), identity);
    assert_eq!(
        signer.identity(&token, NOW + NOW).err().map(|error| error.to_string()).as_deref(),
        Some("etcdserver: invalid auth token")
    );
}

/// `--auth-token`, read but not acted upon.
pub fn options(bytes: &[u8]) {
    let Ok(spec) = str::from_utf8(bytes) else { return };
    if let Ok(Kind::Jwt(options)) = parse(spec) {
        assert!(spec.starts_with("jwt,") && !options.ttl.is_zero());
    }
}

fn signer() -> Jwt {
    let ttl = Duration::from_secs(300);
    let options = JwtOptions { algorithm: Algorithm::HS256, public_key: None, private_key: None, ttl };
    let keys = Keys::of_secret(SECRET, &options).expect("any secret will do");
    Jwt::with_keys(options, keys)
}
