//! What clients send: POSTs, whole, in parts, too long, two at once, and the packets in them.

use presenced_testkit::raw::{Raw, request};
use presenced_testkit::server::TestServer;
use presenced_testkit::{PATIENCE, until};

use super::kit::{
    BAD_REQUEST, OK, Session, all_gone, answer, packets, pull, pulls, quiet, shows, told,
};

/// The head of a POST whose body comes in chunks.
fn chunked(session: &Session) -> String {
    let chunked = [("Transfer-Encoding", "chunked".to_owned())];
    request("POST", &session.path(), &chunked, "")
}

fn chunk(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n", body.len())
}

/// A POST up to all but the last `left` bytes of its body, which the server has begun to read.
async fn begun(session: &Session, body: &str, left: usize) -> Raw {
    let whole = session.posted(body);
    let mut raw = session.dial().await;
    raw.send(&whole[..whole.len() - left]).await;
    // One more with a body of its own would end the session: one that is refused before it does not.
    raw
}

#[tokio::test]
async fn many_packets_in_one_body_are_all_read_and_once() {
    let server = quiet(&["--max-messages-per-second=100"]).await;
    let session = Session::connected(server.edge, "alice").await;
    assert_eq!(told(&session.post(&pulls(0..7)).await), OK);
    let mut heard = session.hear().await;
    while heard.len() < 7 {
        heard.extend(session.hear().await);
    }
    heard.sort();
    assert_eq!(heard, (0..7).map(answer).collect::<Vec<_>>());
    session.lives().await;
}

#[tokio::test]
async fn a_body_longer_than_a_read_of_the_worker_is_read_to_its_end() {
    let server = quiet(&["--max-message=600KiB", "--max-messages-per-second=1000"]).await;
    let session = Session::connected(server.edge, "alice").await;
    // Three that are longer than a read is, and many that are not.
    let long = |id: u32| format!(r#"42{id}["other","{}"]"#, "x".repeat(150_000));
    let body = [long(1), long(2), long(3), pull(4)].join("\u{1e}");
    assert_eq!(told(&session.post(&body).await), OK);
    assert_eq!(session.hear().await, [answer(4)]);
    let padded = |n: u32| match n % 20 {
        0 => pull(n),
        _ => format!(r#"42["other","{}"]"#, "x".repeat(5000)),
    };
    let body: Vec<_> = (0..100).map(padded).collect();
    assert_eq!(told(&session.post(&body.join("\u{1e}")).await), OK);
    session.lives_after([0, 20, 40, 60, 80]).await;
    all_after_close(&server, &session).await;
}

/// The client closes the session: at once nothing is left of it.
async fn all_after_close(server: &TestServer, session: &Session) {
    assert_eq!(told(&session.post("1").await), OK);
    session.is_gone().await;
    all_gone(server).await;
}

#[tokio::test]
async fn bodies_in_chunks_and_in_single_bytes() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    let body = pulls(0..3);
    let mut raw = session.dial().await;
    raw.send(chunked(&session)).await;
    for part in body.as_bytes().chunks(7) {
        raw.send(chunk(std::str::from_utf8(part).unwrap())).await;
    }
    raw.send("0\r\n\r\n").await;
    assert_eq!(told(&raw.response().await), OK);
    session.lives_after(0..3).await;
    for byte in session.posted(&body).as_bytes().chunks(1) {
        raw.send(byte).await;
    }
    assert_eq!(told(&raw.response().await), OK);
    session.lives_after(0..3).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_as_it_comes_and_the_session_lives() {
    let server = quiet(&["--max-message=16KiB"]).await;
    let session = Session::connected(server.edge, "alice").await;
    // One as long as may be: a text that means nothing here.
    let text = |bytes: usize| format!(r#"42["{}"]"#, "x".repeat(bytes - 6));
    assert_eq!(text(100).len(), 100);
    assert_eq!(told(&session.post(&text(16_384)).await), OK);
    session.lives().await;
    let answer = session.post(&text(16_385)).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    session.lives().await;
    // Its length is told by its head.
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 16385\r\n\r\n",
        session.path()
    );
    assert_eq!(session.ask(head).await.status, 413);
    // Or by nothing but what comes, and there is no end to wait for.
    let mut raw = session.dial().await;
    raw.send(chunked(&session)).await;
    for _ in 0..17 {
        raw.try_send(chunk(&"x".repeat(1024))).await;
    }
    assert_eq!(raw.response().await.status, 413);
    session.lives().await;
    all_after_close(&server, &session).await;
}

#[tokio::test]
async fn a_second_post_at_the_same_time_ends_the_session() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    let mut poll = session.waiting(&server).await;
    let mut first = begun(&session, &pull(1), 3).await;
    // The server has read the head of the first when it refuses another, or else refuses the first for another.
    until("one of them is refused", PATIENCE, async || {
        session.post(&format!("3\u{1e}{}", "3")).await.status == 400
    })
    .await;
    assert_eq!(packets(&poll.response().await), ["1"]);
    session.is_gone().await;
    // The rest of the first comes too late, and is answered.
    first.try_send(&pull(1)[pull(1).len() - 3..]).await;
    assert_eq!(first.response().await.status, 400);
    all_gone(&server).await;
}

#[tokio::test]
async fn a_body_of_octets_ends_the_session() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    let mut poll = session.waiting(&server).await;
    let octets = [("Content-Type", "application/octet-stream".to_owned())];
    let answer = session
        .ask(request("POST", &session.path(), &octets, "3"))
        .await;
    assert_eq!(told(&answer), BAD_REQUEST);
    assert_eq!(packets(&poll.response().await), ["1"]);
    session.is_gone().await;
    all_gone(&server).await;
}

