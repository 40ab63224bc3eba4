//! Accepts connections and gives each a place, or turns it away. One listener a worker; they share the
//! port (`SO_REUSEPORT`) and the places.

use std::future::{Future, poll_fn};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;

use presenced_net::Accepting;
use presenced_session::readiness::watch;
use presenced_session::worker::NewSession;
use presenced_tasks::{Task, catch};
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::caller::{Caller, Visitor};
use super::connection::Connection;
use super::lobby::{Lobby, Newcomer};
use super::places::Full;
use super::shared_places::Place;
use super::socket::Socket;
use super::turned_away::TurnedAway;
use crate::limits::HEAD_BYTES_MAX;
use crate::pull::Puller;

/// Serves a listener until `stop`; upgraded connections go to `sessions`.
///
/// # Errors
///
/// What the runtime says to a listener that it can't watch.
pub async fn serve(
    listener: std::net::TcpListener,
    gateway: Arc<Gateway>,
    puller: Puller,
    sessions: Sender<NewSession<Visitor>>,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = watch(listener.into())?;
    let mut door = Door {
        connection: Connection {
            gateway,
            puller,
            sessions,
        },
        connections: JoinSet::new(),
        lobby: Lobby::default(),
        turned_away: TurnedAway::default(),
    };
    let mut accepting = Accepting::new("gateway");
    let mut scratch = vec![0; HEAD_BYTES_MAX];
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            Some(_) = door.connections.join_next() => {}
            () = door.lobby.look() => door.call_in().await,
            (stream, peer) = accepting.next(|| accept(&listener)) => {
                let ahead = read_ahead(&stream, &mut scratch);
                let came_at = Instant::now();
                door.comes(Newcomer { stream, ahead, peer, came_at }).await;
            }
        }
    }
}

/// Where connections get their places.
struct Door {
    /// What each is served with.
    connection: Connection,
    connections: JoinSet<Option<()>>,
    lobby: Lobby,
    turned_away: TurnedAway,
}

impl Door {
    async fn comes(&mut self, newcomer: Newcomer) {
        if !self.lobby.has(newcomer.peer) {
            return self.admit(newcomer).await;
        }
        if let Err(newcomer) = self.lobby.wait(newcomer) {
            self.admit(newcomer).await;
        }
    }

    /// Looks whether there are places for those in the lobby.
    async fn call_in(&mut self) {
        for newcomer in self.lobby.take_all() {
            // Others on this thread take their turn.
            tokio::task::coop::consume_budget().await;
            self.admit(newcomer).await;
        }
    }

    /// Serves a connection, or lets it wait, or turns it away.
    async fn admit(&mut self, newcomer: Newcomer) {
        let places = &self.connection.gateway.places;
        let entered = places.enter(newcomer.peer, newcomer.ahead.is_empty());
        match entered {
            Ok(place) => self.serve(newcomer, place).await,
            Err(full) if newcomer.has_waited() => self.turn_away(newcomer, full),
            Err(full) => {
                if let Err(newcomer) = self.lobby.wait(newcomer) {
                    self.turn_away(newcomer, full);
                }
            }
        }
    }

    async fn serve(&mut self, newcomer: Newcomer, place: Place) {
        let socket = Socket::new(newcomer.stream, newcomer.ahead);
        let caller = Caller(newcomer.peer.to_canonical());
        let served = self.connection.clone().run(socket, place, caller);
        let mut served = Box::pin(catch(Task::Connection, served));
        // Most requests are there by now and are answered at once, without a task.
        let first = poll_fn(|context| Poll::Ready(served.as_mut().poll(context)));
        if first.await.is_pending() {
            self.connections.spawn(served);
        }
    }

    fn turn_away(&mut self, newcomer: Newcomer, full: Full) {
        let gateway = &self.connection.gateway;
        gateway.places.log_refusal(full, newcomer.peer);
        gateway.refused(full.into(), Some(Caller(newcomer.peer.to_canonical())));
        self.turned_away.turn_away(newcomer.stream, full.into());
    }
}

/// One connection, not blocking, and where it comes from.
async fn accept(listener: &AsyncFd<OwnedFd>) -> io::Result<(TcpStream, IpAddr)> {
    // Others on this thread take their turn when many connect.
    tokio::task::coop::consume_budget().await;
    loop {
        let mut ready = listener.readable().await?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accepted = ready.try_io(|listener| Ok(acceptfrom_with(listener.get_ref(), flags)?));
        if let Ok(accepted) = accepted {
            let (stream, peer) = accepted?;
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            // A peer that is gone already has no address.
            let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
            return Ok((stream.into(), peer.ip()));
        }
    }
}

/// What the peer has sent already.
fn read_ahead(mut stream: &TcpStream, scratch: &mut [u8]) -> Vec<u8> {
    // An end or an error comes again when it is read for.
    let count = stream.read(scratch).unwrap_or_default();
    scratch[..count].to_vec()
}
