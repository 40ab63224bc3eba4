//! One connection a node that asks it how it is: does it answer, does it still have our data, and
//! has it been told all that it should know? Apart from the flush, so that a node is known to hang
//! though there is nothing to write.
//!
//! Whether it has our data is asked of a *sentinel*: a key of this process's own, touched at each
//! look. It is missing when memcached was restarted or flushed, or was out of reach for its TTL:
//! exactly when entries may be missing, too. It is an older one where a balancer has led us to
//! another server meanwhile, and back. Then the process's users are written again.
//!
//! Whether it has been told all is asked of the [`marker`](super::marker), which all edges keep
//! together.

mod evictions;
mod keys;
mod leaving;
mod losses;
mod proof;
mod publish;
mod renewal;
mod see;
pub mod visit;
mod writes;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use presenced_tasks::{Pauses, Task, catch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::evictions::Evictions;
use self::leaving::Leaving;
use self::losses::Missed;
use self::proof::Proof;
use self::publish::publish_changes;
use self::renewal::Renewal;
use self::writes::Overdue;
use super::backoff::Backoff;
use super::cluster::Cluster;
use super::config::OnFailure;
use super::connection::Connection;
use super::hold_down::HoldDown;
use super::log_throttle::LogThrottle;
use super::node::Sentinel;
use super::per_node::PerNode;
use super::{MemcachedError, Node};
use crate::limits::{STABLE_AFTER, WARNING_PAUSE};

pub use self::writes::{NoWrites, Writes};

/// What is looked for, and how often.
#[derive(Clone, Debug)]
pub struct Config {
    /// Between two looks; well below the TTL of a sentinel
    /// ([`marker::Config::ttl_s`](super::marker::Config::ttl_s)).
    pub interval: Duration,
    /// Bytes of an entry's key and value together, from the shortest to the longest.
    pub entry_bytes: RangeInclusive<usize>,
    /// What this process owes to nodes.
    pub writes: Arc<dyn Writes>,
}

/// Probes every node of the cluster, as they come and go, and has them told of each change of the
/// ring before it is published; never returns.
pub async fn watch(cluster: Arc<Cluster>, config: Config) {
    tokio::join!(
        biased;
        publish_changes(&cluster),
        watch_nodes(&cluster, Arc::new(config)),
    );
}

async fn watch_nodes(cluster: &Arc<Cluster>, config: Arc<Config>) {
    let mut changes = cluster.changes();
    let mut watched = PerNode::default();
    let mut leaving = Leaving::default();
    loop {
        let nodes = cluster.all_nodes();
        let known = watched.iter().map(|(node, _)| node);
        leaving.follow(cluster, &nodes, known, config.interval);
        watched.follow_nodes(&nodes, |node| {
            let mut task = JoinSet::new();
            let look = Look::new(cluster, node, &config);
            task.spawn(look.watch());
            task
        });
        // The cluster, which this task holds, has the other end.
        let _ = changes.changed().await;
    }
}

/// What is known of a node from one connection to the next.
#[derive(Debug)]
struct Look {
    cluster: Arc<Cluster>,
    node: Arc<Node>,
    config: Arc<Config>,
    random: fastrand::Rng,
    /// In a row.
    failures: u32,
    /// The kind of trouble that was logged last, since it last answered.
    trouble: Option<&'static str>,
    trouble_logged: LogThrottle,
    /// Whether it took the sentinel; `None` before the first look.
    had_sentinel: Option<bool>,
    /// The sentinel was found missing, which is not dealt with yet.
    missed: Option<Missed>,
    /// When the sentinel was last touched, or put there.
    touched_at: Option<Instant>,
    /// How often the sentinel had to be put there.
    sentinels: u64,
    proof: Proof,
    /// How often all markers had to be renewed when this one last was, and when that was last
    /// tried.
    renewed: u64,
    tried: u64,
    /// Of the topology that was announced, at the last look.
    version: u64,
    hold_down: HoldDown,
    /// When it was last put back on the ring.
    readmitted_at: Option<Instant>,
    evictions: Evictions,
    asked_stats_at: Option<Instant>,
    evictions_logged: LogThrottle,
    overdue: Overdue,
}

impl Look {
    fn new(cluster: &Arc<Cluster>, node: &Arc<Node>, config: &Arc<Config>) -> Look {
        Look {
            random: node.random(),
            failures: 0,
            trouble: None,
            trouble_logged: LogThrottle::default(),
            had_sentinel: None,
            missed: None,
            touched_at: None,
            sentinels: 0,
            proof: Proof::default(),
            // A node that came with a change of the ring is told of it.
            renewed: 0,
            tried: 0,
            version: 0,
            hold_down: HoldDown::default(),
            readmitted_at: None,
            evictions: Evictions::new(&config.entry_bytes, cluster.config().marker.entry_ttl),
            asked_stats_at: None,
            evictions_logged: LogThrottle::default(),
            overdue: Overdue::default(),
            cluster: cluster.clone(),
            node: node.clone(),
            config: config.clone(),
        }
    }

