//! What the demo page shows of the edge: live figures along the path of a heartbeat.

use std::sync::Arc;
use std::time::Duration;

use presenced_memcached::Node;
use presenced_presence::UserId;
use presenced_presence::flush::Presence;
use presenced_presence::metrics::FlushMetrics;
use presenced_session::Seats;
use presenced_session::clock::Clock;
use presenced_session::metrics::{Counter, WorkerMetrics};
use serde::Serialize;

use crate::pull::Pulls;

/// Where the figures come from.
#[derive(Clone, Debug)]
pub struct Figures {
    /// By worker.
    pub workers: Vec<Arc<WorkerMetrics>>,
    /// What the flush counts.
    pub flush: Arc<FlushMetrics>,
    /// What pulls count.
    pub pulls: Arc<Pulls>,
    /// Sessions that are open.
    pub seats: Arc<Seats>,
    /// Pending users, and the nodes that they are written to.
    pub presence: Arc<Presence>,
    /// How sessions are pinged.
    pub session: presenced_session::Config,
    /// Began with the edge.
    pub clock: Clock,
    /// Whether the only node is the embedded store.
    pub is_embedded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    version: &'static str,
    uptime_ms: u64,
    ping_interval_ms: u64,
    ping_timeout_ms: u64,
    flush_interval_ms: u64,
    ttl_ms: u64,
    key_template: String,
    embedded: bool,
    memcached: Vec<NodeJson>,
    sessions: usize,
    pings: u64,
    pongs: u64,
    pending: u64,
    stored: u64,
    restored: u64,
    flushes: u64,
    flush_us: u64,
    pulls: u64,
}

#[derive(Serialize)]
struct NodeJson {
    address: String,
    up: bool,
}

impl Figures {
    /// All of them, as JSON. Totals are since the start.
    pub(super) fn json(&self) -> Vec<u8> {
        let marker = &self.presence.cluster().config().marker;
        let (flush, nodes) = (&self.flush, self.presence.cluster().topology());
        let json = Json {
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: ms(self.clock.now()),
            ping_interval_ms: ms(self.session.ping_interval),
            ping_timeout_ms: ms(self.session.ping_timeout),
            flush_interval_ms: ms(self.presence.flush_interval()),
            ttl_ms: ms(marker.entry_ttl),
            key_template: self.key_template(),
            embedded: self.is_embedded,
            memcached: nodes.nodes().iter().map(|node| of_node(node)).collect(),
            sessions: self.seats.taken(),
            pings: self.sum(|worker| &worker.pings),
            pongs: self.sum(|worker| &worker.pongs),
            pending: self.presence.pending().len(),
            stored: flush.flushed.value(),
            restored: flush.restored.value(),
            flushes: flush.seconds.counts().iter().sum(),
            flush_us: flush.seconds.sum_us(),
            pulls: self.pulls.metrics.pulls.value(),
        };
        serde_json::to_vec(&json).unwrap_or_default()
    }

    fn sum(&self, counter: fn(&WorkerMetrics) -> &Counter) -> u64 {
        let counts = self.workers.iter().map(|worker| counter(worker).value());
        counts.sum()
    }

    /// The key of a user who is called as the template calls every user.
    fn key_template(&self) -> String {
        let mut key = Vec::new();
        if let Ok(user) = UserId::new("{userId}") {
            self.presence.record().key(&mut key, &user);
        }
        String::from_utf8_lossy(&key).into_owned()
    }
}

fn of_node(node: &Node) -> NodeJson {
    NodeJson {
        address: node.addr().to_string(),
        up: node.is_up(),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
