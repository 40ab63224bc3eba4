//! Clients that have not connected: how many there may be, and who makes room.

use std::net::IpAddr;

use presenced_testkit::server::TestServer;
use presenced_testkit::{PATIENCE, until};

use super::{Io, all_gone, started};

fn from(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

async fn sessions_are(server: &TestServer, count: u64) {
    until("so many sessions", PATIENCE, async || {
        server.metric("sessions").await == count
    })
    .await;
}

#[tokio::test]
async fn clients_that_do_not_connect_make_room_for_others() {
    for workers in ["--workers=1", "--workers=2"] {
        let server = started(&[
            workers,
            "--max-http-connections=6",
            "--max-http-connections-per-address=4",
            "--socketio-connect-timeout=45s",
            "--ping-interval=20s",
            "--ttl=60s",
        ])
        .await;
        // Who has connected needs no place.
        let mut connected = Vec::new();
        for number in 0..10 {
            let (io, _) = Io::session(server.edge, &format!("u{number}")).await;
            connected.push(io);
        }
        until("they have given back their places", PATIENCE, async || {
            server.metric("http_connections").await == 0
        })
        .await;

        // Of one address only so many wait: each one more takes the place of the one that has waited longest.
        let mut waiting = Vec::new();
        for _ in 0..4 {
            waiting.push(Io::open_from(from(2), server.edge).await);
        }
        assert_eq!(server.metric("http_connections").await, 4);
        let fifth = Io::open_from(from(2), server.edge).await;
        let first = waiting.remove(0);
        assert_eq!(first.closed().await, (1013, "overloaded".into()));
        waiting.push(fifth);
        sessions_are(&server, 14).await;

        // Others come in all the same, and connect.
        for number in 0..4 {
            let mut io = Io::open_from(from(3), server.edge).await;
            io.connect("", &format!("other{number}")).await;
            connected.push(io);
        }
        // And those who wait may still do so.
        let mut last = waiting.pop().unwrap();
        last.connect("", "late").await;
        connected.push(last);
        for io in &mut connected {
            io.lives().await;
        }
        drop((connected, waiting));
        all_gone(server.admin).await;
    }
}

#[tokio::test]
async fn sessions_that_have_no_user_count_as_sessions() {
    let server = started(&["--max-sessions=3", "--workers=1"]).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Io::open(server.edge).await);
    }
    let mut raw = presenced_testkit::raw::Raw::connect(server.edge).await;
    raw.send(super::shake(super::QUERY, &[])).await;
    assert_eq!(raw.response().await.status, 503);
    drop(open);
    all_gone(server.admin).await;
    Io::session(server.edge, "alice").await;
}
