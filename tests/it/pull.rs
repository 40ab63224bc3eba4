//! Pulls, over sessions and over HTTP: who is online, and never a false "offline".

use presenced::limits::{BODY_BYTES_MAX, PULL_USERS_MAX, PULLS_PER_SESSION_MAX};
use presenced_memcached::limits::REPLY_TIMEOUT;
use presenced_testkit::client::Client;
use presenced_testkit::memcached::{Memcached, key};
use presenced_testkit::node::{Answered, Get, ScriptedNode};
use presenced_testkit::process::Process;
use presenced_testkit::raw::{Raw, Response, TEXT, frame, get, get_with, send};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::{claims, sign, token};
use presenced_testkit::{PATIENCE, unix_ms, until};
use serde_json::{Value, json};
use tokio::time::interval;

const PRESENCE: &str = "/v1/presence";

async fn post(server: &TestServer, body: &str) -> Response {
    let headers = [
        ("Authorization", format!("Bearer {}", token("asker"))),
        ("Content-Type", "application/json".into()),
    ];
    send(server.edge, "POST", PRESENCE, &headers, body).await
}

async fn query(server: &TestServer, query: &str) -> Response {
    get_with(server.edge, &format!("{PRESENCE}{query}"), &token("asker")).await
}

fn refused(response: &Response, status: u16, code: &str, what: &str) {
    assert_eq!(response.status, status, "{what}: {response:?}");
    assert_eq!(response.error_code(), code, "{what}: {response:?}");
}

#[tokio::test]
async fn a_session_learns_who_is_online() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let before = unix_ms();
    let mut alice = Client::connect(server.edge, "alice").await;
    let _bob = Client::connect(server.edge, "Böb").await;
    until("both are here", PATIENCE, async || {
        server.metric("users").await == 2
    })
    .await;
    let answer = alice.pull(&["alice", "nobody", "Böb", "alice"]).await;
    let online = answer["online"].as_object().unwrap();
    assert_eq!(online.len(), 2, "{answer}");
    for user in ["alice", "Böb"] {
        // serverId and socketId are not for clients.
        let entry = online[user].as_object().unwrap();
        assert_eq!(entry.len(), 1, "{answer}");
        let connected_at = entry["connectedAt"].as_u64().unwrap();
        assert!((before..=unix_ms()).contains(&connected_at), "{answer}");
    }
    assert!(answer.get("unknown").is_none(), "{answer}");
    assert_eq!(alice.pull(&[]).await, json!({"online": {}}));

    // The number is the client's own, whatever it is.
    for number in [0, 1 << 53, u64::MAX] {
        alice.say(json!({"pull": number, "users": ["nobody"], "more": [1]}).to_string());
        assert_eq!(alice.hear().await, json!({"pull": number, "online": {}}));
    }
    assert!(server.metric("pulls_total").await >= 5);
}

