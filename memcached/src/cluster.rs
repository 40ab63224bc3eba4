//! The nodes, which of them are on the ring, and which has a key.
//!
//! All of that is a [`Topology`], which never changes; a change makes a new one, with the next version.
//! Whoever keeps something by node compares versions, or waits for [`Cluster::changes`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::config::{Config, ConnectOptions};
use super::endpoint::Endpoint;
use super::node::Node;
use super::ring::{Member, Ring, RingKind};
use crate::limits::{NODES_MAX, RINGS_REMEMBERED};

/// The nodes and the ring, as they are for a while.
#[derive(Debug)]
pub struct Topology {
    version: u64,
    /// As they are listed, those off the ring too.
    nodes: Vec<Arc<Node>>,
    ring: Ring,
    /// Rings of the last while and until when they were in use, latest first.
    past: Vec<(Instant, Ring)>,
    /// Since when each node is known to have lost its data; of those who did lately.
    lost: Vec<(Instant, u8)>,
}

impl Topology {
    fn new(nodes: Vec<Arc<Node>>, kind: RingKind, version: u64) -> Topology {
        let on_ring = nodes.iter().filter(|node| !node.is_ejected());
        let members: Vec<_> = on_ring.map(|node| member(node)).collect();
        Topology {
            version,
            ring: Ring::new(kind, &members),
            nodes,
            past: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// Grows by one with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The nodes, as they are listed, those off the ring too.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// The number of the node that has `key`.
    pub fn node_of(&self, key: &[u8]) -> u8 {
        self.ring.node_of(key)
    }

    /// Whether a miss of `key` at `node` says that there is no such user: not where their edge may
    /// not have written them yet, within `settle` of a change.
    pub fn is_settled(&self, key: &[u8], node: u8, settle: Duration) -> bool {
        let recent = |at: &Instant| at.elapsed() < settle;
        let lost = self.lost.iter().any(|(at, id)| *id == node && recent(at));
        let moved = |(at, ring): &(Instant, Ring)| recent(at) && ring.node_of(key) != node;
        !lost && !self.past.iter().any(moved)
    }
}

fn member(node: &Node) -> Member {
    Member {
        name: node.addr().ring_name(),
        weight: node.weight(),
        node: node.id(),
    }
}

/// The nodes of memcached, and which of them has a key.
#[derive(Debug)]
pub struct Cluster {
    config: Config,
    access: Arc<ConnectOptions>,
    topology: RwLock<Arc<Topology>>,
    changes: watch::Sender<()>,
}

impl Cluster {
    /// A cluster of `nodes`, at most 255.
    pub fn new(nodes: impl IntoIterator<Item = Endpoint>, config: Config) -> Cluster {
        let access = Arc::new(config.connect.clone());
        let nodes = nodes.into_iter().zip(0..);
        let nodes = nodes.map(|(wanted, id)| Arc::new(Node::new(id, wanted, access.clone())));
        let topology = Topology::new(nodes.collect(), config.ring, 0);
        Cluster {
            config,
            topology: RwLock::new(Arc::new(topology)),
            access,
            changes: watch::Sender::new(()),
        }
    }

    /// How it behaves.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The nodes and the ring as they are now.
    pub fn topology(&self) -> Arc<Topology> {
        let topology = self.topology.read();
        topology.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of the node that has `key` now.
    pub fn node_of(&self, key: &[u8]) -> u8 {
        let topology = self.topology.read();
        topology
            .unwrap_or_else(PoisonError::into_inner)
            .node_of(key)
    }

    /// Whether at least one node answers.
    pub fn is_up(&self) -> bool {
        self.topology().nodes.iter().any(|node| node.is_up())
    }

    /// Tells when the topology has changed, or a node has lost its data.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Adds nodes that are wanted and not there, and removes those that are there and not wanted. A
    /// node whose name resolves to none of its old addresses is another one. Without a single node
    /// wanted nothing is changed.
    pub(super) fn reconcile(&self, wanted: Vec<Endpoint>) {
        if wanted.is_empty() {
            return;
        }
        self.change(|nodes| {
            let mut next = Vec::new();
            for wanted in wanted.into_iter().take(NODES_MAX) {
                let same = |node: &&Arc<Node>| is_same(node, &wanted);
                if let Some(node) = nodes.iter().find(same) {
                    if !wanted.addresses.is_empty() {
                        node.set_addresses(wanted.addresses);
                    }
                    next.push(node.clone());
                    continue;
                }
                let taken = |id: &u8| nodes.iter().chain(&next).any(|node| node.id() == *id);
                // While as many leave as come there may be none free; the next look finds one.
                let Some(id) = (0..=u8::MAX - 1).find(|id| !taken(id)) else {
                    continue;
                };
                tracing::info!(node = %wanted.addr, weight = wanted.weight, "memcached node added");
                next.push(Arc::new(Node::new(id, wanted, self.access.clone())));
            }
            for node in &*nodes {
                if !next.iter().any(|next| Arc::ptr_eq(next, node)) {
                    tracing::info!(node = %node.addr(), "memcached node removed");
                }
            }
            let same = next.len() == nodes.len()
                && next.iter().zip(&*nodes).all(|(a, b)| Arc::ptr_eq(a, b));
            *nodes = next;
            !same
        });
    }

    /// Takes a node off the ring, unless no other would be left. Says whether it did.
    pub(super) fn eject(&self, node: &Node) -> bool {
        self.change(|nodes| {
            let others = |other: &&Arc<Node>| other.id() != node.id() && !other.is_ejected();
            if node.is_ejected() || !nodes.iter().any(|other| others(&other)) {
                return false;
            }
            tracing::warn!(node = %node.addr(), "memcached node ejected: its keys go to the others");
            node.ejected.store(true, Ordering::Relaxed);
            true
        })
    }

    /// Puts it back.
    pub(super) fn readmit(&self, node: &Node) {
        self.change(|_| {
            tracing::info!(node = %node.addr(), "memcached node is back on the ring");
            node.ejected.swap(false, Ordering::Relaxed)
        });
    }

    /// A node was found without our sentinel. `knew_it`: it had one before.
    pub(super) fn lost(&self, node: &Node, knew_it: bool) {
        if knew_it {
            tracing::warn!(node = %node.addr(), "memcached has lost its data; all its users are written again");
            let mut topology = self.write();
            let mut next = Topology {
                lost: topology.lost.clone(),
                past: topology.past.clone(),
                nodes: topology.nodes.clone(),
                ring: topology.ring.clone(),
                version: topology.version,
            };
            next.lost.retain(|(_, id)| *id != node.id());
            next.lost.push((Instant::now(), node.id()));
            *topology = Arc::new(next);
        }
        node.lost();
        self.changes.send_replace(());
    }

    /// A connection to a node was out of step: what it confirmed may not be there.
    pub fn mark_suspect(&self, node: &Node) {
        node.lost();
        self.changes.send_replace(());
    }

    /// Lets `change` change the nodes; when it says that it did, the ring is made anew. Says the same.
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Node>>) -> bool) -> bool {
        let mut topology = self.write();
        let mut nodes = topology.nodes.clone();
        if !change(&mut nodes) {
            return false;
        }
        let mut next = Topology::new(nodes, self.config.ring, topology.version + 1);
        let now = Instant::now();
        next.past.push((now, topology.ring.clone()));
        let recent = |at: &Instant| now.duration_since(*at) < self.config.settle;
        let past = topology.past.iter().filter(|(at, _)| recent(at)).cloned();
        next.past.extend(past.take(RINGS_REMEMBERED - 1));
        next.lost = topology.lost.clone();
        next.lost.retain(|(at, _)| recent(at));
        *topology = Arc::new(next);
        drop(topology);
        self.changes.send_replace(());
        true
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Arc<Topology>> {
        self.topology
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same(node: &Node, wanted: &Endpoint) -> bool {
    let known = node.addresses();
    *node.addr() == wanted.addr
        && node.weight() == wanted.weight
        && (known.is_empty()
            || wanted.addresses.is_empty()
            || wanted.addresses.iter().any(|addr| known.contains(addr)))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::NodeSpec;

    fn wanted(text: &str) -> Endpoint {
        text.parse::<NodeSpec>().unwrap().into()
    }

    fn cluster(nodes: &[&str]) -> Cluster {
        Cluster::new(nodes.iter().map(|node| wanted(node)), Config::default())
    }

    fn keys() -> impl Iterator<Item = Vec<u8>> {
        (0..2000).map(|number| format!("user:{number}:online").into_bytes())
    }

    fn name_of(cluster: &Cluster, key: &[u8]) -> String {
        let (topology, id) = (cluster.topology(), cluster.node_of(key));
        let node = topology.nodes().iter().find(|node| node.id() == id);
        node.unwrap().addr().to_string()
    }

    fn placed(cluster: &Cluster) -> Vec<String> {
        keys().map(|key| name_of(cluster, &key)).collect()
    }

    #[test]
    fn an_ejected_nodes_keys_go_where_they_are_without_it_and_come_back() {
        let three = cluster(&["a:1", "b:1", "c:1"]);
        let before = placed(&three);
        let b = three.topology().nodes()[1].clone();
        assert!(three.eject(&b));
        assert_eq!(placed(&three), placed(&cluster(&["a:1", "c:1"])));
        assert_eq!(three.topology().version(), 1);
        assert!(!three.eject(&b));
        assert_eq!(three.topology().version(), 1, "twice is once");
        three.readmit(&b);
        assert_eq!(placed(&three), before);
        let all = three.topology().nodes().to_vec();
        for node in &all {
            three.eject(node);
        }
        assert!(!all[2].is_ejected(), "the last one stays");
    }

    #[test]
    fn keys_move_only_as_the_ring_says_when_nodes_come_and_go() {
        let nodes = cluster(&["a:1", "b:1"]);
        let mut changes = nodes.changes();
        let a = nodes.topology().nodes()[0].clone();
        nodes.reconcile(["b:1", "c:1*2", "a:1"].map(wanted).into());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(placed(&nodes), placed(&cluster(&["a:1", "b:1", "c:1*2"])));
        let topology = nodes.topology();
        assert!(Arc::ptr_eq(&topology.nodes()[2], &a), "it has stayed");
        nodes.reconcile(["b:1", "c:1*2", "a:1"].map(wanted).into());
        assert!(!changes.has_changed().unwrap(), "nothing new");
        nodes.reconcile(Vec::new());
        assert!(!changes.has_changed().unwrap(), "none at all is a mistake");
        nodes.reconcile(vec![wanted("c:1")]);
        assert!(placed(&nodes).iter().all(|name| name == "c:1"));
    }

    #[test]
    fn a_name_that_moves_altogether_is_another_node() {
        let at = |last: u8| SocketAddr::from(([10, 0, 0, last], 1));
        let with = |addresses: &[SocketAddr]| Endpoint {
            addresses: addresses.to_vec(),
            ..wanted("a:1")
        };
        let nodes = cluster(&["a:1"]);
        let first = nodes.topology().nodes()[0].clone();
        nodes.reconcile(vec![with(&[at(1), at(2)])]);
        nodes.reconcile(vec![with(&[at(2), at(3)])]);
        assert!(Arc::ptr_eq(&nodes.topology().nodes()[0], &first));
        assert_eq!(first.addresses(), [at(2), at(3)]);
        nodes.reconcile(vec![with(&[at(4)])]);
        let second = nodes.topology().nodes()[0].clone();
        assert!(!Arc::ptr_eq(&second, &first));
        assert_ne!(second.id(), first.id(), "so everyone is written there");
    }

    #[test]
    fn a_miss_says_nothing_where_keys_have_moved_or_were_lost() {
        let settle = Duration::from_secs(60);
        let nodes = cluster(&["a:1", "b:1", "c:1"]);
        let before = placed(&nodes);
        let [a, b, _] = nodes.topology().nodes().to_vec().try_into().unwrap();
        nodes.eject(&b);
        let topology = nodes.topology();
        for (key, before) in keys().zip(before) {
            let node = topology.node_of(&key);
            assert_eq!(topology.is_settled(&key, node, settle), before != "b:1");
            assert!(topology.is_settled(&key, node, Duration::ZERO));
        }
        nodes.lost(&a, true);
        let topology = nodes.topology();
        assert!(keys().all(|key| !topology.is_settled(&key, a.id(), settle)));
    }
}
