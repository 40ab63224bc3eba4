//! The program over TLS, which nginx (OpenSSL) ends in front of a presenced in this process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use clap::Parser;
use presenced::cli::Flags;
use presenced::server::Server;
use serde_json::{Value, json};
use tokio::net::TcpStream;

const SECRET: &str = "an HS256 secret for tests, long enough";

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file of the tests of `presenced-tls`.
fn certificate(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tls/tests/certificates");
    folder.join(name).display().to_string()
}

async fn presenced() -> Server {
    let mut flags = Flags::parse_from([
        "presenced",
        "--listen=127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--store-listen=127.0.0.1:0",
        "--workers=1",
        "--ping-interval=1500ms",
        "--ping-timeout=1200ms",
        "--drain=0s",
        "--drain-delay=0s",
    ]);
    flags.tokens.issuer.jwt_secret = Some(SECRET.into());
    Server::start(flags.check().unwrap()).await.unwrap()
}

/// nginx in front of a server, with a folder of its own; both are gone when this is dropped.
struct Nginx {
    process: Child,
    folder: PathBuf,
    addr: SocketAddr,
}

impl Nginx {
    /// `protocol` is the only one that it speaks.
    async fn start(server: SocketAddr, protocol: &str) -> Nginx {
        // A port may be taken before nginx binds it.
        for _ in 0..20 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = port.local_addr().unwrap();
            drop(port);
            let name = format!("presenced-load-{}-{}", std::process::id(), addr.port());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("secret"), SECRET).unwrap();
            let config = folder.join("config");
            std::fs::write(&config, Nginx::config(&folder, addr, server, protocol)).unwrap();
            let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
            let process = Command::new("nginx")
                .env("PATH", path)
                .arg("-c")
                .arg(&config)
                .stderr(Stdio::null())
                .spawn();
            let process = process.unwrap_or_else(|error| {
                panic!("this test needs nginx: install the package of that name ({error})")
            });
            let mut nginx = Nginx {
                process,
                folder,
                addr,
            };
            let listens = tokio::time::timeout(PATIENCE, nginx.listens());
            if listens.await.expect("nginx starts or ends") {
                return nginx;
            }
        }
        panic!("nginx does not start");
    }

    fn config(folder: &Path, addr: SocketAddr, server: SocketAddr, protocol: &str) -> String {
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let folder = folder.display();
        let temporary = temporary.map(|what| format!("{what}_temp_path {folder}/{what};\n"));
        format!(
            "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error;\nevents {{}}\n\
             http {{\naccess_log off;\n{}server {{\nlisten {addr} ssl;\nssl_protocols {protocol};\n\
             ssl_certificate {};\nssl_certificate_key {};\n\
             location / {{\nproxy_pass http://{server};\nproxy_http_version 1.1;\n\
             proxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection upgrade;\n}}\n}}\n}}\n",
            temporary.concat(),
            certificate("chain.pem"),
            certificate("p256.key"),
        )
    }

    /// Returns once it listens; false if it has ended.
    async fn listens(&mut self) -> bool {
        loop {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(self.addr).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn secret(&self) -> String {
        let file = self.folder.join("secret");
        format!("--jwt-secret-file={}", file.display())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn load(addr: SocketAddr, flags: &[&str]) -> Output {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_presenced-load"))
        .arg(format!("--connect={addr}"))
        .args(flags)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    output.expect("the run ends").unwrap()
}

/// The report of thirty sessions over nginx.
async fn report(nginx: &Nginx, flags: &[&str]) -> Value {
    let ca = format!("--tls-ca={}", certificate("root.pem"));
    let all = [&nginx.secret(), &ca, "--json", "--sessions=30"];
    let output = load(nginx.addr, &[&all, flags].concat()).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(report: &Value, at: &str) -> u64 {
    let number = report.pointer(at).and_then(Value::as_u64);
    number.unwrap_or_else(|| panic!("no {at} in {report:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_run_over_tls() {
    let server = presenced().await;
    let nginx = Nginx::start(server.gateway_addr(), "TLSv1.3").await;
    let flags = [
        "--processes=2",
        "--settle=0s",
        "--duration=2s",
        "--pull-every=200ms",
        "--pull-users=10",
        "--churn=20",
        "--flood=2",
        "--client-ping=100ms",
        "--burst=50",
    ];
    let report = report(&nginx, &flags).await;
    assert_eq!(report["connected"], 30, "{report:#}");
    let expected = json!({"TLS13_AES_128_GCM_SHA256 X25519 full": 30});
    assert_eq!(report["tls"], expected, "{report:#}");
    assert_eq!(report["connect_errors"], json!({}), "{report:#}");
    assert_eq!(report["lost"], json!({}), "{report:#}");
    assert!(number(&report, "/pongs") >= 20, "{report:#}");
    assert!(number(&report, "/pulled_online") > 100, "{report:#}");
    let churned = number(&report, "/latency_us/churn_handshake/count");
    assert!(churned > 10, "{report:#}");
    assert!(number(&report, "/latency_us/client_ping/count") > 10);
    assert!(number(&report, "/flood/frames") > 2000, "{report:#}");
    assert_eq!(number(&report, "/burst/connected"), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_resumed_with_either_version() {
    let server = presenced().await;
    for (protocol, full, resumed) in [
        (
            "TLSv1.3",
            "TLS13_AES_128_GCM_SHA256 X25519 full",
            "TLS13_AES_128_GCM_SHA256 X25519 resumed",
        ),
        (
            "TLSv1.2",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 X25519 full",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 resumed",
        ),
    ] {
        let nginx = Nginx::start(server.gateway_addr(), protocol).await;
        let times = ["--settle=0s", "--duration=100ms", "--concurrency=4"];
        let resuming = report(&nginx, &[&times[..], &["--tls-resume"]].concat()).await;
        let expected = json!({full: 4, resumed: 26});
        assert_eq!(resuming["tls"], expected, "{resuming:#}");
        let anew = report(&nginx, &times).await;
        assert_eq!(anew["tls"], json!({full: 30}), "{anew:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_exchanged_as_asked_for() {
    let server = presenced().await;
    let nginx = Nginx::start(server.gateway_addr(), "TLSv1.3").await;
    // OpenSSL has ML-KEM from version 3.5 on.
    for (asked_for, may_be) in [
        ("x25519", &["X25519"][..]),
        ("secp256r1", &["secp256r1"]),
        ("x25519mlkem768", &["X25519", "X25519MLKEM768"]),
    ] {
        let asked_for = format!("--tls-key-exchange={asked_for}");
        let flags = [&asked_for, "--settle=0s", "--duration=100ms"];
        let report = report(&nginx, &flags).await;
        let is = |group| {
            let name = format!("TLS13_AES_128_GCM_SHA256 {group} full");
            report["tls"] == json!({ name: 30 })
        };
        assert!(may_be.iter().any(is), "{report:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_no_session_could_be_opened() {
    let server = presenced().await;
    let nginx = Nginx::start(server.gateway_addr(), "TLSv1.3").await;
    let (root, other) = (certificate("root.pem"), certificate("ed25519.pem"));
    for (addr, ca, more, part) in [
        (nginx.addr, &other, "--json", "UnknownIssuer"),
        (
            nginx.addr,
            &root,
            "--tls-name=other.example",
            "not valid for name",
        ),
        (server.gateway_addr(), &root, "--json", "TLS: "),
    ] {
        let ca = format!("--tls-ca={ca}");
        let output = load(addr, &[&nginx.secret(), &ca, "--sessions=3", more]).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[tokio::test]
async fn invalid_flags_exit_with_status_2() {
    let no_certificate = concat!("--tls-ca=", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let root = format!("--tls-ca={}", certificate("root.pem"));
    for (flags, names) in [
        (&["--tls-resume"][..], "--tls-ca"),
        (&["--tls-name=a.example"], "--tls-ca"),
        (&["--tls-key-exchange=x25519"], "--tls-ca"),
        (&["--tls-ca=/no/such/file"], "--tls-ca /no/such/file"),
        (&[no_certificate], "must be a certificate"),
        (&[&root, "--tls-name=a b"], "--tls-name a b"),
    ] {
        let output = load("127.0.0.1:1".parse().unwrap(), flags).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert!(text.contains(names), "{names} in {text}");
        assert_eq!(output.stdout, b"", "{flags:?}");
    }
}
