//! memcached that is killed, frozen, absent, on a Unix socket, or many.

use std::cell::Cell;
use std::time::Duration;

use presenced_testkit::client::Client;
use presenced_testkit::memcached::Memcached;
use presenced_testkit::raw::{get, get_with};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, until};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("u{number}")).collect()
}

async fn connect_all(server: &TestServer, users: &[String]) -> Vec<Client> {
    let mut clients = Vec::new();
    for user in users {
        clients.push(Client::connect(server.edge, user).await);
    }
    clients
}

async fn all_online(memcached: &Memcached, users: &[String], within: Duration) {
    until("everyone has an entry", within, async || {
        memcached.count_online(users).await == users.len()
    })
    .await;
}

/// No session was lost, whatever happened.
async fn no_session_lost(server: &TestServer, clients: &[Client]) {
    assert!(clients.iter().all(Client::is_open));
    assert_eq!(server.metric("sessions").await, clients.len() as u64);
    assert_eq!(server.metric("missed_pongs_total").await, 0);
}

/// Restarts memcached at once, then again after a time without it.
async fn comes_back(mut memcached: Memcached) {
    let server = TestServer::on(&memcached, &[]).await;
    let users = names(40);
    let clients = connect_all(&server, &users).await;
    all_online(&memcached, &users, PATIENCE).await;

    memcached.restart().await;
    all_online(&memcached, &users, PATIENCE).await;
    no_session_lost(&server, &clients).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;

    let restored = server.metric("restored_total").await;
    memcached.kill();
    until("not ready", PATIENCE, async || !server.is_ready().await).await;
    assert_eq!(get(server.admin, "/healthz").await.status, 200);
    // Each of them has answered a ping that could not be written.
    until("heartbeats wait", PATIENCE, async || {
        server.metric("pending").await == users.len() as u64
    })
    .await;
    until("a flush has failed", PATIENCE, async || {
        server.metric("restored_total").await > restored
    })
    .await;
    memcached.restart().await;
    all_online(&memcached, &users, PATIENCE).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    no_session_lost(&server, &clients).await;
    until("all is written", PATIENCE, async || {
        server.metric("pending").await == 0
    })
    .await;
}

#[tokio::test]
async fn everyone_is_back_after_a_restart_on_the_same_port() {
    comes_back(Memcached::start().await).await;
}

#[tokio::test]
async fn everyone_is_back_after_a_restart_on_a_unix_socket() {
    comes_back(Memcached::start_unix().await).await;
}

#[tokio::test]
async fn who_connects_while_memcached_is_away_is_online_when_it_returns() {
    let mut memcached = Memcached::start().await;
    memcached.kill();
    // No ping while the test runs: only what could not be written at connect is written later.
    let node = format!("--memcached={}", memcached.node());
    let flags = [
        &node,
        "--ttl=900s",
        "--ping-interval=300s",
        "--ping-timeout=200s",
    ];
    let server = TestServer::start(&flags).await;
    assert!(!server.is_ready().await);
    let users = names(10);
    let clients = connect_all(&server, &users).await;
    until("all are pending", PATIENCE, async || {
        server.metric("pending").await == 10
    })
    .await;

    memcached.restart().await;
    all_online(&memcached, &users, PATIENCE).await;
    no_session_lost(&server, &clients).await;
    // By the flush and, as the node was found empty, by the refill; no more.
    assert!(memcached.sets().await <= 20);
}

#[tokio::test]
async fn a_memcached_that_hangs_is_away() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    // Enough that each worker has something to write, which is how it notices.
    let users = names(40);
    let mut clients = connect_all(&server, &users).await;
    all_online(&memcached, &users, PATIENCE).await;

    memcached.freeze();
    until("not ready", PATIENCE, async || !server.is_ready().await).await;
    // It is known to be away, so the answer does not wait for it.
    let answer = clients[0].pull(&["u1", "who"]).await;
    assert_eq!(answer["unknown"], json!(["who"]), "{answer}");
    assert!(answer["online"]["u1"].is_object(), "{answer}");
    no_session_lost(&server, &clients).await;

    memcached.thaw();
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let sets = memcached.sets().await;
    until("heartbeats are written", PATIENCE, async || {
        memcached.sets().await >= sets + 40
    })
    .await;
    no_session_lost(&server, &clients).await;
}

