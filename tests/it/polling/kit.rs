//! A client that polls, by hand.

use std::net::{IpAddr, SocketAddr};

use presenced_testkit::raw::{Raw, Response, TEXT, frame, request, upgrade};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, until};
use serde_json::Value;

/// Separates packets.
pub(super) const SEPARATOR: char = '\u{1e}';

/// The query of a handshake.
pub(super) const QUERY: &str = "EIO=4&transport=polling";

/// A server that pings seldom, so that nothing but what a test does answers a poll.
pub(super) async fn quiet(flags: &[&str]) -> TestServer {
    let quiet = ["--ping-interval=60s", "--ttl=180s"];
    TestServer::start(&[&quiet, flags].concat()).await
}

/// A session by its sid.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) edge: SocketAddr,
    pub(super) sid: String,
    /// Where its connections come from.
    from: IpAddr,
}

/// What a server that has had enough of a request says.
pub(super) fn told(response: &Response) -> (u16, &str) {
    (response.status, &response.body)
}

/// A bad request, in the words of Engine.IO.
pub(super) const BAD_REQUEST: (u16, &str) = (400, r#"{"code":3,"message":"Bad request"}"#);
/// No such session.
pub(super) const UNKNOWN: (u16, &str) = (400, r#"{"code":1,"message":"Session ID unknown"}"#);
/// What was posted was taken.
pub(super) const OK: (u16, &str) = (200, "ok");

impl Session {
    /// A handshake.
    pub(super) async fn open(edge: SocketAddr) -> Session {
        Session::open_from([127, 0, 0, 1].into(), edge).await
    }

    /// The same from an address of loopback.
    pub(super) async fn open_from(from: IpAddr, edge: SocketAddr) -> Session {
        let mut raw = Raw::connect_from(from, edge).await;
        let path = format!("/socket.io/?{QUERY}");
        raw.send(request("GET", &path, &[], "")).await;
        Session::opened(&raw.response().await, from, edge)
    }

    /// The same, which asks again while there is no place.
    pub(super) async fn open_in_time(from: IpAddr, edge: SocketAddr) -> Session {
        let mut session = None;
        until("there is a place", PATIENCE, async || {
            let mut raw = Raw::connect_from(from, edge).await;
            let path = format!("/socket.io/?{QUERY}");
            raw.send(request("GET", &path, &[], "")).await;
            let answer = raw.response().await;
            let is_full = [429, 503].contains(&answer.status);
            session = (!is_full).then(|| Session::opened(&answer, from, edge));
            session.is_some()
        })
        .await;
        session.unwrap()
    }

    /// The same of one that is connected to `/`.
    pub(super) async fn connected_in_time(edge: SocketAddr, user: &str) -> Session {
        let session = Session::open_in_time([127, 0, 0, 1].into(), edge).await;
        session.connect(user).await;
        session
    }

    /// By the answer to a handshake.
    pub(super) fn opened(answer: &Response, from: IpAddr, edge: SocketAddr) -> Session {
        assert_eq!(answer.status, 200, "{answer:?}");
        let open = answer.body.strip_prefix('0').expect("an open packet");
        let open: Value = serde_json::from_str(open).unwrap();
        Session {
            edge,
            sid: open["sid"].as_str().unwrap().to_owned(),
            from,
        }
    }

    /// One that is connected to `/`.
    pub(super) async fn connected(edge: SocketAddr, user: &str) -> Session {
        let session = Session::open(edge).await;
        session.connect(user).await;
        session
    }

    /// Connects to `/`; returns the `sid` of that.
    pub(super) async fn connect(&self, user: &str) -> String {
        assert_eq!(told(&self.post(&shows(user)).await), OK);
        let packets = self.hear().await;
        let [answer] = &packets[..] else {
            panic!("{packets:?}")
        };
        let answer = answer.strip_prefix("40").expect(answer);
        let answer: Value = serde_json::from_str(answer).unwrap();
        answer["sid"].as_str().unwrap().to_owned()
    }

    /// Where its requests go.
    pub(super) fn path(&self) -> String {
        format!("/socket.io/?{QUERY}&sid={}", self.sid)
    }

    /// A poll as it is sent.
    pub(super) fn get(&self) -> String {
        request("GET", &self.path(), &[], "")
    }

    /// A POST as it is sent.
    pub(super) fn posted(&self, body: &str) -> String {
        let plain = [("Content-Type", "text/plain;charset=UTF-8".to_owned())];
        request("POST", &self.path(), &plain, body)
    }

    /// A request that ends nothing, whose answer says what the session is: 405 if it polls.
    pub(super) fn put(&self) -> String {
        request("PUT", &self.path(), &[], "")
    }

    /// A connection of its own.
    pub(super) async fn dial(&self) -> Raw {
        Raw::connect_from(self.from, self.edge).await
    }

    /// The answer to bytes on a connection of their own.
    pub(super) async fn ask(&self, bytes: impl AsRef<[u8]>) -> Response {
        let mut raw = self.dial().await;
        raw.send(bytes).await;
        raw.response().await
    }

    /// The answer to a poll.
    pub(super) async fn poll(&self) -> Response {
        self.ask(self.get()).await
    }

    /// The answer to a POST.
    pub(super) async fn post(&self, body: &str) -> Response {
        self.ask(self.posted(body)).await
    }

    /// What a poll brings.
    pub(super) async fn hear(&self) -> Vec<String> {
        packets(&self.poll().await)
    }

    /// A poll that the server holds, as nothing is there for it.
    pub(super) async fn waiting(&self, server: &TestServer) -> Raw {
        self.waiting_on(self.dial().await, server).await
    }

    /// The same on a connection. No other requests may come meanwhile.
    pub(super) async fn waiting_on(&self, mut raw: Raw, server: &TestServer) -> Raw {
        let before = server.metric("http_requests_total").await;
        raw.send(self.get()).await;
        until("the poll has come", PATIENCE, async || {
            server.metric("http_requests_total").await > before
        })
        .await;
        raw
    }

    /// Asks who is online, with an id, so that there is something for the next poll.
    pub(super) async fn pull(&self, id: u32) {
        assert_eq!(told(&self.post(&pull(id)).await), OK);
    }

    /// Whether it is still a session that polls, whose queue is empty.
    pub(super) async fn lives(&self) {
        self.pull(77).await;
        assert_eq!(self.hear().await, [answer(77)]);
    }

    /// Waits until its sid means nothing.
    pub(super) async fn is_gone(&self) {
        until("its sid is unknown", PATIENCE, async || {
            let put = self.ask(self.put()).await;
            assert!(
                [UNKNOWN, BAD_REQUEST].contains(&told(&put)) || put.status == 405,
                "{put:?}"
            );
            told(&put) == UNKNOWN
        })
        .await;
        assert_eq!(told(&self.poll().await), UNKNOWN);
        assert_eq!(told(&self.post("3").await), UNKNOWN);
    }

    /// The handshake of a WebSocket as it is sent.
    pub(super) fn upgrades(&self) -> String {
        let path = format!("/socket.io/?EIO=4&transport=websocket&sid={}", self.sid);
        request("GET", &path, &upgrade(), "")
    }

    /// A WebSocket that nothing was said on yet.
    pub(super) async fn websocket(&self) -> Raw {
        let mut raw = self.dial().await;
        raw.send(self.upgrades()).await;
        let answer = raw.response().await;
        assert_eq!(answer.status, 101, "{answer:?}");
        raw
    }

    /// One that was probed.
    pub(super) async fn probed(&self) -> Raw {
        let mut raw = self.websocket().await;
        say(&mut raw, "2probe").await;
        assert_eq!(hear(&mut raw).await, "3probe");
        raw
    }
}

/// The packets of an answer to a poll.
pub(super) fn packets(answer: &Response) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let packets: Vec<_> = answer.body.split(SEPARATOR).map(str::to_owned).collect();
    assert!(packets.len() <= 16, "{answer:?}");
    packets
}

/// A CONNECT with a good token.
pub(super) fn shows(user: &str) -> String {
    format!(r#"40{{"token":"{}"}}"#, token(user))
}

/// A question about nobody.
pub(super) fn pull(id: u32) -> String {
    format!(r#"42{id}["presence:pull",[]]"#)
}

/// Its answer.
pub(super) fn answer(id: u32) -> String {
    format!(r#"43{id}[{{"online":{{}}}}]"#)
}

/// Questions, one after another.
pub(super) fn pulls(ids: impl IntoIterator<Item = u32>) -> String {
    let pulls: Vec<_> = ids.into_iter().map(pull).collect();
    pulls.join("\u{1e}")
}

/// Sends a packet over a WebSocket.
pub(super) async fn say(raw: &mut Raw, packet: &str) {
    raw.send(frame(TEXT, packet.as_bytes())).await;
}

/// The next packet over a WebSocket.
pub(super) async fn hear(raw: &mut Raw) -> String {
    let frame = raw.any_frame().await.expect("a packet");
    assert_eq!(frame.first, TEXT, "{frame:?}");
    String::from_utf8(frame.payload).unwrap()
}

/// Waits until nothing is left of any client.
pub(super) async fn all_gone(server: &TestServer) {
    all_gone_of(server.admin).await;
}

/// The same of a server wherever it is.
pub(super) async fn all_gone_of(admin: SocketAddr) {
    crate::socketio::all_gone(admin).await;
}

impl Session {
    /// Whether it is still a session, when the answers to these questions have come, each once.
    pub(super) async fn lives_after(&self, ids: impl IntoIterator<Item = u32>) {
        let mut expected: Vec<_> = ids.into_iter().map(answer).collect();
        let mut heard = Vec::new();
        while heard.len() < expected.len() {
            heard.extend(self.hear().await);
        }
        expected.sort();
        heard.sort();
        assert_eq!(heard, expected);
        self.lives().await;
    }
}
