//! Flags and environment variables, checked against each other before anything starts.

macro_rules! refuse {
    ($($part:tt)*) => { return Err(SettingsError(format!($($part)*))) };
}

mod memcached;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use crate::edge::auth::Rules;
use crate::edge::origin::Origins;
use crate::limits::{
    ADMIN_CONNECTIONS_MAX, DESCRIPTORS_PER_THREAD, FRAMES_PER_SECOND_MAX, HTTP_CONNECTIONS_MAX,
    MEMCACHED_BACKOFF_MAX, MESSAGE_BYTES_CEILING, MESSAGE_BYTES_MAX, NODES_TO_COME,
    OUTBOX_BYTES_MAX, PING_INTERVAL_MAX, SECRET_BYTES_MAX, SECRET_BYTES_MIN, SERVER_ID_BYTES_MAX,
    SHARDS, STORE_CONNECTIONS_MAX,
};
use crate::presence::Record;
use crate::session::worker::SessionLimits;
use crate::store_command::StoreFlags;

use self::memcached::MemcachedFlags;
pub use self::memcached::MemcachedSettings;

const NETWORK: &str = "Network";
const STORAGE: &str = "memcached";
const TOKENS: &str = "Tokens and origins";
const HEARTBEATS: &str = "Heartbeats";
const LIMITS: &str = "Limits and shutdown";
const LOGS: &str = "Logs";

/// Knows who is online now: people hold a WebSocket open, their heartbeats keep
/// `user:{userId}:online` alive in memcached, and whoever wants to know pulls.
///
/// Without flags it serves this machine only, with an embedded store, a random key and a demo page.
/// Each flag has an environment variable; durations are written 25s or 500ms.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "presenced",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
pub struct Flags {
    /// Something else than the edge
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Address for clients: WebSocket at /ws, pulls at /v1/presence
    #[arg(long, env = "PRESENCED_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR:PORT", help_heading = NETWORK)]
    pub listen: SocketAddr,

    /// Address for operators: /healthz, /readyz, /metrics (no authentication: keep it private)
    #[arg(long, env = "PRESENCED_ADMIN", default_value = "127.0.0.1:9090", value_name = "ADDR:PORT", help_heading = NETWORK)]
    pub admin: SocketAddr,

    /// Threads that serve sessions, at most 64 [default: number of cores]
    #[arg(long, env = "PRESENCED_WORKERS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=SHARDS as i64), help_heading = NETWORK)]
    pub workers: Option<u16>,

    /// Where memcached is.
    #[command(flatten)]
    pub memcached: MemcachedFlags,

    /// Address of the embedded store, which speaks memcached's text protocol without authentication
    #[arg(long, env = "PRESENCED_STORE_LISTEN", default_value = "127.0.0.1:11311", value_name = "ADDR:PORT", help_heading = STORAGE)]
    pub store_listen: SocketAddr,

    /// Memory of the embedded store in MiB; beyond it what was used least recently goes
    #[arg(long, env = "PRESENCED_STORE_MEMORY", default_value_t = 64, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1_048_576), help_heading = STORAGE)]
    pub store_memory: u32,

    /// Name of this server in every value [default: host name]
    #[arg(long, env = "PRESENCED_SERVER_ID", value_name = "NAME", help_heading = STORAGE)]
    pub server_id: Option<String>,

    /// Key of a user's entry
    #[arg(long, env = "PRESENCED_KEY_TEMPLATE", default_value = "user:{userId}:online", value_name = "TEMPLATE", help_heading = STORAGE)]
    pub key_template: String,

    /// memcached flags of a user's entry; the npm client `memcached` reads JSON at 2
    #[arg(long, env = "PRESENCED_VALUE_FLAGS", default_value_t = 0, value_name = "NUMBER", help_heading = STORAGE)]
    pub value_flags: u32,

    /// Lifetime of a user's entry in whole seconds
    #[arg(long, env = "PRESENCED_TTL", default_value = "60s", value_name = "DURATION", value_parser = duration, help_heading = HEARTBEATS)]
    pub ttl: Duration,

    /// Time in which everyone heard from is written once
    #[arg(long, env = "PRESENCED_FLUSH_INTERVAL", default_value = "5s", value_name = "DURATION", value_parser = duration, help_heading = HEARTBEATS)]
    pub flush_interval: Duration,

