//! What the server does with clients that don't shake hands, don't trust it, flood, don't read, or go without a word; and how
//! its connections end: always with `close_notify`, so that a client can tell an end from a cut (RFC 8446 §6.1).

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use futures_util::future::join_all;
use presenced::limits::HANDSHAKE_TIMEOUT;
use presenced_testkit::balancers::Balancer;
use presenced_testkit::client::Client;
use presenced_testkit::edge_stream::TlsEdge;
use presenced_testkit::programs::{openssl, talk};
use presenced_testkit::raw::{
    CLOSE, End, Raw, TEXT, frame, get_with, request, send, upgrade, upgrade_with,
};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, until};
use presenced_tls::provider;
use presenced_tls::rustls::pki_types::pem::PemObject;
use presenced_tls::rustls::pki_types::{CertificateDer, ServerName};
use presenced_tls::rustls::version::{TLS12, TLS13};
use presenced_tls::rustls::{
    self, AlertDescription, ClientConfig, ClientConnection, RootCertStore,
};
use presenced_tls::testing::{AUTHORITY, AUTHORITY_FILE, HOST};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use crate::frames::{DEAF, a_deaf_client_is_dropped, floods_are_ended};
use crate::socketio::all_gone;

/// The first bytes of a handshake: a record's header, and that of a ClientHello of 508 bytes.
const HELLO_BEGINS: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

