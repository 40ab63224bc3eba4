//! The binary, as an operator runs it.

use std::fs::File;
use std::io::{PipeReader, Write, pipe};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::names::Names;
use crate::port::Port;
use crate::temp::TempFile;
use crate::tokens::SECRET;
use crate::{PATIENCE, until};

/// On free ports, whatever else is set.
pub const FREE_PORTS: &[&str] = &[
    "--listen=127.0.0.1:0",
    "--admin=127.0.0.1:0",
    "--store-listen=127.0.0.1:0",
];

/// A server in a process of its own; killed when dropped.
pub struct Process {
    child: Child,
    stdout: Option<Lines<BufReader<ChildStdout>>>,
    stderr: Option<JoinHandle<()>>,
    /// What it has logged so far.
    log: Arc<Mutex<String>>,
    /// The other end of [`Sink::Unread`].
    pub unread: Option<PipeReader>,
    /// Those that it was told to listen on.
    ports: Vec<Port>,
    /// What it printed when it was ready.
    pub greeting: String,
}

/// A stream that a process writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What a stream may lead to that does not take what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// A full disk.
    Full,
    /// A pipe whose reader is gone.
    Closed,
    /// A pipe that is full, and that nobody reads.
    Unread,
    /// The same, where a write fails that would have to wait.
    UnreadNonblocking,
    /// A file that has reached its greatest size (`ulimit -f`).
    Limited,
}

impl Process {
    /// With [`FREE_PORTS`], [`SECRET`] and `flags`; returns when it is up.
    pub async fn start(flags: &[&str]) -> Process {
        let mut command = command(&[FREE_PORTS, flags].concat());
        command.env("PRESENCED_JWT_SECRET", SECRET);
        Process::up(command).await
    }

    /// The same, where host names are `names`.
    pub async fn start_with(names: &Names, flags: &[&str]) -> Process {
        let mut command = command(&[FREE_PORTS, flags].concat());
        command.env("PRESENCED_JWT_SECRET", SECRET);
        let mut command = Command::from(names.wrap(command.as_std()));
        piped(&mut command);
        Process::up(command).await
    }

    /// The same under a limit of the shell's: `-n 1024`.
    pub async fn start_within(limit: &str, flags: &[&str]) -> Process {
        let mut command = command(&[FREE_PORTS, flags].concat());
        command.env("PRESENCED_JWT_SECRET", SECRET);
        Process::up(within(limit, &command)).await
    }

    /// The same in dev mode.
    pub async fn start_dev(flags: &[&str]) -> Process {
        Process::up(command(&[FREE_PORTS, flags].concat())).await
    }

    /// Any command of the binary.
    pub async fn up(mut command: Command) -> Process {
        let mut process = Process::spawn(&mut command);
        let stdout = process.stdout.as_mut().unwrap();
        while !process.greeting.contains("headroom") {
            let line = timeout(PATIENCE, stdout.next_line()).await;
            let line = line.expect("the server starts").unwrap();
            process.greeting += &line.unwrap_or_else(|| panic!("ended: {}", process.greeting));
            process.greeting += "\n";
        }
        process
    }

    fn spawn(command: &mut Command) -> Process {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let log = Arc::<Mutex<String>>::default();
        Process {
            child,
            stdout: stdout.map(|stdout| BufReader::new(stdout).lines()),
            // Beside the waiting: a full pipe would lose lines of the log.
            stderr: stderr.map(|stderr| tokio::spawn(read(stderr, log.clone()))),
            log,
            unread: None,
            ports: Vec::new(),
            greeting: String::new(),
        }
    }

    /// With a stream that leads to `sink`, [`SECRET`] and `flags`; returns at once.
    pub fn spawn_into(stream: Stream, sink: Sink, flags: &[&str]) -> Process {
        let mut command = match sink {
            Sink::Limited => limited("-f 0", flags),
            _ => command(flags),
        };
        command.env("PRESENCED_JWT_SECRET", SECRET);
        let (end, unread) = sink.open();
        match stream {
            Stream::Stdout => command.stdout(end),
            Stream::Stderr => command.stderr(end),
        };
        let process = Process::spawn(&mut command);
        Process { unread, ..process }
    }

