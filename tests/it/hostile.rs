//! Peers that mean harm, and what each can cost.

use std::net::SocketAddr;
use std::time::Duration;

use presenced::limits::{PULL_USERS_MAX, SOCKET_BUFFER_BYTES};
use presenced_presence::limits::USER_ID_BYTES_MAX;
use presenced_testkit::client::Client;
use presenced_testkit::kernel_sockets::KernelSocket;
use presenced_testkit::node::ScriptedNode;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{CLOSE, Raw, TEXT, frame};
use presenced_testkit::server::TestServer;
use presenced_testkit::{PATIENCE, throughout, until};
use serde_json::json;
use tokio::time::sleep;

/// Bytes that the kernel holds for the peer of `here` at `there`, which has not read them.
fn unread_bytes(here: SocketAddr, there: SocketAddr) -> usize {
    let sockets = KernelSocket::all().into_iter();
    let between = sockets.filter(|socket| (socket.local, socket.remote) == (here, there));
    between.map(|socket| socket.unacknowledged).sum()
}

#[tokio::test]
async fn the_kernel_holds_a_stated_number_of_bytes_for_a_client_that_never_reads() {
    // Without memcached everyone asked for is unknown, so that answers are as large as questions.
    let flags = ["--memcached=127.0.0.1:1", "--max-message=128KiB"];
    let server = TestServer::start(&flags).await;
    let mut raw = Raw::session(server.edge, "deaf").await;
    let client = raw.local_addr();
    let id = |number: usize| format!("{number:0>USER_ID_BYTES_MAX$}");
    let users: Vec<_> = (0..PULL_USERS_MAX).map(id).collect();
    let pull = json!({"pull": 1, "users": users}).to_string();
    let pull = frame(TEXT, pull.as_bytes());
    // Until the server reads no more, and then hangs up.
    let asking = async { while raw.try_send(&pull).await {} };
    let mut most = 0;
    tokio::pin!(asking);
    loop {
        tokio::select! {
            () = &mut asking => break,
            () = sleep(Duration::from_millis(5)) => {
                most = most.max(unread_bytes(server.edge, client));
            }
        }
    }
    assert!(most > SOCKET_BUFFER_BYTES / 2, "{most} bytes");
    // Linux doubles it, and looks only before it takes another segment.
    assert!(most <= 3 * SOCKET_BUFFER_BYTES, "{most} bytes");
}

#[tokio::test]
async fn repeated_malformed_messages_end_with_1008_and_each_is_answered_first() {
    let server = TestServer::start(&[]).await;
    let mut other = Client::connect(server.edge, "other").await;
    let mut raw = Raw::session(server.edge, "me").await;
    let mut malformed = [
        "{",
        "[]",
        r#"{"pull":"x","users":[]}"#,
        r#"{"pull":1}"#,
        "ping",
    ]
    .iter()
    .cycle();
    // Twenty messages' worth each: ten of them are a burst, which is 200.
    for _ in 0..9 {
        raw.send(frame(TEXT, malformed.next().unwrap().as_bytes()))
            .await;
        assert_eq!(raw.json().await["error"]["code"], "malformed");
    }
    // A question that can be answered is still answered.
    raw.send(frame(TEXT, br#"{"pull":7,"users":["other"]}"#))
        .await;
    assert_eq!(raw.json().await["pull"], 7);
    let mut refused = 9;
    let last = loop {
        raw.send(frame(TEXT, malformed.next().unwrap().as_bytes()))
            .await;
        let said = raw.frame().await.unwrap();
        if said.first == CLOSE {
            break said;
        }
        refused += 1;
        assert!(refused < 100, "it is never enough");
    };
    assert_eq!(last.payload[..2], 1008u16.to_be_bytes());
    assert_eq!(server.ends("rate_limited").await, 1);
    assert!(other.pull(&["other"]).await["online"]["other"].is_object());
}

#[tokio::test]
async fn a_memcached_whose_stats_never_end_is_asked_ever_more_rarely_and_the_log_says_so() {
    let node = ScriptedNode::start().await;
    let flag = format!("--memcached={}", node.node());
    // The probe looks as often as it flushes.
    let process = Process::start(&[&flag, "--flush-interval=100ms"]).await;
    until("it has answered", PATIENCE, async || node.stats_asked() > 2).await;
    node.never_end_stats();
    process.logs("memcached's stats cannot be read").await;
    let asked = node.stats_asked();
    throughout("paused", Duration::from_secs(4), async || {
        // At once it may have been asked again, then after 1, 2 and 4 s.
        node.stats_asked() <= asked + 3
    })
    .await;
    until("it is asked again", PATIENCE, async || {
        node.stats_asked() > asked
    })
    .await;
    assert_eq!(process.logged("an answer without end"), 1);
}
