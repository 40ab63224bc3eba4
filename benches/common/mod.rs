//! Real sessions of the presence service on sockets that discard everything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use presenced::gateway::client_dialect::ClientDialect;
use presenced::pull::Puller;
use presenced::pull::Pulls;
use presenced::server::presence_service::PresenceService;
use presenced_memcached as memcached;
use presenced_memcached::{Cluster, NodeAddr, NodeSpec};
use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::metrics::FlushMetrics;
use presenced_presence::{Record, UserId};
use presenced_session::clock::Clock;
use presenced_session::slab::SessionKey;
use presenced_session::worker::{NewSession, Worker, WorkerConfig};
use presenced_session::{Config, Seat};
use presenced_testkit::fleet::visitor;
pub use presenced_testkit::null::Ping;
use presenced_testkit::null::{Null, keep_pings, take_pings};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// A worker and its sessions.
pub struct Sessions {
    pub worker: Worker<PresenceService, Null>,
    pub presence: Arc<Presence>,
    pub keys: Vec<SessionKey>,
    pub now: Duration,
    /// Of the sessions that are opened.
    pub dialect: ClientDialect,
    interval: Duration,
    _tasks: JoinSet<()>,
    _runtime: Runtime,
}

impl Sessions {
    /// Starts without sessions. They will be pinged every `interval`.
    pub fn new(interval: Duration) -> Sessions {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        // Nobody listens there, and no task runs that would dial.
        let node = NodeAddr::Tcp("127.0.0.1".into(), 1);
        let clock = Clock::start();
        let presence = Arc::new(Presence::new(
            &presenced_presence::Config {
                sessions_per_user_max: 32,
                ..presenced_presence::Config::new(
                    Record::new("user:{userId}:online", "edge-1", 0, 1).unwrap(),
                )
            },
            Arc::new(Cluster::new(
                [NodeSpec::from(node).into()],
                memcached::Config::default(),
            )),
            clock,
            Arc::<FlushMetrics>::default(),
        ));
        let mut tasks = JoinSet::new();
        let flusher = Flusher::start(&presence, 0, 1, &mut tasks);
        let puller = Puller::start(&presence, &Arc::<Pulls>::default(), &mut tasks);
        let parts = WorkerConfig {
            clock,
            config: Config {
                ping_interval: interval,
                ping_timeout: interval * 4 / 5,
                frames_per_second_max: 1_000_000,
                ..Config::default()
            },
            ..WorkerConfig::alone()
        };
        let service = PresenceService::new(presence.clone(), flusher, puller);
        Sessions {
            worker: Worker::new(service, parts).unwrap(),
            presence,
            keys: Vec::new(),
            now: clock.now(),
            dialect: ClientDialect::Plain,
            interval,
            _tasks: tasks,
            _runtime: runtime,
        }
    }

    /// Opens `count` more sessions, each of a different user.
    pub fn open(&mut self, count: u32) {
        for _ in 0..count {
            let number = self.worker.len();
            let new = NewSession {
                socket: Null::new(number as u32).into(),
                read_ahead: Default::default(),
                peer: visitor(UserId::new(&format!("user-{number}")).unwrap()),
                dialect: self.dialect,
                expires_at: Duration::from_secs(1 << 30),
                seat: Seat::take(self.worker.seats()).unwrap(),
            };
            let key = self.worker.open(new, self.now);
            self.keys.push(key);
        }
    }

    /// Runs one revolution of the timing wheel tick by tick, and passes the pings of each tick to
    /// `pinged`. Returns the time that the ticks took.
    pub fn round(
        &mut self,
        tick: Duration,
        mut pinged: impl FnMut(&mut Sessions, &[Ping]),
    ) -> Duration {
        let end = self.now + self.interval;
        let mut time = Duration::ZERO;
        let mut written = Vec::with_capacity(1024);
        while self.now < end {
            self.now += tick;
            keep_pings(std::mem::take(&mut written));
            let start = Instant::now();
            self.worker.tick(self.now).unwrap();
            time += start.elapsed();
            written = take_pings();
            pinged(self, &written);
            written.clear();
        }
        time
    }

    /// Answers a ping.
    #[inline]
    pub fn answer(&mut self, (number, ping): Ping) {
        let mut pong = [0; 14];
        pong[..2].copy_from_slice(&[0x8a, 0x88]);
        // A mask of zeros leaves the payload unchanged.
        pong[6..].copy_from_slice(&ping[2..]);
        let key = self.keys[number as usize];
        self.worker.receive(key, &mut pong, self.now).unwrap();
    }
}
