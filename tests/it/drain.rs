//! A stop that makes nobody blink: signals to the binary with sessions open.

use std::net::SocketAddr;
use std::time::Duration;

use presenced_testkit::client::Client;
use presenced_testkit::memcached::{Memcached, key};
use presenced_testkit::process::Process;
use presenced_testkit::proxy::{Mischief, Proxy};
use presenced_testkit::raw::{Raw, get, get_with, handshake, request, upgrade_with};
use presenced_testkit::server::metric;
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

async fn sessions(process: &Process, count: usize) -> Vec<(String, Client)> {
    until("ready", PATIENCE, async || {
        get(process.admin(), "/readyz").await.status == 200
    })
    .await;
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

/// What `--drain` says in [`drained`].
const DRAIN: Duration = Duration::from_secs(4);

#[tokio::test]
async fn everyone_is_closed_in_turn_and_stays_online_until_they_are_back() {
    // A machine that stalls bunches what was even; it makes nothing even that was not.
    for _ in 0..3 {
        let mut closed = drained().await;
        closed.sort_unstable();
        if is_even(&closed) {
            return;
        }
        println!("not even: {closed:?}");
    }
    panic!("not even in three drains");
}

/// Whether in each quarter of the drain some sessions were closed, and in none most of them.
fn is_even(closed: &[Duration]) -> bool {
    (0..4).all(|quarter| {
        let from = DRAIN * quarter / 4;
        let to = if quarter == 3 {
            Duration::MAX
        } else {
            DRAIN * (quarter + 1) / 4
        };
        let count = closed.iter().filter(|at| (from..to).contains(*at)).count();
        (3..=20).contains(&count)
    })
}

/// Drains a server with 40 sessions; when each of them was closed.
async fn drained() -> Vec<Duration> {
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
    assert_eq!(memcached.count_online(&users).await, 40, "all online still");
    closed
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
    process.signal(Signal::TERM);
    // The rest of the drain would last far longer than this waits.
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains("at once"), "{text}");
}

#[tokio::test]
async fn a_memcached_far_away_has_acknowledged_everyone_when_the_first_session_is_closed() {
    let memcached = Memcached::start().await;
    let proxy = Proxy::before(&memcached.node()).await;
    let node = format!("--memcached={}", proxy.node);
    let process = Process::start(&[&node, "--drain=1s", "--flush-interval=500ms"]).await;
    let sessions = sessions(&process, 20).await;
    let users: Vec<_> = sessions.iter().map(|(user, _)| user.clone()).collect();
    until("all are written", PATIENCE, async || {
        memcached.count_online(&users).await == 20
    })
    .await;
    proxy.set(Mischief::Late);
    process.signal(Signal::TERM);
    for (user, client) in sessions {
        // Heard from all the time, so that there is always something to flush.
        client.unasked_pong();
        assert_eq!(client.closed().await.code, Some(1012), "{user}");
        let ttl_s = memcached.ttl_s(&key(&user)).await.unwrap();
        assert!(ttl_s > 57, "{ttl_s}");
    }
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(
        !text.contains("before memcached has acknowledged"),
        "{text}"
    );
}

#[tokio::test]
async fn a_memcached_that_is_away_holds_up_no_one() {
    drains_without(Memcached::kill).await;
}

#[tokio::test]
async fn a_memcached_that_hangs_holds_up_no_one() {
    drains_without(|memcached| memcached.freeze()).await;
}

/// Drains a server whose memcached `fail` has taken away: sessions are closed, and it says what is missing.
async fn drains_without(fail: impl Fn(&mut Memcached)) {
    let mut memcached = Memcached::start().await;
    let node = format!("--memcached={}", memcached.node());
    let process = Process::start(&[&node, "--drain=1s"]).await;
    let sessions = sessions(&process, 10).await;
    fail(&mut memcached);
    process.signal(Signal::TERM);
    for (user, client) in sessions {
        assert_eq!(client.closed().await.code, Some(1012), "{user}");
    }
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains("before memcached has acknowledged"), "{text}");
}

