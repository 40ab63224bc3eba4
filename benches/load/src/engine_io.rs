//! The few Engine.IO 4 and Socket.IO 5 packets that a client needs to connect, to answer pings and
//! to time an acknowledgement.
//!
//! Engine.IO: `0` open, `2` ping, `3` pong, `4` message. Socket.IO, inside a message: `0` connect,
//! `1` disconnect, `2` event, `3` ack, `4` connect error.

use std::io::Write;

/// What a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// The transport is open: the client may connect to the namespace.
    Open,
    /// A ping, to be answered.
    Ping,
    /// The namespace is connected: the session is open.
    Connected,
    /// The namespace refused the connection.
    Refused,
    /// The event with this id has arrived.
    Ack(u64),
    /// The session has ended.
    Closed,
    /// Events, and anything else.
    Other,
}

/// Parses a text message.
pub(crate) fn parse(text: &[u8]) -> Packet {
    match text {
        [b'0', ..] => Packet::Open,
        [b'1', ..] | [b'4', b'1', ..] => Packet::Closed,
        [b'2', ..] => Packet::Ping,
        [b'4', b'0', ..] => Packet::Connected,
        [b'4', b'3', rest @ ..] => ack(rest).map_or(Packet::Other, Packet::Ack),
        [b'4', b'4', ..] => Packet::Refused,
        _ => Packet::Other,
    }
}

/// `<id>[…]`.
fn ack(rest: &[u8]) -> Option<u64> {
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    let (id, rest) = rest.split_at(digits);
    rest.starts_with(b"[").then_some(())?;
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// The answer to a ping.
pub(crate) const PONG: &[u8] = b"3";

/// What a flooding session sends: an event without a listener.
pub(crate) const FLOOD: &[u8] = br#"42["flood"]"#;

/// Asks to connect as the token's user.
pub(crate) fn connect(token: Option<&str>) -> Vec<u8> {
    match token {
        // A token has no character that JSON escapes.
        Some(token) => format!(r#"40{{"token":"{token}"}}"#).into_bytes(),
        None => b"40".to_vec(),
    }
}

/// An event that presenced acknowledges at once, as it asks for nobody.
pub(crate) fn put_probe(out: &mut Vec<u8>, id: u64) {
    // Writing to a vector cannot fail.
    let _ = write!(out, r#"42{id}["presence:pull",[]]"#);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets() {
        for (text, packet) in [
            (r#"0{"sid":"a","pingInterval":25000}"#, Packet::Open),
            ("2", Packet::Ping),
            (r#"40{"sid":"b"}"#, Packet::Connected),
            (r#"44{"message":"no"}"#, Packet::Refused),
            ("4317[]", Packet::Ack(17)),
            (r#"430["x",1]"#, Packet::Ack(0)),
            ("43[]", Packet::Other),
            ("4317", Packet::Other),
            ("4399999999999999999999[]", Packet::Other),
            ("41", Packet::Closed),
            ("1", Packet::Closed),
            (r#"42["news"]"#, Packet::Other),
            ("6", Packet::Other),
            ("", Packet::Other),
        ] {
            assert_eq!(parse(text.as_bytes()), packet, "{text}");
        }
    }

    #[test]
    fn packets_of_a_client() {
        assert_eq!(connect(Some("a.b.c")), br#"40{"token":"a.b.c"}"#);
        assert_eq!(connect(None), b"40");
        let mut out = Vec::new();
        put_probe(&mut out, 7);
        assert_eq!(out, br#"427["presence:pull",[]]"#);
    }

    proptest! {
        #[test]
        fn no_input_causes_a_panic(bytes: Vec<u8>) {
            parse(&bytes);
        }
    }
}
