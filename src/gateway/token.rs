//! Where a client shows its token: in its request, or in a message.

use std::borrow::Cow;

use hyper::Request;
use hyper::header::{self, HeaderMap, HeaderValue};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::query::values;
use super::refusal::{Refusal, RequestFault};
use crate::pull::object;

/// How a browser sends its token, which it can't put into a header of its own: as a subprotocol
/// that the server never answers with.
const TOKEN_SUBPROTOCOL: &str = "bearer.";

/// The request's token, from the first place that has one: `Authorization: Bearer`, the
/// subprotocols, and, where it is allowed, the query; `None` if no place has one. `Authorization` of
/// another scheme is not for us but for a proxy before us.
///
/// # Errors
///
/// The only one is in the query, where it is not allowed or can't be read: its client believes that it has shown
/// it. Or a place has two, of which a proxy before us may have checked the other.
pub(super) fn in_request<B>(
    request: &Request<B>,
    allow_query: bool,
) -> Result<Option<String>, Refusal> {
    let headers = request.headers();
    let authorizations = headers.get_all(header::AUTHORIZATION).iter();
    let authorization = only(authorizations, RequestFault::Authorization)?;
    let offered =
        subprotocols(headers).filter_map(|offered| offered.strip_prefix(TOKEN_SUBPROTOCOL));
    let offered = only(offered, RequestFault::Tokens)?;
    let mut in_query = values(request.uri().query().unwrap_or_default(), "token");
    let in_query = match allow_query {
        true => only(in_query, RequestFault::Tokens)?,
        false => in_query.next().map(|_| None),
    };
    let token = authorization.and_then(bearer).or(offered).map(Cow::from);
    match token.or(in_query.clone().flatten()) {
        None if in_query.is_some() => Err(Refusal::TokenMissing),
        token => Ok(token.map(Cow::into_owned)),
    }
}

/// The token of a message `{"token":"…"}`, if it is one: it may have other members, but never a
/// question, as whoever sends both expects one answer, and there would be two.
pub(crate) fn in_message(text: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Shown<'a> {
        #[serde(borrow)]
        token: Cow<'a, str>,
        pull: Option<IgnoredAny>,
    }
    let shown = object::<Shown<'_>>(text)?;
    shown.pull.is_none().then_some(shown.token)
}

/// What a place has, if anything; refused for `several` if it has more than one.
fn only<T>(
    mut found: impl Iterator<Item = T>,
    several: RequestFault,
) -> Result<Option<T>, Refusal> {
    let first = found.next();
    match found.next() {
        None => Ok(first),
        Some(_) => Err(Refusal::BadRequest(several)),
    }
}

/// Whether a request has a token among its subprotocols, as only a WebSocket client does.
pub(super) fn is_offered(headers: &HeaderMap) -> bool {
    subprotocols(headers).any(|offered| offered.starts_with(TOKEN_SUBPROTOCOL))
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1); the scheme's case does not matter (RFC 9110
/// §11.1).
fn bearer(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The subprotocols that a client offers (RFC 6455 §11.3.4).
pub(super) fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(',').map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_their_order() {
        let with = |headers: &[(&'static str, &'static str)], allow_query| {
            let mut request = Request::get("/ws?x=1&token=q").body(()).unwrap();
            for (name, value) in headers {
                request
                    .headers_mut()
                    .append(*name, HeaderValue::from_static(value));
            }
            in_request(&request, allow_query)
        };
        let (bearer, offered) = (
            ("authorization", "bearer h"),
            ("sec-websocket-protocol", "presence.v1, bearer.p"),
        );
        let is = |token: &str| Ok(Some(token.to_owned()));
        assert_eq!(with(&[bearer, offered], true), is("h"));
        assert_eq!(with(&[offered], true), is("p"));
        assert_eq!(with(&[], true), is("q"));
        // Its client believes that it has shown one.
        assert_eq!(with(&[], false), Err(Refusal::TokenMissing));
        // A proxy's own: staging behind basic auth.
        let basic = ("authorization", "Basic dTpw");
        assert_eq!(with(&[basic], false), Err(Refusal::TokenMissing));
        assert_eq!(with(&[basic, offered], false), is("p"));
        assert_eq!(with(&[basic], true), is("q"));
        for nothing in ["Bearer", "Bearer ", "Negotiate", "Basic"] {
            let nothing = ("authorization", nothing);
            assert_eq!(with(&[nothing, offered], false), is("p"));
        }
    }

    #[test]
    fn no_place_has_two() {
        let of = |target: &str, headers: &[(&'static str, &'static str)]| {
            let mut request = Request::get(target).body(()).unwrap();
            for (name, value) in headers {
                let value = HeaderValue::from_static(value);
                request.headers_mut().append(*name, value);
            }
            in_request(&request, true)
        };
        let (basic, bearer) = (
            ("authorization", "Basic dTpw"),
            ("authorization", "Bearer h"),
        );
        for two in [
            [basic, bearer],
            [bearer, bearer],
            [bearer, ("authorization", "")],
        ] {
            let refused = Refusal::BadRequest(RequestFault::Authorization);
            assert_eq!(of("/ws", &two), Err(refused), "{two:?}");
        }
        let refused = Err(Refusal::BadRequest(RequestFault::Tokens));
        let protocol = |offered| ("sec-websocket-protocol", offered);
        let (first, second) = (protocol("presence.v1, bearer.p"), protocol("bearer.p"));
        assert_eq!(of("/ws", &[first, second]), refused);
        assert_eq!(of("/ws", &[protocol("bearer.p,bearer.")]), refused);
        for query in ["token=a&token=a", "token&token=a", "token=a&x=1&token=%ff"] {
            assert_eq!(of(&format!("/ws?{query}"), &[]), refused, "{query}");
            // Whatever else there is.
            assert_eq!(of(&format!("/ws?{query}"), &[bearer]), refused, "{query}");
        }
        assert_eq!(of("/ws?token=q", &[bearer, first]), Ok(Some("h".into())));
    }

    #[test]
    fn who_has_shown_none_is_told_from_who_believes_to_have() {
        let of = |target: &str, allow_query| {
            let basic = Request::get(target).header("authorization", "Basic dTpw");
            in_request(&basic.body(()).unwrap(), allow_query)
        };
        for allow_query in [false, true] {
            for target in ["/ws", "/ws?", "/ws?x=1", "/ws?tokens=1"] {
                assert_eq!(of(target, allow_query), Ok(None), "{target}");
            }
        }
        let missing = Err(Refusal::TokenMissing);
        assert_eq!(of("/ws?token=q", false), missing);
        assert_eq!(of("/ws?token=%ff", true), missing);
        assert_eq!(of("/ws?token", true), Ok(Some(String::new())));
    }
}
