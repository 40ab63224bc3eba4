//! The parts of the memcached text protocol where a flush and a pull spend their time, compared
//! with other crates.
//!
//! Of the published crates only memcache-proto has a public parser. memcache-async runs over
//! memory, so its figures include its reader. We cannot call the parsers of async-memcached and
//! memcache (private, behind a socket), of mtop-client (private, and GPL) and of Pelikan (not
//! published).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    reason = "a bench may panic"
)]

#[path = "common/live.rs"]
mod live;

use std::hint::black_box;

use bytes::{Buf, Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use live::live;
use memcache_proto::{Command, Request as OtherRequest, Response, ResponseBytes};
use presenced_memcached::pipeline::{Pipeline, WriteCommand};
use presenced_memcached::values::{Progress, Values};
use presenced_presence::record::connected_at;
use presenced_presence::{Record, UserId};
use presenced_protocol::{Key, Limits, Parsed, Reply, Request, encode, reply, request};
use tokio::runtime;

const VALUE: &[u8] =
    br#"{"serverId":"edge-1","connectedAt":1234567890123,"socketId":"0a1b2c3d-0-1234-0"}"#;
const _: () = assert!(VALUE.len() == 80);

/// The size of one read.
const PIECE: usize = 8 * 1024;

/// The key of a presence entry: 15 bytes.
fn name(number: usize) -> String {
    format!("user:{:03}:online", number % 1000)
}

/// `count` values, with an `END` after every `batch`.
fn values(count: usize, batch: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for number in 0..count {
        encode::value(&mut out, name(number).as_bytes(), 0, VALUE, None);
        if (number + 1).is_multiple_of(batch) {
            encode::reply(&mut out, &Reply::End);
        }
    }
    out
}

fn stored(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stored");
    let stored = b"STORED\r\n".repeat(10_000);
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("counted", |bencher| {
        bencher.iter(|| assert_eq!(reply::stored_run(black_box(&stored)), 10_000));
    });
    group.bench_function("parsed", |bencher| {
        let mut parser = reply::Parser::default();
        bencher.iter(|| assert_eq!(count_stored(&mut parser, black_box(&stored)), 10_000));
    });
    group.bench_function("matched", |bencher| {
        let mut pipeline = Pipeline::new(WriteCommand::Set);
        bencher.iter(|| {
            (0..10_000u32).for_each(|item| pipeline.push(item));
            let mut answered = 0;
            let taken = pipeline.read(black_box(&stored), |_, _| answered += 1);
            assert_eq!((taken, answered), (Ok(stored.len()), 10_000));
        });
    });
    group.bench_function("memcache-proto", |bencher| {
        bencher.iter(|| {
            let (mut rest, mut count) = (black_box(&stored[..]), 0);
            while let Ok((Response::Stored, taken)) = Response::parse(rest) {
                rest = &rest[taken..];
                count += 1;
            }
            assert_eq!(count, 10_000);
        });
    });
    group.finish();
}

/// Not inlined, so that it is compiled as it would be in a client.
#[inline(never)]
fn count_stored(parser: &mut reply::Parser, mut input: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(Some((Reply::Stored, taken))) = parser.parse(input) {
        input = &input[taken..];
        count += 1;
    }
    count
}

/// Parses and visits all replies. Returns how many there are.
#[inline(always)]
fn parse_all(mut input: &[u8], mut visit: impl FnMut(&Reply<&[u8]>)) -> usize {
    let mut parser = reply::Parser::default();
    let mut count = 0;
    while let Ok(Some((reply, taken))) = parser.parse(input) {
        visit(&reply);
        input = &input[taken..];
        count += 1;
    }
    count
}

/// Parses like a reader of a socket: copies `bytes` at a time into a buffer.
fn parse_pieces(buffer: &mut Vec<u8>, input: &[u8], bytes: usize) -> usize {
    let mut parser = reply::Parser::default();
    let mut count = 0;
    for piece in input.chunks(bytes) {
        buffer.extend_from_slice(piece);
        let mut at = 0;
        while let Ok(Some((reply, taken))) = parser.parse(&buffer[at..]) {
            black_box(&reply);
            at += taken;
            count += 1;
        }
        buffer.drain(..at);
    }
    count
}

/// Keeps keys and values as slices of the input, which outlive the parser's buffer.
fn parse_bytes(input: &Bytes, with_key: bool) -> usize {
    parse_all(input, |reply| {
        if let Reply::Value { key, value, .. } = reply {
            let key = with_key.then(|| input.slice_ref(key));
            black_box((key, input.slice_ref(value)));
        }
    })
}

/// Parses like a `Decoder`, from one buffer: keys and values own their bytes.
fn take_pieces(buffer: &mut BytesMut, input: &[u8]) -> usize {
    let mut parser = reply::Parser::default();
    let mut count = 0;
    for piece in input.chunks(PIECE) {
        buffer.extend_from_slice(piece);
        while let Ok(Some(reply)) = parser.take(buffer) {
            black_box(&reply);
            count += 1;
        }
    }
    count
}

fn value_replies(criterion: &mut Criterion) {
    for batch in [100, 1000] {
        let mut group = criterion.benchmark_group(format!("values-{batch}"));
        group.throughput(Throughput::Elements(1000));
        let input = values(1000, batch);
        let count = 1000 + 1000 / batch;
        group.bench_function("borrowed", |bencher| {
            let look = |reply: &Reply<&[u8]>| _ = black_box(reply);
            bencher.iter(|| assert_eq!(parse_all(black_box(&input), look), count));
        });
        for (name, bytes) in [
            ("borrowed-copied-whole", usize::MAX),
            ("borrowed-copied-pieces", PIECE),
        ] {
            group.bench_function(name, |bencher| {
                let mut buffer = Vec::new();
                bencher.iter(|| {
                    assert_eq!(parse_pieces(&mut buffer, black_box(&input), bytes), count);
                });
            });
        }
        let bytes = Bytes::from(input.clone());
        for (name, with_key) in [("value-as-bytes", false), ("key-and-value-as-bytes", true)] {
            group.bench_function(name, |bencher| {
                bencher.iter(|| assert_eq!(parse_bytes(black_box(&bytes), with_key), count));
            });
        }
        group.bench_function("taken-copied-pieces", |bencher| {
            let mut buffer = BytesMut::new();
            bencher.iter(|| assert_eq!(take_pieces(&mut buffer, black_box(&input)), count));
        });
        peers_values(&mut group, &input, batch);
        group.finish();
    }
}

/// Reads the answer to a `get` as look-ups do: in pieces, keeping only the time of each value.
fn look_up(buffer: &mut Vec<u8>, answer: &[u8], keys: &[Key<'_>]) -> usize {
    let mut values = Values::new(keys);
    let mut since = Vec::with_capacity(keys.len());
    for piece in answer.chunks(PIECE) {
        buffer.extend_from_slice(piece);
        let read = values.read(buffer, |place, value| {
            since.push((place, value.and_then(connected_at)));
        });
        match read.unwrap() {
            Progress::Part(taken) => drop(buffer.drain(..taken)),
            Progress::Whole(_) => buffer.clear(),
        }
    }
    black_box(since).len()
}

/// The same, but takes each reply out of the buffer, and parses the values at the end.
fn look_up_taken(buffer: &mut BytesMut, answer: &[u8], keys: &[Key<'_>]) -> usize {
    let mut parser = reply::Parser::default();
    let mut found = Vec::with_capacity(keys.len());
    let mut rest = keys.iter().enumerate();
    for piece in answer.chunks(PIECE) {
        buffer.extend_from_slice(piece);
        while let Ok(Some(reply)) = parser.take(buffer) {
            if let Reply::Value { key, value, .. } = reply {
                let (place, _) = rest.find(|(_, asked)| asked.as_bytes() == key).unwrap();
                found.push((place, value));
            }
        }
    }
    let since = found
        .iter()
        .map(|(place, value)| (*place, connected_at(value)));
    black_box(since.collect::<Vec<_>>()).len()
}

fn look_ups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("get-answer");
    group.throughput(Throughput::Elements(100));
    let names: Vec<_> = (0..100).map(name).collect();
    let keys: Vec<_> = names
        .iter()
        .map(|name| Key::new(name.as_bytes()).unwrap())
        .collect();
    let answer = values(100, 100);
    group.bench_function("in-place", |bencher| {
        let mut buffer = Vec::new();
        bencher.iter(|| assert_eq!(look_up(&mut buffer, black_box(&answer), &keys), 100));
    });
    group.bench_function("taken", |bencher| {
        let mut buffer = BytesMut::new();
        bencher.iter(|| assert_eq!(look_up_taken(&mut buffer, black_box(&answer), &keys), 100));
    });
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// memcache-proto parses an answer to a `get` as a whole; in pieces, it starts over with each.
fn peers_values(group: &mut Group<'_>, input: &[u8], batch: usize) {
    group.bench_function("memcache-proto-copied", |bencher| {
        bencher.iter(|| {
            let (mut rest, mut count) = (black_box(input), 0);
            while let Ok((Response::Values(values), taken)) = Response::parse(rest) {
                count += black_box(values).len();
                rest = &rest[taken..];
            }
            assert_eq!(count, 1000);
        });
    });
    group.bench_function("memcache-proto-bytes", |bencher| {
        let input = Bytes::copy_from_slice(input);
        bencher.iter(|| {
            let (mut rest, mut count) = (black_box(&input).clone(), 0);
            while let Ok((ResponseBytes::Values(values), taken)) =
                ResponseBytes::parse(rest.clone())
            {
                count += black_box(values).len();
                rest.advance(taken);
            }
            assert_eq!(count, 1000);
        });
    });
    group.bench_function("memcache-proto-copied-pieces", |bencher| {
        let mut buffer = Vec::new();
        bencher.iter(|| {
            let mut count = 0;
            for piece in black_box(input).chunks(PIECE) {
                buffer.extend_from_slice(piece);
                let mut at = 0;
                while let Ok((Response::Values(values), taken)) = Response::parse(&buffer[at..]) {
                    count += black_box(values).len();
                    at += taken;
                }
                buffer.drain(..at);
            }
            assert_eq!(count, 1000);
        });
    });
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    group.bench_function("memcache-async-copied", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let stream = tokio::io::join(black_box(input), tokio::io::sink());
                let mut client = memcache_async::ascii::Protocol::new(stream);
                for _ in 0..1000 / batch {
                    assert_eq!(client.get_multi(&["a"]).await.unwrap().len(), batch);
                }
            });
        });
    });
}