    /// Time between two pings of a session
    #[arg(long, env = "PRESENCED_PING_INTERVAL", default_value = "25s", value_name = "DURATION", value_parser = duration, help_heading = HEARTBEATS)]
    pub ping_interval: Duration,

    /// Time for the answer to a ping, after which the session ends
    #[arg(long, env = "PRESENCED_PING_TIMEOUT", default_value = "20s", value_name = "DURATION", value_parser = duration, help_heading = HEARTBEATS)]
    pub ping_timeout: Duration,

    /// How long a worker lets ready sessions gather: less CPU for as much more latency; 0s to turn off
    #[arg(long, env = "PRESENCED_COALESCE", default_value = "5ms", value_name = "DURATION", value_parser = duration, help_heading = HEARTBEATS)]
    pub coalesce: Duration,

    /// File with the HS256 secret of the tokens, at least 32 bytes
    #[arg(long, env = "PRESENCED_JWT_SECRET_FILE", value_name = "FILE", help_heading = TOKENS)]
    pub jwt_secret_file: Option<PathBuf>,

    /// The secret itself, from the environment only: a flag would show in the list of processes
    #[arg(skip)]
    pub jwt_secret: Option<OsString>,

    /// Audience (aud) that tokens must have
    #[arg(long, env = "PRESENCED_JWT_AUDIENCE", value_name = "TEXT", help_heading = TOKENS)]
    pub jwt_audience: Option<String>,

    /// Issuer (iss) that tokens must have
    #[arg(long, env = "PRESENCED_JWT_ISSUER", value_name = "TEXT", help_heading = TOKENS)]
    pub jwt_issuer: Option<String>,

    /// How far ahead a token's expiry (exp) may be
    #[arg(long, env = "PRESENCED_JWT_MAX_LIFETIME", default_value = "24h", value_name = "DURATION", value_parser = duration, help_heading = TOKENS)]
    pub jwt_max_lifetime: Duration,

    /// Claim with the user's id, a string or an integer
    #[arg(long, env = "PRESENCED_USER_CLAIM", default_value = "sub", value_name = "NAME", help_heading = TOKENS)]
    pub user_claim: String,

    /// Accept tokens as ?token=, where logs of proxies may keep them (always on without a key)
    #[arg(long, env = "PRESENCED_ALLOW_QUERY_TOKEN", help_heading = TOKENS)]
    pub allow_query_token: bool,

    /// Origin of web pages that may connect, exactly; may be repeated [default: the same origin]
    #[arg(long, env = "PRESENCED_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', help_heading = TOKENS)]
    pub allow_origin: Vec<String>,

    /// Sessions on this server [default: what the file limit allows]
    #[arg(long, env = "PRESENCED_MAX_SESSIONS", value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..), help_heading = LIMITS)]
    pub max_sessions: Option<u64>,

    /// Sessions of one user on this server; one more ends the oldest
    #[arg(long, env = "PRESENCED_MAX_SESSIONS_PER_USER", default_value_t = 32, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..), help_heading = LIMITS)]
    pub max_sessions_per_user: u16,

    /// Longest message, and longest frame, from a client; longer ones end the session with 1009
    #[arg(long, env = "PRESENCED_MAX_MESSAGE", default_value_t = ByteSize(MESSAGE_BYTES_MAX as u64), value_name = "BYTES", help_heading = LIMITS)]
    pub max_message: ByteSize,

    /// Messages a session may send in a second on average, pings and pongs included, ten seconds'
    /// worth at once; more end it with 1008
    #[arg(long, env = "PRESENCED_MAX_MESSAGES_PER_SECOND", default_value_t = FRAMES_PER_SECOND_MAX, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = LIMITS)]
    pub max_messages_per_second: u32,

    /// Most that is kept for a client that does not read; more ends the session
    #[arg(long, env = "PRESENCED_MAX_OUTBOX", default_value_t = ByteSize(OUTBOX_BYTES_MAX as u64), value_name = "BYTES", help_heading = LIMITS)]
    pub max_outbox: ByteSize,

    /// Handshakes and HTTP requests under way at once; further ones wait [default: 512 a worker]
    #[arg(long, env = "PRESENCED_MAX_HANDSHAKES", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..), help_heading = LIMITS)]
    pub max_handshakes: Option<u32>,

