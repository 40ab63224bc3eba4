//! What the process says, and that whatever its streams lead to neither ends it nor holds it up.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::thread;

use presenced::log::{self, LogFormat};
use presenced_testkit::client::Client;
use presenced_testkit::memcached::Memcached;
use presenced_testkit::process::{FREE_PORTS, Process, Sink, Stream, command, run};
use presenced_testkit::raw::{CLOSE, Raw, frame, get};
use presenced_testkit::server::metric;
use presenced_testkit::tokens::SECRET;
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tracing_subscriber::filter::Targets;

const FORMATS: [&str; 2] = ["--log-format=text", "--log-format=json"];

/// Each stream with each form of the log.
fn cases() -> impl Iterator<Item = (Stream, &'static str)> {
    let streams = [Stream::Stdout, Stream::Stderr].into_iter();
    streams.flat_map(|stream| FORMATS.map(|format| (stream, format)))
}

async fn dropped(process: &Process) -> u64 {
    let metrics = get(process.admin(), "/metrics").await;
    metric(&metrics, "log_lines_dropped_total")
}

async fn ended_sessions(process: &Process) -> u64 {
    let metrics = get(process.admin(), "/metrics").await;
    metric(&metrics, "session_ends_total{reason=\"closed\"}")
}

/// The store's whole answer.
async fn ask(store: SocketAddr, commands: &str) -> String {
    let mut raw = Raw::connect(store).await;
    raw.send(commands).await;
    String::from_utf8(raw.rest().await).unwrap()
}

