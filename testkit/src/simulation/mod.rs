//! A fleet in one thread: memcached nodes and the network between them and the edges, all in memory.
//!
//! To be used in a runtime of one thread whose clock is paused. Nothing then waits for real time, and the
//! same seed gives the same run.

mod link;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use presenced_memcached::marker::{self, Marker};
use presenced_memcached::network::{Dialler, Random, Resolver, Target};
use presenced_memcached::stream::Stream;
use presenced_memcached::{Network, NodeSpec};
use presenced_store::{Options, Store, serve_stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::link::{Carrying, Link, WIRE_BYTES, Wire, carry_back, carry_there};
pub use self::link::{Garble, LINK_DELAY};

/// Unix time when a simulation starts.
pub const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// Memory of a node, if nothing else is said: room for all that a simulation ever writes.
const NODE_BYTES: usize = 64 << 20;

/// How much later each node's seconds begin than those of the one before: `flush_all` with a delay, and
/// the end of a TTL, then come at another moment on each.
const NODE_PHASE: Duration = Duration::from_millis(300);

/// Foreign items that are in use, so that those of the edges are no more worth keeping.
const FOREIGN_ITEMS_USED: u64 = 64;

/// Bytes of a foreign item's value.
const FOREIGN_ITEM_BYTES: usize = 1000;

/// Nodes called `node-0`, `node-1`, … and the network that leads to them.
#[derive(Clone)]
pub struct Simulation {
    started: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<u8, Node>,
    /// From each edge to each node.
    links: BTreeMap<(u64, u8), Link>,
    events: Vec<String>,
}

/// A node that runs.
#[derive(Clone)]
struct Node {
    store: Arc<Store>,
    /// Ends its connections.
    killed: CancellationToken,
}

impl Simulation {
    /// With this many nodes, all of them running and empty.
    pub fn with_nodes(count: u8) -> Simulation {
        let simulation = Simulation {
            started: Instant::now(),
            state: Arc::default(),
        };
        (0..count).for_each(|number| simulation.start(number));
        simulation
    }

    /// Nodes as an operator lists them.
    pub fn specs(numbers: impl IntoIterator<Item = u8>) -> Vec<NodeSpec> {
        let names = numbers
            .into_iter()
            .map(|number| format!("node-{number}:11211"));
        names.map(|name| name.parse().unwrap()).collect()
    }

    /// What the edge with this number is given in place of the system's network.
    pub fn network(&self, edge: u64, seed: u64) -> Network {
        let simulation = self.clone();
        Network {
            resolver: Resolver::new(|host, port| {
                Box::pin(async move {
                    let number = host.strip_prefix("node-").and_then(|n| n.parse().ok());
                    Ok(vec![address(number.ok_or(ErrorKind::NotFound)?, port)])
                })
            }),
            dialler: Dialler::new(move |target| {
                let simulation = simulation.clone();
                Box::pin(async move { simulation.dial(edge, target).await })
            }),
            random: Random::seeded(seed),
        }
    }

    /// Starts a node, empty.
    pub fn start(&self, number: u8) {
        self.start_with(number, NODE_BYTES);
    }

    /// Starts a node, empty, that has `memory_bytes` for its items.
    pub fn start_with(&self, number: u8, memory_bytes: usize) {
        self.note(&format!("node {number} starts"));
        let unix_time = EPOCH + self.started.elapsed() + NODE_PHASE * u32::from(number);
        let node = Node {
            store: Arc::new(Store::simulated(Options::new(memory_bytes), unix_time)),
            killed: CancellationToken::new(),
        };
        self.state().nodes.insert(number, node);
    }

    /// Kills a node: its connections end, new ones are refused, its data are gone.
    pub fn kill(&self, number: u8) {
        self.note(&format!("node {number} is killed"));
        let killed = self.state().nodes.remove(&number);
        killed.inspect(|node| node.killed.cancel());
    }

    /// Ends all connections of a node that runs on, as one does with idle connections.
    pub fn hang_up(&self, number: u8) {
        self.note(&format!("node {number} hangs up"));
        if let Some(node) = self.state().nodes.get_mut(&number) {
            std::mem::take(&mut node.killed).cancel();
        }
    }

    /// An operator's command on a node, such as `flush_all`; returns what the node says. `None` if it
    /// does not run.
    pub async fn command(&self, number: u8, line: &str) -> Option<String> {
        self.note(&format!("node {number} is told {line}"));
        self.converse(number, &format!("{line}\r\n")).await
    }

    /// What a node has of `keys`, by key; empty if it does not run.
    pub async fn values(&self, number: u8, keys: &[String]) -> BTreeMap<String, String> {
        let get = format!("get {}\r\n", keys.join(" "));
        let said = self.converse(number, &get).await.unwrap_or_default();
        let mut values = BTreeMap::new();
        let mut lines = said.lines();
        while let Some(line) = lines.next() {
            if let Some(key) = line
                .strip_prefix("VALUE ")
                .and_then(|line| line.split(' ').next())
            {
                values.insert(key.to_owned(), lines.next().unwrap_or_default().to_owned());
            }
        }
        values
    }

    /// Others store items with these numbers on a node, and use those that they have stored last.
    pub async fn fill(&self, number: u8, items: Range<u64>) {
        let mut commands = String::new();
        let value = "x".repeat(FOREIGN_ITEM_BYTES);
        for item in items.clone() {
            write!(
                commands,
                "set foreign:{item} 0 0 {FOREIGN_ITEM_BYTES}\r\n{value}\r\n"
            )
            .unwrap();
        }
        for item in items.end.saturating_sub(FOREIGN_ITEMS_USED)..items.end {
            write!(commands, "touch foreign:{item} 0\r\n").unwrap();
        }
        self.converse(number, &commands).await;
    }

    /// How many items a node has evicted since it was started.
    pub async fn evictions(&self, number: u8) -> u64 {
        let said = self.converse(number, "stats\r\n").await;
        let said = said.unwrap_or_default();
        let count = said
            .lines()
            .find_map(|line| line.strip_prefix("STAT evictions "));
        count.map_or(0, |count| count.parse().unwrap())
    }

    /// Makes the marker of a node whole, as an edge does that has seen it for long enough.
    pub async fn make_whole(&self, number: u8) {
        self.note(&format!("node {number} is whole"));
        let key = marker::Config::default().key;
        let values = self.values(number, std::slice::from_ref(&key)).await;
        let marker = values.get(&key).map(String::as_bytes);
        let proof = marker.and_then(Marker::parse).unwrap().proof();
        let append = format!("append {key} 0 0 {}\r\n{proof}\r\n", proof.len());
        let said = self.converse(number, &append).await;
        assert_eq!(said.as_deref(), Some("STORED\r\n"));
    }

    /// Commands on a node, over a connection of their own; returns the replies.
    async fn converse(&self, number: u8, commands: &str) -> Option<String> {
        let node = self.state().nodes.get(&number).cloned()?;
        let (mut ours, theirs) = duplex(WIRE_BYTES);
        let serving = serve_stream(theirs, node.store, node.killed);
        let asking = async {
            ours.write_all(commands.as_bytes()).await.unwrap();
            ours.write_all(b"quit\r\n").await.unwrap();
            let mut said = String::new();
            ours.read_to_string(&mut said).await.unwrap();
            said
        };
        Some(tokio::join!(serving, asking).1)
    }

    /// Cuts the link between an edge and a node, or mends one cut of it. What is on its way then waits;
    /// nothing is lost but what a reset throws away.
    pub fn set_cut(&self, edge: u64, node: u8, is_cut: bool) {
        self.note(&format!(
            "edge {edge} and node {node} are cut off: {is_cut}"
        ));
        self.link(edge, node).cuts.send_modify(|cuts| match is_cut {
            true => *cuts += 1,
            false => *cuts -= 1,
        });
    }

    /// How long bytes take between an edge and a node, in either direction.
    pub fn set_delay(&self, edge: u64, node: u8, delay: Duration) {
        self.note(&format!("edge {edge} and node {node} are {delay:?} apart"));
        self.link(edge, node).delay.send_replace(delay);
    }

    /// Holds back the entries that an edge writes to a node, or no more: new ones are accepted, and all else
    /// is answered, as by a node one of whose threads hangs.
    pub fn hold_writes(&self, edge: u64, node: u8, holds: bool) {
        self.note(&format!(
            "what edge {edge} writes to node {node} is held: {holds}"
        ));
        self.link(edge, node).holds_writes.send_replace(holds);
    }

    /// Ends the connections over which an edge writes entries to a node, and refuses new ones, or no more: as by a
    /// node that has no room for another connection. What else is connected stays.
    pub fn refuse(&self, edge: u64, node: u8, refuses: bool) {
        self.note(&format!(
            "what edge {edge} wants of node {node} is refused: {refuses}"
        ));
        self.link(edge, node).refuses.send_replace(refuses);
    }

    /// Repeats each answer that a node gives to an edge's `get`s a little later, or no more.
    pub fn repeat_answers(&self, edge: u64, node: u8, repeats: bool) {
        self.note(&format!(
            "what node {node} answers edge {edge} comes twice: {repeats}"
        ));
        let link = self.link(edge, node);
        link.repeats_answers.store(repeats, Ordering::Relaxed);
    }

    /// Loses or repeats the next reply that a node gives an edge, on whichever connection.
    pub fn garble(&self, edge: u64, node: u8, garble: Garble) {
        let link = self.link(edge, node);
        *link.garble.lock().unwrap_or_else(PoisonError::into_inner) = Some(garble);
    }

    /// Connections that an edge has to a node now.
    pub fn connections(&self, edge: u64, node: u8) -> usize {
        self.link(edge, node).open.load(Ordering::Relaxed)
    }

    /// Unix time in ms.
    pub fn unix_ms(&self) -> u64 {
        (EPOCH + self.started.elapsed()).as_millis() as u64
    }

    /// Notes what happened, with the time.
    pub fn note(&self, what: &str) {
        let event = format!("{:?} {what}", self.started.elapsed());
        self.state().events.push(event);
    }

    /// All that was noted, each connection that an edge tried to make included.
    pub fn events(&self) -> Vec<String> {
        self.state().events.clone()
    }

    async fn dial(&self, edge: u64, target: Target) -> io::Result<Stream> {
        let Target::Tcp(addresses) = &target else {
            return Err(ErrorKind::Unsupported.into());
        };
        let number = addresses.first().ok_or(ErrorKind::NotFound)?;
        let number = number_of(number).ok_or(ErrorKind::NotFound)?;
        let link = self.link(edge, number);
        link.cross().await;
        let node = self.state().nodes.get(&number).cloned();
        let node = node.filter(|_| !*link.refuses.borrow());
        let answer = if node.is_some() {
            "accepted"
        } else {
            "refused"
        };
        self.note(&format!("edge {edge} dials node {number}: {answer}"));
        let Node { store, killed } = node.ok_or(ErrorKind::ConnectionRefused)?;
        let (ours, near) = duplex(WIRE_BYTES);
        let (far, theirs) = duplex(WIRE_BYTES);
        let reset = CancellationToken::new();
        let ((from_edge, to_edge), (from_node, to_node)) = (split(near), split(far));
        let simulation = self.clone();
        let garble = move |link: &Link, bytes: &mut Vec<u8>| {
            if let Some((what, reply)) = link.garble(bytes) {
                let reply = reply.escape_ascii();
                simulation.note(&format!("edge {edge}, node {number}: {what:?} {reply}"));
            }
        };
        let there = carry_there(from_edge, to_node, link.clone(), reset.clone());
        let back = carry_back(from_node, to_edge, link.clone(), garble);
        for carrying in [Box::pin(there) as Carrying, Box::pin(back)] {
            let carrying = reset.clone().run_until_cancelled_owned(carrying);
            tokio::spawn(killed.clone().run_until_cancelled_owned(carrying));
        }
        tokio::spawn(serve_stream(theirs, store, killed));
        link.open.fetch_add(1, Ordering::Relaxed);
        Ok(Stream::Simulated(Box::new(Wire {
            stream: ours,
            open: link.open,
            resets: AtomicBool::new(false),
            reset,
        })))
    }

    fn link(&self, edge: u64, node: u8) -> Link {
        let mut state = self.state();
        state
            .links
            .entry((edge, node))
            .or_insert_with(Link::new)
            .clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(number: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], port))
}

fn number_of(address: &SocketAddr) -> Option<u8> {
    match address.ip() {
        IpAddr::V4(ip) => Some(ip.octets()[3]),
        IpAddr::V6(_) => None,
    }
}
