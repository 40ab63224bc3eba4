//! The nodes, which of them are on the ring, and which has a key.
//!
//! All of that is a [`Topology`], which never changes; a change makes a new one, with the next
//! version. Whoever keeps something by node compares versions, or waits for [`Cluster::changes`].
//!
//! What has changed is first *announced*: markers are written with the new ring. Only when nodes
//! have been told of it so is it *published*, and entries are written and looked for by it. The
//! [`probe`](super::probe) does both, one change after another; what changes meanwhile is part of
//! the next.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::watch;
use tokio::time::Instant;

use super::config::{Config, ConnectOptions};
use super::endpoint::Endpoint;
use super::log_throttle::LogThrottle;
use super::marker::RingHash;
use super::node::Node;
use super::ring::{Member, Ring};
use crate::limits::{FORMER_RINGS_MAX, NODES_MAX, OTHER_RING_PAUSE, RING_CHANGE_TIME};

/// The nodes and the ring, as they are for a while.
#[derive(Debug)]
pub struct Topology {
    version: u64,
    /// As they are listed, those off the ring too.
    nodes: Vec<Arc<Node>>,
    ring: Ring,
    ring_hash: RingHash,
}

impl Topology {
    fn new(nodes: Vec<Arc<Node>>, config: &Config, version: u64) -> Topology {
        let on_ring = nodes.iter().filter(|node| !node.is_ejected());
        let members: Vec<_> = on_ring.map(|node| member(node)).collect();
        Topology {
            version,
            ring: Ring::new(config.ring, &members),
            ring_hash: config.marker.ring_hash(config.ring, &members),
            nodes,
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

    /// Whether it has this very node, and not another with its number or address.
    pub fn has(&self, node: &Arc<Node>) -> bool {
        self.nodes.iter().any(|known| Arc::ptr_eq(known, node))
    }

    /// The number of the node that has `key`.
    pub fn node_of(&self, key: &[u8]) -> u8 {
        self.ring.node_of(key)
    }

    /// What tells the ring from those of other edges.
    pub fn ring_hash(&self) -> RingHash {
        self.ring_hash
    }
}

fn member(node: &Node) -> Member {
    Member {
        name: node.addr().ring_name(),
        weight: node.weight(),
        node: node.id(),
    }
}

/// The nodes as they are to be, those off the ring too.
#[derive(Debug)]
struct Wanted {
    nodes: Vec<Arc<Node>>,
    /// Since a topology was last announced.
    have_changed: bool,
}

/// The nodes of memcached, and which of them has a key.
#[derive(Debug)]
pub struct Cluster {
    config: Config,
    access: Arc<ConnectOptions>,
    /// As it is published.
    topology: RwLock<Arc<Topology>>,
    /// As it is announced: the one that comes next, or that which is published.
    announced: Mutex<Arc<Topology>>,
    wanted: Mutex<Wanted>,
    changes: watch::Sender<()>,
    /// How often the markers of all nodes had to be renewed.
    renewals: AtomicU64,
    /// When a marker was last found missing, new, or of another ring.
    disturbed_at: Mutex<Option<Instant>>,
    /// Rings that this process had, and until when; the last ones.
    former_rings: Mutex<VecDeque<(RingHash, Instant)>>,
    other_rings_seen: AtomicU64,
    other_rings_logged: Mutex<LogThrottle>,
}

impl Cluster {
    /// A cluster of `nodes`, at most 255.
    pub fn new(nodes: impl IntoIterator<Item = Endpoint>, config: Config) -> Cluster {
        let access = Arc::new(config.connect.clone());
        let nodes = nodes.into_iter().zip(0..);
        let nodes = nodes.map(|(wanted, id)| Arc::new(Node::new(id, wanted, access.clone())));
        let topology = Arc::new(Topology::new(nodes.collect(), &config, 0));
        let wanted = Wanted {
            nodes: topology.nodes.clone(),
            have_changed: false,
        };
        Cluster {
            config,
            announced: Mutex::new(topology.clone()),
            topology: RwLock::new(topology),
            wanted: Mutex::new(wanted),
            access,
            changes: watch::Sender::new(()),
            renewals: AtomicU64::new(0),
            disturbed_at: Mutex::default(),
            former_rings: Mutex::default(),
            other_rings_seen: AtomicU64::new(0),
            other_rings_logged: Mutex::default(),
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

    /// The topology that comes next, or that which there is: markers are of its ring.
    pub(super) fn announced(&self) -> Arc<Topology> {
        lock(&self.announced).clone()
    }

    /// The nodes that there are and those that come, each once.
    pub(super) fn all_nodes(&self) -> Vec<Arc<Node>> {
        let next = self.announced();
        let now = self.topology();
        let mut nodes = now.nodes.clone();
        for node in &next.nodes {
            if !now.has(node) {
                nodes.push(node.clone());
            }
        }
        nodes
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

    /// Tells when the topology has changed or is about to, and when it became doubtful whether a
    /// node has what it confirmed.
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
        let all = self.all_nodes();
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
                let taken = |id: &u8| {
                    let mut known = nodes.iter().chain(&next).chain(&all);
                    known.any(|node| node.id() == *id)
                };
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

    /// A node that had our sentinel has it no more.
    pub(super) fn lost(&self, node: &Node) {
        tracing::warn!(node = %node.addr(), "memcached has lost its data; all its users are written again");
        node.lost();
        self.mark_suspect(node);
    }

    /// Whether `node`, or another of its name at the same address, is one of the nodes, or about to
    /// be.
    pub(super) fn has(&self, node: &Node) -> bool {
        let addresses = node.addresses();
        let is_there = |other: &Arc<Node>| {
            let known = other.addresses();
            other.addr() == node.addr()
                && (known.is_empty() || known.iter().any(|addr| addresses.contains(addr)))
        };
        self.announced().nodes.iter().any(is_there)
    }

    /// How often the markers of all nodes had to be renewed: after each change of the ring, and
    /// each time that another edge's ring was seen on one of them.
    pub(super) fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::Acquire)
    }

    /// Has the markers of all nodes renewed: by then no edge believes a miss there.
    pub(super) fn renew_all(&self) {
        // After the ring was announced: a probe that sees the count sees the ring.
        self.renewals.fetch_add(1, Ordering::Release);
    }

    /// A node's marker was found missing, with a nonce that was not there before, or of another
    /// ring. No proof that began before `now` counts.
    pub(super) fn disturb(&self, now: Instant) {
        let mut at = lock(&self.disturbed_at);
        *at = (*at).max(Some(now));
    }

    /// When that was last.
    pub(super) fn disturbed_at(&self) -> Option<Instant> {
        *lock(&self.disturbed_at)
    }

    /// A marker was found of another `ring`. What this process had itself until just now, other
    /// edges may have for a while: that is told to nobody.
    pub(super) fn saw_other_ring(&self, ring: RingHash) {
        self.renew_all();
        let was_ours = |(former, until): &(RingHash, Instant)| {
            *former == ring && until.elapsed() < RING_CHANGE_TIME
        };
        if lock(&self.former_rings).iter().any(was_ours) {
            return;
        }
        self.other_rings_seen.fetch_add(1, Ordering::Relaxed);
        if lock(&self.other_rings_logged).is_due(OTHER_RING_PAUSE) {
            tracing::warn!(
                "another edge has other nodes (or another order of them, with --ring modulo), \
                 weights, --ring, --ttl or times of pings and flushes: users who are not found \
                 are unknown until all edges agree"
            );
        }
    }

    /// How often that was seen.
    pub fn other_rings_seen(&self) -> u64 {
        self.other_rings_seen.load(Ordering::Relaxed)
    }

    /// What a node had confirmed may not be there: a connection to it was out of step, say. All its
    /// users are written again.
    pub fn mark_suspect(&self, node: &Node) {
        node.doubted();
        self.changes.send_replace(());
    }

    /// Lets `change` change the nodes that are wanted; when it says that it did, a topology is to
    /// be announced. Says the same.
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Node>>) -> bool) -> bool {
        let mut wanted = lock(&self.wanted);
        if !change(&mut wanted.nodes) {
            return false;
        }
        wanted.have_changed = true;
        drop(wanted);
        self.changes.send_replace(());
        true
    }

    /// Makes the next topology of all that has changed since the last one, and has the markers of
    /// all nodes renewed with its ring. `None` if nothing has changed. The one before must have
    /// been published.
    pub(super) fn announce(&self) -> Option<Arc<Topology>> {
        let mut wanted = lock(&self.wanted);
        if !std::mem::take(&mut wanted.have_changed) {
            return None;
        }
        let now = self.topology();
        let next = Topology::new(wanted.nodes.clone(), &self.config, now.version + 1);
        drop(wanted);
        let mut former = lock(&self.former_rings);
        former.push_back((now.ring_hash, Instant::now()));
        if former.len() > FORMER_RINGS_MAX {
            former.pop_front();
        }
        drop(former);
        let next = Arc::new(next);
        *lock(&self.announced) = next.clone();
        self.renew_all();
        self.changes.send_replace(());
        Some(next)
    }

    /// From now on entries are written and looked for by the topology that was announced.
    pub(super) fn publish(&self, next: Arc<Topology>) {
        let mut topology = self
            .topology
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *topology = next;
        drop(topology);
        self.changes.send_replace(());
    }

    /// Returns when the topology that is announced has another version.
    pub(super) async fn another_announced(&self, than: u64) {
        let mut changes = self.changes();
        while self.announced().version() == than {
            // This cluster has the other end.
            let _ = changes.changed().await;
        }
    }

    /// Publishes what has changed, without telling nodes.
    #[cfg(test)]
    pub(super) fn publish_at_once(&self) {
        self.announce()
            .into_iter()
            .for_each(|next| self.publish(next));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    use crate::ring::RingKind;

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
        three.publish_at_once();
        assert_eq!(placed(&three), placed(&cluster(&["a:1", "c:1"])));
        assert_eq!(three.topology().version(), 1);
        assert!(!three.eject(&b));
        three.publish_at_once();
        assert_eq!(three.topology().version(), 1, "twice is once");
        three.readmit(&b);
        three.publish_at_once();
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
        nodes.publish_at_once();
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(placed(&nodes), placed(&cluster(&["a:1", "b:1", "c:1*2"])));
        let topology = nodes.topology();
        assert!(Arc::ptr_eq(&topology.nodes()[2], &a), "it has stayed");
        nodes.reconcile(["b:1", "c:1*2", "a:1"].map(wanted).into());
        nodes.publish_at_once();
        assert!(!changes.has_changed().unwrap(), "nothing new");
        nodes.reconcile(Vec::new());
        nodes.publish_at_once();
        assert!(!changes.has_changed().unwrap(), "none at all is a mistake");
        nodes.reconcile(vec![wanted("c:1")]);
        nodes.publish_at_once();
        assert!(placed(&nodes).iter().all(|name| name == "c:1"));
    }

    #[test]
    fn what_has_changed_is_announced_before_it_is_published() {
        let nodes = cluster(&["a:1", "b:1"]);
        let (before, was) = (nodes.topology(), nodes.renewals());
        nodes.reconcile(["b:1", "c:1"].map(wanted).into());
        assert!(Arc::ptr_eq(&nodes.announced(), &before));
        let next = nodes.announce().unwrap();
        assert_ne!(nodes.renewals(), was, "markers are renewed");
        assert!(Arc::ptr_eq(&nodes.announced(), &next));
        assert!(Arc::ptr_eq(&nodes.topology(), &before), "not yet");
        let all = nodes.all_nodes();
        let names: Vec<_> = all.iter().map(|node| node.addr().to_string()).collect();
        assert_eq!(names, ["a:1", "b:1", "c:1"]);
        // What changes meanwhile comes after it, and takes no number that anyone knows.
        nodes.reconcile(["b:1", "d:1"].map(wanted).into());
        nodes.publish(next.clone());
        assert!(Arc::ptr_eq(&nodes.topology(), &next));
        let last = nodes.announce().unwrap();
        assert_eq!(last.version(), 2);
        let known = |node: &Arc<Node>| all.iter().any(|known| known.id() == node.id());
        assert!(!known(&last.nodes()[1]));
        nodes.publish(last);
        assert!(nodes.announce().is_none(), "nothing new");
    }

    #[test]
    fn a_modulo_ring_has_the_order_of_the_list() {
        let config = || Config {
            ring: RingKind::Modulo,
            ..Config::default()
        };
        let modulo = |nodes: &[&str]| Cluster::new(nodes.iter().map(|n| wanted(n)), config());
        let nodes = modulo(&["a:1", "b:1", "c:1"]);
        for list in [
            &["a:1", "d:1", "b:1", "c:1"][..],
            &["c:1", "b:1", "a:1", "d:1"],
            &["d:1", "e:1", "a:1"],
        ] {
            nodes.reconcile(list.iter().map(|n| wanted(n)).collect());
            nodes.publish_at_once();
            let fresh = modulo(list);
            assert_eq!(placed(&nodes), placed(&fresh), "{list:?}");
            let [ring, of_fresh] = [&nodes, &fresh].map(|c| c.topology().ring_hash());
            assert_eq!(ring, of_fresh, "{list:?}");
        }
        let other = modulo(&["e:1", "d:1", "a:1"]);
        assert_ne!(
            placed(&nodes),
            placed(&other),
            "another order is another ring"
        );
        assert_ne!(nodes.topology().ring_hash(), other.topology().ring_hash());
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
        nodes.publish_at_once();
        nodes.reconcile(vec![with(&[at(2), at(3)])]);
        nodes.publish_at_once();
        assert!(Arc::ptr_eq(&nodes.topology().nodes()[0], &first));
        assert_eq!(first.addresses(), [at(2), at(3)]);
        nodes.reconcile(vec![with(&[at(4)])]);
        nodes.publish_at_once();
        let second = nodes.topology().nodes()[0].clone();
        assert!(!Arc::ptr_eq(&second, &first));
        assert_ne!(second.id(), first.id(), "so everyone is written there");
    }
}
