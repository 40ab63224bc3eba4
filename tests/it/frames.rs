//! Frames by hand after a real handshake: what RFC 6455 allows, what it forbids, and what each
//! costs its sender.

use std::time::Duration;

use presenced::limits::PULL_USERS_MAX;
use presenced_presence::limits::USER_ID_BYTES_MAX;
use presenced_session::limits::{CLOSE_TIMEOUT, FRAGMENTS_MAX, MESSAGE_BYTES_MAX};
use presenced_testkit::client::Client;
use presenced_testkit::memcached::Memcached;
use presenced_testkit::raw::{
    BINARY, CLOSE, Frame, LAST, MORE, PING, PONG, Raw, TEXT, TEXT_BEGINS, frame, head, request,
    upgrade,
};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, until};
use serde_json::json;
use tokio::time::{Instant, interval};

const PULL: &[u8] = br#"{"pull":1,"users":["me","you"]}"#;

/// A close frame's payload.
fn reason(code: u16, text: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), text].concat()
}

fn is_answer(answer: &serde_json::Value) -> bool {
    answer["pull"] == 1 && answer["online"]["me"].is_object()
}

/// Sends `bytes` on a session of their own and returns the server's close code.
async fn code(server: &TestServer, bytes: impl AsRef<[u8]>) -> u16 {
    let mut raw = Raw::session(server.edge, "me").await;
    raw.send(bytes).await;
    raw.close_code().await
}

