//! Clients that have no token in their handshake and show it in their first message: what they are until then,
//! and that all rules of a handshake are theirs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use presenced::limits::{FIRST_MESSAGE_OTHER_BYTES, FIRST_MESSAGE_TIME, TOKEN_BYTES_MAX};
use presenced_testkit::balancers::Balancer;
use presenced_testkit::client::Client;
use presenced_testkit::memcached::Memcached;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{
    BINARY, CLOSE, LAST, MORE, PING, PONG, Raw, TEXT, TEXT_BEGINS, frame, get, handshake, head,
    request, send, upgrade, upgrade_with,
};
use presenced_testkit::server::{TestServer, metric};
use presenced_testkit::tokens::{claims, in_s, sign, token};
use presenced_testkit::{PATIENCE, throughout, until};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const PULL: &[u8] = br#"{"pull":1,"users":["alice"]}"#;

fn from(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

/// A handshake without a token.
fn tokenless() -> String {
    request("GET", "/ws", &upgrade(), "")
}

/// What shows a token.
fn shown(token: &str) -> String {
    json!({ "token": token }).to_string()
}

/// A connection whose token is awaited.
async fn awaited(edge: SocketAddr) -> Raw {
    let mut raw = Raw::connect(edge).await;
    raw.send(tokenless()).await;
    let response = raw.response().await;
    assert_eq!(response.status, 101, "{response:?}");
    raw
}

/// How the server closes a connection whose first message is in `bytes`.
async fn closed(edge: SocketAddr, bytes: impl AsRef<[u8]>) -> (u16, String) {
    let mut raw = awaited(edge).await;
    raw.try_send(bytes).await;
    raw.close().await
}

/// How it closes one that shows `token`.
async fn refused(edge: SocketAddr, token: &str) -> (u16, String) {
    closed(edge, frame(TEXT, shown(token).as_bytes())).await
}

/// The server says first for how long the session may go on.
fn is_accepted(said: &Value) {
    let expires_in = said["token"]["expiresIn"].as_u64();
    assert!(matches!(expires_in, Some(600..=605)), "{said}");
}

/// A session of `user` that has begun so.
async fn session(edge: SocketAddr, user: &str) -> Client {
    let (mut client, response) = Client::try_connect(edge, "/ws", &[]).await.unwrap();
    assert_eq!(response.headers().get("sec-websocket-protocol"), None);
    client.say(shown(&token(user)));
    is_accepted(&client.hear().await);
    client
}

/// A good token of so many bytes.
fn token_of(user: &str, bytes: usize) -> String {
    let mut claims = claims(user);
    claims["x"] = "".into();
    let short = sign(&claims).len();
    // Three bytes are four in base64.
    claims["x"] = "x".repeat((bytes - short) * 3 / 4).into();
    let token = sign(&claims);
    assert!(
        (bytes - 4..=bytes).contains(&token.len()),
        "{}",
        token.len()
    );
    token
}

#[tokio::test]
async fn a_user_is_online_with_the_token_and_not_before() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &["--max-sessions=2"]).await;
    let mut other = Client::connect(server.edge, "other").await;
    until("it is written", PATIENCE, async || {
        memcached.is_online("other").await
    })
    .await;
    let mut raw = awaited(server.edge).await;
    // Its frames are read, and none of them is a heartbeat of anybody.
    raw.send(frame(PONG, b"")).await;
    raw.send(frame(PING, b"hello")).await;
    let pong = raw.frame().await.unwrap();
    assert_eq!((pong.first, &*pong.payload), (PONG, &b"hello"[..]));
    let other_alone = async || {
        let pulled = other.pull(&["alice"]).await;
        server.metric("sessions").await == 1
            && server.metric("users").await == 1
            && server.handshakes("ok").await == 1
            && pulled == json!({"online": {}})
            && !memcached.is_online("alice").await
    };
    throughout(
        "there is one session",
        Duration::from_millis(700),
        other_alone,
    )
    .await;
    assert_eq!(server.metric("http_connections").await, 1);

    raw.send(frame(TEXT, shown(&token("alice")).as_bytes()))
        .await;
    is_accepted(&raw.json().await);
    until("online", PATIENCE, async || {
        memcached.is_online("alice").await
    })
    .await;
    assert!(other.pull(&["alice"]).await["online"]["alice"].is_object());
    raw.send(frame(TEXT, PULL)).await;
    assert!(raw.json().await["online"]["alice"].is_object());
    assert_eq!(server.metric("sessions").await, 2);
    assert_eq!(server.handshakes("ok").await, 2);
    assert_eq!(server.metric("http_connections").await, 0);
    raw.send(frame(CLOSE, b"\x03\xe8")).await;
    assert_eq!(raw.close().await, (1000, "closed".into()));
}

