//! Handshakes that are refused where a page would see it: the close code, the reason, and who gets
//! them. The rest of the refusals is in `handshake`.

use std::time::Duration;

use presenced::limits::REFUSED_SESSIONS_MAX;
use presenced_session::limits::CLOSE_TIMEOUT;
use presenced_testkit::client::Client;
use presenced_testkit::raw::{CLOSE, Raw, Response, TEXT, frame, request, upgrade};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::{claims, in_s, sign, token};
use presenced_testkit::{PATIENCE, until};
use tokio::time::{Instant, sleep};

/// A handshake as the browser of a page on the server's own host sends it, with these subprotocols.
fn of_page(offered: &str) -> Vec<(&'static str, String)> {
    let page = vec![
        ("Origin", "http://edge.test".to_owned()),
        ("Sec-WebSocket-Protocol", offered.to_owned()),
    ];
    [upgrade(), page].concat()
}

/// What is offered with a token.
fn with(token: &str) -> String {
    format!("presence.v1, bearer.{token}")
}

async fn shake(server: &TestServer, headers: &[(&str, String)]) -> (Response, Raw) {
    let mut raw = Raw::connect(server.edge).await;
    raw.send(request("GET", "/ws", headers, "")).await;
    (raw.response().await, raw)
}

/// The code and reason with which a page's handshake is refused.
async fn closed(server: &TestServer, headers: &[(&str, String)]) -> (u16, String) {
    let (response, mut raw) = shake(server, headers).await;
    assert_eq!(response.status, 101, "{response:?}");
    let spoken = response.header("sec-websocket-protocol");
    assert_eq!(spoken, Some("presence.v1"), "{response:?}");
    raw.close().await
}

/// The status and code with which a handshake is refused over HTTP.
async fn refused(server: &TestServer, headers: &[(&str, String)]) -> (u16, String) {
    let (response, _) = shake(server, headers).await;
    (response.status, response.error_code())
}

fn expired() -> String {
    let mut claims = claims("alice");
    claims["exp"] = in_s(-60).into();
    sign(&claims)
}

#[tokio::test]
async fn a_page_is_told_by_a_close_why_it_is_refused() {
    let server = TestServer::start(&["--max-sessions=1"]).await;
    for (what, offered, code, reason) in [
        ("a bad token", with("a.b.c"), 4401, "token_invalid"),
        ("an expired token", with(&expired()), 4401, "token_expired"),
        (
            "a user that no key can have",
            with(&sign(&claims("a b"))),
            4403,
            "user_id_not_allowed",
        ),
    ] {
        let told = closed(&server, &of_page(&offered)).await;
        assert_eq!(told, (code, reason.into()), "{what}");
        assert_eq!(server.handshakes(reason).await, 1, "{what}");
    }
    let alice = Client::connect(server.edge, "alice").await;
    let full = closed(&server, &of_page(&with(&token("bob")))).await;
    assert_eq!(full, (1013, "too_many_sessions; retry=5".into()));
    // None of them was ever a session.
    assert_eq!(server.metric("sessions").await, 1);
    assert_eq!(server.handshakes("ok").await, 1);
    alice.close().await;
}

