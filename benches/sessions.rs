//! A million sessions without sockets: a real worker with its slab, timing wheel, users and pending
//! buffer.
//!
//! ```sh
//! cargo bench --bench sessions                          # times, and memory at a million
//! SESSIONS=10000000 cargo bench --bench sessions -- memory
//! cargo bench --bench sessions -- trend                 # a thousand to ten million, as CSV
//! ```
//!
//! Memory is that of the process (VmRSS), read every 10,000 sessions. Tables that grow by doubling
//! show as a step.
//!
//! The trend runs each number of sessions in a process of its own. Its times are medians of whole rounds
//! of pings: what the worker takes to ping a session, and to go from a pong's bytes to the recorded
//! heartbeat.

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

use std::process::Command;
use std::time::{Duration, Instant};

use common::{Ping, Sessions};
use criterion::{Criterion, Throughput};
use presenced::gateway::client_dialect::ClientDialect;
use rss::rss_bytes;

const INTERVAL: Duration = Duration::from_secs(25);
const TICK: Duration = Duration::from_millis(10);
const STEP: u32 = 10_000;
const TREND: [u32; 9] = [
    1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000,
];
/// How long the rounds of one number of sessions take, at least.
const TREND_TIME: Duration = Duration::from_secs(1);
const TREND_ROUNDS_MIN: usize = 5;

/// Sessions without any yet. The list of keys belongs to the bench, so its pages are touched before anything is
/// measured.
fn no_sessions(count: u32) -> Sessions {
    let mut sessions = Sessions::new(INTERVAL);
    sessions.open(1);
    sessions.keys.reserve_exact(count as usize);
    sessions.keys.resize(count as usize, sessions.keys[0]);
    sessions.keys.truncate(1);
    sessions
}

fn memory(count: u32) {
    let mut sessions = no_sessions(count);
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

/// Prints a line of CSV for each number of sessions.
fn trend() {
    println!("sessions,bytes,ping_ns,pong_ns");
    let program = std::env::current_exe().unwrap();
    for count in TREND {
        let mut command = Command::new(&program);
        let ran = command.arg("trend-row").env("SESSIONS", count.to_string());
        assert!(ran.status().unwrap().success(), "{count} sessions");
    }
}

/// Measures one number of sessions, in a process that has had none yet.
fn trend_row(count: u32) {
    let mut sessions = no_sessions(count);
    let empty = rss_bytes();
    sessions.open(count);
    // Few sessions have longer ticks, so that what is measured is sessions and not empty ticks.
    let tick = TICK * (250_000 / count).clamp(1, 25);
    for _ in 0..2 {
        sessions.round(tick, answer_all);
    }
    let bytes = (rss_bytes() - empty) as f64 / f64::from(count);
    let (mut ping, mut pong, start) = (Vec::new(), Vec::new(), Instant::now());
    while start.elapsed() < TREND_TIME || ping.len() < TREND_ROUNDS_MIN {
        let mut answered = Duration::ZERO;
        ping.push(sessions.round(tick, |sessions, pings| {
            let start = Instant::now();
            answer_all(sessions, pings);
            answered += start.elapsed();
        }));
        pong.push(answered);
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e9 / f64::from(count)
    };
    println!("{count},{bytes:.1},{:.1},{:.1}", median(ping), median(pong));
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
    // The same with the pongs, and then with the messages that a page sees of the pings.
    let mut told = Sessions::new(INTERVAL);
    told.dialect = ClientDialect::Alive;
    told.open(count);
    for (name, sessions) in [
        ("pings-and-pongs", &mut sessions),
        ("pings-and-pongs-with-messages", &mut told),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let start = Instant::now();
                for _ in 0..rounds {
                    sessions.round(TICK, answer_all);
                }
                start.elapsed()
            });
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
    let count = std::env::var("SESSIONS").map_or(1_000_000, |count| count.parse().unwrap());
    let is_asked = |what| std::env::args().any(|argument| argument == what);
    if is_asked("trend-row") {
        return trend_row(count);
    }
    if is_asked("trend") {
        return trend();
    }
    memory(count);
    if !is_asked("memory") {
        let mut criterion = Criterion::default().configure_from_args();
        times(&mut criterion);
        criterion.final_summary();
    }
}
