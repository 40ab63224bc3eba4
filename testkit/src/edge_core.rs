//! What every edge has, with sessions or without: a list of nodes, their probe, and users who are
//! written to them.

use std::sync::Arc;
use std::time::Duration;

use presenced_memcached::discovery::Discovery;
use presenced_memcached::node_list::parse_list;
use presenced_memcached::{Cluster, ConnectOptions, Network, NodeList, OnFailure, probe};
use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::users::Hasher;
use presenced_presence::{Config, Record};
use presenced_session::clock::Clock;
use tokio::task::JoinSet;

use crate::temp::TempFile;

/// What an edge's core is made of.
pub struct Setup {
    /// The list of nodes, a line for each. It stands in a file that is watched.
    pub listed: String,
    /// The edge's name in entries.
    pub name: String,
    /// The number of its run, in entries and in its sentinel.
    pub run: u32,
    pub network: Network,
    pub clock: Clock,
    pub on_failure: OnFailure,
    pub refill_rate: u32,
}

/// The core of an edge on one worker, with the usual times. Nothing is flushed yet: the flusher is
/// the caller's to run.
pub struct Core {
    pub presence: Arc<Presence>,
    pub flusher: Flusher,
    pub list: TempFile,
    /// The core ends with them.
    pub tasks: JoinSet<()>,
}

impl Core {
    pub async fn start(setup: Setup) -> Core {
        let list = TempFile::new(&setup.listed);
        let mut listing = NodeList::from(parse_list(&setup.listed).unwrap());
        listing.file = Some(list.path().to_owned());
        let mut discovery = Discovery::new(listing, setup.network.resolver.clone());
        let config = presenced_memcached::Config {
            on_failure: setup.on_failure,
            connect: ConnectOptions {
                sentinel: Some(format!("presenced:sentinel:{}:{}", setup.name, setup.run)),
                network: setup.network,
                ..ConnectOptions::default()
            },
            ..presenced_memcached::Config::default()
        };
        let cluster = Arc::new(Cluster::new(discovery.first().await, config));
        let record = Record::new("user:{userId}:online", &setup.name, 0, setup.run).unwrap();
        let config = Config {
            hasher: Hasher::fixed(),
            refill_rate: setup.refill_rate,
            ..Config::new(record)
        };
        let presence = Presence::new(&config, cluster.clone(), setup.clock, Arc::default());
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
        Core {
            presence,
            flusher,
            list,
            tasks,
        }
    }
}
