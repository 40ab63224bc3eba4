//! Sessions that come back, against a scripted WebSocket server that loses them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic"
)]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

const SESSIONS: usize = 20;

/// Without a secret, the program would ask the server for tokens.
const SECRET_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

/// Opens as many sessions as there are, and returns what keeps them open. All clients have answered a ping by then.
async fn open_all(listener: &TcpListener) -> Vec<WebSocketStream<TcpStream>> {
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let (stream, _) = listener.accept().await.unwrap();
        sessions.push(accept_async(stream).await.unwrap());
    }
    for session in &mut sessions {
        session.send(Message::Ping("".into())).await.unwrap();
        let answer = session.next().await.unwrap().unwrap();
        assert!(answer.is_pong(), "{answer}");
    }
    sessions
}

/// The report of a run whose server loses all sessions. If it `is_back` it then ends as many connections without an
/// answer as there are sessions, and takes the next ones.
async fn report(is_back: bool, flags: &[&str]) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_presenced-load"))
        .arg(format!("--connect={}", listener.local_addr().unwrap()))
        .arg(format!("--jwt-secret-file={SECRET_FILE}"))
        .arg(format!("--sessions={SESSIONS}"))
        .args(["--settle=0s", "--duration=5s", "--client-ping=0s", "--json"])
        .args(flags)
        .kill_on_drop(true)
        .output();
    let server = async {
        drop(open_all(&listener).await);
        if !is_back {
            return Vec::new();
        }
        for _ in 0..SESSIONS {
            drop(listener.accept().await.unwrap());
        }
        open_all(&listener).await
    };
    let both = async { tokio::join!(run, server) };
    let (output, _sessions) = tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .expect("the run ends");
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn sum(counts: &Value) -> u64 {
    let counts = counts.as_object().unwrap();
    counts.values().filter_map(Value::as_u64).sum()
}

#[tokio::test]
async fn lost_sessions_come_back_when_the_server_does() {
    let report = report(true, &["--reconnect"]).await;
    assert_eq!(report["connected"], SESSIONS, "{report:#}");
    assert_eq!(report["lost"], json!({"1006": SESSIONS}), "{report:#}");
    assert_eq!(
        sum(&report["connect_errors"]),
        SESSIONS as u64,
        "{report:#}"
    );
    let away = &report["latency_us"]["away"]["count"];
    assert_eq!(*away, SESSIONS, "{report:#}");
    assert_eq!(report["open"], SESSIONS, "{report:#}");
}

#[tokio::test]
async fn lost_sessions_stay_away_unless_they_are_to_come_back() {
    let report = report(false, &[]).await;
    assert_eq!(report["lost"], json!({"1006": SESSIONS}), "{report:#}");
    assert_eq!(report["connect_errors"], json!({}), "{report:#}");
    assert_eq!(report["latency_us"]["away"], Value::Null, "{report:#}");
    assert_eq!(report["open"], 0, "{report:#}");
}
