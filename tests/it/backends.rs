//! Back ends of the operator: service tokens, and the examples in `examples/backends/`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use presenced::tokens::READ_ALL_SCOPE;
use presenced_memcached::marker;
use presenced_testkit::client::Client;
use presenced_testkit::memcached::{Memcached, key};
use presenced_testkit::port::Port;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{Raw, Response, get_with, handshake, upgrade_with};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::{SECRET, claims, sign, token};
use presenced_testkit::{PATIENCE, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A token of a back end with this claim `scope`.
fn scoped(scope: &str) -> String {
    let mut claims = claims("push-service");
    claims["scope"] = scope.into();
    sign(&claims)
}

async fn pull(server: &TestServer, token: &str) -> Response {
    get_with(server.edge, "/v1/presence?user=alice", token).await
}

#[tokio::test]
async fn a_service_token_pulls_over_http_whatever_scope_sessions_need() {
    let any = TestServer::start(&[]).await;
    let scope = TestServer::start(&["--require-scope"]).await;
    for server in [&any, &scope] {
        for words in [READ_ALL_SCOPE, "openid presence:read-all"] {
            let answer = pull(server, &scoped(words)).await;
            assert_eq!(answer.status, 200, "{words}: {answer:?}");
            assert!(answer.json()["online"].is_object(), "{answer:?}");
        }
    }
    for other in [token("alice"), scoped("presence:connect")] {
        assert_eq!(pull(&any, &other).await.status, 200);
        let refused = pull(&scope, &other).await;
        let refused = (refused.status, refused.error_code());
        assert_eq!(refused, (403, "insufficient_scope".into()));
    }
}

#[tokio::test]
async fn a_service_token_is_a_session_only_with_the_scope_that_sessions_need() {
    let any = TestServer::start(&[]).await;
    let scope = TestServer::start(&["--require-scope"]).await;
    let shake =
        async |server: &TestServer, token| handshake(server.edge, &upgrade_with(token)).await;
    let service = scoped(READ_ALL_SCOPE);
    assert_eq!(shake(&any, &service).await.status, 101);
    let refused = shake(&scope, &service).await;
    let refused = (refused.status, refused.error_code());
    assert_eq!(refused, (403, "insufficient_scope".into()));
    assert_eq!(scope.handshakes("insufficient_scope").await, 1);
    let both = shake(&scope, &scoped("presence:connect presence:read-all")).await;
    assert_eq!(both.status, 101, "{both:?}");
}

#[tokio::test]
async fn dev_mode_gives_service_tokens_out() {
    let process = Process::start_dev(&["--require-scope"]).await;
    let dev = async |query: &str| {
        let mut raw = Raw::connect(process.edge()).await;
        let target = format!("/dev/token?user=push-service{query}");
        raw.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        raw.response().await
    };
    let token = async |query: &str| {
        let json = dev(query).await.json();
        json["token"].as_str().unwrap().to_owned()
    };
    // A session, and a pull.
    for (query, session, pulled) in [
        ("", 101, 200),
        ("&scope=presence:read-all", 403, 200),
        ("&scope=presence:connect+presence%3Aread-all", 101, 200),
        ("&scope=email", 403, 403),
    ] {
        let token = token(query).await;
        let handshake = handshake(process.edge(), &upgrade_with(&token)).await;
        let pull = get_with(process.edge(), "/v1/presence?user=alice", &token).await;
        assert_eq!(
            (handshake.status, pull.status),
            (session, pulled),
            "{query}"
        );
    }
    assert_eq!(dev("&scope=%ff").await.status, 400);
}

/// How many languages the examples are in.
const LANGUAGES: usize = 3;

/// How the users are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Http,
    Memcached,
}

