//! What is called memcached and is more, less, or something before it: twemproxy, HAProxy, and memcached
//! with flags that change how it treats its clients and its data.
//!
//! Each test has edges as an operator runs them, and asks one of them for users of another: no user with
//! a session may be called offline, whatever happens.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

use presenced_testkit::client::Client;
use presenced_testkit::memcached::Memcached;
use presenced_testkit::process::Process;
use presenced_testkit::proxies::ProxyProcess;
use presenced_testkit::raw::get;
use presenced_testkit::server::metric;
use presenced_testkit::temp::{TempFile, unique_path};
use presenced_testkit::{PATIENCE, throughout, until};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// As those of the tests' server: short, yet a client may be late on a busy machine.
const SHORT: &[&str] = &[
    "--workers=2",
    "--ttl=9s",
    "--ping-interval=2s",
    "--ping-timeout=1500ms",
    "--flush-interval=250ms",
    "--drain=200ms",
];

/// Of an edge with two workers: one for writing and one for look-ups each, and the two of the probe.
const CONNECTIONS: usize = 6;

/// The binary on one node.
struct Edge {
    process: Process,
    node: String,
}

impl Edge {
    async fn start(name: &str, node: &str, flags: &[&str]) -> Edge {
        let (id, at) = (format!("--server-id={name}"), format!("--memcached={node}"));
        // Users are asked for again and again; and a busy machine is no memcached that hangs.
        let ours = [
            id.as_str(),
            &at,
            "--max-messages-per-second=1000",
            "--memcached-timeout=4s",
        ];
        let process = Process::start(&[&ours, flags].concat()).await;
        Edge {
            process,
            node: node.into(),
        }
    }

    /// Two of them, which are up.
    async fn two(node: &str, flags: &[&str]) -> [Edge; 2] {
        let edges = [
            Edge::start("edge-1", node, flags).await,
            Edge::start("edge-2", node, flags).await,
        ];
        for edge in &edges {
            edge.is_up().await;
        }
        edges
    }

    async fn ready(&self) -> bool {
        get(self.process.admin(), "/readyz").await.status == 200
    }

    async fn metric(&self, name: &str) -> u64 {
        metric(&get(self.process.admin(), "/metrics").await, name)
    }

    /// Whether it is ready, and has all of its connections.
    async fn up(&self) -> bool {
        let up = format!("memcached_up{{node=\"{}\"}}", self.node);
        self.ready().await && self.metric(&up).await == 1
    }

    async fn is_up(&self) {
        until("ready, with all connections", PATIENCE, async || {
            self.up().await
        })
        .await;
    }

    /// Kinds of errors that it has counted.
    async fn errors(&self) -> Vec<String> {
        let kinds = ["connect", "auth", "io", "timeout", "protocol", "refused"];
        let mut counted = Vec::new();
        for kind in kinds {
            let node = &self.node;
            let name = format!("memcached_errors_total{{node=\"{node}\",error=\"{kind}\"}}");
            if self.metric(&name).await > 0 {
                counted.push(kind.to_string());
            }
        }
        counted
    }

    async fn client(&self, user: &str) -> Client {
        Client::connect(self.process.edge(), user).await
    }