    /// Time over which sessions are closed when the server stops
    #[arg(long, env = "PRESENCED_DRAIN", default_value = "10s", value_name = "DURATION", value_parser = duration, help_heading = LIMITS)]
    pub drain: Duration,

    /// Form of the log
    #[arg(long, global = true, env = "PRESENCED_LOG_FORMAT", default_value = "text", value_name = "FORMAT", help_heading = LOGS)]
    pub log_format: LogFormat,

    /// error, warn, info, debug or trace, or tracing directives such as presenced::edge=debug
    #[arg(long, global = true, env = "PRESENCED_LOG_LEVEL", default_value = "info", value_name = "LEVEL", help_heading = LOGS)]
    pub log_level: String,
}

/// What else the binary does.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Runs the store alone: a memcached of the text protocol, meta commands included
    ///
    /// Any memcached client can use it. The protocol has no authentication: what is not on this machine
    /// must be a network that you trust.
    Store(StoreFlags),
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Settings that can't work, naming the flags, their values and the rule.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// What the server runs with: checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The edge's address.
    pub listen: SocketAddr,
    /// The admin listener's address.
    pub admin: SocketAddr,
    /// Threads that serve sessions.
    pub workers: usize,
    /// The memcached nodes, and how they are spoken to.
    pub memcached: MemcachedSettings,
    /// The embedded store's address.
    pub store_listen: SocketAddr,
    /// The embedded store's memory in bytes.
    pub store_memory_bytes: usize,
    /// Keys and values.
    pub record: Record,
    /// Lifetime of an entry, seconds.
    pub ttl_s: u32,
    /// Time in which everyone heard from is written once.
    pub flush_interval: Duration,
    /// Time between two pings of a session.
    pub ping_interval: Duration,
    /// Time for the answer to a ping.
    pub ping_timeout: Duration,
    /// How long ready sessions gather.
    pub coalesce: Duration,
    /// The tokens' HMAC secret; none for a random one, and the demo page.
    pub secret: Option<Secret>,
    /// What tokens must be.
    pub rules: Rules,
    /// Whether `?token=` is looked at.
    pub allow_query_token: bool,
    /// Web pages that may connect.
    pub origins: Origins,
    /// Sessions on this server.
    pub max_sessions: usize,
    /// Sessions of one user on this server.
    pub max_sessions_per_user: usize,
    /// What each session may take.
    pub session_limits: SessionLimits,
    /// HTTP connections, handshakes among them, that each worker has at once.
    pub max_http_of_worker: usize,
    /// Time over which sessions are closed at the end.
    pub drain: Duration,
}

