//! A server in this process, on free ports.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use presenced::cli::Flags;
use presenced::server::{Config, Server};
use presenced_tls::testing::certificates;

use crate::edge_stream::TlsEdge;
use crate::memcached::Memcached;
use crate::process::without_store;
use crate::raw::{Response, get};
use crate::tokens::SECRET;
use crate::{PATIENCE, until};

/// Short, yet a client may be a second late on a busy machine: 2s + 1.5s + 2 × 250ms + 5s.
const FLAGS: &[&str] = &[
    "presenced",
    "--listen=127.0.0.1:0",
    "--admin=127.0.0.1:0",
    "--store-listen=127.0.0.1:0",
    "--server-id=edge-1",
    "--workers=2",
    "--ttl=9s",
    "--ping-interval=2s",
    "--ping-timeout=1500ms",
    "--flush-interval=250ms",
    "--drain=200ms",
    "--resolve-interval=1s",
    // Tests ask without a pause, and of what memcached has now.
    "--pull-cache=0s",
    "--max-pull-users-per-second=1000000",
];

/// What [`FLAGS`] say.
pub const TTL: Duration = Duration::from_secs(9);
/// See [`TTL`].
pub const PING_INTERVAL: Duration = Duration::from_secs(2);
/// See [`TTL`].
pub const PING_TIMEOUT: Duration = Duration::from_millis(1500);
/// See [`TTL`].
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(250);

/// A server that knows [`SECRET`]; stopped when dropped.
pub struct TestServer {
    server: Server,
    key_template: String,
    /// Where clients connect.
    pub edge: SocketAddr,
    /// Where operators look.
    pub admin: SocketAddr,
    _tls: Option<TlsEdge>,
}

impl TestServer {
    /// With `flags` in place of the usual ones.
    pub async fn start(flags: &[&str]) -> TestServer {
        TestServer::start_set(flags, |_| ()).await
    }

    /// One that lets slow requests keep their places, so that a test can hold them.
    pub async fn start_patient(flags: &[&str]) -> TestServer {
        let is_patient = |config: &mut Config| {
            config.gateway.capacity.room.awaited_min = PATIENCE;
        };
        TestServer::start_set(flags, is_patient).await
    }

    /// One that does not know [`SECRET`]: `flags` say whose tokens it takes, and `set` may say more.
    pub async fn start_without_secret(flags: &[&str], set: impl FnOnce(&mut Config)) -> TestServer {
        TestServer::start_with(None, flags, set).await
    }

    /// One whose clients speak TLS: [`Raw`](crate::raw::Raw) and [`Client`](crate::client::Client) do.
    pub async fn start_tls(flags: &[&str]) -> TestServer {
        TestServer::start_tls_set(flags, |_| ()).await
    }

    /// The same, where `set` may say more.
    pub async fn start_tls_set(flags: &[&str], set: impl FnOnce(&mut Config)) -> TestServer {
        let set = |config: &mut Config| {
            config.gateway.tls = Some(certificates());
            set(config);
        };
        TestServer::start_set(flags, set).await
    }

    async fn start_set(flags: &[&str], set: impl FnOnce(&mut Config)) -> TestServer {
        TestServer::start_with(Some(SECRET), flags, set).await
    }

    async fn start_with(
        secret: Option<&str>,
        flags: &[&str],
        set: impl FnOnce(&mut Config),
    ) -> TestServer {
        let command = Flags::command().args_override_self(true);
        let matches = command
            .try_get_matches_from(without_store(&[FLAGS, flags].concat()))
            .unwrap();
        let mut flags = Flags::from_arg_matches(&matches).unwrap();
        flags.tokens.issuer.jwt_secret = secret.map(Into::into);
        let key_template = flags.storage.key_template.clone();
        let mut config = flags.check().unwrap();
        // Any test of an edge can be one of an edge that speaks TLS.
        if std::env::var_os("OVER_TLS").is_some() {
            config.gateway.tls = Some(certificates());
        }
        set(&mut config);
        let speaks_tls = config.gateway.tls.is_some();
        let server = Server::start(config).await.unwrap();
        let tls = speaks_tls.then(|| TlsEdge::at(server.gateway_addr()));
        TestServer {
            key_template,
            edge: server.gateway_addr(),
            admin: server.admin_addr(),
            server,
            _tls: tls,
        }
    }

    /// With a real memcached; returns when its flushes have reached it, and users who are not found there
    /// are offline.
    pub async fn on(memcached: &Memcached, flags: &[&str]) -> TestServer {
        let node = format!("--memcached={}", memcached.node());
        let server = TestServer::start(&[&[node.as_str()], flags].concat()).await;
        server.settled_on(memcached).await
    }

    /// The same, whose clients speak TLS.
    pub async fn on_tls(memcached: &Memcached, flags: &[&str]) -> TestServer {
        let node = format!("--memcached={}", memcached.node());
        let server = TestServer::start_tls(&[&[node.as_str()], flags].concat()).await;
        server.settled_on(memcached).await
    }

    async fn settled_on(self, memcached: &Memcached) -> TestServer {
        until("ready", PATIENCE, async || self.is_ready().await).await;
        memcached.make_whole_of(&self.key_template).await;
        // By then the first look is over, and nothing more is stored but entries.
        let is_whole = format!("memcached_marker_whole{{node=\"{}\"}}", memcached.node());
        until("the marker is seen to be whole", PATIENCE, async || {
            self.metric(&is_whole).await == 1
        })
        .await;
        self
    }

    /// Drains, as at SIGTERM, and stops.
    pub async fn drain(self) {
        self.server.drain().await;
    }

    /// Where the embedded store listens.
    pub fn store(&self) -> SocketAddr {
        self.server.store_addr().unwrap()
    }

    /// What `/readyz` says.
    pub async fn is_ready(&self) -> bool {
        let response = get(self.admin, "/readyz").await;
        assert!([200, 503].contains(&response.status), "{response:?}");
        response.status == 200
    }

    /// A number of `/metrics`, by its name and labels without the prefix; fails if there is none.
    pub async fn metric(&self, name: &str) -> u64 {
        metric(&get(self.admin, "/metrics").await, name)
    }

    /// Sessions that ended for `reason`.
    pub async fn ends(&self, reason: &str) -> u64 {
        let name = format!("session_ends_total{{reason=\"{reason}\"}}");
        self.metric(&name).await
    }

    /// Requests that had `result`, for whatever reason.
    pub async fn handshakes(&self, result: &str) -> u64 {
        let response = get(self.admin, "/metrics").await;
        let name = format!("presenced_handshakes_total{{result=\"{result}\"");
        let counts = response.body.lines().filter_map(|line| {
            let (labels, count) = line.strip_prefix(&name)?.split_once(' ')?;
            ["}", ","]
                .iter()
                .any(|end| labels.starts_with(end))
                .then(|| count.parse::<u64>().unwrap())
        });
        counts
            .reduce(|sum, count| sum + count)
            .unwrap_or_else(|| panic!("no {name}"))
    }

    /// Requests that had `result` for `reason`.
    pub async fn refused_for(&self, result: &str, reason: &str) -> u64 {
        let name = format!("handshakes_total{{result=\"{result}\",reason=\"{reason}\"}}");
        self.metric(&name).await
    }
}

/// The same of an answer.
pub fn metric(response: &Response, name: &str) -> u64 {
    let mut lines = response.body.lines();
    let value = lines.find_map(|line| {
        line.strip_prefix("presenced_")?
            .strip_prefix(name)?
            .strip_prefix(' ')
    });
    let value = value.unwrap_or_else(|| panic!("no {name} in {}", response.body));
    value.parse().unwrap()
}
