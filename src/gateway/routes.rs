//! Which path does what.

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header;
use hyper::{Method, Request};
use presenced_presence::UserId;

use super::Gateway;
use super::caller::Caller;
use super::cors::{Page, preflight};
use super::handshake::{self, Accepted, Upgraded};
use super::http_pull::{users_of_body, users_of_query};
use super::refusal::{Refusal, RequestFault};
use super::response::{Answer, error_json, json, refused, set};
use super::token::token;
use crate::limits::BODY_BYTES_MAX;
use crate::pull::{PullError, Puller};

/// What a request comes to.
#[derive(Debug)]
pub enum Outcome {
    /// An answer; the connection goes on.
    Answer(Answer),
    /// After this answer the connection is a session, or is closed as one.
    Upgrade(Accepted),
}

/// Why a request has no good answer.
enum Fault {
    Refused(Refusal),
    /// A refusal that says more.
    Pull(PullError),
    /// With the methods that are allowed.
    Method(&'static str),
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

/// Answers one request, and counts it.
pub async fn respond(request: Request<Incoming>, gateway: &Gateway, puller: &Puller) -> Outcome {
    let page = Page::of(request.headers(), &gateway.origins);
    let mut outcome = dispatch(request, gateway, puller).await;
    if let Outcome::Answer(answer) = &mut outcome {
        page.may_read(answer);
    }
    outcome
}

async fn dispatch(request: Request<Incoming>, gateway: &Gateway, puller: &Puller) -> Outcome {
    let caller = Caller::of(&request);
    if request.uri().path() == "/ws" {
        return match handshake::check(&request, gateway) {
            Ok(accepted) => {
                if let Upgraded::Refused(refused) = &accepted.upgraded {
                    gateway.refused(refused.refusal(), caller);
                }
                Outcome::Upgrade(accepted)
            }
            Err(Refusal::Method) => Outcome::Answer(fault(gateway, caller, Fault::Method("GET"))),
            Err(refusal) => Outcome::Answer(fault(gateway, caller, refusal.into())),
        };
    }
    Outcome::Answer(match route(request, gateway, puller).await {
        Ok(answer) => {
            gateway.metrics.requests.add(1);
            answer
        }
        Err(error) => fault(gateway, caller, error),
    })
}

fn fault(gateway: &Gateway, caller: Option<Caller>, fault: Fault) -> Answer {
    match fault {
        Fault::Refused(refusal) => {
            gateway.refused(refusal, caller);
            refused(refusal)
        }
        Fault::Pull(error) => {
            gateway.refused(Refusal::BadPull, caller);
            let body = error_json(error.code(), &error.to_string(), None);
            json(Refusal::BadPull.facts().status, body)
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
    request: Request<Incoming>,
    gateway: &Gateway,
    puller: &Puller,
) -> Result<Answer, Fault> {
    if !gateway.origins.allow(request.headers()) {
        return Err(Refusal::Origin.into());
    }
    if request.uri().path() == "/v1/presence" {
        return presence(request, gateway, puller).await;
    }
    let dev = gateway.dev.as_ref().ok_or(Refusal::NotFound)?;
    let path = request.uri().path();
    if path != "/dev/token" {
        let file = dev.file(path).ok_or(Refusal::NotFound)?;
        return only_get(request.method()).map(|()| file);
    }
    only_get(request.method())?;
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    Ok(dev.token(host, request.uri().query().unwrap_or_default())?)
}

fn only_get(method: &Method) -> Result<(), Fault> {
    if method == Method::GET {
        return Ok(());
    }
    Err(Fault::Method("GET"))
}

/// `/v1/presence`: a pull over HTTP, with the same token as a session.
async fn presence(
    request: Request<Incoming>,
    gateway: &Gateway,
    puller: &Puller,
) -> Result<Answer, Fault> {
    match *request.method() {
        Method::OPTIONS => return Ok(preflight(request.headers())),
        Method::GET | Method::POST => {}
        _ => return Err(Fault::Method("GET, POST, OPTIONS")),
    }
    let token = token(&request, gateway.allow_query_token).ok_or(Refusal::TokenMissing)?;
    gateway.identify(&token, Caller::of(&request))?;
    let users = if request.method() == Method::GET {
        users_of_query(request.uri().query().unwrap_or_default())?
    } else {
        users_in(request).await?
    };
    let answer = puller.ask(users).await.ok_or(Refusal::Draining)?;
    Ok(json(200, answer.json(None)))
}

async fn users_in(request: Request<Incoming>) -> Result<Vec<UserId>, Fault> {
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