#[tokio::test]
async fn what_the_rfc_forbids_closes_with_its_code() {
    let server = TestServer::start(&[]).await;
    let with_head = |head: &[u8], payload: usize| [head, &vec![0; payload]].concat();
    let split =
        |first: &[u8], second: &[u8]| [frame(TEXT_BEGINS, first), frame(LAST, second)].concat();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("§5.1 not masked", b"\x81\x05hello".to_vec(), 1002),
        ("§5.1 a ping, not masked", b"\x89\x00".to_vec(), 1002),
        ("§5.2 RSV1, as for deflate", frame(0xc1, PULL), 1002),
        ("§5.2 RSV2", frame(0xa1, PULL), 1002),
        ("§5.2 RSV3", frame(0x91, PULL), 1002),
        ("§5.2 RSV1 of a pong", frame(0xca, b""), 1002),
        ("§5.2 opcode 3", frame(0x83, b""), 1002),
        ("§5.2 opcode 7", frame(0x87, b""), 1002),
        ("§5.2 opcode 11", frame(0x8b, b""), 1002),
        ("§5.2 opcode 15", frame(0x8f, b""), 1002),
        ("§5.5 a ping of 126", frame(PING, &[b'x'; 126]), 1002),
        ("§5.5 a pong of 200", frame(PONG, &[b'x'; 200]), 1002),
        (
            "§5.5 a close of 126",
            frame(CLOSE, &reason(1000, &[b'x'; 124])),
            1002,
        ),
        ("§5.5 a ping in parts", frame(0x09, b"x"), 1002),
        ("§5.5 a pong in parts", frame(0x0a, b"x"), 1002),
        ("§5.5 a close in parts", frame(0x08, b""), 1002),
        (
            "§5.2 16 bits for 5 bytes",
            with_head(&[TEXT, 0xfe, 0, 5], 9),
            1002,
        ),
        (
            "§5.2 16 bits for 125 bytes",
            with_head(&[TEXT, 0xfe, 0, 125], 129),
            1002,
        ),
        (
            "§5.2 64 bits for 5 bytes",
            with_head(&[TEXT, 0xff, 0, 0, 0, 0, 0, 0, 0, 5], 9),
            1002,
        ),
        (
            "§5.2 64 bits for 65535",
            with_head(&[TEXT, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 0),
            1002,
        ),
        (
            "§5.2 the highest bit",
            with_head(&[TEXT, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0], 0),
            1002,
        ),
        ("§5.4 a part of nothing", frame(MORE, b"x"), 1002),
        ("§5.4 the last part of nothing", frame(LAST, b"x"), 1002),
        (
            "§5.4 a text in a text",
            [frame(TEXT_BEGINS, b"{"), frame(TEXT, b"}")].concat(),
            1002,
        ),
        (
            "§5.4 the start of a text in a text",
            [frame(TEXT_BEGINS, b"{"), frame(TEXT_BEGINS, b"}")].concat(),
            1002,
        ),
        (
            "§5.4 a binary in a text",
            [frame(TEXT_BEGINS, b"{"), frame(BINARY, b"}")].concat(),
            1002,
        ),
        ("§5.5.1 a close of one byte", frame(CLOSE, b"\x03"), 1002),
        ("§7.4 code 0", frame(CLOSE, &reason(0, b"")), 1002),
        ("§7.4 code 999", frame(CLOSE, &reason(999, b"")), 1002),
        ("§7.4 code 1004", frame(CLOSE, &reason(1004, b"")), 1002),
        ("§7.4 code 1005", frame(CLOSE, &reason(1005, b"")), 1002),
        ("§7.4 code 1006", frame(CLOSE, &reason(1006, b"")), 1002),
        ("§7.4 code 1015", frame(CLOSE, &reason(1015, b"")), 1002),
        ("§7.4 code 1016", frame(CLOSE, &reason(1016, b"")), 1002),
        ("§7.4 code 2999", frame(CLOSE, &reason(2999, b"")), 1002),
        ("§7.4 code 5000", frame(CLOSE, &reason(5000, b"")), 1002),
        ("§7.4 code 65535", frame(CLOSE, &reason(65535, b"")), 1002),
        (
            "§8.1 a reason of no UTF-8",
            frame(CLOSE, &reason(1000, b"\xff")),
            1007,
        ),
        ("§8.1 a text of no UTF-8", frame(TEXT, b"{\xff}"), 1007),
        ("§8.1 a surrogate", frame(TEXT, b"\xed\xa0\x80"), 1007),
        ("§8.1 a letter cut off", frame(TEXT, b"\xc3"), 1007),
        (
            "§8.1 a letter cut off at the end",
            split(b"{\xe2\x82", b""),
            1007,
        ),
        ("§8.1 no letter across parts", split(b"\xc3", b"x"), 1007),
        ("a binary", frame(BINARY, PULL), 1003),
        ("the start of a binary", frame(0x02, PULL), 1003),
    ];
    for (what, bytes, expected) in &cases {
        assert_eq!(code(&server, bytes).await, *expected, "{what}");
    }
    let count = |expected| {
        cases
            .iter()
            .filter(|(_, _, code)| *code == expected)
            .count() as u64
    };
    assert_eq!(server.ends("protocol").await, count(1002));
    assert_eq!(server.ends("invalid_utf8").await, count(1007));
    assert_eq!(server.ends("unsupported_data").await, count(1003));
    let mut after = Client::connect(server.edge, "me").await;
    assert!(after.pull(&["me"]).await["online"]["me"].is_object());
}

#[tokio::test]
async fn what_is_too_big_is_1009_from_the_head_alone() {
    let server = TestServer::start(&[]).await;
    for claimed in [MESSAGE_BYTES_MAX + 1, 64 << 20, usize::MAX >> 1] {
        assert_eq!(code(&server, head(TEXT, claimed)).await, 1009, "{claimed}");
    }
    let half = vec![b'x'; MESSAGE_BYTES_MAX / 2];
    let mut parts = [frame(TEXT_BEGINS, &half), frame(MORE, &half)].concat();
    parts.extend(frame(LAST, b"x"));
    assert_eq!(code(&server, parts).await, 1009);
    assert_eq!(server.ends("too_big").await, 4);

    // The limit itself is allowed, whole or in parts.
    let mut raw = Raw::session(server.edge, "me").await;
    let largest = vec![b' '; MESSAGE_BYTES_MAX];
    raw.send(frame(TEXT, &largest)).await;
    assert_eq!(raw.json().await["error"]["code"], "malformed");
    let (first, second) = largest.split_at(40_000);
    raw.send([frame(TEXT_BEGINS, first), frame(LAST, second)].concat())
        .await;
    assert_eq!(raw.json().await["error"]["code"], "malformed");
}

