//! What a page of another origin may read and send (CORS), and where clients connect.

use presenced_testkit::client::Client;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{Raw, Response, get, get_with, request, send, upgrade_with};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::token;

const APP: &str = "https://app.example";

/// A request of a page of `origin`.
async fn ask(
    server: &TestServer,
    origin: &str,
    method: &str,
    path: &str,
    more: &[(&'static str, String)],
) -> Response {
    let headers = [&[("Origin", origin.to_owned())], more].concat();
    send(server.edge, method, path, &headers, "").await
}

fn may_be_read(response: &Response, origin: &str) -> bool {
    assert_eq!(response.header("vary"), Some("Origin"), "{response:?}");
    let allowed = response.header("access-control-allow-origin");
    allowed.is_some_and(|allowed| {
        assert_eq!(allowed, origin, "{response:?}");
        true
    })
}

#[tokio::test]
async fn a_page_may_read_every_answer_but_that_to_a_refused_origin() {
    let server = TestServer::start(&["--allow-origin=https://app.example"]).await;
    let bearer = |token: &str| vec![("Authorization", format!("Bearer {token}"))];
    let good = bearer(&token("alice"));
    let user = "/v1/presence?user=1";
    let bad_user = bearer(&presenced_testkit::tokens::sign(
        &presenced_testkit::tokens::claims("a b"),
    ));
    for (method, path, headers, status) in [
        ("GET", user, good.clone(), 200),
        ("GET", user, vec![], 401),
        ("GET", user, bearer("bad"), 401),
        // Its status is that of a refused origin.
        ("GET", user, bad_user, 403),
        ("POST", "/v1/presence", good.clone(), 400),
        ("DELETE", user, good.clone(), 405),
        ("GET", "/no/such/path", good.clone(), 404),
        ("GET", "/ws", good.clone(), 426),
        ("POST", "/ws", good.clone(), 405),
        ("GET", "/ws", upgrade_with("bad"), 401),
        ("OPTIONS", user, vec![], 204),
    ] {
        let what = format!("{method} {path} {status}");
        let response = ask(&server, APP, method, path, &headers).await;
        assert_eq!(response.status, status, "{what}: {response:?}");
        assert!(may_be_read(&response, APP), "{what}: {response:?}");
        if status != 204 {
            let cached = response.header("cache-control");
            assert_eq!(cached, Some("no-store"), "{what}: {response:?}");
        }
        let other = "https://evil.example";
        let response = ask(&server, other, method, path, &headers).await;
        assert!(!may_be_read(&response, other), "{what}: {response:?}");
        assert!(response.status >= 400, "{what}: {response:?}");
    }
    // What is no page needs none of it, but a cache must know that a page's answer is another.
    let response = get_with(server.edge, user, &token("alice")).await;
    assert!(!may_be_read(&response, ""));
}

#[tokio::test]
async fn every_page_may_import_the_client() {
    let server = TestServer::start(&["--allow-origin=https://app.example"]).await;
    let list = get(server.edge, "/client/").await;
    let hashed = list.json()["presence.js"]["path"].clone();
    for path in ["/client/presence.js", hashed.as_str().unwrap()] {
        for origin in [APP, "https://other.example"] {
            let response = ask(&server, origin, "GET", path, &[]).await;
            assert_eq!(response.status, 200, "{path}: {response:?}");
            let allowed = response.header("access-control-allow-origin");
            assert_eq!(allowed, Some("*"), "{path} from {origin}");
            assert_eq!(response.header("vary"), Some("Accept-Encoding"));
            assert!(response.body.contains("PresenceClient"), "{path}");

            let mut raw = Raw::connect(server.edge).await;
            let headers = [
                ("Origin", origin.to_owned()),
                ("Accept-Encoding", "gzip".to_owned()),
                ("Connection", "close".to_owned()),
            ];
            raw.send(request("GET", path, &headers, "")).await;
            let head = raw.head().await;
            assert_eq!(head.header("content-encoding"), Some("gzip"), "{head:?}");
            let mut text = String::new();
            let body = raw.rest().await;
            std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&body[..]), &mut text)
                .unwrap();
            assert_eq!(text, response.body, "{path}");
        }
    }
    let posted = send(server.edge, "POST", "/client/presence.js", &[], "").await;
    assert_eq!(posted.status, 405, "{posted:?}");
    let missing = get(server.edge, "/client/demo.js").await;
    assert_eq!(missing.status, 404, "{missing:?}");
}

#[tokio::test]
async fn a_page_may_send_the_headers_that_it_names() {
    let server = TestServer::start(&["--allow-origin=https://app.example"]).await;
    let preflight = async |asked: &str| {
        let headers = [
            ("Access-Control-Request-Method", "GET".to_owned()),
            ("Access-Control-Request-Headers", asked.to_owned()),
        ];
        let response = ask(&server, APP, "OPTIONS", "/v1/presence", &headers).await;
        assert_eq!(response.status, 204, "{response:?}");
        let allowed = response.header("access-control-allow-headers");
        allowed.unwrap().to_owned()
    };
    let traced = "authorization, traceparent, x-datadog-trace-id";
    assert_eq!(preflight(traced).await, traced);
    assert_eq!(preflight("ok,a b,*").await, "ok");
}

#[tokio::test]
async fn pages_without_an_origin_and_previews_pass_where_they_are_named() {
    let flags = "--allow-origin=null,file://,https://*.preview.example,https://app.example:443";
    let server = TestServer::start(&[flags]).await;
    let bearer = [("Authorization", format!("Bearer {}", token("alice")))];
    let user = "/v1/presence?user=1";
    for origin in [
        "null",
        "file://",
        "https://pr-1.preview.example",
        "https://app.example",
    ] {
        let response = ask(&server, origin, "GET", user, &bearer).await;
        assert_eq!(response.status, 200, "{origin}: {response:?}");
        assert!(may_be_read(&response, origin));
    }
    for origin in ["https://a.b.preview.example", "https://preview.example"] {
        let response = ask(&server, origin, "GET", user, &bearer).await;
        assert_eq!(response.error_code(), "origin_not_allowed", "{origin}");
    }
}

#[tokio::test]
async fn clients_connect_at_every_address_that_was_given() {
    let more = ["--listen=localhost:0", "--workers=2"];
    let process = Process::start(&more).await;
    let addrs: Vec<std::net::SocketAddr> = process
        .greeting
        .lines()
        .filter_map(|line| line.strip_prefix("edge     http://")?.strip_suffix('/'))
        .map(|addr| addr.parse().unwrap())
        .collect();
    assert_eq!(addrs.len(), 2, "{}", process.greeting);
    assert_ne!(addrs[0], addrs[1]);
    let mut clients = Vec::new();
    for (number, addr) in addrs.iter().enumerate() {
        clients.push(Client::connect(*addr, &format!("u{number}")).await);
    }
    for client in &mut clients {
        let online = client.pull(&["u0", "u1"]).await;
        assert_eq!(online["online"].as_object().unwrap().len(), 2, "{online}");
    }
}
