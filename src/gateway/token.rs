//! Where a request has its token.

use hyper::Request;
use hyper::header::{self, HeaderMap, HeaderValue};

use super::query::values;

/// How a browser sends its token, which it can't put into a header of its own: as a subprotocol
/// that the server never answers with.
const TOKEN_SUBPROTOCOL: &str = "bearer.";

/// The request's token, from the first place that has one: `Authorization: Bearer`, the
/// subprotocols, and, where it is allowed, the query. `Authorization` of another scheme is not for us
/// but for a proxy before us.
pub(super) fn token<B>(request: &Request<B>, allow_query: bool) -> Option<String> {
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
