//! A stop that makes nobody blink: signals to the binary with sessions open.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may"
)]

mod common;

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use common::client::Client;
use common::memcached::{Memcached, key};
use common::process::Process;
use common::raw::{get, get_with, handshake, upgrade_with};
use common::server::metric;
use common::tokens::token;
use common::{PATIENCE, until};

async fn sessions(process: &Process, count: usize) -> Vec<(String, Client)> {
    let mut sessions = Vec::new();
    for number in 0..count {
        let user = format!("u{number}");
        let client = Client::connect(process.edge(), &user).await;
        sessions.push((user, client));
    }
    until("all sessions have begun", PATIENCE, async || {
        let metrics = get(process.admin(), "/metrics").await;
        metric(&metrics, "users") == count as u64
    })
    .await;
    sessions
}

async fn draining(process: &Process) {
    until("not ready", PATIENCE, async || {
        get(process.admin(), "/readyz").await.status == 503
    })
    .await;
}

#[tokio::test]
async fn everyone_is_closed_in_turn_and_stays_online_until_they_are_back() {
    const DRAIN: Duration = Duration::from_secs(4);
    let memcached = Memcached::start().await;
    let node = format!("--memcached={}", memcached.node());
    // The TTL is 60 s.
    let process = Process::start(&[&node, "--drain=4s", "--workers=2"]).await;
    let sessions = sessions(&process, 40).await;
    let users: Vec<_> = sessions.iter().map(|(user, _)| user.clone()).collect();
    until("all are written", PATIENCE, async || {
        memcached.count_online(&users).await == 40
    })
    .await;
    assert_eq!(get(process.admin(), "/readyz").await.status, 200);

    let start = Instant::now();
    process.signal(Signal::TERM);
    draining(&process).await;
    let ready = get(process.admin(), "/readyz").await;
    assert_eq!((ready.status, ready.body.trim()), (503, "draining"));
    assert_eq!(get(process.admin(), "/healthz").await.status, 200);
    let refused = handshake(process.edge(), &upgrade_with(&token("new"))).await;
    assert_eq!(
        (refused.status, &refused.error_code()[..]),
        (503, "draining")
    );
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 0);
    // Who is still there can still ask.
    let pulled = get_with(process.edge(), "/v1/presence?user=u0", &token("u0")).await;
    assert_eq!(pulled.status, 200, "{pulled:?}");
    until("all have a longer TTL", DRAIN, async || {
        let mut longer = 0;
        for user in &users {
            let ttl_s = memcached.ttl_s(&key(user)).await.unwrap();
            longer += usize::from(ttl_s > 60);
        }
        longer == users.len()
    })
    .await;

    let mut closed = Vec::new();
    for (user, client) in sessions {
        let end = client.closed().await;
        assert_eq!(end.code, Some(1012), "{user}");
        closed.push(end.at - start);
    }
    closed.sort_unstable();
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(
        text.contains("draining") && text.contains("stopped"),
        "{text}"
    );
    assert!(
        !text.contains("before memcached has acknowledged"),
        "{text}"
    );
    // Evenly: in each quarter of the time some, in none most of them.
    for quarter in 0..4 {
        let from = DRAIN * quarter / 4;
        let to = if quarter == 3 {
            PATIENCE
        } else {
            DRAIN * (quarter + 1) / 4
        };
        let count = closed.iter().filter(|at| (from..to).contains(*at)).count();
        assert!(
            (3..=20).contains(&count),
            "{count} in quarter {quarter}: {closed:?}"
        );
    }
    assert!(start.elapsed() >= DRAIN, "{:?}", start.elapsed());
    assert_eq!(memcached.count_online(&users).await, 40, "all online still");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let process = Process::start(&["--drain=600s"]).await;
    let sessions = sessions(&process, 20).await;
    process.signal(Signal::INT);
    draining(&process).await;
    let open = sessions
        .iter()
        .filter(|(_, client)| client.is_open())
        .count();
    assert!(open >= 10, "{open} of 20 sessions are open");
    let start = Instant::now();
    process.signal(Signal::TERM);
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains("at once"), "{text}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_memcached_that_is_away_holds_up_no_one() {
    let mut memcached = Memcached::start().await;
    let node = format!("--memcached={}", memcached.node());
    let process = Process::start(&[&node, "--drain=1s"]).await;
    let sessions = sessions(&process, 10).await;
    memcached.kill();
    let start = Instant::now();
    process.signal(Signal::TERM);
    for (user, client) in sessions {
        assert_eq!(client.closed().await.code, Some(1012), "{user}");
    }
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains("before memcached has acknowledged"), "{text}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_memcached_that_hangs_holds_up_no_one() {
    let memcached = Memcached::start().await;
    let node = format!("--memcached={}", memcached.node());
    let process = Process::start(&[&node, "--drain=1s"]).await;
    let sessions = sessions(&process, 10).await;
    memcached.freeze();
    let start = Instant::now();
    process.signal(Signal::TERM);
    for (user, client) in sessions {
        assert_eq!(client.closed().await.code, Some(1012), "{user}");
    }
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains("before memcached has acknowledged"), "{text}");
    assert!(
        start.elapsed() < Duration::from_secs(12),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn without_sessions_the_same_signal_ends_it_too() {
    let process = Process::start(&["--drain=0s"]).await;
    process.signal(Signal::TERM);
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
}
