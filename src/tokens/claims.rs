//! What a token claims, as JSON (RFC 7519 §4).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A JSON object in which no name is there twice, at any depth: two parsers would read two tokens in
/// one that has (RFC 8725 §2.4, RFC 8259 §4).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The claim at a path: the one that has the path's whole text for its name, or else the member
    /// of an object that has the text before a dot for its name.
    pub(super) fn at(&self, path: &str) -> Option<&Value> {
        at(&self.0, path)
    }
}

fn at<'a>(object: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let inner = || {
        path.match_indices('.').find_map(|(dot, _)| {
            let object = object.get(&path[..dot])?.as_object()?;
            at(object, &path[dot + 1..])
        })
    };
    object.get(path).or_else(inner)
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Claims, D::Error> {
        match Unique::deserialize(deserializer)?.0 {
            Value::Object(claims) => Ok(Claims(claims)),
            _ => Err(D::Error::custom("claims are an object")),
        }
    }
}

/// Any JSON without a name that is there twice in one object.
pub(super) struct Unique(pub(super) Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Unique(value))) = members.next_entry::<String, Unique>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name is there twice"));
            }
        }
        Ok(object.into())
    }
}

/// Whether a claim that lists words has one of them: words with spaces between them (RFC 8693 §4.2), or
/// an array of words, as some issuers write it.
pub(super) fn has_word(claim: &Value, needed: &str) -> bool {
    match claim {
        Value::String(words) => words.split(' ').any(|word| word == needed),
        Value::Array(words) => words.iter().any(|word| word == needed),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn claims(json: &str) -> Option<Claims> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn no_name_is_there_twice() {
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"\u0061":3}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"y":{"a":null,"a":null}}]}"#,
            "[]",
            "1",
            "null",
            "",
        ] {
            assert_eq!(claims(twice), None, "{twice}");
        }
        assert!(claims(r#"{"a":{"a":[{"a":1},{"a":1}]}}"#).is_some());
    }

    #[test]
    fn a_path_is_a_name_first_and_then_leads_into_objects() {
        let claims = claims(
            r#"{"sub":"a","https://app.example/uid":"b","user":{"id":"c","x.y":{"z":"d"}},
                "user.id.x":"e","https://app":{"example/other":"f"},"list":["g"]}"#,
        );
        let claims = claims.unwrap();
        for (path, found) in [
            ("sub", Some("a")),
            ("https://app.example/uid", Some("b")),
            ("user.id", Some("c")),
            ("user.x.y.z", Some("d")),
            ("user.id.x", Some("e")),
            ("https://app.example/other", Some("f")),
            ("sub.x", None),
            ("user.", None),
            (".sub", None),
            ("list.0", None),
            ("", None),
        ] {
            assert_eq!(claims.at(path), found.map(Value::from).as_ref(), "{path}");
        }
    }

    #[test]
    fn words_are_whole_in_text_or_in_a_list() {
        for (claim, is_there) in [
            (json!("presence:read"), true),
            (json!("openid presence:read"), true),
            (json!(["openid", "presence:read"]), true),
            (json!("presence:read-all"), false),
            (json!("openid,presence:read"), false),
            (json!(["openid presence:read"]), false),
            (json!([["presence:read"]]), false),
            (json!({"presence:read": true}), false),
            (json!(true), false),
            (json!(null), false),
        ] {
            assert_eq!(has_word(&claim, "presence:read"), is_there, "{claim}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300..1e300).prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(".{0,3}", inner, 0..6)
                    .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        /// What has each name once is read as serde reads it.
        #[test]
        fn it_is_json_otherwise(value in any_json()) {
            let text = value.to_string();
            let expected: Value = serde_json::from_str(&text).unwrap();
            let read: Unique = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.0, expected);
        }
    }
}
