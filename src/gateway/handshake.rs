//! The server's side of the WebSocket handshake: RFC 6455 §4.2.1 in its order, then who it is.

use hyper::Request;
use presenced_session::Seat;
use presenced_session::handshake::{check_upgrade, switching_protocols};

use super::Gateway;
use super::auth::Identity;
use super::refusal::Refusal;
use super::response::Answer;
use super::token::{subprotocols, token};

/// The subprotocol that we speak.
pub const SUBPROTOCOL: &str = "presence.v1";

/// A handshake that may be answered with 101.
#[derive(Debug)]
pub struct Accepted {
    /// The user, and for how long.
    pub identity: Identity,
    /// Its session's seat.
    pub seat: Seat,
    /// What to answer.
    pub answer: Answer,
}

/// Checks a request for `/ws`. The cheap things come first, the token's signature last.
///
/// # Errors
///
/// Why the handshake is refused.
pub fn check<B>(request: &Request<B>, gateway: &Gateway) -> Result<Accepted, Refusal> {
    let headers = request.headers();
    let accept = check_upgrade(request)?;
    if !gateway.origins.allow(headers) {
        return Err(Refusal::Origin);
    }
    if gateway.is_draining() {
        return Err(Refusal::Draining);
    }
    let token = token(request, gateway.allow_query_token).ok_or(Refusal::TokenMissing)?;
    let identity = gateway.auth.verify(&token)?;
    let seat = Seat::take(&gateway.seats).ok_or_else(|| match gateway.is_draining() {
        true => Refusal::Draining,
        false => Refusal::Full,
    })?;
    let speaks = subprotocols(headers).any(|offered| offered == SUBPROTOCOL);
    Ok(Accepted {
        identity,
        seat,
        answer: switching_protocols(accept, speaks.then_some(SUBPROTOCOL)),
    })
}