#[tokio::test]
async fn a_page_is_told_that_the_server_stops() {
    let server = TestServer::start(&["--drain=20s"]).await;
    let edge = server.edge;
    // Its session lasts for a part of the drain.
    let _sessions = [
        Client::connect(edge, "alice").await,
        Client::connect(edge, "bob").await,
        Client::connect(edge, "carol").await,
    ];
    let draining = tokio::spawn(server.drain());
    let headers = of_page(&with(&token("dora")));
    let told = async {
        loop {
            let mut raw = Raw::connect(edge).await;
            raw.send(request("GET", "/ws", &headers, "")).await;
            let response = raw.response().await;
            assert_eq!(response.status, 101, "{response:?}");
            // Until the drain has begun, it is a session.
            raw.send(frame(CLOSE, b"\x03\xe8")).await;
            let (code, reason) = raw.close().await;
            if code != 1000 {
                return (code, reason);
            }
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert_eq!(told, (1012, "draining; retry=5".into()));
    draining.abort();
}

#[tokio::test]
async fn only_who_may_be_a_page_is_told_by_a_close() {
    let bearer = |token: &str| ("Authorization", format!("Bearer {token}"));
    let offer = |offered: &str| ("Sec-WebSocket-Protocol", offered.to_owned());
    let origin = ("Origin", "http://edge.test".to_owned());
    let and = |more: &[(&'static str, String)]| [&upgrade()[..], more].concat();
    let bad = (401, "token_invalid".to_owned());
    let auto = TestServer::start(&[]).await;
    for (what, headers) in [
        ("no subprotocol", and(&[bearer("a.b.c")])),
        (
            "a token in the header, no Origin",
            and(&[offer("presence.v1"), bearer("a.b.c")]),
        ),
        (
            "another subprotocol",
            and(&[offer("chat, bearer.a.b.c"), origin.clone()]),
        ),
    ] {
        assert_eq!(refused(&auto, &headers).await, bad, "{what}");
    }
    for (what, headers) in [
        (
            "the token as a subprotocol",
            and(&[offer("presence.v1, bearer.a.b.c")]),
        ),
        (
            "an Origin",
            and(&[offer("presence.v1"), bearer("a.b.c"), origin.clone()]),
        ),
    ] {
        let told = closed(&auto, &headers).await;
        assert_eq!(told, (4401, "token_invalid".into()), "{what}");
    }

    let http = TestServer::start(&["--refuse-with=http"]).await;
    assert_eq!(refused(&http, &of_page(&with("a.b.c"))).await, bad);
    let close = TestServer::start(&["--refuse-with=close"]).await;
    let (response, mut raw) = shake(&close, &and(&[bearer("a.b.c")])).await;
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(response.header("sec-websocket-protocol"), None);
    assert_eq!(raw.close().await, (4401, "token_invalid".into()));

    // RFC 6455 §4.2.2: a page of another origin is never accepted; and what is no handshake can't be.
    for server in [&auto, &close] {
        let mut headers = of_page(&with(&token("alice")));
        headers.retain(|(name, _)| *name != "Origin");
        headers.push(("Origin", "http://evil.test".into()));
        let told = refused(server, &headers).await;
        assert_eq!(told, (403, "origin_not_allowed".into()));
        let mut headers = of_page(&with("a.b.c"));
        headers.retain(|(name, _)| *name != "Sec-WebSocket-Key");
        assert_eq!(refused(server, &headers).await, (400, "bad_request".into()));
    }
}

#[tokio::test]
async fn clients_that_do_not_hang_up_are_let_go_of_and_beyond_some_it_is_http() {
    let server = TestServer::start(&["--workers=1"]).await;
    let headers = of_page(&with("a.b.c"));
    let start = Instant::now();
    let mut open = Vec::new();
    // With few descriptors they are fewer.
    let response = loop {
        let (response, raw) = shake(&server, &headers).await;
        if response.status != 101 {
            break response;
        }
        open.push(raw);
    };
    assert_eq!(response.status, 401, "{response:?}");
    assert!(!open.is_empty());
    // A slow machine may have let go of the first by now.
    if start.elapsed() < CLOSE_TIMEOUT {
        assert!(open.len() <= REFUSED_SESSIONS_MAX, "{}", open.len());
    }
    // They say nothing and don't hang up; each has its place for a moment only.
    until("there are places again", PATIENCE, async || {
        sleep(Duration::from_millis(100)).await;
        shake(&server, &headers).await.0.status == 101
    })
    .await;
    assert!(start.elapsed() >= CLOSE_TIMEOUT);
    drop(open);
    assert_eq!(server.metric("sessions").await, 0);
}

#[tokio::test]
async fn what_a_refused_client_sent_before_it_knew_costs_it_no_close() {
    let server = TestServer::start(&[]).await;
    let mut raw = Raw::connect(server.edge).await;
    let handshake = request("GET", "/ws", &of_page(&with("a.b.c")), "");
    let pull = frame(TEXT, br#"{"pull":1,"users":["alice"]}"#);
    // With the handshake, and after it.
    raw.send([handshake.as_bytes(), &pull].concat()).await;
    assert_eq!(raw.response().await.status, 101);
    raw.send(pull.repeat(20)).await;
    assert_eq!(raw.close().await, (4401, "token_invalid".into()));
}
