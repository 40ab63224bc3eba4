//! A pong from the bytes in the scratch buffer to the recorded heartbeat: the session's place in
//! the table, the gate, the codec, the comparison with the ping, the pending buffer. The same
//! parts as the worker's, without its sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a bench may panic"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use presenced::limits::{MESSAGE_BYTES_MAX, SHARDS};
use presenced::presence::{Pending, Slot};
use presenced::session::codec::Codec;
use presenced::session::gate::{self, Gate, Opcode};
use presenced::session::table::Table;

const SESSIONS: u32 = 18_000;

/// A pong with the payload of a ping.
fn pong(payload: [u8; 8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![0x8a, 0x80 | payload.len() as u8];
    frame.extend_from_slice(&mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frames");
    group.throughput(Throughput::Elements(1));
    let input = pong(*b"12345678");
    group.bench_function("gate", |bencher| {
        bencher.iter(|| gate::admit(black_box(&input), MESSAGE_BYTES_MAX));
    });
    group.bench_function("gate and codec", |bencher| {
        let mut codec = Codec::new(MESSAGE_BYTES_MAX);
        bencher.iter(|| {
            let Gate::Frame { length, .. } = gate::admit(black_box(&input), MESSAGE_BYTES_MAX)
            else {
                panic!("a pong passes");
            };
            codec.decode(&input[..length], |payload| payload == b"12345678")
        });
    });

    let pending = Pending::new();
    let mut table = Table::default();
    let mut tokens = Vec::new();
    for user in 0..SESSIONS {
        let slot = Slot::new(user as usize % SHARDS, user / SHARDS as u32);
        pending.reserve(slot);
        tokens.push(table.insert(|_| slot));
    }
    fastrand::Rng::with_seed(1).shuffle(&mut tokens);
    group.bench_function("pong to recorded heartbeat", |bencher| {
        let mut codec = Codec::new(MESSAGE_BYTES_MAX);
        let mut next = tokens.iter().cycle();
        bencher.iter(|| {
            let Some(slot) = next.next().and_then(|&token| table.get_mut(token)) else {
                panic!("the session is there");
            };
            let Gate::Frame {
                opcode: Opcode::Pong,
                length,
                ..
            } = gate::admit(black_box(&input), MESSAGE_BYTES_MAX)
            else {
                panic!("a pong passes");
            };
            let answers = codec.decode(&input[..length], |payload| payload == b"12345678");
            pending.record(*slot);
            answers
        });
        for shard in 0..SHARDS {
            pending.drain(shard, |slot| {
                black_box(slot);
            });
        }
    });
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
