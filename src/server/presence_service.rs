//! What the server's sessions are for: their frames keep a user online, their messages ask who else
//! is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hashbrown::HashMap;
use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::users::Live;
use presenced_presence::{Pending, SessionId, Slot};
use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::Plain;
use presenced_session::service::{Message, Opened, Replies, Service};
use presenced_session::slab::SessionKey;
use presenced_tasks::{Task, catch, caught};

use super::client_message::{self, ClientMessage, Fault, Pull};
use super::renewal::Renewals;
use super::session_log::SessionLog;
use crate::gateway::Gateway;
use crate::gateway::caller::Visitor;
use crate::gateway::response::{error_json, expiring_json, pull_error_json, token_json};
use crate::limits::PULLS_PER_SESSION_MAX;
use crate::pull::{Answer, NoAnswer, PullError, Puller};
use crate::revocation::sessions::RevokedSessions;
use crate::tokens::{Grant, Revocations};

/// The text of an answer; none when the server stops.
type Answered = Pin<Box<dyn Future<Output = (SessionKey, Option<Vec<u8>>)>>>;

/// What a client is told whose question met a fault.
const INTERNAL: &str = "a fault of the server's own: ask again";

/// Presence, as the service that a worker's sessions are for.
#[derive(Debug)]
pub struct PresenceService {
    presence: Arc<Presence>,
    pending: Arc<Pending>,
    flusher: Flusher,
    puller: Puller,
    pulls: FuturesUnordered<Answered>,
    /// How many of `pulls` each session waits for.
    waiting: HashMap<SessionKey, u8>,
    log: SessionLog,
    /// None where sessions end with their tokens.
    renewals: Option<Renewals>,
    /// Of the few sessions that have not the usual one.
    grants: HashMap<SessionKey, Grant>,
    /// What is revoked, and who ends the sessions of that.
    revoked: Option<(Arc<Revocations>, Arc<RevokedSessions>)>,
}

impl PresenceService {
    /// For one worker: `flusher` writes and `puller` asks over its connections. Sessions can't be
    /// renewed.
    pub fn new(presence: Arc<Presence>, flusher: Flusher, puller: Puller) -> PresenceService {
        PresenceService {
            pending: presence.pending().clone(),
            presence,
            flusher,
            puller,
            pulls: FuturesUnordered::new(),
            waiting: HashMap::new(),
            log: SessionLog::default(),
            renewals: None,
            grants: HashMap::new(),
            revoked: None,
        }
    }

    /// The same behind `gateway`, which checks the tokens that sessions are renewed with, and names
    /// users for the log.
    #[must_use]
    pub fn behind(self, gateway: &Arc<Gateway>) -> PresenceService {
        PresenceService {
            log: SessionLog::new(gateway.user_names.clone()),
            renewals: Some(Renewals(gateway.clone())),
            ..self
        }
    }

    /// The same, which has sessions ended whose tokens were revoked while they opened.
    #[must_use]
    pub fn heeding(
        self,
        revocations: Arc<Revocations>,
        sessions: Arc<RevokedSessions>,
    ) -> PresenceService {
        PresenceService {
            revoked: Some((revocations, sessions)),
            ..self
        }
    }

    /// A session has ended.
    fn forget(&mut self, session: SessionId) {
        self.log.closed(session);
        self.grants.remove(&session.key);
    }

    fn grant(&self, key: SessionKey) -> Grant {
        self.grants.get(&key).copied().unwrap_or_default()
    }

    fn set_grant(&mut self, key: SessionKey, grant: Grant) {
        if grant == Grant::default() {
            self.grants.remove(&key);
        } else {
            self.grants.insert(key, grant);
        }
    }

    fn pull(&mut self, key: SessionKey, slot: Slot, pull: Pull) -> Result<(), Fault> {
        if !self.grant(key).reads {
            return Err(Fault {
                number: Some(pull.number),
                error: PullError::Scope,
            });
        }
        // A session keeps its user's slot.
        let Some(user) = self.presence.users().user(slot) else {
            return Ok(());
        };
        let waiting = self.waiting.entry(key).or_default();
        if *waiting == PULLS_PER_SESSION_MAX {
            return Err(Fault {
                number: Some(pull.number),
                error: PullError::TooManyPulls,
            });
        }
        *waiting += 1;
        let asked = self.puller.ask(self.puller.asker(&user), pull.asked.users);
        let (number, invalid) = (pull.number, pull.asked.invalid);
        self.pulls.push(Box::pin(async move {
            let answer = async {
                match asked.await {
                    Ok(answer) => Some(Answer { invalid, ..answer }.json(Some(number))),
                    Err(NoAnswer::Refused(error)) => Some(pull_error_json(&error, Some(number))),
                    Err(NoAnswer::Stopping) => None,
                }
            };
            // A client that hears nothing would wait for ever.
            let fault = || Some(error_json("internal", INTERNAL, Some(number)));
            (key, catch(Task::LookUp, answer).await.unwrap_or_else(fault))
        }));
        Ok(())
    }