#[tokio::test]
async fn replies_that_trickle_in_for_longer_than_the_drain_cost_no_one_a_close_frame() {
    let memcached = Memcached::start().await;
    let proxy = Proxy::before(&memcached.node()).await;
    let node = format!("--memcached={}", proxy.node);
    let process = Process::start(&[&node, "--drain=0s", "--workers=1"]).await;
    // The replies to the last flush take 24 s, three times as long as a drain has for them.
    let sessions = sessions(&process, 80).await;
    let users: Vec<_> = sessions.iter().map(|(user, _)| user.clone()).collect();
    until("all are written", PATIENCE, async || {
        memcached.count_online(&users).await == 80
    })
    .await;
    proxy.set(Mischief::Trickle);
    process.signal(Signal::TERM);
    // No connection fails, so each of these sessions would wait for its reply until the process
    // ends, and the client would lose the connection without a word.
    for (user, client) in sessions {
        assert_eq!(client.closed().await.code, Some(1012), "{user}");
    }
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains("before memcached has acknowledged"), "{text}");
}

/// Far longer than a test may take.
const LONG_DRAIN: &str = "--drain=600s";

#[tokio::test]
async fn without_sessions_a_stop_waits_for_nothing() {
    let process = Process::start(&[LONG_DRAIN]).await;
    process.signal(Signal::TERM);
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains("stopped"), "{text}");
    // Nor for a memcached that is away, or hangs.
    for signal in [Signal::KILL, Signal::STOP] {
        let mut memcached = Memcached::start().await;
        let node = format!("--memcached={}", memcached.node());
        let process = Process::start(&[&node, LONG_DRAIN]).await;
        until("ready", PATIENCE, async || {
            get(process.admin(), "/readyz").await.status == 200
        })
        .await;
        match signal {
            Signal::KILL => memcached.kill(),
            _ => memcached.freeze(),
        }
        process.signal(Signal::TERM);
        let (status, text) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{text}");
    }
}

#[tokio::test]
async fn a_drain_ends_when_the_last_session_has_left() {
    let memcached = Memcached::start().await;
    let node = format!("--memcached={}", memcached.node());
    let process = Process::start(&[&node, LONG_DRAIN, "--workers=2"]).await;
    let sessions = sessions(&process, 6).await;
    process.signal(Signal::TERM);
    draining(&process).await;
    // Who leaves before the last flush has written them is not written again.
    for (user, _) in &sessions {
        let ttl_s = async || memcached.ttl_s(&key(user)).await.unwrap();
        until("it is written", PATIENCE, async || ttl_s().await > 500).await;
    }
    let mut users = Vec::new();
    for (user, client) in sessions {
        client.close().await;
        users.push(user);
    }
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(
        text.contains("stopped") && !text.contains("before memcached had acknowledged"),
        "{text}"
    );
    for user in &users {
        let ttl_s = memcached.ttl_s(&key(user)).await.unwrap();
        assert!(ttl_s > 500, "{user}: {ttl_s}");
    }
}

/// Begins sessions one after another until the server is gone; the close codes of all of them.
async fn crowd_in(edge: SocketAddr) -> Vec<Option<u16>> {
    let mut sessions = JoinSet::new();
    while let Some(mut raw) = Raw::try_connect(edge).await {
        let hello = request("GET", "/ws", &upgrade_with(&token("late")), "");
        // It may end before it has answered.
        if !raw.try_send(hello).await {
            break;
        }
        match raw.try_response().await.map(|response| response.status) {
            Some(101) => {
                sessions.spawn(async move {
                    let close = raw.frame().await?;
                    let (code, reason) = close.payload.split_first_chunk()?;
                    (reason == b"restart").then(|| u16::from_be_bytes(*code))
                });
            }
            Some(503) => {}
            Some(status) => panic!("{status}"),
            None => break,
        }
    }
    sessions.join_all().await
}

#[tokio::test]
async fn whoever_gets_in_as_the_drain_begins_is_closed_as_the_others() {
    for _ in 0..5 {
        let flags = ["--drain=0s", "--workers=2", "--max-sessions-per-user=60000"];
        let process = Process::start(&flags).await;
        let mut crowd = JoinSet::new();
        for _ in 0..16 {
            crowd.spawn(crowd_in(process.edge()));
        }
        until("some are in", PATIENCE, async || {
            metric(&get(process.admin(), "/metrics").await, "sessions") > 100
        })
        .await;
        process.signal(Signal::TERM);
        let codes = crowd.join_all().await.concat();
        let (status, text) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{text}");
        let lost = codes.iter().filter(|code| **code != Some(1012)).count();
        assert_eq!(lost, 0, "of {}", codes.len());
    }
}
