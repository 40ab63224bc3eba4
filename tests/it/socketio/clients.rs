//! The clients that people have: socket.io-client of npm in its versions, and python-socketio, each in a process
//! of its own that does what it is told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use presenced_testkit::edge_stream::is_tls;
use presenced_testkit::kernel_sockets::KernelSocket;
use presenced_testkit::memcached::{Memcached, key};
use presenced_testkit::port::Port;
use presenced_testkit::process::Process;
use presenced_testkit::programs::trust;
use presenced_testkit::raw::get;
use presenced_testkit::server::{TTL, TestServer, metric};
use presenced_testkit::temp::TempFile;
use presenced_testkit::tokens::{in_s, sign, token};
use presenced_testkit::{PATIENCE, throughout, until};
use presenced_tls::testing::AUTHORITY_FILE;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout, timeout_at};

use super::all_gone;

/// The flag of a server with all transports, which is the default.
const SOCKETIO: &str = "--socketio=all";

/// How clients are told to connect: as they do by themselves first.
pub(crate) const TRANSPORTS: &[&[&str]] =
    &[&["polling", "websocket"], &["websocket"], &["polling"]];

/// A library that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    Node4,
    Node3,
    /// Of protocol 4, over Engine.IO 3.
    Node2,
    Python,
    PythonAsync,
}

/// Those that speak the protocol.
const LIBRARIES: [Library; 4] = [
    Library::Node4,
    Library::Node3,
    Library::Python,
    Library::PythonAsync,
];

impl Library {
    fn command(self) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = |name: &str| root.join("tests/it/socketio/programs").join(name);
        let (runs, script, kind) = match self {
            Library::Node4 => ("node".into(), "client.mjs", "socket.io-client"),
            Library::Node3 => ("node".into(), "client.mjs", "socket.io-client-3"),
            Library::Node2 => ("node".into(), "client.mjs", "socket.io-client-2"),
            Library::Python => (root.join("target/venv/bin/python"), "client.py", "sync"),
            Library::PythonAsync => (root.join("target/venv/bin/python"), "client.py", "async"),
        };
        let mut command = Command::new::<PathBuf>(runs);
        command.arg(program(script)).arg(kind);
        command
    }

    /// Whether it is one of npm's.
    fn is_node(self) -> bool {
        !matches!(self, Library::Python | Library::PythonAsync)
    }
}

/// A process with clients of a library; killed when dropped.
struct Program {
    library: Library,
    url: String,
    transports: &'static [&'static str],
    child: Child,
    orders: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
    /// Events that nobody has waited for yet.
    kept: Vec<Value>,
}

impl Program {
    fn start(library: Library, edge: SocketAddr) -> Program {
        Program::start_over(library, edge, TRANSPORTS[0])
    }

    fn start_over(
        library: Library,
        edge: SocketAddr,
        transports: &'static [&'static str],
    ) -> Program {
        let scheme = if is_tls(edge) { "https" } else { "http" };
        let mut command = library.command();
        trust(command.as_std_mut(), AUTHORITY_FILE);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let child = command.spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("{library:?}: {error}; see make setup"));
        Program {
            library,
            url: format!("{scheme}://{edge}"),
            transports,
            orders: child.stdin.take().unwrap(),
            events: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
            kept: Vec::new(),
        }
    }

    async fn order(&mut self, order: Value) {
        let line = format!("{order}\n");
        self.orders.write_all(line.as_bytes()).await.unwrap();
    }

    /// Lets a client connect with a token.
    async fn open(&mut self, name: &str, token: &str) {
        self.order(json!({
            "do": "open", "name": name, "url": self.url, "token": token,
            "options": {"transports": self.transports, "forceNew": true},
        }))
        .await;
    }

    /// The same; returns its `socket.id` when it has connected.
    async fn connect(&mut self, name: &str, token: &str) -> String {
        self.open(name, token).await;
        let event = self.hear(name, "connect").await;
        event["id"].as_str().unwrap().to_owned()
    }

    /// What is acknowledged to an event.
    async fn ask(&mut self, name: &str, event: &str, args: Value) -> Value {
        self.order(json!({"do": "emit", "name": name, "event": event, "args": args}))
            .await;
        self.hear(name, "ack").await["args"][0].take()
    }

    /// The next event.
    async fn next(&mut self) -> Value {
        self.next_until(Instant::now() + PATIENCE).await
    }

    async fn next_until(&mut self, deadline: Instant) -> Value {
        let line = timeout_at(deadline, self.events.next_line()).await;
        let line =
            line.unwrap_or_else(|_| panic!("{:?}: nothing but {:?}", self.library, self.kept));
        let line = line.unwrap().expect("the program goes on");
        serde_json::from_str(&line).unwrap()
    }

    /// The next event of a client and a kind.
    async fn hear(&mut self, name: &str, on: &str) -> Value {
        let is_it = |event: &Value| event["name"] == name && event["on"] == on;
        if let Some(at) = self.kept.iter().position(is_it) {
            return self.kept.remove(at);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let event = self.next_until(deadline).await;
            if is_it(&event) {
                return event;
            }
            self.kept.push(event);
        }
    }

    /// Kills it, without a word to the server.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Each library and each way to connect. python-socketio that only polls is left out: it takes every close for final.
