//! Packets over the WebSocket: what each of them does, and how sessions end.

use std::time::Duration;

use futures_util::future::join_all;
use presenced_jwt::{EncodingKey, Header, encode};
use presenced_testkit::raw::{CLOSE, Raw, TEXT, frame};
use presenced_testkit::server::{PING_INTERVAL, PING_TIMEOUT};
use presenced_testkit::tokens::{claims, in_s, sign, token};
use presenced_testkit::{PATIENCE, until};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::{Io, QUERY, all_gone, refused, shows, started};

/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(3);

const ADMIN: &str = "--socketio-namespaces=/admin";

#[tokio::test]
async fn the_first_ping_comes_an_interval_after_the_handshake_and_a_pong_must_follow() {
    let server = started(&[]).await;
    let began_at = Instant::now();
    let (mut silent, _) = Io::session(server.edge, "silent").await;
    let mut unconnected = Io::open(server.edge).await;
    assert_eq!(silent.hear_any().await, "2");
    let first = began_at.elapsed();
    let times = PING_INTERVAL..PING_INTERVAL + SLACK;
    assert!(times.contains(&first), "{first:?}");
    assert_eq!(unconnected.hear_any().await, "2");
    let mut pong = Io::session(server.edge, "pong").await.0;
    for io in [silent, unconnected] {
        assert_eq!(io.closed().await, (4408, "pong_timeout".into()));
    }
    let ended = began_at.elapsed();
    // The wheel looks half a second early.
    let earliest = PING_INTERVAL + PING_TIMEOUT - Duration::from_millis(500);
    assert!(
        (earliest..earliest + 2 * SLACK).contains(&ended),
        "{ended:?}"
    );
    for _ in 0..3 {
        assert_eq!(pong.hear_any().await, "2");
        pong.say("3").await;
    }
    pong.lives().await;
    assert_eq!(server.ends("pong_timeout").await, 2);
    drop(pong);
    all_gone(server.admin).await;
}

#[tokio::test]
async fn packets_that_are_not_due_change_nothing() {
    let server = started(&[]).await;
    let (mut io, _) = Io::session(server.edge, "alice").await;
    for packet in ["3", "3x", "3probe", "0", "0{}", "5", "6", "6x"] {
        io.say(packet).await;
        io.lives().await;
    }
    drop(io);
    all_gone(server.admin).await;
}

#[tokio::test]
async fn packets_that_are_forbidden_end_the_connection() {
    let server = started(&[ADMIN]).await;
    let packets = [
        // Engine.IO.
        "",
        "2",
        "2probe",
        "7",
        "x",
        "é",
        "b4AAA",
        // Types, and JSON that is not due or not there.
        "4",
        "47",
        "4x",
        "4-1",
        "42",
        "42{}",
        "42[]",
        "42[null]",
        "42[{}]",
        "42null",
        "42[\"a\"",
        "42[\"a\"]x",
        "42[\"a\"][]",
        "42[\"a\",]",
        "42x[\"a\"]",
        "42[\"a\"]\u{1e}",
        "43",
        "431",
        "431{}",
        "431\"x\"",
        "41{}",
        "41[]",
        "411",
        "40[]",
        "401{}",
        "40\"x\"",
        "40null",
        "44",
        "44{}",
        "44{\"message\":\"x\"}",
        "44\"x\"",
        // Names that nobody may send.
        "42[\"connect\"]",
        "42[\"connect_error\"]",
        "42[\"disconnect\"]",
        "42[\"disconnecting\"]",
        "42[\"newListener\"]",
        "42[\"removeListener\"]",
        "42[\"\\u0063onnect\"]",
        // Ids.
        "42-1[\"a\"]",
        "421.5[\"a\"]",
        "429007199254740992[\"a\"]",
        "4299999999999999999999[\"a\"]",
        // Attachments.
        "451[\"a\"]",
        "45[\"a\"]",
        "45-[\"a\"]",
        "450-[\"a\"]",
        "4511-[\"a\"]",
        "45-1-[\"a\"]",
        "451-",
        "421-[\"a\"]",
        "451-[\"a\",{\"_placeholder\":true,\"num\":1}]",
        "451-[\"a\",{\"_placeholder\":true,\"num\":-1}]",
        "461-",
        "461-{}",
        // Namespaces that it is not connected to.
        "42/admin,[\"a\"]",
        "41/admin,",
        "43/admin,1[]",
        "42/other,[\"a\"]",
        "42/,x",
        // It is connected already.
        "40",
        "40/,",
        "40{}",
        "40/,{}",
    ];
    let tried = packets.iter().zip(0..).map(async |(packet, number)| {
        // So many at once are more than one user may have.
        let (io, _) = Io::session(server.edge, &format!("u{number}")).await;
        io.ends_with(packet).await;
    });
    join_all(tried).await;
    let (mut io, _) = Io::session(server.edge, "alice").await;
    io.raw.send(frame(TEXT, b"42[\"\xff\"]")).await;
    assert_eq!(io.closed().await, (1007, "invalid_utf8".into()));
    all_gone(server.admin).await;
    assert_eq!(server.ends("protocol").await, packets.len() as u64);
}

