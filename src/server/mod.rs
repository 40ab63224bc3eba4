//! The one place that knows all parts: starts them, drains them, stops them.
//!
//! - [`config`]: the sum of what the parts are set to.
//! - `worker_thread`: what runs on each core.
//! - [`presence_service`]: what sessions are for, and what their clients say ([`client_message`]).
//! - `socketio_sessions`: what those of Socket.IO need beside; `reply_to`: how pulls are answered in either protocol.
//! - `renewal`: tokens that clients show in their sessions.
//! - `certificates`: says which of them are about to expire.
//! - [`switch`]: settings that are taken up meanwhile; `key_sources`: the keys that are fetched by them.
//! - `session_log`: what is logged of a session when it ends.
//! - `drain`: a stop that makes nobody blink.
//! - [`embedded`]: the store on the server's workers.

mod certificates;
pub mod client_message;
pub mod config;
mod drain;
pub mod embedded;
mod key_sources;
pub mod presence_service;
mod renewal;
mod reply_to;
mod session_log;
mod socketio_sessions;
pub mod switch;
mod worker_thread;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use presenced_memcached::discovery::Discovery;
use presenced_memcached::limits::PROBE_INTERVAL;
use presenced_memcached::{Cluster, NodeList, SharedLog, probe};
use presenced_net::listen;
use presenced_presence::flush::Presence;
use presenced_session::Seats;
use presenced_session::clock::Clock;
use presenced_session::worker::WorkerCommand;
use presenced_tasks::{Task, keep_up};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, Sender};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::config::Config;
use self::embedded::EmbeddedStore;
use self::key_sources::KeySources;
use self::switch::{InForce, Switch};
use self::worker_thread::{Ended, Shared, WorkerHandle, orders, start_workers};
use crate::admin::access::Access;
use crate::admin::prometheus::Metrics;
use crate::admin::reloads::Reloads;
use crate::admin::routes::{self, Admin};
use crate::gateway::dev::{Figures, Shown};
use crate::gateway::health::{Departure, Health};
use crate::gateway::look_up::LookUp;
use crate::gateway::{Gateway, GatewayError};
use crate::limits::{REVOCATIONS_POSTED_MAX, SOCKET_BUFFER_BYTES};
use crate::pull::Pulls;
use crate::revocation::keeper::Keeper;
use crate::revocation::metrics::RevocationMetrics;
use crate::revocation::revoker::Revoker;
use crate::revocation::sessions::RevokedSessions;

