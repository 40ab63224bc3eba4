//! Who is calling, behind proxies: PROXY protocol, X-Forwarded-For and Forwarded, with HAProxy and
//! nginx and by hand.

use std::net::{IpAddr, SocketAddr};

use futures_util::future::{join, join_all};
use presenced::limits::IDLE_MIN;
use presenced_testkit::balancers::Balancer;
use presenced_testkit::node::ScriptedNode;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{CLOSE, Raw, Response, frame, get, request, upgrade_with};
use presenced_testkit::server::{TestServer, metric};
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::sleep;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Trusted by all servers here.
const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
/// Not trusted.
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9));

fn handshake(headers: &[(&'static str, &str)]) -> String {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    let headers: Vec<_> = upgrade_with(&token("alice"))
        .into_iter()
        .chain(headers)
        .collect();
    request("GET", "/ws", &headers, "")
}

/// A process that trusts [`PROXY`] and tells where its sessions have come from.
async fn trusting(flags: &[&str]) -> Process {
    let usual = [
        "--trusted-proxy=127.0.0.1",
        "--log-level=debug",
        "--log-format=json",
    ];
    Process::start(&[&usual, flags].concat()).await
}

/// Opens a session on a connection from `from` that begins with `first`, and ends it.
async fn visit(addr: SocketAddr, from: IpAddr, first: &[u8], headers: &[(&'static str, &str)]) {
    let mut raw = Raw::connect_from(from, addr).await;
    raw.send([first, handshake(headers).as_bytes()].concat())
        .await;
    ends(&mut raw).await;
}

async fn ends(raw: &mut Raw) {
    let response = raw.response().await;
    assert_eq!(response.status, 101, "{response:?}");
    raw.send(frame(CLOSE, &1000_u16.to_be_bytes())).await;
    raw.hung_up().await;
}

/// The addresses that the log names for sessions that have ended, in their order.
async fn addresses(process: Process) -> Vec<String> {
    process.signal(Signal::TERM);
    let (_, log) = process.ended().await;
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ended = lines.map(|line| line["fields"].clone());
    let ended = ended.filter(|fields| fields["message"] == "session ended");
    ended
        .map(|fields| fields["address"].as_str().unwrap().to_owned())
        .collect()
}

/// A header of version 2 that says that the connection comes from 192.0.2.2.
fn binary() -> Vec<u8> {
    let addresses = [192, 0, 2, 2, 10, 0, 0, 1, 200, 0, 0, 80];
    [V2, &[0x21, 0x11, 0, 12], &addresses].concat()
}

#[tokio::test]
async fn a_connection_of_a_trusted_proxy_begins_with_a_header_of_either_version() {
    let process = trusting(&["--proxy-protocol"]).await;
    let edge = process.edge();
    let line = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 80\r\n";
    let six = b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 80\r\n";
    let local = [V2, &[0x20, 0, 0, 0]].concat();
    for first in [&line[..], &binary(), six, b"PROXY UNKNOWN\r\n", &local] {
        visit(edge, PROXY, first, &[]).await;
    }
    // A peer that is not trusted has no header.
    visit(edge, STRANGER, b"", &[]).await;
    let expected = [
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::7",
        "127.0.0.1",
        "127.0.0.1",
        "127.0.0.9",
    ];
    assert_eq!(addresses(process).await, expected);
}

#[tokio::test]
async fn a_header_may_be_split_anywhere() {
    let process = trusting(&["--proxy-protocol"]).await;
    let binary = binary();
    let line = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 80\r\n";
    let mut expected = Vec::new();
    for (header, source) in [(&line[..], "192.0.2.1"), (&binary, "192.0.2.2")] {
        let whole = [header, handshake(&[]).as_bytes()].concat();
        for end in 1..=header.len() {
            let mut raw = Raw::connect_from(PROXY, process.edge()).await;
            // One byte, and then the next piece, in segments of their own.
            raw.send(&whole[..end]).await;
            tokio::task::yield_now().await;
            raw.send(&whole[end..]).await;
            ends(&mut raw).await;
            expected.push(source);
        }
        let mut raw = Raw::connect_from(PROXY, process.edge()).await;
        for byte in &whole {
            raw.send([*byte]).await;
        }
        ends(&mut raw).await;
        expected.push(source);
    }
    assert_eq!(addresses(process).await, expected);
}

#[tokio::test]
async fn a_trusted_proxy_without_a_header_is_told_so_and_the_operator_too() {
    let process = trusting(&["--proxy-protocol"]).await;
    for first in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "PROXY TCP4 nonsense\r\n",
    ] {
        for pieces in [vec![first], vec![&first[..3], &first[3..]]] {
            let mut raw = Raw::connect_from(PROXY, process.edge()).await;
            for piece in pieces {
                raw.send(piece).await;
                tokio::task::yield_now().await;
            }
            let response = raw.response().await;
            assert_eq!(
                (response.status, &*response.error_code()),
                (400, "bad_request")
            );
            assert!(response.body.contains("PROXY protocol"), "{response:?}");
        }
    }
    // One that goes without a word, as a check of the port does, is no fault.
    drop(Raw::connect_from(PROXY, process.edge()).await);
    let metrics = get(process.admin(), "/metrics").await;
    let name = "handshakes_total{result=\"bad_request\",reason=\"proxy_header\"}";
    assert_eq!(metric(&metrics, name), 4);
    assert_eq!(
        process.logged("connections of a trusted proxy are refused"),
        1
    );
    // A header of one that is not trusted is no HTTP.
    let mut raw = Raw::connect_from(STRANGER, process.edge()).await;
    raw.send([&binary(), handshake(&[]).as_bytes()].concat())
        .await;
    assert_ne!(
        raw.try_response().await.map(|response| response.status),
        Some(101)
    );
}

#[tokio::test]
async fn a_trusted_proxy_without_a_header_that_goes_on_sending_hears_why() {
    let process = trusting(&["--proxy-protocol"]).await;
    let mut raw = Raw::connect_from(PROXY, process.edge()).await;
    raw.send("PRO").await;
    until("it has a place", PATIENCE, async || {
        let metrics = get(process.admin(), "/metrics").await;
        metric(&metrics, "http_connections") == 1
    })
    .await;
    // Far more than kernels hold: a connection that is closed while this comes is reset.
    let upload = [&b"XY TCP4 nonsense\r\n"[..], &[b'x'; 7 << 20]].concat();
    assert!(raw.try_send(upload).await, "it is heard out");
    let response = raw.response().await;
    assert_eq!(
        (response.status, &*response.error_code()),
        (400, "bad_request")
    );
}

#[tokio::test]
async fn a_header_that_does_not_come_is_not_waited_for() {
    let server = TestServer::start(&["--trusted-proxy=127.0.0.1", "--proxy-protocol"]).await;
    let mut silent = Raw::connect_from(PROXY, server.edge).await;
    let mut begun = Raw::connect_from(PROXY, server.edge).await;
    begun.send("PROXY TCP4 192.0").await;
    for raw in [&mut silent, &mut begun] {
        let response = raw.response().await;
        assert_eq!(response.error_code(), "request_timeout", "{response:?}");
    }
    assert_eq!(server.handshakes("request_timeout").await, 2);
}

#[tokio::test]
async fn shares_are_of_the_true_address() {
    let flags = [
        "--proxy-protocol",
        "--trusted-proxy=127.0.0.1",
        "--workers=1",
        "--max-http-connections=40",
        "--max-http-connections-per-address=4",
    ];
    let server = TestServer::start_patient(&flags).await;
    let begun = "GET /v1/presence HTTP/1.1\r\nHost: x\r\n";
    let opens = async |source: &str| {
        let mut raw = Raw::connect_from(PROXY, server.edge).await;
        let line = match source {
            "LOCAL" => "PROXY UNKNOWN\r\n".to_owned(),
            source if source.contains(':') => format!("PROXY TCP6 {source} ::1 1 2\r\n"),
            source => format!("PROXY TCP4 {source} 10.0.0.1 1 2\r\n"),
        };
        raw.send(line + begun).await;
        raw
    };
    let refused = |response: Response| {
        assert_eq!(
            (response.status, &*response.error_code()),
            (429, "too_many_connections")
        );
    };
    // Many clients through one proxy, each with its own share.
    let mut open = Vec::new();
    for source in [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "2001:db8::1",
        "LOCAL",
    ] {
        for _ in 0..4 {
            open.push(opens(source).await);
        }
    }
    until("all have a place", PATIENCE, async || {
        server.metric("http_connections").await == 20
    })
    .await;
    // Each waits for a place for a moment. Until its header is there, a connection is the proxy's,
    // which has its share.
    let late = async {
        let mut raw = Raw::connect_from(PROXY, server.edge).await;
        raw.send("PROXY").await;
        raw.response().await
    };
    let others = ["192.0.2.1", "2001:db8::2", "2001:db8::ffff:0:0:1", "LOCAL"];
    let others = others.map(async |source| opens(source).await.response().await);
    let (late, others) = join(late, join_all(others)).await;
    others.into_iter().chain([late]).for_each(refused);
    // A /64 further on is another customer's.
    open.push(opens("2001:db8:0:1::1").await);
    open.drain(16..20);
    until("the proxy has room", PATIENCE, async || {
        server.metric("http_connections").await == 17
    })
    .await;
    let mut late = Raw::connect_from(PROXY, server.edge).await;
    late.send("PROXY TCP4 192.").await;
    until("it has a place", PATIENCE, async || {
        server.metric("http_connections").await == 18
    })
    .await;
    late.send("0.2.1 10.0.0.1 1 2\r\n").await;
    refused(late.response().await);
    assert_eq!(server.handshakes("too_many_connections").await, 6);
}

#[tokio::test]
async fn requests_through_one_connection_are_counted_by_their_callers() {
    let flags = [
        "--forwarded-header=x-forwarded-for",
        "--trusted-proxy=127.0.0.1",
        "--workers=1",
        "--max-http-connections=40",
        "--max-http-connections-per-address=2",
    ];
    let server = TestServer::start(&flags).await;
    let body = |from: &str| {
        let token = format!("Bearer {}", token("alice"));
        format!(
            "POST /v1/presence HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\
             X-Forwarded-For: {from}\r\nContent-Length: 15\r\n\r\n"
        )
    };
    // Each waits for its body, so it has a request under way.
    let mut open = Vec::new();
    for source in [
        "192.0.2.1",
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.2",
        "192.0.2.3",
    ] {
        let mut raw = Raw::connect_from(PROXY, server.edge).await;
        raw.send(body(source)).await;
        open.push(raw);
        let count = open.len() as u64;
        until("it has a place", PATIENCE, async || {
            server.metric("http_connections").await == count
        })
        .await;
    }
    let asks = async |from: IpAddr, source: &str| {
        let mut raw = Raw::connect_from(from, server.edge).await;
        raw.send(body(source) + r#"{"users":["b"]}"#).await;
        raw.response().await.status
    };
    // What the client itself has put before it changes nothing, nor does a stranger's.
    assert_eq!(asks(PROXY, "198.51.100.7, 192.0.2.1").await, 429);
    assert_eq!(asks(PROXY, "192.0.2.1, 198.51.100.7").await, 200);
    assert_eq!(asks(PROXY, "192.0.2.3").await, 200);
    assert_eq!(asks(STRANGER, "192.0.2.1").await, 200);
    for raw in &mut open {
        raw.send(r#"{"users":["b"]}"#).await;
        assert_eq!(raw.response().await.status, 200);
    }
    assert_eq!(asks(PROXY, "198.51.100.7, 192.0.2.1").await, 200);
}

/// As any other answer (CORS).
#[tokio::test]
async fn a_page_behind_a_proxy_may_read_that_its_address_has_its_share() {
    let flags = [
        "--allow-origin=https://app.example",
        "--forwarded-header=x-forwarded-for",
        "--trusted-proxy=127.0.0.1",
        "--workers=1",
        "--max-http-connections-per-address=1",
    ];
    let server = TestServer::start(&flags).await;
    let mut first = Raw::connect_from(PROXY, server.edge).await;
    first
        .send(asks_when_told("X-Forwarded-For: 192.0.2.1\r\n"))
        .await;
    assert_eq!(first.head().await.status, 100);
    let mut page = Raw::connect_from(PROXY, server.edge).await;
    let headers = [
        ("X-Forwarded-For", "192.0.2.1".to_owned()),
        ("Origin", "https://app.example".to_owned()),
    ];
    page.send(request("GET", "/v1/presence?user=b", &headers, ""))
        .await;
    let refused = page.response().await;
    assert_eq!(refused.error_code(), "too_many_connections");
    let allowed = refused.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://app.example"), "{refused:?}");
    assert_eq!(server.handshakes("too_many_connections").await, 1);
}

/// A pull whose body the server has begun to wait for when it says 100.
fn asks_when_told(headers: &str) -> String {
    let token = token("alice");
    format!(
        "POST /v1/presence HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}\
         Expect: 100-continue\r\nContent-Length: 15\r\n\r\n"
    )
}

#[tokio::test]
async fn a_request_behind_a_late_header_keeps_its_place() {
    let flags = [
        "--proxy-protocol",
        "--trusted-proxy=127.0.0.1",
        "--workers=1",
        "--max-http-connections=2",
        "--max-http-connections-per-address=2",
    ];
    let server = TestServer::start_patient(&flags).await;
    let mut open = Vec::new();
    for count in 1..=2 {
        let mut raw = Raw::connect_from(PROXY, server.edge).await;
        until("it has a place", PATIENCE, async || {
            server.metric("http_connections").await == count
        })
        .await;
        let header = format!("PROXY TCP4 192.0.2.{count} 10.0.0.1 1 2\r\n");
        raw.send(header + &asks_when_told("")).await;
        assert_eq!(raw.head().await.status, 100);
        open.push(raw);
    }
    // It waits for a place for longer than one must be idle until it has to leave.
    let mut other = Raw::connect_from(STRANGER, server.edge).await;
    other.send(request("GET", "/x", &[], "")).await;
    assert_eq!(other.response().await.error_code(), "server_busy");
    assert_eq!(server.metric("http_connections_evicted_total").await, 0);
    for raw in &mut open {
        raw.send(r#"{"users":["b"]}"#).await;
        let answer = raw.response().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection"), None, "it may ask again");
    }
}

/// With two workers, one may tell a connection of the other to leave that has just sent all.
#[tokio::test]
async fn a_header_that_has_come_is_read_even_if_its_connection_has_to_leave() {
    join_all((0..4).map(|_| has_to_leave())).await;
}

async fn has_to_leave() {
    let flags = [
        "--proxy-protocol",
        "--trusted-proxy=127.0.0.1",
        "--workers=2",
        "--max-http-connections=1",
        "--max-http-connections-per-address=1",
    ];
    let server = TestServer::start(&flags).await;
    let pull = request("GET", "/v1/presence?user=b", &upgrade_with(&token("a")), "");
    let header = "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n";
    for _ in 0..4 {
        let mut idle = Raw::connect_from(PROXY, server.edge).await;
        until("it has a place", PATIENCE, async || {
            server.metric("http_connections").await == 1
        })
        .await;
        // It may be told to leave from now on.
        sleep(IDLE_MIN).await;
        // The kernel has both in this order, and the workers may take them in the other.
        idle.send(header.to_owned() + &pull).await;
        let mut other = Raw::connect_from(STRANGER, server.edge).await;
        other.try_send(&pull).await;
        assert_eq!(idle.response().await.status, 200);
        drop(idle);
        assert_eq!(other.response().await.status, 200);
        drop(other);
        until("both are gone", PATIENCE, async || {
            server.metric("http_connections").await == 0
        })
        .await;
    }
}

/// A look-up that is not answered keeps its place for a second or two.
#[tokio::test]
async fn refusals_are_logged_with_the_address_that_a_late_header_names() {
    let node = ScriptedNode::start().await;
    let node = format!("--memcached={}", node.node());
    let flags = [
        "--proxy-protocol",
        "--workers=1",
        "--max-http-connections=2",
        "--max-http-connections-per-address=1",
        &node,
    ];
    let process = trusting(&flags).await;
    let taken = async || metric(&get(process.admin(), "/metrics").await, "http_connections");
    let header = |last: u8| format!("PROXY TCP4 192.0.2.{last} 10.0.0.1 1 2\r\n");
    let pull = request("GET", "/v1/presence?user=b", &upgrade_with(&token("a")), "");

    // The address has its share when it turns out to be that of a connection that has a place.
    let logged = r#""code":"too_many_connections","address":"192.0.2.1""#;
    until("its address has its share", PATIENCE, async || {
        until("there is room", PATIENCE, async || taken().await == 0).await;
        let mut first = Raw::connect_from(PROXY, process.edge()).await;
        first.send(header(1) + &pull).await;
        until("it has a place", PATIENCE, async || taken().await == 1).await;
        let mut late = Raw::connect_from(PROXY, process.edge()).await;
        until("it has a place", PATIENCE, async || taken().await == 2).await;
        late.send(header(1) + &pull).await;
        let is_refused = late.response().await.status == 429;
        match is_refused {
            true => process.logs(logged).await,
            false => assert_eq!(process.logged(logged), 0),
        }
        is_refused
    })
    .await;

    // There is no place for some of those whose headers come while they wait.
    until("connections are refused", PATIENCE, async || {
        let come = (10..20).map(async |last| {
            let mut raw = Raw::connect_from(PROXY, process.edge()).await;
            let header = header(last);
            let (begin, end) = header.split_at(20);
            for part in [begin, end, &pull] {
                raw.send(part).await;
                // In the meantime it is looked at again.
                taken().await;
            }
            let is_refused = raw.response().await.status == 503;
            let logged = format!(r#""code":"server_busy","address":"192.0.2.{last}""#);
            match is_refused {
                true => process.logs(&logged).await,
                false => assert_eq!(process.logged(&logged), 0),
            }
            is_refused
        });
        join_all(come).await.contains(&true)
    })
    .await;
    // Both kinds, within a minute.
    process.logs("a connection is refused").await;
    assert_eq!(process.logged("a connection is refused"), 1);
}

/// The body of a request that does not come in time is that of a client, not of the proxy.
#[tokio::test]
async fn a_request_that_is_too_slow_is_logged_with_its_address() {
    let process = trusting(&["--forwarded-header=x-forwarded-for"]).await;
    let mut raw = Raw::connect_from(PROXY, process.edge()).await;
    raw.send(asks_when_told("X-Forwarded-For: 192.0.2.1\r\n"))
        .await;
    assert_eq!(raw.head().await.status, 100);
    assert_eq!(raw.response().await.error_code(), "request_timeout");
    process
        .logs(r#""code":"request_timeout","address":"192.0.2.1""#)
        .await;
}

#[tokio::test]
async fn a_forwarded_header_is_believed_of_trusted_proxies_only() {
    let spoofed: [(&'static str, &str); 3] = [
        ("X-Forwarded-For", "192.0.2.1, 198.51.100.2"),
        ("Forwarded", "for=192.0.2.3, for=\"[2001:db8::4]:5\""),
        ("X-Real-IP", "192.0.2.5"),
    ];
    for (flag, expected) in [
        ("--forwarded-header=x-forwarded-for", "198.51.100.2"),
        ("--forwarded-header=forwarded", "2001:db8::4"),
        ("--forwarded-header=none", "127.0.0.1"),
    ] {
        let process = trusting(&[flag]).await;
        visit(process.edge(), PROXY, b"", &spoofed).await;
        visit(process.edge(), STRANGER, b"", &spoofed).await;
        // A refusal is of the same address.
        let mut raw = Raw::connect_from(PROXY, process.edge()).await;
        let headers = spoofed.map(|(name, value)| (name, value.to_owned()));
        raw.send(request("GET", "/ws", &headers, "")).await;
        assert_eq!(raw.response().await.error_code(), "upgrade_required");
        let refused = format!(r#""code":"upgrade_required","address":"{expected}""#);
        process.logs(&refused).await;
        assert_eq!(addresses(process).await, [expected, "127.0.0.9"], "{flag}");
    }
    // By default nothing is.
    let process = Process::start(&["--log-level=debug", "--log-format=json"]).await;
    visit(process.edge(), PROXY, b"", &spoofed).await;
    assert_eq!(addresses(process).await, ["127.0.0.1"]);
}

#[tokio::test]
async fn haproxy_tells_where_its_connections_come_from() {
    for options in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"] {
        let process = trusting(&["--proxy-protocol"]).await;
        // Its checks have a header that says that they are its own.
        let options = format!("{options} check check-send-proxy inter 50ms");
        let balancer = Balancer::haproxy_tcp(process.edge(), &options).await;
        let checks = || async {
            let metrics = get(process.admin(), "/metrics").await;
            metric(&metrics, "handshakes_total{result=\"not_found\"}")
        };
        let before = checks().await;
        until("it has checked", PATIENCE, async || {
            checks().await > before + 3
        })
        .await;
        for last in [2, 3, 4] {
            visit(
                balancer.address(),
                IpAddr::from([127, 0, 0, last]),
                b"",
                &[],
            )
            .await;
        }
        let metrics = get(process.admin(), "/metrics").await;
        let name = "handshakes_total{result=\"bad_request\",reason=\"proxy_header\"}";
        assert_eq!(metric(&metrics, name), 0, "{options}");
        assert_eq!(
            addresses(process).await,
            ["127.0.0.2", "127.0.0.3", "127.0.0.4"],
            "{options}"
        );
    }
}

#[tokio::test]
async fn nginx_and_haproxy_tell_where_requests_come_from() {
    let spoofed: [(&'static str, &str); 2] = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("Forwarded", "for=192.0.2.1"),
    ];
    for name in ["nginx", "haproxy"] {
        let process = trusting(&["--forwarded-header=x-forwarded-for"]).await;
        let balancer = match name {
            "nginx" => Balancer::nginx_forwarding(process.edge()).await,
            _ => Balancer::haproxy_forwarding(process.edge()).await,
        };
        for last in [2, 3] {
            let from = IpAddr::from([127, 0, 0, last]);
            visit(balancer.address(), from, b"", &[]).await;
            visit(balancer.address(), from, b"", &spoofed).await;
        }
        let expected = ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"];
        assert_eq!(addresses(process).await, expected, "{name}");
    }
}

#[tokio::test]
async fn rates_are_of_the_true_address() {
    let process = Process::start(&[
        "--trusted-proxy=127.0.0.1",
        "--proxy-protocol",
        "--forwarded-header=forwarded",
        "--max-handshakes-per-second-per-address=1",
    ])
    .await;
    let knocks = async |from: IpAddr, first: &str, forwarded: &str| {
        let mut raw = Raw::connect_from(from, process.edge()).await;
        let bad = [("Forwarded", forwarded.to_owned())];
        let bad = [&upgrade_with("a-word-of-no-token")[..], &bad].concat();
        raw.send(first.to_owned() + &request("GET", "/ws", &bad, ""))
            .await;
        raw.response().await.error_code()
    };
    // How many come before the rate is exceeded depends on the time, which a busy machine has
    // plenty of.
    let line = "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n";
    until("the rate is exceeded", PATIENCE, async || {
        knocks(PROXY, line, "for=192.0.2.2").await == "too_many_handshakes_from_address"
    })
    .await;
    let others = [
        (
            PROXY,
            "PROXY TCP4 192.0.2.2 10.0.0.1 1 2\r\n",
            "for=192.0.2.1",
        ),
        (PROXY, "PROXY UNKNOWN\r\n", "for=192.0.2.3"),
        (STRANGER, "", "for=192.0.2.1"),
    ];
    for (from, first, forwarded) in others {
        let code = knocks(from, first, forwarded).await;
        assert_eq!(code, "token_invalid", "{first}");
    }
}
