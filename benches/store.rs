//! The store compared with memcached: the same requests by the same client in turns, with the same
//! number of threads. Measures requests per second, the server's CPU time per request, and memory.
//!
//! `cargo bench --bench store -- [speed] [memory]`; `THREADS=2`, `SECONDS=2`, `ROUNDS=3` and
//! `ITEMS=1000000` are the settings and their defaults.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "run by hand: a failure must be seen"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// Connections of the client. While some wait for answers, the client writes to others.
const CONNECTIONS: usize = 32;

/// Requests written at once, or keys of one request.
const BATCH: usize = 100;

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A server process, killed when dropped.
struct Server {
    name: &'static str,
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(name: &'static str, threads: usize) -> Server {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let addr: SocketAddr = ([127, 0, 0, 1], port).into();
        let threads = threads.to_string();
        let mut command = match name {
            "memcached" => {
                let mut command = Command::new("memcached");
                command.args(["-l", "127.0.0.1", "-U", "0", "-u", "nobody", "-m", "1024"]);
                command.args(["-p", &port.to_string(), "-t", &threads]);
                command
            }
            _ => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_presenced"));
                command.args(["store", "--memory", "1GiB", "--threads", &threads]);
                command.args(["--listen", &addr.to_string()]);
                command
            }
        };
        let child = command.stdout(Stdio::null()).spawn().expect(name);
        let server = Server { name, child, addr };
        let start = Instant::now();
        while TcpStream::connect(addr).is_err() {
            assert!(start.elapsed() < START_TIMEOUT, "{name} does not start");
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// CPU time of the process.
    fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().unwrap());
        // Linux counts in hundredths of a second, whatever the kernel's own tick is.
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    fn memory_bytes(&self) -> u64 {
        let status = self.proc("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn key(number: usize) -> String {
    format!("user:{number:06}:online")
}

/// A value as presenced writes it, 80 bytes long.
fn value(number: usize) -> String {
    format!(
        r#"{{"serverId":"server-1","connectedAt":1700000{number:06},"socketId":"{number:08x}-0-1-0"}}"#
    )
}

/// Requests sent at once, and the length of their answers.
struct Batch {
    request: Vec<u8>,
    answer_bytes: usize,
}

fn sets(numbers: impl Iterator<Item = usize>) -> Batch {
    let mut batch = Batch {
        request: Vec::new(),
        answer_bytes: 0,
    };
    for number in numbers {
        let value = value(number);
        let line = format!("set {} 0 3600 {}\r\n{value}\r\n", key(number), value.len());
        batch.request.extend(line.as_bytes());
        batch.answer_bytes += "STORED\r\n".len();
    }
    batch
}

fn values_bytes(number: usize) -> usize {
    let value = value(number);
    format!("VALUE {} 0 {}\r\n{value}\r\n", key(number), value.len()).len()
}

fn gets(numbers: impl Iterator<Item = usize>) -> Batch {
    let (mut request, mut answer_bytes) = (Vec::new(), 0);
    for number in numbers {
        request.extend(format!("get {}\r\n", key(number)).as_bytes());
        answer_bytes += values_bytes(number) + "END\r\n".len();
    }
    Batch {
        request,
        answer_bytes,
    }
}

fn multi_get(numbers: impl Iterator<Item = usize>) -> Batch {
    let (mut request, mut answer_bytes) = (b"get".to_vec(), "END\r\n".len());
    for number in numbers {
        request.extend(format!(" {}", key(number)).as_bytes());
        answer_bytes += values_bytes(number);
    }
    request.extend(b"\r\n");
    Batch {
        request,
        answer_bytes,
    }
}

/// Random numbers below `items`.
fn scattered(items: usize) -> impl Iterator<Item = usize> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(move || random.usize(..items))
}

fn batches(items: usize, make: impl Fn(std::vec::IntoIter<usize>) -> Batch) -> Vec<Batch> {
    let mut numbers = scattered(items);
    let count = (items / BATCH).clamp(1, 2000);
    (0..count)
        .map(|_| make(numbers.by_ref().take(BATCH).collect::<Vec<_>>().into_iter()))
        .collect()
}

struct Client {
    connections: Vec<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    fn new(addr: SocketAddr) -> Client {
        let connect = |_| {
            let stream = TcpStream::connect(addr).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        Client {
            connections: (0..CONNECTIONS).map(connect).collect(),
            buffer: vec![0; 256 * 1024],
        }
    }

    fn read(&mut self, connection: usize, bytes: usize) {
        self.connections[connection]
            .read_exact(&mut self.buffer[..bytes])
            .unwrap();
    }

    /// Sends `batches` in turn until the time is up; returns how many were sent.
    fn run(&mut self, batches: &[Batch], time: Duration) -> usize {
        let start = Instant::now();
        let mut pending = [0; CONNECTIONS];
        let mut count = 0;
        for batch in batches.iter().cycle() {
            let connection = count % CONNECTIONS;
            if pending[connection] > 0 {
                self.read(connection, pending[connection]);
            }
            if start.elapsed() >= time {
                break;
            }
            self.connections[connection]
                .write_all(&batch.request)
                .unwrap();
            pending[connection] = batch.answer_bytes;
            count += 1;
        }
        let last = count % CONNECTIONS;
        for connection in (0..CONNECTIONS).filter(|connection| *connection != last) {
            self.read(connection, pending[connection]);
        }
        count
    }
}

fn number(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn fill(server: &Server, items: usize) {
    let mut client = Client::new(server.addr);
    for first in (0..items).step_by(BATCH) {
        let batch = sets(first..items.min(first + BATCH));
        client.connections[0].write_all(&batch.request).unwrap();
        client.read(0, batch.answer_bytes);
    }
}

fn speed(items: usize) {
    let threads = number("THREADS", 2);
    let time = Duration::from_secs(number("SECONDS", 2) as u64);
    let servers = ["memcached", "presenced"].map(|name| Server::start(name, threads));
    servers.iter().for_each(|server| fill(server, items));
    let kinds = [
        ("set", BATCH, batches(items, sets)),
        ("get", BATCH, batches(items, gets)),
        ("get of 100 keys", 1, batches(items, multi_get)),
    ];
    println!("{threads} threads, {items} items, {CONNECTIONS} connections, batches of {BATCH}");
    println!("| request | server | a second | server's CPU, µs |\n| --- | --- | ---: | ---: |");
    for (kind, requests, batches) in &kinds {
        let mut best = [(0.0_f64, f64::MAX); 2];
        for _ in 0..number("ROUNDS", 3) {
            for (server, best) in servers.iter().zip(&mut best) {
                let mut client = Client::new(server.addr);
                let (cpu, start) = (server.cpu(), Instant::now());
                let count = (client.run(batches, time) * requests) as f64;
                let rate = count / start.elapsed().as_secs_f64();
                let us = (server.cpu() - cpu).as_secs_f64() * 1e6 / count;
                *best = (best.0.max(rate), best.1.min(us));
            }
        }
        for (server, (rate, us)) in servers.iter().zip(best) {
            println!("| {kind} | {} | {rate:.0} | {us:.2} |", server.name);
        }
    }
}

fn memory(items: usize) {
    println!("| server | items | bytes an item |\n| --- | ---: | ---: |");
    for name in ["memcached", "presenced"] {
        let server = Server::start(name, 2);
        let before = server.memory_bytes();
        fill(&server, items);
        let grown = server.memory_bytes() - before;
        println!("| {name} | {items} | {:.0} |", grown as f64 / items as f64);
    }
}

fn main() {
    let items = number("ITEMS", 1_000_000);
    let asked: Vec<String> = env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|word| word == name);
    if wanted("memory") {
        memory(items);
    }
    if wanted("speed") {
        speed(items);
    }
}
