//! Sessions of Socket.IO on one worker: which namespaces their clients are connected to, and what their packets
//! ask for.
//!
//! A client that has connected once, to `/`, and waits for nothing has nothing here; that is what most of them do.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use hashbrown::HashMap;
use presenced_presence::{SessionId, UserId};
use presenced_session::close_reason::CloseReason;
use presenced_session::service::{Message, Replies};
use presenced_session::slab::SessionKey;
use presenced_socketio::packet::{Event, Id, Name, encode, token};
use presenced_socketio::{Connection, Effect, End};
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::renewal::is_of;
use super::reply_to::ReplyTo;
use crate::gateway::Gateway;
use crate::gateway::arrival::{Newcomer, Shown};
use crate::gateway::caller::Caller;
use crate::gateway::client_dialect::ClientDialect;
use crate::gateway::pipe::PipeEvent;
use crate::gateway::refusal::Refusal;
use crate::gateway::shared_places::Place as HttpPlace;
use crate::gateway::socketio::{SocketIo, SocketIoWorker};
use crate::limits::RENEWAL_FRAMES;
use crate::tokens::{Grant, Identity};

/// A session's, as long as it is not like most others.
#[derive(Debug)]
struct Unusual {
    connection: Connection,
    /// Until it has connected.
    waiting: Option<Box<Waiting>>,
}

/// What is kept of a client that has not connected.
#[derive(Debug)]
struct Waiting {
    caller: Option<Caller>,
    /// What its handshake has shown.
    shown: Option<Shown>,
    _wait: Wait,
}

/// The wait for a client's CONNECT, which is over when this is dropped.
#[derive(Debug)]
struct Wait(AbortHandle);

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Waits = Pin<Box<dyn Future<Output = (SessionKey, CloseReason)>>>;
type Checks = Pin<Box<dyn Future<Output = (SessionKey, SocketIoAnswer)>>>;

/// All sessions of Socket.IO that a worker has.
#[derive(Debug)]
pub(super) struct SocketIoSessions {
    gateway: Arc<Gateway>,
    socketio: Arc<SocketIo>,
    config: presenced_session::Config,
    unusual: HashMap<SessionKey, Unusual>,
    worker: SocketIoWorker,
    /// What need not be waited for.
    ready: VecDeque<(SessionKey, SocketIoAnswer)>,
    /// Tokens that are being checked.
    checks: FuturesUnordered<Checks>,
    /// Clients that have not connected.
    waits: FuturesUnordered<Abortable<Waits>>,
}

/// What a session has had to wait for.
#[derive(Debug)]
pub enum SocketIoAnswer {
    /// What a CONNECT has shown.
    Shown {
        /// The namespace.
        namespace: Box<str>,
        /// Whose token it has; `None` if it has none.
        shown: Option<Shown>,
    },
    /// The client has left the last of its namespaces.
    Left,
    /// The client may wait no longer with its CONNECT.
    NotConnected(CloseReason),
    /// One of its requests has come to some worker.
    PipeEvent(PipeEvent),
}

/// What an event asks for.
pub(super) enum Asks<'a> {
    /// Who is online.
    Pull {
        /// Whom it asks for: an array of ids, or one id.
        users: Option<&'a RawValue>,
        /// How it is answered.
        reply_to: ReplyTo,
    },
    /// To go on with another token.
    Renewal {
        token: Cow<'a, str>,
        namespace: &'a str,
        /// If it is to be acknowledged.
        id: Option<Id>,
    },
}

/// The event with which a client asks who is online.
const PULL: &str = "presence:pull";
/// The event with which a client shows another token.
const TOKEN: &str = "presence:token";
/// The event that tells a client that its session ends soon.
const EXPIRING: &str = "presence:expiring";

/// Places that are kept for sessions that are not like most others, whether there are any or not.
const SPARE_MIN: usize = 256;

/// The namespaces of most sessions: only the first one, which is `/`.
const USUAL: u8 = 1;

