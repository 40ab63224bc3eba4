//! Twenty edges before a memcached that is slower than what they could send at once, all of it in one thread
//! and in virtual time. The node serves commands one after another, in the order in which they came, at an
//! exact rate: an edge that sends too much holds up all others.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use presenced_memcached::limits::FLUSH_INTERVAL;
use presenced_memcached::network::{Dialler, Random};
use presenced_memcached::pipeline::WriteCommand;
use presenced_memcached::stream::Stream;
use presenced_memcached::{Cluster, Config, ConnectOptions, Network, NodeSpec, probe};
use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::users::{Hasher, Live, Users};
use presenced_presence::{Record, SessionId, UserId};
use presenced_session::clock::Clock;
use presenced_session::slab::SessionKey;
use presenced_store::{Options, Store, serve_stream};
use presenced_testkit::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

const EDGES: usize = 20;

const USERS: usize = EDGES * 2000;

/// Commands a second.
const RATE: u32 = 15_000;

/// What all edges may have in flight, with the smallest windows, is as much time of the node.
const FULL: Duration = Duration::from_millis(EDGES as u64 * 64 * 1000 / RATE as u64);

/// As large as what a kernel takes of a connection: a slow reader stops no writer.
const WIRE_BYTES: usize = 1 << 20;

/// A memcached at an exact rate.
#[derive(Clone)]
struct SlowNode {
    store: Arc<Store>,
    commands: UnboundedSender<Command>,
    is_up: Arc<AtomicBool>,
    /// Commands a second.
    rate: Arc<AtomicU32>,
    /// When each key was set.
    sets: Arc<Mutex<HashMap<String, Vec<Instant>>>>,
}

/// One that waits for its turn.
struct Command {
    bytes: Vec<u8>,
    connection: Arc<tokio::sync::Mutex<WriteHalf<DuplexStream>>>,
}

impl SlowNode {
    fn start() -> SlowNode {
        let (commands, waiting) = mpsc::unbounded_channel();
        let node = SlowNode {
            store: Arc::new(Store::new(Options::new(64 << 20))),
            commands,
            is_up: Arc::new(AtomicBool::new(true)),
            rate: Arc::new(AtomicU32::new(RATE)),
            sets: Arc::default(),
        };
        tokio::spawn(serve(waiting, node.rate.clone(), node.sets.clone()));
        node
    }

    /// Leads to it. `seed` is what an edge does at random; the connection with the number `late` takes long.
    fn network(&self, seed: u64, late: Option<usize>) -> Network {
        let (node, dials) = (self.clone(), AtomicUsize::new(0));
        let dialler = Dialler::new(move |_| {
            if !node.is_up.load(Ordering::Relaxed) {
                return Box::pin(async { Err(ErrorKind::ConnectionRefused.into()) });
            }
            let (ours, theirs) = duplex(WIRE_BYTES);
            let (inner, served) = duplex(WIRE_BYTES);
            tokio::spawn(serve_stream(served, node.store.clone(), Default::default()));
            let ((from_edge, mut to_edge), (mut replies, requests)) = (split(theirs), split(inner));
            tokio::spawn(async move { tokio::io::copy(&mut replies, &mut to_edge).await });
            tokio::spawn(queue(from_edge, requests, node.commands.clone()));
            let is_late = Some(dials.fetch_add(1, Ordering::Relaxed)) == late;
            Box::pin(async move {
                if is_late {
                    sleep(Duration::from_millis(500)).await;
                }
                Ok(Stream::Simulated(Box::new(ours)))
            })
        });
        Network {
            dialler,
            random: Random::seeded(seed),
            ..Network::default()
        }
    }

    /// How often each key of a user was set since this was last asked, and when last.
    fn take_sets(&self) -> HashMap<String, Vec<Instant>> {
        let mut sets = std::mem::take(&mut *self.sets.lock().unwrap());
        sets.retain(|key, _| key.starts_with("user:"));
        sets
    }

    fn users_set(&self) -> usize {
        let sets = self.sets.lock().unwrap();
        sets.keys().filter(|key| key.starts_with("user:")).count()
    }

    /// When the user was first set since the sets were last taken.
    fn set_at(&self, user: &UserId) -> Option<Instant> {
        let sets = self.sets.lock().unwrap();
        Some(sets.get(&key(user))?[0])
    }
}

fn key(user: &UserId) -> String {
    format!("user:{}:online", user.as_str())
}