    async fn watch(mut self) {
        let mut backoff = self.node.backoff();
        let mut pauses = Pauses::default();
        loop {
            let began_at = Instant::now();
            if catch(Task::Probe, self.look_and_rest(&mut backoff))
                .await
                .is_none()
            {
                // Nobody looks meanwhile, so nothing is believed.
                self.node.set_sentinel(Sentinel::NotKnown);
                self.node.set_answers(false);
                self.node.set_whole(false);
                self.node.note_no_look();
                sleep(pauses.next(began_at.elapsed())).await;
            }
        }
    }

    /// Looks until the connection ends, and waits until it is time for another.
    async fn look_and_rest(&mut self, backoff: &mut Backoff) {
        let (error, held) = self.look_until_error().await;
        self.node.set_sentinel(Sentinel::NotKnown);
        // An orderly end of a connection that has held is no failure of the node's.
        if matches!(error, MemcachedError::Closed) && held >= STABLE_AFTER {
            return;
        }
        self.failed(&error);
        let version = self.cluster.announced().version();
        tokio::select! {
            biased;
            () = sleep(backoff.pause(held)) => {}
            // Another connection was greeted, and waits for a look.
            () = self.node.greeted() => {}
            // The node is to be told of a change of the ring.
            () = self.cluster.another_announced(version) => {}
        }
    }

    /// Why the connection ended, and how long it had held.
    async fn look_until_error(&mut self) -> (MemcachedError, Duration) {
        let mut connection = match Connection::dial(&self.node).await {
            Ok(connection) => connection,
            Err(error) => return (error, Duration::ZERO),
        };
        let dialled_at = Instant::now();
        loop {
            if let Err(error) = self.look(&mut connection, dialled_at).await {
                return (error, dialled_at.elapsed());
            }
        }
    }

    /// One look, and the time until the next.
    async fn look(
        &mut self,
        connection: &mut Connection,
        dialled_at: Instant,
    ) -> Result<(), MemcachedError> {
        let limit = self.node.timeout();
        let looked = timeout(limit, self.keep_keys(connection)).await;
        let must_renew = looked.unwrap_or(Err(MemcachedError::Timeout(limit)))?;
        self.answered(dialled_at);
        self.rest(connection, must_renew).await
    }

    /// It has answered all that was asked.
    fn answered(&mut self, dialled_at: Instant) {
        self.failures = 0;
        self.node.set_answers(true);
        if self.trouble.take().is_some() {
            self.trouble_logged = LogThrottle::default();
            tracing::info!(node = %self.node.addr(), "memcached answers again");
        }
        if self.node.is_ejected() && dialled_at.elapsed() >= self.hold_down.time() {
            self.cluster.readmit(&self.node);
            self.readmitted_at = Some(Instant::now());
        }
    }

    fn failed(&mut self, error: &MemcachedError) {
        self.node.set_answers(false);
        self.node.set_whole(false);
        self.node.failed(error);
        // Said again if it is another kind of trouble now: it is back, but wants a password.
        let kind = error.kind();
        if self.trouble != Some(kind) && self.trouble_logged.is_due_for(kind, WARNING_PAUSE) {
            self.trouble = Some(kind);
            let node = self.node.addr();
            match error.is_away() {
                true => tracing::warn!(%node, %error, "memcached does not answer"),
                false => tracing::warn!(%node, %error, "memcached can't be used"),
            }
        }
        self.failures = self.failures.saturating_add(1);
        let config = self.cluster.config();
        if config.on_failure == OnFailure::Eject
            && self.failures >= config.eject_after
            && self.cluster.eject(&self.node)
            && let Some(at) = self.readmitted_at
        {
            self.hold_down.ejected_again(at.elapsed());
        }
    }

    /// Asks for evictions, and waits for the next look, which comes sooner when the marker has to
    /// be renewed and was not just now. An error as soon as the connection ends.
    async fn rest(
        &mut self,
        connection: &mut Connection,
        was_renewed: bool,
    ) -> Result<(), MemcachedError> {
        let next_at = Instant::now() + self.config.interval;
        if self
            .asked_stats_at
            .is_none_or(|at| at.elapsed() >= self.config.interval)
            || self.missed.is_some()
        {
            self.asked_stats_at = Some(Instant::now());
            // Whoever keeps us waiting for `stats` must not keep the marker waiting.
            let renewal = Renewal::of(self, was_renewed);
            let evicted = tokio::select! {
                biased;
                error = connection.end() => return Err(error),
                evicted = self.evictions.look(&self.node) => evicted,
                () = renewal.due() => return Ok(()),
            };
            self.note_evictions(evicted);
        }
        let renewal = Renewal::of(self, was_renewed);
        tokio::select! {
            biased;
            error = connection.end() => Err(error),
            () = renewal.due() => Ok(()),
            () = sleep_until(next_at) => Ok(()),
        }
    }
}
