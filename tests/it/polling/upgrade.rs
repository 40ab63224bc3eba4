//! From polling to a WebSocket: nothing is lost, nothing comes twice, and nobody waits for an interval.

use presenced_testkit::raw::{BINARY, CLOSE, PING, PONG, Raw, TEXT, frame};
use presenced_testkit::server::TestServer;
use presenced_testkit::{PATIENCE, until};

use super::kit::{
    BAD_REQUEST, OK, Session, all_gone, answer, hear, packets, pull, pulls, quiet, say, told,
};

/// Waits until the server closes a WebSocket, which says nothing before.
async fn closed(mut raw: Raw) {
    let frame = raw.any_frame().await.expect("a close frame");
    assert_eq!(frame.first, CLOSE, "{frame:?}");
    assert_eq!(raw.any_frame().await, None);
}

/// Asks over a WebSocket.
async fn lives(raw: &mut Raw) {
    say(raw, &pull(99)).await;
    assert_eq!(hear(raw).await, answer(99));
}

#[tokio::test]
async fn a_client_goes_over_and_asks_on() {
    for workers in ["--workers=1", "--workers=2", "--workers=4"] {
        let server = quiet(&[workers]).await;
        let session = Session::connected(server.edge, "alice").await;
        session.pull(1).await;
        let mut websocket = session.probed().await;
        // Until it says so, it polls.
        session.hears_while_probing(1).await;
        session.pull(2).await;
        session.hears_while_probing(2).await;
        say(&mut websocket, "5").await;
        lives(&mut websocket).await;
        assert_eq!(told(&session.poll().await), BAD_REQUEST);
        assert_eq!(told(&session.post("1").await), BAD_REQUEST);
        lives(&mut websocket).await;
        say(&mut websocket, "1").await;
        session.is_gone().await;
        all_gone(&server).await;
    }
}

#[tokio::test]
async fn one_that_has_not_connected_may_go_over_first() {
    let server = quiet(&[]).await;
    let session = Session::open(server.edge).await;
    let mut websocket = session.probed().await;
    say(&mut websocket, "5").await;
    say(&mut websocket, &super::kit::shows("alice")).await;
    assert!(hear(&mut websocket).await.starts_with("40{\"sid\":"));
    lives(&mut websocket).await;
    drop(websocket);
    all_gone(&server).await;
}

#[tokio::test]
async fn what_is_no_probe_closes_the_websocket_and_the_session_polls_on() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    for first in [
        "5",
        "2",
        "2prob",
        "2probe2",
        "3probe",
        "1",
        "",
        "x",
        "0",
        "42[\"a\"]",
    ] {
        let mut websocket = session.websocket().await;
        say(&mut websocket, first).await;
        closed(websocket).await;
        session.lives().await;
    }
    for second in ["2probe", "2", "3", "6", "4", "1", "", "x", "42[\"a\"]"] {
        let mut websocket = session.probed().await;
        say(&mut websocket, second).await;
        closed(websocket).await;
        session.lives().await;
    }
    for bytes in [
        frame(BINARY, b"2probe"),
        frame(0x01, b"2probe"),
        frame(0x80, b"2probe"),
        frame(TEXT, &[0xff]),
        frame(TEXT, &[b'2'; 200]),
        // A frame that is not masked, and one with bits that nobody has agreed on.
        vec![TEXT, 6, b'2', b'p', b'r', b'o', b'b', b'e'],
        frame(0xc1, b"2probe"),
    ] {
        let mut websocket = session.websocket().await;
        websocket.send(&bytes).await;
        closed(websocket).await;
        session.lives().await;
    }
    all_after(&session, &server).await;
}

async fn all_after(session: &Session, server: &TestServer) {
    assert_eq!(told(&session.post("1").await), OK);
    all_gone(server).await;
}

#[tokio::test]
async fn control_frames_are_answered_while_it_is_probed() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    let mut websocket = session.websocket().await;
    websocket.send(frame(PING, b"a")).await;
    let pong = websocket.any_frame().await.unwrap();
    assert_eq!((pong.first, &*pong.payload), (PONG, &b"a"[..]));
    websocket.send(frame(PONG, b"")).await;
    say(&mut websocket, "2probe").await;
    assert_eq!(hear(&mut websocket).await, "3probe");
    // The client closes it.
    websocket.send(frame(CLOSE, &[])).await;
    closed(websocket).await;
    session.lives().await;
}