#[tokio::test]
async fn messages_in_parts_are_put_together() {
    let server = TestServer::start(&[]).await;
    let mut raw = Raw::session(server.edge, "me").await;
    let (first, rest) = PULL.split_at(7);
    let (second, third) = rest.split_at(3);
    let mut parts = frame(TEXT_BEGINS, first);
    parts.extend(frame(PING, b"between"));
    parts.extend(frame(MORE, second));
    parts.extend(frame(MORE, b""));
    parts.extend(frame(PONG, b"too"));
    parts.extend(frame(LAST, third));
    raw.send(&parts).await;
    let pong = Frame {
        first: PONG,
        payload: b"between".to_vec(),
    };
    assert_eq!(raw.frame().await, Some(pong));
    assert!(is_answer(&raw.json().await));

    // A letter may be cut in two, and the next message is one of its own.
    let text = r#"{"pull":1,"users":["me","Jürgen"]}"#.as_bytes();
    let cut = text.iter().position(|byte| *byte == 0xc3).unwrap() + 1;
    let (first, second) = text.split_at(cut);
    raw.send([frame(TEXT_BEGINS, first), frame(LAST, second)].concat())
        .await;
    assert!(is_answer(&raw.json().await));
    raw.send(frame(TEXT, PULL)).await;
    assert!(is_answer(&raw.json().await));

    // Fragments without end are a flood, however empty.
    let mut endless = frame(TEXT_BEGINS, b"");
    for _ in 0..FRAGMENTS_MAX {
        endless.extend(frame(MORE, b""));
    }
    raw.try_send(endless).await;
    assert_eq!(raw.close_code().await, 1008);
}

#[tokio::test]
async fn frames_cut_into_single_bytes_are_frames() {
    let server = TestServer::start(&[]).await;
    let mut raw = Raw::session(server.edge, "me").await;
    let mut bytes = frame(PING, b"0123456789");
    bytes.extend(frame(TEXT, PULL));
    bytes.extend(frame(TEXT_BEGINS, &PULL[..9]));
    bytes.extend(frame(LAST, &PULL[9..]));
    for byte in bytes {
        raw.send([byte]).await;
    }
    let pong = raw.frame().await.unwrap();
    assert_eq!((pong.first, &pong.payload[..]), (PONG, &b"0123456789"[..]));
    assert!(is_answer(&raw.json().await));
    assert!(is_answer(&raw.json().await));
    for byte in frame(CLOSE, &reason(1000, b"done")) {
        raw.send([byte]).await;
    }
    assert_eq!(raw.close_code().await, 1000);
}

#[tokio::test]
async fn pings_are_answered_with_their_payload() {
    let server = TestServer::start(&[]).await;
    let mut raw = Raw::session(server.edge, "me").await;
    for payload in [&b""[..], b"x", "zoë\0\u{1}".as_bytes(), &[0xff; 125]] {
        raw.send(frame(PING, payload)).await;
        let pong = raw.frame().await.unwrap();
        assert_eq!((pong.first, &pong.payload[..]), (PONG, payload));
    }
    // Of several at once each is answered, in order, and what follows is not held up.
    let mut burst: Vec<u8> = (0..20u8)
        .flat_map(|number| frame(PING, &[number]))
        .collect();
    burst.extend(frame(TEXT, PULL));
    raw.send(burst).await;
    for number in 0..20 {
        let pong = raw.frame().await.unwrap();
        assert_eq!((pong.first, &pong.payload[..]), (PONG, &[number][..]));
    }
    assert!(is_answer(&raw.json().await));
}

