//! Users who go from one server to another: the entry is that of the server they are on, however late
//! the one that they have left gets to write.

use std::time::Duration;

use async_memcached::{AsciiProtocol, Value};
use futures_util::future::join_all;
use presenced_memcached::limits::REPLY_TIMEOUT;
use presenced_testkit::client::Client;
use presenced_testkit::memcached::{Memcached, key};
use presenced_testkit::network::Network;
use presenced_testkit::proxy::{Mischief, Proxy};
use presenced_testkit::server::{TTL, TestServer};
use presenced_testkit::{PATIENCE, throughout, until};
use serde_json::Value as Json;
use tokio::time::interval;

const USERS: usize = 40;

fn users() -> Vec<String> {
    (0..USERS).map(|number| format!("u{number}")).collect()
}

/// How many users have an entry of the server `id`.
async fn count_of(memcached: &Memcached, id: &str) -> usize {
    let users = users();
    let keys = users.iter().map(|user| key(user));
    let found = memcached.client().await.get_multi(keys).await;
    let is_of = |value: &Value| {
        let json: Json = serde_json::from_slice(value.data.as_ref().unwrap()).unwrap();
        json["serverId"] == id
    };
    // Nothing at all is an error to this client.
    found.map_or(0, |found| found.iter().filter(|value| is_of(value)).count())
}

/// Writes each user once, when they connect: what replaces that entry is there to stay.
async fn server_that_writes_once(node: &str, command: &str) -> TestServer {
    let flags = [
        &format!("--memcached={node}"),
        &format!("--memcached-command={command}"),
        "--server-id=new",
        "--ttl=900s",
        "--flush-interval=250ms",
        "--ping-interval=200s",
        "--ping-timeout=50s",
    ];
    let server = TestServer::start(&flags).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    server
}

async fn crowd_on(server: &TestServer, memcached: &Memcached, id: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for user in users() {
        clients.push(Client::connect(server.edge, &user).await);
    }
    until("all are written", PATIENCE, async || {
        count_of(memcached, id).await == USERS
    })
    .await;
    clients
}

#[tokio::test]
async fn users_who_moved_while_memcached_was_away_are_on_the_server_that_they_are_on() {
    moved_in_an_outage("set").await;
}

#[tokio::test]
async fn users_who_moved_while_memcached_was_away_are_so_when_written_quietly() {
    moved_in_an_outage("ms").await;
}

async fn moved_in_an_outage(command: &str) {
    let memcached = Memcached::start().await;
    let [to_old, to_new] = [
        Proxy::before(&memcached.node()).await,
        Proxy::before(&memcached.node()).await,
    ];
    let flags = [
        &format!("--memcached={}", to_old.node),
        &format!("--memcached-command={command}"),
        "--server-id=old",
    ];
    let old = TestServer::start(&flags).await;
    let new = server_that_writes_once(&to_new.node, command).await;
    let clients = crowd_on(&old, &memcached, "old").await;

    to_old.set(Mischief::Silence);
    to_new.set(Mischief::Silence);
    // Heard from, and then gone, while nothing can be written.
    let mut moved = Vec::new();
    for (client, user) in clients.into_iter().zip(users()) {
        client.unasked_pong();
        client.close().await;
        moved.push(Client::connect(new.edge, &user).await);
    }
    until("the old server is alone", PATIENCE, async || {
        old.metric("sessions").await == 0 && !old.is_ready().await
    })
    .await;
    to_new.set(Mischief::None);
    until("the new server has written all", PATIENCE, async || {
        new.metric("pending").await == 0 && count_of(&memcached, "new").await == USERS
    })
    .await;
    // Until it has given up what it had sent to no one: that can't be called back.
    throughout("the old server is cut off", 3 * REPLY_TIMEOUT, async || {
        !old.is_ready().await
    })
    .await;
    to_old.set(Mischief::None);
    until("the old server is back", PATIENCE, async || {
        old.is_ready().await && old.metric("pending").await == 0
    })
    .await;
    throughout("all are on the new server", TTL, async || {
        count_of(&memcached, "new").await == USERS
    })
    .await;
    assert!(moved.iter().all(Client::is_open));
}

