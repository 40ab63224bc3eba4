//! Everything that is counted, for Prometheus.

use std::fmt;
use std::sync::Arc;

use presenced_memcached::Node;
use presenced_memcached::discovery::NameFailures;
use presenced_presence::flush::Presence;
use presenced_presence::metrics::FlushMetrics;
use presenced_session::Seats;
use presenced_session::close_reason::CloseReason;
use presenced_session::metrics::{BOUNDS_SHARE, Counter, WorkerMetrics};
use presenced_store::Store;
use presenced_tasks::{Task, panics};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::encode::{by_label, by_refusal, counter, gauge, histogram};
use super::exposition::Exposition;
use super::netstat::listen_overflows;
use super::process::Process;
use super::reloads::Reloads;
use crate::gateway::metrics::{GatewayMetrics, TLS_HANDSHAKES};
use crate::gateway::refusal::Refusal;
use crate::gateway::shared_places::HttpPlaces;
use crate::gateway::tls::Tls;
use crate::log;
use crate::pull::Pulls;
use crate::revocation::metrics::RevocationMetrics;
use crate::swap::Swap;
use crate::tokens::{KeySource, Revocations};

/// Everything that `/metrics` shows.
#[derive(Debug)]
pub struct Metrics {
    /// By worker.
    pub workers: Vec<Arc<WorkerMetrics>>,
    /// HTTP requests and handshakes.
    pub gateway: Arc<GatewayMetrics>,
    /// TLS for clients, if they speak it with this server.
    pub tls: Option<Tls>,
    /// HTTP connections.
    pub places: Arc<HttpPlaces>,
    /// How many of them there may be.
    pub places_max: usize,
    /// The flush.
    pub flush: Arc<FlushMetrics>,
    /// Pulls.
    pub pull: Arc<Pulls>,
    /// Sessions that are open.
    pub seats: Arc<Seats>,
    /// Names of memcached nodes that could not be resolved.
    pub names: Arc<NameFailures>,
    /// Users, pending heartbeats, memcached nodes.
    pub presence: Arc<Presence>,
    /// Keys that are fetched.
    pub keys: Arc<Swap<Vec<Arc<KeySource>>>>,
    /// What is revoked.
    pub revocations: Arc<Revocations>,
    /// The log of that.
    pub revocation_log: Arc<RevocationMetrics>,
    /// How reloads of settings have ended.
    pub reloads: Arc<Reloads>,
    /// The embedded store, if there is one.
    pub store: Option<Arc<Store>>,
}

impl Metrics {
    /// All of it as text, and `process_…`. It may take long, where there are many descriptors to
    /// count.
    ///
    /// # Errors
    ///
    /// If a value can't be formatted, which none of ours is known to cause.
    pub fn text(self: &Arc<Metrics>, form: Exposition) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("presenced");
        ours.register_collector(Box::new(self.clone()));
        let process = registry.sub_registry_with_prefix("process");
        process.register_collector(Box::new(Process));
        let mut open_metrics = String::new();
        text::encode(&mut open_metrics, &registry)?;
        Ok(form.of(open_metrics))
    }

    fn sum(&self, counter: impl Fn(&WorkerMetrics) -> &Counter) -> u64 {
        self.workers
            .iter()
            .map(|worker| counter(worker).value())
            .sum()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut encoder;
        let metric = out.encode_descriptor("build", "What runs", None, MetricType::Info)?;
        Info::new([("version", env!("CARGO_PKG_VERSION"))]).encode(metric)?;
        self.encode_sessions(out)?;
        self.encode_http(out)?;
        self.encode_tls(out)?;
        self.encode_flush(out)?;
        self.encode_pull(out)?;
        self.encode_keys(out)?;
        self.encode_revocations(out)?;
        self.encode_reloads(out)?;
        self.encode_store(out)?;
        let help = "Lines of the log that were lost: stderr failed, or nobody reads it";
        counter(out, "log_lines_dropped", help, log::dropped())
    }
}

type OfNode = fn(&Node) -> u64;

/// Name, help and value.
const NODE_GAUGES: [(&str, &str, OfNode); 3] = [
    (
        "memcached_up",
        "Whether the node answers and every connection to it that is needed is there",
        |node| node.has_all_connections().into(),
    ),
    (
        "memcached_marker_whole",
        "Whether users who are not found on the node are offline; else they are unknown",
        |node| node.is_whole().into(),
    ),
    (
        "memcached_on_ring",
        "Whether the node has keys: 0 while it is ejected",
        |node| (!node.is_ejected()).into(),
    ),
];