/// The examples of one way, in each language: a name, the program, and its first arguments.
async fn examples(way: Way) -> [(&'static str, Vec<PathBuf>); LANGUAGES] {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("examples/backends");
    let (script, built) = match way {
        Way::Http => ("by_http", "byhttp"),
        Way::Memcached => ("by_memcached", "bymemcached"),
    };
    let python = root.join("target/venv/bin/python");
    let file = |name: &str, ending: &str| folder.join(name).join(format!("{script}.{ending}"));
    [
        ("Node.js", vec!["node".into(), file("node", "mjs")]),
        ("Python", vec![python, file("python", "py")]),
        ("Go", vec![go_programs().await.join(built)]),
    ]
}

/// The folder with the Go programs, which are checked and built once.
async fn go_programs() -> &'static Path {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    let build = async || {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
        let programs = target.join("bin");
        let go = async |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/backends/go"))
                .env("GOCACHE", target.join("cache"))
                .env("GOPATH", target.join("path"))
                // Nothing is fetched: no module, and no other version of Go.
                .envs([
                    ("GOFLAGS", "-mod=mod -buildvcs=false"),
                    ("GOPROXY", "off"),
                    ("GOTOOLCHAIN", "local"),
                ]);
            let (status, output, errors) = ended(command, 10 * PATIENCE).await;
            assert_eq!(status, Some(0), "{program} {arguments:?}: {errors}");
            assert_eq!(output, "", "{program} {arguments:?}");
        };
        // Names the files that it would change.
        go("gofmt", &["-l", "."]).await;
        go("go", &["vet", "./..."]).await;
        let output = format!("{}/", programs.display());
        go("go", &["build", "-o", &output, "./..."]).await;
        programs
    };
    BUILT.get_or_init(build).await
}

