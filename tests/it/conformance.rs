//! RFC 6455 as two client libraries that are not ours see it: Python's `websockets` and Node's `ws`,
//! against the echo example, which runs the sessions' own code with messages up to 16 MiB.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const MESSAGE_BYTES_MAX: &str = "16777216";

/// The example in a process of its own; killed when dropped.
struct Echo {
    child: Child,
    address: String,
}

impl Echo {
    fn start() -> Echo {
        // `cargo test` builds it beside the tests.
        let test = std::env::current_exe().unwrap();
        let example = test
            .parent()
            .unwrap()
            .with_file_name("examples")
            .join("echo");
        let mut child = Command::new(&example)
            .args(["127.0.0.1:0", "--max-message", MESSAGE_BYTES_MAX])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; cargo build --example echo", example.display())
            });
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().rsplit('/').next().unwrap().to_owned();
        Echo { child, address }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn run(program: &Path, script: &str, missing: &str) {
    let echo = Echo::start();
    let output = Command::new(program)
        .arg(in_repository("tests/it/conformance").join(script))
        .args([&echo.address, MESSAGE_BYTES_MAX])
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
