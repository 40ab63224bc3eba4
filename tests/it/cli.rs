//! The binary as an operator meets it: flags, what it prints, its log, its dev mode.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use async_memcached::AsciiProtocol;
use presenced_jwt::{EncodingKey, Header, encode};
use presenced_testkit::client::Client;
use presenced_testkit::process::{FREE_PORTS, Process, command, run};
use presenced_testkit::raw::{Raw, Response, get, handshake, request, send, upgrade, upgrade_with};
use presenced_testkit::temp::TempFile;
use presenced_testkit::tokens::{SECRET, base64url, claims, in_s, sign, token};
use rustix::process::Signal;
use serde_json::Value;
use tokio::net::TcpListener;

/// `GET` with a Host header of the caller's.
async fn get_from_host(addr: SocketAddr, path: &str, host: &str) -> Response {
    let mut raw = Raw::connect(addr).await;
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await;
    raw.response().await
}

#[tokio::test]
async fn flags_that_can_not_work_end_it_with_2_and_are_named() {
    let short = TempFile::new("too short\n");
    let secret_file = format!("--jwt-secret-file={}", short.path().display());
    let cases: &[(&[&str], Option<&str>, &[&str])] = &[
        (&["--no-such-flag"], None, &["--no-such-flag"]),
        (
            &["--listen=nowhere"],
            None,
            &["--listen", "nowhere", "localhost:8080"],
        ),
        (
            &["--listen=127.0.0.1:0", "--listen=8080"],
            None,
            &["--listen", "'8080'", "127.0.0.1:8080"],
        ),
        (
            &["store", "--listen=x"],
            None,
            &["--listen", "127.0.0.1:8080"],
        ),
        (
            &["--allow-origin=https://app.example/"],
            None,
            &["--allow-origin https://app.example/", "no path"],
        ),
        (&["--workers=0"], None, &["--workers", "0"]),
        (&["--ttl=60"], None, &["--ttl", "'60'", "25s or 500ms"]),
        (
            &["--ttl=55s"],
            None,
            &[
                "--ttl 55s",
                "--ping-interval 25s",
                "--ping-timeout 20s",
                "--flush-interval 5s",
                "60s",
            ],
        ),
        (
            &["--ttl=90500ms"],
            None,
            &["--ttl 90500ms", "whole seconds"],
        ),
        (
            &["--ttl=31days"],
            None,
            &["--ttl", "'31days'", "from 1s to 30days"],
        ),
        (
            &["--jwt-max-lifetime=100years"],
            None,
            &["'100years'", "from 1s to 10years"],
        ),
        (
            &["store", "--idle-timeout=100years"],
            None,
            &["'100years'", "from 1s to 10years"],
        ),
        (
            &["--ttl=3000000s"],
            None,
            &["--ttl", "'3000000s'", "from 1s to 2592000s"],
        ),
        (
            &["--ping-timeout=25s"],
            None,
            &["--ping-timeout 25s", "--ping-interval 25s"],
        ),
        (
            &["--flush-interval=0s"],
            None,
            &["--flush-interval", "'0s'", "from 0.1s to 3600s"],
        ),
        (
            &["--memcached=nowhere"],
            None,
            &["--memcached", "nowhere", "HOST:PORT"],
        ),
        (
            &["--memcached=a:1,a:1"],
            None,
            &["--memcached", "a:1", "twice"],
        ),
        (
            &["--key-template=user"],
            None,
            &["--key-template \"user\"", "{userId}"],
        ),
        (
            &["--key-template=a {userId}"],
            None,
            &["--key-template \"a {userId}\"", "space"],
        ),
        (&["--allow-origin=*"], None, &["--allow-origin *"]),
        (
            &["--max-message=1000B"],
            None,
            &["--max-message", "'1000B'", "from 1KiB to 16MiB"],
        ),
        (
            &["--max-outbox=16777217"],
            None,
            &["--max-outbox", "'16777217'", "from 16KiB to 16MiB"],
        ),
        (
            &["--max-outbox=5Q"],
            None,
            &["--max-outbox", "'5Q'", "64KiB"],
        ),
        (
            &["--coalesce=1s"],
            None,
            &["--coalesce", "'1s'", "from 0s to 0.1s"],
        ),
        (&["--drain=2h"], None, &["--drain", "'2h'", "from 0h to 1h"]),
        (
            &["--jwt-max-lifetime=0s"],
            None,
            &["--jwt-max-lifetime", "'0s'", "from 1s"],
        ),
        (&["--value-flags=-1"], None, &["--value-flags", "-1"]),
        (
            &["--ttl", "-5s"],
            None,
            &["--ttl", "'-5s'", "from 1s to 2592000s"],
        ),
        (
            &["store", "--max-connections", "-1"],
            None,
            &["--max-connections", "'-1'"],
        ),
        // A number without a unit is bytes, whichever flag it is given to.
        (
            &["--store-memory=64"],
            None,
            &["--store-memory", "'64'", "4MiB", "did you mean 64MiB?"],
        ),
        (
            &["store", "--memory=64"],
            None,
            &["--memory", "'64'", "4MiB", "did you mean 64MiB?"],
        ),
        (
            &["--max-message=64"],
            None,
            &["--max-message", "'64'", "did you mean 64KiB?"],
        ),
        (
            &["--store-memory=0"],
            None,
            &["--store-memory", "'0'", "from 4MiB to 64TiB"],
        ),
        (
            &["--max-sessions-per-user=0"],
            None,
            &["--max-sessions-per-user", "0"],
        ),
        (
            &["--max-messages-per-second=0"],
            None,
            &["--max-messages-per-second", "0"],
        ),
        (
            &["--max-http-connections=0"],
            None,
            &["--max-http-connections", "0"],
        ),
        (&["--ring=circle"], None, &["--ring", "circle", "ketama"]),
        (
            &["--on-node-failure=cry"],
            None,
            &["--on-node-failure", "cry", "eject"],
        ),
        (&["--eject-after=0"], None, &["--eject-after", "0", "1000"]),
        (&["--refill-rate=9"], None, &["--refill-rate", "9", "100"]),
        (
            &["--memcached-timeout=1ms"],
            None,
            &["--memcached-timeout", "'1ms'", "10ms"],
        ),
        (
            &["--max-sessions=99999999999"],
            None,
            &["--max-sessions 99999999999", "ulimit -n"],
        ),
        (
            &["--log-level=presenced=loud"],
            None,
            &["--log-level", "loud"],
        ),
        (
            &["--log-level=warning"],
            None,
            &["--log-level", "'warning'", "did you mean warn?"],
        ),
        (
            &["--log-level=5"],
            None,
            &[
                "--log-level",
                "'5'",
                "off, error, warn, info, debug or trace",
            ],
        ),
        (
            &["--log-level=info,presenced::gateway"],
            None,
            &["--log-level", "'info,presenced::gateway'", "TARGET=LEVEL"],
        ),
        (
            &["store", "--log-level=verbose"],
            None,
            &["--log-level", "'verbose'", "TARGET=LEVEL"],
        ),
        (
            &["--log-format=xml"],
            None,
            &["--log-format", "xml", "json"],
        ),
        (
            &["--store-listen=0.0.0.0:0"],
            None,
            &["--store-listen 0.0.0.0:0", "--memcached"],
        ),
        (
            &["--store-memory=64MiB", "--memcached=127.0.0.1:1"],
            None,
            &["--store-memory", "--memcached", "cannot be used with"],
        ),
        (
            &["--store-listen=localhost:0", "--memcached=127.0.0.1:1"],
            None,
            &["--store-listen", "--memcached", "cannot be used with"],
        ),
        (
            &["store", "--listen=127.0.0.1:0", "--unix=/no/such"],
            None,
            &["--listen", "--unix", "cannot be used with"],
        ),
        (
            &["--eject-after=7"],
            None,
            &["--eject-after 7", "--on-node-failure eject"],
        ),
        (
            &["--jwt-secret-file=/no/such/file"],
            None,
            &["--jwt-secret-file /no/such/file"],
        ),
        (&[&secret_file], None, &["--jwt-secret-file", "32 bytes"]),
        (
            &[&secret_file],
            Some(SECRET),
            &["--jwt-secret-file", "PRESENCED_JWT_SECRET"],
        ),
        (&[], Some("short"), &["PRESENCED_JWT_SECRET", "32 bytes"]),
        (
            &[],
            Some("-----BEGIN PUBLIC KEY-----\nAAAAAAAAAAAAAAAA"),
            &["PRESENCED_JWT_SECRET", "PEM"],
        ),
    ];
    for (flags, secret, names) in cases {
        let output = run(flags, *secret).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert_eq!(output.stdout, b"", "{flags:?}");
        // Lines may be wrapped.
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for name in *names {
            assert!(
                flat.contains(name),
                "{flags:?} should name {name:?}: {text}"
            );
        }
        if let Some(secret) = secret {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test]
async fn without_a_key_only_this_machine_is_served() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let flag = format!("--listen={listen}");
        let output = run(&[&flag], None).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{listen}: {text}");
        assert!(text.contains(&format!("--listen {listen}")), "{text}");
        assert!(text.contains("--jwt-secret-file"), "{text}");
    }
    // With one it may.
    let mut open = command(&[
        "--listen=0.0.0.0:0",
        "--admin=127.0.0.1:0",
        "--store-listen=127.0.0.1:0",
    ]);
    open.env("PRESENCED_JWT_SECRET", SECRET);
    let open = Process::up(open).await;
    let port = open.edge().port();
    let here = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(
        handshake(here, &upgrade_with(&token("1"))).await.status,
        101
    );
}

