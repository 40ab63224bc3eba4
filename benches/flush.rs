//! A flush to a real memcached on loopback, compared with a bare writer. That writes the same
//! bytes, rendered before the measurement, in pieces of 64 KiB with a bounded number of commands in
//! flight, and only counts replies. The ratio shows what rendering, matching and bookkeeping cost.
//! With quiet commands the bare writer waits for the answers to its `mn`s.

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

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use live::live;
use presenced_memcached as memcached;
use presenced_memcached::limits::WINDOW_TCP;
use presenced_memcached::pipeline::WriteCommand;
use presenced_memcached::{Cluster, NodeAddr, NodeSpec};
use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::users::Live;
use presenced_presence::{Record, UserId};
use presenced_session::clock::Clock;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const USERS: u32 = 1_000_000;
const TTL_S: u32 = 60;
const REPLY_PAUSE: Duration = Duration::from_millis(1);
/// Commands that the bare writer writes at once, about 64 KiB.
const PIECE: usize = 500;
const _: () = assert!((USERS as usize).is_multiple_of(PIECE));

struct Memcached {
    process: Child,
    port: u16,
}

impl Memcached {
    fn start(threads: u32) -> Memcached {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let process = Command::new("memcached")
            .args(["-u", "root", "-l", "127.0.0.1", "-U", "0", "-m", "1024"])
            .args(["-p", &free.port().to_string(), "-t", &threads.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("memcached must be installed (make setup)");
        let port = free.port();
        let patience = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < patience, "memcached does not answer");
            thread::yield_now();
        }
        Memcached { process, port }
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn record(command: WriteCommand) -> Record {
    let record = Record::new("user:{userId}:online", "server-1", 0, 1);
    record.unwrap().written_by(command)
}

fn user(number: u32) -> (UserId, Live) {
    (UserId::new(&number.to_string()).unwrap(), live(number))
}

/// A flusher with all users connected, on a runtime of this thread.
fn flusher(port: u16, command: WriteCommand) -> (Runtime, Arc<Presence>, Flusher) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut options = memcached::Config::default();
    options.connect.write_command = command;
    let node = NodeSpec::from(NodeAddr::Tcp("127.0.0.1".into(), port));
    let cluster = Arc::new(Cluster::new([node.into()], options));
    let clock = Clock::start();
    let presence = Presence::new(
        &presenced_presence::Config {
            sessions_per_user_max: 1,
            ..presenced_presence::Config::new(record(command))
        },
        cluster,
        clock,
        Arc::default(),
    );
    let presence = Arc::new(presence);
    for number in 0..USERS {
        let (user, live) = user(number);
        presence.connect(&user, live);
    }
    let flusher = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let flusher = Flusher::start(&presence, 0, 1, &mut tasks);
        // Flushes fail until the connection is up.
        while !flusher.flush_all().await {
            tokio::task::yield_now().await;
        }
        // The tasks live as long as the runtime.
        tasks.detach_all();
        flusher
    });
    (runtime, presence, flusher)
}

/// The bytes that the bare writer sends.
struct ReadyMade {
    bytes: Vec<u8>,
    /// Where each piece ends, and how many commands precede its end.
    ends: Vec<(usize, usize)>,
    reply: &'static [u8],
    /// Commands acknowledged by one reply.
    commands_a_reply: usize,
}

fn ready_made(command: WriteCommand) -> ReadyMade {
    let (record, mut out, mut ends) = (record(command), Vec::new(), Vec::new());
    // A flush writes users in the order of their hashes. Written in order of their numbers, they
    // would be neighbours in memcached's memory.
    let mut numbers: Vec<_> = (0..USERS).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut numbers);
    let is_quiet = command == WriteCommand::Ms;
    for (count, number) in (1..).zip(numbers) {
        let (user, live) = user(number);
        record.set(&mut out, &user, live, TTL_S);
        if count % PIECE == 0 {
            if is_quiet {
                out.extend_from_slice(b"mn\r\n");
            }
            ends.push((out.len(), count));
        }
    }
    ReadyMade {
        bytes: out,
        ends,
        reply: if is_quiet { b"MN\r\n" } else { b"STORED\r\n" },
        commands_a_reply: if is_quiet { PIECE } else { 1 },
    }
}

/// Writes while less than a window is in flight; otherwise pauses, and reads what has arrived.
/// Returns once all is answered. This was the fastest of the variants that we tried.
fn write_bare(stream: &mut TcpStream, made: &ReadyMade) {
    let reply_bytes = made.reply.len();
    let (mut sent, mut written, mut answered) = (0, 0, 0);
    let mut replies = vec![0; 64 * 1024];
    let mut pieces = made.ends.iter();
    let total = USERS as usize / made.commands_a_reply * reply_bytes;
    while answered < total {
        let in_flight = sent - answered / reply_bytes * made.commands_a_reply;
        if in_flight < WINDOW_TCP
            && let Some(&(end, count)) = pieces.next()
        {
            stream.write_all(&made.bytes[written..end]).unwrap();
            (written, sent) = (end, count);
        } else {
            // Otherwise each of memcached's small writes would wake us, which costs memcached time.
            if in_flight > WINDOW_TCP / 32 {
                thread::sleep(REPLY_PAUSE);
            }
            answered += stream.read(&mut replies).unwrap();
        }
    }
    assert_eq!(answered, total);
}

/// CPU time of this thread so far.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Time and CPU time of `run` in seconds per million users.
fn measured(run: impl FnOnce()) -> [f64; 2] {
    let (start, cpu_before) = (Instant::now(), cpu());
    run();
    let million = f64::from(USERS) / 1e6;
    [start.elapsed(), cpu() - cpu_before].map(|time| time.as_secs_f64() / million)
}

fn median(mut runs: Vec<[f64; 2]>) -> [f64; 2] {
    [0, 1].map(|which| {
        runs.sort_by(|a, b| a[which].total_cmp(&b[which]));
        runs[runs.len() / 2][which]
    })
}

fn main() {
    // `cargo test --benches` only checks that the bench starts.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let rounds = std::env::var("ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    println!("{USERS} users, medians of {rounds} rounds in turn, seconds a million");
    println!(
        "| command | memcached threads | bare writer | flush | of its rate | CPU bare | CPU flush |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (name, command) in [("set", WriteCommand::Set), ("ms", WriteCommand::Ms)] {
        for threads in [1, 2] {
            compare(name, command, threads, rounds);
        }
    }
}

fn compare(name: &str, command: WriteCommand, threads: u32, rounds: u32) {
    let memcached = Memcached::start(threads);
    let made = ready_made(command);
    let mut stream = TcpStream::connect(("127.0.0.1", memcached.port)).unwrap();
    let (runtime, presence, flusher) = flusher(memcached.port, command);
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(measured(|| write_bare(&mut stream, &made)));
        presence.users().mark_all();
        ours.push(measured(|| {
            assert!(
                runtime.block_on(flusher.flush_all()),
                "all writes are acknowledged"
            );
        }));
    }
    let ([bare, bare_cpu], [ours, ours_cpu]) = (median(bare), median(ours));
    println!(
        "| {name} | {threads} | {bare:.3} | {ours:.3} | {:.3} | {bare_cpu:.3} | {ours_cpu:.3} |",
        bare / ours
    );
}
