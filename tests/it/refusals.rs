//! What operators are told of requests that are refused and of sessions that end, and what they are
//! not.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use presenced::limits::TOKEN_BYTES_MAX;
use presenced_jwt::{Algorithm, Header};
use presenced_testkit::client::Client;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{
    KEY, Raw, get, get_with, handshake, request, send, upgrade, upgrade_with,
};
use presenced_testkit::server::{TestServer, metric};
use presenced_testkit::tokens::{
    STRICT, base64url, claims, in_s, sign, sign_with, strict_header, strict_with, token,
};
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A token that is refused: the code and the reason, the token, and the user that the log names, if
/// the signature is good.
type Refused = (
    &'static str,
    Option<&'static str>,
    String,
    Option<&'static str>,
);

fn with(name: &str, value: Value) -> String {
    strict_with("mallory", name, value)
}

fn head(change: impl FnOnce(&mut Header)) -> String {
    strict_header("mallory", change)
}

/// A token for every reason.
fn refused_tokens() -> Vec<Refused> {
    let good = token("mallory");
    let (_, rest) = good.split_once('.').unwrap();
    let (body, _) = rest.split_once('.').unwrap();
    let none = format!("{}.{body}.", base64url(br#"{"alg":"none"}"#));
    let unsigned = format!(
        "{}.{body}.c2lnbmVkIGJ5IG5vYm9keQ",
        base64url(br#"{"alg":"HS256"}"#)
    );
    let (invalid, user_id, mallory) = ("token_invalid", "user_id_not_allowed", Some("mallory"));
    let escape = "mal\u{1b}[31mlory\r\nflush_all";
    vec![
        (
            invalid,
            Some("malformed"),
            "a-word-of-no-token".into(),
            None,
        ),
        (
            invalid,
            Some("too_long"),
            "x".repeat(TOKEN_BYTES_MAX + 1),
            None,
        ),
        (invalid, Some("algorithm"), none, None),
        (
            invalid,
            Some("algorithm"),
            head(|head| head.alg = Algorithm::HS512),
            None,
        ),
        (invalid, Some("signature"), unsigned, None),
        (
            invalid,
            Some("typ"),
            head(|head| head.typ = Some("secevent+jwt".into())),
            mallory,
        ),
        (
            invalid,
            Some("crit"),
            head(|head| head.crit = Some(vec!["x-must".into()])),
            mallory,
        ),
        (invalid, Some("claims"), with("exp", "soon".into()), mallory),
        (
            invalid,
            Some("issuer"),
            with("iss", "another-issuer".into()),
            mallory,
        ),
        (
            invalid,
            Some("audience"),
            with("aud", "another-audience".into()),
            mallory,
        ),
        (
            invalid,
            Some("not_yet_valid"),
            with("nbf", in_s(60).into()),
            mallory,
        ),
        (
            invalid,
            Some("lifetime_too_long"),
            with("exp", in_s(2 * 3600).into()),
            mallory,
        ),
        (invalid, Some("user_claim"), with("sub", Value::Null), None),
        (
            "token_expired",
            None,
            with("exp", in_s(-60).into()),
            mallory,
        ),
        (user_id, Some("empty"), with("sub", "".into()), Some("")),
        (
            user_id,
            Some("too_long"),
            with("sub", "m".repeat(201).into()),
            None,
        ),
        (
            user_id,
            Some("character"),
            with("sub", escape.into()),
            Some(escape),
        ),
    ]
}

/// How many places a token has: the query has no room for the longest.
fn places(token: &str) -> usize {
    if token.len() < TOKEN_BYTES_MAX { 4 } else { 3 }
}

/// Sends a token in each of its places.
async fn send_everywhere(edge: SocketAddr, token: &str) {
    let offered = vec![(
        "Sec-WebSocket-Protocol",
        format!("presence.v1, bearer.{token}"),
    )];
    let mut offered = [upgrade(), offered].concat();
    if token.len() < TOKEN_BYTES_MAX {
        offered.push(("Cookie", token.to_owned()));
    }
    let mut responses = vec![
        handshake(edge, &upgrade_with(token)).await,
        handshake(edge, &offered).await,
        get_with(edge, "/v1/presence?user=1", token).await,
    ];
    if places(token) == 4 {
        let in_query = format!("/ws?token={token}");
        responses.push(send(edge, "GET", &in_query, &upgrade(), "").await);
    }
    for response in responses {
        // The code alone: who tries learns nothing more.
        let code = response.error_code();
        assert!([401, 403].contains(&response.status), "{response:?}");
        assert!(!response.body.contains("mallory"), "{response:?}");
        assert!(["token_invalid", "token_expired", "user_id_not_allowed"].contains(&&*code));
    }
}

/// The fields of the lines of a JSON log that have this message.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let json = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    json.map(|line| line["fields"].clone())
        .filter(|fields| fields["message"] == message)
        .collect()
}

/// Pieces of a token that are long enough not to be in the log by chance.
fn pieces(token: &str) -> impl Iterator<Item = &str> {
    let parts = token.split('.');
    parts.flat_map(|part| (0..part.len().saturating_sub(11)).map(|at| &part[at..at + 12]))
}

#[tokio::test]
async fn each_reason_is_counted_and_logged_and_no_token_is() {
    let tokens = refused_tokens();
    for format in ["--log-format=json", "--log-format=text"] {
        let flags = ["--allow-query-token", "--refuse-with=http"];
        let log = ["--log-level=trace", format];
        let process = Process::start(&[STRICT, &flags, &log].concat()).await;
        for (code, reason, token, _) in &tokens {
            send_everywhere(process.edge(), token).await;
            let metrics = get(process.admin(), "/metrics").await;
            let reason = reason.map(|reason| format!(",reason=\"{reason}\""));
            let reason = reason.unwrap_or_default();
            let count = metric(
                &metrics,
                &format!("handshakes_total{{result=\"{code}\"{reason}}}"),
            );
            let places = places(token) as u64;
            assert!(
                count >= places && count.is_multiple_of(places),
                "{code} {reason}: {count}"
            );
        }
        process.signal(Signal::TERM);
        let (_, log) = process.ended().await;
        for (_, _, token, _) in &tokens {
            for piece in pieces(token) {
                assert!(!log.contains(piece), "{piece} of {token} is in the log");
            }
        }
        assert!(!log.contains('\u{1b}') && !log.lines().any(|line| line == "flush_all"));
        if format == "--log-format=text" {
            let escaped = r#"user="mal\u{1b}[31mlory\r\nflush_all""#;
            assert!(log.contains(escaped), "{log}");
            continue;
        }
        let refused = lines(&log, "refused");
        let sent = tokens
            .iter()
            .flat_map(|token| vec![token; places(&token.2)]);
        assert_eq!(refused.len(), sent.clone().count());
        for (fields, (code, reason, token, user)) in refused.iter().zip(sent) {
            assert_eq!(fields["code"], **code, "{fields}");
            assert_eq!(
                fields.get("reason").and_then(Value::as_str),
                *reason,
                "{fields}"
            );
            assert_eq!(fields["address"], "127.0.0.1", "{fields}");
            // One that is too long is cut.
            let told = fields.get("user").and_then(Value::as_str);
            match reason == &Some("too_long") && token.len() < TOKEN_BYTES_MAX {
                true => assert_eq!(told, Some(&*"m".repeat(200))),
                false => assert_eq!(told, *user, "{fields}"),
            }
        }
    }
}

#[tokio::test]
async fn a_token_for_something_else_is_403() {
    let server = TestServer::start(&["--require-scope"]).await;
    let scoped = |scope: &str| {
        let mut claims = claims("alice");
        claims["scope"] = scope.into();
        sign(&claims)
    };
    for token in [token("alice"), scoped("openid email")] {
        for path in ["/ws", "/v1/presence?user=1"] {
            let response = send(server.edge, "GET", path, &upgrade_with(&token), "").await;
            assert_eq!(
                (response.status, &*response.error_code()),
                (403, "insufficient_scope")
            );
            let challenge = response.header("www-authenticate");
            assert_eq!(challenge, Some(r#"Bearer error="insufficient_scope""#));
        }
    }
    assert_eq!(server.handshakes("insufficient_scope").await, 4);
    let response = handshake(
        server.edge,
        &upgrade_with(&scoped("openid presence:connect")),
    )
    .await;
    assert_eq!(response.status, 101, "{response:?}");
    // The tokens of dev mode have it.
    let process = Process::start_dev(&["--require-scope"]).await;
    let mut raw = Raw::connect(process.edge()).await;
    raw.send("GET /dev/token?user=alice HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        .await;
    let dev = raw.response().await.json();
    let headers = upgrade_with(dev["token"].as_str().unwrap());
    assert_eq!(handshake(process.edge(), &headers).await.status, 101);
}

#[tokio::test]
async fn a_bad_request_is_told_which_rule_it_breaks() {
    let server = TestServer::start(&[]).await;
    let good = || upgrade_with(&token("alice"));
    let without = |name: &str| {
        let mut headers = good();
        headers.retain(|(other, _)| *other != name);
        headers
    };
    let and = |name, value: &str| [good(), vec![(name, value.to_owned())]].concat();
    let get = |headers: &[_]| request("GET", "/ws", headers, "");
    let cases = [
        (
            "http_version",
            "proxy_http_version 1.1",
            get(&good()).replace("HTTP/1.1", "HTTP/1.0"),
        ),
        ("host", "Host", get(&and("Host", "other"))),
        (
            "host",
            "Host",
            get(&good()).replace("Host: edge.test\r\n", ""),
        ),
        ("connection", "Connection", get(&without("Connection"))),
        ("body", "body", get(&and("Content-Length", "3"))),
        (
            "websocket_version",
            "Sec-WebSocket-Version",
            get(&without("Sec-WebSocket-Version")),
        ),
        (
            "key",
            "Sec-WebSocket-Key",
            get(&and("Sec-WebSocket-Key", KEY)),
        ),
    ];
    let mut counts = std::collections::BTreeMap::new();
    for (reason, word, request) in cases {
        let mut raw = Raw::connect(server.edge).await;
        raw.send(&request).await;
        let response = raw.response().await;
        assert_eq!(
            (response.status, &*response.error_code()),
            (400, "bad_request"),
            "{request}"
        );
        let message = response.json()["error"]["message"].clone();
        assert!(
            message.as_str().unwrap().contains(word),
            "{reason}: {message}"
        );
        let count = counts.entry(reason).or_insert(0);
        *count += 1;
        assert_eq!(
            server.refused_for("bad_request", reason).await,
            *count,
            "{reason}"
        );
    }
    // These have codes of their own.
    for (headers, method, code) in [
        (good(), "POST", "method_not_allowed"),
        (without("Upgrade"), "GET", "upgrade_required"),
    ] {
        let response = send(server.edge, method, "/ws", &headers, "").await;
        assert_eq!(response.error_code(), code);
        assert_eq!(server.handshakes(code).await, 1);
    }
}

#[tokio::test]
async fn that_sessions_are_refused_for_want_of_places_is_logged_once_a_minute() {
    let process = Process::start(&["--max-sessions=1", "--log-format=json"]).await;
    let _first = Client::connect(process.edge(), "first").await;
    for _ in 0..20 {
        let response = handshake(process.edge(), &upgrade_with(&token("second"))).await;
        assert_eq!(response.error_code(), "too_many_sessions");
    }
    process.signal(Signal::TERM);
    let (_, log) = process.ended().await;
    let said = lines(&log, "sessions are refused: --max-sessions is reached");
    assert_eq!(said.len(), 1, "{log}");
    assert_eq!(
        (&said[0]["sessions"], &said[0]["max"]),
        (&json!(1), &json!(1))
    );
    // What clients cause is not said at the usual level.
    assert_eq!(lines(&log, "refused").len(), 0, "{log}");
}

#[tokio::test]
async fn the_end_of_a_session_is_told_whole() {
    let flags = [
        "--log-level=debug",
        "--log-format=json",
        "--max-sessions-per-user=1",
        "--drain=1s",
    ];
    let process = Process::start(&flags).await;
    let stored = async |user: &str| -> Value {
        let (mut value, command) = (Value::Null, format!("get user:{user}:online\r\nquit\r\n"));
        until("the user is stored", PATIENCE, async || {
            let mut raw = Raw::connect(process.store()).await;
            raw.send(&command).await;
            let answer = String::from_utf8(raw.rest().await).unwrap();
            let found = answer
                .lines()
                .nth(1)
                .and_then(|value| serde_json::from_str(value).ok());
            value = found.unwrap_or_default();
            value.is_object()
        })
        .await;
        value
    };
    let closes = Client::connect(process.edge(), "closes").await;
    let replaced = Client::connect(process.edge(), "moves").await;
    let breaks = Raw::session(process.edge(), "breaks").await;
    let mut socket_ids = vec![];
    for user in ["closes", "moves", "breaks"] {
        socket_ids.push(stored(user).await["socketId"].clone());
    }
    closes.close().await;
    breaks.reset();
    let stays = Client::connect(process.edge(), "moves").await;
    assert_eq!(replaced.closed().await.code, Some(4409));
    until("all three are logged", PATIENCE, async || {
        process.logged("session ended") == 3
    })
    .await;
    process.signal(Signal::TERM);
    assert_eq!(stays.closed().await.code, Some(1012));
    let (_, log) = process.ended().await;
    let ended = lines(&log, "session ended");
    let of = |user: &str, reason: &str| {
        let is_it = |fields: &&Value| fields["user"] == user && fields["reason"] == reason;
        let found = ended.iter().find(is_it);
        let found = found.unwrap_or_else(|| panic!("no {user} in {log}"));
        assert_eq!(found["address"], "127.0.0.1", "{found}");
        let duration_ms = found["duration_ms"].as_u64().unwrap();
        assert!(duration_ms < PATIENCE.as_millis() as u64, "{found}");
        found["socketId"].clone()
    };
    assert_eq!(of("closes", "closed"), socket_ids[0]);
    assert_eq!(of("moves", "replaced"), socket_ids[1]);
    assert_eq!(of("breaks", "disconnected"), socket_ids[2]);
    assert_ne!(of("moves", "restart"), socket_ids[1]);
    assert_eq!(ended.len(), 4, "{log}");
}

#[tokio::test]
async fn the_log_has_hashes_of_users_where_it_is_told_to() {
    let hashed = async |flags: &[&str]| {
        let usual = ["--log-level=trace", "--log-users=hashed"];
        let process = Process::start(&[&usual, flags].concat()).await;
        let mut expired = claims("mallory");
        expired["exp"] = in_s(-60).into();
        handshake(process.edge(), &upgrade_with(&sign(&expired))).await;
        Client::connect(process.edge(), "mallory")
            .await
            .close()
            .await;
        process.logs("session ended").await;
        process.signal(Signal::TERM);
        let (_, log) = process.ended().await;
        assert!(!log.contains("mallory"), "{log}");
        log
    };
    let json = hashed(&["--log-format=json"]).await;
    let [refused, ended] = ["refused", "session ended"].map(|message| {
        let lines = lines(&json, message);
        assert_eq!(lines.len(), 1, "{json}");
        lines[0]["user"].as_str().unwrap().to_owned()
    });
    assert_eq!(refused, ended);
    // Another server with the same secret says the same.
    assert!(
        hashed(&["--log-format=text"])
            .await
            .contains(&format!("user=\"{ended}\""))
    );
}

/// Names of labels, and how many series there are.
async fn labels(server: &TestServer) -> (BTreeSet<String>, usize) {
    let metrics = get(server.admin, "/metrics").await.body;
    let series = metrics.lines().filter(|line| !line.starts_with('#'));
    let labels = series
        .clone()
        .filter_map(|line| line.split_once('{')?.1.split_once('}'));
    let names = labels
        .flat_map(|(labels, _)| labels.split("\","))
        .map(|label| {
            let (name, _) = label.split_once('=').unwrap();
            name.to_owned()
        });
    (names.collect(), series.count())
}

#[tokio::test]
async fn no_label_of_a_metric_is_chosen_by_a_client() {
    let server = TestServer::start(&[]).await;
    let (names, count) = labels(&server).await;
    let known = [
        "error", "le", "node", "reason", "result", "resumed", "task", "version",
    ];
    let known = known.map(String::from);
    assert!(names.is_subset(&BTreeSet::from(known)), "{names:?}");
    let mut clients = vec![];
    for number in 0..10 {
        clients.push(Client::connect(server.edge, &format!("user-{number}")).await);
        let header = Header {
            kid: Some(format!("kid-{number}")),
            typ: Some(format!("typ-{number}")),
            ..Header::default()
        };
        let refused = sign_with(&header, &claims("mallory"));
        handshake(server.edge, &upgrade_with(&refused)).await;
        get(server.edge, &format!("/path-{number}")).await;
    }
    assert_eq!(labels(&server).await, (names, count));
    let metrics = get(server.admin, "/metrics").await.body;
    for word in ["user-", "mallory", "kid-", "typ-", "path-"] {
        assert!(!metrics.contains(word), "{word} in {metrics}");
    }
}
