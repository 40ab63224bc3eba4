//! Bytes to a packet. Every sequence of bytes is a packet, or says why it is none.

use serde::Deserialize;
use thiserror::Error;

use super::id::Id;
use super::json::{self, Name, Shape};
use crate::limits::ATTACHMENTS_MAX;

/// A packet, which borrows from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Begins with `/`; a query is part of it.
    pub namespace: &'a str,
    /// What is said there.
    pub body: Body<'a>,
}

/// What a packet says. All JSON in it has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// From the client, with the JSON object that it connects with; from the server, with one that
    /// has the `sid`.
    Connect(Option<&'a str>),
    /// The end of a connection to the namespace.
    Disconnect,
    /// An event.
    Event(Event<'a>),
    /// The answer to an event.
    Ack {
        /// The event's.
        id: Option<Id>,
        /// A JSON array.
        args: &'a str,
        /// Binary messages that belong to it.
        attachments: u8,
    },
    /// The answer to a CONNECT that is refused: a JSON object or string.
    ConnectError(&'a str),
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its name, which is none of those that clients and servers have for themselves.
    pub name: Name<'a>,
    /// The JSON of its arguments, separated by commas; empty if there are none.
    pub args: &'a str,
    /// The JSON array of both.
    pub array: &'a str,
    /// If it is to be answered.
    pub id: Option<Id>,
    /// Binary messages that belong to it.
    pub attachments: u8,
}

impl<'a> Event<'a> {
    /// The first argument, read as a `T`; `None` if there is none, or if it is something else.
    pub fn argument<T: Deserialize<'a>>(&self) -> Option<T> {
        json::second(self.array)
    }
}

/// Why some bytes are no packet. The client is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum BadPacket {
    /// There is nothing.
    #[error("an empty Socket.IO packet")]
    Empty,
    /// The first byte is no digit from 0 to 6.
    #[error("a Socket.IO packet of an unknown type")]
    Type,
    /// No count of attachments from 1 to 10, and a hyphen, where they are due.
    #[error("a bad count of attachments")]
    Attachments,
    /// A namespace that is not UTF-8.
    #[error("a namespace that is not UTF-8")]
    Namespace,
    /// An id that is too large, or where there is none.
    #[error("a bad id")]
    Id,
    /// No JSON, or something behind it, or none where it is due, or some where it is not.
    #[error("no JSON, or not the JSON that was due")]
    Json,
    /// An event without a name, or with one that is not for sending.
    #[error("a bad event name")]
    Name,
    /// A place for an attachment that is not there.
    #[error("a place for an attachment that is not there")]
    Placeholder,
}

/// Names that clients and servers have for events of their own, so that nobody may send them.
const RESERVED: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];

impl<'a> Packet<'a> {
    /// Reads a packet: what stands behind the `4` of an Engine.IO packet.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn decode(bytes: &'a [u8]) -> Result<Packet<'a>, BadPacket> {
        let (&kind, rest) = bytes.split_first().ok_or(BadPacket::Empty)?;
        if !kind.is_ascii_digit() || kind > b'6' {
            return Err(BadPacket::Type);
        }
        let (attachments, rest) = match kind {
            b'5' | b'6' => attachments(rest)?,
            _ => (0, rest),
        };
        let (namespace, rest) = namespace(rest)?;
        let (id, rest) = id(rest)?;
        let json = match rest {
            b"" => None,
            rest => {
                let text = str::from_utf8(rest).map_err(|_| BadPacket::Json)?;
                Some(json::value(text).ok_or(BadPacket::Json)?)
            }
        };
        let body = match (kind, json) {
            (b'0' | b'1' | b'4', _) if id.is_some() => return Err(BadPacket::Id),
            (b'0', None) => Body::Connect(None),
            (b'0', Some((object, Shape::Object))) => Body::Connect(Some(object)),
            (b'1', None) => Body::Disconnect,
            (b'2' | b'5', Some((array, Shape::Array))) => {
                let (name, args) = json::event(array).ok_or(BadPacket::Name)?;
                if matches!(&name, Name::Text(name) if RESERVED.contains(&&**name)) {
                    return Err(BadPacket::Name);
                }
                Body::Event(Event {
                    name,
                    args,
                    array,
                    id,
                    attachments,
                })
            }
            (b'3' | b'6', Some((args, Shape::Array))) => Body::Ack {
                id,
                args,
                attachments,
            },
            (b'4', Some((error, Shape::Object | Shape::String))) => Body::ConnectError(error),
            _ => return Err(BadPacket::Json),
        };
        if let (1.., Some((text, _))) = (attachments, json)
            && !json::has_legal_placeholders(text, attachments)
        {
            return Err(BadPacket::Placeholder);
        }
        Ok(Packet { namespace, body })
    }
}