#[tokio::test]
async fn what_comes_behind_the_token_is_answered_however_it_is_cut() {
    let server = TestServer::start(&[]).await;
    let show = frame(TEXT, shown(&token("alice")).as_bytes());
    let all = [
        tokenless().as_bytes(),
        &frame(PING, b"x"),
        &show,
        &frame(TEXT, PULL),
    ]
    .concat();
    let handshake_bytes = tokenless().len();
    let cuts = [
        handshake_bytes,
        handshake_bytes + 1,
        handshake_bytes + 20,
        all.len() - 40,
        all.len() - 1,
        all.len(),
    ];
    for cut in cuts {
        let mut raw = Raw::connect(server.edge).await;
        raw.send(&all[..cut]).await;
        assert_eq!(raw.response().await.status, 101);
        raw.send(&all[cut..]).await;
        assert_eq!(raw.frame().await.unwrap().first, PONG, "{cut}");
        is_accepted(&raw.json().await);
        assert!(raw.json().await["online"]["alice"].is_object(), "{cut}");
    }
    // In fragments, with a ping between them.
    let shown = shown(&token("alice"));
    let (first, rest) = shown.as_bytes().split_at(10);
    let (second, last) = rest.split_at(10);
    let mut raw = awaited(server.edge).await;
    for bytes in [
        frame(TEXT_BEGINS, first),
        frame(MORE, second),
        frame(PING, b""),
        frame(LAST, last),
    ] {
        raw.send(bytes).await;
    }
    assert_eq!(raw.frame().await.unwrap().first, PONG);
    is_accepted(&raw.json().await);
}

#[tokio::test]
async fn who_shows_no_token_in_time_is_closed() {
    let server = TestServer::start(&["--workers=1"]).await;
    let edge = server.edge;
    let mut waiting = JoinSet::new();
    for way in 0..3 {
        waiting.spawn(async move {
            let mut raw = awaited(edge).await;
            let began = Instant::now();
            let whole = frame(TEXT, &vec![b' '; 1000]);
            let trickle = async {
                for byte in whole.chunks(1) {
                    sleep(Duration::from_millis(200)).await;
                    match way {
                        0 => {}
                        // More bytes bring no more time.
                        1 => drop(raw.try_send(byte).await),
                        _ => drop(raw.try_send(frame(PONG, b"")).await),
                    }
                }
            };
            let time = FIRST_MESSAGE_TIME - Duration::from_secs(1);
            assert!(timeout(time, trickle).await.is_err());
            assert_eq!(raw.close().await, (4401, "token_missing".into()));
            let taken = began.elapsed() + Duration::from_millis(100);
            assert!(taken >= FIRST_MESSAGE_TIME, "{taken:?}");
            assert!(taken < FIRST_MESSAGE_TIME + PATIENCE, "{taken:?}");
        });
    }
    while let Some(ended) = waiting.join_next().await {
        ended.unwrap();
    }
    assert_eq!(server.handshakes("token_missing").await, 3);
    assert_eq!(server.handshakes("ok").await, 0);
}

