//! A worker whose sessions speak two dialects: plain WebSocket, and packets as Engine.IO has them, with
//! the heartbeat in text messages.

use std::time::Duration;

use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::{Dialect, Meaning, Nonce, Plain};
use presenced_session::service::{Message, Opened, Replies, Service};
use presenced_session::slab::SessionKey;
use presenced_session::{Config, SessionId};
use presenced_testkit::frame::{BINARY, PING, PONG, TEXT, closed, frame, pong_of, sent};
use presenced_testkit::lone_worker::LoneWorker;

use super::OVER;

const INTERVAL: Duration = Duration::from_secs(25);
const TIMEOUT: Duration = Duration::from_secs(20);

const PLAIN: Plain<false> = Plain;

/// What each session of the worker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Plain,
    Packets,
}

/// A ping of either dialect.
enum Ping {
    Plain([u8; 10]),
    Packet([u8; 3]),
}

impl AsRef<[u8]> for Ping {
    fn as_ref(&self) -> &[u8] {
        match self {
            Ping::Plain(ping) => ping,
            Ping::Packet(ping) => ping,
        }
    }
}

impl Dialect for Spoken {
    type Ping = Ping;

    fn ping(self, nonce: Nonce) -> Ping {
        match self {
            Spoken::Plain => Ping::Plain(PLAIN.ping(nonce)),
            Spoken::Packets => Ping::Packet([TEXT, 1, b'2']),
        }
    }

    fn is_pong(self, payload: &[u8], nonce: Nonce) -> bool {
        self == Spoken::Plain && PLAIN.is_pong(payload, nonce)
    }

    fn takes_binary(self) -> bool {
        self == Spoken::Packets
    }

    fn read(self, message: Message<'_>) -> Result<Meaning<'_>, CloseReason> {
        match (self, message) {
            (Spoken::Plain, _) => PLAIN.read(message),
            (_, Message::Binary(_)) => Ok(Meaning::Message(message)),
            (_, Message::Text(b"3")) => Ok(Meaning::Pong),
            (_, Message::Text(b"6")) => Ok(Meaning::Nothing),
            (_, Message::Text([b'4', text @ ..])) => Ok(Meaning::Message(Message::Text(text))),
            (_, Message::Text(_)) => Err(CloseReason::Protocol),
        }
    }

    fn write(self, out: &mut Vec<u8>, message: Message<'_>) {
        match (self, message) {
            (Spoken::Packets, Message::Text(text)) => {
                PLAIN.write(out, Message::Text(&[b"4", text].concat()));
            }
            _ => PLAIN.write(out, message),
        }
    }

    fn close(self, out: &mut Vec<u8>, reason: CloseReason) {
        if self == Spoken::Packets {
            PLAIN.write(out, Message::Text(b"1"));
        }
        PLAIN.close(out, reason);
    }
}

/// Greets, says what it hears, and notes what it was told.
#[derive(Default)]
struct Greeter {
    heard: u32,
    messages: Vec<String>,
}

impl Service for Greeter {
    type Peer = ();
    type Handle = u32;
    type Dialect = Spoken;
    type Answer = ();