/// An HMAC secret; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Checks that `bytes` can be a secret.
    pub fn new(bytes: &[u8]) -> Result<Secret, &'static str> {
        if bytes.len() < SECRET_BYTES_MIN {
            return Err("has less than 32 bytes (RFC 7518 §3.2)");
        }
        if bytes.len() > SECRET_BYTES_MAX {
            return Err("has more than 4096 bytes");
        }
        // A public key used as a secret is no secret: anyone could sign.
        if bytes.starts_with(b"-----BEGIN") {
            return Err("is a PEM key, not an HS256 secret");
        }
        Ok(Secret(bytes.to_vec()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a number and a unit, such as 25s or 500ms".into())
}

impl Flags {
    /// Flags of this process and its environment. Wrong ones end the process with status 2.
    pub fn from_process() -> Flags {
        let mut flags = Flags::parse();
        flags.jwt_secret = std::env::var_os("PRESENCED_JWT_SECRET");
        flags
    }

    /// Checks the flags against each other and the machine.
    pub fn check(self) -> Result<Settings, SettingsError> {
        self.check_times()?;
        let secret = self.secret()?;
        if secret.is_none() && !self.listen.ip().is_loopback() {
            refuse!(
                "--listen {} without a key: anyone could be anyone; \
                 give --jwt-secret-file (or PRESENCED_JWT_SECRET), or listen on 127.0.0.1",
                self.listen
            );
        }
        if !self.store_listen.ip().is_loopback() && self.memcached.is_empty() {
            refuse!(
                "--store-listen {}: the embedded store has no authentication and serves this \
                 machine only; listen on 127.0.0.1, or give --memcached for a shared one",
                self.store_listen
            );
        }
        if !self.admin.ip().is_loopback() {
            tracing::warn!(admin = %self.admin, "the admin address has no authentication: keep it private");
        }
        let memcached = self.memcached.clone().check(self.ttl)?;
        let server_id = self.server_id()?;
        let record = Record::new(&self.key_template, &server_id, self.value_flags, boot()?);
        let record = record.map_err(|error| {
            SettingsError(format!("--key-template {:?}: {error}", self.key_template))
        })?;
        let origins = Origins::new(&self.allow_origin).map_err(|error| {
            SettingsError(format!(
                "--allow-origin {}: {error}",
                self.allow_origin.join(",")
            ))
        })?;
        if self.user_claim.is_empty() {
            refuse!("--user-claim can't be empty");
        }
        let workers = self.workers.map_or_else(cores, usize::from);
        Ok(Settings {
            listen: self.listen,
            admin: self.admin,
            workers,
            store_listen: self.store_listen,
            store_memory_bytes: self.store_memory as usize * 1024 * 1024,
            record,
            ttl_s: self.ttl.as_secs() as u32,
            flush_interval: self.flush_interval,
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            coalesce: self.coalesce,
            allow_query_token: self.allow_query_token || secret.is_none(),
            secret,
            origins,
            max_sessions: self.max_sessions(workers, memcached.listing.nodes.len())?,
            max_sessions_per_user: self.max_sessions_per_user.into(),
            session_limits: self.session_limits()?,
            max_http_of_worker: self.max_http_of_worker(workers),
            drain: self.drain,
            memcached,
            rules: Rules {
                audience: self.jwt_audience,
                issuer: self.jwt_issuer,
                user_claim: self.user_claim,
                lifetime_max: self.jwt_max_lifetime,
            },
        })
    }

    fn check_times(&self) -> Result<(), SettingsError> {
        let show = humantime::format_duration;
        let s = Duration::from_secs;
        let bounds = [
            // memcached takes a longer TTL for a date (protocol.txt, "Expiration times").
            ("--ttl", self.ttl, s(1), s(30 * 86_400)),
            (
                "--flush-interval",
                self.flush_interval,
                Duration::from_millis(100),
                s(3600),
            ),
            (
                "--ping-interval",
                self.ping_interval,
                Duration::from_millis(200),
                PING_INTERVAL_MAX,
            ),
            (
                "--ping-timeout",
                self.ping_timeout,
                Duration::from_millis(100),
                PING_INTERVAL_MAX,
            ),
            (
                "--coalesce",
                self.coalesce,
                Duration::ZERO,
                Duration::from_millis(100),
            ),
            (
                "--jwt-max-lifetime",
                self.jwt_max_lifetime,
                s(1),
                s(10 * 365 * 86_400),
            ),
            ("--drain", self.drain, Duration::ZERO, s(3600)),
        ];
        for (flag, value, least, most) in bounds {
            check_range(flag, value, least, most)?;
        }
        if self.ttl.subsec_nanos() != 0 {
            refuse!("--ttl {}: memcached counts whole seconds", show(self.ttl));
        }
        // While it drains everything is written with a TTL that is longer by the drain time.
        if self.ttl + self.drain > s(30 * 86_400) {
            refuse!(
                "--ttl {} and --drain {}: must be at most 30days together, \
                 as memcached takes a longer TTL for a date",
                show(self.ttl),
                show(self.drain)
            );
        }
        if 2 * self.coalesce > self.ping_timeout {
            refuse!(
                "--coalesce {} must be at most half of --ping-timeout {}: \
                 pongs wait that long before they are read",
                show(self.coalesce),
                show(self.ping_timeout)
            );
        }
        if self.ping_timeout >= self.ping_interval {
            refuse!(
                "--ping-timeout {} must be less than --ping-interval {}: \
                 a ping is answered or missed before the next",
                show(self.ping_timeout),
                show(self.ping_interval)
            );
        }
        let needed = self.ping_interval + self.ping_timeout + 2 * self.flush_interval + s(1);
        if self.ttl < needed {
            refuse!(
                "--ttl {} must be at least --ping-interval {} + --ping-timeout {} + \
                 2 × --flush-interval {} + 1s = {}: a user who answers each ping must stay online \
                 through one failed flush, and memcached is exact to a second",
                show(self.ttl),
                show(self.ping_interval),
                show(self.ping_timeout),
                show(self.flush_interval),
                show(needed)
            );
        }
        Ok(())
    }

    fn secret(&self) -> Result<Option<Secret>, SettingsError> {
        match (&self.jwt_secret_file, &self.jwt_secret) {
            (None, None) => Ok(None),
            (Some(file), None) => {
                let bytes = fs::read(file).map_err(|error| {
                    SettingsError(format!("--jwt-secret-file {}: {error}", file.display()))
                })?;
                warn_if_open(file);
                let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
                match Secret::new(secret) {
                    Ok(secret) => Ok(Some(secret)),
                    Err(why) => refuse!("--jwt-secret-file {}: {why}", file.display()),
                }
            }
            (None, Some(secret)) => match Secret::new(secret.as_bytes()) {
                Ok(secret) => Ok(Some(secret)),
                Err(why) => refuse!("PRESENCED_JWT_SECRET {why}"),
            },
            (Some(_), Some(_)) => {
                refuse!("--jwt-secret-file and PRESENCED_JWT_SECRET: give one of them")
            }
        }
    }

    fn server_id(&self) -> Result<String, SettingsError> {
        let id = self.server_id.clone();
        let id = id.unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned());
        if id.is_empty() || id.len() > SERVER_ID_BYTES_MAX || id.chars().any(char::is_control) {
            refuse!(
                "--server-id {id:?}: must have 1 to {SERVER_ID_BYTES_MAX} bytes and no control \
                 character"
            );
        }
        Ok(id)
    }

    fn session_limits(&self) -> Result<SessionLimits, SettingsError> {
        let ceiling = ByteSize(MESSAGE_BYTES_CEILING as u64);
        for (flag, value, least) in [
            ("--max-message", self.max_message, ByteSize::kib(1)),
            ("--max-outbox", self.max_outbox, ByteSize::kib(16)),
        ] {
            if value < least || value > ceiling {
                refuse!("{flag} {value}: must be from {least} to {ceiling}");
            }
        }
        // Both are at most the ceiling.
        Ok(SessionLimits {
            message_bytes_max: self.max_message.as_u64() as usize,
            frames_per_second_max: self.max_messages_per_second,
            outbox_bytes_max: self.max_outbox.as_u64() as usize,
        })
    }

    /// Each worker's share, at least one.
    fn max_http_of_worker(&self, workers: usize) -> usize {
        self.max_handshakes
            .map_or(HTTP_CONNECTIONS_MAX, |all| (all as usize).div_ceil(workers))
    }

    /// A session needs a descriptor: raises the soft limit to the hard one and stays below it.
    fn max_sessions(&self, workers: usize, nodes: usize) -> Result<usize, SettingsError> {
        let limit = getrlimit(Resource::Nofile);
        let hard = limit.maximum.unwrap_or(u64::MAX);
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        let allowed = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => hard,
            Err(_) => limit.current.unwrap_or(hard),
        };
        // With a low limit not all of it: sessions come first, and accepting rests when none is left.
        let reserved = self.other_descriptors(workers, nodes).min(allowed / 2);
        let room = (allowed - reserved).max(1);
        let wanted = self.max_sessions.unwrap_or(room);
        if wanted > room {
            refuse!(
                "--max-sessions {wanted}: the limit of open files (ulimit -n) is {allowed}, and \
                 {reserved} of them are kept for other things; at most {room}"
            );
        }
        Ok(usize::try_from(wanted).unwrap_or(usize::MAX))
    }

    /// Descriptors for everything that is not a session.
    fn other_descriptors(&self, workers: usize, nodes: usize) -> u64 {
        // Some more may come, where the list can change.
        let nodes = nodes + NODES_TO_COME;
        let of_worker = self.max_http_of_worker(workers) + 2 * nodes + DESCRIPTORS_PER_THREAD;
        let of_store = match nodes == NODES_TO_COME {
            true => STORE_CONNECTIONS_MAX as usize,
            false => 0,
        };
        let of_process = ADMIN_CONNECTIONS_MAX + nodes + of_store + DESCRIPTORS_PER_THREAD;
        (workers * of_worker + of_process) as u64
    }
}

