//! Settings that change while the server runs.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use presenced_jwt::{EncodingKey, Header, encode};
use presenced_testkit::client::Client;
use presenced_testkit::memcached::Memcached;
use presenced_testkit::process::{FREE_PORTS, Process, command};
use presenced_testkit::raw::{Raw, get, get_with, handshake, send, upgrade, upgrade_with};
use presenced_testkit::server::metric;
use presenced_testkit::temp::{TempFile, unique_path};
use presenced_testkit::tokens::{SECRET, claims, token};
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

const NEXT: &str = "another HS256 secret for tests, as long";

/// Time between two handshakes of a load.
const BETWEEN: Duration = Duration::from_millis(5);

const REFUSED: &str = "are refused; those from before stay in force";

/// A token of `user` that `secret` signs.
fn signed(user: &str, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::default(), &claims(user), &key).unwrap()
}

/// With flags, and no secret in the environment.
async fn start(flags: &[&str]) -> Process {
    let mut command = command(&[FREE_PORTS, flags].concat());
    // The environment comes before the file.
    command.env_remove("PRESENCED_MAX_PULL_USERS_PER_SECOND");
    Process::up(command).await
}

/// Replaces a file as a whole, as a careful writer does.
fn replace(file: &Path, content: &str) {
    let next = TempFile::new(content);
    next.set_mode(0o600);
    fs::copy(next.path(), file.with_extension("next")).unwrap();
    fs::rename(file.with_extension("next"), file).unwrap();
}

async fn connect(edge: SocketAddr, token: &str) -> Client {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let connected = Client::try_connect(edge, "/ws", &headers).await;
    connected.expect("the handshake succeeds").0
}

async fn status(edge: SocketAddr, token: &str) -> u16 {
    handshake(edge, &upgrade_with(token)).await.status
}

/// Waits until a handshake with `token` has this status.
async fn has_status(edge: SocketAddr, token: &str, wanted: u16) {
    until("the keys have changed", PATIENCE, async || {
        status(edge, token).await == wanted
    })
    .await;
}

async fn reloads(process: &Process, result: &str) -> u64 {
    let metrics = get(process.admin(), "/metrics").await;
    metric(&metrics, &format!("reloads_total{{result=\"{result}\"}}"))
}

async fn has_reloaded(process: &Process, result: &str, times: u64) {
    until("settings are read again", PATIENCE, async || {
        reloads(process, result).await == times
    })
    .await;
}

#[tokio::test]
async fn secrets_are_replaced_under_load_and_nobody_notices() {
    let memcached = Memcached::start().await;
    let (old, new) = (TempFile::new(SECRET), TempFile::new(NEXT));
    let file = |secrets: &[&TempFile]| {
        let paths = secrets.iter().map(|secret| secret.path());
        let paths: Vec<_> = paths.map(|path| path.display().to_string()).collect();
        format!("jwt-secret-file = {paths:?}\n")
    };
    let config = TempFile::new(&file(&[&old]));
    let process = start(&[
        &format!("--config={}", config.path().display()),
        &format!("--memcached={}", memcached.node()),
        "--max-handshakes-per-second-per-user=100000",
    ])
    .await;
    let edge = process.edge();
    let mut early = connect(edge, &signed("early", SECRET)).await;

    // Each is good all the time while its load runs.
    let load = |secret: &'static str| {
        let mut tasks = JoinSet::new();
        for number in 0..2 {
            tasks.spawn(async move {
                for turn in 0.. {
                    let token = signed(&format!("u{number}-{}", turn % 8), secret);
                    assert_eq!(status(edge, &token).await, 101, "turn {turn}");
                    // Other tests run beside this one.
                    sleep(BETWEEN).await;
                }
            });
        }
        tasks
    };
    let by_old = load(SECRET);
    assert_eq!(status(edge, &signed("late", NEXT)).await, 401);
    replace(config.path(), &file(&[&new, &old]));
    has_status(edge, &signed("late", NEXT), 101).await;
    let by_new = load(NEXT);
    assert_eq!(status(edge, &signed("early", SECRET)).await, 101);
    still_runs(by_old).await;
    replace(config.path(), &file(&[&new]));
    has_status(edge, &signed("early", SECRET), 401).await;
    still_runs(by_new).await;

    // The session goes on, but not with another token of the old secret.
    early.say(json!({"token": signed("early", SECRET)}).to_string());
    let refused = early.hear().await;
    assert_eq!(
        refused["token"]["error"]["code"], "token_invalid",
        "{refused}"
    );
    early.say(json!({"token": signed("early", NEXT)}).to_string());
    let renewed = early.hear().await;
    assert!(renewed["token"]["expiresIn"].is_u64(), "{renewed}");
    let online = early.pull(&["early"]).await;
    assert!(online["online"]["early"].is_object(), "{online}");
    assert_eq!(process.logged("taken up: --jwt-secret-file"), 2);
    assert_eq!(process.logged(SECRET) + process.logged(NEXT), 0);
    assert_eq!(reloads(&process, "ok").await, 2);
    assert_eq!(reloads(&process, "refused").await, 0);
}

