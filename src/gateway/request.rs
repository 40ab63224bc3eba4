//! What every request must be, whatever it asks for: told from its head alone.

use hyper::header::{self, HeaderMap};
use hyper::http::uri::Authority;
use hyper::{Request, Version};

use presenced_session::handshake::has_host;

use super::refusal::{Refusal, RequestFault};
use crate::limits::URI_BYTES_MAX;

/// Where a prober asks, which may be as old as HTTP/1.0.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

/// Checks a request's head, where a body has at most `body_bytes_max`.
///
/// # Errors
///
/// Why no path answers such a request.
pub(super) fn check<B>(request: &Request<B>, body_bytes_max: usize) -> Result<(), Refusal> {
    let is_probe = HEALTH.contains(&request.uri().path()) && has_legal_host(request);
    if !is_probe && !has_host(request.headers()) {
        return Err(Refusal::BadRequest(RequestFault::Host));
    }
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > URI_BYTES_MAX) {
        return Err(Refusal::UriTooLong);
    }
    // The library takes any list that ends with it, and decodes nothing else.
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next().map(|coding| coding.as_bytes().trim_ascii());
    let is_chunked = coding.is_none_or(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    if !is_chunked || codings.next().is_some() {
        return Err(Refusal::TransferCoding);
    }
    // Before a byte of it is read, or asked for (`Expect: 100-continue`).
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > body_bytes_max as u64) {
        return Err(Refusal::BodyTooBig);
    }
    Ok(())
}

/// Whether a request has a legal `Host`, which HTTP/1.0 may leave out.
pub fn has_legal_host<B>(request: &Request<B>) -> bool {
    match request.headers().contains_key(header::HOST) {
        true => has_host(request.headers()),
        false => request.version() < Version::HTTP_11,
    }
}

/// Whether a `Host` names this machine and no other: whatever name an attacker's page lets point to
/// it is in the header, too.
pub fn is_loopback_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether a body comes in another form than its own (RFC 9110 §8.4).
pub(super) fn is_compressed(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BODY_BYTES_MAX;

    fn checked(change: impl FnOnce(&mut Request<()>)) -> Result<(), Refusal> {
        let mut request = Request::get("/x").header("host", "a").body(()).unwrap();
        change(&mut request);
        check(&request, BODY_BYTES_MAX)
    }

    fn set(request: &mut Request<()>, name: &'static str, value: &str) {
        request.headers_mut().append(name, value.parse().unwrap());
    }

    #[test]
    fn exactly_one_host() {
        assert_eq!(checked(|_| {}), Ok(()));
        let twice = checked(|request| set(request, "host", "a"));
        assert_eq!(twice, Err(Refusal::BadRequest(RequestFault::Host)));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            for path in ["/x", "/healthz", "/readyz"] {
                let none = checked(|request| {
                    request.headers_mut().clear();
                    *request.version_mut() = version;
                    *request.uri_mut() = path.parse().unwrap();
                });
                let is_probe = version == Version::HTTP_10 && path != "/x";
                assert_eq!(none.is_ok(), is_probe, "{version:?} {path}");
            }
        }
    }

    #[test]
    fn what_is_too_long_is_seen_in_the_head() {
        let of_length = |length: &str| checked(|request| set(request, "content-length", length));
        assert_eq!(of_length("131072"), Ok(()));
        assert_eq!(of_length("131073"), Err(Refusal::BodyTooBig));
        assert_eq!(of_length("18446744073709551615"), Err(Refusal::BodyTooBig));
        let with_uri = |bytes: usize| {
            let uri = format!("/{}", "x".repeat(bytes - 1));
            checked(|request| *request.uri_mut() = uri.parse().unwrap())
        };
        assert_eq!(with_uri(URI_BYTES_MAX), Ok(()));
        assert_eq!(with_uri(URI_BYTES_MAX + 1), Err(Refusal::UriTooLong));
    }

    #[test]
    fn chunked_alone_is_a_transfer_coding() {
        let of = |codings: &[&str]| {
            checked(|request| {
                for coding in codings {
                    set(request, "transfer-encoding", coding);
                }
            })
        };
        for known in [&[][..], &["chunked"], &["Chunked "]] {
            assert_eq!(of(known), Ok(()), "{known:?}");
        }
        for unknown in [
            &["chunked, chunked"][..],
            &["chunked", "chunked"],
            &["gzip, chunked"],
            &["gzip", "chunked"],
            &["identity"],
            &[""],
        ] {
            assert_eq!(of(unknown), Err(Refusal::TransferCoding), "{unknown:?}");
        }
    }

    #[test]
    fn a_compressed_body_says_so() {
        for (coding, expected) in [
            ("gzip", true),
            ("identity", false),
            ("Identity, BR", true),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, coding.parse().unwrap());
            assert_eq!(is_compressed(&headers), expected, "{coding}");
        }
        assert!(!is_compressed(&HeaderMap::new()));
    }
}
