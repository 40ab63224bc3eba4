//! Pulls of one user cost others nothing: rates, nodes that are slow, and what was looked up before.

use presenced::limits::{CROWDED_USERS, OPEN_USERS_MAX};
use presenced_memcached::NodeSpec;
use presenced_memcached::ring::{Member, Ring, RingKind};
use presenced_testkit::client::Client;
use presenced_testkit::memcached::{Memcached, key};
use presenced_testkit::raw::{Response, get, get_with, send};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::{claims, sign, token};
use presenced_testkit::{PATIENCE, until};
use serde_json::{Value, json};

/// Asks over HTTP for that many users.
async fn post(server: &TestServer, token: &str, count: usize) -> Response {
    let headers = [("Authorization", format!("Bearer {token}"))];
    let users: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    let body = json!({ "users": users }).to_string();
    send(server.edge, "POST", "/v1/presence", &headers, &body).await
}

#[tokio::test]
async fn a_users_rate_is_one_for_all_sessions_and_http() {
    let memcached = Memcached::start().await;
    // Ten seconds' worth: 600 users.
    let server = TestServer::on(&memcached, &["--max-pull-users-per-second=60"]).await;
    let mut sessions = [
        Client::connect(server.edge, "alice").await,
        Client::connect(server.edge, "alice").await,
    ];
    let mut bob = Client::connect(server.edge, "bob").await;
    assert_eq!(post(&server, &token("alice"), 500).await.status, 200);
    let some: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    let some: Vec<_> = some.iter().map(String::as_str).collect();
    for session in &mut sessions {
        assert!(session.pull(&some).await.get("error").is_none());
    }
    // Nothing is left but what has come meanwhile.
    let many: Vec<_> = (0..450).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for session in &mut sessions {
        let refused = session.pull(&many).await;
        assert_eq!(refused["error"]["code"], "rate_limited", "{refused}");
        let retry_s = refused["error"]["retryAfter"].as_u64().unwrap();
        assert!((1..=8).contains(&retry_s), "{refused}");
    }
    let refused = post(&server, &token("alice"), 500).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.error_code(), "rate_limited");
    let retry_s: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=9).contains(&retry_s), "{refused:?}");

    // Others are not concerned, nor are back ends.
    assert!(bob.pull(&many).await.get("error").is_none());
    let mut service = claims("alice");
    service["scope"] = "presence:read-all".into();
    for _ in 0..3 {
        let answer = post(&server, &sign(&service), 500).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // A refusal is no abuse: the sessions go on.
    assert!(sessions.iter().all(Client::is_open));
}

/// Users by the node where a ring has them.
fn users_of(nodes: &[&Memcached]) -> Vec<Vec<String>> {
    let members = nodes.iter().zip(0..).map(|(node, number)| Member {
        name: node.node().parse::<NodeSpec>().unwrap().addr.ring_name(),
        weight: 1,
        node: number,
    });
    let ring = Ring::new(RingKind::Ketama, &members.collect::<Vec<_>>());
    let mut users = vec![Vec::new(); nodes.len()];
    for number in 0..100 {
        let user = format!("user{number}");
        users[usize::from(ring.node_of(key(&user).as_bytes()))].push(user);
    }
    users
}