/// Ends a load that must not have failed.
async fn still_runs(mut load: JoinSet<()>) {
    if let Some(Err(error)) = load.try_join_next() {
        panic!("a handshake was refused: {error}");
    }
    load.shutdown().await;
}

#[tokio::test]
async fn wrong_settings_change_nothing_and_are_told_of_once() {
    let secret = TempFile::new(SECRET);
    let name = secret.path().display();
    let good = format!("jwt-secret-file = \"{name}\"\nallow-origin = [\"https://a.example\"]\n");
    let config = TempFile::new(&good);
    let process = start(&[&format!("--config={}", config.path().display())]).await;
    let edge = process.edge();
    let allows = async |origin: &str| {
        let mut headers = upgrade_with(&token("alice"));
        headers.push(("origin", origin.into()));
        handshake(edge, &headers).await.status == 101
    };
    assert!(allows("https://a.example").await);

    // One thing is right, another wrong: neither is taken up.
    let wrong = good.replace("a.example", "b.example") + "jwt-leeway = \"1500ms\"\n";
    replace(config.path(), &wrong);
    process.logs(REFUSED).await;
    process
        .logs("jwt-leeway 1500ms: must be whole seconds")
        .await;
    assert!(allows("https://a.example").await && !allows("https://b.example").await);
    let stale = async || metric(&get(process.admin(), "/metrics").await, "settings_stale");
    assert_eq!(stale().await, 1);
    // The same content in another file.
    replace(config.path(), &wrong);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(process.logged(REFUSED), 1);
    // Whoever asks is told again.
    process.signal(Signal::HUP);
    has_reloaded(&process, "refused", 2).await;
    assert_eq!(process.logged(REFUSED), 2);

    // A file that is gone, one that is too short, one that others can write.
    replace(config.path(), &good);
    process.logs("nothing has changed").await;
    until("it is right again", PATIENCE, async || stale().await == 0).await;
    fs::remove_file(secret.path()).unwrap();
    process.logs("No such file").await;
    fs::write(secret.path(), "short").unwrap();
    process.logs("has less than 32 bytes").await;
    replace(secret.path(), NEXT);
    secret.set_mode(0o666);
    process.logs("chmod go-w").await;
    assert_eq!(status(edge, &token("alice")).await, 101);
    secret.set_mode(0o600);
    has_status(edge, &token("alice"), 401).await;
    assert_eq!(status(edge, &signed("alice", NEXT)).await, 101);
    process.logs("taken up: --jwt-secret-file").await;
    until("it is right again", PATIENCE, async || stale().await == 0).await;
}

/// A folder as Kubernetes mounts secrets: each file is a link into `..data`, a link to a folder, which is replaced.
struct Mount {
    folder: PathBuf,
    versions: u32,
}

impl Mount {
    fn new(content: &str) -> Mount {
        let folder = unique_path();
        fs::create_dir(&folder).unwrap();
        let mut mount = Mount {
            folder,
            versions: 0,
        };
        mount.swap(content);
        symlink("..data/secret", mount.file()).unwrap();
        mount
    }

    fn file(&self) -> PathBuf {
        self.folder.join("secret")
    }

