//! The limits that an operator sets, and what a client meets at each.

use std::time::Duration;

use presenced_testkit::client::Client;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{PING, PONG, Raw, TEXT, frame, get, head};
use presenced_testkit::server::{TestServer, metric};
use presenced_testkit::{PATIENCE, alone, throughout, until};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn messages_and_frames_have_the_length_that_is_set() {
    let _alone = alone();
    for (flag, bytes) in [
        ("--max-message=1KiB", 1024),
        ("--max-message=200000", 200_000),
    ] {
        let server = TestServer::start(&[flag]).await;
        let mut raw = Raw::session(server.edge, "me").await;
        raw.send(frame(TEXT, &vec![b' '; bytes])).await;
        assert_eq!(raw.json().await["error"]["code"], "malformed", "{flag}");
        raw.send(head(TEXT, bytes + 1)).await;
        assert_eq!(raw.close_code().await, 1009, "{flag}");
        assert_eq!(server.ends("too_big").await, 1);
    }
}

#[tokio::test]
async fn more_messages_than_allowed_are_1008() {
    let _alone = alone();
    let server = TestServer::start(&["--max-messages-per-second=2"]).await;
    let mut raw = Raw::session(server.edge, "me").await;
    // Ten seconds' worth at once.
    raw.send(frame(PING, b"x").repeat(20)).await;
    for _ in 0..20 {
        assert_eq!(raw.frame().await.unwrap().first, PONG);
    }
    // Half a second makes room for one: not for as many as come now.
    raw.send(frame(PONG, b"").repeat(4)).await;
    assert_eq!(raw.close_code().await, 1008);
    assert_eq!(server.ends("rate_limited").await, 1);
}

#[tokio::test]
async fn one_session_that_floods_holds_up_no_other() {
    let _alone = alone();
    let server = TestServer::start(&["--workers=1", "--max-messages-per-second=1000000"]).await;
    let mut other = Client::connect(server.edge, "other").await;
    let mut flood = Raw::session(server.edge, "flood").await;
    let frames = frame(PONG, b"").repeat(20_000);
    let flooding = tokio::spawn(async move { while flood.try_send(&frames).await {} });
    until("a flood", PATIENCE, async || {
        server.metric("frames_total").await > 1_000_000
    })
    .await;
    let mut waits = Vec::new();
    for _ in 0..100 {
        let asked = Instant::now();
        assert!(other.pull(&["other"]).await["online"]["other"].is_object());
        waits.push(asked.elapsed());
    }
    // Half of them: a machine that stalls makes some wait, one session that is served first all.
    waits.sort_unstable();
    assert!(waits[50] < Duration::from_secs(1), "{waits:?}");
    assert!(!flooding.is_finished());
    flooding.abort();
    assert!(other.is_open());
}

#[tokio::test]
async fn who_does_not_read_has_an_outbox_of_the_size_that_is_set() {
    let _alone = alone();
    // Without memcached everyone asked for is unknown: an answer is as long as its question.
    let flags = [
        "--max-outbox=16KiB",
        "--max-messages-per-second=100000",
        "--memcached=127.0.0.1:1",
        "--workers=1",
    ];
    let server = TestServer::start(&flags).await;
    let users: Vec<String> = (0..400).map(|number| format!("{number:0>100}")).collect();
    let pull = serde_json::json!({"pull": 1, "users": users}).to_string();
    let pull = frame(TEXT, pull.as_bytes());
    let is_let_go_of = async || server.ends("slow_consumer").await > 0;
    until("one is let go of", 3 * PATIENCE, async || {
        // One whose last answer fits the outbox but for a little is not read from, and ends at its ping.
        let mut raw = Raw::session(server.edge, "deaf").await;
        while !is_let_go_of().await && raw.try_send(&pull).await {}
        is_let_go_of().await
    })
    .await;
    until("none is left", PATIENCE, async || {
        server.metric("sessions").await == 0
    })
    .await;
}

fn process_id(process: &Process) -> Pid {
    Pid::from_raw(process.id() as i32).unwrap()
}

/// No descriptor is left: accepting rests, and goes on when there is room, while those who are here
/// stay. One line of the log says that it begins, one that it is over.
#[tokio::test]
async fn at_the_file_limit_accepting_rests_and_goes_on() {
    let _alone = alone();
    let process =
        Process::start(&["--workers=1", "--ping-interval=1s", "--ping-timeout=900ms"]).await;
    let mut here = Client::connect(process.edge(), "here").await;
    let pid = process_id(&process);
    let limit = |current| Rlimit {
        current: Some(current),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    // The first three are in use.
    prlimit(Some(pid), Resource::Nofile, limit(3)).unwrap();
    let before = cpu_ticks(process.id());
    let mut waiting = Vec::new();
    for number in 0..10 {
        let edge = process.edge();
        waiting.push(tokio::spawn(async move {
            Client::connect(edge, &format!("u{number}")).await
        }));
    }
    throughout(
        "those who are here stay",
        Duration::from_secs(3),
        async || here.is_open() && here.pull(&["here"]).await["online"]["here"].is_object(),
    )
    .await;
    assert!(waiting.iter().all(|client| !client.is_finished()));
    // It does not spin: three seconds of trying would be 300.
    let spent = cpu_ticks(process.id()) - before;
    assert!(spent < 100, "{spent} hundredths of a second of CPU");
    prlimit(Some(pid), Resource::Nofile, limit(1000)).unwrap();
    for client in waiting {
        assert!(client.await.unwrap().is_open());
    }
    // The embedded store has a listener of its own, which may have been in the same trouble.
    let begins = r#"cannot accept connections; trying again listener="gateway""#;
    let is_over = r#"accepts connections again listener="gateway""#;
    process.logs(is_over).await;
    process.signal(Signal::INT);
    let (_, text) = process.ended().await;
    for line in [begins, is_over] {
        assert_eq!(text.matches(line).count(), 1, "{line}: {text}");
    }
}

/// User and system time in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A server that was stopped through several pings judges no one by the time that it missed.
#[tokio::test]
async fn a_server_that_was_stopped_ends_no_session() {
    let _alone = alone();
    let flags = ["--workers=1", "--ping-interval=1s", "--ping-timeout=900ms"];
    let process = Process::start(&flags).await;
    let mut clients = Vec::new();
    for number in 0..50 {
        clients.push(Client::connect(process.edge(), &format!("u{number}")).await);
    }
    let pings = async || metric(&get(process.admin(), "/metrics").await, "pings_total");
    until("pinged", PATIENCE, async || pings().await > 50).await;
    process.signal(Signal::STOP);
    // The time that it misses is what is tested.
    sleep(Duration::from_secs(4)).await;
    let woken = Instant::now();
    process.signal(Signal::CONT);
    let before = pings().await;
    until("pinged again", PATIENCE, async || {
        pings().await >= before + 100
    })
    .await;
    // As many as before, not those of four seconds at once: 100 pings are two intervals' worth.
    assert!(
        woken.elapsed() > Duration::from_millis(800),
        "{:?}",
        woken.elapsed()
    );
    assert!(clients.iter().all(Client::is_open));
    let ends = metric(
        &get(process.admin(), "/metrics").await,
        "missed_pongs_total",
    );
    assert_eq!(ends, 0);
}
