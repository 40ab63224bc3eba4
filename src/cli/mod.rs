//! Settings: read from the command line, the environment and a file, and checked against each other before
//! anything starts.
//!
//! - [`command_line`]: what the binary can be asked to do.
//! - `flags`, `memcached`, `tls`, `store`: the flags, which are the only place of rules about one setting. `times`, `units`,
//!   `levels`, `listen`: values as people write them.
//! - [`sources`]: where the flags' values come from, and who wins.
//! - [`Flags::check`]: rules about several settings; `descriptors`, `issuers`, `secret`, `keys`,
//!   `cpu`.
//! - [`print_config`], [`examine`]: commands about settings. [`capacity`]: a command about this host.
//!   [`token`], [`check_token`]: commands about tokens. [`finding`]: what they print.

macro_rules! refuse {
    ($($part:tt)*) => { return Err(SettingsError(format!($($part)*))) };
}

pub mod capacity;
pub mod check_token;
pub mod command_line;
mod cpu;
mod descriptors;
pub mod examine;
pub mod finding;
mod flags;
mod hyphens;
mod issuers;
mod keys;
mod levels;
mod listen;
mod memcached;
mod nearest;
mod notice;
pub mod print_config;
mod secret;
pub mod sources;
pub mod store;
mod times;
mod tls;
pub mod token;
mod units;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Parser;
use presenced_memcached::marker;
use presenced_presence::Record;
use presenced_presence::limits::SHARDS;
use presenced_presence::record::PLACEHOLDER;
use presenced_presence::users::Hasher;
use presenced_socketio::engine::Times;
use sha2::{Digest, Sha256};
use thiserror::Error;

use self::flags::{
    HeartbeatFlags, LimitFlags, LogFlags, NetworkFlags, ProxyFlags, SocketIoFlags, StorageFlags,
    TokenFlags,
};
use self::issuers::Issuer;
pub use self::issuers::IssuerTable;
pub use self::notice::Notice;
pub use self::times::{Promises, Time, promises};
use self::tls::TlsFlags;
pub use self::units::Size;
use crate::admin;
use crate::gateway::forwarded::ForwardedHeader;
use crate::gateway::origin::Origins;
use crate::gateway::proxies::Proxies;
use crate::gateway::rates::Rates;
use crate::gateway::socketio::{self, Transports};
use crate::gateway::{self, Capacity};
use crate::limits::{
    DRAIN_DELAY, LINE_BYTES_MAX, OTHER_HEADER_BYTES, SERVER_ID_BYTES_MAX, TOKEN_BYTES_MAX,
};
use crate::pull;
use crate::revocation;
use crate::server::{Config, embedded};
use crate::token_buckets::Rate;
use crate::tokens::{self, Rules};

/// The flags of the server.
#[derive(Clone, Debug, Parser)]
pub struct Flags {
    /// TOML file with settings: each flag is a key of its name, such as ttl = "60s"; flags come before
    /// the environment, and that before the file. A table named issuer is one more issuer of tokens
    #[arg(long, env = "PRESENCED_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Addresses and threads.
    #[command(flatten)]
    pub network: NetworkFlags,

    /// How clients' connections are encrypted.
    #[command(flatten)]
    pub tls: TlsFlags,

    /// What stands in front of the server, and is believed.
    #[command(flatten)]
    pub proxies: ProxyFlags,

    /// Where entries are, and what is in them.
    #[command(flatten)]
    pub storage: StorageFlags,

    /// How sessions are pinged and users written.
    #[command(flatten)]
    pub heartbeats: HeartbeatFlags,

    /// Which clients may connect.
    #[command(flatten)]
    pub tokens: TokenFlags,

    /// Socket.IO.
    #[command(flatten)]
    pub socketio: SocketIoFlags,

    /// What clients may take, and how the server stops.
    #[command(flatten)]
    pub limits: LimitFlags,

    /// What is logged, and how.
    #[command(flatten)]
    pub logs: LogFlags,

    /// Issuers beside that of the flags, which only the settings file can have.
    #[arg(skip)]
    pub issuers: Vec<IssuerTable>,
}

