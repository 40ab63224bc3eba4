//! The client's side of the WebSocket handshake (RFC 6455 §4.1).

use std::io::Write;
use std::net::SocketAddr;

use httparse::{EMPTY_HEADER, Response, Status};

use crate::flags::Protocol;
use crate::session_error::SessionError;

/// The example key of the RFC. A random key protects from caches, and there is none.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Bounds an endless response head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// Renders requests, which differ only in their tokens.
#[derive(Debug)]
pub(crate) struct Requests {
    head: Vec<u8>,
}

impl Requests {
    pub(crate) fn new(protocol: Protocol, path: &str, host: SocketAddr) -> Requests {
        let query = match (protocol, path.contains('?')) {
            (Protocol::WebSocket, _) => "",
            (Protocol::EngineIo, false) => "?EIO=4&transport=websocket",
            (Protocol::EngineIo, true) => "&EIO=4&transport=websocket",
        };
        let head = format!(
            "GET {path}{query} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
        );
        Requests { head: head.into() }
    }

    /// Appends a request to `out`.
    pub(crate) fn put(&self, out: &mut Vec<u8>, token: Option<&str>) {
        out.extend_from_slice(&self.head);
        if let Some(token) = token {
            // Writing to a vector cannot fail.
            let _ = write!(out, "Authorization: Bearer {token}\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Takes the response off `input`. Returns false while it is incomplete, and an error unless the
/// server has switched to WebSocket.
pub(crate) fn take(input: &mut &[u8]) -> Result<bool, SessionError> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut headers);
    let length = match response.parse(input) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if input.len() < HEAD_BYTES_MAX => return Ok(false),
        _ => return Err(SessionError::Failed("not http".into())),
    };
    match response.code {
        Some(101) => {}
        status => {
            return Err(SessionError::Refused(
                status.unwrap_or_default().to_string(),
            ));
        }
    }
    let accepted = response.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("sec-websocket-accept") && header.value == ACCEPT
    });
    if !accepted {
        return Err(SessionError::Failed("not a websocket".into()));
    }
    *input = &input[length..];
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
        connection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x89\0";

    #[test]
    fn requests() {
        let put = |protocol, path: &str, token| {
            let mut out = Vec::new();
            let addr = "127.0.0.1:80".parse().unwrap();
            Requests::new(protocol, path, addr).put(&mut out, token);
            String::from_utf8(out).unwrap()
        };
        let plain = put(Protocol::WebSocket, "/ws", Some("a.b.c"));
        assert!(plain.starts_with("GET /ws HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"));
        assert!(plain.ends_with("\r\nAuthorization: Bearer a.b.c\r\n\r\n"));
        let engine = put(Protocol::EngineIo, "/socket.io/", None);
        assert!(engine.starts_with("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"));
        assert!(engine.ends_with("==\r\n\r\n"));
        let query = put(Protocol::EngineIo, "/?a=b", None);
        assert!(query.starts_with("GET /?a=b&EIO=4&"));
    }

    #[test]
    fn the_response_may_arrive_in_pieces() {
        for cut in 0..ANSWER.len() - 2 {
            assert_eq!(take(&mut &ANSWER[..cut]), Ok(false), "cut at {cut}");
        }
        let mut input = ANSWER;
        assert_eq!(take(&mut input), Ok(true));
        assert_eq!(input, b"\x89\0");
    }

    #[test]
    fn refusals() {
        let answer = |text: &str| take(&mut text.as_bytes()).unwrap_err();
        assert_eq!(
            answer("HTTP/1.1 401 Unauthorized\r\n\r\n"),
            SessionError::Refused("401".into())
        );
        assert_eq!(
            answer("HTTP/1.1 101 Yes\r\nsec-websocket-accept: x\r\n\r\n"),
            SessionError::Failed("not a websocket".into())
        );
        assert_eq!(
            answer("\x16\x03\x01\0"),
            SessionError::Failed("not http".into())
        );
        let endless = format!("HTTP/1.1 101 Yes\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
        assert_eq!(answer(&endless), SessionError::Failed("not http".into()));
    }
}