/// An alert that ends the connection, as it goes over the wire before there are keys (RFC 8446 §6).
const fn fatal(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// The answer of another protocol's server, and its end.
async fn heard_of(edge: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut raw = Raw::connect_plain(edge).await;
    raw.send(bytes).await;
    raw.rest().await
}

#[tokio::test]
async fn http_without_tls_is_told_so() {
    let server = TestServer::start_tls(&[]).await;
    for (method, path, headers) in [
        ("GET", "/", vec![]),
        ("GET", "/ws", upgrade_with(&token("alice"))),
        ("POST", "/v1/presence", vec![]),
    ] {
        let mut raw = Raw::connect_plain(server.edge).await;
        raw.send(request(method, path, &headers, "")).await;
        let answer = raw.response().await;
        assert_eq!((answer.status, &*answer.error_code()), (400, "tls"));
        assert!(answer.body.contains("https:// or wss://"), "{answer:?}");
        assert_eq!(raw.end().await, End::Orderly);
    }
    assert_eq!(server.refused_for("tls", "not_tls").await, 3);
    // A client that goes without a word is no fault: balancers look at ports that way.
    drop(Raw::connect_plain(server.edge).await);
    all_gone(server.admin).await;
    assert_eq!(server.handshakes("tls").await, 3);
}

#[tokio::test]
async fn garbage_is_answered_with_an_alert_or_as_http_would() {
    const UNEXPECTED_MESSAGE: u8 = 10;
    const DECODE_ERROR: u8 = 50;
    let server = TestServer::start_tls(&[]).await;
    for first in [0, b'\n', 20, 21, 23, 0x80, 0xff] {
        let heard = heard_of(server.edge, &[first; 100]).await;
        assert!(heard.starts_with(b"HTTP/1.1 400"), "{first}: {heard:?}");
    }
    assert_eq!(server.refused_for("tls", "not_tls").await, 7);
    let header = |length: u16| [&[22, 3, 1][..], &length.to_be_bytes()].concat();
    for (bytes, alert) in [
        // A ClientHello of nothing, a Finished, more than a record may have, and nothing at all.
        ([&header(4)[..], &[1, 0, 0, 0]].concat(), DECODE_ERROR),
        (
            [&header(36)[..], &[20, 0, 0, 32], &[0; 32]].concat(),
            UNEXPECTED_MESSAGE,
        ),
        (header(u16::MAX), DECODE_ERROR),
        (header(0), DECODE_ERROR),
    ] {
        let heard = heard_of(server.edge, &bytes).await;
        assert_eq!(heard, fatal(alert), "{bytes:?}");
    }
    assert_eq!(server.refused_for("tls", "protocol").await, 4);
}

/// What `openssl s_client` says that comes to nothing with these flags.
async fn openssl_fails(edge: SocketAddr, flags: &[&str]) -> String {
    let mut command = openssl(edge, &[&["-servername", HOST], flags].concat());
    let (status, said) = spawn_blocking(move || talk::<&str>(&mut command, &[]))
        .await
        .unwrap();
    assert!(!status.success(), "{flags:?}: {said}");
    said
}

#[tokio::test]
async fn clients_that_nothing_can_be_agreed_with_are_told_why() {
    let server = TestServer::start_tls(&[]).await;
    let old = ["-cipher", "ALL:@SECLEVEL=0"];
    for (flags, alert, reason) in [
        // It does not know who signed the certificate, and says so itself.
        (
            &[
                "-verify_return_error",
                "-no-CAfile",
                "-no-CApath",
                "-no-CAstore",
            ][..],
            "certificate verify failed",
            "alert",
        ),
        (&["-alpn", "h2"], "no application protocol", "alpn"),
        // rustls looks for kinds of signatures first, which these can't name.
        (
            &["-tls1_1", old[0], old[1]],
            "handshake failure",
            "incompatible",
        ),
        (
            &["-tls1", old[0], old[1]],
            "handshake failure",
            "incompatible",
        ),
        (
            &["-tls1_2", "-cipher", "AES128-SHA"],
            "handshake failure",
            "incompatible",
        ),
        (
            &["-tls1_3", "-groups", "X448"],
            "handshake failure",
            "incompatible",
        ),
    ] {
        let before = server.refused_for("tls", reason).await;
        let said = openssl_fails(server.edge, flags).await;
        assert!(said.contains(alert), "{flags:?}: {said}");
        until("it is counted", PATIENCE, async || {
            server.refused_for("tls", reason).await == before + 1
        })
        .await;
    }
    all_gone(server.admin).await;
}

#[tokio::test]
async fn a_client_says_which_name_it_does_not_trust() {
    let server = TestServer::start_tls(&[]).await;
    let mut command = Command::new("curl");
    let port = server.edge.port();
    command.args(["--silent", "--show-error", "--cacert", AUTHORITY_FILE]);
    command.args(["--resolve", &format!("else.example:{port}:127.0.0.1")]);
    command.arg(format!("https://else.example:{port}/"));
    let output = spawn_blocking(move || command.output().expect("curl"));
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("no alternative certificate subject name"),
        "{said}"
    );
    // curl looks at the name after the handshake, which was a good one.
    all_gone(server.admin).await;
    assert_eq!(server.handshakes("tls").await, 0);
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    const INTERNAL_ERROR: u8 = 80;
    let server = TestServer::start_tls(&[]).await;
    let began = Instant::now();
    // Nothing at all, a beginning, and one byte after the other.
    let mut silent = Raw::connect_plain(server.edge).await;
    let mut begun = Raw::connect_plain(server.edge).await;
    begun.send(HELLO_BEGINS).await;
    // Clients that say hello and nothing more.
    let half_done = both_versions().map(async |config| {
        let mut client = Records::new(server.edge, config).await;
        let hello = client.sealed(b"");
        client.send(&hello).await;
        client
    });
    let mut half_done = join_all(half_done).await;
    let mut dribbles = TcpStream::connect(server.edge).await.unwrap();
    let mut next = HELLO_BEGINS.iter().copied().chain(std::iter::repeat(0));
    let mut heard = Vec::new();
    let mut turns = tokio::time::interval(HANDSHAKE_TIMEOUT / 100);
    loop {
        tokio::select! {
            read = dribbles.read_buf(&mut heard) => if read.unwrap_or(0) == 0 { break },
            _ = turns.tick() => { let _ = dribbles.write(&[next.next().unwrap()]).await; }
        }
        assert!(began.elapsed() < HANDSHAKE_TIMEOUT + PATIENCE);
    }
    assert_eq!(heard, fatal(INTERNAL_ERROR));
    assert!(began.elapsed() >= HANDSHAKE_TIMEOUT);
    assert_eq!(silent.end().await, End::Orderly);
    assert_eq!(begun.rest().await, fatal(INTERNAL_ERROR));
    for client in &mut half_done {
        // They have all that they need, and no alert that they could not understand.
        while client.hear_bytes().await.unwrap() > 0 {}
        assert!(client.tls.wants_write());
    }
    all_gone(server.admin).await;
    assert_eq!(server.handshakes("request_timeout").await, 5);
}

