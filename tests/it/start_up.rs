//! What a server looks at when it starts, and says of it.

use presenced_testkit::process::{FREE_PORTS, Process, command, limited, run};
use presenced_testkit::temp::{TempFile, unique_path};
use presenced_testkit::tokens::SECRET;
use presenced_testkit::{PATIENCE, until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::time::timeout;

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
        ("--admin-token-file", &secret),
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

#[tokio::test]
async fn files_that_never_end_and_folders_are_refused() {
    const FLAGS: [&str; 4] = [
        "--jwt-secret-file",
        "--memcached-auth-file",
        "--memcached-file",
        "--memcached-tls-ca",
    ];
    for (file, why) in [
        ("/dev/zero", ["has more than", "not a regular file"]),
        ("/", ["Is a directory", "not a regular file"]),
    ] {
        for flag in FLAGS {
            let with_file = format!("{flag}={file}");
            let output = run(&[FREE_PORTS, &[&with_file]].concat(), None).await;
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{flag} {file}: {text}");
            let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(&format!("{flag} {file}: ")), "{text}");
            let told = why.iter().any(|why| flat.contains(why));
            assert!(told && !text.contains("WARN"), "{flag} {file}: {text}");
        }
    }
}

#[tokio::test]
async fn a_signal_ends_a_start_that_waits_for_a_file() {
    for signal in [Signal::TERM, Signal::INT] {
        let path = unique_path();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let flag = format!("--jwt-secret-file={}", path.display());
        let mut command = command(&[FREE_PORTS, &[&flag]].concat());
        let child = command.spawn().unwrap();
        // Before the server reads, there is none who could be written to.
        let mut writer = None;
        until("the file is read", PATIENCE, async || {
            writer = pipe::OpenOptions::new().open_sender(&path).ok();
            writer.is_some()
        })
        .await;
        let id = Pid::from_raw(child.id().unwrap() as i32).unwrap();
        kill_process(id, signal).unwrap();
        let output = timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.expect("the server ends").unwrap();
        std::fs::remove_file(&path).unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{signal:?}: {text}");
        assert!(text.contains("stopped at once"), "{signal:?}: {text}");
    }
}

#[tokio::test]
async fn a_start_that_waits_for_a_pipe_says_so_and_goes_on_when_it_is_written() {
    let path = unique_path();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let flag = format!("--jwt-secret-file={}", path.display());
    let mut child = command(&[FREE_PORTS, &[&flag]].concat()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let expected = format!("{} is a pipe", path.display());
    let said = timeout(PATIENCE, async {
        loop {
            let line = errors.next_line().await.unwrap().expect("it goes on");
            if line.contains(&expected) {
                return line;
            }
        }
    });
    assert!(said.await.expect("it says so").contains("waiting"));
    let to = path.clone();
    let written = tokio::task::spawn_blocking(move || std::fs::write(to, SECRET)).await;
    written.unwrap().unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = timeout(PATIENCE, printed.next_line()).await;
    let first = first.expect("it starts").unwrap().unwrap();
    assert!(first.starts_with("edge "), "{first}");
    let id = Pid::from_raw(child.id().unwrap() as i32).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends");
    assert_eq!(status.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_secret_may_come_from_a_process() {
    let binary = command(&[]).as_std().get_program().to_owned();
    let script =
        "exec \"$0\" token --user=alice --jwt-secret-file <(sleep 0.1; printf '%s' \"$SECRET\")";
    let output = tokio::process::Command::new("bash")
        .args(["-c", script])
        .arg(binary)
        .env("SECRET", SECRET)
        .output();
    let output = timeout(PATIENCE, output).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(output.stdout.split(|byte| *byte == b'.').count(), 3);
}

#[tokio::test]
async fn files_of_nodes_without_nodes_are_refused() {
    let credentials = TempFile::new("edge:s3cret\n");
    credentials.set_mode(0o600);
    let flag = format!("--memcached-auth-file={}", credentials.path().display());
    let output = run(&[FREE_PORTS, &[&flag]].concat(), None).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in ["--memcached-auth-file", "needs --memcached"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn a_limit_of_open_files_that_is_too_low_names_the_flags_that_ask_for_more() {
    for (limit, flags, named) in [
        ("-n 64", &[][..], "--workers"),
        ("-n 64", &["--workers=2"], "--workers 2:"),
        (
            "-n 1024",
            &["--max-http-connections=1000", "--workers=1"],
            "--max-http-connections 1000 and --workers 1:",
        ),
        ("-n 4096", &["--max-sessions=4096"], "--max-sessions 4096:"),
    ] {
        let flags = [FREE_PORTS, flags].concat();
        let output = timeout(PATIENCE, limited(limit, &flags).output()).await;
        let output = output.expect("it ends").unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{limit} {flags:?}: {text}");
        assert!(text.contains(named), "{limit} {flags:?}: {text}");
        assert!(text.contains("ulimit -n"), "{limit} {flags:?}: {text}");
    }
}