    fn opened(
        &mut self,
        (): (),
        session: SessionId,
        replies: &mut Replies<'_, Spoken>,
    ) -> Opened<u32> {
        replies.spell(|dialect, out| {
            if dialect == Spoken::Packets {
                let open = format!(r#"0{{"sid":"{}"}}"#, session.key.index);
                PLAIN.write(out, Message::Text(open.as_bytes()));
            }
        });
        Opened {
            handle: session.key.index,
            replaced: None,
        }
    }

    fn heard(&mut self, _: u32) {
        self.heard += 1;
    }

    fn message(
        &mut self,
        _: SessionKey,
        _: u32,
        message: Message<'_>,
        replies: &mut Replies<'_, Spoken>,
    ) {
        match message {
            Message::Text(text) => {
                self.messages
                    .push(String::from_utf8(text.to_vec()).unwrap());
                replies.text(text);
            }
            Message::Binary(data) => replies.binary(data),
        }
    }

    fn closed(&mut self, _: u32, _: SessionId) {}
}

fn tried() -> LoneWorker<Greeter> {
    let config = Config {
        ping_interval: INTERVAL,
        ping_timeout: TIMEOUT,
        ..Config::default()
    };
    LoneWorker::new(Greeter::default(), config, OVER)
}

#[test]
fn the_first_packet_comes_before_the_answers_to_what_was_read_ahead() {
    let mut tried = tried();
    let (_, socket) = tried.open_behind((), Spoken::Packets, frame(TEXT, b"4early"));
    let first = sent(TEXT, br#"0{"sid":"0"}"#);
    assert_eq!(socket.take(), [first, sent(TEXT, b"4early")].concat());
    let (_, socket) = tried.open_behind((), Spoken::Plain, frame(TEXT, b"early"));
    assert_eq!(socket.take(), sent(TEXT, b"early"));
}

#[test]
fn messages_are_read_and_spelled_as_each_sessions_dialect_has_them() {
    let mut tried = tried();
    let plain = tried.open((), Spoken::Plain);
    let packets = tried.open((), Spoken::Packets);
    packets.1.take();
    assert_eq!(tried.says(&plain, &frame(TEXT, b"4x")), sent(TEXT, b"4x"));
    assert_eq!(tried.says(&packets, &frame(TEXT, b"4x")), sent(TEXT, b"4x"));
    assert_eq!(tried.worker.service().messages, ["4x", "x"]);
    assert_eq!(
        tried.says(&packets, &frame(BINARY, b"\x01")),
        sent(BINARY, b"\x01")
    );
    assert_eq!(tried.says(&packets, &frame(TEXT, b"6")), b"");
    assert_eq!(
        tried.worker.service().heard,
        4,
        "any packet is a sign of life"
    );
    // The ends, too.
    let unsupported = closed(1003, "unsupported_data");
    assert_eq!(tried.says(&plain, &frame(BINARY, b"\x01")), unsupported);
    let protocol = closed(1002, "protocol");
    let bad = tried.says(&packets, &frame(TEXT, b"x"));
    assert_eq!(bad, [sent(TEXT, b"1"), protocol].concat());
}

#[test]
fn each_session_is_pinged_and_answers_in_its_dialect() {
    let mut tried = tried();
    let plain = tried.open((), Spoken::Plain);
    let packets = tried.open((), Spoken::Packets);
    let silent = tried.open((), Spoken::Packets);
    let other = tried.open((), Spoken::Packets);
    for (_, socket) in [&packets, &silent, &other] {
        socket.take();
    }
    // They are in one group of the wheel, so all are pinged at once.
    let ping = tried.next(&plain.1);
    assert_eq!(ping[0], PING);
    assert_eq!(tried.says(&plain, &pong_of(&ping)), b"");
    for session in [&packets, &silent, &other] {
        assert_eq!(session.1.take(), sent(TEXT, b"2"));
    }
    tried.says(&packets, &frame(TEXT, b"3"));
    // No answer of this dialect's, but a sign of life.
    tried.says(&other, &frame(PONG, b""));
    assert_eq!(tried.worker.metrics().pongs.value(), 2);
    let timed_out = [sent(TEXT, b"1"), closed(4408, "pong_timeout")].concat();
    assert_eq!(tried.next(&silent.1), timed_out);
    // The others are pinged again.
    assert_eq!(other.1.take(), b"");
    assert_eq!(tried.next(&packets.1), sent(TEXT, b"2"));
    assert_eq!(plain.1.take()[0], PING);
    assert_eq!(other.1.take(), sent(TEXT, b"2"));
    assert_eq!(tried.worker.len(), 3);
}

#[test]
fn an_unasked_pong_is_harmless_and_answers_no_later_ping() {
    let mut tried = tried();
    let packets = tried.open_behind((), Spoken::Packets, frame(TEXT, b"3"));
    packets.1.take();
    assert_eq!(tried.next(&packets.1), sent(TEXT, b"2"));
    let timed_out = [sent(TEXT, b"1"), closed(4408, "pong_timeout")].concat();
    assert_eq!(tried.next(&packets.1), timed_out);
}

#[test]
fn a_ping_of_any_length_is_sent_to_its_end() {
    let mut tried = tried();
    for (dialect, ping_bytes) in [(Spoken::Plain, 10), (Spoken::Packets, 3)] {
        // More than a ping takes in a record of any suite.
        for room in 1..=40 {
            let session = tried.open((), dialect);
            session.1.take();
            session.1.set_room(room);
            let taken = session.1.taken();
            let mut ping = tried.next(&session.1);
            let is_whole = ping.len() == ping_bytes;
            assert!(is_whole || session.1.taken() - taken == room);
            session.1.set_room(usize::MAX);
            ping.extend(tried.says(&session, &[]));
            assert_eq!(ping.len(), ping_bytes);
            match dialect {
                Spoken::Plain => assert_eq!(ping[..2], [PING, 8]),
                Spoken::Packets => assert_eq!(ping, sent(TEXT, b"2")),
            }
            tried.worker.end(session.0, CloseReason::Internal);
        }
    }
}
