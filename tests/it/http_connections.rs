//! HTTP connections: which of them have a place, how long each may take, and how one ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use presenced::limits::{HANDSHAKE_TIMEOUT, HTTP_CONNECTIONS_MAX, HTTP_CONNECTIONS_PEER_SHARE};
use presenced_testkit::balancers::Balancer;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{Raw, Response, get, get_with, request, upgrade_with};
use presenced_testkit::server::{TestServer, metric};
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, until};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// A head of which there is more to come.
const BEGUN: &str = "GET /v1/presence?user=1 HTTP/1.1\r\nHost: edge.test\r\n";

fn from(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

/// A pull, which keeps its connection.
fn pull() -> String {
    let bearer = [("Authorization", format!("Bearer {}", token("alice")))];
    request("GET", "/v1/presence?user=bob", &bearer, "")
}

fn refused(response: &Response, status: u16, code: &str) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.error_code(), code);
    assert_eq!(response.header("connection"), Some("close"));
    let seconds: u32 = response.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 0);
}

/// Asks something that needs no token, and then again whenever it can, for ever.
async fn loiter(edge: SocketAddr, from: IpAddr, count: usize, is_there: impl FnOnce()) {
    let preflight = request("OPTIONS", "/v1/presence", &[], "");
    let mut idle: Vec<Option<Raw>> = (0..count).map(|_| None).collect();
    let mut is_there = Some(is_there);
    loop {
        for raw in &mut idle {
            if raw.is_none() {
                *raw = Some(Raw::connect_from(from, edge).await);
            }
            let asked = raw.as_mut().unwrap();
            let sent = asked.try_send(&preflight).await;
            if !sent || asked.try_response().await.is_none() {
                *raw = None;
            }
        }
        if let Some(is_there) = is_there.take() {
            is_there();
        }
    }
}

#[tokio::test]
async fn idle_connections_keep_nobody_out() {
    let process = Process::start(&["--workers=1"]).await;
    let (edge, admin) = (process.edge(), process.admin());
    let mut loitering = JoinSet::new();
    let (told, mut there) = tokio::sync::mpsc::channel(2);
    // As many as there are places.
    for last in [2, 3] {
        let told = told.clone();
        let is_there = move || told.try_send(()).unwrap();
        loitering.spawn(loiter(edge, from(last), HTTP_CONNECTIONS_MAX / 2, is_there));
    }
    for _ in 0..2 {
        there.recv().await.unwrap();
    }
    let mut here = Vec::new();
    for last in [1, 2, 3, 4].repeat(10) {
        let mut raw = Raw::connect_from(from(last), edge).await;
        raw.send(pull()).await;
        let answer = raw.response().await;
        assert_eq!(answer.status, 200);
        // As it is where others wait for a place at that moment.
        if answer.header("connection") == Some("close") {
            raw = Raw::connect_from(from(last), edge).await;
        }
        let headers = upgrade_with(&token("alice"));
        raw.send(request("GET", "/ws", &headers, "")).await;
        assert_eq!(raw.response().await.status, 101);
        here.push(raw);
    }
    assert_eq!(get(admin, "/readyz").await.status, 200);
    let metrics = get(admin, "/metrics").await;
    assert!(metric(&metrics, "http_connections_evicted_total") > 0);
    assert!(metric(&metrics, "http_connections") <= HTTP_CONNECTIONS_MAX as u64);
    for refused in ["too_many_connections", "server_busy"] {
        let name = format!("handshakes_total{{result=\"{refused}\"}}");
        assert_eq!(metric(&metrics, &name), 0, "{refused}");
    }
}

/// Opens connections that send `begun`, and a new one for each that is closed, for ever.
async fn dawdle(edge: SocketAddr, from: IpAddr, count: usize, begun: String) {
    let dawdling = (0..count).map(async |_| {
        loop {
            let mut raw = Raw::connect_from(from, edge).await;
            raw.try_send(&begun).await;
            raw.hung_up().await;
        }
    });
    join_all(dawdling).await;
}

#[tokio::test]
async fn slow_heads_and_bodies_keep_nobody_out() {
    let bearer = [("Authorization", format!("Bearer {}", token("alice")))];
    let mut body_begun = request("POST", "/v1/presence", &bearer, "{}");
    body_begun.pop();
    for begun in [BEGUN.to_owned(), body_begun] {
        let flags = ["--workers=1", "--serve-health", "--max-http-connections=64"];
        let process = Process::start(&flags).await;
        let (edge, admin) = (process.edge(), process.admin());
        let metric = async |name| metric(&get(admin, "/metrics").await, name);
        let mut dawdling = JoinSet::new();
        for last in [2, 3] {
            // Several times as many as there are places: most wait for one, too.
            dawdling.spawn(dawdle(edge, from(last), 250, begun.clone()));
        }
        until("all places are taken", PATIENCE, async || {
            metric("http_connections").await == 64
        })
        .await;
        for last in [1, 4].repeat(5) {
            let mut probe = Raw::connect_from(from(last), edge).await;
            probe.send(request("GET", "/readyz", &[], "")).await;
            let answer = probe.response().await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let mut raw = Raw::connect_from(from(last), edge).await;
            let headers = upgrade_with(&token("alice"));
            raw.send(request("GET", "/ws", &headers, "")).await;
            let answer = raw.response().await;
            assert_eq!(answer.status, 101, "{answer:?}");
        }
        assert!(metric("http_connections_evicted_total").await > 0);
    }
}

