//! What an edge does when it learns of another list of nodes, in one thread and in virtual time: which commands
//! arrive where, and when. An edge with the old list looks where the old ring says, so nothing may be written by
//! the new one before that is known not to be believed there.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use presenced_memcached::cluster::Topology;
use presenced_memcached::limits::FLUSH_INTERVAL;
use presenced_memcached::limits::{NODE_FILE_INTERVAL, TELLING_TIME_MAX};
use presenced_memcached::network::{Dialler, Random, Resolver, Target};
use presenced_memcached::stream::Stream;
use presenced_memcached::{Network, OnFailure, marker};
use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::limits::REFILL_RATE;
use presenced_presence::users::Live;
use presenced_presence::{SessionId, UserId};
use presenced_session::clock::Clock;
use presenced_session::slab::SessionKey;
use presenced_store::{Options, Store, serve_stream};
use presenced_testkit::edge_core::{Core, Setup};
use presenced_testkit::temp::TempFile;
use presenced_testkit::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const WIRE_BYTES: usize = 1 << 20;

/// How long answers take that are not slow.
const NEAR: Duration = Duration::from_millis(1);

/// What a few exchanges with a node take that is near.
const SOON: Duration = Duration::from_millis(50);

/// Something that a node was told to store.
#[derive(Clone, Debug)]
struct Stored {
    at: Instant,
    node: usize,
    key: String,
    value: String,
}

/// Three nodes, `node-0` to `node-2`, and the way to them.
#[derive(Clone)]
struct Nodes {
    stores: [Arc<Store>; 3],
    /// How long answers take.
    ways: [Duration; 3],
    /// Whether it says nothing, and takes nothing.
    hangs: [watch::Sender<bool>; 3],
    stored: Arc<Mutex<Vec<Stored>>>,
}

impl Nodes {
    fn with_ways(ways: [Duration; 3]) -> Nodes {
        Nodes {
            stores: std::array::from_fn(|_| Arc::new(Store::new(Options::new(64 << 20)))),
            ways,
            hangs: std::array::from_fn(|_| watch::Sender::new(false)),
            stored: Arc::default(),
        }
    }

    fn network(&self) -> Network {
        let nodes = self.clone();
        Network {
            resolver: Resolver::new(|host, port| {
                Box::pin(async move {
                    let number = host.strip_prefix("node-").unwrap().parse::<u8>().unwrap();
                    Ok(vec![SocketAddr::from(([10, 0, 0, number], port))])
                })
            }),
            dialler: Dialler::new(move |target| {
                let Target::Tcp(addresses) = target else {
                    unreachable!("all nodes have names")
                };
                let SocketAddr::V4(address) = addresses[0] else {
                    unreachable!("with one address")
                };
                let (nodes, node) = (nodes.clone(), usize::from(address.ip().octets()[3]));
                Box::pin(async move { Ok(nodes.accept(node).await) })
            }),
            random: Random::seeded(1),
        }
    }

    async fn accept(&self, node: usize) -> Stream {
        self.answers(node).await;
        let (ours, theirs) = duplex(WIRE_BYTES);
        let (inner, served) = duplex(WIRE_BYTES);
        tokio::spawn(serve_stream(
            served,
            self.stores[node].clone(),
            Default::default(),
        ));
        let ((from_edge, to_edge), (replies, requests)) = (split(theirs), split(inner));
        tokio::spawn(self.clone().carry_commands(node, from_edge, requests));
        tokio::spawn(self.clone().carry_answers(node, replies, to_edge));
        Stream::Simulated(Box::new(ours))
    }

    /// Returns when the node does not hang.
    async fn answers(&self, node: usize) {
        let _ = self.hangs[node].subscribe().wait_for(|hangs| !hangs).await;
    }

    async fn carry_commands(
        self,
        node: usize,
        mut from: ReadHalf<DuplexStream>,
        mut to: WriteHalf<DuplexStream>,
    ) {
        let (mut bytes, mut key) = (Vec::new(), None);
        while let Ok(1..) = from.read_buf(&mut bytes).await {
            self.answers(node).await;
            let whole = bytes.iter().rposition(|&byte| byte == b'\n');
            let lines: Vec<_> = bytes.drain(..whole.map_or(0, |end| end + 1)).collect();
            for line in String::from_utf8(lines.clone()).unwrap().lines() {
                if let Some(key) = key.take() {
                    self.stored.lock().unwrap().push(Stored {
                        at: Instant::now(),
                        node,
                        key,
                        value: line.into(),
                    });
                } else if let Some(rest) = line.strip_prefix("set ") {
                    key = rest.split(' ').next().map(Into::into);
                }
            }
            if to.write_all(&lines).await.is_err() {
                return;
            }
        }
    }

