//! A fleet in one thread: memcached nodes and the network between them and the edges, all in memory.
//!
//! To be used in a runtime of one thread whose clock is paused. Nothing then waits for real time, and the
//! same seed gives the same run.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use presenced_memcached::network::{Dialler, Random, Resolver, Target};
use presenced_memcached::stream::Stream;
use presenced_memcached::{Network, NodeSpec};
use presenced_store::{Options, Store, serve_stream};
use tokio::io::duplex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Bytes on their way in one direction of a connection.
const WIRE_BYTES: usize = 64 * 1024;

/// How long a connection takes to be made, or to be refused.
const DIAL_TIME: Duration = Duration::from_millis(1);

/// Nodes called `node-0`, `node-1`, … and the network that leads to them.
#[derive(Clone)]
pub struct Simulation {
    started: Instant,
    nodes: Arc<Mutex<BTreeMap<SocketAddr, Node>>>,
    events: Arc<Mutex<Vec<String>>>,
}

/// A node that runs, or does not.
#[derive(Default)]
struct Node {
    running: Option<(Arc<Store>, CancellationToken)>,
}

impl Simulation {
    /// With this many nodes, all of them running and empty.
    pub fn with_nodes(count: u8) -> Simulation {
        let simulation = Simulation {
            started: Instant::now(),
            nodes: Arc::default(),
            events: Arc::default(),
        };
        for number in 0..count {
            simulation.nodes().insert(address(number), Node::default());
            simulation.start(number);
        }
        simulation
    }

    /// The nodes as an operator lists them.
    pub fn specs(&self) -> Vec<NodeSpec> {
        let nodes = self.nodes();
        let names = (0..nodes.len()).map(|number| format!("node-{number}:11211"));
        names.map(|name| name.parse().unwrap()).collect()
    }

    /// What an edge is given in place of the system's network; `seed` is the edge's own.
    pub fn network(&self, seed: u64) -> Network {
        let simulation = self.clone();
        Network {
            resolver: Resolver::new(|host, port| {
                Box::pin(async move {
                    let number = host.strip_prefix("node-").and_then(|n| n.parse().ok());
                    let number = number.ok_or(ErrorKind::NotFound)?;
                    Ok(vec![SocketAddr::new(address(number).ip(), port)])
                })
            }),
            dialler: Dialler::new(move |target| {
                let simulation = simulation.clone();
                Box::pin(async move { simulation.dial(seed, target).await })
            }),
            random: Random::seeded(seed),
        }
    }

    /// Starts a node, empty.
    pub fn start(&self, number: u8) {
        let store = Arc::new(Store::new(Options::new(64 << 20)));
        let running = Some((store, CancellationToken::new()));
        self.nodes().insert(address(number), Node { running });
    }

    /// Kills a node: its connections end, new ones are refused, its data are gone.
    pub fn kill(&self, number: u8) {
        let killed = self.nodes().insert(address(number), Node::default());
        if let Some((_, stop)) = killed.and_then(|node| node.running) {
            stop.cancel();
        }
    }

    /// Notes what happened, with the time.
    pub fn note(&self, what: &str) {
        let at = self.started.elapsed();
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(format!("{at:?} {what}"));
    }

    /// All that was noted, each connection that an edge tried to make included.
    pub fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }

    async fn dial(&self, seed: u64, target: Target) -> io::Result<Stream> {
        sleep(DIAL_TIME).await;
        let Target::Tcp(addresses) = &target else {
            return Err(ErrorKind::Unsupported.into());
        };
        let nodes = self.nodes();
        let mut found = addresses.iter().filter_map(|address| nodes.get(address));
        let running = found.find_map(|node| node.running.clone());
        drop(nodes);
        self.note(&format!(
            "edge {seed} dials {target:?}: {}",
            running.is_some()
        ));
        let (store, stop) = running.ok_or(ErrorKind::ConnectionRefused)?;
        let (ours, theirs) = duplex(WIRE_BYTES);
        tokio::spawn(serve_stream(theirs, store, stop));
        Ok(Stream::Simulated(Box::new(ours)))
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 11211))
}
