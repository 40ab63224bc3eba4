//! Requests of Socket.IO clients: Engine.IO's rules first, then those of any request or WebSocket.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use clap::ValueEnum;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, HeaderValue, ORIGIN, SET_COOKIE, UPGRADE,
};
use hyper::{Method, Request};
use presenced_presence::SessionId;
use presenced_presence::limits::SHARDS;
use presenced_session::Seat;
use presenced_session::handshake::{check_upgrade, switching_protocols};
use presenced_session::slab::SessionKey;
use presenced_socketio::engine::{
    self, Live, Open, Place, Query, Route, SidKey, Times, TransportName,
};
use presenced_socketio::{End, Rules};
use tokio::sync::{mpsc, oneshot};

use super::Gateway;
use super::arrival::{Newcomer, Shown};
use super::caller::Caller;
use super::cors::preflight;
use super::exchange::Arriving;
use super::handshake::{Accepted, Upgraded, seat};
use super::held_poll;
use super::live;
use super::pipe::{NotTaken, Pipe, PipeEvent, Pipes, PollWait, PollingRelay};
use super::places::Standing;
use super::refusal::{Refusal, RequestFault};
use super::request::is_compressed;
use super::response::{Answer, with_type};
use super::token;
use crate::tokens::Purpose;

/// Which transports of Socket.IO there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Transports {
    /// HTTP long-polling and WebSocket: what clients use by default
    #[default]
    All,
    /// WebSocket only: clients must set transports: ['websocket']
    WebsocketOnly,
    /// None: Socket.IO is not served
    Off,
}

/// What an operator may set of Socket.IO.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether there is polling.
    pub has_polling: bool,
    /// Where it is: begins and ends with `/`.
    pub path: String,
    /// Namespaces, and how long a client may be without one.
    pub rules: Rules,
    /// How long a client may take to go over to a WebSocket, and what may wait for it.
    pub times: Times,
    /// Longest body and longest message from a client, in bytes.
    pub payload_bytes_max: usize,
    /// The cookie by which balancers know this server: its name and its value.
    pub cookie: Option<(String, String)>,
}

/// Socket.IO, where it is on.
#[derive(Debug)]
pub struct SocketIo {
    /// What was set.
    pub config: Config,
    /// Makes the ids of sessions.
    sids: SidKey,
    /// Of sessions that poll.
    pipes: Arc<Pipes>,
    /// By worker.
    workers: [OnceLock<mpsc::UnboundedSender<PipeEvent>>; SHARDS],
}

/// A worker's side of the requests of its Socket.IO sessions, which may come to any worker.
#[derive(Debug)]
pub struct SocketIoWorker {
    socketio: Arc<SocketIo>,
    sender: mpsc::UnboundedSender<PipeEvent>,
    events: mpsc::UnboundedReceiver<PipeEvent>,
}

impl SocketIoWorker {
    /// Of the worker with this number. There is one of each.
    pub fn new(socketio: &Arc<SocketIo>, number: u16) -> SocketIoWorker {
        let (sender, events) = mpsc::unbounded_channel();
        if let Some(worker) = socketio.workers.get(usize::from(number)) {
            let is_first = worker.set(sender.clone()).is_ok();
            debug_assert!(is_first, "two workers {number}");
        }
        SocketIoWorker {
            socketio: socketio.clone(),
            sender,
            events,
        }
    }

    /// A session begins. Returns its open packet, which is the first that its client is told.
    pub fn open(
        &self,
        session: SessionId,
        newcomer: &Newcomer,
        config: &presenced_session::Config,
    ) -> Vec<u8> {
        if let Some(pipe) = &newcomer.pipe {
            self.socketio.pipes.insert(session, pipe.clone());
            pipe.begin(session, self.sender.clone());
        }
        let open = Open {
            sid: &self.socketio.sid(session),
            can_upgrade: newcomer.pipe.is_some(),
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            payload_bytes_max: self.socketio.config.payload_bytes_max,
        };
        let mut packet = Vec::new();
        open.write(&mut packet);
        packet
    }

