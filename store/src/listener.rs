//! The store's listeners: each accepts connections within a limit and serves each in a task of its
//! own.

use std::os::unix;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::{io, net};

use presenced_net::Accepting;
use presenced_tasks::{Pauses, Task, catch};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::open::Open;
use super::store::Store;
use crate::limits::STEP_INTERVAL;

/// What memcached says to one connection too many.
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";

/// Where clients connect: bound, listening, not blocking.
#[derive(Debug)]
pub enum Listener {
    /// An address.
    Tcp(net::TcpListener),
    /// A file.
    Unix(unix::net::UnixListener),
}

/// Serves the store to whoever connects, until `stop` is cancelled; then closes every connection
/// and returns when all have ended.
///
/// Runs on the current tokio runtime and spawns a task for each connection. Each worker thread
/// serves a listener of its own ([`crate::listen`]) with the same store. The caller decides where
/// to listen: the protocol has no authentication, so anything but loopback is for a trusted
/// network.
///
/// # Errors
///
/// What tokio says to a listener that it can't watch.
pub async fn serve(
    listener: Listener,
    store: Arc<Store>,
    stop: CancellationToken,
) -> io::Result<()> {
    let acceptor = Acceptor::new(listener)?;
    let mut connections = JoinSet::new();
    // A fault costs no connection that is open.
    let mut pauses = Pauses::default();
    loop {
        let began_at = Instant::now();
        let accepting = accept_until(&acceptor, &store, &mut connections, &stop);
        if catch(Task::Store, accepting).await.is_some() {
            break;
        }
        sleep(pauses.next(began_at.elapsed())).await;
    }
    drop(acceptor);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Accepts connections and serves them until `stop` is cancelled.
async fn accept_until(
    acceptor: &Acceptor,
    store: &Arc<Store>,
    connections: &mut JoinSet<Option<()>>,
    stop: &CancellationToken,
) {
    let mut steps = interval(STEP_INTERVAL);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut accepting = Accepting::new("store");
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => {}
            _ = steps.tick() => store.step(),
            stream = accepting.next(|| acceptor.accept()) => {
                if let Some(open) = admit(store, &stream) {
                    let stop = stop.clone();
                    match stream {
                        Stream::Tcp(stream) => {
                            connections.spawn(catch(Task::Store, converse(stream, open, stop)))
                        }
                        Stream::Unix(stream) => {
                            connections.spawn(catch(Task::Store, converse(stream, open, stop)))
                        }
                    };
                }
            }
        }
    }
}

/// Serves the store to one client over any stream, until either side ends the connection or `stop`
/// is cancelled. It counts as a connection like any other.
pub async fn serve_stream(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    store: Arc<Store>,
    stop: CancellationToken,
) {
    match Open::new(&store) {
        Some(open) => converse(stream, open, stop).await,
        None => drop(store.connections.rejected.fetch_add(1, Ordering::Relaxed)),
    }
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Acceptor {
    fn new(listener: Listener) -> io::Result<Acceptor> {
        Ok(match listener {
            Listener::Tcp(listener) => Acceptor::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener) => Acceptor::Unix(UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Acceptor::Tcp(listener) => Stream::Tcp(listener.accept().await?.0),
            Acceptor::Unix(listener) => Stream::Unix(listener.accept().await?.0),
        })
    }
}

/// Counts the connection in, unless there are too many.
fn admit(store: &Arc<Store>, stream: &Stream) -> Option<Open> {
    if let Some(open) = Open::new(store) {
        return Some(open);
    }
    store.connections.rejected.fetch_add(1, Ordering::Relaxed);
    // A new socket takes so few bytes at once; if not, it is closed without a word.
    let _ = match stream {
        Stream::Tcp(stream) => stream.try_write(TOO_MANY),
        Stream::Unix(stream) => stream.try_write(TOO_MANY),
    };
    None
}

async fn converse<S>(stream: S, open: Open, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio::select! {
        () = stop.cancelled() => {}
        ended = Connection::new(stream, open).run() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to the store ended");
            }
        }
    }
}
