//! What the log says of a node that is no memcached, or not now: its own words, and each kind of trouble.

use std::sync::{Arc, Mutex};

use presenced_testkit::memcached::Memcached;
use presenced_testkit::names::Names;
use presenced_testkit::process::Process;
use presenced_testkit::raw::get;
use presenced_testkit::server::metric;
use presenced_testkit::temp::TempFile;
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What a node says to a line, if anything; else it hangs up.
type Answer = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A node that says what it is told to.
struct Peer {
    node: String,
    answer: Arc<Mutex<Answer>>,
    _task: JoinSet<()>,
}

impl Peer {
    async fn start(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = listener.local_addr().unwrap().to_string();
        let answer = Arc::new(Mutex::new(Arc::new(answer) as Answer));
        let (known, mut task) = (answer.clone(), JoinSet::new());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, known.clone()));
            }
        });
        Peer {
            node,
            answer,
            _task: task,
        }
    }

    /// From now on it says this to everything; nothing, if that is empty.
    fn says(&self, text: &'static str) {
        let answer = move |_: &str| (!text.is_empty()).then(|| text.to_owned());
        *self.answer.lock().unwrap() = Arc::new(answer);
    }
}

async fn serve(stream: TcpStream, answer: Arc<Mutex<Answer>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let answer = answer.lock().unwrap().clone();
        let text = answer(line.trim_end())?;
        stream.write_all(text.as_bytes()).await.ok()?;
    }
}

#[tokio::test]
async fn each_kind_of_trouble_is_said_in_the_peer_s_own_words() {
    let peer = Peer::start(|_| Some("ERROR \x1b[2Jthe back end is away\r\n".into())).await;
    let process = Process::start(&[&format!("--memcached={}", peer.node)]).await;
    process
        .logs(
            r#"not a memcached that answers version: it says "ERROR \x1b[2Jthe back end is away""#,
        )
        .await;
    peer.says("ERROR Too many open connections\r\n");
    process.logs("memcached has no room for another").await;
    // The same kind as at first, which was said a moment ago.
    let protocol = format!(
        "memcached_errors_total{{node=\"{}\",error=\"protocol\"}}",
        peer.node
    );
    let errors = async || metric(&get(process.admin(), "/metrics").await, &protocol);
    let before = errors().await;
    peer.says("HTTP/1.1 400 Bad Request\r\n\r\n");
    until("it was seen", PATIENCE, async || {
        errors().await > before + 1
    })
    .await;
    peer.says("CLIENT_ERROR unauthenticated\r\n");
    process.logs("--memcached-auth-file").await;
    peer.says("");
    process.logs("memcached does not answer").await;
    process.signal(Signal::TERM);
    let (_, text) = process.ended().await;
    assert_eq!(text.matches("answers version").count(), 1, "{text}");
    assert_eq!(
        text.matches("memcached does not answer").count(),
        1,
        "{text}"
    );
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[tokio::test]
async fn what_a_proxy_answers_in_place_of_memcached_is_quoted() {
    let peer = Peer::start(|line| {
        Some(match line {
            "version" => "VERSION 1\r\n".into(),
            _ => "SERVER_ERROR no server for this pool\r\n".into(),
        })
    })
    .await;
    let process = Process::start(&[&format!("--memcached={}", peer.node)]).await;
    process
        .logs(r#"not an answer to the question: it says "SERVER_ERROR no server for this pool""#)
        .await;
}

#[tokio::test]
async fn a_password_that_a_peer_repeats_is_not_in_the_log() {
    const PASSWORD: &str = "hunter22";
    for way in [
        // Whole lines, an error with it, and the start of it.
        |line: &str| format!("{line}\r\n"),
        |line: &str| format!("CLIENT_ERROR not allowed: {line}\r\n"),
        |line: &str| format!("set auth 0 0 13\r\n{}", &line[..line.len() - 1]),
    ] {
        let peer = Peer::start(move |line| match line {
            "version" => Some("CLIENT_ERROR unauthenticated\r\n".into()),
            _ if line.starts_with("set") => Some(String::new()),
            _ => Some(way(line)),
        })
        .await;
        let file = TempFile::new(&format!("edge:{PASSWORD}\n"));
        let process = Process::start(&[
            &format!("--memcached={}", peer.node),
            &format!("--memcached-auth-file={}", file.path().display()),
            "--log-level=trace",
        ])
        .await;
        process.logs("refuses our user and password").await;
        process.signal(Signal::TERM);
        let (_, text) = process.ended().await;
        assert!(!text.contains(&PASSWORD[..7]), "{text}");
    }
}

#[tokio::test]
async fn a_name_that_can_not_be_resolved_is_logged_and_counted() {
    let memcached = Memcached::start().await;
    let Some(names) = Names::new("127.0.0.1 other.test\n") else {
        eprintln!("not tested: no file system of a process's own without `unshare`");
        return;
    };
    let name = format!("cache.test:{}", memcached.address().port());
    let flags = [
        &format!("--memcached=dns+{name}"),
        "--resolve-interval=100ms",
    ];
    let process = Process::start_with(&names, &flags).await;
    process
        .logs("a name of memcached nodes can't be resolved")
        .await;
    let failures = format!("memcached_name_failures_total{{name=\"{name}\"}}");
    let failures = async || metric(&get(process.admin(), "/metrics").await, &failures);
    until("each failure is counted", PATIENCE, async || {
        failures().await > 5
    })
    .await;
    names.set("127.0.0.1 cache.test\n");
    process.logs("the name can be resolved again").await;
    until("its node is used", PATIENCE, async || {
        get(process.admin(), "/readyz").await.status == 200
    })
    .await;
    // Once, unless name servers fail in several ways.
    assert!(process.logged("can't be resolved") <= 3);
    assert_eq!(process.logged("the name can be resolved again"), 1);
}
