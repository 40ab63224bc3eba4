//! Which requests there are, what refuses them, and what pages of other origins may read.

use presenced_testkit::edge_stream::is_tls;
use presenced_testkit::raw::{Raw, Response, request, send, upgrade};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::token;

use super::kit::{BAD_REQUEST, OK, QUERY, Session, UNKNOWN, all_gone, quiet, told};

const TRANSPORT_UNKNOWN: (u16, &str) = (400, r#"{"code":0,"message":"Transport unknown"}"#);
const BAD_METHOD: (u16, &str) = (400, r#"{"code":2,"message":"Bad handshake method"}"#);
const FORBIDDEN: (u16, &str) = (403, r#"{"code":4,"message":"Forbidden"}"#);
const UNAVAILABLE: (u16, &str) = (503, r#"{"code":4,"message":"Forbidden"}"#);
const BAD_VERSION: (u16, &str) = (
    400,
    r#"{"code":5,"message":"Unsupported protocol version"}"#,
);
const NO_SUCH_METHOD: (u16, &str) = (405, r#"{"code":3,"message":"Bad request"}"#);

/// A request whose query may have `SID` for that of a session.
struct Row<'a>(&'a str, &'a str, Headers, (u16, &'a str));

#[derive(Clone, Copy)]
enum Headers {
    Plain,
    Upgrade,
}
use Headers::{Plain, Upgrade};

async fn answered(session: &Session, Row(method, query, headers, expected): Row<'_>) {
    let query = query.replace("SID", &session.sid);
    let headers = match headers {
        Plain => vec![],
        Upgrade => upgrade(),
    };
    let path = format!("/socket.io/?{query}");
    let answer = send(session.edge, method, &path, &headers, "").await;
    let what = format!("{method} {query}: {answer:?}");
    assert_eq!(told(&answer), expected, "{what}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{what}"
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    if expected == NO_SUCH_METHOD {
        assert_eq!(answer.header("allow"), Some("GET, POST, OPTIONS"), "{what}");
    }
}

#[tokio::test]
async fn every_bad_request_is_refused_in_the_words_of_engine_io_and_ends_nothing() {
    let server = quiet(&[]).await;
    let polls = Session::connected(server.edge, "alice").await;
    let no_such = "A".repeat(polls.sid.len());
    let unknown = format!("EIO=4&transport=polling&sid={no_such}");
    let unknown_upgrade = format!("EIO=4&transport=websocket&sid={no_such}");
    for row in [
        // The transport is looked at first.
        Row("GET", "", Plain, TRANSPORT_UNKNOWN),
        Row("GET", "EIO=4", Plain, TRANSPORT_UNKNOWN),
        Row("POST", "EIO=3", Plain, TRANSPORT_UNKNOWN),
        Row(
            "GET",
            "EIO=4&transport=webtransport",
            Plain,
            TRANSPORT_UNKNOWN,
        ),
        Row(
            "GET",
            "EIO=4&transport=constructor",
            Upgrade,
            TRANSPORT_UNKNOWN,
        ),
        Row("GET", "EIO=4&transport=Polling", Plain, TRANSPORT_UNKNOWN),
        Row("GET", "EIO=4&Transport=polling", Plain, TRANSPORT_UNKNOWN),
        Row(
            "GET",
            "EIO=4&transport=polling&transport=x",
            Plain,
            TRANSPORT_UNKNOWN,
        ),
        Row("GET", "EIO=4&transport=x&sid=SID", Plain, TRANSPORT_UNKNOWN),
        Row("GET", "EIO=4&sid=SID", Plain, TRANSPORT_UNKNOWN),
        // Then the session.
        Row("GET", &unknown, Plain, UNKNOWN),
        Row("POST", &unknown, Plain, UNKNOWN),
        Row("PUT", &unknown, Plain, UNKNOWN),
        Row("GET", &unknown_upgrade, Upgrade, UNKNOWN),
        Row("GET", &unknown_upgrade, Plain, UNKNOWN),
        Row("GET", "EIO=4&transport=polling&sid=x", Plain, UNKNOWN),
        Row("GET", "EIO=4&transport=polling&sid=%00%ff", Plain, UNKNOWN),
        Row("GET", "EIO=4&transport=polling&sid=SIDx", Plain, UNKNOWN),
        Row("GET", "EIO=3&transport=polling&sid=x", Plain, UNKNOWN),
        // A session in another revision, or by another transport.
        Row("GET", "EIO=3&transport=polling&sid=SID", Plain, BAD_REQUEST),
        Row("POST", "transport=polling&sid=SID", Plain, BAD_REQUEST),
        Row(
            "GET",
            "EIO=3&transport=websocket&sid=SID",
            Upgrade,
            BAD_REQUEST,
        ),
        Row(
            "GET",
            "EIO=4&transport=websocket&sid=SID",
            Plain,
            BAD_REQUEST,
        ),
        Row(
            "POST",
            "EIO=4&transport=websocket&sid=SID",
            Plain,
            BAD_REQUEST,
        ),
        Row(
            "POST",
            "EIO=4&transport=websocket&sid=SID",
            Upgrade,
            BAD_REQUEST,
        ),
        Row(
            "GET",
            "EIO=4&transport=polling&sid=SID",
            Upgrade,
            BAD_REQUEST,
        ),
        Row(
            "PUT",
            "EIO=4&transport=polling&sid=SID",
            Plain,
            NO_SUCH_METHOD,
        ),
        Row(
            "DELETE",
            "EIO=4&transport=polling&sid=SID",
            Plain,
            NO_SUCH_METHOD,
        ),
        Row(
            "OPTIONS",
            "EIO=4&transport=polling&sid=SID",
            Plain,
            NO_SUCH_METHOD,
        ),
        // Handshakes.
        Row("POST", QUERY, Plain, BAD_METHOD),
        Row("PUT", QUERY, Plain, BAD_METHOD),
        Row("DELETE", QUERY, Plain, BAD_METHOD),
        Row("OPTIONS", QUERY, Plain, BAD_METHOD),
        Row("POST", "EIO=4&transport=websocket", Upgrade, BAD_METHOD),
        Row("POST", "EIO=4&transport=polling&sid=", Plain, BAD_METHOD),
        Row("GET", "EIO=4&transport=websocket", Plain, BAD_REQUEST),
        Row("GET", "EIO=3&transport=websocket", Plain, BAD_REQUEST),
        Row("GET", "EIO=4&transport=polling", Upgrade, BAD_REQUEST),
        Row("GET", "EIO=3&transport=polling", Plain, BAD_VERSION),
        Row("GET", "EIO=5&transport=polling", Plain, BAD_VERSION),
        Row("GET", "EIO=04&transport=polling", Plain, BAD_VERSION),
        Row("GET", "EIO=4&EIO=3&transport=polling", Plain, BAD_VERSION),
        Row("GET", "transport=polling", Plain, BAD_VERSION),
        Row("GET", "EIO=3&transport=websocket", Upgrade, BAD_VERSION),
    ] {
        answered(&polls, row).await;
    }
    polls.lives().await;

    // HEAD is answered as they are, without a body.
    for (query, status) in [
        (QUERY.to_owned(), 400),
        (format!("{QUERY}&sid={}", polls.sid), 405),
    ] {
        let mut raw = Raw::connect(server.edge).await;
        raw.send(request("HEAD", &format!("/socket.io/?{query}"), &[], ""))
            .await;
        let head = raw.head().await;
        assert_eq!(head.status, status, "{head:?}");
        assert_eq!(raw.rest().await, b"");
    }
    polls.lives().await;

    // Other paths are not this one.
    for path in ["/socket.io", "/socket.io/x", "/SOCKET.IO/", "/engine.io/"] {
        let path = format!("{path}?{QUERY}");
        assert_eq!(
            send(server.edge, "GET", &path, &[], "").await.status,
            404,
            "{path}"
        );
    }

    // And once it is on a WebSocket.
    let mut websocket = polls.probed().await;
    super::kit::say(&mut websocket, "5").await;
    super::kit::say(&mut websocket, &super::kit::pull(1)).await;
    assert_eq!(
        super::kit::hear(&mut websocket).await,
        super::kit::answer(1)
    );
    for row in [
        Row("GET", "EIO=4&transport=polling&sid=SID", Plain, BAD_REQUEST),
        Row(
            "POST",
            "EIO=4&transport=polling&sid=SID",
            Plain,
            BAD_REQUEST,
        ),
        Row("PUT", "EIO=4&transport=polling&sid=SID", Plain, BAD_REQUEST),
        Row(
            "GET",
            "EIO=4&transport=websocket&sid=SID",
            Plain,
            BAD_REQUEST,
        ),
        Row(
            "GET",
            "EIO=4&transport=websocket&sid=SID",
            Upgrade,
            BAD_REQUEST,
        ),
        Row("GET", "EIO=3&transport=polling&sid=SID", Plain, BAD_REQUEST),
    ] {
        answered(&polls, row).await;
    }
    super::kit::say(&mut websocket, &super::kit::pull(2)).await;
    assert_eq!(
        super::kit::hear(&mut websocket).await,
        super::kit::answer(2)
    );
    drop(websocket);
    polls.is_gone().await;
    all_gone(&server).await;
}

#[tokio::test]
async fn queries_in_any_order_encoded_and_with_what_is_unknown() {
    let server = quiet(&[]).await;
    for query in [
        "transport=polling&EIO=4",
        "EIO=4&transport=polling&t=abc123&b64=1&j=0&sid=",
        "EIO=%34&tr%61nsport=p%6flling",
        "EIO=3&transport=x&EIO=4&transport=polling",
        "&&=&EIO=4&x&transport=polling&%zz=%",
    ] {
        let path = format!("/socket.io/?{query}");
        let answer = send(server.edge, "GET", &path, &[], "").await;
        let session = Session::opened(&answer, [127, 0, 0, 1].into(), server.edge);
        let encoded: String = session
            .sid
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect();
        let path = format!("/socket.io/?sid=x&sid={encoded}&t=1&{query}");
        let path = path.replace("&sid=&", "&");
        let path = path.strip_suffix("&sid=").unwrap_or(&path);
        let closed = send(server.edge, "POST", path, &[], "1").await;
        assert_eq!(told(&closed), OK, "{path}");
    }
    all_gone(&server).await;
}

#[tokio::test]
async fn the_open_packet_says_exactly_what_clients_need() {
    for (flags, interval, timeout, payload) in [
        (
            &["--ttl=180s", "--ping-interval=25s", "--ping-timeout=20s"][..],
            25_000,
            20_000,
            65_536,
        ),
        (&["--max-message=100KiB"], 2000, 1500, 102_400),
    ] {
        let server = TestServer::start(flags).await;
        let path = format!("/socket.io/?{QUERY}");
        let answer = send(server.edge, "GET", &path, &[], "").await;
        let session = Session::opened(&answer, [127, 0, 0, 1].into(), server.edge);
        assert_eq!(
            answer.body,
            format!(
                r#"0{{"sid":"{}","upgrades":["websocket"],"pingInterval":{interval},"pingTimeout":{timeout},"maxPayload":{payload}}}"#,
                session.sid
            )
        );
        let is_sid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        assert!(session.sid.len() >= 20 && session.sid.bytes().all(is_sid));
        for (name, value) in [
            ("content-type", "text/plain; charset=UTF-8"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{answer:?}");
        }
        assert_eq!(answer.header("set-cookie"), None, "{answer:?}");
        assert_eq!(answer.header("transfer-encoding"), None, "{answer:?}");
        // Others are told another id.
        let socket_id = session.connect("alice").await;
        assert_ne!(socket_id, session.sid);
        assert!(!socket_id.contains(&session.sid) && !session.sid.contains(&socket_id));
    }
}

#[tokio::test]
async fn polls_and_posts_are_answered_with_what_clients_look_at() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    let posted = session.post(&super::kit::pull(1)).await;
    assert_eq!(told(&posted), OK);
    assert_eq!(
        posted.header("content-type"),
        Some("text/html"),
        "{posted:?}"
    );
    assert_eq!(posted.header("content-length"), Some("2"), "{posted:?}");
    for waits in [false, true] {
        let polled = match waits {
            false => session.poll().await,
            true => {
                let mut raw = session.waiting(&server).await;
                session.pull(1).await;
                raw.response().await
            }
        };
        assert_eq!(told(&polled), (200, &*super::kit::answer(1)));
        for (name, value) in [
            ("content-type", "text/plain; charset=UTF-8"),
            ("cache-control", "no-store"),
            ("vary", "Origin"),
            ("content-length", "18"),
        ] {
            assert_eq!(
                polled.header(name),
                Some(value),
                "waits {waits}: {polled:?}"
            );
        }
    }
}

fn cookie(answer: &Response) -> Option<&str> {
    answer.header("set-cookie")
}

#[tokio::test]
async fn a_cookie_names_the_server_to_balancers_and_never_the_session() {
    let flags = [
        "--socketio-cookie=io",
        "--allow-origin=https://app.example,http://app.example",
    ];
    let server = quiet(&flags).await;
    let path = format!("/socket.io/?{QUERY}");
    let own_site = match is_tls(server.edge) {
        true => "SameSite=Lax; Secure",
        false => "SameSite=Lax",
    };
    let mut values = Vec::new();
    for (origin, more) in [
        (None, own_site),
        (Some("http://app.example"), own_site),
        (Some("https://app.example"), "SameSite=None; Secure"),
    ] {
        let headers: Vec<_> = origin
            .iter()
            .map(|origin| ("Origin", origin.to_string()))
            .collect();
        let answer = send(server.edge, "GET", &path, &headers, "").await;
        let session = Session::opened(&answer, [127, 0, 0, 1].into(), server.edge);
        let set = cookie(&answer).expect("a cookie");
        let (value, rest) = set.strip_prefix("io=").unwrap().split_once("; ").unwrap();
        assert_eq!(
            rest,
            format!("Path=/socket.io/; HttpOnly; {more}"),
            "{origin:?}"
        );
        assert!(!value.contains(&session.sid) && value != "edge-1", "{set}");
        values.push(value.to_owned());
        // With a handshake over a WebSocket too, and with nothing else.
        let mut upgrades = upgrade();
        upgrades.extend(headers);
        let websocket = "/socket.io/?EIO=4&transport=websocket";
        let answer = send(server.edge, "GET", websocket, &upgrades, "").await;
        assert_eq!(cookie(&answer), Some(set), "{answer:?}");
        assert_eq!(cookie(&session.post("3").await), None);
        session.pull(1).await;
        assert_eq!(cookie(&session.poll().await), None);
    }
    values.dedup();
    assert_eq!(values.len(), 1);
    // Whatever a client sends of it.
    let session = Session::open(server.edge).await;
    let other = [("Cookie", "io=other; io=x".to_owned())];
    let answer = send(server.edge, "POST", &session.path(), &other, "3").await;
    assert_eq!(told(&answer), OK);
}

#[tokio::test]
async fn without_upgrades_none_is_offered_and_without_polling_there_is_none() {
    let server = quiet(&["--socketio=websocket-only"]).await;
    let path = format!("/socket.io/?{QUERY}");
    let answer = send(server.edge, "GET", &path, &[], "").await;
    assert_eq!(told(&answer), TRANSPORT_UNKNOWN);
    let server = quiet(&["--socketio=off"]).await;
    assert_eq!(send(server.edge, "GET", &path, &[], "").await.status, 404);
}

const APP: &str = "https://app.example";

/// What a page of the origin that is allowed needs, if it may send cookies.
fn may_be_read(answer: &Response, origin: &str) -> bool {
    assert_eq!(answer.header("vary"), Some("Origin"), "{answer:?}");
    let allowed = answer.header("access-control-allow-origin");
    let credentials = answer.header("access-control-allow-credentials");
    match allowed {
        Some(allowed) => {
            assert_eq!((allowed, credentials), (origin, Some("true")), "{answer:?}");
            true
        }
        None => {
            assert_eq!(credentials, None, "{answer:?}");
            false
        }
    }
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_read_every_answer() {
    let server = quiet(&["--allow-origin=https://app.example"]).await;
    let of_app = || vec![("Origin", APP.to_owned())];
    let session = Session::connected(server.edge, "alice").await;
    let with_sid = session.path();
    let no_sid = format!("/socket.io/?{QUERY}");
    let websocket = format!("/socket.io/?EIO=4&transport=websocket&sid={}", session.sid);
    let too_big = "x".repeat(70_000);
    let octets = vec![
        ("Origin", APP.to_owned()),
        ("Content-Type", "application/octet-stream".to_owned()),
    ];
    let bad_host =
        "GET /socket.io/ HTTP/1.1\r\nHost: a\r\nHost: b\r\nOrigin: https://app.example\r\n\r\n";
    session.pull(5).await;
    for (method, path, headers, body, status) in [
        ("GET", &no_sid, of_app(), "", 200),
        ("GET", &with_sid, of_app(), "", 200),
        ("POST", &with_sid, of_app(), "3", 200),
        ("POST", &with_sid, of_app(), &*too_big, 413),
        ("PUT", &with_sid, of_app(), "", 405),
        ("GET", &websocket, of_app(), "", 400),
        ("POST", &no_sid, of_app(), "3", 400),
        ("GET", &format!("{no_sid}&sid=x"), of_app(), "", 400),
        ("GET", &no_sid.replace('4', "3"), of_app(), "", 400),
        ("POST", &with_sid, octets, "3", 400),
    ] {
        let answer = send(server.edge, method, path, &headers, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(may_be_read(&answer, APP), "{method} {path}: {answer:?}");
    }
    let mut raw = Raw::connect(server.edge).await;
    raw.send(bad_host).await;
    let answer = raw.response().await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(may_be_read(&answer, APP));

    // One that waited, and one that ends its session.
    let session = Session::open(server.edge).await;
    let before = server.metric("http_requests_total").await;
    let mut raw = session.dial().await;
    raw.send(request("GET", &session.path(), &of_app(), ""))
        .await;
    presenced_testkit::until("it waits", presenced_testkit::PATIENCE, async || {
        server.metric("http_requests_total").await > before
    })
    .await;
    let second = send(server.edge, "GET", &session.path(), &of_app(), "").await;
    assert_eq!(told(&second), BAD_REQUEST);
    assert!(may_be_read(&second, APP));
    let first = raw.response().await;
    assert_eq!(told(&first), (200, "1"));
    assert!(may_be_read(&first, APP));
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_by_polling_as_over_websockets() {
    let server = quiet(&["--allow-origin=https://app.example"]).await;
    let session = Session::connected(server.edge, "alice").await;
    let evil = [("Origin", "https://evil.example".to_owned())];
    let mut upgrades = upgrade();
    upgrades.extend(evil.clone());
    let websocket = format!("/socket.io/?EIO=4&transport=websocket&sid={}", session.sid);
    for (method, path, headers, body) in [
        ("GET", format!("/socket.io/?{QUERY}"), evil.to_vec(), ""),
        ("GET", session.path(), evil.to_vec(), ""),
        ("POST", session.path(), evil.to_vec(), "1"),
        ("GET", websocket, upgrades.clone(), ""),
        (
            "GET",
            "/socket.io/?EIO=4&transport=websocket".into(),
            upgrades,
            "",
        ),
    ] {
        let answer = send(server.edge, method, &path, &headers, body).await;
        assert_eq!(told(&answer), FORBIDDEN, "{method} {path}");
        assert!(!may_be_read(&answer, "https://evil.example"), "{answer:?}");
    }
    session.lives().await;
}

#[tokio::test]
async fn preflights_are_answered_to_pages_that_may_ask() {
    let server = quiet(&["--allow-origin=https://app.example"]).await;
    let session = Session::connected(server.edge, "alice").await;
    let asks = |origin: &str| {
        vec![
            ("Origin", origin.to_owned()),
            ("Access-Control-Request-Method", "POST".to_owned()),
            (
                "Access-Control-Request-Headers",
                "x-tenant, authorization".to_owned(),
            ),
        ]
    };
    for path in [
        format!("/socket.io/?{QUERY}"),
        session.path(),
        "/socket.io/".into(),
    ] {
        let answer = send(server.edge, "OPTIONS", &path, &asks(APP), "").await;
        assert_eq!(told(&answer), (204, ""), "{answer:?}");
        assert!(may_be_read(&answer, APP));
        let allowed = answer.header("access-control-allow-methods").unwrap();
        assert!(
            allowed.contains("GET") && allowed.contains("POST"),
            "{answer:?}"
        );
        let allowed = answer.header("access-control-allow-headers");
        assert_eq!(allowed, Some("x-tenant, authorization"));
        let other = "https://evil.example";
        let answer = send(server.edge, "OPTIONS", &path, &asks(other), "").await;
        assert!(answer.status >= 400, "{answer:?}");
        assert!(!may_be_read(&answer, other));
    }
    session.lives().await;
}

#[tokio::test]
async fn nobody_begins_while_the_server_is_full_or_stops() {
    let server = quiet(&["--max-sessions=1"]).await;
    let session = Session::connected(server.edge, "alice").await;
    let path = format!("/socket.io/?{QUERY}");
    let answer = send(server.edge, "GET", &path, &[], "").await;
    assert_eq!(told(&answer), UNAVAILABLE);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    session.lives().await;
    let answer = send(server.edge, "POST", &session.path(), &[], "1").await;
    assert_eq!(told(&answer), OK);
    all_gone(&server).await;
    Session::open(server.edge).await;
}

#[tokio::test]
async fn a_token_of_the_handshake_is_as_good_as_one_of_connect() {
    let server = quiet(&[]).await;
    let bearer = [("Authorization", format!("Bearer {}", token("alice")))];
    let path = format!("/socket.io/?{QUERY}");
    let answer = send(server.edge, "GET", &path, &bearer, "").await;
    let session = Session::opened(&answer, [127, 0, 0, 1].into(), server.edge);
    assert_eq!(told(&session.post("40").await), OK);
    assert!(session.hear().await[0].starts_with("40{\"sid\":"));
    session.lives().await;
}
