//! Requests to Engine.IO's path: which become sessions, and how the others are refused.

use presenced_testkit::process::Process;
use presenced_testkit::raw::{Raw, Response, request, send, upgrade};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;
use serde_json::json;

use super::{Io, QUERY, SOCKETIO, all_gone, shake, started};

const MESSAGES: [&str; 6] = [
    "Transport unknown",
    "Session ID unknown",
    "Bad handshake method",
    "Bad request",
    "Forbidden",
    "Unsupported protocol version",
];

/// Checks that a request was refused with Engine.IO's `code`.
fn is_refused(response: &Response, status: u16, code: usize, what: &str) {
    assert_eq!(response.status, status, "{what}: {response:?}");
    let told = json!({"code": code, "message": MESSAGES[code]});
    assert_eq!(response.json(), told, "{what}");
    assert_eq!(response.json().as_object().unwrap().len(), 2);
}

async fn asked(server: &TestServer, query: &str, is_upgrade: bool) -> Response {
    let headers = if is_upgrade { upgrade() } else { Vec::new() };
    send(
        server.edge,
        "GET",
        &format!("/socket.io/?{query}"),
        &headers,
        "",
    )
    .await
}

#[tokio::test]
async fn what_is_refused_is_told_in_engine_io_s_codes_before_any_101() {
    let server = started(&[]).await;
    for (query, is_upgrade, code) in [
        ("", true, 0),
        ("EIO=4", true, 0),
        ("EIO=4&transport", true, 0),
        ("EIO=4&transport=", true, 0),
        ("EIO=4&transport=carrier-pigeon", true, 0),
        ("EIO=4&transport=webtransport", true, 0),
        ("EIO=4&transport=WebSocket", true, 0),
        ("EIO=4&Transport=websocket", true, 0),
        ("transport=websocket&transport=x&EIO=4", true, 0),
        ("EIO=3&transport=x", false, 0),
        (
            "EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAAAAAA",
            true,
            1,
        ),
        (
            "EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAAAAAA",
            false,
            1,
        ),
        ("EIO=4&transport=websocket&sid=%00", true, 1),
        ("EIO=3&transport=websocket&sid=x", true, 1),
        ("EIO=4&transport=websocket", false, 3),
        ("EIO=3&transport=websocket", false, 3),
        ("EIO=3&transport=websocket", true, 5),
        ("EIO=04&transport=websocket", true, 5),
        ("EIO=4%20&transport=websocket", true, 5),
        ("EIO=&transport=websocket", true, 5),
        ("eio=4&transport=websocket", true, 5),
        ("EIO=4&transport=websocket&EIO=5", true, 5),
        ("transport=websocket", true, 5),
    ] {
        is_refused(&asked(&server, query, is_upgrade).await, 400, code, query);
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let path = format!("/socket.io/?{QUERY}");
        let response = send(server.edge, method, &path, &upgrade(), "").await;
        is_refused(&response, 400, 2, method);
    }
    let mut raw = Raw::connect(server.edge).await;
    let head = request("HEAD", &format!("/socket.io/?{QUERY}"), &[], "");
    raw.send(head).await;
    assert_eq!(raw.head().await.status, 400);
    all_gone(server.admin).await;
}

/// Where there is no polling, a client that begins with it is told so.
#[tokio::test]
async fn a_transport_that_is_not_offered_is_unknown() {
    let server = started(&[]).await;
    for (query, is_upgrade) in [
        ("EIO=4&transport=polling", false),
        ("EIO=4&transport=polling&t=abc", false),
        // As Flutter's native client does that was not told to use the WebSocket alone.
        ("EIO=4&transport=polling", true),
        ("EIO=3&transport=polling", false),
    ] {
        is_refused(&asked(&server, query, is_upgrade).await, 400, 0, query);
    }
}

#[tokio::test]
async fn a_query_is_read_whole_and_in_any_order() {
    let server = started(&[]).await;
    for query in [
        "transport=websocket&EIO=4",
        "EIO=4&transport=websocket&t=P1a2b3c&b64=1&j=0&x",
        "EIO=3&transport=polling&transport=websocket&EIO=4",
        "%45IO=%34&transport=web%73ocket",
        "EIO=4&transport=websocket&sid=",
        "&&EIO=4&&transport=websocket&",
    ] {
        let io = Io::open_with(Raw::connect(server.edge).await, query, &[]).await;
        assert!(io.open["sid"].is_string(), "{query}");
    }
    all_gone(server.admin).await;
}

#[tokio::test]
async fn the_open_packet_has_five_members_and_an_id_that_nobody_guesses() {
    let server = started(&["--max-message=10000", "--ping-timeout=1s"]).await;
    let mut sids = Vec::new();
    for _ in 0..20 {
        let io = Io::open(server.edge).await;
        let sid = io.open["sid"].as_str().unwrap().to_owned();
        assert_eq!(
            io.open,
            json!({"sid": sid, "upgrades": [], "pingInterval": 2000, "pingTimeout": 1000, "maxPayload": 10000})
        );
        let is_of_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        assert!(sid.len() >= 20 && sid.chars().all(is_of_id), "{sid}");
        sids.push(sid);
    }
    sids.sort();
    sids.dedup();
    assert_eq!(sids.len(), 20);
    let (io, socket_id) = Io::session(server.edge, "alice").await;
    assert_ne!(io.open["sid"], socket_id.as_str());
    drop(io);
    all_gone(server.admin).await;
}

