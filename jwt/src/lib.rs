//! JSON Web Tokens (RFC 7519) by jsonwebtoken, without C and without the `rsa` crate: HMAC by
//! RustCrypto, which runs on any CPU, and RSA, ECDSA and EdDSA by graviola.
//!
//! - `hmac`: HS256, HS384, HS512.
//! - `cpu`: which CPU that takes.
//! - `asymmetric`: RS256 to RS512, PS256 to PS512, ES256, ES384, EdDSA with Ed25519.
//!
//! Public keys are given to [`DecodingKey`] as `from_rsa_der` (PKCS#1), `from_ec_der` (the point of
//! X9.62, uncompressed) and `from_ed_der` (32 bytes); private keys to [`EncodingKey`] as PKCS#8.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod asymmetric;
mod cpu;
mod hmac;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
pub use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, TokenData, Validation,
    decode_header, errors, jwk,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::cpu::{is_supported, lacking};

/// Signs a token: [`jsonwebtoken::encode`].
///
/// # Errors
///
/// A key of another family than the header's algorithm, or claims that are no JSON.
pub fn encode<T: Serialize>(header: &Header, claims: &T, key: &EncodingKey) -> Result<String> {
    install();
    jsonwebtoken::encode(header, claims, key)
}

/// Checks a token's signature, then its claims: [`jsonwebtoken::decode`].
///
/// # Errors
///
/// Why it is refused.
pub fn decode<T: DeserializeOwned>(
    token: &str,
    key: &DecodingKey,
    validation: &Validation,
) -> Result<TokenData<T>> {
    install();
    jsonwebtoken::decode(token, key, validation)
}

/// Whether a signature, in base64, is that of some bytes: [`jsonwebtoken::crypto::verify`].
///
/// # Errors
///
/// A signature that is no base64, or a key that is none or of another family than the algorithm.
pub fn verify(
    signature: &str,
    message: &[u8],
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<bool> {
    install();
    jsonwebtoken::crypto::verify(signature, message, key, algorithm)
}

/// The signature of some bytes, in base64: [`jsonwebtoken::crypto::sign`].
///
/// # Errors
///
/// A key of another family than the algorithm.
pub fn sign(message: &[u8], key: &EncodingKey, algorithm: Algorithm) -> Result<String> {
    install();
    jsonwebtoken::crypto::sign(message, key, algorithm)
}

/// Whether a public key can be used at all: a point on its curve, a modulus of 2,048 to 8,192 bits.
///
/// # Errors
///
/// It can't, or this CPU has not what it takes.
pub fn check_key(key: &DecodingKey, algorithm: Algorithm) -> Result<()> {
    verifier(&algorithm, key).map(drop)
}

fn install() {
    // The second time, and after others, it does nothing.
    let _ = PROVIDER.install_default();
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        rsa_pub_components_from_public_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ec_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ed_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        compute_digest: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    },
};

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    check_family(*algorithm, key.family())?;
    match algorithm.family() {
        AlgorithmFamily::Hmac => Ok(Box::new(hmac::Hmac::new(*algorithm, key.as_bytes())?)),
        _ => Ok(Box::new(asymmetric::Signer::new(
            *algorithm,
            key.as_bytes(),
        )?)),
    }
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    check_family(*algorithm, key.family())?;
    let bytes = key.try_get_as_bytes()?;
    match algorithm.family() {
        AlgorithmFamily::Hmac => Ok(Box::new(hmac::Hmac::new(*algorithm, bytes)?)),
        _ => Ok(Box::new(asymmetric::Verifier::new(*algorithm, bytes)?)),
    }
}

/// An algorithm with a key of another family is how tokens are forged (RFC 8725 §2.1); and the
/// library that we rely on panics on a CPU that it can't use.
fn check_family(algorithm: Algorithm, family: AlgorithmFamily) -> Result<()> {
    if algorithm.family() != family {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    if family != AlgorithmFamily::Hmac && !is_supported() {
        return Err(ErrorKind::UnsupportedAlgorithm.into());
    }
    Ok(())
}
