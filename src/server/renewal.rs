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
use crate::tokens::{Grant, Identity, Purpose};

/// Renews sessions.
#[derive(Clone, Debug)]
pub(super) struct Renewals(pub(super) Arc<Gateway>);

impl Renewals {
    /// A session of a user, with a grant, is shown `token`, which must be what a handshake must show.
    /// The grant that it has from now on; a token that is refused changes nothing, but that of
    /// another user, or of another issuer, ends the session: whoever sends it has mixed up two users,
    /// and would act for the wrong one.
    pub(super) fn show<D: Dialect>(
        &self,
        session: (&UserId, Grant),
        token: &str,
        caller: Option<Caller>,
        replies: &mut Replies<'_, D>,
    ) -> Option<Grant> {
        // Its signature costs more than a look at a pull.
        replies.costs(RENEWAL_FRAMES);
        // A worker waits for no keys: if newer ones are needed, they are fetched now, and the client
        // tries again.
        let live = self.0.live.get();
        let identified = self.0.identify(&live.auth, token, Purpose::Session, caller);
        let answer = match identified.now_or_never().unwrap_or(Err(Refusal::NoKeys)) {
            Ok(identity) if !is_of(session, &identity) => {
                replies.end(CloseReason::OtherUser);
                return None;
            }
            Ok(identity) => {
                replies.renew(self.0.expires_at(identity.valid_for));
                Ok((identity.grant, identity.valid_for.as_secs()))
            }
            Err(refusal) => {
                self.0.metrics.renewal_refused(refusal);
                Err(refusal)
            }
        };
        replies.text(&token_json(answer.map(|(_, expires_in_s)| expires_in_s)));
        answer.ok().map(|(grant, _)| grant)
    }
}

/// Whether a token may take the place of the one that a session has: who it is stays the same.
fn is_of((user, grant): (&UserId, Grant), identity: &Identity) -> bool {
    *user == identity.user && grant.issuer == identity.grant.issuer
}
