//! Floods of handshakes: what is more than the rates allow is told so, and nothing else suffers.

use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use presenced_testkit::client::Client;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{Raw, Response, get, get_with, handshake, request, upgrade_with};
use presenced_testkit::server::{TestServer, metric};
use presenced_testkit::tokens::token;
use tokio::time::Instant;

/// What may come at once at one a second.
const BURST: u64 = 10;

fn from(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

async fn handshake_from(from: IpAddr, edge: SocketAddr, token: &str) -> Response {
    let mut raw = Raw::connect_from(from, edge).await;
    raw.send(request("GET", "/ws", &upgrade_with(token), ""))
        .await;
    raw.response().await
}

/// Handshakes that pass a rate of one a second, of three bursts' worth; the others are `refused`.
async fn passed(refused: (u16, &str), mut ask: impl AsyncFnMut(u64) -> Response) -> u64 {
    let began = Instant::now();
    let mut passed = 0;
    for number in 0..3 * BURST {
        let answer = ask(number).await;
        if answer.status != refused.0 {
            passed += 1;
            continue;
        }
        assert_eq!(answer.error_code(), refused.1);
        let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!(seconds > 0);
    }
    let most = BURST + began.elapsed().as_secs() + 1;
    assert!(
        (BURST..=most).contains(&passed),
        "{passed} of at most {most}"
    );
    passed
}

#[tokio::test]
async fn of_one_address_before_its_token_is_looked_at() {
    let process = Process::start(&["--max-handshakes-per-second-per-address=1"]).await;
    let edge = process.edge();
    let refused = (429, "too_many_handshakes_from_address");
    let flood = async |_| handshake_from(from(2), edge, "no token").await;
    let passed = passed(refused, flood).await;
    let metrics = get(process.admin(), "/metrics").await;
    let result = |name| metric(&metrics, &format!("handshakes_total{{result=\"{name}\"}}"));
    assert_eq!(result(refused.1), 3 * BURST - passed);
    assert_eq!(result("token_invalid\",reason=\"malformed"), passed);
    // Another address has a rate of its own, and pulls have none.
    assert_eq!(handshake_from(from(3), edge, &token("a")).await.status, 101);
    let pulled = get_with(edge, "/v1/presence?user=1", &token("a")).await;
    assert_eq!(pulled.status, 200);
    let said = "a handshake is refused by --max-handshakes-per-second-per-address";
    process.logs(said).await;
    assert_eq!(process.logged(said), 1);
    // As all lines have it.
    assert_eq!(process.logged("address=127.0.0.2"), 1);
}

#[tokio::test]
async fn of_the_whole_server() {
    let server = TestServer::start(&["--max-handshakes-per-second=1"]).await;
    let mut here = Client::connect(server.edge, "here").await;
    let flood = async |number: u64| {
        let last = 2 + (number % 100) as u8;
        handshake_from(from(last), server.edge, "no token").await
    };
    // One is taken already, and may have flowed back.
    let began = Instant::now();
    let mut refusals = 0;
    for number in 0..3 * BURST {
        let answer = flood(number).await;
        if answer.status == 503 {
            assert_eq!(answer.error_code(), "too_many_handshakes");
            assert!(answer.header("retry-after").is_some());
            refusals += 1;
        }
    }
    let passed = 3 * BURST - refusals;
    let most = BURST + began.elapsed().as_secs() + 1;
    assert!(
        (BURST - 1..=most).contains(&passed),
        "{passed} of at most {most}"
    );
    assert!(here.pull(&["here"]).await["online"]["here"].is_object());
}

#[tokio::test]
async fn of_one_user_with_good_tokens() {
    let server = TestServer::start(&["--max-handshakes-per-second-per-user=1"]).await;
    let refused = (429, "too_many_handshakes_of_user");
    let alice = upgrade_with(&token("alice"));
    passed(refused, async |_| handshake(server.edge, &alice).await).await;
    for user in 0..3 * BURST {
        let headers = upgrade_with(&token(&format!("u{user}")));
        assert_eq!(handshake(server.edge, &headers).await.status, 101);
    }
}

/// A client that connects again and again without a pause.
#[tokio::test]
async fn one_user_is_limited_unless_set_otherwise() {
    let server = TestServer::start(&[]).await;
    let alice = upgrade_with(&token("alice"));
    let mut passed = 0;
    loop {
        let flood = join_all((0..50).map(|_| handshake(server.edge, &alice))).await;
        passed += flood.iter().filter(|answer| answer.status == 101).count();
        if flood.iter().any(|answer| answer.status == 429) {
            break;
        }
    }
    assert!(passed >= 500, "{passed}");
}

#[tokio::test]
async fn the_kernels_queue_is_told_of() {
    let server = TestServer::start(&[]).await;
    server.metric("listen_overflows_total").await;
}
