//! The flags, one struct for each group of the help.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;
use presenced_presence::limits::SHARDS;
use presenced_session::limits::{FRAMES_PER_SECOND_MAX, MESSAGE_BYTES_MAX, OUTBOX_BYTES_MAX};
use tracing_subscriber::filter::Targets;

use super::levels::levels;
use super::listen::address;
use super::memcached::MemcachedFlags;
use super::times::{Time, time};
use super::units::{Size, size};
use crate::gateway::forwarded::ForwardedHeader;
use crate::gateway::proxies;
use crate::gateway::refused_session::RefuseWith;
use crate::gateway::socketio::Transports;
use crate::gateway::user_names::LogUsers;
use crate::limits::{
    self, HEAD_BYTES_MAX, MAX_HEAD_BYTES, MAX_MESSAGE_BYTES, MAX_OUTBOX_BYTES, MAX_TOKEN_BYTES,
    STORE_MEMORY_BYTES, STORE_MEMORY_BYTES_DEFAULT,
};
use crate::log::LogFormat;

/// Addresses and threads.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkFlags {
    /// Address for clients: WebSocket at /ws, pulls at /v1/presence; :8080 listens on every
    /// address; may be repeated
    #[arg(long, env = "PRESENCED_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR:PORT", value_delimiter = ',', value_parser = address)]
    pub listen: Vec<SocketAddr>,

    /// Address for operators: /healthz, /readyz and /metrics, which need no token (keep it private),
    /// and /v1/revocations, which signs users out
    #[arg(
        long,
        env = "PRESENCED_ADMIN",
        value_parser = address,
        default_value = "127.0.0.1:9180",
        value_name = "ADDR:PORT"
    )]
    pub admin: SocketAddr,

    /// File with the token that operators must show for everything else on the admin address
    /// (Authorization: Bearer), at least 32 bytes; without it, that is for this machine only
    #[arg(long, env = "PRESENCED_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Answer /healthz and /readyz on the addresses for clients, too, for load balancers that check
    /// the address to which they send clients
    #[arg(long, env = "PRESENCED_SERVE_HEALTH")]
    pub serve_health: bool,

    /// Threads that serve sessions, at most 64 [default: number of cores]
    #[arg(long, env = "PRESENCED_WORKERS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=SHARDS as i64))]
    pub workers: Option<u16>,
}

/// What stands in front of the server, and is believed.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Proxies in front of the server")]
pub struct ProxyFlags {
    /// Address or network of proxies that are trusted to say where a connection or request comes
    /// from; may be repeated
    #[arg(
        long,
        env = "PRESENCED_TRUSTED_PROXY",
        value_name = "NETWORK",
        value_delimiter = ',',
        value_parser = proxies::network
    )]
    pub trusted_proxy: Vec<IpNet>,

    /// Require each connection of a trusted proxy to begin with a PROXY protocol header, version 1
    /// or 2
    #[arg(long, env = "PRESENCED_PROXY_PROTOCOL")]
    pub proxy_protocol: bool,

    /// Header in which trusted proxies say where a request comes from; the last address in it that
    /// is not a trusted proxy's counts
    #[arg(
        long,
        env = "PRESENCED_FORWARDED_HEADER",
        default_value = "none",
        value_name = "HEADER"
    )]
    pub forwarded_header: ForwardedHeader,
}

/// The flags with which there is no embedded store.
const OTHER_STORES: [&str; 2] = ["memcached", "memcached_file"];

/// Where entries are, and what is in them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "memcached")]
pub struct StorageFlags {
    /// Where memcached is.
    #[command(flatten)]
    pub memcached: MemcachedFlags,

    /// Address of the embedded store, which speaks memcached's text protocol without authentication
    #[arg(
        long,
        env = "PRESENCED_STORE_LISTEN",
        value_parser = address,
        default_value = "127.0.0.1:11311",
        value_name = "ADDR:PORT",
        conflicts_with_all = OTHER_STORES
    )]
    pub store_listen: SocketAddr,

    /// Memory of the embedded store; when it is full, items are evicted
    #[arg(long, env = "PRESENCED_STORE_MEMORY", default_value_t = Size(STORE_MEMORY_BYTES_DEFAULT), value_name = "SIZE", value_parser = size(STORE_MEMORY_BYTES, "MiB"), conflicts_with_all = OTHER_STORES)]
    pub store_memory: Size,

    /// Name of this server, written into every value [default: host name]
    #[arg(long, env = "PRESENCED_SERVER_ID", value_name = "NAME")]
    pub server_id: Option<String>,

    /// Key of a user's entry
    #[arg(
        long,
        env = "PRESENCED_KEY_TEMPLATE",
        default_value = "user:{userId}:online",
        value_name = "TEMPLATE"
    )]
    pub key_template: String,

    /// memcached flags of a user's entry; the npm client `memcached` parses values with flags 2 as
    /// JSON
    #[arg(
        long,
        env = "PRESENCED_VALUE_FLAGS",
        default_value_t = 0,
        value_name = "NUMBER"
    )]
    pub value_flags: u32,
}

