//! Which nodes there are: names that are resolved again and again, a file that is watched.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use presenced_tasks::{Pauses, Task, catch};
use tokio::time::{Instant, sleep, timeout};

use super::cluster::Cluster;
use super::endpoint::Endpoint;
use super::network::Resolver;
use super::node_list::{NodeList, parse_list};
use super::{NodeAddr, NodeSpec};
use crate::limits::{NODE_FILE_INTERVAL, NODE_LIST_BYTES_MAX, RESOLVE_TIMEOUT};
use crate::settings_file::read_again;

/// Keeps a cluster as the list and the names say.
#[derive(Debug)]
pub struct Discovery {
    listing: NodeList,
    resolver: Resolver,
    /// What each name resolved to last, in order.
    known: HashMap<NodeAddr, Vec<SocketAddr>>,
    /// What the file has said since when, where that is something new.
    next: Option<(Vec<NodeSpec>, Instant)>,
    /// What is wrong with the file, as it was logged.
    complaint: Option<String>,
    /// What is wrong with names, as it was logged.
    unresolved: HashMap<NodeAddr, String>,
    failures: Arc<NameFailures>,
    /// Names of one node that have several addresses, as it was logged.
    several: HashSet<NodeAddr>,
    /// Names of several nodes that have more IPv6 addresses than IPv4, as it was logged.
    uneven: HashSet<NodeAddr>,
}

impl Discovery {
    /// Of `listing`, with the names that `resolver` finds.
    pub fn new(listing: NodeList, resolver: Resolver) -> Discovery {
        Discovery {
            listing,
            resolver,
            known: HashMap::new(),
            next: None,
            complaint: None,
            unresolved: HashMap::new(),
            failures: Arc::default(),
            several: HashSet::new(),
            uneven: HashSet::new(),
        }
    }

    /// How often names could not be resolved, counted from now on.
    pub fn failures(&self) -> Arc<NameFailures> {
        self.failures.clone()
    }

    /// The nodes to start with. Only names with `dns+` are resolved, in bounded time: the others
    /// are when they are dialled.
    pub async fn first(&mut self) -> Vec<Endpoint> {
        self.resolve(|node| node.each_address).await;
        self.wanted()
    }

    /// Looks for changes, for ever.
    pub async fn follow(mut self, cluster: Arc<Cluster>, resolve_interval: Duration) {
        let mut resolve_at = Instant::now();
        let mut pauses = Pauses::default();
        loop {
            let began_at = Instant::now();
            let is_due = began_at >= resolve_at;
            let looked = catch(Task::Discovery, self.look(&cluster, is_due));
            if looked.await.is_none() {
                // What was found before holds. All is looked for again.
                sleep(pauses.next(began_at.elapsed())).await;
                resolve_at = Instant::now();
                continue;
            }
            if is_due {
                resolve_at = Instant::now() + resolve_interval;
            }
            let until_due = resolve_at.saturating_duration_since(Instant::now());
            let pause = match self.listing.file {
                Some(_) => until_due.min(NODE_FILE_INTERVAL),
                None => until_due,
            };
            sleep(pause).await;
        }
    }

    /// Reads the file, resolves the names if that is due, and tells the cluster.
    async fn look(&mut self, cluster: &Cluster, is_due: bool) {
        let file_changed = self.read_file();
        if is_due {
            self.resolve(|_| true).await;
        } else if file_changed {
            self.resolve(|node| node.each_address).await;
        }
        if is_due || file_changed {
            cluster.reconcile(self.wanted());
        }
    }

