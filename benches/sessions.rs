//! A million sessions without sockets: a real worker with its slab, timing wheel, users and pending
//! buffer.
//!
//! ```sh
//! cargo bench --bench sessions                          # times, and memory at a million
//! SESSIONS=10000000 cargo bench --bench sessions -- memory
//! ```
//!
//! Memory is that of the process (VmRSS), read every 10,000 sessions. Tables that grow by doubling
//! show as a step.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "a bench may panic and print"
)]

mod common;
#[path = "common/rss.rs"]
mod rss;

use std::time::{Duration, Instant};

use common::{Ping, Sessions};
use criterion::{Criterion, Throughput};
use rss::rss_bytes;

const INTERVAL: Duration = Duration::from_secs(25);
const TICK: Duration = Duration::from_millis(10);
const STEP: u32 = 10_000;

fn memory(count: u32) {
    let mut sessions = Sessions::new(INTERVAL);
    sessions.open(1);
    sessions.keys.reserve_exact(count as usize);
    // The list of keys belongs to the bench, so its pages are touched before the measurement.
    sessions.keys.resize(count as usize, sessions.keys[0]);
    sessions.keys.truncate(1);
    let empty = rss_bytes();
    let (mut last, mut largest_step, mut at) = (empty, 0, 0);
    for number in 0..count / STEP {
        sessions.open(STEP);
        let now = rss_bytes();
        if now - last > largest_step && number > 0 {
            (largest_step, at) = (now - last, number * STEP);
        }
        last = now;
    }
    let opened = rss_bytes();
    for _ in 0..2 {
        sessions.round(TICK, answer_all);
    }
    let after = rss_bytes();
    let per = |bytes: i64| bytes as f64 / f64::from(count);
    println!(
        "memory of {count} sessions: {:.1} B each when opened, {:.1} B after two rounds of pings; \
         the largest step in {STEP} sessions is {:.2} MB (at {at}), {:.1} % of the whole",
        per(opened - empty),
        per(after - empty),
        largest_step as f64 / 1e6,
        100.0 * largest_step as f64 / (after - empty) as f64,
    );
    assert_eq!(sessions.presence.users().len(), count as usize + 1);
}

fn answer_all(sessions: &mut Sessions, pings: &[Ping]) {
    for &ping in pings {
        sessions.answer(ping);
    }
}

fn times(criterion: &mut Criterion) {
    let count = 1_000_000;
    let mut sessions = Sessions::new(INTERVAL);
    sessions.open(count);
    let mut group = criterion.benchmark_group("sessions");
    group.sample_size(10);
    group.throughput(Throughput::Elements(count.into()));
    // In a round of 2,500 ticks each session is pinged, and its last pong checked. The pongs
    // between the ticks are not timed.
    group.bench_function("sweep", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| sessions.round(TICK, answer_all)).sum());
    });
    // The same with the pongs, and then with a pull of nobody of each session, in an order that no
    // cache foresees.
    let round = |sessions: &mut Sessions, pulls: bool| {
        let (mut next, start) = (0, Instant::now());
        sessions.round(TICK, |sessions, pings| {
            answer_all(sessions, pings);
            for _ in 0..if pulls { pings.len() } else { 0 } {
                sessions.pull_nobody(next);
                next = (next + 7919) % count as usize;
            }
        });
        start.elapsed()
    };
    for (name, pulls) in [
        ("pings-and-pongs", false),
        ("pings-pongs-and-empty-pulls", true),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| round(&mut sessions, pulls)).sum());
        });
    }
    group.finish();

    let mut sessions = Sessions::new(Duration::from_secs(1));
    sessions.open(18_000);
    let mut group = criterion.benchmark_group("sessions");
    group.throughput(Throughput::Elements(18_000));
    group.bench_function("pongs", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut time = Duration::ZERO;
            for _ in 0..rounds {
                sessions.round(TICK, |sessions, pings| {
                    let start = Instant::now();
                    answer_all(sessions, pings);
                    time += start.elapsed();
                });
            }
            time
        });
    });
    group.finish();
}

fn main() {
    let only_memory = std::env::args().any(|argument| argument == "memory");
    let count = std::env::var("SESSIONS").map_or(1_000_000, |count| count.parse().unwrap());
    memory(count);
    if !only_memory {
        let mut criterion = Criterion::default().configure_from_args();
        times(&mut criterion);
        criterion.final_summary();
    }
}
