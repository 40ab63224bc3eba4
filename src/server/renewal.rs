//! Tokens that clients show in their sessions, so that these go on when the last token ends.

use std::sync::Arc;

use futures_util::FutureExt;
use presenced_presence::UserId;
use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::Dialect;
use presenced_session::service::Replies;

use crate::gateway::Gateway;
use crate::gateway::caller::Caller;
use crate::gateway::refusal::Refusal;
use crate::gateway::response::token_json;
use crate::limits::RENEWAL_FRAMES;
use crate::tokens::{Identity, Purpose};

/// Renews sessions.
#[derive(Clone, Debug)]
pub(super) struct Renewals(pub(super) Arc<Gateway>);

impl Renewals {
    /// A session of `user` is shown `token`, which must be what a handshake must show. A token that
    /// is refused changes nothing, but that of another user ends the session: whoever sends it has
    /// mixed up two users, and would act for the wrong one.
    pub(super) fn show<D: Dialect>(
        &self,
        user: &UserId,
        token: &str,
        caller: Option<Caller>,
        replies: &mut Replies<'_, D>,
    ) {
        // Its signature costs more than a look at a pull.
        replies.costs(RENEWAL_FRAMES);
        // A worker waits for no keys: if newer ones are needed, they are fetched now, and the client
        // tries again.
        let identified = self.0.identify(token, Purpose::Session, caller);
        let answer = match identified.now_or_never().unwrap_or(Err(Refusal::NoKeys)) {
            Ok(identity) if !is_of(user, &identity) => return replies.end(CloseReason::OtherUser),
            Ok(identity) => {
                replies.renew(self.0.clock.now() + identity.valid_for);
                Ok(identity.valid_for.as_secs())
            }
            Err(refusal) => {
                self.0.metrics.renewal_refused(refusal);
                Err(refusal)
            }
        };
        replies.text(&token_json(answer));
    }
}

/// Whether a token may take the place of the one that began a session of `user`: all that a session
/// has of an identity must be the same in the other.
fn is_of(user: &UserId, identity: &Identity) -> bool {
    *user == identity.user
}
