//! Flags, checked against each other and the machine.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::population::Choice;
use crate::shard::Shard;
use crate::tls::{self, KeyExchange, Tls};
use crate::tokens::SigningKey;

/// Descriptors reserved for what is not a session: the poll, standard streams, `/proc`.
const OTHER_DESCRIPTORS: u64 = 32;

const SERVER: &str = "Server";
const TLS: &str = "TLS";
const SESSIONS: &str = "Sessions";
const LOAD: &str = "Load";
const REPORT: &str = "Measurement";

/// Opens sessions to presenced or a similar server, answers its pings, puts load on it, and
/// measures it from outside.
///
/// A run connects all sessions, waits for --settle, then measures for --duration. The exit status
/// is 0 if at least one session could be opened, 1 if none could, and 2 for invalid flags.
#[derive(Clone, Debug, Parser)]
#[command(name = "presenced-load", version, max_term_width = 100)]
pub(crate) struct Flags {
    /// Address of the server
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR:PORT", help_heading = SERVER)]
    pub(crate) connect: SocketAddr,

    /// Protocol of the server
    #[arg(long, default_value = "websocket", value_name = "PROTOCOL", help_heading = SERVER)]
    pub(crate) protocol: Protocol,

    /// Path of the handshake [default: /ws, or /socket.io/ with engine.io]
    #[arg(long, value_name = "PATH", help_heading = SERVER)]
    pub(crate) path: Option<String>,

    /// File with the server's HS256 secret, which signs the tokens; without it, a server on this machine that
    /// runs without a key is asked for them (/dev/token, not over TLS), and none are sent to others
    #[arg(long, value_name = "FILE", help_heading = SERVER)]
    pub(crate) jwt_secret_file: Option<PathBuf>,

    /// File with a private key (PEM, PKCS#8), which signs the tokens instead: with RS256, ES256 or EdDSA, as the
    /// key is one of RSA, P-256 or Ed25519
    #[arg(long, conflicts_with = "jwt_secret_file", value_name = "FILE", help_heading = SERVER)]
    pub(crate) jwt_key_file: Option<PathBuf>,

    /// File with certificates (PEM), the server's or those of authorities; with it, the server is spoken to over
    /// TLS, and must show one that these are good for
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub(crate) tls_ca: Option<PathBuf>,

    /// Name in the server's certificate [default: its address]
    #[arg(long, requires = "tls_ca", value_name = "NAME", help_heading = TLS)]
    pub(crate) tls_name: Option<String>,

    /// How keys are exchanged
    #[arg(long, default_value = "x25519", requires = "tls_ca", value_name = "GROUP", help_heading = TLS)]
    pub(crate) tls_key_exchange: KeyExchange,

    /// Resume the TLS sessions of earlier connections with the tickets that came with them, each used once. The
    /// first --concurrency handshakes are full ones
    #[arg(long, requires = "tls_ca", help_heading = TLS)]
    pub(crate) tls_resume: bool,

    /// Sessions to open
    #[arg(long, default_value = "1000", value_name = "COUNT", help_heading = SESSIONS)]
    pub(crate) sessions: NonZeroUsize,

    /// Sessions of each user
    #[arg(long, default_value = "1", value_name = "COUNT", help_heading = SESSIONS)]
    pub(crate) sessions_per_user: NonZeroUsize,

    /// Prefix of the user ids, followed by a number
    #[arg(long, default_value = "load-", value_name = "TEXT", help_heading = SESSIONS)]
    pub(crate) user_prefix: String,

    /// Handshakes in progress at the same time
    #[arg(long, default_value = "64", value_name = "COUNT", help_heading = SESSIONS)]
    pub(crate) concurrency: NonZeroUsize,

    /// Open sessions again that the server or the network has ended, and handshakes that have failed, after
    /// a random wait that grows with the failures in a row, as the browser client does
    #[arg(long, help_heading = SESSIONS)]
    pub(crate) reconnect: bool,

    /// Processes that share the sessions, each with its own source addresses
    #[arg(long, default_value = "1", value_name = "COUNT", help_heading = SESSIONS)]
    pub(crate) processes: NonZeroUsize,

    /// Interval at which each session pulls, evenly spread (websocket only); 0s for back to back: the next
    /// pull is sent as soon as the last is answered [default: no pulls]
    #[arg(long, value_parser = duration, value_name = "DURATION", help_heading = LOAD)]
    pub(crate) pull_every: Option<Duration>,

