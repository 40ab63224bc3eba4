//! One node: its address, how it does, and dialling it.

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
use crate::limits::{
    PEER_WORDS_BYTES_MAX, SEVERAL_SERVERS_PAUSE, WARNING_PAUSE, WINDOW_TCP, WINDOW_UNIX,
};

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
    /// Of the warning that it takes no more connections.
    full_logged: Mutex<LogThrottle>,
}

/// What a probe knows of the process's sentinel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sentinel {
    /// It has not looked, or can't.
    NotKnown,
    /// The node does not take it.
    Refused,
    /// It is there; the number is another each time that it had to be put there anew.
    There(u64),
}

/// The probe of a node has not looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLooked;

/// What is stored as the sentinel with this number: another server may still have an older one.
pub fn sentinel_value(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// Labels of the errors that a node counts.
pub const NODE_ERRORS: [&str; 6] = ["connect", "auth", "io", "timeout", "protocol", "refused"];

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
            full_logged: Mutex::default(),
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

    /// Whether it answers, and every connection that is needed is up; the one that asks for `stats`, too,
    /// unless it answers none.
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
        self.answers
            .send_if_modified(|before| std::mem::replace(before, answers) != answers);
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
        // Pairs with the load: whoever sees the doubt comes after the new sentinel, and sees the loss.
        self.doubts.fetch_add(1, Ordering::Release);
    }

    /// Items, ours or not, that it has evicted for want of memory while we watched.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    pub(super) fn evicted(&self, count: u64) {
        self.evictions.fetch_add(count, Ordering::Relaxed);
    }

    /// Whether its marker was whole and of our ring when it was last looked at: users who are not found
    /// there are offline, unless entries were evicted.
    pub fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed) && !self.is_several_servers()
    }

    /// The key of the process's sentinel, if there is a probe that keeps one.
    pub fn sentinel_key(&self) -> Option<&str> {
        self.access.sentinel.as_deref()
    }

    /// What a connection must find under [`Node::sentinel_key`] to lead to the server that the probe asks. `None`
    /// if there need be nothing; an error as long as that is not known, because the probe has not looked.
    ///
    /// # Errors
    ///
    /// The probe has not looked.
    pub fn wanted_sentinel(&self) -> Result<Option<Vec<u8>>, NotLooked> {
        match (self.sentinel_key(), *self.sentinel.borrow()) {
            (None, _) | (_, Sentinel::Refused) => Ok(None),
            (_, Sentinel::There(number)) => Ok(Some(sentinel_value(number))),
            (_, Sentinel::NotKnown) => Err(NotLooked),
        }
    }

    /// The sentinel's number, as soon as the probe has found it or put it there; `None` if there is none.
    pub(super) async fn sentinel(&self) -> Option<u64> {
        self.sentinel_key()?;
        let mut known = self.sentinel.subscribe();
        // The node itself has the other end.
        let known = known.wait_for(|known| *known != Sentinel::NotKnown).await;
        match *known.ok()? {
            Sentinel::There(number) => Some(number),
            Sentinel::NotKnown | Sentinel::Refused => None,
        }
    }

    /// Returns when the sentinel is another than that with this number.
    pub(super) async fn another_sentinel(&self, than: Option<u64>) {
        let is_another =
            |known: &Sentinel| matches!(*known, Sentinel::There(number) if Some(number) != than);
        // The node itself has the other end.
        let _ = self.sentinel.subscribe().wait_for(is_another).await;
    }

    pub(super) fn set_sentinel(&self, known: Sentinel) {
        self.sentinel.send_replace(known);
    }

    /// A connection was greeted, and waits for the probe to find the sentinel.
    pub(super) fn note_greeting(&self) {
        self.greeted.notify_waiters();
    }

    /// Returns when a connection is greeted.
    pub(super) async fn greeted(&self) {
        self.greeted.notified().await;
    }

    /// Whether a connection that writes and is up did not find the probe's sentinel: there are several servers
    /// behind the node's name, and none of them knows what another was told.
    pub fn is_several_servers(&self) -> bool {
        self.elsewhere.load(Ordering::Relaxed) > 0
    }

    /// Counts such a connection, until the result is dropped.
    pub(super) fn writes_elsewhere(self: &Arc<Node>) -> Up {
        Up::new(self, |node| &node.elsewhere)
    }

    /// The probe has found its sentinel while a connection had not: one that writes, or one that asks.
    pub fn note_several_servers(&self) {
        self.several_servers_seen.fetch_add(1, Ordering::Relaxed);
        if lock(&self.several_servers_logged).is_due(SEVERAL_SERVERS_PAUSE) {
            tracing::warn!(
                node = %self.addr,
                "connections to this node lead to several servers: users who are not found there are \
                 unknown; list the servers one by one, or use dns+"
            );
        }
    }

    /// How often the probe has found that.
    pub fn several_servers_seen(&self) -> u64 {
        self.several_servers_seen.load(Ordering::Relaxed)
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

    /// How many commands may be in flight on a new connection that writes, and how that changes. It took
    /// `dialling` to make it.
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

    /// Counts an error.
    pub fn failed(&self, error: &MemcachedError) {
        tracing::debug!(node = %self.addr, %error, "a connection to memcached failed");
        if matches!(error, MemcachedError::Full) && lock(&self.full_logged).is_due(WARNING_PAUSE) {
            tracing::warn!(
                node = %self.addr,
                "memcached has no room for all of our connections: raise its -c"
            );
        }
        self.count(error.label(), 1);
    }

    /// It has refused something with this `reply`: said in the log, now and then while it lasts.
    pub(super) fn refuses(&self, reply: &[u8]) {
        if lock(&self.refusals_logged).is_due(WARNING_PAUSE) {
            tracing::warn!(
                node = %self.addr,
                reply = quoted(reply),
                "memcached refuses entries; their users are written again at each flush"
            );
        }
    }

    /// Counts `set`s that memcached refused.
    pub fn refused(&self, sets: u64) {
        self.count("refused", sets);
    }

    fn count(&self, label: &str, count: u64) {
        if let Some(index) = NODE_ERRORS.iter().position(|known| *known == label) {
            self.errors[index].fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Errors so far, by label.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self
            .errors
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        NODE_ERRORS.into_iter().zip(counts)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a peer said, for the log: bytes that could do something to a terminal are escaped, and only the
/// start of it is kept.
fn quoted(words: &[u8]) -> String {
    let words = words.trim_ascii_end();
    let start = &words[..words.len().min(PEER_WORDS_BYTES_MAX)];
    start.escape_ascii().to_string()
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