    async fn clients(&self, users: &[String]) -> Vec<Client> {
        let mut clients = Vec::new();
        for user in users {
            clients.push(self.client(user).await);
        }
        clients
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{prefix}{number}"))
        .collect()
}

/// Users of `users` whom an answer has in its list of that name.
fn listed(answer: &Value, list: &str, users: &[String]) -> usize {
    let is_listed = |user: &&String| match &answer[list] {
        Value::Object(known) => known.contains_key(*user),
        Value::Array(known) => known.iter().any(|known| known == *user),
        _ => false,
    };
    users.iter().filter(is_listed).count()
}

async fn pull(asker: &mut Client, users: &[String]) -> Value {
    let users: Vec<_> = users.iter().map(String::as_str).collect();
    asker.pull(&users).await
}

async fn found(asker: &mut Client, users: &[String]) {
    until("all are online", PATIENCE, async || {
        listed(&pull(asker, users).await, "online", users) == users.len()
    })
    .await;
}

/// A user who never existed is offline, once the marker is whole.
async fn believed(memcached: &Memcached, asker: &mut Client) {
    until("a miss is believed", PATIENCE, async || {
        memcached.make_whole().await;
        let answer = asker.pull(&["nobody"]).await;
        answer["online"].as_object().unwrap().is_empty() && answer.get("unknown").is_none()
    })
    .await;
}

/// Asks for `users` again and again while something happens: each is online or unknown.
async fn never_offline<T>(
    asker: &mut Client,
    users: &[String],
    what_happens: impl Future<Output = T>,
) -> T {
    let is_over = Cell::new(false);
    let watching = async {
        while !is_over.get() {
            let answer = pull(asker, users).await;
            let told = listed(&answer, "online", users) + listed(&answer, "unknown", users);
            assert_eq!(told, users.len(), "called offline: {answer}");
            sleep(Duration::from_millis(2)).await;
        }
    };
    let happening = async {
        let result = what_happens.await;
        is_over.set(true);
        result
    };
    // To the end: an answer that nobody waited for would be taken for the next.
    tokio::join!(happening, watching).0
}

#[tokio::test]
async fn twemproxy_has_no_stats_and_all_else_works() {
    let memcached = Memcached::start().await;
    let proxy = ProxyProcess::twemproxy(&memcached).await;
    let edges = Edge::two(&proxy.node(), SHORT).await;
    let users = names("u", 20);
    let clients = edges[0].clients(&users).await;
    let mut asker = edges[1].client("asker").await;
    found(&mut asker, &users).await;
    assert_eq!(memcached.count_online(&users).await, users.len());
    believed(&memcached, &mut asker).await;
    let time = Duration::from_secs(3);
    throughout("all is well", time, async || {
        edges[0].up().await && edges[1].up().await
    })
    .await;
    for edge in &edges {
        assert_eq!(edge.errors().await, [""; 0]);
        assert_eq!(edge.process.logged("answers no stats"), 1);
        assert_eq!(edge.process.logged("WARN"), 1);
    }
    assert!(clients.iter().all(Client::is_open));
}

/// Restarts the memcached of `edges`, which makes none of `users` offline for `asker`, and waits until they are all
/// there again.
async fn restarted_empty(
    memcached: &mut Memcached,
    edges: &[Edge],
    asker: &mut Client,
    users: &[String],
) {
    never_offline(asker, users, async {
        memcached.kill();
        for edge in edges {
            until("not ready", PATIENCE, async || !edge.ready().await).await;
        }
        memcached.start_again().await;
        until("all are written again", PATIENCE, async || {
            memcached.count_online(users).await == users.len()
        })
        .await;
        for edge in edges {
            edge.is_up().await;
        }
    })
    .await;
    found(asker, users).await;
    believed(memcached, asker).await;
}

#[tokio::test]
async fn a_memcached_behind_twemproxy_is_restarted_empty() {
    let mut memcached = Memcached::start().await;
    let proxy = ProxyProcess::twemproxy(&memcached).await;
    let edges = Edge::two(&proxy.node(), SHORT).await;
    let users = names("u", 20);
    let _clients = edges[0].clients(&users).await;
    let mut asker = edges[1].client("asker").await;
    found(&mut asker, &users).await;
    believed(&memcached, &mut asker).await;
    restarted_empty(&mut memcached, &edges, &mut asker, &users).await;
}

/// Connections of other clients.
struct Others(Vec<TcpStream>);

impl Others {
    /// All that memcached still takes.
    async fn fill(memcached: &Memcached) -> Others {
        let mut others = Others(Vec::new());
        while others.take_one(memcached).await {}
        others
    }

