//! Flags and environment variables, checked against each other before anything starts.

macro_rules! refuse {
    ($($part:tt)*) => { return Err(SettingsError(format!($($part)*))) };
}

mod capacity;
mod levels;
mod memcached;
mod secret;
pub mod store;
mod times;
mod units;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use thiserror::Error;
use tracing_subscriber::filter::Targets;

use crate::cli::store::StoreFlags;
use crate::gateway::auth::Rules;
use crate::gateway::origin::Origins;
use crate::limits::{
    self, MAX_MESSAGE_BYTES, MAX_OUTBOX_BYTES, SERVER_ID_BYTES_MAX, STORE_MEMORY_BYTES,
    STORE_MEMORY_BYTES_DEFAULT,
};
use crate::log::LogFormat;
use crate::server::{Config, embedded};
use crate::{admin, gateway};
use presenced_presence::Record;
use presenced_presence::limits::SHARDS;
use presenced_session::limits::{FRAMES_PER_SECOND_MAX, MESSAGE_BYTES_MAX, OUTBOX_BYTES_MAX};

use self::levels::levels;
use self::memcached::MemcachedFlags;
use self::times::time;
pub use self::times::{Time, promises};
pub use self::units::Size;
use self::units::size;

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
/// Each flag has an environment variable; durations are written 25s or 500ms, sizes 64KiB or 1MiB (bytes,
/// if there is no unit).
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

    /// Memory of the embedded store; beyond it what was used least recently goes
    #[arg(long, env = "PRESENCED_STORE_MEMORY", default_value_t = Size(STORE_MEMORY_BYTES_DEFAULT), value_name = "SIZE", value_parser = size(STORE_MEMORY_BYTES, "MiB"), help_heading = STORAGE)]
    pub store_memory: Size,

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
    #[arg(long, env = "PRESENCED_TTL", default_value = "60s", value_name = "DURATION", value_parser = time(limits::TTL), help_heading = HEARTBEATS)]
    pub ttl: Time,

    /// Time in which everyone heard from is written once
    #[arg(long, env = "PRESENCED_FLUSH_INTERVAL", default_value = "5s", value_name = "DURATION", value_parser = time(limits::FLUSH_INTERVAL), help_heading = HEARTBEATS)]
    pub flush_interval: Time,

    /// Time between two pings of a session
    #[arg(long, env = "PRESENCED_PING_INTERVAL", default_value = "25s", value_name = "DURATION", value_parser = time(limits::PING_INTERVAL), help_heading = HEARTBEATS)]
    pub ping_interval: Time,

    /// Time for the answer to a ping, after which the session ends
    #[arg(long, env = "PRESENCED_PING_TIMEOUT", default_value = "20s", value_name = "DURATION", value_parser = time(limits::PING_TIMEOUT), help_heading = HEARTBEATS)]
    pub ping_timeout: Time,

    /// How long a worker lets ready sessions gather: less CPU for as much more latency; 0s to turn off
    #[arg(long, env = "PRESENCED_COALESCE", default_value = "5ms", value_name = "DURATION", value_parser = time(limits::COALESCE), help_heading = HEARTBEATS)]
    pub coalesce: Time,

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
    #[arg(long, env = "PRESENCED_JWT_MAX_LIFETIME", default_value = "24h", value_name = "DURATION", value_parser = time(limits::TOKEN_LIFETIME), help_heading = TOKENS)]
    pub jwt_max_lifetime: Time,

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
    #[arg(long, env = "PRESENCED_MAX_MESSAGE", default_value_t = Size(MESSAGE_BYTES_MAX as u64), value_name = "SIZE", value_parser = size(MAX_MESSAGE_BYTES, "KiB"), help_heading = LIMITS)]
    pub max_message: Size,

    /// Messages a session may send in a second on average, pings and pongs included, ten seconds'
    /// worth at once; more end it with 1008
    #[arg(long, env = "PRESENCED_MAX_MESSAGES_PER_SECOND", default_value_t = FRAMES_PER_SECOND_MAX, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = LIMITS)]
    pub max_messages_per_second: u32,

    /// Most that is kept for a client that does not read; more ends the session
    #[arg(long, env = "PRESENCED_MAX_OUTBOX", default_value_t = Size(OUTBOX_BYTES_MAX as u64), value_name = "SIZE", value_parser = size(MAX_OUTBOX_BYTES, "KiB"), help_heading = LIMITS)]
    pub max_outbox: Size,

    /// Handshakes and HTTP requests under way at once; further ones wait [default: 512 a worker]
    #[arg(long, env = "PRESENCED_MAX_HANDSHAKES", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..), help_heading = LIMITS)]
    pub max_handshakes: Option<u32>,

    /// Time over which sessions are closed when the server stops
    #[arg(long, env = "PRESENCED_DRAIN", default_value = "10s", value_name = "DURATION", value_parser = time(limits::DRAIN), help_heading = LIMITS)]
    pub drain: Time,

    /// Form of the log
    #[arg(long, global = true, env = "PRESENCED_LOG_FORMAT", default_value = "text", value_name = "FORMAT", help_heading = LOGS)]
    pub log_format: LogFormat,

    /// Least severe level that is logged: off, error, warn, info, debug or trace; or TARGET=LEVEL for
    /// one part, such as presenced::edge=debug; or several, separated by commas. The error that ends
    /// the process is always logged
    #[arg(long, global = true, env = "PRESENCED_LOG_LEVEL", default_value = "info", value_name = "LEVEL", value_parser = levels, help_heading = LOGS)]
    pub log_level: Targets,
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

