//! Settings as an operator meets them: the file, the environment, and the commands about settings.

use std::fs::File;
use std::path::Path;
use std::process::Output;

use presenced_testkit::PATIENCE;
use presenced_testkit::memcached::Memcached;
use presenced_testkit::process::{FREE_PORTS, Process, command, run};
use presenced_testkit::temp::{TempFile, unique_path};
use presenced_testkit::tokens::SECRET;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::timeout;

fn config(file: &TempFile) -> String {
    format!("--config={}", file.path().display())
}

/// What it says on stderr, in one line: lines may be wrapped.
fn said(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs the binary with variables to its end.
async fn run_with(flags: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = command(flags);
    command.envs(variables.iter().copied());
    let output = timeout(PATIENCE, command.output()).await;
    output.expect("the command ends").unwrap()
}

#[tokio::test]
async fn a_server_runs_with_a_file_and_flags_win() {
    let file = TempFile::new(
        "# what we run\nlisten = ['127.0.0.1:0']\nadmin = '127.0.0.1:0'\nstore-listen = '127.0.0.1:0'\n\
         ttl = '2m'\ndrain = '0s'\nlog-format = 'json'\n",
    );
    let mut with_file = command(&["--ttl=3m"]);
    with_file
        .env("PRESENCED_CONFIG", file.path())
        .env("PRESENCED_TTL", "4m")
        .env("PRESENCED_TLL", "5m");
    let process = Process::up(with_file).await;
    assert!(
        process.greeting.contains("the TTL of 3m"),
        "{}",
        process.greeting
    );
    process.logs("did you mean PRESENCED_TTL?").await;
    process.signal(Signal::TERM);
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert_eq!(text.matches("PRESENCED_TLL").count(), 1, "{text}");
    assert!(text.lines().all(|line| line.starts_with('{')), "{text}");
}

#[tokio::test]
async fn the_file_in_the_documents_works() {
    const PAGE: &str = include_str!("../../docs/operations.md");
    let (_, rest) = PAGE.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let secret = TempFile::new(SECRET);
    let example = example.replace("/run/secrets/jwt", &secret.path().display().to_string());
    // The machine of the tests may have a lower limit of open files.
    let file = TempFile::new(&example.replace("100_000", "1_00"));
    let output = run(&["print-config", &config(&file)], None).await;
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let from_file = text.lines().filter(|line| line.contains(" # file "));
    assert_eq!(from_file.count(), 7, "{text}");
}

#[tokio::test]
async fn the_issuers_in_the_documents_work() {
    const PAGE: &str = include_str!("../../docs/identity-providers.md");
    let (_, rest) = PAGE.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let secret = TempFile::new(SECRET);
    let secret = secret.path().display().to_string();
    let file = TempFile::new(&example.replace("/run/secrets/jwt", &secret));
    let output = run(&["check", &config(&file)], None).await;
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for line in [
        "ok     tokens      2 issuers: \"https://id.example\" (keys are fetched from https://id.example), \"our-backend\" (1 key)",
        &format!("ok     file        jwt-secret-file {secret}: is read"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    let place = format!("{}:9: no jwt-audience", file.path().display());
    assert!(text.contains(&place), "{place} in {text}");
    let output = run(&["print-config", &config(&file)], None).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches("\n[[issuer]] # file ").count(), 2, "{text}");
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn a_file_that_can_not_work_ends_it_with_2_and_is_named() {
    for (text, parts) in [
        (
            "\ntll = '60s'\n",
            &[":2: unknown key 'tll'; did you mean 'ttl'?"][..],
        ),
        (
            "ttl = '60'\n",
            &[":1: invalid value '60' for 'ttl'", "25s or 500ms"],
        ),
        (
            "jwt-secret = 'hush'\n",
            &[":1: a secret", "jwt-secret-file"],
        ),
        ("ttl '60s'\n", &[":1: no TOML"]),
    ] {
        let file = TempFile::new(text);
        for command in [&[][..], &["check"], &["print-config"]] {
            let output = run(&[command, &[&config(&file)]].concat(), None).await;
            let said = said(&output);
            assert_eq!(output.status.code(), Some(2), "{command:?} {text}: {said}");
            assert_eq!(output.stdout, b"");
            let place = file.path().display().to_string();
            for part in parts.iter().copied().chain([place.as_str()]) {
                assert!(said.contains(part), "{text} should name {part}: {said}");
            }
            assert!(!said.contains("hush"), "{said}");
        }
    }
    // In the form of the log, which the file says.
    let file = TempFile::new("log-format = 'json'\nttl = '60'\n");
    let output = run(&[&config(&file)], None).await;
    let line: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(
        line["fields"]["message"]
            .as_str()
            .unwrap()
            .contains("'ttl'"),
        "{line}"
    );
}

#[tokio::test]
async fn what_is_no_settings_file_is_refused_at_once() {
    let pipe = unique_path();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let huge = TempFile::new(&"# a\n".repeat(presenced::limits::SETTINGS_FILE_BYTES_MAX / 4 + 1));
    let binary = unique_path();
    std::fs::write(&binary, b"\xff\xfet\0t\0l\0").unwrap();
    for (file, why) in [
        (pipe.as_path(), "not a regular file"),
        (Path::new("/"), "not a regular file"),
        (Path::new("/dev/zero"), "not a regular file"),
        (huge.path(), "has more than 262144 bytes"),
        (binary.as_path(), "is not UTF-8"),
        (Path::new("/no/such.toml"), "No such file"),
    ] {
        let flag = format!("--config={}", file.display());
        let output = run(&[&flag], None).await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let named = format!("--config {}: ", file.display());
        assert!(said.contains(&named) && said.contains(why), "{why}: {said}");
    }
    for made in [pipe, binary] {
        std::fs::remove_file(made).unwrap();
    }
}

#[tokio::test]
async fn a_variable_that_can_not_work_is_named() {
    for (variable, value, parts) in [
        (
            "PRESENCED_TTL",
            "60",
            &["'60'", "'PRESENCED_TTL'", "25s or 500ms"][..],
        ),
        (
            "PRESENCED_PROXY_PROTOCOL",
            "on",
            &["'on'", "'PRESENCED_PROXY_PROTOCOL'", "true, false"],
        ),
        (
            "PRESENCED_PROXY_PROTOCOL",
            "true",
            &["PRESENCED_PROXY_PROTOCOL needs --trusted-proxy"],
        ),
        (
            "PRESENCED_JWT_SECRET",
            "",
            &["PRESENCED_JWT_SECRET", "32 bytes"],
        ),
    ] {
        let output = run_with(&[], &[(variable, value)]).await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        for part in parts {
            assert!(
                said.contains(part),
                "{variable}={value} should name {part}: {said}"
            );
        }
    }
    let variables = [("PRESENCED_PROXY_PROTOCOL", ""), ("PRESENCED_TTL", "")];
    let output = run_with(&["print-config"], &variables).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("ttl = \"60s\" # default"), "{text}");
    assert!(text.contains("proxy-protocol = false # default"), "{text}");
}

#[tokio::test]
async fn what_print_config_prints_is_a_file_that_says_the_same() {
    let file = TempFile::new("memcached = ['127.0.0.1:1']\nttl = '90s'\n");
    let flags = ["print-config", &config(&file), "--serve-health"];
    let mut first = command(&flags);
    first
        .env("PRESENCED_JWT_SECRET", SECRET)
        .env("PRESENCED_JWT_AUDIENCE", "presence");
    let first = first.output().await.unwrap();
    let text = String::from_utf8(first.stdout).unwrap();
    assert_eq!(first.status.code(), Some(0), "{text}");
    assert!(!text.contains(SECRET), "{text}");
    for (line, origin) in [
        ("ttl = \"90s\"", format!("file {}:2", file.path().display())),
        ("serve-health = true", "flag".into()),
        (
            "jwt-audience = \"presence\"",
            "environment PRESENCED_JWT_AUDIENCE".into(),
        ),
        ("drain = \"10s\"", "default".into()),
    ] {
        let line = format!("{line} # {origin}");
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    let again = TempFile::new(&text);
    let mut second = command(&["print-config", &config(&again)]);
    second.env("PRESENCED_JWT_SECRET", SECRET);
    let second = String::from_utf8(second.output().await.unwrap().stdout).unwrap();
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.split(" # ").next());
        let lines = lines.filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(values(&text), values(&second));
    let wrong = run(&["print-config", "--ttl=5s"], None).await;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        said(&wrong).contains("--ttl 5s must be at least"),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn check_says_of_each_node_how_it_is_and_starts_nothing() {
    let memcached = Memcached::start().await;
    let node = memcached.node();
    let secret = TempFile::new(SECRET);
    let secret_flag = format!("--jwt-secret-file={}", secret.path().display());
    let good = format!("--memcached={node}");
    // Where it runs already, too.
    let process = Process::start(&[&good]).await;
    let listen = format!("--listen={}", process.edge());
    let output = run(&["check", &good, &secret_flag, &listen], None).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains(&format!("{node}: memcached 1.")), "{text}");
    let file = format!("jwt-secret-file {}: is read", secret.path().display());
    for part in [
        &*file,
        "ok     open files",
        "ok     settings",
        "note   settings    no --jwt-audience",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("wrong") && !text.contains(SECRET), "{text}");

    // No node but the good one.
    let nodes = format!("--memcached={node},127.0.0.1:1,unix:/no/such,dns+no-such.invalid:1");
    let output = run(&["check", &nodes, "--log-format=json"], Some(SECRET)).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut wrong = Vec::new();
    for line in lines.filter(|line| line["state"] == "wrong") {
        wrong.push(line["text"].as_str().unwrap().to_owned());
    }
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(
        wrong[0].contains("no-such.invalid:1: can't be resolved"),
        "{wrong:?}"
    );
    assert!(
        wrong[1].contains("127.0.0.1:1: cannot connect: Connection refused"),
        "{wrong:?}"
    );
    assert!(
        wrong[2].contains("unix:/no/such: cannot connect"),
        "{wrong:?}"
    );

    // What is no memcached says something else.
    let http = format!("--memcached={}", process.admin());
    let output = run(&["check", &http], Some(SECRET)).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("not a memcached that answers version"),
        "{text}"
    );

    let output = run(&["check", "--ttl=5s"], None).await;
    assert_eq!(output.status.code(), Some(2));
    let output = run(&[&["check"], FREE_PORTS].concat(), None).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("note   tokens") && text.contains("ok     store"),
        "{text}"
    );
}

#[tokio::test]
async fn a_clock_that_is_not_ours_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = listener.local_addr().unwrap();
    let answering = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (input, mut output) = stream.into_split();
        let mut lines = BufReader::new(input).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = match line.as_str() {
                "version" => "VERSION 9\r\n",
                "stats" => "STAT time 1000000000\r\nEND\r\n",
                _ => "ERROR\r\n",
            };
            output.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let flag = format!("--memcached={node}");
    let output = run(&["check", &flag], Some(SECRET)).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("wrong  clock") && text.contains("s ahead of this node's"),
        "{text}"
    );
    answering.abort();
}

#[tokio::test]
async fn a_text_that_can_not_be_printed_is_no_success() {
    for flags in [
        &["--help"][..],
        &["--version"],
        &["store", "--help"],
        &["print-config"],
        &["check"],
    ] {
        let mut command = command(flags);
        command.stdout(File::options().write(true).open("/dev/full").unwrap());
        let child = command.spawn().unwrap();
        let output = timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.expect("the command ends").unwrap();
        assert_eq!(output.status.code(), Some(1), "{flags:?}");
        assert!(
            said(&output).contains("cannot write to stdout"),
            "{flags:?}: {output:?}"
        );
    }
}
