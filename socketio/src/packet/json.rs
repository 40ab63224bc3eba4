//! What must be known of a packet's JSON. All of it is checked, and none of it is copied.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// What a JSON text begins with tells what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    Array,
    String,
    Other,
}

/// A whole JSON text, without white space around it, and its shape.
pub(super) fn value(text: &str) -> Option<(&str, Shape)> {
    let text = serde_json::from_str::<&RawValue>(text).ok()?.get();
    let shape = match text.as_bytes().first()? {
        b'{' => Shape::Object,
        b'[' => Shape::Array,
        b'"' => Shape::String,
        _ => Shape::Other,
    };
    Some((text, shape))
}

/// The name of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// A string; borrowed if nothing in it is escaped.
    Text(Cow<'a, str>),
    /// The JSON of another name: a number, or a string with half a character in it, which
    /// JavaScript knows.
    Other(&'a str),
}

/// The JSON array of an event: its name, and the JSON of what follows, with commas between.
pub(super) fn event(array: &str) -> Option<(Name<'_>, &str)> {
    let raw = serde_json::from_str::<First<'_>>(array).ok()?.0?.get();
    let name = match raw.as_bytes().first()? {
        b'"' => unescaped(raw).map_or(Name::Other(raw), Name::Text),
        b'-' | b'0'..=b'9' => Name::Other(raw),
        _ => return None,
    };
    let rest = array.trim_matches(WHITE).strip_prefix('[')?;
    let rest = rest.trim_start_matches(WHITE).strip_prefix(raw)?;
    let rest = rest.trim_start_matches(WHITE).strip_suffix(']')?;
    let rest = rest.strip_prefix(',').unwrap_or(rest);
    Some((name, rest.trim_matches(WHITE)))
}

/// The second item of an array, if there is one that can be read as a `T`.
pub(super) fn second<'a, T: Deserialize<'a>>(array: &'a str) -> Option<T> {
    struct Second<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Second<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<T>, A::Error> {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
            let second = items.next_element()?;
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok(second)
        }
    }
    let mut json = serde_json::Deserializer::from_str(array);
    json.deserialize_seq(Second(PhantomData)).ok()?
}

/// White space in JSON (RFC 8259 §2).
const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The characters of a JSON string; `None` if it is another value, or holds half a character.
fn unescaped(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    match memchr::memchr(b'\\', inner.as_bytes()) {
        None => Some(Cow::Borrowed(inner)),
        Some(_) => serde_json::from_str(raw).ok().map(Cow::Owned),
    }
}

/// The member `token` of the JSON object that a client connects with, where clients put it by
/// convention. `None` if it is missing, there twice, or no string.
pub fn token(auth: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Auth<'a> {
        #[serde(borrow)]
        token: &'a RawValue,
    }
    // An array would do for serde.
    if !auth.starts_with('{') {
        return None;
    }
    unescaped(serde_json::from_str::<Auth<'_>>(auth).ok()?.token.get())
}

/// The first item of an array.
struct First<'a>(Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for First<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<First<'a>, D::Error> {
        struct FirstVisitor;

        impl<'de> Visitor<'de> for FirstVisitor {
            type Value = First<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<First<'de>, A::Error> {
                let first = items.next_element()?;
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }
        deserializer.deserialize_seq(FirstVisitor)
    }
}

/// Whether each place for an attachment in a JSON text names one of `count`. JSON that is nested
/// deeper than serde_json goes has none.
pub(super) fn has_legal_placeholders(text: &str, count: u8) -> bool {
    let mut json = serde_json::Deserializer::from_str(text);
    Placeholders { count }.deserialize(&mut json).is_ok()
}

/// Looks into a JSON value. An object is a place for an attachment if its member `_placeholder` is
/// true; then its member `num` must be one of the attachments' numbers.
#[derive(Clone, Copy)]
struct Placeholders {
    count: u8,
}

/// What was found: of interest only as a member of an object.
enum Found {
    True,
    /// Some attachment's number.
    Number,
    Other,
}

