//! A fleet in one thread and in virtual time: edges with real sessions over memory, their users' devices,
//! and nodes of a [`Simulation`]. Everything that keeps users online and asks for them is the server's
//! own code; what is simulated are sockets, time and chance.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use presenced::limits::{DRAIN_SLACK, LAST_FLUSH_TIME_MAX};
use presenced::pull::metrics::PullMetrics;
use presenced::pull::{Answer, Puller};
use presenced::server::presence_service::PresenceService;
use presenced_memcached::discovery::Discovery;
use presenced_memcached::{Cluster, ConnectOptions, NodeList, OnFailure, probe};
use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::users::Hasher;
use presenced_presence::{Record, UserId};
use presenced_session::Seat;
use presenced_session::clock::Clock;
use presenced_session::dialect::Plain;
use presenced_session::memory::Memory;
use presenced_session::slab::SessionKey;
use presenced_session::worker::{NewSession, Worker, WorkerCommand, WorkerConfig};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::frame::{CLOSE, PING, pong_of};
use crate::simulation::Simulation;
use crate::temp::TempFile;

/// How often sessions are looked at.
pub const TICK: Duration = Duration::from_millis(100);

const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

const TTL: Duration = Duration::from_secs(60);

/// An edge without sockets, on one worker.
pub struct Edge {
    presence: Arc<Presence>,
    flusher: Flusher,
    puller: Puller,
    worker: Worker<PresenceService, Memory>,
    clock: Clock,
    /// Its wall clock when it started, Unix time in ms.
    started_at_ms: &'static AtomicU64,
    /// The list of nodes that it reads.
    list: TempFile,
    is_paused: watch::Sender<bool>,
    /// Sessions whose input came while it was paused.
    unread: Vec<SessionKey>,
    drain: Option<Drain>,
    /// The edge ends with them.
    tasks: JoinSet<()>,
}

/// How far the drain of an edge has come.
struct Drain {
    over: Duration,
    /// Cancelled when all users are written, or can't be.
    is_written: CancellationToken,
    is_ordered: bool,
}