/// Connections on which one request follows the other are being answered, or have just been.
#[tokio::test]
async fn requests_without_a_pause_keep_nobody_out() {
    let flags = ["--workers=1", "--max-http-connections=8"];
    let server = TestServer::start(&flags).await;
    let mut asking = JoinSet::new();
    for last in [2, 3].repeat(8) {
        let (edge, from) = (server.edge, from(last));
        asking.spawn(async move {
            loop {
                let mut raw = Raw::connect_from(from, edge).await;
                while raw.try_send(pull()).await && raw.try_response().await.is_some() {}
            }
        });
    }
    for _ in 0..20 {
        let mut raw = Raw::connect_from(from(4), server.edge).await;
        raw.send(pull()).await;
        assert_eq!(raw.response().await.status, 200);
    }
}

#[tokio::test]
async fn requests_under_way_keep_others_out_who_are_told_so() {
    let flags = [
        "--workers=1",
        "--max-http-connections=4",
        "--max-http-connections-per-address=2",
    ];
    let server = TestServer::start_patient(&flags).await;
    let edge = server.edge;
    let mut begun = Vec::new();
    for last in [2, 2, 3, 3] {
        let mut raw = Raw::connect_from(from(last), edge).await;
        raw.send(BEGUN).await;
        begun.push(raw);
        let count = begun.len() as u64;
        until("it is there", PATIENCE, async || {
            server.metric("http_connections").await == count
        })
        .await;
    }
    for (last, status, code) in [(2, 429, "too_many_connections"), (4, 503, "server_busy")] {
        // At once, as those who are here have but their time, too.
        let refusals = (0..3).map(|_| async {
            let mut raw = Raw::connect_from(from(last), edge).await;
            // More than is read before the answer: it arrives all the same.
            let body = "x".repeat(100_000);
            raw.try_send(request("POST", "/v1/presence", &[], &body))
                .await;
            refused(&raw.response().await, status, code);
        });
        join_all(refusals).await;
        assert_eq!(server.handshakes(code).await, 3);
    }

    // Once answered, it is idle.
    let mut answered = begun.remove(0);
    answered.send("\r\n").await;
    assert_eq!(answered.response().await.status, 401);
    for last in [4, 5] {
        let mut raw = Raw::connect_from(from(last), edge).await;
        raw.send(pull()).await;
        assert_eq!(raw.response().await.status, 200);
        begun.push(raw);
    }
}

/// What comes byte by byte has no more time than what comes at once, however often a connection was used.
#[tokio::test]
async fn each_head_has_its_time_from_its_first_byte() {
    let server = TestServer::start(&["--workers=1"]).await;
    let mut dribbling = JoinSet::new();
    for requests in 0..3 {
        let edge = server.edge;
        dribbling.spawn(async move {
            let mut raw = Raw::connect(edge).await;
            for _ in 0..requests {
                raw.send(pull()).await;
                assert_eq!(raw.response().await.status, 200);
                // Idle time is none of the head's.
                sleep(Duration::from_secs(2)).await;
            }
            let began = Instant::now();
            raw.send("GET / HTTP/1.1\r\nX-Slow: ").await;
            let answered = loop {
                if let Ok(answer) = timeout(Duration::from_secs(1), raw.try_response()).await {
                    break answer;
                }
                raw.try_send("x").await;
                assert!(began.elapsed() < HANDSHAKE_TIMEOUT + PATIENCE);
            };
            let taken = began.elapsed();
            assert!(taken >= HANDSHAKE_TIMEOUT, "{taken:?}");
            let answer = answered.expect("it is told why");
            assert_eq!(answer.status, 408, "{answer:?}");
            assert_eq!(answer.error_code(), "request_timeout");
            raw.hung_up().await;
        });
    }
    while let Some(ended) = dribbling.join_next().await {
        ended.unwrap();
    }
    assert_eq!(server.handshakes("request_timeout").await, 3);
}

#[tokio::test]
async fn a_body_has_its_time_too() {
    let server = TestServer::start(&["--workers=1"]).await;
    let bearer = [
        ("Authorization", format!("Bearer {}", token("alice"))),
        ("Content-Length", "1000".into()),
    ];
    let mut raw = Raw::connect(server.edge).await;
    let began = Instant::now();
    raw.send(request("POST", "/v1/presence", &bearer, "")).await;
    let answer = loop {
        raw.try_send("x").await;
        if let Ok(answer) = timeout(Duration::from_secs(1), raw.try_response()).await {
            break answer;
        }
    };
    assert!(began.elapsed() >= HANDSHAKE_TIMEOUT);
    assert_eq!(answer.expect("it is told why").status, 408);
}

