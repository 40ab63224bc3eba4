//! A fleet in one thread and in virtual time: edges with real sessions over memory, their users' devices,
//! and nodes of a [`Simulation`]. Everything that keeps users online and asks for them is the server's
//! own code; what is simulated are sockets, time and chance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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
use presenced_session::worker::{NewSession, Worker, WorkerConfig};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::frame::{CLOSE, PING, pong_of};
use crate::simulation::Simulation;
use crate::temp::TempFile;

/// How often sessions are looked at.
pub const TICK: Duration = Duration::from_millis(100);

/// Unix time when a fleet starts.
pub const EPOCH: Duration = Duration::from_secs(1_700_000_000);

const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

const TTL: Duration = Duration::from_secs(60);

/// An edge without sockets, on one worker.
pub struct Edge {
    presence: Arc<Presence>,
    puller: Puller,
    worker: Worker<PresenceService, Memory>,
    clock: Clock,
    /// The list of nodes that it reads.
    list: TempFile,
    /// The edge ends with them.
    _tasks: JoinSet<()>,
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
        let clock = Clock::simulated(EPOCH);
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
        tasks.spawn(flusher.clone().run(FLUSH_INTERVAL));
        tasks.spawn(flusher.clone().refill(config.refill_rate));
        let puller = Puller::start(&presence, &Arc::<PullMetrics>::default(), &mut tasks);
        let service = PresenceService::new(presence.clone(), flusher, puller.clone());
        let worker = WorkerConfig {
            clock,
            ..WorkerConfig::alone()
        };
        Edge {
            presence,
            puller,
            worker: Worker::new(service, worker).unwrap(),
            clock,
            list,
            _tasks: tasks,
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
    pub async fn ask(&self, users: &[UserId]) -> Answer {
        self.puller.ask(users.to_vec()).await.unwrap()
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
        self.worker.tick(self.clock.now()).unwrap();
    }

    fn read(&mut self, key: SessionKey) {
        while self.worker.readable(key, self.clock.now()) {}
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
    /// How long it has been connected.
    age: Duration,
    /// It is gone without a word: nobody answers its pings.
    has_vanished: bool,
}

/// Edges, and the devices of their users.
pub struct Fleet {
    pub simulation: Simulation,
    pub edges: BTreeMap<u64, Edge>,
    devices: BTreeMap<UserId, Vec<Device>>,
}

impl Fleet {
    /// Without an edge or a user.
    pub fn new(simulation: Simulation) -> Fleet {
        Fleet {
            simulation,
            edges: BTreeMap::new(),
            devices: BTreeMap::new(),
        }
    }

    /// Connects one more device of `user` to an edge.
    pub fn connect(&mut self, user: &UserId, edge: u64) {
        self.simulation
            .note(&format!("{user} connects to edge {edge}"));
        let (key, socket) = self.edges.get_mut(&edge).unwrap().open(user);
        self.devices.entry(user.clone()).or_default().push(Device {
            edge,
            key,
            socket,
            age: Duration::ZERO,
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

    /// Users whose oldest device has been connected and answering for longer than `age`.
    pub fn online_for(&self, age: Duration) -> Vec<UserId> {
        let is_online = |device: &Device| device.age > age && !device.has_vanished;
        let online = self.devices.iter();
        let online = online.filter(|(_, devices)| devices.iter().any(is_online));
        online.map(|(user, _)| user.clone()).collect()
    }

    /// The edges that a user has answering devices on.
    pub fn edges_of(&self, user: &UserId) -> Vec<u64> {
        let devices = self.devices.get(user).into_iter().flatten();
        let answering = devices.filter(|device| !device.has_vanished);
        answering.map(|device| device.edge).collect()
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
            for device in self.devices.values_mut().flatten() {
                device.age += step;
            }
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