async fn pull(server: &TestServer, users: &[&str]) -> Value {
    let path = format!("/v1/presence?user={}", users.join("&user="));
    let answer = get_with(server.edge, &path, &token("asker")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn a_node_that_does_not_answer_delays_pulls_of_its_users_only() {
    let (well, ill) = (Memcached::start().await, Memcached::start().await);
    let nodes = format!("--memcached={},{}", well.node(), ill.node());
    let server = TestServer::start(&[&nodes]).await;
    until("ready", PATIENCE, async || {
        get(server.admin, "/readyz").await.status == 200
    })
    .await;
    let users = users_of(&[&well, &ill]);
    let (theirs, others) = (&*users[1][0], &*users[0][0]);
    let all = async || pull(&server, &[theirs, others]).await;
    until("both are known to be offline", PATIENCE, async || {
        all().await == json!({"online": {}})
    })
    .await;
    ill.freeze();
    let slow = async {
        until("it is unknown", PATIENCE, async || {
            all().await == json!({"online": {}, "unknown": [theirs]})
        })
        .await;
    };
    let quick = async {
        for _ in 0..20 {
            assert_eq!(pull(&server, &[others]).await, json!({"online": {}}));
        }
    };
    tokio::join!(slow, quick);
    assert!(server.metric("pull_unknown_total").await > 0);
}

#[tokio::test]
async fn what_was_looked_up_is_believed_for_a_while() {
    let memcached = Memcached::start().await;
    let flags = ["--pull-cache=10s", "--workers=1"];
    let server = TestServer::on(&memcached, &flags).await;
    let value = r#"{"serverId":"edge-2","connectedAt":1700000000000,"socketId":"x"}"#;
    let set = async |user: &str| {
        let command = format!("set {} 0 60 {}\r\n{value}", key(user), value.len());
        assert_eq!(memcached.ask(&command).await.trim(), "STORED");
    };
    set("alice").await;
    let online = json!({"online": {"alice": {"connectedAt": 1_700_000_000_000_u64}}});
    assert_eq!(pull(&server, &["alice"]).await, online);
    let delete = format!("delete {}", key("alice"));
    assert_eq!(memcached.ask(&delete).await.trim(), "DELETED");
    assert_eq!(pull(&server, &["alice"]).await, online);
    assert_eq!(server.metric("pull_cache_hits_total").await, 1);
    assert_eq!(server.metric("pull_cache_misses_total").await, 1);

    // Whoever comes is seen soon.
    assert_eq!(pull(&server, &["bob"]).await, json!({"online": {}}));
    set("bob").await;
    until("bob is online", PATIENCE, async || {
        pull(&server, &["bob"]).await != json!({"online": {}})
    })
    .await;

    // What is unknown is asked anew.
    memcached.freeze();
    until("it is unknown", PATIENCE, async || {
        pull(&server, &["carol"]).await == json!({"online": {}, "unknown": ["carol"]})
    })
    .await;
    memcached.thaw();
    until("it is known", PATIENCE, async || {
        pull(&server, &["carol"]).await == json!({"online": {}})
    })
    .await;
    assert_eq!(pull(&server, &["alice"]).await, online);
}

#[tokio::test]
async fn a_crowded_worker_reads_no_second_pull_of_a_session() {
    const PULLS: usize = 8;
    let memcached = Memcached::start().await;
    // The worker is busy for some seconds where it is not optimized.
    let patient = ["--ping-interval=25s", "--ping-timeout=20s", "--ttl=60s"];
    let server = TestServer::on(&memcached, &[&["--workers=1"], &patient[..]].concat()).await;
    // More than make a crowd, but fewer than may wait.
    let sessions = (CROWDED_USERS + OPEN_USERS_MAX) / 2 / (PULLS * 500);
    let mut clients = Vec::new();
    for number in 0..sessions {
        clients.push(Client::connect(server.edge, &format!("asker-{number}")).await);
    }
    let users: Vec<_> = (0..500).map(|number| format!("u{number}")).collect();
    memcached.freeze();
    for client in &clients {
        for number in 0..PULLS {
            client.say(json!({"pull": number, "users": users}).to_string());
        }
    }
    let mut refused = 0;
    for client in &mut clients {
        for _ in 0..PULLS {
            let answer = client.hear().await;
            if answer["unknown"].is_array() {
                continue;
            }
            // Whoever has no pull under way is heard, though nothing can be known.
            assert!(answer["pull"].as_u64() > Some(0), "{answer}");
            assert_eq!(answer["error"]["code"], "overloaded", "{answer}");
            assert!(answer["error"]["retryAfter"].is_u64(), "{answer}");
            refused += 1;
        }
    }
    assert!((1..sessions * PULLS / 2).contains(&refused), "{refused}");
    memcached.thaw();
    // It is over.
    let client = &mut clients[0];
    for number in [8, 9] {
        client.say(json!({"pull": number, "users": users}).to_string());
    }
    for _ in 0..2 {
        let answer = client.hear().await;
        assert!(answer.get("error").is_none(), "{answer}");
    }
}
