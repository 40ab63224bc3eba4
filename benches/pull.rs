//! The parts of a pull: the question read, the look-up at a real memcached on loopback, memcached's answer read,
//! and the answer rendered. Each is beside the least that has to be done: bare pipelined `get`s of 100
//! keys, a scan for the answer's end, JSON that is read and not kept, a copy of the bytes.
//!
//! `cargo bench --bench pull -- [look-up] [get-answer] [question] [answer-50]`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    missing_docs,
    reason = "a bench may panic"
)]

#[path = "common/bare_gets.rs"]
mod bare_gets;
#[path = "common/live.rs"]
mod live;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use bare_gets::{BareGets, KEYS_PER_GET};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use live::live;
use presenced::pull::Pulls;
use presenced::pull::{Answer, Puller};
use presenced::server::client_message;
use presenced_memcached as memcached;
use presenced_memcached::values::{Progress, Values};
use presenced_memcached::{Cluster, NodeAddr, NodeSpec};
use presenced_presence::flush::Presence;
use presenced_presence::metrics::FlushMetrics;
use presenced_presence::record::connected_at;
use presenced_presence::{Record, UserId};
use presenced_protocol::{Key, Reply, encode};
use presenced_session::clock::Clock;
use presenced_testkit::memcached::Memcached;
use serde::de::IgnoredAny;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// Users in memcached.
const POPULATION: usize = 100_000;
/// They have to be there for as long as the bench takes.
const TTL_S: u32 = 3600;

/// What the edge writes that these users are connected to.
fn record() -> Record {
    Record::new("user:{userId}:online", "server-2", 0, 1).unwrap()
}

fn user(number: usize) -> UserId {
    UserId::new(&format!("user-{number}")).unwrap()
}

/// Different users, chosen at random.
fn users(count: usize) -> Vec<UserId> {
    let mut random = fastrand::Rng::with_seed(count as u64);
    let numbers = random.choose_multiple(0..POPULATION, count);
    numbers.into_iter().map(user).collect()
}

fn key(user: &UserId) -> String {
    let mut key = Vec::new();
    record().key(&mut key, user);
    String::from_utf8(key).unwrap()
}

/// The `set` of a user, which ends with the value.
fn set(user: &UserId, number: usize) -> Vec<u8> {
    let mut set = Vec::new();
    record().set(&mut set, user, live(number as u32), TTL_S);
    set
}

/// Puts all users into memcached, in a random order.
fn store(addr: SocketAddr) {
    let mut numbers: Vec<_> = (0..POPULATION).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut numbers);
    let mut stream = TcpStream::connect(addr).unwrap();
    for numbers in numbers.chunks(500) {
        let sets: Vec<_> = numbers
            .iter()
            .map(|&number| set(&user(number), number))
            .collect();
        stream.write_all(&sets.concat()).unwrap();
        let mut replies = vec![0; numbers.len() * b"STORED\r\n".len()];
        stream.read_exact(&mut replies).unwrap();
        assert_eq!(replies, b"STORED\r\n".repeat(numbers.len()));
    }
}

/// A puller whose batcher runs on the current runtime, with a connection to memcached.
async fn puller(addr: SocketAddr, tasks: &mut JoinSet<()>) -> Puller {
    let node = NodeSpec::from(NodeAddr::Tcp(addr.ip().to_string(), addr.port()));
    let presence = Presence::new(
        &presenced_presence::Config {
            sessions_per_user_max: 1,
            ..presenced_presence::Config::new(record())
        },
        Arc::new(Cluster::new([node.into()], memcached::Config::default())),
        Clock::start(),
        Arc::<FlushMetrics>::default(),
    );
    let puller = Puller::start(&Arc::new(presence), &Arc::<Pulls>::default(), tasks);
    // Until there is a connection, users are unknown.
    while puller
        .ask(puller.asker(&user(0)), users(1))
        .await
        .unwrap()
        .online
        .is_empty()
    {
        tokio::task::yield_now().await;
    }
    puller
}

