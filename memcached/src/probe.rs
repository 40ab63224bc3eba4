//! One connection a node that asks it how it is: does it answer, does it still have our data, does it
//! evict. Apart from the flush, so that a node is known to hang though there is nothing to write.
//!
//! Whether it has our data is asked of a *sentinel*: a key of this process's own with the TTL of an
//! entry. It is touched at each look, so it is missing when memcached was restarted or flushed, or was
//! out of reach for a TTL: exactly when entries may be missing, too.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use presenced_protocol::reply::{self, Reply};
use presenced_protocol::request::{Keys, StoreVerb};
use presenced_protocol::{Key, Limits, Request, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::Cluster;
use super::config::OnFailure;
use super::hold_down::HoldDown;
use super::log_throttle::LogThrottle;
use super::per_node::PerNode;
use super::stream::Stream;
use super::writer::greet;
use super::{MemcachedError, Node};
use crate::limits::{PROBE_ANSWER_BYTES_MAX, WARNING_PAUSE};

/// What is looked for, and how often.
#[derive(Clone, Debug)]
pub struct Sentinel {
    /// A legal key that no other process has.
    pub key: String,
    /// Of an entry, seconds.
    pub ttl_s: u32,
    /// Between two looks.
    pub interval: Duration,
}

/// Probes every node of the cluster, as they come and go; never returns.
pub async fn watch(cluster: Arc<Cluster>, sentinel: Sentinel) {
    let sentinel = Arc::new(sentinel);
    let mut changes = cluster.changes();
    let mut watched = PerNode::default();
    loop {
        watched.follow(&cluster.topology(), |node| {
            let mut task = JoinSet::new();
            task.spawn(watch_node(cluster.clone(), node.clone(), sentinel.clone()));
            task
        });
        // The cluster, which this task holds, has the other end.
        let _ = changes.changed().await;
    }
}

async fn watch_node(cluster: Arc<Cluster>, node: Arc<Node>, sentinel: Arc<Sentinel>) {
    let mut backoff = node.backoff();
    let mut state = State::default();
    loop {
        let mut held = Duration::ZERO;
        let error = match Probe::dial(&node).await {
            Ok(probe) => {
                let dialled_at = Instant::now();
                let error = state.look(probe, &cluster, &node, &sentinel).await;
                held = dialled_at.elapsed();
                error
            }
            Err(error) => error,
        };
        node.failed(&error);
        node.set_answers(false);
        // Said again if it is another kind of trouble now: it is back, but wants a password.
        let kind = if error.is_away() {
            "away"
        } else {
            error.label()
        };
        if !state.logged_down.contains(&kind) {
            tracing::warn!(node = %node.addr(), %error, "memcached does not answer");
            state.logged_down.push(kind);
        }
        state.failures = state.failures.saturating_add(1);
        let config = cluster.config();
        if config.on_failure == OnFailure::Eject
            && state.failures >= config.eject_after
            && cluster.eject(&node)
            && let Some(at) = state.readmitted_at
        {
            state.hold_down.ejected_again(at.elapsed());
        }
        sleep(backoff.pause(held)).await;
    }
}

/// What is known of a node from one connection to the next.
#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    /// Kinds of trouble that were logged since it last answered.
    logged_down: Vec<&'static str>,
    had_sentinel: bool,
    hold_down: HoldDown,
    /// When it was last put back on the ring.
    readmitted_at: Option<Instant>,
    /// What it said last.
    stats: Stats,
    evictions_logged: LogThrottle,
}

impl State {
    /// Looks again and again, until something fails.
    async fn look(
        &mut self,
        mut probe: Probe,
        cluster: &Cluster,
        node: &Node,
        sentinel: &Sentinel,
    ) -> MemcachedError {
        let since = Instant::now();
        loop {
            let looked = timeout(node.timeout(), probe.look(sentinel, node)).await;
            let (found, stats) = match looked {
                Ok(Ok(looked)) => looked,
                Ok(Err(error)) => return error,
                Err(_) => return MemcachedError::Timeout(node.timeout()),
            };
            self.failures = 0;
            let evicts = self.note_stats(node, stats);
            let had_sentinel = self.had_sentinel;
            self.had_sentinel = found != SentinelState::Refused;
            // What is full has evicted the sentinel with the rest, or takes none: writing all again
            // would only push out others, or be refused, too.
            let is_lost = match found {
                SentinelState::Present => false,
                SentinelState::Renewed => !evicts,
                SentinelState::Refused => had_sentinel && !evicts,
            };
            if is_lost {
                cluster.lost(node, had_sentinel);
            }
            node.set_answers(true);
            if !std::mem::take(&mut self.logged_down).is_empty() {
                tracing::info!(node = %node.addr(), "memcached answers again");
            }
            if node.is_ejected() && since.elapsed() >= self.hold_down.time() {
                cluster.readmit(node);
                self.readmitted_at = Some(Instant::now());
            }
            if let Err(error) = probe.rest(sentinel.interval).await {
                return error;
            }
        }
    }

