//! Who gets in and who does not: each refusal with its status, headers and error code.

use std::time::Duration;

use presenced::limits::{HANDSHAKE_TIMEOUT, HEAD_BYTES_MAX, HEADERS_MAX, TOKEN_BYTES_MAX};
use presenced_jwt::{Algorithm, Header};
use presenced_testkit::client::Client;
use presenced_testkit::memcached::Memcached;
use presenced_testkit::raw::{
    ACCEPT, KEY, PING, PONG, Raw, Response, TEXT, frame, get, handshake, request, send, upgrade,
    upgrade_with,
};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::{
    STRICT, base64url, claims, in_s, sign, sign_bytes, strict_claims, strict_header, strict_with,
    token,
};
use presenced_testkit::{PATIENCE, until};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

fn with(name: &str, value: Value) -> String {
    strict_with("alice", name, value)
}

fn header(change: impl FnOnce(&mut Header)) -> String {
    strict_header("alice", change)
}

fn refused(response: &Response, status: u16, code: &str, what: &str) {
    assert_eq!(response.status, status, "{what}: {response:?}");
    assert_eq!(response.error_code(), code, "{what}: {response:?}");
    let cached = response.header("cache-control");
    assert_eq!(cached, Some("no-store"), "{what}: {response:?}");
    let accept = response.header("sec-websocket-accept");
    assert_eq!(accept, None, "{what}: {response:?}");
}

