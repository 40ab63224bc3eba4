//! The server's side of the WebSocket handshake: RFC 6455 §4.2.1 in its order, then who it is.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::{Request, Version};
use presenced_session::Seat;
use presenced_session::handshake::{check_upgrade, switching_protocols};

use super::Gateway;
use super::arrival::Shown;
use super::caller::Caller;
use super::client_dialect::ClientDialect;
use super::live::Live;
use super::pipe::Probe;
use super::refusal::Refusal;
use super::refused_session::{RefuseWith, RefusedSession};
use super::response::Answer;
use super::token::{self, is_offered, subprotocols};
use crate::tokens::{Identity, Purpose};

/// The subprotocol that we speak.
pub const SUBPROTOCOL: &str = "presence.v1";

/// Offered by a client that wants to see pings. It is never selected, as little as a token.
const ALIVE: &str = "presence.alive";

/// A handshake that is answered with 101.
#[derive(Debug)]
pub struct Accepted {
    /// What the connection is after the answer.
    pub upgraded: Upgraded,
    /// What to answer.
    pub answer: Answer,
}

/// What a connection is after its handshake.
#[derive(Debug)]
pub enum Upgraded {
    /// A session of the user, for as long as the token says.
    Session(ClientDialect, Identity, Seat),
    /// A session of whom its first message names: it must be the token.
    TokenAwaited(ClientDialect),
    /// A session of Socket.IO, whose user is known when it connects to a namespace.
    SocketIo(Option<Shown>, Seat),
    /// A WebSocket that a client of Socket.IO may go over to, if it does so in this time.
    Probe(Probe, Duration),
    /// To be closed at once with the reason.
    Refused(RefusedSession),
}

/// Checks a request for `/ws`. The cheap things come first, the token's signature last.
///
/// # Errors
///
/// Why the handshake is refused over HTTP.
pub async fn check<B>(
    request: &Request<B>,
    gateway: &Gateway,
    live: &Live,
) -> Result<Accepted, Refusal> {
    let headers = request.headers();
    let accept = check_upgrade(request)?;
    if !live.origins.allow(headers) {
        return Err(Refusal::Origin);
    }
    let upgraded = match admit(request, gateway, live).await {
        Ok(upgraded) => upgraded,
        Err(refusal) => {
            let refused = refused(refusal, headers, gateway, live.refuse_with);
            Upgraded::Refused(refused.ok_or(refusal)?)
        }
    };
    Ok(Accepted {
        upgraded,
        answer: answer(accept, headers),
    })
}

/// What becomes of a handshake that may be one.
async fn admit<B>(
    request: &Request<B>,
    gateway: &Gateway,
    live: &Live,
) -> Result<Upgraded, Refusal> {
    if gateway.is_draining() {
        return Err(Refusal::Draining);
    }
    let caller = Caller::of(request);
    gateway.rates.comes(caller.map(|Caller(address)| address))?;
    let dialect = match subprotocols(request.headers()).any(|offered| offered == ALIVE) {
        true => ClientDialect::Alive,
        false => ClientDialect::Plain,
    };
    match token::in_request(request, live.allow_query_token)? {
        Some(token) => {
            let (identity, seat) = let_in(&token, caller, gateway, live).await?;
            Ok(Upgraded::Session(dialect, identity, seat))
        }
        // Once it is upgraded, HTTP can tell no more that its token is refused.
        None if live.refuse_with == RefuseWith::Http => Err(Refusal::TokenMissing),
        None => Ok(Upgraded::TokenAwaited(dialect)),
    }
}

/// The user whom a token names, and a seat for the session.
pub(super) async fn let_in(
    token: &str,
    caller: Option<Caller>,
    gateway: &Gateway,
    live: &Live,
) -> Result<(Identity, Seat), Refusal> {
    let identity = gateway.identify(&live.auth, token, Purpose::Session, caller);
    let identity = identity.await?;
    let address = caller.map(|Caller(address)| address);
    gateway.rates.is_of(&identity.user, address)?;
    Ok((identity, seat(gateway)?))
}

/// A seat for a session.
pub(super) fn seat(gateway: &Gateway) -> Result<Seat, Refusal> {
    Seat::take(&gateway.seats).ok_or_else(|| match gateway.is_draining() {
        true => Refusal::Draining,
        false => Refusal::Full,
    })
}

/// The close that tells a client why it is refused; `None` where HTTP tells it.
fn refused(
    refusal: Refusal,
    headers: &HeaderMap,
    gateway: &Gateway,
    refuse_with: RefuseWith,
) -> Option<RefusedSession> {
    let is_by_close = match refuse_with {
        RefuseWith::Http => false,
        RefuseWith::Close => true,
        // A page sees the status of no handshake, only 1006 (WHATWG WebSockets). Other clients do,
        // and so do those who look after them.
        RefuseWith::Auto => {
            is_ours_spoken(headers) && (headers.contains_key(ORIGIN) || is_offered(headers))
        }
    };
    is_by_close
        .then(|| RefusedSession::begin(refusal, &gateway.refused_sessions))
        .flatten()
}

/// Whether a client has sent a handshake and the server got another request: a proxy that does not
/// know of upgrades leaves out what is between it and its neighbour (RFC 9110 §7.6.1), and passes
/// on the rest.
pub fn is_not_forwarded<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let is_whole = request.version() == Version::HTTP_11 && headers.contains_key(UPGRADE);
    headers.contains_key(SEC_WEBSOCKET_KEY) && !is_whole
}

fn answer(accept: HeaderValue, headers: &HeaderMap) -> Answer {
    switching_protocols(accept, is_ours_spoken(headers).then_some(SUBPROTOCOL))
}

fn is_ours_spoken(headers: &HeaderMap) -> bool {
    subprotocols(headers).any(|offered| offered == SUBPROTOCOL)
}