/// Sessions begin, end and are drained, all of which is logged at this level.
async fn serves_and_drains(sink: Sink) {
    for (stream, format) in cases() {
        let case = format!("{stream:?} {sink:?} {format}");
        let flags = ["--log-level=debug", format, "--drain=1s"];
        let process = Process::start_into(stream, sink, &flags).await;
        let mut first = Client::connect(process.edge(), "first").await;
        let second = Client::connect(process.edge(), "second").await;
        second.close().await;
        until("the end is counted", PATIENCE, async || {
            ended_sessions(&process).await == 1
        })
        .await;
        let third = Client::connect(process.edge(), "third").await;
        // Its worker has it a moment after the handshake, and another may be asked.
        let what = format!("{case}: the third is seen");
        until(&what, PATIENCE, async || {
            first.pull(&["third"]).await["online"]["third"].is_object()
        })
        .await;
        match (stream, sink) {
            (Stream::Stdout, _) => assert_eq!(dropped(&process).await, 0, "{case}"),
            (Stream::Stderr, Sink::Unread | Sink::UnreadNonblocking) => {}
            (Stream::Stderr, _) => {
                let what = format!("{case}: lines that failed are counted");
                until(&what, PATIENCE, async || dropped(&process).await > 0).await;
            }
        }
        process.signal(Signal::TERM);
        for client in [first, third] {
            assert_eq!(client.closed().await.code, Some(1012), "{case}");
        }
        let (status, text) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{case}: {status} {text}");
        if stream == Stream::Stdout {
            assert!(
                text.contains("session ended") && text.contains("stopped"),
                "{case}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn a_full_disk_ends_no_session() {
    serves_and_drains(Sink::Full).await;
}

#[tokio::test]
async fn a_reader_that_is_gone_ends_no_session() {
    serves_and_drains(Sink::Closed).await;
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_ends_no_session() {
    serves_and_drains(Sink::Unread).await;
    serves_and_drains(Sink::UnreadNonblocking).await;
}

#[tokio::test]
async fn a_file_at_its_limit_ends_no_session() {
    serves_and_drains(Sink::Limited).await;
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_worker_and_tells_of_its_gap() {
    /// More than the queue of the log has places.
    const SESSIONS: u64 = 5_000;
    let flags = [
        "--log-level=debug",
        "--workers=1",
        "--drain=1s",
        "--max-handshakes-per-second-per-user=1000000",
    ];
    let mut process = Process::start_into(Stream::Stderr, Sink::Unread, &flags).await;
    let mut watcher = Client::connect(process.edge(), "watcher").await;
    let edge = process.edge();
    let mut crowd = JoinSet::new();
    for _ in 0..8 {
        crowd.spawn(async move {
            for _ in 0..SESSIONS / 8 {
                let mut session = Raw::session(edge, "visitor").await;
                session.send(frame(CLOSE, &1000_u16.to_be_bytes())).await;
                session.hung_up().await;
            }
        });
    }
    while crowd.join_next().await.transpose().unwrap().is_some() {
        let pulled = watcher.pull(&["watcher"]).await;
        assert!(pulled["online"]["watcher"].is_object(), "{pulled}");
    }
    assert_eq!(ended_sessions(&process).await, SESSIONS);
    let missing = dropped(&process).await;
    assert!(missing > 0);

    // Somebody reads it after all.
    let pipe = process.unread.take().unwrap();
    let reading = spawn_blocking(move || {
        let mut lines = BufReader::new(pipe).lines().map(Result::unwrap);
        let gap = format!("lines={missing}");
        let ends = lines.by_ref().take_while(|line| !line.contains(&gap));
        let ends = ends.filter(|line| line.contains("session ended")).count() as u64;
        (ends, lines)
    });
    let (ends, lines) = timeout(PATIENCE, reading).await.expect("it tells").unwrap();
    assert_eq!(ends, SESSIONS - missing);
    process.signal(Signal::TERM);
    assert_eq!(watcher.closed().await.code, Some(1012));
    let (status, _) = process.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(lines.last().unwrap().contains("stopped"));
}

#[tokio::test]
async fn a_log_that_fails_does_not_keep_it_from_seeing_memcached_again() {
    for sink in Sink::ALL {
        let mut memcached = Memcached::start().await;
        let node = format!("--memcached={}", memcached.node());
        let flags = [&node, "--log-level=debug", "--drain=1s"];
        let process = Process::start_into(Stream::Stderr, sink, &flags).await;
        let ready = async || get(process.admin(), "/readyz").await.status;
        until("ready", PATIENCE, async || ready().await == 200).await;
        memcached.kill();
        until("not ready", PATIENCE, async || ready().await == 503).await;
        memcached.restart().await;
        let what = format!("{sink:?}: ready again");
        until(&what, PATIENCE, async || ready().await == 200).await;
        process.signal(Signal::TERM);
        let (status, _) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{sink:?}: {status}");
    }
}

#[tokio::test]
async fn the_store_is_served_whatever_a_stream_leads_to() {
    for (sink, (stream, format)) in Sink::ALL
        .into_iter()
        .flat_map(|sink| cases().map(move |case| (sink, case)))
    {
        let case = format!("{stream:?} {sink:?} {format}");
        let flags = ["--log-level=debug", format, "--threads=1"];
        let process = Process::start_store_into(stream, sink, &flags).await;
        for _ in 0..3 {
            // An end that is logged.
            let mut lost = Raw::connect(process.store()).await;
            lost.send("set half 0 0 1000\r\n").await;
            lost.reset();
            until("the end is seen", PATIENCE, async || {
                let stats = ask(process.store(), "stats\r\nquit\r\n").await;
                stats.contains("STAT curr_connections 1\r\n")
            })
            .await;
            let answer = ask(process.store(), "set a 0 0 1\r\nx\r\nmg a v\r\nquit\r\n");
            assert_eq!(answer.await, "STORED\r\nVA 1\r\nx\r\n", "{case}");
        }
        process.signal(Signal::TERM);
        let (status, text) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{case}: {status}");
        if stream == Stream::Stdout {
            let logged = text.matches("a connection to the store ended").count();
            assert_eq!(logged, 3, "{case}: {text}");
        }
    }
}

#[tokio::test]
async fn what_was_logged_before_a_refusal_is_there_and_comes_first() {
    for format in FORMATS {
        let flags = [format, "--admin=0.0.0.0:0", "--key-template=user"];
        let output = run(&flags, Some(SECRET)).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        let warned = text.find("keep it private").expect("a warning");
        let refused = text.find("--key-template").expect("a refusal");
        assert!(warned < refused, "{text}");
    }
}

#[tokio::test]
async fn its_end_waits_for_no_reader() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = format!("--listen={}", taken.local_addr().unwrap());
    let elsewhere = [&[taken.as_str()], &FREE_PORTS[1..]].concat();
    let cases: [(&[&str], i32); 5] = [
        (&["--no-such-flag"], 2),
        (&["--ttl=1s"], 2),
        (&["store", "--memory=1MiB"], 2),
        (&elsewhere, 1),
        (&["store", &taken], 1),
    ];
    for sink in [
        Sink::Full,
        Sink::Closed,
        Sink::Unread,
        Sink::UnreadNonblocking,
    ] {
        for (flags, expected) in cases {
            let process = Process::spawn_into(Stream::Stderr, sink, flags);
            let (status, _) = process.ended().await;
            assert_eq!(
                status.code(),
                Some(expected),
                "{sink:?} {flags:?}: {status}"
            );
        }
    }
}

/// Each line is an object as tracing's are; returns their fields.
fn objects(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| {
        let mut object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
        assert!(object["timestamp"].is_string(), "{line}");
        assert!(object["level"].is_string(), "{line}");
        assert!(object["fields"]["message"].is_string(), "{line}");
        object["fields"].take()
    });
    lines.collect()
}

#[tokio::test]
async fn json_is_the_form_of_all_that_is_said() {
    const JSON: &str = "--log-format=json";
    // What is printed comes whatever is to be logged.
    let process = Process::start_dev(&[JSON, "--drain=0s", "--log-level=off"]).await;
    let greeting = objects(&process.greeting).remove(0);
    for field in ["edge", "admin", "store", "online", "offline", "headroom"] {
        assert!(greeting[field].is_string(), "{field}: {greeting}");
    }
    assert_eq!(get(process.admin(), "/healthz").await.status, 200);
    process.signal(Signal::TERM);
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0));
    let said = objects(&text);
    let command = said[1]["command"].as_str().unwrap();
    assert!(command.contains("user:alice:online"), "{command}");

    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = format!("--listen={}", taken.local_addr().unwrap());
    for (flags, status, part) in [
        (&["--no-such-flag"][..], 2, "--no-such-flag"),
        (&["--ttl=1s"], 2, "--ttl 1s"),
        (&["--admin=0.0.0.0:0", "--key-template=user"], 2, "template"),
        (&["store", "--memory=1MiB"], 2, "--memory"),
        (&["--admin=127.0.0.1:0", &taken], 1, "cannot listen"),
    ] {
        let output = run(&[flags, &[JSON]].concat(), None).await;
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        let last = objects(&text).pop().unwrap();
        let message = last["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
        assert!(!message.contains('\u{1b}'), "{message}");
    }
}

#[tokio::test]
async fn a_store_alone_greets_in_json_too() {
    let mut command = command(&["store", "--listen=127.0.0.1:0", "--log-format=json"]);
    let mut store = command.spawn().unwrap();
    let mut lines = tokio::io::BufReader::new(store.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await;
    let line = line.expect("it greets").unwrap().unwrap();
    let address = objects(&line)[0]["store"].as_str().unwrap().to_owned();
    let answer = ask(address.parse().unwrap(), "mn\r\nquit\r\n").await;
    assert_eq!(answer, "MN\r\n");
}

/// Set for [`panics_in_a_process_of_its_own`].
const PANICS: &str = "PRESENCED_TEST_PANICS";

#[test]
#[ignore = "the next test runs it, in a process of its own"]
fn panics_in_a_process_of_its_own() {
    if std::env::var_os(PANICS).is_none() {
        return;
    }
    // Nothing is wanted of the log.
    log::start(Targets::new(), LogFormat::Json);
    let worker = thread::Builder::new().name("worker-7".into());
    let worker = worker.spawn(|| panic!("a fault")).unwrap();
    assert!(worker.join().is_err());
    log::flush();
}

#[tokio::test]
async fn a_panic_is_in_the_log_and_waits_for_no_reader() {
    let child = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([
            "--ignored",
            "--exact",
            "log::panics_in_a_process_of_its_own",
        ]);
        child.env(PANICS, "1").env_remove("RUST_BACKTRACE");
        child.stdout(Stdio::null()).kill_on_drop(true);
        child
    };
    let output = timeout(PATIENCE, child().output()).await;
    let output = output.expect("it ends").unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["level"], "ERROR", "{line}");
    let fields = &line["fields"];
    assert_eq!(fields["message"], "panicked: a fault", "{line}");
    assert_eq!(fields["thread"], "worker-7", "{line}");
    let at = fields["at"].as_str().unwrap();
    assert!(at.starts_with("tests/it/log.rs:"), "{line}");

    for sink in [Sink::Full, Sink::Closed, Sink::Unread] {
        let (end, _unread) = sink.open();
        let status = timeout(PATIENCE, child().stderr(end).status()).await;
        assert!(status.expect("it ends").unwrap().success(), "{sink:?}");
    }
}
