//! What a server says when it can not write heartbeats in time.

use presenced_testkit::client::Client;
use presenced_testkit::memcached::Memcached;
use presenced_testkit::process::Process;
use presenced_testkit::proxy::{Mischief, Proxy};
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;

const LATE: &str = "heartbeats are late";
const OVER: &str = "heartbeats are written in time again";

#[tokio::test]
async fn heartbeats_that_are_late_are_logged_when_that_begins_and_when_it_is_over() {
    let memcached = Memcached::start().await;
    let proxy = Proxy::before(&memcached.node()).await;
    let process = Process::start(&[
        &format!("--memcached={}", proxy.node),
        // As short as may be: late after some three seconds.
        "--ttl=7s",
        "--ping-interval=1s",
        "--ping-timeout=700ms",
        "--flush-interval=100ms",
        "--drain=0s",
    ])
    .await;
    let _alice = Client::connect(process.edge(), "alice").await;
    until("alice has an entry", PATIENCE, async || {
        memcached.ask("mg user:alice:online").await == "HD"
    })
    .await;
    // The probe is answered all the time.
    proxy.set(Mischief::NoEntries);
    process.logs(LATE).await;
    proxy.set(Mischief::None);
    process.logs(OVER).await;
    process.signal(Signal::TERM);
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    let count = |message| text.lines().filter(|line| line.contains(message)).count();
    assert_eq!(count(LATE), count(OVER), "each has its end: {text}");
    let line = text.lines().find(|line| line.contains(LATE)).unwrap();
    for part in ["WARN", &proxy.node, "oldest_unwritten="] {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test]
async fn a_start_and_a_stop_are_never_late() {
    let process = Process::start(&["--drain=0s"]).await;
    let _alice = Client::connect(process.edge(), "alice").await;
    process.signal(Signal::TERM);
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(!text.contains(LATE) && !text.contains(OVER), "{text}");
}
