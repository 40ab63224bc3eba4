//! What clients fetch: polls that wait, on connections of all kinds.

use presenced_testkit::raw::{Raw, request};
use presenced_testkit::server::{PING_INTERVAL, TestServer};
use tokio::time::Instant;

use super::kit::{BAD_REQUEST, OK, Session, all_gone, answer, packets, pull, pulls, quiet, told};

#[tokio::test]
async fn what_is_there_is_fetched_at_once_and_never_more_than_sixteen_packets() {
    let server = quiet(&["--max-messages-per-second=1000"]).await;
    let session = Session::connected(server.edge, "alice").await;
    for count in [1, 15, 16, 17, 40] {
        // One question at a time waits for its answer.
        let mut heard = Vec::new();
        for id in 0..count {
            session.pull(id).await;
        }
        let mut answers = Vec::new();
        while heard.len() < count as usize {
            let packets = session.hear().await;
            answers.push(packets.len());
            heard.extend(packets);
        }
        assert_eq!(heard, (0..count).map(answer).collect::<Vec<_>>());
        // All but the last were answered before it was asked.
        let at_once = (count as usize - 1).min(16);
        assert!((at_once..=16).contains(&answers[0]), "{answers:?}");
        let fewest = (count as usize).div_ceil(16);
        assert!(
            (fewest..=fewest + 1).contains(&answers.len()),
            "{answers:?}"
        );
        session.lives().await;
    }
}

#[tokio::test]
async fn a_poll_waits_until_there_is_something() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    for id in 0..5 {
        let mut poll = session.waiting(&server).await;
        session.pull(id).await;
        assert_eq!(packets(&poll.response().await), [answer(id)]);
    }
}

#[tokio::test]
async fn a_second_poll_ends_the_session() {
    let server = quiet(&[]).await;
    for connected in [false, true] {
        let session = Session::open(server.edge).await;
        if connected {
            session.connect("alice").await;
        }
        let mut first = session.waiting(&server).await;
        assert_eq!(told(&session.poll().await), BAD_REQUEST);
        assert_eq!(packets(&first.response().await), ["1"]);
        session.is_gone().await;
    }
    all_gone(&server).await;
}

#[tokio::test]
async fn a_poll_whose_client_is_gone_ends_the_session() {
    let server = quiet(&[]).await;
    for resets in [false, true] {
        for connected in [false, true] {
            let session = Session::open(server.edge).await;
            if connected {
                session.connect("alice").await;
            }
            let poll = session.waiting(&server).await;
            match resets {
                true => poll.reset(),
                false => drop(poll),
            }
            session.is_gone().await;
        }
    }
    all_gone(&server).await;
}

#[tokio::test]
async fn a_handshake_whose_client_does_not_wait_leaves_nothing() {
    let server = quiet(&[]).await;
    let handshake = request("GET", "/socket.io/?EIO=4&transport=polling", &[], "");
    for _ in 0..50 {
        let mut raw = Raw::connect(server.edge).await;
        raw.send(&handshake).await;
        raw.reset();
    }
    // Those that were answered have their time to connect.
    let connected = Session::connected(server.edge, "alice").await;
    connected.lives().await;
    assert_eq!(told(&connected.post("1").await), OK);
}

/// A poll with a header.
fn get_with(session: &Session, name: &'static str, value: &str) -> String {
    request("GET", &session.path(), &[(name, value.to_owned())], "")
}

#[tokio::test]
async fn the_last_poll_of_a_connection_ends_it() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    let path = session.path();
    let older = format!("GET {path} HTTP/1.0\r\nHost: a\r\n\r\n");
    for last in [
        get_with(&session, "Connection", "close"),
        get_with(&session, "Connection", "x, Close"),
        older,
    ] {
        for waits in [false, true] {
            let mut raw = session.dial().await;
            if waits {
                let before = server.metric("http_requests_total").await;
                raw.send(&last).await;
                presenced_testkit::until("it waits", presenced_testkit::PATIENCE, async || {
                    server.metric("http_requests_total").await > before
                })
                .await;
                session.pull(1).await;
            } else {
                session.pull(1).await;
                raw.send(&last).await;
            }
            let head = raw.response().await;
            assert_eq!(packets(&head), [answer(1)]);
            if waits {
                assert_eq!(head.header("connection"), Some("close"));
            }
            raw.hung_up().await;
        }
    }
    session.lives().await;
}