    /// The same; returns when it is up. What it prints may not be read, so it is told where to listen.
    pub async fn start_into(stream: Stream, sink: Sink, flags: &[&str]) -> Process {
        Process::told_where(async |[edge, admin, store]| {
            let at = [
                format!("--listen={edge}"),
                format!("--admin={admin}"),
                format!("--store-listen={store}"),
            ];
            let flags = [&at.each_ref().map(String::as_str), flags].concat();
            let mut process = Process::spawn_into(stream, sink, &flags);
            process.greeting = format!(
                "edge     http://{edge}/\nadmin    http://{admin}/metrics\nstore    {store}\n"
            );
            process.listens(admin).await.then_some(process)
        })
        .await
    }

    /// The same of `presenced store`.
    pub async fn start_store_into(stream: Stream, sink: Sink, flags: &[&str]) -> Process {
        Process::told_where(async |[store, ..]| {
            let listen = format!("--listen={store}");
            let flags = [&["store", &listen], flags].concat();
            let mut process = Process::spawn_into(stream, sink, &flags);
            process.greeting = format!("store    {store}\n");
            process.listens(store).await.then_some(process)
        })
        .await
    }

    /// Tries again where a port was taken meanwhile.
    async fn told_where(start: impl AsyncFn([SocketAddr; 3]) -> Option<Process>) -> Process {
        for _ in 0..3 {
            let ports = [(); 3].map(|()| Port::free());
            let at = ports
                .each_ref()
                .map(|port| SocketAddr::from(([127, 0, 0, 1], port.number())));
            if let Some(mut process) = start(at).await {
                process.ports.extend(ports);
                return process;
            }
        }
        panic!("it does not start")
    }

    /// Returns when something listens there; false if the process has ended.
    async fn listens(&mut self, addr: SocketAddr) -> bool {
        let mut has_ended = false;
        until("it listens", PATIENCE, async || {
            has_ended = self.child.try_wait().unwrap().is_some();
            has_ended || TcpStream::connect(addr).await.is_ok()
        })
        .await;
        !has_ended
    }

    /// Where clients connect.
    pub fn edge(&self) -> SocketAddr {
        self.printed("edge", "://", "/")
    }

    /// Where operators look.
    pub fn admin(&self) -> SocketAddr {
        self.printed("admin", "://", "/metrics")
    }

    /// Where the embedded store listens.
    pub fn store(&self) -> SocketAddr {
        self.printed("store", "", "")
    }

    /// What it printed in its first lines, in either form, between `before` and `after`.
    fn printed(&self, name: &str, before: &str, after: &str) -> SocketAddr {
        let found = self.greeting.lines().find_map(|line| {
            if let Ok(object) = serde_json::from_str::<Value>(line) {
                return Some(object["fields"][name].as_str()?.to_owned());
            }
            Some(line.strip_prefix(&format!("{name:<9}"))?.to_owned())
        });
        let addr = found
            .as_deref()
            .and_then(|found| found.split_once(before)?.1.strip_suffix(after));
        let addr = addr.unwrap_or_else(|| panic!("no {name} in {}", self.greeting));
        addr.parse().unwrap()
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The most that it has had in memory since it started (VmHWM), bytes.
    pub fn memory_max_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// What it has in memory now (VmRSS), bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.id() as i32).unwrap(), signal).unwrap();
    }

    /// Waits for its end: the status, and all that it printed and logged.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("the server ends").unwrap();
        let mut text = self.greeting;
        if let Some(mut stdout) = self.stdout {
            while let Some(line) = stdout.next_line().await.unwrap() {
                text += &(line + "\n");
            }
        }
        if let Some(stderr) = self.stderr {
            stderr.await.unwrap();
        }
        text += &self.log.lock().unwrap();
        (status, text)
    }

    /// How many lines of its log so far contain `text`.
    pub fn logged(&self, text: &str) -> usize {
        let log = self.log.lock().unwrap();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until it has logged a text.
    pub async fn logs(&self, text: &str) {
        until(text, PATIENCE, async || {
            self.log.lock().unwrap().contains(text)
        })
        .await;
    }
}