/// How sessions are pinged and users written.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Heartbeats")]
pub struct HeartbeatFlags {
    /// Lifetime of a user's entry, in whole seconds
    #[arg(long, env = "PRESENCED_TTL", default_value = "60s", value_name = "DURATION", value_parser = time(limits::TTL))]
    pub ttl: Time,

    /// Time between two flushes: every user heard from is written once in it
    #[arg(long, env = "PRESENCED_FLUSH_INTERVAL", default_value = "5s", value_name = "DURATION", value_parser = time(limits::FLUSH_INTERVAL))]
    pub flush_interval: Time,

    /// Time between two pings of a session
    #[arg(long, env = "PRESENCED_PING_INTERVAL", default_value = "25s", value_name = "DURATION", value_parser = time(limits::PING_INTERVAL))]
    pub ping_interval: Time,

    /// How long a client may take to answer a ping before its session ends
    #[arg(long, env = "PRESENCED_PING_TIMEOUT", default_value = "20s", value_name = "DURATION", value_parser = time(limits::PING_TIMEOUT))]
    pub ping_timeout: Time,

    /// How long a worker waits for more sessions to become ready before it reads them: a longer
    /// wait costs less CPU and adds as much latency; rounded up to whole milliseconds; 0s turns it
    /// off
    #[arg(long, env = "PRESENCED_COALESCE", default_value = "5ms", value_name = "DURATION", value_parser = time(limits::COALESCE))]
    pub coalesce: Time,
}

/// The claim with the user's id, unless another is named (RFC 7519 §4.1.2).
pub(super) const USER_CLAIM: &str = "sub";

/// One issuer of tokens: its keys, and what its tokens have in them. A table `[[issuer]]` of the settings file has the
/// same.
#[derive(Clone, Debug, Args)]
pub struct IssuerFlags {
    /// File with a secret that signs tokens (HS256; from 48 bytes HS384, from 64 bytes HS512), at
    /// least 32 bytes; may be repeated, so that secrets can be replaced without a gap
    #[arg(
        long,
        env = "PRESENCED_JWT_SECRET_FILE",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub jwt_secret_file: Vec<PathBuf>,

    /// File with public keys of tokens (RS256 to RS512, PS256 to PS512, ES256, ES384, EdDSA): PEM, a
    /// JWK or a JWK set; may be repeated
    #[arg(
        long,
        env = "PRESENCED_JWT_KEY_FILE",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub jwt_key_file: Vec<PathBuf>,

    /// URL of the public keys of tokens (a JWK set), as an identity provider publishes it; they are
    /// fetched again and again. Needs --jwt-issuer [default: where the issuer says, if --jwt-issuer
    /// is a URL and no other key is given]
    #[arg(long, env = "PRESENCED_JWT_JWKS_URL", value_name = "URL")]
    pub jwt_jwks_url: Option<String>,

    /// PEM file with the CA certificates that the identity provider's certificate must chain to
    /// [default: those of this machine]
    #[arg(long, env = "PRESENCED_JWT_JWKS_CA", value_name = "FILE")]
    pub jwt_jwks_ca: Option<PathBuf>,

    /// A secret itself, from the environment only: a flag would show in the list of processes
    #[arg(skip)]
    pub jwt_secret: Option<OsString>,

    /// Audience (aud) that tokens must have; without it, tokens that have one are refused, for they
    /// are for another service
    #[arg(long, env = "PRESENCED_JWT_AUDIENCE", value_name = "TEXT")]
    pub jwt_audience: Option<String>,

    /// Accept tokens for any audience
    #[arg(
        long,
        env = "PRESENCED_ALLOW_ANY_AUDIENCE",
        conflicts_with = "jwt_audience"
    )]
    pub allow_any_audience: bool,

    /// Issuer (iss) that tokens must have; if it is a URL and no key is given, its keys are found by
    /// OpenID Connect Discovery
    #[arg(long, env = "PRESENCED_JWT_ISSUER", value_name = "TEXT")]
    pub jwt_issuer: Option<String>,

    /// Claim with the user's id, a string or an integer; dots lead into objects (user.id)
    #[arg(
        long,
        env = "PRESENCED_USER_CLAIM",
        default_value = USER_CLAIM,
        value_name = "NAME"
    )]
    pub user_claim: String,
}

/// Which clients may connect.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Tokens and origins")]
pub struct TokenFlags {
    /// Whose tokens are accepted.
    #[command(flatten)]
    pub issuer: IssuerFlags,

