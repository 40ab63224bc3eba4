//! The sessions' JWTs, made before the measurement, as a signature costs as much as a handshake.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use presenced_jwt::{EncodingKey, Header, encode};
use serde::Deserialize;

use crate::http::Http;

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
    ) -> Result<Tokens, presenced_jwt::errors::Error> {
        let key = EncodingKey::from_secret(secret);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let exp = (now + time).as_secs();
        let mut tokens = Tokens::default();
        for user in users {
            let claims = serde_json::json!({"sub": user, "exp": exp});
            tokens.push(&encode(&Header::default(), &claims, &key)?);
        }
        Ok(tokens)
    }

    /// Asks a server that may run without a key for a token for each of `users`. There are none if the first
    /// answer says that it has none to give: what that leads to is seen when sessions are opened. It is an error if
    /// they will not be valid for `time`.
    pub(crate) fn fetch(
        addr: SocketAddr,
        users: impl Iterator<Item = String>,
        time: Duration,
    ) -> io::Result<Tokens> {
        let mut tokens = Tokens::default();
        let Ok(mut http) = Http::connect(addr) else {
            return Ok(tokens);
        };
        for user in users {
            let path = format!("/dev/token?user={}", percent_encoded(&user));
            let is_first = tokens.ends.is_empty();
            let text = match http.get(&path) {
                Ok((200, text)) => text,
                Ok((404, _)) | Err(_) if is_first => return Ok(tokens),
                Ok((status, text)) => match serde_json::from_str::<Refused>(&text) {
                    Ok(Refused { error }) => return Err(in_fetch(error.message)),
                    // Another server.
                    Err(_) if is_first => return Ok(tokens),
                    Err(_) => return Err(in_fetch(format!("status {status}"))),
                },
                Err(error) => return Err(in_fetch(error)),
            };
            let found = serde_json::from_str::<DevToken>(&text).map_err(in_fetch)?;
            if Duration::from_secs(found.expires_in) < time {
                let valid = found.expires_in;
                return Err(in_fetch(format!(
                    "its tokens are valid for {valid} s, and the run takes {} s: \
                     give --jwt-secret-file, or a shorter --duration",
                    time.as_secs()
                )));
            }
            tokens.push(&found.token);
        }
        Ok(tokens)
    }

    fn push(&mut self, token: &str) {
        self.text += token;
        self.ends.push(self.text.len());
    }

    /// The token of the user with this index; `None` if no tokens were made.
    pub(crate) fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }
}

/// What `/dev/token` answers, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DevToken {
    token: String,
    expires_in: u64,
}

/// What presenced answers where it refuses.
#[derive(Debug, Deserialize)]
struct Refused {
    error: RefusedError,
}

#[derive(Debug, Deserialize)]
struct RefusedError {
    message: String,
}

fn in_fetch(why: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("/dev/token: {why}"))
}

/// For a query (RFC 3986 §2.3).
fn percent_encoded(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use presenced_jwt::{Algorithm, DecodingKey, Validation, decode};

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

    #[test]
    fn any_user_fits_a_query() {
        assert_eq!(percent_encoded("load-0_.~"), "load-0_.~");
        assert_eq!(percent_encoded("a b&ä%"), "a%20b%26%C3%A4%25");
    }
}