    /// The next event of its sessions' requests.
    pub fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<PipeEvent> {
        match self.events.poll_recv(context) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            // It has a sender itself, so there is no end.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// What a request comes to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An answer.
    Answer(Answer),
    /// After this answer the connection is a WebSocket.
    Upgrade(Accepted),
    /// A session that polls, which says what the answer is.
    Begin(Polling),
    /// There is nothing to answer yet.
    Hold(PollWait),
}

/// A session that begins to poll.
#[derive(Debug)]
pub(super) struct Polling {
    pub(super) newcomer: Newcomer,
    pub(super) relay: PollingRelay,
    pub(super) seat: Seat,
    pub(super) wait: PollWait,
}

/// The session that a request names.
enum Named {
    Polls(Arc<Pipe>, Live),
    IsOnWebSocket,
}

impl Named {
    fn live(&self) -> Live {
        match self {
            Named::Polls(_, live) => *live,
            Named::IsOnWebSocket => Live::WebSocket,
        }
    }
}

/// A request that is refused: for what reason, and what Engine.IO calls it.
#[derive(Clone, Copy, Debug)]
pub struct EngineRefusal {
    /// Why.
    pub refusal: Refusal,
    /// The answer's body, if the client is to be told in Engine.IO's words.
    pub told: Option<engine::Refusal>,
}

impl From<engine::Refusal> for EngineRefusal {
    fn from(refusal: engine::Refusal) -> EngineRefusal {
        EngineRefusal {
            refusal: Refusal::Engine(refusal),
            told: Some(refusal),
        }
    }
}

impl From<NotTaken> for EngineRefusal {
    fn from(_: NotTaken) -> EngineRefusal {
        engine::Refusal::BadRequest.into()
    }
}

impl SocketIo {
    /// As `config` says, with a random key.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn new(config: Config) -> Result<SocketIo, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(SocketIo {
            config,
            sids: SidKey::new(&key),
            pipes: Arc::default(),
            workers: [const { OnceLock::new() }; SHARDS],
        })
    }

    /// Answers a request for its path.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub(super) async fn respond(
        &self,
        request: Request<Arriving>,
        (gateway, live): (&Gateway, &live::Live),
    ) -> Result<Outcome, EngineRefusal> {
        let is_preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(ORIGIN)
            && request
                .headers()
                .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if is_preflight && live.origins.allow(request.headers()) {
            return Ok(Outcome::Answer(preflight(request.headers())));
        }
        let mut query = Query::new(request.uri().query().unwrap_or_default().as_bytes());
        if !self.config.has_polling {
            query.transport = query
                .transport
                .filter(|name| *name == TransportName::WebSocket);
        }
        let named = match &query.sid {
            Some(sid) => self.named(sid).await,
            None => None,
        };
        let admitted = admit(&request, query.sid.is_none(), gateway, live);
        let asked = engine::Request {
            method: match *request.method() {
                Method::GET => engine::Method::Get,
                Method::POST => engine::Method::Post,
                _ => engine::Method::Other,
            },
            is_upgrade: request.headers().contains_key(UPGRADE),
            query: &query,
            session: named.as_ref().map(Named::live),
            admitted: admitted.map_err(engine_refusal),
        };
        let route = asked.route().map_err(|told| match admitted {
            Err(refusal) if told == engine_refusal(refusal) => refused(refusal),
            _ => told.into(),
        })?;
        let pipe = match named {
            Some(Named::Polls(pipe, _)) => Some(pipe),
            _ => None,
        };
        match (route, pipe) {
            (Route::Poll, Some(pipe)) => poll(&request, &pipe),
            (Route::Post, Some(pipe)) => self.post(request, &pipe).await.map(Outcome::Answer),
            (Route::Upgrade, Some(pipe)) => {
                let accept = check_upgrade(&request).map_err(plain)?;
                Ok(Outcome::Upgrade(Accepted {
                    upgraded: Upgraded::Probe(pipe.probe()?, self.config.times.upgrade_timeout),
                    answer: switching_protocols(accept, None),
                }))
            }
            (Route::HandshakeWebSocket, _) => {
                let accept = check_upgrade(&request).map_err(plain)?;
                let seat = seat(gateway).map_err(refused)?;
                let shown = shown(&request, gateway, live).await;
                let mut answer = switching_protocols(accept, None);
                self.set_cookie(request.headers().get(ORIGIN), gateway, &mut answer);
                Ok(Outcome::Upgrade(Accepted {
                    upgraded: Upgraded::SocketIo(shown, seat),
                    answer,
                }))
            }
            (Route::Handshake, _) => self.begin(&request, gateway, live).await,
            // A session that is on a WebSocket is asked for nothing else.
            (Route::Poll | Route::Post | Route::Upgrade, None) => {
                Err(engine::Refusal::BadRequest.into())
            }
        }
    }

    /// Begins a session that polls.
    async fn begin(
        &self,
        request: &Request<Arriving>,
        gateway: &Gateway,
        live: &live::Live,
    ) -> Result<Outcome, EngineRefusal> {
        let caller = Caller::of(request).ok_or_else(|| refused(Refusal::Busy))?;
        let seat = seat(gateway).map_err(refused)?;
        // Its own, as its client's connections come and go.
        let place = gateway.places.enter(caller.0, Standing::Awaited);
        let place = place.map_err(|full| refused(full.into()))?;
        let shown = shown(request, gateway, live).await;
        let (pipe, wait) = Pipe::new(self.config.times);
        Ok(Outcome::Begin(Polling {
            newcomer: Newcomer {
                caller,
                shown,
                place,
                pipe: Some(pipe.clone()),
            },
            relay: PollingRelay::new(pipe, self.pipes.clone()),
            seat,
            wait,
        }))
    }

    /// Sets the cookie by which balancers know this server. One for other sites' pages has to be secure.
    pub(super) fn set_cookie(
        &self,
        origin: Option<&HeaderValue>,
        gateway: &Gateway,
        answer: &mut Answer,
    ) {
        let Some((name, value)) = &self.config.cookie else {
            return;
        };
        let is_https = origin.is_some_and(|origin| origin.as_bytes().starts_with(b"https:"));
        let site = match (is_https, &gateway.tls) {
            (true, _) => "SameSite=None; Secure",
            (false, Some(_)) => "SameSite=Lax; Secure",
            // A proxy may end TLS, or there may be none.
            (false, None) => "SameSite=Lax",
        };
        let cookie = format!(
            "{name}={value}; Path={}; HttpOnly; {site}",
            self.config.path
        );
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            answer.headers_mut().insert(SET_COOKIE, cookie);
        }
    }

    /// Takes the packets of a POST.
    async fn post(
        &self,
        request: Request<Arriving>,
        pipe: &Arc<Pipe>,
    ) -> Result<Answer, EngineRefusal> {
        let media_type = request.headers().get(CONTENT_TYPE);
        if media_type.is_some_and(|media_type| {
            media_type
                .as_bytes()
                .starts_with(b"application/octet-stream")
        }) {
            pipe.end(End::BadBody);
            return Err(engine::Refusal::BadRequest.into());
        }
        if is_compressed(request.headers()) {
            return Err(plain(Refusal::Compressed));
        }
        let bytes_max = self.config.payload_bytes_max;
        let post = pipe.post()?;
        let body = Limited::new(request.into_body(), bytes_max).collect().await;
        let body = match body {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                post.refuse();
                return Err(plain(Refusal::BodyTooBig));
            }
            Err(_) => return Err(plain(Refusal::BadRequest(RequestFault::BrokenBody))),
        };
        let taken = post.take(body.into());
        // Its session has ended.
        taken.await.map_err(|_| engine::Refusal::BadRequest)?;
        Ok(with_type(200, "text/html", "ok".into()))
    }

    /// The session that a `sid` names, if it is there.
    async fn named(&self, sid: &[u8]) -> Option<Named> {
        let place = self.sids.place(sid)?;
        let session = SessionId {
            worker: place.worker,
            key: SessionKey {
                index: place.index,
                generation: place.generation,
            },
        };
        if let Some(pipe) = self.pipes.get(session) {
            let live = pipe.live()?;
            return Some(Named::Polls(pipe, live));
        }
        let (asks, is_there) = oneshot::channel();
        let worker = self.workers.get(usize::from(session.worker))?.get()?;
        worker.send(PipeEvent::IsOpen(session.key, asks)).ok()?;
        is_there.await.ok().map(|()| Named::IsOnWebSocket)
    }

    /// The Engine.IO id of a session.
    fn sid(&self, session: SessionId) -> engine::Sid {
        self.sids.sid(Place {
            worker: session.worker,
            index: session.key.index,
            generation: session.key.generation,
        })
    }
}

