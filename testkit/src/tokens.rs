//! Good tokens and bad ones.

use presenced_jwt::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::unix_ms;

/// What the servers of the tests are given.
pub const SECRET: &str = "an HS256 secret for tests, long enough";

/// A token of `user` for ten minutes.
pub fn token(user: &str) -> String {
    sign(&claims(user))
}

/// What [`token`] signs.
pub fn claims(user: &str) -> Value {
    json!({"sub": user, "exp": in_s(600)})
}

/// Signs any claims as the issuer would.
pub fn sign(claims: &Value) -> String {
    sign_with(&Header::default(), claims)
}

/// The same with a header of the caller's.
pub fn sign_with(header: &Header, claims: &Value) -> String {
    encode(header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// Signs a header and claims that need not be JSON in UTF-8.
pub fn sign_bytes(header: &[u8], claims: &[u8]) -> String {
    let message = format!("{}.{}", base64url(header), base64url(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = presenced_jwt::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

/// Flags of a server that demands more of a token: it accepts those with [`strict_claims`].
pub const STRICT: &[&str] = &[
    "--jwt-issuer=https://id.example",
    "--jwt-audience=presence",
    "--jwt-max-lifetime=1h",
];

/// Claims that a server with [`STRICT`] accepts.
pub fn strict_claims(user: &str) -> Value {
    let mut claims = claims(user);
    claims["iss"] = "https://id.example".into();
    claims["aud"] = "presence".into();
    claims
}

/// A token with one of them changed, or left out.
pub fn strict_with(user: &str, name: &str, value: Value) -> String {
    let mut claims = strict_claims(user);
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    } else {
        claims[name] = value;
    }
    sign(&claims)
}

/// A token with these claims and another header.
pub fn strict_header(user: &str, change: impl FnOnce(&mut Header)) -> String {
    let mut header = Header::default();
    change(&mut header);
    sign_with(&header, &strict_claims(user))
}

/// Unix seconds in `seconds` from now.
pub fn in_s(seconds: i64) -> i64 {
    unix_ms() as i64 / 1000 + seconds
}

/// As JWTs are written.
pub fn base64url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
