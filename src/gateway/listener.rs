//! Accepts connections, serves HTTP on them with hyper, and hands those that were upgraded to the
//! worker. One listener a worker; they share the port (`SO_REUSEPORT`).

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use presenced_net::Accepting;
use presenced_presence::UserId;
use presenced_session::dialect::Plain;
use presenced_session::readiness::watch;
use presenced_session::worker::NewSession;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::Sender;
use tokio::task::{Id, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::handshake::Upgraded;
use super::response::{self, Answer};
use super::routes::{self, Outcome};
use super::socket::Socket;
use crate::gateway::refusal::Refusal;
use crate::limits::{
    DEADLINE_LOOK, HANDSHAKE_TIMEOUT, HEAD_BYTES_MAX, HEADERS_MAX, HTTP_CONNECTIONS_PEER_SHARE,
    KEEP_ALIVE_TIMEOUT,
};
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
    sessions: Sender<NewSession<UserId>>,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = watch(listener.into())?;
    let mut peers = Peers::new(
        gateway
            .connections_max
            .div_ceil(HTTP_CONNECTIONS_PEER_SHARE),
    );
    let mut connections = JoinSet::new();
    let mut accepting = Accepting::new("gateway");
    let mut scratch = vec![0; HEAD_BYTES_MAX];
    loop {
        tokio::select! {
            // Those that have ended first: what counts is who is there.
            biased;
            () = stop.cancelled() => return Ok(()),
            Some(ended) = connections.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => error.id(),
                };
                peers.left(id);
            }
            (stream, peer) = accepting.next(|| accept(&listener)),
                if connections.len() < gateway.connections_max =>
            {
                if !peers.may_enter(peer) {
                    gateway.metrics.refused(Refusal::PeerFull);
                    continue;
                }
                let connection = Connection {
                    gateway: gateway.clone(),
                    puller: puller.clone(),
                    sessions: sessions.clone(),
                };
                let ahead = read_ahead(&stream, &mut scratch);
                let mut served = Box::pin(connection.run(Socket::new(stream, ahead)));
                // Most requests are there by now and are answered at once, without a task.
                let first = poll_fn(|context| Poll::Ready(served.as_mut().poll(context)));
                if first.await.is_pending() {
                    let id = connections.spawn(served).id();
                    peers.entered(id, peer);
                }
            }
        }
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

/// Connections by the address they come from.
#[derive(Debug)]
struct Peers {
    max: usize,
    counts: HashMap<IpAddr, usize>,
    of_task: HashMap<Id, IpAddr>,
}

impl Peers {
    fn new(max: usize) -> Peers {
        Peers {
            max,
            counts: HashMap::new(),
            of_task: HashMap::new(),
        }
    }

    fn may_enter(&self, peer: IpAddr) -> bool {
        let count = self.counts.get(&network(peer)).copied().unwrap_or_default();
        count < self.max
    }

    fn entered(&mut self, id: Id, peer: IpAddr) {
        *self.counts.entry(network(peer)).or_default() += 1;
        self.of_task.insert(id, network(peer));
    }

    fn left(&mut self, id: Id) {
        let Some(peer) = self.of_task.remove(&id) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&peer);
            }
        }
    }
}

/// What counts as one peer: an IPv4 address, or a /64 of IPv6, which is what one customer has.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// What a connection is served with.
struct Connection {
    gateway: Arc<Gateway>,
    puller: Puller,
    sessions: Sender<NewSession<UserId>>,
}

impl Connection {
    /// Serves it until it ends or is a session.
    async fn run(self, mut socket: Socket) {
        let deadline = self.gateway.clock.now() + HANDSHAKE_TIMEOUT;
        // hyper has a buffer of 8 KiB, which who waits for a request does not need.
        if !socket.has_read() && timeout(HANDSHAKE_TIMEOUT, socket.readable()).await.is_err() {
            return self.gateway.metrics.refused(Refusal::Head);
        }
        Box::pin(self.serve(socket, deadline)).await;
    }

