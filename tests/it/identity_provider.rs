//! Keys of an identity provider: fetched over TLS from servers that are not ours, good and bad, and from
//! a real provider.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fastrand::Rng;
use presenced::limits::KEYS_ASK_PAUSE;
use presenced::tokens::KeySource;
use presenced::tokens::jwks::fetch::{self, FetchError};
use presenced::tokens::jwks::{Config, Issuer, Location, Network, Source, Url};
use presenced::tokens::key::read_key_set;
use presenced_jwt::{EncodingKey, Header, encode};
use presenced_net::tls::Tls;
use presenced_testkit::frame::frame;
use presenced_testkit::process::{FREE_PORTS, Process, command};
use presenced_testkit::raw::{Raw, TEXT, get, get_with, handshake, request, upgrade, upgrade_with};
use presenced_testkit::server::TestServer;
use presenced_testkit::temp::TempFile;
use presenced_testkit::tokens::{claims, sign};
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/tls")
        .join(name)
}

/// A network that trusts the authority in a file.
fn trusting(authority: &str) -> Network {
    let pem = std::fs::read(file(authority)).unwrap();
    Network {
        tls: Some(Tls::new(&pem).unwrap()),
        ..Network::default()
    }
}

/// A server that answers every request with the same bytes, whatever they are.
struct HttpsServer {
    port: u16,
    serving: JoinHandle<()>,
}

impl HttpsServer {
    async fn start(certificate: &str, answer: Vec<u8>) -> HttpsServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = acceptor(certificate);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    let _ = stream.read(&mut [0; 4096]).await?;
                    stream.write_all(&answer).await?;
                    stream.shutdown().await
                });
            }
        });
        HttpsServer { port, serving }
    }

    /// What a network that trusts `authority` gets of it, by this name.
    async fn get(&self, host: &str, authority: &str) -> Result<Vec<u8>, FetchError> {
        let url = Url::new(&format!("https://{host}:{}/keys", self.port)).unwrap();
        let fetched = fetch::get(&trusting(authority), &url).await;
        fetched.map(|fetched| fetched.body.into())
    }
}

impl Drop for HttpsServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn acceptor(certificate: &str) -> TlsAcceptor {
    let provider = Arc::new(rustls_graviola::default_provider());
    let certificates = CertificateDer::pem_file_iter(file(certificate)).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            certificates.map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_file(file("server.key")).unwrap(),
        );
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

fn answer(status_and_headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status_and_headers}\r\ncontent-length: {length}\r\n\r\n{body}").into()
}

#[tokio::test]
async fn a_server_must_prove_who_it_is() {
    let body = r#"{"keys":[]}"#;
    let good = HttpsServer::start("server.pem", answer("200 OK", body)).await;
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(good.get(host, "ca.pem").await.unwrap(), body.as_bytes());
    }
    for (certificate, authority, words) in [
        (
            "server.pem",
            "other.pem",
            "its certificate is signed by no authority that is trusted",
        ),
        ("expired.pem", "ca.pem", "its certificate has expired"),
        (
            "other-name.pem",
            "ca.pem",
            "its certificate is for another name",
        ),
    ] {
        let server = HttpsServer::start(certificate, answer("200 OK", body)).await;
        let error = server.get("localhost", authority).await.unwrap_err();
        let url = format!("https://localhost:{}/keys", server.port);
        assert_eq!(error.to_string(), format!("{url}: no TLS with it: {words}"));
        assert_eq!(error.fault.label(), "tls");
    }
}

