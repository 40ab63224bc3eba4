//! One HTTP connection: served with hyper until it ends or has become a session.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use presenced_session::dialect::Plain;
use presenced_session::worker::NewSession;
use tokio::sync::mpsc::Sender;

use super::Gateway;
use super::caller::{Caller, Visitor};
use super::exchange::{Arriving, Exchange};
use super::handshake::Upgraded;
use super::introduction::{self, Introduced};
use super::parting::{part, refuse, refused};
use super::progress::{Event, Phase};
use super::refusal::Refusal;
use super::response::{self, Answer};
use super::routes::{self, Outcome};
use super::shared_places::Place;
use super::socket::{Hold, Socket};
use super::token_awaited;
use crate::limits::{HEADERS_MAX, PARTING_TIME};
use crate::pull::Puller;

/// What a connection is served with.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) gateway: Arc<Gateway>,
    pub(super) puller: Puller,
    pub(super) sessions: Sender<NewSession<Visitor>>,
}

type Http1 = http1::Connection<Socket, Http>;

impl Connection {
    /// Serves it until it ends or is a session.
    pub(super) async fn run(
        self,
        socket: Socket,
        place: Place,
        peer: Caller,
        introduced: Introduced,
    ) {
        let introduced = match introduced {
            Introduced::Already => Some((socket, peer)),
            Introduced::NotYet => introduction::wait(&self.gateway, socket, peer, &place).await,
        };
        let Some((mut socket, peer)) = introduced else {
            return;
        };
        let exchange = Exchange::begin(&self.gateway, peer, place, socket.has_read());
        let exchange = Arc::new(exchange);
        // hyper has a buffer of 8 KiB, which a connection that waits for a request does not need.
        if !socket.has_read() {
            tokio::select! {
                biased;
                _ = socket.readable() => {}
                // The peer has time for its first byte as for all others.
                () = exchange.overdue() => return exchange.refused(Refusal::TooSlow, &self.gateway),
                () = exchange.place.evicted() => {
                    if !socket.has_come() {
                        return;
                    }
                }
            }
        }
        Box::pin(self.serve(socket, exchange)).await;
    }

    async fn serve(self, socket: Socket, exchange: Arc<Exchange>) {
        let gateway = self.gateway;
        let hold = socket.hold();
        let service = Http {
            gateway: gateway.clone(),
            puller: self.puller,
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
            Some(Ok(())) if exchange.is_upgraded() => {
                hand_over(http.into_parts(), exchange, &gateway, &self.sessions).await;
            }
            // A client that still sends what was refused is to hear why.
            Some(Ok(())) if exchange.has_body.load(Ordering::Relaxed) => {
                if let Ok((stream, _)) = http.into_parts().io.into_std() {
                    part(stream, b"", PARTING_TIME).await;
                }
            }
            Some(Ok(())) => {}
        }
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
        Ok(()) if !exchange.is_upgraded() => Some(http.await),
        served => Some(served),
    }
}

/// Ends a connection that hyper has given up.
async fn failed(http: Http1, error: &hyper::Error, exchange: &Exchange, gateway: &Gateway) {
    let socket = http.into_parts().io;
    if socket.is_line_too_long() {
        exchange.refused(Refusal::UriTooLong, gateway);
        if let Ok((stream, _)) = socket.into_std() {
            part(stream, &refused(Refusal::UriTooLong), PARTING_TIME).await;
        }
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
    sessions: &Sender<NewSession<Visitor>>,
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
    let (socket, identity, seat, is_told) = match upgraded {
        Upgraded::Session(identity, seat) => (socket, identity, seat, false),
        Upgraded::TokenAwaited => {
            match token_awaited::wait(socket, &place, caller, gateway).await {
                Some((socket, identity, seat)) => (socket, identity, seat, true),
                None => return,
            }
        }
        Upgraded::Refused(refused) => {
            drop(place);
            if let Ok((stream, _)) = socket.into_std() {
                refused.close(stream).await;
            }
            return;
        }
    };
    drop(place);
    let Ok((socket, ahead)) = socket.into_std() else {
        return;
    };
    let session = NewSession {
        socket,
        read_ahead: match ahead.is_empty() {
            true => Bytes::new(),
            false => ahead.into(),
        },
        peer: Visitor {
            user: identity.user,
            caller,
            grant: identity.grant,
            token: identity.token,
            answer_s: is_told.then_some(identity.valid_for.as_secs()),
        },
        dialect: Plain,
        expires_at: gateway.expires_at(identity.valid_for),
        seat,
    };
    // If the worker is gone, its seats are not waited for.
    let _ = sessions.send(session).await;
}

/// hyper's way to [`routes::respond`].
struct Http {
    gateway: Arc<Gateway>,
    puller: Puller,
    exchange: Arc<Exchange>,
}

impl Service<Request<Incoming>> for Http {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let (gateway, puller) = (self.gateway.clone(), self.puller.clone());
        let exchange = self.exchange.clone();
        let caller = Caller(gateway.proxies.caller(exchange.peer.0, request.headers()));
        let has_body = !request.body().is_end_stream();
        exchange.note(Event::Request { has_body });
        exchange.has_body.store(has_body, Ordering::Relaxed);
        request.extensions_mut().insert(caller);
        let request = request.map(|body| Arriving::new(body, exchange.clone()));
        Box::pin(async move {
            let admitted = exchange.is_of(caller, &gateway);
            let outcome = routes::respond(request, admitted, &gateway, &puller).await;
            exchange.note(Event::Answered);
            Ok(match outcome {
                Outcome::Answer(mut answer) => {
                    // A client that was refused has no claim to one of the places.
                    let is_refused =
                        answer.status().is_client_error() || answer.status().is_server_error();
                    // Its next request is for another server, or has to wait like those who have no place.
                    let is_last = gateway.departure.is_announced() || gateway.places.are_wanted();
                    if is_refused || is_last {
                        response::set_close(&mut answer);
                    }
                    answer
                }
                Outcome::Upgrade(accepted) => {
                    // A second upgrade can't follow.
                    let _ = exchange.upgrade.set((accepted.upgraded, caller));
                    accepted.answer
                }
            })
        })
    }
}
