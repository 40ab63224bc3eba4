//! A secret that signs tokens.

use std::fmt;

use crate::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN};

/// How each block of PEM begins (RFC 7468 §2).
pub(super) const PEM_START: &str = "-----BEGIN ";

/// An HMAC secret; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Checks that `bytes` can be a secret.
    ///
    /// # Errors
    ///
    /// For people: why not.
    pub fn new(bytes: &[u8]) -> Result<Secret, &'static str> {
        if bytes.len() < SECRET_BYTES_MIN {
            return Err("has less than 32 bytes (RFC 7518 §3.2)");
        }
        if bytes.len() > SECRET_BYTES_MAX {
            return Err("has more than 4096 bytes");
        }
        // A public key used as a secret is no secret: anyone could sign. Neither text is part of a secret
        // that was drawn at random, wherever it stands.
        let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        if has(PEM_START.as_bytes()) {
            return Err("is a PEM key, not an HMAC secret: give it with --jwt-key-file");
        }
        if has(b"\"kty\"") {
            return Err("is a JWK, not an HMAC secret: give a public one with --jwt-key-file");
        }
        Ok(Secret(bytes.to_vec()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