fn each() -> Vec<(Library, &'static [&'static str])> {
    let all = TRANSPORTS
        .iter()
        .flat_map(|transports| LIBRARIES.map(|library| (library, *transports)));
    all.filter(|(library, transports)| library.is_node() || transports.contains(&"websocket"))
        .collect()
}

/// As much time for a pong as `--ttl=9s` leaves: a dozen programs share the processor.
pub(crate) const TIME_FOR_PONGS: &[&str] = &["--ping-interval=1800ms", "--ping-timeout=1700ms"];

/// Does the same with each library over each way to connect.
async fn with_each(work: impl AsyncFn(Library, &'static [&'static str])) {
    let each = each().into_iter();
    join_all(each.map(|(library, transports)| work(library, transports))).await;
}

#[tokio::test]
async fn each_client_is_online_while_it_is_there_and_asks_who_else_is() {
    let memcached = Memcached::start().await;
    let flags = [SOCKETIO, "--socketio-namespaces=/admin"];
    let flags = [&flags[..], TIME_FOR_PONGS].concat();
    let server = TestServer::on(&memcached, &flags).await;
    with_each(async |library, transports| {
        stays(library, transports, &memcached, &server).await;
    })
    .await;
    all_gone(server.admin).await;
}

/// One client of a library: it comes, asks, renews its token, stays for three TTLs, and goes.
pub(crate) async fn stays(
    library: Library,
    transports: &'static [&'static str],
    memcached: &Memcached,
    server: &TestServer,
) {
    let mut program = Program::start_over(library, server.edge, transports);
    let user = format!("{library:?}-{}", transports.join("-"));
    let online = async || memcached.is_online(&user).await;
    let id = program.connect("one", &token(&user)).await;
    until("online", PATIENCE, online).await;
    let entry = memcached.entry(&key(&user)).await.unwrap();
    assert_eq!(entry.json["socketId"], *id, "{library:?}");

    // The same user in a second tab, and one that is refused first.
    let tab = program.connect("tab", &token(&user)).await;
    assert_ne!(tab, id);
    program.open("refused", "no token").await;
    let error = program.hear("refused", "connect_error").await;
    assert_eq!(error["data"]["code"], "token_invalid", "{error}");
    assert_eq!(error["message"], "the token is not valid");
    if library.is_node() {
        // Python's client hangs up by itself after a refusal.
        program
            .order(json!({"do": "token", "name": "refused", "token": token("Refused")}))
            .await;
        program
            .order(json!({"do": "connect", "name": "refused"}))
            .await;
        program.hear("refused", "connect").await;
    }

    for (asked, sees) in [
        (json!([[user, "nobody"]]), true),
        (json!([user]), true),
        (json!([["nobody"]]), false),
        (json!(["nobody"]), false),
        (json!([[]]), false),
    ] {
        let answer = program.ask("one", "presence:pull", asked.clone()).await;
        let found = answer["online"].as_object().unwrap();
        assert_eq!(found.contains_key(&user), sees, "{asked} {answer}");
        assert_eq!(found.len(), usize::from(sees), "{asked} {answer}");
    }
    let answer = program.ask("one", "presence:pull", json!([{}])).await;
    assert!(answer["error"]["code"].is_string(), "{answer}");

    if library.is_node() {
        shares_a_connection(&mut program, &user).await;
    }

    // A token whose time is nearly over, prolonged; and one that is not.
    let short = |user: &str| sign(&json!({"sub": user, "exp": in_s(-2)}));
    program.connect("short", &short("Short")).await;
    program.connect("left", &short("Left")).await;
    program
        .order(json!({"do": "token", "name": "left", "token": token("Left")}))
        .await;
    let expiring = program.hear("short", "event").await;
    assert_eq!(expiring["args"][0], "presence:expiring", "{expiring}");
    assert!(expiring["args"][1]["expiresIn"].is_u64(), "{expiring}");
    let renewed = program
        .ask("short", "presence:token", json!([token("Short")]))
        .await;
    let expires_in = renewed["token"]["expiresIn"].as_u64();
    assert!(matches!(expires_in, Some(600..=605)), "{renewed}");
    // It comes back by itself with the token that it has by then.
    program.hear("left", "disconnect").await;
    program.hear("left", "connect").await;

    throughout("online", 3 * TTL, online).await;
    program
        .order(json!({"do": "disconnect", "name": "one"}))
        .await;
    program.hear("one", "disconnect").await;
    // The tab is still there.
    let answer = program.ask("tab", "presence:pull", json!([user])).await;
    assert!(answer["online"][&user].is_object(), "{answer}");
    let answer = program
        .ask("short", "presence:pull", json!(["Short"]))
        .await;
    assert!(answer["online"]["Short"].is_object(), "{answer}");
    program
        .order(json!({"do": "disconnect", "name": "tab"}))
        .await;
    until("offline", TTL + PATIENCE, async || !online().await).await;
    let lost: Vec<_> = program
        .kept
        .iter()
        .filter(|event| event["on"] == "disconnect" && event["name"] == "short")
        .collect();
    assert!(lost.is_empty(), "{library:?} {lost:?}");
    program.kill().await;
}

