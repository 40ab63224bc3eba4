//! Accepts connections and gives each a place, or turns it away. One listener a worker; they share the
//! port (`SO_REUSEPORT`) and the places.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;

use presenced_net::Accepting;
use presenced_session::readiness::watch;
use presenced_tasks::{Task, catch};
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::Sender;
use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;

use super::caller::Caller;
use super::connection::{ClientSession, Connection};
use super::held_poll::Held;
use super::held_polls::HeldPolls;
use super::lobby::{Lobby, Newcomer};
use super::parting::refused_unread;
use super::pipe::PollWait;
use super::refusal::{Refusal, RequestFault};
use super::shared_places::Place;
use super::socket::Socket;
use super::tls_handshake::Turns;
use super::turned_away::TurnedAway;
use super::{Capacity, Gateway};
use crate::limits::{HEAD_BYTES_MAX, LET_IN_PER_TURN};
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
    sessions: Sender<ClientSession>,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = watch(listener.into())?;
    let Capacity {
        lobby_max,
        turned_away_max,
        ..
    } = gateway.capacity;
    let lobby = Lobby::new(lobby_max, gateway.places.clone());
    let mut door = Door {
        connection: Connection {
            gateway,
            puller,
            sessions,
            turns: Turns::default(),
        },
        connections: JoinSet::new(),
        held_polls: HeldPolls::new()?,
        lobby,
        turned_away: TurnedAway::new(turned_away_max),
        scratch: vec![0; HEAD_BYTES_MAX],
        turn: Turn(0),
    };
    let mut accepting = Accepting::new("gateway");
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            Some(ended) = door.connections.join_next() => door.hold(ended.ok().flatten().flatten()),
            answered = door.held_polls.next(|| door.connection.gateway.live.get().head_bytes_max) => {
                let (held, body) = answered?;
                door.answer(held, body);
            }
            () = door.lobby.look() => door.call_in().await,
            (stream, peer) = accepting.next(|| accept(&listener)), if !door.lobby.is_crowded() => {
                door.comes(stream, peer).await;
                door.turn.next().await;
            }
        }
    }
}

/// Where connections get their places.
struct Door {
    /// What each is served with.
    connection: Connection,
    connections: JoinSet<Option<Option<(Held, PollWait)>>>,
    held_polls: HeldPolls,
    lobby: Lobby,
    turned_away: TurnedAway,
    /// What is read goes here first.
    scratch: Vec<u8>,
    turn: Turn,
}

/// How many connections were let in since the other tasks of this thread had their turn. The runtime's own budget
/// allows about a hundred: ten milliseconds of handshakes, for which a ping would wait twice.
struct Turn(usize);

impl Turn {
    async fn next(&mut self) {
        self.0 += 1;
        if self.0 == LET_IN_PER_TURN {
            self.0 = 0;
            yield_now().await;
        }
    }
}

impl Door {
    async fn comes(&mut self, stream: TcpStream, peer: IpAddr) {
        let mut newcomer = Newcomer::new(stream, peer);
        let proxies = &self.connection.gateway.proxies;
        newcomer.listen(&mut self.scratch, proxies);
        if newcomer.has_ended {
            return;
        }
        self.admit(newcomer).await;
    }

    /// Looks whether there are places for those in the lobby.
    async fn call_in(&mut self) {
        let proxies = &self.connection.gateway.proxies;
        for newcomer in self.lobby.take_all(&mut self.scratch, proxies) {
            self.admit(newcomer).await;
            self.turn.next().await;
        }
    }

    /// Serves a connection, or lets it wait, or turns it away. It has no place while others wait that come before
    /// it: one may have become free since there was none for them.
    async fn admit(&mut self, mut newcomer: Newcomer) {
        if newcomer.is_mistaken {
            return self.refuse(newcomer, Refusal::BadRequest(RequestFault::ProxyHeader));
        }
        let places = &self.connection.gateway.places;
        let entered = match self.lobby.before(&newcomer) {
            Some(full) => Err(full),
            None => places.enter(newcomer.peer, newcomer.standing()),
        };
        match entered {
            Ok(place) => self.serve(newcomer, place).await,
            Err(full) => {
                newcomer.full = full;
                match newcomer.has_waited() {
                    true => self.turn_away(newcomer),
                    false => self.wait(newcomer),
                }
            }
        }
    }

    fn wait(&mut self, newcomer: Newcomer) {
        if let Some(out) = self.lobby.wait(newcomer) {
            self.turn_away(out);
        }
    }

    async fn serve(&mut self, newcomer: Newcomer, place: Place) {
        let socket = Socket::new(newcomer.stream, newcomer.ahead);
        let caller = Caller(newcomer.peer);
        let introduced = newcomer.introduced;
        let served = self
            .connection
            .clone()
            .run(socket, place, caller, introduced);
        // A future that catches another one is twice as large.
        let mut served = Box::pin(catch(Task::Connection, Box::pin(served)));
        // Most requests are there by now and are answered at once, without a task.
        let first = poll_fn(|context| Poll::Ready(served.as_mut().poll(context)));
        match first.await {
            Poll::Pending => drop(self.connections.spawn(served)),
            Poll::Ready(ended) => self.hold(ended.flatten()),
        }
    }

    /// Lets a connection wait that has ended with a poll.
    fn hold(&mut self, ended: Option<(Held, PollWait)>) {
        let answered = ended.map(|(held, wait)| self.held_polls.hold(held, wait));
        if let Some(Ok(Some((held, body)))) = answered {
            self.answer(held, body);
        }
    }

    /// Answers a poll that was held. Without an answer its connection is closed.
    fn answer(&mut self, held: Held, body: Option<Vec<u8>>) {
        let Some(body) = body else {
            return held.close();
        };
        let served = self.connection.clone().answer(held, body);
        self.connections
            .spawn(catch(Task::Connection, Box::pin(served)));
    }

    fn turn_away(&mut self, newcomer: Newcomer) {
        let (places, full) = (&self.connection.gateway.places, newcomer.full);
        places.log_refusal(full, newcomer.peer);
        self.refuse(newcomer, full.into());
    }

    fn refuse(&mut self, newcomer: Newcomer, refusal: Refusal) {
        let caller = Caller(newcomer.peer);
        self.connection.gateway.refused(refusal, Some(caller));
        let last = refused_unread(refusal, &self.connection.gateway);
        self.turned_away.turn_away(newcomer.stream, &last);
    }
}

/// One connection, not blocking, and where it comes from.
async fn accept(listener: &AsyncFd<OwnedFd>) -> io::Result<(TcpStream, IpAddr)> {
    loop {
        let mut ready = listener.readable().await?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accepted = ready.try_io(|listener| Ok(acceptfrom_with(listener.get_ref(), flags)?));
        if let Ok(accepted) = accepted {
            let (stream, peer) = accepted?;
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            // A peer that is gone already has no address.
            let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
            return Ok((stream.into(), peer.ip().to_canonical()));
        }
    }
}
