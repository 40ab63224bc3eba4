//! An edge of one worker for the echo examples: presenced's own way in, HTTP with polling and upgrades included, to a
//! service of the example's own. There is no token.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use presenced::cli::Flags;
use presenced::gateway::arrival::Arrival;
use presenced::gateway::client_dialect::ClientDialect;
use presenced::gateway::health::{Departure, Health};
use presenced::gateway::socketio::SocketIoWorker;
use presenced::gateway::{Gateway, listener};
use presenced::pull::{Puller, Pulls};
use presenced_memcached::Cluster;
use presenced_presence::flush::Presence;
use presenced_session::limits::WORKER_QUEUE;
use presenced_session::service::Service;
use presenced_session::worker::{Worker, WorkerConfig};
use presenced_session::{Config, Seats};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What both examples may be told.
#[derive(Debug, Parser)]
pub(crate) struct EchoFlags {
    /// Where to listen
    pub(crate) address: SocketAddr,
    /// Time between two pings, in ms
    #[arg(long, default_value_t = 25_000, value_name = "MS")]
    pub(crate) ping_interval: u64,
    /// How long a client may take to answer a ping, in ms
    #[arg(long, default_value_t = 20_000, value_name = "MS")]
    pub(crate) ping_timeout: u64,
    /// How long a client may be without a namespace, in ms
    #[arg(long, default_value_t = 45_000, value_name = "MS")]
    pub(crate) connect_timeout: u64,
    /// Longest body and longest message, in bytes
    #[arg(long, default_value_t = 1_000_000, value_name = "BYTES")]
    pub(crate) max_payload: usize,
}

/// Serves clients at `path` with what `service` makes, until something fails.
pub(crate) async fn serve<S>(
    flags: &EchoFlags,
    (path, namespaces): (&str, &str),
    service: impl FnOnce(SocketIoWorker, Config, &presenced_socketio::Rules) -> S,
) -> Result<(), Box<dyn Error>>
where
    S: Service<Peer = Arrival, Dialect = ClientDialect>,
{
    let mut arguments = vec!["echo", "--workers", "1", "--socketio-path", path];
    if !namespaces.is_empty() {
        arguments.extend(["--socketio-namespaces", namespaces]);
    }
    let mut config = Flags::try_parse_from(arguments)?.check()?;
    let socketio = config.gateway.socketio.as_mut().ok_or("no Socket.IO")?;
    socketio.payload_bytes_max = flags.max_payload;
    socketio.rules.attachment_bytes_max = flags.max_payload;
    socketio.rules.connect_timeout = Duration::from_millis(flags.connect_timeout);
    socketio.times.queue_bytes_max = 4 * flags.max_payload;
    let rules = socketio.rules.clone();
    let parts = WorkerConfig {
        config: Config {
            ping_interval: Duration::from_millis(flags.ping_interval),
            ping_timeout: Duration::from_millis(flags.ping_timeout),
            message_bytes_max: flags.max_payload,
            frames_per_second_max: u32::MAX,
            outbox_bytes_max: 4 * flags.max_payload,
            ..config.session
        },
        seats: Arc::new(Seats::new(config.sessions_max)),
        ..WorkerConfig::alone()
    };
    // Nobody is looked up or written, but the way in has pulls.
    let cluster = Arc::new(Cluster::new([], config.memcached));
    let health = Health {
        departure: Departure::default(),
        cluster: cluster.clone(),
        keys: Arc::default(),
        revocations: Arc::default(),
    };
    let gateway = Gateway::new(&config.gateway, &parts.seats, parts.clock, None, &health)?;
    let gateway = Arc::new(gateway);
    let socketio = gateway.socketio.clone().ok_or("no Socket.IO")?;
    let presence = Presence::new(&config.presence, cluster, parts.clock, Arc::default());
    let mut tasks = JoinSet::new();
    let pulls = Arc::new(Pulls::new(config.pull));
    let puller = Puller::start(&Arc::new(presence), &pulls, &mut tasks);

    let service = service(SocketIoWorker::new(&socketio, 0), parts.config, &rules);
    let worker = Worker::with_relays(service, parts)?;
    let (sessions, incoming) = mpsc::channel(WORKER_QUEUE);
    // Nobody orders anything, but a worker without a line to it would end.
    let (_orders, orders) = mpsc::channel(1);
    let listener = TcpListener::bind(flags.address).await?;
    println!("echo on http://{}", listener.local_addr()?);
    let stop = CancellationToken::new();
    tokio::select! {
        ended = listener::serve(listener.into_std()?, gateway, puller, sessions, stop) => ended?,
        ended = worker.run(incoming, orders) => ended?,
    }
    Ok(())
}
