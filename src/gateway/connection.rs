//! One HTTP connection: served with hyper until it ends or has become a session.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::TcpStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use presenced_session::Seat;
use presenced_session::relay::Carrier;
use presenced_session::worker::NewSession;
use tokio::sync::mpsc::Sender;

use super::Gateway;
use super::arrival::{Arrival, Newcomer, Visitor};
use super::caller::Caller;
use super::client_dialect::ClientDialect;
use super::exchange::{Arriving, Exchange};
use super::handshake::Upgraded;
use super::held_poll::{Held, HeldPoll};
use super::introduction::{self, Introduced};
use super::parting::{part, refuse, refused};
use super::pipe::{PollWait, PollingRelay};
use super::places::Standing;
use super::probe;
use super::progress::{Event, Phase};
use super::refusal::Refusal;
use super::response::{self, Answer};
use super::routes::{self, Outcome};
use super::shared_places::Place;
use super::socket::{Hold, Socket};
use super::socketio::Polling;
use super::tls_handshake::{self, Turns};
use super::token_awaited;
use crate::limits::{HEADERS_MAX, PARTING_TIME};
use crate::pull::Puller;

/// A session that a handshake has let in.
pub(crate) type ClientSession = NewSession<Arrival, ClientDialect, TcpStream, PollingRelay>;

/// What a connection is served with.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) gateway: Arc<Gateway>,
    pub(super) puller: Puller,
    pub(super) sessions: Sender<ClientSession>,
    pub(super) turns: Turns,
}

type Http1 = http1::Connection<Socket, Http>;

impl Connection {
    /// Serves it until it ends, is a session, or waits with a poll.
    pub(super) async fn run(
        self,
        socket: Socket,
        place: Place,
        peer: Caller,
        introduced: Introduced,
    ) -> Option<(Held, PollWait)> {
        let introduced = match introduced {
            Introduced::Already => Some((socket, peer)),
            Introduced::NotYet => {
                Box::pin(introduction::wait(&self.gateway, socket, peer, &place)).await
            }
        };
        let (mut socket, peer) = introduced?;
        if let Some(tls) = &self.gateway.tls {
            let (gateway, turns) = (&self.gateway, &self.turns);
            let shaken = tls_handshake::shake_hands(gateway, tls, socket, peer, &place, turns);
            socket = Box::pin(shaken).await?;
        }
        self.requests(socket, place, peer).await
    }

    /// Answers the poll that it has waited with, and serves it on.
    pub(super) async fn answer(self, held: Held, body: Vec<u8>) -> Option<(Held, PollWait)> {
        let peer = held.peer;
        let gateway = &self.gateway;
        let next_place = || {
            let is_last = gateway.departure.is_announced() || gateway.places.are_wanted();
            let place = (!is_last).then(|| gateway.places.enter(peer.0, Standing::Idle));
            place?.ok()
        };
        let (socket, place) = held.answer(body, next_place).await?;
        self.requests(socket, place, peer).await
    }

    /// Serves requests until the connection ends, is a session, or waits with a poll.
    async fn requests(
        self,
        mut socket: Socket,
        place: Place,
        peer: Caller,
    ) -> Option<(Held, PollWait)> {
        let exchange = Exchange::begin(&self.gateway, peer, place, socket.has_read());
        let exchange = Arc::new(exchange);
        // hyper has a buffer of 8 KiB, which a connection that waits for a request does not need.
        if !socket.has_read() {
            tokio::select! {
                biased;
                _ = socket.readable() => {}
                // The peer has time for its first byte as for all others.
                () = exchange.overdue() => {
                    exchange.refused(Refusal::TooSlow, &self.gateway);
                    return None;
                }
                () = exchange.place.evicted() => {
                    if !socket.has_come() {
                        return None;
                    }
                }
            }
        }
        Box::pin(self.serve(socket, exchange)).await
    }

