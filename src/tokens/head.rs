//! A token's head: the JOSE header of a JWS (RFC 7515 §4), read once and strictly.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use presenced_jwt::Algorithm;
use presenced_jwt::jwk::Jwk;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::claims::Unique;
use super::fault::TokenFault;

/// What counts of a token's head. A member that has a name of RFC 7515 has the type that it says, and no name is
/// there twice (§4).
#[derive(Debug, PartialEq)]
pub(super) struct Head {
    /// `alg`.
    pub(super) algorithm: Algorithm,
    /// `kid`: the name of the key.
    pub(super) key_id: Option<String>,
    /// Whether `typ` is that of a token for us, or is not there.
    is_typ_known: bool,
    /// Whether it asks for extensions.
    has_extensions: bool,
}

impl Head {
    /// Reads the head of a token, as it is in base64.
    pub(super) fn read(json: &[u8]) -> Result<Head, TokenFault> {
        serde_json::from_slice(json).map_err(|_| fault_of(json))
    }

    /// Checks what need not be known to check the signature, and is therefore looked at after it.
    pub(super) fn check(&self) -> Result<(), TokenFault> {
        if !self.is_typ_known {
            return Err(TokenFault::Typ);
        }
        match self.has_extensions {
            true => Err(TokenFault::Crit),
            false => Ok(()),
        }
    }
}

/// What is wrong with a head that can't be read.
fn fault_of(json: &[u8]) -> TokenFault {
    let Ok(head) = serde_json::from_slice::<Map<String, Value>>(json) else {
        return TokenFault::Malformed;
    };
    match algorithm_of(head.get("alg").and_then(Value::as_str)) {
        None => TokenFault::Algorithm,
        // A member that has a name of RFC 7515 and another type, or is there twice.
        Some(_) => TokenFault::Malformed,
    }
}

fn algorithm_of(name: Option<&str>) -> Option<Algorithm> {
    name?.parse().ok()
}

/// RFC 8725 §3.11: a token made for something else must not pass for one of ours.
fn is_typ_known(typ: &str) -> bool {
    // RFC 7515 §4.1.9: "application/" may be left out. Media types are the same in any case.
    let prefix = "application/";
    let name = match typ.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(prefix) => &typ[prefix.len()..],
        _ => typ,
    };
    ["jwt", "at+jwt"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// The names of members, of RFC 7515 §4.1 and of the others that have a type.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    Alg,
    Typ,
    Kid,
    Crit,
    B64,
    Cty,
    Jku,
    Jwk,
    X5u,
    X5c,
    X5t,
    #[serde(rename = "x5t#S256")]
    X5tS256,
    Enc,
    Zip,
    Url,
    Nonce,
    Other(String),
}

/// A string, without a copy where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Head, D::Error> {
        deserializer.deserialize_map(HeadVisitor)
    }
}

struct HeadVisitor;

