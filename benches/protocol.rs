//! The memcached text protocol where a flush and a pull spend their time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a bench may panic"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use presenced::memcached::pipeline::Pipeline;
use presenced::presence::record::Scratch;
use presenced::presence::users::Live;
use presenced::presence::{Record, SessionId, UserId};
use presenced_protocol::{Key, Limits, Parsed, Request, encode, reply, request};

const VALUE: &[u8] =
    br#"{"serverId":"server-1","connectedAt":1234567890123,"socketId":"0a1b2c3d-0-1234-0"}"#;

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replies");
    let stored = b"STORED\r\n".repeat(10_000);
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("count 10,000 STORED", |bencher| {
        bencher.iter(|| assert_eq!(reply::stored_run(black_box(&stored)), 10_000));
    });
    group.bench_function("match 10,000 STORED with their commands", |bencher| {
        let mut pipeline = Pipeline::default();
        bencher.iter(|| {
            (0..10_000u32).for_each(|item| pipeline.push(item));
            let mut answered = 0;
            let taken = pipeline.read(black_box(&stored), |_, _| answered += 1);
            assert_eq!((taken, answered), (Ok(stored.len()), 10_000));
        });
    });

    let mut values = Vec::new();
    for user in 0..100 {
        let head = format!("VALUE user:{user}:online 0 {}\r\n", VALUE.len());
        values.extend_from_slice(head.as_bytes());
        values.extend_from_slice(VALUE);
        values.extend_from_slice(b"\r\n");
    }
    values.extend_from_slice(b"END\r\n");
    group.throughput(Throughput::Elements(100));
    group.bench_function("parse 100 VALUE and END", |bencher| {
        let limits = Limits::default();
        bencher.iter(|| {
            let (mut at, mut count) = (0, 0);
            while let Ok(Some((reply, taken))) = reply::parse(&values[at..], &limits) {
                black_box(reply);
                at += taken;
                count += 1;
            }
            assert_eq!((at, count), (values.len(), 101));
        });
    });
    group.finish();
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("requests");
    group.throughput(Throughput::Elements(1));
    let key = Key::new(b"user:123:online").unwrap();
    let mut out = Vec::new();
    group.bench_function("render a set", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode::set(&mut out, black_box(key), 0, 60, black_box(VALUE));
        });
    });
    let record = Record::new("user:{userId}:online", "server-1", 0, 1).unwrap();
    let user = UserId::new("123").unwrap();
    let live = Live {
        connected_at_ms: 1_234_567_890_123,
        session: SessionId {
            worker: 0,
            index: 1234,
            generation: 0,
        },
    };
    let mut scratch = Scratch::default();
    group.bench_function("render a user's key, value and set", |bencher| {
        bencher.iter(|| {
            out.clear();
            record.set(
                &mut out,
                &mut scratch,
                black_box(&user),
                black_box(live),
                60,
            );
        });
    });

    let names: Vec<_> = (0..100).map(|user| format!("user:{user}:online")).collect();
    let mut get = Vec::new();
    encode::get(
        &mut get,
        names.iter().map(|name| Key::new(name.as_bytes()).unwrap()),
    );
    group.throughput(Throughput::Elements(100));
    group.bench_function("parse a get of 100 keys", |bencher| {
        let limits = Limits::default();
        bencher.iter(|| {
            let parsed = request::parse(black_box(&get), &limits);
            let Parsed::Request {
                request: Request::Get { keys, .. },
                ..
            } = parsed
            else {
                panic!("a get is a get");
            };
            assert_eq!(keys.map(black_box).count(), 100);
        });
    });
    group.finish();
}

criterion_group!(benches, replies, requests);
criterion_main!(benches);