/// Why the server could not start, or ended on its own.
#[derive(Debug, Error)]
pub enum ServerError {
    /// An address is taken, or not this machine's.
    #[error("cannot listen on {flag} {addr}: {error}")]
    Listen {
        /// The flag.
        flag: &'static str,
        /// Its value.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The system refused something else that is needed.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// No random numbers for a key.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// No way in for clients.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// A fault of the server's own; sessions of that worker are lost.
    #[error("a worker ended unexpectedly")]
    Worker,
}

/// A server that runs. Dropping it stops it at once, without a drain.
#[derive(Debug)]
pub struct Server {
    addrs: Addrs,
    config: Config,
    presence: Arc<Presence>,
    switch: Switch,
    departure: Departure,
    seats: Arc<Seats>,
    workers: Vec<WorkerHandle>,
    /// Sends when a worker has ended.
    ended: Ended,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

#[derive(Clone, Debug)]
struct Addrs {
    /// At least one.
    gateway: Vec<SocketAddr>,
    admin: SocketAddr,
    store: Option<SocketAddr>,
}

impl Server {
    /// Starts everything. Call it on a tokio runtime, which serves the admin listener; workers have
    /// threads of their own, and serve the embedded store too.
    ///
    /// # Errors
    ///
    /// An address is taken, or the system refuses something else that is needed.
    pub async fn start(mut config: Config) -> Result<Server, ServerError> {
        let run = getrandom::u64().map_err(ServerError::Random)?;
        config.memcached.connect.sentinel = Some(format!("presenced:sentinel:{run:016x}"));
        let stop = CancellationToken::new();
        let stop_on_drop = stop.clone().drop_guard();
        let bound = Bound::bind(&config).await?;
        let (addrs, store) = (bound.addrs()?, bound.store.as_ref());
        let mut discovery = Discovery::new(
            bound.nodes(&config),
            config.memcached.connect.network.resolver.clone(),
        );
        let (names, nodes) = (discovery.failures(), discovery.first().await);
        let cluster = Arc::new(Cluster::new(nodes, config.memcached.clone()));
        let shared = Shared::new(&config, &cluster, store.is_some(), &stop)?;
        let orders = orders(config.workers);
        let (revoker, revocation_metrics) = revocation(&config, &shared, orders.0.clone(), &stop);
        let reloads: Arc<Reloads> = Arc::default();
        let admin = Arc::new(Admin {
            access: Access::new(&config.admin),
            revoker,
            user_names: shared.gateway.user_names.clone(),
            metrics: Arc::new(Metrics {
                workers: shared.workers.clone(),
                gateway: shared.gateway.metrics.clone(),
                tls: shared.gateway.tls.clone(),
                places: shared.gateway.places.clone(),
                places_max: config.gateway.capacity.room.max,
                flush: shared.flush.clone(),
                pull: shared.pull.clone(),
                seats: shared.seats.clone(),
                names,
                presence: shared.presence.clone(),
                keys: shared.health.keys.clone(),
                revocations: shared.health.revocations.clone(),
                revocation_log: revocation_metrics,
                reloads: reloads.clone(),
                store: store.map(|store| store.store.clone()),
            }),
            health: shared.health.clone(),
        });
        if let Some(store) = store {
            store.vouch(&cluster).await?;
        }
        let (probed, probes) = (cluster.clone(), probe_config(&config, &shared.presence));
        let watching = keep_up(Task::Probe, move || {
            probe::watch(probed.clone(), probes.clone())
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(watching));
        let following = discovery.follow(cluster, config.memcached.resolve_interval);
        tokio::spawn(stop.clone().run_until_cancelled_owned(following));
        if let Some(tls) = &shared.gateway.tls {
            let following = certificates::follow(tls.clone(), shared.clock);
            tokio::spawn(stop.clone().run_until_cancelled_owned(following));
        }
        let switch = switch(&config, &shared, admin.clone(), reloads, &stop);
        let (listener, stopped) = (Arc::new(bound.admin), stop.clone());
        tokio::spawn(keep_up(Task::Admin, move || {
            routes::serve(listener.clone(), admin.clone(), stopped.clone())
        }));
        let stores = EmbeddedStore::parts(bound.store);
        let listeners = bound.clients.into_iter().zip(stores).collect();
        let (workers, ended) = start_workers(&config, &shared, listeners, orders).await?;
        Ok(Server {
            addrs,
            config,
            presence: shared.presence,
            switch,
            departure: shared.health.departure,
            seats: shared.seats,
            workers,
            ended,
            stop,
            _stop_on_drop: stop_on_drop,
        })
    }

    /// Where clients connect first of all.
    pub fn gateway_addr(&self) -> SocketAddr {
        self.addrs.gateway[0]
    }

    /// All addresses where clients connect.
    pub fn gateway_addrs(&self) -> &[SocketAddr] {
        &self.addrs.gateway
    }

    /// Where operators look.
    pub fn admin_addr(&self) -> SocketAddr {
        self.addrs.admin
    }

    /// Where the embedded store listens, if there is one.
    pub fn store_addr(&self) -> Option<SocketAddr> {
        self.addrs.store
    }

    /// What takes up settings while the server runs.
    pub fn switch(&self) -> Switch {
        self.switch.clone()
    }

    /// How anyone looks into memcached.
    pub fn look_up(&self) -> LookUp {
        look_up(&self.presence)
    }

    /// Returns when a worker ends, which none should before [`Server::drain`].
    pub async fn failed(&mut self) -> ServerError {
        let mut ends = FuturesUnordered::new();
        ends.extend(&mut self.ended);
        let ended = ends.next().await;
        match ended {
            Some(Ok(Err(error))) => ServerError::Start(error),
            _ => ServerError::Worker,
        }
    }
}

/// All listeners, before anything is served.
struct Bound {
    /// Each worker's: one an address.
    clients: Vec<Vec<std::net::TcpListener>>,
    admin: TcpListener,
    /// The store, unless there are others to write to.
    store: Option<EmbeddedStore>,
}

impl Bound {
    async fn bind(config: &Config) -> Result<Bound, ServerError> {
        let (admin, store) = (config.admin.listen, &config.store);
        let in_listen = |flag, addr| move |error| ServerError::Listen { flag, addr, error };
        let embedded = config.memcached.nodes.nodes.is_empty();
        let mut clients = Vec::new();
        clients.resize_with(config.workers, Vec::new);
        for addr in &config.gateway.listen {
            let bound = listen::tcp(*addr, config.workers).map_err(in_listen("--listen", *addr))?;
            listen::bound_buffers(&bound, SOCKET_BUFFER_BYTES)?;
            for (of_worker, listener) in clients.iter_mut().zip(bound) {
                of_worker.push(listener);
            }
        }
        Ok(Bound {
            clients,
            admin: TcpListener::bind(admin)
                .await
                .map_err(in_listen("--admin", admin))?,
            store: embedded
                .then(|| EmbeddedStore::bind(store, config.workers))
                .transpose()
                .map_err(in_listen("--store-listen", store.listen))?,
        })
    }

