//! Online at connect, kept online by pongs, offline when they stop: seen through a real memcached.

use std::time::Duration;

use async_memcached::AsciiProtocol;
use presenced_testkit::client::Client;
use presenced_testkit::memcached::{Memcached, key};
use presenced_testkit::raw::{PING, PONG, Raw, frame};
use presenced_testkit::server::{TTL, TestServer};
use presenced_testkit::tokens::{in_s, sign};
use presenced_testkit::{PATIENCE, throughout, unix_ms, until};
use serde_json::json;
use tokio::time::{Instant, interval};

#[tokio::test]
async fn online_at_connect_with_the_value_that_was_promised() {
    online_at_connect("set").await;
}

#[tokio::test]
async fn a_quiet_meta_set_stores_the_same() {
    online_at_connect("ms").await;
}

async fn online_at_connect(command: &str) {
    let memcached = Memcached::start().await;
    let command = format!("--memcached-command={command}");
    let flags = [
        &command,
        "--key-template=edge/{userId}/here",
        "--value-flags=2",
        "--server-id=edge \"1\"",
        // No flush will be due while the test runs: what is there was written at connect.
        "--ttl=900s",
        "--flush-interval=300s",
        "--ping-interval=200s",
        "--ping-timeout=50s",
    ];
    let server = TestServer::on(&memcached, &flags).await;
    let (key, sets) = ("edge/zoe:42/here", memcached.sets().await);
    assert!(memcached.entry(key).await.is_none());

    let before = unix_ms();
    let _client = Client::connect(server.edge, "zoe:42").await;
    until("online", PATIENCE, async || {
        memcached.entry(key).await.is_some()
    })
    .await;

    let entry = memcached.entry(key).await.unwrap();
    let connected_at = entry.json["connectedAt"].as_u64().unwrap();
    let socket_id = entry.json["socketId"].as_str().unwrap();
    assert_eq!(
        entry.text,
        format!(
            r#"{{"serverId":"edge \"1\"","connectedAt":{connected_at},"socketId":"{socket_id}"}}"#
        )
    );
    assert!((before..=unix_ms()).contains(&connected_at));
    assert!(!socket_id.is_empty());
    assert_eq!(entry.flags, 2);
    // The time that the looks above took is well within the second.
    let ttl_s = memcached.ttl_s(key).await.unwrap();
    assert!((880..=900).contains(&ttl_s), "{ttl_s}");
    assert_eq!(memcached.sets().await, sets + 1);
}

#[tokio::test]
async fn the_embedded_store_takes_quiet_meta_sets() {
    let server = TestServer::start(&["--memcached-command=ms", "--ttl=900s"]).await;
    let _client = Client::connect(server.edge, "zoe").await;
    let store = format!("tcp://{}", server.store());
    let mut store = async_memcached::Client::new(store).await.unwrap();
    until("online", PATIENCE, async || {
        store.get(key("zoe")).await.unwrap().is_some()
    })
    .await;
}

#[tokio::test]
async fn the_ttl_is_as_set() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let _client = Client::connect(server.edge, "1").await;
    until("online", PATIENCE, async || memcached.is_online("1").await).await;
    // Each flush sets it anew, so it is full again whenever this machine gets to look in time.
    until("a full TTL", PATIENCE, async || {
        let ttl_s = memcached.ttl_s(&key("1")).await;
        let ttl_s = ttl_s.expect("online all the time");
        assert!(ttl_s <= TTL.as_secs(), "{ttl_s}");
        ttl_s + 1 >= TTL.as_secs()
    })
    .await;
    assert_eq!(memcached.entry(&key("1")).await.unwrap().flags, 0);
}

