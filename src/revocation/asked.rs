//! What an operator may ask for: `{"sub":"…"}`, `{"sub":"…","jti":"…"}` or
//! `{"issuedBefore":seconds}`.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use presenced_presence::UserId;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::limits::{CLOCK_DIFFERENCE, JTI_BYTES_MAX};
use crate::tokens::Tokens;
use crate::tokens::revocations::Jti;

/// Which tokens are to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whose.
    pub tokens: Tokens,
    /// Those that were issued before this time, or do not say when.
    pub before_s: u64,
}

/// Why it can't be done.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct AskedError(String);

const FORMS: &str =
    r#"expected {"sub":"USER"}, {"sub":"USER","jti":"ID"} or {"issuedBefore":UNIX_SECONDS}"#;

impl Asked {
    /// Reads a body that came at `now_s` of Unix time. All of a user's tokens are those that were issued up to
    /// then.
    ///
    /// # Errors
    ///
    /// If it is something else, or asks for what can't be.
    pub fn read(body: &[u8], now_s: u64) -> Result<Asked, AskedError> {
        // The library would take a list for an object with its members in order.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(AskedError(FORMS.into()));
        }
        let json: Json = serde_json::from_slice(body)
            .map_err(|error| AskedError(format!("{error}: {FORMS}")))?;
        match (json.sub, json.jti, json.issued_before) {
            (Some(sub), None, None) => Ok(Asked {
                tokens: Tokens::OfUser(user(&sub)?),
                before_s: now_s + 1,
            }),
            (Some(sub), Some(jti), None) => Ok(Asked {
                tokens: Tokens::One(user(&sub)?, self::jti(&jti)?),
                before_s: 0,
            }),
            (None, None, Some(before_s)) if before_s > now_s + CLOCK_DIFFERENCE.as_secs() => {
                Err(AskedError(format!(
                    "issuedBefore {before_s} is in the future: it is a Unix time in seconds, now {now_s}"
                )))
            }
            (None, None, Some(before_s)) => Ok(Asked {
                tokens: Tokens::All,
                before_s,
            }),
            _ => Err(AskedError(FORMS.into())),
        }
    }
}

fn user(sub: &str) -> Result<UserId, AskedError> {
    UserId::new(sub).map_err(|error| AskedError(format!("sub: {error}")))
}

fn jti(jti: &str) -> Result<Jti, AskedError> {
    let error = || AskedError(format!("jti: must have 1 to {JTI_BYTES_MAX} bytes"));
    Jti::new(jti).ok_or_else(error)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Json {
    #[serde(default, deserialize_with = "present")]
    sub: Option<String>,
    #[serde(default, deserialize_with = "present")]
    jti: Option<String>,
    #[serde(default, deserialize_with = "present")]
    issued_before: Option<u64>,
}

/// A member that is there is not `null`.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(json: D) -> Result<Option<T>, D::Error> {
    T::deserialize(json).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    fn read(body: &str) -> Result<Asked, String> {
        Asked::read(body.as_bytes(), NOW_S).map_err(|error| error.to_string())
    }

    #[test]
    fn the_three_forms() {
        let alice = || UserId::new("alice").unwrap();
        let asked = |tokens, before_s| Ok(Asked { tokens, before_s });
        // Issued in this second, too.
        assert_eq!(
            read(r#" {"sub":"alice"}"#),
            asked(Tokens::OfUser(alice()), NOW_S + 1)
        );
        let one = Tokens::One(alice(), Jti::new("t 1").unwrap());
        assert_eq!(read(r#"{"jti":"t 1","sub":"al\u0069ce"}"#), asked(one, 0));
        for before_s in [0, NOW_S, NOW_S + CLOCK_DIFFERENCE.as_secs()] {
            let body = format!(r#"{{"issuedBefore":{before_s}}}"#);
            assert_eq!(read(&body), asked(Tokens::All, before_s));
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_word() {
        let long = format!(r#"{{"sub":"a","jti":"{}"}}"#, "x".repeat(JTI_BYTES_MAX + 1));
        for (body, word) in [
            ("", "expected"),
            ("{", "EOF"),
            ("{}", "expected"),
            ("null", "expected"),
            (r#"["alice"]"#, "expected"),
            (r#"{"sub":""}"#, "sub: "),
            (r#"{"sub":"a b"}"#, "sub: "),
            (r#"{"sub":7}"#, "integer `7`"),
            (r#"{"sub":null}"#, "null"),
            (r#"{"sub":"a","sub":"b"}"#, "duplicate field `sub`"),
            (r#"{"sub":"a","user":"b"}"#, "unknown field `user`"),
            (r#"{"sub":"a","issuedBefore":1}"#, "expected"),
            (r#"{"sub":"a"}{}"#, "trailing"),
            (r#"{"jti":"a"}"#, "expected"),
            (r#"{"sub":"a","jti":""}"#, "jti: "),
            (&long, "jti: "),
            (r#"{"issuedBefore":"1"}"#, "string"),
            (r#"{"issuedBefore":1.5}"#, "1.5"),
            (r#"{"issuedBefore":-1}"#, "-1"),
            (r#"{"issuedBefore":null}"#, "null"),
            // Milliseconds.
            (r#"{"issuedBefore":1800000000000}"#, "in the future"),
        ] {
            let refused = read(body).unwrap_err();
            assert!(refused.contains(word), "{body}: {refused}");
        }
    }
}
