//! Sessions that go on with another token, on the real server.

use std::time::Duration;

use presenced_session::limits::MESSAGE_BYTES_MAX;
use presenced_testkit::client::Client;
use presenced_testkit::raw::get;
use presenced_testkit::server::{TestServer, metric};
use presenced_testkit::tokens::{claims, in_s, sign, strict_with, token};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// A token of `user` that ends in so many seconds, the leeway of five not counted.
fn token_for(user: &str, seconds: i64) -> String {
    sign(&json!({"sub": user, "exp": in_s(seconds)}))
}

async fn connect(server: &TestServer, token: &str) -> Client {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let connected = Client::try_connect(server.edge, "/ws", &headers).await;
    connected.expect("the handshake succeeds").0
}

fn show(client: &Client, token: &str) {
    client.say(json!({"token": token}).to_string());
}

/// What is answered to a token, which must be nothing else.
async fn answer(client: &mut Client) -> Value {
    let mut answer = client.hear().await;
    let token = answer["token"].take();
    assert_eq!(answer, json!({"token": null}));
    token
}

async fn renewals(server: &TestServer, result: &str) -> u64 {
    let metrics = get(server.admin, "/metrics").await;
    metric(&metrics, &format!("renewals_total{{result=\"{result}\"}}"))
}

#[tokio::test]
async fn a_session_that_is_renewed_outlives_its_token() {
    let server = TestServer::start(&[]).await;
    // Two seconds are left of the leeway.
    let mut renewed = connect(&server, &token_for("alice", -3)).await;
    let left_alone = connect(&server, &token_for("bob", -3)).await;
    let expiring = renewed.hear().await;
    assert!(
        matches!(expiring["expiring"].as_u64(), Some(0..=2)),
        "{expiring}"
    );
    show(&renewed, &token("alice"));
    let renewal = answer(&mut renewed).await;
    let expires_in = renewal["expiresIn"].as_u64().unwrap();
    assert!((603..=605).contains(&expires_in), "{renewal}");
    assert_eq!(left_alone.closed().await.code, Some(4401));
    sleep(Duration::from_secs(1)).await;
    let online = renewed.pull(&["alice", "bob"]).await;
    assert!(online["online"]["alice"].is_object(), "{online}");
    assert_eq!(renewals(&server, "ok").await, 1);
}

#[tokio::test]
async fn sessions_end_within_a_second_of_their_tokens() {
    let server = TestServer::start(&[]).await;
    let now_ms = presenced_testkit::unix_ms();
    let (start, exp) = (Instant::now(), in_s(-2));
    let mut ends = Vec::new();
    for number in 0..20 {
        let token = sign(&json!({"sub": format!("u{number}"), "exp": exp}));
        ends.push(connect(&server, &token).await);
    }
    let over_ms = (exp as u64 + 5) * 1000;
    let over = start + Duration::from_millis(over_ms - now_ms);
    for client in ends {
        let end = client.closed().await;
        assert_eq!(end.code, Some(4401));
        assert!(end.at >= over, "early by {:?}", over - end.at);
        assert!(
            end.at - over < Duration::from_secs(1),
            "{:?} late",
            end.at - over
        );
    }
}

#[tokio::test]
async fn a_token_that_is_refused_changes_nothing() {
    let flags = ["--require-scope"];
    let server = TestServer::start(&flags).await;
    let scoped = |user: &str, seconds| {
        sign(&json!({"sub": user, "exp": in_s(seconds), "scope": "presence:connect presence:read"}))
    };
    let mut client = connect(&server, &scoped("alice", -1)).await;
    assert!(client.hear().await["expiring"].is_u64());
    let mut forged = scoped("alice", 600);
    forged.replace_range(forged.len() - 4.., "AAAA");
    for (token, code) in [
        ("", "token_invalid"),
        ("a.b.c", "token_invalid"),
        (forged.as_str(), "token_invalid"),
        (&"x.".repeat(3000), "token_invalid"),
        (&scoped("alice", -60), "token_expired"),
        // Of another user, too: it is not read whose it is.
        (&scoped("bob", -60), "token_expired"),
        (&token("alice"), "insufficient_scope"),
        (&scoped("a b", 600), "user_id_not_allowed"),
        // A service token opens no session without the word that one needs.
        (
            &sign(&json!({"sub": "alice", "exp": in_s(600), "scope": "presence:read-all"})),
            "insufficient_scope",
        ),
    ] {
        show(&client, token);
        let refused = answer(&mut client).await;
        assert_eq!(refused["error"]["code"], code, "{token}");
        assert!(refused["error"]["message"].is_string());
    }
    assert_eq!(renewals(&server, "token_expired").await, 2);
    assert_eq!(renewals(&server, "insufficient_scope").await, 2);
    // None of them is a refused request.
    assert_eq!(server.handshakes("token_expired").await, 0);
    assert_eq!(renewals(&server, "ok").await, 0);
    assert!(client.pull(&["alice"]).await["online"]["alice"].is_object());
    // It ends with the token that it has.
    assert_eq!(client.closed().await.code, Some(4401));
}

