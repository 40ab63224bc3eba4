//! The places of HTTP connections ([`Places`]), shared by all listeners: each connection holds a [`Place`],
//! and learns when it has to leave.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use presenced_session::metrics::Counter;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::once_a_minute::OnceAMinute;
use super::places::{ConnectionId, Full, Places, Room, Standing};

/// The places of one kind of listener.
#[derive(Debug)]
pub struct HttpPlaces {
    /// Names it in the log.
    listener: &'static str,
    room: Room,
    refusals_logged: OnceAMinute,
    places: Mutex<Places<Arc<Eviction>>>,
    /// How many wait because all places are taken.
    waiting: AtomicUsize,
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

/// Somebody who waits for a place, until it is dropped.
#[derive(Debug)]
pub struct Waiting(Arc<HttpPlaces>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
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
            waiting: AtomicUsize::new(0),
            evicted: Counter::default(),
        })
    }

    /// Gives a newcomer from `address` a place, and tells the one to leave that had it.
    ///
    /// # Errors
    ///
    /// There is none, and no connection can be told to leave.
    pub fn enter(self: &Arc<Self>, address: IpAddr, standing: Standing) -> Result<Place, Full> {
        let eviction = Arc::<Eviction>::default();
        let now = Instant::now().into_std();
        let mut places = self.lock();
        let entered = places.enter(address, standing, now, eviction.clone())?;
        drop(places);
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

    /// How many of them each peer has.
    pub fn held(&self) -> HashMap<IpAddr, usize> {
        self.lock().held()
    }

    /// Somebody waits from now on, as all places are taken.
    pub fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }

    /// Whether somebody waits because all places are taken.
    pub fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
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
                "a connection is refused, as {all} are being answered, or have just come; this is said once a minute"
            );
        }
    }

    /// For some lines that wait for nothing.
    fn lock(&self) -> MutexGuard<'_, Places<Arc<Eviction>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The connection has this standing from now on.
    pub fn stands(&self, standing: Standing) {
        self.stands_since(standing, Instant::now());
    }

    /// It has had this standing since then.
    pub fn stands_since(&self, standing: Standing, since: Instant) {
        let since = since.into_std();
        self.places.lock().stands(self.id, standing, since);
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

    /// The connection is one of `address` again, which may be a proxy.
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
