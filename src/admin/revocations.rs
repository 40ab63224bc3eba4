//! `POST /v1/revocations`: tokens are refused from now on.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use presenced_session::clock::unix_ms;
use serde::Serialize;
use tokio::time::timeout;

use super::access::is_json;
use super::answers::{TEXT, text};
use super::routes::Admin;
use crate::gateway::places::Standing;
use crate::gateway::shared_places::Place;
use crate::limits::{HANDSHAKE_TIMEOUT, REVOCATION_BODY_BYTES_MAX};
use crate::revocation::asked::Asked;
use crate::revocation::revoker::Done;
use crate::tokens::Tokens;

impl Admin {
    pub(super) async fn revoke(
        &self,
        request: Request<Incoming>,
        from: IpAddr,
        place: &Place,
    ) -> Response<Full<Bytes>> {
        if !is_json(request.headers()) {
            let why = "Content-Type: application/json is needed\n";
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, TEXT, why.into());
        }
        // Whoever is slow makes room for others.
        place.stands(Standing::Awaited);
        let body = Limited::new(request.into_body(), REVOCATION_BODY_BYTES_MAX);
        let body = match timeout(HANDSHAKE_TIMEOUT, body.collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => {
                let why =
                    format!("a body of {REVOCATION_BODY_BYTES_MAX} bytes at most is needed\n");
                return text(StatusCode::PAYLOAD_TOO_LARGE, TEXT, why);
            }
            Err(_) => {
                let why = "the body did not come in time\n";
                return text(StatusCode::REQUEST_TIMEOUT, TEXT, why.into());
            }
        };
        place.stands(Standing::Served);
        let now_s = unix_ms() / 1000;
        let asked = match Asked::read(&body, now_s) {
            Ok(asked) => asked,
            Err(why) => return text(StatusCode::BAD_REQUEST, TEXT, format!("{why}\n")),
        };
        let done = self.revoker.revoke(asked.clone(), now_s).await;
        self.log_revocation(&asked, done, from);
        answer(done)
    }

    fn log_revocation(&self, asked: &Asked, done: Done, from: IpAddr) {
        let user = match &asked.tokens {
            Tokens::All => None,
            Tokens::OfUser(user) | Tokens::One(user, _) => {
                Some(self.user_names.name(user.as_str()))
            }
        };
        let jti = match &asked.tokens {
            Tokens::One(_, jti) => Some(jti.as_str()),
            Tokens::All | Tokens::OfUser(_) => None,
        };
        tracing::info!(
            address = %from,
            user = user.as_deref(),
            jti,
            issued_before = asked.tokens.eq(&Tokens::All).then_some(asked.before_s),
            sessions = done.sessions,
            number = done.number,
            "tokens revoked"
        );
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    number: Option<u64>,
    sessions_closed: usize,
    everywhere: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
}

/// What is told while other edges don't know.
const HERE_ONLY: &str = "in force on this server; memcached has not taken it yet, so others do not know: \
                         this server writes it as soon as it can";

/// 202 (RFC 9110 §15.3.3) if there is something left to do.
fn answer(done: Done) -> Response<Full<Bytes>> {
    let everywhere = done.number.is_some();
    let status = match everywhere {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    let json = Json {
        number: done.number,
        sessions_closed: done.sessions,
        everywhere,
        message: (!everywhere).then_some(HERE_ONLY),
    };
    let json = serde_json::to_string(&json).unwrap_or_default();
    text(status, "application/json", json)
}
