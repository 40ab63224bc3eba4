//! Peers that send as much as they may and never come to an end: the server's memory stays within what its limits
//! add up to.

use presenced::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX, LOBBY_MAX};
use presenced_testkit::process::Process;
use presenced_testkit::raw::{Raw, get, get_with, request, upgrade_with};
use presenced_testkit::server::metric;
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, alone, until};
use tokio::task::JoinSet;

const PLACES: usize = 256;

/// A connection's task, and what hyper and the kernel's records of it take in the process.
const CONNECTION_BYTES: usize = 16 * 1024;

/// What grows with none of this: code that runs for the first time, the allocator's spare pages.
const SPARE_BYTES: usize = 16 << 20;

/// Most that the limits allow. A buffer may have twice the size of what is in it, and a body is copied once when it
/// is there whole.
const MEMORY_BYTES: usize = PLACES * (2 * HEAD_BYTES_MAX + 3 * BODY_BYTES_MAX + CONNECTION_BYTES)
    + LOBBY_MAX * (HEAD_BYTES_MAX + CONNECTION_BYTES)
    + SPARE_BYTES;

#[tokio::test]
async fn heads_and_bodies_without_an_end_take_what_the_limits_add_up_to() {
    let _alone = alone();
    let places = format!("--max-http-connections={PLACES}");
    let share = format!("--max-http-connections-per-address={PLACES}");
    let process = Process::start(&["--workers=1", &places, &share]).await;
    let (edge, admin) = (process.edge(), process.admin());
    let pulled = get_with(edge, "/v1/presence?user=1", &token("alice")).await;
    assert_eq!(pulled.status, 200);
    let before = process.memory_max_bytes();

    let headers = [
        ("Authorization", format!("Bearer {}", token("alice"))),
        ("Content-Length", BODY_BYTES_MAX.to_string()),
        ("X-Pad", "x".repeat(HEAD_BYTES_MAX / 2)),
    ];
    let head = request("POST", "/v1/presence", &headers, "");
    let all_but_one = "x".repeat(BODY_BYTES_MAX - 1);
    let mut bodies = Vec::new();
    for _ in 0..PLACES {
        let mut raw = Raw::connect(edge).await;
        raw.try_send(&head).await;
        raw.try_send(&all_but_one).await;
        bodies.push(raw);
    }
    let begun = format!(
        "GET /ws HTTP/1.1\r\nX-Pad: {}",
        "x".repeat(HEAD_BYTES_MAX - 100)
    );
    let mut heads = Vec::new();
    for _ in 0..LOBBY_MAX {
        let mut raw = Raw::connect(edge).await;
        raw.try_send(&begun).await;
        heads.push(raw);
    }
    let taken = metric(&get(admin, "/metrics").await, "http_connections");
    assert!(taken <= PLACES as u64, "{taken}");
    let grown = (process.memory_max_bytes() - before) as usize;
    assert!(grown <= MEMORY_BYTES, "{grown} of {MEMORY_BYTES} bytes");

    // Their time is over, whatever they do.
    until("a session", PATIENCE, async || {
        let mut raw = Raw::connect(edge).await;
        let headers = upgrade_with(&token("alice"));
        raw.try_send(request("GET", "/ws", &headers, "")).await;
        raw.try_response()
            .await
            .is_some_and(|answer| answer.status == 101)
    })
    .await;
    for raw in heads.iter_mut().chain(&mut bodies) {
        raw.hung_up().await;
    }
}

/// Its answers would fill the sockets' buffers, and then the server's memory.
#[tokio::test]
async fn whoever_never_reads_is_let_go_of() {
    let _alone = alone();
    // Without memcached everyone asked for is unknown: an answer is as long as its question.
    let process = Process::start(&["--workers=1", "--memcached=127.0.0.1:1"]).await;
    let edge = process.edge();
    let users: Vec<String> = (0..400).map(|number| format!("{number:0>100}")).collect();
    let body = serde_json::json!({ "users": users }).to_string();
    let bearer = [("Authorization", format!("Bearer {}", token("alice")))];
    let pull = request("POST", "/v1/presence", &bearer, &body);
    let mut deaf = JoinSet::new();
    for _ in 0..20 {
        let pull = pull.clone();
        deaf.spawn(async move {
            let mut raw = Raw::connect(edge).await;
            while raw.try_send(&pull).await {}
        });
    }
    while let Some(ended) = deaf.join_next().await {
        ended.unwrap();
    }
    assert!(process.memory_max_bytes() < 64 << 20);
    let pulled = get_with(edge, "/v1/presence?user=1", &token("alice")).await;
    assert_eq!(pulled.status, 200);
}