#[tokio::test]
async fn requests_may_stand_behind_a_poll_that_waits() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    // The next poll is there before the answer to the first, in one segment or in several.
    let two = [session.get(), session.get()].concat();
    for cut in [two.len(), session.get().len(), session.get().len() + 10, 5] {
        let mut raw = session.dial().await;
        let before = server.metric("http_requests_total").await;
        raw.send(&two[..cut]).await;
        if cut >= session.get().len() {
            presenced_testkit::until("it waits", presenced_testkit::PATIENCE, async || {
                server.metric("http_requests_total").await > before
            })
            .await;
        }
        raw.send(&two[cut..]).await;
        session.pull(1).await;
        assert_eq!(packets(&raw.response().await), [answer(1)], "cut at {cut}");
        session.pull(2).await;
        assert_eq!(packets(&raw.response().await), [answer(2)], "cut at {cut}");
    }
    // A question behind a poll is not read before the poll is answered, and then it is.
    let mut raw = session.dial().await;
    raw.send([session.get(), session.posted(&pull(3)), session.get()].concat())
        .await;
    session.pull(4).await;
    assert_eq!(packets(&raw.response().await), [answer(4)]);
    assert_eq!(told(&raw.response().await), OK);
    assert_eq!(packets(&raw.response().await), [answer(3)]);
    session.lives().await;
}

#[tokio::test]
async fn a_client_that_sends_too_much_behind_a_poll_loses_its_session() {
    let server = quiet(&["--max-head=16KiB"]).await;
    let session = Session::connected(server.edge, "alice").await;
    let mut raw = session.waiting(&server).await;
    for _ in 0..40 {
        raw.try_send("x".repeat(1000)).await;
    }
    raw.hung_up().await;
    session.is_gone().await;
    all_gone(&server).await;
}

#[tokio::test]
async fn a_poll_with_a_body_is_refused_and_ends_nothing() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    let answer = session.ask(request("GET", &session.path(), &[], "4")).await;
    assert_eq!(told(&answer), BAD_REQUEST);
    let empty = get_with(&session, "Content-Length", "0");
    session.pull(1).await;
    assert_eq!(packets(&session.ask(empty).await), [super::kit::answer(1)]);
    session.lives().await;
}

#[tokio::test]
async fn a_client_that_fetches_nothing_is_let_go_before_it_costs_too_much() {
    let server = quiet(&["--max-outbox=64KiB", "--max-messages-per-second=10000"]).await;
    let session = Session::connected(server.edge, "alice").await;
    let mut asked = 0;
    loop {
        let posted = session.post(&pulls(asked..asked + 10)).await;
        asked += 10;
        if told(&posted) != OK {
            break;
        }
        assert!(asked < 10_000, "it waits for ever");
    }
    session.is_gone().await;
    assert_eq!(server.ends("slow_consumer").await, 1);
    all_gone(&server).await;
}

#[tokio::test]
async fn the_first_ping_comes_an_interval_after_the_handshake_and_others_after_it() {
    let server = TestServer::start(&[]).await;
    let before = Instant::now();
    let session = Session::connected(server.edge, "alice").await;
    let mut pinged = Vec::new();
    for _ in 0..3 {
        // A poll waits no longer than until then.
        assert_eq!(session.hear().await, ["2"]);
        pinged.push(before.elapsed());
        assert_eq!(told(&session.post("3").await), OK);
    }
    assert!(pinged[0] >= PING_INTERVAL, "{pinged:?}");
    assert!(pinged[2] < PING_INTERVAL * 6, "{pinged:?}");
    session.lives().await;
}

#[tokio::test]
async fn a_client_without_a_poll_is_pinged_once_and_let_go_if_it_does_not_answer() {
    let server = TestServer::start(&["--ping-interval=1s", "--ping-timeout=900ms"]).await;
    // It speaks, and is there; its ping waits, and no second one with it.
    let session = Session::connected(server.edge, "alice").await;
    let begun = Instant::now();
    while begun.elapsed() < PING_INTERVAL * 2 {
        assert_eq!(told(&session.post("3").await), OK);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(session.hear().await, ["2"]);
    // It is silent, and gone.
    presenced_testkit::until("it is let go", presenced_testkit::PATIENCE, async || {
        server.ends("pong_timeout").await == 1
    })
    .await;
    session.is_gone().await;
    all_gone(&server).await;
}

#[tokio::test]
async fn a_poll_that_waits_when_its_client_has_not_answered_a_ping_is_told_that_it_is_over() {
    let server = TestServer::start(&["--ping-interval=1s", "--ping-timeout=900ms"]).await;
    for connected in [false, true] {
        let session = Session::open(server.edge).await;
        if connected {
            session.connect("alice").await;
        }
        assert_eq!(session.hear().await, ["2"]);
        // To poll again is no answer.
        let heard = session.hear().await;
        assert_eq!(heard, ["1"]);
        session.is_gone().await;
    }
    assert_eq!(server.ends("pong_timeout").await, 2);
    all_gone(&server).await;
}
