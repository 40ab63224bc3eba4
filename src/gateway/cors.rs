//! What lets a page of an allowed origin read the answers, and ask with a token (CORS, in the Fetch
//! standard).

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::origin::Origins;
use super::response::{Answer, set};
use crate::limits::ALLOWED_HEADERS_BYTES_MAX;

/// What a page needs that sends a token and JSON, where it does not say what it will send.
const ALLOWED_HEADERS: &str = "authorization, content-type";

/// The page that a request comes from, if it may read the answer.
#[derive(Debug)]
pub(super) struct Page {
    /// A copy: the request's is a part of all that was read with it.
    origin: Option<Box<[u8]>>,
    has_credentials: bool,
}

impl Page {
    pub(super) fn of(headers: &HeaderMap, origins: &Origins) -> Page {
        let origin = headers.get(header::ORIGIN);
        Page {
            origin: origin
                .filter(|_| origins.allow(headers))
                .map(|origin| origin.as_bytes().into()),
            has_credentials: false,
        }
    }

    /// The same, which may send cookies, such as those of balancers.
    pub(super) fn with_credentials(self) -> Page {
        Page {
            has_credentials: true,
            ..self
        }
    }

    /// Allows it to read `answer`, whatever that says, unless every page may.
    pub(super) fn may_read(self, answer: &mut Answer) {
        let headers = answer.headers();
        if headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            return;
        }
        set(answer, header::VARY, "Origin");
        let origin = self.origin.map(|origin| HeaderValue::from_bytes(&origin));
        if let Some(Ok(origin)) = origin {
            let headers = answer.headers_mut();
            if self.has_credentials {
                let yes = HeaderValue::from_static("true");
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
            }
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let retry_after = HeaderValue::from_static("retry-after");
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, retry_after);
        }
    }
}

/// What a browser asks before it sends a token to another origin. It may send whatever headers it
/// names: tracing adds some of its own, and none of them means anything here.
pub(super) fn preflight(request: &HeaderMap) -> Answer {
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    set(
        &mut answer,
        header::ACCESS_CONTROL_ALLOW_METHODS,
        "GET, HEAD, POST",
    );
    set(&mut answer, header::ACCESS_CONTROL_MAX_AGE, "600");
    let allowed = requested(request)
        .and_then(|names| HeaderValue::try_from(names).ok())
        .unwrap_or(HeaderValue::from_static(ALLOWED_HEADERS));
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    answer
}

/// The names of headers that a browser asks for, as many as are names and fit; `None` if there are
/// none.
fn requested(request: &HeaderMap) -> Option<String> {
    let lines = request.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let names = lines
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        // As an answer it would stand for all of them.
        .filter(|name| name != "*");
    let mut allowed = String::new();
    for name in names {
        let separator = if allowed.is_empty() { "" } else { ", " };
        if allowed.len() + separator.len() + name.as_str().len() > ALLOWED_HEADERS_BYTES_MAX {
            break;
        }
        allowed.push_str(separator);
        allowed.push_str(name.as_str());
    }
    (!allowed.is_empty()).then_some(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(lines: &[&str]) -> String {
        let mut request = HeaderMap::new();
        for line in lines {
            let line = HeaderValue::from_str(line).unwrap();
            request.append(header::ACCESS_CONTROL_REQUEST_HEADERS, line);
        }
        let answer = preflight(&request);
        let allowed = &answer.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS];
        allowed.to_str().unwrap().to_owned()
    }

    #[test]
    fn what_is_asked_for_is_allowed_if_it_is_a_name() {
        assert_eq!(allowed(&[]), ALLOWED_HEADERS);
        assert_eq!(allowed(&["", " , "]), ALLOWED_HEADERS);
        assert_eq!(
            allowed(&["Authorization,traceparent", "x-b3-traceid"]),
            "authorization, traceparent, x-b3-traceid"
        );
        assert_eq!(allowed(&["*, a b, x(y), ok"]), "ok");
        let long = "x".repeat(ALLOWED_HEADERS_BYTES_MAX - 4);
        assert_eq!(allowed(&[&format!("a,{long},b")]), format!("a, {long}"));
        assert_eq!(allowed(&[&format!("a,{long}x")]), format!("a, {long}x"));
        assert_eq!(allowed(&[&format!("a,{long}xx")]), "a");
    }
}
