//! RSA (RFC 7518 §3.3, §3.5), ECDSA (§3.4) and Ed25519 (RFC 8037 §3.1), by graviola.

use graviola::hashing::{Sha256, Sha384};
use graviola::signing::ecdsa::{self, P256, P384};
use graviola::signing::eddsa::{Ed25519SigningKey, Ed25519VerifyingKey};
use graviola::signing::rsa;
use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::{JwtSigner, JwtVerifier};
use jsonwebtoken::errors::{Error as KeyError, ErrorKind};
use jsonwebtoken::signature::{self, Error};

/// The signature of an RSA key of 8,192 bits.
const SIGNATURE_BYTES_MAX: usize = 1024;

/// Verifies with a public key.
pub(crate) struct Verifier {
    algorithm: Algorithm,
    key: PublicKey,
}

enum PublicKey {
    Rsa(Box<rsa::VerifyingKey>),
    P256(Box<ecdsa::VerifyingKey<P256>>),
    P384(Box<ecdsa::VerifyingKey<P384>>),
    Ed25519(Box<Ed25519VerifyingKey>),
}

impl Verifier {
    pub(crate) fn new(algorithm: Algorithm, bytes: &[u8]) -> Result<Verifier, KeyError> {
        let key = match algorithm {
            Algorithm::ES256 => ecdsa::VerifyingKey::from_x962_uncompressed(bytes)
                .map(Box::new)
                .map(PublicKey::P256)
                .map_err(|_| ErrorKind::InvalidEcdsaKey)?,
            Algorithm::ES384 => ecdsa::VerifyingKey::from_x962_uncompressed(bytes)
                .map(Box::new)
                .map(PublicKey::P384)
                .map_err(|_| ErrorKind::InvalidEcdsaKey)?,
            Algorithm::EdDSA => Ed25519VerifyingKey::from_bytes(bytes)
                .map(Box::new)
                .map(PublicKey::Ed25519)
                .map_err(|_| ErrorKind::InvalidEddsaKey)?,
            _ => rsa::VerifyingKey::from_pkcs1_der(bytes)
                .map(Box::new)
                .map(PublicKey::Rsa)
                .map_err(|error| ErrorKind::InvalidRsaKey(format!("{error:?}")))?,
        };
        Ok(Verifier { algorithm, key })
    }
}

impl signature::Verifier<Vec<u8>> for Verifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        let verified = match (&self.key, self.algorithm) {
            (PublicKey::P256(key), _) => key.verify::<Sha256>(&[message], signature),
            (PublicKey::P384(key), _) => key.verify::<Sha384>(&[message], signature),
            (PublicKey::Ed25519(key), _) => key.verify(signature, message),
            (PublicKey::Rsa(key), Algorithm::RS256) => key.verify_pkcs1_sha256(signature, message),
            (PublicKey::Rsa(key), Algorithm::RS384) => key.verify_pkcs1_sha384(signature, message),
            (PublicKey::Rsa(key), Algorithm::RS512) => key.verify_pkcs1_sha512(signature, message),
            (PublicKey::Rsa(key), Algorithm::PS256) => key.verify_pss_sha256(signature, message),
            (PublicKey::Rsa(key), Algorithm::PS384) => key.verify_pss_sha384(signature, message),
            (PublicKey::Rsa(key), Algorithm::PS512) => key.verify_pss_sha512(signature, message),
            (PublicKey::Rsa(_), _) => return Err(Error::new()),
        };
        verified.map_err(|_| Error::new())
    }
}

impl JwtVerifier for Verifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Signs with a private key.
pub(crate) struct Signer {
    algorithm: Algorithm,
    key: PrivateKey,
}

enum PrivateKey {
    Rsa(Box<rsa::SigningKey>),
    P256(Box<ecdsa::SigningKey<P256>>),
    P384(Box<ecdsa::SigningKey<P384>>),
    Ed25519(Box<Ed25519SigningKey>),
}

impl Signer {
    pub(crate) fn new(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Signer, KeyError> {
        let key = match algorithm {
            Algorithm::ES256 => ecdsa::SigningKey::from_pkcs8_der(pkcs8)
                .map(Box::new)
                .map(PrivateKey::P256)
                .map_err(|_| ErrorKind::InvalidEcdsaKey)?,
            Algorithm::ES384 => ecdsa::SigningKey::from_pkcs8_der(pkcs8)
                .map(Box::new)
                .map(PrivateKey::P384)
                .map_err(|_| ErrorKind::InvalidEcdsaKey)?,
            Algorithm::EdDSA => Ed25519SigningKey::from_pkcs8_der(pkcs8)
                .map(Box::new)
                .map(PrivateKey::Ed25519)
                .map_err(|_| ErrorKind::InvalidEddsaKey)?,
            _ => rsa::SigningKey::from_pkcs8_der(pkcs8)
                .map(Box::new)
                .map(PrivateKey::Rsa)
                .map_err(|error| ErrorKind::InvalidRsaKey(format!("{error:?}")))?,
        };
        Ok(Signer { algorithm, key })
    }
}

impl signature::Signer<Vec<u8>> for Signer {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut space = [0; SIGNATURE_BYTES_MAX];
        let key = match &self.key {
            PrivateKey::Ed25519(key) => return Ok(key.sign(message).to_vec()),
            PrivateKey::P256(key) => {
                let signed = key.sign::<Sha256>(&[message], &mut space);
                return signed.map(<[u8]>::to_vec).map_err(|_| Error::new());
            }
            PrivateKey::P384(key) => {
                let signed = key.sign::<Sha384>(&[message], &mut space);
                return signed.map(<[u8]>::to_vec).map_err(|_| Error::new());
            }
            PrivateKey::Rsa(key) => key,
        };
        let space = space
            .get_mut(..key.modulus_len_bytes())
            .ok_or_else(Error::new)?;
        let signed = match self.algorithm {
            Algorithm::RS256 => key.sign_pkcs1_sha256(space, message),
            Algorithm::RS384 => key.sign_pkcs1_sha384(space, message),
            Algorithm::RS512 => key.sign_pkcs1_sha512(space, message),
            Algorithm::PS256 => key.sign_pss_sha256(space, message),
            Algorithm::PS384 => key.sign_pss_sha384(space, message),
            Algorithm::PS512 => key.sign_pss_sha512(space, message),
            _ => return Err(Error::new()),
        };
        signed.map(<[u8]>::to_vec).map_err(|_| Error::new())
    }
}

