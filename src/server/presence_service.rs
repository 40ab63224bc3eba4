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
use presenced_presence::users::{Connected, Live};
use presenced_presence::{Pending, SessionId, Slot, UserId};
use presenced_session::close_reason::CloseReason;
use presenced_session::service::{Begins, Message, Opened, Replies, Service, Then};
use presenced_session::slab::SessionKey;
use presenced_tasks::{Task, catch, caught};

use super::client_message::{self, ClientMessage, Fault, Pull};
use super::renewal::Renewals;
use super::reply_to::{ReplyTo, acknowledgement};
use super::session_log::SessionLog;
use super::socketio_sessions::{Asks, SocketIoAnswer, SocketIoSessions};
use crate::gateway::Gateway;
use crate::gateway::arrival::Arrival;
use crate::gateway::client_dialect::ClientDialect;
use crate::gateway::refusal::Refusal;
use crate::gateway::response::{expiring_json, pull_error_json, token_json};
use crate::limits::PULLS_PER_SESSION_MAX;
use crate::pull::{Answer, Asked, NoAnswer, PullError, Puller, one_or_more};
use crate::revocation::sessions::RevokedSessions;
use crate::tokens::{Grant, Revocations, TokenId};

/// A pull's text for the client; none when the server stops.
type Answered = Pin<Box<dyn Future<Output = (SessionKey, Option<Vec<u8>>)>>>;

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
    /// Where there is Socket.IO.
    socketio: Option<SocketIoSessions>,
}

/// What a session has had to wait for.
#[derive(Debug)]
pub enum SessionAnswer {
    /// What it has pulled, as its client reads it.
    Pulled(Vec<u8>),
    /// What comes of its Socket.IO.
    SocketIo(SocketIoAnswer),
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
            socketio: None,
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

