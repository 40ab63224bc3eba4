//! How many sessions may poll, on how many connections, on which workers.

use std::net::IpAddr;

use futures_util::future::join_all;
use presenced::limits::IDLE_MIN;
use presenced_testkit::kernel_sockets::KernelSocket;
use presenced_testkit::process::Process;
use presenced_testkit::raw::get;
use presenced_testkit::server::metric;
use presenced_testkit::{PATIENCE, until};
use tokio::time::Instant;

use super::kit::{
    OK, Session, all_gone, all_gone_of, answer, hear, packets, pull, quiet, say, told,
};

fn from(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

#[tokio::test]
async fn more_sessions_hold_a_poll_than_there_are_places() {
    let flags = [
        "--max-http-connections=8",
        "--max-http-connections-per-address=8",
        "--max-messages-per-second=1000",
    ];
    let server = quiet(&flags).await;
    let mut sessions = Vec::new();
    for number in 0..60 {
        sessions.push(Session::connected(server.edge, &format!("u{number}")).await);
    }
    for round in 0..3 {
        // All at once, on connections that they keep.
        let mut polls = Vec::new();
        for session in &sessions {
            polls.push(session.waiting(&server).await);
        }
        until("no place is taken", PATIENCE, async || {
            server.metric("http_connections").await == 0
        })
        .await;
        for (session, poll) in sessions.iter().zip(&mut polls) {
            session.pull(round).await;
            assert_eq!(packets(&poll.response().await), [answer(round)]);
        }
    }
    for session in &sessions {
        session.lives().await;
        assert_eq!(told(&session.post("1").await), OK);
    }
    all_gone(&server).await;
}

#[tokio::test]
async fn a_connection_that_is_kept_is_good_for_the_next_request_or_says_that_it_ends() {
    let flags = [
        "--max-http-connections=4",
        "--max-http-connections-per-address=4",
        "--workers=2",
    ];
    let server = quiet(&flags).await;
    let mut sessions = Vec::new();
    for number in 0..24 {
        let session = Session::connected_in_time(server.edge, &format!("u{number}")).await;
        sessions.push(session);
    }
    let rounds = sessions.into_iter().map(async |session| {
        let mut raw = None;
        let mut kept = 0;
        for id in 0..8 {
            let mut connection = match raw.take() {
                Some(raw) => raw,
                None => session.dial().await,
            };
            connection.send(session.get()).await;
            let asked = Instant::now();
            until("there is a place for it", PATIENCE, async || {
                told(&session.post(&pull(id)).await) == OK
            })
            .await;
            let Some(heard) = connection.try_response().await else {
                panic!("no answer to a poll");
            };
            assert_eq!(packets(&heard), [answer(id)]);
            if heard.header("connection") == Some("close") {
                continue;
            }
            kept += 1;
            let is_sent = connection.try_send(session.posted("3")).await;
            // One that is idle for longer may have to make room.
            let is_early = asked.elapsed() < IDLE_MIN;
            match connection.try_response().await {
                Some(answer) if answer.status == 200 => {
                    let is_last = answer.header("connection") == Some("close");
                    raw = (!is_last).then_some(connection);
                }
                other => assert!(!is_early, "{is_sent} {other:?}"),
            }
        }
        kept
    });
    let kept: Vec<u32> = join_all(rounds).await;
    assert!(kept.iter().sum::<u32>() > 0, "{kept:?}");
}

#[tokio::test]
async fn clients_that_do_not_connect_are_bounded_and_make_room() {
    for workers in ["--workers=1", "--workers=2"] {
        let server = quiet(&[
            workers,
            "--max-http-connections=10",
            "--max-http-connections-per-address=5",
            "--socketio-connect-timeout=45s",
        ])
        .await;
        let mut connected = Vec::new();
        for number in 0..20 {
            connected.push(Session::connected(server.edge, &format!("u{number}")).await);
        }
        until("they have given back their places", PATIENCE, async || {
            server.metric("http_connections").await == 0
        })
        .await;
        let mut waiting = Vec::new();
        for _ in 0..20 {
            waiting.push(Session::open_in_time(from(2), server.edge).await);
        }
        until("most of them are gone", PATIENCE, async || {
            server.metric("sessions").await <= 25
        })
        .await;
        // Others come in, connect and ask.
        for number in 0..10 {
            let session = Session::open_in_time(from(3), server.edge).await;
            session.connect(&format!("other{number}")).await;
            session.lives().await;
            connected.push(session);
        }
        // The last to come may still connect.
        let last = waiting.pop().unwrap();
        last.connect("late").await;
        last.lives().await;
        connected.push(last);
        for session in &connected {
            session.lives().await;
            assert_eq!(told(&session.post("1").await), OK);
        }
        // The rest have ended in their turn, or do so now.
        for session in &waiting {
            session.post("1").await;
        }
        all_gone(&server).await;
    }
}

/// One client from its handshake to its end, each request on a connection of its own.
async fn whole_life(edge: std::net::SocketAddr, number: u32) {
    let session = Session::open(edge).await;
    let user = format!("u{number}");
    session.connect(&user).await;
    for id in 0..3 {
        let mut poll = session.dial().await;
        poll.send(session.get()).await;
        session.pull(id).await;
        assert_eq!(packets(&poll.response().await), [answer(id)]);
    }
    let polls = async {
        let mut heard = Vec::new();
        loop {
            let answer = session.poll().await;
            if answer.status != 200 {
                break;
            }
            heard.extend(packets(&answer).into_iter().filter(|packet| packet != "6"));
            if heard
                .iter()
                .any(|packet| packet == "43103[{\"online\":{}}]")
            {
                break;
            }
        }
        heard
    };
    let goes_over = async {
        let websocket = session.probed().await;
        for id in 100..104 {
            session.pull(id).await;
        }
        websocket
    };
    let (polled, mut websocket) = tokio::join!(polls, goes_over);
    assert_eq!(polled, (100..104).map(answer).collect::<Vec<_>>());
    session.pull(200).await;
    say(&mut websocket, "5").await;
    say(&mut websocket, &pull(201)).await;
    assert_eq!(hear(&mut websocket).await, answer(200));
    assert_eq!(hear(&mut websocket).await, answer(201));
    match number % 3 {
        0 => say(&mut websocket, "1").await,
        1 => websocket.reset(),
        _ => drop(websocket),
    }
    session.is_gone().await;
}

#[tokio::test]
async fn requests_of_a_session_may_come_to_any_worker_and_nothing_is_left_of_them() {
    for workers in ["--workers=1", "--workers=2", "--workers=4"] {
        let flags = [
            workers,
            "--ping-interval=60s",
            "--ttl=180s",
            "--max-http-connections-per-address=300",
        ];
        let process = Process::start(&flags).await;
        let (edge, admin) = (process.edge(), process.admin());
        join_all((0..60).map(|number| whole_life(edge, number))).await;
        all_gone_of(admin).await;
        let metrics = get(admin, "/metrics").await;
        assert_eq!(metric(&metrics, "sessions"), 0);
        until("no descriptor is left", PATIENCE, async || {
            KernelSocket::accepted_at(edge) == 0
        })
        .await;
    }
}
