//! The places of HTTP connections ([`Places`]), shared by all listeners: each connection holds a [`Place`],
//! and learns when it has to leave.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use presenced_session::metrics::Counter;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::once_a_minute::OnceAMinute;
use super::places::{ConnectionId, Full, Places, Room};

/// The places of one kind of listener.
#[derive(Debug)]
pub struct HttpPlaces {
    /// Names it in the log.
    listener: &'static str,
    room: Room,
    refusals_logged: OnceAMinute,
    places: Mutex<Places<Arc<Eviction>>>,
    /// Connections that had to leave.
    pub evicted: Counter,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<HttpPlaces>,
    id: ConnectionId,
    eviction: Arc<Eviction>,
}

/// How a connection is told to leave.
#[derive(Debug, Default)]
struct Eviction {
    is_told: AtomicBool,
    told: Notify,
}

impl HttpPlaces {
    /// Empty places.
    pub fn new(listener: &'static str, room: Room) -> Arc<HttpPlaces> {
        Arc::new(HttpPlaces {
            listener,
            room,
            refusals_logged: OnceAMinute::default(),
            places: Mutex::new(Places::new(room)),
            evicted: Counter::default(),
        })
    }

    /// Gives a newcomer from `address` a place, and tells the one to leave that had it.
    ///
    /// # Errors
    ///
    /// There is none, and nobody who is idle for long enough to leave.
    pub fn enter(self: &Arc<Self>, address: IpAddr, is_idle: bool) -> Result<Place, Full> {
        let eviction = Arc::<Eviction>::default();
        let now = Instant::now().into_std();
        let entered = self.lock().enter(address, is_idle, now, eviction.clone())?;
        self.evict(entered.evicted);
        Ok(Place {
            places: self.clone(),
            id: entered.id,
            eviction,
        })
    }

    fn evict(&self, evicted: Option<Arc<Eviction>>) {
        if let Some(evicted) = evicted {
            self.evicted.add(1);
            evicted.is_told.store(true, Ordering::Release);
            evicted.told.notify_one();
        }
    }

    /// Places that are taken.
    pub fn taken(&self) -> usize {
        self.lock().taken()
    }

    /// Says now and again that a connection is refused.
    pub fn log_refusal(&self, full: Full, address: IpAddr) {
        if self.refusals_logged.is_due() {
            let Room {
                max, per_peer_max, ..
            } = self.room;
            let (all, max) = match full {
                Full::Peer => ("all connections of its address", per_peer_max),
                Full::Server => ("all connections", max),
            };
            tracing::warn!(
                listener = self.listener, %address, max,
                "a connection is refused, as {all} have a request under way; this is said once a minute"
            );
        }
    }

    /// For some lines that wait for nothing.
    fn lock(&self) -> MutexGuard<'_, Places<Arc<Eviction>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The connection is idle from now on.
    pub fn idles(&self) {
        self.places.lock().idles(self.id, Instant::now().into_std());
    }

    /// It is idle no longer.
    pub fn begins(&self) {
        self.places.lock().begins(self.id);
    }

    /// The connection has turned out to be one of `address`, among whose it counts from now on.
    ///
    /// # Errors
    ///
    /// That address has its share. The connection counts as before.
    pub fn belongs_to(&self, address: IpAddr) -> Result<(), Full> {
        let now = Instant::now().into_std();
        let evicted = self.places.lock().belongs_to(self.id, address, now)?;
        self.places.evict(evicted);
        Ok(())
    }

    /// The connection is idle, and one of `address` again, which may be a proxy.
    pub fn back_to(&self, address: IpAddr) {
        self.places.lock().back_to(self.id, address);
    }

    /// Returns when the connection has to leave, because another has its place.
    pub async fn evicted(&self) {
        while !self.eviction.is_told.load(Ordering::Acquire) {
            self.eviction.told.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().left(self.id);
    }
}
