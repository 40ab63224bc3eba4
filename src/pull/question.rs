//! A pull on its way to its answer.

use presenced_presence::UserId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Answer, PullError};

/// Who asks: pulls of one user take turns with those of others, whatever they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// A keyed hash of the user's id.
    pub(super) id: u64,
    /// Whether the rate of a user applies.
    pub(super) has_rate: bool,
}

#[derive(Debug)]
pub(super) struct Question {
    pub(super) asker: Asker,
    pub(super) users: Vec<UserId>,
    pub(super) asked_at: Instant,
    pub(super) reply: oneshot::Sender<Result<Answer, NoAnswer>>,
}

/// Why a pull has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It is refused.
    Refused(PullError),
    /// The server stops.
    Stopping,
}
