//! A fleet in one thread: memcached nodes and the network between them and the edges, all in memory.
//!
//! To be used in a runtime of one thread whose clock is paused. Nothing then waits for real time, and the
//! same seed gives the same run.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use presenced_memcached::network::{Dialler, Random, Resolver, Target};
use presenced_memcached::stream::{SimulatedStream, Stream};
use presenced_memcached::{Network, NodeSpec};
use presenced_store::{Options, Store, serve_stream};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf,
    duplex, split,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Bytes on their way in one direction of a connection, at each of its ends.
const WIRE_BYTES: usize = 64 * 1024;

/// How long bytes take from one end of a link to the other, if nothing else is said.
pub const LINK_DELAY: Duration = Duration::from_millis(1);

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

/// What lies between an edge and a node.
#[derive(Clone)]
struct Link {
    is_cut: watch::Sender<bool>,
    delay: watch::Sender<Duration>,
}

impl Link {
    fn new() -> Link {
        Link {
            is_cut: watch::Sender::new(false),
            delay: watch::Sender::new(LINK_DELAY),
        }
    }

    /// Returns when what was sent now has arrived.
    async fn cross(&self) {
        let delay = *self.delay.borrow();
        sleep(delay).await;
        // The link itself has the other end.
        let _ = self.is_cut.subscribe().wait_for(|is_cut| !is_cut).await;
    }
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
        self.note(&format!("node {number} starts"));
        let node = Node {
            store: Arc::new(Store::new(Options::new(64 << 20))),
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
        let node = self.state().nodes.get(&number).cloned()?;
        let (mut ours, theirs) = duplex(WIRE_BYTES);
        let serving = serve_stream(theirs, node.store, node.killed);
        let asking = async {
            let command = format!("{line}\r\nquit\r\n");
            ours.write_all(command.as_bytes()).await.unwrap();
            let mut said = String::new();
            ours.read_to_string(&mut said).await.unwrap();
            said
        };
        Some(tokio::join!(serving, asking).1)
    }

    /// Cuts the link between an edge and a node, or mends it. What is on its way then waits; nothing is
    /// lost but what a reset throws away.
    pub fn set_cut(&self, edge: u64, node: u8, is_cut: bool) {
        self.note(&format!(
            "edge {edge} and node {node} are cut off: {is_cut}"
        ));
        self.link(edge, node).is_cut.send_replace(is_cut);
    }

    /// How long bytes take between an edge and a node, in either direction.
    pub fn set_delay(&self, edge: u64, node: u8, delay: Duration) {
        self.note(&format!("edge {edge} and node {node} are {delay:?} apart"));
        self.link(edge, node).delay.send_replace(delay);
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
        for (from, to) in [(from_edge, to_node), (from_node, to_edge)] {
            let carrying = carry(from, to, link.clone());
            let carrying = reset.clone().run_until_cancelled_owned(carrying);
            tokio::spawn(killed.clone().run_until_cancelled_owned(carrying));
        }
        tokio::spawn(serve_stream(theirs, store, killed));
        Ok(Stream::Simulated(Box::new(Wire {
            stream: ours,
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

/// Carries bytes over a link in one direction, until an end.
async fn carry(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, link: Link) {
    let mut bytes = vec![0; WIRE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        link.cross().await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    link.cross().await;
    let _ = to.shutdown().await;
}

/// An edge's end of a connection.
#[derive(Debug)]
struct Wire {
    stream: DuplexStream,
    resets: AtomicBool,
    /// Throws away what is on its way.
    reset: CancellationToken,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.resets.load(Ordering::Relaxed) {
            self.reset.cancel();
        }
    }
}

impl SimulatedStream for Wire {
    fn set_reset_on_close(&self, reset: bool) {
        self.resets.store(reset, Ordering::Relaxed);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