    /// Users in a pull, chosen among those of the same process; presenced accepts at most 500
    #[arg(long, default_value = "50", value_name = "COUNT", help_heading = LOAD)]
    pub(crate) pull_users: NonZeroUsize,

    /// Ask for users with this prefix, followed by a number below --pull-population, instead: those of
    /// another server, say
    #[arg(long, value_name = "TEXT", help_heading = LOAD)]
    pub(crate) pull_user_prefix: Option<String>,

    /// Users with that prefix
    #[arg(long, default_value = "100000", value_name = "COUNT", help_heading = LOAD)]
    pub(crate) pull_population: NonZeroUsize,

    /// How users with that prefix are chosen
    #[arg(long, default_value = "uniform", value_name = "CHOICE", help_heading = LOAD)]
    pub(crate) pull_choice: Choice,

    /// Interval at which each session sends a pong of its own accord, a heartbeat, evenly spread (websocket
    /// only); 0s for none
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "DURATION", help_heading = LOAD)]
    pub(crate) heartbeat_every: Duration,

    /// Sessions to close and reopen per second, evenly spread
    #[arg(long, default_value_t = 0, value_name = "COUNT", help_heading = LOAD)]
    pub(crate) churn: usize,

    /// Share of the sessions, from 0 to 1, that answer no ping and send nothing
    #[arg(long, default_value_t = 0.0, value_parser = share, value_name = "SHARE", help_heading = LOAD)]
    pub(crate) unresponsive: f64,

    /// Sessions that send frames as fast as their sockets accept them (loopback only); if the
    /// server closes one, it reconnects after 100 ms
    #[arg(long, default_value_t = 0, value_name = "COUNT", help_heading = LOAD)]
    pub(crate) flood: usize,

    /// Sessions to open after the measured time besides all others, and to close when they are open: their
    /// handshakes begin at once, and none goes on before the last has begun. Then --settle is waited for again
    #[arg(long, default_value_t = 0, value_name = "COUNT", help_heading = LOAD)]
    pub(crate) burst: usize,

    /// Interval at which a session sends pings of its own to measure latency; 0s for none
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "DURATION", help_heading = LOAD)]
    pub(crate) client_ping: Duration,

    /// Sessions that send such pings
    #[arg(long, default_value_t = 20, value_name = "COUNT", help_heading = LOAD)]
    pub(crate) client_ping_sessions: usize,

    /// Time to wait after the handshakes, so that the server settles before the measurement
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "DURATION", help_heading = REPORT)]
    pub(crate) settle: Duration,

    /// Time to measure for
    #[arg(long, default_value = "20s", value_parser = duration, value_name = "DURATION", help_heading = REPORT)]
    pub(crate) duration: Duration,

    /// Process ids of the server, whose memory and CPU time are measured and added up
    #[arg(long, value_delimiter = ',', value_name = "PID,…", help_heading = REPORT)]
    pub(crate) pid: Vec<u32>,

    /// The --admin address of a presenced whose counters are to be reported
    #[arg(long, value_name = "ADDR:PORT", help_heading = REPORT)]
    pub(crate) metrics: Option<MetricsAddr>,

    /// Print the result as one JSON object
    #[arg(long, help_heading = REPORT)]
    pub(crate) json: bool,

    /// The share of the run that this process has; set by the process that starts it
    #[arg(long, hide = true, value_name = "INDEX/COUNT")]
    pub(crate) shard: Option<Shard>,
}

/// Protocol of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// WebSocket, with its ping and pong frames
    #[value(name = "websocket")]
    WebSocket,
    /// Socket.IO 5 on Engine.IO 4 over WebSocket
    #[value(name = "engine.io")]
    EngineIo,
}

/// Address and path of `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetricsAddr {
    pub(crate) addr: SocketAddr,
    pub(crate) path: String,
}

impl FromStr for MetricsAddr {
    type Err = String;

    /// `ADDR:PORT` or `http://ADDR:PORT/PATH`.
    fn from_str(text: &str) -> Result<MetricsAddr, String> {
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) if !path.is_empty() => (host, format!("/{path}")),
            Some((host, _)) => (host, "/metrics".to_owned()),
            None => (rest, "/metrics".to_owned()),
        };
        let addr = host.to_socket_addrs().ok().and_then(|mut all| all.next());
        let addr = addr.ok_or("expected ADDR:PORT or http://ADDR:PORT/metrics")?;
        is_path(&path)
            .then_some(MetricsAddr { addr, path })
            .ok_or_else(|| "a path has no spaces".to_owned())
    }
}

macro_rules! refuse {
    ($($argument:tt)*) => { return Err(format!($($argument)*)) };
}

