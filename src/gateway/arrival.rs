//! Who arrives at a worker.

use std::sync::Arc;
use std::time::Duration;

use presenced_presence::UserId;

use super::caller::Caller;
use super::pipe::Pipe;
use super::refusal::Refusal;
use super::shared_places::Place;
use crate::tokens::{Grant, Identity, TokenId};

/// Whom a handshake has let in.
#[derive(Debug)]
pub enum Arrival {
    /// Its user is known.
    User(Visitor),
    /// A client of Socket.IO. Its user is known when it connects to a namespace.
    SocketIo(Newcomer),
}

/// A user whom a handshake has let in.
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

/// A client of Socket.IO that has not connected to a namespace yet.
#[derive(Debug)]
pub struct Newcomer {
    /// Where the handshake came from.
    pub caller: Caller,
    /// What the handshake showed of its user, if it had a token.
    pub shown: Option<Shown>,
    /// Its place among the HTTP connections, which it has until it is connected.
    pub place: Place,
    /// If it polls.
    pub pipe: Option<Arc<Pipe>>,
}

/// Whom a token names and until when, by the wall clock, or why it is refused.
pub type Shown = Result<(Identity, Duration), Refusal>;
