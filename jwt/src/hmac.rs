//! HS256, HS384, HS512 (RFC 7518 §3.2).

use hmac::Mac;
use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::{JwtSigner, JwtVerifier};
use jsonwebtoken::errors::{Error as KeyError, ErrorKind};
use jsonwebtoken::signature::{Error, Signer, Verifier};
use sha2::{Sha256, Sha384, Sha512};

/// Signs and verifies with a secret.
pub(crate) enum Hmac {
    Sha256(hmac::Hmac<Sha256>),
    Sha384(hmac::Hmac<Sha384>),
    Sha512(hmac::Hmac<Sha512>),
}

impl Hmac {
    pub(crate) fn new(algorithm: Algorithm, secret: &[u8]) -> Result<Hmac, KeyError> {
        // Secrets of any length are taken.
        let invalid = |_| ErrorKind::InvalidKeyFormat;
        Ok(match algorithm {
            Algorithm::HS256 => Hmac::Sha256(Mac::new_from_slice(secret).map_err(invalid)?),
            Algorithm::HS384 => Hmac::Sha384(Mac::new_from_slice(secret).map_err(invalid)?),
            Algorithm::HS512 => Hmac::Sha512(Mac::new_from_slice(secret).map_err(invalid)?),
            _ => return Err(ErrorKind::InvalidAlgorithm.into()),
        })
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Hmac::Sha256(_) => Algorithm::HS256,
            Hmac::Sha384(_) => Algorithm::HS384,
            Hmac::Sha512(_) => Algorithm::HS512,
        }
    }
}

impl Signer<Vec<u8>> for Hmac {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(match self {
            Hmac::Sha256(mac) => tag(mac.clone(), message),
            Hmac::Sha384(mac) => tag(mac.clone(), message),
            Hmac::Sha512(mac) => tag(mac.clone(), message),
        })
    }
}

fn tag<M: Mac>(mac: M, message: &[u8]) -> Vec<u8> {
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

/// In constant time.
impl Verifier<Vec<u8>> for Hmac {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        let verified = match self {
            Hmac::Sha256(mac) => mac.clone().chain_update(message).verify_slice(signature),
            Hmac::Sha384(mac) => mac.clone().chain_update(message).verify_slice(signature),
            Hmac::Sha512(mac) => mac.clone().chain_update(message).verify_slice(signature),
        };
        verified.map_err(|_| Error::new())
    }
}

impl JwtSigner for Hmac {
    fn algorithm(&self) -> Algorithm {
        self.algorithm()
    }
}

impl JwtVerifier for Hmac {
    fn algorithm(&self) -> Algorithm {
        self.algorithm()
    }
}
