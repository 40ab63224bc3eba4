//! Clients that are not ours: libmemcached's tools, memcached's own, Python's pymemcache and
//! python-memcached, npm's memcached (and memjs, which speaks another protocol).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use presenced_testkit::blocking::answers;
use presenced_testkit::embedded::Embedded;

const MEMORY_BYTES: usize = 64 << 20;

/// What Debian's memcached brings along.
const MEMCACHED_TOOL: &str = "/usr/share/memcached/scripts/memcached-tool";

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn run(mut command: Command) -> Output {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null());
    let output = command.output();
    output.unwrap_or_else(|error| panic!("{shown}: {error}; is it installed (make setup)?"))
}

/// What it prints; it must succeed.
fn printed(command: Command) -> String {
    let shown = format!("{command:?}");
    let output = run(command);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{shown}: is all installed (make setup)?\n{printed}{errors}"
    );
    printed
}

/// One of libmemcached's tools.
fn tool(store: &Embedded, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command
        .arg(format!("--servers={}", store.address))
        .args(arguments);
    command
}

#[test]
fn libmemcached_s_tools() {
    let store = Embedded::start(MEMORY_BYTES);
    let folder = std::env::temp_dir().join(format!("presenced-store-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("some-key");
    fs::write(&file, "some value").unwrap();
    let path = file.to_str().unwrap();

    printed(tool(&store, "memcping", &[]));
    printed(tool(&store, "memccp", &[path]));
    assert_eq!(
        printed(tool(&store, "memccat", &["some-key"])).trim(),
        "some value"
    );
    printed(tool(&store, "memcexist", &["some-key"]));
    printed(tool(&store, "memctouch", &["--expire=100", "some-key"]));
    let stats = printed(tool(&store, "memcstat", &[]));
    for name in [
        "curr_items: 1",
        "total_items: 1",
        "limit_maxbytes: 67108864",
    ] {
        assert!(stats.contains(name), "{name} in {stats}");
    }
    printed(tool(&store, "memcrm", &["some-key"]));
    assert!(
        !run(tool(&store, "memcexist", &["some-key"]))
            .status
            .success()
    );
    printed(tool(&store, "memccp", &[path]));
    printed(tool(&store, "memcflush", &[]));
    assert!(!run(tool(&store, "memccat", &["some-key"])).status.success());
    fs::remove_dir_all(&folder).unwrap();
}

/// libmemcached's own test of a server.
#[test]
fn memccapable_finds_the_text_protocol_whole() {
    let store = Embedded::start(MEMORY_BYTES);
    let port = store.address.port().to_string();
    let mut command = Command::new("memccapable");
    command.args(["-h", "127.0.0.1", "-p", &port]);
    let output = run(command);
    // It goes on with the binary protocol, and says that this is not there.
    let printed = String::from_utf8_lossy(&output.stdout);
    let tests = || printed.lines().filter(|line| line.starts_with("ascii "));
    let passed = tests().filter(|line| line.ends_with("[pass]")).count();
    assert_eq!((passed, tests().count()), (27, 27), "{printed}");
}

#[test]
fn memcached_s_tool_reads_the_statistics() {
    let store = Embedded::start(MEMORY_BYTES);
    answers(store.address, b"set a 0 0 1\r\nx\r\nget a\r\n", 100);
    let tool = |mode: &str| {
        let mut command = Command::new(MEMCACHED_TOOL);
        command.args([&store.address.to_string(), mode]);
        printed(command)
    };
    let display = tool("display");
    let line = display
        .lines()
        .nth(1)
        .unwrap_or_else(|| panic!("one class in {display}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    // Number, size of a chunk, age, pages, items.
    assert_eq!((words[0], words[4]), ("1", "1"), "{display}");
    let stats = tool("stats");
    let hits = stats.lines().find(|line| line.contains("get_hits"));
    assert_eq!(
        hits.and_then(|line| line.split_whitespace().last()),
        Some("1"),
        "{stats}"
    );
    assert!(tool("settings").contains("maxbytes"));
}

fn script(program: &Path, script: &str) {
    let store = Embedded::start(MEMORY_BYTES);
    let mut command = Command::new(program);
    command.arg(in_repository("tests/it/store_clients").join(script));
    command.args([
        &store.address.ip().to_string(),
        &store.address.port().to_string(),
    ]);
    printed(command);
}

#[test]
fn python_clients() {
    script(&in_repository("target/venv/bin/python"), "python_client.py");
}

#[test]
fn node_clients() {
    script(Path::new("node"), "node_client.mjs");
}