    /// Whether the file says something else now, and has said so for a look: one that is being
    /// written is another at the next. One that can't be used is logged once, and what it said
    /// before holds. It is read again each time: a mounted file may change without a trace.
    fn read_file(&mut self) -> bool {
        let Some(file) = &self.listing.file else {
            return false;
        };
        match read_again(file, NODE_LIST_BYTES_MAX).and_then(|text| parse_list(&text)) {
            Ok(nodes) => {
                self.complaint = None;
                let next = self.next.take().filter(|(next, _)| *next == nodes);
                if nodes == self.listing.nodes {
                    return false;
                }
                let since = next.map_or_else(Instant::now, |(_, since)| since);
                if since.elapsed() < NODE_FILE_INTERVAL {
                    self.next = Some((nodes, since));
                    return false;
                }
                self.listing.nodes = nodes;
                self.forget_names();
                true
            }
            Err(why) => {
                self.next = None;
                if self.complaint.as_ref() != Some(&why) {
                    tracing::warn!(file = %file.display(), why, "the list of memcached nodes can't be used");
                    self.complaint = Some(why);
                }
                false
            }
        }
    }

    /// Resolves the names of those nodes that `which` says. What can't be resolved now is as
    /// before.
    async fn resolve(&mut self, which: impl Fn(&NodeSpec) -> bool) {
        let nodes = self.listing.nodes.iter().filter(|node| which(node));
        let names = nodes.filter_map(|node| match &node.addr {
            NodeAddr::Tcp(host, port) if host.parse::<IpAddr>().is_err() => {
                Some((node.addr.clone(), host.clone(), *port, node.each_address))
            }
            _ => None,
        });
        let found = join_all(names.map(async |(addr, host, port, each)| {
            let found = timeout(RESOLVE_TIMEOUT, self.resolver.resolve(&host, port)).await;
            let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            (addr, each, found)
        }));
        for (addr, each, found) in found.await {
            match found {
                Ok(mut found) if !found.is_empty() => {
                    found.sort_unstable();
                    found.dedup();
                    if each {
                        self.keep_one_family(&addr, &mut found);
                    } else {
                        self.warn_if_several(&addr, &found);
                    }
                    self.note_resolved(&addr, None);
                    self.known.insert(addr, found);
                }
                Ok(_) => self.note_resolved(&addr, Some("it has no address".into())),
                Err(error) => self.note_resolved(&addr, Some(error.to_string())),
            }
        }
    }

    /// Counts a failure. The first one is logged, another kind of failure, and the end of it.
    fn note_resolved(&mut self, addr: &NodeAddr, failure: Option<String>) {
        self.failures.add(addr, failure.is_some().into());
        let before = match &failure {
            Some(why) => self.unresolved.insert(addr.clone(), why.clone()),
            None => self.unresolved.remove(addr),
        };
        match failure {
            Some(why) if before.as_ref() != Some(&why) => tracing::warn!(
                name = %addr,
                why,
                addresses = self.known.get(addr).map_or(0, Vec::len),
                "a name of memcached nodes can't be resolved; the addresses that it had are kept"
            ),
            None if before.is_some() => {
                tracing::info!(name = %addr, "the name can be resolved again");
            }
            _ => {}
        }
    }

    /// Forgets names that are no longer listed.
    fn forget_names(&mut self) {
        let nodes = &self.listing.nodes;
        let is_listed = |addr: &NodeAddr| nodes.iter().any(|node| node.addr == *addr);
        self.unresolved.retain(|addr, _| is_listed(addr));
        self.failures.lock().retain(|addr, _| is_listed(addr));
    }

    /// Behind one name there must be one server: each connection may go to any of its addresses,
    /// and users written to one would be looked for on another.
    fn warn_if_several(&mut self, addr: &NodeAddr, found: &[SocketAddr]) {
        let of_v4 = found.iter().filter(|found| found.is_ipv4()).count();
        let is_several = of_v4 > 1 || found.len() - of_v4 > 1;
        if is_several && self.several.insert(addr.clone()) {
            tracing::warn!(
                node = %addr,
                addresses = found.len(),
                "the name has several addresses: if they are several servers, users will be looked for where they are not; list it as dns+{addr}"
            );
        }
    }