async fn read(stderr: ChildStderr, log: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        *log.lock().unwrap() += &(line + "\n");
    }
}

impl Sink {
    pub const ALL: [Sink; 5] = [
        Sink::Full,
        Sink::Closed,
        Sink::Unread,
        Sink::UnreadNonblocking,
        Sink::Limited,
    ];

    /// The end for the process, and the one for us, if there is one.
    pub fn open(self) -> (Stdio, Option<PipeReader>) {
        let full = || File::options().write(true).open("/dev/full").unwrap();
        match self {
            Sink::Full => (full().into(), None),
            Sink::Closed => (pipe().unwrap().1.into(), None),
            Sink::Unread | Sink::UnreadNonblocking => {
                let (ours, mut end) = pipe().unwrap();
                ioctl_fionbio(&end, true).unwrap();
                while end.write(&[b'\n'; 1024]).is_ok() {}
                // Less than a page was left of it, which a shorter line might still find.
                while end.write(b"\n").is_ok() {}
                ioctl_fionbio(&end, self == Sink::UnreadNonblocking).unwrap();
                (end.into(), Some(ours))
            }
            Sink::Limited => {
                let file = TempFile::new("");
                (File::create(file.path()).unwrap().into(), None)
            }
        }
    }
}

/// The binary under a limit of the shell's: `-n 1024`.
pub fn limited(limit: &str, flags: &[&str]) -> Command {
    within(limit, &command(flags))
}

/// The same command under a limit of the shell's.
fn within(limit: &str, command: &Command) -> Command {
    let inner = command.as_std();
    let mut outer = Command::new("sh");
    outer
        .args(["-c", &format!("ulimit {limit}; exec \"$@\""), "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    piped(&mut outer);
    outer
}

/// Runs the binary to its end.
pub async fn run(flags: &[&str], secret: Option<&str>) -> Output {
    let mut command = command(flags);
    if let Some(secret) = secret {
        command.env("PRESENCED_JWT_SECRET", secret);
    }
    let output = timeout(PATIENCE, command.output()).await;
    output.expect("the command ends").unwrap()
}

/// The binary with `flags` and nothing of the environment's settings. No balancer has to notice its end.
pub fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(binary());
    let settings = std::env::vars_os().map(|(name, _)| name);
    for name in settings.filter(|name| name.to_string_lossy().starts_with("PRESENCED_")) {
        command.env_remove(name);
    }
    command.env("PRESENCED_DRAIN_DELAY", "0s");
    // Tests ask without a pause.
    command.env("PRESENCED_MAX_PULL_USERS_PER_SECOND", "1000000");
    piped(command.args(without_store(flags)));
    command
}

/// The flags, without an address of the embedded store on this machine where others say that there is none: it
/// comes with the free ports.
pub(crate) fn without_store<'f>(flags: &[&'f str]) -> Vec<&'f str> {
    let is_of_nodes =
        |flag: &&str| flag.starts_with("--memcached=") || flag.starts_with("--memcached-file=");
    let has_nodes = flags.iter().any(is_of_nodes);
    let is_of_store = |flag: &&str| flag.starts_with("--store-listen=127.0.0.1:");
    let flags = flags.iter().copied();
    flags
        .filter(|flag| !has_nodes || !is_of_store(flag))
        .collect()
}

/// Where cargo says that it has built the binary for the tests of its package; older cargos say it
/// to the compiler alone, and put it above the folder of the test programs.
pub fn binary() -> PathBuf {
    let told = std::env::var_os("CARGO_BIN_EXE_presenced").map(PathBuf::from);
    told.unwrap_or_else(|| {
        let program = std::env::current_exe().unwrap();
        let folder = program.parent().and_then(|deps| deps.parent());
        let binary = folder.unwrap().join("presenced");
        assert!(binary.exists(), "cargo has not built {}", binary.display());
        binary
    })
}

fn piped(command: &mut Command) {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
}
