//! `presenced store`, as an operator runs it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

/// A store in a process of its own; killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// What it printed of where it listens.
    at: String,
}

fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_presenced"));
    let settings = std::env::vars_os().map(|(name, _)| name);
    for name in settings.filter(|name| name.to_string_lossy().starts_with("PRESENCED_")) {
        command.env_remove(name);
    }
    command.arg("store").args(flags).stdin(Stdio::null());
    command
}

impl Process {
    pub(crate) fn start(flags: &[&str]) -> Process {
        let mut command = command(flags);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let at = line
            .trim()
            .strip_prefix("store ")
            .expect("where it is")
            .trim()
            .to_owned();
        Process { child, at }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to stop; what it logged.
    fn stop(mut self) -> String {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::TERM).unwrap();
        let mut log = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        assert!(self.child.wait().unwrap().success(), "{log}");
        log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(mut stream: impl Read + Write, input: &[u8]) -> String {
    stream.write_all(input).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn refused(flags: &[&str]) -> Output {
    command(flags).output().unwrap()
}

fn socket(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("presenced-{name}-{}", std::process::id()))
}

#[test]
fn serves_alone() {
    let store = Process::start(&["--listen=127.0.0.1:0", "--memory=32MiB", "--threads=2"]);
    let clients: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(&store.at).unwrap())
        .collect();
    for (number, client) in clients.iter().enumerate() {
        let set = format!("set k{number} 0 0 1\r\nx\r\nquit\r\n");
        assert_eq!(ask(client, set.as_bytes()), "STORED\r\n");
    }
    // Whichever thread has the connection.
    for number in 0..20 {
        let client = TcpStream::connect(&store.at).unwrap();
        let get = format!("get k{number}\r\nquit\r\n");
        assert_eq!(
            ask(client, get.as_bytes()),
            format!("VALUE k{number} 0 1\r\nx\r\nEND\r\n")
        );
    }
    let stats = ask(TcpStream::connect(&store.at).unwrap(), b"stats\r\nquit\r\n");
    for line in [
        "STAT limit_maxbytes 33554432\r\n",
        "STAT threads 2\r\n",
        "STAT curr_items 20\r\n",
    ] {
        assert!(stats.contains(line), "{line:?} in {stats}");
    }
    assert_eq!(store.stop(), "");
}

#[test]
fn signals_of_others_do_not_end_it() {
    let mut store = Process::start(&["--listen=127.0.0.1:0"]);
    let mut log = BufReader::new(store.child.stderr.take().unwrap());
    for (signal, name) in [
        (Signal::HUP, "SIGHUP"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
    ] {
        let pid = Pid::from_raw(store.child.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        assert!(line.contains(&format!("{name} is ignored")), "{line}");
        let client = TcpStream::connect(&store.at).unwrap();
        assert_eq!(ask(client, b"mn\r\nquit\r\n"), "MN\r\n");
    }
    store.child.stderr = Some(log.into_inner());
    store.stop();
}

#[test]
fn serves_a_unix_socket() {
    let path = socket("unix");
    let flag = format!("--unix={}", path.display());
    // One that a server that was killed has left behind is taken over.
    drop(UnixListener::bind(&path).unwrap());
    let store = Process::start(&[&flag]);
    assert_eq!(store.at, path.display().to_string());
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let client = UnixStream::connect(&path).unwrap();
    assert_eq!(
        ask(client, b"set a 0 0 1\r\nx\r\nmg a v\r\nquit\r\n"),
        "STORED\r\nVA 1\r\nx\r\n"
    );
    // But not one that somebody listens on.
    let second = refused(&[&flag]);
    assert_eq!(second.status.code(), Some(1));
    let log = String::from_utf8_lossy(&second.stderr);
    assert!(log.contains("cannot listen on"), "{log}");
    store.stop();
    fs::remove_file(&path).unwrap();
}

#[test]
fn says_that_there_is_no_authentication() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let store = Process::start(&[&format!("--listen={listen}")]);
        let log = store.stop();
        assert!(
            log.contains("WARN") && log.contains("no authentication"),
            "{log}"
        );
    }
    // Not on this machine alone, which is where it listens unless told otherwise.
    assert_eq!(Process::start(&["--listen=[::1]:0"]).stop(), "");
}

#[test]
fn closes_idle_connections_and_those_over_the_limit() {
    let store = Process::start(&[
        "--listen=127.0.0.1:0",
        "--max-connections=1",
        "--idle-timeout=1s",
        "--threads=1",
    ]);
    let mut first = TcpStream::connect(&store.at).unwrap();
    first.write_all(b"mn\r\n").unwrap();
    first.read_exact(&mut [0; 4]).unwrap();
    let second = TcpStream::connect(&store.at).unwrap();
    assert_eq!(ask(second, b""), "ERROR Too many open connections\r\n");
    // The end comes by itself.
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
    let stats = ask(TcpStream::connect(&store.at).unwrap(), b"stats\r\nquit\r\n");
    assert!(
        stats.contains("\r\nSTAT store_no_memory 0\r\nSTAT idle_kicks 1\r\nSTAT bytes_read "),
        "{stats}"
    );
}

/// No descriptor is left for a second client: it waits, the first is served, and the log has one
/// line for it however often accepting is tried, and one when it is over.
#[test]
fn at_the_file_limit_accepting_rests_and_goes_on() {
    let mut store = Process::start(&["--listen=127.0.0.1:0", "--threads=1"]);
    let mut log = BufReader::new(store.child.stderr.take().unwrap());
    let pid = Pid::from_raw(store.child.id() as i32);
    let limit = |current| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = Some(current);
        prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).unwrap();
    };
    let mut first = TcpStream::connect(&store.at).unwrap();
    let started_s = uptime_s(&mut first);
    // The first three are in use.
    limit(3);
    let second = TcpStream::connect(&store.at).unwrap();
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    assert!(line.contains("cannot accept connections"), "{line}");
    // Accepting is tried several times in a second.
    while uptime_s(&mut first) < started_s + 2 {
        sleep(Duration::from_millis(20));
    }
    limit(1000);
    assert_eq!(ask(second, b"mn\r\nquit\r\n"), "MN\r\n");
    line.clear();
    log.read_line(&mut line).unwrap();
    assert!(line.contains("accepts connections again"), "{line}");
    store.child.stderr = Some(log.into_inner());
    assert_eq!(store.stop(), "");
}

/// How many seconds the store has run, as it says.
fn uptime_s(client: &mut TcpStream) -> u64 {
    client.write_all(b"stats\r\n").unwrap();
    let mut stats = String::new();
    let mut lines = BufReader::new(client);
    while !stats.ends_with("END\r\n") {
        assert_ne!(lines.read_line(&mut stats).unwrap(), 0, "{stats}");
    }
    let uptime = stats
        .lines()
        .find_map(|line| line.strip_prefix("STAT uptime "));
    uptime.unwrap().parse().unwrap()
}

#[test]
fn refuses_what_can_not_work() {
    for (flags, words) in [
        (
            &["--memory=1MiB"][..],
            "'1MiB' for '--memory <SIZE>': must be from 4MiB",
        ),
        (&["--memory=64Q"], "'64Q' for '--memory"),
        (&["--listen=nowhere"], "'nowhere' for '--listen"),
        (
            &["--idle-timeout=10ms"],
            "'10ms' for '--idle-timeout <DURATION>': must be from 1000ms",
        ),
        (&["--threads=0"], "--threads"),
        (&["--max-connections=4000000000"], "open files"),
    ] {
        let output = refused(flags);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(words), "{words:?} in {text}");
    }
}
