//! RFC 6455 as two client libraries that are not ours see it: Python's `websockets` and Node's `ws`,
//! against the echo example, which runs the sessions' own code with messages up to 16 MiB. And Engine.IO and Socket.IO
//! as their protocol documents have them, against the echo examples of both.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const MESSAGE_BYTES_MAX: &str = "16777216";

/// An example in a process of its own; killed when dropped.
struct Example {
    child: Child,
    address: String,
}

impl Example {
    fn start(name: &str, arguments: &[&str]) -> Example {
        // `cargo test` builds it beside the tests.
        let test = std::env::current_exe().unwrap();
        let example = test.parent().unwrap().with_file_name("examples").join(name);
        let mut child = Command::new(&example)
            .arg("127.0.0.1:0")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; cargo build --examples", example.display())
            });
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().rsplit('/').next().unwrap().to_owned();
        Example { child, address }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn run(program: &Path, script: &str, missing: &str) {
    let echo = Example::start("echo", &["--max-message", MESSAGE_BYTES_MAX]);
    run_with(
        program,
        script,
        &[&echo.address, MESSAGE_BYTES_MAX],
        missing,
    );
}

fn run_with(program: &Path, script: &str, arguments: &[&str], missing: &str) {
    let output = Command::new(program)
        .arg(in_repository("tests/it/conformance").join(script))
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; {missing}", program.display()));
    assert!(
        output.status.success(),
        "{script}: {missing}?\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn python_websockets() {
    let python = in_repository("target/venv/bin/python");
    run(
        &python,
        "websockets_client.py",
        "is it installed (make setup)",
    );
}

#[test]
fn node_ws() {
    run(
        Path::new("node"),
        "ws_client.mjs",
        "is it installed (make setup, cd client && npm ci)",
    );
}

/// Engine.IO and Socket.IO, by polling and over WebSockets.
#[test]
fn node_socketio() {
    let times = ["--ping-interval", "1000", "--ping-timeout", "800"];
    let engine = Example::start("engine_io_echo", &times);
    let times = [&times[..], &["--connect-timeout", "2000"]].concat();
    let socket = Example::start("socket_io_echo", &times);
    run_with(
        Path::new("node"),
        "socketio.mjs",
        &[&engine.address, &socket.address],
        "is it installed (make setup, cd client && npm ci)",
    );
}

#[tokio::test]
async fn a_server_of_another_kind_greets_and_answers() {
    let greeter = Example::start("greeter", &[]);
    let (client, _) = connect_async(format!("ws://{}", greeter.address))
        .await
        .unwrap();
    let (mut send, receive) = client.split();
    let mut texts = Box::pin(receive.filter_map(async |message| match message.unwrap() {
        Message::Text(text) => Some(text),
        // A ping may come at any time.
        _ => None,
    }));
    let greeting = texts.next().await.unwrap();
    assert!(greeting.starts_with("Welcome, 127.0.0.1:"), "{greeting}");
    send.send("quietly".into()).await.unwrap();
    assert_eq!(texts.next().await.unwrap(), "QUIETLY");
    send.close().await.unwrap();
    // A plain request is refused, and the server lives on.
    let mut plain = TcpStream::connect(&greeter.address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(plain.read(&mut [0]).await.unwrap_or_default(), 0);
    assert!(
        connect_async(format!("ws://{}", greeter.address))
            .await
            .is_ok()
    );
}
