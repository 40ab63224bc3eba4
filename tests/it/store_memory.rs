//! `presenced store` under clients that begin and do not end: what they make it hold is within
//! `--memory` and a constant for each connection and thread.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use presenced_store::limits::{CONNECTION_BYTES_MAX, THREAD_BYTES_MAX};

use crate::store_command::Process;

const MEMORY_BYTES: usize = 32 << 20;

const THREADS: usize = 2;

/// With nearly a megabyte each that is several times the memory.
const CONNECTIONS: usize = 150;

const VALUE_BYTES: usize = 1_000_000;

/// What is not freed at once: the allocator's own, and what it keeps of what was freed.
const ALLOCATOR_BYTES: usize = 8 << 20;

/// On a Unix socket, in which the kernel keeps less of what nobody reads.
struct Store {
    process: Process,
    path: PathBuf,
    started_bytes: usize,
}

impl Store {
    fn start(name: &str) -> Store {
        let file = format!("presenced-memory-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(file);
        let process = Process::start(&[
            &format!("--unix={}", path.display()),
            &format!("--memory={MEMORY_BYTES}"),
            &format!("--threads={THREADS}"),
        ]);
        let mut store = Store {
            process,
            path,
            started_bytes: 0,
        };
        store.started_bytes = store.most_bytes();
        store
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).unwrap()
    }

    /// The most memory that it ever had.
    fn most_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: usize = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib * 1024
    }

    fn check(&self) {
        let most = MEMORY_BYTES
            + CONNECTIONS * CONNECTION_BYTES_MAX
            + THREADS * THREAD_BYTES_MAX
            + self.started_bytes
            + ALLOCATOR_BYTES;
        let had = self.most_bytes();
        assert!(
            had <= most,
            "{} MiB, more than {} MiB",
            had >> 20,
            most >> 20
        );
        // That it is no more because it was never asked for more would show nothing.
        assert!(had > MEMORY_BYTES / 2, "only {} MiB", had >> 20);
    }

    /// Returns when it has read so many bytes of its clients.
    fn has_read(&self, bytes: usize) {
        let mut client = BufReader::new(self.connect());
        let mut read = 0;
        while read < bytes {
            client.get_mut().write_all(b"stats\r\n").unwrap();
            let mut line = String::new();
            while line != "END\r\n" {
                line.clear();
                assert_ne!(client.read_line(&mut line).unwrap(), 0);
                if let Some(number) = line.strip_prefix("STAT bytes_read ") {
                    read = number.trim().parse().unwrap();
                }
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Reads a line.
fn answer(client: &mut UnixStream) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        client.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn begun_values_are_within_the_memory() {
    let store = Store::start("values");
    let mut sent = 0;
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| store.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let mut begun = format!("set k{number} 0 0 {VALUE_BYTES}\r\n").into_bytes();
        begun.resize(begun.len() + VALUE_BYTES - 1000, b'v');
        client.write_all(&begun).unwrap();
        sent += begun.len();
    }
    store.has_read(sent);
    store.check();
    // Each has its answer when its value has come, and goes on.
    let mut stored = 0;
    for client in &mut clients {
        client.write_all(&[b'v'; 1000]).unwrap();
        client.write_all(b"\r\nmn\r\n").unwrap();
        match answer(client).as_str() {
            "STORED\r\n" => stored += 1,
            told => assert_eq!(told, "SERVER_ERROR out of memory storing object\r\n"),
        }
        assert_eq!(answer(client), "MN\r\n");
    }
    // Half of the memory is for what connections hold.
    assert!(stored > 10 && stored <= 16, "{stored} had room");
    store.check();
}

#[test]
fn unread_answers_are_within_the_memory() {
    let store = Store::start("answers");
    let mut writer = store.connect();
    let mut set = format!("set k 0 0 {VALUE_BYTES}\r\n").into_bytes();
    set.resize(set.len() + VALUE_BYTES, b'v');
    set.extend(b"\r\n");
    writer.write_all(&set).unwrap();
    assert_eq!(answer(&mut writer), "STORED\r\n");
    let get = b"get k\r\n".repeat(8);
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| store.connect()).collect();
    for client in &mut clients {
        client.write_all(&get).unwrap();
    }
    store.has_read(set.len() + CONNECTIONS * get.len());
    store.check();
    // They keep nobody from storing. Those that found no memory for their answers are closed.
    writer.write_all(b"set s 0 0 1\r\nx\r\n").unwrap();
    assert_eq!(answer(&mut writer), "STORED\r\n");
    let whole = |mut client: UnixStream| {
        let mut answers = vec![0; 8 * ("VALUE k 0 1000000\r\n\r\nEND\r\n".len() + VALUE_BYTES)];
        client.read_exact(&mut answers).is_ok()
    };
    let served = clients
        .into_iter()
        .map(whole)
        .filter(|&whole| whole)
        .count();
    assert!(served >= 10, "{served} had room");
}

#[test]
fn begun_lines_are_within_the_memory() {
    let store = Store::start("lines");
    let line = format!("get {}", "k ".repeat(120_000));
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| store.connect()).collect();
    // One that is refused is closed.
    let mut say = |bytes: &[u8]| {
        for client in &mut clients {
            let _ = client.write_all(bytes);
        }
    };
    say(line.as_bytes());
    say(b"\r\nquit\r\n");
    let told = clients.into_iter().map(|mut client| {
        let mut told = String::new();
        let _ = client.read_to_string(&mut told);
        told
    });
    let ended = told.filter(|told| told == "END\r\n").count();
    store.check();
    assert!(
        ended > MEMORY_BYTES / 2 / (256 << 10) / 2,
        "{ended} had room"
    );
    assert!(ended < CONNECTIONS, "{ended} had room");
}
