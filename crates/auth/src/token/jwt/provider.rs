//! The cryptography under `jsonwebtoken`: ring's, which rustls uses too, so that there is one such library in the program.
//!
//! `jsonwebtoken` asks one provider of the whole process. If the program that embeds this crate has set another, that one is
//! used; it has to know the same algorithms.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Signer::new(*algorithm, key).map(|signer| Box::new(signer) as _),
    verifier_factory: |algorithm, key| Verifier::new(*algorithm, key).map(|verifier| Box::new(verifier) as _),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring what `jsonwebtoken` signs and verifies with, unless something is already.
pub(super) fn install() {
    if PROVIDER.install_default().is_err() {
        // Set before, by us or by the program.
    }
}

/// The public key that belongs to a private one.
pub(super) fn public_key(algorithm: Algorithm, key: &EncodingKey) -> Result<DecodingKey> {
    Ok(match Signer::new(algorithm, key)?.key {
        PrivateKey::Hmac(_) => DecodingKey::from_secret(key.as_bytes()),
        PrivateKey::Rsa(pair, _) => DecodingKey::from_rsa_der(pair.public().as_ref()),
        PrivateKey::Ec(pair) => DecodingKey::from_ec_der(pair.public_key().as_ref()),
        PrivateKey::Ed(pair) => DecodingKey::from_ed_der(pair.public_key().as_ref()),
    })
}

struct Signer {
    algorithm: Algorithm,
    key: PrivateKey,
}

enum PrivateKey {
    Hmac(hmac::Key),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ec(Box<EcdsaKeyPair>),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn new(algorithm: Algorithm, key: &EncodingKey) -> Result<Self> {
        if key.family() != algorithm.family() {
            return Err(ErrorKind::InvalidKeyFormat.into());
        }
        let bytes = key.as_bytes();
        let rsa = |encoding| rsa_pair(bytes).map(|pair| PrivateKey::Rsa(Box::new(pair), encoding));
        let key = match algorithm {
            Algorithm::HS256 => PrivateKey::Hmac(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
            Algorithm::HS384 => PrivateKey::Hmac(hmac::Key::new(hmac::HMAC_SHA384, bytes)),
            Algorithm::HS512 => PrivateKey::Hmac(hmac::Key::new(hmac::HMAC_SHA512, bytes)),
            Algorithm::RS256 => rsa(&signature::RSA_PKCS1_SHA256)?,
            Algorithm::RS384 => rsa(&signature::RSA_PKCS1_SHA384)?,
            Algorithm::RS512 => rsa(&signature::RSA_PKCS1_SHA512)?,
            Algorithm::PS256 => rsa(&signature::RSA_PSS_SHA256)?,
            Algorithm::PS384 => rsa(&signature::RSA_PSS_SHA384)?,
            Algorithm::PS512 => rsa(&signature::RSA_PSS_SHA512)?,
            Algorithm::ES256 => ec_pair(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, bytes)?,
            Algorithm::ES384 => ec_pair(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, bytes)?,
            Algorithm::EdDSA => PrivateKey::Ed(
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes)
                    .map_err(|_| Error::from(ErrorKind::InvalidEddsaKey))?,
            ),
            _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
        };
        Ok(Self { algorithm, key })
    }
}

fn rsa_pair(der: &[u8]) -> Result<RsaKeyPair> {
    RsaKeyPair::from_der(der).map_err(|error| ErrorKind::InvalidRsaKey(error.to_string()).into())
}

fn ec_pair(algorithm: &'static EcdsaSigningAlgorithm, pkcs8: &[u8]) -> Result<PrivateKey> {
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new());
    pair.map(|pair| PrivateKey::Ec(Box::new(pair))).map_err(|_| ErrorKind::InvalidEcdsaKey.into())
}

impl ::signature::Signer<Vec<u8>> for Signer {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, ::signature::Error> {
        let random = SystemRandom::new();
        match &self.key {
            PrivateKey::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            PrivateKey::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(*encoding, &random, message, &mut signature);
                signed.map(|()| signature).map_err(|_| ::signature::Error::new())
            }
            PrivateKey::Ec(pair) => {
                let signed = pair.sign(&random, message);
                signed.map(|signature| signature.as_ref().to_vec()).map_err(|_| ::signature::Error::new())
            }
            PrivateKey::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for Signer {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct Verifier {
    algorithm: Algorithm,
    key: PublicKey,
}

enum PublicKey {
    Hmac(hmac::Key),
    Signature(UnparsedPublicKey<Vec<u8>>),
}

impl Verifier {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self> {
        if key.family() != algorithm.family() {
            return Err(ErrorKind::InvalidKeyFormat.into());
        }
        let bytes = key.try_get_as_bytes()?;
        let hmac = |kind| PublicKey::Hmac(hmac::Key::new(kind, bytes));
        let signature = |kind: &'static dyn VerificationAlgorithm| {
            PublicKey::Signature(UnparsedPublicKey::new(kind, bytes.to_vec()))
        };
        let key = match algorithm {
            Algorithm::HS256 => hmac(hmac::HMAC_SHA256),
            Algorithm::HS384 => hmac(hmac::HMAC_SHA384),
            Algorithm::HS512 => hmac(hmac::HMAC_SHA512),
            Algorithm::RS256 => signature(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => signature(&signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => signature(&signature::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => signature(&signature::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => signature(&signature::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => signature(&signature::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => signature(&signature::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => signature(&signature::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => signature(&signature::ED25519),
            _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
        };
        Ok(Self { algorithm, key })
    }
}

impl ::signature::Verifier<Vec<u8>> for Verifier {
    /// An HMAC is compared in constant time by ring.
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), ::signature::Error> {
        let verified = match &self.key {
            PublicKey::Hmac(key) => hmac::verify(key, message, signature),
            PublicKey::Signature(key) => key.verify(message, signature),
        };
        verified.map_err(|_| ::signature::Error::new())
    }
}

impl JwtVerifier for Verifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// An elliptic curve's private key in the older form that openssl and Go write, put into the newer one that ring reads; `None` if
/// it is none, or of another curve.
pub(super) fn pkcs8_of_sec1(pem: &[u8]) -> Option<Vec<u8>> {
    const EC: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
    const CURVES: [&[u8]; 2] = [b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", b"\x06\x05\x2b\x81\x04\x00\x22"];
    let key = pem::parse_many(pem).ok()?.into_iter().find(|block| block.tag() == "EC PRIVATE KEY")?;
    let key = key.contents();
    let curve = CURVES.into_iter().find(|curve| key.windows(curve.len()).any(|part| part == *curve))?;
    let algorithm = der(0x30, &[EC, curve].concat());
    Some(der(0x30, &[b"\x02\x01\x00", &algorithm[..], &der(0x04, key)].concat()))
}

/// One value of DER, of less than 64 KiB.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut value = match (high, low) {
        (0, 0..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    value.extend_from_slice(content);
    value
}