    /// A host with addresses of both families is one node, called by its IPv4 address. Nothing
    /// tells which addresses are one host's, so one that has no IPv4 address beside others that do
    /// is no node. Those of the larger family would be no better: the addresses of a new host need
    /// not appear at the same time, and all users would move to the other family and back.
    fn keep_one_family(&mut self, addr: &NodeAddr, found: &mut Vec<SocketAddr>) {
        let of_v4 = found.iter().filter(|found| found.is_ipv4()).count();
        let of_v6 = found.len() - of_v4;
        if of_v4 == 0 {
            return;
        }
        found.retain(SocketAddr::is_ipv4);
        if of_v6 > of_v4 && self.uneven.insert(addr.clone()) {
            tracing::warn!(
                node = %addr,
                of_v4,
                of_v6,
                "the name has more IPv6 addresses than IPv4: hosts with no IPv4 address are not used beside \
                 hosts that have one"
            );
        }
    }

    fn wanted(&self) -> Vec<Endpoint> {
        let mut wanted = Vec::new();
        for spec in &self.listing.nodes {
            let addresses = self.known.get(&spec.addr).cloned().unwrap_or_default();
            let node = Endpoint::from(spec.clone());
            if !spec.each_address || node.host.parse::<IpAddr>().is_ok() {
                wanted.push(Endpoint { addresses, ..node });
                continue;
            }
            wanted.extend(addresses.into_iter().map(|address| Endpoint {
                addr: NodeAddr::Tcp(address.ip().to_string(), address.port()),
                addresses: vec![address],
                ..node.clone()
            }));
        }
        // A name and an address may be the same node.
        let mut seen = HashSet::new();
        wanted.retain(|node| seen.insert(node.addr.clone()));
        wanted
    }
}

/// How often each name could not be resolved.
#[derive(Debug, Default)]
pub struct NameFailures(Mutex<HashMap<NodeAddr, u64>>);

impl NameFailures {
    /// By name.
    pub fn counts(&self) -> Vec<(NodeAddr, u64)> {
        let counts = self.lock();
        counts
            .iter()
            .map(|(name, &count)| (name.clone(), count))
            .collect()
    }

