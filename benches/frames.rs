//! Decoding a frame: the check of its header, and unmasking in place. The suite `sessions` has the
//! whole path of a pong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a bench may panic"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use presenced_session::frame;
use presenced_session::frame_header::{self, HeaderCheck};
use presenced_session::limits::MESSAGE_BYTES_MAX;

/// A masked pong with this payload.
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
    group.bench_function("header-check", |bencher| {
        bencher.iter(|| frame_header::check(black_box(&input), MESSAGE_BYTES_MAX));
    });
    let mut text = pong(*b"12345678");
    text[0] = 0x81;
    for (name, input) in [("pong", input), ("text", text)] {
        group.bench_function(format!("check-and-decode-{name}"), |bencher| {
            let mut frame = [0; 14];
            bencher.iter(|| {
                frame.copy_from_slice(black_box(&input));
                let HeaderCheck::Frame(header) = frame_header::check(&frame, MESSAGE_BYTES_MAX)
                else {
                    panic!("it passes");
                };
                frame::decode(header, &mut frame).map(|payload| payload == b"12345678")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
