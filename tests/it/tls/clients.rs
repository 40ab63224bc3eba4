//! Clients that others wrote, in whole sessions and with requests over HTTP. `tls/tests/real_clients.rs` has them beside the
//! record layer alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::future::join_all;
use presenced_testkit::client::Client;
use presenced_testkit::memcached::Memcached;
use presenced_testkit::programs::{openssl, run, talk, trust};
use presenced_testkit::raw::{CLOSE, TEXT, frame, request, upgrade_with};
use presenced_testkit::server::TestServer;
use presenced_testkit::temp::TempFile;
use presenced_testkit::tokens::token;
use presenced_testkit::{PATIENCE, until};
use presenced_tls::testing::{AUTHORITY_FILE, HOST};
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::socketio::{all_gone, clients as socketio};

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// One whose store answers.
async fn ready(flags: &[&str]) -> TestServer {
    let server = TestServer::start_tls(flags).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    server
}

/// What a program says that is told `says`.
async fn told(mut command: Command, says: Vec<(Vec<u8>, &'static str)>) -> String {
    spawn_blocking(move || run(&mut command, &says))
        .await
        .unwrap()
}

/// What one of the programs beside this file says, in order; each has a session over each version, and stays for some pings.
async fn says(server: &TestServer, runs: PathBuf, before: &[&str], program: &str) -> Vec<String> {
    let mut command = Command::new(runs);
    let program = in_repository("tests/it/tls/programs").join(program);
    let port = server.edge.port().to_string();
    command
        .args(before)
        .arg(program)
        .args([&port, AUTHORITY_FILE, &token("alice"), "alice"]);
    let mut said: Vec<_> = told(command, vec![])
        .await
        .lines()
        .map(str::to_owned)
        .collect();
    said.sort();
    all_gone(server.admin).await;
    assert_eq!(server.ends("closed").await, said.len() as u64);
    said
}

#[tokio::test]
async fn python_by_hand_and_with_websockets() {
    let python = in_repository("target/venv/bin/python");
    let said = says(&ready(&[]).await, python, &[], "client.py").await;
    let expected = [
        "by hand TLSv1_2",
        "by hand TLSv1_3",
        "by library TLSv1_2",
        "by library TLSv1_3",
    ];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn node_with_ws() {
    let said = says(&ready(&[]).await, "node".into(), &[], "client.mjs").await;
    assert_eq!(said, ["TLSv1.2", "TLSv1.3"]);
}

#[tokio::test]
async fn go_by_hand_and_its_http_client() {
    let server = ready(&[]).await;
    let said = says(&server, "go".into(), &["run"], "client.go").await;
    assert_eq!(said, ["303", "304"]);
    for version in ["1.2", "1.3"] {
        let resumed = format!("tls_handshakes_total{{version=\"{version}\",resumed=\"yes\"}}");
        assert_eq!(server.metric(&resumed).await, 1, "{version}");
    }
}

#[tokio::test]
async fn java_with_its_http_client() {
    let said = says(&ready(&[]).await, "java".into(), &[], "Client.java").await;
    assert_eq!(said, ["TLSv1.2", "TLSv1.3"]);
}

/// For longer than three TTLs, with a real memcached: polling first and then over a WebSocket, or by polls alone, which
/// are held.
#[tokio::test]
async fn socketio_clients_stay_online_for_three_ttls() {
    let memcached = Memcached::start().await;
    let flags = ["--socketio=all", "--socketio-namespaces=/admin"];
    let flags = [&flags[..], socketio::TIME_FOR_PONGS].concat();
    let server = TestServer::on_tls(&memcached, &flags).await;
    let clients = [
        (socketio::Library::Node4, socketio::TRANSPORTS[0]),
        (socketio::Library::Node4, &["polling"]),
        (socketio::Library::Python, socketio::TRANSPORTS[0]),
        (socketio::Library::PythonAsync, socketio::TRANSPORTS[0]),
    ];
    let stay = clients.map(async |(library, transports)| {
        socketio::stays(library, transports, &memcached, &server).await;
    });
    join_all(stay).await;
    all_gone(server.admin).await;
}

fn curl(server: &TestServer, flags: &[&str]) -> Command {
    let mut command = Command::new("curl");
    let bearer = format!("Authorization: Bearer {}", token("alice"));
    command
        .args(["--silent", "--show-error", "--max-time", "20", "--header"])
        .arg(bearer)
        .args([
            "--resolve",
            &format!("{HOST}:{}:127.0.0.1", server.edge.port()),
        ])
        .args(flags);
    trust(&mut command, AUTHORITY_FILE);
    command
}

/// A question over HTTP.
fn url(server: &TestServer) -> String {
    format!(
        "https://{HOST}:{}/v1/presence?user=alice",
        server.edge.port()
    )
}

#[tokio::test]
async fn curl_asks_three_times_on_one_connection() {
    let server = ready(&[]).await;
    let alice = Client::connect(server.edge, "alice").await;
    let url = url(&server);
    let tls13 = |suite| ["--tlsv1.3", "--tls13-ciphers", suite, "--http1.1"];
    let tls12 = |suite| ["--tls-max", "1.2", "--ciphers", suite];
    for flags in [
        tls13("TLS_AES_128_GCM_SHA256"),
        tls13("TLS_AES_256_GCM_SHA384"),
        tls13("TLS_CHACHA20_POLY1305_SHA256"),
        tls12("ECDHE-ECDSA-AES128-GCM-SHA256"),
        tls12("ECDHE-RSA-AES256-GCM-SHA384"),
        tls12("ECDHE-RSA-CHACHA20-POLY1305"),
        // It offers HTTP/2 as well.
        ["--tlsv1.2", "--http2", "--tcp-nodelay", "--compressed"],
    ] {
        let wants = [
            "--write-out",
            "\n%{num_connects} %{http_version} %{http_code}\n",
        ];
        let mut command = curl(&server, &[&flags[..], &wants].concat());
        command.args([&url, &url, &url]);
        let said = told(command, vec![]).await;
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 6, "{flags:?}: {said}");
        for (number, answer) in lines.chunks(2).enumerate() {
            assert!(answer[0].contains("\"alice\":{"), "{flags:?}: {said}");
            let connects = usize::from(number == 0);
            assert_eq!(answer[1], format!("{connects} 1.1 200"), "{flags:?}");
        }
    }
    alice.close().await;
}

#[tokio::test]
async fn curl_sends_long_bodies() {
    let server = ready(&[]).await;
    let users = |count: usize| -> Vec<_> { (0..count).map(|at| format!("{at:0>100}")).collect() };
    let body = |count| json!({ "users": users(count) }).to_string();
    // Larger than a record; refused by its length, but for the largest all the same heard out; and one that no token comes
    // with, which is refused unread.
    for (count, size, status) in [(490, 50_000, "200"), (40_000, 4_000_000, "413")] {
        let body = body(count);
        assert!(body.len() > size);
        let body = TempFile::new(&body);
        for version in ["1.3", "1.2"] {
            let data = format!("@{}", body.path().display());
            let flags = ["--tls-max", version, "--data-binary", &data];
            let wants = ["--output", "/dev/null", "--write-out", "%{http_code}"];
            let expect = [
                "--header",
                "Content-Type: application/json",
                "--header",
                "Expect:",
            ];
            let mut command = curl(&server, &[&flags[..], &wants, &expect].concat());
            command.arg(url(&server).split('?').next().unwrap());
            assert_eq!(told(command, vec![]).await, status, "{version} {count}");
        }
    }
}

/// `openssl s_client` that trusts the authority.
fn s_client(server: &TestServer, flags: &[&str]) -> Command {
    let trusting = ["-CAfile", AUTHORITY_FILE, "-verify_return_error"];
    openssl(
        server.edge,
        &[&["-servername", HOST][..], &trusting, flags].concat(),
    )
}

/// What begins a session.
fn handshake() -> Vec<u8> {
    let headers = upgrade_with(&token("alice"));
    request("GET", "/ws", &headers, "").into_bytes()
}

fn pull(number: usize) -> Vec<u8> {
    let text = json!({"pull": number, "users": ["alice"]}).to_string();
    frame(TEXT, text.as_bytes())
}

fn close() -> Vec<u8> {
    frame(CLOSE, &1000_u16.to_be_bytes())
}

#[tokio::test]
async fn openssl_updates_its_keys_in_a_session() {
    let server = ready(&[]).await;
    let command = s_client(&server, &["-tls1_3", "-alpn", "http/1.1"]);
    let mut dialogue = vec![(handshake(), "101 Switching Protocols")];
    for (at, update) in ["K\n", "k\n", "K\n", "K\n"].into_iter().enumerate() {
        dialogue.push((pull(at), "\"online\":{\"alice\""));
        // K asks for an update in return, k does not.
        dialogue.push((update.into(), "KEYUPDATE"));
    }
    dialogue.push((pull(9), "\"pull\":9"));
    dialogue.push((close(), "closed"));
    let said = told(command, dialogue).await;
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    all_gone(server.admin).await;
    assert_eq!(server.ends("closed").await, 1);
}

#[tokio::test]
async fn openssl_may_not_renegotiate_in_a_session() {
    let server = ready(&[]).await;
    let mut command = s_client(&server, &["-tls1_2"]);
    let dialogue = [
        (handshake(), "101 Switching Protocols"),
        (pull(1), "\"online\":{\"alice\""),
        (b"R\n".to_vec(), "RENEGOTIATING"),
    ];
    let said = spawn_blocking(move || talk(&mut command, &dialogue).1);
    let said = said.await.unwrap();
    // It gives up by itself.
    assert!(said.contains("no renegotiation"), "{said}");
    all_gone(server.admin).await;
}

#[tokio::test]
async fn openssl_comes_back_with_its_ticket_in_both_versions() {
    let server = ready(&[]).await;
    let ticket = TempFile::new("");
    let ticket = ticket.path().to_str().unwrap();
    for (flag, version) in [("-tls1_3", "1.3"), ("-tls1_2", "1.2")] {
        for (keep, said, resumed) in [
            ("-sess_out", "New, TLS", "no"),
            ("-sess_in", "Reused, TLS", "yes"),
        ] {
            let command = s_client(&server, &[flag, keep, ticket]);
            let dialogue = vec![
                (handshake(), "101 Switching Protocols"),
                (pull(1), "\"online\":{\"alice\""),
                (close(), "closed"),
            ];
            let heard = told(command, dialogue).await;
            assert!(heard.contains(said), "{heard}");
            let name =
                format!("tls_handshakes_total{{version=\"{version}\",resumed=\"{resumed}\"}}");
            assert_eq!(server.metric(&name).await, 1, "{name}");
        }
    }
}
