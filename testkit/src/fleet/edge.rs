//! An edge without sockets.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use presenced::gateway::arrival::{Arrival, Visitor};
use presenced::gateway::caller::Caller;
use presenced::gateway::client_dialect::ClientDialect;
use presenced::limits::{DRAIN_SLACK, LAST_FLUSH_TIME_MAX};
use presenced::pull::Pulls;
use presenced::pull::{Answer, Puller};
use presenced::server::presence_service::PresenceService;
use presenced_memcached::OnFailure;
use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::limits::SHARDS;
use presenced_presence::{Slot, UserId};
use presenced_session::Seat;
use presenced_session::clock::Clock;
use presenced_session::memory::Memory;
use presenced_session::slab::SessionKey;
use presenced_session::worker::{NewSession, Worker, WorkerCommand, WorkerConfig};
use presenced_tls::rustls::SupportedCipherSuite;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::client_end::ClientEnd;
use crate::edge_core::{Core, Setup};
use crate::simulation::Simulation;
use crate::temp::TempFile;

/// How often sessions are looked at.
pub const TICK: Duration = Duration::from_millis(100);

/// Users of a shard that are looked at.
const USERS_PER_SHARD_MAX: u32 = 1000;

/// An edge without sockets, on one worker.
pub struct Edge {
    presence: Arc<Presence>,
    flusher: Flusher,
    puller: Puller,
    worker: Worker<PresenceService, Memory>,
    pub(super) clock: Clock,
    /// Its wall clock when it started, Unix time in ms.
    started_at_ms: &'static AtomicU64,
    /// The list of nodes that it reads.
    list: TempFile,
    pub(super) is_paused: watch::Sender<bool>,
    /// The nodes of users, by the version of the ring: without it, a test would do little else than hash.
    homes: RefCell<(u64, BTreeMap<UserId, u8>)>,
    /// Sessions whose input came while it was paused.
    unread: Vec<SessionKey>,
    pub(super) drain: Option<Drain>,
    /// The edge ends with them.
    tasks: JoinSet<()>,
}

/// How far the drain of an edge has come.
pub(super) struct Drain {
    over: Duration,
    /// Cancelled when all users are written, or can't be.
    is_written: CancellationToken,
    is_ordered: bool,
}

impl Edge {
    /// Starts it with `nodes` on its list. `number` is its own, `seed` what it does at random. It writes
    /// `refill_rate` users a second again to a node that has lost its data.
    pub async fn start(
        simulation: &Simulation,
        number: u64,
        seed: u64,
        nodes: &[u8],
        on_failure: OnFailure,
        refill_rate: u32,
    ) -> Edge {
        // A few bytes for each edge of a test.
        let started_at_ms: &AtomicU64 = Box::leak(Box::default());
        let clock = Clock::simulated(started_at_ms);
        started_at_ms.store(simulation.unix_ms(), Ordering::Relaxed);
        let core = Core::start(Setup {
            listed: listed(nodes),
            name: format!("edge-{number}"),
            run: seed as u32,
            network: simulation.network(number, seed),
            clock,
            on_failure,
            refill_rate,
        });
        let Core {
            presence,
            flusher,
            list,
            mut tasks,
        } = core.await;
        let is_paused = watch::Sender::new(false);
        let regularly = flusher.clone().run();
        tasks.spawn(unless_paused(regularly, is_paused.subscribe()));
        let refilling = flusher.clone().refill(refill_rate);
        tasks.spawn(unless_paused(refilling, is_paused.subscribe()));
        let puller = Puller::start(&presence, &Arc::<Pulls>::default(), &mut tasks);
        let service = PresenceService::new(presence.clone(), flusher.clone(), puller.clone());
        let worker = WorkerConfig {
            clock,
            seed,
            ..WorkerConfig::alone()
        };
        Edge {
            presence,
            flusher,
            puller,
            worker: Worker::new(service, worker).unwrap(),
            clock,
            started_at_ms,
            list,
            is_paused,
            homes: RefCell::default(),
            unread: Vec::new(),
            drain: None,
            tasks,
        }
    }

    /// Lists other nodes; the edge sees it at its next look.
    pub fn list(&self, nodes: &[u8]) {
        std::fs::write(self.list.path(), listed(nodes)).unwrap();
    }

    /// What is known of the users here.
    pub fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    /// Users with a session here whose entries are to be written.
    pub fn pending(&self) -> BTreeSet<UserId> {
        let (users, pending) = (self.presence.users(), self.presence.pending());
        let mut found = BTreeSet::new();
        for shard in 0..SHARDS {
            users.visit(
                shard,
                0,
                USERS_PER_SHARD_MAX,
                |index, user, _, is_online| {
                    if is_online && pending.contains(Slot::new(shard, index)) {
                        found.insert(user.clone());
                    }
                },
            );
        }
        found
    }

