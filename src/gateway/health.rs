//! Whether the server lives and whether it may be sent clients, wherever a balancer asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use presenced_memcached::Cluster;

use crate::swap::Swap;
use crate::tokens::{KeySource, Revocations};

/// Whether the server is about to stop: balancers are to send clients elsewhere, but those that
/// come all the same are served until the drain begins.
#[derive(Clone, Debug, Default)]
pub struct Departure(Arc<AtomicBool>);

impl Departure {
    /// From now on.
    pub fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What `/readyz` goes by.
#[derive(Clone, Debug)]
pub struct Health {
    /// Before the server stops.
    pub departure: Departure,
    /// Which nodes answer.
    pub cluster: Arc<Cluster>,
    /// Whether there are keys to check tokens with, where they are fetched.
    pub keys: Arc<Swap<Vec<Arc<KeySource>>>>,
    /// What is revoked, on this edge and on others.
    pub revocations: Arc<Revocations>,
}

impl Health {
    /// What a balancer's probe of `path` is told: a status and a line. `None` if that is no path of
    /// probes.
    #[must_use]
    pub fn told(&self, path: &str) -> Option<(u16, &'static str)> {
        match path {
            "/healthz" => Some((200, "ok\n")),
            "/readyz" => Some(match self.unready() {
                None => (200, "ready\n"),
                Some(why) => (503, why),
            }),
            _ => None,
        }
    }

    /// Why no more clients should be sent here; `None` if they may.
    fn unready(&self) -> Option<&'static str> {
        if self.departure.is_announced() {
            return Some("draining\n");
        }
        if !self.cluster.is_up() {
            return Some("no memcached node answers\n");
        }
        if !self.keys.get().iter().all(|keys| keys.is_ready()) {
            return Some("the keys of an identity provider are not known yet\n");
        }
        // Users whom another edge has signed out would be let in.
        if !self.revocations.is_caught_up() {
            return Some("the revocations of other servers are not known yet\n");
        }
        None
    }
}