#[tokio::test]
async fn every_poll_is_answered_at_once_while_it_is_probed() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    // One that waits before the probe, also when the WebSocket is there already.
    for opened_before in [false, true] {
        let mut poll = None;
        if !opened_before {
            poll = Some(session.waiting(&server).await);
        }
        let mut websocket = session.websocket().await;
        if opened_before {
            poll = Some(session.waiting(&server).await);
        }
        say(&mut websocket, "2probe").await;
        assert_eq!(packets(&poll.unwrap().response().await), ["6"]);
        // And each one that comes between, before `3probe` is read or behind.
        assert_eq!(session.hear().await, ["6"]);
        assert_eq!(hear(&mut websocket).await, "3probe");
        for _ in 0..10 {
            assert_eq!(session.hear().await, ["6"]);
        }
        session.pull(1).await;
        session.hears_while_probing(1).await;
        assert_eq!(session.hear().await, ["6"]);
        // The WebSocket is gone: polls wait again.
        drop(websocket);
        until("polls wait", PATIENCE, async || {
            // Whatever is on it, a second WebSocket is refused.
            session.try_websocket().await
        })
        .await;
        let mut poll = session.waiting(&server).await;
        session.pull(2).await;
        assert_eq!(packets(&poll.response().await), [answer(2)]);
    }
}

impl Session {
    /// The next thing that polls bring but for `6`.
    async fn hears_while_probing(&self, id: u32) {
        let mut heard = self.hear().await;
        while heard == ["6"] {
            heard = self.hear().await;
        }
        assert_eq!(heard, [answer(id)]);
    }

    /// Whether there is place for a WebSocket; it is closed again.
    async fn try_websocket(&self) -> bool {
        let mut raw = self.dial().await;
        raw.send(self.upgrades()).await;
        let answer = raw.response().await;
        if answer.status != 101 {
            assert_eq!(told(&answer), BAD_REQUEST);
            return false;
        }
        say(&mut raw, "5").await;
        closed(raw).await;
        true
    }
}

#[tokio::test]
async fn probe_upgrade_and_what_follows_may_come_in_one_segment() {
    for workers in ["--workers=1", "--workers=2"] {
        let server = quiet(&[workers]).await;
        for is_connected in [false, true] {
            let session = Session::open(server.edge).await;
            let mut expected = vec![answer(1)];
            let mut said = vec!["2probe".to_owned(), "5".into()];
            match is_connected {
                true => drop(session.connect("alice").await),
                false => {
                    expected.clear();
                    said.push(super::kit::shows("alice"));
                }
            }
            if is_connected {
                said.push(pull(1));
            }
            let frames: Vec<_> = said
                .iter()
                .map(|said| frame(TEXT, said.as_bytes()))
                .collect();
            let mut raw = session.dial().await;
            // Even before the answer to its handshake.
            raw.send([session.upgrades().into_bytes(), frames.concat()].concat())
                .await;
            let handshake = raw.head().await;
            assert_eq!(handshake.status, 101, "{handshake:?}");
            assert_eq!(hear(&mut raw).await, "3probe");
            match is_connected {
                true => assert_eq!(hear(&mut raw).await, answer(1)),
                false => assert!(hear(&mut raw).await.starts_with("40{")),
            }
            lives(&mut raw).await;
        }
        all_gone(&server).await;
    }
}

#[tokio::test]
async fn frames_may_come_byte_by_byte() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    let mut raw = session.websocket().await;
    let bytes: Vec<_> = ["2probe", "5", &pull(1), &pull(2)]
        .iter()
        .flat_map(|said| frame(TEXT, said.as_bytes()))
        .collect();
    for byte in bytes {
        raw.send([byte]).await;
    }
    assert_eq!(hear(&mut raw).await, "3probe");
    let mut heard = vec![hear(&mut raw).await, hear(&mut raw).await];
    heard.sort();
    assert_eq!(heard, [answer(1), answer(2)]);
}

