//! A real memcached, and what can be asked of it by hand.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::cable::Cable;
use crate::port::Port;
use crate::temp::unique_path;
use crate::{PATIENCE, until};

/// A process, killed when dropped.
pub struct Memcached {
    pub(crate) process: Child,
    pub(crate) at: At,
    flags: Vec<String>,
}

pub(crate) enum At {
    /// A port that stays its own while it is away.
    Tcp(Port),
    Socket(PathBuf),
    /// At the end of a cable, on memcached's own port.
    Beyond(Cable),
}

impl Memcached {
    /// On a free port of loopback.
    pub async fn start() -> Memcached {
        Memcached::start_with(&[]).await
    }

    /// The same with flags of its own.
    pub async fn start_with(flags: &[&str]) -> Memcached {
        for _ in 0..20 {
            if let Some(memcached) = Memcached::at(At::Tcp(Port::free()), flags).await {
                return memcached;
            }
        }
        panic!("memcached finds no free port");
    }

    /// On a Unix socket.
    pub async fn start_unix() -> Memcached {
        Memcached::at(At::Socket(unique_path()), &[])
            .await
            .expect("memcached does not start")
    }

    /// At the other end of a cable.
    pub async fn start_beyond(cable: Cable) -> Memcached {
        Memcached::at(At::Beyond(cable), &[])
            .await
            .expect("memcached does not start")
    }

    /// The cable to it.
    pub fn cable(&self) -> Option<&Cable> {
        match &self.at {
            At::Beyond(cable) => Some(cable),
            At::Tcp(_) | At::Socket(_) => None,
        }
    }

    /// Returns `None` if it ends at once: the port was taken meanwhile.
    async fn at(at: At, flags: &[&str]) -> Option<Memcached> {
        let flags: Vec<_> = flags.iter().map(ToString::to_string).collect();
        let process = spawn(&at, &flags);
        let mut memcached = Memcached { process, at, flags };
        memcached.wait().await.then_some(memcached)
    }

    /// Returns when it answers; false if it has ended.
    async fn wait(&mut self) -> bool {
        let mut ended = false;
        until("memcached answers", PATIENCE, async || {
            ended = self.process.try_wait().unwrap().is_some();
            let answer = self.try_ask("stats").await;
            ended || answer.is_some_and(|line| self.is_own(&line))
        })
        .await;
        !ended
    }

    /// Whether the first line of an answer to `stats` is of this process, not of one that had the
    /// port first. One that asks for a password first names no process.
    fn is_own(&self, line: &str) -> bool {
        let id = line.strip_prefix("STAT pid ");
        id.is_none_or(|id| id == self.process.id().to_string())
    }

    /// Kills it; everything it had is lost.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it anew in the same place, empty.
    pub async fn restart(&mut self) {
        self.kill();
        self.start_again().await;
    }

    /// Starts it again in the same place when it has ended.
    pub async fn start_again(&mut self) {
        for _ in 0..20 {
            self.process = spawn(&self.at, &self.flags);
            if self.wait().await {
                return;
            }
        }
        panic!("memcached does not start again on the same port");
    }

    /// Where it listens, unless that is a Unix socket.
    pub fn address(&self) -> SocketAddr {
        self.at.address().into()
    }

    /// For `--memcached`.
    pub fn node(&self) -> String {
        match &self.at {
            At::Socket(path) => format!("unix:{}", path.display()),
            At::Tcp(_) | At::Beyond(_) => self.at.address().to_string(),
        }
    }

    /// Seconds that the entry under `key` has left.
    pub async fn ttl_s(&self, key: &str) -> Option<u64> {
        let answer = self.ask(&format!("mg {key} t")).await;
        let ttl = answer.strip_prefix("HD t")?;
        Some(ttl.parse().unwrap())
    }

    /// The first line of the answer to a command.
    pub async fn ask(&self, command: &str) -> String {
        let answer = timeout(PATIENCE, self.try_ask(command)).await;
        answer.ok().flatten().expect("memcached does not answer")
    }

    pub(crate) async fn try_ask(&self, command: &str) -> Option<String> {
        self.try_lines(command, 1).await?.pop()
    }

    /// The first lines of the answer to a command; fewer if it has no more.
    pub(crate) async fn try_lines(&self, command: &str, count: usize) -> Option<Vec<String>> {
        match &self.at {
            At::Socket(path) => ask(UnixStream::connect(path).await.ok()?, command, count).await,
            At::Tcp(_) | At::Beyond(_) => {
                let stream = TcpStream::connect(self.at.address()).await.ok()?;
                ask(stream, command, count).await
            }
        }
    }
}

impl At {
    pub(crate) fn address(&self) -> SocketAddrV4 {
        match self {
            At::Tcp(port) => SocketAddrV4::new(Ipv4Addr::LOCALHOST, port.number()),
            At::Socket(path) => panic!("{} has no port", path.display()),
            At::Beyond(cable) => SocketAddrV4::new(cable.there, 11211),
        }
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let At::Socket(path) = &self.at {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The key of a user's entry, if nothing else is set.
pub fn key(user: &str) -> String {
    format!("user:{user}:online")
}

fn spawn(at: &At, flags: &[String]) -> Child {
    let mut command = match at {
        At::Beyond(cable) => cable.command("memcached"),
        At::Tcp(_) | At::Socket(_) => Command::new("memcached"),
    };
    // Only root needs to say as whom it is to run.
    command.args(["-u", "root", "-U", "0", "-t", "2"]);
    match at {
        // The other port that the flags name has it.
        At::Tcp(_) if flags.contains(&"-Z".into()) => {
            command.args(["-l", &format!("notls:{}", at.address())])
        }
        At::Tcp(_) | At::Beyond(_) => {
            let (ip, port) = (at.address().ip().to_string(), at.address().port());
            command.args(["-l", &ip, "-p", &port.to_string()])
        }
        At::Socket(path) => command.arg("-s").arg(path),
    };
    command
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("these tests need memcached: install the package of that name")
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    command: &str,
    count: usize,
) -> Option<Vec<String>> {
    let mut stream = BufReader::new(stream);
    let command = format!("{command}\r\n");
    stream.write_all(command.as_bytes()).await.ok()?;
    let mut lines = Vec::new();
    while lines.len() < count && lines.last().is_none_or(|line| line != "END") {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        lines.push(line.strip_suffix("\r\n")?.into());
    }
    Some(lines)
}