    fn renew(
        &mut self,
        key: SessionKey,
        slot: Slot,
        token: &str,
        replies: &mut Replies<'_, Plain<false>>,
    ) {
        // A session keeps its user's slot.
        if let Some(user) = self.presence.users().user(slot)
            && let Some(renewals) = &self.renewals
        {
            let (grant, caller) = (self.grant(key), self.log.caller(key));
            if let Some(grant) = renewals.show((&user, grant), token, caller, replies) {
                self.set_grant(key, grant);
            }
        }
    }

    fn answered(&mut self, key: SessionKey) {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(&key);
            }
        }
    }
}

impl Service for PresenceService {
    type Peer = Visitor;
    type Handle = Slot;

    type Dialect = Plain<false>;

    fn opened(
        &mut self,
        visitor: Visitor,
        session: SessionId,
        replies: &mut Replies<'_, Self::Dialect>,
    ) -> Opened<Slot> {
        if let Some(expires_in_s) = visitor.answer_s {
            replies.text(&token_json(Ok(expires_in_s)));
        }
        let clock = self.presence.clock();
        self.log.opened(session, visitor.caller, clock.now());
        self.set_grant(session.key, visitor.grant);
        let live = Live {
            connected_at_ms: clock.unix_ms(),
            session,
        };
        let connected = self.presence.connect(&visitor.user, live);
        let slot = connected.slot;
        // Only now does a revocation find it in the directory.
        if let Some((revocations, sessions)) = &self.revoked
            && revocations.refuse(&visitor.user, &visitor.token, clock.unix_ms() / 1000)
        {
            sessions.end_late(session);
        }
        if caught(Task::Open, || self.flusher.write_now(slot)).is_none() {
            // The next flush does it.
            self.pending.record(slot);
        }
        Opened {
            handle: connected.slot,
            replaced: connected.replaced,
        }
    }

    #[inline]
    fn heard(&mut self, slot: Slot) {
        self.pending.record(slot);
    }

    fn message(
        &mut self,
        key: SessionKey,
        slot: Slot,
        message: Message<'_>,
        replies: &mut Replies<'_, Self::Dialect>,
    ) {
        let (Message::Text(text) | Message::Binary(text)) = message;
        if self.puller.is_crowded()
            && self.waiting.contains_key(&key)
            && let Some(number) = client_message::pull_number(text)
        {
            let refused = pull_error_json(&PullError::Overloaded, Some(number));
            return replies.text(&refused);
        }
        let done = match client_message::parse(text) {
            Ok(ClientMessage::Pull(pull)) => self.pull(key, slot, pull),
            Ok(ClientMessage::Token(token)) => {
                self.renew(key, slot, &token, replies);
                Ok(())
            }
            Err(fault) => Err(fault),
        };
        if let Err(fault) = done {
            replies.text(&fault.json());
            if fault.error.is_malformed() {
                replies.malformed();
            }
        }
    }

    fn expiring(&mut self, _: Slot, left: Duration, replies: &mut Replies<'_, Self::Dialect>) {
        if self.renewals.is_some() {
            replies.text(&expiring_json(left.as_secs()));
        }
    }

    fn log_end(&mut self, slot: Slot, session: SessionId, end: CloseReason) {
        let line = self.log.line(&self.presence, slot, session, end);
        if let Some(line) = line {
            line.log();
        }
    }

    fn closed(&mut self, slot: Slot, session: SessionId) {
        self.forget(session);
        self.presence.users().disconnect(slot, session);
    }

    /// Not while a `set` of the user may be on its way: it could reach memcached after that of the
    /// server that the user goes to.
    fn try_close(&mut self, slot: Slot, session: SessionId) -> bool {
        let end = CloseReason::Restart;
        let line = self.log.line(&self.presence, slot, session, end);
        let is_closed = self.presence.users().try_disconnect(slot, session);
        if is_closed {
            if let Some(line) = line {
                line.log();
            }
            self.forget(session);
        }
        is_closed
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<(SessionKey, Vec<u8>)> {
        loop {
            match self.pulls.poll_next_unpin(context) {
                Poll::Ready(Some((key, answer))) => {
                    self.answered(key);
                    if let Some(answer) = answer {
                        return Poll::Ready((key, answer));
                    }
                }
                // The next pull comes from the worker, which then asks again.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}
