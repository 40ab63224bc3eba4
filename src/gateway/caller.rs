//! Who is calling: the address that a request comes from.

use std::net::IpAddr;

use hyper::Request;
use presenced_presence::UserId;

use crate::tokens::{Grant, TokenId};

/// The address that a request comes from, as an extension of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(pub IpAddr);

impl Caller {
    /// The caller of a request, if the listener knows it.
    pub fn of<B>(request: &Request<B>) -> Option<Caller> {
        request.extensions().get().copied()
    }
}

/// Whom a handshake has let in.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The user whom the token names.
    pub user: UserId,
    /// Where the handshake came from.
    pub caller: Caller,
    /// What the token gives to the session.
    pub grant: Grant,
    /// By what the token may have been revoked since it was looked at.
    pub token: TokenId,
    /// For how many seconds the session may go on, if its client is to be told: its token came in a
    /// message.
    pub answer_s: Option<u64>,
}
