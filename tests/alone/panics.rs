//! A panic in any of the server's tasks costs at most a session or a connection: it is counted, and the task
//! goes on. The tasks are made to panic where they are caught, in this whole process: so no other test may
//! run meanwhile.

use std::net::SocketAddr;
use std::path::Path;

use presenced::cli::sources::{Asked, Refused};
use presenced::reload::{Begun, Reloader};
use presenced::server::Server;
use presenced::signals::Signals;
use presenced_tasks::{Task, fail, panics};
use presenced_testkit::memcached::{Memcached, key};
use presenced_testkit::process::FREE_PORTS;
use presenced_testkit::raw::{
    CLOSE, PING, PONG, Raw, Response, TEXT, frame, request, upgrade_with,
};
use presenced_testkit::server::{TestServer, metric};
use presenced_testkit::tokens::{SECRET, token};
use presenced_testkit::{PATIENCE, alone, until};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};

/// How often each task panics.
const TIMES: u64 = 3;

/// A session, unless it is refused or its connection ends.
async fn visit(edge: SocketAddr, user: &str) -> Option<Raw> {
    let mut raw = Raw::try_connect(edge).await?;
    let hello = request("GET", "/ws", &upgrade_with(&token(user)), "");
    raw.try_send(hello).await.then_some(())?;
    let response = raw.try_response().await?;
    (response.status == 101).then_some(raw)
}

/// The answer to a pull, unless the session ends. Pings are answered meanwhile.
async fn pull(raw: &mut Raw, user: &str) -> Option<Value> {
    let question = json!({"pull": 1, "users": [user]}).to_string();
    raw.try_send(frame(TEXT, question.as_bytes()))
        .await
        .then_some(())?;
    loop {
        let said = raw.any_frame().await?;
        match said.first {
            TEXT => return serde_json::from_slice(&said.payload).ok(),
            PING => raw
                .try_send(frame(PONG, &said.payload))
                .await
                .then_some(())?,
            CLOSE => return None,
            _ => {}
        }
    }
}

/// An answer of the admin listener, unless the connection ends without.
async fn look(admin: SocketAddr, path: &str) -> Option<Response> {
    let mut raw = Raw::try_connect(admin).await?;
    raw.try_send(request("GET", path, &[], ""))
        .await
        .then_some(())?;
    raw.try_response().await
}

/// Gives every task something to do, whatever comes of it.
async fn use_all(server: &TestServer, user: &str) {
    if let Some(mut raw) = visit(server.edge, user).await {
        pull(&mut raw, "nobody").await;
    }
    look(server.admin, "/metrics").await;
}

/// Whether a newcomer is let in, answered and seen, and operators are told so.
async fn is_well(server: &TestServer, user: &str) -> bool {
    let Some(mut raw) = visit(server.edge, user).await else {
        return false;
    };
    let answer = pull(&mut raw, user).await;
    let is_seen = answer.is_some_and(|answer| answer["online"][user].is_object());
    let ready = look(server.admin, "/readyz").await;
    is_seen && ready.is_some_and(|ready| ready.status == 200)
}

async fn counted(server: &TestServer, task: Task) -> u64 {
    let metrics = look(server.admin, "/metrics").await.expect("metrics");
    let name = format!("panics_total{{task=\"{}\"}}", task.label());
    metric(&metrics, &name)
}

#[tokio::test]
async fn every_task_goes_on_after_it_has_panicked() {
    let _alone = alone();
    let memcached = Memcached::start().await;
    let flags = ["--workers=1", "--resolve-interval=100ms"];
    let server = TestServer::on(&memcached, &flags).await;
    // The store and the reload have tests of their own, and so have the tasks that fetch keys (tokens::jwks::tests) and
    // look at certificates (server::certificates): they rest for minutes.
    let others = [Task::Store, Task::Keys, Task::Settings, Task::Certificates];
    for task in Task::ALL.into_iter().filter(|task| !others.contains(task)) {
        let (what, before) = (task.label(), panics(task));
        let mut users = (0..).map(|number| format!("{what}-{number}"));
        let mut next = || users.next().unwrap();
        fail::arm(task, TIMES);
        until(what, PATIENCE, async || {
            if task == Task::Refill {
                // A refill has something to do when a node has lost its data.
                memcached.ask("flush_all").await;
            }
            use_all(&server, &next()).await;
            fail::left(task) == 0
        })
        .await;
        // It panics on another thread, which may not have counted it yet.
        until(&format!("{what}: counted"), PATIENCE, async || {
            panics(task) >= before + TIMES
        })
        .await;
        assert_eq!(panics(task), before + TIMES, "{what}");

        until(&format!("{what}: all is well"), PATIENCE, async || {
            is_well(&server, &next()).await
        })
        .await;
        assert_eq!(counted(&server, task).await, before + TIMES, "{what}");
        // Heartbeats are still written.
        let user = next();
        let mut raw = visit(server.edge, &user).await.expect("a session");
        until(&format!("{what}: written"), PATIENCE, async || {
            memcached.is_online(&user).await
        })
        .await;
        memcached.ask(&format!("delete {}", key(&user))).await;
        until(&format!("{what}: written again"), PATIENCE, async || {
            assert!(pull(&mut raw, &user).await.is_some(), "{what}");
            memcached.is_online(&user).await
        })
        .await;
    }
    server.drain().await;
}

/// What the server of the next test is started with, and reads again.
fn settings() -> Result<Asked, Refused> {
    let args = [&["presenced", "--workers=1"], FREE_PORTS].concat();
    let args = args.into_iter().map(Into::into);
    let secret = ("PRESENCED_JWT_SECRET".into(), SECRET.into());
    Asked::read(args, [secret], |_: &Path| Err("there is none".into()))
}

#[tokio::test]
async fn the_reload_goes_on_after_it_has_panicked() {
    let _alone = alone();
    let hangups = Signals::catch().unwrap().take_hangups().unwrap();
    let (begun, checked) = Begun::check(settings().unwrap().settings);
    let server = Server::start(checked.config.unwrap()).await.unwrap();
    let reloader = Reloader::new(begun, server.switch(), settings);
    let reloading = tokio::spawn(reloader.run(hangups));
    let before = panics(Task::Settings);
    fail::arm(Task::Settings, TIMES);
    kill_process(getpid(), Signal::HUP).unwrap();
    until("it is done all the same", PATIENCE, async || {
        let metrics = look(server.admin_addr(), "/metrics")
            .await
            .expect("metrics");
        metric(&metrics, "reloads_total{result=\"unchanged\"}") == 1
    })
    .await;
    assert_eq!(panics(Task::Settings), before + TIMES);
    reloading.abort();
}

#[tokio::test]
async fn the_store_goes_on_after_it_has_panicked() {
    let _alone = alone();
    let server = TestServer::start(&["--workers=1"]).await;
    let before = panics(Task::Store);
    fail::arm(Task::Store, TIMES);
    until("panicked", PATIENCE, async || {
        use_all(&server, "me").await;
        fail::left(Task::Store) == 0
    })
    .await;
    assert_eq!(panics(Task::Store), before + TIMES);
    until("all is well", PATIENCE, async || {
        is_well(&server, "you").await
    })
    .await;
    // It lets in and answers.
    let mut raw = Raw::connect(server.store()).await;
    raw.send("get user:you:online\r\nquit\r\n").await;
    let answer = String::from_utf8(raw.rest().await).unwrap();
    assert!(answer.ends_with("END\r\n"), "{answer}");
    server.drain().await;
}
