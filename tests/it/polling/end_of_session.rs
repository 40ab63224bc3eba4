//! How the server ends sessions that poll, and whether their clients come back.

use presenced_testkit::process::Process;
use presenced_testkit::raw::get;
use presenced_testkit::server::metric;
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;

use super::kit::{Session, all_gone, packets, quiet, told};

#[tokio::test]
async fn one_session_too_many_of_a_user_is_told_that_this_is_final() {
    let server = quiet(&["--max-sessions-per-user=1"]).await;
    for waits in [true, false] {
        let first = Session::connected(server.edge, "alice").await;
        let poll = match waits {
            true => Some(first.waiting(&server).await),
            false => None,
        };
        let second = Session::connected(server.edge, "alice").await;
        let mut heard = match poll {
            Some(mut poll) => packets(&poll.response().await),
            None => first.hear().await,
        };
        if heard == ["41"] {
            heard.extend(first.hear().await);
        }
        assert_eq!(heard, ["41", "1"], "waits {waits}");
        first.is_gone().await;
        second.lives().await;
        assert_eq!(told(&second.post("1").await).0, 200);
        all_gone(&server).await;
    }
    assert_eq!(server.ends("replaced").await, 2);
}

#[tokio::test]
async fn a_drain_tells_polls_that_wait_and_lets_nobody_begin() {
    let process = Process::start(&["--drain=1s", "--ping-interval=60s", "--ttl=180s"]).await;
    let (edge, admin) = (process.edge(), process.admin());
    let mut waiting = Vec::new();
    for number in 0..20 {
        let session = Session::connected(edge, &format!("u{number}")).await;
        let mut raw = session.dial().await;
        raw.send(session.get()).await;
        waiting.push((session, raw));
    }
    // And one that polls not now.
    let idle = Session::connected(edge, "idle").await;
    until("they all wait", PATIENCE, async || {
        let metrics = get(admin, "/metrics").await;
        metric(&metrics, "http_requests_total") >= 20 * 3 + 2
    })
    .await;
    process.signal(Signal::TERM);
    for (_, raw) in &mut waiting {
        let last = raw.response().await;
        // No `41`: they come back.
        assert_eq!(packets(&last), ["1"]);
        assert_eq!(last.header("connection"), Some("close"), "{last:?}");
    }
    drop(idle);
    let (status, log) = process.ended().await;
    assert!(status.success(), "{log}");
}

#[tokio::test]
async fn a_client_that_does_not_connect_is_let_go() {
    let server = quiet(&["--socketio-connect-timeout=1s"]).await;
    let waits = Session::open(server.edge).await;
    let mut poll = waits.waiting(&server).await;
    assert_eq!(packets(&poll.response().await), ["1"]);
    waits.is_gone().await;
    // Or it has left the last of its namespaces, by polling or over a WebSocket.
    let left = Session::connected(server.edge, "alice").await;
    assert_eq!(told(&left.post("41").await).0, 200);
    assert_eq!(left.hear().await, ["1"]);
    left.is_gone().await;
    assert_eq!(server.ends("connect_timeout").await, 2);
    all_gone(&server).await;
}

#[tokio::test]
async fn refused_tokens_are_told_by_polling_and_another_may_follow() {
    let server = quiet(&[]).await;
    let session = Session::open(server.edge).await;
    assert_eq!(told(&session.post(r#"40{"token":"bad"}"#).await).0, 200);
    let heard = session.hear().await;
    assert!(heard[0].starts_with(r#"44{"message":"#), "{heard:?}");
    assert_eq!(told(&session.post("40/chat,").await).0, 200);
    assert_eq!(
        session.hear().await,
        [r#"44/chat,{"message":"Invalid namespace"}"#]
    );
    session.connect("alice").await;
    session.lives().await;
}
