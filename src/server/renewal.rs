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
use crate::limits::RENEWAL_FRAMES;
use crate::tokens::{Grant, Identity, Purpose};

/// Renews sessions.
#[derive(Clone, Debug)]
pub(super) struct Renewals(pub(super) Arc<Gateway>);

impl Renewals {
    /// A session of a user, with a grant, is shown `token`, which must be what a handshake must show.
    /// Returns for how many seconds the session goes on, and the grant that it has from now on. A
    /// token that is refused changes nothing; `None` if it is that of another user, or of another
    /// issuer, which ends the session: whoever sends it has mixed up two users, and would act for the
    /// wrong one.
    pub(super) fn show<D: Dialect>(
        &self,
        session: (&UserId, Grant),
        token: &str,
        caller: Option<Caller>,
        replies: &mut Replies<'_, D>,
    ) -> Option<Result<(u64, Grant), Refusal>> {
        // Its signature costs more than a look at a pull.
        replies.costs(RENEWAL_FRAMES);
        // A worker waits for no keys: if newer ones are needed, they are fetched now, and the client
        // tries again.
        let live = self.0.live.get();
        let identified = self.0.identify(&live.auth, token, Purpose::Session, caller);
        match identified.now_or_never().unwrap_or(Err(Refusal::NoKeys)) {
            Ok(identity) if !is_of(session, &identity) => {
                replies.end(CloseReason::OtherUser);
                None
            }
            Ok(identity) => {
                replies.renew(self.0.expires_at(identity.valid_for));
                Some(Ok((identity.valid_for.as_secs(), identity.grant)))
            }
            Err(refusal) => {
                self.0.metrics.renewal_refused(refusal);
                Some(Err(refusal))
            }
        }
    }
}

/// Whether a token may take the place of the one that a session has: who it is stays the same.
pub(super) fn is_of((user, grant): (&UserId, Grant), identity: &Identity) -> bool {
    *user == identity.user && grant.issuer == identity.grant.issuer
}
