//! Clients that others wrote, over TCP, against a server that answers each line with the same line: `openssl s_client`,
//! Python's ssl, curl, Node.js and Go.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use presenced_testkit::programs::{self, run};
use presenced_tls::testing::{AUTHORITY_FILE, HOST, certificates};
use presenced_tls::{Established, Progress, Server};

/// No client takes as long, unless it waits for what never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves whoever comes, each on a thread of their own.
fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(certificates()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, server) = (stream.unwrap(), server.clone());
            thread::spawn(move || serve(stream, &server));
        }
    });
    address
}

fn serve(mut stream: TcpStream, server: &Server) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 4096];
    let mut handshake = server.handshake().unwrap();
    let established = loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        let mut out = Vec::new();
        let progress = handshake.receive(&buffer[..count], &mut out);
        stream.write_all(&out).ok()?;
        match progress.ok()? {
            Progress::Wait(waits) => handshake = waits,
            Progress::Done(established) => break established,
        }
    };
    let Established {
        mut records, rest, ..
    } = established;
    let (mut inbox, mut text) = (rest, Vec::new());
    loop {
        let mut out = Vec::new();
        let opened = records.open(&mut inbox, &mut out);
        text.extend_from_slice(&inbox[..opened.data]);
        inbox.drain(..opened.taken);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            answer(&line, &mut records, &mut out);
        }
        if opened.end.is_some() {
            records.close(&mut out);
        }
        stream.write_all(&out).ok()?;
        if records.is_write_closed() {
            return Some(());
        }
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        inbox.extend_from_slice(&buffer[..count]);
    }
}

/// An echo, or an answer to curl; `update` has this side update its key.
fn answer(line: &[u8], records: &mut presenced_tls::RecordLayer, out: &mut Vec<u8>) {
    match line {
        b"update\n" => {
            records.update_write(out);
            records.seal(b"updated\n", out).unwrap();
        }
        b"bye\n" => records.close(out),
        b"\r\n" => {
            let body = "x".repeat(100_000);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            records.seal(head.as_bytes(), out).unwrap();
            records.seal(body.as_bytes(), out).unwrap();
        }
        line if line.ends_with(b"\r\n") => {}
        line => records.seal(line, out).unwrap(),
    }
}

fn openssl(address: SocketAddr, more: &[&str]) -> Command {
    let trusting = ["-servername", HOST, "-CAfile", AUTHORITY_FILE];
    let strict = ["-verify_return_error", "-alpn", "http/1.1"];
    programs::openssl(address, &[&trusting[..], &strict, more].concat())
}

#[test]
fn openssl_updates_its_keys_and_asks_for_an_update() {
    let address = start();
    for suite in [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ] {
        let mut command = openssl(address, &["-tls1_3", "-ciphersuites", suite]);
        let said = run(
            &mut command,
            &[
                ("one\n", "one\n"),
                // K asks for an update in return, k does not.
                ("K\n", "KEYUPDATE"),
                ("two\n", "two\n"),
                ("k\n", "KEYUPDATE"),
                ("three\n", "three\n"),
                ("update\n", "updated\n"),
                ("four\n", "four\n"),
                ("Q\n", ""),
            ],
        );
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
        assert!(said.contains(suite), "{said}");
    }
}

#[test]
fn openssl_speaks_tls12_and_may_not_renegotiate() {
    let address = start();
    for suite in [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ] {
        let flags = ["-tls1_2", "-cipher", suite];
        let said = run(
            &mut openssl(address, &flags),
            &[("one\n", "one\n"), ("two\n", "two\n"), ("Q\n", "")],
        );
        assert!(said.contains(suite), "{said}");
        assert!(said.contains("Secure Renegotiation IS supported"), "{said}");
        // It is told so, and gives up.
        let mut command = openssl(address, &flags);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"R\n").unwrap();
        let told = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains("no renegotiation"), "{told}");
    }
}

#[test]
fn openssl_pads_its_records_and_is_asked_for_another_key_share() {
    let address = start();
    // The server has no P-521, which the client offers first: it must say hello again.
    let flags = ["-groups", "P-521:P-256", "-record_padding", "512", "-trace"];
    let said = run(
        &mut openssl(address, &[&["-tls1_3"][..], &flags].concat()),
        &[("one\n", "one\n"), ("two\n", "two\n"), ("Q\n", "")],
    );
    assert_eq!(said.matches("ClientHello, Length").count(), 2, "{said}");
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
}

