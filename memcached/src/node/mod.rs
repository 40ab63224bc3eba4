//! One node: its address, how it does, and dialling it.

mod errors;
mod sentinel;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::MemcachedError;
use super::address::NodeAddr;
use super::backoff::Backoff;
use super::config::ConnectOptions;
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::log_throttle::LogThrottle;
use super::network::Target;
use super::pipeline::WriteCommand;
use super::stream::Stream;
use super::window::Window;
use crate::limits::{WINDOW_TCP, WINDOW_UNIX};

pub use self::errors::NODE_ERRORS;
pub(crate) use self::sentinel::Sentinel;
pub use self::sentinel::{NotLooked, sentinel_value};

/// Shared by all connections to it.
#[derive(Debug)]
pub struct Node {
    id: u8,
    addr: NodeAddr,
    /// What its certificate is for.
    host: String,
    weight: u32,
    access: Arc<ConnectOptions>,
    /// What the name resolved to last; empty before the first time, and of a Unix socket.
    addresses: Mutex<Vec<SocketAddr>>,
    /// Whether it was told that this node asks for no credentials.
    asks_for_none: AtomicBool,
    /// Whether the probe's last question was answered.
    answers: watch::Sender<bool>,
    /// Since when the probe's questions are not answered, if one was not.
    away_since: Mutex<Option<Instant>>,
    /// Version of the topology with whose ring the marker was renewed last.
    told: watch::Sender<u64>,
    /// Connections for the flush that are up.
    writers_up: AtomicUsize,
    /// Connections for look-ups that are up.
    readers_up: AtomicUsize,
    /// Connections of both kinds that there should be.
    needed: AtomicUsize,
    pub(super) ejected: AtomicBool,
    losses: AtomicU64,
    doubts: AtomicU64,
    is_whole: AtomicBool,
    /// What the probe knows of the sentinel.
    sentinel: watch::Sender<Sentinel>,
    greeted: Notify,
    /// Connections that write and are up, but did not find the sentinel.
    elsewhere: AtomicUsize,
    several_servers_seen: AtomicU64,
    several_servers_logged: Mutex<LogThrottle>,
    evictions: AtomicU64,
    /// When entries may last have been evicted.
    entries_evicted: Mutex<Option<Instant>>,
    /// Whether evictions are noticed, or it is known that they can't be.
    evictions_watched: AtomicBool,
    errors: [AtomicU64; NODE_ERRORS.len()],
    /// Of the warning that it refuses entries.
    refusals_logged: Mutex<LogThrottle>,
    /// Of warnings that connections to it fail though it answers its probe.
    failures_logged: Mutex<LogThrottle>,
}

impl Node {
    pub(super) fn new(id: u8, wanted: Endpoint, access: Arc<ConnectOptions>) -> Node {
        Node {
            id,
            addr: wanted.addr,
            host: wanted.host,
            weight: wanted.weight,
            access,
            addresses: Mutex::new(wanted.addresses),
            asks_for_none: AtomicBool::new(false),
            answers: watch::Sender::new(false),
            away_since: Mutex::default(),
            told: watch::Sender::new(0),
            writers_up: AtomicUsize::new(0),
            readers_up: AtomicUsize::new(0),
            needed: AtomicUsize::new(0),
            ejected: AtomicBool::new(false),
            losses: AtomicU64::new(0),
            doubts: AtomicU64::new(0),
            is_whole: AtomicBool::new(false),
            sentinel: watch::Sender::new(Sentinel::NotKnown),
            greeted: Notify::new(),
            elsewhere: AtomicUsize::new(0),
            several_servers_seen: AtomicU64::new(0),
            several_servers_logged: Mutex::default(),
            evictions: AtomicU64::new(0),
            entries_evicted: Mutex::default(),
            evictions_watched: AtomicBool::new(false),
            errors: Default::default(),
            refusals_logged: Mutex::default(),
            failures_logged: Mutex::default(),
        }
    }

    /// Its number: what the ring says of a key.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// Where it listens, and what it is called on the ring.
    pub fn addr(&self) -> &NodeAddr {
        &self.addr
    }