fn attachments(bytes: &[u8]) -> Result<(u8, &[u8]), BadPacket> {
    let (count, rest) = digits(bytes);
    let rest = rest.strip_prefix(b"-").ok_or(BadPacket::Attachments)?;
    // No leading zero: there is one spelling of each.
    let count = match count {
        [digit @ b'1'..=b'9'] => digit - b'0',
        b"10" => 10,
        _ => return Err(BadPacket::Attachments),
    };
    Ok((count, rest))
}

fn namespace(bytes: &[u8]) -> Result<(&str, &[u8]), BadPacket> {
    if bytes.first() != Some(&b'/') {
        return Ok(("/", bytes));
    }
    let (name, rest) = match memchr::memchr(b',', bytes) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &b""[..]),
    };
    let name = str::from_utf8(name).map_err(|_| BadPacket::Namespace)?;
    Ok((name, rest))
}

fn id(bytes: &[u8]) -> Result<(Option<Id>, &[u8]), BadPacket> {
    match digits(bytes) {
        (b"", rest) => Ok((None, rest)),
        (digits, rest) => Ok((Some(Id::new(digits).ok_or(BadPacket::Id)?), rest)),
    }
}

fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit());
    bytes.split_at(end.unwrap_or(bytes.len()))
}

const _: () = assert!(ATTACHMENTS_MAX == 10);

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::packet::encode;

    fn body(bytes: &[u8]) -> Body<'_> {
        let packet = Packet::decode(bytes).unwrap();
        assert_eq!(packet.namespace, "/");
        packet.body
    }

    fn event<'a>(name: &'a str, args: &'a str, array: &'a str) -> Event<'a> {
        Event {
            name: Name::Text(Cow::Borrowed(name)),
            args,
            array,
            id: None,
            attachments: 0,
        }
    }

    #[test]
    fn packets() {
        assert_eq!(body(b"0"), Body::Connect(None));
        assert_eq!(
            body(br#"0{"token":"x"}"#),
            Body::Connect(Some(r#"{"token":"x"}"#))
        );
        assert_eq!(body(b"1"), Body::Disconnect);
        assert_eq!(
            body(br#"2["a",1,{}]"#),
            Body::Event(event("a", "1,{}", r#"["a",1,{}]"#))
        );
        assert_eq!(
            body(br#"2007["a"]"#),
            Body::Event(Event {
                id: Id::new(b"007"),
                ..event("a", "", r#"["a"]"#)
            })
        );
        let (id, args) = (Id::new(b"12"), "[]");
        let attachments = 0;
        assert_eq!(
            body(b"312[]"),
            Body::Ack {
                id,
                args,
                attachments
            }
        );
        assert_eq!(
            body(br#"4{"message":"x"}"#),
            Body::ConnectError(r#"{"message":"x"}"#)
        );
        let array = r#"["a",{"_placeholder":true,"num":0}]"#;
        let bytes = format!("51-7{array}");
        assert_eq!(
            body(bytes.as_bytes()),
            Body::Event(Event {
                id: Id::new(b"7"),
                attachments: 1,
                ..event("a", r#"{"_placeholder":true,"num":0}"#, array)
            })
        );
        assert!(matches!(
            body(b"610-1[]"),
            Body::Ack {
                attachments: 10,
                ..
            }
        ));
    }

    #[test]
    fn the_first_argument_is_read_as_what_is_wanted() {
        let event = |bytes: &'static [u8]| match body(bytes) {
            Body::Event(event) => event,
            other => panic!("{other:?}"),
        };
        let users = event(br#"2["a",["x","y"],1]"#);
        assert_eq!(users.argument(), Some(vec!["x", "y"]));
        assert_eq!(users.argument::<&str>(), None);
        assert_eq!(event(br#"2["a" , "x"]"#).argument(), Some("x"));
        assert_eq!(event(br#"2["a"]"#).argument::<&str>(), None);
        assert_eq!(event(br#"2["a",null]"#).argument::<u8>(), None);
    }

    #[test]
    fn namespaces() {
        let namespace = |text: &'static str| Packet::decode(text.as_bytes()).unwrap().namespace;
        assert_eq!(namespace("0/,{}"), "/", "as Swift says it");
        assert_eq!(namespace("0/"), "/");
        assert_eq!(namespace("0/a"), "/a");
        assert_eq!(namespace("0/a,"), "/a");
        assert_eq!(namespace("0/a?token=1&b=2,{}"), "/a?token=1&b=2");
        assert_eq!(namespace("0//,"), "//");
        assert_eq!(namespace("2/é/{}[,12[\"a\"]"), "/é/{}[");
        assert_eq!(namespace("51-/a,[\"a\"]"), "/a");
        assert_eq!(Packet::decode(b"0/\xff,"), Err(BadPacket::Namespace));
        assert_eq!(Packet::decode(b"0/\xc3"), Err(BadPacket::Namespace));
    }

    #[test]
    fn what_ends() {
        let cases: &[(&[&str], BadPacket)] = &[
            (&[""], BadPacket::Empty),
            (
                &["7", "9[]", " 0", "x", "é", "/a,2[\"a\"]"],
                BadPacket::Type,
            ),
            (
                &[
                    "5",
                    "5[\"a\"]",
                    "5-[\"a\"]",
                    "50-[\"a\"]",
                    "511-[\"a\"]",
                    "501-[\"a\"]",
                    "51[\"a\"]",
                    "5+1-[\"a\"]",
                    "599999999999999999999-[\"a\"]",
                    "6[]",
                    "5/a,1-[\"a\"]",
                ],
                BadPacket::Attachments,
            ),
            (
                &[
                    "29007199254740992[\"a\"]",
                    "200000000000000000[\"a\"]",
                    "01",
                    "01{}",
                    "11",
                    "41{}",
                ],
                BadPacket::Id,
            ),
            (
                &[
                    "2",
                    "3",
                    "4",
                    "212",
                    "2/a",
                    "2/a,",
                    "0[]",
                    "0null",
                    "0\"x\"",
                    "1{}",
                    "1[]",
                    "2{}",
                    "2\"a\"",
                    "3{}",
                    "4[]",
                    "41",
                    "2[\"a\"]x",
                    "2[\"a\"][]",
                    "2[\"a\"",
                    "2[a]",
                    "0{",
                    "0{}}",
                    "0{,}",
                    "1 ",
                    "2-1[\"a\"]",
                    "21-[\"a\"]",
                    "2[\"a\",]",
                    "2[\"\u{1}\"]",
                    "0{\"a\":01}",
                    "51-",
                    "51-{}",
                ],
                BadPacket::Json,
            ),
            (
                &[
                    "2[]",
                    "2[null]",
                    "2[{}]",
                    "2[{\"toString\":1}]",
                    "2[[\"a\"]]",
                    "2[true]",
                    "51-[]",
                ],
                BadPacket::Name,
            ),
            (
                &[
                    "51-[\"a\",{\"_placeholder\":true,\"num\":1}]",
                    "61-[{\"_placeholder\":true,\"num\":\"splice\"}]",
                ],
                BadPacket::Placeholder,
            ),
        ];
        for (texts, bad) in cases {
            for text in *texts {
                // `41` is a CONNECT_ERROR with an id, before it is one without JSON.
                let bad = match *text {
                    "41" => BadPacket::Id,
                    _ => *bad,
                };
                assert_eq!(Packet::decode(text.as_bytes()), Err(bad), "{text}");
            }
        }
        assert_eq!(Packet::decode(b"2[\"\xff\"]"), Err(BadPacket::Json));
        assert_eq!(Packet::decode(b"2[\"a\",\"\xc3\"]"), Err(BadPacket::Json));
    }

    /// CVE-2023-32695, CVE-2024-38355: names that are objects, or words that the server's own
    /// objects know.
    #[test]
    fn only_strings_and_numbers_are_names_and_most_are_just_names() {
        for name in [
            "error",
            "__proto__",
            "constructor",
            "toString",
            "message",
            "",
            "Connect",
        ] {
            let text = format!("2[{name:?}]");
            assert!(Packet::decode(text.as_bytes()).is_ok(), "{text}");
        }
        for name in RESERVED {
            let text = format!("2[{name:?},1]");
            assert_eq!(Packet::decode(text.as_bytes()), Err(BadPacket::Name));
        }
        // As it is spelled does not matter.
        assert_eq!(
            Packet::decode(br#"2["\u0063onnect"]"#),
            Err(BadPacket::Name)
        );
        let Body::Event(found) = body(b"2[1.5]") else {
            panic!("no event");
        };
        assert_eq!(found.name, Name::Other("1.5"));
    }

    /// engineioxide 0.17.4: slices of text that end within a letter.
    #[test]
    fn letters_of_several_bytes_anywhere() {
        for text in [
            "é",
            "2é",
            "5é-",
            "51-é",
            "2/é",
            "21é",
            "2[\"é\"]",
            "0/é,é",
            "3é[]",
            "2\u{10ffff}",
        ] {
            let bytes = text.as_bytes();
            for cut in 0..=bytes.len() {
                let _ = Packet::decode(&bytes[..cut]);
            }
        }
    }

    #[test]
    fn deep_nesting_is_only_text() {
        let deep = format!("2[\"a\",{}{}]", "[".repeat(200_000), "]".repeat(200_000));
        assert!(Packet::decode(deep.as_bytes()).is_ok());
        let deep = format!("51-{}", &deep[1..]);
        assert_eq!(Packet::decode(deep.as_bytes()), Err(BadPacket::Placeholder));
    }

    fn a_namespace() -> impl Strategy<Value = String> {
        prop_oneof![Just("/".to_owned()), "/[^,]{0,12}"]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = Packet::decode(&bytes);
        }

        #[test]
        fn any_bytes_of_the_right_kind_are_read(
            bytes in vec(prop::sample::select(&b"0123456-/,[]{}\"\\ua:_\xc3\xa9"[..]), 0..24)
        ) {
            let _ = Packet::decode(&bytes);
        }

        #[test]
        fn what_is_encoded_is_decoded(
            namespace in a_namespace(), name in ".{0,12}", text in ".*", id in 0..=crate::limits::ID_MAX
        ) {
            prop_assume!(!RESERVED.contains(&&*name));
            let args = format!("{},1", serde_json::to_string(&text).unwrap());
            let id = Id::new(id.to_string().as_bytes()).unwrap();

            let mut out = Vec::new();
            encode::event(&mut out, &namespace, &name, args.as_bytes());
            let packet = Packet::decode(out.strip_prefix(b"4").unwrap()).unwrap();
            prop_assert_eq!(packet.namespace, &namespace);
            let Body::Event(event) = packet.body else { panic!("no event") };
            prop_assert_eq!(event.name, Name::Text(Cow::Borrowed(&*name)));
            prop_assert_eq!(event.args, &args);

            let mut out = Vec::new();
            let array = format!("[{args}]");
            encode::ack(&mut out, &namespace, &id, args.as_bytes());
            let packet = Packet::decode(out.strip_prefix(b"4").unwrap()).unwrap();
            let body = Body::Ack { id: Some(id), args: &array, attachments: 0 };
            prop_assert_eq!(packet, Packet { namespace: &namespace, body });

            let mut out = Vec::new();
            encode::connect_error(&mut out, &namespace, &text, Some(&name));
            let packet = Packet::decode(out.strip_prefix(b"4").unwrap()).unwrap();
            let Body::ConnectError(error) = packet.body else { panic!("no error") };
            let error: serde_json::Value = serde_json::from_str(error).unwrap();
            prop_assert_eq!(error, serde_json::json!({"message": text, "data": {"code": name}}));
        }
    }
}
