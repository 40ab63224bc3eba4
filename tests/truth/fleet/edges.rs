//! Faults of edges, and users who move between them.

use std::time::Duration;

use presenced_testkit::memcached::Memcached;
use presenced_testkit::names::Names;
use presenced_testkit::process::Process;
use presenced_testkit::proxy::{Mischief, Proxy};
use rustix::process::Signal;
use tokio::time::sleep;

use super::table::Row;
use super::{Fleet, HEADROOM, edge, flags};

/// From when a fault ends until an edge that was away has told of itself: a look each second, what it has
/// to write, and a slow machine.
const RETURN: Duration = Duration::from_secs(4);

/// What an edge that can't write for `time` may cost its users, by the documents.
fn exception(time: Duration) -> Duration {
    match time.checked_sub(HEADROOM) {
        Some(beyond) => beyond + RETURN,
        None => Duration::ZERO,
    }
}

/// A fleet whose edge with the users reaches the node through a proxy of its own, by the same name.
async fn through_a_proxy(memcached: &Memcached) -> Option<(Fleet, Proxy)> {
    let port = memcached.address().port();
    let proxy = Proxy::at(&format!("127.0.0.2:{port}"), &memcached.node()).await;
    let Some((through, straight)) =
        Names::new("127.0.0.2 cache.test\n").zip(Names::new("127.0.0.1 cache.test\n"))
    else {
        eprintln!("not measured: no file system of a process's own without `unshare`");
        return None;
    };
    let start = async |id: &str, names: &Names| {
        let flags = flags(id, &format!("--memcached=cache.test:{port}"));
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        Process::start_with(names, &flags).await
    };
    let home = start("home", &through).await;
    let fleet = Fleet::of(home, start("other", &straight).await).await;
    assert!(proxy.open() > 0, "the way leads through the proxy");
    Some((fleet, proxy))
}

async fn cut(time: Duration, row: Row) {
    let memcached = Memcached::start().await;
    let Some((fleet, proxy)) = through_a_proxy(&memcached).await else {
        return;
    };
    proxy.set(Mischief::Silence);
    sleep(time).await;
    proxy.set(Mischief::None);
    fleet.judge(&row).await;
}

#[tokio::test]
async fn cut_off_for_5_s() {
    let time = Duration::from_secs(5);
    cut(
        time,
        Row::never(15, "an edge cut off from memcached for 5 s"),
    )
    .await;
}

#[tokio::test]
async fn cut_off_for_30_s() {
    let time = Duration::from_secs(30);
    let fault = "an edge cut off from memcached for 30 s";
    cut(time, Row::at_most(exception(time), 16, fault)).await;
}

#[tokio::test]
async fn users_connect_to_an_edge_that_is_cut_off() {
    let memcached = Memcached::start().await;
    let Some((fleet, proxy)) = through_a_proxy(&memcached).await else {
        return;
    };
    proxy.set(Mischief::Silence);
    for number in 0..10 {
        let user = format!("late{number}");
        fleet.users.connect(&user, fleet.home.edge()).await;
    }
    let time = Duration::from_secs(5);
    sleep(time).await;
    proxy.set(Mischief::None);
    let fault = "users connect to an edge that is cut off for 5 s";
    fleet.judge(&Row::at_most(time + RETURN, 17, fault)).await;
}

async fn stopped(time: Duration, row: Row) {
    let memcached = Memcached::start().await;
    let fleet = Fleet::on_node(&memcached.node()).await;
    fleet.home.signal(Signal::STOP);
    sleep(time).await;
    let returning = tokio::spawn(fleet.users.clone().come_back_to(fleet.home.edge()));
    fleet.home.signal(Signal::CONT);
    fleet.judge(&row).await;
    returning.abort();
}

#[tokio::test]
async fn stopped_for_5_s() {
    let time = Duration::from_secs(5);
    stopped(time, Row::never(18, "an edge stopped (SIGSTOP) for 5 s")).await;
}

#[tokio::test]
async fn stopped_for_30_s() {
    let time = Duration::from_secs(30);
    let fault = "an edge stopped (SIGSTOP) for 30 s";
    stopped(time, Row::at_most(exception(time), 19, fault)).await;
}

/// Users come back to a second edge when the first one ends by `signal`.
async fn ended(signal: Signal, row: Row) {
    let memcached = Memcached::start().await;
    let nodes = format!("--memcached={}", memcached.node());
    let fleet = Fleet::on(&nodes).await;
    let second = edge("second", &nodes).await;
    let returning = tokio::spawn(fleet.users.clone().come_back_to(second.edge()));
    fleet.home.signal(signal);
    fleet.judge(&row).await;
    returning.abort();
}

#[tokio::test]
async fn drained() {
    let row = Row::never(23, "an edge drained, its users come back to another");
    ended(Signal::TERM, row).await;
}

#[tokio::test]
async fn killed() {
    let row = Row::never(24, "an edge killed, its users come back to another");
    ended(Signal::KILL, row).await;
}

#[tokio::test]
async fn users_move_to_and_fro() {
    let memcached = Memcached::start().await;
    let nodes = format!("--memcached={}", memcached.node());
    let fleet = Fleet::on(&nodes).await;
    let second = edge("second", &nodes).await;
    let (mut from, mut to) = (fleet.home.edge(), second.edge());
    for _ in 0..8 {
        for user in fleet.users.names() {
            // The next session is there before the last one ends, or after: as clients do.
            if user.ends_with(['1', '3', '5', '7', '9']) {
                fleet.users.connect(&user, to).await;
                fleet.users.leave(&user, from).await;
            } else {
                fleet.users.leave(&user, from).await;
                fleet.users.connect(&user, to).await;
            }
        }
        sleep(Duration::from_millis(1500)).await;
        (from, to) = (to, from);
    }
    fleet
        .judge(&Row::never(25, "users move from edge to edge"))
        .await;
}

#[tokio::test]
async fn users_are_on_two_edges() {
    let memcached = Memcached::start().await;
    let nodes = format!("--memcached={}", memcached.node());
    let fleet = Fleet::on(&nodes).await;
    let second = edge("second", &nodes).await;
    for user in fleet.users.names() {
        fleet.users.connect(&user, second.edge()).await;
    }
    sleep(Duration::from_secs(3)).await;
    for user in fleet.users.names() {
        fleet.users.leave(&user, fleet.home.edge()).await;
    }
    fleet
        .judge(&Row::never(26, "users on two edges leave one of them"))
        .await;
}
