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
use presenced::tokens::jwks::fetch::{FetchError, get};
use presenced::tokens::jwks::{Config, Issuer, Location, Network, Source, Url};
use presenced_net::tls::Tls;
use presenced_testkit::{PATIENCE, until};
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
        let fetched = get(&trusting(authority), &url).await;
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
    let error = get(&network, &url).await.unwrap_err().to_string();
    assert!(
        error.ends_with(": no TLS with it: it does not speak TLS"),
        "{error}"
    );
    plain.await.unwrap();
    let error = get(&network, &url).await.unwrap_err();
    assert_eq!(error.fault.label(), "connect");
    assert!(error.to_string().contains(": cannot connect: "), "{error}");
    let nowhere = Url::new("https://no-such-host.invalid/keys").unwrap();
    let error = get(&network, &nowhere).await.unwrap_err();
    assert_eq!(error.fault.label(), "name");
    assert!(
        error.to_string().contains("its name can't be resolved: "),
        "{error}"
    );
    let error = get(&Network::default(), &url).await.unwrap_err();
    assert_eq!(
        error.fault.label(),
        "connect",
        "before there is any need of TLS"
    );
}

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

async fn fetched(
    location: Location,
    network: Network,
) -> (Arc<Source<Vec<String>>>, JoinHandle<()>) {
    let source = Arc::new(Source::new(Config { location, network }, key_ids));
    let task = source.clone();
    let task = tokio::spawn(async move { task.follow(Rng::new()).await });
    until("keys", PATIENCE, async || source.is_ready()).await;
    (source, task)
}

#[tokio::test]
async fn keys_of_a_real_provider_are_discovered_over_http_and_over_tls() {
    for is_secret in [false, true] {
        let mut provider = IdentityProvider::start(is_secret);
        let issuer = Issuer::new(&provider.issuer).unwrap();
        let (source, task) = fetched(Location::Issuer(issuer), trusting("ca.pem")).await;
        let keys = source.keys().unwrap();
        for algorithm in ["RS256", "ES256", "EdDSA"] {
            let id = provider.key_of_token(algorithm);
            assert!(keys.contains(&id), "{algorithm}");
        }
        assert!(source.age().unwrap() < PATIENCE);
        task.abort();
        // The same provider under a name that it does not have.
        let other = provider.issuer.replace("localhost", "127.0.0.1");
        let location = Location::Issuer(Issuer::new(&other).unwrap());
        let network = trusting("ca.pem");
        let source = Arc::new(Source::new(Config { location, network }, key_ids));
        let (follower, followed) = (source.clone(), source);
        let task = tokio::spawn(async move { follower.follow(Rng::new()).await });
        until("refused", PATIENCE, async || {
            followed
                .fetches()
                .any(|(outcome, count)| outcome == "content" && count > 0)
        })
        .await;
        assert!(!followed.is_ready());
        task.abort();
    }
}

#[tokio::test]
async fn keys_that_a_provider_replaces_are_fetched_when_a_token_has_one() {
    let mut provider = IdentityProvider::start(false);
    let keys = Url::new(&format!("{}/jwks", provider.issuer)).unwrap();
    let (source, task) = fetched(Location::Keys(keys), Network::default()).await;
    let seen = source.keys().unwrap();
    let old = provider.key_of_token("ES256");
    provider.ask("rotate");
    let new = provider.key_of_token("ES256");
    assert!(seen.contains(&old) && !seen.contains(&new));
    assert_eq!(
        source.newer(&seen).await,
        None,
        "they were fetched a moment ago"
    );
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    let newer = source.newer(&seen).await.expect("newer keys");
    assert!(newer.contains(&new) && !newer.contains(&old));
    task.abort();
}
