//! Faults of memcached itself.

use std::time::Duration;

use presenced_testkit::memcached::{Memcached, key};
use presenced_testkit::{PATIENCE, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

use super::asker::Asker;
use super::table::Row;
use super::{Fleet, edge};

/// Or all rows would prove nothing. No edge can know of an entry that someone else has deleted.
#[tokio::test]
async fn a_false_offline_is_seen() {
    let memcached = Memcached::start().await;
    let fleet = Fleet::on_node(&memcached.node()).await;
    let deleted = memcached.ask(&format!("delete {}", key("u7"))).await;
    assert_eq!(deleted, "DELETED");
    sleep(Duration::from_secs(3)).await;
    let seen = fleet.asker.take();
    assert_eq!(seen.offline.count, 1);
    assert!(seen.offline.longest > Duration::ZERO);
}

async fn flushed(command: &str, row: Row) {
    let memcached = Memcached::start().await;
    let fleet = Fleet::on_node(&memcached.node()).await;
    assert_eq!(memcached.ask(command).await, "OK");
    fleet.judge(&row).await;
}

#[tokio::test]
async fn flush_all() {
    flushed("flush_all", Row::never(1, "`flush_all`")).await;
}

#[tokio::test]
async fn flush_all_in_a_second() {
    flushed("flush_all 1", Row::never(2, "`flush_all 1`")).await;
}

#[tokio::test]
async fn flush_all_in_three_seconds() {
    flushed("flush_all 3", Row::never(3, "`flush_all 3`")).await;
}

async fn restarted(away: Duration, row: Row) {
    let mut memcached = Memcached::start().await;
    let fleet = Fleet::on_node(&memcached.node()).await;
    memcached.kill();
    sleep(away).await;
    memcached.restart().await;
    fleet.judge(&row).await;
}

#[tokio::test]
async fn restart_at_once() {
    let row = Row::never(4, "memcached killed, and empty at once");
    restarted(Duration::ZERO, row).await;
}

#[tokio::test]
async fn restart_after_3_s() {
    let row = Row::never(5, "memcached killed, and empty after 3 s");
    restarted(Duration::from_secs(3), row).await;
}

#[tokio::test]
async fn restart_after_15_s() {
    let row = Row::never(6, "memcached killed, and empty after 15 s");
    restarted(Duration::from_secs(15), row).await;
}

async fn frozen(time: Duration, row: Row) {
    let memcached = Memcached::start().await;
    let fleet = Fleet::on_node(&memcached.node()).await;
    memcached.freeze();
    sleep(time).await;
    memcached.thaw();
    fleet.judge(&row).await;
}

#[tokio::test]
async fn stopped_for_3_s() {
    let row = Row::never(7, "memcached stopped (SIGSTOP) for 3 s");
    frozen(Duration::from_secs(3), row).await;
}

#[tokio::test]
async fn stopped_for_15_s() {
    let row = Row::never(8, "memcached stopped (SIGSTOP) for 15 s");
    frozen(Duration::from_secs(15), row).await;
}

/// Fills memcached with items of others, some of them of the size of entries, faster than it can keep them
/// for as long as a heartbeat takes.
fn fill(memcached: &Memcached) -> JoinHandle<()> {
    const ITEMS_AT_ONCE: u64 = 400;
    let address = memcached.address();
    tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut ticks = interval(Duration::from_millis(20));
        for number in 0.. {
            ticks.tick().await;
            let mut commands = String::new();
            for item in 0..ITEMS_AT_ONCE {
                let size = 40 + (item as usize % 12) * 10;
                commands += &format!("set foreign:{number}:{item} 0 0 {size}\r\n{:size$}\r\n", "");
            }
            stream.write_all(commands.as_bytes()).await.unwrap();
            // Each is answered with one line, whatever it says.
            let (mut lines, mut answers) = (0, [0; 16 << 10]);
            while lines < ITEMS_AT_ONCE {
                let count = stream.read(&mut answers).await.unwrap();
                assert!(count > 0, "memcached hangs up");
                lines += answers[..count]
                    .iter()
                    .filter(|byte| **byte == b'\n')
                    .count() as u64;
            }
        }
    })
}

#[tokio::test]
async fn full_and_evicting() {
    /// Entries that are asked for more often are not evicted: memcached sees that they are in use.
    const PAUSE: Duration = Duration::from_millis(1100);
    let memcached = Memcached::start_with(&["-m", "1", "-I", "512k"]).await;
    let fleet = Fleet::on_node(&memcached.node()).await;
    let Fleet { users, asker, .. } = &fleet;
    asker.stop();
    let rarely = Asker::start_every(PAUSE, users.clone(), fleet.other.edge());
    let filling = fill(&memcached);
    until("it evicts", PATIENCE, async || {
        memcached.stat("evictions").await > 0
    })
    .await;
    sleep(Duration::from_secs(20)).await;
    filling.abort();
    rarely.believes_misses().await;
    let seen = rarely.take();
    assert!(seen.unknown.count > 0, "no entry was evicted");
    Row::never(20, "memcached full, evicting entries").judge(&seen);
}

#[tokio::test]
async fn full_and_refusing() {
    let memcached = Memcached::start_with(&["-M", "-m", "1", "-I", "512k"]).await;
    let fleet = Fleet::on_node(&memcached.node()).await;
    let filling = fill(&memcached);
    sleep(Duration::from_secs(15)).await;
    filling.abort();
    assert_eq!(memcached.ask("flush_all").await, "OK");
    let row = Row::at_most(
        Duration::from_secs(2),
        21,
        "memcached full, refusing (`-M`), for 15 s",
    );
    fleet.judge(&row).await;
}

#[tokio::test]
async fn idle_connections_ended() {
    let memcached = Memcached::start_with(&["-o", "idle_timeout=1"]).await;
    let fleet = Fleet::on_node(&memcached.node()).await;
    // Users who connect after a pause find connections that have just ended.
    for number in 0..10 {
        let user = format!("late{number}");
        fleet.users.connect(&user, fleet.home.edge()).await;
        sleep(Duration::from_millis(1500)).await;
    }
    fleet
        .judge(&Row::never(
            22,
            "idle connections ended (`-o idle_timeout=1`)",
        ))
        .await;
}

#[tokio::test]
async fn a_fresh_edge() {
    let memcached = Memcached::start().await;
    let nodes = format!("--memcached={}", memcached.node());
    let fleet = Fleet::on(&nodes).await;
    let fresh = edge("fresh", &nodes).await;
    let asker = Asker::start(fleet.users.clone(), fresh.edge());
    sleep(Duration::from_secs(3)).await;
    asker.believes_misses().await;
    let seen = asker.take().or(&fleet.asker.take());
    Row::never(9, "a fresh edge, from its first answer on").judge(&seen);
}
