use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use tempfile::TempDir;

use super::*;

/// Keys made for these tests, and for nothing else.
const RSA: &str = include_str!("fixtures/rsa.pem");
const RSA_PUBLIC: &str = include_str!("fixtures/rsa.pub.pem");
const SEC1: &str = include_str!("fixtures/sec1-p384.pem");

const NOW: Duration = Duration::from_secs(1_000_000);

/// A folder with the keys of one algorithm.
struct Files(TempDir);

impl Files {
    fn new(private: &str, public: &str) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.write(private, public);
        files
    }

    fn write(&self, private: &str, public: &str) {
        fs::write(self.path("private"), private).unwrap();
        fs::write(self.path("public"), public).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn of(algorithm: Algorithm) -> Self {
        let generate = |kind| {
            let pair = KeyPair::generate_for(kind).unwrap();
            Self::new(&pair.serialize_pem(), &pair.public_key_pem())
        };
        match algorithm {
            Algorithm::ES256 => generate(&PKCS_ECDSA_P256_SHA256),
            Algorithm::ES384 => generate(&PKCS_ECDSA_P384_SHA384),
            Algorithm::EdDSA => generate(&PKCS_ED25519),
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Self::new("a secret", "not used"),
            _ => Self::new(RSA, RSA_PUBLIC),
        }
    }

    fn options(&self, algorithm: Algorithm, private: bool, public: bool) -> JwtOptions {
        let path = |wanted: bool, name| wanted.then(|| self.path(name));
        let ttl = Duration::from_secs(300);
        JwtOptions {
            algorithm,
            private_key: path(private, "private"),
            public_key: path(public, "public"),
            ttl,
        }
    }

    fn jwt(&self, algorithm: Algorithm) -> Jwt {
        Jwt::new(self.options(algorithm, true, false)).unwrap()
    }
}

fn ann() -> Identity {
    Identity { username: "ann".into(), revision: 7 }
}

fn refused(jwt: &Jwt, token: &str, now: Duration) {
    let answer = jwt.identity(token, now);
    assert!(matches!(answer, Err(Error::InvalidAuthToken)), "{token}: {answer:?}");
}

const ALL: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

#[test]
fn every_algorithm_signs_what_only_its_key_verifies() {
    for algorithm in ALL {
        let files = Files::of(algorithm);
        let signer = files.jwt(algorithm);
        let token = signer.issue(&ann(), NOW).unwrap();
        assert_eq!(signer.identity(&token, NOW).unwrap(), ann(), "{algorithm:?}");
        if algorithm.family() != jsonwebtoken::AlgorithmFamily::Hmac {
            let verifier = Jwt::new(files.options(algorithm, false, true)).unwrap();
            assert_eq!(verifier.identity(&token, NOW).unwrap(), ann(), "{algorithm:?}");
            assert!(matches!(verifier.issue(&ann(), NOW), Err(Error::VerifyOnlyKey)));
        }
        for damaged in damage(&token) {
            refused(&signer, &damaged, NOW);
        }
    }
}

/// The token with one letter changed, here and there, and cut off.
fn damage(token: &str) -> Vec<String> {
    let change = |at: usize| {
        let letter = if &token[at..=at] == "A" { "B" } else { "A" };
        format!("{}{letter}{}", &token[..at], &token[at + 1..])
    };
    let dot = token.rfind('.').unwrap();
    let mut damaged: Vec<_> = [5, dot - 5, dot + 5].into_iter().map(change).collect();
    damaged.extend([token[..dot].to_owned(), token[..=dot].to_owned(), String::new(), ". .".to_owned()]);
    damaged.push(format!("{token}.{token}"));
    damaged
}