/// Queues what comes on a connection behind all that has come on any.
async fn queue(
    mut from: ReadHalf<DuplexStream>,
    to: WriteHalf<DuplexStream>,
    commands: UnboundedSender<Command>,
) {
    let connection = Arc::new(tokio::sync::Mutex::new(to));
    let mut bytes = Vec::new();
    while let Ok(1..) = from.read_buf(&mut bytes).await {
        let mut taken = 0;
        while let Some(length) = command_bytes(&bytes[taken..]) {
            let command = Command {
                bytes: bytes[taken..taken + length].to_vec(),
                connection: connection.clone(),
            };
            let _ = commands.send(command);
            taken += length;
        }
        bytes.drain(..taken);
    }
}

/// How long the first command is, with its value; `None` if it has not all come.
fn command_bytes(bytes: &[u8]) -> Option<usize> {
    let line = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let text = std::str::from_utf8(&bytes[..line]).unwrap();
    let words: Vec<_> = text.split_whitespace().collect();
    let value = match words[..] {
        ["set" | "add" | "append", _, _, _, bytes] | ["ms", _, bytes, ..] => {
            bytes.parse::<usize>().unwrap() + "\r\n".len()
        }
        _ => 0,
    };
    (bytes.len() >= line + value).then_some(line + value)
}

async fn serve(
    mut waiting: UnboundedReceiver<Command>,
    rate: Arc<AtomicU32>,
    sets: Arc<Mutex<HashMap<String, Vec<Instant>>>>,
) {
    let mut done_at = Instant::now();
    loop {
        let command = match waiting.try_recv() {
            Ok(command) => command,
            Err(_) => {
                let Some(command) = waiting.recv().await else {
                    return;
                };
                // It was idle.
                done_at = done_at.max(Instant::now());
                command
            }
        };
        done_at += Duration::from_secs(1) / rate.load(Ordering::Relaxed);
        if done_at > Instant::now() {
            sleep_until(done_at).await;
        }
        let mut words = command.bytes.split(|&byte| byte == b' ');
        if let (Some(b"set" | b"ms"), Some(key)) = (words.next(), words.next()) {
            let key = String::from_utf8(key.to_vec()).unwrap();
            let mut sets = sets.lock().unwrap();
            sets.entry(key).or_default().push(Instant::now());
        }
        let mut connection = command.connection.lock().await;
        let _ = connection.write_all(&command.bytes).await;
    }
}

/// An edge without sessions.
struct Edge {
    presence: Arc<Presence>,
    /// Of its first worker.
    flusher: Flusher,
    _tasks: JoinSet<()>,
}

impl Edge {
    /// With its share of the users, none of whom is written yet.
    fn start(number: usize, node: &SlowNode, command: WriteCommand) -> Edge {
        Edge::with_workers(1, number, node.network(number as u64, None), command)
    }

    fn with_workers(
        workers: usize,
        number: usize,
        network: Network,
        write_command: WriteCommand,
    ) -> Edge {
        let spec = "127.0.0.1:1".parse::<NodeSpec>().unwrap();
        let connect = ConnectOptions {
            network,
            write_command,
            sentinel: Some(format!("presenced:sentinel:{number}")),
            ..ConnectOptions::default()
        };
        let config = Config {
            connect,
            ..Config::default()
        };
        let cluster = Arc::new(Cluster::new([spec.into()], config));
        let record = Record::new("user:{userId}:online", "edge", 0, 1).unwrap();
        let config = presenced_presence::Config {
            hasher: Hasher::fixed(),
            ..presenced_presence::Config::new(record)
        };
        let clock = Clock::start();
        let presence = Presence::new(&config, cluster.clone(), clock, Arc::default());
        let presence = Arc::new(presence);
        for user in users_of(number) {
            presence.connect(&user, live());
        }
        let mut tasks = JoinSet::new();
        let flushers = (0..workers).map(|worker| {
            let flusher = Flusher::start(&presence, worker, workers, &mut tasks);
            tasks.spawn(flusher.clone().run());
            tasks.spawn(flusher.clone().refill(config.refill_rate));
            flusher
        });
        let flusher = flushers.collect::<Vec<_>>().remove(0);
        let probe_config = probe::Config {
            interval: Duration::from_secs(1),
            entry_bytes: config.record.entry_bytes(),
            writes: presence.clone(),
        };
        tasks.spawn(probe::watch(cluster, probe_config));
        Edge {
            presence,
            flusher,
            _tasks: tasks,
        }
    }

