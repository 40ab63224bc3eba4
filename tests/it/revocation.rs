//! Signing users out on every edge.

use std::time::Duration;

use clap::Parser;
use presenced::cli::Flags;
use presenced::revocation::log_key;
use presenced_testkit::client::Client;
use presenced_testkit::memcached::Memcached;
use presenced_testkit::raw::{Raw, Response, get_with, handshake, upgrade_with};
use presenced_testkit::server::TestServer;
use presenced_testkit::temp::TempFile;
use presenced_testkit::tokens::{claims, in_s, sign, token};
use presenced_testkit::{PATIENCE, throughout, until};
use serde_json::json;
use tokio::time::Instant;

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// What is posted with these header lines.
async fn post(server: &TestServer, lines: &[(&str, &str)], body: &str) -> Response {
    let admin = server.admin;
    let lines: String = lines
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = body.len();
    let mut raw = Raw::connect(admin).await;
    let head = format!("POST /v1/revocations HTTP/1.1\r\n{lines}Content-Length: {length}\r\n\r\n");
    raw.send(head + body).await;
    raw.response().await
}

/// Asks for a revocation; it must be taken.
async fn revoke(server: &TestServer, body: serde_json::Value) -> Response {
    let response = post(server, &[JSON, ("Host", "localhost")], &body.to_string()).await;
    assert!([200, 202].contains(&response.status), "{response:?}");
    response
}

/// A token of `user` with one more claim.
fn with(user: &str, name: &str, value: serde_json::Value) -> String {
    let mut claims = claims(user);
    claims[name] = value;
    sign(&claims)
}

fn issued_at(user: &str, seconds_from_now: i64) -> String {
    with(user, "iat", in_s(seconds_from_now).into())
}

async fn session(server: &TestServer, token: &str) -> Client {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let connected = Client::try_connect(server.edge, "/ws", &headers).await;
    connected.expect("the handshake succeeds").0
}

/// Returns when so many sessions have been there: clients are answered a moment before.
async fn opened(server: &TestServer, count: u64) {
    until("sessions are open", PATIENCE, async || {
        server.metric("handshakes_total{result=\"ok\"}").await == count
    })
    .await;
}

/// The status of a handshake with this token, and of a pull.
async fn statuses(server: &TestServer, token: &str) -> (u16, u16) {
    let shaken = handshake(server.edge, &upgrade_with(token)).await;
    let pulled = get_with(server.edge, "/v1/presence?user=x", token).await;
    for refused in [&shaken, &pulled] {
        if refused.status == 401 {
            assert_eq!(refused.error_code(), "token_invalid");
        }
    }
    (shaken.status, pulled.status)
}

async fn is_refused(server: &TestServer, token: &str) -> bool {
    match statuses(server, token).await {
        (401, 401) => true,
        (101, 200) => false,
        other => panic!("{other:?}"),
    }
}

async fn refuses(server: &TestServer, token: &str) {
    until("the token is refused", PATIENCE, async || {
        statuses(server, token).await == (401, 401)
    })
    .await;
}

fn key() -> String {
    log_key("user:{userId}:online")
}

/// The last number of the log.
async fn last(memcached: &Memcached) -> u64 {
    let entry = memcached.entry(&key()).await.expect("a last number");
    entry.text.trim().parse().unwrap()
}

async fn edges(memcached: &Memcached) -> [TestServer; 2] {
    let first = TestServer::on(memcached, &[]).await;
    [
        first,
        TestServer::on(memcached, &["--server-id=edge-2"]).await,
    ]
}