impl<'de> DeserializeSeed<'de> for Placeholders {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Placeholders {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Found, E> {
        Ok(match value {
            true => Found::True,
            false => Found::Other,
        })
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Found, E> {
        Ok(match value < u64::from(self.count) {
            true => Found::Number,
            false => Found::Other,
        })
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(Found::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Found, A::Error> {
        // Of members that are there twice, the last counts, as in JavaScript.
        let (mut is_placeholder, mut is_legal) = (false, false);
        while let Some(key) = members.next_key::<Cow<'_, str>>()? {
            let found = members.next_value_seed(self)?;
            match &*key {
                "_placeholder" => is_placeholder = matches!(found, Found::True),
                "num" => is_legal = matches!(found, Found::Number),
                _ => {}
            }
        }
        match is_placeholder && !is_legal {
            true => Err(A::Error::custom("an attachment that is not there")),
            false => Ok(Found::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_the_rest() {
        let text = |name| Name::Text(Cow::Borrowed(name));
        assert_eq!(event(r#"["a"]"#), Some((text("a"), "")));
        assert_eq!(event(r#"["a",1]"#), Some((text("a"), "1")));
        assert_eq!(
            event(" [ \"a\" ,\t{\"b\":[\"]\"]} , 2 ] "),
            Some((text("a"), "{\"b\":[\"]\"]} , 2"))
        );
        assert_eq!(event(r#"["\u0061\n"]"#), Some((text("a\n"), "")));
        assert_eq!(event("[-1.5e3,1]"), Some((Name::Other("-1.5e3"), "1")));
        let half = r#""\ud800""#;
        assert_eq!(event(r#"["\ud800"]"#), Some((Name::Other(half), "")));
        for none in [
            "[]",
            "[null]",
            "[true]",
            "[{}]",
            "[[\"a\"]]",
            "{}",
            "\"a\"",
            "1",
            "[\"a\"",
            "",
        ] {
            assert_eq!(event(none), None, "{none}");
        }
    }

    #[test]
    fn tokens() {
        assert_eq!(token(r#"{"token":"a.b"}"#).as_deref(), Some("a.b"));
        assert!(matches!(
            token(r#"{"x":[1],"token":"a"}"#),
            Some(Cow::Borrowed("a"))
        ));
        assert_eq!(token(r#"{"token":"\u0061"}"#).as_deref(), Some("a"));
        for none in [
            "{}",
            r#"{"token":1}"#,
            r#"{"token":null}"#,
            r#"{"token":"a","token":"b"}"#,
            r#"["a"]"#,
            r#"{"Token":"a"}"#,
            r#"{"token":"\ud800"}"#,
            "",
        ] {
            assert_eq!(token(none), None, "{none}");
        }
    }

    /// CVE-2022-2421: the number of an attachment was not checked.
    #[test]
    fn placeholders_name_attachments_that_are_there() {
        let legal = |text: &str, count| has_legal_placeholders(text, count);
        assert!(legal(r#"["a",{"_placeholder":true,"num":0}]"#, 1));
        assert!(legal(
            r#"["a",{"b":[{"num":1,"_placeholder":true}]},2.5,null,-1]"#,
            2
        ));
        assert!(legal(
            r#"["a",{"_placeholder":false,"num":7},{"num":"x"}]"#,
            1
        ));
        assert!(legal(r#"["a",{"_placeholder":1,"num":7}]"#, 1));
        for num in [
            "1",
            "-1",
            "0.5",
            "\"splice\"",
            "null",
            "[0]",
            "{}",
            "true",
            "1e99",
            "0,\"num\":1",
        ] {
            let text = format!(r#"["a",{{"_placeholder":true,"num":{num}}}]"#);
            assert!(!legal(&text, 1), "{text}");
        }
        assert!(!legal(r#"["a",{"_placeholder":true}]"#, 1));
        assert!(!legal(r#"["a",{"_\u0070laceholder":true}]"#, 1));
        assert!(!legal(&"[".repeat(100_000), 1));
    }
}