    /// Whether it has evicted since the last look, and was not flushed.
    fn note_stats(&mut self, node: &Node, stats: Stats) -> bool {
        let before = std::mem::replace(&mut self.stats, stats);
        let same_process = before.pid == stats.pid && before.pid != 0;
        let evicted = stats.evictions.saturating_sub(before.evictions);
        if !same_process || evicted == 0 {
            return false;
        }
        node.evicted(evicted);
        if self.evictions_logged.is_due(WARNING_PAUSE) {
            tracing::warn!(
                node = %node.addr(),
                evicted,
                "memcached is full and evicts: readers will see users offline who are online"
            );
        }
        before.flushes == stats.flushes
    }
}

/// What a look found of the sentinel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SentinelState {
    /// It was there.
    Present,
    /// It was not; it is now.
    Renewed,
    /// It was not, and memcached did not take it.
    Refused,
}

/// What is read of `stats`.
#[derive(Clone, Copy, Debug, Default)]
struct Stats {
    pid: u64,
    evictions: u64,
    flushes: u64,
}

#[derive(Debug)]
struct Probe {
    stream: Stream,
    inbox: BytesMut,
    /// Bytes that came since the last command.
    answered: usize,
    parser: reply::Parser,
}

impl Probe {
    async fn dial(node: &Node) -> Result<Probe, MemcachedError> {
        let mut stream = node.dial().await?;
        greet(&mut stream, node).await?;
        Ok(Probe {
            stream,
            inbox: BytesMut::new(),
            answered: 0,
            // It asks for no value.
            parser: reply::Parser::new(Limits {
                value_bytes_max: 0,
                ..Limits::default()
            }),
        })
    }

    /// What became of the sentinel, and what `stats` says.
    async fn look(
        &mut self,
        sentinel: &Sentinel,
        node: &Node,
    ) -> Result<(SentinelState, Stats), MemcachedError> {
        const FOREIGN: MemcachedError = MemcachedError::OutOfStep("not an answer to the probe");
        let key = Key::new(sentinel.key.as_bytes()).map_err(|_| FOREIGN)?;
        let exptime = i64::from(sentinel.ttl_s);
        let noreply = false;
        // Both at once: whether it has evicted must be as of the touch.
        let touch = Request::Touch {
            key,
            exptime,
            noreply,
        };
        self.send(&[
            touch,
            Request::Stats {
                arguments: Keys::default(),
            },
        ])
        .await?;
        let mut state = match self.reply().await? {
            Reply::Touched => SentinelState::Present,
            Reply::NotFound => SentinelState::Renewed,
            _ => return Err(FOREIGN),
        };
        let mut stats = Stats::default();
        loop {
            let (name, value) = match self.reply().await? {
                Reply::Stat { name, value } => (name, value),
                Reply::End => break,
                _ => return Err(FOREIGN),
            };
            let value = || std::str::from_utf8(&value).ok()?.parse().ok();
            match &name[..] {
                b"pid" => stats.pid = value().unwrap_or_default(),
                b"evictions" => stats.evictions = value().unwrap_or_default(),
                b"cmd_flush" => stats.flushes = value().unwrap_or_default(),
                _ => {}
            }
        }
        if state == SentinelState::Renewed {
            let set = Request::Store {
                verb: StoreVerb::Set,
                key,
                flags: 0,
                exptime,
                value: b"",
                noreply,
            };
            self.send(&[set]).await?;
            match self.reply().await? {
                Reply::Stored => {}
                refused @ Reply::ServerError(_) => {
                    let mut line = Vec::new();
                    encode::reply_bytes(&mut line, &refused);
                    node.refuses(&line);
                    state = SentinelState::Refused;
                }
                _ => return Err(FOREIGN),
            }
        }
        Ok((state, stats))
    }

    /// Waits; an error as soon as the connection ends.
    async fn rest(&mut self, time: Duration) -> Result<(), MemcachedError> {
        tokio::select! {
            biased;
            () = sleep(time) => Ok(()),
            read = self.stream.read_buf(&mut self.inbox) => match read? {
                0 => Err(MemcachedError::Closed),
                _ => Err(UNASKED),
            },
        }
    }

    async fn send(&mut self, requests: &[Request<'_>]) -> Result<(), MemcachedError> {
        if !self.inbox.is_empty() {
            return Err(UNASKED);
        }
        self.stream.expect_silence().await?;
        self.answered = 0;
        let mut commands = Vec::new();
        for request in requests {
            encode::request(&mut commands, request);
        }
        self.stream.write_all(&commands).await?;
        Ok(self.stream.flush().await?)
    }

    async fn reply(&mut self) -> Result<Reply<bytes::Bytes>, MemcachedError> {
        loop {
            let taken = self.parser.take(&mut self.inbox);
            match taken.map_err(|_| MemcachedError::OutOfStep("not a memcached reply"))? {
                Some(reply) => return Ok(reply),
                None if self.answered > PROBE_ANSWER_BYTES_MAX => return Err(ENDLESS),
                None => {}
            }
            match self.stream.read_buf(&mut self.inbox).await? {
                0 => return Err(MemcachedError::Closed),
                count => self.answered += count,
            }
        }
    }
}

const UNASKED: MemcachedError = MemcachedError::OutOfStep("a reply without a command");

const ENDLESS: MemcachedError = MemcachedError::OutOfStep("an answer without end");