/// See [`NODE_GAUGES`].
const NODE_COUNTERS: [(&str, &str, OfNode); 3] = [
    (
        "memcached_several_servers",
        "Times that connections to the node were found to lead to several servers",
        Node::several_servers_seen,
    ),
    (
        "memcached_losses",
        "Times that the node was found to have lost our data",
        Node::losses,
    ),
    (
        "memcached_evictions",
        "Items, of presenced or not, that the node has evicted for want of memory",
        Node::evictions,
    ),
];

impl Metrics {
    fn encode_sessions(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        gauge(
            out,
            "sessions",
            "Sessions open now",
            self.seats.taken() as u64,
        )?;
        let help = "Sessions that there may be (--max-sessions)";
        gauge(out, "sessions_limit", help, self.seats.max() as u64)?;
        let help = "Whether the server drains: no more sessions are accepted";
        gauge(out, "draining", help, self.seats.is_closed().into())?;
        let users = self.presence.users().len();
        gauge(out, "users", "Users with a session here", users as u64)?;
        self.encode_handshakes(out)?;
        self.encode_renewals(out)?;
        let panics = Task::ALL.iter().map(|&task| (task.label(), panics(task)));
        let help = "Panics that were caught, by what they ended: faults of the server's own";
        by_label(out, "panics", help, "task", panics)?;
        counter(
            out,
            "http_requests",
            "HTTP requests answered",
            self.gateway.requests.value(),
        )?;
        let ends = CloseReason::ALL.iter().enumerate();
        let ends =
            ends.map(|(place, end)| (end.facts().label, self.sum(|worker| &worker.ends[place])));
        by_label(
            out,
            "session_ends",
            "Sessions ended by reason",
            "reason",
            ends,
        )?;
        counter(out, "pings", "Pings sent", self.sum(|worker| &worker.pings))?;
        counter(
            out,
            "pongs",
            "Pings answered",
            self.sum(|worker| &worker.pongs),
        )?;
        let missed = self.sum(|worker| &worker.missed_pongs);
        counter(out, "missed_pongs", "Pings not answered in time", missed)?;
        counter(
            out,
            "frames",
            "Whole frames from clients",
            self.sum(|worker| &worker.frames),
        )?;
        counter(
            out,
            "wakes",
            "Looks at the sessions' poll",
            self.sum(|worker| &worker.wakes),
        )?;
        let rtt = self.workers.iter().map(|worker| &worker.rtt);
        histogram(out, "ping_rtt", "From a ping to its pong", rtt)
    }

    fn encode_http(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "HTTP connections open now, handshakes among them";
        gauge(out, "http_connections", help, self.places.taken() as u64)?;
        let help = "HTTP connections that there may be (--max-http-connections)";
        gauge(out, "http_connections_limit", help, self.places_max as u64)?;
        let help = "HTTP connections closed while they were idle, to make room for others";
        counter(
            out,
            "http_connections_evicted",
            help,
            self.places.evicted.value(),
        )?;
        let Some(overflows) = listen_overflows() else {
            return Ok(());
        };
        let help = "Connections that the kernel dropped as a listener's queue was full, of presenced's or not";
        counter(out, "listen_overflows", help, overflows)
    }

