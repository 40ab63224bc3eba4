//! A fleet in one thread and in virtual time: edges with real sessions over memory, plain and over TLS, their users'
//! devices, and nodes of a [`Simulation`]. Everything that keeps users online and asks for them is the server's
//! own code; what is simulated are sockets, time and chance.

mod edge;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use presenced_presence::limits::SHARDS;
use presenced_presence::users::{Hasher, Live, Users};
use presenced_presence::{SessionId, UserId};
use presenced_session::slab::SessionKey;
use tokio::time::{Instant, sleep};

pub use self::edge::{Edge, TICK, visitor};
use crate::client_end::{ClientEnd, Over};
use crate::frame::{CLOSE, PING, pong_of};
use crate::simulation::Simulation;

/// How many shards have users, of a fleet that wants them to meet: they are flushed at times far apart.
const USED_SHARDS: usize = 4;

/// A session of a user, seen from the client.
struct Device {
    edge: u64,
    key: SessionKey,
    socket: ClientEnd,
    connected: Instant,
    /// It is gone without a word: nobody answers its pings.
    has_vanished: bool,
}

/// So many users, all of them in one of a few shards: what one of them does then meets what is done for another.
pub fn users_of_few_shards(count: usize) -> Vec<UserId> {
    let users = Users::new(Arc::default(), 1, Hasher::fixed());
    let live = Live {
        connected_at_ms: 0,
        session: SessionId {
            worker: 0,
            key: SessionKey {
                index: 0,
                generation: 0,
            },
        },
    };
    let all = (0..).map(|number| UserId::new(&format!("u{number}")).unwrap());
    let is_one = |user: &UserId| {
        let shard = users.connect(user, live, |_| 0).slot.shard();
        shard.is_multiple_of(SHARDS / USED_SHARDS)
    };
    all.filter(is_one).take(count).collect()
}

/// Edges, and the devices of their users.
pub struct Fleet {
    pub simulation: Simulation,
    pub edges: BTreeMap<u64, Edge>,
    devices: BTreeMap<UserId, Vec<Device>>,
    /// Devices that there have been.
    connected: usize,
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
            connected: 0,
            connected_at_ms: BTreeMap::new(),
            drained: Vec::new(),
        }
    }

    /// Connects one more device of `user` to an edge: over TLS with each suite in turn, with a plain one after each.
    pub fn connect(&mut self, user: &UserId, edge: u64) {
        self.simulation
            .note(&format!("{user} connects to edge {edge}"));
        let at = self.edges.get_mut(&edge).unwrap();
        let times = self.connected_at_ms.entry(user.clone()).or_default();
        times.insert(at.clock.unix_ms());
        let (key, socket) = at.open(user, Over::Both.suite(self.connected));
        self.connected += 1;
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
        if device.socket.is_tls() {
            device.socket.send_bytes(&device.socket.close_notify());
        }
        device.socket.hang_up();
        if let Some(edge) = self.edges.get_mut(&device.edge) {
            edge.read(device.key);
        }
    }

    /// Devices of `user`, those that have vanished included.
    pub fn devices(&self, user: &UserId) -> usize {
        self.devices.get(user).map_or(0, Vec::len)
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
