//! The store's listener: accepts connections within a limit and serves each in a task of its own.

use std::{
    io::{self, ErrorKind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Store, connection::Connection, stats::Server};
use crate::limits::STORE_CONNECTIONS_MAX;

/// As the counters have it.
pub(super) const CONNECTIONS_MAX: u64 = STORE_CONNECTIONS_MAX as u64;

/// What memcached says to one connection too many.
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";

/// How often what has expired is looked for, and how many items at once: ten thousand a second,
/// none of the steps long enough for a request to notice.
const STEP_INTERVAL: Duration = Duration::from_millis(100);
/// See [`STEP_INTERVAL`].
const STEP_ITEMS: usize = 1000;

/// First and longest pause in accepting after an error such as "too many open files"; it doubles in
/// between. Trying again at once would spin: the connection stays in the queue.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
/// See [`ACCEPT_PAUSE_MIN`].
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Serves the store to whoever connects, until `stop` is cancelled; then closes every connection and
/// returns when all have ended.
///
/// Runs on the current tokio runtime and spawns a task for each connection. The caller decides where to
/// listen: the protocol has no authentication, so anything but loopback is for a trusted network.
pub async fn serve(listener: TcpListener, store: Arc<Store>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut steps = interval(STEP_INTERVAL);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = ACCEPT_PAUSE_MIN;
    let mut accept_from = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => log_panic(&ended),
            _ = steps.tick() => store.step(STEP_ITEMS),
            accepted = accept(&listener, accept_from) => match accepted {
                Ok(stream) => {
                    pause = ACCEPT_PAUSE_MIN;
                    if let Some(open) = admit(&store, &stream) {
                        connections.spawn(converse(stream, open, stop.clone()));
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, ?pause, "the store can't accept connections");
                    accept_from = Instant::now() + pause;
                    pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log_panic(&ended);
    }
}

async fn accept(listener: &TcpListener, from: Instant) -> io::Result<TcpStream> {
    sleep_until(from).await;
    Ok(listener.accept().await?.0)
}

/// The client hung up before it was accepted: nothing is wrong with the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

/// Counts the connection in, unless there are too many.
fn admit(store: &Arc<Store>, stream: &TcpStream) -> Option<Open> {
    if store.connections.open.load(Ordering::Relaxed) < CONNECTIONS_MAX {
        return Some(Open::new(Arc::clone(store)));
    }
    store.connections.rejected.fetch_add(1, Ordering::Relaxed);
    // A new socket takes so few bytes at once; if not, it is closed without a word.
    let _ = stream.try_write(TOO_MANY);
    None
}

async fn converse(stream: TcpStream, open: Open, stop: CancellationToken) {
    // Answers are written once for all requests that came together: waiting for more gains nothing.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the store can't set TCP_NODELAY");
    }
    let local = is_local(&stream);
    tokio::select! {
        () = stop.cancelled() => {}
        ended = Connection::new(stream, open, local).run() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to the store ended");
            }
        }
    }
}

/// Whether both ends are on this machine.
fn is_local(stream: &TcpStream) -> bool {
    let (Ok(peer), Ok(own)) = (stream.peer_addr(), stream.local_addr()) else {
        return false;
    };
    peer.ip().to_canonical().is_loopback() || peer.ip() == own.ip()
}

fn log_panic(ended: &Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection to the store was ended by a fault in the server");
    }
}

/// One open connection, counted while this lives.
#[derive(Debug)]
pub(super) struct Open {
    store: Arc<Store>,
}

impl Open {
    pub(super) fn new(store: Arc<Store>) -> Open {
        store.connections.open.fetch_add(1, Ordering::Relaxed);
        store.connections.total.fetch_add(1, Ordering::Relaxed);
        Open { store }
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.store.connections.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Store {
    /// What `stats` tells beside the items.
    pub(super) fn server(&self) -> Server {
        Server {
            pid: std::process::id(),
            uptime_s: self.clock.start.elapsed().as_secs(),
            bytes_max: self.bytes_max as u64,
            connections_max: CONNECTIONS_MAX,
            connections: self.connections.open.load(Ordering::Relaxed),
            connections_total: self.connections.total.load(Ordering::Relaxed),
            connections_rejected: self.connections.rejected.load(Ordering::Relaxed),
        }
    }
}
