//! `presenced capacity`, as an operator runs it.

use presenced_testkit::PATIENCE;
use presenced_testkit::process::{binary, run};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

/// What the command prints as JSON, by what each line is about, and its status.
async fn capacity(flags: &[&str]) -> (i32, Vec<Value>) {
    let output = run(&[&["capacity", "--log-format=json"], flags].concat(), None).await;
    assert_eq!(output.stderr, b"", "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (output.status.code().unwrap(), lines.collect())
}

fn line<'a>(lines: &'a [Value], about: &str) -> &'a Value {
    let line = lines.iter().find(|line| line["about"] == about);
    line.unwrap_or_else(|| panic!("{about} in {lines:?}"))
}

#[tokio::test]
async fn it_measures_sessions_and_says_which_limit_comes_first() {
    let (status, lines) = capacity(&["--probe-sessions=400", "--workers=1"]).await;
    assert_eq!(status, 0, "{lines:?}");
    let measured = line(&lines, "measured")["text"].as_str().unwrap();
    assert!(
        measured.starts_with("400 sessions on loopback: "),
        "{measured}"
    );
    assert!(
        measured.contains(" µs of CPU time for a ping and its pong, "),
        "{measured}"
    );
    let limits = ["open files", "epoll", "memory", "cpu", "store"];
    let allowed = limits.map(|about| line(&lines, about)["sessions"].as_u64().unwrap());
    let lowest = line(&lines, "sessions");
    assert_eq!(
        lowest["sessions"].as_u64(),
        allowed.into_iter().min(),
        "{lines:?}"
    );
    assert_eq!(lines.last(), Some(lowest));
}

#[tokio::test]
async fn a_limit_that_allows_fewer_than_are_wanted_is_wrong() {
    let flags = [
        "--probe-sessions=0",
        "--max-sessions=1000",
        "--memcached=127.0.0.1:1",
    ];
    let (status, lines) = capacity(&[&flags[..], &["--sessions=1001"]].concat()).await;
    assert_eq!(status, 1, "{lines:?}");
    assert_eq!(line(&lines, "open files")["state"], "wrong");
    let verdict = line(&lines, "sessions");
    assert_eq!(verdict["state"], "wrong");
    assert_eq!(verdict["sessions"], 1000);
    let text = verdict["text"].as_str().unwrap();
    assert!(
        text.starts_with("1,000 of 1,001: the limit that comes first is open files"),
        "{text}"
    );
    assert!(
        lines.iter().all(|line| line["about"] != "store"),
        "{lines:?}"
    );

    let (status, lines) = capacity(&[&flags[..], &["--sessions=1000"]].concat()).await;
    assert_eq!(status, 0, "{lines:?}");
}

#[tokio::test]
async fn with_a_low_limit_of_open_files_it_measures_fewer_sessions() {
    let command = format!(
        "ulimit -n 2400 && exec {} capacity --workers 1 --probe-sessions 1000",
        binary().display()
    );
    let mut sh = Command::new("sh");
    sh.args(["-c", &command]).kill_on_drop(true);
    let output = timeout(PATIENCE, sh.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("600 sessions on loopback: "), "{text}");
    assert!(text.contains("\nok     sessions "), "{text}");
}
