//! Thousands of users through the session layer, without sockets: a worker whose sessions are in memory
//! and answer each ping, with everything between them and real memcached processes.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use presenced::gateway::client_dialect::ClientDialect;
use presenced::pull::Puller;
use presenced::pull::Pulls;
use presenced::server::presence_service::PresenceService;
use presenced_memcached::discovery::Discovery;
use presenced_memcached::{self as memcached, Cluster, NodeList, marker, probe};
use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::metrics::FlushMetrics;
use presenced_presence::{Record, UserId};
use presenced_session::clock::Clock;
use presenced_session::worker::{NewSession, Worker, WorkerConfig};
use presenced_session::{Config, Seat};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;

use crate::fleet::visitor;
use crate::frame::pong_of;
use crate::memcached::Memcached;
use crate::null::{Null, keep_pings, take_pings};
use crate::{PATIENCE, until};

/// What a crowd is like.
#[derive(Clone)]
pub struct Plan {
    pub users: usize,
    pub nodes: Vec<String>,
    pub ttl: Duration,
    pub ping_interval: Duration,
    pub flush_interval: Duration,
    pub refill_rate: u32,
    pub resolve_interval: Duration,
    pub options: memcached::Config,
}

impl Plan {
    /// On `nodes`, with times like a server's, but shorter.
    pub fn on(users: usize, nodes: &[String]) -> Plan {
        Plan {
            users,
            nodes: nodes.to_vec(),
            ttl: Duration::from_secs(60),
            ping_interval: Duration::from_secs(1),
            flush_interval: Duration::from_millis(500),
            refill_rate: 100_000,
            resolve_interval: Duration::from_millis(200),
            options: memcached::Config::default(),
        }
    }

    fn ping_timeout(&self) -> Duration {
        self.ping_interval * 4 / 5
    }

    fn headroom(&self) -> Duration {
        self.ttl - self.ping_interval - self.ping_timeout() - self.flush_interval
    }
}

/// A crowd that is there; it leaves when dropped.
pub struct Crowd {
    pub presence: Arc<Presence>,
    pub metrics: Arc<FlushMetrics>,
    pub users: Vec<String>,
    log: Log,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Crowd {
    /// Returns when all have their sessions.
    pub async fn gather(plan: Plan) -> Crowd {
        let specs: Vec<_> = plan
            .nodes
            .iter()
            .map(|node| node.parse().unwrap())
            .collect();
        let resolver = plan.options.connect.network.resolver.clone();
        let mut discovery = Discovery::new(NodeList::from(specs), resolver);
        let nodes = discovery.first().await;
        let mut options = plan.options.clone();
        options.connect.sentinel = Some(format!("presenced:sentinel:{:x}", fastrand::u64(..)));
        options.marker = marker::Config {
            entry_ttl: plan.ttl,
            headroom: plan.headroom(),
            flush_interval: plan.flush_interval,
            ..options.marker
        };
        let cluster = Arc::new(Cluster::new(nodes, options));
        let metrics = Arc::new(FlushMetrics::default());
        let presence = Arc::new(Presence::new(
            &presenced_presence::Config {
                sessions_per_user_max: 32,
                ..presenced_presence::Config::new(
                    Record::new("user:{userId}:online", "edge-1", 0, 1).unwrap(),
                )
            },
            cluster.clone(),
            Clock::start(),
            metrics.clone(),
        ));
        let users: Vec<_> = (0..plan.users).map(|number| format!("u{number}")).collect();
        let stop = CancellationToken::new();
        let (members, there, stopped) = (users.clone(), presence.clone(), stop.clone());
        let log = Log::default();
        let writer = log.clone();
        let thread = thread::spawn(move || {
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(move || writer.clone());
            LazyLock::force(&NOBODY);
            let _all_of_this_thread = tracing::subscriber::set_default(subscriber.finish());
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(stopped.run_until_cancelled(live(plan, discovery, members, there)));
        });
        let crowd = Crowd {
            presence,
            metrics,
            users,
            log,
            stop,
            thread: Some(thread),
        };
        until("all are here", PATIENCE, async || {
            crowd.presence.users().len() == crowd.users.len()
        })
        .await;
        crowd
    }

    /// Waits until each user is on exactly one of the nodes, or on one more by a former ring.
    pub async fn all_on(&self, nodes: &[&Memcached], within: Duration) {
        until("all are online", within, async || {
            let mut count = 0;
            for node in nodes {
                count += node.count_online_of_many(&self.users).await;
            }
            count >= self.users.len()
        })
        .await;
    }

    /// How many lines of the log contain `text`.
    pub fn logged(&self, text: &str) -> usize {
        let log = self.log.0.lock().unwrap();
        let log = String::from_utf8_lossy(&log);
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until nothing is pending and all that was is acknowledged.
    pub async fn all_written(&self, within: Duration) {
        let flushed = self.metrics.flushed.value();
        until("all are written again", within, async || {
            self.metrics.flushed.value() >= flushed + self.users.len() as u64
        })
        .await;
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || thread::panicking(),
                "the crowd's thread panicked"
            );
        }
    }
}

async fn live(plan: Plan, discovery: Discovery, users: Vec<String>, presence: Arc<Presence>) {
    let cluster = presence.cluster().clone();
    let mut tasks = JoinSet::new();
    let probe_config = probe::Config {
        interval: plan.flush_interval.min(Duration::from_secs(1)),
        entry_bytes: presence.record().entry_bytes(),
        writes: presence.clone(),
    };
    tasks.spawn(probe::watch(cluster.clone(), probe_config));
    tasks.spawn(discovery.follow(cluster, plan.resolve_interval));
    let flusher = Flusher::start(&presence, 0, 1, &mut tasks);
    tasks.spawn(flusher.clone().run());
    tasks.spawn(flusher.clone().refill(plan.refill_rate));
    let puller = Puller::start(&presence, &Arc::<Pulls>::default(), &mut tasks);
    let clock = Clock::start();
    let parts = WorkerConfig {
        clock,
        config: Config {
            ping_interval: plan.ping_interval,
            ping_timeout: plan.ping_timeout(),
            frames_per_second_max: 1_000_000,
            ..Config::default()
        },
        ..WorkerConfig::alone()
    };
    let service = PresenceService::new(presence, flusher, puller);
    let mut worker: Worker<_, _> = Worker::new(service, parts).unwrap();
    let keys: Vec<_> = (0u32..)
        .zip(&users)
        .map(|(number, user)| {
            let new = NewSession {
                socket: Null::new(number).into(),
                read_ahead: Default::default(),
                peer: visitor(UserId::new(user).unwrap()),
                dialect: ClientDialect::Plain,
                expires_at: Duration::from_secs(1 << 30),
                seat: Seat::take(worker.seats()).unwrap(),
            };
            worker.open(new, clock.now())
        })
        .collect();
    let mut ticks = interval(Duration::from_millis(10));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            ended = tasks.join_next() => panic!("a task ended: {ended:?}"),
        }
        keep_pings(Vec::new());
        worker.tick(clock.now()).unwrap();
        for (number, ping) in take_pings() {
            let key = keys[number as usize];
            let mut pong = pong_of(&ping);
            worker.receive(key, &mut pong, clock.now()).unwrap();
        }
    }
}

/// A subscriber beside that of a crowd. While there is one only, tracing asks whichever thread comes by a line of
/// the log first whether it is wanted, and takes the answer of a thread without a subscriber for everyone's.
static NOBODY: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

/// What a crowd's server would have logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
