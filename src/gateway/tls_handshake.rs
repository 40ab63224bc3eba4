//! The TLS handshake of a connection, before HTTP begins. It has its place meanwhile, like one whose request does not come;
//! so there are never more handshakes under way than places.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
pub(super) struct Turns(Arc<Left>);

#[derive(Debug)]
struct Left {
    permits: Semaphore,
    /// How many were ever taken.
    taken: AtomicUsize,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns(Arc::new(Left {
            permits: Semaphore::new(TLS_HANDSHAKES_PER_TURN),
            taken: AtomicUsize::new(0),
        }))
    }
}

impl Turns {
    /// Does `work` when it is its turn.
    async fn take<T>(&self, work: impl FnOnce() -> T) -> T {
        // It is never closed.
        if let Ok(permit) = self.0.permits.acquire().await {
            permit.forget();
        }
        let taken = self.0.taken.fetch_add(1, Ordering::Relaxed) + 1;
        if !taken.is_multiple_of(TLS_HANDSHAKES_PER_TURN) {
            return work();
        }
        // This was the last. There are more when the other tasks have had their turn, or this one is cancelled.
        let _more = More(&self.0.permits);
        let done = work();
        yield_now().await;
        done
    }
}

/// Gives new turns when it is dropped.
struct More<'a>(&'a Semaphore);

impl Drop for More<'_> {
    fn drop(&mut self) {
        self.0.add_permits(TLS_HANDSHAKES_PER_TURN);
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
    let (mut out, mut has_spoken) = (Vec::new(), false);
    let handshake = run(
        gateway,
        tls,
        &mut socket,
        peer,
        place,
        turns,
        (&mut out, &mut has_spoken),
    );
    let shaken = tokio::select! {
        biased;
        shaken = timeout(HANDSHAKE_TIMEOUT, handshake) => shaken,
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
        // An alert in the clear may not be understood any more.
        _ if has_spoken => Vec::new(),
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

/// Goes on until the handshake is done. What is left in `out` is still to be said; `has_spoken` tells whether anything was.
async fn run(
    gateway: &Gateway,
    tls: &Tls,
    socket: &mut Socket,
    peer: Caller,
    place: &Place,
    turns: &Turns,
    (out, has_spoken): (&mut Vec<u8>, &mut bool),
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
        *has_spoken |= !out.is_empty();
        socket.write_all(out).await?;
        out.clear();
        socket.read_ahead().await?;
    }
}

/// A proxy that says with each request where that comes from has no rate of its own.
fn rated_address(gateway: &Gateway, Caller(address): Caller) -> Option<IpAddr> {
    (!gateway.proxies.forward(address)).then_some(address)
}

#[cfg(test)]
mod tests {
    use tokio::task::{AbortHandle, JoinSet};

    use super::*;

    const HANDSHAKES: usize = 100 * TLS_HANDSHAKES_PER_TURN;

    #[tokio::test]
    async fn other_tasks_have_their_turn_between_a_few_handshakes() {
        let (turns, computed) = (Turns::default(), Arc::new(AtomicUsize::new(0)));
        let mut handshakes = JoinSet::new();
        let begin = |_| {
            let (turns, computed) = (turns.clone(), computed.clone());
            handshakes.spawn(async move {
                turns
                    .take(|| computed.fetch_add(1, Ordering::Relaxed))
                    .await;
            })
        };
        let tasks: Vec<_> = (1..=HANDSHAKES).map(begin).collect();
        yield_now().await;
        // Clients that give up take no turns from the others. One of them has the last of the first turns.
        tasks
            .iter()
            .skip(TLS_HANDSHAKES_PER_TURN - 1)
            .step_by(7)
            .for_each(AbortHandle::abort);
        let mut before = computed.load(Ordering::Relaxed);
        assert_eq!(before, TLS_HANDSHAKES_PER_TURN);
        let mut turns_of_others = 1;
        while !handshakes.is_empty() {
            yield_now().await;
            while handshakes.try_join_next().is_some() {}
            let now = computed.load(Ordering::Relaxed);
            assert!(now - before <= TLS_HANDSHAKES_PER_TURN, "{before} {now}");
            assert!(turns_of_others <= HANDSHAKES, "turns are lost");
            before = now;
            turns_of_others += 1;
        }
        assert!(before >= HANDSHAKES * 6 / 7, "{before}");
        assert!(
            turns_of_others >= before / TLS_HANDSHAKES_PER_TURN,
            "{turns_of_others}"
        );
    }
}
