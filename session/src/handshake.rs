//! The server's side of the WebSocket handshake (RFC 6455 §4.2), apart from who may come in: which
//! requests may be answered with 101, and that answer.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::Ipv6Addr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Version};
use sha1::{Digest, Sha1};
use thiserror::Error;

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a request is no handshake that can be accepted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{}", self.text())]
pub enum HandshakeError {
    /// Not a GET: 405.
    Method,
    /// No `Upgrade: websocket`: 426, with `Upgrade: websocket` (RFC 9110 §15.5.22).
    UpgradeRequired,
    /// A version other than 13: 426, with `Sec-WebSocket-Version: 13` (§4.4).
    Version,
    /// Not HTTP/1.1: 400.
    HttpVersion,
    /// No `Host`, several, or one that names no host: 400.
    Host,
    /// No `Connection: Upgrade`: 400.
    Connection,
    /// A body: 400.
    Body,
    /// No `Sec-WebSocket-Version`, or several: 400.
    VersionCount,
    /// No `Sec-WebSocket-Key`, several, or one that is not 16 bytes in base64: 400.
    Key,
}

impl HandshakeError {
    /// What is wrong, for people.
    pub const fn text(self) -> &'static str {
        match self {
            HandshakeError::Method => "a handshake is a GET request",
            HandshakeError::UpgradeRequired => "no upgrade to a WebSocket was asked for",
            HandshakeError::Version => "the WebSocket version must be 13",
            HandshakeError::HttpVersion => "a WebSocket handshake needs HTTP/1.1",
            HandshakeError::Host => {
                "a request needs exactly one Host header: a host and, if need be, a port"
            }
            HandshakeError::Connection => "the Connection header must name Upgrade",
            HandshakeError::Body => "a WebSocket handshake has no body",
            HandshakeError::VersionCount => {
                "a WebSocket handshake needs exactly one Sec-WebSocket-Version header"
            }
            HandshakeError::Key => {
                "a WebSocket handshake needs exactly one Sec-WebSocket-Key header, of 16 bytes in base64"
            }
        }
    }
}

/// RFC 6455 §4.2.1; returns the value of `Sec-WebSocket-Accept`.
///
/// # Errors
///
/// The first step that the request fails.
pub fn check_upgrade<B>(request: &Request<B>) -> Result<HeaderValue, HandshakeError> {
    let headers = request.headers();
    // 1: GET, HTTP/1.1.
    if request.method() != Method::GET {
        return Err(HandshakeError::Method);
    }
    if request.version() != Version::HTTP_11 {
        return Err(HandshakeError::HttpVersion);
    }
    // 2: Host.
    if !has_host(headers) {
        return Err(HandshakeError::Host);
    }
    // 3, 4: Upgrade and Connection.
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return Err(HandshakeError::UpgradeRequired);
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(HandshakeError::Connection);
    }
    // No body: it would be read as frames. A length of zero says that there is none (RFC 9110
    // §8.6).
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if lengths.any(|length| length != "0") || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(HandshakeError::Body);
    }
    // 6 before 5: a client of another version is told ours (§4.4).
    let version =
        only(headers, &header::SEC_WEBSOCKET_VERSION).ok_or(HandshakeError::VersionCount)?;
    if version.as_bytes() != b"13" {
        return Err(HandshakeError::Version);
    }
    // 5: a key of 16 bytes in base64.
    let key = only(headers, &header::SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?;
    if !BASE64_STANDARD
        .decode(key.as_bytes())
        .is_ok_and(|key| key.len() == 16)
    {
        return Err(HandshakeError::Key);
    }
    let digest = Sha1::new()
        .chain_update(key.as_bytes())
        .chain_update(GUID)
        .finalize();
    let accept = BASE64_STANDARD.encode(digest);
    HeaderValue::from_str(&accept).map_err(|_| HandshakeError::Key)
}