    /// One more user connects.
    fn connect(&self, user: &UserId) {
        let connected = self.presence.connect(user, live());
        self.flusher.write_now(connected.slot);
    }

    fn is_connected(&self) -> bool {
        self.presence.cluster().topology().nodes()[0].is_up()
    }

    /// How often something went wrong with a connection, or was refused.
    fn errors(&self) -> u64 {
        let topology = self.presence.cluster().topology();
        topology.nodes()[0].errors().map(|(_, count)| count).sum()
    }
}

fn live() -> Live {
    let key = SessionKey {
        index: 0,
        generation: 0,
    };
    Live {
        connected_at_ms: 1_700_000_000_000,
        session: SessionId { worker: 0, key },
    }
}

fn users_of(edge: usize) -> impl Iterator<Item = UserId> {
    let users = 0..USERS / EDGES;
    users.map(move |number| UserId::new(&format!("e{edge}u{number}")).unwrap())
}

/// Twenty edges and their node, which has everyone.
async fn refilled(command: WriteCommand) -> (SlowNode, Vec<Edge>) {
    let node = SlowNode::start();
    let edges = (0..EDGES).map(|number| Edge::start(number, &node, command));
    let edges: Vec<_> = edges.collect();
    everyone_is_set_once(&node, &edges, 0).await;
    (node, edges)
}

/// Waits until the users and `more` are set, which takes no longer than it must. None of them may be set twice.
async fn everyone_is_set_once(node: &SlowNode, edges: &[Edge], more: usize) {
    let twice = everyone_is_set(node, edges, more).await;
    let example = twice.first();
    assert!(twice.is_empty(), "{} set twice: {example:?}", twice.len());
}

/// Returns the keys that are set more than once.
async fn everyone_is_set(node: &SlowNode, edges: &[Edge], more: usize) -> Vec<String> {
    let (began, users, before) = (Instant::now(), USERS + more, errors(edges));
    let needed = Duration::from_secs(1) * users as u32 / RATE;
    // A second until a loss is noticed, and what is in flight.
    let within = needed * 6 / 5 + Duration::from_secs(2);
    until("everyone is set", within, async || {
        assert_eq!(errors(edges), before, "after {:?}", began.elapsed());
        node.users_set() == users
    })
    .await;
    sleep(2 * FLUSH_INTERVAL).await;
    assert_eq!(errors(edges), before);
    let sets = node.take_sets().into_iter();
    // A user who connects in the second in which a loss is noticed may have been lost, and is written again.
    let twice = sets.filter(|(key, times)| times.len() > 1 && !key.starts_with("user:new"));
    twice.map(|(key, _)| key).collect()
}

fn errors(edges: &[Edge]) -> u64 {
    edges.iter().map(Edge::errors).sum()
}

/// Users connect, one after another, anywhere. Returns how long each waited for their entry.
async fn connect_some(node: &SlowNode, edges: &[Edge]) -> Vec<Duration> {
    let mut waited = Vec::new();
    for number in 0..20 {
        let user = UserId::new(&format!("new{number}")).unwrap();
        let at = Instant::now();
        edges[number * 7 % EDGES].connect(&user);
        until("the user is set", Duration::from_secs(60), async || {
            node.set_at(&user).is_some()
        })
        .await;
        waited.push(node.set_at(&user).unwrap() - at);
    }
    waited
}

