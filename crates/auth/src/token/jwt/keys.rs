//! The keys of JWTs, as their files hold them: PEM for signatures, anything for an HMAC's secret.

use std::fs;
use std::path::Path;

use jsonwebtoken::{AlgorithmFamily, DecodingKey, EncodingKey};
use ring::digest;

use super::provider;
use crate::Result;
use crate::token::options::{JwtOptions, invalid};

pub(in crate::token) struct Keys {
    /// `None` where tokens can only be verified.
    pub(super) private: Option<EncodingKey>,
    pub(super) public: DecodingKey,
    /// Of the files, to find out when they change without keeping what is in them.
    digest: Digest,
}

type Digest = [u8; 32];

/// The contents of the files, for as long as it takes to read keys from them.
struct Files {
    private: Option<Vec<u8>>,
    public: Option<Vec<u8>>,
}

impl Keys {
    pub(super) fn read(options: &JwtOptions) -> Result<Self> {
        Files::read(options)?.keys(options)
    }

    /// The key of an HMAC, from no file.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(in crate::token) fn of_secret(secret: &[u8], options: &JwtOptions) -> Result<Self> {
        Files { private: Some(secret.to_vec()), public: None }.keys(options)
    }

    /// `None` if the files are what they were.
    pub(super) fn read_if_changed(options: &JwtOptions, former: &Self) -> Result<Option<Self>> {
        let files = Files::read(options)?;
        if files.digest() == former.digest { Ok(None) } else { files.keys(options).map(Some) }
    }
}

impl Files {
    fn read(options: &JwtOptions) -> Result<Self> {
        let read = |path: &Option<_>| path.as_deref().map(read).transpose();
        Ok(Self { private: read(&options.private_key)?, public: read(&options.public_key)? })
    }

    fn digest(&self) -> Digest {
        let mut context = digest::Context::new(&digest::SHA256);
        for file in [&self.private, &self.public].into_iter().flatten() {
            context.update(&file.len().to_be_bytes());
            context.update(file);
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    fn keys(&self, options: &JwtOptions) -> Result<Keys> {
        let family = options.algorithm.family();
        if family == AlgorithmFamily::Hmac {
            let secret = self.private.as_deref().ok_or_else(|| invalid("priv-key is missing".to_owned()))?;
            return Ok(Keys {
                private: Some(EncodingKey::from_secret(secret)),
                public: DecodingKey::from_secret(secret),
                digest: self.digest(),
            });
        }
        let private = self.private.as_deref().map(|pem| private_key(family, pem)).transpose();
        let private = private.map_err(|_| unusable("priv-key", options))?;
        let of_private = private.as_ref().map(|key| provider::public_key(options.algorithm, key)).transpose();
        // Told now rather than when somebody wants a token.
        let of_private = of_private.map_err(|_| unusable("priv-key", options))?;
        let public = match &self.public {
            Some(pem) => Some(public_key(family, pem).map_err(|_| unusable("pub-key", options))?),
            None => of_private,
        };
        let public = public.ok_or_else(|| invalid("pub-key and priv-key are missing".to_owned()))?;
        Ok(Keys { private, public, digest: self.digest() })
    }
}

fn private_key(family: AlgorithmFamily, pem: &[u8]) -> jsonwebtoken::errors::Result<EncodingKey> {
    match family {
        AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(pem),
        AlgorithmFamily::Ec => match provider::pkcs8_of_sec1(pem) {
            Some(der) => Ok(EncodingKey::from_ec_der(&der)),
            None => EncodingKey::from_ec_pem(pem),
        },
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem),
        AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(pem)),
    }
}

fn public_key(family: AlgorithmFamily, pem: &[u8]) -> jsonwebtoken::errors::Result<DecodingKey> {
    match family {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
        AlgorithmFamily::Hmac => Ok(DecodingKey::from_secret(pem)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| invalid(format!("cannot read {}: {error}", path.display())))
}

fn unusable(which: &str, options: &JwtOptions) -> crate::Error {
    invalid(format!("{which} is not a key for {:?}", options.algorithm))
}
