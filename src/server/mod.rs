//! The one place that knows all parts: starts them, drains them, stops them.

mod drain;
pub mod embedded;
pub mod message;
pub mod presence_service;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use presenced_session::Seats;
use presenced_session::worker::{Worker, WorkerCommand, WorkerConfig};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::embedded::{EmbeddedStore, Part};
use self::presence_service::PresenceService;
use crate::admin::prometheus::Metrics;
use crate::admin::routes::{self, Admin};
use crate::cli::Settings;
use crate::gateway::auth::Auth;
use crate::gateway::demo::Demo;
use crate::gateway::{Edge, listener};
use crate::limits::EVENT_INTERVAL;
use crate::pull::Puller;
use presenced_memcached::Cluster;
use presenced_memcached::discovery::{Discovery, Resolver};
use presenced_memcached::limits::PROBE_INTERVAL;
use presenced_memcached::probe::{self, Sentinel};
use presenced_presence::flush::{Flusher, Presence};
use presenced_session::clock::Clock;
use presenced_session::limits::WORKER_QUEUE;
use presenced_store::listen;

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
    /// A fault of the server's own; sessions of that worker are lost.
    #[error("a worker ended unexpectedly")]
    Worker,
}

/// A server that runs. Dropping it stops it at once, without a drain.
#[derive(Debug)]
pub struct Server {
    edge_addr: SocketAddr,
    admin_addr: SocketAddr,
    store_addr: Option<SocketAddr>,
    settings: Settings,
    presence: Arc<Presence>,
    edge: Arc<Edge>,
    workers: Vec<WorkerHandle>,
    /// Sends when a worker has ended.
    ended: Ended,
    draining: CancellationToken,
    stop: CancellationToken,
    _stop_on_drop: tokio_util::sync::DropGuard,
}

type Ended = Vec<oneshot::Receiver<io::Result<()>>>;

#[derive(Debug)]
struct WorkerHandle {
    orders: mpsc::Sender<WorkerCommand>,
    flusher: Flusher,
}

impl Server {
    /// Starts everything. Call it on a tokio runtime, which serves the admin listener; workers have
    /// threads of their own, and serve the embedded store too.
    pub async fn start(settings: Settings) -> Result<Server, ServerError> {
        let stop = CancellationToken::new();
        let stop_on_drop = stop.clone().drop_guard();
        let draining = CancellationToken::new();
        let clock = Clock::start();
        let seats = Arc::new(Seats::new(settings.max_sessions));

        let listeners = listen::tcp(settings.listen, settings.workers);
        let listeners = listeners.map_err(in_listen("--listen", settings.listen))?;
        let edge_addr = listeners[0].local_addr()?;
        let admin_listener = listen_admin(settings.admin).await?;
        let admin_addr = admin_listener.local_addr()?;
        let store = embedded(&settings)?;
        let store_addr = store.as_ref().map(|store| store.addr);
        let listing = match &store {
            Some(store) => vec![store.node().into()].into(),
            None => settings.memcached.listing.clone(),
        };

        let mut discovery = Discovery::new(listing, Resolver::default());
        let nodes = discovery.first().await;
        let cluster = Arc::new(Cluster::new(nodes, settings.memcached.options.clone()));
        let metrics_of = Counters::default();
        let presence = Arc::new(Presence::new(
            settings.record.clone(),
            cluster.clone(),
            clock,
            settings.ttl_s,
            settings.max_sessions_per_user,
            metrics_of.flush.clone(),
        ));
        let edge = Arc::new(edge(&settings, &seats, clock)?);
        let metrics = Arc::new(Metrics {
            workers: (0..settings.workers).map(|_| Arc::default()).collect(),
            edge: edge.metrics.clone(),
            flush: metrics_of.flush,
            pull: metrics_of.pull,
            seats,
            presence: presence.clone(),
            store: store.as_ref().map(|store| store.store.clone()),
        });
        let admin = Arc::new(Admin {
            metrics: metrics.clone(),
            draining: draining.clone(),
        });
        let interval = settings.memcached.resolve_interval;
        let watching = probe::watch(cluster.clone(), sentinel(&settings)?);
        tokio::spawn(stop.clone().run_until_cancelled_owned(watching));
        let following = discovery.follow(cluster, interval);
        tokio::spawn(stop.clone().run_until_cancelled_owned(following));
        tokio::spawn(routes::serve(admin_listener, admin, stop.clone()));
        let listeners = listeners
            .into_iter()
            .zip(EmbeddedStore::parts(store))
            .collect();
        let (workers, ended) =
            start_workers(&settings, &edge, &metrics, clock, listeners, &stop).await?;
        Ok(Server {
            edge_addr,
            admin_addr,
            store_addr,
            settings,
            presence,
            edge,
            workers,
            ended,
            draining,
            stop,
            _stop_on_drop: stop_on_drop,
        })
    }

    /// Where clients connect.
    pub fn edge_addr(&self) -> SocketAddr {
        self.edge_addr
    }

