//! The program against presenced in this process, and against a scripted Engine.IO server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic"
)]

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use presenced::cli::Flags;
use presenced::server::Server;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::interval;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

const SECRET: &str = "an HS256 secret for tests, long enough";

/// A file with a secret, deleted when dropped.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(name: &str, secret: &str) -> SecretFile {
        let name = format!("presenced-load-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        writeln!(file, "{secret}").unwrap();
        SecretFile(path)
    }

    fn flag(&self) -> String {
        format!("--jwt-secret-file={}", self.0.display())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The ping timeout is short enough for an unresponsive session to meet it within a run, and long
/// enough for all others on a busy machine.
async fn presenced() -> Server {
    started(Some(SECRET), &[]).await
}

/// For tests that measure this process's CPU time, or take much of it: the time of threads that end in
/// between is lost.
static MEASURED: Mutex<()> = Mutex::const_new(());

async fn started(secret: Option<&str>, more: &[&str]) -> Server {
    let flags = [
        "presenced",
        "--listen=127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--store-listen=127.0.0.1:0",
        "--workers=2",
        "--ping-interval=1500ms",
        "--ping-timeout=1200ms",
        "--drain=0s",
        "--drain-delay=0s",
    ];
    let mut flags = Flags::parse_from([&flags, more].concat());
    flags.tokens.issuer.jwt_secret = secret.map(Into::into);
    Server::start(flags.check().unwrap()).await.unwrap()
}

async fn load(addr: SocketAddr, flags: &[&str]) -> Output {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_presenced-load"))
        .arg(format!("--connect={addr}"))
        .args(flags)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    output.expect("the run ends").unwrap()
}

fn report(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(report: &Value, at: &str) -> u64 {
    let number = report.pointer(at).and_then(Value::as_u64);
    number.unwrap_or_else(|| panic!("no {at} in {report:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_run_in_two_processes() {
    let _turn = MEASURED.lock().await;
    let server = presenced().await;
    let secret = SecretFile::new("run", SECRET);
    let metrics = format!("--metrics=http://{}/metrics", server.admin_addr());
    let pid = format!("--pid={}", std::process::id());
    let flags = [
        &secret.flag(),
        &metrics,
        &pid,
        "--json",
        "--processes=2",
        "--sessions=101",
        "--settle=1500ms",
        "--duration=2s",
        "--pull-every=500ms",
        "--pull-users=20",
        "--churn=20",
        "--unresponsive=0.1",
        "--flood=1",
        "--client-ping=200ms",
        "--client-ping-sessions=5",
    ];
    let report = report(&load(server.gateway_addr(), &flags).await);
    assert_handshakes_and_ends(&report);
    assert_load(&report);
    assert_server(&report);
}

/// Puts users into a server's store as another server does.
async fn store_users(server: &Server, users: impl Iterator<Item = String>) {
    let value = r#"{"serverId":"another","connectedAt":1,"socketId":"0-0-0-0"}"#;
    let sets: String = users
        .map(|user| format!("set user:{user}:online 0 60 {}\r\n{value}\r\n", value.len()))
        .collect();
    let addr = server.store_addr().expect("it has a store");
    let mut store = TcpStream::connect(addr).await.unwrap();
    let stored = "STORED\r\n".repeat(sets.matches("set ").count());
    store.write_all(sets.as_bytes()).await.unwrap();
    let mut answer = vec![0; stored.len()];
    store.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_another_server_are_asked_for_back_to_back() {
    let _turn = MEASURED.lock().await;
    let unlimited = [
        "--max-messages-per-second=1000000",
        "--max-pull-users-per-second=1000000",
    ];
    let server = started(Some(SECRET), &unlimited).await;
    store_users(&server, (0..30).map(|n| format!("other-{n}"))).await;
    let secret = SecretFile::new("others", SECRET);
    for choice in ["--pull-choice=uniform", "--pull-choice=zipf"] {
        let flags = [
            &secret.flag()[..],
            "--json",
            "--processes=2",
            "--sessions=6",
            "--sessions-per-user=3",
            "--settle=0s",
            "--duration=500ms",
            "--client-ping=0s",
            "--heartbeat-every=100ms",
            "--pull-every=0s",
            "--pull-users=40",
            "--pull-user-prefix=other-",
            "--pull-population=40",
            choice,
        ];
        let report = report(&load(server.gateway_addr(), &flags).await);
        assert_eq!(report["open"], 6, "{report:#}");
        assert_eq!(report["pull_errors"], json!({}), "{report:#}");
        // Each of the six sessions asks again when it is answered.
        let answered = number(&report, "/latency_us/pull/count");
        assert!(answered > 12, "{report:#}");
        assert!(number(&report, "/pulls") <= answered + 6, "{report:#}");
        assert_eq!(number(&report, "/pulled_online"), 30 * answered);
        assert_eq!(number(&report, "/pulled_offline"), 10 * answered);
        assert_eq!(number(&report, "/pulled_unknown"), 0);
        assert!(number(&report, "/heartbeats") >= 6, "{report:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bare_gets_ask_for_as_many_users_as_they_say() {
    let server = presenced().await;
    store_users(&server, (0..150).map(|n| format!("other-{n}"))).await;
    let store = server.store_addr().unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_presenced-bare-gets"))
        .arg(format!("--connect={store}"))
        .args([
            "--user-prefix=other-",
            "--population=150",
            "--duration=300ms",
        ])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    let report = report(&output.expect("the run ends").unwrap());
    let keys = number(&report, "/keys");
    assert!(keys > 0 && keys.is_multiple_of(100), "{report:#}");
    let mut stream = TcpStream::connect(store).await.unwrap();
    stream.write_all(b"stats\r\nquit\r\n").await.unwrap();
    let mut stats = String::new();
    stream.read_to_string(&mut stats).await.unwrap();
    let found = stats
        .lines()
        .find_map(|line| line.strip_prefix("STAT get_hits "));
    // A few of the hits are the server's own.
    let found: u64 = found.expect("stats have hits").parse().unwrap();
    assert!((keys..keys + 100).contains(&found), "{found} of {report:#}");
}

fn assert_handshakes_and_ends(report: &Value) {
    assert_eq!(report["sessions"], 101);
    assert_eq!(report["connected"], 101, "{report:#}");
    assert_eq!(report["refused"], json!({}));
    assert_eq!(report["connect_errors"], json!({}));
    // Ten are unresponsive, or nine and the flooding one.
    let unresponsive = number(report, "/lost/4408");
    assert!((9..=20).contains(&unresponsive), "{report:#}");
    assert!(number(report, "/open") >= 80, "{report:#}");
}

fn assert_load(report: &Value) {
    // Some ninety sessions, every 1.5 s, for 2 s.
    let pongs = number(report, "/pongs");
    assert!(
        pongs >= 60 && number(report, "/pings") >= pongs,
        "{report:#}"
    );
    let pulls = number(report, "/pulls");
    assert!((200..=420).contains(&pulls), "{report:#}");
    let answers = number(report, "/latency_us/pull/count");
    assert!(answers * 2 > pulls && answers <= pulls, "{report:#}");
    assert_eq!(report["pull_errors"], json!({}), "{report:#}");
    let online = number(report, "/pulled_online");
    assert!(
        online > answers * 10 && online <= answers * 20,
        "{report:#}"
    );
    assert!(
        (20..=42).contains(&number(report, "/churned")),
        "{report:#}"
    );
    assert!(number(report, "/latency_us/churn_handshake/count") > 10);
    assert!(number(report, "/latency_us/client_ping/count") > 10);
    assert!(number(report, "/latency_us/handshake/p50") > 0);
    assert!(number(report, "/flood/frames") > 200, "{report:#}");
    assert!(number(report, "/flood/reconnects") >= 1, "{report:#}");
}

fn assert_server(report: &Value) {
    assert!(number(report, "/rss_bytes") > 0);
    assert!(report["cpu_seconds"].as_f64().unwrap() > 0.0);
    assert!(report["cpu_us_per_ping_and_pong"].as_f64().unwrap() > 0.0);
    assert!(number(report, "/server/pongs") >= 60, "{report:#}");
    assert!(
        number(report, "/server/session_ends/closed") > 10,
        "{report:#}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_text_report_of_a_run_without_load() {
    let server = presenced().await;
    let secret = SecretFile::new("people", SECRET);
    let flags = [
        &secret.flag()[..],
        "--sessions=20",
        "--settle=0s",
        "--duration=200ms",
        "--client-ping=0s",
    ];
    let output = load(server.gateway_addr(), &flags).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("20 of 20 connected"), "{text}");
    assert!(text.contains("20 open at the end"), "{text}");
    assert!(!text.contains("client ping"), "{text}");
    // Without a terminal there is no progress bar.
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_sessions_are_reported_with_the_reason() {
    // Otherwise a token may come after the handshake.
    let server = started(Some(SECRET), &["--refuse-with=http"]).await;
    let wrong = SecretFile::new("wrong", "another secret that the server does not have");
    for processes in ["--processes=1", "--processes=2"] {
        for token in [Some(wrong.flag()), None] {
            let mut flags = vec!["--sessions=10", "--json", processes];
            flags.extend(token.as_deref());
            let output = load(server.gateway_addr(), &flags).await;
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{text}");
            assert!(text.contains("refused with 401: 10"), "{text}");
            assert_eq!(output.stdout, b"");
        }
    }
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = nowhere.local_addr().unwrap();
    drop(nowhere);
    let output = load(addr, &["--sessions=10"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("connection refused: 10"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_key_is_asked_for_tokens() {
    let server = started(None, &[]).await;
    for processes in ["--processes=1", "--processes=2"] {
        let flags = [
            "--sessions=30",
            "--user-prefix=a+b&%-",
            "--settle=0s",
            "--duration=500ms",
            "--pull-every=100ms",
            "--pull-users=5",
            "--churn=20",
            "--json",
            processes,
        ];
        let report = report(&load(server.gateway_addr(), &flags).await);
        assert_eq!(report["connected"], 30, "{report:#}");
        assert_eq!(report["refused"], json!({}), "{report:#}");
        assert_eq!(report["pull_errors"], json!({}), "{report:#}");
        // They are known by their own names.
        assert!(number(&report, "/pulled_online") > 0, "{report:#}");
    }
    for (flag, parts) in [
        ("--duration=2h", ["3600 s", "--jwt-secret-file"]),
        ("--user-prefix=a b", ["/dev/token", "user"]),
    ] {
        let output = load(server.gateway_addr(), &[flag]).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_run_ends_if_a_process_dies() {
    let server = presenced().await;
    let secret = SecretFile::new("dies", SECRET);
    let parent = tokio::process::Command::new(env!("CARGO_BIN_EXE_presenced-load"))
        .arg(format!("--connect={}", server.gateway_addr()))
        .args([&secret.flag(), "--processes=3", "--duration=10m"])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = parent.id().unwrap();
    let children = loop {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap();
        let children: Vec<_> = children.split_whitespace().map(str::to_owned).collect();
        if children.len() == 3 {
            break children;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let child = Pid::from_raw(children[1].parse().unwrap()).unwrap();
    kill_process(child, Signal::KILL).unwrap();
    let output = tokio::time::timeout(Duration::from_secs(30), parent.wait_with_output());
    let output = output.await.expect("the run ends").unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let expected = format!("process 2 of 3 (pid {}) has ended: signal: 9", children[1]);
    assert!(text.contains(&expected), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[tokio::test]
async fn invalid_flags_exit_with_status_2() {
    let addr = "127.0.0.1:1".parse().unwrap();
    for (flags, names) in [
        (
            &["--protocol=engine.io", "--pull-every=1s"][..],
            "--pull-every",
        ),
        (&["--pull-choice=best"], "--pull-choice"),
        (&["--sessions=many"], "--sessions"),
        (&["--sessions=99999999999"], "--processes"),
        (
            &["--jwt-secret-file=/no/such/file"],
            "--jwt-secret-file /no/such/file",
        ),
        (&["--pid=4294967295"], "--pid 4294967295"),
        (&["--unresponsive=2"], "--unresponsive"),
    ] {
        let output = load(addr, flags).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert!(text.contains(names), "{names} in {text}");
        assert_eq!(output.stdout, b"", "{flags:?}");
    }
}

/// An Engine.IO server after the protocol's specification, on an independent WebSocket library.
async fn engine_io(stream: TcpStream) {
    let mut socket = accept_async(stream).await.unwrap();
    let open = r#"0{"sid":"a","upgrades":[],"pingInterval":200,"pingTimeout":200}"#;
    socket.send(Message::text(open)).await.unwrap();
    let mut ping = interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = ping.tick() => {
                if socket.send(Message::text("2")).await.is_err() {
                    return;
                }
            }
            message = socket.next() => {
                let Some(Ok(Message::Text(text))) = message else {
                    return;
                };
                let answer = match text.as_str() {
                    "3" => continue,
                    "40" => r#"40{"sid":"b"}"#.to_owned(),
                    event => {
                        let id = event.strip_prefix("42").and_then(|rest| rest.strip_suffix(r#"["presence:pull",[]]"#));
                        format!("43{}[]", id.expect("an event with an id"))
                    }
                };
                if socket.send(Message::text(answer)).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_run_over_engine_io() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(engine_io(stream));
        }
    });
    let flags = [
        "--protocol=engine.io",
        "--json",
        "--sessions=10",
        "--settle=100ms",
        "--duration=1s",
        "--client-ping=100ms",
        "--churn=5",
    ];
    let report = report(&load(addr, &flags).await);
    server.abort();
    assert_eq!(report["connected"], 10, "{report:#}");
    assert_eq!(report["open"], 10, "{report:#}");
    assert_eq!(report["lost"], json!({}), "{report:#}");
    let pings = number(&report, "/pings");
    assert!((20..=120).contains(&pings), "{report:#}");
    assert_eq!(report["pongs"], pings);
    assert!(number(&report, "/churned") >= 3, "{report:#}");
    assert!(
        number(&report, "/latency_us/client_ping/count") > 20,
        "{report:#}"
    );
}