#[tokio::test]
async fn a_client_that_vanishes_in_the_middle_of_a_post_ends_its_session() {
    let server = quiet(&[]).await;
    for resets in [false, true] {
        for is_chunked in [false, true] {
            let session = Session::connected(server.edge, "alice").await;
            let mut poll = session.waiting(&server).await;
            let mut raw = match is_chunked {
                false => begun(&session, &pull(1), 3).await,
                true => session.dial().await,
            };
            if is_chunked {
                raw.send(chunked(&session)).await;
                raw.send(chunk("3")).await;
            }
            // Its head must have been read: a POST that nobody has begun ends nothing.
            until("its head is read", PATIENCE, async || {
                server.metric("http_connections").await == 1
            })
            .await;
            match resets {
                false => drop(raw),
                true => raw.reset(),
            }
            assert_eq!(
                packets(&poll.response().await),
                ["1"],
                "{resets} {is_chunked}"
            );
            session.is_gone().await;
        }
    }
    all_gone(&server).await;
}

#[tokio::test]
async fn a_body_that_is_compressed_is_refused_and_the_session_lives() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    let gzip = [("Content-Encoding", "gzip".to_owned())];
    let answer = session
        .ask(request("POST", &session.path(), &gzip, "3"))
        .await;
    assert_eq!(answer.status, 415, "{answer:?}");
    session.lives().await;
}

#[tokio::test]
async fn a_bad_packet_ends_the_session_and_those_before_it_were_handled() {
    let server = quiet(&[]).await;
    for bad in [
        "",
        "7",
        "x",
        "2",
        "2probe",
        "b4",
        "bA",
        "bAR==",
        "4",
        "42",
        "43",
        "4x",
        "44{}",
        "40",
        "41x",
        "42[]",
        "42[null]",
        "42[{\"toString\":\"x\"}]",
        "42[\"connect\"]",
        "42/a,[\"a\"]",
        "421",
        "42[\"a\"]x",
        "451-[\"a\",{\"_placeholder\":true,\"num\":0}]\u{1e}42[\"a\"]",
        "bAAAA",
        "4511-[\"a\"]",
    ] {
        let session = Session::connected(server.edge, "alice").await;
        let mut poll = session.waiting(&server).await;
        let body = format!("{}\u{1e}{bad}\u{1e}{}", pull(1), pull(2));
        // It is read, and then it is the session that ends.
        let posted = session.post(&body).await;
        assert!([200, 400].contains(&posted.status), "{bad}: {posted:?}");
        let mut heard = packets(&poll.response().await);
        while heard.last().is_some_and(|last| last != "1") {
            heard.extend(session.hear().await);
        }
        // What it asked before may be answered still.
        assert!(
            heard == ["1"] || heard == [&*answer(1), "1"],
            "{bad}: {heard:?}"
        );
        session.is_gone().await;
    }
    all_gone(&server).await;
}

#[tokio::test]
async fn an_empty_body_ends_the_session() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    let mut poll = session.waiting(&server).await;
    let empty = format!(
        "POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        session.path()
    );
    session.ask(empty).await;
    assert_eq!(packets(&poll.response().await), ["1"]);
    session.is_gone().await;
    all_gone(&server).await;
}

