//! The binary, as an operator runs it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::tokens::SECRET;
use super::{PATIENCE, until};

/// On free ports, whatever else is set.
pub const FREE_PORTS: &[&str] = &[
    "--listen=127.0.0.1:0",
    "--admin=127.0.0.1:0",
    "--store-listen=127.0.0.1:0",
];

/// A server in a process of its own; killed when dropped.
pub struct Process {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: JoinHandle<()>,
    /// What it has logged so far.
    log: Arc<Mutex<String>>,
    /// What it printed when it was ready.
    pub greeting: String,
}

impl Process {
    /// With [`FREE_PORTS`], [`SECRET`] and `flags`; returns when it is up.
    pub async fn start(flags: &[&str]) -> Process {
        let mut command = command(&[FREE_PORTS, flags].concat());
        command.env("PRESENCED_JWT_SECRET", SECRET);
        Process::up(command).await
    }

    /// The same without a key.
    pub async fn start_keyless(flags: &[&str]) -> Process {
        Process::up(command(&[FREE_PORTS, flags].concat())).await
    }

    /// Any command of the binary.
    pub async fn up(mut command: Command) -> Process {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::<Mutex<String>>::default();
        let mut process = Process {
            child,
            stdout,
            // Beside the waiting: a full pipe would stop the server.
            stderr: tokio::spawn(read(stderr, log.clone())),
            log,
            greeting: String::new(),
        };
        while !process.greeting.contains("headroom") {
            let line = timeout(PATIENCE, process.stdout.next_line()).await;
            let line = line.expect("the server starts").unwrap();
            process.greeting += &line.unwrap_or_else(|| panic!("ended: {}", process.greeting));
            process.greeting += "\n";
        }
        process
    }

    /// Where clients connect.
    pub fn edge(&self) -> SocketAddr {
        self.printed("edge     http://", "/")
    }

    /// Where operators look.
    pub fn admin(&self) -> SocketAddr {
        self.printed("admin    http://", "/metrics")
    }

    /// Where the embedded store listens.
    pub fn store(&self) -> SocketAddr {
        self.printed("store    ", "")
    }

    fn printed(&self, before: &str, after: &str) -> SocketAddr {
        let mut lines = self.greeting.lines();
        let addr = lines.find_map(|line| line.strip_prefix(before)?.strip_suffix(after));
        let addr = addr.unwrap_or_else(|| panic!("no {before} in {}", self.greeting));
        addr.parse().unwrap()
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.id() as i32).unwrap(), signal).unwrap();
    }

    /// Waits for its end: the status, and all that it printed and logged.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("the server ends").unwrap();
        let mut text = self.greeting;
        while let Some(line) = self.stdout.next_line().await.unwrap() {
            text += &(line + "\n");
        }
        self.stderr.await.unwrap();
        text += &self.log.lock().unwrap();
        (status, text)
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

/// Runs the binary to its end.
pub async fn run(flags: &[&str], secret: Option<&str>) -> Output {
    let mut command = command(flags);
    if let Some(secret) = secret {
        command.env("PRESENCED_JWT_SECRET", secret);
    }
    let output = timeout(PATIENCE, command.output()).await;
    output.expect("the command ends").unwrap()
}

/// The binary with `flags` and nothing of the environment's settings.
pub fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_presenced"));
    let settings = std::env::vars_os().map(|(name, _)| name);
    for name in settings.filter(|name| name.to_string_lossy().starts_with("PRESENCED_")) {
        command.env_remove(name);
    }
    command
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A file with a content, removed when dropped.
pub struct TempFile(PathBuf);

impl TempFile {
    pub fn new(content: &str) -> TempFile {
        let name = format!("presenced-{}-{:x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).unwrap();
        TempFile(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