fn check_range(
    flag: &str,
    value: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), SettingsError> {
    let show = humantime::format_duration;
    if value < least || value > most {
        refuse!(
            "{flag} {}: must be from {} to {}",
            show(value),
            show(least),
            show(most)
        );
    }
    Ok(())
}

/// A worker flushes a share of the shards: there can't be more workers than shards.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(SHARDS))
}

fn boot() -> Result<u32, SettingsError> {
    getrandom::u32().map_err(|error| SettingsError(format!("no random numbers: {error}")))
}

fn warn_if_open(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(file).map(|meta| meta.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o007 != 0) {
        tracing::warn!(file = %file.display(), "every user of this machine can read the secret");
    }
}

impl Settings {
    /// What the settings promise, for people: when users are seen online and offline, and how
    /// much the TTL has to spare.
    pub fn promises(&self) -> String {
        let ttl = Duration::from_secs(self.ttl_s.into());
        let show = humantime::format_duration;
        // The last heartbeat may have been written as long ago as one round of pings.
        let round = self.ping_interval + self.ping_timeout;
        let soonest = ttl - round - Duration::from_secs(1);
        let latest = ttl + self.flush_interval;
        let spare = ttl - round - self.flush_interval;
        format!(
            "online   at once on connect; if memcached fails just then, within {} of its return\n\
             offline  between {} and {} after leaving\n\
             headroom {} of the TTL of {} when a user is slowest to answer; {} when all answer at once",
            show(self.flush_interval + MEMCACHED_BACKOFF_MAX),
            show(soonest),
            show(latest),
            show(spare),
            show(ttl),
            show(spare + self.ping_timeout),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str]) -> Result<Settings, String> {
        let args = [&["presenced"], args].concat();
        let flags = Flags::try_parse_from(args).map_err(|error| error.to_string())?;
        flags.check().map_err(|error| error.to_string())
    }

