//! What hostile peers can make a real process keep in memory: no more than its limits add up to.
//!
//! `HOSTILE_SESSIONS=10000` runs the second test with as many sessions.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use presenced_session::limits::{MESSAGE_TIME_MAX, REST_BYTES_MAX};
use presenced_testkit::client::Client;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{PING, Raw, TEXT, frame, get};
use presenced_testkit::server::metric;
use presenced_testkit::{PATIENCE, alone, until};

/// A session with its user, and its part of the tables that grow: 120 bytes as measured, and what a debug
/// build and a table that has just doubled take.
const SESSION_BYTES_MAX: u64 = 1024;

/// What a worker's limits add up to for so many sessions, in bytes. The allocator keeps an eighth more for
/// itself, and what grows is there twice for a moment.
fn limits_bytes(sessions: usize) -> u64 {
    let kept = REST_BYTES_MAX as u64;
    kept + kept / 4 + sessions as u64 * SESSION_BYTES_MAX
}

async fn number(process: &Process, name: &str) -> u64 {
    metric(&get(process.admin(), "/metrics").await, name)
}

/// Sessions, a hundred at a time under way.
async fn sessions(edge: SocketAddr, count: usize) -> Vec<Raw> {
    let opening = (0..count).map(|number| async move {
        let user = format!("hostile-{number}");
        Raw::session(edge, &user).await
    });
    stream::iter(opening).buffer_unordered(100).collect().await
}

/// Sends for as long as the server takes anything, at most this often.
async fn send_until_full(raw: &mut Raw, bytes: &[u8], times: usize) {
    let mut sent = 0;
    while sent < times && raw.send_within(Duration::from_secs(1), bytes).await {
        sent += 1;
    }
}

#[tokio::test]
async fn messages_that_never_end_take_no_more_memory_than_is_set_for_them() {
    let _alone = alone();
    let flags = ["--workers=1", "--max-message=1MiB"];
    let process = Process::start(&flags).await;
    let mut honest = Client::connect(process.edge(), "honest").await;
    honest.pull(&["honest"]).await;
    let before = process.memory_bytes();

    // Twice what a worker has for it: a message that goes on, and a frame that does not end.
    let part = vec![b'x'; 1_000_000];
    let begun = frame(TEXT & 0x0f, &part);
    let unended = frame(0x00, &part[..40_000]);
    let unended = &unended[..unended.len() - 1];
    let count = 2 * REST_BYTES_MAX / part.len();
    let mut peers = sessions(process.edge(), count).await;
    let sending = peers.iter_mut().map(|raw| async {
        raw.try_send(&begun).await;
        raw.try_send(unended).await;
    });
    join_all(sending).await;
    until("some are refused", PATIENCE, async || {
        number(&process, "session_ends_total{reason=\"overloaded\"}").await > 0
    })
    .await;
    let most = process.memory_max_bytes() - before;
    assert!(most > REST_BYTES_MAX as u64 / 4, "{most} bytes");
    assert!(most <= limits_bytes(count), "{most} bytes");
    assert!(honest.pull(&["honest"]).await["online"]["honest"].is_object());
    // None stays for longer than a message may take.
    let patience = MESSAGE_TIME_MAX + PATIENCE;
    until("they are let go of", patience, async || {
        number(&process, "sessions").await == 1
    })
    .await;
    assert!(honest.is_open());
}

#[tokio::test]
async fn sessions_that_flood_with_pings_and_stop_reading_at_once_take_no_more_than_the_limits() {
    let _alone = alone();
    let flags = [
        "--workers=1",
        "--max-messages-per-second=1000000",
        "--ping-interval=10s",
        "--ping-timeout=8s",
    ];
    let process = Process::start(&flags).await;
    let mut honest = Client::connect(process.edge(), "honest").await;
    honest.pull(&["honest"]).await;
    let before = process.memory_bytes();

    let count = std::env::var("HOSTILE_SESSIONS").map_or(500, |count| count.parse().unwrap());
    let mut peers = sessions(process.edge(), count).await;
    let pings = frame(PING, &[b'x'; 125]).repeat(500);
    // More than what the sockets hold both ways.
    join_all(peers.iter_mut().map(|raw| send_until_full(raw, &pings, 16))).await;
    let most = process.memory_max_bytes() - before;
    assert!(most <= limits_bytes(count), "{most} bytes");
    assert!(honest.pull(&["honest"]).await["online"]["honest"].is_object());
    // Those that still hold something do not answer either.
    until("they are let go of", 4 * PATIENCE, async || {
        number(&process, "sessions").await == 1
    })
    .await;
    assert!(honest.is_open());
    let after = process.memory_bytes() - before;
    assert!(after <= limits_bytes(count), "{after} bytes");
}