#[tokio::test]
async fn what_is_no_answer_over_tls_is_said_in_plain_words() {
    let huge = format!("{{\"keys\":\"{}\"}}", "a".repeat(2 << 20));
    for (bytes, words) in [
        (
            answer("200 OK", &huge),
            "its answer has more than 1048576 bytes",
        ),
        (
            answer("301 Moved\r\nlocation: http://169.254.169.254/", ""),
            "answers 301 Moved Permanently, a redirect, which is not followed (it leads to \
             http://169.254.169.254/)",
        ),
        (answer("403 No", "{}"), "answers 403 Forbidden"),
    ] {
        let server = HttpsServer::start("server.pem", bytes).await;
        let error = server.get("localhost", "ca.pem").await.unwrap_err();
        assert!(
            error.to_string().ends_with(&format!("/keys: {words}")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn whoever_is_not_there_or_speaks_no_tls_is_said_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = Url::new(&format!("https://localhost:{port}/keys")).unwrap();
    let network = trusting("ca.pem");
    let plain = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(&answer("400 Bad Request", "")).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let error = fetch::get(&network, &url).await.unwrap_err().to_string();
    assert!(
        error.ends_with(": no TLS with it: it does not speak TLS"),
        "{error}"
    );
    plain.await.unwrap();
    let error = fetch::get(&network, &url).await.unwrap_err();
    assert_eq!(error.fault.label(), "connect");
    assert!(error.to_string().contains(": cannot connect: "), "{error}");
    let nowhere = Url::new("https://no-such-host.invalid/keys").unwrap();
    let error = fetch::get(&network, &nowhere).await.unwrap_err();
    assert_eq!(error.fault.label(), "name");
    assert!(
        error.to_string().contains("its name can't be resolved: "),
        "{error}"
    );
    let error = fetch::get(&Network::default(), &url).await.unwrap_err();
    assert_eq!(
        error.fault.label(),
        "connect",
        "before there is any need of TLS"
    );
}

const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];

/// The npm package oidc-provider in a process of its own; killed when dropped.
struct IdentityProvider {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    issuer: String,
}

impl IdentityProvider {
    fn start(is_secret: bool) -> IdentityProvider {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/identity_provider/provider.mjs");
        let mut command = Command::new("node");
        command.arg(script);
        if is_secret {
            command.arg(file("server.pem")).arg(file("server.key"));
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("Node.js (make setup)");
        let mut provider = IdentityProvider {
            commands: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
            issuer: String::new(),
        };
        provider.issuer = provider.answer();
        provider
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "it has ended: npm ci in client?");
        line.trim().to_owned()
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        self.answer()
    }

    /// The `kid` of a token that it issues now.
    fn key_of_token(&mut self, algorithm: &str) -> String {
        let token = self.ask(&format!("token {algorithm}"));
        let head = token.split('.').next().unwrap();
        let head = BASE64_URL_SAFE_NO_PAD.decode(head).unwrap();
        let head: Value = serde_json::from_slice(&head).unwrap();
        assert_eq!(
            (&head["alg"], &head["typ"]),
            (&json!(algorithm), &json!("at+jwt"))
        );
        head["kid"].as_str().unwrap().to_owned()
    }
}

impl Drop for IdentityProvider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The names of the keys.
fn key_ids(bytes: &[u8]) -> Result<Vec<String>, String> {
    let set: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let keys = set["keys"].as_array().ok_or("has no keys")?;
    let ids = keys.iter().filter_map(|key| key["kid"].as_str());
    Ok(ids.map(str::to_owned).collect())
}

/// With its task, and keys.
async fn fetched(
    location: Location,
    network: Network,
) -> (Arc<Source<Vec<String>>>, JoinHandle<()>) {
    let (source, task) = followed(location, network);
    until("keys", PATIENCE, async || source.is_ready()).await;
    (source, task)
}

fn followed(location: Location, network: Network) -> (Arc<Source<Vec<String>>>, JoinHandle<()>) {
    let config = Config {
        issuer: "https://id.example".into(),
        location,
        network,
        ask_pause: KEYS_ASK_PAUSE,
    };
    let source = Arc::new(Source::new(config, key_ids));
    let task = source.clone();
    let task = tokio::spawn(async move { task.follow(Rng::new()).await });
    (source, task)
}

#[tokio::test]
async fn keys_of_a_real_provider_are_discovered_over_http_and_over_tls() {
    for is_secret in [false, true] {
        let mut provider = IdentityProvider::start(is_secret);
        let issuer = Issuer::new(&provider.issuer).unwrap();
        let (source, task) = fetched(Location::Issuer(issuer), trusting("ca.pem")).await;
        let keys = source.keys().unwrap();
        for algorithm in ALGORITHMS {
            assert!(
                keys.contains(&provider.key_of_token(algorithm)),
                "{algorithm}"
            );
        }
        assert!(source.age().unwrap() < PATIENCE);
        task.abort();
        // The same provider under a name that it does not have.
        let other = provider.issuer.replace("localhost", "127.0.0.1");
        let other = Location::Issuer(Issuer::new(&other).unwrap());
        let (source, task) = followed(other, trusting("ca.pem"));
        until("refused", PATIENCE, async || {
            let mut fetches = source.fetches();
            fetches.any(|(outcome, count)| outcome == "content" && count > 0)
        })
        .await;
        assert!(!source.is_ready());
        task.abort();
    }
}

#[tokio::test]
async fn tokens_of_a_real_provider_open_sessions_and_pull() {
    let mut provider = IdentityProvider::start(true);
    let server = TestServer::start_without_secret(
        &[
            &format!("--jwt-issuer={}", provider.issuer),
            &format!("--jwt-jwks-ca={}", file("ca.pem").display()),
            "--jwt-audience=urn:presence",
            "--require-scope",
        ],
        |_| (),
    )
    .await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    for algorithm in ALGORITHMS {
        let token = provider.ask(&format!("token {algorithm}"));
        let mut raw = Raw::connect(server.edge).await;
        raw.send(request("GET", "/ws", &upgrade_with(&token), ""))
            .await;
        assert_eq!(raw.response().await.status, 101, "{algorithm}");
        let path = format!("/v1/presence?user=alice-{algorithm}");
        until("online", PATIENCE, async || {
            let answer = get_with(server.edge, &path, &token).await.json();
            answer["online"][format!("alice-{algorithm}")].is_object()
        })
        .await;
    }
    let refused = handshake(server.edge, &upgrade_with(&sign(&claims("alice")))).await;
    assert_eq!(
        (refused.status, refused.error_code().as_str()),
        (401, "token_invalid")
    );
    let metrics = get(server.admin, "/metrics").await.body;
    let issuer = &provider.issuer;
    for line in [
        format!("presenced_jwks_age_seconds{{issuer=\"{issuer}\"}} "),
        format!("presenced_jwks_fetches_total{{issuer=\"{issuer}\",outcome=\"ok\"}} 1"),
        format!("presenced_jwks_fetches_total{{issuer=\"{issuer}\",outcome=\"tls\"}} 0"),
    ] {
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_a_provider_until_another_is_named() {
    let mut providers = [(); 2].map(|()| IdentityProvider::start(false));
    let file = |issuer: &str, more: &str| {
        format!("jwt-issuer = \"{issuer}\"\njwt-audience = \"urn:presence\"\n{more}\n")
    };
    let issuers = providers.each_ref().map(|provider| provider.issuer.clone());
    let config = TempFile::new(&file(&issuers[0], ""));
    let flag = format!("--config={}", config.path().display());
    let process = Process::up(command(&[FREE_PORTS, &[&flag]].concat())).await;
    let (edge, admin) = (process.edge(), process.admin());
    let fetches = async |issuer: &str| {
        let metrics = get(admin, "/metrics").await.body;
        let line = format!("presenced_jwks_fetches_total{{issuer=\"{issuer}\",outcome=\"ok\"}} ");
        let mut lines = metrics.lines();
        lines.find_map(|found| found.strip_prefix(&line)?.parse::<u64>().ok())
    };
    until("ready", PATIENCE, async || {
        get(admin, "/readyz").await.status == 200
    })
    .await;
    let tokens = providers
        .each_mut()
        .map(|provider| provider.ask("token ES256"));
    let mut raw = Raw::connect(edge).await;
    raw.send(request("GET", "/ws", &upgrade_with(&tokens[0]), ""))
        .await;
    assert_eq!(raw.response().await.status, 101);

    std::fs::write(config.path(), file(&issuers[0], "require-scope = true")).unwrap();
    process.signal(Signal::HUP);
    process.logs("taken up: --require-scope").await;
    let status = async |token: &str| handshake(edge, &upgrade_with(token)).await.status;
    assert_eq!(status(&tokens[0]).await, 101);
    assert_eq!(
        fetches(&issuers[0]).await,
        Some(1),
        "they are not fetched again"
    );

    std::fs::write(config.path(), file(&issuers[1], "require-scope = true")).unwrap();
    process.signal(Signal::HUP);
    process.logs("taken up: --jwt-issuer").await;
    // Its keys were awaited.
    assert_eq!(status(&tokens[1]).await, 101);
    assert_eq!(status(&tokens[0]).await, 401);
    assert_eq!(fetches(&issuers[0]).await, None);
    assert_eq!(fetches(&issuers[1]).await, Some(1));
    assert_eq!(get(admin, "/readyz").await.status, 200);
    raw.send(frame(0x81, br#"{"pull":1,"users":["alice-ES256"]}"#))
        .await;
    let pulled = raw.json().await;
    assert!(pulled["online"]["alice-ES256"].is_object(), "{pulled}");
}

#[tokio::test]
async fn a_key_that_the_provider_has_just_begun_to_use_is_fetched_by_the_first_token() {
    let mut provider = IdentityProvider::start(false);
    let server = TestServer::start_without_secret(
        &[
            &format!("--jwt-issuer={}", provider.issuer),
            &format!("--jwt-jwks-url={}/jwks", provider.issuer),
            "--jwt-audience=urn:presence",
        ],
        |config| {
            let issuer = &mut config.gateway.tokens.issuers[0];
            let config = Config {
                issuer: provider.issuer.clone(),
                location: Location::Keys(Url::new(&format!("{}/jwks", provider.issuer)).unwrap()),
                network: Network::default(),
                // Not a minute.
                ask_pause: Duration::ZERO,
            };
            issuer.source = Some(Arc::new(KeySource::new(config, read_key_set)));
        },
    )
    .await;
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let status = async |token: &str| handshake(server.edge, &upgrade_with(token)).await.status;
    let old = provider.ask("token ES256");
    assert_eq!(status(&old).await, 101);
    provider.ask("rotate");
    assert_eq!(status(&old).await, 101, "the old keys are known");
    for algorithm in ALGORITHMS {
        let new = provider.ask(&format!("token {algorithm}"));
        assert_eq!(status(&new).await, 101, "{algorithm}");
    }
    assert_eq!(status(&old).await, 401, "the old keys are gone");
}

#[tokio::test]
async fn before_there_are_keys_the_server_is_not_ready_and_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let flags = [
        &format!("--jwt-jwks-url={url}"),
        "--jwt-issuer=https://id.example",
    ];
    let server = TestServer::start(&flags).await;
    // Of the issuer, but signed with a key that may still come.
    let mut of_issuer = claims("alice");
    of_issuer["iss"] = "https://id.example".into();
    let known = sign(&of_issuer);
    let other = encode(
        &Header::default(),
        &of_issuer,
        &EncodingKey::from_secret(&[7; 32]),
    )
    .unwrap();
    let (mut provider, _) = listener.accept().await.unwrap();
    let unready = get(server.admin, "/readyz").await;
    assert_eq!(unready.status, 503);
    let why = "the keys of an identity provider are not known yet\n";
    until("memcached answers", PATIENCE, async || {
        get(server.admin, "/readyz").await.body == why
    })
    .await;
    let refused = handshake(server.edge, &upgrade_with(&other)).await;
    assert_eq!(
        (refused.status, refused.error_code().as_str()),
        (503, "keys_not_known")
    );
    assert_eq!(refused.header("retry-after"), Some("5"));
    let pull = get_with(server.edge, "/v1/presence?user=1", &other).await;
    assert_eq!(
        (pull.status, pull.error_code().as_str()),
        (503, "keys_not_known")
    );
    let offered = format!("presence.v1, bearer.{other}");
    let of_page = [
        ("Origin", "http://edge.test".to_owned()),
        ("Sec-WebSocket-Protocol", offered),
    ];
    let mut page = Raw::connect(server.edge).await;
    page.send(request(
        "GET",
        "/ws",
        &[upgrade(), of_page.to_vec()].concat(),
        "",
    ))
    .await;
    assert_eq!(page.response().await.status, 101);
    assert_eq!(
        page.close().await,
        (1013, "keys_not_known; retry=5".to_owned())
    );
    let mut later = Raw::connect(server.edge).await;
    later.send(request("GET", "/ws", &upgrade(), "")).await;
    assert_eq!(later.response().await.status, 101);
    let shown = serde_json::json!({ "token": other }).to_string();
    later.send(frame(TEXT, shown.as_bytes())).await;
    assert_eq!(
        later.close().await,
        (1013, "keys_not_known; retry=5".to_owned())
    );
    assert_eq!(
        server
            .metric("handshakes_total{result=\"keys_not_known\"}")
            .await,
        4
    );
    // Other keys are there.
    assert_eq!(
        handshake(server.edge, &upgrade_with(&known)).await.status,
        101
    );
    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let set = answer("200 OK", &format!("{{\"keys\":[{key}]}}"));
    provider.write_all(&set).await.unwrap();
    until("ready", PATIENCE, async || server.is_ready().await).await;
    let refused = handshake(server.edge, &upgrade_with(&other)).await;
    assert_eq!(
        (refused.status, refused.error_code().as_str()),
        (401, "token_invalid")
    );
}