/// Settings that can't work, naming the flags, their values and the rule.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl Flags {
    /// Checks the flags against each other and the machine.
    ///
    /// # Errors
    ///
    /// Flags that can't work, alone, together or on this machine.
    pub fn check(self) -> Result<Config, SettingsError> {
        self.check_noting(&mut Vec::new())
    }

    /// The same; adds to `notices` what the operator should know of flags that work.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn check_noting(self, notices: &mut Vec<Notice>) -> Result<Config, SettingsError> {
        self.check_times()?;
        self.check_cpu(presenced_jwt::lacking().as_deref())?;
        let issuers = self.issuers(notices)?;
        let has_key = issuers.iter().any(Issuer::has_key);
        self.check_addresses(has_key, notices)?;
        let (storage, heartbeats) = (&self.storage, &self.heartbeats);
        let flags = storage.memcached.clone();
        let coalesce = heartbeats.coalesce.duration;
        let memcached = flags.check(&heartbeats.ttl, coalesce, self.marker(), notices)?;
        let workers = self.network.workers.map_or_else(cores, usize::from);
        let drain_delay = self.drain_delay(has_key);
        let shares = self.shares(workers, memcached.nodes.nodes.len())?;
        Ok(Config {
            workers,
            drain_delay,
            drain: self.limits.drain.duration,
            session: self.session(),
            presence: self.presence()?,
            sessions_max: shares.sessions_max,
            store: embedded::Config {
                connections_max: shares.store_connections_max,
                listen: storage.store_listen,
                memory_bytes: storage.store_memory.in_memory(),
            },
            gateway: self.gateway(issuers, shares.http, notices)?,
            pull: pull::Config {
                users_per_second: self.limits.max_pull_users_per_second,
                cache: self.limits.pull_cache.duration,
            },
            revocation: self.revocation(notices),
            admin: admin::Config {
                listen: self.network.admin,
                token: self.admin_token(notices)?,
            },
            memcached,
        })
    }

    /// What has no authentication stays on this machine.
    fn check_addresses(
        &self,
        has_key: bool,
        notices: &mut Vec<Notice>,
    ) -> Result<(), SettingsError> {
        let (network, storage) = (&self.network, &self.storage);
        let mut listen = network.listen.iter();
        if !has_key && let Some(listen) = listen.find(|listen| !listen.ip().is_loopback()) {
            refuse!(
                "--listen {listen} without a key: anyone could be anyone; give --jwt-secret-file \
                 (or PRESENCED_JWT_SECRET), --jwt-key-file or --jwt-jwks-url, or listen on 127.0.0.1"
            );
        }
        if !storage.store_listen.ip().is_loopback() {
            refuse!(
                "--store-listen {}: the embedded store has no authentication and serves this \
                 machine only; listen on 127.0.0.1, or give --memcached for a shared one",
                storage.store_listen
            );
        }
        if !network.admin.ip().is_loopback() {
            notices.push(Notice::Warning(format!(
                "--admin {}: whoever reaches it is shown /metrics: keep it private",
                network.admin
            )));
        }
        Ok(())
    }

    /// Without a key there is no balancer: someone tries it out, and does not want to wait.
    fn drain_delay(&self, has_key: bool) -> Duration {
        match &self.limits.drain_delay {
            Some(time) => time.duration,
            None if has_key => DRAIN_DELAY,
            None => Duration::ZERO,
        }
    }

    /// What a client could say as well is believed of trusted proxies only.
    fn check_proxies(&self, notices: &mut Vec<Notice>) -> Result<Proxies, SettingsError> {
        let flags = &self.proxies;
        let proxies = Proxies {
            trusted: flags.trusted_proxy.clone(),
            use_proxy_protocol: flags.proxy_protocol,
            forwarded_header: flags.forwarded_header,
        };
        let header = match flags.forwarded_header {
            ForwardedHeader::None => None,
            ForwardedHeader::XForwardedFor => Some("--forwarded-header x-forwarded-for"),
            ForwardedHeader::Forwarded => Some("--forwarded-header forwarded"),
        };
        let protocol = flags.proxy_protocol.then_some("--proxy-protocol");
        match (protocol.or(header), proxies.trusted.is_empty()) {
            (Some(flag), true) => refuse!(
                "{flag} needs --trusted-proxy: without it anyone could claim any address; name \
                 the networks of the proxies, such as --trusted-proxy 10.0.0.0/8"
            ),
            (None, false) => notices.push(Notice::Warning(
                "--trusted-proxy has no effect without --proxy-protocol or --forwarded-header"
                    .into(),
            )),
            _ => {}
        }
        Ok(proxies)
    }

    fn marker(&self) -> marker::Config {
        marker::Config {
            key: marker::key(&self.storage.key_template),
            entry_ttl: self.heartbeats.ttl.duration,
            headroom: self.headroom(),
            flush_interval: self.heartbeats.flush_interval.duration,
        }
    }

    fn revocation(&self, notices: &mut Vec<Notice>) -> revocation::Config {
        let lifetime = &self.tokens.jwt_max_lifetime;
        let lasts = revocation::lasts(lifetime.duration);
        if lifetime.duration > lasts {
            notices.push(Notice::Warning(format!(
                "--jwt-max-lifetime {lifetime}: a revocation lasts 30 days, and tokens that are valid for longer \
                 are accepted again then"
            )));
        }
        revocation::Config {
            log_key: revocation::log_key(&self.storage.key_template),
            lasts,
        }
    }

    fn presence(&self) -> Result<presenced_presence::Config, SettingsError> {
        let (storage, template) = (&self.storage, &self.storage.key_template);
        let record = Record::new(template, &self.server_id()?, storage.value_flags, boot()?);
        let record = record
            .map_err(|error| SettingsError(format!("--key-template {template:?}: {error}")))?;
        if may_make_own_key(template) {
            refuse!(
                "--key-template {template:?}: a user could have the key of a marker or sentinel \
                 (presenced:…); put something else before {{userId}}"
            );
        }
        Ok(presenced_presence::Config {
            record,
            sessions_per_user_max: self.limits.max_sessions_per_user.into(),
            refill_rate: storage.memcached.refill_rate,
            hasher: Hasher::random(),
        })
    }

    fn gateway(
        &self,
        issuers: Vec<Issuer>,
        capacity: Capacity,
        notices: &mut Vec<Notice>,
    ) -> Result<gateway::Config, SettingsError> {
        let tokens = &self.tokens;
        let origins = Origins::new(&tokens.allow_origin)
            .map_err(|error| SettingsError(format!("--allow-origin {error}")))?;
        Ok(gateway::Config {
            listen: self.network.listen.clone(),
            tls: self.tls.check(unix_time(), notices)?,
            allow_query_token: tokens.allow_query_token || !issuers.iter().any(Issuer::has_key),
            secret: issuers.iter().find_map(|issuer| issuer.secret.clone()),
            tokens: tokens::Config {
                issuers: issuers.into_iter().map(|issuer| issuer.config).collect(),
                rules: self.token_rules()?,
            },
            origins,
            proxies: self.check_proxies(notices)?,
            log_users: self.logs.log_users,
            capacity,
            keep_alive: self.limits.http_keep_alive.duration,
            head_bytes_max: self.limits.max_head.in_memory(),
            serve_health: self.network.serve_health,
            refuse_with: tokens.refuse_with,
            rates: self.rates(),
            socketio: self.socketio()?,
        })
    }

    /// Checked even where it is off: what is wrong with it is better known before it is turned on.
    fn socketio(&self) -> Result<Option<socketio::Config>, SettingsError> {
        let flags = &self.socketio;
        let path = &flags.socketio_path;
        let parts = path
            .strip_prefix('/')
            .and_then(|path| path.strip_suffix('/'));
        let is_part = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        };
        let is_path = parts.is_some_and(|parts| parts.split('/').all(is_part));
        if !is_path {
            refuse!(
                "--socketio-path {path}: must begin and end with /, as in /socket.io/, with letters, digits and - . _ ~ \
                 between"
            );
        }
        let mut namespaces = vec!["/"];
        namespaces.extend(flags.socketio_namespaces.iter().map(String::as_str));
        let mut rules = presenced_socketio::Rules::new(&namespaces)
            .map_err(|error| SettingsError(format!("--socketio-namespaces: {error}")))?;
        rules.connect_timeout = flags.socketio_connect_timeout.duration;
        rules.attachment_bytes_max = self.limits.max_message.in_memory();
        let cookie = match &flags.socketio_cookie {
            None => None,
            Some(name) if is_cookie_name(name) => {
                let hash = Sha256::digest(self.server_id()?.as_bytes());
                Some((name.clone(), URL_SAFE_NO_PAD.encode(&hash[..12])))
            }
            Some(name) => refuse!(
                "--socketio-cookie {name}: a cookie's name has letters, digits and !#$%&'*+-.^_`|~"
            ),
        };
        let config = socketio::Config {
            has_polling: flags.socketio == Transports::All,
            path: path.clone(),
            rules,
            times: Times {
                upgrade_timeout: flags.socketio_upgrade_timeout.duration,
                queue_bytes_max: self.limits.max_outbox.in_memory(),
                ..Times::default()
            },
            payload_bytes_max: self.limits.max_message.in_memory(),
            cookie,
        };
        Ok((flags.socketio != Transports::Off).then_some(config))
    }

    /// What every token must be.
    fn token_rules(&self) -> Result<Rules, SettingsError> {
        let tokens = &self.tokens;
        if tokens.jwt_leeway.duration.subsec_nanos() > 0 {
            refuse!("--jwt-leeway {}: must be whole seconds", tokens.jwt_leeway);
        }
        let head = self.limits.max_head.in_memory();
        let room = head - LINE_BYTES_MAX - OTHER_HEADER_BYTES;
        let token = match tokens.max_token {
            None => TOKEN_BYTES_MAX.min(room),
            Some(token) if token.in_memory() <= room => token.in_memory(),
            Some(token) => refuse!(
                "--max-token {token}: a head of --max-head {} has no room for it beside the first line \
                 and other headers, which take 12.1 KiB",
                self.limits.max_head
            ),
        };
        Ok(Rules {
            bytes_max: token,
            lifetime_max: tokens.jwt_max_lifetime.duration,
            leeway: tokens.jwt_leeway.duration,
            require_scope: tokens.require_scope,
        })
    }

    fn rates(&self) -> Rates {
        let limits = &self.limits;
        let address = limits.max_handshakes_per_second_per_address;
        Rates {
            server: limits.max_handshakes_per_second.map(Rate::per_second),
            address: address.map(Rate::per_second),
            user: Some(Rate::per_second(limits.max_handshakes_per_second_per_user)),
        }
    }

    fn server_id(&self) -> Result<String, SettingsError> {
        let id = self.storage.server_id.clone();
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
            ping_interval: self.heartbeats.ping_interval.duration,
            ping_timeout: self.heartbeats.ping_timeout.duration,
            coalesce: self.heartbeats.coalesce.duration,
            message_bytes_max: self.limits.max_message.in_memory(),
            outbox_bytes_max: self.limits.max_outbox.in_memory(),
            frames_per_second_max: self.limits.max_messages_per_second,
        }
    }
}

/// One thread a core. A worker flushes a share of the shards: there can't be more workers than shards.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(SHARDS))
}

/// Whether a key made after `template` could be one that the server keeps for itself:
/// `presenced:marker:` or `presenced:sentinel:` and hexadecimal digits.
fn may_make_own_key(template: &str) -> bool {
    const OWN: &str = "presenced:";
    let (before, after) = template.split_once(PLACEHOLDER).unwrap_or((template, ""));
    (OWN.starts_with(before) || before.starts_with(OWN))
        && after.chars().all(|char| char.is_ascii_hexdigit())
}

/// What the wall clock shows, since the Unix epoch.
fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn boot() -> Result<u32, SettingsError> {
    getrandom::u32().map_err(|error| SettingsError(format!("no random numbers: {error}")))
}

#[cfg(test)]
mod tests;

/// RFC 6265 §4.1.1.
fn is_cookie_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_part)
}
