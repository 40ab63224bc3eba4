//! A store on threads of its own, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use presenced_store::{Address, Options, RunningStore, StoreError};

const MEMORY_BYTES: usize = 64 << 20;

fn start() -> (RunningStore, SocketAddr) {
    let free = Address::Tcp(([127, 0, 0, 1], 0).into());
    let options = Options {
        threads: 2,
        ..Options::new(MEMORY_BYTES)
    };
    let running = RunningStore::start(&free, options).unwrap();
    let Address::Tcp(addr) = *running.address() else {
        panic!("it listens at {}", running.address());
    };
    (running, addr)
}

fn ask(stream: &mut (impl Read + Write), request: &[u8], reply: &[u8]) {
    stream.write_all(request).unwrap();
    let mut read = vec![0; reply.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(
        read.escape_ascii().to_string(),
        reply.escape_ascii().to_string()
    );
}

#[test]
fn its_threads_serve_one_store_until_it_is_stopped() {
    let (running, addr) = start();
    let mut clients: Vec<_> = (0..10).map(|_| TcpStream::connect(addr).unwrap()).collect();
    ask(&mut clients[0], b"set a 0 0 1\r\nx\r\n", b"STORED\r\n");
    for client in &mut clients {
        ask(client, b"get a\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n");
    }
    assert_eq!(running.store().counters().items, 1);
    running.stop();
    for client in &mut clients {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "closed");
    }
    let refused = TcpStream::connect(addr).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn dropping_it_stops_it() {
    let (running, addr) = start();
    let mut client = TcpStream::connect(addr).unwrap();
    ask(&mut client, b"mn\r\n", b"MN\r\n");
    drop(running);
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "closed");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let (_running, addr) = start();
    let second = RunningStore::start(&Address::Tcp(addr), Options::new(MEMORY_BYTES));
    let error = second.unwrap_err();
    assert!(
        matches!(&error, StoreError::Listen { address: Address::Tcp(at), error }
            if *at == addr && error.kind() == ErrorKind::AddrInUse),
        "{error:?}"
    );
}

#[test]
fn a_store_always_has_a_thread() {
    let name = format!("presenced-store-running-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let options = Options {
        threads: 0,
        ..Options::new(MEMORY_BYTES)
    };
    let running = RunningStore::start(&Address::Unix(path.clone()), options).unwrap();
    assert_eq!(running.address(), &Address::Unix(path.clone()));
    let mut client = UnixStream::connect(&path).unwrap();
    ask(&mut client, b"mn\r\n", b"MN\r\n");
    running.stop();
    std::fs::remove_file(path).unwrap();
}