/// A connect waits behind what is in flight everywhere, and in a window that was full. At first windows grow too
/// far, as a node that is not busy yet is fast.
fn assert_prompt(mut waited: Vec<Duration>) {
    waited.sort_unstable();
    let (median, longest) = (waited[waited.len() / 2], waited[waited.len() - 1]);
    assert!(median <= FULL * 3 / 2 && longest <= 3 * FULL, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn everyone_is_written_once_and_connects_first_while_all_edges_flush_all_they_have() {
    flush_all(WriteCommand::Set).await;
}

#[tokio::test(start_paused = true)]
async fn everyone_is_written_once_and_connects_first_while_all_edges_flush_quietly() {
    flush_all(WriteCommand::Ms).await;
}

async fn flush_all(command: WriteCommand) {
    let (node, edges) = refilled(command).await;
    let mut flushes = JoinSet::new();
    for edge in &edges {
        edge.presence.users().mark_all();
        let flusher = edge.flusher.clone();
        flushes.spawn(async move { flusher.flush_all().await });
    }
    let waited = connect_some(&node, &edges);
    let (waited, ()) = tokio::join!(waited, everyone_is_set_once(&node, &edges, 20));
    assert_prompt(waited);
    assert!(flushes.join_all().await.into_iter().all(|all| all));
}

#[tokio::test(start_paused = true)]
async fn everyone_is_written_once_while_all_their_users_connect_at_once() {
    let (node, edges) = refilled(WriteCommand::Set).await;
    for (number, edge) in edges.iter().enumerate() {
        users_of(number).for_each(|user| edge.connect(&user));
    }
    everyone_is_set_once(&node, &edges, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_refill_is_as_fast_as_the_node_and_delays_no_connect() {
    let (node, edges) = refilled(WriteCommand::Set).await;
    // It has lost everything.
    let (mut ours, theirs) = duplex(1024);
    tokio::spawn(serve_stream(theirs, node.store.clone(), Default::default()));
    ours.write_all(b"flush_all\r\n").await.unwrap();
    let connects = async {
        until("the refill has begun", Duration::from_secs(5), async || {
            node.users_set() > 0
        })
        .await;
        connect_some(&node, &edges).await
    };
    let (waited, ()) = tokio::join!(connects, everyone_is_set_once(&node, &edges, 20));
    assert_prompt(waited);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_pending_when_a_node_is_back_empty_is_mostly_written_once() {
    let node = SlowNode::start();
    node.is_up.store(false, Ordering::Relaxed);
    let edges = (0..EDGES).map(|number| Edge::start(number, &node, WriteCommand::Set));
    let edges: Vec<_> = edges.collect();
    let users = edges.iter().map(|edge| edge.presence.users());
    users.for_each(Users::mark_all);
    sleep(Duration::from_secs(30)).await;
    node.is_up.store(true, Ordering::Relaxed);
    // Each edge finds it in its own time.
    until("all edges are back", Duration::from_secs(5), async || {
        edges.iter().all(Edge::is_connected)
    })
    .await;
    let twice = everyone_is_set(&node, &edges, 0).await.len();
    // By the flush in the second in which the loss is noticed, and then by the refill.
    assert!(twice < USERS / 8, "{twice}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_slow_all_at_once_is_not_given_up_while_it_answers() {
    slow_all_at_once(WriteCommand::Set).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_slow_all_at_once_is_not_given_up_while_it_answers_quietly() {
    slow_all_at_once(WriteCommand::Ms).await;
}

/// A fast node, with as much in flight as it is used to, has its answers ready in a second for a good hundred
/// commands, and is fast again before it has lost anything.
async fn slow_all_at_once(command: WriteCommand) {
    let (node, fast) = (SlowNode::start(), 1_000_000);
    node.rate.store(fast, Ordering::Relaxed);
    let edge = Edge::start(0, &node, command);
    let users = USERS / EDGES;
    until("everyone is set", Duration::from_secs(10), async || {
        node.users_set() == users
    })
    .await;
    let flusher = edge.flusher.clone();
    for _ in 0..10 {
        edge.presence.users().mark_all();
        assert!(flusher.flush_all().await);
    }
    sleep(2 * FLUSH_INTERVAL).await;
    node.take_sets();
    edge.presence.users().mark_all();
    node.rate.store(200, Ordering::Relaxed);
    let flushing = tokio::spawn(async move { flusher.flush_all().await });
    sleep(Duration::from_secs(4)).await;
    let set = node.users_set();
    assert!((2..users / 2).contains(&set), "{set}");
    node.rate.store(fast, Ordering::Relaxed);
    assert!(flushing.await.unwrap(), "no connection was given up");
    let sets = node.take_sets();
    assert_eq!(sets.len(), users);
    let twice = sets.values().filter(|times| times.len() > 1).count();
    assert_eq!(twice, 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_connects_later_than_the_others_refills_as_soon_as_it_does() {
    let node = SlowNode::start();
    // The first worker's connection is the first, the second's the second.
    let network = node.network(0, Some(1));
    let began = Instant::now();
    let _edge = Edge::with_workers(2, 0, network, WriteCommand::Set);
    until("everyone is set", 2 * FLUSH_INTERVAL, async || {
        node.users_set() == USERS / EDGES
    })
    .await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}