    /// Its share of the keys, relative to those of the others.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.access.credentials.as_deref()
    }

    /// It has let us in without asking for the credentials that we have.
    pub(super) fn asks_for_no_credentials(&self) {
        if !self.asks_for_none.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                node = %self.addr,
                "memcached asks for no password (it runs without -Y): whoever reaches it is let in"
            );
        }
    }

    /// How entries are written.
    pub(super) fn write_command(&self) -> WriteCommand {
        self.access.write_command
    }

    /// Most time without a reply while commands are in flight.
    pub fn timeout(&self) -> Duration {
        self.access.timeout
    }

    /// Whether it answers, and a connection for the flush is up.
    pub fn is_up(&self) -> bool {
        *self.answers.borrow() && self.writers_up.load(Ordering::Relaxed) > 0
    }

    /// Whether it has answered the probe's last question.
    pub(super) fn answers(&self) -> bool {
        *self.answers.borrow()
    }

    /// Whether it answers, and every connection that is needed is up; the one that asks for
    /// `stats`, too, unless it answers none.
    pub fn has_all_connections(&self) -> bool {
        let up = [&self.writers_up, &self.readers_up].map(|up| up.load(Ordering::Relaxed));
        *self.answers.borrow()
            && self.evictions_watched.load(Ordering::Relaxed)
            && up.iter().sum::<usize>() >= self.needed.load(Ordering::Relaxed)
    }

    /// Whether it is off the ring because it did not answer.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Tells when the node begins or ceases to answer its probe.
    pub fn answering(&self) -> watch::Receiver<bool> {
        self.answers.subscribe()
    }

    pub(super) fn set_answers(&self, answers: bool) {
        let mut away_since = lock(&self.away_since);
        *away_since = match answers {
            true => None,
            false => Some(away_since.unwrap_or_else(Instant::now)),
        };
        drop(away_since);
        self.answers
            .send_if_modified(|before| std::mem::replace(before, answers) != answers);
    }

    /// Whether it has answered none of the probe's questions for this `time`.
    pub(super) fn is_away_for(&self, time: Duration) -> bool {
        lock(&self.away_since).is_some_and(|since| since.elapsed() >= time)
    }

    /// It has answered a renewal of its marker with the ring of the topology with this `version`.
    pub(super) fn note_told(&self, version: u64) {
        self.told.send_replace(version);
    }

    /// Whether it has been told of the topology with this `version`, or of a later one.
    pub(super) fn is_told(&self, version: u64) -> bool {
        *self.told.borrow() >= version
    }

    /// Returns when it has.
    pub(super) async fn told(&self, version: u64) {
        // The node itself has the other end.
        let _ = self
            .told
            .subscribe()
            .wait_for(|told| *told >= version)
            .await;
    }

    /// How often its data were found lost.
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// How often what it had confirmed became doubtful: its losses are among them.
    pub fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Acquire)
    }

    pub(super) fn lost(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn doubted(&self) {
        // Pairs with the load: whoever sees the doubt comes after the new sentinel, and sees the
        // loss.
        self.doubts.fetch_add(1, Ordering::Release);
    }

    /// Items, ours or not, that it has evicted for want of memory while we watched.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    pub(super) fn evicted(&self, count: u64) {
        self.evictions.fetch_add(count, Ordering::Relaxed);
    }

    /// Whether its marker was whole and of our ring when it was last looked at: users who are not
    /// found there are offline, unless entries were evicted.
    pub fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed) && !self.is_several_servers()
    }

    pub(super) fn set_whole(&self, is_whole: bool) {
        self.is_whole.store(is_whole, Ordering::Relaxed);
    }

    /// Whether entries may have been evicted in the last `ttl`: as long as nobody looks, they may.
    pub fn may_have_evicted(&self, ttl: Duration) -> bool {
        let is_watched = self.evictions_watched.load(Ordering::Acquire);
        !is_watched || lock(&self.entries_evicted).is_some_and(|at| at.elapsed() < ttl)
    }

    /// It was looked at: entries may have been evicted since the look before, or were not.
    pub(super) fn note_look(&self, has_evicted: bool) {
        if has_evicted {
            *lock(&self.entries_evicted) = Some(Instant::now());
        }
        // Whoever sees it sees what was found.
        self.evictions_watched.store(true, Ordering::Release);
    }

    /// It could not be looked at.
    pub(super) fn note_no_look(&self) {
        self.evictions_watched.store(false, Ordering::Release);
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        lock(&self.addresses).clone()
    }

    pub(super) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        *lock(&self.addresses) = addresses;
    }

    /// Connects; the caller greets memcached before it calls the connection up.
    pub(super) async fn dial(&self) -> Result<Stream, MemcachedError> {
        let limit = self.access.connect_timeout;
        match timeout(limit, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(MemcachedError::Timeout(limit)),
        }
    }

    async fn connect(&self) -> Result<Stream, MemcachedError> {
        let network = &self.access.network;
        let target = match &self.addr {
            NodeAddr::Unix(path) => Target::Unix(path.clone()),
            NodeAddr::Tcp(host, port) => {
                let mut addresses = self.addresses();
                if addresses.is_empty() {
                    let resolved = network.resolver.resolve(host, *port).await;
                    addresses = resolved.map_err(MemcachedError::Connect)?;
                }
                Target::Tcp(addresses)
            }
        };
        let stream = network.dialler.dial(target).await;
        let stream = stream.map_err(MemcachedError::Connect)?;
        match &self.access.tls {
            Some(tls) => stream.encrypt(tls, &self.host).await,
            None => Ok(stream),
        }
    }

    /// The pauses between connections to it.
    pub fn backoff(&self) -> Backoff {
        Backoff::new(self.random())
    }

    pub(super) fn random(&self) -> fastrand::Rng {
        self.access.network.random.fork()
    }

    /// How many commands may be in flight on a new connection that writes, and how that changes. It
    /// took `dialling` to make it.
    pub(super) fn window(&self, dialling: Duration) -> Window {
        let max = match self.addr {
            NodeAddr::Tcp(..) => WINDOW_TCP,
            NodeAddr::Unix(_) => WINDOW_UNIX,
        };
        Window::new(max, self.access.reply_target, dialling)
    }

    /// Counts a connection for the flush that is up, until the result is dropped.
    pub fn writer_is_up(self: &Arc<Node>) -> Up {
        Up::new(self, |node| &node.writers_up)
    }

    /// The same of a connection for look-ups. Its end is noticed at the next question.
    pub(super) fn reader_is_up(self: &Arc<Node>) -> Up {
        Up::new(self, |node| &node.readers_up)
    }

    /// Counts a connection that should be there, until the result is dropped.
    pub fn needs_connection(self: &Arc<Node>) -> Up {
        Up::new(self, |node| &node.needed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of something that a node counts, while it is there.
#[derive(Debug)]
pub struct Up {
    node: Arc<Node>,
    count: fn(&Node) -> &AtomicUsize,
}

impl Up {
    fn new(node: &Arc<Node>, count: fn(&Node) -> &AtomicUsize) -> Up {
        count(node).fetch_add(1, Ordering::Relaxed);
        Up {
            node: node.clone(),
            count,
        }
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    pub(super) fn shared(&self) -> Arc<Node> {
        self.node.clone()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        (self.count)(&self.node).fetch_sub(1, Ordering::Relaxed);
    }
}