    /// Asks for users, as a client of this edge does.
    pub fn ask(&self, users: &[UserId]) -> impl Future<Output = Answer> + 'static {
        let asker = self.puller.asker(&users[0]);
        let asked = self.puller.ask(asker, users.to_vec());
        async move { asked.await.unwrap() }
    }

    /// Whether users can connect to it.
    pub fn is_open(&self) -> bool {
        !self.is_paused() && self.drain.is_none()
    }

    /// Whether it stands still.
    pub fn is_paused(&self) -> bool {
        *self.is_paused.borrow()
    }

    /// Whether it was drained and has closed its last session.
    pub fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.is_ordered) && self.worker.is_empty()
    }

    /// Sessions that there are, those that are closing included.
    pub fn sessions(&self) -> usize {
        self.worker.len()
    }

    /// Sets its wall clock `by` so many ms, forward or backward.
    pub fn set_wall_clock(&self, by_ms: i64) {
        let started_at_ms = self.started_at_ms.load(Ordering::Relaxed);
        let set = started_at_ms.saturating_add_signed(by_ms);
        self.started_at_ms.store(set, Ordering::Relaxed);
    }

    /// The number of the node that has the entry of `user`, as this edge sees the ring.
    pub fn node_of(&self, user: &UserId) -> u8 {
        let topology = self.presence.cluster().topology();
        let mut homes = self.homes.borrow_mut();
        if homes.0 != topology.version() {
            *homes = (topology.version(), BTreeMap::new());
        }
        if let Some(&home) = homes.1.get(user) {
            return home;
        }
        let mut key = Vec::new();
        self.presence.record().key(&mut key, user);
        let id = topology.node_of(&key);
        let node = topology.nodes().iter().find(|node| node.id() == id);
        let name = node.unwrap().addr().to_string();
        let number = name
            .strip_prefix("node-")
            .and_then(|name| name.strip_suffix(":11211"));
        let home = number.unwrap().parse().unwrap();
        homes.1.insert(user.clone(), home);
        home
    }

    pub(super) fn open(
        &mut self,
        user: &UserId,
        suite: Option<SupportedCipherSuite>,
    ) -> (SessionKey, ClientEnd) {
        let (socket, connection) = ClientEnd::pair(suite);
        let new = NewSession {
            socket: connection.into(),
            read_ahead: Default::default(),
            peer: visitor(user.clone()),
            dialect: ClientDialect::Plain,
            expires_at: Duration::from_secs(1 << 30),
            seat: Seat::take(self.worker.seats()).unwrap(),
        };
        (self.worker.open(new, self.clock.now()), socket)
    }

    pub(super) fn tick(&mut self) {
        if self.is_paused() {
            return;
        }
        for key in std::mem::take(&mut self.unread) {
            self.read(key);
        }
        if let Some(drain) = &mut self.drain
            && drain.is_written.is_cancelled()
            && !std::mem::replace(&mut drain.is_ordered, true)
        {
            let (over, grace) = (drain.over, self.grace());
            self.worker.order(WorkerCommand::Drain { over, grace });
        }
        self.worker.tick(self.clock.now()).unwrap();
    }

    pub(super) fn read(&mut self, key: SessionKey) {
        if self.is_paused() {
            return self.unread.push(key);
        }
        while self.worker.readable(key, self.clock.now()) {}
    }

    fn grace(&self) -> Duration {
        self.presence.cluster().config().connect.timeout + DRAIN_SLACK
    }

    /// The steps of a server's drain; [`Edge::tick`] gives the worker its order.
    pub(super) fn begin_drain(&mut self, over: Duration) {
        let is_written = CancellationToken::new();
        self.drain = Some(Drain {
            over,
            is_written: is_written.clone(),
            is_ordered: false,
        });
        self.presence.begin_last_flush(over.as_secs() as u32);
        let (presence, flusher) = (self.presence.clone(), self.flusher.clone());
        let write_for = over + self.grace();
        self.tasks.spawn(async move {
            let flush = timeout(LAST_FLUSH_TIME_MAX, flusher.flush_all());
            let mut is_all = flush.await.unwrap_or(false);
            is_written.cancel();
            let write_the_rest = async {
                loop {
                    sleep(presence.flush_interval()).await;
                    if !is_all {
                        is_all = flusher.flush_all().await;
                    }
                }
            };
            let _: Result<(), _> = timeout(write_for, write_the_rest).await;
            presence.stop_writing();
        });
    }
}

/// Polls `task` only while the edge is not paused.
async fn unless_paused(task: impl Future<Output = ()>, mut is_paused: watch::Receiver<bool>) {
    let mut task = pin!(task);
    loop {
        // The task ends with the edge, which has the other end.
        let _ = is_paused.wait_for(|is_paused| !is_paused).await;
        tokio::select! {
            biased;
            _ = is_paused.wait_for(|is_paused| *is_paused) => {}
            () = &mut task => return,
        }
    }
}

fn listed(nodes: &[u8]) -> String {
    nodes
        .iter()
        .map(|number| format!("node-{number}:11211\n"))
        .collect()
}

/// A user whom a handshake from this machine has let in.
pub fn visitor(user: UserId) -> Arrival {
    let caller = Caller([127, 0, 0, 1].into());
    Arrival::User(Visitor {
        user,
        caller,
        grant: Default::default(),
        token: Default::default(),
        answer_s: None,
    })
}