    /// Where operators look.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Where the embedded store listens, if there is one.
    pub fn store_addr(&self) -> Option<SocketAddr> {
        self.store_addr
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

#[derive(Default)]
struct Counters {
    flush: Arc<presenced_presence::metrics::FlushMetrics>,
    pull: Arc<crate::pull::metrics::PullMetrics>,
}

fn in_listen(flag: &'static str, addr: SocketAddr) -> impl FnOnce(io::Error) -> ServerError {
    move |error| ServerError::Listen { flag, addr, error }
}

async fn listen_admin(addr: SocketAddr) -> Result<TcpListener, ServerError> {
    let bound = TcpListener::bind(addr).await;
    bound.map_err(in_listen("--admin", addr))
}

/// A key of this run's own.
fn sentinel(settings: &Settings) -> Result<Sentinel, ServerError> {
    let run = getrandom::u64().map_err(ServerError::Random)?;
    Ok(Sentinel {
        key: format!("presenced:sentinel:{run:016x}"),
        ttl_s: settings.ttl_s,
        interval: settings.flush_interval.min(PROBE_INTERVAL),
    })
}

/// The store, unless there are others to write to.
fn embedded(settings: &Settings) -> Result<Option<EmbeddedStore>, ServerError> {
    if !settings.memcached.is_empty() {
        return Ok(None);
    }
    let addr = settings.store_listen;
    let store = EmbeddedStore::bind(addr, settings.store_memory_bytes, settings.workers);
    store.map(Some).map_err(in_listen("--store-listen", addr))
}

fn edge(settings: &Settings, seats: &Arc<Seats>, clock: Clock) -> Result<Edge, ServerError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(ServerError::Random)?;
    let keyless = settings.secret.is_none();
    let secret = settings
        .secret
        .as_ref()
        .map_or(&random[..], |secret| secret.as_bytes());
    Ok(Edge {
        auth: Auth::new(secret, settings.rules.clone()),
        origins: settings.origins.clone(),
        allow_query_token: settings.allow_query_token,
        demo: keyless.then(|| Demo::new(secret, &settings.rules)),
        seats: seats.clone(),
        connections_max: settings.max_http_of_worker,
        clock,
        metrics: Arc::default(),
    })
}

/// Starts the workers' threads and waits until each has started.
async fn start_workers(
    settings: &Settings,
    edge: &Arc<Edge>,
    metrics: &Arc<Metrics>,
    clock: Clock,
    listeners: Vec<(std::net::TcpListener, Option<Part>)>,
    stop: &CancellationToken,
) -> Result<(Vec<WorkerHandle>, Ended), ServerError> {
    let (peers, orders): (Vec<_>, Vec<_>) = (0..settings.workers)
        .map(|_| mpsc::channel(WORKER_QUEUE))
        .unzip();
    let (mut workers, mut ends) = (Vec::new(), Vec::new());
    for (number, (listeners, orders)) in listeners.into_iter().zip(orders).enumerate() {
        let (flusher, started) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let thread = WorkerThread {
            number,
            settings: settings.clone(),
            peers: peers.clone(),
            edge: edge.clone(),
            metrics: metrics.clone(),
            clock,
            stop: stop.clone(),
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(EVENT_INTERVAL)
            .build()?;
        thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                let (edge, store) = listeners;
                // Other workers may write to it for longer than this one has sessions.
                let store = store.map(|part| runtime.spawn(part.serve(thread.stop.clone())));
                runtime.block_on(thread.run(edge, orders, flusher, ending));
                store.map(|serving| runtime.block_on(serving));
            })?;
        workers.push(WorkerHandle {
            orders: peers[number].clone(),
            flusher: started.await.map_err(|_| ServerError::Worker)?,
        });
        ends.push(ended);
    }
    Ok((workers, ends))
}

/// What a worker's thread is given.
struct WorkerThread {
    number: usize,
    settings: Settings,
    peers: Vec<mpsc::Sender<WorkerCommand>>,
    edge: Arc<Edge>,
    metrics: Arc<Metrics>,
    clock: Clock,
    stop: CancellationToken,
}

impl WorkerThread {
    async fn run(
        self,
        listener: std::net::TcpListener,
        orders: mpsc::Receiver<WorkerCommand>,
        started: oneshot::Sender<Flusher>,
        ended: oneshot::Sender<io::Result<()>>,
    ) {
        let settings = self.settings;
        let presence = &self.metrics.presence;
        // None of these ends by itself; one that does takes the worker with it, loudly.
        let mut tasks = JoinSet::new();
        let flusher = Flusher::start(presence, self.number, settings.workers, &mut tasks);
        let puller = Puller::start(presence, &self.metrics.pull, &mut tasks);
        let service = PresenceService::new(presence.clone(), flusher.clone(), puller.clone());
        let parts = WorkerConfig {
            // At most 64 workers.
            number: self.number as u16,
            peers: self.peers,
            clock: self.clock,
            metrics: self.metrics.workers[self.number].clone(),
            seats: self.metrics.seats.clone(),
            ping_interval: settings.ping_interval,
            ping_timeout: settings.ping_timeout,
            coalesce: settings.coalesce,
            limits: settings.session_limits,
        };
        let worker = match Worker::new(service, parts) {
            Ok(worker) => worker,
            Err(error) => {
                let _ = ended.send(Err(error));
                return;
            }
        };
        let (sessions, incoming) = mpsc::channel(WORKER_QUEUE);
        let edge = listener::serve(listener, self.edge, puller, sessions, self.stop.clone());
        tasks.spawn(async move {
            if let Err(error) = edge.await {
                tracing::error!(%error, "cannot listen");
            }
        });
        tasks.spawn(flusher.clone().run(settings.flush_interval));
        let refill_rate = settings.memcached.refill_rate / settings.workers as u32;
        tasks.spawn(flusher.clone().refill(refill_rate.max(1)));
        // Nobody waits for it when the start of another worker failed.
        let _ = started.send(flusher);
        let ran = tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(()),
            ran = worker.run(incoming, orders) => ran,
            task = tasks.join_next() => {
                tracing::error!(?task, "a task of the worker ended");
                Err(io::Error::other("a task of the worker ended"))
            }
        };
        let is_drained = ran.is_ok();
        // Nobody waits for it when the server was dropped.
        let _ = ended.send(ran);
        if is_drained {
            // Until then its shards are flushed: users of them may have sessions on other workers.
            self.stop.cancelled().await;
        }
    }
}
