//! Clients that speak TLS with the edge itself.

mod clients;
mod scanners;
mod server;

use presenced_testkit::client::Client;
use presenced_testkit::raw::{Raw, get_with, request, upgrade_with};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, until};

#[tokio::test]
async fn a_session_and_a_pull_over_tls() {
    let server = TestServer::start_tls(&[]).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let mut alice = Client::connect(server.edge, "alice").await;
    let answer = alice.pull(&["alice", "bob"]).await;
    assert!(answer["online"]["alice"].is_object(), "{answer}");
    let response = get_with(server.edge, "/v1/presence?user=alice", &token("bob")).await;
    assert!(
        response.json()["online"]["alice"].is_object(),
        "{response:?}"
    );
    // A ping and its pong.
    let pongs = async || server.metric("pongs_total").await > 0;
    until("a pong", PATIENCE, pongs).await;
    alice.close().await;
    let mut raw = Raw::session(server.edge, "bob").await;
    server.drain().await;
    assert_eq!(raw.close_code().await, 1012);
}

#[tokio::test]
async fn a_crowd_waits_and_nobody_is_turned_away() {
    const CLIENTS: u8 = 100;
    let server = TestServer::start_tls_set(&[], |config| {
        let capacity = &mut config.gateway.capacity;
        (capacity.room.max, capacity.lobby_max) = (4, 16);
        // The clients of this test share a thread, and are slow.
        capacity.room.awaited_min = PATIENCE;
    })
    .await;
    let clients = (1..=CLIENTS).map(|number| {
        let edge = server.edge;
        tokio::spawn(async move {
            let mut raw = Raw::connect_from([127, 0, 3, number].into(), edge).await;
            let headers = upgrade_with(&token(&format!("user-{number}")));
            raw.send(request("GET", "/ws", &headers, "")).await;
            assert_eq!(raw.response().await.status, 101);
            raw
        })
    });
    let sessions: Vec<_> = clients.collect();
    for session in sessions {
        session.await.expect("it is let in");
    }
}