#[tokio::test]
async fn before_connect_only_connect_is_taken() {
    let server = started(&[ADMIN]).await;
    for packet in [
        "42[\"a\"]",
        "420[\"presence:pull\",[]]",
        "41",
        "430[]",
        "44{}",
        "461-1[{\"_placeholder\":true,\"num\":0}]",
        "42/admin,[\"a\"]",
    ] {
        Io::open(server.edge).await.ends_with(packet).await;
    }
    let mut io = Io::open(server.edge).await;
    io.say_binary(b"\x00").await;
    assert_eq!(io.closed().await, (1002, "protocol".into()));
    // Nor may a client send on before the answer has come.
    for second in [shows("", &token("alice")), "42[\"a\"]".into()] {
        let mut io = Io::open(server.edge).await;
        io.say_at_once(&[&shows("", &token("alice")), &second])
            .await;
        assert_eq!(io.closed().await, (1002, "protocol".into()), "{second}");
    }
    all_gone(server.admin).await;
}

#[tokio::test]
async fn events_with_an_id_are_answered_with_it_as_it_was_given() {
    let server = started(&[]).await;
    let (mut io, _) = Io::session(server.edge, "alice").await;
    for id in ["0", "7", "007", "9007199254740991", "0000000000000001"] {
        io.say(&format!(r#"42{id}["presence:pull",["nobody"]]"#))
            .await;
        let answer = io.hear_json(&format!("43{id}")).await;
        assert_eq!(answer[0]["online"], json!({}), "{answer}");
    }
    for ignored in [
        r#"42["presence:pull",["alice"]]"#,
        r#"42["message","hello"]"#,
        r#"429["message","hello"]"#,
        r#"42[7]"#,
        r#"42["error"]"#,
        r#"42["__proto__",{}]"#,
        r#"42["presence:token"]"#,
        r#"42["Presence:pull",[]]"#,
        r#"42/,["x"]"#,
        "43[]",
        "439[1,2]",
    ] {
        io.say(ignored).await;
        io.lives().await;
    }
    io.say(r#"42/,5["presence:pull","alice"]"#).await;
    let pulled = io.hear_json("435").await;
    assert!(
        pulled[0]["online"]["alice"]["connectedAt"].is_u64(),
        "{pulled}"
    );
    for question in [
        r#"["presence:pull"]"#,
        r#"["presence:pull",true]"#,
        r#"["presence:pull",{}]"#,
    ] {
        io.say(&format!("428{question}")).await;
        let answer = io.hear_json("438").await;
        assert_eq!(answer[0]["error"]["code"], "malformed", "{question}");
    }
    io.say(r#"428["presence:pull",["bad id\u0000","nobody"]]"#)
        .await;
    let answer = io.hear_json("438").await;
    assert!(answer[0]["online"].is_object(), "{answer}");
    drop(io);
    all_gone(server.admin).await;
}

#[tokio::test]
async fn a_client_may_be_in_several_namespaces_as_one_user() {
    for workers in ["--workers=1", "--workers=2", "--workers=4"] {
        let server = started(&[workers, ADMIN, "--socketio-namespaces=/b?x=1"]).await;
        let mut io = Io::open(server.edge).await;
        let sid = io.connect("/admin,", "alice").await;
        io.say("40/b?x=1,").await;
        assert_eq!(io.connected("/b?x=1,").await, format!("{sid}-1"));
        // The query is part of the name, and a name is taken whole.
        for unknown in ["/b", "/b?x=2", "/Admin", "/admin/", "/", ""] {
            let known = matches!(unknown, "/" | "");
            if !known {
                io.say(&format!("40{unknown},{{}}")).await;
                let answer = format!(r#"44{unknown},{{"message":"Invalid namespace"}}"#);
                assert_eq!(io.hear().await, answer);
            }
        }
        let other = shows("/,", &token("bob"));
        io.say(&other).await;
        let another = "the token is of another user than the session";
        assert_eq!(io.hear().await, refused("", another, "another_user"));
        io.say(&shows("/,", &token("alice"))).await;
        assert_eq!(io.connected("").await, format!("{sid}-2"));
        assert_eq!(server.metric("users").await, 1);

        io.say(r#"42/admin,7["presence:pull",["alice"]]"#).await;
        let pulled = io.hear_json("43/admin,7").await;
        assert!(pulled[0]["online"]["alice"].is_object(), "{pulled}");
        io.say("41/admin,").await;
        io.lives().await;
        io.ends_with(r#"42/admin,["a"]"#).await;
        all_gone(server.admin).await;
        let refused = server
            .metric("handshakes_total{result=\"another_user\"}")
            .await;
        assert_eq!(refused, 1);
    }
}

#[tokio::test]
async fn who_leaves_the_last_namespace_is_offline_and_may_come_back() {
    let server = started(&[ADMIN]).await;
    let (mut io, _) = Io::session(server.edge, "alice").await;
    let mut other = Io::session(server.edge, "bob").await.0;
    io.say("41").await;
    until("she is gone", PATIENCE, async || {
        server.metric("users").await == 1
    })
    .await;
    assert_eq!(server.metric("sessions").await, 2);
    // As any user that it shows a token of.
    for user in ["carol", "alice"] {
        io.connect("", user).await;
        assert!(io.sees(user).await);
        io.say("41").await;
    }
    // All in one segment, too.
    io.say_at_once(&[&shows("", &token("dave"))]).await;
    io.connected("").await;
    io.say_at_once(&["41", &shows("", &token("erin"))]).await;
    io.connected("").await;
    assert!(io.sees("erin").await);
    assert_eq!(server.metric("users").await, 2);
    other.lives().await;
    drop((io, other));
    all_gone(server.admin).await;
}

#[tokio::test]
async fn who_enters_a_namespace_and_leaves_the_other_stays_online() {
    let server = started(&[ADMIN]).await;
    let (mut io, _) = Io::session(server.edge, "alice").await;
    io.say_at_once(&["40/admin,", "41"]).await;
    io.connected("/admin,").await;
    io.say(r#"42/admin,1["presence:pull","alice"]"#).await;
    let pulled = io.hear_json("43/admin,1").await;
    assert!(pulled[0]["online"]["alice"].is_object(), "{pulled}");
    assert_eq!(server.metric("users").await, 1);
    drop(io);
    all_gone(server.admin).await;
}

#[tokio::test]
async fn a_binary_event_is_read_to_its_end() {
    let server = started(&["--max-message=1KiB"]).await;
    let place = |number: usize| format!(r#"{{"_placeholder":true,"num":{number}}}"#);
    let (mut io, _) = Io::session(server.edge, "alice").await;
    let binary = |kind: &str, count: usize| {
        let places: Vec<_> = (0..count).rev().map(place).collect();
        format!(r#"4{kind}{count}-["a",{}]"#, places.join(","))
    };
    for (packet, attachments) in [
        (binary("5", 1), vec![vec![1]]),
        (binary("5", 10), vec![vec![0; 100]; 10]),
        (binary("5", 2), vec![vec![], vec![4, 5]]),
        (
            format!(r#"451-77["presence:pull",{}]"#, place(0)),
            vec![vec![9]],
        ),
        (format!("461-7[{}]", place(0)), vec![vec![1, 2, 3]]),
        (r#"451-["a"]"#.into(), vec![vec![4]]),
    ] {
        io.say(&packet).await;
        for attachment in attachments {
            io.say("3").await;
            io.say_binary(&attachment).await;
        }
        io.lives().await;
    }
    drop(io);

    let one = binary("5", 1);
    for (packets, attachments, text, end) in [
        (vec![], vec![1], "", (1002, "protocol")),
        (vec![one.as_str()], vec![1, 1], "", (1002, "protocol")),
        (vec![&one], vec![], "42[\"b\"]", (1002, "protocol")),
        (vec![&one], vec![], "41", (1002, "protocol")),
        (vec![&one, &one], vec![], "", (1002, "protocol")),
        (vec![&binary("5", 11)], vec![], "", (1002, "protocol")),
        (vec![&binary("5", 2)], vec![600, 600], "", (1009, "too_big")),
        (vec![&one], vec![1025], "", (1009, "too_big")),
    ] {
        let (mut io, _) = Io::session(server.edge, "alice").await;
        io.say_at_once(&packets).await;
        for bytes in attachments {
            io.say_binary(&vec![0; bytes]).await;
        }
        if !text.is_empty() {
            io.say(text).await;
        }
        assert_eq!(io.closed().await, (end.0, end.1.into()), "{packets:?}");
    }
    all_gone(server.admin).await;
}

#[tokio::test]
async fn a_refused_client_is_told_why_and_may_ask_again() {
    let server = started(&[ADMIN]).await;
    let mut io = Io::open(server.edge).await;
    let expired = sign(&json!({"sub": "alice", "exp": in_s(-60)}));
    let user = sign(&json!({"sub": "a b", "exp": in_s(60)}));
    let not_valid = ("the token is not valid", "token_invalid");
    let missing = ("a token is needed", "token_missing");
    for (auth, (message, code)) in [
        ("".into(), missing),
        ("{}".into(), missing),
        (r#"{"other":"x","pid":1,"offset":"a"}"#.into(), missing),
        (r#"{"token":7}"#.into(), missing),
        (r#"{"token":"x"}"#.into(), not_valid),
        (r#"{"token":""}"#.into(), not_valid),
        (
            json!({"token": expired}).to_string(),
            ("the token has expired", "token_expired"),
        ),
        (
            json!({"token": user}).to_string(),
            (
                "the token's user id can't be part of a memcached key",
                "user_id_not_allowed",
            ),
        ),
    ] {
        for namespace in ["", "/admin,"] {
            io.say(&format!("40{namespace}{auth}")).await;
            assert_eq!(io.hear().await, refused(namespace, message, code), "{auth}");
        }
    }
    assert_eq!(server.metric("users").await, 0);
    // The transport has opened; what was refused on it is counted beside.
    assert_eq!(server.handshakes("ok").await, 1);
    assert_eq!(server.handshakes("token_missing").await, 8);
    io.connect("", "alice").await;
    // One namespace's refusal is not the other's.
    io.say(r#"40/admin,{"token":"x"}"#).await;
    assert_eq!(
        io.hear().await,
        refused("/admin,", not_valid.0, not_valid.1)
    );
    io.lives().await;
    drop(io);
    all_gone(server.admin).await;
}

/// Clients come back after an end, and not after a refusal.
#[tokio::test]
async fn a_refusal_that_passes_ends_the_connection() {
    let server = started(&["--max-handshakes-per-second-per-user=1"]).await;
    let mut ended = 0;
    for _ in 0..30 {
        let mut io = Io::open(server.edge).await;
        io.say(&shows("", &token("alice"))).await;
        let frame = io.raw.any_frame().await.unwrap();
        if frame.first == CLOSE {
            assert_eq!(&frame.payload[2..], b"overloaded");
            ended += 1;
        } else {
            assert!(frame.payload.starts_with(b"40{"), "{frame:?}");
        }
    }
    assert!(ended > 0);
    Io::session(server.edge, "bob").await;
    let counted = "handshakes_total{result=\"too_many_handshakes_of_user\"}";
    assert_eq!(server.metric(counted).await, ended);
    assert_eq!(server.ends("overloaded").await, ended);
    all_gone(server.admin).await;
}

/// As keys of an identity provider that may come any moment.
#[tokio::test]
async fn a_token_whose_keys_are_not_known_yet_is_not_refused() {
    let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", provider.local_addr().unwrap());
    let server = started(&[
        &format!("--jwt-jwks-url={url}"),
        "--jwt-issuer=https://id.example",
    ])
    .await;
    let mut of_issuer = claims("alice");
    of_issuer["iss"] = "https://id.example".into();
    let other = EncodingKey::from_secret(&[7; 32]);
    let other = encode(&Header::default(), &of_issuer, &other).unwrap();
    let mut io = Io::open(server.edge).await;
    io.say(&shows("", &other)).await;
    assert_eq!(io.closed().await, (1013, "overloaded".into()));
    let bearer = format!("Bearer {other}");
    let raw = Raw::connect(server.edge).await;
    let mut io = Io::open_with(raw, QUERY, &[("Authorization", &bearer)]).await;
    io.say("40").await;
    assert_eq!(io.closed().await, (1013, "overloaded".into()));
    assert_eq!(server.handshakes("keys_not_known").await, 2);
    all_gone(server.admin).await;
}

#[tokio::test]
async fn who_does_not_connect_in_time_is_closed() {
    let server = started(&["--socketio-connect-timeout=1s", "--workers=1"]).await;
    let ends = async |packets: Vec<String>| {
        let began_at = Instant::now();
        let mut io = Io::open(server.edge).await;
        for packet in &packets {
            io.say(packet).await;
            if packet.starts_with("40") {
                assert!(io.hear().await.starts_with("44"), "{packet}");
            }
        }
        loop {
            let frame = io.raw.any_frame().await.unwrap();
            if frame.first == CLOSE {
                assert_eq!(&frame.payload[2..], b"connect_timeout");
                break;
            }
        }
        let after = began_at.elapsed();
        let times = Duration::from_secs(1)..Duration::from_secs(1) + SLACK;
        assert!(times.contains(&after), "{after:?} {packets:?}");
    };
    let left = async {
        let began_at = Instant::now();
        let (mut io, _) = Io::session(server.edge, "left").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        io.say("41").await;
        assert_eq!(io.closed().await, (1008, "connect_timeout".into()));
        assert!(began_at.elapsed() >= Duration::from_millis(1500));
    };
    let stays = async {
        let (mut io, _) = Io::session(server.edge, "stays").await;
        tokio::time::sleep(Duration::from_millis(1600)).await;
        io.lives().await;
        // Without the other, the last one has not been left.
        io.say_at_once(&["41", &shows("", &token("stays"))]).await;
        io.connected("").await;
        tokio::time::sleep(Duration::from_millis(1600)).await;
        io.say("3").await;
        io.lives().await;
    };
    tokio::join!(
        ends(vec![]),
        ends(vec!["40".into(), r#"40{"token":"x"}"#.into()]),
        ends(vec!["40/unknown,".into(), "3".into(), "6".into()]),
        left,
        stays,
    );
    assert_eq!(server.ends("connect_timeout").await, 4);
    all_gone(server.admin).await;
}

#[tokio::test]
async fn a_token_that_ends_closes_the_connection_and_another_one_prolongs_it() {
    let server = started(&[ADMIN]).await;
    let short = |user: &str| sign(&json!({"sub": user, "exp": in_s(-3)}));
    let mut left_alone = Io::open(server.edge).await;
    left_alone.say(&shows("", &short("bob"))).await;
    left_alone.connected("").await;
    // The warning comes in the first namespace that is there.
    let mut renewed = Io::open(server.edge).await;
    renewed.say(&shows("/admin,", &short("alice"))).await;
    renewed.connected("/admin,").await;
    let warning = renewed.hear_json("42/admin,").await;
    assert_eq!(warning[0], "presence:expiring");
    assert!(
        matches!(warning[1]["expiresIn"].as_u64(), Some(0..=2)),
        "{warning}"
    );
    let shown = |id: &str, token: &str| format!(r#"42/admin,{id}["presence:token","{token}"]"#);
    renewed.say(&shown("3", "x")).await;
    let answer = renewed.hear_json("43/admin,3").await;
    assert_eq!(
        answer[0]["token"]["error"]["code"], "token_invalid",
        "{answer}"
    );
    renewed.say(r#"42/admin,4["presence:token"]"#).await;
    let answer = renewed.hear_json("43/admin,4").await;
    assert_eq!(
        answer[0]["token"]["error"]["code"], "token_invalid",
        "{answer}"
    );
    renewed.say(&shown("5", &token("alice"))).await;
    let answer = renewed.hear_json("43/admin,5").await;
    let expires_in = answer[0]["token"]["expiresIn"].as_u64();
    assert!(matches!(expires_in, Some(600..=605)), "{answer}");

    assert_eq!(left_alone.hear_json("42").await[0], "presence:expiring");
    // Without `41`: its client comes back and shows another token.
    assert_eq!(left_alone.closed().await, (4401, "token_expired".into()));
    renewed.say(r#"42/admin,1["presence:pull","alice"]"#).await;
    renewed.hear_json("43/admin,1").await;
    // Without an id there is no answer.
    renewed.say(&shown("", &token("alice"))).await;
    renewed.say(&shown("9", &token("mallory"))).await;
    assert_eq!(renewed.closed().await, (1008, "other_user".into()));
    all_gone(server.admin).await;
}

#[tokio::test]
async fn ends_that_are_final_are_told_in_each_namespace() {
    let server = started(&[ADMIN, "--max-sessions-per-user=1"]).await;
    let (mut first, _) = Io::session(server.edge, "alice").await;
    first.say("40/admin,").await;
    first.connected("/admin,").await;
    let (mut second, _) = Io::session(server.edge, "alice").await;
    assert_eq!(first.hear().await, "41");
    assert_eq!(first.hear().await, "41/admin,");
    assert_eq!(first.closed().await, (4409, "replaced".into()));
    second.lives().await;

    let revoke = json!({"sub": "alice"}).to_string();
    let head =
        "POST /v1/revocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let mut admin = Raw::connect(server.admin).await;
    let length = revoke.len();
    admin
        .send(format!("{head}Content-Length: {length}\r\n\r\n{revoke}"))
        .await;
    let answer = admin.response().await;
    assert!([200, 202].contains(&answer.status), "{answer:?}");
    assert_eq!(second.hear().await, "41");
    assert_eq!(second.closed().await, (4401, "token_revoked".into()));
    let mut third = Io::open(server.edge).await;
    let mut old = claims("alice");
    old["iat"] = in_s(-100).into();
    third.say(&shows("", &sign(&old))).await;
    assert_eq!(
        third.hear().await,
        refused("", "the token is not valid", "token_invalid")
    );
    drop(third);
    all_gone(server.admin).await;
}

#[tokio::test]
async fn a_client_ends_its_session_at_once() {
    let server = started(&["--max-message=1KiB"]).await;
    // With a packet.
    let (mut io, _) = Io::session(server.edge, "alice").await;
    io.say("1").await;
    assert_eq!(io.raw.any_frame().await, None);
    // In its own words, and with frames behind them, as python-socketio does.
    let (mut io, _) = Io::session(server.edge, "alice").await;
    let close = frame(CLOSE, b"\x03\xe8");
    let behind = [frame(TEXT, b"41"), frame(TEXT, b"1"), frame(TEXT, b"2")].concat();
    io.raw.send([close, behind].concat()).await;
    let echo = io.raw.any_frame().await.unwrap();
    assert_eq!(
        (echo.first, &*echo.payload),
        (CLOSE, &b"\x03\xe8closed"[..])
    );
    assert_eq!(io.raw.any_frame().await, None);
    // As JavaScript's client does.
    let (mut io, _) = Io::session(server.edge, "alice").await;
    io.raw
        .send([frame(TEXT, b"41"), frame(CLOSE, b"")].concat())
        .await;
    assert_eq!(io.raw.any_frame().await.unwrap().first, CLOSE);
    until("all three are counted", PATIENCE, async || {
        server.ends("closed").await == 3
    })
    .await;
    // With a message that is too long.
    let (mut io, _) = Io::session(server.edge, "alice").await;
    io.say(&format!("42[\"{}\"]", "x".repeat(1024))).await;
    assert_eq!(io.closed().await, (1009, "too_big".into()));
    // By a reset, at any point.
    for step in 0..4 {
        let mut raw = Raw::connect(server.edge).await;
        raw.send(super::shake(QUERY, &[])).await;
        if step > 0 {
            raw.response().await;
        }
        if step > 1 {
            raw.send(frame(TEXT, shows("", &token("alice")).as_bytes()))
                .await;
        }
        if step > 2 {
            raw.send(frame(TEXT, b"420[\"presence:pull\",\"alice\"]"))
                .await;
        }
        raw.reset();
    }
    all_gone(server.admin).await;
}
