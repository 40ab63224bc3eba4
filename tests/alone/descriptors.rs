//! File descriptors: each part of the server has its share, and takes none of another's.

use std::net::IpAddr;
use std::time::Duration;

use presenced_testkit::memcached::{Memcached, key};
use presenced_testkit::process::{Process, limited};
use presenced_testkit::raw::{Raw, get, handshake, request, upgrade_with};
use presenced_testkit::server::metric;
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, alone, until};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// What is answered at once takes less, and what waits for the time-outs of silent connections more.
const AT_ONCE: Duration = Duration::from_secs(4);

fn from(number: usize) -> IpAddr {
    [127, 0, 0, 2 + (number % 8) as u8].into()
}

/// Connections that send nothing, and are opened again where they are closed, for ever.
async fn stay_silent(
    addr: std::net::SocketAddr,
    count: usize,
    told: tokio::sync::mpsc::Sender<()>,
) {
    let mut silent = Vec::new();
    for number in 0..count {
        silent.push(Raw::connect_from(from(number), addr).await);
    }
    told.send(()).await.unwrap();
    loop {
        for (number, raw) in silent.iter_mut().enumerate() {
            if timeout(Duration::from_millis(1), raw.hung_up())
                .await
                .is_ok()
            {
                *raw = Raw::connect_from(from(number), addr).await;
            }
        }
    }
}

async fn answers_at_once(process: &Process, path: &str, status: u16) {
    let asked = Instant::now();
    let answer = get(process.admin(), path).await;
    assert_eq!(answer.status, status, "{path}: {answer:?}");
    assert!(asked.elapsed() < AT_ONCE, "{path}: {:?}", asked.elapsed());
}

#[tokio::test]
async fn silent_connections_take_no_descriptors_of_others() {
    let _alone = alone();
    let mut memcached = Memcached::start().await;
    let node = format!("--memcached={}", memcached.node());
    let process = Process::start_within("-n 1024", &["--workers=2", &node]).await;
    let (edge, admin) = (process.edge(), process.admin());
    let ready = async || get(admin, "/readyz").await.status == 200;
    until("ready", PATIENCE, ready).await;
    let mut silent = JoinSet::new();
    let (told, mut are_there) = tokio::sync::mpsc::channel(2);
    silent.spawn(stay_silent(edge, 1500, told.clone()));
    silent.spawn(stay_silent(admin, 100, told));
    for _ in 0..2 {
        timeout(2 * PATIENCE, are_there.recv()).await.unwrap();
    }
    answers_at_once(&process, "/healthz", 200).await;
    answers_at_once(&process, "/readyz", 200).await;

    // As many sessions as there may be.
    let mut sessions = Vec::new();
    let waited = Instant::now();
    loop {
        let user = format!("u{}", sessions.len());
        let mut raw = Raw::connect(edge).await;
        let headers = upgrade_with(&token(&user));
        raw.try_send(request("GET", "/ws", &headers, "")).await;
        let answer = raw.response().await;
        if answer.status == 101 {
            sessions.push(raw);
            continue;
        }
        match &*answer.error_code() {
            "too_many_sessions" => break,
            // On a busy machine silent connections take long to leave; a client tries again.
            "server_busy" if waited.elapsed() < 3 * PATIENCE => {}
            _ => panic!("{answer:?}"),
        }
    }
    assert!(sessions.len() > 400, "{}", sessions.len());
    let last = key(&format!("u{}", sessions.len() - 1));
    let is_written = async || memcached.ttl_s(&last).await.is_some();
    until("the last is written", PATIENCE, is_written).await;

    // It takes new connections to memcached.
    memcached.restart().await;
    until("all are written again", PATIENCE, async || {
        memcached.ttl_s(&last).await.is_some()
    })
    .await;
    answers_at_once(&process, "/healthz", 200).await;
    // Silent connections come again all the time, and none takes the place of a scraper.
    for _ in 0..50 {
        answers_at_once(&process, "/metrics", 200).await;
    }
    until("ready", PATIENCE, ready).await;
    let refused = handshake(edge, &upgrade_with(&token("more"))).await;
    assert_eq!(refused.status, 503);
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.id()))
        .unwrap()
        .count();
    assert!(open <= 1024, "{open}");
    assert_eq!(process.logged("cannot accept connections"), 0);
    let metrics = get(admin, "/metrics").await;
    assert_eq!(metric(&metrics, "sessions"), sessions.len() as u64);
    silent.abort_all();
}

#[tokio::test]
async fn a_limit_of_open_files_that_is_too_low_ends_it_with_2_and_all_shares() {
    let _alone = alone();
    let flags = ["--workers=2", "--memcached=127.0.0.1:1"];
    let output = limited("-n 200", &flags).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in ["ulimit -n", "is 200", "54 are for memcached", "leaves 0"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let flags = [&flags[..], &["--max-http-connections=5000"]].concat();
    let output = limited("-n 4000", &flags).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("for HTTP connections"), "{text}");
}

#[tokio::test]
async fn without_descriptors_for_a_start_it_says_which_limit_is_too_low() {
    let _alone = alone();
    let output = limited("-n 8", &["--memcached=127.0.0.1:1"]).output().await;
    let output = output.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("ulimit -n"), "{text}");
}