/// What a command ended with in time, and what it wrote.
async fn ended(mut command: Command, patience: Duration) -> (Option<i32>, String, String) {
    let shown = format!("{:?}", command.as_std());
    // None of them may ask a proxy of this machine.
    command
        .env("NO_PROXY", "*")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(patience, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{shown} does not end"));
    let output =
        output.unwrap_or_else(|error| panic!("{shown}: {error}; is it installed (make setup)?"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Runs the examples of one way side by side, each with a place to ask: name, exit status, output and
/// errors of each.
async fn run(
    way: Way,
    places: [&str; LANGUAGES],
    token: Option<&str>,
    users: &[&str],
) -> Vec<(&'static str, Option<i32>, String, String)> {
    let runs = examples(way).await.into_iter().zip(places);
    let runs = runs.map(async |((name, words), place)| {
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg(place)
            .args(users)
            .env_remove("PRESENCE_TOKEN")
            .env("PRESENCED_JWT_SECRET", SECRET);
        if let Some(token) = token {
            command
                .env("PRESENCE_TOKEN", token)
                .env_remove("PRESENCED_JWT_SECRET");
        }
        let (status, output, errors) = ended(command, PATIENCE).await;
        (name, status, output, errors)
    });
    join_all(runs).await
}

/// Each example must succeed with these lines.
async fn tells(way: Way, place: &str, users: &[&str], expected: &[String]) {
    for (name, status, output, errors) in run(way, [place; LANGUAGES], None, users).await {
        assert_eq!(status, Some(0), "{name} by {way:?}: {errors}");
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines, expected, "{name} by {way:?}");
    }
}

/// Each example must fail, say so in one line with `word`, and tell of no user.
async fn fails(way: Way, place: &str, token: Option<&str>, users: &[&str], word: &str) {
    let places = [place; LANGUAGES];
    each_fails(way, places, token, users, word).await;
}

/// The same, each with a place to ask.
async fn each_fails(
    way: Way,
    places: [&str; LANGUAGES],
    token: Option<&str>,
    users: &[&str],
    word: &str,
) {
    for (name, status, output, errors) in run(way, places, token, users).await {
        assert_eq!(status, Some(1), "{name} by {way:?}: {output}{errors}");
        assert_eq!(output, "", "{name} by {way:?}");
        let is_clear = errors.lines().count() == 1 && errors.to_lowercase().contains(word);
        assert!(is_clear, "{name} by {way:?}: {word} in {errors}");
    }
}

/// Unix time in ms as a date in UTC, to the second.
async fn date(ms: u64) -> String {
    let mut command = Command::new("date");
    command.args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d"]);
    command.arg(format!("@{}", ms / 1000));
    ended(command, PATIENCE).await.1.trim().to_owned()
}

#[test]
fn the_page_for_back_ends_names_the_key_of_the_marker() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/backends.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains(&marker::key("user:{userId}:online")));
}

#[tokio::test]
async fn each_example_tells_online_offline_and_unknown() {
    let mut memcached = Memcached::start().await;
    // In this test, no marker that was lost is whole again.
    let server = TestServer::on(&memcached, &["--ttl=60s"]).await;
    let mut alice = Client::connect(server.edge, "alice").await;
    let _bob = Client::connect(server.edge, "Böb:1").await;
    for user in ["alice", "Böb:1"] {
        until("both are written", PATIENCE, async || {
            memcached.ask(&format!("mg {} v", key(user))).await != "EN"
        })
        .await;
    }
    let (http, direct) = (
        format!("http://{}", server.edge),
        memcached.address().to_string(),
    );

    // More than fit into one pull.
    let strangers: Vec<_> = (0..1200).map(|number| format!("u{number}")).collect();
    let strangers = strangers.iter().map(String::as_str);
    let users: Vec<_> = strangers.chain(["alice", "nobody", "Böb:1"]).collect();
    let pulled = alice.pull(&["alice", "Böb:1"]).await;
    let mut expected: Vec<_> = users
        .iter()
        .map(|user| format!("{user}: offline"))
        .collect();
    for (place, user) in [(1200, "alice"), (1202, "Böb:1")] {
        let since = pulled["online"][user]["connectedAt"].as_u64().unwrap();
        expected[place] = format!("{user}: online since {}", date(since).await);
    }
    let since = expected[1200].clone();
    tells(Way::Http, &http, &users, &expected).await;
    tells(Way::Memcached, &direct, &users, &expected).await;

    // What others wrote.
    memcached.ask("set user:eve:online 0 0 2\r\n{}").await;
    let eve = ["eve: unknown".to_owned()];
    tells(Way::Http, &http, &["eve"], &eve).await;
    tells(Way::Memcached, &direct, &["eve"], &eve).await;

    // Whoever is not there may have been lost.
    memcached.restart().await;
    let nobody = ["nobody: unknown".to_owned()];
    tells(Way::Http, &http, &["nobody"], &nobody).await;
    tells(Way::Memcached, &direct, &["nobody"], &nobody).await;

    memcached.kill();
    let both = [since, "nobody: unknown".to_owned()];
    tells(Way::Http, &http, &["alice", "nobody"], &both).await;
    fails(Way::Memcached, &direct, None, &["alice"], "refused").await;
}

#[tokio::test]
async fn each_example_says_what_is_wrong() {
    let server = TestServer::start(&["--require-scope"]).await;
    let http = format!("http://{}", server.edge);
    // A token that the example has signed, or was given.
    let unknown = ["alice: unknown".to_owned()];
    let unanswered = TestServer::start(&["--memcached=127.0.0.1:1"]).await;
    let unanswered = format!("http://{}/", unanswered.edge);
    tells(Way::Http, &unanswered, &["alice"], &unknown).await;
    let given = run(
        Way::Http,
        [&http; LANGUAGES],
        Some(&scoped(READ_ALL_SCOPE)),
        &["alice"],
    )
    .await;
    for (name, status, output, errors) in given {
        assert_eq!(status, Some(0), "{name}: {errors}");
        assert!(output.starts_with("alice: "), "{name}: {output}");
    }

    let other = token("alice");
    let http_fails = async |token, user: &str, word: &str| {
        fails(Way::Http, &http, token, &["alice", user], word).await;
    };
    http_fails(Some(&other), "bob", "insufficient_scope").await;
    http_fails(Some("x"), "bob", "token_invalid").await;
    for user in ["", "a b", "a\r\nflush_all"] {
        http_fails(None, user, "not the ids of users").await;
        let anywhere = server.edge.to_string();
        let word = "not the id of a user";
        fails(Way::Memcached, &anywhere, None, &["alice", user], word).await;
    }
    let port = Port::free();
    let nowhere = format!("http://127.0.0.1:{}", port.number());
    fails(Way::Http, &nowhere, None, &["alice"], "refused").await;
}

/// When each request came.
type Served = JoinHandle<Vec<Instant>>;

/// A server that gives these answers, each to the one request of a connection, and then listens no
/// more; at last it says when they were asked for. It keeps silent in place of an empty one, until
/// the client hangs up.
async fn scripted(answers: &[&'static str]) -> (String, Served) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answers = answers.to_vec();
    let served = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            asked.push(Instant::now());
            let mut received = Vec::new();
            // A pull, whose body is an object, or a command.
            while match received.starts_with(b"POST ") {
                true => !received.ends_with(b"}"),
                false => !received.ends_with(b"\r\n"),
            } {
                let read = stream.read_buf(&mut received).await.unwrap();
                assert!(read > 0, "{}", received.escape_ascii());
            }
            if answer.is_empty() {
                // Hung up, or reset.
                let _ = stream.read_to_end(&mut received).await;
            }
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        asked
    });
    (address, served)
}

