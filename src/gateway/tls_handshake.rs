//! The TLS handshake of a connection, before HTTP begins. It has its place meanwhile, like one whose request does not come;
//! so there are never more handshakes under way than places.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use presenced_session::connection::Tls as Secured;
use presenced_tls::{Established, HandshakeError, Progress};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::Gateway;
use super::caller::Caller;
use super::parting::{part_with_place, refused, refused_unread};
use super::places::Standing;
use super::refusal::{Refusal, TlsFault};
use super::shared_places::Place;
use super::socket::Socket;
use super::tls::Tls;
use crate::limits::{HANDSHAKE_TIMEOUT, PARTING_TIME, TLS_HANDSHAKES_PER_TURN};

/// Lets few handshakes of a worker be computed before its other tasks have their turn. A burst of them would keep pings and
/// pulls waiting for all.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Turns {
        Turns(Arc::new(Semaphore::new(TLS_HANDSHAKES_PER_TURN)))
    }
}

impl Turns {
    /// Does `work` when it is its turn.
    async fn take<T>(&self, work: impl FnOnce() -> T) -> T {
        // It is never closed.
        let _turn = self.0.acquire().await;
        let done = work();
        yield_now().await;
        done
    }
}

/// Shakes hands. Returns the connection, whose records the socket opens and seals from now on; `None` if it was closed, after
/// it had been told why.
pub(super) async fn shake_hands(
    gateway: &Gateway,
    tls: &Tls,
    mut socket: Socket,
    peer: Caller,
    place: &Place,
    turns: &Turns,
) -> Option<Socket> {
    let mut out = Vec::new();
    let shaken = tokio::select! {
        biased;
        shaken = timeout(HANDSHAKE_TIMEOUT, run(gateway, tls, &mut socket, peer, place, turns, &mut out)) => shaken,
        () = place.evicted() => return None,
    };
    let refusal = match shaken {
        Ok(Ok(established)) => {
            gateway.metrics.tls_handshake(&established);
            let Established { records, rest, .. } = established;
            let partial = Vec::new();
            let tls = Secured { records, partial };
            socket.secure(tls, &rest, out).ok()?;
            if !socket.has_read() {
                place.stands(Standing::Idle);
            }
            return Some(socket);
        }
        Ok(Err(Failed::Io)) => return None,
        Ok(Err(Failed::Refused(refusal))) => refusal,
        Ok(Err(Failed::Handshake(error))) => {
            tracing::debug!(address = %peer.0, %error, "a TLS handshake has failed");
            Refusal::Tls(TlsFault::from(&error))
        }
        Err(_) => Refusal::TooSlow,
    };
    gateway.refused(refusal, Some(peer));
    let last = match refusal {
        Refusal::Tls(TlsFault::NotTls) => refused(refusal),
        Refusal::Tls(_) => out,
        _ => refused_unread(refusal, gateway),
    };
    // It has a buffer, for which handshakes that succeed need no room.
    Box::pin(part_with_place(socket, &last, place, PARTING_TIME)).await;
    None
}

/// Why there is no TLS.
enum Failed {
    /// The peer is gone.
    Io,
    Handshake(HandshakeError),
    Refused(Refusal),
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Failed {
        Failed::Io
    }
}

/// Goes on until the handshake is done. What is left in `out` is still to be said.
async fn run(
    gateway: &Gateway,
    tls: &Tls,
    socket: &mut Socket,
    peer: Caller,
    place: &Place,
    turns: &Turns,
    out: &mut Vec<u8>,
) -> Result<Established, Failed> {
    if !socket.has_read() {
        place.stands(Standing::Idle);
        socket.read_ahead().await?;
    }
    place.stands(Standing::Awaited);
    // Before anything is computed: what sheds a flood must cost less than what it sheds.
    let rated = gateway.tls_rates.comes(rated_address(gateway, peer));
    rated.map_err(|exceeded| Failed::Refused(exceeded.into()))?;
    let mut handshake = tls.handshake().map_err(Failed::Handshake)?;
    loop {
        let bytes = std::mem::take(socket.ahead_mut());
        let received = turns.take(|| handshake.receive(&bytes, out)).await;
        let progress = received.map_err(Failed::Handshake)?;
        handshake = match progress {
            Progress::Done(established) => return Ok(established),
            Progress::Wait(handshake) => handshake,
        };
        socket.write_all(out).await?;
        out.clear();
        socket.read_ahead().await?;
    }
}

/// A proxy that says with each request where that comes from has no rate of its own.
fn rated_address(gateway: &Gateway, Caller(address): Caller) -> Option<IpAddr> {
    (!gateway.proxies.forward(address)).then_some(address)
}
