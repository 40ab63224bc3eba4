//! Real sessions of the presence service over connections that lead nowhere.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use presenced::pull::Puller;
use presenced::pull::metrics::PullMetrics;
use presenced::server::presence_service::PresenceService;
use presenced_memcached as memcached;
use presenced_memcached::{Cluster, NodeAddr, NodeSpec};
use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::metrics::FlushMetrics;
use presenced_presence::{Record, UserId};
use presenced_session::Config;
use presenced_session::clock::Clock;
use presenced_session::slab::SessionKey;
use presenced_session::transport::Transport;
use presenced_session::worker::{NewSession, Worker, WorkerConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// A socket of four bytes, as a real one is. It takes everything, and has nothing to read.
pub struct Null(u32);

/// What a ping bears, and the number of the session that got it.
pub type Ping = (u32, [u8; 8]);

thread_local! {
    /// Pings written, if they are kept.
    static WRITTEN: RefCell<Option<Vec<Ping>>> = const { RefCell::new(None) };
}

impl Read for Null {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Null {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN.with_borrow_mut(|written| {
            if let (Some(written), Some(payload)) = (written, bytes.last_chunk()) {
                written.push((self.0, *payload));
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Null {
    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    fn finish(&self) {}
}

/// A worker and its sessions.
pub struct Sessions {
    pub worker: Worker<PresenceService, Null>,
    pub presence: Arc<Presence>,
    pub tokens: Vec<SessionKey>,
    pub now: Duration,
    interval: Duration,
    _tasks: JoinSet<()>,
    _runtime: Runtime,
}

impl Sessions {
    /// None yet, with pings each `interval`.
    pub fn new(interval: Duration) -> Sessions {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        // Nobody is there, and nothing that would dial runs.
        let node = NodeAddr::Tcp("127.0.0.1".into(), 1);
        let clock = Clock::start();
        let presence = Arc::new(Presence::new(
            &presenced_presence::Config {
                ttl_s: 60,
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
        let puller = Puller::start(&presence, &Arc::<PullMetrics>::default(), &mut tasks);
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
            tokens: Vec::new(),
            now: clock.now(),
            interval,
            _tasks: tasks,
            _runtime: runtime,
        }
    }

    /// Opens `count` more, each of a user of its own.
    pub fn open(&mut self, count: u32) {
        for _ in 0..count {
            let number = self.worker.len();
            let new = NewSession {
                socket: Null(number as u32),
                read_ahead: Default::default(),
                peer: UserId::new(&format!("user-{number}")).unwrap(),
                expires_at: Duration::from_secs(1 << 30),
            };
            let token = self.worker.open(new, self.now);
            self.tokens.push(token);
        }
    }

    /// Turns the wheel once round, a tick at a time, and hands over the pings of each tick. Returns
    /// the time that the ticks took.
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
            WRITTEN.set(Some(std::mem::take(&mut written)));
            let start = Instant::now();
            self.worker.tick(self.now).unwrap();
            time += start.elapsed();
            written = WRITTEN.take().unwrap_or_default();
            pinged(self, &written);
            written.clear();
        }
        time
    }

    /// Answers a ping.
    #[inline]
    pub fn answer(&mut self, (number, payload): Ping) {
        let mut pong = [0; 14];
        pong[..2].copy_from_slice(&[0x8a, 0x88]);
        // A mask of zeros: the payload as it is.
        pong[6..].copy_from_slice(&payload);
        let token = self.tokens[number as usize];
        self.worker.receive(token, &mut pong, self.now).unwrap();
    }
}
