//! Accepts connections, serves HTTP on them with hyper, and hands those that were upgraded to the
//! worker. One listener a worker; they share the port (`SO_REUSEPORT`).

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Sender;
use tokio::task::{Id, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Edge;
use super::auth::Identity;
use super::response::{self, Answer};
use super::routes::{self, Outcome};
use crate::end::Refusal;
use crate::limits::{
    ACCEPT_PAUSE, BACKLOG, HANDSHAKE_TIMEOUT, HEAD_BYTES_MAX, HEADERS_MAX, HTTP_CONNECTIONS_MAX,
    HTTP_CONNECTIONS_PER_PEER_MAX, KEEP_ALIVE_TIMEOUT,
};
use crate::pull::Puller;
use crate::session::Seat;
use crate::session::worker::NewSession;

/// Time between two looks at a connection's deadline.
const DEADLINE_LOOK: Duration = Duration::from_secs(1);

/// Binds `count` listeners that share `addr`. Without `SO_REUSEPORT` at first, so that another
/// process on the same port is an error and not a silent partner.
pub fn bind(addr: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let addr = {
        let probe = socket(addr)?;
        probe.bind(&addr.into())?;
        probe.local_addr()?.as_socket().unwrap_or(addr)
    };
    (0..count)
        .map(|_| {
            let socket = socket(addr)?;
            socket.set_reuse_port(true)?;
            socket.bind(&addr.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

fn socket(addr: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Serves a listener until `stop`; upgraded connections go to `sessions`.
pub async fn serve(
    listener: TcpListener,
    edge: Arc<Edge>,
    puller: Puller,
    sessions: Sender<NewSession>,
    stop: CancellationToken,
) {
    let mut peers = Peers::default();
    let mut connections = JoinSet::new();
    let mut trouble = false;
    loop {
        tokio::select! {
            // Those that have ended first: what counts is who is there.
            biased;
            () = stop.cancelled() => return,
            Some(ended) = connections.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => error.id(),
                };
                peers.left(id);
            }
            accepted = listener.accept(), if connections.len() < HTTP_CONNECTIONS_MAX => {
                match accepted {
                    Ok((stream, peer)) if peers.may_enter(peer.ip()) => {
                        trouble = false;
                        let (edge, puller) = (edge.clone(), puller.clone());
                        let serve = connection(stream, edge, puller, sessions.clone());
                        let id = connections.spawn(serve).id();
                        peers.entered(id, peer.ip());
                    }
                    Ok(_) => edge.metrics.refused(Refusal::PeerFull),
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        // Most likely no descriptor is left: rest, and say so once.
                        if !std::mem::replace(&mut trouble, true) {
                            tracing::error!(%error, "cannot accept connections; trying again");
                        }
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

/// Connections by the address they come from.
#[derive(Debug, Default)]
struct Peers {
    counts: HashMap<IpAddr, usize>,
    of_task: HashMap<Id, IpAddr>,
}

impl Peers {
    fn may_enter(&self, peer: IpAddr) -> bool {
        let count = self.counts.get(&network(peer)).copied().unwrap_or_default();
        count < HTTP_CONNECTIONS_PER_PEER_MAX
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

/// Serves one connection until it ends or is a session.
async fn connection(
    stream: TcpStream,
    edge: Arc<Edge>,
    puller: Puller,
    sessions: Sender<NewSession>,
) {
    let exchange = Arc::new(Exchange::begin(&edge));
    let service = Http {
        edge: edge.clone(),
        puller,
        exchange: exchange.clone(),
    };
    let serving = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        // The deadline below counts from accept and over all requests.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown();
    let parts = tokio::select! {
        parts = serving => parts,
        () = exchange.overdue(&edge) => {
            if !exchange.has_served() {
                edge.metrics.refused(Refusal::Head);
            }
            return;
        }
    };
    let parts = match parts {
        Ok(parts) => parts,
        Err(error) => {
            // Otherwise the peer went away.
            if error.is_parse() || error.is_parse_too_large() {
                edge.metrics.refused(Refusal::Head);
            }
            return;
        }
    };
    drop(parts.service);
    let Some((identity, seat)) =
        Arc::into_inner(exchange).and_then(|done| done.upgrade.into_inner())
    else {
        return;
    };
    let Ok(socket) = parts.io.into_inner().into_std() else {
        return;
    };
    // An answer of a few bytes must not wait for the peer's acknowledgement of the last.
    let _ = socket.set_nodelay(true);
    let new = NewSession {
        socket,
        read_ahead: parts.read_buf,
        user: identity.user,
        expires_at: edge.clock.now() + identity.valid_for,
    };
    if sessions.send(new).await.is_ok() {
        seat.hand_over();
    }
}

/// How far a connection has come.
#[derive(Debug)]
struct Exchange {
    /// When it must have come further, ms of the clock.
    deadline_ms: AtomicU64,
    /// Requests answered.
    served: AtomicU64,
    upgrade: OnceLock<(Identity, Seat)>,
}

impl Exchange {
    fn begin(edge: &Edge) -> Exchange {
        let exchange = Exchange {
            deadline_ms: AtomicU64::default(),
            served: AtomicU64::default(),
            upgrade: OnceLock::new(),
        };
        exchange.allow(edge, HANDSHAKE_TIMEOUT);
        exchange
    }

    fn allow(&self, edge: &Edge, time: Duration) {
        let deadline = edge.clock.now() + time;
        self.deadline_ms
            .store(deadline.as_millis() as u64, Ordering::Relaxed);
    }

    fn served(&self, edge: &Edge) {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.allow(edge, KEEP_ALIVE_TIMEOUT);
    }

    fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed) > 0
    }

    /// Returns when the deadline has passed without having been moved.
    async fn overdue(&self, edge: &Edge) {
        loop {
            let deadline = Duration::from_millis(self.deadline_ms.load(Ordering::Relaxed));
            let left = deadline.saturating_sub(edge.clock.now());
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
    edge: Arc<Edge>,
    puller: Puller,
    exchange: Arc<Exchange>,
}

impl Service<Request<Incoming>> for Http {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (edge, puller) = (self.edge.clone(), self.puller.clone());
        let exchange = self.exchange.clone();
        exchange.allow(&edge, HANDSHAKE_TIMEOUT);
        Box::pin(async move {
            let outcome = routes::respond(request, &edge, &puller).await;
            exchange.served(&edge);
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
                    exchange.allow(&edge, HANDSHAKE_TIMEOUT);
                    let _ = exchange.upgrade.set((accepted.identity, accepted.seat));
                    accepted.answer
                }
            })
        })
    }
}