/// Settings that can't work, naming the flags, their values and the rule.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl Flags {
    /// Flags of this process and its environment.
    ///
    /// # Errors
    ///
    /// Wrong ones, and those that ask for a text only, such as `--help`.
    pub fn from_process() -> Result<Flags, clap::Error> {
        let mut flags = Flags::try_parse()?;
        flags.jwt_secret = std::env::var_os("PRESENCED_JWT_SECRET");
        Ok(flags)
    }

    /// Checks the flags against each other and the machine.
    pub fn check(self) -> Result<Config, SettingsError> {
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
        let memcached = self.memcached.clone().check(&self.ttl)?;
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
        let sessions_max = self.max_sessions(workers, memcached.nodes.nodes.len())?;
        let connections_max = self.max_http_of_worker(workers);
        Ok(Config {
            workers,
            sessions_max,
            drain: self.drain.duration,
            session: self.session(),
            presence: presenced_presence::Config {
                record,
                ttl_s: self.ttl.duration.as_secs() as u32,
                flush_interval: self.flush_interval.duration,
                sessions_per_user_max: self.max_sessions_per_user.into(),
                refill_rate: self.memcached.refill_rate,
            },
            memcached,
            store: embedded::Config {
                listen: self.store_listen,
                memory_bytes: self.store_memory.in_memory(),
            },
            gateway: gateway::Config {
                listen: self.listen,
                allow_query_token: self.allow_query_token || secret.is_none(),
                secret,
                rules: Rules {
                    audience: self.jwt_audience,
                    issuer: self.jwt_issuer,
                    user_claim: self.user_claim,
                    lifetime_max: self.jwt_max_lifetime.duration,
                },
                origins,
                connections_max,
            },
            admin: admin::Config { listen: self.admin },
        })
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

    fn session(&self) -> presenced_session::Config {
        presenced_session::Config {
            ping_interval: self.ping_interval.duration,
            ping_timeout: self.ping_timeout.duration,
            coalesce: self.coalesce.duration,
            message_bytes_max: self.max_message.in_memory(),
            outbox_bytes_max: self.max_outbox.in_memory(),
            frames_per_second_max: self.max_messages_per_second,
        }
    }
}

/// One thread a core. A worker flushes a share of the shards: there can't be more workers than shards.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(SHARDS))
}

fn boot() -> Result<u32, SettingsError> {
    getrandom::u32().map_err(|error| SettingsError(format!("no random numbers: {error}")))
}

#[cfg(test)]
mod tests;