/// Whether there is exactly one `Host` and it is legal (RFC 9112 §3.2): a host and perhaps a port, or
/// nothing at all, where what is asked for has no authority.
pub fn has_host(headers: &HeaderMap) -> bool {
    only(headers, &header::HOST).is_some_and(|host| {
        let Ok(host) = host.to_str() else {
            return false;
        };
        host.is_empty() || host.parse().is_ok_and(|host| is_host(&host))
    })
}

fn is_host(authority: &Authority) -> bool {
    // The library takes any digits for a port, and any text in brackets.
    let (host, whole) = (authority.host(), authority.as_str());
    let is_name = !host.is_empty() && !host.contains(['[', ']']);
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_address = address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && (port.is_empty() || port.parse::<u16>().is_ok())
    };
    // User information stands before the host.
    let rest = whole.strip_prefix(host);
    let is_rest_port = rest.is_some_and(|rest| is_port(rest.strip_prefix(':').unwrap_or(rest)));
    (is_name || is_address) && is_rest_port
}

/// The 101 of RFC 6455 §4.2.2 for a request that [`check_upgrade`] has accepted, with the
/// subprotocol that the server has chosen from those offered. Extensions that were offered are not
/// answered, so none is in use.
pub fn switching_protocols<B: Default>(
    accept: HeaderValue,
    subprotocol: Option<&'static str>,
) -> Response<B> {
    let mut answer = Response::new(B::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(subprotocol) = subprotocol {
        let subprotocol = HeaderValue::from_static(subprotocol);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    answer
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

    fn changed(change: impl FnOnce(&mut Request<()>)) -> Result<HeaderValue, HandshakeError> {
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
        use HandshakeError::{
            Body, Connection, Host, HttpVersion, Key, UpgradeRequired, Version as OtherVersion,
            VersionCount,
        };
        let method = changed(|request| *request.method_mut() = Method::POST);
        assert_eq!(method, Err(HandshakeError::Method));
        let old = changed(|request| *request.version_mut() = Version::HTTP_10);
        assert_eq!(old, Err(HttpVersion));
        assert_eq!(without("host"), Err(Host));
        assert_eq!(twice("host", "y"), Err(Host));
        for (host, is_legal) in [
            ("", true),
            ("x", true),
            ("x:80", true),
            ("x:", true),
            ("[::1]:443", true),
            ("1.2.3.4", true),
            ("x y", false),
            ("u@x", false),
            ("u:1@x:1", false),
            ("x:65536", false),
            ("x:+1", false),
            ("x:a", false),
            (":80", false),
            ("[::1", false),
            ("x/y", false),
            ("[x]", false),
            ("a[::1]", false),
            ("[::1]x", false),
            ("%61", false),
            ("x,y", true),
        ] {
            let with = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            assert_eq!(has_host(&with), is_legal, "{host:?}");
        }
        assert_eq!(without("upgrade"), Err(UpgradeRequired));
        assert_eq!(set("upgrade", "h2c"), Err(UpgradeRequired));
        assert_eq!(set("connection", "close"), Err(Connection));
        assert_eq!(without("sec-websocket-version"), Err(VersionCount));
        assert_eq!(set("sec-websocket-version", "8"), Err(OtherVersion));
        assert_eq!(without("sec-websocket-key"), Err(Key));
        assert_eq!(set("sec-websocket-key", "c2hvcnQ="), Err(Key));
        assert_eq!(
            set("sec-websocket-key", "not base64 at all!!!!!!="),
            Err(Key)
        );
        assert_eq!(
            twice("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            Err(Key)
        );
        assert_eq!(twice("sec-websocket-version", "13"), Err(VersionCount));
        assert_eq!(set("content-length", "5"), Err(Body));
        assert_eq!(set("content-length", "00"), Err(Body));
        assert_eq!(set("transfer-encoding", "chunked"), Err(Body));
    }

    #[test]
    fn a_length_of_zero_is_no_body() {
        let with_length = changed(|request| {
            let zero = HeaderValue::from_static("0");
            request.headers_mut().insert("content-length", zero);
        });
        assert!(with_length.is_ok());
    }
}