/// One such server for each example.
async fn scripted_each(answers: &[&'static str]) -> ([String; LANGUAGES], Vec<Served>) {
    let mut places = [const { String::new() }; LANGUAGES];
    let mut all_served = Vec::new();
    for place in &mut places {
        let (address, served) = scripted(answers).await;
        *place = address;
        all_served.push(served);
    }
    (places, all_served)
}

/// Returns when each has given all its answers: the pauses between the requests.
async fn all_given(served: Vec<Served>) -> Vec<Duration> {
    let mut pauses = Vec::new();
    for served in served {
        let asked = timeout(PATIENCE, served).await.unwrap().unwrap();
        pauses.extend(asked.windows(2).map(|pair| pair[1] - pair[0]));
    }
    pauses
}

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\n\
                    Content-Length: 0\r\n\r\n";
const TOO_MANY: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nConnection: close\r\n\
                        Content-Length: 0\r\n\r\n";
const TOLD: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 33\r\n\r\n\
                    {\"online\":{},\"unknown\":[\"alice\"]}";

const CUT: &str =
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 33\r\n\r\n{\"online\":{},";

#[tokio::test]
async fn each_example_asks_a_busy_server_once_more_after_the_pause() {
    for busy in [BUSY, TOO_MANY] {
        let (places, served) = scripted_each(&[busy, TOLD]).await;
        let urls = places.each_ref().map(|place| format!("http://{place}"));
        let ended = run(
            Way::Http,
            urls.each_ref().map(String::as_str),
            None,
            &["alice"],
        )
        .await;
        for (name, status, output, errors) in ended {
            assert_eq!(status, Some(0), "{name}: {errors}");
            assert_eq!(output, "alice: unknown\n", "{name}");
        }
        let pauses = all_given(served).await;
        // A timer may be a moment early.
        let min = Duration::from_millis(1900);
        let are_kept = pauses.len() == LANGUAGES && pauses.iter().all(|pause| *pause > min);
        assert!(are_kept, "{busy}: {pauses:?}");
    }
    // Not for ever.
    let (places, served) = scripted_each(&[BUSY, TOO_MANY]).await;
    let urls = places.each_ref().map(|place| format!("http://{place}"));
    let urls = urls.each_ref().map(String::as_str);
    each_fails(Way::Http, urls, None, &["alice"], "429").await;
    all_given(served).await;
}

#[tokio::test]
async fn each_example_gives_up_what_does_not_answer_or_not_as_it_should() {
    let failing = async |way, answer, word| {
        let (places, served) = scripted_each(&[answer]).await;
        let places = places.map(|place| match way {
            Way::Http => format!("http://{place}"),
            Way::Memcached => place,
        });
        let places = places.each_ref().map(String::as_str);
        each_fails(way, places, None, &["alice"], word).await;
        all_given(served).await;
    };
    tokio::join!(
        failing(Way::Http, "", "time"),
        failing(Way::Http, CUT, "by"),
        failing(Way::Memcached, "", "time"),
        failing(
            Way::Memcached,
            "SERVER_ERROR out of memory\r\n",
            "out of memory"
        ),
        failing(
            Way::Memcached,
            "VALUE user:alice:online 0 100\r\n{",
            "memcached"
        ),
    );
}
