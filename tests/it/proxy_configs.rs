//! The configurations of `docs/proxies.md`, run by the programs that they are for: TLS before two servers, for
//! clients whose addresses the servers learn.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Output, Stdio};
use std::task::Poll;

use clap::Parser;
use futures_util::poll;
use presenced::cli::Flags;
use presenced_testkit::memcached::Memcached;
use presenced_testkit::port::Port;
use presenced_testkit::process::Process;
use presenced_testkit::proxies::program;
use presenced_testkit::temp::{TempFile, unique_path};
use presenced_testkit::tokens::{SECRET, token};
use presenced_testkit::{PATIENCE, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/proxies.md");

/// Where clients are; the proxy is at another address.
const CLIENT: &str = "127.0.0.5";

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A configuration of the page, and the flags that the page has for it.
fn from_page(language: &str) -> (String, Vec<String>) {
    let begin = format!("```{language}\n");
    let (_, rest) = PAGE.split_once(&begin).expect("it is there");
    let (config, rest) = rest.split_once("```\n").expect("it ends");
    let (_, flags) = rest.split_once("presenced: `").expect("it has flags");
    let (flags, _) = flags.split_once('`').expect("they end");
    let flags = flags.replace("10.0.0.0/8", "127.0.0.1");
    (
        config.to_owned(),
        flags.split(' ').map(str::to_owned).collect(),
    )
}

/// Replaces what must be there.
fn replace(text: &mut String, from: &str, to: &str) {
    assert!(text.contains(from), "the page has no {from:?}");
    *text = text.replace(from, to);
}

/// Certificates for `localhost`.
fn tls(name: &str) -> String {
    in_repository(&format!("tests/it/tls/{name}"))
        .display()
        .to_string()
}

/// A proxy that runs, until it is dropped.
struct Proxy {
    process: Child,
    port: Port,
    folder: PathBuf,
    _config: TempFile,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Not killed: Apache's processes end with it only if it can tell them.
        let id = Pid::from_raw(self.process.id() as i32).unwrap();
        let _ = kill_process(id, Signal::TERM);
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Proxy {
    /// `adapt` makes of a configuration one for this machine, in a folder of its own; `run` is how the program is
    /// started with it.
    async fn start(
        config: &str,
        adapt: impl Fn(&mut String, u16, &Path),
        run: impl Fn(&Path, &Path) -> Command,
    ) -> Proxy {
        for _ in 0..20 {
            let (port, folder) = (Port::free(), unique_path());
            fs::create_dir(&folder).unwrap();
            let mut config = config.to_owned();
            adapt(&mut config, port.number(), &folder);
            let config = TempFile::new(&config);
            let mut command = run(config.path(), &folder);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let program = command.get_program().display().to_string();
            let process = command
                .spawn()
                .unwrap_or_else(|error| panic!("these tests need {program}: make setup ({error})"));
            let mut proxy = Proxy {
                process,
                port,
                folder,
                _config: config,
            };
            if proxy.is_up().await {
                return proxy;
            }
        }
        panic!("the proxy does not start");
    }

    /// Returns when clients are served; false if the program has ended: its port was taken meanwhile.
    async fn is_up(&mut self) -> bool {
        let mut has_ended = false;
        until("the proxy leads to the servers", PATIENCE, async || {
            has_ended = self.process.try_wait().unwrap().is_some();
            has_ended || self.ask().status.success()
        })
        .await;
        !has_ended
    }

    fn ask(&self) -> Output {
        let python = in_repository("target/venv/bin/python");
        Command::new(&python)
            .arg(in_repository("tests/it/proxy_configs/client.py"))
            .args([&self.port.number().to_string(), &tls("ca.pem")])
            .args([&token("alice"), CLIENT])
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}; make setup", python.display()))
    }
}

/// Two servers behind the program of a configuration serve a client over a session and over HTTP, and know where
/// it is. One of them may stop without a client's noticing, if the program looks whether they are ready.
async fn serves_clients(
    language: &str,
    looks: bool,
    adapt: impl Fn(&mut String, u16, &Path),
    run: impl Fn(&Path, &Path) -> Command,
) {
    let memcached = Memcached::start().await;
    let node = format!("--memcached={}", memcached.node());
    let (mut config, flags) = from_page(language);
    let more = [
        node.as_str(),
        "--log-level=debug",
        "--log-format=json",
        "--drain-delay=3s",
        "--drain=100ms",
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).chain(more).collect();
    let servers = [Process::start(&flags).await, Process::start(&flags).await];
    for (address, server) in ["10.0.0.5:8080", "10.0.0.6:8080"].iter().zip(&servers) {
        config = config.replace(address, &server.edge().to_string());
    }
    let proxy = Proxy::start(&config, adapt, run).await;
    let answers: Value = serde_json::from_slice(&proxy.ask().stdout).unwrap();
    for way in ["session", "http"] {
        assert!(answers[way]["online"]["alice"].is_object(), "{answers}");
    }
    let [first, second] = servers;
    first.signal(Signal::TERM);
    let ended = first.ended();
    if looks {
        let mut ended = pin!(ended);
        let mut asked = 0;
        // Until the first has ended, and once more.
        let (_, log) = loop {
            let output = proxy.ask();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "after {asked} clients: {said}");
            asked += 1;
            if let Poll::Ready(ended) = poll!(&mut ended) {
                break ended;
            }
        };
        assert!(proxy.ask().status.success());
        knows_clients(&log);
    } else {
        knows_clients(&ended.await.1);
    }
    drop(proxy);
    second.signal(Signal::INT);
    knows_clients(&second.ended().await.1);
}