    fn refused(args: &[&str], parts: &[&str]) {
        let error = check(args).expect_err("must be refused");
        for part in parts {
            assert!(
                error.contains(part),
                "{args:?}: {error:?} should name {part:?}"
            );
        }
    }

    #[test]
    fn the_defaults_work_and_promise_what_they_keep() {
        let settings = check(&[]).unwrap();
        assert_eq!(settings.ttl_s, 60);
        assert!(settings.allow_query_token && settings.secret.is_none());
        let promises = settings.promises();
        for part in ["between 14s and 1m 5s", "headroom 10s of the TTL of 1m"] {
            assert!(promises.contains(part), "{promises}");
        }
    }

    #[test]
    fn times_that_can_not_work_name_the_values_and_the_rule() {
        refused(
            &["--ttl", "55s"],
            &["--ttl 55s", "--ping-interval 25s", "20s", "5s", "56s"],
        );
        assert!(check(&["--ttl", "56s"]).is_ok());
        refused(
            &["--ping-timeout", "25s"],
            &["--ping-timeout 25s", "--ping-interval 25s"],
        );
        refused(&["--ttl", "60500ms"], &["--ttl 1m 500ms", "whole seconds"]);
        refused(&["--ttl", "31days"], &["--ttl 1month", "30days"]);
        refused(
            &["--flush-interval", "0s"],
            &["--flush-interval 0s", "100ms"],
        );
        refused(
            &["--ping-interval", "25"],
            &["--ping-interval", "'25'", "25s or 500ms"],
        );
        refused(&["--coalesce", "1s"], &["--coalesce 1s"]);
        refused(
            &["--coalesce", "100ms", "--ping-timeout", "150ms"],
            &["--coalesce 100ms", "half", "--ping-timeout 150ms"],
        );
        assert!(check(&["--coalesce", "75ms", "--ping-timeout", "150ms"]).is_ok());
    }

    #[test]
    fn no_ttl_is_a_date_to_memcached_even_while_it_drains() {
        refused(
            &["--ttl", "30days"],
            &["--ttl 30days", "--drain 10s", "30days together"],
        );
        refused(
            &["--ttl", "2591999s", "--drain", "2s"],
            &["--ttl 29days", "--drain 2s"],
        );
        assert!(check(&["--ttl", "30days", "--drain", "0s"]).is_ok());
        assert!(check(&["--ttl", "2591999s", "--drain", "1s"]).is_ok());
    }

    #[test]
    fn without_a_key_only_this_machine_is_served() {
        refused(
            &["--listen", "0.0.0.0:8080"],
            &["--listen 0.0.0.0:8080", "--jwt-secret-file"],
        );
        refused(
            &["--store-listen", "0.0.0.0:1"],
            &["--store-listen 0.0.0.0:1", "--memcached"],
        );
        assert!(check(&["--listen", "[::1]:8080"]).is_ok());
    }