#[tokio::test]
async fn a_user_is_signed_out_on_every_edge() {
    let memcached = Memcached::start().await;
    let edges = edges(&memcached).await;
    let (old, later) = (issued_at("alice", -1), issued_at("alice", 4));
    let mut sessions = Vec::new();
    for edge in &edges {
        sessions.push(session(edge, &old).await);
        sessions.push(session(edge, &token("alice")).await);
    }
    let of_bob = [
        session(&edges[0], &token("bob")).await,
        session(&edges[1], &token("bob")).await,
    ];
    for edge in &edges {
        opened(edge, 3).await;
    }
    let asked_at = Instant::now();
    let done = revoke(&edges[0], json!({"sub": "alice"})).await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.json()["sessionsClosed"], 2);
    assert_eq!(done.json()["everywhere"], true);
    assert_eq!(done.json()["number"], last(&memcached).await);
    // At once where it was asked for, and within a look elsewhere.
    assert!(is_refused(&edges[0], &old).await);
    for session in sessions {
        assert_eq!(session.closed().await.code, Some(4401));
    }
    assert!(
        asked_at.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked_at.elapsed()
    );
    for edge in &edges {
        assert!(is_refused(edge, &old).await);
        assert!(is_refused(edge, &token("alice")).await, "of no known age");
        assert!(!is_refused(edge, &later).await);
        assert!(!is_refused(edge, &token("bob")).await);
        assert_eq!(edge.metric("revocations").await, 1);
        assert_eq!(edge.metric("revocations_unwritten").await, 0);
        assert_eq!(edge.ends("token_revoked").await, 2);
        assert!(edge.refused_for("token_invalid", "revoked").await >= 4);
    }
    // Who comes with a later token stays.
    let back = session(&edges[1], &later).await;
    let [first, second] = &of_bob;
    throughout("sessions stay", Duration::from_millis(700), async || {
        back.is_open() && first.is_open() && second.is_open()
    })
    .await;
}

#[tokio::test]
async fn one_token_is_refused_and_the_users_others_are_not() {
    let memcached = Memcached::start().await;
    let edges = edges(&memcached).await;
    let (stolen, own) = (
        with("alice", "jti", "t1".into()),
        with("alice", "jti", "t2".into()),
    );
    // A session does not remember its token: both end.
    let sessions = [
        session(&edges[0], &stolen).await,
        session(&edges[1], &own).await,
    ];
    opened(&edges[0], 1).await;
    let done = revoke(&edges[0], json!({"sub": "alice", "jti": "t1"})).await;
    assert_eq!(done.json()["sessionsClosed"], 1);
    for session in sessions {
        assert_eq!(session.closed().await.code, Some(4401));
    }
    for edge in &edges {
        assert!(is_refused(edge, &stolen).await);
        assert!(!is_refused(edge, &own).await);
        assert!(!is_refused(edge, &with("bob", "jti", "t1".into())).await);
    }
}

#[tokio::test]
async fn all_tokens_of_before_a_time_are_refused_and_sessions_end_in_turn() {
    const SESSIONS: usize = 40;
    let drain = Duration::from_secs(2);
    let memcached = Memcached::start().await;
    let edges = [
        TestServer::on(&memcached, &["--drain=2s"]).await,
        TestServer::on(&memcached, &["--drain=2s", "--server-id=edge-2"]).await,
    ];
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let token = issued_at(&format!("user-{number}"), -60);
        for edge in &edges {
            sessions.push(session(edge, &token).await);
        }
    }
    for edge in &edges {
        opened(edge, SESSIONS as u64).await;
    }
    let asked_at = Instant::now();
    let done = revoke(&edges[0], json!({"issuedBefore": in_s(-30)})).await;
    assert_eq!(done.json()["sessionsClosed"], SESSIONS);
    let recent = session(&edges[0], &issued_at("user-1", -20)).await;
    let mut ends = Vec::new();
    for session in sessions {
        let end = session.closed().await;
        assert_eq!(end.code, Some(4401));
        ends.push(end.at.duration_since(asked_at));
    }
    let in_the_first_half = ends.iter().filter(|at| **at < drain / 2).count();
    assert!(
        (SESSIONS / 4..2 * SESSIONS).contains(&in_the_first_half),
        "{ends:?}"
    );
    for edge in &edges {
        assert!(is_refused(edge, &issued_at("user-1", -60)).await);
        assert!(is_refused(edge, &token("user-1")).await, "of no known age");
        assert!(!is_refused(edge, &issued_at("user-1", -20)).await);
        assert_eq!(edge.ends("token_revoked").await, SESSIONS as u64);
    }
    assert!(recent.is_open(), "it has opened since");
}