/// All sessions came from the client.
fn knows_clients(log: &str) {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ended = lines.filter(|line| line["fields"]["message"] == "session ended");
    for line in ended {
        assert_eq!(line["fields"]["address"], CLIENT, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx() {
    let adapt = |config: &mut String, port: u16, folder: &Path| {
        let folder = folder.display();
        replace(
            config,
            "listen 443 ssl",
            &format!("listen 127.0.0.1:{port} ssl"),
        );
        replace(config, "/etc/ssl/presence.pem", &tls("server.pem"));
        replace(config, "/etc/ssl/presence.key", &tls("server.key"));
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|what| format!("{what}_temp_path {folder}/{what};\n"));
        *config = format!(
            "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error;\n\
             events {{}}\nhttp {{\naccess_log off;\n{}{config}}}\n",
            temporary.concat()
        );
    };
    serves_clients("nginx", false, adapt, |config, _| {
        let mut command = Command::new(program("nginx"));
        command.arg("-c").arg(config).stderr(Stdio::null());
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy() {
    let adapt = |config: &mut String, port: u16, folder: &Path| {
        let both = folder.join("both.pem");
        let parts = ["server.pem", "server.key"].map(|name| fs::read(tls(name)).unwrap());
        fs::write(&both, parts.concat()).unwrap();
        replace(config, "bind :443", &format!("bind 127.0.0.1:{port}"));
        replace(config, "/etc/ssl/presence.pem", &both.display().to_string());
    };
    serves_clients("haproxy", true, adapt, |config, _| {
        let mut command = Command::new(program("haproxy"));
        command
            .args(["-db", "-f"])
            .arg(config)
            .stderr(Stdio::null());
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy() {
    let adapt = |config: &mut String, port: u16, _: &Path| {
        let (certificate, key) = (tls("server.pem"), tls("server.key"));
        let site = format!("https://localhost:{port} {{\n\ttls {certificate} {key}\n");
        replace(config, "presence.example {\n", &site);
        let global = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n";
        config.insert_str(0, global);
    };
    serves_clients("caddyfile", true, adapt, |config, folder| {
        let mut command = Command::new(program("caddy"));
        command
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(config);
        command.env("HOME", folder).env("XDG_DATA_HOME", folder);
        command.env("XDG_CONFIG_HOME", folder).stderr(Stdio::null());
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache() {
    let adapt = |config: &mut String, port: u16, folder: &Path| {
        let folder = folder.display();
        replace(config, "*:443", &format!("127.0.0.1:{port}"));
        replace(config, "presence.example", "localhost");
        replace(config, "/etc/ssl/presence.pem", &tls("server.pem"));
        replace(config, "/etc/ssl/presence.key", &tls("server.key"));
        let modules = ["mpm_event", "authz_core", "ssl", "proxy", "proxy_http"];
        let modules = modules.map(|name| {
            format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")
        });
        *config = format!(
            "ServerRoot {folder}\nServerName localhost\nPidFile {folder}/pid\nErrorLog {folder}/error\n\
             DefaultRuntimeDir {folder}\nListen 127.0.0.1:{port}\n{}{config}",
            modules.concat()
        );
    };
    serves_clients("apache", false, adapt, |config, _| {
        let mut command = Command::new(program("apache2"));
        command
            .args(["-DFOREGROUND", "-f"])
            .arg(config)
            .stderr(Stdio::null());
        command
    })
    .await;
}

#[test]
fn the_flags_for_kubernetes_are_flags() {
    let (_, rest) = PAGE.split_once("args:\n").unwrap();
    let (flags, _) = rest.split_once("env:").unwrap();
    let flags = flags
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "));
    let secret = TempFile::new(SECRET);
    let flags =
        flags.map(|flag| flag.replace("/secrets/jwt", &secret.path().display().to_string()));
    let flags: Vec<_> = ["presenced".to_owned()].into_iter().chain(flags).collect();
    assert!(flags.len() > 5, "{flags:?}");
    let parsed = Flags::try_parse_from(&flags).unwrap();
    parsed.check().unwrap();
}