#[tokio::test]
async fn answered_pings_keep_a_user_online_for_three_ttls() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let client = Client::connect(server.edge, "alice").await;
    until("online", PATIENCE, async || {
        memcached.is_online("alice").await
    })
    .await;
    let first = memcached.entry(&key("alice")).await.unwrap().text;
    let (pongs, sets) = (server.metric("pongs_total").await, memcached.sets().await);

    throughout("online", 3 * TTL, async || {
        memcached.is_online("alice").await
    })
    .await;

    assert!(client.is_open());
    let last = memcached.entry(&key("alice")).await.unwrap().text;
    assert_eq!(last, first, "the same session all the time");
    let written = memcached.sets().await - sets;
    let ponged = server.metric("pongs_total").await - pongs;
    // One for each answered ping and none besides, but for one from before. On a machine that stalls
    // two of them may share a flush, and the last may be under way.
    assert!(
        (ponged / 2..=ponged + 1).contains(&written) && written > 0,
        "{written} for {ponged} pongs"
    );
    assert_eq!(server.metric("missed_pongs_total").await, 0);
}

#[tokio::test]
async fn who_stops_answering_is_offline_one_ttl_later() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let mut mute = Raw::session(server.edge, "mute").await;
    let ping = mute.any_frame().await.unwrap();
    assert_eq!(ping.first, PING);
    let answers = Instant::now();
    mute.send(frame(PONG, &ping.payload)).await;
    // From here on it only listens, so that the test sees what the server does.
    assert_eq!(mute.any_frame().await.unwrap().first, PING);
    assert_eq!(mute.close_code().await, 4408);
    assert_eq!(server.metric("missed_pongs_total").await, 1);
    assert_eq!(server.ends("pong_timeout").await, 1);

    until("offline", PATIENCE, async || {
        !memcached.is_online("mute").await
    })
    .await;
    // The pong was written after that; memcached may be a second early.
    let lasted = answers.elapsed();
    assert!(lasted + Duration::from_secs(1) >= TTL, "{lasted:?}");
    // It has not closed its end of the connection; the server waits no longer for that.
    until("the session is let go of", PATIENCE, async || {
        server.metric("sessions").await == 0
    })
    .await;
}

/// Users who leave are not written once more: the entry expires.
async fn leaves(leave: impl AsyncFnOnce(Client)) {
    // Times between which nothing is pending.
    let flags = ["--ttl=11s", "--ping-interval=4s", "--ping-timeout=1500ms"];
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &flags).await;
    let client = Client::connect(server.edge, "bob").await;
    let (sets, before) = loop {
        let before = Instant::now();
        let (pongs, sets) = (server.metric("pongs_total").await, memcached.sets().await);
        until("a pong", PATIENCE, async || {
            server.metric("pongs_total").await > pongs
        })
        .await;
        let ponged = Instant::now();
        until("written", PATIENCE, async || {
            memcached.sets().await > sets && server.metric("pending").await == 0
        })
        .await;
        // Well before the next ping, or it is tried again.
        if ponged.elapsed() < Duration::from_secs(2) {
            break (memcached.sets().await, before);
        }
    };

    leave(client).await;
    until("the session has ended", PATIENCE, async || {
        server.metric("sessions").await == 0
    })
    .await;
    assert!(memcached.is_online("bob").await, "until the entry expires");
    until("offline", PATIENCE, async || {
        !memcached.is_online("bob").await
    })
    .await;
    // It was written after that; memcached may be a second early.
    let lasted = before.elapsed();
    assert!(lasted >= Duration::from_secs(10), "{lasted:?}");
    assert_eq!(
        memcached.sets().await,
        sets,
        "nothing is written at disconnect"
    );
}

#[tokio::test]
async fn who_closes_is_offline_one_ttl_later_and_nothing_is_written() {
    leaves(async |client| {
        assert_eq!(client.close().await.code, Some(1000));
    })
    .await;
}

#[tokio::test]
async fn who_breaks_off_is_offline_one_ttl_later_and_nothing_is_written() {
    leaves(async |client| drop(client)).await;
}