/// Before a server, cuts all that clients send into single bytes, and all that they get.
async fn cutting_relay(edge: SocketAddr) -> (SocketAddr, TlsEdge) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(cut(client, TcpStream::connect(edge).await.unwrap()));
        }
    });
    (at, TlsEdge::at(at))
}

async fn cut(mut client: TcpStream, mut edge: TcpStream) {
    client.set_nodelay(true).unwrap();
    edge.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.split();
    let (mut from_edge, mut to_edge) = edge.split();
    let up = async {
        while let Ok(byte) = from_client.read_u8().await {
            to_edge.write_u8(byte).await.unwrap();
        }
        let _ = to_edge.shutdown().await;
    };
    let down = async {
        let _ = copy(&mut from_edge, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(up, down);
}

#[tokio::test]
async fn a_session_comes_in_single_bytes() {
    let server = TestServer::start_tls(&[]).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let (relay, _tls) = cutting_relay(server.edge).await;
    let mut alice = Client::connect(relay, "alice").await;
    for _ in 0..3 {
        let answer = alice.pull(&["alice"]).await;
        assert!(answer["online"]["alice"].is_object(), "{answer}");
    }
    let body = r#"{"users":["alice"]}"#;
    let bearer = [("Authorization", format!("Bearer {}", token("bob")))];
    let answer = send(relay, "POST", "/v1/presence", &bearer, body).await;
    assert!(answer.json()["online"]["alice"].is_object(), "{answer:?}");
    let pongs = async || server.metric("pongs_total").await > 0;
    until("a pong", PATIENCE, pongs).await;
    assert_eq!(alice.close().await.code, Some(1000));
}

fn from(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

#[tokio::test]
async fn handshakes_beyond_the_rate_of_an_address_cost_an_alert() {
    let flag = "--max-handshakes-per-second-per-address=1";
    let server = TestServer::start_tls(&[flag]).await;
    let mut began = Instant::now();
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..30 {
        match Raw::try_connect_from(from(2), server.edge).await {
            Some(_) => passed += 1,
            None => refused += 1,
        }
    }
    // What may come at once, and what has come back meanwhile.
    let most = 10 + began.elapsed().as_secs() + 1;
    assert!((10..=most).contains(&passed), "{passed}");
    let counted = server.handshakes("too_many_handshakes_from_address").await;
    assert_eq!(counted, refused);
    let mut kinds = 0;
    for version in ["1.2", "1.3"] {
        for resumed in ["yes", "no"] {
            let name =
                format!("tls_handshakes_total{{version=\"{version}\",resumed=\"{resumed}\"}}");
            kinds += server.metric(&name).await;
        }
    }
    assert_eq!(kinds, passed);
    // Another address has a rate of its own. On one connection there may be many requests.
    let mut raw = Raw::connect_from(from(3), server.edge).await;
    let bearer = [("Authorization", format!("Bearer {}", token("alice")))];
    for _ in 0..30 {
        raw.send(request("GET", "/v1/presence?user=1", &bearer, ""))
            .await;
        assert_eq!(raw.response().await.status, 200);
    }
    // A refused client is no more than that: once its rate allows, it comes in.
    began = Instant::now();
    while Raw::try_connect_from(from(2), server.edge).await.is_none() {
        assert!(began.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn a_drain_closes_sessions_and_says_so_in_tls_as_well() {
    let server = TestServer::start_tls(&["--socketio=all"]).await;
    let mut session = Raw::session(server.edge, "alice").await;
    let mut idle = Raw::connect(server.edge).await;
    let bearer = [("Authorization", format!("Bearer {}", token("bob")))];
    idle.send(request("GET", "/v1/presence?user=1", &bearer, ""))
        .await;
    assert_eq!(idle.response().await.status, 200);
    until("it has begun", PATIENCE, async || {
        server.metric("sessions").await == 1
    })
    .await;
    server.drain().await;
    assert_eq!(session.close_code().await, 1012);
    assert_eq!(session.end().await, End::Orderly);
    assert_eq!(idle.end().await, End::Orderly);
}

#[tokio::test]
async fn a_flood_of_frames_over_tls_is_1008() {
    floods_are_ended(&TestServer::start_tls(&[]).await).await;
}

#[tokio::test]
async fn who_never_reads_over_tls_is_dropped_and_holds_up_no_one() {
    a_deaf_client_is_dropped(&TestServer::start_tls(DEAF).await).await;
}

#[tokio::test]
async fn every_close_of_a_session_is_one_of_tls_too() {
    let server = TestServer::start_tls(&[]).await;
    for (sent, code) in [
        (frame(CLOSE, &1000_u16.to_be_bytes()), 1000),
        (frame(TEXT, &[0xff]), 1007),
        (vec![0xff; 20], 1002),
    ] {
        let mut raw = Raw::session(server.edge, "alice").await;
        raw.send(sent).await;
        assert_eq!(raw.close_code().await, code);
        assert_eq!(raw.end().await, End::Orderly, "{code}");
    }
    // One that answers no ping.
    let mut raw = Raw::session(server.edge, "alice").await;
    assert_eq!(raw.close_code().await, 4408);
    assert_eq!(raw.end().await, End::Orderly);
    all_gone(server.admin).await;
}

#[tokio::test]
async fn clients_that_go_without_a_word_leave_nothing_behind() {
    let server = TestServer::start_tls(&[]).await;
    // Resets: in the handshake, before and in a request, and in a session.
    let mut begun = Raw::connect_plain(server.edge).await;
    begun.send(HELLO_BEGINS).await;
    begun.reset();
    Raw::connect(server.edge).await.reset();
    let mut asking = Raw::connect(server.edge).await;
    asking.send("GET /v1/pres").await;
    asking.reset();
    Raw::session(server.edge, "alice").await.reset();
    // Half open: the client has ended its side of TCP, without close_notify, and hears the end all the same.
    let half = Raw::session(server.edge, "alice").await;
    half.half_close();
    half.rest().await;
    until("all sessions have ended", PATIENCE, async || {
        server.ends("disconnected").await == 2
    })
    .await;
    all_gone(server.admin).await;
}

#[tokio::test]
async fn http_connections_end_with_close_notify_whatever_the_reason() {
    let server = TestServer::start_tls(&["--http-keep-alive=1s"]).await;
    let bearer = vec![("Authorization", format!("Bearer {}", token("alice")))];
    let with = |more: (&'static str, &str)| {
        let mut headers = bearer.clone();
        headers.push((more.0, more.1.to_owned()));
        headers
    };
    let path = "/v1/presence?user=1";
    let long = format!("/{}", "x".repeat(20_000));
    let body = "x".repeat(1 << 20);
    for (what, asked, status) in [
        ("idle for too long", request("GET", path, &bearer, ""), 200),
        (
            "Connection: close",
            request("GET", path, &with(("Connection", "close")), ""),
            200,
        ),
        ("no token", request("GET", path, &[], ""), 401),
        ("no such path", request("GET", "/none", &[], ""), 404),
        (
            "no body",
            request("HEAD", path, &with(("Connection", "close")), ""),
            200,
        ),
        (
            "no token to a handshake",
            request("GET", "/ws", &upgrade_with("none"), ""),
            401,
        ),
        ("too long a line", request("GET", &long, &bearer, ""), 414),
        ("no HTTP", "nonsense\r\n\r\n".to_owned(), 400),
        (
            "a body that is too long",
            request("POST", "/v1/presence", &bearer, &body),
            413,
        ),
        (
            "a body that nobody reads",
            request("POST", "/v1/presence", &[], &body[..100_000]),
            401,
        ),
        (
            "HTTP/1.0",
            format!(
                "GET {path} HTTP/1.0\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n",
                token("alice")
            ),
            200,
        ),
    ] {
        let mut raw = Raw::connect(server.edge).await;
        raw.try_send(asked).await;
        let answer = raw.head().await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(raw.end().await, End::Orderly, "{what}");
    }
    // A browser's handshake that is accepted only to be closed with the reason.
    let mut raw = Raw::connect(server.edge).await;
    let mut headers = upgrade();
    headers.push(("Sec-WebSocket-Protocol", "presence.v1, bearer.none".into()));
    raw.send(request("GET", "/ws", &headers, "")).await;
    assert_eq!(raw.response().await.status, 101);
    raw.close_code().await;
    assert_eq!(raw.end().await, End::Orderly);
    // A head that does not come, and one that does not end.
    for begun in ["", "GET / HTTP/1.1\r\n"] {
        let mut raw = Raw::connect(server.edge).await;
        raw.send(begun).await;
        assert_eq!(raw.end().await, End::Orderly, "{begun:?}");
    }
}

#[tokio::test]
async fn haproxy_says_before_tls_where_its_clients_come_from() {
    let flags = [
        "--trusted-proxy=127.0.0.1",
        "--proxy-protocol",
        "--max-handshakes-per-second-per-address=2",
    ];
    let server = TestServer::start_tls(&flags).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    for version in ["send-proxy", "send-proxy-v2"] {
        let options = format!("{version} check check-ssl verify none inter 60s");
        let balancer = Balancer::haproxy_tcp(server.edge, &options).await;
        let mut alice = Client::connect(balancer.address(), "alice").await;
        let answer = alice.pull(&["alice"]).await;
        assert!(answer["online"]["alice"].is_object(), "{answer}");
        let pulled = get_with(balancer.address(), "/v1/presence?user=alice", &token("bob")).await;
        assert!(pulled.json()["online"]["alice"].is_object(), "{pulled:?}");
        alice.close().await;
        // The rate is that of the client's own address, not of the proxy's.
        let mut refused = 0;
        for _ in 0..40 {
            let came = Raw::try_connect_from(from(7), balancer.address()).await;
            refused += u64::from(came.is_none());
        }
        assert!(refused > 0);
        let other = Raw::try_connect_from(from(8), balancer.address()).await;
        assert!(other.is_some(), "{version}");
    }
}

/// A header of version 2 that says that the connection comes from 192.0.2.2.
fn header_of_version_2() -> Vec<u8> {
    let addresses = [192, 0, 2, 2, 10, 0, 0, 1, 200, 0, 1, 187];
    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [&head[..], &addresses].concat()
}

#[tokio::test]
async fn a_proxys_header_before_tls_may_be_cut_anywhere() {
    let flags = ["--trusted-proxy=127.0.0.1", "--proxy-protocol"];
    let server = TestServer::start_tls(&flags).await;
    let pull = |raw: Raw| async {
        let mut raw = raw;
        let bearer = [("Authorization", format!("Bearer {}", token("alice")))];
        raw.send(request("GET", "/v1/presence?user=1", &bearer, ""))
            .await;
        assert_eq!(raw.response().await.status, 200);
    };
    let line = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n".to_vec();
    for header in [line, header_of_version_2()] {
        for end in 0..=header.len() {
            let (first, rest) = header.split_at(end);
            pull(Raw::connect_behind(&[first, rest], server.edge).await).await;
        }
        let bytes: Vec<_> = header.chunks(1).collect();
        pull(Raw::connect_behind(&bytes, server.edge).await).await;
    }
    // Without its header, a trusted proxy hears an alert in the place of the answer that could not be sealed.
    let mut raw = Raw::connect_plain(server.edge).await;
    raw.send(HELLO_BEGINS).await;
    assert_eq!(raw.rest().await, fatal(80));
    assert_eq!(server.refused_for("bad_request", "proxy_header").await, 1);
    // One that is not trusted has none.
    let mut raw = Raw::connect_from(from(9), server.edge).await;
    raw.send(request("GET", "/", &[], "")).await;
    assert_eq!(raw.response().await.status, 200);
}

/// A client whose records a test sends as it likes.
struct Records {
    tls: ClientConnection,
    tcp: TcpStream,
    /// What was said and not waited for yet.
    heard: String,
}

impl Records {
    /// Before its handshake.
    async fn new(edge: SocketAddr, config: Arc<ClientConfig>) -> Records {
        let host = ServerName::try_from(HOST).unwrap();
        let tls = ClientConnection::new(config, host).unwrap();
        let tcp = TcpStream::connect(edge).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Records {
            tls,
            tcp,
            heard: String::new(),
        }
    }

    async fn connect(edge: SocketAddr, config: Arc<ClientConfig>) -> Records {
        let mut records = Records::new(edge, config).await;
        while records.tls.is_handshaking() {
            let out = records.sealed(b"");
            records.send(&out).await;
            if records.tls.is_handshaking() {
                assert!(records.hear().await.unwrap());
            }
        }
        records
    }

    /// What carries `text`, and what else is to be sent.
    fn sealed(&mut self, text: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(text).unwrap();
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).unwrap();
        }
        out
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.tcp.write_all(bytes).await.unwrap();
    }

    /// Hears what comes next, so many bytes.
    async fn hear_bytes(&mut self) -> Result<usize, rustls::Error> {
        let mut bytes = [0; 4096];
        let count = timeout(PATIENCE, self.tcp.read(&mut bytes)).await;
        let count = count.expect("it says something").unwrap();
        let mut read = &bytes[..count];
        while !read.is_empty() {
            self.tls.read_tls(&mut read).unwrap();
            self.tls.process_new_packets()?;
        }
        Ok(count)
    }

    /// Hears what comes next; false at an orderly end.
    async fn hear(&mut self) -> Result<bool, rustls::Error> {
        let mut text = Vec::new();
        let count = self.hear_bytes().await?;
        // Without an end of TLS there is no end of what is said.
        let heard = self.tls.reader().read_to_end(&mut text);
        let is_cut = count == 0 && heard.is_err();
        assert!(!is_cut, "cut off");
        self.heard.push_str(&String::from_utf8_lossy(&text));
        Ok(count > 0)
    }

    /// Waits for what contains `text`.
    async fn hear_until(&mut self, text: &str) {
        loop {
            if let Some(at) = self.heard.find(text) {
                self.heard.drain(..at + text.len());
                return;
            }
            assert!(self.hear().await.unwrap(), "it ends without {text:?}");
        }
    }

    /// Waits for the alert that ends the connection.
    async fn alert(&mut self) -> AlertDescription {
        loop {
            match self.hear().await {
                Ok(goes_on) => assert!(goes_on, "it ends without an alert"),
                Err(rustls::Error::AlertReceived(alert)) => return alert,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Clients of both versions.
fn both_versions() -> [Arc<ClientConfig>; 2] {
    [&TLS13, &TLS12].map(|version| {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(AUTHORITY).unwrap())
            .unwrap();
        let config = ClientConfig::builder_with_provider(provider().into())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    })
}

/// An idle connection may stay for long. One that has begun a record has the time that a request has.
#[tokio::test]
async fn a_record_that_is_begun_has_its_time() {
    let server = TestServer::start_tls(&["--http-keep-alive=10m"]).await;
    for config in both_versions() {
        let mut client = Records::connect(server.edge, config).await;
        let asked = client.sealed(request("GET", "/", &[], "").as_bytes());
        client.send(&asked).await;
        client.hear_until("200 OK").await;
        let next = client.sealed(request("GET", "/", &[], "").as_bytes());
        let began = Instant::now();
        client.send(&next[..7]).await;
        // It is closed like an idle connection whose time is up.
        while client.hear().await.unwrap() {}
        assert!(began.elapsed() >= HANDSHAKE_TIMEOUT);
    }
    assert_eq!(server.handshakes("request_timeout").await, 0);
}

/// What comes behind a handshake is the session's, wherever it is cut: the records before are opened by HTTP, the one in the
/// middle by both.
#[tokio::test]
async fn a_session_begins_in_the_middle_of_a_record() {
    let server = TestServer::start_tls(&[]).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let ask = |number: usize| {
        let text = format!("{{\"pull\":{number},\"users\":[\"alice\"]}}");
        frame(TEXT, text.as_bytes())
    };
    for config in both_versions() {
        let mut end = 0;
        loop {
            let mut client = Records::connect(server.edge, config.clone()).await;
            let handshake = request("GET", "/ws", &upgrade_with(&token("alice")), "");
            // One question in the record of the handshake, and two in records of their own.
            let first = client.sealed(&[handshake.as_bytes(), &ask(1)].concat());
            let more = [client.sealed(&ask(2)), client.sealed(&ask(3))].concat();
            if end > more.len() {
                break;
            }
            client.send(&[&first, &more[..end]].concat()).await;
            client.hear_until("101 Switching").await;
            client.send(&more[end..]).await;
            client.hear_until("\"pull\":3").await;
            let close = client.sealed(&frame(CLOSE, &1000_u16.to_be_bytes()));
            client.send(&close).await;
            client.hear_until("closed").await;
            end += 9;
        }
    }
    all_gone(server.admin).await;
}

/// A client may change its keys whenever it likes, between requests as well; and is told of what TLS forbids.
#[tokio::test]
async fn keys_change_between_requests_and_false_records_end_the_connection() {
    let server = TestServer::start_tls(&[]).await;
    let bearer = [("Authorization", format!("Bearer {}", token("alice")))];
    let pull = request("GET", "/v1/presence?user=1", &bearer, "");
    let [tls13, tls12] = both_versions();
    let mut client = Records::connect(server.edge, tls13.clone()).await;
    for _ in 0..5 {
        client.tls.refresh_traffic_keys().unwrap();
        let asked = client.sealed(pull.as_bytes());
        client.send(&asked).await;
        client.hear_until("200 OK").await;
    }
    drop(client);
    let false_record = [&[23, 3, 3, 0, 32][..], &[0; 32]].concat();
    for (config, begins) in [
        (tls13.clone(), "GET / HTTP/1.1\r\n"),
        (tls13, ""),
        (tls12, "GET / HTTP/1.1\r\n"),
    ] {
        let mut client = Records::connect(server.edge, config.clone()).await;
        let begun = client.sealed(begins.as_bytes());
        client.send(&[begun, false_record.clone()].concat()).await;
        assert_eq!(client.alert().await, AlertDescription::BadRecordMac);
        // In a session.
        let mut client = Records::connect(server.edge, config).await;
        let handshake = request("GET", "/ws", &upgrade_with(&token("alice")), "");
        let handshake = client.sealed(handshake.as_bytes());
        client.send(&handshake).await;
        client.hear_until("101 Switching").await;
        client.send(&false_record).await;
        assert_eq!(client.alert().await, AlertDescription::BadRecordMac);
    }
    all_gone(server.admin).await;
    assert_eq!(server.ends("tls").await, 3);
}
