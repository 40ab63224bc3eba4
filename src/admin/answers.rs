//! What the admin listener answers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

/// The media type of what is for people.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// The path has only these methods.
pub(super) fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let why = format!("only {}\n", allowed.replace(", ", " and "));
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, why);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// A body of a media type.
pub(super) fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