    async fn serve(self, socket: Socket, exchange: Arc<Exchange>) -> Option<(Held, PollWait)> {
        let gateway = self.gateway;
        let hold = socket.hold();
        let service = Http {
            gateway: gateway.clone(),
            puller: self.puller,
            sessions: self.sessions.clone(),
            exchange: exchange.clone(),
        };
        let mut http = http1::Builder::new()
            .max_buf_size(gateway.live.get().head_bytes_max)
            .max_headers(HEADERS_MAX)
            // The exchange has deadlines for all of it.
            .header_read_timeout(None)
            .serve_connection(socket, service);
        let served = tokio::select! {
            biased;
            served = drive(&mut http, &hold, &exchange) => served,
            () = exchange.overdue() => None,
        };
        match served {
            None => overdue(http, &exchange, &gateway).await,
            Some(Err(error)) => failed(http, &error, &exchange, &gateway).await,
            Some(Ok(())) if exchange.is_held() => {
                let parts = http.into_parts();
                let mut socket = parts.io;
                socket.put_back(&parts.read_buf);
                let (connection, ahead) = socket.into_connection().ok()?;
                let HeldPoll { wait, reply } = exchange.held()?;
                let (ahead, peer) = (ahead.into(), exchange.peer);
                let held = Held {
                    connection,
                    ahead,
                    peer,
                    reply,
                };
                return Some((held, wait));
            }
            Some(Ok(())) if exchange.is_upgraded() => {
                hand_over(http.into_parts(), exchange, &gateway, &self.sessions).await;
            }
            // A client that still sends what was refused is to hear why.
            Some(Ok(())) if exchange.has_body.load(Ordering::Relaxed) => {
                part(http.into_parts().io, b"", PARTING_TIME).await;
            }
            Some(Ok(())) => {}
        }
        None
    }
}

/// Serves requests until the connection ends, is a session, or was evicted: then what has come by then is the
/// last request. `None` if it was evicted because its peer takes too long.
async fn drive(http: &mut Http1, hold: &Hold, exchange: &Exchange) -> Option<hyper::Result<()>> {
    let mut evicted = pin!(exchange.place.evicted());
    let mut is_last = false;
    let served = poll_fn(|context| {
        if !hold.is_leaving() && evicted.as_mut().poll(context).is_ready() {
            hold.leave();
            if exchange.leave() {
                return Poll::Ready(None);
            }
        }
        loop {
            let mut polled = http.poll_without_shutdown(context);
            if polled.is_pending() && hold.begin_waiting() {
                polled = http.poll_without_shutdown(context);
            }
            exchange.look(hold);
            // Answers to requests before it may still be on their way.
            if exchange.is_held() && polled.is_pending() && hold.has_written() {
                return Poll::Ready(Some(Ok(())));
            }
            if polled.is_ready() || is_last || !hold.is_leaving() {
                return polled.map(Some);
            }
            is_last = true;
            Pin::new(&mut *http).graceful_shutdown();
        }
    })
    .await?;
    match served {
        // hyper may have to write the rest of an answer.
        Ok(()) if !exchange.is_upgraded() && !exchange.is_held() => Some(http.await),
        served => Some(served),
    }
}

/// Ends a connection that hyper has given up.
async fn failed(http: Http1, error: &hyper::Error, exchange: &Exchange, gateway: &Gateway) {
    let socket = http.into_parts().io;
    if socket.is_line_too_long() {
        exchange.refused(Refusal::UriTooLong, gateway);
        part(socket, &refused(Refusal::UriTooLong), PARTING_TIME).await;
    } else if error.is_parse() || error.is_parse_too_large() {
        // Otherwise the peer went away.
        exchange.refused(Refusal::Head, gateway);
    }
}

/// Ends a connection whose time is over.
async fn overdue(http: Http1, exchange: &Exchange, gateway: &Gateway) {
    // A client that is idle may be closed (RFC 9112 §9.5), and one that does not read hears nothing.
    let phase = exchange.progress().phase();
    if let Phase::Head | Phase::Body | Phase::Request = phase {
        exchange.refused(Refusal::TooSlow, gateway);
        refuse(http.into_parts().io, Refusal::TooSlow, &exchange.place).await;
    }
}

/// Gives a connection that was upgraded to the worker, once its token is known, or closes it if it was upgraded
/// only for that.
async fn hand_over(
    parts: http1::Parts<Socket, Http>,
    exchange: Arc<Exchange>,
    gateway: &Gateway,
    sessions: &Sender<ClientSession>,
) {
    // It has the exchange as well.
    drop(parts.service);
    let mut socket = parts.io;
    // What was read behind the handshake. Not hyper's buffer, which an empty part of it would keep.
    socket.put_back(&parts.read_buf);
    drop(parts.read_buf);
    let Some(Exchange { upgrade, place, .. }) = Arc::into_inner(exchange) else {
        return;
    };
    let Some((upgraded, caller)) = upgrade.into_inner() else {
        return;
    };
    let (socket, dialect, identity, seat, is_told) = match upgraded {
        Upgraded::SocketIo(shown, seat) => {
            place.stands(Standing::Awaited);
            let newcomer = Newcomer {
                caller,
                shown,
                place,
                pipe: None,
            };
            let begins = Begins {
                arrival: Arrival::SocketIo(newcomer),
                dialect: ClientDialect::SocketIo,
                expires_at: Duration::MAX,
                seat,
            };
            return begin(socket, begins, sessions).await;
        }
        Upgraded::Probe(probe, time) => return probe::serve(socket, &place, probe, time).await,
        Upgraded::Session(dialect, identity, seat) => (socket, dialect, identity, seat, false),
        Upgraded::TokenAwaited(dialect) => {
            match token_awaited::wait(socket, &place, caller, gateway).await {
                Some((socket, identity, seat)) => (socket, dialect, identity, seat, true),
                None => return,
            }
        }
        Upgraded::Refused(refused) => {
            drop(place);
            return refused.close(socket).await;
        }
    };
    drop(place);
    let begins = Begins {
        expires_at: gateway.expires_at(identity.valid_for),
        arrival: Arrival::User(Visitor {
            user: identity.user,
            caller,
            grant: identity.grant,
            token: identity.token,
            answer_s: is_told.then_some(identity.valid_for.as_secs()),
        }),
        dialect,
        seat,
    };
    begin(socket, begins, sessions).await;
}