#[tokio::test]
async fn an_edge_that_starts_knows_what_was_revoked_before() {
    let memcached = Memcached::start().await;
    let first = TestServer::on(&memcached, &[]).await;
    for number in 0..300 {
        revoke(&first, json!({"sub": format!("user-{number}")})).await;
    }
    // It does not know of other applications' users.
    let other = ["--key-template=app:{userId}", "--server-id=other"];
    let other = TestServer::on(&memcached, &other).await;
    assert!(!is_refused(&other, &token("user-7")).await);
    let second = TestServer::on(&memcached, &["--server-id=edge-2"]).await;
    assert_eq!(second.metric("revocations").await, 300);
    assert!(is_refused(&second, &token("user-0")).await);
    assert!(is_refused(&second, &token("user-299")).await);
    assert_eq!(second.metric("revocation_log_gaps_total").await, 0);
    assert_eq!(second.metric("revocation_log_resets_total").await, 0);
}

#[tokio::test]
async fn a_memcached_that_comes_back_empty_is_told_again() {
    let mut memcached = Memcached::start().await;
    let edges = edges(&memcached).await;
    revoke(&edges[0], json!({"sub": "alice"})).await;
    revoke(&edges[1], json!({"sub": "bob", "jti": "t1"})).await;
    let before = last(&memcached).await;
    refuses(&edges[0], &with("bob", "jti", "t1".into())).await;
    refuses(&edges[1], &token("alice")).await;
    memcached.restart().await;
    until("the log is there again", PATIENCE, async || {
        memcached.entry(&key()).await.is_some()
            && edges[0].metric("revocations_unwritten").await == 0
            && edges[1].metric("revocations_unwritten").await == 0
    })
    .await;
    assert!(last(&memcached).await > before);
    for edge in &edges {
        assert!(edge.metric("revocation_log_resets_total").await >= 1);
        assert!(is_refused(edge, &token("alice")).await);
    }
    let third = TestServer::on(&memcached, &["--server-id=edge-3"]).await;
    assert!(is_refused(&third, &token("alice")).await);
    assert!(is_refused(&third, &with("bob", "jti", "t1".into())).await);
    assert_eq!(third.metric("revocations").await, 2);
}

#[tokio::test]
async fn a_log_that_goes_back_is_read_and_begun_anew() {
    let memcached = Memcached::start().await;
    let edges = edges(&memcached).await;
    let done = revoke(&edges[0], json!({"sub": "alice"})).await;
    let number = done.json()["number"].as_u64().unwrap();
    revoke(&edges[0], json!({"sub": "bob"})).await;
    refuses(&edges[1], &token("bob")).await;
    // An older node is back: it has one entry that nobody here knows.
    let older = number - (5 << 20);
    let entry = format!(r#"{{"sub":"carol","before":{0},"ends":{0}}}"#, in_s(600));
    memcached.put(&format!("{}:{older}", key()), &entry).await;
    memcached.put(&key(), &older.to_string()).await;
    for edge in &edges {
        refuses(edge, &token("carol")).await;
        until("it is noticed", PATIENCE, async || {
            edge.metric("revocation_log_resets_total").await >= 1
        })
        .await;
    }
    until("it is begun anew and complete", PATIENCE, async || {
        last(&memcached).await > number
            && edges[0].metric("revocations_unwritten").await == 0
            && edges[1].metric("revocations_unwritten").await == 0
    })
    .await;
    let third = TestServer::on(&memcached, &["--server-id=edge-3"]).await;
    for user in ["alice", "bob", "carol"] {
        assert!(is_refused(&third, &token(user)).await, "{user}");
    }
}

#[tokio::test]
async fn without_memcached_a_user_is_signed_out_here_and_elsewhere_later() {
    let mut memcached = Memcached::start().await;
    let edges = edges(&memcached).await;
    let of_alice = session(&edges[0], &token("alice")).await;
    opened(&edges[0], 1).await;
    memcached.kill();
    until("it is away", PATIENCE, async || !edges[0].is_ready().await).await;
    let done = revoke(&edges[0], json!({"sub": "alice"})).await;
    assert_eq!(done.status, 202, "{done:?}");
    let told = done.json();
    assert_eq!(told["everywhere"], false);
    assert!(told["number"].is_null(), "{told}");
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("others do not know")
    );
    assert_eq!(told["sessionsClosed"], 1);
    assert_eq!(of_alice.closed().await.code, Some(4401));
    assert!(is_refused(&edges[0], &token("alice")).await);
    until("it is counted", PATIENCE, async || {
        edges[0].metric("revocations_unwritten").await == 1
    })
    .await;
    memcached.start_again().await;
    refuses(&edges[1], &token("alice")).await;
    until("it is written", PATIENCE, async || {
        edges[0].metric("revocations_unwritten").await == 0
    })
    .await;
}