#[tokio::test]
async fn what_was_given_up_in_a_partition_is_not_delivered_when_it_ends() {
    let network = Network::lay().await;
    let server = server_that_writes_once(&network.node(), "set").await;
    let client = Client::connect(server.edge, "gone").await;
    until(
        "the first ping is answered, and that is written",
        PATIENCE,
        async || {
            server.metric("pongs_total").await == 1
                && server.metric("pending").await == 0
                && network.memcached.is_online("gone").await
        },
    )
    .await;
    let frames = server.metric("frames_total").await;
    let sets = network.memcached.sets().await;

    network.divert();
    // This heartbeat is flushed into the kernel's buffer, from which nothing goes on.
    client.unasked_pong();
    until("the heartbeat is on its way", PATIENCE, async || {
        server.metric("frames_total").await > frames && server.metric("pending").await == 0
    })
    .await;
    client.close().await;
    until("the connection is given up", PATIENCE, async || {
        server.metric("sessions").await == 0 && !server.is_ready().await
    })
    .await;
    throughout("cut off", 3 * REPLY_TIMEOUT, async || {
        !server.is_ready().await
    })
    .await;
    network.lead_back();
    until("ready again", PATIENCE, async || server.is_ready().await).await;
    // TCP sends again what it has not been told to forget, after ever longer pauses.
    until("nothing is under way", PATIENCE, async || {
        network.undelivered() == 0
    })
    .await;
    assert_eq!(network.memcached.sets().await, sets);
}

#[tokio::test]
async fn users_whose_clients_chatter_through_a_deploy_are_on_the_server_that_they_are_on() {
    moved_by_a_deploy("set", Mischief::None).await;
}

#[tokio::test]
async fn users_whose_clients_chatter_through_a_deploy_are_so_when_written_quietly() {
    moved_by_a_deploy("ms", Mischief::None).await;
}

#[tokio::test]
async fn a_session_is_not_closed_by_a_drain_while_a_set_of_its_user_is_under_way() {
    moved_by_a_deploy("set", Mischief::Late).await;
}

#[tokio::test]
async fn a_session_is_not_closed_by_a_drain_while_a_quiet_set_of_its_user_is_under_way() {
    moved_by_a_deploy("ms", Mischief::Late).await;
}

#[tokio::test]
async fn a_session_is_not_closed_either_when_replies_take_longer_than_the_drain() {
    moved_by_a_deploy("set", Mischief::VeryLate).await;
}

async fn moved_by_a_deploy(command: &str, mischief: Mischief) {
    let memcached = Memcached::start().await;
    let to_old = Proxy::before(&memcached.node()).await;
    let flags = [
        &format!("--memcached={}", to_old.node),
        &format!("--memcached-command={command}"),
        "--server-id=old",
        "--drain=2s",
        "--ttl=24s",
        "--ping-interval=10s",
        "--ping-timeout=8s",
        // On a busy machine replies take longer, and what is given up can't be called back.
        "--memcached-connect-timeout=500ms",
        "--memcached-timeout=10s",
        // And clients chatter for longer.
        "--max-messages-per-second=1000",
    ];
    let old = TestServer::start(&flags).await;
    let new = server_that_writes_once(&memcached.node(), command).await;
    let clients = crowd_on(&old, &memcached, "old").await;
    to_old.set(mischief);

    // Each client sends something all the time, and connects again as soon as it is told to.
    let moves = clients
        .into_iter()
        .zip(users())
        .map(async |(client, user)| {
            let mut ticks = interval(Duration::from_millis(25));
            while client.is_open() {
                ticks.tick().await;
                client.unasked_pong();
            }
            assert_eq!(client.closed().await.code, Some(1012));
            Client::connect(new.edge, &user).await
        });
    let (moved, ()) = tokio::join!(join_all(moves), old.drain());

    // It writes each once, so an entry that was replaced would stay so.
    until("all are on the new server", PATIENCE, async || {
        count_of(&memcached, "new").await == USERS
    })
    .await;
    // All that the old server has sent has come through: its connections have ended.
    until(
        "the old server's connections are gone",
        PATIENCE,
        async || to_old.open() == 0,
    )
    .await;
    assert_eq!(count_of(&memcached, "new").await, USERS);
    assert!(moved.iter().all(Client::is_open));
}