#[tokio::test]
async fn a_token_is_refused_as_that_of_a_handshake_is() {
    let flags = [
        "--require-scope",
        "--max-sessions=1",
        "--max-handshakes-per-second-per-user=1",
    ];
    let server = TestServer::start(&flags).await;
    let edge = server.edge;
    let scoped = |user: &str, seconds: i64| {
        sign(&json!({"sub": user, "exp": in_s(seconds), "scope": "presence:connect"}))
    };
    let good = scoped("alice", 600);
    let (head, signature) = good.rsplit_once('.').unwrap();
    for (what, token, code, reason) in [
        ("empty", String::new(), 4401, "token_invalid"),
        ("no token", "a.b.c".into(), 4401, "token_invalid"),
        ("unsigned", format!("{head}."), 4401, "token_invalid"),
        (
            "another's",
            format!("{head}.x{signature}"),
            4401,
            "token_invalid",
        ),
        ("expired", scoped("alice", -60), 4401, "token_expired"),
        ("no scope", token("alice"), 4403, "insufficient_scope"),
        (
            "no user id",
            scoped("a b", 600),
            4403,
            "user_id_not_allowed",
        ),
    ] {
        assert_eq!(refused(edge, &token).await, (code, reason.into()), "{what}");
        // It has been counted as one more by then.
        let counted = server.handshakes(reason).await;
        let headers = upgrade_with(&token);
        let over_http = handshake(edge, &headers).await;
        if !token.is_empty() {
            assert_eq!(over_http.error_code(), reason, "{what}");
            assert_eq!(server.handshakes(reason).await, counted + 1, "{what}");
        }
    }
    assert_eq!(server.refused_for("token_invalid", "signature").await, 4);
    assert_eq!(server.metric("sessions").await, 0);

    // Those who wait have no seat.
    let mut waiting = [awaited(edge).await, awaited(edge).await];
    for (raw, user) in waiting.iter_mut().zip(["alice", "bob"]) {
        raw.send(frame(TEXT, shown(&scoped(user, 600)).as_bytes()))
            .await;
    }
    let [mut alice, mut bob] = waiting;
    let (alice, bob) = tokio::join!(alice.frame(), bob.frame());
    let mut firsts = [alice.unwrap().first, bob.unwrap().first];
    firsts.sort_unstable();
    assert_eq!(firsts, [TEXT, CLOSE]);
    assert_eq!(server.handshakes("too_many_sessions").await, 1);
    // Each costs a handshake of its user's rate.
    let carol = scoped("carol", 600);
    let closes = join_all((0..15).map(|_| refused(edge, &carol))).await;
    let of_rate = (4429, "too_many_handshakes_of_user; retry=5".to_owned());
    assert!(closes.contains(&of_rate), "{closes:?}");
    assert!(
        closes.contains(&(1013, "too_many_sessions; retry=5".into())),
        "{closes:?}"
    );
}

#[tokio::test]
async fn a_user_has_no_more_sessions_for_it() {
    // On one worker, and perhaps on two.
    for workers in ["--workers=1", "--workers=2"] {
        let server = TestServer::start(&[workers, "--max-sessions-per-user=1"]).await;
        let mut first = Client::connect(server.edge, "alice").await;
        // A session is answered once it has begun, so the order is certain.
        first.pull(&["alice"]).await;
        let second = session(server.edge, "alice").await;
        assert_eq!(first.closed().await.code, Some(4409));
        let mut third = session(server.edge, "alice").await;
        assert_eq!(second.closed().await.code, Some(4409));
        assert!(third.pull(&["alice"]).await["online"]["alice"].is_object());
    }
}

#[tokio::test]
async fn a_token_that_was_revoked_meanwhile_is_refused() {
    let server = TestServer::start(&[]).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let mut raw = awaited(server.edge).await;
    let revoked = json!({"sub": "alice"}).to_string();
    let mut operator = Raw::connect(server.admin).await;
    let length = revoked.len();
    let post = format!(
        "POST /v1/revocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{revoked}"
    );
    operator.send(post).await;
    let done = operator.response().await;
    assert!([200, 202].contains(&done.status), "{done:?}");
    raw.send(frame(TEXT, shown(&token("alice")).as_bytes()))
        .await;
    assert_eq!(raw.close().await, (4401, "token_invalid".into()));
    assert_eq!(server.refused_for("token_invalid", "revoked").await, 1);
}