impl Flags {
    /// Checks the flags against each other and the machine, and raises the file limit. The error
    /// names the flag, its value and the rule.
    pub(crate) fn check(&self) -> Result<(), String> {
        let path = self.path();
        if !is_path(path) {
            refuse!("--path {path:?}: must begin with / and have no spaces");
        }
        if self.protocol == Protocol::EngineIo && self.pull_every.is_some() {
            refuse!("--pull-every: only with --protocol websocket");
        }
        if self.protocol == Protocol::EngineIo && !self.heartbeat_every.is_zero() {
            refuse!("--heartbeat-every: only with --protocol websocket");
        }
        let sessions = self.sessions.get();
        if self.processes.get() > sessions {
            refuse!(
                "--processes {}: must be at most --sessions {sessions}",
                self.processes
            );
        }
        self.check_pull_users()?;
        if self.flood > sessions {
            refuse!(
                "--flood {}: must be at most --sessions {sessions}",
                self.flood
            );
        }
        if self.flood > 0 && !self.connect.ip().is_loopback() {
            refuse!(
                "--flood {} with --connect {}: flooding is allowed to loopback only",
                self.flood,
                self.connect
            );
        }
        self.check_file_limit()
    }

    /// A pull asks for no user twice.
    fn check_pull_users(&self) -> Result<(), String> {
        let (users, population) = (self.pull_users, self.pull_population);
        if self.pull_user_prefix.is_some() && users > population {
            refuse!("--pull-users {users}: must be at most --pull-population {population}");
        }
        let own = self.sessions.get() / self.processes / self.sessions_per_user;
        if self.pull_every.is_some() && self.pull_user_prefix.is_none() && users.get() > own {
            refuse!("--pull-users {users}: must be at most the {own} users of a process");
        }
        Ok(())
    }