impl Edge {
    /// Starts it with `nodes` on its list. `number` is its own, `seed` what it does at random.
    pub async fn start(
        simulation: &Simulation,
        number: u64,
        seed: u64,
        nodes: &[u8],
        on_failure: OnFailure,
    ) -> Edge {
        let list = TempFile::new(&listed(nodes));
        let network = simulation.network(number, seed);
        let mut listing = NodeList::from(Simulation::specs(nodes.iter().copied()));
        listing.file = Some(list.path().to_owned());
        let mut discovery = Discovery::new(listing, network.resolver.clone());
        let config = presenced_memcached::Config {
            on_failure,
            connect: ConnectOptions {
                sentinel: Some(format!("presenced:sentinel:{number}:{seed}")),
                network,
                ..ConnectOptions::default()
            },
            ..presenced_memcached::Config::default()
        };
        let cluster = Arc::new(Cluster::new(discovery.first().await, config));
        let name = format!("edge-{number}");
        let record = Record::new("user:{userId}:online", &name, 0, seed as u32).unwrap();
        let config = presenced_presence::Config {
            hasher: Hasher::fixed(),
            ttl_s: TTL.as_secs() as u32,
            flush_interval: FLUSH_INTERVAL,
            ..presenced_presence::Config::new(record)
        };
        // A few bytes for each edge of a test.
        let started_at_ms: &AtomicU64 = Box::leak(Box::default());
        let clock = Clock::simulated(started_at_ms);
        started_at_ms.store(simulation.unix_ms(), Ordering::Relaxed);
        let presence = Presence::new(&config, cluster.clone(), clock, Arc::default());
        let presence = Arc::new(presence);
        let mut tasks = JoinSet::new();
        let probe_config = probe::Config {
            interval: Duration::from_secs(1),
            entry_bytes: config.record.entry_bytes(),
            writes: presence.clone(),
        };
        tasks.spawn(probe::watch(cluster.clone(), probe_config));
        tasks.spawn(discovery.follow(cluster, Duration::from_secs(10)));
        let flusher = Flusher::start(&presence, 0, 1, &mut tasks);
        let is_paused = watch::Sender::new(false);
        let regularly = flusher.clone().run(FLUSH_INTERVAL);
        tasks.spawn(unless_paused(regularly, is_paused.subscribe()));
        let refilling = flusher.clone().refill(config.refill_rate);
        tasks.spawn(unless_paused(refilling, is_paused.subscribe()));
        let puller = Puller::start(&presence, &Arc::<PullMetrics>::default(), &mut tasks);
        let service = PresenceService::new(presence.clone(), flusher.clone(), puller.clone());
        let worker = WorkerConfig {
            clock,
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

    /// Asks for users, as a client of this edge does.
    pub fn ask(&self, users: &[UserId]) -> impl Future<Output = Answer> + 'static {
        let asked = self.puller.ask(users.to_vec());
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
        let mut key = Vec::new();
        self.presence.record().key(&mut key, user);
        let topology = self.presence.cluster().topology();
        let id = topology.node_of(&key);
        let node = topology.nodes().iter().find(|node| node.id() == id);
        let name = node.unwrap().addr().to_string();
        let number = name
            .strip_prefix("node-")
            .and_then(|name| name.strip_suffix(":11211"));
        number.unwrap().parse().unwrap()
    }

    fn open(&mut self, user: &UserId) -> (SessionKey, Memory) {
        let socket = Memory::default();
        let new = NewSession {
            socket: socket.clone(),
            read_ahead: Default::default(),
            peer: user.clone(),
            dialect: Plain,
            expires_at: Duration::from_secs(1 << 30),
            seat: Seat::take(self.worker.seats()).unwrap(),
        };
        (self.worker.open(new, self.clock.now()), socket)
    }

    fn tick(&mut self) {
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

    fn read(&mut self, key: SessionKey) {
        if self.is_paused() {
            return self.unread.push(key);
        }
        while self.worker.readable(key, self.clock.now()) {}
    }

    fn grace(&self) -> Duration {
        self.presence.cluster().config().connect.timeout + DRAIN_SLACK
    }

    /// The steps of a server's drain; [`Edge::tick`] gives the worker its order.
    fn begin_drain(&mut self, over: Duration) {
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
                    sleep(FLUSH_INTERVAL).await;
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

/// A session of a user, seen from the client.
struct Device {
    edge: u64,
    key: SessionKey,
    socket: Memory,
    connected: Instant,
    /// It is gone without a word: nobody answers its pings.
    has_vanished: bool,
}

/// Edges, and the devices of their users.
pub struct Fleet {
    pub simulation: Simulation,
    pub edges: BTreeMap<u64, Edge>,
    devices: BTreeMap<UserId, Vec<Device>>,
    /// What the wall clocks showed when each user's devices connected, Unix ms.
    connected_at_ms: BTreeMap<UserId, BTreeSet<u64>>,
    drained: Vec<Session>,
}

/// An answering device of a user, by where it is.
#[derive(Clone, Debug)]
pub struct Session {
    pub user: UserId,
    pub edge: u64,
    pub connected: Instant,
}

impl Fleet {
    /// Without an edge or a user.
    pub fn new(simulation: Simulation) -> Fleet {
        Fleet {
            simulation,
            edges: BTreeMap::new(),
            devices: BTreeMap::new(),
            connected_at_ms: BTreeMap::new(),
            drained: Vec::new(),
        }
    }

    /// Connects one more device of `user` to an edge.
    pub fn connect(&mut self, user: &UserId, edge: u64) {
        self.simulation
            .note(&format!("{user} connects to edge {edge}"));
        let at = self.edges.get_mut(&edge).unwrap();
        let times = self.connected_at_ms.entry(user.clone()).or_default();
        times.insert(at.clock.unix_ms());
        let (key, socket) = at.open(user);
        self.devices.entry(user.clone()).or_default().push(Device {
            edge,
            key,
            socket,
            connected: Instant::now(),
            has_vanished: false,
        });
    }

    /// Disconnects the oldest device of `user`, if there is one.
    pub fn disconnect(&mut self, user: &UserId) {
        let devices = self
            .devices
            .get_mut(user)
            .filter(|devices| !devices.is_empty());
        let Some(device) = devices.map(|devices| devices.remove(0)) else {
            return;
        };
        self.simulation
            .note(&format!("{user} leaves edge {}", device.edge));
        device.socket.hang_up();
        if let Some(edge) = self.edges.get_mut(&device.edge) {
            edge.read(device.key);
        }
    }

    /// Lets the oldest device of `user` vanish: it answers no ping, and its connection does not end.
    pub fn vanish(&mut self, user: &UserId) {
        let devices = self.devices.get_mut(user).into_iter().flatten();
        if let Some(device) = devices.into_iter().find(|device| !device.has_vanished) {
            self.simulation
                .note(&format!("{user} vanishes from edge {}", device.edge));
            device.has_vanished = true;
        }
    }

    /// Ends an edge at once, with its sessions; its users' devices are gone.
    pub fn kill_edge(&mut self, edge: u64) {
        self.simulation.note(&format!("edge {edge} is killed"));
        self.edges.remove(&edge);
        for devices in self.devices.values_mut() {
            devices.retain(|device| device.edge != edge);
        }
    }

    /// Stops an edge as SIGSTOP does, for as long as [`Fleet::resume_edge`] is not called. Tokio can't
    /// stop single tasks, so what an edge starts by itself runs on, cut off from all of `nodes`: the flush
    /// and the refill, which are stopped, give it nothing to write.
    pub fn pause_edge(&mut self, edge: u64, nodes: Range<u8>) {
        self.simulation.note(&format!("edge {edge} stands still"));
        nodes.for_each(|node| self.simulation.set_cut(edge, node, true));
        self.edges[&edge].is_paused.send_replace(true);
    }

    /// Lets an edge go on; if it was killed meanwhile, the next one has its links.
    pub fn resume_edge(&mut self, edge: u64, nodes: Range<u8>) {
        self.simulation.note(&format!("edge {edge} goes on"));
        nodes.for_each(|node| self.simulation.set_cut(edge, node, false));
        if let Some(edge) = self.edges.get(&edge) {
            edge.is_paused.send_replace(false);
        }
    }

    /// Begins the drain of an edge, `over` which its sessions are closed.
    pub fn drain_edge(&mut self, edge: u64, over: Duration) {
        self.simulation.note(&format!("edge {edge} is drained"));
        self.edges.get_mut(&edge).unwrap().begin_drain(over);
    }

    /// Takes the answering devices that drains have closed.
    pub fn take_drained(&mut self) -> Vec<Session> {
        std::mem::take(&mut self.drained)
    }

    /// All answering devices, in order of their users.
    pub fn sessions(&self) -> impl Iterator<Item = Session> {
        self.devices.iter().flat_map(|(user, devices)| {
            let answering = devices.iter().filter(|device| !device.has_vanished);
            answering.map(|device| Session {
                user: user.clone(),
                edge: device.edge,
                connected: device.connected,
            })
        })
    }

    /// Whether the wall clock of an edge showed `unix_ms` when a device of `user` connected there.
    pub fn has_connected_at(&self, user: &UserId, unix_ms: u64) -> bool {
        let times = self.connected_at_ms.get(user);
        times.is_some_and(|times| times.contains(&unix_ms))
    }

    /// Users without a device.
    pub fn offline(&self, users: &[UserId]) -> Vec<UserId> {
        let has_none = |user: &&UserId| self.devices.get(*user).is_none_or(Vec::is_empty);
        users.iter().filter(has_none).cloned().collect()
    }

    /// Lets time pass; devices answer their pings.
    pub async fn pass(&mut self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(TICK);
            sleep(step).await;
            left -= step;
            self.edges.values_mut().for_each(Edge::tick);
            self.answer_pings();
        }
    }

    fn answer_pings(&mut self) {
        for (user, devices) in &mut self.devices {
            devices.retain(|device| {
                let said = device.socket.take();
                let Some(edge) = self.edges.get_mut(&device.edge) else {
                    return false;
                };
                // The server says nothing else to a client that asks nothing.
                match said.first() {
                    Some(&CLOSE) => {
                        self.simulation
                            .note(&format!("{user} is closed by edge {}", device.edge));
                        device.socket.hang_up();
                        edge.read(device.key);
                        if edge.drain.is_some() && !device.has_vanished {
                            self.drained.push(Session {
                                user: user.clone(),
                                edge: device.edge,
                                connected: device.connected,
                            });
                        }
                        return false;
                    }
                    Some(&PING) if !device.has_vanished => {
                        device.socket.send(&pong_of(&said[..10]));
                        edge.read(device.key);
                    }
                    _ => {}
                }
                true
            });
        }
    }
}