#[tokio::test]
async fn help_and_version_are_printed() {
    let help = run(&["--help"], None).await;
    let text = String::from_utf8(help.stdout).unwrap();
    assert_eq!(help.status.code(), Some(0));
    for part in [
        "--ttl",
        "PRESENCED_TTL",
        "60s",
        "[default: 64KiB]",
        "--drain",
        "Heartbeats",
        "--allow-query-token",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // Each flag is in a group, and each group is there once.
    let headings = text
        .lines()
        .filter(|line| line.ends_with(':') && !line.starts_with(' '));
    assert_eq!(
        headings.collect::<Vec<_>>(),
        [
            "Commands:",
            "Options:",
            "Network:",
            "TLS for clients:",
            "Proxies in front of the server:",
            "memcached:",
            "Heartbeats:",
            "Tokens and origins:",
            "Socket.IO:",
            "Limits and shutdown:",
            "Logs:",
        ]
    );
    let version = run(&["--version"], None).await;
    assert_eq!(version.status.code(), Some(0));
    let text = String::from_utf8(version.stdout).unwrap();
    assert_eq!(
        text.trim(),
        format!("presenced {}", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn it_prints_its_addresses_and_its_promises() {
    let process = Process::start_dev(&["--drain=0s"]).await;
    let text = &process.greeting;
    assert!(
        text.contains("between 9s and 1m 1s after leaving"),
        "{text}"
    );
    assert!(text.contains("at once on connect"), "{text}");
    assert!(text.contains("headroom 10s of the TTL of 1m"), "{text}");
    // Each is where it says.
    let page = get_from_host(process.edge(), "/", "localhost").await;
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    assert!(page.header("content-security-policy").is_some());
    assert_eq!(get(process.admin(), "/healthz").await.status, 200);
    assert_eq!(get(process.admin(), "/other").await.status, 404);
    let posted = send(process.admin(), "POST", "/metrics", &[], "").await;
    assert_eq!(posted.status, 405);
    let metrics = get(process.admin(), "/metrics").await;
    assert_eq!(metrics.status, 200);
    let mut store = Raw::connect(process.store()).await;
    store.send("quit\r\n").await;
    store.hung_up().await;

    let edge = process.edge();
    process.signal(Signal::INT);
    let (status, rest) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{rest}");
    assert!(
        rest.contains(&format!("Open http://{edge}/ in two tabs")),
        "{rest}"
    );
    assert!(rest.contains("get user:alice:online"), "{rest}");
}

#[tokio::test]
async fn the_look_up_command_is_that_of_what_runs() {
    let process = Process::start_dev(&["--key-template=p:{userId}", "--drain=0s"]).await;
    let command = |user: &str| {
        let port = process.store().port();
        format!(r"printf 'get p:{user}\r\nquit\r\n' | nc 127.0.0.1 {port}")
    };
    let response = get_from_host(process.edge(), "/dev/token?user=bob", "localhost").await;
    assert_eq!(response.json()["lookUp"], command("bob"));
    // The page has no other source.
    for file in ["/", "/demo/demo.js", "/demo/code.js"] {
        let page = get_from_host(process.edge(), file, "localhost").await;
        assert_eq!(page.status, 200, "{file}");
        assert!(!page.body.contains("11311"), "{file}: {}", page.body);
        assert!(!page.body.contains(":online"), "{file}: {}", page.body);
    }
    let printed = command("alice");
    process.signal(Signal::INT);
    let (_, text) = process.ended().await;
    assert!(text.contains(&printed), "{printed} in {text}");

    // Another memcached is looked into the same way.
    let process = Process::start_dev(&["--memcached=127.0.0.1:1", "--drain=0s"]).await;
    let response = get_from_host(process.edge(), "/dev/token?user=bob", "localhost").await;
    assert_eq!(response.status, 200, "{response:?}");
    let command = response.json()["lookUp"].clone();
    assert_eq!(
        command,
        r"printf 'get user:bob:online\r\nquit\r\n' | nc 127.0.0.1 1"
    );
    process.signal(Signal::INT);
    process.ended().await;
}

#[tokio::test]
async fn a_page_without_a_key_gets_a_token_and_its_user_is_in_the_store() {
    let process = Process::start_dev(&["--server-id=demo"]).await;
    let response = get_from_host(process.edge(), "/dev/token?user=alice", "localhost:8080").await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("access-control-allow-origin"), None);
    let json = response.json();
    assert_eq!(json["user"], "alice");
    let token = json["token"].as_str().unwrap();

    // As a subprotocol, and, in this mode, in the query.
    let offered = format!("presence.v1, bearer.{token}");
    let headers = [("sec-websocket-protocol", offered.as_str())];
    let (mut alice, _) = Client::try_connect(process.edge(), "/ws", &headers)
        .await
        .unwrap();
    let path = format!("/ws?token={token}");
    let (second, _) = Client::try_connect(process.edge(), &path, &[])
        .await
        .unwrap();
    let answer = alice.pull(&["alice", "bob"]).await;
    let connected_at = answer["online"]["alice"]["connectedAt"].as_u64().unwrap();

    let store = format!("tcp://{}", process.store());
    let mut client = async_memcached::Client::new(store).await.unwrap();
    presenced_testkit::until(
        "alice is in the store",
        presenced_testkit::PATIENCE,
        async || client.get("user:alice:online").await.unwrap().is_some(),
    )
    .await;
    let value = client.get("user:alice:online").await.unwrap().unwrap();
    let value: Value = serde_json::from_slice(&value.data.unwrap()).unwrap();
    assert_eq!(value["serverId"], "demo");
    assert_eq!(value["connectedAt"], connected_at);
    assert!(second.is_open());
    // A key is a random one: those of another server are none of this.
    let response = handshake(
        process.edge(),
        &upgrade_with(&presenced_testkit::tokens::token("x")),
    )
    .await;
    assert_eq!(response.status, 401);
}

#[tokio::test]
async fn the_page_has_figures_of_the_path_of_a_heartbeat() {
    let process = Process::start_dev(&[
        "--key-template=p:{userId}",
        "--ttl=9s",
        "--ping-interval=1s",
        "--ping-timeout=500ms",
        "--flush-interval=200ms",
    ])
    .await;
    let figures = async || {
        let response = get_from_host(process.edge(), "/dev/figures", "localhost").await;
        assert_eq!(response.header("cache-control"), Some("no-store"));
        response.json()
    };
    let before = figures().await;
    assert_eq!(before["keyTemplate"], "p:{userId}");
    assert_eq!(before["ttlMs"], 9000);
    assert_eq!(before["flushIntervalMs"], 200);
    assert_eq!(before["pingIntervalMs"], 1000);
    assert_eq!(before["embedded"], true);
    let store = process.store().to_string();
    assert_eq!(before["memcached"][0]["address"], store);
    assert_eq!(before["sessions"], 0);

    let response = get_from_host(process.edge(), "/dev/token?user=alice", "localhost").await;
    let path = format!("/ws?token={}", response.json()["token"].as_str().unwrap());
    let alice = Client::try_connect(process.edge(), &path, &[]).await;
    let (mut alice, _) = alice.unwrap();
    presenced_testkit::until(
        "a pong was counted and written",
        presenced_testkit::PATIENCE,
        async || {
            alice.pull(&[]).await;
            let now = figures().await;
            now["sessions"] == 1
                && now["pongs"].as_u64() > Some(0)
                && now["stored"].as_u64() > Some(1)
                && now["flushes"].as_u64() > before["flushes"].as_u64()
        },
    )
    .await;
}

#[tokio::test]
async fn tokens_are_handed_out_to_this_machine_only() {
    let process = Process::start_dev(&[]).await;
    for host in [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::1]:8080",
    ] {
        for path in ["/dev/token?user=1", "/dev/figures"] {
            let response = get_from_host(process.edge(), path, host).await;
            assert_eq!(response.status, 200, "{path} {host}: {response:?}");
        }
    }
    // What an attacker's page lets point here has its own name in the Host header.
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
        "[::2]",
    ] {
        for path in ["/dev/token?user=1", "/dev/figures"] {
            let response = get_from_host(process.edge(), path, host).await;
            assert_eq!(response.status, 404, "{path} {host}: {response:?}");
            assert!(!response.body.contains("eyJ"), "{response:?}");
        }
    }
    for query in ["", "?scope=x", "?user=%ff"] {
        let target = format!("/dev/token{query}");
        let response = get_from_host(process.edge(), &target, "localhost").await;
        assert_eq!(response.status, 400, "{query}: {response:?}");
        assert!(response.body.contains("user=ID"), "{query}: {response:?}");
    }
    let mut raw = Raw::connect(process.edge()).await;
    raw.send("GET /dev/token?user=1 HTTP/1.1\r\n\r\n").await;
    assert_eq!(raw.response().await.status, 400, "no Host");
    let elsewhere = [("Origin", "https://evil.example".to_owned())];
    let response = send(process.edge(), "GET", "/dev/token?user=1", &elsewhere, "").await;
    assert_eq!(response.status, 403, "{response:?}");

    for (path, status) in [
        ("/dev/token", 400),
        ("/dev/token?user=", 403),
        ("/dev/token?user=a%20b", 403),
        ("/dev/token?user=a%0d%0aflush_all", 403),
    ] {
        let response = get_from_host(process.edge(), path, "localhost").await;
        assert_eq!(response.status, status, "{path}: {response:?}");
    }
    let response = send(process.edge(), "POST", "/dev/token?user=1", &[], "").await;
    assert_eq!(response.status, 405);
}

#[tokio::test]
async fn a_port_in_use_ends_it_with_1_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap();
    // Whatever is wanted of the log.
    for (flag, level) in [
        ("--listen", "--log-level=info"),
        ("--admin", "--log-level=off"),
        ("--store-listen", "--log-level=presenced::gateway=debug"),
    ] {
        let this = format!("{flag}={addr}");
        let others = FREE_PORTS.iter().filter(|other| !other.starts_with(flag));
        let flags: Vec<_> = others.copied().chain([&*this, level]).collect();
        let output = run(&flags, Some(SECRET)).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{flag}: {text}");
        assert!(text.contains(&format!("{flag} {addr}")), "{flag}: {text}");
        assert!(text.contains("in use"), "{flag}: {text}");
    }
    for level in ["off", "presenced::gateway=debug,presenced=off"] {
        let (this, level) = (format!("--listen={addr}"), format!("--log-level={level}"));
        let output = run(&["store", &this, &level, "--log-format=json"], None).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        let message = line["fields"]["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("cannot listen on {addr}")),
            "{text}"
        );
    }
    // Two servers on one port would share its connections by chance.
    let first = Process::start(&["--workers=2"]).await;
    let listen = format!("--listen={}", first.edge());
    let flags = [&listen, "--admin=127.0.0.1:0", "--store-listen=127.0.0.1:0"];
    let output = run(&flags, Some(SECRET)).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[tokio::test]
async fn signals_of_others_end_no_session() {
    let process = Process::start(&[]).await;
    let mut client = Client::connect(process.edge(), "alice").await;
    for (signal, said) in [
        (Signal::HUP, "settings were read again: nothing has changed"),
        (Signal::USR1, "SIGUSR1 is ignored"),
        (Signal::USR2, "SIGUSR2 is ignored"),
    ] {
        process.signal(signal);
        process.logs(said).await;
        let pulled = client.pull(&["alice"]).await;
        assert!(pulled["online"]["alice"].is_object(), "{said}: {pulled}");
    }
    // Nor while it drains.
    process.signal(Signal::TERM);
    process.logs("draining").await;
    process.signal(Signal::HUP);
    assert_eq!(client.closed().await.code, Some(1012));
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(!text.contains("stopped at once"), "{text}");
    // SIGPIPE, as the standard library has it.
    let process = Process::start(&[]).await;
    process.signal(Signal::PIPE);
    process.signal(Signal::TERM);
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
}

#[tokio::test]
async fn settings_may_come_from_the_environment_and_a_file() {
    let secret = TempFile::new(&format!("{SECRET}\n"));
    let mut by_environment = command(&[]);
    by_environment
        .env("PRESENCED_LISTEN", "127.0.0.1:0")
        .env("PRESENCED_ADMIN", "127.0.0.1:0")
        .env("PRESENCED_STORE_LISTEN", "127.0.0.1:0")
        .env("PRESENCED_JWT_SECRET_FILE", secret.path())
        .env("PRESENCED_TTL", "2m")
        .env("PRESENCED_ALLOW_QUERY_TOKEN", "true");
    let process = Process::up(by_environment).await;
    assert!(
        process.greeting.contains("the TTL of 2m"),
        "{}",
        process.greeting
    );
    let path = format!("/ws?token={}", token("alice"));
    let response = send(process.edge(), "GET", &path, &upgrade(), "").await;
    assert_eq!(response.status, 101, "{response:?}");
}

#[tokio::test]
async fn a_variable_means_the_same_to_both_commands() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    // The store alone has an address of its own, with a default of its own.
    let mut store = command(&["store"]);
    store
        .env("PRESENCED_STORE_LISTEN", "127.0.0.1:0")
        .env("PRESENCED_STORE_TCP", &taken);
    let output = store.output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&format!("cannot listen on {taken}")),
        "{text}"
    );
    // The memory of a store has one variable, read in one way.
    for flags in [&["store"][..], &[]] {
        let mut command = command(flags);
        command.env("PRESENCED_STORE_MEMORY", "64");
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert!(text.contains("did you mean 64MiB?"), "{flags:?}: {text}");
    }
}