impl<'de> Visitor<'de> for HeadVisitor {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the head of a token")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Head, A::Error> {
        let mut names = BTreeSet::new();
        let mut algorithm = None;
        let mut key_id = None;
        let mut is_typ_known = true;
        let mut has_extensions = false;
        while let Some(name) = members.next_key::<Name>()? {
            match name {
                Name::Alg => {
                    let Text(name) = members.next_value()?;
                    algorithm = algorithm_of(Some(&name));
                }
                Name::Typ => {
                    let typ: Option<Text<'_>> = members.next_value()?;
                    // `null` is no type.
                    is_typ_known = typ.is_some_and(|Text(typ)| self::is_typ_known(&typ));
                }
                Name::Kid => key_id = members.next_value()?,
                // §4.1.11: whatever it is, none of its extensions is known here.
                Name::Crit => {
                    let _: Option<Vec<Text<'_>>> = members.next_value()?;
                    has_extensions = true;
                }
                // RFC 7797 §6 forbids it without `crit`.
                Name::B64 => {
                    let Unique(_) = members.next_value()?;
                    has_extensions = true;
                }
                Name::Jwk => {
                    let _: Option<Jwk> = members.next_value()?;
                }
                Name::X5c => {
                    let _: Option<Vec<Text<'_>>> = members.next_value()?;
                }
                Name::Other(_) => {
                    let Unique(_) = members.next_value()?;
                }
                _ => {
                    let _: Option<Text<'_>> = members.next_value()?;
                }
            }
            if !names.insert(name) {
                return Err(A::Error::custom("a name is there twice"));
            }
        }
        Ok(Head {
            algorithm: algorithm.ok_or_else(|| A::Error::custom("no algorithm is known"))?,
            key_id,
            is_typ_known,
            has_extensions,
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use presenced_jwt::decode_header;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(json: &str) -> Result<Algorithm, TokenFault> {
        let head = Head::read(json.as_bytes())?;
        head.check()?;
        Ok(head.algorithm)
    }

    #[test]
    fn each_fault_has_its_name() {
        use TokenFault::{Algorithm as Unknown, Crit, Malformed, Typ};
        for (json, expected) in [
            (r#"{"alg":"EdDSA"}"#, Ok(Algorithm::EdDSA)),
            (
                r#" {"alg":"HS256", "typ":"Application/AT+jwt", "x":{"y":[1e9]}} "#,
                Ok(Algorithm::HS256),
            ),
            (
                r#"{"\u0061lg":"HS256","typ":"\u004aWT"}"#,
                Ok(Algorithm::HS256),
            ),
            (
                r#"{"alg":"HS256","kid":null,"jwk":null}"#,
                Ok(Algorithm::HS256),
            ),
            (r#"{"alg":"HS257"}"#, Err(Unknown)),
            (r#"{"alg":"hs256"}"#, Err(Unknown)),
            (r#"{"alg":null}"#, Err(Unknown)),
            (r#"{"alg":{"HS256":null}}"#, Err(Unknown)),
            (r#"{"alg":"none","typ":1}"#, Err(Unknown)),
            ("{}", Err(Unknown)),
            (r#"{"alg":"HS256","typ":null}"#, Err(Typ)),
            (r#"{"alg":"HS256","typ":"application/"}"#, Err(Typ)),
            (r#"{"alg":"HS256","typ":"jwté"}"#, Err(Typ)),
            (r#"{"alg":"HS256","crit":null}"#, Err(Crit)),
            (r#"{"alg":"HS256","crit":[]}"#, Err(Crit)),
            (r#"{"alg":"HS256","b64":{}}"#, Err(Crit)),
            (r#"{"alg":"HS256","crit":"b64"}"#, Err(Malformed)),
            (r#"{"alg":"HS256","kid":1}"#, Err(Malformed)),
            (r#"{"alg":"HS256","x5c":["a",1]}"#, Err(Malformed)),
            (r#"{"alg":"HS256","jwk":"{}"}"#, Err(Malformed)),
            (r#"{"alg":"HS256","alg":"HS256"}"#, Err(Malformed)),
            (r#"{"alg":"HS256","x":1,"x":1}"#, Err(Malformed)),
            (r#"{"alg":"HS256","x":{"y":1,"y":1}}"#, Err(Malformed)),
            (r#"{"alg":"HS256"} x"#, Err(Malformed)),
            (r#"["HS256"]"#, Err(Malformed)),
            ("null", Err(Malformed)),
            ("", Err(Malformed)),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }

    fn any_member() -> impl Strategy<Value = (&'static str, Value)> {
        let names = [
            "alg", "typ", "kid", "crit", "b64", "cty", "jku", "jwk", "x5u", "x5c", "x5t",
            "x5t#S256", "enc", "zip", "url", "nonce", "x",
        ];
        let values = [
            json!("HS256"),
            json!("JWT"),
            json!(""),
            json!(null),
            json!(true),
            json!(1),
            json!(["x"]),
            json!(["x", 1]),
            json!({}),
            json!({"kty": "oct", "k": "AAAA"}),
            json!({"kty": "oct"}),
        ];
        (
            prop::sample::select(names.to_vec()),
            prop::sample::select(values.to_vec()),
        )
    }

    proptest! {
        /// It is as strict as the library, and finds the same.
        #[test]
        fn what_the_library_reads_is_read(members in prop::collection::vec(any_member(), 0..4)) {
            let mut head = Map::from_iter([("alg".to_owned(), json!("ES256"))]);
            head.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
            let json = Value::from(head).to_string();
            let library = decode_header(format!("{}..", BASE64_URL_SAFE_NO_PAD.encode(&json)));
            let library = library.ok().map(|header| (header.alg, header.kid));
            let head = Head::read(json.as_bytes()).ok();
            prop_assert_eq!(head.map(|head| (head.algorithm, head.key_id)), library, "{}", json);
        }
    }
}