    fn addrs(&self) -> io::Result<Addrs> {
        let of_worker = self.clients.first().into_iter().flatten();
        Ok(Addrs {
            gateway: of_worker
                .map(std::net::TcpListener::local_addr)
                .collect::<Result<_, _>>()?,
            admin: self.admin.local_addr()?,
            store: self.store.as_ref().map(|store| store.addr),
        })
    }

    fn nodes(&self, config: &Config) -> NodeList {
        match &self.store {
            Some(store) => vec![store.node().into()].into(),
            None => config.memcached.nodes.clone(),
        }
    }
}

fn look_up(presence: &Presence) -> LookUp {
    LookUp {
        record: presence.record().clone(),
        cluster: presence.cluster().clone(),
    }
}

/// What takes up settings; it follows the sources of keys.
fn switch(
    config: &Config,
    shared: &Shared,
    admin: Arc<Admin>,
    reloads: Arc<Reloads>,
    stop: &CancellationToken,
) -> Switch {
    let mut sources = KeySources::new(shared.health.keys.clone(), stop.clone());
    let live = shared.gateway.live.get();
    let first: Vec<_> = live.auth.sources().cloned().collect();
    sources.begin(&first);
    sources.keep(first);
    Switch {
        gateway: shared.gateway.clone(),
        pulls: shared.pull.clone(),
        admin,
        in_force: Arc::new(Mutex::new(InForce {
            sources,
            tokens: config.gateway.tokens.clone(),
            allow_query_token: config.gateway.allow_query_token,
        })),
        reloads,
    }
}

fn probe_config(config: &Config, presence: &Arc<Presence>) -> probe::Config {
    probe::Config {
        interval: presence.flush_interval().min(PROBE_INTERVAL),
        entry_bytes: config.presence.record.entry_bytes(),
        writes: presence.clone(),
    }
}

/// Starts what keeps revocations, and ends sessions for them.
fn revocation(
    config: &Config,
    shared: &Shared,
    workers: Vec<Sender<WorkerCommand>>,
    stop: &CancellationToken,
) -> (Revoker, Arc<RevocationMetrics>) {
    let (revocations, sessions) = (&shared.health.revocations, &shared.revoked);
    let metrics: Arc<RevocationMetrics> = Arc::default();
    let (log, posts) = mpsc::channel(REVOCATIONS_POSTED_MAX);
    let cluster = shared.health.cluster.clone();
    let keeper = Keeper::new(
        SharedLog::new(cluster, config.revocation.log_key.clone()),
        revocations.clone(),
        sessions.clone(),
        metrics.clone(),
        shared.clock,
        shared.presence.flush_interval(),
    );
    tokio::spawn(stop.clone().run_until_cancelled_owned(keeper.run(posts)));
    let ended = sessions.clone();
    let ending = keep_up(Task::Revocations, move || {
        ended.clone().run(workers.clone())
    });
    tokio::spawn(stop.clone().run_until_cancelled_owned(ending));
    let revoker = Revoker {
        revocations: revocations.clone(),
        sessions: sessions.clone(),
        log,
        lasts_s: config.revocation.lasts.as_secs().into(),
    };
    (revoker, metrics)
}

impl Shared {
    fn new(
        config: &Config,
        cluster: &Arc<Cluster>,
        is_embedded: bool,
        stop: &CancellationToken,
    ) -> Result<Shared, ServerError> {
        let (clock, flush) = (Clock::start(), Arc::default());
        let seats = Arc::new(Seats::new(config.sessions_max));
        let presence = Presence::new(&config.presence, cluster.clone(), clock, Arc::clone(&flush));
        let presence = Arc::new(presence);
        let (pull, workers) = (
            Arc::new(Pulls::new(config.pull)),
            (0..config.workers)
                .map(|_| Arc::default())
                .collect::<Vec<_>>(),
        );
        let health = Health {
            departure: Departure::default(),
            cluster: cluster.clone(),
            keys: Arc::default(),
            revocations: Arc::default(),
        };
        let shown = Shown {
            look_up: look_up(&presence),
            figures: Figures {
                workers: workers.clone(),
                flush: flush.clone(),
                pulls: pull.clone(),
                seats: seats.clone(),
                presence: presence.clone(),
                session: config.session,
                clock,
                is_embedded,
            },
        };
        let gateway = Gateway::new(&config.gateway, &seats, clock, Some(shown), &health)?;
        let revoked = RevokedSessions::new(presence.clone(), config.drain);
        Ok(Shared {
            presence,
            revoked: Arc::new(revoked),
            gateway: Arc::new(gateway),
            health,
            workers,
            flush,
            pull,
            seats,
            clock,
            stop: stop.clone(),
        })
    }
}
