//! A real memcached, read by a client that is not ours and, where that can't ask, by hand.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use async_memcached::{AsciiProtocol, Client};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::cable::Cable;
use super::{PATIENCE, free_port, until};

/// A process, killed when dropped.
pub struct Memcached {
    process: Child,
    at: At,
    flags: Vec<String>,
}

enum At {
    Tcp(SocketAddrV4),
    Socket(PathBuf),
    /// At the end of a cable, on memcached's own port.
    Beyond(Cable),
}

/// What memcached has for a key.
#[derive(Debug)]
pub struct Entry {
    /// As it is stored.
    pub text: String,
    /// As JSON.
    pub json: Value,
    /// memcached's flags.
    pub flags: u32,
}

impl Memcached {
    /// On a free port of loopback.
    pub async fn start() -> Memcached {
        Memcached::start_with(&[]).await
    }

    /// The same with flags of its own.
    pub async fn start_with(flags: &[&str]) -> Memcached {
        for _ in 0..20 {
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free_port());
            if let Some(memcached) = Memcached::at(At::Tcp(address), flags).await {
                return memcached;
            }
        }
        panic!("memcached finds no free port");
    }

    /// On a Unix socket.
    pub async fn start_unix() -> Memcached {
        let name = format!("presenced-{}-{:x}", std::process::id(), fastrand::u32(..));
        let at = At::Socket(std::env::temp_dir().join(name));
        Memcached::at(at, &[])
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

    /// Nothing if it ends at once: the port was taken meanwhile.
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
            ended || self.try_ask("version").await.is_some()
        })
        .await;
        !ended
    }

    /// Kills it; everything it had is lost.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it anew in the same place, empty.
    pub async fn restart(&mut self) {
        self.kill();
        for _ in 0..20 {
            self.process = spawn(&self.at, &self.flags);
            if self.wait().await {
                return;
            }
        }
        panic!("memcached does not start again on the same port");
    }

    /// Stops it without ending it: connections stay open and no one answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        // Its threads stop one after another.
        let stopped = waitpid(Some(Pid::from_child(&self.process)), WaitOptions::UNTRACED);
        assert!(stopped.unwrap().unwrap().1.stopped());
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// For `--memcached`.
    pub fn node(&self) -> String {
        match &self.at {
            At::Socket(path) => format!("unix:{}", path.display()),
            At::Tcp(_) | At::Beyond(_) => self.at.address().to_string(),
        }
    }

    /// A client that is not ours.
    pub async fn client(&self) -> Client {
        let address = match &self.at {
            At::Socket(path) => format!("unix://{}", path.display()),
            At::Tcp(_) | At::Beyond(_) => format!("tcp://{}", self.at.address()),
        };
        Client::new(address).await.unwrap()
    }

    /// The entry under `key`, by the client that is not ours.
    pub async fn entry(&self, key: &str) -> Option<Entry> {
        let value = self.client().await.get(key).await.unwrap()?;
        let text = String::from_utf8(value.data.unwrap()).unwrap();
        Some(Entry {
            json: serde_json::from_str(&text).unwrap_or_default(),
            flags: value.flags.unwrap(),
            text,
        })
    }

    /// Whether `user` has an entry.
    pub async fn is_online(&self, user: &str) -> bool {
        self.entry(&key(user)).await.is_some()
    }

    /// How many of `users` have one.
    pub async fn count_online(&self, users: &[String]) -> usize {
        let keys = users.iter().map(|user| key(user));
        let found = self.client().await.get_multi(keys).await;
        // Nothing at all is an error to this client.
        found.map_or(0, |found| found.len())
    }

    /// The same of so many that one command can't ask for all. A node that is away has none.
    pub async fn count_online_of_many(&self, users: &[String]) -> usize {
        let mut count = 0;
        for users in users.chunks(1000) {
            count += self.count_online(users).await;
        }
        count
    }

    /// Puts any value under a key.
    pub async fn put(&self, key: &str, value: &str) {
        let mut client = self.client().await;
        client.set(key, value, None, None).await.unwrap();
    }

    /// Gives each of `users` the same entry.
    pub async fn put_all(&self, users: &[String], value: &str) {
        let mut client = self.client().await;
        for user in users {
            client.set(key(user), value, None, None).await.unwrap();
        }
    }

    /// Seconds that the entry under `key` has left.
    pub async fn ttl_s(&self, key: &str) -> Option<u64> {
        let answer = self.ask(&format!("mg {key} t")).await;
        let ttl = answer.strip_prefix("HD t")?;
        Some(ttl.parse().unwrap())
    }

    /// A number of `stats`.
    pub async fn stat(&self, name: &str) -> u64 {
        let stats = self.client().await.stats().await.unwrap();
        stats[name].parse().unwrap()
    }

    /// `set` commands so far, but for those of the probe, which it sends when its `touch` misses.
    pub async fn sets(&self) -> u64 {
        let stats = self.client().await.stats().await.unwrap();
        let [sets, misses] = ["cmd_set", "touch_misses"].map(|name| stats[name].parse().unwrap());
        u64::saturating_sub(sets, misses)
    }

    /// The first line of the answer to a command.
    pub async fn ask(&self, command: &str) -> String {
        let answer = timeout(PATIENCE, self.try_ask(command)).await;
        answer.ok().flatten().expect("memcached does not answer")
    }

    async fn try_ask(&self, command: &str) -> Option<String> {
        match &self.at {
            At::Socket(path) => ask(UnixStream::connect(path).await.ok()?, command).await,
            At::Tcp(_) | At::Beyond(_) => {
                let stream = TcpStream::connect(self.at.address()).await.ok()?;
                ask(stream, command).await
            }
        }
    }
}

impl At {
    /// Where it listens; of a Unix socket nowhere.
    fn address(&self) -> SocketAddrV4 {
        match self {
            At::Tcp(address) => *address,
            At::Socket(_) => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
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
        At::Tcp(address) if flags.contains(&"-Z".into()) => {
            command.args(["-l", &format!("notls:{address}")])
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

async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin, command: &str) -> Option<String> {
    let mut stream = BufReader::new(stream);
    let command = format!("{command}\r\n");
    stream.write_all(command.as_bytes()).await.ok()?;
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.strip_suffix("\r\n").map(Into::into)
}