    fn add(&self, name: &NodeAddr, count: u64) {
        *self.lock().entry(name.clone()).or_default() += count;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeAddr, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::advance;

    use super::*;

    /// The nodes of a listing whose names all have these addresses, and the discovery.
    async fn found(listing: &str, addresses: &[&str]) -> (Vec<Endpoint>, Discovery) {
        let listing = parse_list(&format!("{listing}\n")).unwrap();
        let found: Vec<SocketAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let resolver = Resolver::new(move |_, _| {
            let found = found.clone();
            Box::pin(async { Ok(found) })
        });
        let mut discovery = Discovery::new(NodeList::from(listing), resolver);
        discovery.resolve(|_| true).await;
        (discovery.wanted(), discovery)
    }

    #[tokio::test]
    async fn a_host_with_both_families_is_one_node() {
        let both = ["10.0.0.1:11211", "[fd00::1]:11211"];
        let names = |nodes: Vec<Endpoint>| -> Vec<_> {
            nodes.iter().map(|node| node.addr.to_string()).collect()
        };
        let (nodes, discovery) = found("dns+cache:11211", &both).await;
        assert_eq!(names(nodes), ["10.0.0.1:11211"]);
        assert!(discovery.uneven.is_empty());
        let (nodes, _) = found("dns+cache:11211", &["[fd00::1]:11211", "[fd00::2]:11211"]).await;
        assert_eq!(nodes.len(), 2, "there is no other family");
        let (nodes, _) = found("cache:11211", &both).await;
        assert_eq!(nodes[0].addresses.len(), 2, "either leads to it");
    }

    #[tokio::test]
    async fn a_host_without_an_ipv4_address_beside_others_that_have_one_is_warned_of() {
        let uneven = ["10.0.0.1:11211", "[fd00::1]:11211", "[fd00::2]:11211"];
        let (nodes, mut discovery) = found("dns+cache:11211", &uneven).await;
        assert_eq!((nodes.len(), discovery.uneven.len()), (1, 1));
        discovery.resolve(|_| true).await;
        assert_eq!(discovery.uneven.len(), 1, "once");
        let (nodes, discovery) = found("cache:11211", &uneven).await;
        assert_eq!(nodes[0].addresses.len(), 3, "each may lead to it");
        assert!(discovery.uneven.is_empty());
    }

    #[tokio::test]
    async fn a_name_that_fails_is_counted_and_its_trouble_noted_until_it_is_over() {
        let answers: [Result<&[&str], io::ErrorKind>; 6] = [
            Err(io::ErrorKind::TimedOut),
            Err(io::ErrorKind::TimedOut),
            Ok(&[]),
            Ok(&["10.0.0.1:11211"]),
            Err(io::ErrorKind::NotFound),
            Ok(&["10.0.0.2:11211"]),
        ];
        let asked = AtomicUsize::new(0);
        let resolver = Resolver::new(move |_, _| {
            let answer = answers[asked.fetch_add(1, Ordering::Relaxed)];
            let found = answer.map(|found| found.iter().map(|a| a.parse().unwrap()).collect());
            Box::pin(async { Ok(found?) })
        });
        let listing = parse_list("dns+cache:11211\n").unwrap();
        let mut discovery = Discovery::new(NodeList::from(listing), resolver);
        let mut seen = Vec::new();
        for _ in answers {
            discovery.resolve(|_| true).await;
            let trouble = discovery.unresolved.values().next().cloned();
            let (name, count) = discovery.failures().counts().remove(0);
            assert_eq!(name.to_string(), "cache:11211");
            seen.push((trouble.unwrap_or_default(), count, discovery.wanted().len()));
        }
        let seen: Vec<_> = seen.iter().map(|(a, b, c)| (a.as_str(), *b, *c)).collect();
        assert_eq!(
            seen,
            [
                ("timed out", 1, 0),
                ("timed out", 2, 0),
                ("it has no address", 3, 0),
                ("", 3, 1),
                ("entity not found", 4, 1),
                ("", 4, 1),
            ]
        );
        discovery.listing.nodes = parse_list("dns+other:1\n").unwrap();
        discovery.forget_names();
        assert!(discovery.failures().counts().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_written_drops_no_node() {
        const WHOLE: &str = "a:1\nb:2\nc:3\n";
        let file = std::env::temp_dir().join(format!("presenced-list-{}", std::process::id()));
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write(WHOLE);
        let listing = NodeList {
            nodes: parse_list(WHOLE).unwrap(),
            file: Some(file.clone()),
        };
        let resolver = Resolver::new(|_, _| Box::pin(async { Ok(Vec::new()) }));
        let mut discovery = Discovery::new(listing, resolver);
        // Cut anywhere, and written to its end before the next look.
        for cut in 0..WHOLE.len() {
            write(&WHOLE[..cut]);
            assert!(!discovery.read_file(), "{cut}");
            advance(NODE_FILE_INTERVAL / 2).await;
            assert!(!discovery.read_file(), "{cut}");
            advance(NODE_FILE_INTERVAL / 2).await;
            write(WHOLE);
            assert!(!discovery.read_file(), "{cut}");
        }
        // Within a line it is never taken for whole.
        write(&WHOLE[..WHOLE.len() - 1]);
        for _ in 0..5 {
            assert!(!discovery.read_file());
            advance(NODE_FILE_INTERVAL).await;
        }
        assert!(discovery.complaint.is_some());
        assert_eq!(discovery.listing.nodes.len(), 3);
        write("b:2\n");
        assert!(!discovery.read_file());
        advance(NODE_FILE_INTERVAL).await;
        assert!(discovery.read_file());
        assert_eq!(discovery.listing.nodes, parse_list("b:2\n").unwrap());
        std::fs::remove_file(&file).unwrap();
    }

    #[tokio::test]
    async fn one_name_with_several_addresses_of_a_family_is_warned_of() {
        let several = ["10.0.0.1:11211", "10.0.0.2:11211"];
        let (nodes, discovery) = found("cache:11211", &several).await;
        assert_eq!((nodes.len(), discovery.several.len()), (1, 1));
        let (nodes, discovery) = found("dns+cache:11211", &several).await;
        assert_eq!((nodes.len(), discovery.several.len()), (2, 0));
        let (_, discovery) = found("cache:11211", &["10.0.0.1:11211", "[fd00::1]:11211"]).await;
        assert!(discovery.several.is_empty(), "one host");
    }
}
