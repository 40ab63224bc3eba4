//! memcached that is not open to anyone who comes: TLS and its own authentication; and nodes that come
//! and go.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use presenced_memcached::NodeSpec;
use presenced_memcached::network::Resolver;
use presenced_memcached::ring::{Member, Ring, RingKind};
use presenced_testkit::client::Client;
use presenced_testkit::crowd::{Crowd, Plan};
use presenced_testkit::memcached::{Memcached, key};
use presenced_testkit::process::Process;
use presenced_testkit::raw::get;
use presenced_testkit::server::{TestServer, metric};
use presenced_testkit::temp::TempFile;
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;
use serde_json::json;

const LONG: Duration = Duration::from_secs(60);

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/tls")
        .join(name)
}

/// With TLS on the port that is returned; the helper looks into it on another.
async fn with_tls() -> (Memcached, u16) {
    for _ in 0..20 {
        let port = fastrand::u16(15_000..30_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_err() {
            continue;
        }
        let options = format!(
            "ssl_chain_cert={},ssl_key={}",
            file("server.pem").display(),
            file("server.key").display()
        );
        let listen = format!("127.0.0.1:{port}");
        return (
            Memcached::start_with(&["-Z", "-o", &options, "-l", &listen]).await,
            port,
        );
    }
    unreachable!("no free port")
}

#[tokio::test]
async fn users_are_written_and_found_over_tls() {
    let (memcached, port) = with_tls().await;
    let ca = format!("--memcached-tls-ca={}", file("ca.pem").display());
    // By address and by name: the certificate is for both.
    for host in ["127.0.0.1", "localhost"] {
        let server = TestServer::start(&[&format!("--memcached={host}:{port}"), &ca]).await;
        until("ready", PATIENCE, async || server.is_ready().await).await;
        let mut client = Client::connect(server.edge, host).await;
        until("online", PATIENCE, async || memcached.is_online(host).await).await;
        memcached
            .put(&key("elsewhere"), r#"{"serverId":"x","connectedAt":7}"#)
            .await;
        memcached.make_whole().await;
        let answer = client.pull(&["elsewhere", "nobody"]).await;
        assert_eq!(answer["online"]["elsewhere"]["connectedAt"], 7, "{answer}");
        assert_eq!(answer.get("unknown"), None, "{answer}");
    }
}

#[tokio::test]
async fn a_node_whose_certificate_no_one_vouches_for_gets_nothing() {
    let (memcached, port) = with_tls().await;
    let node = format!("127.0.0.1:{port}");
    let flag = format!("--memcached={node}");
    let ca = format!("--memcached-tls-ca={}", file("other.pem").display());
    let server = TestServer::start(&[&flag, &ca]).await;
    let _client = Client::connect(server.edge, "1").await;
    let errors = format!("memcached_errors_total{{node=\"{node}\",error=\"connect\"}}");
    until("it is refused again and again", PATIENCE, async || {
        server.metric(&errors).await > 3
    })
    .await;
    assert!(!server.is_ready().await);
    assert_eq!(memcached.stat("curr_items").await, 0);
}

#[tokio::test]
async fn a_memcached_that_asks_is_told_who_we_are() {
    let users = TempFile::new("edge:s3cret\n");
    let memcached = Memcached::start_with(&["-Y", users.path().to_str().unwrap()]).await;
    let node = memcached.node();
    let start = async |file: &TempFile| {
        let auth = format!("--memcached-auth-file={}", file.path().display());
        TestServer::start(&[&format!("--memcached={node}"), &auth]).await
    };
    let server = start(&users).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let mut client = Client::connect(server.edge, "1").await;
    until("written", PATIENCE, async || {
        server.metric("flushed_total").await > 0
    })
    .await;
    let other = start(&users).await;
    until("ready", PATIENCE, async || other.is_ready().await).await;
    let mut asker = Client::connect(other.edge, "2").await;
    let answer = asker.pull(&["1"]).await;
    assert!(answer["online"]["1"].is_object(), "{answer}");
    client.pull(&["2"]).await;

    let wrong = start(&TempFile::new("edge:guess\n")).await;
    let errors = format!("memcached_errors_total{{node=\"{node}\",error=\"auth\"}}");
    until("it is refused", PATIENCE, async || {
        wrong.metric(&errors).await > 0
    })
    .await;
    assert!(!wrong.is_ready().await);
}

#[tokio::test]
async fn a_memcached_that_does_not_ask_is_not_told_the_password() {
    let memcached = Memcached::start().await;
    let users = TempFile::new("edge:s3cret\n");
    let process = Process::start(&[
        &format!("--memcached={}", memcached.node()),
        &format!("--memcached-auth-file={}", users.path().display()),
    ])
    .await;
    let mut client = Client::connect(process.edge(), "1").await;
    until("online", PATIENCE, async || memcached.is_online("1").await).await;
    memcached.make_whole().await;
    // A look-up has a connection of its own.
    let answer = client.pull(&["2"]).await;
    assert_eq!(answer, json!({"online": {}}));
    // The user, and the probe's own keys.
    assert_eq!(memcached.ask("get auth").await, "END");
    assert_eq!(memcached.stat("curr_items").await, 3);
    process.signal(Signal::TERM);
    let (_, text) = process.ended().await;
    assert_eq!(text.matches("asks for no password").count(), 1, "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

/// A memcached that asks for a password and a server that has it: both, and the files of each.
async fn with_password() -> (Memcached, Process, TempFile, TempFile) {
    let theirs = TempFile::new("edge:pass-1\n");
    let ours = TempFile::new("edge:pass-1\n");
    let memcached = Memcached::start_with(&["-Y", theirs.path().to_str().unwrap()]).await;
    let process = Process::start(&[
        &format!("--memcached={}", memcached.node()),
        &format!("--memcached-auth-file={}", ours.path().display()),
    ])
    .await;
    until("ready", PATIENCE, async || {
        get(process.admin(), "/readyz").await.status == 200
    })
    .await;
    (memcached, process, theirs, ours)
}

#[tokio::test]
async fn a_password_is_read_again_when_memcached_asks_again() {
    let (mut memcached, process, theirs, ours) = with_password().await;
    let ready = async |status| {
        until("ready or not", PATIENCE, async || {
            get(process.admin(), "/readyz").await.status == status
        })
        .await;
    };
    std::fs::write(theirs.path(), "edge:pass-2\n").unwrap();
    // Half-written: what it said before holds.
    std::fs::write(ours.path(), "edge").unwrap();
    memcached.restart().await;
    let node = memcached.node();
    let errors = format!("memcached_errors_total{{node=\"{node}\",error=\"auth\"}}");
    until("the old one is refused", PATIENCE, async || {
        metric(&get(process.admin(), "/metrics").await, &errors) > 0
    })
    .await;
    ready(503).await;
    // The writer's connection may be refused before the probe's, which is the one that logs it.
    process.logs("refuses our user and password").await;
    std::fs::write(ours.path(), "edge:pass-2\n").unwrap();
    ready(200).await;
    process.signal(Signal::TERM);
    let (_, text) = process.ended().await;
    // More than once only if a look was taken while the test wrote.
    let complaints = text.matches("can't be read again").count();
    assert!((1..=2).contains(&complaints), "{text}");
    // Not the first thing that went wrong, but another kind of trouble.
    let refused = text.matches("refuses our user and password").count();
    assert_eq!(refused, 1, "{text}");
    assert!(!text.contains("pass-"), "{text}");
}

#[tokio::test]
async fn a_memcached_that_asks_for_what_we_do_not_have_says_so_in_the_log() {
    let users = TempFile::new("edge:s3cret\n");
    let memcached = Memcached::start_with(&["-Y", users.path().to_str().unwrap()]).await;
    let node = memcached.node();
    let process = Process::start(&[&format!("--memcached={node}")]).await;
    let errors = format!("memcached_errors_total{{node=\"{node}\",error=\"auth\"}}");
    until("it is refused", PATIENCE, async || {
        metric(&get(process.admin(), "/metrics").await, &errors) > 0
    })
    .await;
    process.signal(Signal::TERM);
    let (_, text) = process.ended().await;
    assert!(text.contains("--memcached-auth-file"), "{text}");
}

#[tokio::test]
async fn a_pipe_in_place_of_the_password_is_not_waited_for() {
    let (mut memcached, process, _theirs, ours) = with_password().await;
    // Nobody will ever write to it: a thread that reads it would stay there.
    std::fs::remove_file(ours.path()).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(ours.path())
        .status();
    assert!(made.unwrap().success());
    memcached.restart().await;
    process.logs("is not a regular file").await;
    // What it said before holds.
    let is_ready = async || get(process.admin(), "/readyz").await.status == 200;
    until("ready", PATIENCE, is_ready).await;
    process.signal(Signal::TERM);
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
}

/// Each user is on the node where a ring of `nodes` has them.
async fn all_where_they_belong(users: &[String], nodes: &[&Memcached]) {
    let members = nodes.iter().zip(0..).map(|(node, number)| Member {
        name: node.node().parse::<NodeSpec>().unwrap().addr.ring_name(),
        weight: 1,
        node: number,
    });
    let ring = Ring::new(RingKind::Ketama, &members.collect::<Vec<_>>());
    for (number, node) in nodes.iter().enumerate() {
        let is_its = |user: &&String| usize::from(ring.node_of(key(user).as_bytes())) == number;
        let its: Vec<_> = users.iter().filter(is_its).cloned().collect();
        until("they are where they belong", LONG, async || {
            node.count_online_of_many(&its).await == its.len()
        })
        .await;
    }
}

#[tokio::test]
async fn each_address_of_a_name_is_a_node_and_they_come_and_go() {
    let nodes = [
        Memcached::start().await,
        Memcached::start().await,
        Memcached::start().await,
    ];
    let addresses = nodes
        .each_ref()
        .map(|node| node.node().parse::<SocketAddr>().unwrap());
    let found = Arc::new(Mutex::new(vec![addresses[0]]));
    let (answers, asked) = (found.clone(), Arc::<AtomicU64>::default());
    let count = asked.clone();
    let mut plan = Plan::on(500, &["dns+cache.test:11211".into()]);
    // What is written where keys have moved is not written for a pong's sake.
    plan.ping_interval = Duration::from_secs(3000);
    plan.ttl = Duration::from_secs(9000);
    plan.options.connect.network.resolver = Resolver::new(move |name, _| {
        assert_eq!(name, "cache.test");
        count.fetch_add(1, Ordering::Relaxed);
        let found = answers.lock().unwrap().clone();
        // The resolver fails now and then, which changes nothing.
        Box::pin(async move {
            match found.is_empty() || fastrand::u8(..4) == 0 {
                true => Err(std::io::ErrorKind::HostUnreachable.into()),
                false => Ok(found),
            }
        })
    });
    let crowd = Crowd::gather(plan).await;
    let [a, b, c] = nodes.each_ref();
    all_where_they_belong(&crowd.users, &[a]).await;
    *found.lock().unwrap() = vec![addresses[1], addresses[0]];
    all_where_they_belong(&crowd.users, &sorted([a, b])).await;
    *found.lock().unwrap() = vec![addresses[2]];
    all_where_they_belong(&crowd.users, &[c]).await;
    *found.lock().unwrap() = Vec::new();
    let changes = crowd.presence.cluster().topology().version();
    let before = asked.load(Ordering::Relaxed);
    until("the resolver was asked", PATIENCE, async || {
        asked.load(Ordering::Relaxed) > before + 2
    })
    .await;
    assert_eq!(crowd.presence.cluster().topology().version(), changes);
    assert_eq!(crowd.presence.users().len(), 500);
}

fn sorted<const N: usize>(mut nodes: [&Memcached; N]) -> [&Memcached; N] {
    nodes.sort_by_key(|node| node.node().parse::<SocketAddr>().unwrap());
    nodes
}

#[tokio::test]
async fn a_file_of_nodes_is_watched() {
    let nodes = [Memcached::start().await, Memcached::start().await];
    let [first, second] = nodes.each_ref().map(Memcached::node);
    let file = TempFile::new(&format!("# ours\n{first}\n"));
    let flag = format!("--memcached-file={}", file.path().display());
    let server = TestServer::start(&[&flag]).await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let users: Vec<_> = (0..20).map(|number| format!("u{number}")).collect();
    let mut clients = Vec::new();
    for user in &users {
        clients.push(Client::connect(server.edge, user).await);
    }
    all_where_they_belong(&users, &[&nodes[0]]).await;

    std::fs::write(file.path(), format!("{first}\n{second}\n")).unwrap();
    all_where_they_belong(&users, &nodes.each_ref()).await;
    // One that can't be used is as if nothing had been written.
    std::fs::write(file.path(), "nonsense\n").unwrap();
    std::fs::write(file.path(), format!("{second} # alone\n")).unwrap();
    all_where_they_belong(&users, &[&nodes[1]]).await;
    let up = format!("memcached_up{{node=\"{second}\"}}");
    until("it is up", PATIENCE, async || server.metric(&up).await == 1).await;
    assert!(clients.iter().all(Client::is_open));
}