fn sets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("set");
    group.throughput(Throughput::Elements(1));
    let key = Key::new(b"user:123:online").unwrap();
    let mut out = Vec::new();
    group.bench_function("rendered", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode::set(&mut out, black_box(key), 0, 60, black_box(VALUE));
        });
    });
    group.bench_function("rendered-key-checked", |bencher| {
        bencher.iter(|| {
            out.clear();
            let key = Key::new(black_box(b"user:123:online")).unwrap();
            encode::set(&mut out, key, 0, 60, black_box(VALUE));
        });
    });
    group.bench_function("memcache-proto", |bencher| {
        let mut out = [0; 256];
        bencher.iter(|| {
            let set = OtherRequest::set(black_box(b"user:123:online"), black_box(VALUE));
            black_box(set.exptime(60).encode(black_box(&mut out)));
        });
    });
    let record = Record::new("user:{userId}:online", "server-1", 0, 1).unwrap();
    let user = UserId::new("123").unwrap();
    let live = live(1234);
    group.bench_function("rendered-user", |bencher| {
        out.resize(record.set_room(&user), 0);
        bencher.iter(|| record.set_into(&mut out, black_box(&user), black_box(live), 60));
    });
    group.bench_function("parsed", |bencher| {
        out.clear();
        encode::set(&mut out, key, 0, 60, VALUE);
        let mut parser = request::Parser::default();
        bencher.iter(|| {
            let parsed = parser.parse(black_box(&out));
            assert!(matches!(black_box(parsed), Parsed::Request { .. }));
        });
    });
    group.bench_function("parsed-memcache-proto", |bencher| {
        bencher.iter(|| {
            let parsed = Command::parse(black_box(&out));
            assert!(black_box(parsed).is_ok());
        });
    });
    group.finish();
}

fn gets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("get");
    group.throughput(Throughput::Elements(100));
    let names: Vec<_> = (0..100).map(name).collect();
    let keys = || names.iter().map(|name| Key::new(name.as_bytes()).unwrap());
    let mut get = Vec::new();
    encode::get(&mut get, keys());
    group.bench_function("parsed", |bencher| {
        let limits = Limits::default();
        bencher.iter(|| {
            let parsed = request::Parser::new(limits).parse(black_box(&get));
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
    group.bench_function("memcache-proto", |bencher| {
        bencher.iter(|| {
            let Ok((Command::Gets { keys }, _)) = Command::parse(black_box(&get)) else {
                panic!("a get is a get");
            };
            assert_eq!(keys.iter().map(black_box).count(), 100);
        });
    });
    group.bench_function("rendered", |bencher| {
        let mut out = Vec::new();
        bencher.iter(|| {
            out.clear();
            encode::get(&mut out, keys().map(black_box))
        });
    });
    group.finish();
}

criterion_group!(benches, stored, value_replies, look_ups, sets, gets);
criterion_main!(benches);
