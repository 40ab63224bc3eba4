//! HTTP/1.1 and frames by hand, for what no well-behaved client sends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::PATIENCE;
use crate::edge_stream::EdgeStream;
pub use crate::frame::*;
use crate::tokens::token;

/// The key of RFC 6455's example, and what must be answered to it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// See [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An HTTP response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// All of it up to the body, as it came.
    pub head: String,
    pub body: String,
}

impl Response {
    /// The header's value, if it is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let value = values.next()?;
        assert_eq!(values.next(), None, "{name} twice in {self:?}");
        Some(value)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The error code in the body.
    pub fn error_code(&self) -> String {
        let json = self.json();
        assert!(json["error"]["message"].is_string(), "{json}");
        json["error"]["code"].as_str().unwrap().into()
    }
}

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, reserved bits and opcode.
    pub first: u8,
    pub payload: Vec<u8>,
}

/// A connection to the server, over TLS if it speaks that.
pub struct Raw {
    stream: EdgeStream,
    /// What was read and not looked at yet.
    inbox: Vec<u8>,
    /// How reading came to its end.
    end: Option<End>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server has ended its side; with TLS, it has said so (`close_notify`).
    Orderly,
    /// It was cut off, without that.
    Cut,
}

/// The lines of a handshake but for the first, Host and the token.
pub fn upgrade() -> Vec<(&'static str, String)> {
    let headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", KEY),
    ];
    headers
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec()
}

/// A handshake with a token in its usual place.
pub fn upgrade_with(token: &str) -> Vec<(&'static str, String)> {
    let mut headers = upgrade();
    headers.push(("Authorization", format!("Bearer {token}")));
    headers
}

/// A request as it is sent. The Host header is added.
pub fn request(method: &str, path: &str, headers: &[(&str, String)], body: &str) -> String {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: edge.test\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    request + "\r\n" + body
}

/// Sends a request on a connection of its own.
pub async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &str,
) -> Response {
    let mut raw = Raw::connect(addr).await;
    raw.send(request(method, path, headers, body)).await;
    raw.response().await
}

/// `GET` without headers.
pub async fn get(addr: SocketAddr, path: &str) -> Response {
    send(addr, "GET", path, &[], "").await
}

/// `GET` with a token.
pub async fn get_with(addr: SocketAddr, path: &str, token: &str) -> Response {
    let headers = [("Authorization", format!("Bearer {token}"))];
    send(addr, "GET", path, &headers, "").await
}

/// The answer to a handshake with `headers`.
pub async fn handshake(addr: SocketAddr, headers: &[(&str, String)]) -> Response {
    send(addr, "GET", "/ws", headers, "").await
}

impl Raw {
    pub async fn connect(addr: SocketAddr) -> Raw {
        Raw::try_connect(addr).await.expect("the server listens")
    }

    /// The same from an address of loopback.
    pub async fn connect_from(from: IpAddr, addr: SocketAddr) -> Raw {
        let raw = Raw::try_connect_from(from, addr).await;
        raw.expect("TLS, if the server speaks that")
    }

    /// The same behind bytes that come before TLS, in pieces of their own.
    pub async fn connect_behind(pieces: &[&[u8]], addr: SocketAddr) -> Raw {
        let mut stream = TcpStream::connect(addr).await.expect("it listens");
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        Raw::on(EdgeStream::over(stream, addr).await.unwrap())
    }

    /// A connection without TLS, whatever the server speaks.
    pub async fn connect_plain(addr: SocketAddr) -> Raw {
        let stream = TcpStream::connect(addr).await.expect("it listens");
        Raw::on(EdgeStream::Plain(stream))
    }

