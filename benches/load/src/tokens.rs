//! The sessions' JWTs, made before the measurement, as a signature costs as much as a handshake.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use presenced_jwt::{Algorithm, EncodingKey, Header, encode};
use serde::Deserialize;

use crate::http::Http;

/// What signs tokens.
#[derive(Clone)]
pub(crate) struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
}

/// Keys by how their algorithms begin in PKCS#8 (RFC 5208 §5): the identifiers of RFC 8017 §A.1, RFC 5480
/// §2.1.1.1 (P-256) and RFC 8410 §3.
const KINDS: [(&[u8], Algorithm); 3] = [
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", Algorithm::RS256),
    (b"\x2a\x86\x48\xce\x3d\x03\x01\x07", Algorithm::ES256),
    (b"\x2b\x65\x70", Algorithm::EdDSA),
];

/// Within how many bytes of a key in PKCS#8 its algorithm is named.
const KIND_BYTES: usize = 48;

impl SigningKey {
    /// Signs with HS256.
    pub(crate) fn of_secret(secret: &[u8]) -> SigningKey {
        SigningKey {
            algorithm: Algorithm::HS256,
            key: EncodingKey::from_secret(secret),
        }
    }

    /// Signs with a private key in PEM (PKCS#8): RS256, ES256 or EdDSA, as the key says. `None` if it is no such key.
    pub(crate) fn of_pem(pem: &str) -> Option<SigningKey> {
        let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
        let (lines, _) = rest.split_once("-----END PRIVATE KEY-----")?;
        let text: String = lines.split_ascii_whitespace().collect();
        let der = BASE64_STANDARD.decode(text).ok()?;
        let head = &der[..der.len().min(KIND_BYTES)];
        let names = |name: &[u8]| head.windows(name.len()).any(|part| part == name);
        let (_, algorithm) = KINDS.into_iter().find(|(name, _)| names(name))?;
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_der(&der),
            Algorithm::ES256 => EncodingKey::from_ec_der(&der),
            _ => EncodingKey::from_ed_der(&der),
        };
        Some(SigningKey { algorithm, key })
    }
}

/// Tokens (RFC 7519) of many users, in one allocation.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    text: String,
    ends: Vec<usize>,
}

impl Tokens {
    /// Signs a token for each of `users`, valid for `time` from now.
    pub(crate) fn mint(
        key: &SigningKey,
        users: impl Iterator<Item = String>,
        time: Duration,
    ) -> Result<Tokens, presenced_jwt::errors::Error> {
        let header = Header::new(key.algorithm);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let exp = (now + time).as_secs();
        let mut tokens = Tokens::default();
        for user in users {
            let claims = serde_json::json!({"sub": user, "exp": exp});
            tokens.push(&encode(&header, &claims, &key.key)?);
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
        let key = SigningKey::of_secret(secret);
        let tokens = Tokens::mint(&key, users.iter().cloned(), hour).unwrap();
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
    fn private_keys_say_how_they_sign() {
        // openssl genpkey -algorithm ed25519, and -algorithm ec -pkeyopt ec_paramgen_curve:P-256
        let ed = "MC4CAQAwBQYDK2VwBCIEIAKTeJ2T/dctkQWaylesAT+Y0Sh5MposNo5tLEWHPgRa";
        let ec = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQlya9JrVrUvaWsX0v8POR3M49i/tcHlaajsk+PYrjNKhRANCAATk1os5RtlBeNDRYm9K0/H2G0pO6neSg2i8zEBSOpvDEySTLHXhrJRcJVGpc0iJIbQ/AVFXmOyJ1tTPwuBe/xQC";
        for (key, algorithm) in [(ed, Algorithm::EdDSA), (ec, Algorithm::ES256)] {
            let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
            let key = SigningKey::of_pem(&pem).unwrap();
            assert_eq!(key.algorithm, algorithm);
            let users = std::iter::once("load-0".to_owned());
            let tokens = Tokens::mint(&key, users, Duration::from_secs(60)).unwrap();
            let header = presenced_jwt::decode_header(tokens.get(0).unwrap()).unwrap();
            assert_eq!(header.alg, algorithm);
        }
        for pem in [
            "",
            "a secret",
            "-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n",
            "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n",
        ] {
            assert!(SigningKey::of_pem(pem).is_none(), "{pem}");
        }
    }

    #[test]
    fn any_user_fits_a_query() {
        assert_eq!(percent_encoded("load-0_.~"), "load-0_.~");
        assert_eq!(percent_encoded("a b&ä%"), "a%20b%26%C3%A4%25");
    }
}
