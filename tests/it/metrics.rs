//! `/metrics`, as Prometheus's own tools see it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use presenced_testkit::client::Client;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{Response, get, send};
use presenced_testkit::{PATIENCE, unix_ms, until};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";

/// Where `make setup` has put it, unless it was there before.
fn promtool() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/promtool");
    if ours.exists() {
        ours
    } else {
        "promtool".into()
    }
}

async fn open_metrics(process: &Process) -> Response {
    let accept = [("Accept", OPEN_METRICS.to_owned())];
    send(process.admin(), "GET", "/metrics", &accept, "").await
}

/// A number, by its whole name and labels.
fn number(text: &str, name: &str) -> f64 {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
    value.parse().unwrap()
}

/// What promtool has to say.
async fn linted(metrics: &str) -> (bool, String) {
    let mut command = Command::new(promtool());
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}; is it installed (make setup)?"));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(metrics.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8(said).unwrap().trim().to_owned(),
    )
}

#[tokio::test]
async fn promtool_finds_nothing_wrong() {
    let process = Process::start(&[]).await;
    let mut client = Client::connect(process.edge(), "a").await;
    client.pull(&["a", "b"]).await;
    let metrics = get(process.admin(), "/metrics").await;
    assert_eq!(
        metrics.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let (is_clean, said) = linted(&metrics.body).await;
    assert!(is_clean && said.is_empty(), "{said}");
    // It would have said so.
    let with_fault = metrics
        .body
        .replace("presenced_pings_total", "presenced_pings");
    let (is_clean, said) = linted(&with_fault).await;
    assert!(!is_clean && said.contains("presenced_pings "), "{said}");
}

#[tokio::test]
async fn open_metrics_is_told_where_it_is_asked_for() {
    let process = Process::start(&[]).await;
    let asked = open_metrics(&process).await;
    assert_eq!(
        asked.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(asked.body.ends_with("# EOF\n"), "{}", asked.body);
    let usual = get(process.admin(), "/metrics").await;
    // Names and labels of all samples.
    let samples = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let names = lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
        names.collect()
    };
    assert_eq!(samples(&asked.body), samples(&usual.body));
    assert!(!usual.body.contains("# EOF"));
}

#[tokio::test]
async fn what_runs_and_what_it_may_take_is_told() {
    const SESSIONS: usize = 7;
    let limits = ["--max-sessions=7", "--max-http-connections=9"];
    let process = Process::start(&[&limits[..], &["--drain=60s"]].concat()).await;
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        clients.push(Client::connect(process.edge(), "a").await);
    }
    let metrics = get(process.admin(), "/metrics").await.body;
    let version = format!(
        "presenced_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    for (name, value) in [
        (version.as_str(), 1.0),
        ("presenced_sessions", SESSIONS as f64),
        ("presenced_sessions_limit", 7.0),
        ("presenced_http_connections_limit", 9.0),
        ("presenced_draining", 0.0),
    ] {
        assert_eq!(number(&metrics, name), value, "{name}");
    }
    process.signal(Signal::TERM);
    // Some of them are there for a while.
    until("it drains", PATIENCE, async || {
        let metrics = get(process.admin(), "/metrics").await.body;
        number(&metrics, "presenced_draining") == 1.0
    })
    .await;
}

/// The example in `docs/operations.md`.
#[tokio::test]
async fn shares_of_the_descriptors_are_as_documented() {
    let node = "--memcached=127.0.0.1:1";
    let process = Process::start_within("-n 4096", &["--workers=2", node]).await;
    let metrics = get(process.admin(), "/metrics").await.body;
    let told = |name: &str| number(&metrics, name) as u64;
    let (http, sessions) = (
        told("presenced_http_connections_limit"),
        told("presenced_sessions_limit"),
    );
    assert_eq!((http, sessions), (258, 2_902));
}

#[tokio::test]
async fn the_process_is_told_as_prometheus_tells_others() {
    let process = Process::start(&[]).await;
    let in_proc = |file: &str| format!("/proc/{}/{file}", process.id());
    let before = get(process.admin(), "/metrics").await.body;
    let limits = std::fs::read_to_string(in_proc("limits")).unwrap();
    let limit = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let limit = limit.unwrap().split_ascii_whitespace().nth(3).unwrap();
    assert_eq!(number(&before, "process_max_fds").to_string(), limit);

    let open = std::fs::read_dir(in_proc("fd")).unwrap().count() as f64;
    let told = number(&before, "process_open_fds");
    // The connection that asked is among them.
    assert!((told - open).abs() <= 5.0, "{told} {open}");
    let now_s = unix_ms() as f64 / 1000.0;
    let started = number(&before, "process_start_time_seconds");
    assert!((now_s - started).abs() < 3600.0, "{started} {now_s}");
    let resident = number(&before, "process_resident_memory_bytes");
    assert!(resident > 1e6 && resident <= process.memory_max_bytes() as f64);
    let used = number(&before, "process_cpu_seconds_total");
    // It has to work for this.
    until("CPU time is used", PATIENCE, async || {
        let metrics = get(process.admin(), "/metrics").await.body;
        number(&metrics, "process_cpu_seconds_total") > used
    })
    .await;
}

#[tokio::test]
async fn every_family_says_what_it_is() {
    let process = Process::start(&[]).await;
    let metrics = get(process.admin(), "/metrics").await.body;
    let described = |what: &str| -> BTreeMap<String, String> {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(what));
        let pairs = lines.map(|line| line.split_once(' ').unwrap());
        pairs.map(|(a, b)| (a.into(), b.into())).collect()
    };
    let (help, kinds) = (described("# HELP "), described("# TYPE "));
    assert!(kinds.len() > 40, "{metrics}");
    assert!(help.keys().eq(kinds.keys()));
    for (name, kind) in &kinds {
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} {kind}");
        assert!(
            ["counter", "gauge", "histogram"].contains(&kind.as_str()),
            "{name} {kind}"
        );
    }
}
