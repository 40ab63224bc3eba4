//! The server's side of the WebSocket handshake: RFC 6455 §4.2.1 in its order, then who it is.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Version};
use sha1::{Digest, Sha1};

use super::Gateway;
use super::auth::Identity;
use super::response::Answer;
use crate::gateway::refusal::Refusal;
use crate::pull::http::values;
use presenced_session::Seat;

/// The subprotocol that we speak.
pub const SUBPROTOCOL: &str = "presence.v1";

/// How a browser sends its token, which it can't put into a header of its own: as a subprotocol
/// that the server never answers with.
const TOKEN_SUBPROTOCOL: &str = "bearer.";

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake that may be answered with 101.
#[derive(Debug)]
pub struct Accepted {
    /// Who it is.
    pub identity: Identity,
    /// Its session's seat.
    pub seat: Seat,
    /// What to answer.
    pub answer: Answer,
}

/// Checks a request for `/ws`. The cheap things come first, the token's signature last.
///
/// # Errors
///
/// Why the handshake is refused.
pub fn check<B>(request: &Request<B>, gateway: &Gateway) -> Result<Accepted, Refusal> {
    let headers = request.headers();
    let accept = check_upgrade(request)?;
    if !gateway.origins.allow(headers) {
        return Err(Refusal::Origin);
    }
    if gateway.is_draining() {
        return Err(Refusal::Draining);
    }
    let token = token(request, gateway.allow_query_token).ok_or(Refusal::TokenMissing)?;
    let identity = gateway.auth.verify(&token)?;
    let seat = Seat::take(&gateway.seats).ok_or_else(|| match gateway.is_draining() {
        true => Refusal::Draining,
        false => Refusal::Full,
    })?;
    let speaks = subprotocols(headers).any(|offered| offered == SUBPROTOCOL);
    Ok(Accepted {
        identity,
        seat,
        answer: switching(&accept, speaks),
    })
}

/// RFC 6455 §4.2.1; returns the value of `Sec-WebSocket-Accept`.
///
/// # Errors
///
/// The first step that the request fails.
pub fn check_upgrade<B>(request: &Request<B>) -> Result<HeaderValue, Refusal> {
    let headers = request.headers();
    // 1: GET, HTTP/1.1.
    if request.method() != Method::GET {
        return Err(Refusal::Method);
    }
    if request.version() != Version::HTTP_11 {
        return Err(Refusal::BadRequest);
    }
    // 2: Host.
    only(headers, &header::HOST).ok_or(Refusal::BadRequest)?;
    // 3, 4: Upgrade and Connection.
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return Err(Refusal::UpgradeRequired);
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(Refusal::BadRequest);
    }
    // No body: it would be read as frames. A length of zero says that there is none (RFC 9110 §8.6).
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if lengths.any(|length| length != "0") || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::BadRequest);
    }
    // 6 before 5: a client of another version is told ours (§4.4).
    let version = only(headers, &header::SEC_WEBSOCKET_VERSION).ok_or(Refusal::BadRequest)?;
    if version.as_bytes() != b"13" {
        return Err(Refusal::Version);
    }
    // 5: a key of 16 bytes in base64.
    let key = only(headers, &header::SEC_WEBSOCKET_KEY).ok_or(Refusal::BadRequest)?;
    if !BASE64_STANDARD
        .decode(key.as_bytes())
        .is_ok_and(|key| key.len() == 16)
    {
        return Err(Refusal::BadRequest);
    }
    let digest = Sha1::new()
        .chain_update(key.as_bytes())
        .chain_update(GUID)
        .finalize();
    let accept = BASE64_STANDARD.encode(digest);
    HeaderValue::from_str(&accept).map_err(|_| Refusal::BadRequest)
}

/// The 101 of RFC 6455 §4.2.2. Extensions that were offered are not answered, so none is in use.
pub fn switching(accept: &HeaderValue, speaks: bool) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = hyper::StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
    if speaks {
        let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    answer
}

/// The request's token, from the first place that has one: `Authorization: Bearer`, the
/// subprotocols, and, where it is allowed, the query. `Authorization` of another scheme is not for us
/// but for a proxy before us.
pub fn token<B>(request: &Request<B>, allow_query: bool) -> Option<String> {
    let headers = request.headers();
    let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
    let bearer = authorizations.find_map(bearer);
    let offered =
        || subprotocols(headers).find_map(|offered| offered.strip_prefix(TOKEN_SUBPROTOCOL));
    if let Some(token) = bearer.or_else(offered) {
        return Some(token.to_owned());
    }
    let query = request.uri().query().filter(|_| allow_query)?;
    values(query, "token")
        .next()
        .flatten()
        .map(std::borrow::Cow::into_owned)
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1); the scheme's case does not matter (RFC 9110
/// §11.1).
fn bearer(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(',').map(str::trim))
}