#[test]
fn a_token_is_one_that_etcd_would_issue() {
    let token = Files::of(Algorithm::HS256).jwt(Algorithm::HS256).issue(&ann(), NOW).unwrap();
    let part = |at| BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap();
    assert_eq!(str::from_utf8(&part(0)).unwrap(), r#"{"typ":"JWT","alg":"HS256"}"#);
    assert_eq!(str::from_utf8(&part(1)).unwrap(), r#"{"username":"ann","revision":7,"exp":1000300}"#);
}

#[test]
fn a_token_of_another_algorithm_or_of_none_is_refused() {
    let files = Files::of(Algorithm::RS256);
    let token = files.jwt(Algorithm::RS384).issue(&ann(), NOW).unwrap();
    let jwt = files.jwt(Algorithm::RS256);
    refused(&jwt, &token, NOW);

    // The public key taken for an HMAC's secret: the classic confusion.
    let confused = Files::new(RSA_PUBLIC, "").jwt(Algorithm::HS256).issue(&ann(), NOW).unwrap();
    refused(&Jwt::new(files.options(Algorithm::RS256, false, true)).unwrap(), &confused, NOW);

    let none = |header: &str| {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"username":"root","revision":7}"#);
        format!("{}.{claims}.", BASE64_URL_SAFE_NO_PAD.encode(header))
    };
    refused(&jwt, &none(r#"{"alg":"none"}"#), NOW);
    refused(&jwt, &none(r#"{"alg":"RS256"}"#), NOW);
    refused(&jwt, &none("{}"), NOW);
}

#[test]
fn a_token_lives_from_its_first_to_its_last_moment() {
    let jwt = Files::of(Algorithm::HS256).jwt(Algorithm::HS256);
    let token = jwt.issue(&ann(), NOW).unwrap();
    let second = Duration::from_secs(1);
    for _ in 0..2 {
        assert!(jwt.identity(&token, NOW + 299 * second).is_ok());
        refused(&jwt, &token, NOW + 300 * second);
    }
    let later = sign(r#"{"username":"ann","revision":7,"nbf":1000001}"#);
    refused(&jwt, &later, NOW);
    assert!(jwt.identity(&later, NOW + second).is_ok(), "and without an end");
}

/// Claims that nobody here would issue, under a key that is right.
fn sign(claims: &str) -> String {
    let message = [r#"{"alg":"HS256"}"#, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
    let key = jsonwebtoken::EncodingKey::from_secret(b"a secret");
    provider::install();
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn a_token_needs_a_name_and_a_revision() {
    let jwt = Files::of(Algorithm::HS256).jwt(Algorithm::HS256);
    for claims in [
        "{}",
        "[]",
        "null",
        r#"{"username":"ann"}"#,
        r#"{"revision":7}"#,
        r#"{"username":7,"revision":7}"#,
        r#"{"username":"ann","revision":"7"}"#,
        r#"{"username":"ann","revision":-1}"#,
        r#"{"username":"ann","revision":1e300}"#,
        r#"{"username":"ann","username":"root","revision":7}"#,
        r#"{"username":"ann","revision":7,"exp":"never"}"#,
    ] {
        refused(&jwt, &sign(claims), NOW);
    }
    let odd = sign(r#"{"aud":["x"],"username":"ann","revision":7.0,"exp":1e9,"iat":"?"}"#);
    assert_eq!(jwt.identity(&odd, NOW).unwrap(), ann());
}

#[test]
fn keys_are_read_again_when_their_files_change() {
    let files = Files::of(Algorithm::ES256);
    let jwt = files.jwt(Algorithm::ES256);
    let former = jwt.issue(&ann(), NOW).unwrap();
    jwt.identity(&former, NOW).unwrap();
    jwt.reload().unwrap();
    jwt.identity(&former, NOW).unwrap();

    files.write("no key", "");
    assert!(matches!(jwt.reload(), Err(Error::InvalidAuthOptions(_))));
    jwt.identity(&former, NOW).expect("the former keys stay");

    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    files.write(&other.serialize_pem(), &other.public_key_pem());
    jwt.reload().unwrap();
    refused(&jwt, &former, NOW);
    jwt.identity(&jwt.issue(&ann(), NOW).unwrap(), NOW).unwrap();
}

#[test]
fn files_that_are_no_keys_for_the_algorithm_are_refused() {
    let check = |private: &str, public: Option<&str>, algorithm| {
        let files = Files::new(private, public.unwrap_or_default());
        let options = files.options(algorithm, !private.is_empty(), public.is_some());
        let error = Jwt::new(options).err().expect("no key for this").to_string();
        assert!(error.starts_with("auth: invalid auth options: "), "{error}");
        assert!(!error.contains("MII"), "an error shows no key: {error}");
    };
    check("", None, Algorithm::RS256);
    check("", None, Algorithm::HS256);
    check("", Some("secret"), Algorithm::HS256);
    check("nonsense", None, Algorithm::RS256);
    check(RSA, None, Algorithm::ES256);
    check(RSA, None, Algorithm::EdDSA);
    check(RSA, Some("nonsense"), Algorithm::RS256);
    check(RSA_PUBLIC, None, Algorithm::RS256);
    check(SEC1, None, Algorithm::ES256);
    let missing = JwtOptions {
        private_key: Some(Path::new("/nowhere/key.pem").to_owned()),
        ..Files::of(Algorithm::RS256).options(Algorithm::RS256, false, false)
    };
    let error = Jwt::new(missing).err().expect("no such file").to_string();
    assert!(error.contains("/nowhere/key.pem"), "{error}");
}

#[test]
fn an_elliptic_key_as_openssl_writes_it_is_understood() {
    let jwt = Files::new(SEC1, "").jwt(Algorithm::ES384);
    let token = jwt.issue(&ann(), NOW).unwrap();
    assert_eq!(jwt.identity(&token, NOW).unwrap(), ann());
}
