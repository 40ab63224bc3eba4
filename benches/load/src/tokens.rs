//! The sessions' JWTs, signed before the measurement, as a signature costs as much as a handshake.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};

/// HS256 tokens (RFC 7519) of many users, in one allocation.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    text: String,
    ends: Vec<usize>,
}

impl Tokens {
    /// Signs a token for each of `users`, valid for `time` from now.
    pub(crate) fn mint(
        secret: &[u8],
        users: impl Iterator<Item = String>,
        time: Duration,
    ) -> Result<Tokens, jsonwebtoken::errors::Error> {
        let key = EncodingKey::from_secret(secret);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let exp = (now + time).as_secs();
        let mut tokens = Tokens::default();
        for user in users {
            let claims = serde_json::json!({"sub": user, "exp": exp});
            tokens.text += &encode(&Header::default(), &claims, &key)?;
            tokens.ends.push(tokens.text.len());
        }
        Ok(tokens)
    }

    /// The token of the user with this index; `None` if no tokens were made.
    pub(crate) fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

    use super::*;

    #[test]
    fn each_user_has_their_own_token() {
        let secret = b"0123456789abcdef0123456789abcdef";
        let users = ["load-0", "a\"b", "load-2"].map(String::from);
        let hour = Duration::from_secs(3600);
        let tokens = Tokens::mint(secret, users.iter().cloned(), hour).unwrap();
        for (index, user) in users.iter().enumerate() {
            let token = tokens.get(index).unwrap();
            let key = DecodingKey::from_secret(secret);
            let validation = Validation::new(Algorithm::HS256);
            let claims = decode::<serde_json::Value>(token, &key, &validation);
            assert_eq!(claims.unwrap().claims["sub"], *user);
        }
        assert_eq!(tokens.get(3), None);
        assert_eq!(Tokens::default().get(0), None);
    }
}