#[tokio::test]
async fn http_answers_as_a_session_does() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let mut alice = Client::connect(server.edge, "alice").await;
    let _bob = Client::connect(server.edge, "Böb:1").await;
    until("both are here", PATIENCE, async || {
        server.metric("users").await == 2
    })
    .await;
    let expected = alice.pull(&["alice", "nobody", "Böb:1"]).await;
    assert_eq!(expected["online"].as_object().unwrap().len(), 2);

    let by_get = query(&server, "?user=alice&user=nobody&x=y&user=B%C3%B6b%3A1").await;
    let by_post = post(
        &server,
        r#"{"users":["alice","nobody","B\u00f6b:1"],"x":1}"#,
    )
    .await;
    for response in [by_get, by_post] {
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(response.json(), expected);
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
    let none = json!({"online": {}});
    assert_eq!(post(&server, r#"{"users":[]}"#).await.json(), none);
}

#[tokio::test]
async fn a_pull_has_at_most_500_users() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let mut alice = Client::connect(server.edge, "alice").await;
    let names: Vec<_> = (0..PULL_USERS_MAX)
        .map(|number| format!("x{number}"))
        .collect();
    let over: Vec<_> = ["alice"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    let most = &over[..PULL_USERS_MAX];
    assert_eq!((most.len(), over.len()), (500, 501));

    let answer = alice.pull(most).await;
    assert_eq!(answer["online"].as_object().unwrap().len(), 1, "{answer}");
    assert!(answer.get("unknown").is_none(), "{answer}");
    let answer = alice.pull(&over).await;
    assert_eq!(answer["error"]["code"], "too_many_users", "{answer}");
    let answer = alice.pull(&["alice"]).await;
    assert!(answer["online"]["alice"].is_object(), "{answer}");

    let body = |users: &[&str]| json!({"users": users}).to_string();
    assert_eq!(post(&server, &body(most)).await.status, 200);
    refused(
        &post(&server, &body(&over)).await,
        400,
        "too_many_users",
        "POST",
    );
    let as_query = |users: &[&str]| {
        let user: String = users.iter().map(|user| format!("&user={user}")).collect();
        format!("?{user}")
    };
    assert_eq!(query(&server, &as_query(most)).await.status, 200);
    let response = query(&server, &as_query(&over)).await;
    refused(&response, 400, "too_many_users", "GET");
}

#[tokio::test]
async fn what_can_not_be_read_is_an_error_and_the_session_lives_on() {
    let server = TestServer::start(&["--max-messages-per-second=1000"]).await;
    let mut alice = Client::connect(server.edge, "alice").await;
    for (text, number, code) in [
        ("", None, "malformed"),
        ("hello", None, "malformed"),
        ("{", None, "malformed"),
        ("[]", None, "malformed"),
        ("null", None, "malformed"),
        ("{}", None, "malformed"),
        (r#"{"users":["1"]}"#, None, "malformed"),
        (r#"{"pull":-1,"users":["1"]}"#, None, "malformed"),
        (r#"{"pull":1.5,"users":["1"]}"#, None, "malformed"),
        (r#"{"pull":"1","users":["1"]}"#, None, "malformed"),
        (r#"{"pull":1,"users":["1"]} x"#, None, "malformed"),
        (r#"{"pull":1}"#, Some(1), "malformed"),
        (r#"{"pull":2,"users":"1"}"#, Some(2), "malformed"),
        (r#"{"pull":3,"users":1}"#, Some(3), "malformed"),
        (r#"{"pull":4,"users":{"1":1}}"#, Some(4), "malformed"),
        (r#"{"pull":5,"users":null}"#, Some(5), "malformed"),
    ] {
        alice.say(text);
        let answer = alice.hear().await;
        assert_eq!(answer["error"]["code"], code, "{text}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{text}: {answer}");
        assert_eq!(
            answer.get("pull"),
            number.map(Value::from).as_ref(),
            "{text}"
        );
    }
    alice.say("[".repeat(60_000));
    assert_eq!(alice.hear().await["error"]["code"], "malformed");
    assert!(alice.pull(&["alice"]).await["online"]["alice"].is_object());
}

#[tokio::test]
async fn more_pulls_at_once_than_allowed_are_told_so() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let mut raw = Raw::session(server.edge, "alice").await;
    // In one write, so that they are read before one is answered.
    let count = u64::from(PULLS_PER_SESSION_MAX) + 5;
    let pull = |number| json!({"pull": number, "users": ["alice"]}).to_string();
    let burst = (1..=count).flat_map(|number| frame(TEXT, pull(number).as_bytes()));
    raw.send(burst.collect::<Vec<u8>>()).await;
    let (mut answered, mut told) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let answer = raw.json().await;
        let number = answer["pull"].as_u64().unwrap();
        if answer["online"]["alice"].is_object() {
            answered.push(number);
        } else {
            assert_eq!(answer["error"]["code"], "too_many_pulls", "{answer}");
            told.push(number);
        }
    }
    let of_all: Vec<_> = answered.iter().chain(&told).copied().collect();
    assert!(
        (1..=count).all(|number| of_all.contains(&number)),
        "{of_all:?}"
    );
    assert!(
        answered.len() >= usize::from(PULLS_PER_SESSION_MAX),
        "{answered:?}"
    );
    raw.send(frame(TEXT, pull(99).as_bytes())).await;
    assert_eq!(raw.json().await["pull"], 99);
}

#[tokio::test]
async fn an_id_that_nobody_can_have_is_told_and_costs_the_others_nothing() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let mut alice = Client::connect(server.edge, "alice").await;
    until("alice is online", PATIENCE, async || {
        alice.pull(&["alice"]).await["online"]["alice"].is_object()
    })
    .await;
    let since = alice.pull(&["alice"]).await["online"].clone();
    let long = "x".repeat(201);
    let bad = ["", "a b", "a\r\nflush_all", &long];
    let expected = json!({"online": since, "invalid": bad});
    let names = [&["alice"][..], &bad[..], &["a b", "nobody"]].concat();
    assert_eq!(alice.pull(&names).await, expected);
    let body = json!({"users": names}).to_string();
    assert_eq!(post(&server, &body).await.json(), expected);
    let as_query = format!("?user=alice&user=&user=a+b&user=a%0d%0aflush_all&user={long}");
    assert_eq!(query(&server, &as_query).await.json(), expected);

    // What is no id at all is told as well as it can be.
    let odd = json!({"pull": 7, "users": ["alice", 1.5, null, [1], {"a": 1}, true]});
    alice.say(odd.to_string());
    let others = ["1.5", "null", "[…]", "{…}", "true"];
    let expected = json!({"pull": 7, "online": since, "invalid": others});
    assert_eq!(alice.hear().await, expected);
    // Numbers as they are written, with which json! could not help.
    let odd = r#"{"pull":8,"users":["alice",1e2,100.0,-0,18446744073709551616,1e400]}"#;
    let others = ["1e2", "100.0", "-0", "18446744073709551616", "1e400"];
    alice.say(odd);
    let expected = json!({"pull": 8, "online": since, "invalid": others});
    assert_eq!(alice.hear().await, expected);
    let expected = json!({"online": since, "invalid": others});
    assert_eq!(post(&server, odd).await.json(), expected);
    let response = query(&server, "?user=alice&user=%ff").await;
    assert_eq!(
        response.json(),
        json!({"online": since, "invalid": ["%ff"]})
    );
}

#[tokio::test]
async fn integers_are_ids_as_in_tokens() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let mut claims = claims("");
    claims["sub"] = 42.into();
    let bearer = format!("Bearer {}", sign(&claims));
    let headers = [("authorization", bearer.as_str())];
    let connected = Client::try_connect(server.edge, "/ws", &headers).await;
    let (mut user, _) = connected.unwrap();
    until("42 is online", PATIENCE, async || {
        user.pull(&["42"]).await["online"]["42"].is_object()
    })
    .await;
    let since = user.pull(&["42"]).await["online"].clone();
    let asked = json!({"pull": 1, "users": [42, -7, u64::MAX, "42"]});
    user.say(asked.to_string());
    assert_eq!(user.hear().await, json!({"pull": 1, "online": since}));
    let answer = post(&server, r#"{"users":[42,-7]}"#).await;
    assert_eq!(answer.json(), json!({"online": since}));
}

#[tokio::test]
async fn http_requests_that_are_not_pulls() {
    let server = TestServer::start(&[]).await;
    for body in [
        "",
        "[]",
        "{}",
        "{",
        r#"{"users":"1"}"#,
        r#"{"users":1}"#,
        r#"{"users":[]} x"#,
    ] {
        refused(&post(&server, body).await, 400, "malformed", body);
    }
    // Nobody is asked for, so nobody is offline.
    for (of, named) in [
        ("", "user=ID"),
        ("?", "user=ID"),
        ("?users=1,2", "users"),
        ("?user[]=1&id=2", "user[], id"),
    ] {
        let response = query(&server, of).await;
        refused(&response, 400, "malformed", of);
        assert!(response.body.contains(named), "{of}: {response:?}");
    }

    let unasked = get(server.edge, "/v1/presence?user=1").await;
    refused(&unasked, 401, "token_missing", "no token");
    assert_eq!(unasked.header("www-authenticate"), Some("Bearer"));
    let bad = get_with(server.edge, "/v1/presence?user=1", "bad").await;
    refused(&bad, 401, "token_invalid", "a bad token");
    assert!(
        bad.header("www-authenticate")
            .unwrap()
            .contains("invalid_token")
    );

    let most = format!(r#"{{"users":[]{}}}"#, " ".repeat(BODY_BYTES_MAX - 12));
    assert_eq!(most.len(), BODY_BYTES_MAX);
    assert_eq!(post(&server, &most).await.status, 200);
    refused(
        &post(&server, &format!("{most} ")).await,
        413,
        "body_too_big",
        "a byte over",
    );
    // Nor is one believed that does not say how long it is.
    let mut raw = Raw::connect(server.edge).await;
    let head = format!(
        "POST {PRESENCE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{most}\r\n",
        token("asker"),
        BODY_BYTES_MAX
    );
    raw.send(head).await;
    raw.try_send("1\r\nx\r\n0\r\n\r\n").await;
    refused(&raw.response().await, 413, "body_too_big", "chunks");

    for method in ["PUT", "DELETE", "PATCH"] {
        let headers = [("Authorization", format!("Bearer {}", token("asker")))];
        let response = send(server.edge, method, PRESENCE, &headers, "").await;
        refused(&response, 405, "method_not_allowed", method);
        assert_eq!(response.header("allow"), Some("GET, HEAD, POST, OPTIONS"));
    }
    refused(
        &get(server.edge, "/v1/other").await,
        404,
        "not_found",
        "another path",
    );
    refused(
        &get(server.edge, "/v1/presence/").await,
        404,
        "not_found",
        "another path",
    );
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_the_answers() {
    let server = TestServer::start(&["--allow-origin=https://app.example"]).await;
    let ask = async |method: &str, origin: &str, token: &str| {
        let headers = [
            ("Origin", origin.to_owned()),
            ("Authorization", format!("Bearer {token}")),
            ("Access-Control-Request-Method", "POST".into()),
        ];
        send(server.edge, method, "/v1/presence?user=1", &headers, "").await
    };
    let (allowed, other) = ("https://app.example", "https://evil.example");
    let good = token("asker");

    let response = ask("GET", allowed, &good).await;
    assert_eq!(response.status, 200);
    assert_eq!(
        response.header("access-control-allow-origin"),
        Some(allowed)
    );
    assert_eq!(response.header("vary"), Some("Origin"));
    // An error too, or the page would see none.
    let response = ask("GET", allowed, "bad").await;
    assert_eq!(response.status, 401);
    assert_eq!(
        response.header("access-control-allow-origin"),
        Some(allowed)
    );

    let preflight = ask("OPTIONS", allowed, "").await;
    assert_eq!(preflight.status, 204, "{preflight:?}");
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some(allowed)
    );
    let methods = preflight.header("access-control-allow-methods").unwrap();
    assert!(
        methods.contains("GET") && methods.contains("POST"),
        "{methods}"
    );
    let headers = preflight.header("access-control-allow-headers").unwrap();
    assert!(headers.contains("authorization"), "{headers}");
    assert!(headers.contains("content-type"), "{headers}");
    // No cookies.
    assert_eq!(preflight.header("access-control-allow-credentials"), None);

    for method in ["GET", "POST", "OPTIONS"] {
        let response = ask(method, other, &good).await;
        refused(&response, 403, "origin_not_allowed", method);
        assert_eq!(response.header("access-control-allow-origin"), None);
    }
    let no_page = get_with(server.edge, "/v1/presence?user=1", &good).await;
    assert_eq!(no_page.status, 200);
    assert_eq!(no_page.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn users_of_another_edge_are_seen_through_memcached() {
    let memcached = Memcached::start().await;
    // Whoever waits for someone to go offline asks often.
    let flags = ["--server-id=edge-1", "--max-messages-per-second=1000"];
    let here = TestServer::on(&memcached, &flags).await;
    let there = TestServer::on(&memcached, &["--server-id=edge-2"]).await;
    let mut alice = Client::connect(here.edge, "alice").await;
    let bob = Client::connect(there.edge, "bob").await;
    until("bob is written", PATIENCE, async || {
        memcached.is_online("bob").await
    })
    .await;
    let entry = memcached.entry(&key("bob")).await.unwrap().json;
    assert_eq!(entry["serverId"], "edge-2");

    let answer = alice.pull(&["bob", "alice", "nobody"]).await;
    let online = answer["online"].as_object().unwrap();
    assert_eq!(online.len(), 2, "{answer}");
    assert_eq!(online["bob"], json!({"connectedAt": entry["connectedAt"]}));
    assert!(answer.get("unknown").is_none(), "{answer}");
    let by_http = query(&here, "?user=bob").await.json();
    assert_eq!(by_http["online"]["bob"], online["bob"]);

    // Gone there, and in time here too.
    bob.close().await;
    until("bob is offline", PATIENCE, async || {
        alice.pull(&["bob"]).await == json!({"online": {}})
    })
    .await;
}

#[tokio::test]
async fn without_memcached_no_one_is_offline() {
    let mut memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &["--max-messages-per-second=1000"]).await;
    let mut alice = Client::connect(server.edge, "alice").await;
    let _bob = Client::connect(server.edge, "bob").await;
    until("both are here", PATIENCE, async || {
        server.metric("users").await == 2
    })
    .await;
    assert!(alice.pull(&["x"]).await.get("unknown").is_none());

    memcached.kill();
    let asked = ["bob", "x", "alice", "y"];
    // Also the very first, when no one has noticed yet.
    for _ in 0..3 {
        let answer = alice.pull(&asked).await;
        assert_eq!(answer["unknown"], json!(["x", "y"]), "{answer}");
        let online = answer["online"].as_object().unwrap();
        assert!(
            online.contains_key("alice") && online.contains_key("bob"),
            "{answer}"
        );
        assert_eq!(online.len(), 2, "{answer}");
        let by_http = query(&server, "?user=bob&user=x&user=alice&user=y").await;
        assert_eq!((by_http.status, by_http.json()), (200, answer));
    }
    assert!(server.metric("pull_unknown_total").await >= 12);

    memcached.restart().await;
    // A TTL and a flush interval after it was found empty: other edges may not have written theirs again
    // before.
    until("known again", PATIENCE, async || {
        let answer = alice.pull(&asked).await;
        assert_eq!(answer["online"].as_object().unwrap().len(), 2, "{answer}");
        answer.get("unknown").is_none()
    })
    .await;
}

#[tokio::test]
async fn a_value_that_is_not_ours_is_unknown() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let mut alice = Client::connect(server.edge, "alice").await;
    let values = [
        ("empty", String::new()),
        ("garbage", "\u{1}\u{2}garbage".into()),
        ("number", "1".into()),
        ("list", "[]".into()),
        ("nothing-in-it", "{}".into()),
        (
            "text-for-time",
            r#"{"serverId":"x","connectedAt":"1","socketId":"y"}"#.into(),
        ),
        (
            "negative",
            r#"{"serverId":"x","connectedAt":-1,"socketId":"y"}"#.into(),
        ),
        ("cut-off", r#"{"serverId":"x","connectedAt":1"#.into()),
        (
            "no-server",
            r#"{"connectedAt":1234567890123,"socketId":"y"}"#.into(),
        ),
        (
            "number-for-server",
            r#"{"serverId":1,"connectedAt":1234567890123}"#.into(),
        ),
        (
            "no-time",
            r#"{"serverId":"x","connectedAt":0,"socketId":"y"}"#.into(),
        ),
        ("end", "\r\nEND\r\n".into()),
        (
            "large",
            format!(
                r#"{{"serverId":"x","connectedAt":1,"x":"{}"}}"#,
                "x".repeat(900_000)
            ),
        ),
    ];
    for (user, value) in &values {
        memcached.put(&key(user), value).await;
    }
    let ours = json!({"serverId": "other", "connectedAt": 1_234_567_890_123u64, "socketId": "z"});
    memcached.put(&key("ours"), &ours.to_string()).await;
    // Of an edge whose clock is an hour fast.
    let fast = unix_ms() + 3_600_000;
    let of_fast = json!({"serverId": "other", "connectedAt": fast, "socketId": "z"});
    memcached.put(&key("fast"), &of_fast.to_string()).await;
    let foreign: Vec<_> = values.iter().map(|(user, _)| *user).collect();
    let asked = [&foreign[..], &["ours", "fast", "nobody", "alice"]].concat();
    // Twice: the connection to memcached is in step still.
    for _ in 0..2 {
        let answer = alice.pull(&asked).await;
        assert_eq!(answer["unknown"], json!(foreign), "{answer}");
        let online = answer["online"].as_object().unwrap();
        assert_eq!(online.len(), 3, "{answer}");
        assert_eq!(online["ours"], json!({"connectedAt": 1_234_567_890_123u64}));
        assert_eq!(online["fast"], json!({"connectedAt": fast}));
    }
    assert_eq!(
        server.metric("pull_foreign_total").await,
        2 * foreign.len() as u64
    );
    let node = memcached.node();
    for error in ["io", "timeout", "protocol"] {
        let name = format!("memcached_errors_total{{node=\"{node}\",error=\"{error}\"}}");
        assert_eq!(server.metric(&name).await, 0, "{error}");
    }
}

#[tokio::test]
async fn who_connects_while_memcached_is_asked_is_online() {
    let mut node = ScriptedNode::start().await;
    let flag = format!("--memcached={}", node.node());
    let server = TestServer::start(&[&flag]).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let mut alice = Client::connect(server.edge, "alice").await;
    alice.say(json!({"pull": 1, "users": ["bob", "nobody"]}).to_string());
    let get = node.get().await;
    let mut keys = get.keys.clone();
    keys.sort_unstable();
    assert_eq!(keys, [key("bob"), key("nobody")]);

    let _bob = Client::connect(server.edge, "bob").await;
    until("both are here", PATIENCE, async || {
        server.metric("users").await == 2
    })
    .await;
    get.answer_nothing().await;
    let answer = alice.hear().await;
    assert!(answer["online"]["bob"].is_object(), "{answer}");
    assert!(answer["online"].get("nobody").is_none(), "{answer}");
}

/// What a node answers that has an entry of `bob`'s, and none else.
fn has_bob(get: &Get) -> String {
    let value = r#"{"serverId":"edge-2","connectedAt":7,"socketId":"x"}"#;
    let is_bob = |asked: &&String| **asked == key("bob");
    let entries = get.keys.iter().filter(is_bob);
    let entries: String = entries
        .map(|key| format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len()))
        .collect();
    entries + &get.end
}

/// A pull that `node` answers as it should, and the connection on which it did so last.
async fn pull_of(
    alice: &mut Client,
    node: &mut ScriptedNode,
    user: &str,
) -> (Value, Option<Answered>) {
    alice.say(json!({"pull": 1, "users": [user]}).to_string());
    let mut connection = None;
    loop {
        tokio::select! {
            answer = alice.hear() => return (answer, connection),
            get = node.get() => {
                let answer = has_bob(&get);
                connection = Some(get.answer(&answer).await);
            }
        }
    }
}

#[tokio::test]
async fn an_end_too_many_makes_no_one_offline() {
    let offline = json!({"pull": 1, "online": {}});
    let online = json!({"pull": 1, "online": {"bob": {"connectedAt": 7}}});
    for at_once in [false, true] {
        let mut node = ScriptedNode::start().await;
        let flag = format!("--memcached={}", node.node());
        let server = TestServer::start(&[&flag]).await;
        until("ready", PATIENCE, async || server.is_ready().await).await;
        let mut alice = Client::connect(server.edge, "alice").await;
        if at_once {
            alice.say(json!({"pull": 1, "users": ["nobody"]}).to_string());
            let get = node.get().await;
            let twice = format!("{}END\r\n", get.end);
            get.answer(&twice).await;
            // It is asked again, as no one can say whose answer the first `END` was.
            node.get().await.answer_nothing().await;
            assert_eq!(alice.hear().await, offline);
        } else {
            let (answer, connection) = pull_of(&mut alice, &mut node, "nobody").await;
            assert_eq!(answer, offline);
            connection.unwrap().say("END\r\n").await;
        }
        // Again and again: each answer is that of its own question.
        for _ in 0..3 {
            let (answer, _) = pull_of(&mut alice, &mut node, "bob").await;
            assert_eq!(answer, online, "at once: {at_once}");
            let (answer, _) = pull_of(&mut alice, &mut node, "nobody").await;
            assert_eq!(answer, offline, "at once: {at_once}");
        }
        let node = node.node();
        let errors = format!("memcached_errors_total{{node=\"{node}\",error=\"protocol\"}}");
        assert_eq!(server.metric(&errors).await, 1);
    }
}

#[tokio::test]
async fn an_end_that_comes_before_the_answer_makes_no_one_offline() {
    let mut node = ScriptedNode::start().await;
    let flag = format!("--memcached={}", node.node());
    let server = TestServer::start(&[&flag]).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let mut alice = Client::connect(server.edge, "alice").await;
    alice.say(json!({"pull": 1, "users": ["bob"]}).to_string());
    let get = node.get().await;
    let answer = has_bob(&get);
    let connection = get.answer("END\r\n").await;
    let unknown = json!({"pull": 1, "online": {}, "unknown": ["bob"]});
    assert_eq!(alice.hear().await, unknown);
    connection.say(&answer).await;
    // The answer that came too late is not the next one's.
    let (answer, _) = pull_of(&mut alice, &mut node, "nobody").await;
    assert_eq!(answer, json!({"pull": 1, "online": {}}));
}

#[tokio::test]
async fn an_answer_that_never_ends_is_not_waited_for() {
    let mut node = ScriptedNode::start().await;
    let flag = format!("--memcached={}", node.node());
    let server = TestServer::start(&[&flag]).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let mut alice = Client::connect(server.edge, "alice").await;
    alice.say(json!({"pull": 1, "users": ["bob"]}).to_string());
    let get = node.get().await;
    let head = format!("VALUE {} 0 1000000000\r\n", key("bob"));
    let connection = get.answer(&head).await;
    // Never silent for as long as a reply may take.
    let mut pace = interval(REPLY_TIMEOUT / 10);
    let answer = loop {
        tokio::select! {
            answer = alice.hear() => break answer,
            _ = pace.tick() => connection.say("x").await,
        }
    };
    assert_eq!(answer, json!({"pull": 1, "online": {}, "unknown": ["bob"]}));
}

#[tokio::test]
async fn many_large_foreign_values_are_unknown() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let mut alice = Client::connect(server.edge, "alice").await;
    let names: Vec<_> = (0..40).map(|number| format!("x{number:02}")).collect();
    let large = "x".repeat(900_000);
    for name in &names {
        memcached.put(&key(name), &large).await;
    }
    assert_eq!(memcached.stat("evictions").await, 0);
    let mut asked: Vec<_> = names.iter().map(String::as_str).collect();
    asked.extend(["alice", "nobody"]);
    // Twice: the connection to memcached is in step still.
    for round in 1..=2 {
        let answer = alice.pull(&asked).await;
        assert_eq!(answer["unknown"], json!(names), "round {round}");
        let online = answer["online"].as_object().unwrap();
        assert_eq!(online.len(), 1, "{online:?}");
        assert!(online.contains_key("alice"), "{online:?}");
        // They were read, and not given up.
        let foreign = server.metric("pull_foreign_total").await;
        assert_eq!(foreign, round * names.len() as u64);
    }
    assert!(alice.is_open());
}

#[tokio::test]
async fn what_memcached_has_takes_no_memory_here() {
    const VALUES: usize = 1000;
    const GROWTH_MAX_BYTES: u64 = 4 << 20;
    let memcached = Memcached::start_with(&["-m", "2048", "-I", "2m"]).await;
    let large: Vec<_> = (0..VALUES).map(|number| format!("x{number}")).collect();
    let ours: Vec<_> = (0..VALUES).map(|number| format!("u{number}")).collect();
    let million = "x".repeat(1 << 20);
    memcached.put_all(&large, &million).await;
    let value = r#"{"serverId":"edge-2","connectedAt":7,"socketId":"x"}"#;
    memcached.put_all(&ours, value).await;
    assert_eq!(memcached.stat("evictions").await, 0);

    let server = Process::start(&[&format!("--memcached={}", memcached.node())]).await;
    until("ready", PATIENCE, async || {
        get(server.admin(), "/readyz").await.status == 200
    })
    .await;
    let mut alice = Client::connect(server.edge(), "alice").await;
    let mut pull = async |users: &[&str]| {
        let is_ours = |user: &&&str| user.starts_with('u');
        let expected = users.iter().filter(is_ours).count();
        // A machine too busy to read so much in time says `unknown` more often, but never "offline".
        until("all are told apart", PATIENCE, async || {
            let answer = alice.pull(users).await;
            let online = answer["online"].as_object().unwrap();
            let unknown = answer["unknown"].as_array().map_or(0, Vec::len);
            assert_eq!(online.len() + unknown, users.len());
            assert!(online.keys().all(|user| user.starts_with('u')), "{answer}");
            online.len() == expected
        })
        .await;
    };
    // As many, but no large values.
    let as_many: Vec<_> = ours[..PULL_USERS_MAX].iter().map(String::as_str).collect();
    pull(&as_many).await;
    let before = server.memory_max_bytes();
    // Large values between ours: what is kept of one must not keep what came with it.
    let all: Vec<_> = ours
        .iter()
        .zip(&large)
        .flat_map(|(a, b)| [&**a, b])
        .collect();
    let pulls = all.chunks(PULL_USERS_MAX).cycle();
    for users in pulls.take(20) {
        pull(users).await;
    }
    let grown = server.memory_max_bytes() - before;
    assert!(grown < GROWTH_MAX_BYTES, "by {} KiB", grown >> 10);
}

#[tokio::test]
async fn who_is_asked_for_twice_is_answered_once() {
    // No one listens there.
    let server = TestServer::start(&["--memcached=127.0.0.1:1"]).await;
    let mut alice = Raw::session(server.edge, "alice").await;
    let users = r#""users":["alice","bob","alice","bob","\u0061lice"]"#;
    alice
        .send(frame(TEXT, format!(r#"{{"pull":1,{users}}}"#).as_bytes()))
        .await;
    let by_session = alice.frame().await.unwrap();
    let by_session = String::from_utf8(by_session.payload).unwrap();
    let by_post = post(&server, &format!("{{{users}}}")).await.body;
    let by_get = query(&server, "?user=alice&user=bob&user=bob&user=%61lice")
        .await
        .body;
    // As text: whoever reads JSON keeps one of two members of the same name.
    for text in [by_session, by_post, by_get] {
        assert_eq!(text.matches(r#""alice":"#).count(), 1, "{text}");
        assert!(text.ends_with(r#","unknown":["bob"]}"#), "{text}");
    }
}
