//! A TLS session that sleeps: what a ping and a pong cost its record layer, among as many sessions as no cache holds, and
//! what it keeps. Beside it, rustls's own connection.
//!
//! ```sh
//! cargo bench --bench tls             # times, and memory
//! SESSIONS=1000000 cargo bench --bench tls -- memory
//! ```
//!
//! One element is one session: a pong's record is opened, and a ping's is sealed. Memory is that of the process (VmRSS).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "a bench may panic and print"
)]

#[path = "common/rss.rs"]
mod rss;

use std::io::{Read, Write};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput};
use presenced_tls::rustls::pki_types::pem::PemObject;
use presenced_tls::rustls::pki_types::{CertificateDer, ServerName};
use presenced_tls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};
use presenced_tls::testing::{AUTHORITY, HOST, certificates, ends, suites};
use presenced_tls::{Progress, RecordLayer, Server, provider};
use rss::rss_bytes;

/// So many sessions take turns.
const COLD: usize = 100_000;
/// A connection of rustls's is 35 times as large.
const RUSTLS: usize = 5_000;

/// As they go over the wire: a masked pong, and a ping.
const PONG: [u8; 14] = [7; 14];
const PING: [u8; 10] = [7; 10];

fn memory(count: usize) {
    let suite = suites()[0];
    // Room for the lists, and what is there once.
    let (mut sleeping, mut rustls) = (Vec::with_capacity(count), Vec::with_capacity(RUSTLS));
    let warm = (ends(suite), connected());
    let before = rss_bytes();
    sleeping.extend((0..count).map(|_| ends(suite).1));
    let per = (rss_bytes() - before) as f64 / count as f64;
    println!("memory of {count} sleeping sessions: {per:.0} B each, and 8 B of a list");

    // The others stay, so that nothing that they leave is used again.
    let before = rss_bytes();
    rustls.extend((0..RUSTLS).map(|_| Box::new(connected().1)));
    let per = (rss_bytes() - before) as f64 / RUSTLS as f64;
    println!("memory of {RUSTLS} connections of rustls: {per:.0} B each");
    drop((sleeping, rustls, warm));
}

fn times(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tls");
    group.throughput(Throughput::Elements(1));
    for suite in suites() {
        let name = format!("{:?}", suite.suite());
        let (mut client, mut server) = ends(suite);
        let mut out = Vec::with_capacity(64);
        group.bench_function(format!("warm/{name}"), |bencher| {
            bencher.iter_batched_ref(
                || pong(&mut client),
                |pong| ping_pong(&mut server, pong, &mut out),
                BatchSize::SmallInput,
            );
        });
    }
    for suite in suites().into_iter().take(3) {
        cold(&mut group, suite);
    }
    let (mut client, mut server) = connected();
    let (mut data, mut out) = ([0; 64], Vec::with_capacity(64));
    group.bench_function("warm/rustls", |bencher| {
        bencher.iter_batched_ref(
            || {
                client.writer().write_all(&PONG).unwrap();
                said(&mut client)
            },
            |pong| {
                server.read_tls(&mut &**pong).unwrap();
                server.process_new_packets().unwrap();
                assert_eq!(server.reader().read(&mut data).unwrap(), PONG.len());
                server.writer().write_all(&PING).unwrap();
                out.clear();
                server.write_tls(&mut out).unwrap();
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
    handshakes(criterion);
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// Each session has its turn, in an order that no cache foresees.
fn cold(group: &mut Group<'_>, suite: SupportedCipherSuite) {
    let mut sessions: Vec<_> = (0..COLD).map(|_| ends(suite)).collect();
    let (mut next, mut out) = (0, Vec::with_capacity(64));
    group.bench_function(format!("cold/{:?}", suite.suite()), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut time = std::time::Duration::ZERO;
            let mut left = rounds;
            while left > 0 {
                let count = left.min(COLD as u64 / 2);
                left -= count;
                let turns: Vec<usize> = (0..count)
                    .map(|_| {
                        next = (next + 61_803) % COLD;
                        next
                    })
                    .collect();
                let mut pongs: Vec<_> = turns
                    .iter()
                    .map(|&turn| pong(&mut sessions[turn].0))
                    .collect();
                let start = std::time::Instant::now();
                for (&turn, pong) in turns.iter().zip(&mut pongs) {
                    ping_pong(&mut sessions[turn].1, pong, &mut out);
                }
                time += start.elapsed();
            }
            time
        });
    });
}

fn handshakes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tls-handshake");
    for (name, is_resumed) in [("full", false), ("resumed", true)] {
        let (server, config) = (server(), Arc::new(client_config()));
        shake_hands(&server, &mut client(&config));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut time = std::time::Duration::ZERO;
                for _ in 0..rounds {
                    let mut client = match is_resumed {
                        true => client(&config),
                        false => client(&Arc::new(client_config())),
                    };
                    time += shake_hands(&server, &mut client);
                }
                time
            });
        });
    }
    group.finish();
}

fn pong(client: &mut RecordLayer) -> Vec<u8> {
    let mut pong = Vec::with_capacity(64);
    client.seal(&PONG, &mut pong).unwrap();
    pong
}

fn ping_pong(server: &mut RecordLayer, pong: &mut [u8], out: &mut Vec<u8>) {
    out.clear();
    let opened = server.open(pong, out);
    assert_eq!(opened.data, PONG.len());
    server.seal(&PING, out).unwrap();
}

fn server() -> Server {
    Server::new(certificates()).unwrap()
}

fn client_config() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(AUTHORITY).unwrap())
        .unwrap();
    ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from(HOST).unwrap();
    ClientConnection::new(config.clone(), name).unwrap()
}

fn said(client: &mut ClientConnection) -> Vec<u8> {
    let mut said = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut said).unwrap();
    }
    said
}

fn hear(client: &mut ClientConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
    }
}

/// The time that the server's side takes.
fn shake_hands(server: &Server, client: &mut ClientConnection) -> std::time::Duration {
    let mut time = std::time::Duration::ZERO;
    let start = std::time::Instant::now();
    let mut handshake = server.handshake().unwrap();
    time += start.elapsed();
    loop {
        let (bytes, mut out) = (said(client), Vec::new());
        let start = std::time::Instant::now();
        let progress = handshake.receive(&bytes, &mut out).unwrap();
        time += start.elapsed();
        hear(client, &out);
        match progress {
            Progress::Wait(waits) => handshake = waits,
            Progress::Done(_) => return time,
        }
    }
}

/// A client, and a server of rustls's alone.
fn connected() -> (ClientConnection, ServerConnection) {
    let config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(certificates());
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    let mut client = client(&Arc::new(client_config()));
    while client.is_handshaking() || client.wants_write() || server.wants_write() {
        server.read_tls(&mut &*said(&mut client)).unwrap();
        server.process_new_packets().unwrap();
        let mut out = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut out).unwrap();
        }
        hear(&mut client, &out);
    }
    (client, server)
}

fn main() {
    let count = std::env::var("SESSIONS").map_or(COLD, |count| count.parse().unwrap());
    memory(count);
    if !std::env::args().any(|argument| argument == "memory") {
        let mut criterion = Criterion::default().configure_from_args();
        times(&mut criterion);
        criterion.final_summary();
    }
}