fn look_ups(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let memcached = runtime.block_on(Memcached::start_with(&["-t", "1", "-m", "256"]));
    store(memcached.address());
    let mut tasks = JoinSet::new();
    let puller = runtime.block_on(puller(memcached.address(), &mut tasks));
    let keys = (0..POPULATION).map(|number| key(&user(number * 7919 % POPULATION)));
    let mut bare = BareGets::connect(memcached.address(), keys).unwrap();
    for (count, each) in [(500, 500), (5_000, 500), (5_000, 50)] {
        let name = format!("look-up-{count}-by-{each}");
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function("bare-gets", |bencher| {
            bencher.iter(|| bare.ask(count / KEYS_PER_GET).unwrap());
        });
        let users = users(count);
        let questions: Vec<_> = users.chunks(each).map(<[_]>::to_vec).collect();
        group.bench_function("presenced", |bencher| {
            let ask = |questions| ask(&runtime, &puller, questions, count);
            bencher.iter_batched(|| questions.clone(), ask, BatchSize::SmallInput);
        });
        group.finish();
    }
}

/// Asks all questions at once.
fn ask(runtime: &Runtime, puller: &Puller, questions: Vec<Vec<UserId>>, users: usize) {
    let asker = puller.asker(&user(0));
    let answers = join_all(questions.into_iter().map(|users| puller.ask(asker, users)));
    let answers = runtime.block_on(answers).into_iter().flatten();
    assert_eq!(
        answers.map(|answer| answer.online.len()).sum::<usize>(),
        users
    );
}

fn gets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("get-answer");
    group.throughput(Throughput::Elements(KEYS_PER_GET as u64));
    let users = users(KEYS_PER_GET);
    let names: Vec<_> = users.iter().map(key).collect();
    let keys: Vec<_> = names
        .iter()
        .flat_map(|name| Key::new(name.as_bytes()))
        .collect();
    let mut answer = Vec::new();
    for (number, (user, key)) in users.iter().zip(&names).enumerate() {
        let set = set(user, number);
        let value = set.split(|byte| *byte == b'\n').nth(1).unwrap();
        encode::value(&mut answer, key.as_bytes(), 0, value.trim_ascii_end(), None);
    }
    encode::reply(&mut answer, &Reply::End);
    group.bench_function("end-found", |bencher| {
        bencher.iter(|| memchr::memmem::find(black_box(&answer), b"END\r\n").unwrap());
    });
    group.bench_function("values-found", |bencher| {
        bencher.iter(|| assert_eq!(read(&keys, black_box(&answer), |_| Some(1)), 100));
    });
    group.bench_function("times-read", |bencher| {
        bencher.iter(|| assert_eq!(read(&keys, black_box(&answer), connected_at), 100));
    });
    group.finish();
}

/// Reads an answer as look-ups do; returns how many users are online.
fn read(keys: &[Key<'_>], answer: &[u8], time: impl Fn(&[u8]) -> Option<u64>) -> usize {
    let mut since = Vec::with_capacity(keys.len());
    let progress = Values::new(keys).read(answer, |index, value| {
        since.extend(value.and_then(&time).map(|time| (index, time)));
    });
    assert!(matches!(progress, Ok(Progress::Whole(_))));
    black_box(since).len()
}

fn questions(criterion: &mut Criterion) {
    for count in [50, 500] {
        let mut group = criterion.benchmark_group(format!("question-{count}"));
        group.throughput(Throughput::Elements(count as u64));
        let names: Vec<_> = users(count).iter().map(ToString::to_string).collect();
        let question = serde_json::json!({"pull": 1_234_567, "users": names}).to_string();
        group.bench_function("json-ignored", |bencher| {
            bencher.iter(|| serde_json::from_str::<IgnoredAny>(black_box(&question)).unwrap());
        });
        group.bench_function("presenced", |bencher| {
            bencher.iter(|| client_message::parse(black_box(question.as_bytes())).unwrap());
        });
        group.finish();
    }
}

fn answers(criterion: &mut Criterion) {
    for count in [50, 500] {
        let mut group = criterion.benchmark_group(format!("answer-{count}"));
        group.throughput(Throughput::Elements(count as u64));
        let since = |user| (user, 1_700_000_000_000);
        let answer = Answer {
            online: users(count).into_iter().map(since).collect(),
            ..Answer::default()
        };
        let json = answer.json(Some(1_234_567));
        group.bench_function("copied", |bencher| {
            bencher.iter(|| black_box(&json).clone());
        });
        group.bench_function("presenced", |bencher| {
            bencher.iter(|| black_box(&answer).json(Some(1_234_567)));
        });
        group.finish();
    }
}

criterion_group!(benches, look_ups, gets, questions, answers);
criterion_main!(benches);