fn poll(request: &Request<Arriving>, pipe: &Arc<Pipe>) -> Result<Outcome, EngineRefusal> {
    if !request.body().is_end_stream() {
        return Err(engine::Refusal::BadRequest.into());
    }
    let mut wait = pipe.poll()?;
    Ok(match wait.answer.try_recv() {
        Ok(body) => Outcome::Answer(held_poll::answer(body)),
        Err(_) => Outcome::Hold(wait),
    })
}

/// What a handshake shows of its user.
async fn shown<B>(request: &Request<B>, gateway: &Gateway, live: &live::Live) -> Option<Shown> {
    match token::in_request(request, live.allow_query_token) {
        Ok(None) => None,
        Ok(Some(token)) => Some(gateway.shown(live, &token, Caller::of(request)).await),
        Err(refusal) => Some(Err(refusal)),
    }
}

/// Refused as any other request is.
fn plain(refusal: impl Into<Refusal>) -> EngineRefusal {
    EngineRefusal {
        refusal: refusal.into(),
        told: None,
    }
}

/// Refused for now, or for good.
fn refused(refusal: Refusal) -> EngineRefusal {
    EngineRefusal {
        refusal,
        told: Some(engine_refusal(refusal)),
    }
}

impl Gateway {
    /// Whom the token of a client of Socket.IO names.
    pub(crate) async fn shown(
        &self,
        live: &live::Live,
        token: &str,
        caller: Option<Caller>,
    ) -> Shown {
        let identity = self.identify(&live.auth, token, Purpose::Session, caller);
        let identity = identity.await?;
        let expires_at = self.expires_at(identity.valid_for);
        Ok((identity, expires_at))
    }
}

/// What must be before a client may ask for anything. What keeps sessions out that would begin is no matter to others.
fn admit<B>(
    request: &Request<B>,
    begins: bool,
    gateway: &Gateway,
    live: &live::Live,
) -> Result<(), Refusal> {
    if !live.origins.allow(request.headers()) {
        return Err(Refusal::Origin);
    }
    if !begins {
        return Ok(());
    }
    if gateway.is_draining() {
        return Err(Refusal::Draining);
    }
    let caller = Caller::of(request);
    gateway.rates.comes(caller.map(|Caller(address)| address))?;
    Ok(())
}

/// What Engine.IO calls a refusal of [`admit`].
fn engine_refusal(refusal: Refusal) -> engine::Refusal {
    match refusal {
        Refusal::Origin => engine::Refusal::Forbidden,
        _ => engine::Refusal::Unavailable,
    }
}