    /// Raises the soft limit to the hard one, as each session needs a descriptor.
    fn check_file_limit(&self) -> Result<(), String> {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        let allowed = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit.maximum,
            Err(_) => limit.current,
        };
        let room = allowed.map_or(u64::MAX, |limit| limit.saturating_sub(OTHER_DESCRIPTORS));
        let sessions = self.sessions.get() as u64 + self.burst as u64;
        let sessions_max = sessions.div_ceil(self.processes.get() as u64);
        if sessions_max > room {
            let burst = match self.burst {
                0 => String::new(),
                burst => format!(" and --burst {burst}"),
            };
            refuse!(
                "--sessions {}{burst}: {sessions_max} in a process, but its limit of open files \
                 (ulimit -n) is {}; give --processes {}",
                self.sessions,
                room.saturating_add(OTHER_DESCRIPTORS),
                sessions.div_ceil(room.max(1))
            );
        }
        Ok(())
    }

    /// Path of the handshake.
    pub(crate) fn path(&self) -> &str {
        let default = match self.protocol {
            Protocol::WebSocket => "/ws",
            Protocol::EngineIo => "/socket.io/",
        };
        self.path.as_deref().unwrap_or(default)
    }

    /// What signs tokens: the secret, without the newline that editors append, or the private key.
    pub(crate) fn signing_key(&self) -> Result<Option<SigningKey>, String> {
        if let Some(file) = &self.jwt_key_file {
            let flag = format!("--jwt-key-file {}", file.display());
            let pem = fs::read_to_string(file).map_err(|error| format!("{flag}: {error}"))?;
            let key = SigningKey::of_pem(&pem);
            return key.map(Some).ok_or_else(|| {
                format!("{flag}: must be a private key in PEM (PKCS#8) of RSA, P-256 or Ed25519")
            });
        }
        let Some(file) = &self.jwt_secret_file else {
            return Ok(None);
        };
        let mut secret = fs::read(file)
            .map_err(|error| format!("--jwt-secret-file {}: {error}", file.display()))?;
        secret.pop_if(|byte| *byte == b'\n');
        Ok(Some(SigningKey::of_secret(&secret)))
    }

    /// How TLS is spoken, if it is.
    pub(crate) fn tls(&self) -> Result<Option<Tls>, String> {
        let Some(ca) = &self.tls_ca else {
            return Ok(None);
        };
        let name = match &self.tls_name {
            None => tls::name_of(self.connect.ip()),
            Some(name) => name
                .clone()
                .try_into()
                .map_err(|_| format!("--tls-name {name}: must be a DNS name or an IP address"))?,
        };
        Tls::new(ca, name, self.tls_key_exchange, self.tls_resume)
            .map(Some)
            .map_err(|error| format!("--tls-ca {}: {error}", ca.display()))
    }

    /// The id of the user of the session with this index among those of all processes.
    pub(crate) fn user(&self, session: usize) -> String {
        format!("{}{}", self.user_prefix, session / self.sessions_per_user)
    }

    /// Whether the server may be a presenced that hands out tokens: it does so on its own machine only.
    pub(crate) fn may_have_dev_mode(&self) -> bool {
        let is_plain_websocket = self.protocol == Protocol::WebSocket && self.tls_ca.is_none();
        is_plain_websocket && self.connect.ip().is_loopback()
    }

    /// The share of the run that this process has.
    pub(crate) fn shard(&self) -> Shard {
        self.shard.unwrap_or(Shard::WHOLE)
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic())
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a number and a unit, such as 25s or 500ms".into())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok();
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "expected a number from 0 to 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str]) -> Result<(), String> {
        let args = [&["presenced-load"], args].concat();
        let flags = Flags::try_parse_from(args).map_err(|error| error.to_string())?;
        flags.check()
    }

    fn refused(args: &[&str], parts: &[&str]) {
        let error = check(args).expect_err("must be refused");
        for part in parts {
            assert!(error.contains(part), "{args:?}: {error:?} names {part:?}");
        }
    }

    #[test]
    fn invalid_flags_are_named() {
        assert_eq!(check(&[]), Ok(()));
        refused(&["--sessions=0"], &["--sessions", "0"]);
        refused(
            &["--unresponsive=1.5"],
            &["--unresponsive", "1.5", "0 to 1"],
        );
        refused(&["--unresponsive=NaN"], &["--unresponsive", "NaN"]);
        refused(&["--duration=20"], &["--duration", "'20'", "25s or 500ms"]);
        refused(&["--path=ws"], &["--path \"ws\""]);
        refused(&["--path=/a b"], &["--path \"/a b\""]);
        refused(
            &["--protocol=engine.io", "--pull-every=1s"],
            &["--pull-every", "--protocol websocket"],
        );
        refused(
            &["--protocol=engine.io", "--heartbeat-every=1s"],
            &["--heartbeat-every", "--protocol websocket"],
        );
        refused(
            &["--pull-every=1s", "--sessions=20", "--pull-users=30"],
            &["--pull-users 30", "20 users"],
        );
        refused(
            &["--pull-every=0s", "--sessions-per-user=100"],
            &["--pull-users 50", "10 users"],
        );
        let others = ["--pull-every=0s", "--sessions=1", "--pull-user-prefix=a"];
        assert_eq!(check(&others), Ok(()));
        refused(
            &["--pull-user-prefix=a", "--pull-population=49"],
            &["--pull-users 50", "--pull-population 49"],
        );
        refused(&["--flood=2000"], &["--flood 2000", "--sessions 1000"]);
        refused(
            &["--flood=1", "--connect=192.0.2.1:80"],
            &["--flood 1", "--connect 192.0.2.1:80", "loopback"],
        );
        refused(
            &["--processes=9", "--sessions=8"],
            &["--processes 9", "--sessions 8"],
        );
        refused(
            &["--sessions=99999999999"],
            &["--sessions 99999999999:", "ulimit -n", "--processes"],
        );
        refused(
            &["--burst=99999999999"],
            &["--sessions 1000 and --burst 99999999999", "ulimit -n"],
        );
        refused(&["--metrics=nowhere"], &["--metrics", "nowhere"]);
    }

    #[test]
    fn the_default_path_depends_on_the_protocol() {
        let path = |args: &[&str]| {
            let args = [&["presenced-load"], args].concat();
            Flags::parse_from(args).path().to_owned()
        };
        assert_eq!(path(&[]), "/ws");
        assert_eq!(path(&["--protocol=engine.io"]), "/socket.io/");
        assert_eq!(path(&["--path=/live"]), "/live");
    }

    #[test]
    fn metrics_have_an_address_or_a_url() {
        let read = |text: &str| text.parse::<MetricsAddr>();
        let usual = read("127.0.0.1:9180").unwrap();
        assert_eq!((usual.addr.port(), &usual.path[..]), (9180, "/metrics"));
        assert_eq!(read("http://127.0.0.1:9180/metrics"), Ok(usual.clone()));
        assert_eq!(read("http://127.0.0.1:9180"), Ok(usual));
        assert_eq!(read("http://127.0.0.1:9180/m").unwrap().path, "/m");
        assert!(read("https://127.0.0.1:9180/metrics").is_err());
        assert!(read("9180").is_err());
    }
}