/// The header's value, if it is there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether a header of comma-separated words has `word`, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let lines = headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request<()> {
        let request = Request::get("/ws")
            .header("host", "x")
            .header("upgrade", "WebSocket")
            .header("connection", "keep-alive, Upgrade")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        request.body(()).unwrap()
    }

    fn changed(change: impl FnOnce(&mut Request<()>)) -> Result<HeaderValue, Refusal> {
        let mut request = request();
        change(&mut request);
        check_upgrade(&request)
    }

    #[test]
    fn the_rfcs_own_example() {
        let accept = check_upgrade(&request()).unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn each_step_refuses() {
        let set = |name: &'static str, value: &'static str| {
            changed(|request| {
                request
                    .headers_mut()
                    .insert(name, HeaderValue::from_static(value));
            })
        };
        let without = |name: &'static str| {
            changed(|request| {
                request.headers_mut().remove(name);
            })
        };
        let twice = |name: &'static str, value: &'static str| {
            changed(|request| {
                request
                    .headers_mut()
                    .append(name, HeaderValue::from_static(value));
            })
        };
        use Refusal::{BadRequest, UpgradeRequired, Version as OtherVersion};
        let method = changed(|request| *request.method_mut() = Method::POST);
        assert_eq!(method, Err(Refusal::Method));
        let old = changed(|request| *request.version_mut() = Version::HTTP_10);
        assert_eq!(old, Err(BadRequest));
        assert_eq!(without("host"), Err(BadRequest));
        assert_eq!(without("upgrade"), Err(UpgradeRequired));
        assert_eq!(set("upgrade", "h2c"), Err(UpgradeRequired));
        assert_eq!(set("connection", "close"), Err(BadRequest));
        assert_eq!(without("sec-websocket-version"), Err(BadRequest));
        assert_eq!(set("sec-websocket-version", "8"), Err(OtherVersion));
        assert_eq!(without("sec-websocket-key"), Err(BadRequest));
        assert_eq!(set("sec-websocket-key", "c2hvcnQ="), Err(BadRequest));
        assert_eq!(
            set("sec-websocket-key", "not base64 at all!!!!!!="),
            Err(BadRequest)
        );
        assert_eq!(
            twice("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            Err(BadRequest)
        );
        assert_eq!(twice("sec-websocket-version", "13"), Err(BadRequest));
        assert_eq!(set("content-length", "5"), Err(BadRequest));
        assert_eq!(set("content-length", "00"), Err(BadRequest));
        assert_eq!(set("transfer-encoding", "chunked"), Err(BadRequest));
    }

    #[test]
    fn a_length_of_zero_is_no_body() {
        let with_length = changed(|request| {
            let zero = HeaderValue::from_static("0");
            request.headers_mut().insert("content-length", zero);
        });
        assert!(with_length.is_ok());
    }

    #[test]
    fn tokens_in_their_order() {
        let with = |headers: &[(&'static str, &'static str)], allow_query| {
            let mut request = Request::get("/ws?x=1&token=q").body(()).unwrap();
            for (name, value) in headers {
                request
                    .headers_mut()
                    .append(*name, HeaderValue::from_static(value));
            }
            token(&request, allow_query)
        };
        let (bearer, offered) = (
            ("authorization", "bearer h"),
            ("sec-websocket-protocol", "presence.v1, bearer.p"),
        );
        assert_eq!(with(&[bearer, offered], true).as_deref(), Some("h"));
        assert_eq!(with(&[offered], true).as_deref(), Some("p"));
        assert_eq!(with(&[], true).as_deref(), Some("q"));
        assert_eq!(with(&[], false), None);
        // A proxy's own: staging behind basic auth.
        let basic = ("authorization", "Basic dTpw");
        assert_eq!(with(&[basic], false), None);
        assert_eq!(with(&[basic, offered], false).as_deref(), Some("p"));
        assert_eq!(with(&[basic], true).as_deref(), Some("q"));
        assert_eq!(with(&[basic, bearer], false).as_deref(), Some("h"));
        for nothing in ["Bearer", "Bearer ", "Negotiate", "Basic"] {
            let nothing = ("authorization", nothing);
            assert_eq!(with(&[nothing, offered], false).as_deref(), Some("p"));
        }
    }
}
