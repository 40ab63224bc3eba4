//! What any HTTP request meets before it is a pull or a handshake: methods, hosts, lengths, and what a
//! proxy does to it.

use presenced::limits::{BODY_BYTES_MAX, URI_BYTES_MAX};
use presenced_testkit::raw::{Raw, Response, get, request, send, upgrade_with};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, until};

fn bearer() -> Vec<(&'static str, String)> {
    vec![("Authorization", format!("Bearer {}", token("alice")))]
}

/// The answer to bytes as they are, and what comes behind its head.
async fn said(addr: std::net::SocketAddr, bytes: impl AsRef<[u8]>) -> (Response, Vec<u8>) {
    let mut raw = Raw::connect(addr).await;
    raw.send(bytes).await;
    let head = raw.head().await;
    (head, raw.rest().await)
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let server = TestServer::start(&["--serve-health"]).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    for (addr, path, status) in [
        (server.edge, "/", 200),
        (server.edge, "/healthz", 200),
        (server.edge, "/readyz", 200),
        (server.edge, "/v1/presence?user=1", 200),
        (server.edge, "/ws", 426),
        (server.edge, "/no/such/path", 404),
        (server.admin, "/healthz", 200),
        (server.admin, "/readyz", 200),
        (server.admin, "/metrics", 200),
        (server.admin, "/no/such/path", 404),
    ] {
        let mut headers = bearer();
        headers.push(("Connection", "close".into()));
        let got = send(addr, "GET", path, &headers, "").await;
        let (head, rest) = said(addr, request("HEAD", path, &headers, "")).await;
        assert_eq!((head.status, got.status), (status, status), "{path}");
        assert_eq!(rest, b"", "{path}: {head:?}");
        let kind = "content-type";
        assert_eq!(head.header(kind), got.header(kind), "{path}: {head:?}");
        let length: usize = head.header("content-length").unwrap().parse().unwrap();
        assert!(length > 0, "{path}: {head:?}");
        if path != "/metrics" {
            assert_eq!(length, got.body.len(), "{path}: {head:?}");
        }
    }
}

