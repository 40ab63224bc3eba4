//! Signs tokens: those of the dev mode, and those that an operator tries a server with.

use std::fmt;

use presenced_jwt::{EncodingKey, Header, encode, errors};
use presenced_presence::UserId;
use serde_json::{Map, Value};

use super::issuer::{Audience, IssuerConfig};

/// Signs tokens of one issuer with a secret, by HS256, for which each is long enough.
pub struct Signer {
    key: EncodingKey,
    issuer: Option<String>,
    audience: Option<String>,
    user_claim: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is a secret.
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    /// With a `secret` of the issuer.
    pub fn new(secret: &[u8], issuer: &IssuerConfig) -> Signer {
        Signer {
            key: EncodingKey::from_secret(secret),
            issuer: issuer.name.clone(),
            audience: match &issuer.audience {
                Audience::Named(audience) => Some(audience.clone()),
                Audience::None | Audience::Any => None,
            },
            user_claim: issuer.user_claim.clone(),
        }
    }

    /// A token of `user`, with a `scope` if there is one, and what else is in `claims`: at least `exp`. A path to the
    /// user's claim is its name, which comes before the objects that it may lead into.
    ///
    /// # Errors
    ///
    /// The library can't sign it.
    pub fn sign(
        &self,
        user: &UserId,
        scope: Option<&str>,
        mut claims: Map<String, Value>,
    ) -> Result<String, errors::Error> {
        let texts = [
            ("iss", self.issuer.as_deref()),
            ("aud", self.audience.as_deref()),
            ("scope", scope),
            (self.user_claim.as_str(), Some(user.as_str())),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                claims.insert(name.to_owned(), text.into());
            }
        }
        encode(&Header::default(), &claims, &self.key)
    }
}