#[tokio::test]
async fn two_sessions_are_one_entry_and_one_set_a_flush() {
    let memcached = Memcached::start().await;
    let period = Duration::from_millis(500);
    let flags = ["--ttl=10s", "--flush-interval=500ms"];
    let server = TestServer::on(&memcached, &flags).await;
    let sessions = [
        Client::connect(server.edge, "tabs").await,
        Client::connect(server.edge, "tabs").await,
    ];
    until("both written", PATIENCE, async || {
        server.metric("flushed_total").await >= 2 && server.metric("users").await == 1
    })
    .await;
    assert_eq!(server.metric("sessions").await, 2);

    let (start, sets) = (Instant::now(), memcached.sets().await);
    let mut ticks = interval(Duration::from_millis(50));
    let mut beats = 0u64;
    // A machine that stalls may leave out flushes.
    while start.elapsed() < 6 * period || memcached.sets().await < sets + 3 {
        assert!(start.elapsed() < PATIENCE, "no flushes");
        ticks.tick().await;
        sessions.iter().for_each(Client::unasked_pong);
        beats += 2;
    }
    let written = memcached.sets().await - sets;
    let flushes = start.elapsed().div_duration_f64(period);
    assert!(beats > 20, "{beats}");
    assert!(
        written <= flushes.ceil() as u64 + 1,
        "{written} in {flushes} flushes"
    );
    // And what the server's own probe left there: its sentinel and the marker.
    assert_eq!(memcached.stat("curr_items").await, 3);
}

#[tokio::test]
async fn the_entry_shows_the_oldest_session_that_is_open() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let connected_at = async || {
        let entry = memcached.entry(&key("1")).await.unwrap();
        entry.json["connectedAt"].as_u64().unwrap()
    };
    let written = async |count| {
        until("written", PATIENCE, async || {
            server.metric("flushed_total").await >= count
        })
        .await;
    };
    let first = Client::connect(server.edge, "1").await;
    written(1).await;
    let oldest = memcached.entry(&key("1")).await.unwrap();
    let between = unix_ms();
    until("a later time", PATIENCE, async || unix_ms() > between).await;
    let second = Client::connect(server.edge, "1").await;
    written(2).await;
    let after = unix_ms();
    assert_eq!(
        memcached.entry(&key("1")).await.unwrap().text,
        oldest.text,
        "the first is the oldest"
    );

    first.close().await;
    until("the second's", PATIENCE, async || {
        connected_at().await > between
    })
    .await;
    let entry = memcached.entry(&key("1")).await.unwrap();
    assert!(connected_at().await <= after);
    assert_ne!(entry.json["socketId"], oldest.json["socketId"]);

    let third = Client::connect(server.edge, "1").await;
    let sets = memcached.sets().await;
    written(sets + 2).await;
    assert_eq!(
        memcached.entry(&key("1")).await.unwrap().text,
        entry.text,
        "who comes later does not take over"
    );
    assert!(second.is_open() && third.is_open());
}

#[tokio::test]
async fn who_loads_the_page_again_and_again_is_online_all_the_time() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let mut observer = Client::connect(server.edge, "observer").await;
    let mut client = Client::connect(server.edge, "alice").await;
    until("online", PATIENCE, async || {
        memcached.is_online("alice").await
    })
    .await;
    for number in 0..40 {
        // With a session at any time, without one for a moment, or without a close frame.
        let next = async || Client::connect(server.edge, "alice").await;
        client = match number % 3 {
            0 => next().await,
            1 => {
                client.close().await;
                next().await
            }
            _ => {
                drop(client);
                next().await
            }
        };
        assert!(memcached.is_online("alice").await);
    }
    until("only the last session is left", PATIENCE, async || {
        server.metric("sessions").await == 2
    })
    .await;
    // A session begins some ms after its client has read the 101.
    let before = unix_ms();
    let online = observer.pull(&["alice"]).await;
    let since = online["online"]["alice"]["connectedAt"].as_u64().unwrap();
    assert!(since <= before, "{online}");
    until("its time is written", PATIENCE, async || {
        let entry = memcached.entry(&key("alice")).await;
        entry.expect("online").json["connectedAt"] == since
    })
    .await;
    assert!(client.is_open());
}