#[tokio::test]
async fn what_is_in_the_log_is_not_believed_unless_it_is_an_entry() {
    let memcached = Memcached::start().await;
    let edge = TestServer::on(&memcached, &[]).await;
    revoke(&edge, json!({"sub": "alice"})).await;
    // With this it has read the log that the first began: what comes now is new to it.
    let done = revoke(&edge, json!({"sub": "zoe"})).await;
    let number = done.json()["number"].as_u64().unwrap();
    let (long, ends) = ("x".repeat(100_000), in_s(600));
    let far = format!(r#"{{"sub":"dave","before":{0},"ends":{0}}}"#, u64::MAX);
    let good = format!(r#"{{"sub":"bob","before":{ends},"ends":{ends}}}"#);
    let more = format!(r#"{{"sub":"carol","before":{ends},"ends":{ends},"x":1}}"#);
    let ended = r#"{"sub":"carol","before":9999999999,"ends":1}"#;
    let values = ["", "garbage", &long, &more, ended, &far, &good];
    for (value, offset) in values.iter().zip(1..) {
        memcached
            .put(&format!("{}:{}", key(), number + offset), value)
            .await;
    }
    // One more was given a number and never came.
    let last_number = number + values.len() as u64 + 1;
    memcached.put(&key(), &last_number.to_string()).await;
    refuses(&edge, &token("bob")).await;
    assert!(!is_refused(&edge, &issued_at("carol", -60)).await);
    // Clocks may differ by seconds, and no entry is of the far future.
    assert!(is_refused(&edge, &issued_at("dave", -60)).await);
    assert!(!is_refused(&edge, &issued_at("dave", 60)).await);
    assert_eq!(edge.metric("revocation_log_bad_entries_total").await, 4);
    until("the gap is counted", PATIENCE, async || {
        edge.metric("revocation_log_gaps_total").await == 1
    })
    .await;
    // What is no number is replaced, and so is one after which none would be left.
    for last_number in ["no number", &u64::MAX.to_string(), &long] {
        memcached.put(&key(), last_number).await;
        let done = revoke(&edge, json!({"sub": "erin"})).await;
        assert_eq!(done.status, 200, "{done:?}");
        // What was in the log before may have been written again already.
        let number = done.json()["number"].as_u64().unwrap();
        assert!((number..number + 10).contains(&last(&memcached).await));
    }
    let second = TestServer::on(&memcached, &["--server-id=edge-2"]).await;
    assert!(is_refused(&second, &token("erin")).await);
}

#[tokio::test]
async fn what_is_asked_for_is_read_strictly() {
    let server = TestServer::start(&[]).await;
    let local = [JSON, ("Host", "127.0.0.1:1")];
    for (body, word) in [
        ("", "expected"),
        (r#"["alice"]"#, "expected"),
        (r#"{"sub":7}"#, "7"),
        (r#"{"sub":""}"#, "sub"),
        (r#"{"user":"alice"}"#, "user"),
        (r#"{"issuedBefore":99999999999999}"#, "future"),
    ] {
        let refused = post(&server, &local, body).await;
        assert_eq!(refused.status, 400, "{body}: {refused:?}");
        assert!(refused.body.contains(word), "{body}: {refused:?}");
    }
    let long = format!(r#"{{"sub":"{}"}}"#, "x".repeat(4096));
    assert_eq!(post(&server, &local, &long).await.status, 413);
    assert_eq!(server.metric("revocations").await, 0);
}

/// Statuses of the path with this header line, and of `/metrics` and another path.
async fn access(server: &TestServer, authorization: &str) -> (u16, u16, u16) {
    let body = r#"{"sub":"alice"}"#;
    let lines = [
        JSON,
        ("Host", "edge-1.internal"),
        ("Authorization", authorization),
    ];
    let posted = post(server, &lines, body).await;
    if posted.status >= 400 {
        assert!(posted.body.contains("--admin-token-file"), "{posted:?}");
    }
    let get = async |path| get_with(server.admin, path, "x").await.status;
    (posted.status, get("/metrics").await, get("/other").await)
}

#[tokio::test]
async fn only_operators_revoke() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let file = TempFile::new(&format!("{TOKEN}\n"));
    file.set_mode(0o600);
    let with_token = format!("--admin-token-file={}", file.path().display());
    let public = "--admin=0.0.0.0:0";
    let bearer = format!("Bearer {TOKEN}");
    let wrong = format!("Bearer {}", TOKEN.to_uppercase());
    for flags in [&[with_token.as_str()][..], &[with_token.as_str(), public]] {
        let server = TestServer::start(flags).await;
        until("ready", PATIENCE, async || server.is_ready().await).await;
        assert_eq!(access(&server, &bearer).await, (200, 200, 401), "{flags:?}");
        assert_eq!(access(&server, &wrong).await, (401, 200, 401), "{flags:?}");
        let page = [
            JSON,
            ("Host", "a"),
            ("Origin", "null"),
            ("Authorization", &bearer),
        ];
        assert_eq!(post(&server, &page, r#"{"sub":"a"}"#).await.status, 403);
        let none = [JSON, ("Host", "localhost")];
        let refused = post(&server, &none, r#"{"sub":"a"}"#).await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    }
    let server = TestServer::start(&[public]).await;
    assert_eq!(access(&server, &bearer).await, (403, 200, 403));
    // On this machine alone, and then not for web pages that an operator looks at.
    let server = TestServer::start(&[]).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let body = r#"{"sub":"alice"}"#;
    for (lines, status) in [
        (vec![JSON, ("Host", "localhost:9180")], 200),
        (vec![JSON, ("Host", "[::1]:9180")], 200),
        (vec![JSON, ("Host", "rebound.example")], 403),
        (
            vec![JSON, ("Host", "localhost"), ("Origin", "http://localhost")],
            403,
        ),
        (vec![("Host", "localhost")], 415),
        (
            vec![("Host", "localhost"), ("Content-Type", "text/plain")],
            415,
        ),
    ] {
        let posted = post(&server, &lines, body).await;
        assert_eq!(posted.status, status, "{lines:?}: {posted:?}");
    }
    let listed = get_with(server.admin, "/v1/revocations", "x").await;
    assert_eq!((listed.status, listed.header("allow")), (405, Some("POST")));
}

#[test]
fn the_operators_token_is_one_that_a_header_can_have() {
    let file = TempFile::new("");
    let flag = format!("--admin-token-file={}", file.path().display());
    let with = |token: &str| {
        std::fs::write(file.path(), token).unwrap();
        file.set_mode(0o600);
        let checked = Flags::try_parse_from(["presenced", &flag]).unwrap().check();
        checked.map_err(|error| error.to_string())
    };
    let good = "0123456789abcdef0123456789abcdef";
    let settings = with(&format!("{good}\n")).unwrap();
    assert!(!format!("{settings:?}").contains(good), "it is never shown");
    assert_eq!(settings.admin.token.unwrap().as_bytes(), good.as_bytes());
    for (token, why) in [
        ("short", "32 bytes"),
        ("0123456789abcdef 0123456789abcdef", "no spaces"),
        ("0123456789abcdef0123456789abcdé", "visible ASCII"),
        ("0123456789abcdef0123456789abcdef\r\n", "visible ASCII"),
    ] {
        let refused = with(token).unwrap_err();
        assert!(refused.contains(why), "{token:?}: {refused}");
        assert!(refused.contains("--admin-token-file"), "{refused}");
    }
}