#[tokio::test]
async fn two_nodes_share_the_users_and_one_may_be_away() {
    let mut nodes = [Memcached::start().await, Memcached::start_unix().await];
    let flag = format!("--memcached={},{}", nodes[0].node(), nodes[1].node());
    let server = TestServer::start(&[&flag]).await;
    let other = TestServer::start(&[&flag, "--server-id=edge-2"]).await;
    let users = names(60);
    let clients = connect_all(&server, &users).await;
    until("everyone has an entry", PATIENCE, async || {
        let counts = [
            nodes[0].count_online(&users).await,
            nodes[1].count_online(&users).await,
        ];
        counts[0] + counts[1] == 60
    })
    .await;
    let mut on_first = Vec::new();
    for user in &users {
        let there = [
            nodes[0].is_online(user).await,
            nodes[1].is_online(user).await,
        ];
        assert_ne!(there[0], there[1], "{user} is on exactly one");
        on_first.push(there[0]);
    }
    let count = on_first.iter().filter(|&&first| first).count();
    assert!((10..=50).contains(&count), "{count} of 60 on the first");

    // Another edge looks where this one wrote.
    let query: String = users.iter().map(|user| format!("&user={user}")).collect();
    let path = format!("/v1/presence?{query}");
    let pulled = async |server: &TestServer| {
        let response = get_with(server.edge, &path, &token("asker")).await;
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    };
    let answer = pulled(&other).await;
    assert_eq!(answer["online"].as_object().unwrap().len(), 60, "{answer}");
    assert!(answer.get("unknown").is_none(), "{answer}");

    // One node is away: its users are unknown there, the others as before, and no one is offline.
    nodes[0].kill();
    let expected: Vec<_> = users.iter().zip(&on_first).collect();
    let expected: Vec<_> = expected.iter().filter(|(_, first)| **first).collect();
    let expected: Vec<_> = expected.iter().map(|(user, _)| user.as_str()).collect();
    let answer = pulled(&other).await;
    assert_eq!(answer["unknown"], json!(expected), "{answer}");
    let online = answer["online"].as_object().unwrap().len();
    assert_eq!(online, 60 - count, "{answer}");
    // Where they have their sessions, they are known.
    let answer = pulled(&server).await;
    assert_eq!(answer["online"].as_object().unwrap().len(), 60, "{answer}");
    assert!(answer.get("unknown").is_none(), "{answer}");

    nodes[0].restart().await;
    until("the node's users are back", PATIENCE, async || {
        nodes[0].count_online(&users).await == count
    })
    .await;
    no_session_lost(&server, &clients).await;
}

#[tokio::test]
async fn a_server_does_not_wait_for_memcached_to_start() {
    let mut memcached = Memcached::start().await;
    memcached.kill();
    let node = format!("--memcached={}", memcached.node());
    let starting = timeout(PATIENCE, TestServer::start(&[&node])).await;
    let server = starting.expect("it starts");
    assert_eq!(get(server.admin, "/healthz").await.status, 200);
    let response = get(server.admin, "/readyz").await;
    assert_eq!(response.status, 503, "{response:?}");
    assert!(response.body.contains("memcached"), "{response:?}");
}

#[tokio::test]
async fn a_node_that_greets_and_hangs_up_is_not_dialled_without_pause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = format!("--memcached={}", listener.local_addr().unwrap());
    let server = TestServer::start(&[&node, "--workers=1"]).await;
    let count = Cell::new(0);
    let greeting = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.set(count.get() + 1);
            // All of it, or the end would be a reset that may overtake the answer.
            let mut command = [0; b"version\r\n".len()];
            if stream.read_exact(&mut command).await.is_ok() {
                let _ = stream.write_all(b"VERSION 1.6.0\r\n").await;
            }
        }
    };
    let session = async {
        let mut alice = Client::connect(server.edge, "alice").await;
        for _ in 0..3 {
            let answer = alice.pull(&["alice", "who"]).await;
            assert_eq!(answer["unknown"], json!(["who"]), "{answer}");
            assert!(answer["online"]["alice"].is_object(), "{answer}");
        }
        // Time enough for hundreds of connections, if nothing held them back.
        sleep(Duration::from_secs(2)).await;
        until("it is dialled again", PATIENCE, async || count.get() >= 3).await;
        assert!(alice.is_open());
    };
    tokio::select! {
        () = greeting => {}
        () = session => {}
    }
    // The pauses double from 50ms on; some more connections are for the questions.
    assert!(count.get() < 60, "{count:?} connections");
}

#[tokio::test]
async fn a_node_without_meta_commands_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = format!("--memcached={}", listener.local_addr().unwrap());
    let server = TestServer::start(&[&node, "--workers=1", "--memcached-command=ms"]).await;
    let old = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            for (command, answer) in [
                ("version\r\n", "VERSION 1.4.0\r\n"),
                ("mn\r\n", "ERROR\r\n"),
            ] {
                let mut read = vec![0; command.len()];
                if stream.read_exact(&mut read).await.is_ok() {
                    assert_eq!(String::from_utf8_lossy(&read), command);
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        }
    };
    let name = format!(
        "memcached_errors_total{{node=\"{}\",error=\"protocol\"}}",
        &node["--memcached=".len()..]
    );
    let told = until("it is told", PATIENCE, async || {
        server.metric(&name).await > 0
    });
    tokio::select! {
        () = old => {}
        () = told => {}
    }
    assert!(!server.is_ready().await);
}

#[tokio::test]
async fn a_user_who_left_while_memcached_was_away_is_not_written_when_it_is_back() {
    let mut memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &["--ttl=60s"]).await;
    memcached.kill();
    until("not ready", PATIENCE, async || !server.is_ready().await).await;
    let here = Client::connect(server.edge, "here").await;
    let gone = Client::connect(server.edge, "gone").await;
    until("both are pending", PATIENCE, async || {
        server.metric("pending").await == 2
    })
    .await;
    gone.close().await;
    until("the session has ended", PATIENCE, async || {
        server.metric("users").await == 1
    })
    .await;
    memcached.restart().await;
    all_online(&memcached, &["here".into()], PATIENCE).await;
    until("nothing is left to write", PATIENCE, async || {
        server.is_ready().await && server.metric("pending").await == 0
    })
    .await;
    assert!(!memcached.is_online("gone").await);
    assert!(here.is_open());
}