#[tokio::test]
async fn a_close_is_answered_with_its_code_and_nothing_after_it_counts() {
    let server = TestServer::start(&[]).await;
    let mut fastest = Duration::MAX;
    for (number, (sent, answered)) in [
        (vec![], vec![]),
        (reason(1000, b""), reason(1000, b"closed")),
        (reason(1001, b"going away"), reason(1001, b"closed")),
        (reason(1011, &[b'x'; 123]), reason(1011, b"closed")),
        (reason(3000, b""), reason(3000, b"closed")),
        (reason(4999, "zoë".as_bytes()), reason(4999, b"closed")),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = Raw::session(server.edge, "me").await;
        // A question and a wrong frame behind it: neither is heard.
        let after = [frame(TEXT, PULL), b"\x81\x05hello".to_vec()].concat();
        raw.send([frame(CLOSE, &sent), after].concat()).await;
        let close = Frame {
            first: CLOSE,
            payload: answered,
        };
        let start = Instant::now();
        assert_eq!(raw.frame().await, Some(close));
        // §7.1.1: the server ends the TCP connection, and does not wait for the client to do so.
        raw.try_send(frame(TEXT, PULL)).await;
        assert_eq!(raw.any_frame().await, None, "after the close");
        fastest = fastest.min(start.elapsed());
        assert_eq!(server.ends("closed").await, number as u64 + 1);
    }
    // Each would take as long if the server waited; a busy machine does not slow down all of them.
    assert!(fastest < CLOSE_TIMEOUT, "{fastest:?}");
    assert_eq!(server.ends("protocol").await, 0);
    // The last of them goes with its connection; none is waited for longer than a close may take.
    until("all are let go of", PATIENCE, async || {
        server.metric("sessions").await == 0
    })
    .await;
}

#[tokio::test]
async fn a_ping_right_before_a_close_is_answered_before_it() {
    let server = TestServer::start(&[]).await;
    let mut raw = Raw::session(server.edge, "me").await;
    let close = frame(CLOSE, &reason(1000, b"bye"));
    let late = frame(PING, b"late");
    raw.send([frame(PING, b"last"), close, late].concat()).await;
    let pong = Frame {
        first: PONG,
        payload: b"last".to_vec(),
    };
    assert_eq!(raw.frame().await, Some(pong));
    // And nothing comes after the close.
    assert_eq!(raw.close_code().await, 1000);
}

#[tokio::test]
async fn a_client_that_does_not_end_its_side_is_let_go_of() {
    let server = TestServer::start(&["--max-sessions=1"]).await;
    let mut raw = Raw::session(server.edge, "me").await;
    raw.send(frame(BINARY, b"")).await;
    assert_eq!(raw.close_code().await, 1003);
    until("its seat is free", PATIENCE, async || {
        server.metric("sessions").await == 0
    })
    .await;
    Raw::session(server.edge, "next").await;
}

#[tokio::test]
async fn a_flood_of_frames_is_1008() {
    floods_are_ended(&TestServer::start(&[]).await).await;
}

/// Floods a server with frames of each kind.
pub(crate) async fn floods_are_ended(server: &TestServer) {
    let mut other = Client::connect(server.edge, "other").await;
    for (what, one) in [
        ("pongs", frame(PONG, b"")),
        ("pings", frame(PING, b"")),
        ("messages", frame(TEXT, b"{}")),
    ] {
        let mut raw = Raw::session(server.edge, "me").await;
        // Twice what an interval allows, should a ping fall in between.
        raw.try_send(one.repeat(600)).await;
        let mut last = None;
        while let Some(frame) = raw.frame().await {
            last = Some(frame);
        }
        let last = last.expect("a close frame");
        assert_eq!(last.first, CLOSE, "{what}: {last:?}");
        assert_eq!(last.payload, reason(1008, b"rate_limited"), "{what}");
    }
    assert_eq!(server.ends("rate_limited").await, 3);
    assert!(other.pull(&["other"]).await["online"]["other"].is_object());
}

#[tokio::test]
async fn any_pong_is_a_heartbeat_and_only_one_that_echoes_a_ping_tells_the_rtt() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let mut raw = Raw::session(server.edge, "me").await;
    until("written at connect", PATIENCE, async || {
        server.metric("flushed_total").await == 1
    })
    .await;
    raw.send(frame(PONG, b"")).await;
    until("a heartbeat is written", PATIENCE, async || {
        server.metric("flushed_total").await == 2
    })
    .await;
    assert_eq!(server.metric("pongs_total").await, 0);

    let ping = raw.any_frame().await.unwrap();
    assert_eq!((ping.first, ping.payload.is_empty()), (PING, false));
    // Not this one's, and none: alive, but nobody knows for how long it was under way.
    let mut other = ping.payload.clone();
    other[0] ^= 1;
    raw.send([frame(PONG, &other), frame(PONG, b"")].concat())
        .await;
    assert_eq!(raw.any_frame().await.unwrap().first, PING);
    assert_eq!(server.metric("pongs_total").await, 0);
    // This time it says nothing.
    assert_eq!(raw.close_code().await, 4408);
    assert_eq!(server.ends("pong_timeout").await, 1);

    // The right one tells.
    let mut raw = Raw::session(server.edge, "me").await;
    for number in 1..=2 {
        let ping = raw.any_frame().await.unwrap();
        assert_eq!(ping.first, PING);
        raw.send(frame(PONG, &ping.payload)).await;
        until("counted", PATIENCE, async || {
            server.metric("pongs_total").await == number
        })
        .await;
    }
}

