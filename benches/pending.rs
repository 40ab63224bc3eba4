//! The pending buffer against what one would take otherwise: a concurrent set, a set behind a
//! lock, and a queue (which does not even remove duplicates).
//!
//! Each iteration records a million users once, in random order, on one and on two threads, and
//! empties the buffer outside the measured time. Divide by 1,000,000 for a heartbeat.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a bench may panic"
)]

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_queue::SegQueue;
use dashmap::DashSet;
use presenced::limits::SHARDS;
use presenced::presence::{Pending, Slot};

const USERS: u32 = 1_000_000;

trait Buffer: Sync {
    fn record(&self, slot: Slot);
    /// Empties it and returns how many were in it.
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
    let mut slots: Vec<_> = (0..USERS)
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

/// Time for all of `slots` to be recorded by `threads` threads, each with its share.
fn timed(buffer: &impl Buffer, slots: &[Slot], threads: usize) -> Duration {
    let start = Barrier::new(threads + 1);
    let done = Barrier::new(threads + 1);
    thread::scope(|scope| {
        for share in slots.chunks(slots.len().div_ceil(threads)) {
            let (start, done) = (&start, &done);
            scope.spawn(move || {
                start.wait();
                share
                    .iter()
                    .for_each(|&slot| buffer.record(black_box(slot)));
                done.wait();
            });
        }
        start.wait();
        let begun = Instant::now();
        done.wait();
        begun.elapsed()
    })
}

fn record(criterion: &mut Criterion) {
    let slots = slots();
    let mut group = criterion.benchmark_group("record a million users");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(USERS.into()));
    for threads in [1, 2] {
        let mut compare = |name: &str, buffer: &dyn Fn(u64) -> Duration| {
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(buffer);
            });
        };
        let times = |buffer: &dyn Fn() -> Duration, count| (0..count).map(|_| buffer()).sum();
        let bitmap = pending(&slots);
        let dash = DashSet::with_capacity(USERS as usize);
        let mutex = Mutex::new(HashSet::with_capacity(USERS as usize));
        let queue = SegQueue::new();
        compare("pending bitmap", &|count| {
            times(&|| run(&bitmap, &slots, threads), count)
        });
        compare("DashSet", &|count| {
            times(&|| run(&dash, &slots, threads), count)
        });
        compare("Mutex<HashSet>", &|count| {
            times(&|| run(&mutex, &slots, threads), count)
        });
        compare("SegQueue", &|count| {
            times(&|| run(&queue, &slots, threads), count)
        });
    }
    group.finish();
}

fn run(buffer: &impl Buffer, slots: &[Slot], threads: usize) -> Duration {
    let time = timed(buffer, slots, threads);
    assert_eq!(buffer.drain(), slots.len());
    time
}

fn record_again(criterion: &mut Criterion) {
    let slots = slots();
    let bitmap = pending(&slots);
    slots.iter().for_each(|&slot| bitmap.record(slot));
    let mut group = criterion.benchmark_group("record a million users who are pending");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(USERS.into()));
    group.bench_function("pending bitmap", |bencher| {
        bencher.iter(|| {
            slots
                .iter()
                .for_each(|&slot| bitmap.record(black_box(slot)));
        });
    });
    group.finish();
}

fn drain(criterion: &mut Criterion) {
    let slots = slots();
    let bitmap = pending(&slots);
    let mut group = criterion.benchmark_group("drain a million slots");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(USERS.into()));
    for percent in [100, 1] {
        let some = &slots[..slots.len() * percent / 100];
        group.bench_function(BenchmarkId::new("percent full", percent), |bencher| {
            bencher.iter_custom(|count| {
                let mut time = Duration::ZERO;
                for _ in 0..count {
                    some.iter().for_each(|&slot| bitmap.record(slot));
                    let begun = Instant::now();
                    assert_eq!(Buffer::drain(&bitmap), some.len());
                    time += begun.elapsed();
                }
                time
            });
        });
    }
    group.finish();
}

criterion_group!(benches, record, record_again, drain);
criterion_main!(benches);