impl SocketIoSessions {
    /// As `gateway` speaks it; `None` if it does not.
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        config: presenced_session::Config,
        worker: u16,
    ) -> Option<SocketIoSessions> {
        let socketio = gateway.socketio.clone()?;
        Some(SocketIoSessions {
            worker: SocketIoWorker::new(&socketio, worker),
            socketio,
            gateway: gateway.clone(),
            config,
            unusual: HashMap::new(),
            ready: VecDeque::new(),
            checks: FuturesUnordered::new(),
            waits: FuturesUnordered::new(),
        })
    }

    /// A session begins: it is told so, and must connect to a namespace soon.
    pub(super) fn opened(
        &mut self,
        session: SessionId,
        newcomer: Newcomer,
        now: Duration,
        replies: &mut Replies<'_, ClientDialect>,
    ) {
        let key = session.key;
        let open = self.worker.open(session, &newcomer, &self.config);
        replies.text(&open);
        let waiting = Waiting {
            caller: Some(newcomer.caller),
            shown: newcomer.shown,
            _wait: self.wait(key, Some(newcomer.place)),
        };
        let connection = Connection::new(now, &self.socketio.config.rules);
        self.keep(key, connection, Some(Box::new(waiting)));
    }

    /// A session has ended.
    pub(super) fn closed(&mut self, key: SessionKey) {
        self.unusual.remove(&key);
    }

    /// Handles a packet, or an attachment of one; what is left to do is returned.
    pub(super) fn message<'a>(
        &mut self,
        key: SessionKey,
        message: Message<'a>,
        now: Duration,
        replies: &mut Replies<'_, ClientDialect>,
    ) -> Option<Asks<'a>> {
        let socketio = self.socketio.clone();
        let rules = &socketio.config.rules;
        let (mut connection, mut waiting) = self.take(key);
        let effect = connection.tick(now).and_then(|()| match message {
            Message::Text(text) => connection.text(text, now, rules),
            Message::Binary(data) => connection.binary(data).map(|()| Effect::Nothing),
        });
        let is_connected = connection.namespaces(rules).next().is_some();
        if let Ok(Effect::Left { .. }) = effect
            && !is_connected
        {
            self.ready.push_back((key, SocketIoAnswer::Left));
            // It has shown who it is: it needs no place.
            waiting = Some(Box::new(Waiting {
                caller: None,
                shown: None,
                _wait: self.wait(key, None),
            }));
        }
        let caller = waiting.as_ref().and_then(|waiting| waiting.caller);
        self.keep(key, connection, waiting);
        match effect {
            Ok(Effect::Authenticate { namespace, auth }) => {
                self.authenticate(key, namespace, auth, caller, replies);
                None
            }
            Ok(Effect::InvalidNamespace { namespace }) => {
                let mut packet = Vec::new();
                encode::invalid_namespace(&mut packet, namespace);
                replies.text(&packet);
                None
            }
            Ok(Effect::Event { namespace, event }) => asks(namespace, &event),
            Ok(Effect::Left { .. } | Effect::Nothing) => None,
            Err(end) => {
                tracing::debug!(reason = %end, "a packet ends a session of Socket.IO");
                replies.end(close_reason(end));
                None
            }
        }
    }

    /// Looks at what a CONNECT shows. [`SocketIoSessions::connect`] goes on with it.
    fn authenticate(
        &mut self,
        key: SessionKey,
        namespace: &str,
        auth: Option<&str>,
        caller: Option<Caller>,
        replies: &mut Replies<'_, ClientDialect>,
    ) {
        let namespace = namespace.into();
        let Some(token) = auth.and_then(token) else {
            let answer = SocketIoAnswer::Shown {
                namespace,
                shown: None,
            };
            return self.ready.push_back((key, answer));
        };
        // Its signature costs more than a look at a pull.
        replies.costs(RENEWAL_FRAMES);
        let (gateway, token) = (self.gateway.clone(), token.into_owned());
        self.checks.push(Box::pin(async move {
            let shown = gateway.shown(&gateway.live.get(), &token, caller).await;
            let answer = SocketIoAnswer::Shown {
                namespace,
                shown: Some(shown),
            };
            (key, answer)
        }));
    }

    /// Lets a client into a namespace, or refuses it; the session is known to its user by `socket_id`. Returns the
    /// user whose session it is from now on, and until when, if it has not been anybody's.
    ///
    /// # Errors
    ///
    /// Why the session must end: clients come back from that, and not from a refusal.
    pub(super) fn connect(
        &mut self,
        key: SessionKey,
        (namespace, socket_id): (&str, &str),
        known: Option<(&UserId, Grant)>,
        shown: Option<Shown>,
        replies: &mut Replies<'_, ClientDialect>,
    ) -> Result<Option<(Identity, Duration)>, CloseReason> {
        let socketio = self.socketio.clone();
        let rules = &socketio.config.rules;
        let (mut connection, mut waiting) = self.take(key);
        let caller = waiting.as_ref().and_then(|waiting| waiting.caller);
        let handshake = waiting.as_ref().and_then(|waiting| waiting.shown.clone());
        let mut packet = Vec::new();
        let begins = match self.whose(known, shown, handshake, caller) {
            Ok(begins) => match connection.accept(namespace, rules) {
                None => Ok(None),
                Some(number) => {
                    let sid = match number {
                        0 => Cow::Borrowed(socket_id),
                        _ => Cow::Owned(format!("{socket_id}-{number}")),
                    };
                    encode::connected(&mut packet, namespace, &sid);
                    waiting = None;
                    Ok(begins)
                }
            },
            Err(refusal) => {
                self.gateway.refused(refusal, caller);
                let facts = refusal.facts();
                if connection.refuse(namespace, rules) {
                    let code = Some(facts.code);
                    encode::connect_error(&mut packet, namespace, facts.message, code);
                }
                match facts.retry_s {
                    None => Ok(None),
                    Some(_) => {
                        packet.clear();
                        Err(CloseReason::Overloaded)
                    }
                }
            }
        };
        self.keep(key, connection, waiting);
        if !packet.is_empty() {
            replies.text(&packet);
        }
        begins
    }

    /// Whose a session is from now on, if it has not been anybody's. What its CONNECT has shown counts before what its
    /// handshake has.
    fn whose(
        &self,
        known: Option<(&UserId, Grant)>,
        shown: Option<Shown>,
        handshake: Option<Shown>,
        caller: Option<Caller>,
    ) -> Result<Option<(Identity, Duration)>, Refusal> {
        if let Some(known) = known {
            return match shown {
                // It is known whose all of the connection is.
                None => Ok(None),
                Some(Ok((identity, _))) if is_of(known, &identity) => Ok(None),
                Some(Ok(_)) => Err(Refusal::AnotherUser),
                Some(Err(refusal)) => Err(refusal),
            };
        }
        let (identity, expires_at) = shown.or(handshake).ok_or(Refusal::TokenMissing)??;
        if expires_at <= self.gateway.clock.wall() {
            return Err(Refusal::TokenExpired);
        }
        let address = caller.map(|Caller(address)| address);
        self.gateway.rates.is_of(&identity.user, address)?;
        Ok(Some((identity, expires_at)))
    }

    /// The time for a client's CONNECT is over, or its place is needed.
    pub(super) fn not_connected(
        &self,
        key: SessionKey,
        why: CloseReason,
    ) -> Result<(), CloseReason> {
        match self.unusual.get(&key) {
            Some(Unusual {
                waiting: Some(_), ..
            }) => Err(why),
            // It has connected at the same moment.
            _ => Ok(()),
        }
    }

    /// Tells a client that its session ends soon.
    pub(super) fn expiring(
        &self,
        key: SessionKey,
        left: Duration,
        replies: &mut Replies<'_, ClientDialect>,
    ) {
        let (mut packet, left_s) = (Vec::new(), left.as_secs());
        let args = format!(r#"{{"expiresIn":{left_s}}}"#);
        if let Some(namespace) = self.namespaces(key).first() {
            encode::event(&mut packet, namespace, EXPIRING, args.as_bytes());
            replies.text(&packet);
        }
    }

    /// Clients come back after any end but one that is told in their namespaces: then two devices that take turns
    /// would do so for ever, and a revoked token would be shown again and again.
    pub(super) fn last_words(
        &self,
        key: SessionKey,
        end: CloseReason,
        replies: &mut Replies<'_, ClientDialect>,
    ) {
        if !matches!(end, CloseReason::Replaced | CloseReason::TokenRevoked) {
            return;
        }
        for namespace in self.namespaces(key) {
            let mut packet = Vec::new();
            encode::disconnect(&mut packet, namespace);
            replies.text(&packet);
        }
    }

    /// Whether a client is connected to a namespace.
    pub(super) fn is_connected(&self, key: SessionKey) -> bool {
        !self.namespaces(key).is_empty()
    }

    /// The namespaces that a client is connected to.
    fn namespaces(&self, key: SessionKey) -> Vec<&str> {
        let rules = &self.socketio.config.rules;
        match self.unusual.get(&key) {
            Some(unusual) => unusual.connection.namespaces(rules).collect(),
            None => Connection::from_parts(USUAL, None)
                .namespaces(rules)
                .collect(),
        }
    }

    /// Something that a session waits for.
    pub(super) fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<(SessionKey, SocketIoAnswer)> {
        if let Some(ready) = self.ready.pop_front() {
            return Poll::Ready(ready);
        }
        if let Poll::Ready(event) = self.worker.poll_event(context) {
            return Poll::Ready((event.key(), SocketIoAnswer::PipeEvent(event)));
        }
        if let Poll::Ready(Some(checked)) = self.checks.poll_next_unpin(context) {
            return Poll::Ready(checked);
        }
        loop {
            match self.waits.poll_next_unpin(context) {
                Poll::Ready(Some(Ok((key, why)))) => {
                    return Poll::Ready((key, SocketIoAnswer::NotConnected(why)));
                }
                // It has connected, or is gone.
                Poll::Ready(Some(Err(_))) => {}
                // The next one comes from the worker, which then asks again.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Waits for a client's CONNECT, which has a place until then.
    fn wait(&self, key: SessionKey, place: Option<HttpPlace>) -> Wait {
        let time = self.socketio.config.rules.connect_timeout;
        let wait = async move {
            let evicted = async {
                match &place {
                    Some(place) => place.evicted().await,
                    None => std::future::pending().await,
                }
            };
            let why = tokio::select! {
                () = evicted => CloseReason::Overloaded,
                () = sleep(time) => CloseReason::ConnectTimeout,
            };
            (key, why)
        };
        let (handle, registration) = AbortHandle::new_pair();
        let wait: Waits = Box::pin(wait);
        self.waits.push(Abortable::new(wait, registration));
        Wait(handle)
    }

    fn take(&mut self, key: SessionKey) -> (Connection, Option<Box<Waiting>>) {
        match self.unusual.remove(&key) {
            Some(unusual) => (unusual.connection, unusual.waiting),
            None => (Connection::from_parts(USUAL, None), None),
        }
    }

    fn keep(&mut self, key: SessionKey, connection: Connection, waiting: Option<Box<Waiting>>) {
        let (connected, rest) = connection.into_parts();
        if connected == USUAL && rest.is_none() && waiting.is_none() {
            // A storm of newcomers may have come and gone.
            if self.unusual.capacity() > SPARE_MIN
                && self.unusual.len() < self.unusual.capacity() / 8
            {
                self.unusual.shrink_to(2 * self.unusual.len());
            }
            return;
        }
        let connection = Connection::from_parts(connected, rest);
        let unusual = Unusual {
            connection,
            waiting,
        };
        self.unusual.insert(key, unusual);
    }
}

/// What an event asks for, if it is one that means something here.
fn asks<'a>(namespace: &'a str, event: &Event<'a>) -> Option<Asks<'a>> {
    let Name::Text(name) = &event.name else {
        return None;
    };
    match &**name {
        // Without an acknowledgement there is no way to answer.
        PULL => Some(Asks::Pull {
            users: event.argument(),
            reply_to: ReplyTo::Event {
                namespace: namespace.into(),
                id: event.id?,
            },
        }),
        TOKEN => Some(Asks::Renewal {
            token: event.argument().unwrap_or_default(),
            namespace,
            id: event.id,
        }),
        _ => None,
    }
}

fn close_reason(end: End) -> CloseReason {
    match end {
        End::ConnectTimeout => CloseReason::ConnectTimeout,
        End::AttachmentTimeout => CloseReason::MessageTimeout,
        End::AttachmentsTooBig => CloseReason::TooBig,
        _ => CloseReason::Protocol,
    }
}