#[tokio::test]
async fn who_offers_to_see_pings_gets_a_message_with_each() {
    let server = TestServer::start(&[]).await;
    let shown = token("me");
    for (offered, first_message) in [
        (format!("presence.v1, presence.alive, bearer.{shown}"), None),
        ("presence.alive, presence.v1".to_owned(), Some(&shown)),
    ] {
        let mut raw = Raw::connect(server.edge).await;
        let mut headers = upgrade();
        headers.push(("Sec-WebSocket-Protocol", offered));
        raw.send(request("GET", "/ws", &headers, "")).await;
        let response = raw.response().await;
        assert_eq!(
            response.header("sec-websocket-protocol"),
            Some("presence.v1")
        );
        if let Some(token) = first_message {
            let message = json!({ "token": token }).to_string();
            raw.send(frame(TEXT, message.as_bytes())).await;
            assert_eq!(raw.any_frame().await.unwrap().first, TEXT);
        }
        for _ in 0..2 {
            let message = raw.any_frame().await.unwrap();
            assert_eq!(
                (message.first, &*message.payload),
                (TEXT, &br#"{"alive":true}"#[..])
            );
            let ping = raw.any_frame().await.unwrap();
            assert_eq!(ping.first, PING);
            let pongs = server.metric("pongs_total").await;
            raw.send(frame(PONG, &ping.payload)).await;
            until("it tells the round-trip time", PATIENCE, async || {
                server.metric("pongs_total").await == pongs + 1
            })
            .await;
        }
    }
}

#[tokio::test]
async fn who_never_reads_is_dropped_and_holds_up_no_one() {
    a_deaf_client_is_dropped(&TestServer::start(DEAF).await).await;
}

/// Without memcached everyone asked for is unknown, so that answers are as large as questions.
pub(crate) const DEAF: &[&str] = &[
    "--workers=1",
    "--memcached=127.0.0.1:1",
    "--max-message=128KiB",
];

/// Asks a server with [`DEAF`] for much, and reads nothing of it.
pub(crate) async fn a_deaf_client_is_dropped(server: &TestServer) {
    let mut other = Client::connect(server.edge, "other").await;
    let mut raw = Raw::session(server.edge, "deaf").await;
    let id = |number: usize| format!("{number:0>USER_ID_BYTES_MAX$}");
    let users: Vec<_> = (0..PULL_USERS_MAX).map(id).collect();
    let pull = frame(
        TEXT,
        json!({"pull": 1, "users": users}).to_string().as_bytes(),
    );
    let asking = async {
        // Until the server reads no more, and then hangs up.
        while raw.try_send(&pull).await {}
    };
    let served = async {
        let mut answered = 0;
        // Not as fast as it can: that would be a flood.
        let mut turns = interval(Duration::from_millis(50));
        while server.metric("sessions").await == 2 {
            turns.tick().await;
            let answer = other.pull(&["other", "x"]).await;
            assert!(answer["online"]["other"].is_object(), "{answer}");
            answered += 1;
        }
        answered
    };
    let ((), answered) = tokio::join!(asking, served);
    // While the other did not read: this one was asked for nothing else until the session had ended.
    assert!(answered > 1, "{answered} answers meanwhile");
    let ends = server.ends("slow_consumer").await + server.ends("pong_timeout").await;
    assert_eq!(ends, 1);
    assert!(other.is_open());
}