#[test]
fn openssl_comes_back_with_its_ticket() {
    let address = start();
    let session = std::env::temp_dir().join(format!("presenced-tls-{}", std::process::id()));
    let session = session.to_str().unwrap();
    for version in ["-tls1_3", "-tls1_2"] {
        let first = run(
            &mut openssl(address, &[version, "-sess_out", session]),
            &[("one\n", "one\n"), ("bye\n", "")],
        );
        assert!(first.contains("New, TLS"), "{first}");
        let second = run(
            &mut openssl(address, &[version, "-sess_in", session]),
            &[("two\n", "two\n"), ("bye\n", "")],
        );
        assert!(second.contains("Reused, TLS"), "{second}");
    }
    std::fs::remove_file(session).unwrap();
}

#[test]
fn python_says_and_hears_much_and_closes_as_it_should() {
    const PROGRAM: &str = r#"
import socket, ssl, sys
port, authority = int(sys.argv[1]), sys.argv[2]
for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", port)) as plain:
        with context.wrap_socket(plain, server_hostname="same.example") as secret:
            sent = 0
            for length in (1, 10, 1000, 16383, 16384, 16385, 100000):
                line = b"y" * length + b"\n"
                secret.sendall(line)
                heard = b""
                while len(heard) < len(line):
                    heard += secret.recv(1 << 20)
                assert heard == line, length
            # Waits for the server's close_notify.
            secret.unwrap()
            print(secret.version() or version.name)
"#;
    let address = start();
    let mut command = Command::new("python3");
    command.args(["-c", PROGRAM, &address.port().to_string(), AUTHORITY_FILE]);
    let said = run::<&str>(&mut command, &[]);
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn curl_gets_a_page() {
    let address = start();
    for version in [&["--tlsv1.3"][..], &["--tls-max", "1.2"]] {
        let mut command = Command::new("curl");
        let url = format!("https://{HOST}:{}/", address.port());
        let resolve = format!("{HOST}:{}:127.0.0.1", address.port());
        command.args(["--silent", "--show-error", "--max-time", "20", "--http1.1"]);
        command.args(version);
        command.args(["--cacert", AUTHORITY_FILE, "--resolve", &resolve, &url]);
        // More than a pipe holds, so it is counted by curl.
        command.args([
            "--output",
            "/dev/null",
            "--write-out",
            "%{size_download} %{http_code}",
        ]);
        assert_eq!(run::<&str>(&mut command, &[]), "100000 200");
    }
}

#[test]
fn node_says_and_hears_much() {
    const PROGRAM: &str = r#"
const tls = require("node:tls"), fs = require("node:fs");
const [port, authority] = process.argv.slice(1);
for (const version of ["TLSv1.3", "TLSv1.2"]) {
  const socket = tls.connect({ port, host: "127.0.0.1", servername: "same.example", ca: fs.readFileSync(authority),
    minVersion: version, maxVersion: version });
  let heard = 0;
  socket.on("secureConnect", () => socket.write("z".repeat(99_999) + "\n"));
  socket.on("data", (data) => {
    heard += data.length;
    if (heard === 100_000) socket.end("bye\n");
  });
  socket.on("end", () => console.log(socket.getProtocol(), heard));
}
"#;
    let address = start();
    let mut command = Command::new("node");
    command.args(["-e", PROGRAM, &address.port().to_string(), AUTHORITY_FILE]);
    let mut said: Vec<String> = run::<&str>(&mut command, &[])
        .lines()
        .map(str::to_owned)
        .collect();
    said.sort();
    assert_eq!(said, ["TLSv1.2 100000", "TLSv1.3 100000"]);
}

#[test]
fn go_says_and_hears_much_and_comes_back_with_its_ticket() {
    let address = start();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client.go");
    let mut command = Command::new("go");
    command.args(["run", program, &address.port().to_string(), AUTHORITY_FILE]);
    let said = run::<&str>(&mut command, &[]);
    assert_eq!(said, "304 false\n304 true\n303 false\n303 true\n");
}