#[tokio::test]
async fn who_comes_takes_no_ones_place() {
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[]).await;
    let group =
        |name: &str| -> Vec<_> { (0..80).map(|number| format!("{name}{number}")).collect() };
    let (early, late) = (group("early"), group("late"));
    let mut clients = Vec::new();
    for user in &early {
        clients.push(Client::connect(server.edge, user).await);
    }
    // Each leaves, just heard from, as another comes, who may be given the place.
    for (client, user) in clients.iter_mut().zip(&late) {
        client.unasked_pong();
        *client = Client::connect(server.edge, user).await;
    }
    until("the late are online", PATIENCE, async || {
        memcached.count_online(&late).await == late.len()
    })
    .await;
    until("the early are offline", PATIENCE, async || {
        assert_eq!(memcached.count_online(&late).await, late.len());
        memcached.count_online(&early).await == 0
    })
    .await;
    assert_eq!(server.metric("users").await, late.len() as u64);
    assert!(clients.iter().all(Client::is_open));
}

#[tokio::test]
async fn one_session_more_than_a_user_may_have_ends_the_oldest() {
    let server = TestServer::start(&["--max-sessions-per-user=2"]).await;
    let other = Client::connect(server.edge, "other").await;
    let first = Client::connect(server.edge, "1").await;
    let mut second = Client::connect(server.edge, "1").await;
    // A session is answered once it has begun, so the order is certain.
    second.pull(&["1"]).await;
    let mut third = Client::connect(server.edge, "1").await;
    third.pull(&["1"]).await;

    assert_eq!(first.closed().await.code, Some(4409));
    assert!(second.is_open() && third.is_open() && other.is_open());
    assert_eq!(server.ends("replaced").await, 1);
    let online = third.pull(&["1"]).await;
    assert!(online["online"]["1"].is_object(), "{online}");

    let fourth = Client::connect(server.edge, "1").await;
    assert_eq!(second.closed().await.code, Some(4409));
    assert!(third.is_open() && fourth.is_open() && other.is_open());
}

#[tokio::test]
async fn sessions_of_a_user_are_replaced_across_workers() {
    let server = TestServer::start(&["--workers=2", "--max-sessions-per-user=1"]).await;
    // The kernel deals connections out: that all are on one worker is one chance in 32,768.
    let mut last = Client::connect(server.edge, "1").await;
    last.pull(&["1"]).await;
    for number in 1..16 {
        let mut next = Client::connect(server.edge, "1").await;
        // A session is answered once it has begun, so the order is certain.
        next.pull(&["1"]).await;
        assert_eq!(last.closed().await.code, Some(4409), "{number}");
        assert_eq!(server.ends("replaced").await, number);
        last = next;
    }
    until("one is left", PATIENCE, async || {
        server.metric("sessions").await == 1
    })
    .await;
    let answer = last.pull(&["1"]).await;
    assert!(answer["online"]["1"].is_object(), "{answer}");
    assert_eq!(server.metric("users").await, 1);
}

#[tokio::test]
async fn a_token_that_expires_ends_the_session() {
    let server = TestServer::start(&[]).await;
    let start = Instant::now();
    // Expired for three of the five seconds that clocks may differ by, and with three left.
    let expired = sign(&json!({"sub": "late", "exp": in_s(-3)}));
    let expiring = sign(&json!({"sub": "soon", "exp": in_s(1)}));
    let connect = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let connected = Client::try_connect(server.edge, "/ws", &headers).await;
        connected.unwrap().0
    };
    let (late, soon) = (connect(&expired).await, connect(&expiring).await);
    let lasting = Client::connect(server.edge, "lasting").await;

    let late = late.closed().await;
    let soon = soon.closed().await;
    assert_eq!((late.code, soon.code), (Some(4401), Some(4401)));
    let (late, soon) = (late.at - start, soon.at - start);
    // Not before exp and the leeway of five seconds; exp is cut to a second, and so is the clock.
    assert!(late < soon, "{late:?} {soon:?}");
    assert!(soon > Duration::from_secs(4), "{soon:?}");
    assert_eq!(server.ends("token_expired").await, 2);
    assert!(lasting.is_open());
}