    /// The first request must have come by `deadline`.
    async fn serve(self, socket: Socket, deadline: Duration) {
        let gateway = self.gateway;
        let exchange = Arc::new(Exchange::begin(deadline));
        let patience = socket.patience();
        let service = Http {
            gateway: gateway.clone(),
            puller: self.puller,
            exchange: exchange.clone(),
        };
        let mut http = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            // The deadline below counts from accept and over all requests.
            .header_read_timeout(None)
            .serve_connection(socket, service);
        let serving = async {
            poll_fn(|context| {
                let polled = http.poll_without_shutdown(context);
                match polled.is_pending() && patience.begin() {
                    true => http.poll_without_shutdown(context),
                    false => polled,
                }
            })
            .await?;
            match exchange.is_upgraded() {
                true => Ok(()),
                // hyper may have to write the rest of an answer.
                false => (&mut http).await,
            }
        };
        let served = tokio::select! {
            biased;
            served = serving => served,
            () = exchange.overdue(&gateway) => {
                if !exchange.has_served() {
                    gateway.metrics.refused(Refusal::Head);
                }
                return;
            }
        };
        if let Err(error) = served {
            // Otherwise the peer went away.
            if error.is_parse() || error.is_parse_too_large() {
                gateway.metrics.refused(Refusal::Head);
            }
            return;
        }
        let parts = http.into_parts();
        // It has the exchange as well.
        drop(parts.service);
        let upgraded = Arc::into_inner(exchange).and_then(|exchange| exchange.upgrade.into_inner());
        let (Some(upgraded), Ok((socket, ahead))) = (upgraded, parts.io.into_std()) else {
            return;
        };
        match upgraded {
            Upgraded::Refused(refused) => refused.close(socket).await,
            Upgraded::Session(identity, seat) => {
                let session = NewSession {
                    socket,
                    read_ahead: joined(&parts.read_buf, &ahead),
                    peer: identity.user,
                    dialect: Plain,
                    expires_at: gateway.clock.now() + identity.valid_for,
                    seat,
                };
                // If the worker is gone, its seats are not waited for.
                let _ = self.sessions.send(session).await;
            }
        }
    }
}

/// What was read behind the handshake. Not hyper's buffer, which an empty part of it would keep.
fn joined(read_by_hyper: &[u8], ahead: &[u8]) -> Bytes {
    match read_by_hyper.is_empty() && ahead.is_empty() {
        true => Bytes::new(),
        false => [read_by_hyper, ahead].concat().into(),
    }
}

/// How far a connection has come.
#[derive(Debug)]
struct Exchange {
    /// When it must have come further, ms of the clock.
    deadline_ms: AtomicU64,
    /// Requests answered.
    served: AtomicU64,
    upgrade: OnceLock<Upgraded>,
}

impl Exchange {
    fn begin(deadline: Duration) -> Exchange {
        Exchange {
            deadline_ms: AtomicU64::new(deadline.as_millis() as u64),
            served: AtomicU64::default(),
            upgrade: OnceLock::new(),
        }
    }

    fn allow(&self, gateway: &Gateway, time: Duration) {
        let deadline = gateway.clock.now() + time;
        self.deadline_ms
            .store(deadline.as_millis() as u64, Ordering::Relaxed);
    }

    fn served(&self, gateway: &Gateway) {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.allow(gateway, KEEP_ALIVE_TIMEOUT);
    }

    fn is_upgraded(&self) -> bool {
        self.upgrade.get().is_some()
    }

    fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed) > 0
    }

    /// Returns when the deadline has passed without having been moved.
    async fn overdue(&self, gateway: &Gateway) {
        loop {
            let deadline = Duration::from_millis(self.deadline_ms.load(Ordering::Relaxed));
            let left = deadline.saturating_sub(gateway.clock.now());
            if left.is_zero() {
                return;
            }
            // The deadline may have been moved nearer.
            sleep(left.min(DEADLINE_LOOK)).await;
        }
    }
}

/// hyper's way to [`routes::respond`].
struct Http {
    gateway: Arc<Gateway>,
    puller: Puller,
    exchange: Arc<Exchange>,
}

impl Service<Request<Incoming>> for Http {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (gateway, puller) = (self.gateway.clone(), self.puller.clone());
        let exchange = self.exchange.clone();
        exchange.allow(&gateway, HANDSHAKE_TIMEOUT);
        Box::pin(async move {
            let outcome = routes::respond(request, &gateway, &puller).await;
            exchange.served(&gateway);
            Ok(match outcome {
                Outcome::Answer(mut answer) => {
                    // Who was refused has no claim to one of the places.
                    if answer.status().is_client_error() || answer.status().is_server_error() {
                        response::set_close(&mut answer);
                    }
                    answer
                }
                Outcome::Upgrade(accepted) => {
                    // The time for writing the answer; a second upgrade can't follow.
                    exchange.allow(&gateway, HANDSHAKE_TIMEOUT);
                    let _ = exchange.upgrade.set(accepted.upgraded);
                    accepted.answer
                }
            })
        })
    }
}