#[tokio::test]
async fn what_was_queued_goes_over_the_websocket_once_and_in_order() {
    let server = quiet(&["--max-messages-per-second=1000"]).await;
    for count in [1, 16, 17, 50] {
        let session = Session::connected(server.edge, "alice").await;
        let mut websocket = session.probed().await;
        for id in 0..count {
            session.pull(id).await;
        }
        say(&mut websocket, "5").await;
        for id in 0..count {
            assert_eq!(hear(&mut websocket).await, answer(id));
        }
        lives(&mut websocket).await;
    }
    all_gone(&server).await;
}

#[tokio::test]
async fn a_poll_that_waits_at_the_end_of_the_upgrade_is_released() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    // In one segment: the poll is answered by the probe, or by the upgrade.
    let mut poll = session.waiting(&server).await;
    let mut websocket = session.websocket().await;
    let both = [frame(TEXT, b"2probe"), frame(TEXT, b"5")].concat();
    websocket.send(both).await;
    assert_eq!(packets(&poll.response().await), ["6"]);
    assert_eq!(hear(&mut websocket).await, "3probe");
    lives(&mut websocket).await;
}

#[tokio::test]
async fn a_post_under_way_is_read_before_what_comes_over_the_websocket() {
    for workers in ["--workers=1", "--workers=2"] {
        let server = quiet(&[workers]).await;
        let session = Session::connected(server.edge, "alice").await;
        let mut websocket = session.probed().await;
        let body = pulls([1, 2]);
        let whole = session.posted(&body);
        let mut post = session.dial().await;
        post.send(&whole[..whole.len() - 5]).await;
        post_is_under_way(&server).await;
        say(&mut websocket, "5").await;
        say(&mut websocket, &pull(3)).await;
        // No longer a session that polls.
        until("it has gone over", PATIENCE, async || {
            told(&session.ask(session.put()).await) == BAD_REQUEST
        })
        .await;
        post.send(&whole[whole.len() - 5..]).await;
        assert_eq!(told(&post.response().await), OK);
        let mut heard = Vec::new();
        for _ in 0..3 {
            heard.push(hear(&mut websocket).await);
        }
        heard.sort();
        assert_eq!(heard, [answer(1), answer(2), answer(3)]);
        lives(&mut websocket).await;
        drop((websocket, post));
        all_gone(&server).await;
    }
}

/// A connection with a POST, and nothing else but a WebSocket that is probed, has a place.
async fn post_is_under_way(server: &TestServer) {
    until("the POST has come", PATIENCE, async || {
        server.metric("http_connections").await == 2
    })
    .await;
}

#[tokio::test]
async fn a_post_that_breaks_off_after_the_upgrade_harms_nobody() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    let mut websocket = session.probed().await;
    let whole = session.posted(&pulls([1, 2]));
    let mut post = session.dial().await;
    post.send(&whole[..whole.len() - 5]).await;
    post_is_under_way(&server).await;
    say(&mut websocket, "5").await;
    until("it has gone over", PATIENCE, async || {
        told(&session.ask(session.put()).await) == BAD_REQUEST
    })
    .await;
    drop(post);
    lives(&mut websocket).await;
    drop(websocket);
    all_gone(&server).await;
}

#[tokio::test]
async fn an_upgrade_that_takes_too_long_is_given_up_and_may_be_tried_again() {
    let server = quiet(&["--socketio-upgrade-timeout=1s"]).await;
    let session = Session::connected(server.edge, "alice").await;
    closed(session.websocket().await).await;
    session.lives().await;
    closed(session.probed().await).await;
    session.lives().await;
    // Polls wait again.
    let mut poll = session.waiting(&server).await;
    session.pull(1).await;
    assert_eq!(packets(&poll.response().await), [answer(1)]);
    let mut websocket = session.probed().await;
    say(&mut websocket, "5").await;
    lives(&mut websocket).await;
}

#[tokio::test]
async fn a_websocket_that_is_gone_in_the_middle_leaves_the_session_polling() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    for resets in [false, true] {
        for is_probed in [false, true] {
            let websocket = match is_probed {
                false => session.websocket().await,
                true => session.probed().await,
            };
            match resets {
                false => drop(websocket),
                true => websocket.reset(),
            }
            until("there is place for another", PATIENCE, async || {
                session.try_websocket().await
            })
            .await;
            session.lives().await;
        }
    }
    // Gone behind its `5`, it takes the session with it.
    let mut websocket = session.probed().await;
    say(&mut websocket, "5").await;
    websocket.reset();
    session.is_gone().await;
    all_gone(&server).await;
}