#[tokio::test]
async fn anything_else_than_a_token_is_refused() {
    let server = TestServer::start(&[]).await;
    let token = token("alice");
    let both = json!({"token": token, "pull": 1, "users": []}).to_string();
    let whole = shown(&token);
    let begun = frame(TEXT_BEGINS, b"{");
    let expected = (1008, "token_expected");
    let protocol = (1002, "protocol");
    let cases: [(&str, Vec<u8>, (u16, &str)); 16] = [
        ("a pull", frame(TEXT, PULL), expected),
        ("a pull with it", frame(TEXT, both.as_bytes()), expected),
        ("no JSON", frame(TEXT, token.as_bytes()), expected),
        ("a list", frame(TEXT, br#"["a"]"#), expected),
        ("a number", frame(TEXT, br#"{"token":1}"#), expected),
        ("nothing", frame(TEXT, b""), expected),
        (
            "binary",
            frame(BINARY, whole.as_bytes()),
            (1003, "unsupported_data"),
        ),
        ("no UTF-8", frame(TEXT, b"\xff"), (1007, "invalid_utf8")),
        ("not masked", vec![0x81, 1, b'x'], protocol),
        ("RSV1", frame(TEXT | 0x40, whole.as_bytes()), protocol),
        ("an unknown opcode", frame(0x83, b""), protocol),
        ("a long ping", head(PING, 126), protocol),
        ("more of nothing", frame(LAST, whole.as_bytes()), protocol),
        ("two begun", [begun.clone(), begun].concat(), protocol),
        ("a bad close", frame(CLOSE, b"\x03"), protocol),
        (
            "a close that is no text",
            frame(CLOSE, b"\x03\xe8\xff"),
            (1007, "invalid_utf8"),
        ),
    ];
    for (what, bytes, (code, reason)) in cases {
        let before = server.refused_for("first_message", reason).await;
        assert_eq!(
            closed(server.edge, bytes).await,
            (code, reason.into()),
            "{what}"
        );
        let after = server.refused_for("first_message", reason).await;
        assert_eq!(after, before + 1, "{what}");
    }
    // Who leaves is not refused.
    let refusals = server.handshakes("first_message").await;
    for (bytes, told) in [(&b"\x03\xe9bye"[..], "\u{3}\u{e9}closed"), (b"", "")] {
        let mut raw = awaited(server.edge).await;
        raw.send(frame(CLOSE, bytes)).await;
        let echo = raw.frame().await.unwrap();
        let told: Vec<u8> = told.chars().map(|c| c as u8).collect();
        assert_eq!((echo.first, echo.payload), (CLOSE, told));
        raw.hung_up().await;
    }
    drop(awaited(server.edge).await);
    assert_eq!(server.handshakes("first_message").await, refusals);
    assert_eq!(server.metric("sessions").await, 0);
}

#[tokio::test]
async fn the_longest_token_fits_and_no_more_than_it_needs_is_read() {
    let server = TestServer::start(&[]).await;
    let edge = server.edge;
    let longest = token_of("alice", TOKEN_BYTES_MAX);
    let message = shown(&longest);
    let bytes = message.as_bytes();
    let whole = frame(TEXT, bytes);
    let mut parts = vec![frame(TEXT_BEGINS, &bytes[..1])];
    parts.extend(bytes[1..].chunks(1400).map(|part| frame(MORE, part)));
    parts.push(frame(LAST, b""));
    for (what, sent) in [
        ("at once", vec![whole.clone()]),
        ("in fragments", parts),
        ("cut", whole.chunks(11).map(<[u8]>::to_vec).collect()),
    ] {
        let mut raw = awaited(edge).await;
        for bytes in sent {
            raw.send(bytes).await;
        }
        let said = raw.json().await;
        assert!(said["token"]["expiresIn"].is_u64(), "{what}: {said}");
    }
    let too_long = format!("{longest}xxxxx");
    assert_eq!(
        refused(edge, &too_long).await,
        (4401, "token_invalid".into())
    );
    assert_eq!(server.refused_for("token_invalid", "too_long").await, 1);

    // Beyond that, from the head alone; and all frames together.
    let most = TOKEN_BYTES_MAX + FIRST_MESSAGE_OTHER_BYTES;
    let too_big = (1009, "too_big".to_owned());
    assert_eq!(closed(edge, head(TEXT, most + 1)).await, too_big);
    assert_eq!(closed(edge, head(TEXT, usize::MAX >> 1)).await, too_big);
    let pongs = frame(PONG, b"").repeat(most / 6 + 1);
    assert_eq!(closed(edge, &pongs).await, too_big);
    let blanks = frame(MORE, &[b' '; 1000]).repeat(most / 1000 + 1);
    let endless = [frame(TEXT_BEGINS, b"{"), blanks].concat();
    assert_eq!(closed(edge, &endless).await, too_big);
    let tiny = [frame(TEXT_BEGINS, b"{"), frame(MORE, b"").repeat(1100)].concat();
    assert_eq!(closed(edge, &tiny).await, (1008, "rate_limited".into()));

    let short = TestServer::start(&["--max-token=1KiB"]).await;
    let most = 1024 + FIRST_MESSAGE_OTHER_BYTES;
    assert_eq!(closed(short.edge, head(TEXT, most + 1)).await, too_big);
    let over = token_of("alice", 1100);
    assert_eq!(
        refused(short.edge, &over).await,
        (4401, "token_invalid".into())
    );
    let _session = session(short.edge, "alice").await;
}

/// Opens connections without a token that say nothing, and a new one for each that is closed, for ever.
async fn say_nothing(edge: SocketAddr, from: IpAddr, count: usize) {
    let waiting = (0..count).map(async |_| {
        loop {
            let mut raw = Raw::connect_from(from, edge).await;
            raw.try_send(tokenless()).await;
            raw.hung_up().await;
        }
    });
    join_all(waiting).await;
}

/// A session that begins with its first message, from an address.
async fn session_from(from: IpAddr, edge: SocketAddr) -> Raw {
    let mut raw = Raw::connect_from(from, edge).await;
    raw.send(tokenless()).await;
    assert_eq!(raw.response().await.status, 101);
    raw.send(frame(TEXT, shown(&token("alice")).as_bytes()))
        .await;
    is_accepted(&raw.json().await);
    raw
}

#[tokio::test]
async fn who_waits_for_long_keeps_nobody_out() {
    let flags = ["--workers=1", "--serve-health", "--max-http-connections=64"];
    let process = Process::start(&flags).await;
    let (edge, admin) = (process.edge(), process.admin());
    let metric = async |name| metric(&get(admin, "/metrics").await, name);
    let mut waiting = JoinSet::new();
    for last in [2, 3] {
        // Several times as many as there are places.
        waiting.spawn(say_nothing(edge, from(last), 150));
    }
    until("all places are taken", PATIENCE, async || {
        metric("http_connections").await == 64
    })
    .await;
    let mut here = Vec::new();
    for last in [1, 4, 5].repeat(4) {
        here.push(session_from(from(last), edge).await);
        let mut probe = Raw::connect_from(from(last), edge).await;
        probe.send(request("GET", "/readyz", &[], "")).await;
        assert_eq!(probe.response().await.status, 200);
        let mut raw = Raw::connect_from(from(last), edge).await;
        raw.send(request("GET", "/ws", &upgrade_with(&token("bob")), ""))
            .await;
        assert_eq!(raw.response().await.status, 101);
        here.push(raw);
        assert!(metric("http_connections").await <= 64);
    }
    assert!(metric("http_connections_evicted_total").await > 0);
    assert!(metric("handshakes_total{result=\"server_busy\"}").await > 0);
    assert_eq!(metric("sessions").await, here.len() as u64);
}

#[tokio::test]
async fn an_address_has_a_share_of_those_that_may_wait() {
    let flags = [
        "--workers=1",
        "--max-http-connections=8",
        "--max-http-connections-per-address=2",
    ];
    let server = TestServer::start(&flags).await;
    let edge = server.edge;
    let open = async || {
        let mut raw = Raw::connect_from(from(2), edge).await;
        raw.send(tokenless()).await;
        (
            raw.try_response().await.map(|response| response.status),
            raw,
        )
    };
    let mut waiting = vec![open().await.1, open().await.1];
    // One more takes the place of the first, as soon as that has had a second.
    let (status, more) = open().await;
    assert_eq!(status, Some(101));
    let mut first = waiting.remove(0);
    assert_eq!(first.close().await, (1013, "server_busy; retry=5".into()));
    assert_eq!(server.handshakes("server_busy").await, 1);
    assert_eq!(server.metric("http_connections").await, 2);
    let _session = session_from(from(3), edge).await;
    // Those that wait still can show theirs.
    for mut raw in [waiting.remove(0), more] {
        raw.send(frame(TEXT, shown(&token("bob")).as_bytes())).await;
        is_accepted(&raw.json().await);
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_long_heads_passes_long_tokens_on_as_messages() {
    let server = TestServer::start(&[]).await;
    let edge = server.edge;
    for (name, balancer, bytes) in [
        ("nginx", Balancer::nginx(edge).await, 10 * 1024),
        ("HAProxy", Balancer::haproxy(edge).await, TOKEN_BYTES_MAX),
    ] {
        let address = balancer.address();
        let token = token_of("alice", bytes);
        let in_head = handshake(address, &upgrade_with(&token)).await;
        assert_eq!(in_head.status, 400, "{name}: {in_head:?}");
        let mut raw = awaited(address).await;
        raw.send(frame(TEXT, shown(&token).as_bytes())).await;
        is_accepted(&raw.json().await);
        raw.send(frame(TEXT, PULL)).await;
        assert!(raw.json().await["online"]["alice"].is_object(), "{name}");
    }
    // It was the proxies who refused them, and they need not.
    let longest = upgrade_with(&token_of("alice", TOKEN_BYTES_MAX));
    for balancer in [
        Balancer::nginx_for_long_heads(edge).await,
        Balancer::haproxy_for_long_heads(edge).await,
    ] {
        let in_head = handshake(balancer.address(), &longest).await;
        assert_eq!(in_head.status, 101, "{in_head:?}");
    }
}

#[tokio::test]
async fn such_a_session_is_renewed_like_any_other() {
    let server = TestServer::start(&[]).await;
    let (mut client, _) = Client::try_connect(server.edge, "/ws", &[]).await.unwrap();
    // Two seconds are left of the leeway.
    client.say(shown(&sign(&json!({"sub": "alice", "exp": in_s(-3)}))));
    let said = client.hear().await;
    assert!(
        matches!(said["token"]["expiresIn"].as_u64(), Some(0..=2)),
        "{said}"
    );
    let expiring = client.hear().await;
    assert!(
        matches!(expiring["expiring"].as_u64(), Some(0..=2)),
        "{expiring}"
    );
    client.say(shown(&token("alice")));
    is_accepted(&client.hear().await);
    sleep(Duration::from_secs(3)).await;
    assert!(client.pull(&["alice"]).await["online"]["alice"].is_object());
    client.say(shown(&token("bob")));
    assert_eq!(client.closed().await.code, Some(1008));
    assert_eq!(server.ends("other_user").await, 1);
}

#[tokio::test]
async fn who_waits_is_told_that_the_server_stops() {
    let server = TestServer::start(&["--drain=20s"]).await;
    let edge = server.edge;
    // Its session lasts for a part of the drain.
    let _sessions = [
        Client::connect(edge, "alice").await,
        Client::connect(edge, "bob").await,
        Client::connect(edge, "carol").await,
    ];
    let mut waiting = awaited(edge).await;
    let draining = tokio::spawn(server.drain());
    let told = (1012, "draining; retry=5".to_owned());
    assert_eq!(waiting.close().await, told);
    draining.abort();

    // Nobody else is there.
    let server = TestServer::start(&["--drain=20s"]).await;
    let mut waiting = awaited(server.edge).await;
    let began = session(server.edge, "alice").await;
    let (told_now, end, ()) = tokio::join!(waiting.close(), began.closed(), server.drain());
    assert_eq!(told_now, told);
    assert_eq!(end.code, Some(1012));
}

#[tokio::test]
async fn a_handshake_needs_its_token_where_refusals_are_over_http() {
    let strict = TestServer::start(&["--refuse-with=http"]).await;
    let open = TestServer::start(&[]).await;
    let page = ("Sec-WebSocket-Protocol", "presence.v1".to_owned());
    for headers in [upgrade(), [upgrade(), vec![page]].concat()] {
        let response = handshake(strict.edge, &headers).await;
        assert_eq!(response.status, 401, "{response:?}");
        assert_eq!(response.error_code(), "token_missing");
        let challenge = response.header("www-authenticate");
        assert_eq!(challenge, Some("Bearer"), "{response:?}");
        let response = handshake(open.edge, &headers).await;
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(
            response.header("sec-websocket-protocol").is_some(),
            headers.len() > 4
        );
    }
    // What is no handshake is told as ever, and who believes to have shown a token at once.
    let pull = get(open.edge, "/v1/presence?user=1").await;
    assert_eq!((pull.status, &*pull.error_code()), (401, "token_missing"));
    assert_eq!(get(open.edge, "/ws").await.status, 426);
    let path = format!("/ws?token={}", token("alice"));
    let response = send(open.edge, "GET", &path, &upgrade(), "").await;
    assert_eq!(
        (response.status, &*response.error_code()),
        (401, "token_missing")
    );
    let mut of_page = upgrade();
    of_page.push(("Origin", "http://evil.test".into()));
    assert_eq!(handshake(open.edge, &of_page).await.status, 403);
}
