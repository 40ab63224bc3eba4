//! Clients that speak TLS with the edge itself.

mod clients;
mod scanners;
mod server;

use presenced_testkit::client::Client;
use presenced_testkit::raw::{Raw, get_with};
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