    fn encode_tls(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(tls) = &self.tls else {
            return Ok(());
        };
        let help =
            "When the first of the certificates that clients are shown expires, in Unix time";
        let (kind, unit) = (MetricType::Gauge, Some(&Unit::Seconds));
        let name = "tls_certificate_expiry_timestamp";
        let expiry = out.encode_descriptor(name, help, unit, kind)?;
        ConstGauge::new(tls.expires_at().as_secs() as i64).encode(expiry)?;
        let help = "TLS handshakes that were done, by version, and by whether the client came back with a ticket";
        let mut family =
            out.encode_descriptor("tls_handshakes", help, None, MetricType::Counter)?;
        for ((version, is_resumed), count) in
            TLS_HANDSHAKES.iter().zip(&self.gateway.tls_handshakes)
        {
            let resumed = if *is_resumed { "yes" } else { "no" };
            let labels = [("version", *version), ("resumed", resumed)];
            ConstCounter::new(count.value()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_handshakes(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help =
            "Handshakes, and refused requests, by result, and by reason where a result has several";
        let mut family = out.encode_descriptor("handshakes", help, None, MetricType::Counter)?;
        let accepted = self.sum(|worker| &worker.sessions);
        ConstCounter::new(accepted).encode(family.encode_family(&[("result", "ok")])?)?;
        by_refusal(&mut family, &self.gateway.refusals, |_| true)
    }

    fn encode_renewals(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Tokens that clients showed in their sessions to renew them, by result, and by \
                    reason where a result has several";
        let mut family = out.encode_descriptor("renewals", help, None, MetricType::Counter)?;
        let renewed = self.sum(|worker| &worker.renewals);
        ConstCounter::new(renewed).encode(family.encode_family(&[("result", "ok")])?)?;
        let refused = &self.gateway.renewals_refused;
        by_refusal(&mut family, refused, Refusal::is_of_token)
    }

    fn encode_flush(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let flush = &self.flush;
        let pending = self.presence.pending().len();
        gauge(
            out,
            "pending",
            "Users heard from since their last flush",
            pending,
        )?;
        counter(
            out,
            "flushed",
            "Entries acknowledged by memcached",
            flush.flushed.value(),
        )?;
        let restored = flush.restored.value();
        counter(
            out,
            "restored",
            "Entries not acknowledged, pending again",
            restored,
        )?;
        let help = "From the drain of a shard to its last answer";
        histogram(out, "flush_duration", help, [&flush.seconds].into_iter())?;
        let help = "Since the last flush after which nothing was left for the node, of the shard where \
                    that is longest";
        let (kind, unit) = (MetricType::Gauge, Some(&Unit::Seconds));
        let mut family = out.encode_descriptor("flush_lag", help, unit, kind)?;
        for (node, lag) in self.presence.flush_lags() {
            let labels = [("node", node.addr().to_string())];
            ConstGauge::new(lag.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        let help = "What was left of an entry's TTL when it was renewed, as a part of it";
        let counts = flush.ttl_left.counts();
        let bounds = BOUNDS_SHARE.map(|bound| bound as f64 / 100.0);
        let buckets: Vec<_> = bounds
            .into_iter()
            .chain([f64::INFINITY])
            .zip(counts)
            .collect();
        let ratio = Unit::Other("ratio".into());
        let mut metric =
            out.encode_descriptor("ttl_left", help, Some(&ratio), MetricType::Histogram)?;
        let sum = flush.ttl_left.sum_millionths() as f64 / 1e6;
        metric.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)?;
        let help = "Users written again because a node had lost its data";
        counter(out, "refilled", help, flush.refilled.value())?;
        self.encode_nodes(out)
    }

    fn encode_nodes(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let topology = self.presence.cluster().topology();
        let nodes = topology.nodes();
        for (name, help, value) in NODE_GAUGES {
            let mut family = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for node in nodes {
                let labels = [("node", node.addr().to_string())];
                ConstGauge::new(value(node) as i64).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, value) in NODE_COUNTERS {
            let mut family = out.encode_descriptor(name, help, None, MetricType::Counter)?;
            for node in nodes {
                let labels = [("node", node.addr().to_string())];
                ConstCounter::new(value(node)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Times that a name of memcached nodes could not be resolved";
        let kind = MetricType::Counter;
        let mut family = out.encode_descriptor("memcached_name_failures", help, None, kind)?;
        for (name, count) in self.names.counts() {
            let labels = [("name", name.to_string())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Times that a marker was seen of an edge with another ring";
        let seen = self.presence.cluster().other_rings_seen();
        counter(out, "memcached_other_ring", help, seen)?;
        let help = "Errors of connections to memcached, and entries that it refused (with \
                    --memcached-command ms also those that were sent with one)";
        let kind = MetricType::Counter;
        let mut family = out.encode_descriptor("memcached_errors", help, None, kind)?;
        for node in nodes {
            for (error, count) in node.errors() {
                let labels = [
                    ("node", node.addr().to_string()),
                    ("error", error.to_string()),
                ];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_pull(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let pull = &self.pull.metrics;
        counter(out, "pulls", "Pulls asked", pull.pulls.value())?;
        counter(out, "pull_users", "Users asked for", pull.users.value())?;
        counter(
            out,
            "pull_unknown",
            "Users answered unknown",
            pull.unknown.value(),
        )?;
        let help = "Users without a session here of whom it was known from a look-up before";
        counter(out, "pull_cache_hits", help, pull.cache_hits.value())?;
        let help = "Users who were looked up in memcached";
        counter(out, "pull_cache_misses", help, pull.cache_misses.value())?;
        let foreign = pull.foreign.value();
        counter(
            out,
            "pull_foreign",
            "Entries in memcached that are not ours",
            foreign,
        )?;
        histogram(
            out,
            "pull_duration",
            "From a pull to its answer",
            [&pull.seconds].into_iter(),
        )
    }

    fn encode_reloads(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Times that settings were read again, by result";
        by_label(out, "reloads", help, "result", self.reloads.counts())?;
        let help =
            "Whether the settings that were read last are wrong: the server runs with those before";
        gauge(out, "settings_stale", help, self.reloads.is_stale().into())
    }

    fn encode_keys(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sources = self.keys.get();
        if sources.is_empty() {
            return Ok(());
        }
        let help =
            "Since the keys of the identity provider were fetched; not there before they were";
        let (kind, unit) = (MetricType::Gauge, Some(&Unit::Seconds));
        let mut family = out.encode_descriptor("jwks_age", help, unit, kind)?;
        for keys in sources.iter() {
            if let Some(age) = keys.age() {
                let labels = [("issuer", keys.issuer())];
                ConstGauge::new(age.as_secs_f64()).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Times that the keys of the identity provider were asked for, by outcome";
        let mut family = out.encode_descriptor("jwks_fetches", help, None, MetricType::Counter)?;
        for keys in sources.iter() {
            for (outcome, count) in keys.fetches() {
                let labels = [("issuer", keys.issuer()), ("outcome", outcome)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_revocations(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (known, log) = (&self.revocations, &self.revocation_log);
        let help = "Revocations in force here";
        gauge(out, "revocations", help, known.len() as u64)?;
        let help = "Revocations in force here of which other servers may not know: memcached has not \
                    taken them";
        gauge(out, "revocations_unwritten", help, log.unwritten.value())?;
        let help = "Revocations that were dropped before their end, as there were too many";
        counter(out, "revocations_dropped", help, known.dropped())?;
        let help = "Since the log of revocations was last read: what other servers have revoked is \
                    known up to then";
        let (kind, unit) = (MetricType::Gauge, Some(&Unit::Seconds));
        let age = out.encode_descriptor("revocation_log_age", help, unit, kind)?;
        ConstGauge::new(log.age().as_secs_f64()).encode(age)?;
        let help =
            "Times that the log of revocations was found lost, begun anew, or older than before";
        counter(out, "revocation_log_resets", help, log.resets.value())?;
        let help = "Entries of the log of revocations that did not come";
        counter(out, "revocation_log_gaps", help, log.gaps.value())?;
        let help = "Entries of the log of revocations that can't be read";
        counter(out, "revocation_log_bad_entries", help, log.bad.value())
    }

    fn encode_store(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(counters) = self.store.as_ref().map(|store| store.counters()) else {
            return Ok(());
        };
        gauge(
            out,
            "store_items",
            "Items in the embedded store",
            counters.items,
        )?;
        gauge(out, "store_bytes", "Bytes they take", counters.bytes)?;
        let help = "Bytes of begun requests and unread answers";
        gauge(out, "store_held_bytes", help, counters.held_bytes)?;
        let help = "The limit on the bytes of items and what connections hold";
        gauge(out, "store_limit_bytes", help, counters.bytes_max)?;
        let help = "Connections to the store open now";
        gauge(out, "store_connections", help, counters.connections)?;
        let help = "Connections refused as there were too many";
        counter(
            out,
            "store_connections_rejected",
            help,
            counters.connections_rejected,
        )?;
        let keys = [("hit", counters.hits), ("miss", counters.misses)].into_iter();
        by_label(
            out,
            "store_gets",
            "Keys asked for by result",
            "result",
            keys,
        )?;
        counter(out, "store_sets", "Storage commands", counters.sets)?;
        let help = "Items evicted for want of memory";
        counter(out, "store_evictions", help, counters.evictions)?;
        counter(out, "store_expired", "Items expired", counters.expired)
    }
}