    async fn carry_answers(
        self,
        node: usize,
        mut from: ReadHalf<DuplexStream>,
        mut to: WriteHalf<DuplexStream>,
    ) {
        let mut bytes = Vec::new();
        while let Ok(1..) = from.read_buf(&mut bytes).await {
            sleep(self.ways[node]).await;
            self.answers(node).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
            bytes.clear();
        }
    }

    fn stored(&self) -> Vec<Stored> {
        self.stored.lock().unwrap().clone()
    }

    /// When a node's marker was first renewed with the ring of `topology`.
    fn renewed_at(&self, node: usize, topology: &Topology) -> Option<Instant> {
        let key = marker::Config::default().key;
        let ring = format!("{} ", topology.ring_hash());
        let stored = self.stored().into_iter();
        let mut renewed = stored.filter(|stored| {
            stored.node == node && stored.key == key && stored.value.starts_with(&ring)
        });
        Some(renewed.next()?.at)
    }
}

/// An edge without sessions.
struct Edge {
    presence: Arc<Presence>,
    flusher: Flusher,
    list: TempFile,
    _tasks: JoinSet<()>,
}

impl Edge {
    async fn start(nodes: &Nodes, numbers: &[usize], on_failure: OnFailure) -> Edge {
        let core = Core::start(Setup {
            listed: listed(numbers),
            name: "edge".into(),
            run: 1,
            network: nodes.network(),
            clock: Clock::start(),
            on_failure,
            refill_rate: REFILL_RATE,
        });
        let Core {
            presence,
            flusher,
            list,
            mut tasks,
        } = core.await;
        tasks.spawn(flusher.clone().run());
        tasks.spawn(flusher.clone().refill(REFILL_RATE));
        let edge = Edge {
            presence,
            flusher,
            list,
            _tasks: tasks,
        };
        until("all nodes are up", SOON * 100, async || {
            edge.topology().nodes().iter().all(|node| node.is_up())
        })
        .await;
        edge
    }

    fn topology(&self) -> Arc<Topology> {
        self.presence.cluster().topology()
    }

    /// Lists other nodes; the edge sees it at its next look, and believes it at the one after that.
    fn list(&self, numbers: &[usize]) {
        std::fs::write(self.list.path(), listed(numbers)).unwrap();
    }

    /// Lists other nodes. Returns how long it took from the first renewal by the new ring until the edge used it.
    async fn change_to(&self, nodes: &Nodes, numbers: &[usize]) -> Duration {
        let before = nodes.stored().len();
        self.list(numbers);
        self.next_topology(2 * NODE_FILE_INTERVAL + TELLING_TIME_MAX + SOON)
            .await;
        let (topology, used_at) = (self.topology(), Instant::now());
        assert_eq!(topology.nodes().len(), numbers.len());
        let ring = topology.ring_hash().to_string();
        let stored = nodes.stored().split_off(before);
        let first = stored.iter().find(|stored| stored.value.starts_with(&ring));
        used_at - first.unwrap().at
    }

    async fn next_topology(&self, within: Duration) {
        let version = self.topology().version();
        let mut changes = self.presence.cluster().changes();
        let changed = async {
            while self.topology().version() == version {
                changes.changed().await.unwrap();
            }
        };
        let changed = tokio::time::timeout(within, changed).await;
        changed.expect("another topology");
    }

    fn connect(&self, user: &str) {
        let key = SessionKey {
            index: 0,
            generation: 0,
        };
        let live = Live {
            connected_at_ms: 1_700_000_000_000,
            session: SessionId { worker: 0, key },
        };
        let user = UserId::new(user).unwrap();
        self.flusher
            .write_now(self.presence.connect(&user, live).slot);
    }
}

