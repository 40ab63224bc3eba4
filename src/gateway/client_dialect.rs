//! What the frames of clients mean: those of the server's own protocol, and those of Socket.IO.

use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::{Dialect, Meaning, Nonce, Plain};
use presenced_session::service::Message;
use presenced_socketio::engine::{Kind, Packet};

/// Which protocol a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientDialect {
    /// `presence.v1`: JSON messages, and pings and pongs in control frames.
    Plain,
    /// The same, and with each ping a message: a page sees no control frames.
    Alive,
    /// Socket.IO 5 over Engine.IO 4: packets in messages, pings and pongs among them. A message *to* the client is
    /// a whole Engine.IO packet; one *from* the client is what it has behind the `4`, or an attachment.
    SocketIo,
}

const PLAIN: Plain<false> = Plain;

/// A ping of Engine.IO: a text frame with a `2`.
const ENGINE_PING: [u8; 3] = [0x81, 1, b'2'];

/// What a page sees of a ping: a text frame.
const ALIVE: [u8; 16] = *b"\x81\x0e{\"alive\":true}";

const PING_BYTES: usize = ALIVE.len() + size_of::<<Plain<false> as Dialect>::Ping>();

/// A ping as it goes over the wire.
#[derive(Clone, Copy, Debug)]
pub struct Ping {
    /// The ping is at their end.
    bytes: [u8; PING_BYTES],
    from: u8,
}

impl AsRef<[u8]> for Ping {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.bytes[usize::from(self.from)..]
    }
}

impl Dialect for ClientDialect {
    type Ping = Ping;

    /// Clients of Engine.IO may compare all that comes before.
    fn first_ping_waits(self) -> bool {
        self == ClientDialect::SocketIo
    }

    #[inline]
    fn ping(self, nonce: Nonce) -> Ping {
        let mut bytes = [0; PING_BYTES];
        bytes[..ALIVE.len()].copy_from_slice(&ALIVE);
        bytes[ALIVE.len()..].copy_from_slice(&PLAIN.ping(nonce));
        let from = match self {
            ClientDialect::Alive => 0,
            ClientDialect::Plain => ALIVE.len(),
            ClientDialect::SocketIo => {
                let from = PING_BYTES - ENGINE_PING.len();
                bytes[from..].copy_from_slice(&ENGINE_PING);
                from
            }
        };
        Ping {
            bytes,
            from: from as u8,
        }
    }

    #[inline]
    fn is_pong(self, payload: &[u8], nonce: Nonce) -> bool {
        self != ClientDialect::SocketIo && PLAIN.is_pong(payload, nonce)
    }

    #[inline]
    fn takes_binary(self) -> bool {
        self == ClientDialect::SocketIo
    }

    #[inline]
    fn read(self, message: Message<'_>) -> Result<Meaning<'_>, CloseReason> {
        match (self, message) {
            (ClientDialect::Plain | ClientDialect::Alive, message) => PLAIN.read(message),
            (ClientDialect::SocketIo, Message::Binary(_)) => Ok(Meaning::Message(message)),
            (ClientDialect::SocketIo, Message::Text(text)) => engine_packet(text),
        }
    }

    fn write(self, out: &mut Vec<u8>, message: Message<'_>) {
        PLAIN.write(out, message);
    }

    fn close(self, out: &mut Vec<u8>, reason: CloseReason) {
        PLAIN.close(out, reason);
    }
}

fn engine_packet(text: &[u8]) -> Result<Meaning<'_>, CloseReason> {
    match Packet::from_text(text) {
        Ok(Packet::Text(Kind::Pong, _)) => Ok(Meaning::Pong),
        Ok(Packet::Text(Kind::Message, data)) => Ok(Meaning::Message(Message::Text(data))),
        Ok(Packet::Text(Kind::Close, _)) => Err(CloseReason::Closed),
        // A ping is a client's own only in an upgrade.
        Ok(Packet::Text(Kind::Ping, _)) | Err(_) => Err(CloseReason::Protocol),
        Ok(Packet::Text(Kind::Open | Kind::Upgrade | Kind::Noop, _) | Packet::Binary(_)) => {
            Ok(Meaning::Nothing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOKEN: ClientDialect = ClientDialect::SocketIo;

    #[test]
    fn pings_are_packets_of_engine_io() {
        assert_eq!(SPOKEN.ping([7; 8]).as_ref(), b"\x81\x012");
        let mut written = Vec::new();
        SPOKEN.write(&mut written, Message::Text(b"2"));
        assert_eq!(written, ENGINE_PING);
    }

    #[test]
    fn a_page_that_wants_to_sees_pings() {
        let plain = ClientDialect::Plain.ping([7; 8]);
        assert_eq!(plain.as_ref(), PLAIN.ping([7; 8]));
        let mut both = Vec::new();
        ClientDialect::Alive.write(&mut both, Message::Text(br#"{"alive":true}"#));
        both.extend_from_slice(plain.as_ref());
        assert_eq!(ClientDialect::Alive.ping([7; 8]).as_ref(), both);
    }

    #[test]
    fn what_packets_mean() {
        let read = |text: &'static str| SPOKEN.read(Message::Text(text.as_bytes()));
        let data = |text: &'static str| Ok(Meaning::Message(Message::Text(text.as_bytes())));
        assert_eq!(read("3"), Ok(Meaning::Pong));
        assert_eq!(read("3x"), Ok(Meaning::Pong));
        assert_eq!(read(r#"42["a"]"#), data(r#"2["a"]"#));
        assert_eq!(read("4"), data(""));
        for nothing in ["0", "0{}", "5", "6"] {
            assert_eq!(read(nothing), Ok(Meaning::Nothing), "{nothing}");
        }
        assert_eq!(read("1"), Err(CloseReason::Closed));
        for bad in ["", "2", "2probe", "7", "x", "é"] {
            assert_eq!(read(bad), Err(CloseReason::Protocol), "{bad}");
        }
        let binary = Message::Binary(b"\x00");
        assert_eq!(SPOKEN.read(binary), Ok(Meaning::Message(binary)));
    }
}
