//! A fleet in one thread and in virtual time: what a simulation needs is an argument of the parts.

use std::sync::Arc;
use std::time::Duration;

use presenced::pull::metrics::PullMetrics;
use presenced::pull::{Answer, Puller};
use presenced_memcached::discovery::Discovery;
use presenced_memcached::probe::{self, Sentinel};
use presenced_memcached::{Cluster, ConnectOptions, NodeList};
use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::users::{Hasher, Live};
use presenced_presence::{Config, Record, SessionId, Slot, UserId};
use presenced_session::clock::Clock;
use presenced_session::slab::SessionKey;
use presenced_testkit::simulation::Simulation;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

const NODES: u8 = 3;
const USERS: u32 = 100;
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(25);
/// Unix time when a run starts.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// An edge without sockets: all that keeps users online and asks for others, on one worker.
struct Edge {
    presence: Arc<Presence>,
    puller: Puller,
    sessions: Vec<(Slot, SessionId)>,
    /// The edge ends with them.
    _tasks: JoinSet<()>,
}

impl Edge {
    async fn start(simulation: &Simulation, number: u32, seed: u64) -> Edge {
        let network = simulation.network(seed);
        let listing = NodeList::from(simulation.specs());
        let mut discovery = Discovery::new(listing, network.resolver.clone());
        let config = presenced_memcached::Config {
            connect: ConnectOptions {
                network,
                ..ConnectOptions::default()
            },
            ..presenced_memcached::Config::default()
        };
        let cluster = Arc::new(Cluster::new(discovery.first().await, config));
        let name = format!("edge-{number}");
        let record = Record::new("user:{userId}:online", &name, 0, 1).unwrap();
        let config = Config {
            hasher: Hasher::fixed(),
            ..Config::new(record)
        };
        let clock = Clock::simulated(EPOCH);
        let presence = Arc::new(Presence::new(
            &config,
            cluster.clone(),
            clock,
            Arc::default(),
        ));
        let mut tasks = JoinSet::new();
        let sentinel = Sentinel {
            key: format!("sentinel:{name}"),
            ttl_s: 60,
            interval: Duration::from_secs(1),
        };
        tasks.spawn(probe::watch(cluster.clone(), sentinel));
        tasks.spawn(discovery.follow(cluster, Duration::from_secs(5)));
        let flusher = Flusher::start(&presence, 0, 1, &mut tasks);
        tasks.spawn(flusher.clone().run(FLUSH_INTERVAL));
        tasks.spawn(flusher.clone().refill(10_000));
        let puller = Puller::start(&presence, &Arc::<PullMetrics>::default(), &mut tasks);
        let mut sessions = Vec::new();
        for index in 0..USERS {
            let session = SessionId {
                worker: 0,
                key: SessionKey {
                    index,
                    generation: 1,
                },
            };
            let live = Live {
                connected_at_ms: clock.unix_ms(),
                session,
            };
            let slot = presence.connect(&user(number, index), live).slot;
            flusher.write_now(slot);
            sessions.push((slot, session));
        }
        let (slots, pending) = (sessions.clone(), presence.pending().clone());
        tasks.spawn(async move {
            let mut heartbeats = interval(HEARTBEAT_INTERVAL);
            loop {
                heartbeats.tick().await;
                slots.iter().for_each(|(slot, _)| pending.record(*slot));
            }
        });
        Edge {
            presence,
            puller,
            sessions,
            _tasks: tasks,
        }
    }

    /// Asks for all users of the edge with this number.
    async fn ask(&self, number: u32) -> Answer {
        let users = (0..USERS).map(|index| user(number, index)).collect();
        self.puller.ask(users).await.unwrap()
    }
}

fn user(edge: u32, index: u32) -> UserId {
    UserId::new(&format!("{edge}-{index}")).unwrap()
}

/// Six minutes of two edges and three nodes, one of which is killed for half a minute. Returns what
/// happened when.
fn six_minutes(seed: u64) -> Vec<String> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(async {
        let start = Instant::now();
        let at = |seconds| sleep_until(start + Duration::from_secs(seconds));
        let simulation = Simulation::with_nodes(NODES);
        let observer = Edge::start(&simulation, 0, seed).await;
        let edge = Edge::start(&simulation, 1, seed + 1).await;
        let online = async |expected| {
            let answer = observer.ask(1).await;
            simulation.note(&format!("{} online", answer.online.len()));
            assert_eq!((answer.online.len(), answer.unknown.len()), (expected, 0));
            answer
        };

        at(10).await;
        let answer = online(USERS as usize).await;
        let connected_at = answer
            .online
            .iter()
            .map(|(_, since)| Duration::from_millis(*since));
        assert!(
            connected_at
                .clone()
                .all(|since| since >= EPOCH && since < EPOCH + FLUSH_INTERVAL)
        );

        at(60).await;
        simulation.kill(1);
        at(62).await;
        let answer = observer.ask(1).await;
        simulation.note(&format!("{} unknown", answer.unknown.len()));
        assert!(!answer.unknown.is_empty(), "users of the node that is away");
        assert_eq!(answer.online.len() + answer.unknown.len(), USERS as usize);
        at(90).await;
        simulation.start(1);

        at(200).await;
        online(USERS as usize).await;
        for (slot, session) in &edge.sessions[..10] {
            edge.presence.users().disconnect(*slot, *session);
        }
        at(360).await;
        online(USERS as usize - 10).await;
        simulation.events()
    })
}

#[test]
fn a_fleet_runs_in_virtual_time_and_a_seed_repeats_its_run() {
    let events = six_minutes(1);
    assert_eq!(events, six_minutes(1));
    assert_ne!(events, six_minutes(100), "other pauses between connections");
}