    #[test]
    fn secrets() {
        let with = |secret: Option<&str>| {
            let mut flags = Flags::parse_from(["presenced", "--listen", "0.0.0.0:1"]);
            flags.jwt_secret = secret.map(Into::into);
            flags.check().map_err(|error| error.to_string())
        };
        let good = "0123456789abcdef0123456789abcdef";
        let settings = with(Some(good)).unwrap();
        assert_eq!(
            settings.secret.as_ref().unwrap().as_bytes(),
            good.as_bytes()
        );
        assert!(!settings.allow_query_token);
        assert!(
            !format!("{settings:?}").contains(good),
            "secrets are never shown"
        );
        assert!(with(Some("short")).unwrap_err().contains("32 bytes"));
        let pem = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkq\n-----END PUBLIC KEY-----";
        assert!(with(Some(pem)).unwrap_err().contains("PEM"));
        refused(
            &["--jwt-secret-file", "/no/such/file"],
            &["--jwt-secret-file /no/such/file"],
        );
    }

    #[test]
    fn a_secret_is_bytes_and_need_not_be_text() {
        use std::os::unix::ffi::OsStringExt;
        let with = |secret: &[u8]| {
            let mut flags = Flags::parse_from(["presenced", "--listen", "0.0.0.0:1"]);
            flags.jwt_secret = Some(OsString::from_vec(secret.to_vec()));
            flags.check().map_err(|error| error.to_string())
        };
        let secret: Vec<u8> = (0x80..=0xff).collect();
        let settings = with(&secret).unwrap();
        assert_eq!(settings.secret.unwrap().as_bytes(), secret);
        // Nor is one that is no good the same as none.
        assert!(with(b"\xff").unwrap_err().contains("32 bytes"));
        assert!(with(b"").unwrap_err().contains("32 bytes"));
    }

    #[test]
    fn everything_else_that_can_not_work() {
        refused(
            &["--key-template", "user"],
            &["--key-template \"user\"", "{userId}"],
        );
        refused(&["--memcached", "a:1,a:1"], &["a:1 is there twice"]);
        refused(
            &["--memcached", "nowhere"],
            &["--memcached", "'nowhere'", "HOST:PORT"],
        );
        refused(
            &["--allow-origin", "*"],
            &["--allow-origin *", "scheme://host"],
        );
        refused(&["--server-id", ""], &["--server-id"]);
        refused(
            &["--max-sessions", "99999999999"],
            &["--max-sessions 99999999999", "ulimit -n"],
        );
        refused(&["--workers", "0"], &["--workers", "'0'"]);
        // Each needs a shard.
        refused(&["--workers", "65"], &["--workers", "'65'", "64"]);
        refused(&["--no-such-flag"], &["--no-such-flag"]);
        let two = check(&["--memcached", "a:1*2,unix:/run/m.sock"]).unwrap();
        assert_eq!(two.memcached.listing.nodes.len(), 2);
        refused(
            &["--memcached", "a:1*2,b:1", "--ring", "modulo"],
            &["a:1*2", "modulo"],
        );
        let eject = ["--ring", "modulo", "--on-node-failure", "eject"];
        refused(&eject, &["eject", "--ring modulo"]);
        let both = ["--memcached", "a:1", "--memcached-file", "/no/file"];
        refused(&both, &["give one of them"]);
        refused(&both[2..], &["--memcached-file /no/file"]);
        refused(
            &["--memcached-timeout", "60s"],
            &["--memcached-timeout 1m", "--ttl"],
        );
        refused(&["--resolve-interval", "1ms"], &["--resolve-interval 1ms"]);
        for flag in ["--memcached-tls-ca", "--memcached-auth-file"] {
            refused(&[flag, "/no/file"], &[flag, "/no/file"]);
            // Not what it should have in it.
            refused(&[flag, "/etc/hostname"], &[flag, "/etc/hostname"]);
        }
    }

    #[test]
    fn every_flag_has_its_variable() {
        use clap::CommandFactory;
        for arg in Flags::command().get_arguments() {
            let Some(long) = arg
                .get_long()
                .filter(|long| !["help", "version"].contains(long))
            else {
                continue;
            };
            let expected = format!("PRESENCED_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(
                arg.get_env().and_then(|name| name.to_str()),
                Some(expected.as_str())
            );
        }
    }
}
