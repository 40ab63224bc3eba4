//! Which path does what.

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header;
use hyper::{Method, Request};
use presenced_socketio::engine;

use super::Gateway;
use super::caller::Caller;
use super::client_files;
use super::cors::{Page, preflight};
use super::exchange::Arriving;
use super::handshake::{self, Accepted, Upgraded};
use super::held_poll::{self, HeldPoll, Reply, says_last};
use super::http_pull::{users_of_body, users_of_query};
use super::live::Live;
use super::refusal::{Refusal, RequestFault};
use super::request::{self, is_compressed};
use super::response::{Answer, error_json, json, pull_error_json, refused, set, with_type};
use super::socketio::{self, EngineRefusal, Polling, SocketIo};
use super::token;
use crate::limits::BODY_BYTES_MAX;
use crate::pull::{Asked, NoAnswer, PullError, Puller};
use crate::tokens::Purpose;

/// What a request comes to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An answer; the connection goes on.
    Answer(Answer),
    /// After this answer the connection is a session, or is closed as one.
    Upgrade(Accepted),
    /// A session of Socket.IO that polls. It says the body of this answer.
    Begin(Box<Polling>, Answer),
    /// A poll that waits, apart from the connections that are served.
    Hold(HeldPoll),
}

/// Why a request has no good answer.
enum Fault {
    Refused(Refusal),
    /// A refusal that says more.
    Pull(PullError),
    /// With the methods that are allowed.
    Method(&'static str),
    /// Of a handshake that a proxy has not passed on as one.
    NotForwarded(Refusal),
    /// Of a handshake of Socket.IO.
    Engine(EngineRefusal),
}

impl From<EngineRefusal> for Fault {
    fn from(refusal: EngineRefusal) -> Fault {
        Fault::Engine(refusal)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        Fault::Refused(refusal)
    }
}

impl From<PullError> for Fault {
    fn from(error: PullError) -> Fault {
        Fault::Pull(error)
    }
}

/// Answers one request, and counts it. It is refused if it was not `admitted`.
pub(super) async fn respond(
    request: Request<Arriving>,
    admitted: Result<(), Refusal>,
    gateway: &Gateway,
    puller: &Puller,
) -> Outcome {
    let live = gateway.live.get();
    let page = Page::of(request.headers(), &live.origins);
    let socketio = gateway.socketio.as_ref();
    let socketio = socketio.filter(|socketio| request.uri().path() == socketio.config.path);
    if let Some(socketio) = socketio {
        let page = page.with_credentials();
        return dispatch_socketio(request, admitted, (gateway, &live), socketio, page).await;
    }
    let mut outcome = dispatch(request, admitted, (gateway, &live), puller).await;
    if let Outcome::Answer(answer) = &mut outcome {
        page.may_read(answer);
    }
    outcome
}

async fn dispatch_socketio(
    request: Request<Arriving>,
    admitted: Result<(), Refusal>,
    (gateway, live): (&Gateway, &Live),
    socketio: &SocketIo,
    page: Page,
) -> Outcome {
    let caller = Caller::of(&request);
    let is_last = says_last(&request);
    let origin = request.headers().get(header::ORIGIN).cloned();
    let body_bytes_max = socketio.config.payload_bytes_max;
    let checked = admitted.and_then(|()| request::check(&request, body_bytes_max));
    let responded = match checked {
        Ok(()) => socketio.respond(request, (gateway, live)).await,
        Err(refusal) => Err(EngineRefusal {
            refusal,
            told: None,
        }),
    };
    let mut answer = match responded {
        Ok(socketio::Outcome::Answer(answer)) => {
            gateway.metrics.requests.add(1);
            answer
        }
        Ok(socketio::Outcome::Upgrade(mut accepted)) => {
            page.may_read(&mut accepted.answer);
            return Outcome::Upgrade(accepted);
        }
        Ok(socketio::Outcome::Hold(wait)) => {
            gateway.metrics.requests.add(1);
            let reply = Reply { page, is_last };
            return Outcome::Hold(HeldPoll { wait, reply });
        }
        Ok(socketio::Outcome::Begin(polling)) => {
            let mut answer = with_type(200, held_poll::MEDIA_TYPE, Default::default());
            socketio.set_cookie(origin.as_ref(), gateway, &mut answer);
            page.may_read(&mut answer);
            return Outcome::Begin(Box::new(polling), answer);
        }
        Err(refusal) => fault(gateway, caller, refusal.into()),
    };
    page.may_read(&mut answer);
    Outcome::Answer(answer)
}

async fn dispatch(
    request: Request<Arriving>,
    admitted: Result<(), Refusal>,
    (gateway, live): (&Gateway, &Live),
    puller: &Puller,
) -> Outcome {
    let caller = Caller::of(&request);
    if let Err(refusal) = admitted.and_then(|()| request::check(&request, BODY_BYTES_MAX)) {
        return Outcome::Answer(fault(gateway, caller, refusal.into()));
    }
    if request.uri().path() == "/ws" {
        return match handshake(&request, (gateway, live), caller).await {
            Ok(accepted) => Outcome::Upgrade(accepted),
            Err(error) => Outcome::Answer(fault(gateway, caller, error)),
        };
    }
    Outcome::Answer(match route(request, (gateway, live), puller).await {
        Ok(answer) => {
            gateway.metrics.requests.add(1);
            answer
        }
        Err(error) => fault(gateway, caller, error),
    })
}

async fn handshake(
    request: &Request<Arriving>,
    (gateway, live): (&Gateway, &Live),
    caller: Option<Caller>,
) -> Result<Accepted, Fault> {
    let accepted =
        handshake::check(request, gateway, live)
            .await
            .map_err(|refusal| match refusal {
                // As `GET`, which is an answer of this path only together with an upgrade.
                Refusal::Method if request.method() == Method::HEAD => {
                    Refusal::UpgradeRequired.into()
                }
                Refusal::Method => Fault::Method("GET"),
                refusal if handshake::is_not_forwarded(request) => Fault::NotForwarded(refusal),
                refusal => refusal.into(),
            })?;
    if let Upgraded::Refused(refused) = &accepted.upgraded {
        gateway.refused(refused.refusal(), caller);
    }
    Ok(accepted)
}

fn fault(gateway: &Gateway, caller: Option<Caller>, fault: Fault) -> Answer {
    match fault {
        Fault::NotForwarded(refusal) => {
            gateway.refused(refusal, caller);
            let mut answer = refused(refusal);
            let code = refusal.facts().code;
            *answer.body_mut() = error_json(code, NOT_FORWARDED, None).into();
            answer
        }
        Fault::Refused(refusal) => {
            gateway.refused(refusal, caller);
            refused(refusal)
        }
        Fault::Engine(EngineRefusal { refusal, told }) => {
            gateway.refused(refusal, caller);
            let mut answer = refused(refusal);
            if let Refusal::Engine(engine::Refusal::Method) = refusal {
                set(&mut answer, header::ALLOW, "GET, POST, OPTIONS");
            }
            if let Some(told) = told {
                *answer.body_mut() = told.facts().2.into();
            }
            answer
        }
        Fault::Pull(error) => {
            let refusal = match error {
                PullError::Overloaded => Refusal::Overloaded,
                PullError::RateLimited { .. } => Refusal::PullRate,
                _ => Refusal::BadPull,
            };
            gateway.refused(refusal, caller);
            let mut answer = refused(refusal);
            *answer.body_mut() = pull_error_json(&error, None).into();
            if let Some(retry_s) = error.retry_s() {
                answer
                    .headers_mut()
                    .insert(header::RETRY_AFTER, retry_s.into());
            }
            answer
        }
        Fault::Method(allowed) => {
            gateway.refused(Refusal::Method, caller);
            let mut answer = refused(Refusal::Method);
            set(&mut answer, header::ALLOW, allowed);
            answer
        }
    }
}

async fn route(
    request: Request<Arriving>,
    (gateway, live): (&Gateway, &Live),
    puller: &Puller,
) -> Result<Answer, Fault> {
    let path = request.uri().path();
    if let Some(mut file) = client_files::file(path, request.headers()) {
        only_get(request.method())?;
        if live.dev.is_some() {
            // The demo page, which is never kept, and the client of the same build go together.
            set(&mut file, header::CACHE_CONTROL, "no-cache");
        }
        return Ok(file);
    }
    if !live.origins.allow(request.headers()) {
        return Err(Refusal::Origin.into());
    }
    if request.uri().path() == "/v1/presence" {
        return presence(request, (gateway, live), puller).await;
    }
    let path = request.uri().path();
    let health = gateway.health.as_ref().filter(|_| live.serve_health);
    let page = match (health.and_then(|health| health.told(path)), &live.dev) {
        (Some((status, told)), _) => Some(with_type(status, TEXT, told.into())),
        (_, Some(dev)) => dev.file(path),
        (_, None) => (path == "/").then(|| with_type(200, TEXT, ABOUT.into())),
    };
    if let Some(page) = page {
        return only_get(request.method()).map(|()| page);
    }
    let dev = live.dev.as_ref().filter(|_| path.starts_with("/dev/"));
    let dev = dev.ok_or(Refusal::NotFound)?;
    only_get(request.method())?;
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    let query = request.uri().query().unwrap_or_default();
    Ok(dev.answer(path, host, query)?)
}

const TEXT: &str = "text/plain; charset=utf-8";

/// What a person sees who opens the server's address.
const ABOUT: &str = "presenced: who is online now\n\n\
                     /ws            WebSocket, with a token\n\
                     /v1/presence   pulls, with a token: ?user=ID&user=ID\n\
                     /client/       the client for browsers\n";

/// What the operator of a proxy needs whose clients' handshakes arrive as plain requests.
const NOT_FORWARDED: &str = "a proxy has taken the upgrade out of this handshake; in nginx, set \
                             proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                             proxy_set_header Connection \"upgrade\";";

/// hyper leaves out the body that a HEAD would have.
fn only_get(method: &Method) -> Result<(), Fault> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Fault::Method("GET, HEAD")),
    }
}