/// What is refused before its body is read, and closed with something unread, would be reset.
#[tokio::test]
async fn a_refusal_arrives_although_the_body_is_still_coming() {
    let server = TestServer::start(&[]).await;
    let bearer = [("Authorization", format!("Bearer {}", token("alice")))];
    // One that is too big is refused before its token is looked at.
    for (status, headers, bytes) in [(401, &[][..], 100_000), (413, &bearer[..], 4 << 20)] {
        let body = "x".repeat(bytes);
        for _ in 0..10 {
            let mut raw = Raw::connect(server.edge).await;
            // Many clients read no answer once they cannot write.
            let sent = raw.try_send(request("POST", "/v1/presence", headers, &body));
            assert!(sent.await, "{status}");
            assert_eq!(raw.response().await.status, status);
            raw.hung_up().await;
        }
    }
}

#[tokio::test]
async fn an_idle_connection_is_kept_as_long_as_is_set() {
    let server = TestServer::start(&["--http-keep-alive=3s"]).await;
    let mut raw = Raw::connect(server.edge).await;
    for _ in 0..3 {
        raw.send(pull()).await;
        assert_eq!(raw.response().await.status, 200);
        sleep(Duration::from_secs(1)).await;
    }
    raw.send(pull()).await;
    assert_eq!(raw.response().await.status, 200);
    let idle = Instant::now();
    raw.hung_up().await;
    assert!(
        idle.elapsed() >= Duration::from_millis(2900),
        "{:?}",
        idle.elapsed()
    );
    // That is no refusal.
    assert_eq!(server.handshakes("request_timeout").await, 0);
}

/// What a proxy sees whose connection is closed in the very moment in which it sends a request.
#[tokio::test]
async fn a_request_that_has_come_is_answered_even_if_its_connection_has_to_leave() {
    let flags = [
        "--workers=1",
        "--max-http-connections=1",
        "--max-http-connections-per-address=1",
    ];
    let server = TestServer::start(&flags).await;
    for _ in 0..10 {
        let mut idle = Raw::connect(server.edge).await;
        idle.send(pull()).await;
        assert_eq!(idle.response().await.status, 200);
        // The kernel has both in this order, and the server may take them in the other.
        idle.send(pull()).await;
        let mut other = Raw::connect(server.edge).await;
        assert_eq!(idle.response().await.status, 200);
        other.try_send(pull()).await;
        other.try_response().await;
    }
}

/// What all clients are answered to requests that they send at once.
async fn asked_at_once(
    clients: &mut [Raw],
    request_of: impl Fn(usize) -> String,
) -> BTreeMap<u16, usize> {
    let asking = clients.iter_mut().enumerate().map(async |(number, raw)| {
        raw.send(request_of(number)).await;
        raw.response().await.status
    });
    let mut counts = BTreeMap::new();
    for status in join_all(asking).await {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

/// A burst of pulls leaves a proxy with as many idle connections as it had clients.
async fn bursts_are_answered(process: &Process, balancer: &Balancer, count: usize) {
    let at = balancer.address();
    let mut clients: Vec<Raw> = join_all((0..count).map(|_| Raw::connect(at))).await;
    for what in ["first", "again"] {
        let statuses = asked_at_once(&mut clients, |_| pull()).await;
        let metrics = get(process.admin(), "/metrics").await.body;
        assert_eq!(statuses, [(200, count)].into(), "{what}: {metrics}");
    }
    let handshake = |number| {
        let headers = upgrade_with(&token(&format!("u{number}")));
        request("GET", "/ws", &headers, "")
    };
    let statuses = asked_at_once(&mut clients, handshake).await;
    assert_eq!(statuses, [(101, count)].into());
    let pulled = get_with(at, "/v1/presence?user=bob", &token("alice")).await;
    assert_eq!(pulled.status, 200);
}

#[tokio::test]
async fn a_burst_through_haproxy_is_answered() {
    let process = Process::start(&["--workers=1"]).await;
    let balancer = Balancer::haproxy(process.edge()).await;
    // More than one address may have places.
    let count = HTTP_CONNECTIONS_MAX / HTTP_CONNECTIONS_PEER_SHARE + 50;
    bursts_are_answered(&process, &balancer, count).await;
}

#[tokio::test]
async fn a_burst_through_nginx_is_answered() {
    let process = Process::start(&["--workers=1"]).await;
    let balancer = Balancer::nginx(process.edge()).await;
    // It has 512 connections, two for each client.
    bursts_are_answered(&process, &balancer, 200).await;
}

#[tokio::test]
async fn a_client_that_is_too_slow_and_goes_on_sending_hears_why() {
    let server = TestServer::start(&[]).await;
    let mut raw = Raw::connect(server.edge).await;
    raw.send("GET / HTTP/1.1\r\n").await;
    let response = raw.response().await;
    assert_eq!(response.error_code(), "request_timeout", "{response:?}");
    // Far more than kernels hold: a connection that is closed while this comes is reset.
    assert!(raw.try_send(vec![b'x'; 7 << 20]).await, "it is heard out");
}