#[tokio::test]
async fn tokens_that_are_not_good_are_401_everywhere() {
    // Elsewhere a handshake without a token is accepted: its token comes as a message.
    let server = TestServer::start(&[STRICT, &["--refuse-with=http"]].concat()).await;
    let good = sign(&strict_claims("alice"));
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let none = |alg: &str| {
        format!(
            "{}.{body}.",
            base64url(format!(r#"{{"alg":"{alg}"}}"#).as_bytes())
        )
    };
    let (invalid, expired) = ("token_invalid", "token_expired");
    let tokens = [
        ("no JWT", "secret".into(), invalid),
        ("bytes of no base64", "a!.b!.c!".into(), invalid),
        ("five parts", "a.b.c.d.e".into(), invalid),
        (
            "another's signature",
            format!("{head}.{body}.{}", base64url(&[7; 32])),
            invalid,
        ),
        ("no signature", format!("{head}.{body}."), invalid),
        (
            "a changed body",
            format!("{head}.{}.{signature}", base64url(br#"{"sub":"root"}"#)),
            invalid,
        ),
        ("alg none", none("none"), invalid),
        ("alg nOnE", none("nOnE"), invalid),
        (
            "HS384",
            header(|header| header.alg = Algorithm::HS384),
            invalid,
        ),
        (
            "HS512",
            header(|header| header.alg = Algorithm::HS512),
            invalid,
        ),
        (
            "RS256 in name",
            format!(
                "{}.{body}.{signature}",
                base64url(br#"{"alg":"RS256","typ":"JWT"}"#)
            ),
            invalid,
        ),
        (
            "unknown crit",
            header(|header| header.crit = Some(vec!["x-must".into()])),
            invalid,
        ),
        (
            "typ of something else",
            header(|header| header.typ = Some("secevent+jwt".into())),
            invalid,
        ),
        (
            "too long",
            with("pad", "x".repeat(TOKEN_BYTES_MAX).into()),
            invalid,
        ),
        ("no exp", with("exp", Value::Null), invalid),
        ("exp in words", with("exp", "tomorrow".into()), invalid),
        ("expired", with("exp", in_s(-60).into()), expired),
        ("exp too far", with("exp", in_s(2 * 3600).into()), invalid),
        (
            "exp in the year 9999",
            with("exp", 253_402_300_799u64.into()),
            invalid,
        ),
        ("not before later", with("nbf", in_s(60).into()), invalid),
        ("no iss", with("iss", Value::Null), invalid),
        (
            "another iss",
            with("iss", "https://id.example.evil".into()),
            invalid,
        ),
        ("a number for iss", with("iss", 1.into()), invalid),
        ("no aud", with("aud", Value::Null), invalid),
        ("another aud", with("aud", "other".into()), invalid),
        ("no sub", with("sub", Value::Null), invalid),
        ("a list for sub", with("sub", json!(["alice"])), invalid),
        ("a fraction for sub", with("sub", json!(1.5)), invalid),
    ];
    for (what, token, code) in &tokens {
        let response = handshake(server.edge, &upgrade_with(token)).await;
        refused(&response, 401, code, what);
        let challenge = response.header("www-authenticate");
        assert_eq!(challenge, Some(r#"Bearer error="invalid_token""#), "{what}");
        // One answer for all causes: who tries learns nothing.
        let headers = [("Authorization", format!("Bearer {token}"))];
        let pull = send(server.edge, "GET", "/v1/presence?user=1", &headers, "").await;
        refused(&pull, 401, code, what);
    }
    assert_eq!(
        server.handshakes(invalid).await,
        2 * (tokens.len() as u64 - 1)
    );
    assert_eq!(server.handshakes(expired).await, 2);

    for (what, headers) in [
        ("no token", upgrade()),
        ("a scheme and no more", upgrade_with("")),
        (
            "another scheme",
            [upgrade(), vec![("Authorization", "Basic YTpi".into())]].concat(),
        ),
    ] {
        let response = handshake(server.edge, &headers).await;
        refused(&response, 401, "token_missing", what);
        assert_eq!(
            response.header("www-authenticate"),
            Some("Bearer"),
            "{what}"
        );
    }
    assert_eq!(server.metric("sessions").await, 0);

    for (what, token) in [
        ("good", good.clone()),
        (
            "an audience among others",
            with("aud", json!(["x", "presence"])),
        ),
        ("expired within the leeway", with("exp", in_s(-2).into())),
        ("not before within the leeway", with("nbf", in_s(2).into())),
        (
            "typ of an access token",
            header(|header| header.typ = Some("at+jwt".into())),
        ),
        (
            "kid, jku and x5u that no one looks at",
            header(|header| {
                header.kid = Some("../../etc/passwd".into());
                header.jku = Some("http://127.0.0.1:1/keys".into());
                header.x5u = Some("http://127.0.0.1:1/cert".into());
            }),
        ),
    ] {
        let response = handshake(server.edge, &upgrade_with(&token)).await;
        assert_eq!(response.status, 101, "{what}: {response:?}");
    }
}

#[tokio::test]
async fn user_ids_that_no_key_can_have_are_403() {
    let server = TestServer::start(&[]).await;
    let exp = in_s(60);
    let not_utf8 = [
        format!(r#"{{"exp":{exp},"sub":""#).as_bytes(),
        b"a\xff\xfe\"}",
    ]
    .concat();
    let named = |id: &str| sign(&claims(id));
    for (what, token) in [
        ("empty", named("")),
        ("a space", named("a b")),
        ("a command", named("u1\r\nflush_all")),
        ("a line feed", named("a\n")),
        ("NUL", named("a\0b")),
        ("DEL", named("a\x7f")),
        ("201 bytes", named(&"x".repeat(201))),
        (
            "201 bytes in fewer letters",
            named(&format!("{}x", "ä".repeat(100))),
        ),
    ] {
        let response = handshake(server.edge, &upgrade_with(&token)).await;
        refused(&response, 403, "user_id_not_allowed", what);
    }
    assert_eq!(server.handshakes("user_id_not_allowed").await, 8);
    // What is not UTF-8 names nobody.
    let not_utf8 = sign_bytes(br#"{"alg":"HS256"}"#, &not_utf8);
    let response = handshake(server.edge, &upgrade_with(&not_utf8)).await;
    refused(&response, 401, "token_invalid", "not UTF-8");
    let reason = r#"handshakes_total{result="token_invalid",reason="claims_json"}"#;
    assert_eq!(server.metric(reason).await, 1);
    for id in ["x", &"x".repeat(200), "Jürgen", "a:b@c.d/e{}\"'"] {
        let response = handshake(server.edge, &upgrade_with(&named(id))).await;
        assert_eq!(response.status, 101, "{id}: {response:?}");
    }
}

#[tokio::test]
async fn the_users_claim_may_be_another_and_a_number() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &["--user-claim=uid"]).await;
    let connect = async |claims: Value| {
        let headers = upgrade_with(&sign(&claims));
        let mut raw = Raw::connect(server.edge).await;
        raw.send(request("GET", "/ws", &headers, "")).await;
        (raw.response().await.status, raw)
    };
    let exp = in_s(60);
    let (status, _number) =
        connect(json!({"exp": exp, "uid": 9_007_199_254_740_993u64, "sub": 7})).await;
    assert_eq!(status, 101);
    let (status, _text) = connect(json!({"exp": exp, "uid": "Jürgen"})).await;
    assert_eq!(status, 101);
    assert_eq!(connect(json!({"exp": exp, "sub": "alice"})).await.0, 401);
    until("both have their entries", PATIENCE, async || {
        memcached.ask("mg user:9007199254740993:online").await == "HD"
            && memcached.ask("mg user:Jürgen:online").await == "HD"
    })
    .await;
    // And what the server's own probe left there: its sentinel and the marker.
    assert_eq!(memcached.stat("curr_items").await, 4);
}

#[tokio::test]
async fn what_is_not_a_handshake_of_rfc_6455_is_refused() {
    let server = TestServer::start(&[]).await;
    let good = || upgrade_with(&token("alice"));
    let without = |name: &str| {
        let mut headers = good();
        headers.retain(|(other, _)| *other != name);
        headers
    };
    let and = |name: &'static str, value: &str| [good(), vec![(name, value.into())]].concat();
    let instead =
        |name: &'static str, value: &str| [without(name), vec![(name, value.into())]].concat();
    let (key, version) = ("Sec-WebSocket-Key", "Sec-WebSocket-Version");
    for (what, headers, status, code) in [
        ("no upgrade", without("Upgrade"), 426, "upgrade_required"),
        (
            "another upgrade",
            instead("Upgrade", "h2c"),
            426,
            "upgrade_required",
        ),
        (
            "an old version",
            instead(version, "8"),
            426,
            "websocket_version",
        ),
        (
            "a later version",
            instead(version, "14"),
            426,
            "websocket_version",
        ),
        ("no version", without(version), 400, "bad_request"),
        ("two versions", and(version, "13"), 400, "bad_request"),
        (
            "no connection upgrade",
            instead("Connection", "keep-alive"),
            400,
            "bad_request",
        ),
        ("no key", without(key), 400, "bad_request"),
        ("two keys", and(key, KEY), 400, "bad_request"),
        ("a short key", instead(key, "c2hvcnQ="), 400, "bad_request"),
        (
            "a long key",
            instead(key, "MDEyMzQ1Njc4OWFiY2RlZmc="),
            400,
            "bad_request",
        ),
        (
            "a key of no base64",
            instead(key, "!!!!!!!!!!!!!!!!!!!!!!=="),
            400,
            "bad_request",
        ),
        ("a body", and("Content-Length", "3"), 400, "bad_request"),
        ("two hosts", and("Host", "other"), 400, "bad_request"),
    ] {
        let response = handshake(server.edge, &headers).await;
        refused(&response, status, code, what);
        if status == 426 {
            assert_eq!(response.header("upgrade"), Some("websocket"), "{what}");
            assert_eq!(
                response.header("sec-websocket-version"),
                Some("13"),
                "{what}"
            );
        }
    }
    let old = format!(
        "GET /ws HTTP/1.0\r\nHost: x\r\n{}\r\n",
        good()
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect::<String>()
    );
    let mut raw = Raw::connect(server.edge).await;
    raw.send(old).await;
    assert_eq!(raw.response().await.status, 400);

    for method in ["POST", "PUT", "OPTIONS", "DELETE"] {
        let response = send(server.edge, method, "/ws", &good(), "").await;
        assert_eq!(response.status, 405, "{method}: {response:?}");
        assert_eq!(response.header("allow"), Some("GET"), "{method}");
    }
    let plain = get(server.edge, "/ws").await;
    refused(&plain, 426, "upgrade_required", "a browser's address bar");
    refused(
        &get(server.edge, "/demo/demo.js").await,
        404,
        "not_found",
        "the demo page with a key",
    );
    refused(
        &get(server.edge, "/dev/token?user=1").await,
        404,
        "not_found",
        "tokens with a key",
    );
    assert_eq!(server.metric("sessions").await, 0);

    // Words in any case and order are as good, and what was offered is not accepted.
    let mut headers = instead("Connection", "keep-alive, uPGRADE");
    headers.retain(|(name, _)| *name != "Upgrade");
    headers.push(("Upgrade", "foo, WebSocket".into()));
    headers.push((
        "Sec-WebSocket-Extensions",
        "permessage-deflate; client_max_window_bits".into(),
    ));
    headers.push(("Sec-WebSocket-Protocol", "chat, other".into()));
    let response = handshake(server.edge, &headers).await;
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(response.header("sec-websocket-extensions"), None);
    assert_eq!(response.header("sec-websocket-protocol"), None);
}

#[tokio::test]
async fn pages_of_other_origins_are_403() {
    let origin = |origin: &str| {
        let headers = vec![("Origin", origin.to_owned())];
        [upgrade_with(&token("alice")), headers].concat()
    };
    let named = TestServer::start(&[
        "--allow-origin=https://app.example",
        "--allow-origin=http://localhost:3000",
    ])
    .await;
    let own = TestServer::start(&[]).await;
    let allowed = [
        (&named, "https://app.example"),
        (&named, "http://localhost:3000"),
        // What the tests' Host header says.
        (&own, "http://edge.test"),
        (&own, "https://edge.test"),
    ];
    for (server, name) in allowed {
        let response = handshake(server.edge, &origin(name)).await;
        assert_eq!(response.status, 101, "{name}: {response:?}");
    }
    let others = [
        (&named, "https://app.example.evil"),
        (&named, "http://app.example"),
        (&named, "http://edge.test"),
        (&named, "null"),
        (&own, "https://app.example"),
        (&own, "http://edge.test:81"),
        (&own, "null"),
    ];
    for (server, name) in others {
        let response = handshake(server.edge, &origin(name)).await;
        refused(&response, 403, "origin_not_allowed", name);
    }
    let two = [
        origin("https://app.example"),
        vec![("Origin", "https://app.example".into())],
    ];
    refused(
        &handshake(named.edge, &two.concat()).await,
        403,
        "origin_not_allowed",
        "two",
    );
    assert_eq!(named.handshakes("origin_not_allowed").await, 5);
}

#[tokio::test]
async fn a_full_server_is_503_until_there_is_room() {
    let server = TestServer::start(&["--max-sessions=1"]).await;
    let first = Client::connect(server.edge, "1").await;
    let response = handshake(server.edge, &upgrade_with(&token("2"))).await;
    refused(&response, 503, "too_many_sessions", "the second");
    let seconds: u32 = response.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 0);
    // A bad token is told so: it would not help to come again.
    let response = handshake(server.edge, &upgrade_with("bad")).await;
    refused(&response, 401, "token_invalid", "a bad token");
    assert_eq!(server.handshakes("too_many_sessions").await, 1);

    first.close().await;
    until("there is room", PATIENCE, async || {
        let response = handshake(server.edge, &upgrade_with(&token("2"))).await;
        response.status == 101
    })
    .await;
}

#[tokio::test]
async fn a_head_over_the_limits_is_closed_and_counted() {
    let server = TestServer::start(&[]).await;
    let mut pad = upgrade_with(&token("alice"));
    pad.push(("X-Pad", "x".repeat(HEAD_BYTES_MAX / 2)));
    let response = handshake(server.edge, &pad).await;
    assert_eq!(
        response.status, 101,
        "half of the limit is fine: {response:?}"
    );

    let long = [
        upgrade_with(&token("alice")),
        vec![("X-Pad", "x".repeat(HEAD_BYTES_MAX))],
    ]
    .concat();
    let many: Vec<_> = (0..=HEADERS_MAX)
        .map(|_| ("X-More", "x".to_owned()))
        .collect();
    let many = [upgrade_with(&token("alice")), many].concat();
    for (counted, head) in [
        request("GET", "/ws", &long, ""),
        request("GET", "/ws", &many, ""),
        // Never ends.
        format!(
            "GET /ws HTTP/1.1\r\nHost: {}",
            "x".repeat(3 * HEAD_BYTES_MAX)
        ),
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03 TLS to a port without it\r\n\r\n".into(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = Raw::connect(server.edge).await;
        raw.try_send(head).await;
        raw.hung_up().await;
        until("counted", PATIENCE, async || {
            server.handshakes("head").await == counted as u64 + 1
        })
        .await;
    }
    assert_eq!(server.metric("sessions").await, 0);
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_closed_and_counted() {
    let server = TestServer::start(&[]).await;
    let start = Instant::now();
    let mut silent = Raw::connect(server.edge).await;
    let mut slow = Raw::connect(server.edge).await;
    slow.send("GET /ws HTTP/1.1\r\n").await;
    let dribble = async {
        // A header now and then does not move the deadline.
        while start.elapsed() < HANDSHAKE_TIMEOUT - Duration::from_secs(1) {
            slow.try_send("X-More: x\r\n").await;
            sleep(Duration::from_millis(500)).await;
        }
        slow.hung_up().await;
    };
    tokio::join!(dribble, silent.hung_up());
    let taken = start.elapsed();
    assert!(taken >= HANDSHAKE_TIMEOUT, "{taken:?}");
    until("counted", PATIENCE, async || {
        server.handshakes("request_timeout").await == 2
    })
    .await;
}

#[tokio::test]
async fn tokens_in_the_query_are_looked_at_only_where_that_is_allowed() {
    let path = format!("/ws?x=1&token={}", token("alice"));
    let strict = TestServer::start(&[]).await;
    let response = send(strict.edge, "GET", &path, &upgrade(), "").await;
    refused(&response, 401, "token_missing", "not allowed");
    let pull = format!("/v1/presence?user=1&token={}", token("alice"));
    refused(
        &get(strict.edge, &pull).await,
        401,
        "token_missing",
        "not allowed",
    );

    let open = TestServer::start(&["--allow-query-token"]).await;
    let response = send(open.edge, "GET", &path, &upgrade(), "").await;
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(get(open.edge, &pull).await.status, 200);
    let bad = send(open.edge, "GET", "/ws?token=bad", &upgrade(), "").await;
    refused(&bad, 401, "token_invalid", "a bad one");
    // A header comes first, even if it is worse.
    let both = send(open.edge, "GET", &path, &upgrade_with("bad"), "").await;
    refused(&both, 401, "token_invalid", "a bad one in the header");
}

#[tokio::test]
async fn two_tokens_in_one_place_are_refused_and_counted() {
    let server = TestServer::start(&["--allow-query-token"]).await;
    let good = token("alice");
    let bearer = ("Authorization", format!("Bearer {good}"));
    let basic = ("Authorization", "Basic dTpw".to_owned());
    let protocols = (
        "Sec-WebSocket-Protocol",
        format!("presence.v1, bearer.{good}"),
    );
    let twice = format!("token={good}&token={good}");
    let cases = [
        ("authorization", "x=1", vec![bearer.clone(), bearer.clone()]),
        ("authorization", "x=1", vec![basic, bearer]),
        ("tokens", "x=1", vec![protocols.clone(), protocols]),
        ("tokens", &twice, vec![]),
    ];
    for (reason, query, headers) in &cases {
        let counted = format!(r#"handshakes_total{{result="bad_request",reason="{reason}"}}"#);
        let before = server.metric(&counted).await;
        let upgrade = [upgrade(), headers.clone()].concat();
        let response = send(server.edge, "GET", &format!("/ws?{query}"), &upgrade, "").await;
        refused(&response, 400, "bad_request", reason);
        let path = format!("/v1/presence?user=1&{query}");
        let response = send(server.edge, "GET", &path, headers, "").await;
        refused(&response, 400, "bad_request", reason);
        assert_eq!(server.metric(&counted).await, before + 2, "{reason}");
    }
    // A handshake has one key, too.
    let key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==".to_owned());
    let two_keys = [upgrade_with(&good), vec![key]].concat();
    let response = handshake(server.edge, &two_keys).await;
    refused(&response, 400, "bad_request", "two keys");
}

#[tokio::test]
async fn a_token_among_the_subprotocols_is_never_answered() {
    let server = TestServer::start(&[]).await;
    let good = token("alice");
    let offer = |offered: &str| {
        let offered = vec![("Sec-WebSocket-Protocol", offered.to_owned())];
        [upgrade(), offered].concat()
    };
    let response = handshake(server.edge, &offer(&format!("presence.v1, bearer.{good}"))).await;
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(
        response.header("sec-websocket-protocol"),
        Some("presence.v1")
    );
    assert!(!response.head.contains(&good), "{response:?}");

    // The token alone lets in, but nothing that was offered can be spoken.
    let response = handshake(server.edge, &offer(&format!("bearer.{good}"))).await;
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(response.header("sec-websocket-protocol"), None);

    let response = handshake(server.edge, &offer("bearer.bad.to.ken")).await;
    refused(&response, 401, "token_invalid", "a bad one");

    // As a browser's library would have it.
    let offered = format!("presence.v1, bearer.{good}");
    let headers = [("sec-websocket-protocol", offered.as_str())];
    let (mut client, response) = Client::try_connect(server.edge, "/ws", &headers)
        .await
        .unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "presence.v1");
    assert!(client.pull(&["alice"]).await["online"]["alice"].is_object());
}

#[tokio::test]
async fn what_proxies_add_to_a_handshake_does_not_matter() {
    let server = TestServer::start(&[]).await;
    let offered = format!("presence.v1, bearer.{}", token("alice"));
    let in_subprotocol = [upgrade(), vec![("Sec-WebSocket-Protocol", offered)]].concat();
    let basic = ("Authorization", "Basic c3RhZ2luZzpzZWNyZXQ=".to_string());
    let no_body = ("Content-Length", "0".to_string());
    for added in [
        vec![no_body.clone()],
        vec![basic.clone()],
        vec![basic, no_body],
    ] {
        let headers = [in_subprotocol.clone(), added].concat();
        let mut raw = Raw::connect(server.edge).await;
        raw.send(request("GET", "/ws", &headers, "")).await;
        let response = raw.response().await;
        assert_eq!(response.status, 101, "{headers:?}: {response:?}");
        // What comes next is frames, whatever the length said.
        raw.send(frame(PING, b"?")).await;
        let pong = raw.frame().await.unwrap();
        assert_eq!((pong.first, &pong.payload[..]), (PONG, &b"?"[..]));
    }
    let pull = [
        ("Authorization", "Basic c3RhZ2luZzpzZWNyZXQ=".to_string()),
        ("Authorization", format!("Bearer {}", token("alice"))),
    ];
    // Whose it is would be anyone's guess.
    let pulled = send(server.edge, "GET", "/v1/presence?user=bob", &pull, "").await;
    refused(&pulled, 400, "bad_request", "two Authorization headers");
}

#[tokio::test]
async fn frames_right_behind_the_handshake_are_handled() {
    let server = TestServer::start(&[]).await;
    let handshake = request("GET", "/ws", &upgrade_with(&token("alice")), "");
    let pull = frame(TEXT, br#"{"pull":5,"users":["alice","bob"]}"#);
    // Whole frames, and a frame cut off at each place.
    for cut in [pull.len(), 1, 2, 5, pull.len() - 1] {
        let mut raw = Raw::connect(server.edge).await;
        let (now, later) = pull.split_at(cut);
        raw.send([handshake.as_bytes(), &frame(PONG, b""), now].concat())
            .await;
        let response = raw.response().await;
        assert_eq!(response.status, 101, "{response:?}");
        raw.send(later).await;
        let answer = raw.json().await;
        assert_eq!(answer["pull"], 5, "cut at {cut}");
        assert!(answer["online"]["alice"].is_object(), "{answer}");
    }
    // What is wrong there ends the session as anywhere.
    let mut raw = Raw::connect(server.edge).await;
    raw.send([handshake.as_bytes(), b"\x81\x05hello"].concat())
        .await;
    assert_eq!(raw.response().await.status, 101);
    assert_eq!(raw.close_code().await, 1002);
}

#[tokio::test]
async fn a_connection_may_ask_before_it_becomes_a_session() {
    let server = TestServer::start(&[]).await;
    let bearer = [("Authorization", format!("Bearer {}", token("alice")))];
    let pull = request("GET", "/v1/presence?user=bob", &bearer, "");
    let accepted = request("GET", "/ws", &upgrade_with(&token("alice")), "");
    let behind = frame(TEXT, br#"{"pull":5,"users":["alice"]}"#);
    // One after the other, then all in one write.
    for at_once in [false, true] {
        let mut raw = Raw::connect(server.edge).await;
        if at_once {
            let all = [pull.as_bytes(), accepted.as_bytes(), &behind];
            raw.send(all.concat()).await;
        }
        for (bytes, status) in [(&pull, 200), (&accepted, 101)] {
            if !at_once {
                raw.send(bytes).await;
            }
            let response = raw.response().await;
            assert_eq!(response.status, status, "{response:?}");
        }
        if !at_once {
            raw.send(&behind).await;
        }
        assert!(raw.json().await["online"]["alice"].is_object());
    }
}

#[tokio::test]
async fn who_is_refused_loses_the_connection() {
    let server = TestServer::start(&[]).await;
    let bearer = [("Authorization", format!("Bearer {}", token("alice")))];
    let pull = request("GET", "/v1/presence?user=bob", &bearer, "");
    let refused = [
        (404, request("GET", "/no/such/path", &bearer, "")),
        (401, request("GET", "/v1/presence?user=bob", &[], "")),
        (401, request("GET", "/ws", &upgrade_with("bad"), "")),
        (405, request("DELETE", "/v1/presence", &bearer, "")),
        (400, request("POST", "/v1/presence", &bearer, "no JSON")),
        (426, request("GET", "/ws", &[], "")),
    ];
    for (status, bytes) in &refused {
        let mut raw = Raw::connect(server.edge).await;
        // A good answer keeps the connection.
        for _ in 0..2 {
            raw.send(&pull).await;
            let response = raw.response().await;
            assert_eq!(response.status, 200, "{response:?}");
            assert_eq!(response.header("connection"), None, "{response:?}");
        }
        raw.send(bytes).await;
        let response = raw.response().await;
        assert_eq!(response.status, *status, "{response:?}");
        let connection = response.header("connection").expect("it says so");
        let mut words = connection.split(',').map(str::trim);
        assert!(words.any(|word| word == "close"), "{response:?}");
        // RFC 9110 §15.5.22: what to upgrade to is named, and is a hop's own affair.
        let upgrade = connection.contains("upgrade");
        assert_eq!(upgrade, *status == 426, "{response:?}");
        // The server's end, long before that of an idle connection.
        raw.hung_up().await;
    }
}

#[tokio::test]
async fn who_hangs_up_in_the_middle_leaves_nothing_behind() {
    let server = TestServer::start(&["--max-sessions=100"]).await;
    let whole = request("GET", "/ws", &upgrade_with(&token("alice")), "");
    for number in 0..300 {
        let mut raw = Raw::connect(server.edge).await;
        // At the end, or anywhere in the head.
        let sent = if number % 3 == 0 { number } else { whole.len() };
        raw.try_send(&whole[..sent.min(whole.len())]).await;
        match number % 3 {
            0 => {}
            1 => raw.reset(),
            // Only here is it sure that there was a session.
            _ => drop(raw.response().await),
        }
    }
    until("all seats are free", PATIENCE, async || {
        server.metric("sessions").await == 0 && server.metric("users").await == 0
    })
    .await;
    assert!(server.metric("handshakes_total{result=\"ok\"}").await > 0);
    let mut all = Vec::new();
    for number in 0..100 {
        all.push(Raw::session(server.edge, &format!("u{number}")).await);
    }
}