#[tokio::test]
async fn a_secret_of_no_text_is_a_secret() {
    let secret: Vec<u8> = (0x80..=0xff).collect();
    let mut command = command(FREE_PORTS);
    command.env("PRESENCED_JWT_SECRET", OsStr::from_bytes(&secret));
    let process = Process::up(command).await;
    let key = EncodingKey::from_secret(&secret);
    let good = encode(&Header::default(), &claims("alice"), &key).unwrap();
    let response = handshake(process.edge(), &upgrade_with(&good)).await;
    assert_eq!(response.status, 101, "{response:?}");
    // No one gets a token, as without a secret.
    let response = get(process.edge(), "/dev/token?user=1").await;
    assert_eq!(response.status, 404, "{response:?}");
}

/// Parts of a token that must not be anywhere: each of its three, and their halves.
fn parts(token: &str) -> Vec<String> {
    let parts = token.split('.').filter(|part| part.len() >= 16);
    let halves = parts.map(|part| part.split_at(part.len() / 2));
    let halves = halves.flat_map(|(first, second)| [first, second]);
    halves.map(str::to_owned).collect()
}

#[tokio::test]
async fn no_token_is_in_any_log() {
    for format in ["--log-format=text", "--log-format=json"] {
        let flags = [
            "--log-level=trace",
            format,
            "--allow-query-token",
            "--drain=0s",
        ];
        let process = Process::start(&flags).await;
        let edge = process.edge();
        // Each with a signature of its own; the header is the same of all and no secret.
        let good = |number: u32| {
            let mut claims = claims("alice");
            claims["jti"] = format!("a-good-token-{number}").into();
            sign(&claims)
        };
        let expired = sign(&serde_json::json!({"sub": "late-alice", "exp": in_s(-100)}));
        let forged = format!("{}{}", &good(0)[..good(0).len() - 8], "AAAAAAAA");
        let garbage = format!(
            "{}.{}.{}",
            base64url(b"garbage head of it"),
            base64url(b"garbage body of it"),
            base64url(&[9; 32])
        );
        let mut used = Vec::new();
        for token in [good(1), expired, forged, garbage] {
            handshake(edge, &upgrade_with(&token)).await;
            let offered = vec![(
                "Sec-WebSocket-Protocol",
                format!("presence.v1, bearer.{token}"),
            )];
            handshake(edge, &[upgrade(), offered].concat()).await;
            for path in ["/ws", "/v1/presence", "/other"] {
                let path = format!("{path}?user=1&token={token}");
                send(edge, "GET", &path, &upgrade(), "").await;
            }
            // Heads that are not HTTP, or too long.
            let mut raw = Raw::connect(edge).await;
            raw.try_send(format!("GET /ws?token={token} HTTP/9\r\n\r\n"))
                .await;
            raw.hung_up().await;
            let mut long = upgrade_with(&token);
            long.push(("X-Pad", "x".repeat(presenced::limits::HEAD_BYTES_MAX)));
            let mut raw = Raw::connect(edge).await;
            raw.try_send(request("GET", "/ws", &long, "")).await;
            raw.hung_up().await;
            used.push(token);
        }
        // A session that lives, asks, and says what it should not.
        let token = good(2);
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let (mut client, _) = Client::try_connect(edge, "/ws", &headers).await.unwrap();
        client.pull(&["alice"]).await;
        client.say(&*token);
        client.hear().await;
        client.close().await;
        used.push(token);

        process.signal(Signal::TERM);
        let (_, log) = process.ended().await;
        assert!(
            log.contains("session ended"),
            "it logs at this level: {log}"
        );
        let header = base64url(br#"{"typ":"JWT","alg":"HS256"}"#);
        for part in used.iter().flat_map(|token| parts(token)) {
            let harmless = header.contains(&part);
            assert!(harmless || !log.contains(&part), "{part} in {log}");
        }
        assert!(!log.contains(SECRET) && !log.contains("bearer."), "{log}");
        if format.ends_with("json") {
            let lines = log.lines().filter(|line| line.starts_with('{'));
            let lines: Vec<Value> = lines
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert!(!lines.is_empty());
        }
    }
}