    fn swap(&mut self, content: &str) {
        let version = format!("..version-{}", self.versions);
        self.versions += 1;
        fs::create_dir(self.folder.join(&version)).unwrap();
        fs::write(self.folder.join(&version).join("secret"), content).unwrap();
        symlink(&version, self.folder.join("..data_tmp")).unwrap();
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn a_secret_is_replaced_as_kubernetes_does_it() {
    let mut mount = Mount::new(SECRET);
    let process = start(&[&format!("--jwt-secret-file={}", mount.file().display())]).await;
    let edge = process.edge();
    assert_eq!(status(edge, &token("alice")).await, 101);
    for (secret, before) in [(NEXT, SECRET), (SECRET, NEXT)] {
        mount.swap(secret);
        has_status(edge, &signed("alice", before), 401).await;
        assert_eq!(status(edge, &signed("alice", secret)).await, 101);
    }
    process.logs("taken up: --jwt-secret-file").await;
}

#[tokio::test]
async fn a_reload_takes_up_what_it_can_and_names_the_rest() {
    let admin_token = TempFile::new("0123456789abcdef0123456789abcdef");
    let secret = TempFile::new(SECRET);
    let base = format!("jwt-secret-file = \"{}\"\n", secret.path().display());
    let config = TempFile::new(&base);
    let process = start(&[&format!("--config={}", config.path().display())]).await;
    let (edge, admin) = (process.edge(), process.admin());
    let by_query = format!("/ws?token={}", token("alice"));
    let by_query = async || send(edge, "GET", &by_query, &upgrade(), "").await.status;
    assert_eq!(by_query().await, 401);
    assert_eq!(get(edge, "/healthz").await.status, 404);
    let two = "/v1/presence?user=a&user=b";
    assert_eq!(get_with(edge, two, &token("bob")).await.status, 200);

    let more = base
        + &format!("admin-token-file = \"{}\"\n", admin_token.path().display())
        + "allow-origin = [\"https://a.example\"]\n\
           allow-query-token = true\n\
           jwt-audience = \"presence\"\n\
           log-level = \"info,presenced::gateway=debug\"\n\
           max-handshakes-per-second = 1\n\
           max-pull-users-per-second = 1\n\
           refuse-with = \"close\"\n\
           serve-health = true\n\
           ttl = \"90s\"\n\
           drain = \"3s\"\n";
    fs::write(config.path(), more).unwrap();
    process.signal(Signal::HUP);
    process.logs("these need a restart: --ttl, --drain").await;
    process
        .logs(
            "taken up: --admin-token-file, --serve-health, --jwt-audience, --allow-query-token, \
             --allow-origin, --refuse-with, --max-handshakes-per-second, --max-pull-users-per-second, --log-level",
        )
        .await;
    assert_eq!(get(edge, "/healthz").await.status, 200);
    let page = [("origin", "https://a.example".to_owned())];
    let answer = send(edge, "GET", "/healthz", &page, "").await;
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://a.example"), "{answer:?}");
    // A token without an audience, in the query: accepted with 101 to be closed with the reason.
    assert_eq!(status(edge, &token("alice")).await, 101);
    process.logs("code=\"token_invalid\"").await;
    let mut claims = claims("bob");
    claims["aud"] = "presence".into();
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let bob = encode(&Header::default(), &claims, &key).unwrap();
    assert_eq!(get_with(edge, two, &bob).await.status, 200);
    let many: String = (0..400).map(|number| format!("user={number}&")).collect();
    let many = format!("/v1/presence?{many}");
    assert_eq!(get_with(edge, &many, &bob).await.status, 429);
    let revoke = [("content-type", "application/json".to_owned())];
    let revoked = send(admin, "POST", "/v1/revocations", &revoke, "{}").await;
    assert_eq!(revoked.status, 401);
    // It is 10 s' worth, of which some are gone.
    until("the rate is reached", PATIENCE, async || {
        let told = handshake(edge, &upgrade_with(&bob)).await;
        told.status == 101
            && process.logged("handshake is refused by --max-handshakes-per-second") > 0
    })
    .await;

    // What was asked for before is still to be done.
    process.signal(Signal::HUP);
    until("it is said again", PATIENCE, async || {
        process.logged("these need a restart: --ttl, --drain") == 2
    })
    .await;
    process.signal(Signal::TERM);
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
}

#[tokio::test]
async fn a_server_in_dev_mode_stays_in_it_and_another_out_of_it() {
    let secret = TempFile::new(SECRET);
    let with = format!("jwt-secret-file = \"{}\"\n", secret.path().display());
    let config = TempFile::new("");
    let flag = format!("--config={}", config.path().display());
    let process = start(&[&flag]).await;
    let edge = process.edge();
    let dev = async |audience: &str| {
        let mut raw = Raw::connect(edge).await;
        let question = "GET /dev/token?user=alice HTTP/1.1\r\nHost: localhost\r\n\r\n";
        raw.send(question).await;
        let told = raw.response().await;
        let token = told.json()["token"].as_str().unwrap().to_owned();
        assert_eq!(status(edge, &token).await, 101, "{audience}");
        token
    };
    let before = dev("none").await;
    let more = with.clone() + "jwt-audience = \"presence\"\nrefuse-with = \"http\"\n";
    replace(config.path(), &more);
    process.logs("taken up: --refuse-with").await;
    process
        .logs("need a restart: --jwt-secret-file, --jwt-audience")
        .await;
    assert_eq!(status(edge, &token("alice")).await, 401);
    assert_eq!(status(edge, &before).await, 101);
    // Its page signs what is accepted.
    replace(config.path(), "jwt-audience = \"presence\"\n");
    process.logs("taken up: --jwt-audience").await;
    assert_eq!(status(edge, &before).await, 401);
    dev("presence").await;

    replace(config.path(), &with);
    let process = start(&[&flag]).await;
    replace(config.path(), "");
    process.logs("need a restart: --jwt-secret-file").await;
    assert_eq!(
        get(process.edge(), "/dev/token?user=alice").await.status,
        404
    );
    assert_eq!(status(process.edge(), &token("alice")).await, 101);
}

#[tokio::test]
async fn very_many_signals_are_as_few() {
    let secret = TempFile::new(SECRET);
    let file = format!("--jwt-secret-file={}", secret.path().display());
    let process = start(&[&file, "--drain-delay=3s"]).await;
    let mut client = Client::connect(process.edge(), "alice").await;
    for _ in 0..100 {
        process.signal(Signal::HUP);
        sleep(Duration::from_millis(10)).await;
    }
    process.logs("nothing has changed").await;
    let pulled = client.pull(&["alice"]).await;
    assert!(pulled["online"]["alice"].is_object(), "{pulled}");
    assert!(reloads(&process, "unchanged").await <= 5);
    // Without a file that settings come from, key files are read again at once.
    replace(secret.path(), NEXT);
    process.signal(Signal::HUP);
    has_status(process.edge(), &signed("alice", NEXT), 101).await;
    assert!(client.is_open());
    // And while it drains.
    process.signal(Signal::TERM);
    process.logs("not ready from now on").await;
    process.signal(Signal::HUP);
    until("it is read", PATIENCE, async || {
        process.logged("nothing has changed") >= 2
    })
    .await;
    assert_eq!(client.closed().await.code, Some(1012));
    let (status, text) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
}

#[tokio::test]
async fn what_can_be_read_only_once_is_not_read_again() {
    let pipe = unique_path();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let (at, writer) = (pipe.clone(), SECRET);
    let writing = tokio::task::spawn_blocking(move || fs::write(at, writer));
    let process = start(&[&format!("--jwt-secret-file={}", pipe.display())]).await;
    writing.await.unwrap().unwrap();
    process.signal(Signal::HUP);
    process.logs(REFUSED).await;
    process
        .logs(&format!(
            "--jwt-secret-file {}: is not a regular file",
            pipe.display()
        ))
        .await;
    assert_eq!(status(process.edge(), &token("alice")).await, 101);
    fs::remove_file(&pipe).unwrap();
}

#[tokio::test]
async fn issuers_in_tables_come_change_their_keys_and_go() {
    let of = |issuer: &str, secret: &str| {
        let mut claims = claims("alice");
        claims["iss"] = issuer.into();
        let key = EncodingKey::from_secret(secret.as_bytes());
        encode(&Header::default(), &claims, &key).unwrap()
    };
    let (first, second) = (TempFile::new(SECRET), TempFile::new(SECRET));
    let table = |issuer: &str, secret: &TempFile| {
        let path = secret.path().display();
        format!("[[issuer]]\njwt-issuer = '{issuer}'\njwt-secret-file = '{path}'\n")
    };
    let config = TempFile::new(&table("first", &first));
    let process = start(&[&format!("--config={}", config.path().display())]).await;
    let edge = process.edge();
    assert_eq!(status(edge, &of("first", SECRET)).await, 101);
    assert_eq!(status(edge, &of("second", SECRET)).await, 401);
    // Another one.
    replace(
        config.path(),
        &(table("first", &first) + &table("second", &second)),
    );
    has_status(edge, &of("second", SECRET), 101).await;
    assert_eq!(status(edge, &of("first", SECRET)).await, 101);
    // A file that only a table names.
    replace(second.path(), NEXT);
    has_status(edge, &of("second", NEXT), 101).await;
    assert_eq!(status(edge, &of("second", SECRET)).await, 401);
    assert_eq!(status(edge, &of("first", SECRET)).await, 101);
    // The first goes; the second stays what it is.
    replace(config.path(), &table("second", &second));
    has_status(edge, &of("first", SECRET), 401).await;
    assert_eq!(status(edge, &of("second", NEXT)).await, 101);
    process.logs("--jwt-issuer").await;
}