/// `/v1/presence`: a pull over HTTP, with the same token as a session or a service token.
async fn presence(
    request: Request<Arriving>,
    (gateway, live): (&Gateway, &Live),
    puller: &Puller,
) -> Result<Answer, Fault> {
    match *request.method() {
        Method::OPTIONS => return Ok(preflight(request.headers())),
        Method::GET | Method::HEAD | Method::POST => {}
        _ => return Err(Fault::Method("GET, HEAD, POST, OPTIONS")),
    }
    let token = token::in_request(&request, live.allow_query_token)?;
    let token = token.ok_or(Refusal::TokenMissing)?;
    let caller = Caller::of(&request);
    let identity = gateway.identify(&live.auth, &token, Purpose::Pull, caller);
    let identity = identity.await?;
    let asked = match *request.method() {
        Method::POST => users_in(request).await?,
        _ => users_of_query(request.uri().query().unwrap_or_default())?,
    };
    let asker = match identity.reads_all {
        true => puller.service(&identity.user),
        false => puller.asker(&identity.user),
    };
    let mut answer = match puller.ask(asker, asked.users).await {
        Ok(answer) => answer,
        Err(NoAnswer::Refused(error)) => return Err(error.into()),
        Err(NoAnswer::Stopping) => return Err(Refusal::Draining.into()),
    };
    answer.invalid = asked.invalid;
    Ok(json(200, answer.json(None)))
}

async fn users_in(request: Request<Arriving>) -> Result<Asked, Fault> {
    if is_compressed(request.headers()) {
        return Err(Refusal::Compressed.into());
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX)
        .collect()
        .await;
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Refusal::BodyTooBig
        } else {
            Refusal::BadRequest(RequestFault::BrokenBody)
        }
    })?;
    Ok(users_of_body(&body.to_bytes())?)
}