impl JwtSigner for Signer {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::{Value, json};

    use crate::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation};
    use crate::{decode, encode};

    /// The private and the public key of each kind, made anew.
    fn keys() -> HashMap<&'static str, (EncodingKey, DecodingKey)> {
        use graviola::signing::ecdsa::{P256, P384, SigningKey};
        use graviola::signing::eddsa::Ed25519SigningKey;
        use graviola::signing::rsa;
        let mut space = [0; 4096];
        let rsa = rsa::SigningKey::generate(rsa::KeySize::Rsa2048).unwrap();
        let rsa_private = EncodingKey::from_rsa_der(rsa.to_pkcs8_der(&mut space).unwrap());
        let rsa_public =
            DecodingKey::from_rsa_der(rsa.public_key().to_pkcs1_der(&mut space).unwrap());
        let p256 = SigningKey::<P256>::generate().unwrap();
        let p256_private = EncodingKey::from_ec_der(p256.to_pkcs8_der(&mut space).unwrap());
        let p256_public = DecodingKey::from_ec_der(&p256.private_key.public_key_uncompressed());
        let p384 = SigningKey::<P384>::generate().unwrap();
        let p384_private = EncodingKey::from_ec_der(p384.to_pkcs8_der(&mut space).unwrap());
        let p384_public = DecodingKey::from_ec_der(&p384.private_key.public_key_uncompressed());
        let ed = Ed25519SigningKey::generate().unwrap();
        let ed_private = EncodingKey::from_ed_der(ed.to_pkcs8_der(&mut space).unwrap());
        let ed_public = DecodingKey::from_ed_der(&ed.public_key().as_bytes());
        let secret = [7; 64];
        HashMap::from([
            ("rsa", (rsa_private, rsa_public)),
            ("p256", (p256_private, p256_public)),
            ("p384", (p384_private, p384_public)),
            ("ed", (ed_private, ed_public)),
            (
                "secret",
                (
                    EncodingKey::from_secret(&secret),
                    DecodingKey::from_secret(&secret),
                ),
            ),
        ])
    }

    fn kind_of(algorithm: Algorithm) -> &'static str {
        match (algorithm.family(), algorithm) {
            (AlgorithmFamily::Hmac, _) => "secret",
            (AlgorithmFamily::Rsa, _) => "rsa",
            (AlgorithmFamily::Ed, _) => "ed",
            (AlgorithmFamily::Ec, Algorithm::ES256) => "p256",
            (AlgorithmFamily::Ec, _) => "p384",
        }
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
    fn what_is_signed_is_verified_by_its_own_key_and_algorithm_alone() {
        let (keys, others) = (keys(), keys());
        for algorithm in ALL {
            let kind = kind_of(algorithm);
            let claims = json!({"sub": "a", "exp": 4_000_000_000_u64});
            let token = encode(&Header::new(algorithm), &claims, &keys[kind].0).unwrap();
            let verified = |token: &str, key: &DecodingKey, algorithm| {
                let token = decode::<Value>(token, key, &Validation::new(algorithm));
                token.ok().map(|token| token.claims)
            };
            assert_eq!(
                verified(&token, &keys[kind].1, algorithm),
                Some(claims),
                "{algorithm:?}"
            );
            for (other, (_, key)) in &keys {
                if *other != kind {
                    assert!(
                        verified(&token, key, algorithm).is_none(),
                        "{algorithm:?} {other}"
                    );
                }
            }
            if kind != "secret" {
                assert!(
                    verified(&token, &others[kind].1, algorithm).is_none(),
                    "{algorithm:?}"
                );
            }
            for other in ALL {
                let is_good = verified(&token, &keys[kind].1, other).is_some();
                assert_eq!(is_good, other == algorithm, "{algorithm:?} as {other:?}");
            }
            // Any bit of the signature counts.
            let start = token.rfind('.').unwrap() + 1;
            for place in [start, start + 7, token.len() - 3] {
                let mut forged = token.clone().into_bytes();
                forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
                let forged = String::from_utf8(forged).unwrap();
                assert!(
                    verified(&forged, &keys[kind].1, algorithm).is_none(),
                    "{algorithm:?}"
                );
            }
        }
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for algorithm in ALL {
            if algorithm.family() == AlgorithmFamily::Hmac {
                continue;
            }
            for bytes in [&b""[..], b"x", &[4; 65], &[0; 32], &[4; 97], &[0x30, 0x82]] {
                let key = match algorithm.family() {
                    AlgorithmFamily::Rsa => DecodingKey::from_rsa_der(bytes),
                    AlgorithmFamily::Ec => DecodingKey::from_ec_der(bytes),
                    _ => DecodingKey::from_ed_der(bytes),
                };
                let checked = crate::check_key(&key, algorithm);
                // Zero is the encoding of a point on the curve of Ed25519.
                let is_ed_zero = algorithm == Algorithm::EdDSA && bytes == [0; 32];
                assert_eq!(checked.is_err(), !is_ed_zero, "{algorithm:?} {bytes:?}");
            }
        }
    }
}