#[tokio::test]
async fn a_second_request_with_a_session_s_id_is_refused_and_leaves_it_alone() {
    for workers in ["--workers=1", "--workers=2", "--workers=4"] {
        let server = started(&[workers]).await;
        let (mut io, _) = Io::session(server.edge, "alice").await;
        let sid = io.open["sid"].as_str().unwrap();
        for is_upgrade in [true, false] {
            let query = format!("{QUERY}&sid={sid}");
            let response = asked(&server, &query, is_upgrade).await;
            assert_eq!(response.status, 400, "{response:?}");
            let code = response.json()["code"].as_u64();
            assert!(matches!(code, Some(1 | 3)), "{response:?}");
        }
        io.lives().await;
        drop(io);
        all_gone(server.admin).await;
    }
}

#[tokio::test]
async fn another_origin_is_refused_and_an_allowed_one_is_not() {
    let server = started(&["--allow-origin=https://app.test"]).await;
    let origin = |origin| [("Origin", origin)];
    for (query, is_told) in [
        (QUERY, 4),
        // Whether it may come is looked at before its version.
        ("EIO=3&transport=websocket", 4),
        ("EIO=4&transport=x", 0),
    ] {
        let mut raw = Raw::connect(server.edge).await;
        raw.send(shake(query, &origin("https://evil.test"))).await;
        let status = if is_told == 4 { 403 } else { 400 };
        is_refused(&raw.response().await, status, is_told, query);
    }
    Io::open_with(
        Raw::connect(server.edge).await,
        QUERY,
        &origin("https://app.test"),
    )
    .await;
    all_gone(server.admin).await;
}

#[tokio::test]
async fn a_server_that_is_full_or_drains_says_503_and_when_to_come_again() {
    let is_full = |response: &Response| {
        is_refused(response, 503, 4, "full");
        let seconds: u32 = response.header("retry-after").unwrap().parse().unwrap();
        assert!(seconds > 0);
    };
    let server = started(&["--max-sessions=1"]).await;
    let (io, _) = Io::session(server.edge, "alice").await;
    is_full(&asked(&server, QUERY, true).await);
    drop(io);
    all_gone(server.admin).await;

    let process = Process::start(&[SOCKETIO, "--drain=3s"]).await;
    let (io, _) = Io::session(process.edge(), "alice").await;
    process.signal(Signal::TERM);
    let mut refused = None;
    // Balancers are told a moment before.
    until("nobody is let in", PATIENCE, async || {
        let mut raw = Raw::connect(process.edge()).await;
        raw.send(shake(QUERY, &[])).await;
        let answer = raw.response().await;
        refused = (answer.status != 101).then_some(answer);
        refused.is_some()
    })
    .await;
    is_full(&refused.unwrap());
    // No packet says so: then clients come back.
    assert_eq!(io.closed().await, (1012, "restart".into()));
    assert!(process.ended().await.0.success());
}

#[tokio::test]
async fn requests_beside_the_path_are_those_of_the_server_s_own() {
    let server = started(&["--socketio-path=/chat/ws/"]).await;
    for (path, status) in [
        ("/socket.io/", 404),
        ("/chat/ws", 404),
        ("/chat/ws/x", 404),
        ("/chat/ws/", 101),
    ] {
        let path = format!("{path}?{QUERY}");
        let response = send(server.edge, "GET", &path, &upgrade(), "").await;
        assert_eq!(response.status, status, "{path} {response:?}");
    }
    let off = TestServer::start(&["--socketio=off"]).await;
    let response = asked(&off, QUERY, true).await;
    assert_eq!(response.status, 404);
    all_gone(server.admin).await;
}

#[tokio::test]
async fn a_bad_websocket_handshake_is_no_session() {
    let server = started(&[]).await;
    let path = format!("/socket.io/?{QUERY}");
    for (name, value, status) in [
        ("Sec-WebSocket-Version", "8", 426),
        ("Sec-WebSocket-Key", "short", 400),
        ("Connection", "close", 400),
    ] {
        let headers: Vec<_> = upgrade()
            .into_iter()
            .map(|(key, good)| (key, if key == name { value.into() } else { good }))
            .collect();
        let response = send(server.edge, "GET", &path, &headers, "").await;
        assert_eq!(response.status, status, "{name} {response:?}");
    }
    all_gone(server.admin).await;
}

#[tokio::test]
async fn a_token_may_come_with_the_handshake() {
    let server = started(&["--allow-query-token"]).await;
    let bearer = format!("Bearer {}", token("alice"));
    let query = format!("{QUERY}&token={}", token("bob"));
    for (query, headers, user) in [
        (QUERY, vec![("Authorization", bearer.as_str())], "alice"),
        (query.as_str(), vec![], "bob"),
    ] {
        let mut io = Io::open_with(Raw::connect(server.edge).await, query, &headers).await;
        io.say("40").await;
        io.connected("").await;
        assert_eq!(server.metric("users").await, 1);
        assert!(io.sees(user).await, "{user}");
        drop(io);
        all_gone(server.admin).await;
    }
    // What CONNECT shows counts before it.
    let raw = Raw::connect(server.edge).await;
    let bearer = format!("Bearer {}", token("dora"));
    let mut io = Io::open_with(raw, QUERY, &[("Authorization", &bearer)]).await;
    io.connect("", "carol").await;
    assert!(io.sees("carol").await && !io.sees("dora").await);
    drop(io);
    all_gone(server.admin).await;
}

#[tokio::test]
async fn a_token_in_the_query_is_none_unless_that_is_allowed() {
    let server = started(&[]).await;
    let query = format!("{QUERY}&token={}", token("bob"));
    let mut io = Io::open_with(Raw::connect(server.edge).await, &query, &[]).await;
    io.say("40").await;
    let refused = super::refused("", "a token is needed", "token_missing");
    assert_eq!(io.hear().await, refused);
}
