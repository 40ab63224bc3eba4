//! A trusted proxy's connection begins with a header that says where it comes from
//! ([`proxy_header`](super::proxy_header)): reads it, before TLS or HTTP begins.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::Gateway;
use super::caller::Caller;
use super::parting::{part_with_place, refused_unread};
use super::places::Standing;
use super::proxies::Proxies;
use super::proxy_header::{ProxyHeader, ProxyHeaderError, parse};
use super::refusal::{Refusal, RequestFault};
use super::shared_places::Place;
use super::socket::Socket;
use crate::limits::{HANDSHAKE_TIMEOUT, PARTING_TIME};

/// What is known of a connection's origin when it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Introduced {
    /// Its address is that of the caller.
    Already,
    /// Its address is that of a proxy, whose header has not come whole.
    NotYet,
}

/// Takes the header off what a new connection from `peer` has sent, if one belongs there, and puts
/// the caller's address in the place of the proxy's.
///
/// # Errors
///
/// What was sent is not the header that belongs there.
pub(super) fn introduce(
    proxies: &Proxies,
    peer: &mut Caller,
    ahead: &mut Vec<u8>,
) -> Result<Introduced, ProxyHeaderError> {
    if !proxies.introduce(peer.0) {
        return Ok(Introduced::Already);
    }
    let Some(header) = parse(ahead)? else {
        return Ok(Introduced::NotYet);
    };
    ahead.drain(..header.len);
    *peer = caller(*peer, header);
    Ok(Introduced::Already)
}

/// Waits for the rest of the header, and counts the connection among those of the caller from then
/// on; until then it is one of the proxy's. Returns the connection and the caller; `None` if the
/// connection was closed, after it had been told why.
pub(super) async fn wait(
    gateway: &Gateway,
    mut socket: Socket,
    proxy: Caller,
    place: &Place,
) -> Option<(Socket, Caller)> {
    let header = timeout(HANDSHAKE_TIMEOUT, read_unless_evicted(&mut socket, place));
    let (refusal, caller) = match header.await {
        Ok(Ok(Ok(header))) => {
            let caller = caller(proxy, header);
            match place.belongs_to(caller.0) {
                Ok(()) => return Some((socket, caller)),
                Err(full) => {
                    gateway.places.log_refusal(full, caller.0);
                    (full.into(), caller)
                }
            }
        }
        Ok(Ok(Err(ProxyHeaderError))) => (Refusal::BadRequest(RequestFault::ProxyHeader), proxy),
        // The proxy is gone, or another connection has the place.
        Ok(Err(_)) => return None,
        Err(_) => (Refusal::TooSlow, proxy),
    };
    gateway.refused(refusal, Some(caller));
    let last = refused_unread(refusal, gateway);
    part_with_place(socket, &last, place, PARTING_TIME).await;
    None
}

/// Reads the header. When the connection has to leave, only what has come by then is still read.
async fn read_unless_evicted(
    socket: &mut Socket,
    place: &Place,
) -> io::Result<Result<ProxyHeader, ProxyHeaderError>> {
    tokio::select! {
        biased;
        read = read(socket, place) => return read,
        () = place.evicted() => {}
    }
    // The runtime may not know of it yet. Nothing is waited for where nothing has come.
    let left = match socket.has_come() {
        true => PARTING_TIME,
        false => Duration::ZERO,
    };
    timeout(left, read(socket, place)).await?
}

/// The connection is idle until the first byte of the header has come, and again if nothing has
/// come behind it.
async fn read(
    socket: &mut Socket,
    place: &Place,
) -> io::Result<Result<ProxyHeader, ProxyHeaderError>> {
    loop {
        match parse(socket.ahead()) {
            Ok(None) => {
                socket.read_ahead().await?;
                place.stands(Standing::Awaited);
            }
            Ok(Some(header)) => {
                socket.skip(header.len);
                if !socket.has_read() {
                    place.stands(Standing::Idle);
                }
                return Ok(Ok(header));
            }
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// A proxy that names nobody speaks for itself.
fn caller(proxy: Caller, header: ProxyHeader) -> Caller {
    header.source.map_or(proxy, Caller)
}
