//! Socket.IO: byte by byte as its specification has it, and with the clients that people use.

mod bounds;
pub(crate) mod clients;
mod packets;
mod requests;

use std::net::{IpAddr, SocketAddr};

use presenced_testkit::raw::{BINARY, CLOSE, Raw, TEXT, frame, get, request, upgrade};
use presenced_testkit::server::{TestServer, metric};
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, until};
use serde_json::Value;

/// The flag of a server that speaks it over WebSockets alone.
const SOCKETIO: &str = "--socketio=websocket-only";

/// The query of a handshake.
const QUERY: &str = "EIO=4&transport=websocket";

/// A server that speaks it, with `flags` in place of the usual ones.
async fn started(flags: &[&str]) -> TestServer {
    TestServer::start(&[&[SOCKETIO], flags].concat()).await
}

/// Waits until nothing is left of any client.
pub(crate) async fn all_gone(admin: SocketAddr) {
    until("nothing is left of any client", PATIENCE, async || {
        let metrics = get(admin, "/metrics").await;
        ["sessions", "users", "http_connections"]
            .iter()
            .all(|name| metric(&metrics, name) == 0)
    })
    .await;
}

/// A client of Engine.IO by hand, which answers no pings.
struct Io {
    raw: Raw,
    /// The first packet.
    open: Value,
}

impl Io {
    async fn open(edge: SocketAddr) -> Io {
        Io::open_with(Raw::connect(edge).await, QUERY, &[]).await
    }

    /// The same from an address of loopback.
    async fn open_from(from: IpAddr, edge: SocketAddr) -> Io {
        Io::open_with(Raw::connect_from(from, edge).await, QUERY, &[]).await
    }

    /// The same with another query, and more headers.
    async fn open_with(mut raw: Raw, query: &str, headers: &[(&'static str, &str)]) -> Io {
        raw.send(shake(query, headers)).await;
        let response = raw.response().await;
        assert_eq!(response.status, 101, "{response:?}");
        let mut io = Io {
            raw,
            open: Value::Null,
        };
        let first = io.hear_any().await;
        let json = first.strip_prefix('0').expect("an open packet");
        io.open = serde_json::from_str(json).unwrap();
        io
    }

    /// One that is connected to `/` as `user`; and its Socket.IO `sid`.
    async fn session(edge: SocketAddr, user: &str) -> (Io, String) {
        let mut io = Io::open(edge).await;
        let sid = io.connect("", user).await;
        (io, sid)
    }

    /// Connects to a namespace, which is named with its comma, or to `/`; returns the `sid` of it.
    async fn connect(&mut self, namespace: &str, user: &str) -> String {
        self.say(&shows(namespace, &token(user))).await;
        self.connected(namespace).await
    }

    /// The answer to a CONNECT that was accepted.
    async fn connected(&mut self, namespace: &str) -> String {
        let answer = self.hear().await;
        let json = answer.strip_prefix(&format!("40{namespace}"));
        let json = json.unwrap_or_else(|| panic!("not connected to {namespace}: {answer}"));
        let answer: Value = serde_json::from_str(json).unwrap();
        assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
        answer["sid"].as_str().unwrap().to_owned()
    }

    async fn say(&mut self, packet: &str) {
        self.raw.send(frame(TEXT, packet.as_bytes())).await;
    }

    async fn say_binary(&mut self, data: &[u8]) {
        self.raw.send(frame(BINARY, data)).await;
    }

    /// Several packets in one segment.
    async fn say_at_once(&mut self, packets: &[&str]) {
        let frames = packets.iter().map(|packet| frame(TEXT, packet.as_bytes()));
        self.raw.send(frames.collect::<Vec<_>>().concat()).await;
    }

    /// The next packet, which comes in a text frame.
    async fn hear_any(&mut self) -> String {
        let frame = self.raw.frame().await.expect("a packet");
        assert_eq!(frame.first, TEXT, "{frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }

    /// The next packet that is no ping.
    async fn hear(&mut self) -> String {
        loop {
            let packet = self.hear_any().await;
            if packet != "2" {
                return packet;
            }
        }
    }

    /// The same, which begins with `prefix`, as JSON behind that.
    async fn hear_json(&mut self, prefix: &str) -> Value {
        let packet = self.hear().await;
        let json = packet.strip_prefix(prefix);
        let json = json.unwrap_or_else(|| panic!("{packet} does not begin with {prefix}"));
        serde_json::from_str(json).unwrap_or_else(|_| panic!("no JSON: {packet}"))
    }

    /// Whether it is still a session: it asks, and is answered.
    async fn lives(&mut self) {
        self.say(r#"421234567["presence:pull",[]]"#).await;
        assert_eq!(self.hear().await, r#"431234567[{"online":{}}]"#);
    }

    /// Who of `user` is online, asked in `/`.
    async fn sees(&mut self, user: &str) -> bool {
        self.say(&format!(r#"420["presence:pull","{user}"]"#)).await;
        let answer = self.hear_json("430").await;
        answer[0]["online"][user].is_object()
    }

    /// How the server closes it, after no packet but pings.
    async fn closed(mut self) -> (u16, String) {
        loop {
            let frame = self.raw.frame().await.expect("a close frame");
            if frame.first == CLOSE {
                assert_eq!(self.raw.any_frame().await, None, "after a close frame");
                let (code, reason) = frame.payload.split_first_chunk().expect("a code");
                let reason = String::from_utf8(reason.to_vec()).unwrap();
                return (u16::from_be_bytes(*code), reason);
            }
            assert_eq!((frame.first, &*frame.payload), (TEXT, &b"2"[..]));
        }
    }

    /// Sends `packet`, which ends the session as one that is forbidden.
    async fn ends_with(mut self, packet: &str) {
        self.say(packet).await;
        assert_eq!(
            self.closed().await,
            (1002, "protocol".into()),
            "after {packet}"
        );
    }
}

/// A handshake.
fn shake(query: &str, headers: &[(&'static str, &str)]) -> String {
    let mut all = upgrade();
    all.extend(
        headers
            .iter()
            .map(|(name, value)| (*name, value.to_string())),
    );
    request("GET", &format!("/socket.io/?{query}"), &all, "")
}

/// A CONNECT with a token.
fn shows(namespace: &str, token: &str) -> String {
    format!(r#"40{namespace}{{"token":"{token}"}}"#)
}

/// A CONNECT that was refused.
fn refused(namespace: &str, message: &str, code: &str) -> String {
    format!(r#"44{namespace}{{"message":"{message}","data":{{"code":"{code}"}}}}"#)
}
