//! How the log names users: by their ids, or by what stands for these without telling them.

use std::borrow::Cow;
use std::fmt;

use clap::ValueEnum;
use presenced_jwt::{Algorithm, EncodingKey, sign};

use crate::limits::HASHED_USER_CHARS;

/// What the log has of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogUsers {
    /// The id.
    #[default]
    Plain,
    /// A keyed hash of the id, the same on every server with the same secret.
    Hashed,
}

/// Names users for the log.
#[derive(Clone, Default)]
pub struct UserNames(Option<EncodingKey>);

impl UserNames {
    /// As `users` says; `secret` is that of the tokens.
    pub fn new(users: LogUsers, secret: &[u8]) -> UserNames {
        match users {
            LogUsers::Plain => UserNames(None),
            LogUsers::Hashed => {
                // A key of its own: whatever is in the log helps nobody to sign a token.
                let key = mac(&EncodingKey::from_secret(secret), KEY_NAME);
                UserNames(Some(EncodingKey::from_secret(key.as_bytes())))
            }
        }
    }

    /// The name of the user with this id.
    pub fn name<'a>(&self, id: &'a str) -> Cow<'a, str> {
        let Some(key) = &self.0 else {
            return id.into();
        };
        let mut hashed = mac(key, id.as_bytes());
        hashed.truncate(HASHED_USER_CHARS);
        hashed.into()
    }
}

/// It is no token's head and body, which have no space.
const KEY_NAME: &[u8] = b"presenced: names of users in the log";

/// HMAC-SHA256 in base64.
fn mac(key: &EncodingKey, message: &[u8]) -> String {
    // It fails for keys of another kind only.
    sign(message, key, Algorithm::HS256).unwrap_or_default()
}

impl fmt::Debug for UserNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is a secret.
        f.debug_struct("UserNames").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_tells_users_apart_and_nothing_else() {
        let names = |secret: &[u8]| UserNames::new(LogUsers::Hashed, secret);
        let (ours, same, other) = (names(b"secret"), names(b"secret"), names(b"another"));
        let alice = ours.name("alice");
        assert_eq!(alice.len(), HASHED_USER_CHARS);
        assert_eq!(alice, same.name("alice"));
        assert_ne!(alice, ours.name("alicf"));
        assert_ne!(alice, other.name("alice"));
        assert!(!alice.contains("alice"));
        assert_eq!(UserNames::default().name("alice"), "alice");
        assert_eq!(
            UserNames::new(LogUsers::Plain, b"secret").name("alice"),
            "alice"
        );
    }

    #[test]
    fn a_name_is_no_part_of_a_signature() {
        let secret = b"secret";
        let message = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJyb290In0";
        let signature = mac(&EncodingKey::from_secret(secret), message.as_bytes());
        let name = UserNames::new(LogUsers::Hashed, secret)
            .name(message)
            .into_owned();
        assert!(!signature.starts_with(&name));
    }
}