/// Two namespaces over one connection, of which the first says who it is.
async fn shares_a_connection(program: &mut Program, user: &str) {
    let mut ids = Vec::new();
    let token = Some(token(user));
    for (name, namespace, token) in [("root", "", token), ("admin", "/admin", None)] {
        program
            .order(json!({
                "do": "open", "name": name, "url": program.url, "namespace": namespace, "token": token,
                "options": {"transports": program.transports, "forceNew": false},
            }))
            .await;
        let event = program.hear(name, "connect").await;
        ids.push(event["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids[1], format!("{}-1", ids[0]));
    program
        .order(json!({"do": "disconnect", "name": "root"}))
        .await;
    program.hear("root", "disconnect").await;
    let answer = program.ask("admin", "presence:pull", json!([user])).await;
    assert!(answer["online"][user].is_object(), "{answer}");
    program
        .order(json!({"do": "disconnect", "name": "admin"}))
        .await;
}

#[tokio::test]
async fn the_oldest_of_too_many_sessions_does_not_come_back() {
    let flags = [SOCKETIO, "--max-sessions-per-user=2"];
    let server = TestServer::start(&[&flags[..], TIME_FOR_PONGS].concat()).await;
    with_each(async |library, transports| {
        let mut program = Program::start_over(library, server.edge, transports);
        let user = format!("{library:?}-{}", transports.join("-"));
        for name in ["oldest", "second", "third"] {
            program.connect(name, &token(&user)).await;
        }
        let end = program.hear("oldest", "disconnect").await;
        let reason = match library.is_node() {
            true => "io server disconnect",
            false => "server disconnect",
        };
        assert_eq!(end["reason"], reason, "{library:?} {transports:?}");
        // The first try would be after a second or less.
        tokio::time::sleep(Duration::from_secs(3)).await;
        for name in ["second", "third"] {
            program.ask(name, "presence:pull", json!([])).await;
        }
        // python-socketio may tell its end twice.
        let has_come_back = program.kept.iter().any(|event| event["on"] == "connect");
        assert!(!has_come_back, "{:?}", program.kept);
        program.kill().await;
    })
    .await;
    all_gone(server.admin).await;
    assert_eq!(server.ends("replaced").await, each().len() as u64);
}

#[tokio::test]
async fn a_client_of_version_2_is_told_that_its_protocol_is_not_spoken() {
    let server = TestServer::start(&[SOCKETIO]).await;
    let mut program = Program::start(Library::Node2, server.edge);
    program.open("old", &token("alice")).await;
    program.hear("old", "connect_error").await;
    assert!(server.refused_for("engine_io", "version").await >= 1);
    program.kill().await;
    all_gone(server.admin).await;
}

/// Clients of all libraries but most of one.
const CROWD: usize = 1000;

/// The program that the page for those who come from Socket.IO has.
#[tokio::test]
async fn the_example_of_the_migration_page_reads_who_is_online() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/migrating-from-socketio.md")).unwrap();
    let program = page
        .split("```")
        .find_map(|block| block.strip_prefix("js\n// node online.js "))
        .expect("the program");
    let program = TempFile::new(&format!("// {program}"));
    let memcached = Memcached::start().await;
    let server = TestServer::on(&memcached, &[SOCKETIO, "--value-flags=2"]).await;
    let (io, socket_id) = super::Io::session(server.edge, "123").await;
    until("online", PATIENCE, async || {
        memcached.is_online("123").await
    })
    .await;
    let mut node = Command::new("node");
    node.arg(program.path())
        .args([&memcached.address().to_string(), "123", "456"])
        .env("NODE_PATH", root.join("client/node_modules"))
        .kill_on_drop(true);
    let output = timeout(PATIENCE, node.output()).await.expect("it ends");
    let output = output.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 2, "{printed}{errors}");
    assert!(lines[0].starts_with("123 online since 1"), "{printed}");
    assert!(lines[0].ends_with(&format!(" as {socket_id}")), "{printed}");
    assert_eq!(lines[1], "456 offline, or unknown");
    drop(io);
    all_gone(server.admin).await;
}

#[tokio::test]
async fn all_come_back_after_a_drain_and_after_a_crash() {
    let port = Port::free();
    let edge = SocketAddr::from(([127, 0, 0, 1], port.number()));
    let listen = format!("--listen={edge}");
    let flags = [SOCKETIO, "--drain=1s", "--max-sessions=4000", &listen];
    let mut process = Process::start(&flags).await;
    // A thousand at once from one address would have to wait for places, if they polled.
    let mut crowd = Program::start_over(Library::Node4, edge, &["websocket"]);
    for number in 0..CROWD {
        let user = format!("u{number}");
        crowd.open(&user, &token(&user)).await;
    }
    let mut others: Vec<_> = [Library::Node3, Library::Python, Library::PythonAsync]
        .map(|library| Program::start(library, edge))
        .into();
    for other in &mut others {
        other
            .open("one", &token(&format!("{:?}", other.library)))
            .await;
    }
    let all = CROWD + others.len();
    for signal in [Signal::TERM, Signal::KILL] {
        timeout(3 * PATIENCE, come(&mut crowd, &mut others))
            .await
            .expect("all connect");
        users_are(&process, all).await;
        process.signal(signal);
        let (status, text) = process.ended().await;
        assert_eq!(status.success(), signal == Signal::TERM, "{text}");
        process = Process::start(&flags).await;
    }
    timeout(3 * PATIENCE, come(&mut crowd, &mut others))
        .await
        .expect("all connect");
    users_are(&process, all).await;
    crowd.kill().await;
    for other in others {
        other.kill().await;
    }
    all_gone(process.admin()).await;
}

/// Waits until all have connected once more.
async fn come(crowd: &mut Program, others: &mut [Program]) {
    let mut to_come = CROWD;
    while to_come > 0 {
        let event = crowd.next().await;
        assert_ne!(event["reason"], "io server disconnect");
        to_come -= usize::from(event["on"] == "connect");
    }
    for other in others {
        other.hear("one", "connect").await;
    }
}

async fn users_are(process: &Process, count: usize) {
    until("all are there", PATIENCE, async || {
        let metrics = get(process.admin(), "/metrics").await;
        metric(&metrics, "users") == count as u64
    })
    .await;
}

/// As many rounds as `make soak` asks for, or one.
fn rounds() -> usize {
    std::env::var("SOCKETIO_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap())
}

#[tokio::test]
async fn all_questions_are_answered_once_while_clients_go_over_to_websockets() {
    const CLIENTS: usize = 5;
    const QUESTIONS: usize = 60;
    let server = TestServer::start(&[SOCKETIO, "--workers=2"]).await;
    let asks = [Library::Node4, Library::Node3, Library::PythonAsync].map(async |library| {
        let mut program = Program::start(library, server.edge);
        for round in 0..rounds() {
            let names = (0..CLIENTS).map(|number| format!("{library:?}-{round}-{number}"));
            let names: Vec<_> = names.collect();
            for name in &names {
                program.open(name, &token(name)).await;
            }
            for name in &names {
                program.hear(name, "connect").await;
                for question in 0..QUESTIONS {
                    // What is no id is told in the answer, and so tells answers apart.
                    let args = json!([[format!("no id {question}")]]);
                    program
                        .order(json!({"do": "emit", "name": name, "event": "presence:pull", "args": args}))
                        .await;
                }
            }
            for name in &names {
                let mut answered = Vec::new();
                for _ in 0..QUESTIONS {
                    let answer = program.hear(name, "ack").await;
                    let answer = &answer["args"][0];
                    match answer["invalid"][0].as_str() {
                        Some(told) => answered.push(told.to_owned()),
                        // More than may be under way at once.
                        None => assert_eq!(answer["error"]["code"], "too_many_pulls"),
                    }
                }
                let count = answered.len();
                answered.sort();
                answered.dedup();
                assert_eq!(answered.len(), count, "{library:?} {name}");
                program
                    .order(json!({"do": "disconnect", "name": name}))
                    .await;
            }
            let again: Vec<_> = program.kept.drain(..).filter(|kept| kept["on"] == "ack").collect();
            assert!(again.is_empty(), "answered twice: {again:?}");
        }
        program.kill().await;
    });
    join_all(asks).await;
    all_gone(server.admin).await;
}

#[tokio::test]
async fn nothing_is_left_of_clients_that_are_killed_at_any_moment() {
    // Between two polls, only pings show that a client is gone.
    let flags = [
        "--ping-interval=2s",
        "--ping-timeout=1s",
        "--socketio-connect-timeout=45s",
    ];
    let process = Process::start(&[&[SOCKETIO], &flags[..]].concat()).await;
    for _ in 0..rounds() {
        let killed = LIBRARIES.map(async |library| {
            // When they have begun, when some have connected, and in the middle of pulls.
            for connected in [0, 1, 5, 20] {
                let mut program = Program::start(library, process.edge());
                for number in 0..20 {
                    let user = format!("{library:?}-{number}");
                    program.open(&user, &token(&user)).await;
                }
                for _ in 0..connected {
                    while program.next().await["on"] != "connect" {}
                }
                if connected == 20 {
                    for number in 0..20 {
                        let name = format!("{library:?}-{number}");
                        let args = json!([["a", "b", name]]);
                        program
                            .order(json!({"do": "emit", "name": name, "event": "presence:pull", "args": args}))
                            .await;
                    }
                }
                program.kill().await;
            }
        });
        join_all(killed).await;
        all_gone(process.admin()).await;
        until("no descriptor is left", PATIENCE, async || {
            KernelSocket::accepted_at(process.edge()) == 0
        })
        .await;
    }
}