#[tokio::test]
async fn what_a_handshake_must_show_a_renewal_must_show() {
    let flags = [
        "--jwt-issuer=https://id.example",
        "--jwt-audience=presence",
        "--jwt-max-lifetime=1h",
    ];
    let server = TestServer::start(&flags).await;
    let good = strict_with("alice", "x", 1.into());
    let mut client = connect(&server, &good).await;
    for (name, value) in [
        ("aud", json!("other")),
        ("iss", json!("https://evil.example")),
        ("exp", json!(in_s(2 * 3600))),
        ("nbf", json!(in_s(60))),
    ] {
        show(&client, &strict_with("alice", name, value));
        let refused = answer(&mut client).await;
        assert_eq!(refused["error"]["code"], "token_invalid", "{name}");
    }
    show(&client, &good);
    assert!(answer(&mut client).await["expiresIn"].is_u64());
}

#[tokio::test]
async fn another_users_token_ends_the_session() {
    let server = TestServer::start(&[]).await;
    let mut client = connect(&server, &token("alice")).await;
    let other = Client::connect(server.edge, "bob").await;
    assert!(client.pull(&["alice"]).await["online"]["alice"].is_object());
    show(&client, &token("bob"));
    assert_eq!(client.closed().await.code, Some(1008));
    assert_eq!(server.ends("other_user").await, 1);
    assert!(other.is_open());
}

#[tokio::test]
async fn a_token_that_ends_sooner_ends_the_session_sooner() {
    let server = TestServer::start(&[]).await;
    let mut client = connect(&server, &token("alice")).await;
    show(&client, &token_for("alice", -3));
    let renewal = answer(&mut client).await;
    assert!(
        matches!(renewal["expiresIn"].as_u64(), Some(0..=2)),
        "{renewal}"
    );
    let start = Instant::now();
    // Whoever renews was told: nothing comes but the end.
    let end = client.closed().await;
    assert_eq!(end.code, Some(4401));
    assert!(end.at - start < Duration::from_secs(3));
}

#[tokio::test]
async fn a_renewal_is_one_message_of_one_kind() {
    let server = TestServer::start(&[]).await;
    let mut client = connect(&server, &token("alice")).await;
    let good = token("alice");
    for (message, number) in [
        (
            json!({"token": good, "pull": 7, "users": ["alice"]}),
            json!(7),
        ),
        (json!({"token": good, "pull": "x"}), Value::Null),
        (json!({"token": 7}), Value::Null),
    ] {
        client.say(message.to_string());
        let refused = client.hear().await;
        assert_eq!(refused["error"]["code"], "malformed", "{refused}");
        assert_eq!(refused["pull"], number);
    }
    assert_eq!(renewals(&server, "ok").await, 0);
    client.say(json!({"later": [1], "token": good}).to_string());
    assert!(answer(&mut client).await["expiresIn"].is_u64());
}

#[tokio::test]
async fn the_longest_token_renews_and_too_many_end_the_session() {
    let server = TestServer::start(&[]).await;
    let mut client = connect(&server, &token("alice")).await;
    let mut long = claims("alice");
    long["x"] = "x".repeat(2900).into();
    let long = sign(&long);
    assert!((3900..=4096).contains(&long.len()), "{}", long.len());
    show(&client, &long);
    assert!(answer(&mut client).await["expiresIn"].is_u64());
    show(&client, &"x".repeat(MESSAGE_BYTES_MAX - 100));
    assert_eq!(answer(&mut client).await["error"]["code"], "token_invalid");
    // Ten messages each, and 200 at once.
    for _ in 0..40 {
        show(&client, &long);
    }
    assert_eq!(client.closed().await.code, Some(1008));
    assert_eq!(server.ends("rate_limited").await, 1);
    assert!((15..=25).contains(&renewals(&server, "ok").await));
}

#[tokio::test]
async fn tokens_that_end_in_a_drain_do_not_hold_it_up() {
    let server = TestServer::start(&["--drain=3s", "--drain-delay=0s"]).await;
    let mut clients = Vec::new();
    for number in 0..40 {
        let user = format!("u{number}");
        clients.push(connect(&server, &token_for(&user, -3 + number % 2)).await);
    }
    let renewing = connect(&server, &token("late")).await;
    let draining = tokio::spawn(server.drain());
    show(&renewing, &token_for("late", 60));
    for client in clients {
        let code = client.closed().await.code;
        assert!(matches!(code, Some(4401 | 1012)), "{code:?}");
    }
    assert_eq!(renewing.closed().await.code, Some(1012));
    draining.await.unwrap();
}

#[tokio::test]
async fn a_session_pulls_while_its_token_is_for_pulls() {
    let server = TestServer::start(&["--require-scope"]).await;
    let scoped = |scope| sign(&json!({"sub": "alice", "exp": in_s(600), "scope": scope}));
    let mut client = connect(&server, &scoped("presence:connect")).await;
    let refused = client.pull(&["alice"]).await;
    assert_eq!(refused["error"]["code"], "insufficient_scope", "{refused}");
    for (scope, may) in [
        ("presence:connect presence:read", true),
        ("presence:connect", false),
        ("presence:connect presence:read", true),
    ] {
        show(&client, &scoped(scope));
        assert!(answer(&mut client).await["expiresIn"].is_u64());
        let answer = client.pull(&["alice"]).await;
        assert_eq!(answer["online"]["alice"].is_object(), may, "{answer}");
        assert_eq!(answer["error"].is_object(), !may, "{answer}");
    }
}
