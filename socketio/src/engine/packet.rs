//! One packet: a digit, then data.

use thiserror::Error;

/// What a text packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The handshake, from the server.
    Open,
    /// The end of the session.
    Close,
    /// From the server each ping interval; from the client `2probe`, to begin an upgrade.
    Ping,
    /// The answer.
    Pong,
    /// A Socket.IO packet.
    Message,
    /// The client's word that the upgrade is done.
    Upgrade,
    /// Nothing: it only answers a poll.
    Noop,
}

impl Kind {
    /// The first byte of such a packet.
    pub const fn digit(self) -> u8 {
        b'0' + self as u8
    }

    /// The kind that a digit stands for.
    pub const fn from_digit(digit: u8) -> Option<Kind> {
        Some(match digit {
            b'0' => Kind::Open,
            b'1' => Kind::Close,
            b'2' => Kind::Ping,
            b'3' => Kind::Pong,
            b'4' => Kind::Message,
            b'5' => Kind::Upgrade,
            b'6' => Kind::Noop,
            _ => return None,
        })
    }
}

/// A packet, whichever way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Its kind, and UTF-8 behind the digit.
    Text(Kind, &'a [u8]),
    /// The data of a binary message: a WebSocket message as it is, in a payload `b` and base64.
    Binary(&'a [u8]),
}

impl<'a> Packet<'a> {
    /// Asks for nothing and says nothing.
    pub const NOOP: Packet<'static> = Packet::Text(Kind::Noop, b"");
    /// Ends a session.
    pub const CLOSE: Packet<'static> = Packet::Text(Kind::Close, b"");
    /// Asks whether the client is there.
    pub const PING: Packet<'static> = Packet::Text(Kind::Ping, b"");

    /// Reads a text message of a WebSocket. A binary message is [`Packet::Binary`] as it is.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn from_text(text: &'a [u8]) -> Result<Packet<'a>, BadPacket> {
        let (&digit, data) = text.split_first().ok_or(BadPacket::Empty)?;
        let kind = Kind::from_digit(digit).ok_or(BadPacket::Kind)?;
        str::from_utf8(data).map_err(|_| BadPacket::Utf8)?;
        Ok(Packet::Text(kind, data))
    }
}

/// Why some bytes are no packet. The client is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum BadPacket {
    /// There is nothing.
    #[error("an empty Engine.IO packet")]
    Empty,
    /// The first byte is no digit from 0 to 6.
    #[error("an Engine.IO packet of an unknown type")]
    Kind,
    /// Text that is not UTF-8.
    #[error("an Engine.IO packet that is not UTF-8")]
    Utf8,
    /// Binary data that is not padded base64.
    #[error("a binary Engine.IO packet that is not base64")]
    Base64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_and_the_rest() {
        for (digit, kind) in [
            (b'0', Kind::Open),
            (b'1', Kind::Close),
            (b'2', Kind::Ping),
            (b'3', Kind::Pong),
            (b'4', Kind::Message),
            (b'5', Kind::Upgrade),
            (b'6', Kind::Noop),
        ] {
            assert_eq!(Kind::from_digit(digit), Some(kind));
            assert_eq!(kind.digit(), digit);
        }
        assert_eq!(
            Packet::from_text(b"2probe"),
            Ok(Packet::Text(Kind::Ping, b"probe"))
        );
        assert_eq!(Packet::from_text(b"6"), Ok(Packet::NOOP));
    }

    #[test]
    fn what_is_none() {
        assert_eq!(Packet::from_text(b""), Err(BadPacket::Empty));
        for text in [&b"7"[..], b"/", b"b4", b" 4", b"\xff", "é".as_bytes()] {
            assert_eq!(Packet::from_text(text), Err(BadPacket::Kind), "{text:?}");
        }
        assert_eq!(Packet::from_text(b"4\xff"), Err(BadPacket::Utf8));
        // A letter that is cut.
        assert_eq!(Packet::from_text(b"4\xc3"), Err(BadPacket::Utf8));
    }
}