#[tokio::test]
async fn a_second_websocket_is_refused_and_the_first_is_left_alone() {
    let server = quiet(&[]).await;
    let session = Session::connected(server.edge, "alice").await;
    let mut first = session.websocket().await;
    assert_eq!(told(&session.ask(session.upgrades()).await), BAD_REQUEST);
    say(&mut first, "2probe").await;
    assert_eq!(hear(&mut first).await, "3probe");
    assert_eq!(told(&session.ask(session.upgrades()).await), BAD_REQUEST);
    say(&mut first, "5").await;
    lives(&mut first).await;
    assert_eq!(told(&session.ask(session.upgrades()).await), BAD_REQUEST);
    lives(&mut first).await;
}

#[tokio::test]
async fn a_session_that_ends_takes_its_websocket_with_it() {
    let server = quiet(&[]).await;
    for is_probed in [false, true] {
        let session = Session::connected(server.edge, "alice").await;
        let websocket = match is_probed {
            false => session.websocket().await,
            true => session.probed().await,
        };
        assert_eq!(told(&session.post("1").await), OK);
        closed(websocket).await;
        session.is_gone().await;
    }
    all_gone(&server).await;
}

#[tokio::test]
async fn an_unfinished_upgrade_does_not_stop_the_heartbeat() {
    let flags = [
        "--ping-interval=1s",
        "--ping-timeout=900ms",
        "--socketio-upgrade-timeout=45s",
    ];
    let server = TestServer::start(&flags).await;
    let session = Session::connected(server.edge, "alice").await;
    let websocket = session.websocket().await;
    assert_eq!(session.hear().await, ["2"]);
    assert_eq!(told(&session.post("3").await), OK);
    // Silent from now on.
    closed(websocket).await;
    session.is_gone().await;
    assert_eq!(server.ends("pong_timeout").await, 1);
    all_gone(&server).await;
}

#[tokio::test]
async fn pings_go_over_the_websocket_afterwards() {
    let server = TestServer::start(&["--ping-interval=1s", "--ping-timeout=900ms"]).await;
    let session = Session::connected(server.edge, "alice").await;
    let mut websocket = session.probed().await;
    say(&mut websocket, "5").await;
    for _ in 0..3 {
        assert_eq!(hear(&mut websocket).await, "2");
        say(&mut websocket, "3").await;
    }
    lives(&mut websocket).await;
}

#[tokio::test]
async fn what_the_server_says_last_reaches_a_client_in_the_middle_of_an_upgrade() {
    let server = quiet(&["--max-sessions-per-user=1"]).await;
    // While it is probed: by polling.
    let session = Session::connected(server.edge, "alice").await;
    let websocket = session.probed().await;
    let second = Session::connected(server.edge, "alice").await;
    closed(websocket).await;
    assert_eq!(session.hear().await, ["41", "1"]);
    session.is_gone().await;
    // Behind its `5`, while a POST is under way: over the WebSocket.
    let mut websocket = second.probed().await;
    let whole = second.posted(&pull(1));
    let mut post = second.dial().await;
    post.send(&whole[..whole.len() - 5]).await;
    post_is_under_way(&server).await;
    say(&mut websocket, "5").await;
    until("it has gone over", PATIENCE, async || {
        told(&second.ask(second.put()).await) == BAD_REQUEST
    })
    .await;
    let third = Session::connected(server.edge, "alice").await;
    post.send(&whole[whole.len() - 5..]).await;
    assert_eq!(hear(&mut websocket).await, "41");
    let close = websocket.any_frame().await.expect("a close frame");
    assert_eq!(close.first, CLOSE, "{close:?}");
    assert_eq!(&close.payload[..2], 4409u16.to_be_bytes());
    drop((websocket, post));
    third.lives().await;
    assert_eq!(told(&third.post("1").await), OK);
    all_gone(&server).await;
}
