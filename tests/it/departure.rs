//! From SIGTERM to the drain: balancers learn that the server goes, and nobody is refused meanwhile.

use std::time::Duration;

use presenced_testkit::client::Client;
use presenced_testkit::process::{FREE_PORTS, Process, command};
use presenced_testkit::raw::{Raw, get, request};
use presenced_testkit::tokens::{SECRET, token};
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;
use tokio::time::Instant;

async fn not_ready(process: &Process) {
    until("not ready", PATIENCE, async || {
        let ready = get(process.admin(), "/readyz").await;
        (ready.status, ready.body.trim()) == (503, "draining")
    })
    .await;
}

#[tokio::test]
async fn before_a_drain_clients_are_served_and_balancers_learn_of_it() {
    // It does not end by itself while this test runs.
    let process = Process::start(&["--drain-delay=1h", "--serve-health"]).await;
    let mut old = Client::connect(process.edge(), "old").await;
    let bearer = [("Authorization", format!("Bearer {}", token("old")))];
    let pull = request("GET", "/v1/presence?user=old", &bearer, "");
    // A connection that a proxy keeps.
    let mut kept = Raw::connect(process.edge()).await;
    kept.send(&pull).await;
    assert_eq!(kept.response().await.header("connection"), None);

    process.signal(Signal::TERM);
    not_ready(&process).await;
    for addr in [process.admin(), process.edge()] {
        assert_eq!(get(addr, "/healthz").await.status, 200);
        assert_eq!(get(addr, "/readyz").await.status, 503);
    }
    // Clients that come by a balancer that does not know yet.
    let mut new = Client::connect(process.edge(), "new").await;
    assert!(new.pull(&["new"]).await["online"]["new"].is_object());
    assert!(old.pull(&["new"]).await["online"]["new"].is_object());
    kept.send(&pull).await;
    let response = kept.response().await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("connection"), Some("close"));
    kept.hung_up().await;
    assert!(old.is_open() && new.is_open());

    // And no drain at all, for an operator who does not want to wait.
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert!(status.success() && log.contains("at once"), "{log}");
    assert!(!log.contains("draining; "), "{log}");
}

#[tokio::test]
async fn the_drain_follows_when_the_delay_is_over() {
    let process = Process::start(&["--drain-delay=1s", "--drain=0s"]).await;
    let client = Client::connect(process.edge(), "alice").await;
    let start = Instant::now();
    process.signal(Signal::TERM);
    let end = client.closed().await;
    assert_eq!(end.code, Some(1012));
    assert!(end.at - start >= Duration::from_secs(1), "{end:?}");
    let (status, log) = process.ended().await;
    assert!(status.success() && log.contains("stopped"), "{log}");
}

#[tokio::test]
async fn an_interrupt_drains_at_once() {
    let process = Process::start(&["--drain-delay=1h", "--drain=0s"]).await;
    let client = Client::connect(process.edge(), "alice").await;
    process.signal(Signal::INT);
    assert_eq!(client.closed().await.code, Some(1012));
    let (status, log) = process.ended().await;
    assert!(status.success() && !log.contains("not ready"), "{log}");
}

#[tokio::test]
async fn the_delay_is_five_seconds_with_a_key_and_none_without() {
    let unset = |secret: Option<&str>| {
        let mut command = command(FREE_PORTS);
        command.env_remove("PRESENCED_DRAIN_DELAY");
        if let Some(secret) = secret {
            command.env("PRESENCED_JWT_SECRET", secret);
        }
        command
    };
    let process = Process::up(unset(Some(SECRET))).await;
    process.signal(Signal::TERM);
    process.logs("drain_delay=5s").await;
    not_ready(&process).await;

    let process = Process::up(unset(None)).await;
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert!(status.success() && !log.contains("drain_delay"), "{log}");
}