    /// Require a token's scope claim to say what it is for: presence:connect for sessions,
    /// presence:read for pulls (or presence:read-all, which makes it a back end's)
    #[arg(long, env = "PRESENCED_REQUIRE_SCOPE")]
    pub require_scope: bool,

    /// How far in the future a token's expiry (exp) may be
    #[arg(long, env = "PRESENCED_JWT_MAX_LIFETIME", default_value = "24h", value_name = "DURATION", value_parser = time(limits::TOKEN_LIFETIME))]
    pub jwt_max_lifetime: Time,

    /// How far the clocks of issuers may be off when a token's times are checked, in whole seconds
    #[arg(long, env = "PRESENCED_JWT_LEEWAY", default_value = "5s", value_name = "DURATION", value_parser = time(limits::TOKEN_LEEWAY))]
    pub jwt_leeway: Time,

    /// Longest token [default: 16KiB, or what a shorter --max-head has room for]
    #[arg(long, env = "PRESENCED_MAX_TOKEN", value_name = "SIZE", value_parser = size(MAX_TOKEN_BYTES, "KiB"))]
    pub max_token: Option<Size>,

    /// Accept tokens in the query string (?token=), which proxies may log (always on in dev mode)
    #[arg(long, env = "PRESENCED_ALLOW_QUERY_TOKEN")]
    pub allow_query_token: bool,

    /// Origin of web pages that may connect: https://app.example, https://*.preview.example (the *
    /// is one label), null or file://; may be repeated [default: the same origin]
    #[arg(
        long,
        env = "PRESENCED_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub allow_origin: Vec<String>,

    /// How a handshake is refused when its token is not accepted or the server has no room
    #[arg(
        long,
        env = "PRESENCED_REFUSE_WITH",
        default_value = "auto",
        value_name = "WAY"
    )]
    pub refuse_with: RefuseWith,
}

/// Socket.IO, as its clients speak it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Socket.IO")]
pub struct SocketIoFlags {
    /// Transports that Socket.IO clients (3.x and 4.x) may use
    #[arg(
        long,
        env = "PRESENCED_SOCKETIO",
        default_value = "all",
        value_name = "TRANSPORTS"
    )]
    pub socketio: Transports,

    /// Path of Socket.IO requests; must begin and end with /
    #[arg(
        long,
        env = "PRESENCED_SOCKETIO_PATH",
        default_value = "/socket.io/",
        value_name = "PATH"
    )]
    pub socketio_path: String,

    /// Namespace that Socket.IO clients may connect to in addition to /; may be repeated
    #[arg(
        long,
        env = "PRESENCED_SOCKETIO_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub socketio_namespaces: Vec<String>,

    /// How long a Socket.IO client may take to upgrade from polling to a WebSocket; after that it
    /// keeps polling
    #[arg(long, env = "PRESENCED_SOCKETIO_UPGRADE_TIMEOUT", default_value = "10s", value_name = "DURATION", value_parser = time(limits::SOCKETIO_UPGRADE_TIMEOUT))]
    pub socketio_upgrade_timeout: Time,

    /// Name of a cookie for sticky load balancing of Socket.IO clients; its value is a hash of
    /// --server-id [default: no cookie]
    #[arg(long, env = "PRESENCED_SOCKETIO_COOKIE", value_name = "NAME")]
    pub socketio_cookie: Option<String>,

    /// How long a Socket.IO client may be without a namespace before its connection is closed
    #[arg(long, env = "PRESENCED_SOCKETIO_CONNECT_TIMEOUT", default_value = "10s", value_name = "DURATION", value_parser = time(limits::SOCKETIO_CONNECT_TIMEOUT))]
    pub socketio_connect_timeout: Time,
}

/// What clients may take, and how the server stops.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits and shutdown")]
pub struct LimitFlags {
    /// Most sessions on this server [default: what the limit of open files allows]
    #[arg(long, env = "PRESENCED_MAX_SESSIONS", value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_sessions: Option<u64>,

    /// Most sessions of one user on this server; one more ends the oldest
    #[arg(long, env = "PRESENCED_MAX_SESSIONS_PER_USER", default_value_t = 32, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_sessions_per_user: u16,

    /// Longest head of an HTTP request or handshake; a longer one, or one with more than 64 header
    /// lines, gets 431
    #[arg(long, env = "PRESENCED_MAX_HEAD", default_value_t = Size(HEAD_BYTES_MAX as u64), value_name = "SIZE", value_parser = size(MAX_HEAD_BYTES, "KiB"))]
    pub max_head: Size,

    /// Longest message or frame from a client; a longer one ends the session with 1009
    #[arg(long, env = "PRESENCED_MAX_MESSAGE", default_value_t = Size(MESSAGE_BYTES_MAX as u64), value_name = "SIZE", value_parser = size(MAX_MESSAGE_BYTES, "KiB"))]
    pub max_message: Size,