/// A session but for its socket.
struct Begins {
    arrival: Arrival,
    dialect: ClientDialect,
    expires_at: Duration,
    seat: Seat,
}

/// Gives a connection to the worker.
async fn begin(socket: Socket, begins: Begins, sessions: &Sender<ClientSession>) {
    let Ok((connection, ahead)) = socket.into_connection() else {
        return;
    };
    let session = NewSession {
        socket: connection.into(),
        read_ahead: match ahead.is_empty() {
            true => Bytes::new(),
            false => ahead.into(),
        },
        peer: begins.arrival,
        dialect: begins.dialect,
        expires_at: begins.expires_at,
        seat: begins.seat,
    };
    // If the worker is gone, its seats are not waited for.
    let _ = sessions.send(session).await;
}

/// Begins a session that polls, whose worker says the body of `answer`.
async fn begin_polling(
    polling: Polling,
    mut answer: Answer,
    sessions: &Sender<ClientSession>,
) -> Answer {
    let Polling {
        newcomer,
        relay,
        seat,
        mut wait,
    } = polling;
    let session = NewSession {
        socket: Carrier::Relay(relay),
        read_ahead: Bytes::new(),
        peer: Arrival::SocketIo(newcomer),
        dialect: ClientDialect::SocketIo,
        expires_at: Duration::MAX,
        seat,
    };
    // If the worker is gone, its seats are not waited for.
    let _ = sessions.send(session).await;
    match (&mut wait.answer).await {
        Ok(open) => {
            *answer.body_mut() = open.into();
            answer
        }
        Err(_) => response::refused(Refusal::Draining),
    }
}

/// hyper's way to [`routes::respond`].
struct Http {
    gateway: Arc<Gateway>,
    puller: Puller,
    sessions: Sender<ClientSession>,
    exchange: Arc<Exchange>,
}

impl Service<Request<Incoming>> for Http {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let (gateway, puller) = (self.gateway.clone(), self.puller.clone());
        let (sessions, exchange) = (self.sessions.clone(), self.exchange.clone());
        let caller = Caller(gateway.proxies.caller(exchange.peer.0, request.headers()));
        let has_body = !request.body().is_end_stream();
        exchange.note(Event::Request { has_body });
        exchange.has_body.store(has_body, Ordering::Relaxed);
        request.extensions_mut().insert(caller);
        let request = request.map(|body| Arriving::new(body, exchange.clone()));
        Box::pin(async move {
            let admitted = exchange.is_of(caller, &gateway);
            let outcome = routes::respond(request, admitted, &gateway, &puller).await;
            let mut answer = match outcome {
                Outcome::Answer(answer) => answer,
                Outcome::Begin(polling, answer) => begin_polling(*polling, answer, &sessions).await,
                Outcome::Upgrade(accepted) => {
                    exchange.note(Event::Answered);
                    // A second upgrade can't follow.
                    let _ = exchange.upgrade.set((accepted.upgraded, caller));
                    return Ok(accepted.answer);
                }
                Outcome::Hold(held) => {
                    exchange.hold(held);
                    // The driver takes the connection from hyper now.
                    return std::future::pending().await;
                }
            };
            exchange.note(Event::Answered);
            // A client that was refused has no claim to one of the places.
            let is_refused = answer.status().is_client_error() || answer.status().is_server_error();
            // Its next request is for another server, or has to wait like those who have no place.
            let is_last = gateway.departure.is_announced() || gateway.places.are_wanted();
            if is_refused || is_last {
                response::set_close(&mut answer);
            }
            Ok(answer)
        })
    }
}