#[tokio::test]
async fn every_405_says_what_is_allowed() {
    let server = TestServer::start(&["--serve-health"]).await;
    for (addr, path, allowed) in [
        (server.edge, "/", "GET, HEAD"),
        (server.edge, "/healthz", "GET, HEAD"),
        (server.edge, "/readyz", "GET, HEAD"),
        (server.edge, "/v1/presence", "GET, HEAD, POST, OPTIONS"),
        (server.edge, "/ws", "GET"),
        (server.admin, "/metrics", "GET, HEAD"),
        (server.admin, "/readyz", "GET, HEAD"),
    ] {
        for method in ["DELETE", "PUT", "PROPFIND"] {
            let response = send(addr, method, path, &bearer(), "").await;
            assert_eq!(response.status, 405, "{method} {path}: {response:?}");
            assert_eq!(response.header("allow"), Some(allowed), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_request_has_exactly_one_host() {
    let server = TestServer::start(&["--serve-health"]).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let (edge, admin) = (server.edge, server.admin);
    let token = token("alice");
    let line = |path: &str, version: &str, hosts: &str| {
        format!("GET {path} HTTP/{version}\r\n{hosts}Authorization: Bearer {token}\r\n\r\n")
    };
    let user = "/v1/presence?user=1";
    for (addr, paths) in [
        (
            edge,
            &["/", "/ws", user, "/healthz", "/readyz", "/none"][..],
        ),
        (admin, &["/metrics", "/healthz", "/readyz"]),
    ] {
        for path in paths {
            for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nhost: b\r\n"] {
                let (response, _) = said(addr, line(path, "1.1", hosts)).await;
                assert_eq!(response.status, 400, "{path} {hosts:?}: {response:?}");
            }
        }
    }
    // What HTTP/1.0 did not have yet, probes may leave out.
    for (addr, path, status) in [
        (edge, "/healthz", 200),
        (edge, "/readyz", 200),
        (edge, user, 400),
        (admin, "/readyz", 200),
    ] {
        let (response, _) = said(addr, line(path, "1.0", "")).await;
        assert_eq!(response.status, status, "{path}: {response:?}");
    }
    let (response, _) = said(edge, line(user, "1.0", "Host: a\r\n")).await;
    assert_eq!(response.status, 200, "{response:?}");
}

#[tokio::test]
async fn what_is_too_much_is_refused_by_its_head() {
    let server = TestServer::start(&[]).await;
    for length in [BODY_BYTES_MAX as u64 + 1, i64::MAX as u64] {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let head = format!(
                "POST /v1/presence HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\
                 {expect}Content-Length: {length}\r\n\r\n",
                token("alice")
            );
            // Nothing follows, and nothing is waited for.
            let (response, _) = said(server.edge, head).await;
            assert_eq!(response.status, 413, "{length} {expect}: {response:?}");
        }
    }
    let head = format!(
        "POST /v1/presence HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\
         Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n",
        token("alice")
    );
    let (response, _) = said(server.edge, head).await;
    assert_eq!(response.status, 415, "{response:?}");
    assert_eq!(response.header("accept-encoding"), Some("identity"));
    for coding in ["gzip, chunked", "chunked, chunked", "gzip"] {
        let head =
            format!("POST /v1/presence HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n");
        let (response, _) = said(server.edge, head).await;
        let expected = if coding == "gzip" { 400 } else { 501 };
        assert_eq!(response.status, expected, "{coding}: {response:?}");
    }

    let before = "/v1/presence?user=".len();
    let path = |bytes: usize| format!("/v1/presence?user={}", "x".repeat(bytes - before));
    let long = send(server.edge, "GET", &path(URI_BYTES_MAX + 1), &[], "").await;
    assert_eq!((long.status, &long.error_code()[..]), (414, "uri_too_long"));
    // In one piece, or in many.
    for parts in [1, 50] {
        let whole = request("GET", &path(20_000), &[], "");
        let mut raw = Raw::connect(server.edge).await;
        for part in whole.as_bytes().chunks(whole.len().div_ceil(parts)) {
            raw.try_send(part).await;
        }
        let long = raw.response().await;
        assert_eq!((long.status, &long.error_code()[..]), (414, "uri_too_long"));
        raw.hung_up().await;
    }
    assert_eq!(server.handshakes("uri_too_long").await, 3);
    let fits = send(server.edge, "GET", &path(URI_BYTES_MAX), &[], "").await;
    assert_eq!(fits.status, 401, "{fits:?}");
}

#[tokio::test]
async fn heads_are_as_long_as_the_operator_allows() {
    let usual = TestServer::start(&[]).await;
    let short = TestServer::start(&["--max-head=16KiB"]).await;
    // Cookies of the site that the page is on.
    let cookies = |bytes: usize| {
        let mut headers = bearer();
        headers.push(("Cookie", "x".repeat(bytes)));
        headers
    };
    for (server, bytes, is_taken) in [
        (&usual, 30 * 1024, true),
        (&usual, 33 * 1024, false),
        (&short, 14 * 1024, true),
        (&short, 17 * 1024, false),
    ] {
        let mut raw = Raw::connect(server.edge).await;
        let path = "/v1/presence?user=1";
        raw.try_send(request("GET", path, &cookies(bytes), ""))
            .await;
        // The answer to a head that is not read to its end may be lost.
        let status = raw.try_response().await.map(|response| response.status);
        let expected = if is_taken { Some(200) } else { Some(431) };
        assert!(
            status == expected || (status.is_none() && !is_taken),
            "{bytes}: {status:?}"
        );
    }
}

#[tokio::test]
async fn a_handshake_that_a_proxy_took_apart_says_what_to_set() {
    let server = TestServer::start(&[]).await;
    let whole = upgrade_with(&token("alice"));
    let kept: Vec<_> = whole
        .iter()
        .filter(|(name, _)| !["Upgrade", "Connection"].contains(name))
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    // As nginx sends it by default, and with proxy_http_version alone.
    for (version, status) in [("1.0", 400), ("1.1", 426)] {
        let head = format!(
            "GET /ws HTTP/{version}\r\nHost: backend\r\nConnection: close\r\n{}\r\n",
            kept.concat()
        );
        let mut raw = Raw::connect(server.edge).await;
        raw.send(head).await;
        let response = raw.response().await;
        assert_eq!(response.status, status, "{response:?}");
        let message = response.json()["error"]["message"].to_string();
        for setting in [
            "proxy_http_version 1.1;",
            "proxy_set_header Upgrade $http_upgrade;",
        ] {
            assert!(message.contains(setting), "{version}: {message}");
        }
    }
    // Who opens the address in a browser has sent no handshake.
    let plain = get(server.edge, "/ws").await;
    assert!(!plain.body.contains("proxy"), "{plain:?}");
}

#[tokio::test]
async fn health_is_told_to_clients_only_where_that_is_wanted() {
    let server = TestServer::start(&[]).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(server.edge, path).await.status, 404, "{path}");
    }
    let about = get(server.edge, "/").await;
    assert_eq!(about.status, 200);
    assert!(about.body.contains("presenced") && about.body.contains("/v1/presence"));

    let server = TestServer::start(&["--serve-health"]).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let nowhere = ["--serve-health", "--memcached=127.0.0.1:1"];
    let nowhere = TestServer::start(&nowhere).await;
    for (server, readiness) in [(server, 200), (nowhere, 503)] {
        for (path, status) in [("/healthz", 200), ("/readyz", readiness)] {
            let told = get(server.edge, path).await;
            assert_eq!(told.status, status, "{told:?}");
            // The same wherever it is asked.
            assert_eq!(told.body, get(server.admin, path).await.body);
        }
        assert_eq!(get(server.edge, "/metrics").await.status, 404);
    }
}
