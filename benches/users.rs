//! The directory of users and its slots, and the memory of a user.
//!
//! ```sh
//! cargo bench --bench users                          # times, and memory at a million
//! USERS=10000000 cargo bench --bench users -- memory
//! ```
//!
//! Ids have 23 bytes. Memory is that of the process (VmRSS): entries, hash tables, pending bits.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "a bench may panic and print"
)]

#[path = "common/live.rs"]
mod live;
#[path = "common/rss.rs"]
mod rss;
#[path = "common/threads.rs"]
mod threads;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use live::live;
use presenced_presence::limits::SHARDS;
use presenced_presence::users::Hasher;
use presenced_presence::{Pending, Slot, UserId, Users};
use rss::rss_bytes;
use threads::timed;

const USERS: u32 = 1_000_000;

/// Users between two readings of memory. Tables that grow by doubling show as a step.
const STEP: u32 = 10_000;

fn id(number: u32) -> UserId {
    UserId::new(&format!("user-{number:018}")).unwrap()
}

fn users() -> Users {
    Users::new(Arc::new(Pending::new()), 10, Hasher::random())
}

fn connect(users: &Users, id: &UserId, number: u32) -> Slot {
    users.connect(id, live(number), |_| 0).slot
}

fn memory(count: u32) {
    let users = users();
    // The first user brings allocations that all share.
    connect(&users, &id(u32::MAX), 0);
    let empty = rss_bytes();
    let (mut last, mut largest_step) = (empty, 0);
    for first in (0..count).step_by(STEP as usize) {
        for number in first..count.min(first + STEP) {
            connect(&users, &id(number), number);
        }
        let now = rss_bytes();
        largest_step = largest_step.max(now - last);
        last = now;
    }
    println!(
        "memory of {count} users: {:.1} B each; the largest step in {STEP} users is {:.2} MB, \
         {:.1} % of the whole",
        (last - empty) as f64 / f64::from(count),
        largest_step as f64 / 1e6,
        100.0 * largest_step as f64 / (last - empty) as f64,
    );
    assert_eq!(users.len(), count as usize + 1);
}

fn times(criterion: &mut Criterion) {
    let mut ids: Vec<_> = (0..USERS).map(|number| (number, id(number))).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut ids);
    let mut group = criterion.benchmark_group("users");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(USERS.into()));
    let here = users();
    for (number, id) in &ids {
        connect(&here, id, *number);
    }
    fastrand::Rng::with_seed(2).shuffle(&mut ids);
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new("look-up", threads), |bencher| {
            bencher.iter_custom(|count| {
                let look_up = |(_, id): &(u32, UserId)| {
                    black_box(here.online_since(id));
                };
                (0..count).map(|_| timed(&ids, threads, look_up)).sum()
            });
        });
        group.bench_function(BenchmarkId::new("connect-disconnect", threads), |bencher| {
            bencher.iter_custom(|count| {
                let come_and_go = |(number, id): &(u32, UserId)| {
                    let slot = connect(&here, id, number + USERS);
                    here.disconnect(slot, live(number + USERS).session);
                };
                (0..count).map(|_| timed(&ids, threads, come_and_go)).sum()
            });
        });
        group.bench_function(BenchmarkId::new("connect-first", threads), |bencher| {
            bencher.iter_custom(|count| {
                let mut time = Duration::ZERO;
                for _ in 0..count {
                    let empty = users();
                    time += timed(&ids, threads, |(number, id)| {
                        connect(&empty, id, *number);
                    });
                }
                time
            });
        });
    }
    render(&mut group, &here);
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// Renders nine tenths of the users of every shard, in runs as the flush does.
fn render(group: &mut Group<'_>, users: &Users) {
    let indexes: Vec<u32> = (0..USERS / SHARDS as u32 * 9 / 10).collect();
    group.throughput(Throughput::Elements((indexes.len() * SHARDS) as u64));
    group.bench_function("render", |bencher| {
        bencher.iter(|| {
            for shard in 0..SHARDS {
                for run in indexes.chunks(128) {
                    users.render(shard, run, 0, |index, due| {
                        black_box((index, due.user, due.live));
                    });
                }
            }
        });
    });
}

fn main() {
    let only_memory = std::env::args().any(|argument| argument == "memory");
    let count = std::env::var("USERS").map_or(USERS, |count| count.parse().unwrap());
    memory(count);
    if !only_memory {
        let mut criterion = Criterion::default().configure_from_args();
        times(&mut criterion);
        criterion.final_summary();
    }
}