    /// Whether there was room for one more.
    async fn take_one(&mut self, memcached: &Memcached) -> bool {
        let mut stream = TcpStream::connect(memcached.address()).await.unwrap();
        stream.write_all(b"version\r\n").await.unwrap();
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await.unwrap();
        let has_room = answer == *b"VERSION";
        if has_room {
            self.0.push(stream);
        }
        has_room
    }
}

#[tokio::test]
async fn a_memcached_with_no_room_for_the_last_connection() {
    let memcached = Memcached::start_with(&["-c", "100"]).await;
    // Before the others come.
    let reader = Edge::start("reader", &memcached.node(), SHORT).await;
    reader.is_up().await;
    let mut asker = reader.client("asker").await;
    believed(&memcached, &mut asker).await;
    let mut others = Others::fill(&memcached).await;
    let first = others.0.split_off(others.0.len() - (CONNECTIONS - 1));
    drop(first);

    // Whichever is the one that finds no room.
    let edge = Edge::start("edge-1", &memcached.node(), SHORT).await;
    edge.process
        .logs("memcached has no room for all of our connections")
        .await;
    let users = names("u", 20);
    let clients = edge.clients(&users).await;
    let told = async |asker: &mut Client| {
        let answer = pull(asker, &users).await;
        listed(&answer, "online", &users) + listed(&answer, "unknown", &users)
    };
    until("nobody is called offline", PATIENCE, async || {
        told(&mut asker).await == users.len()
    })
    .await;
    let time = Duration::from_secs(3);
    never_offline(&mut asker, &users, async {
        throughout("one is missing", time, async || !edge.up().await).await;
    })
    .await;
    assert!(reader.up().await, "what it has it keeps");
    assert_eq!(edge.process.logged("has no room for all"), 1);
    assert_eq!(edge.process.logged("answers no stats"), 0);
    assert!(edge.process.logged("WARN") <= 2);
    assert!(clients.iter().all(Client::is_open));

    drop(others);
    edge.is_up().await;
    found(&mut asker, &users).await;
    believed(&memcached, &mut asker).await;
    assert_eq!(edge.errors().await, ["connect"]);
    // It keeps what it has, but its look at the log of revocations takes a connection for a moment.
    let of_reader = reader.errors().await;
    assert!(
        of_reader.iter().all(|error| error == "connect"),
        "{of_reader:?}"
    );
}

/// What memcached keeps in memory that outlives it.
struct SharedMemory(PathBuf);

impl SharedMemory {
    fn new() -> SharedMemory {
        SharedMemory(PathBuf::from("/dev/shm").join(unique_path().file_name().unwrap()))
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_file(self.0.with_extension("meta"));
    }
}

#[tokio::test]
async fn a_warm_restart_makes_nobody_offline() {
    let memory = SharedMemory::new();
    let mut memcached = Memcached::start_with(&["-e", memory.0.to_str().unwrap()]).await;
    // What is kept outlives the restart, however long that takes.
    let edges = Edge::two(
        &memcached.node(),
        &["--workers=2", "--flush-interval=250ms"],
    )
    .await;
    let users = names("u", 20);
    let clients = edges[0].clients(&users).await;
    let mut asker = edges[1].client("asker").await;
    found(&mut asker, &users).await;
    believed(&memcached, &mut asker).await;
    let late = names("late", 1);
    let late_client = never_offline(&mut asker, &users, async {
        memcached.end_in_order().await;
        for edge in &edges {
            until("not ready", PATIENCE, async || !edge.ready().await).await;
        }
        let late = edges[0].client(&late[0]).await;
        memcached.start_again().await;
        for edge in &edges {
            edge.is_up().await;
        }
        late
    })
    .await;
    found(&mut asker, &users).await;
    found(&mut asker, &late).await;
    believed(&memcached, &mut asker).await;
    assert!(late_client.is_open() && clients.iter().all(Client::is_open));
    for edge in &edges {
        assert_eq!(edge.process.logged("has lost its data"), 0, "it had not");
    }
}

#[tokio::test]
async fn a_password_that_is_changed_on_both_sides() {
    let theirs = TempFile::new("edge:first\n");
    let ours = TempFile::new("edge:first\n");
    let mut memcached = Memcached::start_with(&["-Y", theirs.path().to_str().unwrap()]).await;
    let auth = format!("--memcached-auth-file={}", ours.path().display());
    let flags = [SHORT, &[&auth]].concat();
    let edges = Edge::two(&memcached.node(), &flags).await;
    let users = names("u", 20);
    let _clients = edges[0].clients(&users).await;
    let mut asker = edges[1].client("asker").await;
    found(&mut asker, &users).await;
    // Ours first: nobody asks for it yet.
    std::fs::write(ours.path(), "edge:second\n").unwrap();
    std::fs::write(theirs.path(), "edge:second\n").unwrap();
    never_offline(&mut asker, &users, async {
        memcached.kill();
        for edge in &edges {
            until("not ready", PATIENCE, async || !edge.ready().await).await;
        }
        memcached.start_again().await;
        for edge in &edges {
            edge.is_up().await;
        }
    })
    .await;
    found(&mut asker, &users).await;
    for edge in &edges {
        assert!(!edge.errors().await.contains(&"auth".into()));
        assert_eq!(edge.process.logged("memcached answers again"), 1);
    }
}

#[tokio::test]
async fn a_server_behind_haproxy_is_restarted_empty() {
    let mut memcached = Memcached::start().await;
    let proxy = ProxyProcess::haproxy(&memcached, None).await;
    let edges = Edge::two(&proxy.node(), SHORT).await;
    let users = names("u", 20);
    let clients = edges[0].clients(&users).await;
    let mut asker = edges[1].client("asker").await;
    found(&mut asker, &users).await;
    believed(&memcached, &mut asker).await;
    for edge in &edges {
        assert_eq!(edge.errors().await, [""; 0]);
        assert_eq!(edge.process.logged("WARN"), 0);
    }
    restarted_empty(&mut memcached, &edges, &mut asker, &users).await;
    assert!(clients.iter().all(Client::is_open));
    for edge in &edges {
        assert_eq!(edge.process.logged("memcached does not answer"), 1);
        assert_eq!(edge.process.logged("memcached answers again"), 1);
    }
}

#[tokio::test]
async fn haproxy_leads_to_a_backup_and_back() {
    let (mut first, backup) = (Memcached::start().await, Memcached::start().await);
    let proxy = ProxyProcess::haproxy(&first, Some(&backup)).await;
    let edges = Edge::two(&proxy.node(), SHORT).await;
    let users = names("u", 20);
    let clients = edges[0].clients(&users).await;
    let mut asker = edges[1].client("asker").await;
    found(&mut asker, &users).await;
    believed(&first, &mut asker).await;
    let all_on = async |memcached: &Memcached| {
        until(
            "all are written to the server that is there",
            PATIENCE,
            async || memcached.count_online(&users).await == users.len(),
        )
        .await;
        for edge in &edges {
            edge.is_up().await;
        }
    };
    never_offline(&mut asker, &users, async {
        first.kill();
        all_on(&backup).await;
    })
    .await;
    found(&mut asker, &users).await;
    believed(&backup, &mut asker).await;
    // Users who came while the first was away.
    let here = [users.clone(), names("late", 5)].concat();
    let late_clients = edges[0].clients(&here[users.len()..]).await;
    found(&mut asker, &here).await;
    never_offline(&mut asker, &here, async {
        first.start_again().await;
        all_on(&first).await;
    })
    .await;
    found(&mut asker, &here).await;
    believed(&first, &mut asker).await;
    assert!(clients.iter().chain(&late_clients).all(Client::is_open));
}

#[tokio::test]
async fn a_server_that_haproxy_did_not_use_for_a_while_still_has_what_is_old() {
    let (first, backup) = (Memcached::start().await, Memcached::start().await);
    let proxy = ProxyProcess::haproxy(&first, Some(&backup)).await;
    // No heartbeat is written while the test runs, and the first server keeps its marker.
    let flags = [
        "--workers=2",
        "--ttl=900s",
        "--ping-interval=300s",
        "--ping-timeout=200s",
    ];
    let edges = Edge::two(&proxy.node(), &flags).await;
    let users = names("u", 20);
    let clients = edges[0].clients(&users).await;
    let mut asker = edges[1].client("asker").await;
    found(&mut asker, &users).await;
    believed(&first, &mut asker).await;
    let all_on = async |memcached: &Memcached, users: &[String]| {
        until(
            "all are written to the server that is used",
            PATIENCE,
            async || memcached.count_online(users).await == users.len(),
        )
        .await;
        for edge in &edges {
            edge.is_up().await;
        }
    };
    never_offline(&mut asker, &users, async {
        proxy.use_first(false).await;
        all_on(&backup, &users).await;
    })
    .await;
    found(&mut asker, &users).await;
    // Users of whom the first server was not told.
    let here = [users.clone(), names("late", 5)].concat();
    let late_clients = edges[0].clients(&here[users.len()..]).await;
    found(&mut asker, &here).await;
    never_offline(&mut asker, &here, async {
        proxy.use_first(true).await;
        all_on(&first, &here).await;
    })
    .await;
    found(&mut asker, &here).await;
    believed(&first, &mut asker).await;
    assert!(clients.iter().chain(&late_clients).all(Client::is_open));
}

#[tokio::test]
async fn connections_that_memcached_ends_while_they_are_idle_are_no_failure() {
    // Longer than a connection must have held.
    let memcached = Memcached::start_with(&["-o", "idle_timeout=6"]).await;
    // Nothing is written but for users who connect: a flush is longer away than a test waits.
    let flags = [
        "--workers=2",
        "--ttl=900s",
        "--ping-interval=300s",
        "--ping-timeout=200s",
        "--flush-interval=60s",
    ];
    let edges = Edge::two(&memcached.node(), &flags).await;
    let (users, askers) = (names("u", 8), names("asker", 8));
    let _clients = edges[0].clients(&users).await;
    let mut askers = edges[1].clients(&askers).await;
    for asker in &mut askers {
        found(asker, &users).await;
    }
    // Both edges' connections for writing and for look-ups.
    until("idle ones are ended", 2 * PATIENCE, async || {
        let up = edges[0].up().await && edges[1].up().await;
        assert!(up, "ready all the time");
        memcached.stat("idle_kicks").await >= 8
    })
    .await;
    let new = names("new", 8);
    let _new_clients = edges[0].clients(&new).await;
    for asker in &mut askers {
        found(asker, &[users.clone(), new.clone()].concat()).await;
    }
    believed(&memcached, &mut askers[0]).await;
    for edge in &edges {
        assert_eq!(edge.errors().await, [""; 0]);
        assert_eq!(edge.process.logged("WARN"), 0);
        assert!(edge.up().await);
    }
}