fn listed(numbers: &[usize]) -> String {
    numbers.iter().fold(String::new(), |mut list, number| {
        writeln!(list, "node-{number}:11211").unwrap();
        list
    })
}

/// The number in the name of the node that has `key`.
fn node_of(topology: &Topology, key: &str) -> usize {
    let id = topology.node_of(key.as_bytes());
    let node = topology.nodes().iter().find(|node| node.id() == id);
    let name = node.unwrap().addr().to_string();
    let number = name.strip_prefix("node-").unwrap().split(':').next();
    number.unwrap().parse().unwrap()
}

/// A node that leaves, one that stays, one that comes: whichever is slow to answer.
#[tokio::test(start_paused = true)]
async fn nothing_is_written_by_a_new_ring_before_all_nodes_have_answered_a_renewal_with_it() {
    for slow in 0..3 {
        let mut ways = [NEAR; 3];
        ways[slow] = Duration::from_millis(150);
        let nodes = Nodes::with_ways(ways);
        let edge = Edge::start(&nodes, &[0, 1], OnFailure::Wait).await;
        for number in 0..100 {
            edge.connect(&format!("old{number}"));
        }
        sleep(2 * FLUSH_INTERVAL).await;
        let before = edge.topology();
        edge.list(&[1, 2]);
        for number in 0..300 {
            edge.connect(&format!("new{number}"));
            sleep(Duration::from_millis(10)).await;
        }
        sleep(2 * FLUSH_INTERVAL).await;
        let answered = (0..3).map(|node| {
            let renewed = nodes.renewed_at(node, &edge.topology());
            renewed.expect("each node is told") + ways[node]
        });
        let all_answered = answered.max().unwrap();
        let stored = nodes.stored().into_iter();
        let by_new: Vec<_> = stored
            .filter(|stored| stored.key.starts_with("user:"))
            .filter(|stored| node_of(&before, &stored.key) != stored.node)
            .collect();
        let early = by_new.iter().find(|stored| stored.at < all_answered);
        assert!(early.is_none(), "{slow}, {all_answered:?}: {early:?}");
        for node in [1, 2] {
            assert!(by_new.iter().any(|stored| stored.node == node), "{slow}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_answer_delays_a_change_for_a_bound_and_is_told_when_it_does() {
    for dead in 0..3 {
        let nodes = Nodes::with_ways([NEAR; 3]);
        let edge = Edge::start(&nodes, &[0, 1], OnFailure::Wait).await;
        // It is not known yet.
        nodes.hangs[dead].send_replace(true);
        let waited = edge.change_to(&nodes, &[1, 2]).await;
        let bound = TELLING_TIME_MAX - SOON..TELLING_TIME_MAX + SOON;
        assert!(bound.contains(&waited), "{dead}: {waited:?}");
        assert_eq!(nodes.renewed_at(dead, &edge.topology()), None, "{dead}");
        if dead != 0 {
            nodes.hangs[dead].send_replace(false);
            until("it is told", Duration::from_secs(5), async || {
                nodes.renewed_at(dead, &edge.topology()).is_some()
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_known_to_be_away_delays_no_change() {
    let nodes = Nodes::with_ways([NEAR; 3]);
    let edge = Edge::start(&nodes, &[0, 1], OnFailure::Wait).await;
    nodes.hangs[1].send_replace(true);
    sleep(Duration::from_secs(5)).await;
    let waited = edge.change_to(&nodes, &[0, 1, 2]).await;
    assert!(waited < SOON, "{waited:?}");
    let waited = edge.change_to(&nodes, &[0, 2]).await;
    assert!(waited < SOON, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn an_ejection_does_not_wait_for_the_node_that_is_ejected() {
    let nodes = Nodes::with_ways([NEAR; 3]);
    let edge = Edge::start(&nodes, &[0, 1, 2], OnFailure::Eject).await;
    let node = edge.topology().nodes()[1].clone();
    nodes.hangs[1].send_replace(true);
    while !node.is_ejected() {
        sleep(Duration::from_millis(1)).await;
    }
    edge.next_topology(SOON).await;
    let without = edge.topology();
    nodes.hangs[1].send_replace(false);
    edge.next_topology(Duration::from_secs(30)).await;
    assert!(!node.is_ejected());
    assert_ne!(edge.topology().ring_hash(), without.ring_hash());
}
