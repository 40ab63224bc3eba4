//! The tokens' secret.

use std::fmt;

use crate::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN};

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
        // A public key used as a secret is no secret: anyone could sign.
        if bytes.starts_with(b"-----BEGIN") {
            return Err("is a PEM key, not an HS256 secret");
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