    /// The same from an address of loopback; `None` if TLS is refused.
    pub async fn try_connect_from(from: IpAddr, addr: SocketAddr) -> Option<Raw> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let stream = timeout(PATIENCE, socket.connect(addr)).await;
        let stream = stream.expect("the server listens").unwrap();
        EdgeStream::over(stream, addr).await.ok().map(Raw::on)
    }

    fn on(stream: EdgeStream) -> Raw {
        Raw {
            stream,
            inbox: Vec::new(),
            end: None,
        }
    }

    /// The same with a server that may have ended.
    pub async fn try_connect(addr: SocketAddr) -> Option<Raw> {
        EdgeStream::connect(addr).await.ok().map(Raw::on)
    }

    /// A session of `user`.
    pub async fn session(edge: SocketAddr, user: &str) -> Raw {
        let mut raw = Raw::connect(edge).await;
        let headers = upgrade_with(&token(user));
        raw.send(request("GET", "/ws", &headers, "")).await;
        let response = raw.response().await;
        assert_eq!(response.status, 101, "{response:?}");
        raw
    }

    /// Where it comes from.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.tcp().local_addr().unwrap()
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = timeout(PATIENCE, self.write(bytes.as_ref())).await;
        sent.expect("the server reads").unwrap();
    }

    /// Sends what the server need not take to its end; whether it did.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = timeout(PATIENCE, self.write(bytes.as_ref())).await;
        sent.expect("the server reads or hangs up").is_ok()
    }

    /// Sends what the server may not read at all; whether it has taken all of it in that time.
    pub async fn send_within(&mut self, time: Duration, bytes: &[u8]) -> bool {
        let sent = timeout(time, self.write(bytes)).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next response.
    pub async fn response(&mut self) -> Response {
        self.try_response().await.expect("a response")
    }

    /// The next response; `None` if the connection ends before its head does.
    pub async fn try_response(&mut self) -> Option<Response> {
        let mut response = self.try_head().await?;
        let length = response.header("content-length");
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.inbox.len() < length {
            assert!(self.read().await, "a body cut off: {response:?}");
        }
        response.body = String::from_utf8(self.inbox.drain(..length).collect()).unwrap();
        Some(response)
    }

    /// The next response up to its body.
    pub async fn head(&mut self) -> Response {
        self.try_head().await.expect("a response")
    }

    async fn try_head(&mut self) -> Option<Response> {
        let end = loop {
            if let Some(end) = self.inbox.windows(4).position(|end| end == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.read().await {
                return None;
            }
        };
        let head = String::from_utf8(self.inbox.drain(..end).collect()).unwrap();
        Some(Response {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: String::new(),
        })
    }

    /// Ends this side of TCP, without a word of TLS's.
    pub fn half_close(&self) {
        let socket = socket2::SockRef::from(self.stream.tcp());
        socket.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(self.stream.tcp())
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// The next frame; nothing at the end of the connection.
    pub async fn any_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            if !self.read().await {
                assert_eq!(self.inbox, b"", "a frame cut off");
                return None;
            }
        }
    }

    /// The same, without the server's own pings.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            let frame = self.any_frame().await;
            if frame.as_ref().is_none_or(|frame| frame.first != PING) {
                return frame;
            }
        }
    }

    /// The next frame, which is a text message of JSON.
    pub async fn json(&mut self) -> Value {
        let frame = self.frame().await.expect("an answer");
        assert_eq!(frame.first, TEXT, "{frame:?}");
        serde_json::from_slice(&frame.payload).unwrap()
    }

    /// The code of the close frame that comes next, after which the server ends its side.
    pub async fn close_code(&mut self) -> u16 {
        self.close().await.0
    }

    /// The same with the reason, which every close frame has.
    pub async fn close(&mut self) -> (u16, String) {
        let frame = self.frame().await.expect("a close frame");
        assert_eq!(frame.first, CLOSE, "{frame:?}");
        assert_eq!(self.any_frame().await, None, "after a close frame");
        let (code, reason) = frame.payload.split_first_chunk().expect("a code");
        assert_ne!(reason, b"", "{frame:?}");
        let reason = String::from_utf8(reason.to_vec()).expect("UTF-8");
        (u16::from_be_bytes(*code), reason)
    }

    /// Waits until the server closes the connection.
    pub async fn hung_up(&mut self) {
        while self.read().await {}
    }

    /// The same; how it does so.
    pub async fn end(&mut self) -> End {
        self.hung_up().await;
        self.end.expect("it has ended")
    }

    /// All that comes until then.
    pub async fn rest(mut self) -> Vec<u8> {
        self.hung_up().await;
        self.inbox
    }

    /// True when something was read, false at the end.
    async fn read(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.inbox)).await;
        let end = match read.expect("the server answers or hangs up") {
            Ok(0) => End::Orderly,
            Ok(_) => return true,
            // A reset is an end too.
            Err(_) => End::Cut,
        };
        self.end.get_or_insert(end);
        false
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let (&[first, short], rest) = self.inbox.split_first_chunk()?;
        assert_eq!(short & 0x80, 0, "a server's frames are not masked");
        let (length, payload) = match short {
            126 => {
                let (length, payload) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(*length)), payload)
            }
            127 => {
                let (length, payload) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length) as usize, payload)
            }
            length => (usize::from(length), rest),
        };
        let payload = payload.get(..length)?.to_vec();
        let taken =
            2 + if short < 126 {
                0
            } else if short == 126 {
                2
            } else {
                8
            } + length;
        self.inbox.drain(..taken);
        Some(Frame { first, payload })
    }
}
