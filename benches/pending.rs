//! The pending buffer compared with its alternatives: concurrent sets, a set behind a lock, and a
//! queue, which does not even remove duplicates.
//!
//! ```sh
//! cargo bench --bench pending
//! USERS=10000000 cargo bench --bench pending -- bitmap    # without the others
//! ```
//!
//! Each iteration records a million users once, in random order, on one or two threads, and empties
//! the buffer outside the measured time. Divide by 1,000,000 for the time of a heartbeat.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    reason = "a bench may panic"
)]

#[path = "common/threads.rs"]
mod threads;

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_queue::SegQueue;
use dashmap::DashSet;
use presenced_presence::limits::SHARDS;
use presenced_presence::{Pending, Slot};
use threads::timed;

fn users() -> u32 {
    std::env::var("USERS").map_or(1_000_000, |count| count.parse().unwrap())
}

trait Buffer: Sync {
    fn record(&self, slot: Slot);
    /// Empties the buffer and returns how many users it had.
    fn drain(&self) -> usize;
}

impl Buffer for Pending {
    fn record(&self, slot: Slot) {
        self.record(slot);
    }

    fn drain(&self) -> usize {
        let mut count = 0;
        for shard in 0..SHARDS {
            self.drain(shard, |slot| {
                black_box(slot);
                count += 1;
            });
        }
        count
    }
}

impl Buffer for DashSet<Slot> {
    fn record(&self, slot: Slot) {
        self.insert(slot);
    }

    fn drain(&self) -> usize {
        let count = self.len();
        self.clear();
        count
    }
}

impl Buffer for Mutex<HashSet<Slot>> {
    fn record(&self, slot: Slot) {
        self.lock().unwrap().insert(slot);
    }

    fn drain(&self) -> usize {
        let mut set = self.lock().unwrap();
        let count = set.len();
        set.clear();
        count
    }
}

impl Buffer for scc::HashSet<Slot> {
    fn record(&self, slot: Slot) {
        let _ = self.insert_sync(slot);
    }

    fn drain(&self) -> usize {
        let count = self.len();
        self.clear_sync();
        count
    }
}

impl Buffer for papaya::HashSet<Slot> {
    fn record(&self, slot: Slot) {
        self.pin().insert(slot);
    }

    fn drain(&self) -> usize {
        let count = self.len();
        self.pin().clear();
        count
    }
}

impl Buffer for SegQueue<Slot> {
    fn record(&self, slot: Slot) {
        self.push(slot);
    }

    fn drain(&self) -> usize {
        let count = self.len();
        while self.pop().is_some() {}
        count
    }
}

fn slots() -> Vec<Slot> {
    let mut slots: Vec<_> = (0..users())
        .map(|user| Slot::new(user as usize % SHARDS, user / SHARDS as u32))
        .collect();
    fastrand::Rng::with_seed(1).shuffle(&mut slots);
    slots
}

fn pending(slots: &[Slot]) -> Pending {
    let pending = Pending::new();
    slots.iter().for_each(|&slot| pending.reserve(slot));
    pending
}

fn record(criterion: &mut Criterion) {
    let slots = slots();
    let mut group = criterion.benchmark_group("record");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(slots.len() as u64));
    for threads in [1, 2] {
        let mut compare = |name: &str, buffer: &dyn Fn(u64) -> Duration| {
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(buffer);
            });
        };
        let times = |buffer: &dyn Fn() -> Duration, count| (0..count).map(|_| buffer()).sum();
        let bitmap = pending(&slots);
        let dash = DashSet::with_capacity(slots.len());
        let mutex = Mutex::new(HashSet::with_capacity(slots.len()));
        let scc = scc::HashSet::with_capacity(slots.len());
        let papaya = papaya::HashSet::with_capacity(slots.len());
        let queue = SegQueue::new();
        compare("bitmap", &|count| {
            times(&|| run(&bitmap, &slots, threads), count)
        });
        compare("dashset", &|count| {
            times(&|| run(&dash, &slots, threads), count)
        });
        compare("mutex-hashset", &|count| {
            times(&|| run(&mutex, &slots, threads), count)
        });
        compare("scc", &|count| times(&|| run(&scc, &slots, threads), count));
        compare("papaya", &|count| {
            times(&|| run(&papaya, &slots, threads), count)
        });
        compare("segqueue", &|count| {
            times(&|| run(&queue, &slots, threads), count)
        });
    }
    group.finish();
}

fn run(buffer: &impl Buffer, slots: &[Slot], threads: usize) -> Duration {
    let time = timed(slots, threads, |&slot| buffer.record(black_box(slot)));
    assert_eq!(buffer.drain(), slots.len());
    time
}

fn record_again(criterion: &mut Criterion) {
    let slots = slots();
    let bitmap = pending(&slots);
    slots.iter().for_each(|&slot| bitmap.record(slot));
    let mut group = criterion.benchmark_group("record-again");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(slots.len() as u64));
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new("bitmap", threads), |bencher| {
            bencher.iter_custom(|count| {
                let again = |&slot: &Slot| bitmap.record(black_box(slot));
                (0..count).map(|_| timed(&slots, threads, again)).sum()
            });
        });
    }
    group.finish();
}

fn drain(criterion: &mut Criterion) {
    let slots = slots();
    let bitmap = pending(&slots);
    let mut group = criterion.benchmark_group("drain");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(slots.len() as u64));
    for percent in [100, 1] {
        let some = &slots[..slots.len() * percent / 100];
        group.bench_function(BenchmarkId::new("percent-full", percent), |bencher| {
            bencher.iter_custom(|count| {
                let mut time = Duration::ZERO;
                for _ in 0..count {
                    some.iter().for_each(|&slot| bitmap.record(slot));
                    let started = Instant::now();
                    assert_eq!(Buffer::drain(&bitmap), some.len());
                    time += started.elapsed();
                }
                time
            });
        });
    }
    group.finish();
}

criterion_group!(benches, record, record_again, drain);
criterion_main!(benches);