#[tokio::test]
async fn packets_that_mean_nothing_change_nothing() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    for nothing in [
        "0",
        "0{}",
        "3",
        "3x",
        "3probe",
        "5",
        "6",
        "6x",
        "42[\"other\"]",
        "423[\"error\",1]",
        "43\u{31}[]",
    ] {
        assert_eq!(told(&session.post(nothing).await), OK, "{nothing}");
        session.lives().await;
    }
    // A binary event is read to its end.
    let binary = "451-[\"a\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQIDBA==";
    assert_eq!(told(&session.post(binary).await), OK);
    session.lives().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_let_go_at_once() {
    let server = quiet(&[]).await;
    for leaves in ["1", "41\u{1e}1"] {
        // While a poll waits, it is released.
        let session = Session::connected(server.edge, "alice").await;
        let mut poll = session.waiting(&server).await;
        assert_eq!(told(&session.post(leaves).await), OK);
        assert_eq!(packets(&poll.response().await), ["6"]);
        session.is_gone().await;
        // And where none does.
        let session = Session::connected(server.edge, "alice").await;
        assert_eq!(told(&session.post(leaves).await), OK);
        session.is_gone().await;
        // And on one that never connected.
        let session = Session::open(server.edge).await;
        assert_eq!(told(&session.post("1").await), OK);
        session.is_gone().await;
    }
    assert_eq!(server.ends("closed").await, 6);
    all_gone(&server).await;
}

#[tokio::test]
async fn a_flood_of_tiny_packets_ends_the_session_and_costs_nobody_else() {
    let server = quiet(&["--max-message=1MiB", "--workers=1"]).await;
    let other = Session::connected(server.edge, "bob").await;
    let session = Session::connected(server.edge, "alice").await;
    let mut poll = session.waiting(&server).await;
    let flood = vec!["3"; 500_000].join("\u{1e}");
    let mut raw = session.dial().await;
    raw.send(session.posted(&flood)).await;
    other.lives().await;
    assert_eq!(packets(&poll.response().await), ["1"]);
    assert!(
        raw.try_response()
            .await
            .is_none_or(|answer| [200, 400].contains(&answer.status))
    );
    session.is_gone().await;
    other.lives().await;
    assert_eq!(server.ends("rate_limited").await, 1);
}

#[tokio::test]
async fn a_post_to_a_session_that_the_server_has_closed_is_answered_at_once() {
    let server = quiet(&["--max-sessions-per-user=1"]).await;
    let session = Session::connected(server.edge, "alice").await;
    let second = Session::connected(server.edge, "alice").await;
    // No poll has come for the last word of the first: it still has its sid.
    let before = tokio::time::Instant::now();
    let posted = session.post("3").await;
    assert!([200, 400].contains(&posted.status), "{posted:?}");
    // Not when the server gives up waiting for a poll.
    assert!(
        before.elapsed() < presenced_session::limits::CLOSE_TIMEOUT / 2,
        "{:?}",
        before.elapsed()
    );
    assert_eq!(session.hear().await, ["41", "1"]);
    session.is_gone().await;
    second.lives().await;
}

#[tokio::test]
async fn posts_and_polls_share_a_connection_for_as_long_as_the_client_keeps_it() {
    let server = quiet(&["--max-messages-per-second=1000"]).await;
    let session = Session::open(server.edge).await;
    let mut raw = session.dial().await;
    raw.send(session.posted(&shows("alice"))).await;
    assert_eq!(told(&raw.response().await), OK);
    raw.send(session.get()).await;
    assert!(raw.response().await.body.starts_with("40"));
    for round in 0..200 {
        raw.send(session.posted(&pull(round))).await;
        assert_eq!(told(&raw.response().await), OK);
        raw.send(session.get()).await;
        assert_eq!(packets(&raw.response().await), [answer(round)]);
    }
    // And those that wait.
    let mut posts = session.dial().await;
    for round in 0..50 {
        raw = session.waiting_on(raw, &server).await;
        posts.send(session.posted(&pull(round))).await;
        assert_eq!(told(&posts.response().await), OK);
        assert_eq!(packets(&raw.response().await), [answer(round)]);
    }
    drop((raw, posts));
    assert_eq!(told(&session.post("1").await), OK);
    all_gone(&server).await;
}