    /// The same, which speaks Socket.IO where `gateway` does, on this worker.
    #[must_use]
    pub fn speaking_socketio(
        self,
        gateway: &Arc<Gateway>,
        config: presenced_session::Config,
        worker: u16,
    ) -> PresenceService {
        PresenceService {
            socketio: SocketIoSessions::new(gateway, config, worker),
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
        if let Some(socketio) = &mut self.socketio {
            socketio.closed(session.key);
        }
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

    /// A session has a user from now on.
    fn connect(
        &mut self,
        session: SessionId,
        user: &UserId,
        grant: Grant,
        token: &TokenId,
    ) -> Connected {
        self.set_grant(session.key, grant);
        let clock = self.presence.clock();
        let live = Live {
            connected_at_ms: clock.unix_ms(),
            session,
        };
        let connected = self.presence.connect(user, live);
        // Only now does a revocation find it in the directory.
        if let Some((revocations, sessions)) = &self.revoked
            && revocations.refuse(user, token, clock.unix_ms() / 1000)
        {
            sessions.end_late(session);
        }
        let slot = connected.slot;
        if caught(Task::Open, || self.flusher.write_now(slot)).is_none() {
            // The next flush does it.
            self.pending.record(slot);
        }
        connected
    }

    /// Whether a question is not even to be read: its session waits for answers, and too much waits already.
    fn is_crowded_by(&self, key: SessionKey) -> bool {
        self.puller.is_crowded() && self.waiting.contains_key(&key)
    }

    fn pull(
        &mut self,
        key: SessionKey,
        slot: Slot,
        asked: Asked,
        reply_to: ReplyTo,
    ) -> Result<(), PullError> {
        if !self.grant(key).reads {
            return Err(PullError::Scope);
        }
        // A session keeps its user's slot.
        let Some(user) = self.presence.users().user(slot) else {
            return Ok(());
        };
        let waiting = self.waiting.entry(key).or_default();
        if *waiting == PULLS_PER_SESSION_MAX {
            return Err(PullError::TooManyPulls);
        }
        *waiting += 1;
        let Asked { users, invalid } = asked;
        let asked = self.puller.ask(self.puller.asker(&user), users);
        self.pulls.push(Box::pin(async move {
            let answer = async {
                match asked.await {
                    Ok(answer) => Some(reply_to.answer(&Answer { invalid, ..answer })),
                    Err(NoAnswer::Refused(error)) => Some(reply_to.refuse(&error)),
                    Err(NoAnswer::Stopping) => None,
                }
            };
            let answer = catch(Task::LookUp, answer).await;
            // A client that hears nothing would wait for ever.
            (key, answer.unwrap_or_else(|| Some(reply_to.fail())))
        }));
        Ok(())
    }

    /// A session is shown another token: for how many seconds it goes on, or why not; `None` if it can't be renewed,
    /// or ends.
    fn renew(
        &mut self,
        key: SessionKey,
        slot: Slot,
        token: &str,
        replies: &mut Replies<'_, ClientDialect>,
    ) -> Option<Result<u64, Refusal>> {
        // A session keeps its user's slot.
        let user = self.presence.users().user(slot)?;
        let (grant, caller) = (self.grant(key), self.log.caller(key));
        let shown = (self.renewals.as_ref()?).show((&user, grant), token, caller, replies)?;
        Some(shown.map(|(expires_in_s, grant)| {
            self.set_grant(key, grant);
            expires_in_s
        }))
    }

    /// A message of the server's own protocol.
    fn plain_message(
        &mut self,
        key: SessionKey,
        slot: Slot,
        text: &[u8],
        replies: &mut Replies<'_, ClientDialect>,
    ) {
        if self.is_crowded_by(key)
            && let Some(number) = client_message::pull_number(text)
        {
            let refused = pull_error_json(&PullError::Overloaded, Some(number));
            return replies.text(&refused);
        }
        let done = match client_message::parse(text) {
            Ok(ClientMessage::Pull(Pull { number, asked }))
                if asked.is_of_nobody() && self.grant(key).reads =>
            {
                replies.text(&self.puller.nobody().json(Some(number)));
                Ok(())
            }
            Ok(ClientMessage::Pull(Pull { number, asked })) => {
                let done = self.pull(key, slot, asked, ReplyTo::Message(number));
                done.map_err(|error| Fault {
                    number: Some(number),
                    error,
                })
            }
            Ok(ClientMessage::Token(token)) => {
                if let Some(answer) = self.renew(key, slot, &token, replies) {
                    replies.text(&token_json(answer));
                }
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

    /// A packet of Socket.IO, or an attachment of one.
    fn socketio_message(
        &mut self,
        key: SessionKey,
        slot: Option<Slot>,
        message: Message<'_>,
        replies: &mut Replies<'_, ClientDialect>,
    ) {
        let now = self.presence.clock().now();
        let Some(socketio) = &mut self.socketio else {
            return;
        };
        let asks = socketio.message(key, message, now, replies);
        // What comes before its namespace is connected ends a session.
        let (Some(asks), Some(slot)) = (asks, slot) else {
            return;
        };
        match asks {
            Asks::Pull { users, reply_to } => {
                let done = match self.is_crowded_by(key) {
                    true => Err(PullError::Overloaded),
                    false => one_or_more(users)
                        .and_then(|asked| self.pull(key, slot, asked, reply_to.clone())),
                };
                if let Err(error) = done {
                    replies.text(&reply_to.refuse(&error));
                    if error.is_malformed() {
                        replies.malformed();
                    }
                }
            }
            Asks::Renewal {
                token,
                namespace,
                id,
            } => {
                let answer = self.renew(key, slot, &token, replies);
                if let (Some(answer), Some(id)) = (answer, id) {
                    replies.text(&acknowledgement(namespace, &id, &token_json(answer)));
                }
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
    type Peer = Arrival;
    /// Not there until a client of Socket.IO has connected.
    type Handle = Option<Slot>;
    type Dialect = ClientDialect;
    type Answer = SessionAnswer;

    fn opened(
        &mut self,
        arrival: Arrival,
        session: SessionId,
        replies: &mut Replies<'_, ClientDialect>,
    ) -> Opened<Option<Slot>> {
        let now = self.presence.clock().now();
        match arrival {
            Arrival::User(visitor) => {
                if let Some(expires_in_s) = visitor.answer_s {
                    replies.text(&token_json(Ok(expires_in_s)));
                }
                self.log.opened(session, visitor.caller, now);
                let (user, grant, token) = (&visitor.user, visitor.grant, &visitor.token);
                let connected = self.connect(session, user, grant, token);
                Opened {
                    handle: Some(connected.slot),
                    replaced: connected.replaced,
                }
            }
            Arrival::SocketIo(newcomer) => {
                self.log.opened(session, newcomer.caller, now);
                if let Some(socketio) = &mut self.socketio {
                    socketio.opened(session, newcomer, now, replies);
                }
                None.into()
            }
        }
    }

    #[inline]
    fn heard(&mut self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            self.pending.record(slot);
        }
    }

    fn message(
        &mut self,
        key: SessionKey,
        slot: Option<Slot>,
        message: Message<'_>,
        replies: &mut Replies<'_, ClientDialect>,
    ) {
        match (replies.dialect(), slot) {
            (ClientDialect::Plain | ClientDialect::Alive, Some(slot)) => {
                let (Message::Text(text) | Message::Binary(text)) = message;
                self.plain_message(key, slot, text, replies);
            }
            // It has a user from its start.
            (ClientDialect::Plain | ClientDialect::Alive, None) => {}
            (ClientDialect::SocketIo, slot) => self.socketio_message(key, slot, message, replies),
        }
    }

    fn expiring(
        &mut self,
        key: SessionKey,
        _: Option<Slot>,
        left: Duration,
        replies: &mut Replies<'_, ClientDialect>,
    ) {
        if self.renewals.is_none() {
            return;
        }
        match (replies.dialect(), &self.socketio) {
            (ClientDialect::SocketIo, Some(socketio)) => socketio.expiring(key, left, replies),
            _ => replies.text(&expiring_json(left.as_secs())),
        }
    }

    fn last_words(
        &mut self,
        key: SessionKey,
        end: CloseReason,
        replies: &mut Replies<'_, ClientDialect>,
    ) {
        if let (ClientDialect::SocketIo, Some(socketio)) = (replies.dialect(), &self.socketio) {
            socketio.last_words(key, end, replies);
        }
    }

    fn log_end(&mut self, slot: Option<Slot>, session: SessionId, end: CloseReason) {
        let line = self.log.line(&self.presence, slot, session, end);
        if let Some(line) = line {
            line.log();
        }
    }

    fn closed(&mut self, slot: Option<Slot>, session: SessionId) {
        self.forget(session);
        if let Some(slot) = slot {
            self.presence.users().disconnect(slot, session);
        }
    }

    /// Not while a `set` of the user may be on its way: it could reach memcached after that of the
    /// server that the user goes to.
    fn try_close(&mut self, slot: Option<Slot>, session: SessionId) -> bool {
        let end = CloseReason::Restart;
        let line = self.log.line(&self.presence, slot, session, end);
        let is_closed = slot.is_none_or(|slot| self.presence.users().try_disconnect(slot, session));
        if is_closed {
            if let Some(line) = line {
                line.log();
            }
            self.forget(session);
        }
        is_closed
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<(SessionKey, SessionAnswer)> {
        if let Some(socketio) = &mut self.socketio
            && let Poll::Ready((key, answer)) = socketio.poll_answer(context)
        {
            return Poll::Ready((key, SessionAnswer::SocketIo(answer)));
        }
        loop {
            match self.pulls.poll_next_unpin(context) {
                Poll::Ready(Some((key, answer))) => {
                    self.answered(key);
                    if let Some(answer) = answer {
                        return Poll::Ready((key, SessionAnswer::Pulled(answer)));
                    }
                }
                // The next pull comes from the worker, which then asks again.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn answer(
        &mut self,
        session: SessionId,
        slot: &mut Option<Slot>,
        answer: SessionAnswer,
        replies: &mut Replies<'_, ClientDialect>,
    ) -> Result<Then, CloseReason> {
        let answer = match answer {
            SessionAnswer::Pulled(text) => {
                replies.text(&text);
                return Ok(Then::Nothing);
            }
            SessionAnswer::SocketIo(answer) => answer,
        };
        let Some(socketio) = &mut self.socketio else {
            return Ok(Then::Nothing);
        };
        match answer {
            SocketIoAnswer::PipeEvent(event) => Ok(event.then()),
            SocketIoAnswer::NotConnected(why) => socketio
                .not_connected(session.key, why)
                .map(|()| Then::Nothing),
            // A CONNECT to another namespace came before it, and was let in meanwhile.
            SocketIoAnswer::Left if socketio.is_connected(session.key) => Ok(Then::Nothing),
            SocketIoAnswer::Left => {
                if let Some(slot) = slot.take() {
                    self.presence.users().disconnect(slot, session);
                }
                self.grants.remove(&session.key);
                Ok(Then::Begin(Begins {
                    expires_at: Duration::MAX,
                    replaced: None,
                }))
            }
            SocketIoAnswer::Shown { namespace, shown } => {
                let user = slot.and_then(|slot| self.presence.users().user(slot));
                let grant = self.grants.get(&session.key).copied().unwrap_or_default();
                let known = user.as_ref().map(|user| (user, grant));
                let socket_id = self.presence.record().socket_id(session);
                let connects = socketio.connect(
                    session.key,
                    (&namespace, &socket_id),
                    known,
                    shown,
                    replies,
                )?;
                let Some((identity, expires_at)) = connects else {
                    return Ok(Then::Nothing);
                };
                let (user, grant, token) = (&identity.user, identity.grant, &identity.token);
                let connected = self.connect(session, user, grant, token);
                *slot = Some(connected.slot);
                Ok(Then::Begin(Begins {
                    expires_at,
                    replaced: connected.replaced,
                }))
            }
        }
    }
}
