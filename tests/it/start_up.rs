//! What a server looks at when it starts, and says of it.

use presenced_testkit::process::{FREE_PORTS, Process, run};
use presenced_testkit::temp::TempFile;
use presenced_testkit::tokens::SECRET;
use rustix::process::Signal;

/// Starts and stops; what it has printed and logged.
async fn says(process: Process) -> String {
    process.signal(Signal::TERM);
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    text
}

#[tokio::test]
async fn a_secret_that_others_can_write_is_refused() {
    let secret = TempFile::new(&format!("{SECRET}\n"));
    let credentials = TempFile::new("edge:s3cret\n");
    let flags = [
        ("--jwt-secret-file", &secret),
        ("--memcached-auth-file", &credentials),
    ];
    for ((flag, file), mode) in flags
        .into_iter()
        .flat_map(|case| [0o620, 0o602, 0o664, 0o777].map(|mode| (case, mode)))
    {
        file.set_mode(mode);
        let with_file = format!("{flag}={}", file.path().display());
        let output = run(&[FREE_PORTS, &[&with_file]].concat(), None).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flag} {mode:o}: {text}");
        for part in [flag, "can write", &format!("{mode:03o}"), "chmod go-w"] {
            assert!(text.contains(part), "{flag} {mode:o}: {text}");
        }
        assert!(!text.contains(SECRET) && !text.contains("s3cret"), "{text}");
    }
}

#[tokio::test]
async fn a_secret_that_all_can_read_is_warned_of_once() {
    const WARNING: &str = "every user of this machine can read the secret";
    let secret = TempFile::new(&format!("{SECRET}\n"));
    let flag = format!("--jwt-secret-file={}", secret.path().display());
    // As Kubernetes mounts it, for its group, and for its owner alone.
    for (mode, warnings) in [(0o644, 1), (0o440, 0), (0o600, 0)] {
        secret.set_mode(mode);
        let process = Process::start_dev(&[&flag, "--drain=0s"]).await;
        let text = says(process).await;
        assert_eq!(text.matches(WARNING).count(), warnings, "{mode:o}: {text}");
    }
}

#[tokio::test]
async fn an_audience_that_is_not_set_is_named() {
    const NAMED: &str = "no --jwt-audience";
    let process = Process::start(&["--drain=0s"]).await;
    let text = says(process).await;
    assert_eq!(text.matches(NAMED).count(), 1, "{text}");
    let process = Process::start(&["--drain=0s", "--jwt-audience=presence"]).await;
    assert_eq!(says(process).await.matches(NAMED).count(), 0);
    // Without a key there is nothing to be signed for another service.
    let process = Process::start_dev(&["--drain=0s"]).await;
    assert_eq!(says(process).await.matches(NAMED).count(), 0);
}

#[tokio::test]
async fn a_list_of_nodes_may_begin_with_a_byte_order_mark_and_must_end_with_a_newline() {
    let list = TempFile::new("\u{feff}127.0.0.1:1\r\n127.0.0.1:2\r\n");
    let flag = format!("--memcached-file={}", list.path().display());
    let process = Process::start(&[&flag, "--drain=0s"]).await;
    std::fs::write(list.path(), "127.0.0.1:1\n127.0.0.1:211").unwrap();
    process.logs("may be half-written").await;
    for change in ["memcached node added", "memcached node removed"] {
        assert_eq!(process.logged(change), 0, "it holds what it had");
    }
    std::fs::write(list.path(), "127.0.0.1:1\n127.0.0.1:2112\n").unwrap();
    process
        .logs("memcached node added node=127.0.0.1:2112")
        .await;
    process
        .logs("memcached node removed node=127.0.0.1:2")
        .await;

    std::fs::write(list.path(), "127.0.0.1:1\n127.0.0.1:211").unwrap();
    let output = run(&[FREE_PORTS, &[&flag]].concat(), Some(SECRET)).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("--memcached-file") && text.contains("half-written"),
        "{text}"
    );
}