    /// Frames that a session may send per second on average, with bursts of ten seconds' worth;
    /// control frames and fragments count; more end the session with 1008
    #[arg(long, env = "PRESENCED_MAX_MESSAGES_PER_SECOND", default_value_t = FRAMES_PER_SECOND_MAX, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_messages_per_second: u32,

    /// Most output that is kept for a client that does not read; more ends the session
    #[arg(long, env = "PRESENCED_MAX_OUTBOX", default_value_t = Size(OUTBOX_BYTES_MAX as u64), value_name = "SIZE", value_parser = size(MAX_OUTBOX_BYTES, "KiB"))]
    pub max_outbox: Size,

    /// Most HTTP connections, which include handshakes but not sessions; at the limit, a new
    /// connection replaces the one that has kept the server waiting longest, or is refused if all
    /// are being answered [default: 512 per worker, or fewer if the limit of open files is low]
    #[arg(long, env = "PRESENCED_MAX_HTTP_CONNECTIONS", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_http_connections: Option<u32>,

    /// Most HTTP connections from one client address (IPv6: a /64); behind a proxy that is not
    /// trusted, that is the proxy's address [default: half of --max-http-connections]
    #[arg(long, env = "PRESENCED_MAX_HTTP_CONNECTIONS_PER_ADDRESS", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_http_connections_per_address: Option<u32>,

    /// Handshakes per second on average, with bursts of ten seconds' worth; more get 503. With
    /// --tls-cert, TLS handshakes have the same limit, and more get an alert [default: no limit]
    #[arg(long, env = "PRESENCED_MAX_HANDSHAKES_PER_SECOND", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_handshakes_per_second: Option<u32>,

    /// The same from one client address (IPv6: a /64); behind a proxy that is not trusted, that is
    /// the proxy's address; more get 429, before their tokens are checked, or an alert before TLS
    /// begins [default: no limit]
    #[arg(long, env = "PRESENCED_MAX_HANDSHAKES_PER_SECOND_PER_ADDRESS", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_handshakes_per_second_per_address: Option<u32>,

    /// The same by one user, counting handshakes with valid tokens; more get 429
    #[arg(long, env = "PRESENCED_MAX_HANDSHAKES_PER_SECOND_PER_USER", default_value_t = limits::HANDSHAKES_PER_SECOND_PER_USER, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_handshakes_per_second_per_user: u32,

    /// Users that one user may ask for per second on average, over all sessions and HTTP together,
    /// up to ten seconds' worth at once; more get 429, or an error in the session; service tokens
    /// have no such limit
    #[arg(long, env = "PRESENCED_MAX_PULL_USERS_PER_SECOND", default_value_t = limits::PULL_USERS_PER_SECOND, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_pull_users_per_second: u32,

    /// How long a pull may be answered from a look-up before: for so long users may still be seen online, and for at
    /// most 250ms still offline; 0s looks every user up
    #[arg(long, env = "PRESENCED_PULL_CACHE", default_value = "1s", value_name = "DURATION", value_parser = time(limits::PULL_CACHE_TIMES))]
    pub pull_cache: Time,

    /// How long an idle HTTP connection is kept; should be longer than proxies in front of the
    /// server keep theirs (often 60s), so that the proxy closes it, and no request is sent on a
    /// closed connection
    #[arg(long, env = "PRESENCED_HTTP_KEEP_ALIVE", default_value = "75s", value_name = "DURATION", value_parser = time(limits::HTTP_KEEP_ALIVE))]
    pub http_keep_alive: Time,

    /// Time from SIGTERM to the drain: /readyz answers 503 and clients are still served, until load
    /// balancers have noticed [default: 5s if there is a key of tokens, else 0s]
    #[arg(long, env = "PRESENCED_DRAIN_DELAY", value_name = "DURATION", value_parser = time(limits::DRAIN))]
    pub drain_delay: Option<Time>,

    /// Time over which sessions are closed, evenly, when the server stops
    #[arg(long, env = "PRESENCED_DRAIN", default_value = "10s", value_name = "DURATION", value_parser = time(limits::DRAIN))]
    pub drain: Time,
}

/// What is logged, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogFlags {
    /// Format of the log, and of everything else that is printed
    #[arg(
        long,
        global = true,
        env = "PRESENCED_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,

    /// How users appear in the log
    #[arg(
        long,
        env = "PRESENCED_LOG_USERS",
        default_value = "plain",
        value_name = "FORM"
    )]
    pub log_users: LogUsers,

    /// Lowest level that is logged: off, error, warn, info, debug or trace; TARGET=LEVEL sets that
    /// of one part, such as presenced::gateway=debug; several are separated by commas. The error
    /// that ends the process is always logged
    #[arg(long, global = true, env = "PRESENCED_LOG_LEVEL", default_value = "info", value_name = "LEVEL", value_parser = levels)]
    pub log_level: Targets,
}
